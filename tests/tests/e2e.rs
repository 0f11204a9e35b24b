//! End to end, on real processes: what a user is promised, seen from outside. Each test runs a cluster of its own.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nethical_client::{Action, ActionKind, Client, Protocol};
use nethical_tests::cluster::{Cluster, binary};
use nethical_tests::history::{Told, check_limit, check_nothing_lost, check_nothing_repeated};
use serde_json::{Value, json};

fn action(tenant: &str, agent: &str, name: &str, text: &str) -> Action {
    let line = json!({ "tenant": tenant, "agent_id": agent, "session": "s", "kind": "tool_call", "name": name, "args": { "text": text } });
    nethical_client::action::from_line(&line.to_string()).expect("a line of ours")
}

/// Every leaf of the trail as node `node` has it: decision id → leaf hash.
fn trail(cluster: &Cluster, node: u16) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for group in 2..14u32 {
        let mut from = 0u64;
        loop {
            let page = cluster.get(node, &format!("/v1/audit/raw/{group}?from={from}&count=1000")).expect("raw leaves");
            let leaves = page["leaves"].as_array().expect("leaves");
            if leaves.is_empty() {
                break;
            }
            for leaf in leaves {
                let id = format!("{group}.1.{from}");
                found.insert(id, nethical_tests::leaf_hash(leaf.as_str().expect("base64")));
                from += 1;
            }
        }
    }
    found
}

/// Waits until a node's own replicas have what they should: what was acknowledged is on a quorum's disks, and on the others' a
/// moment later. Gives up where they do not grow for half a minute.
fn catch_up(
    cluster: &Cluster,
    node: u16,
    check: impl Fn(&BTreeMap<String, String>) -> Result<(), String>,
) -> Result<(), String> {
    let (mut found, mut still) = (trail(cluster, node), 0);
    while let Err(lost) = check(&found) {
        let before = std::mem::replace(&mut found, trail(cluster, node)).len();
        still = if found.len() > before { 0 } else { still + 1 };
        if still == 120 {
            return Err(format!("node {node}: {lost}"));
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    Ok(())
}

/// The simulator's suite looks for the same words in the simulator, where they must be. Its flags do not compile here.
#[test]
fn the_binary_that_serves_people_has_nothing_of_the_simulator_in_it() {
    let bytes = std::fs::read(binary()).expect("the binary reads");
    let holds = |words: &[u8]| bytes.windows(words.len()).any(|part| part == words);
    assert!(!holds(b"this binary answers getrandom itself"), "its keys would be known to everybody");
    assert!(!holds(b"acknowledge-before-sync"), "a planted bug could be turned on");
    assert!(holds(b"nethical"), "the search itself works");
}

#[tokio::test]
async fn any_node_answers_for_any_agent_over_both_doors() {
    let cluster = Cluster::start().expect("a cluster");
    for (protocol, node) in [
        (Protocol::Http, 1),
        (Protocol::Http, 2),
        (Protocol::Http, 3),
        (Protocol::Quic, 1),
        (Protocol::Quic, 2),
        (Protocol::Quic, 3),
    ] {
        let client = cluster.client(protocol, &[node]).expect("a client");
        let actions = (0..40).map(|agent| action("t", &format!("agent-{agent}"), "search", "hello")).collect();
        let answers = client.decide(actions).await;
        assert_eq!(answers.len(), 40);
        for answer in &answers {
            let decision =
                answer.result.as_ref().unwrap_or_else(|problem| panic!("{protocol:?} at node {node}: {problem}"));
            assert!(decision.allowed, "{decision:?}");
        }
    }
    let (code, report) = cluster.cli(2, &["audit", "verify"]).expect("verify");
    assert_eq!((code, &report["ok"]), (0, &json!(true)), "{report}");
}

#[tokio::test]
async fn a_retry_through_another_node_gets_the_recorded_outcome_and_another_body_conflicts() {
    let cluster = Cluster::start().expect("a cluster");
    let id = uuid::Uuid::now_v7().to_string();
    let body = |text: &str| {
        json!({ "request_id": id, "tenant": "t", "agent_id": "a", "kind": "tool_call", "name": "search", "args": { "text": text } }).to_string()
    };
    let (status, first) = cluster.post(1, "/v1/decisions", body("one").as_bytes()).expect("first");
    assert_eq!(status, 200, "{first}");
    let (status, again) = cluster.post(2, "/v1/decisions", body("one").as_bytes()).expect("again");
    assert_eq!(status, 200, "{again}");
    assert_eq!((&again["decision_id"], &again["replayed"]), (&first["decision_id"], &json!(true)));
    let (status, other) = cluster.post(3, "/v1/decisions", body("two").as_bytes()).expect("other body");
    assert_eq!((status, &other["code"]), (409, &json!("request-conflict")), "{other}");
}

/// Keeps deciding through the nodes given until told to stop; gives everything it was told.
async fn load(client: Client, worker: usize, stop: Arc<AtomicBool>) -> Vec<Told> {
    let mut told = Vec::new();
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let actions = (0..8)
            .map(|n| action("load", &format!("agent-{worker}-{n}"), "search", &format!("round {round}")))
            .collect();
        let answers = client.decide(actions).await;
        for answer in &answers {
            match Told::of(answer) {
                Some(one) => told.push(one),
                None => panic!("an SDK retry across a failover must end in a decision: {answer:?}"),
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_a_leader_under_load_loses_and_repeats_nothing() {
    let mut cluster = Cluster::start().expect("a cluster");
    let victim = cluster.busiest_leader(1).expect("a leader");
    let stop = Arc::new(AtomicBool::new(false));
    let nodes: Vec<u16> = [1, 2, 3].into_iter().filter(|node| *node != victim).chain([victim]).collect();
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let protocol = if worker % 2 == 0 { Protocol::Http } else { Protocol::Quic };
            let client = cluster.client(protocol, &nodes).expect("a client");
            tokio::spawn(load(client, worker, stop.clone()))
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    cluster.kill(victim).expect("kill -9");
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    cluster.restart(victim).expect("restart");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    let mut told = Vec::new();
    for worker in workers {
        told.extend(worker.await.expect("a worker"));
    }
    assert!(told.len() > 100, "only {} decisions were made: the test shows nothing", told.len());
    check_nothing_repeated(&told).expect("nothing repeated");
    for node in 1..=3 {
        catch_up(&cluster, node, |trail| check_nothing_lost(&told, trail)).expect("nothing is lost");
    }
    let (code, report) = cluster.cli(victim, &["audit", "verify"]).expect("verify");
    assert_eq!((code, &report["ok"]), (0, &json!(true)), "{report}");
}

#[tokio::test]
async fn all_nodes_killed_and_restarted_keep_all_state_even_without_the_local_index() {
    let mut cluster = Cluster::start().expect("a cluster");
    let client = cluster.client(Protocol::Http, &[1, 2, 3]).expect("a client");
    let answers = client.decide((0..100).map(|n| action("bank", &format!("a{}", n % 10), "pay", "x")).collect()).await;
    let told: Vec<Told> = answers.iter().filter_map(Told::of).collect();
    assert_eq!(told.len(), 100);
    let limit = ["limit", "set", "bank", "few", "--budget", "3", "--window-s", "315360000", "--key", "agent"];
    assert_eq!(cluster.cli(1, &limit).expect("limit").0, 0);
    assert_eq!(cluster.cli(2, &["agent", "quarantine", "bank", "a3", "--reason", "test"]).expect("quarantine").0, 0);
    let before = trail(&cluster, 1);
    cluster.kill_all().expect("kill -9 of all");
    for node in 1..=3 {
        std::fs::remove_dir_all(cluster.dir(node).join("data").join("sled")).expect("the local index can be deleted");
    }
    cluster.run_dev().expect("the same folder again");
    catch_up(&cluster, 2, |trail| check_nothing_lost(&told, trail)).expect("nothing lost");
    let is_prefix = |after: &BTreeMap<String, String>| {
        let gone = before.iter().find(|(id, hash)| after.get(*id) != Some(*hash));
        gone.map_or(Ok(()), |(id, _)| Err(format!("{id} is not in the trail as it was")))
    };
    catch_up(&cluster, 3, is_prefix).expect("the trail is a prefix of what it is now");
    let agent = cluster.get(3, "/v1/agents/bank/a3").expect("agent");
    assert_eq!(agent["state"], "quarantined");
    let limits = cluster.get(1, "/v1/limits?tenant=bank").expect("limits");
    assert!(limits.to_string().contains("\"few\""), "{limits}");
    let client = cluster.client(Protocol::Http, &[2]).expect("a client");
    let after: Vec<Told> = client
        .decide((0..6).map(|_| action("bank", "a5", "pay", "x")).collect())
        .await
        .iter()
        .filter_map(Told::of)
        .collect();
    assert_eq!(after.len(), 6);
    check_limit(&after, 3).expect("the limit holds after the restart");
    assert_eq!(after.iter().filter(|one| one.allowed).count(), 3, "and gives what it should");
}

#[tokio::test]
async fn a_node_that_lost_its_disk_comes_back_under_a_new_life_with_everything() {
    let mut cluster = Cluster::start().expect("a cluster");
    let client = cluster.client(Protocol::Http, &[1, 3]).expect("a client");
    let decide = |round: usize| {
        client.decide((0..120).map(|n| action("t", &format!("a{n}"), "search", &format!("{round}"))).collect())
    };
    let mut told: Vec<Told> = decide(1).await.iter().filter_map(Told::of).collect();
    cluster.kill(2).expect("kill -9");
    std::fs::remove_dir_all(cluster.dir(2).join("data")).expect("the disk is gone");
    told.extend(decide(2).await.iter().filter_map(Told::of));
    cluster.restart(2).expect("the node joins again");
    told.extend(decide(3).await.iter().filter_map(Told::of));
    assert_eq!(told.len(), 360);
    check_nothing_repeated(&told).expect("nothing repeated");
    catch_up(&cluster, 2, |trail| check_nothing_lost(&told, trail)).expect("the new life has every leaf");
    let (code, report) = cluster.cli(2, &["audit", "verify"]).expect("verify");
    assert_eq!((code, &report["ok"]), (0, &json!(true)), "{report}");
}

#[tokio::test]
async fn an_exhausted_budget_never_admits_more_through_any_node() {
    let cluster = Cluster::start().expect("a cluster");
    assert_eq!(cluster.cli(1, &["tenant", "put", "shop", "--placement", "single"]).expect("tenant").0, 0);
    let limit = ["limit", "set", "shop", "total", "--budget", "25", "--window-s", "315360000", "--key", "tenant"];
    assert_eq!(cluster.cli(2, &limit).expect("limit").0, 0);
    let mut told = Vec::new();
    for node in 1..=3 {
        let client = cluster.client(Protocol::Quic, &[node]).expect("a client");
        let answers = client.decide((0..30).map(|n| action("shop", &format!("a{n}"), "buy", "x")).collect()).await;
        told.extend(answers.iter().filter_map(Told::of));
    }
    assert_eq!(told.len(), 90);
    check_limit(&told, 25).expect("zero over-admission");
    assert_eq!(told.iter().filter(|one| one.allowed).count(), 25, "and no under-admission on one log");
}

#[tokio::test]
async fn a_flipped_byte_in_a_stored_record_is_found_and_named() {
    let mut cluster = Cluster::start().expect("a cluster");
    let client = cluster.client(Protocol::Http, &[1]).expect("a client");
    let answers = client.decide((0..200).map(|n| action("t", &format!("a{n}"), "search", "x")).collect()).await;
    assert!(answers.iter().all(|answer| answer.result.is_ok()));
    cluster.stop().expect("an orderly stop");
    let verify = || {
        let output = std::process::Command::new(binary())
            .args(["audit", "verify", "-o", "json", "--data"])
            .arg(cluster.data())
            .output();
        let output = output.expect("audit verify");
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default())
    };
    let (code, report) = verify();
    assert_eq!((code, &report["ok"]), (Some(0), &json!(true)), "{report}");
    let segment = some_segment(&cluster);
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&segment, &bytes).expect("the doctored segment");
    let (code, report) = verify();
    assert_eq!((code, &report["ok"]), (Some(1), &json!(false)), "{report}");
    assert!(report["first_bad"]["group"].as_u64().is_some_and(|group| group >= 2), "{report}");
    assert!(report["first_bad"]["leaf_index"].is_u64(), "{report}");
}

/// The largest audit segment of node 2.
fn some_segment(cluster: &Cluster) -> PathBuf {
    let audit = cluster.dir(2).join("data").join("audit");
    let folders = std::fs::read_dir(audit).expect("audit").filter_map(|entry| Some(entry.ok()?.path()));
    let files = folders
        .flat_map(|folder| std::fs::read_dir(folder).expect("a log").filter_map(|entry| Some(entry.ok()?.path())));
    let segments = files.filter(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.max_by_key(|path| std::fs::metadata(path).map_or(0, |meta| meta.len())).expect("a segment")
}

#[tokio::test]
async fn rubbish_gets_coded_errors_and_the_node_goes_on() {
    let cluster = Cluster::start().expect("a cluster");
    let too_deep = format!(
        "{{\"tenant\":\"t\",\"agent_id\":\"a\",\"kind\":\"message\",\"name\":\"x\",\"args\":{}{}}}",
        "{\"a\":".repeat(200) + "1",
        "}".repeat(200)
    );
    let huge = format!(
        "{{\"tenant\":\"t\",\"agent_id\":\"a\",\"kind\":\"message\",\"name\":\"x\",\"args\":{{\"text\":\"{}\"}}}}",
        "x".repeat(300_000)
    );
    let cases: [(&[u8], u16, &str); 7] = [
        (b"{", 400, "malformed-request"),
        (b"[1,2", 400, "malformed-request"),
        (b"{\"tenant\":\"\xff\xfe\"}", 400, "malformed-request"),
        (
            b"{\"tenant\":7,\"agent_id\":\"a\",\"kind\":\"message\",\"name\":\"x\",\"args\":{}}",
            400,
            "malformed-request",
        ),
        (
            b"{\"tenant\":\"t\",\"agent_id\":\"a\",\"kind\":\"juggling\",\"name\":\"x\",\"args\":{}}",
            400,
            "unknown-kind",
        ),
        (too_deep.as_bytes(), 413, "too-large"),
        (huge.as_bytes(), 413, "too-large"),
    ];
    for (body, status, code) in cases {
        let (got, answer) = cluster.post(1, "/v1/decisions", body).expect("an answer");
        assert_eq!((got, &answer["code"]), (status, &json!(code)), "{answer}");
    }
    let (status, answer) = cluster.post(1, "/v1/nothing", b"{}").expect("an answer");
    assert_eq!((status, &answer["code"]), (404, &json!("not-found")));
    let (status, answer) = cluster.post(1, "/v1/decisions", action_line().as_bytes()).expect("an answer");
    assert_eq!(status, 200, "{answer}");
}

fn action_line() -> String {
    json!({ "tenant": "t", "agent_id": "a", "kind": ActionKind::Message.as_str(), "name": "reply", "args": {} })
        .to_string()
}

#[tokio::test]
async fn without_a_quorum_a_node_refuses_within_its_deadline() {
    let cluster = Cluster::start().expect("a cluster");
    let (status, _) = cluster.post(1, "/v1/decisions", action_line().as_bytes()).expect("an answer");
    assert_eq!(status, 200);
    cluster.kill(2).expect("kill");
    cluster.kill(3).expect("kill");
    let body = json!({
        "subject": { "type": "agent", "id": "a", "properties": { "tenant": "t" } },
        "action": { "name": "reply", "kind": "message", "properties": { "args": {} } },
        "options": { "deadline_ms": 1500 },
    });
    let (status, answer) = cluster.post(1, "/v1/decisions", body.to_string().as_bytes()).expect("an answer");
    assert!(matches!(status, 503 | 504), "{status}: {answer}");
    assert!(matches!(answer["class"].as_str(), Some("retry" | "unknown")), "{answer}");
    let mut last = answer;
    for _ in 0..10 {
        let (status, answer) = cluster.post(1, "/v1/decisions", body.to_string().as_bytes()).expect("an answer");
        last = answer;
        if status == 503 {
            assert!(last["retry_after_ms"].as_u64().is_some_and(|wait| wait > 0), "{last}");
            return;
        }
    }
    panic!("the node never found out that it has no quorum: {last}");
}

#[tokio::test]
async fn real_agent_actions_are_governed_through_every_node() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/airline-agent-actions.jsonl");
    if !file.exists() {
        println!("skipped: {} is not here", file.display());
        return;
    }
    let cluster = Cluster::start().expect("a cluster");
    let file = file.to_string_lossy().into_owned();
    for (node, protocol) in [(1, "http"), (2, "quic"), (3, "http")] {
        let args = ["submit", &file, "--protocol", protocol, "--batch", "50"];
        let (code, report) = cluster.cli(node, &args).expect("submit");
        assert_eq!(code, 0, "{report}");
        assert_eq!(
            (&report["submitted"], &report["decided"], &report["failed"]),
            (&json!(2166), &json!(2166), &json!(0))
        );
    }
    let (code, report) = cluster.cli(1, &["audit", "verify"]).expect("verify");
    assert_eq!((code, &report["ok"]), (0, &json!(true)));
    assert!(report["entries"].as_u64().is_some_and(|entries| entries >= 3 * 2166), "{report}");
}
