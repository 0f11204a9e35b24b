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
    let body = json!({ "tenant": "t", "agent_id": "a", "kind": "tool_call", "name": name, "args": {} }).to_string();
    let (status, answer) = cluster.post(1, "/v1/decisions", body.as_bytes()).expect("an answer");
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
    let entries = ok(&cluster, &["audit", "entries", "--tenant", "t"]);
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
