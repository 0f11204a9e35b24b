//! End to end, on real processes: entries are found by their words on every node, from the moment that a tenant wants it, and those
//! of an erased agent are not.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::time::Duration;

use nethical_tests::cluster::{Cluster, pause};
use serde_json::{Value, json};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Looks until something is given up.
const LOOKS: usize = 240;

fn act(cluster: &Cluster, agent: &str, said: &str) {
    let line = json!({
        "tenant": "air", "agent_id": agent, "kind": "tool_call", "name": "write_note", "args": { "note": said, "fare": 417 },
    });
    let (status, answer) = cluster.post(1, "/v1/decisions", line.to_string().as_bytes()).expect("an answer");
    assert_eq!(status, 200, "{answer}");
}

/// The agents of the entries that a node finds, and how the command ended.
fn found(cluster: &Cluster, node: u16, text: &str) -> (i32, Vec<String>) {
    let (code, page) =
        cluster.cli(node, &["audit", "query", "--tenant", "air", "--order", "asc", "--text", text]).expect("it runs");
    let agent = |entry: &Value| entry["body"]["agent"].as_str().unwrap_or("nobody").to_owned();
    (code, page["entries"].as_array().into_iter().flatten().map(agent).collect())
}

/// A replica that is behind a moment, or has not heard of a setting, is asked again.
fn until_found(cluster: &Cluster, node: u16, text: &str, agents: &[&str]) {
    let mut last = None;
    for _ in 0..LOOKS {
        let (code, mut now) = found(cluster, node, text);
        now.sort();
        if code == 0 && now == agents {
            return;
        }
        last = Some((code, now));
        pause(LOOK_EVERY);
    }
    panic!("node {node} finds {last:?} for {text:?}, not {agents:?}");
}

#[test]
fn entries_are_found_by_their_words_once_their_tenant_wants_it() {
    let cluster = Cluster::start().expect("a cluster");
    act(&cluster, "ann", "A refund for Jürgen, the fare was non-refundable");
    act(&cluster, "bob", "Refund refused");
    act(&cluster, "cid", "The fare of order A-77 is for a refundable seat");
    assert_eq!(found(&cluster, 2, "refund").0, 1, "nobody asked for an index");
    let (code, ack) = cluster.cli(2, &["tenant", "put", "air", "--text-search", "on"]).expect("it runs");
    assert_eq!(code, 0, "{ack}");
    for node in 1..=3 {
        until_found(&cluster, node, "REFUND", &["ann", "bob"]);
        until_found(&cluster, node, "refund*", &["ann", "bob", "cid"]);
        until_found(&cluster, node, "fare jurgen", &["ann"]);
        until_found(&cluster, node, "\"the fare was\"", &["ann"]);
        until_found(&cluster, node, "a-77 417 write_note", &["cid"]);
        until_found(&cluster, node, "xylophone", &[]);
    }
    let (code, view) =
        cluster.cli(3, &["audit", "erase", "--tenant", "air", "--agent", "ann", "--reason", "test"]).expect("it runs");
    assert_eq!((code, &view["state"]), (0, &json!("erased")), "{view}");
    for node in 1..=3 {
        until_found(&cluster, node, "refund", &["bob"]);
        until_found(&cluster, node, "jürgen", &[]);
    }
    for bad in ["", "!?", "\"open"] {
        assert_eq!(found(&cluster, 1, bad).0, 1, "{bad:?} means nothing");
    }
    let (code, _) = cluster.cli(1, &["tenant", "put", "air", "--text-search", "off"]).expect("it runs");
    assert_eq!((code, found(&cluster, 1, "refund").0), (0, 1));
}
