//! End to end, on real processes: the life of a policy bundle, from a bad one that is refused to a candidate that is
//! replayed over recorded decisions.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::path::{Path, PathBuf};

use nethical_tests::cluster::Cluster;
use serde_json::{Value, json};

const ALLOWS: &str = "@id(\"p\") permit(principal, action, resource);\n";
const BLOCKS_REFUNDS: &str = "@id(\"p\") permit(principal, action, resource);\n\
    @id(\"no-refunds\") forbid(principal, action, resource == Tool::\"refund\");\n";

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

fn ok(cluster: &Cluster, args: &[&str]) -> Value {
    let (code, answer) = cluster.cli(2, args).expect("the command line runs");
    assert_eq!(code, 0, "{args:?}: {answer}");
    answer
}

fn decide(cluster: &Cluster, name: &str) -> Value {
    decide_for(cluster, 1, "a", name)
}

fn decide_for(cluster: &Cluster, node: u16, agent: &str, name: &str) -> Value {
    let body = json!({ "tenant": "t", "agent_id": agent, "kind": "tool_call", "name": name, "args": {} }).to_string();
    let (status, answer) = cluster.post(node, "/v1/decisions", body.as_bytes()).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    answer
}

fn state_of(list: &Value, digest: &Value) -> String {
    let bundles = list["bundles"].as_array().expect("bundles");
    let found = bundles.iter().find(|bundle| bundle["digest"] == *digest);
    found.map_or_else(|| "gone".to_owned(), |bundle| bundle["state"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_bundle_is_refused_kept_put_in_force_shadowed_replayed_and_taken_back() {
    let cluster = Cluster::start().expect("a cluster");
    let folder = tempfile::tempdir().expect("a folder");
    let (allows, blocks) = (file(folder.path(), "a.cedar", ALLOWS), file(folder.path(), "b.cedar", BLOCKS_REFUNDS));
    let (allows, blocks) = (allows.display().to_string(), blocks.display().to_string());

    // A bad bundle gets a code, and the old one stays in force.
    ok(&cluster, &["policy", "put", &allows, "--activate"]);
    let before = cluster.get(1, "/v1/policy").expect("a policy");
    let (status, answer) = cluster.post(1, "/v1/policies", b"@id(\"x\") forbid(").expect("an answer");
    assert_eq!((status, &answer["code"]), (422, &json!("invalid-policy")), "{answer}");
    let bad = file(folder.path(), "bad.cedar", "@id(\"x\") forbid(").display().to_string();
    assert_eq!(cluster.cli(1, &["policy", "put", &bad, "--activate"]).expect("it runs").0, 1);
    assert_eq!(cluster.get(1, "/v1/policy").expect("a policy"), before);

    // Kept, but not in force.
    assert_eq!(decide(&cluster, "refund")["verdict"], "allow");
    let digest = ok(&cluster, &["policy", "put", &blocks])["digest"].clone();
    assert_eq!(state_of(&ok(&cluster, &["policy", "list"]), &digest), "stored");
    assert_eq!(decide(&cluster, "refund")["verdict"], "allow");

    // In the shadow: no answer changes, the verdict is counted and recorded.
    let prefix = &digest.as_str().expect("a digest")[..8];
    ok(&cluster, &["policy", "shadow", prefix]);
    let shadowed = decide(&cluster, "refund");
    assert_eq!((&shadowed["verdict"], &decide(&cluster, "find")["verdict"]), (&json!("allow"), &json!("allow")));
    let list = ok(&cluster, &["policy", "list"]);
    let agreement = &list["agreement"];
    assert_eq!((&agreement["decisions"], &agreement["agreed"]), (&json!(2), &json!(1)), "{list}");
    assert_eq!(agreement["pairs"][1], json!({ "enforced": "allow", "shadow": "block", "count": 1 }));
    let entries = ok(&cluster, &["audit", "query", "--tenant", "t"]);
    let entries = entries["entries"].as_array().expect("entries");
    let entry = entries.iter().find(|entry| entry["decision_id"] == shadowed["decision_id"]).expect("the entry");
    assert_eq!(entry["body"]["shadow"]["verdict"], "block", "{entry}");

    // Over what was recorded: every refund would flip.
    let (status, page) = cluster.post(3, "/v1/policy/replay", BLOCKS_REFUNDS.as_bytes()).expect("an answer");
    assert_eq!((status, &page["decisions"], &page["same"], &page["lacking"]), (200, &json!(4), &json!(1), &json!([])));
    let flips = page["flips"].as_array().expect("flips");
    assert_eq!(flips.len(), 3);
    assert!(flips.iter().all(|flip| flip["action"] == "refund" && flip["rules"] == json!(["no-refunds"])), "{page}");

    // In force, and taken back.
    ok(&cluster, &["policy", "activate", prefix]);
    assert_eq!(decide(&cluster, "refund")["verdict"], "block");
    let list = ok(&cluster, &["policy", "list"]);
    assert_eq!((state_of(&list, &digest), state_of(&list, &before["digest"])), ("active".into(), "previous".into()));
    let found = ok(&cluster, &["policy", "diff", before["digest"].as_str().expect("a digest"), "active"]);
    assert_eq!(found["added"][0]["rule"], "no-refunds");
    ok(&cluster, &["policy", "rollback"]);
    assert_eq!(decide(&cluster, "refund")["verdict"], "allow");
    assert_eq!(cluster.cli(1, &["policy", "remove", prefix]).expect("it runs").0, 1, "the one before is kept");
}

/// The agents, of forty, for which the canary decides a refund, through every node. All others are allowed.
fn blocked(cluster: &Cluster, name: &str, canary: &Value, active: &Value) -> Vec<u32> {
    let is_blocked = |agent: &u32| {
        let told = [1, 2, 3].map(|node| decide_for(cluster, node, &format!("{name}-{agent}"), "refund"));
        let by_canary = told[0]["revision"]["canary"] == true;
        let (verdict, bundle) = if by_canary { ("block", canary) } else { ("allow", active) };
        for answer in &told {
            assert_eq!((&answer["verdict"], &answer["revision"]["bundle"]), (&json!(verdict), bundle), "{answer}");
        }
        by_canary
    };
    (0..40).filter(is_blocked).collect()
}

#[tokio::test]
async fn a_canary_decides_for_the_same_agents_everywhere_and_is_widened_ended_and_promoted() {
    let cluster = Cluster::start().expect("a cluster");
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name, text| file(folder.path(), name, text).display().to_string();
    ok(&cluster, &["policy", "put", &path("a.cedar", ALLOWS), "--activate"]);
    let active = cluster.get(1, "/v1/policy").expect("a policy")["digest"].clone();
    let canary = ok(&cluster, &["policy", "put", &path("b.cedar", BLOCKS_REFUNDS)])["digest"].clone();
    let digest = canary.as_str().expect("a digest");

    ok(&cluster, &["policy", "activate", &digest[..8], "--canary", "30"]);
    let few = blocked(&cluster, "agent", &canary, &active);
    assert!((1..30).contains(&few.len()), "{few:?}");
    ok(&cluster, &["policy", "activate", &digest[..8], "--canary", "70"]);
    let more = blocked(&cluster, "agent", &canary, &active);
    assert!(more.len() > few.len() && more.len() < 40, "{few:?} {more:?}");
    assert!(few.iter().all(|agent| more.contains(agent)), "a wider canary keeps its agents: {few:?} {more:?}");

    let shown = ok(&cluster, &["policy", "show"]);
    let (told, by_canary) = (&shown["canary"], 3 * (few.len() + more.len()));
    assert_eq!((&told["percent"], &told["digest"]), (&json!(70), &canary), "{shown}");
    assert_eq!((&told["by_canary"]["decisions"], &told["by_canary"]["block"]), (&json!(by_canary), &json!(by_canary)));
    assert_eq!(told["by_active"]["allow"], json!(240 - by_canary), "{told}");
    assert_eq!(state_of(&ok(&cluster, &["policy", "list"]), &canary), "canary");

    // A replay holds each decision against the candidate, whichever bundle made it.
    let (status, page) = cluster.post(3, "/v1/policy/replay", BLOCKS_REFUNDS.as_bytes()).expect("an answer");
    assert_eq!((status, &page["same"], &page["lacking"]), (200, &json!(by_canary), &json!([])), "{page}");
    let (status, page) = cluster.post(3, "/v1/policy/replay", ALLOWS.as_bytes()).expect("an answer");
    let flips = page["flips"].as_array().expect("flips");
    assert_eq!((status, flips.len()), (200, by_canary));
    assert!(flips.iter().all(|flip| flip["canary"] == true && flip["recorded"] == "block"), "{page}");

    // Ended, and promoted.
    ok(&cluster, &["policy", "rollback"]);
    assert_eq!(blocked(&cluster, "other", &canary, &active), [] as [u32; 0]);
    ok(&cluster, &["policy", "activate", digest, "--canary", "1"]);
    ok(&cluster, &["policy", "activate", digest]);
    let all = decide(&cluster, "refund");
    assert_eq!((&all["verdict"], &all["revision"]["bundle"]), (&json!("block"), &canary), "{all}");
    assert_eq!(all["revision"].get("canary"), None, "it is in force");
}

#[tokio::test]
async fn whatever_is_wrong_with_a_bundle_it_is_refused_with_a_code_and_nothing_changes() {
    let cluster = Cluster::start().expect("a cluster");
    let before = cluster.get(1, "/v1/policy").expect("a policy");
    let list = cluster.get(1, "/v1/policies").expect("the bundles");
    let active = before["digest"].as_str().expect("a digest").to_owned();
    let large = format!("{ALLOWS}// {}", "x".repeat(512 * 1024));
    let template = "@id(\"t\") permit(principal == ?principal, action, resource);";
    let limits: String = (0..17)
        .map(|n| format!("@id(\"r{n}\") forbid(principal, action, resource) when {{ context.quota.l{n} == \"out\" }};"))
        .collect();
    for (text, code) in [
        ("", "invalid-policy"),
        ("@id(\"x\") forbid(", "invalid-policy"),
        ("@id(\"x\") forbid(principal, action, resource) when { context.nonsense };", "invalid-policy"),
        (template, "invalid-policy"),
        (limits.as_str(), "invalid-policy"),
        (large.as_str(), "too-large"),
    ] {
        for (method, path) in [("POST", "/v1/policies"), ("PUT", "/v1/policy")] {
            let (status, answer) = cluster.send(method, 1, path, text.as_bytes()).expect("an answer");
            assert!((400..500).contains(&status) && answer["code"] == code, "{method} {path}: {status} {answer}");
        }
    }
    let unknown = "ab".repeat(32);
    for (path, code) in [
        (format!("/v1/policies/{unknown}/activate"), "not-found"),
        (format!("/v1/policies/{unknown}/activate?canary_percent=5"), "not-found"),
        (format!("/v1/policies/{active}/activate?canary_percent=5"), "invalid-control"),
        (format!("/v1/policies/{active}/activate?canary_percent=0"), "invalid-control"),
        (format!("/v1/policies/{active}/activate?canary_percent=256"), "malformed-request"),
        ("/v1/policies/abcd/activate".to_owned(), "malformed-request"),
        ("/v1/policy/rollback".to_owned(), "invalid-control"),
    ] {
        let (status, answer) = cluster.post(2, &path, b"").expect("an answer");
        assert!((400..500).contains(&status) && answer["code"] == code, "{path}: {status} {answer}");
    }
    assert_eq!(cluster.get(3, "/v1/policy").expect("a policy"), before);
    assert_eq!(cluster.get(3, "/v1/policies").expect("the bundles"), list);
    assert_eq!(decide(&cluster, "find")["verdict"], "allow");
}
