//! End to end, on real processes: what was said of an agent is erased while a node is dead, nobody shows it, the dead node is
//! named and destroys its key when it is back, and every proof stays valid.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::time::Duration;

use nethical_tests::cluster::{Cluster, pause};
use serde_json::{Value, json};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Looks until something is given up.
const LOOKS: usize = 240;

fn act(cluster: &Cluster, node: u16, agent: &str, person: &str) {
    let line = json!({
        "tenant": "bank", "agent_id": agent, "kind": "tool_call", "name": "find", "args": { "of": person },
        "context": { "data_subject": person },
    });
    let (status, answer) = cluster.post(node, "/v1/decisions", line.to_string().as_bytes()).expect("an answer");
    assert_eq!(status, 200, "{answer}");
}

/// (agent, person) of each decision that a node shows, and how many it says are erased.
fn shown(cluster: &Cluster, node: u16) -> (Vec<(String, String)>, usize) {
    let page = cluster.get(node, "/v1/audit/entries?tenant=bank&kind=decision&limit=100").expect("a page");
    let entries = page["entries"].as_array().expect("entries").clone();
    let erased = entries.iter().filter(|entry| entry["body_state"] == "erased").count();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let open = entries.iter().filter(|entry| !entry["body"].is_null());
    (open.map(|entry| (text(&entry["body"]["agent"]), text(&entry["body"]["args"]["of"]))).collect(), erased)
}

/// Asks until the control group answers: its leader may be the node that is dead.
fn erase(cluster: &Cluster, node: u16, subject: [&str; 2]) -> Value {
    for _ in 0..LOOKS {
        let args = ["audit", "erase", "--tenant", "bank", subject[0], subject[1], "--wait", "0"];
        let (code, view) = cluster.cli(node, &args).expect("it runs");
        if code == 0 {
            return view;
        }
        pause(LOOK_EVERY);
    }
    panic!("nobody takes the erasure");
}

/// A replica that is behind a moment does not have the newest entries yet.
fn until_shown(cluster: &Cluster, node: u16, decisions: usize) {
    for _ in 0..LOOKS {
        let (open, erased) = shown(cluster, node);
        if open.len() + erased == decisions {
            return;
        }
        pause(LOOK_EVERY);
    }
    panic!("node {node} does not show {decisions} decisions");
}

fn until(cluster: &Cluster, node: u16, id: &Value, is_so: impl Fn(&Value) -> bool) {
    for _ in 0..LOOKS {
        let (_, found) = cluster.cli(node, &["audit", "erasures", &id.to_string()]).expect("it runs");
        if is_so(&found[0]) {
            return;
        }
        pause(LOOK_EVERY);
    }
    panic!("the erasure does not come so far");
}

fn until_erased(cluster: &Cluster, node: u16, id: &Value) {
    until(cluster, node, id, |view| view["state"] == "erased");
}

#[test]
fn what_is_erased_is_shown_by_nobody_and_a_dead_node_is_waited_for() {
    let mut cluster = Cluster::start().expect("a cluster");
    for node in 1..=3 {
        act(&cluster, node, "ann-bot", "maria");
        act(&cluster, node, "bob-bot", "maria");
        act(&cluster, node, "bob-bot", "paul");
    }
    until_shown(&cluster, 1, 9);
    assert_eq!(shown(&cluster, 2).1, 0);

    cluster.kill(3).expect("killed");
    let asked = erase(&cluster, 1, ["--agent", "ann-bot"]);
    assert_eq!(asked["state"], "erasing", "{asked}");
    for node in [1, 2] {
        let (open, erased) = shown(&cluster, node);
        assert!(erased == 3 && open.len() == 6 && open.iter().all(|(agent, _)| agent == "bob-bot"), "{open:?}");
    }
    until(&cluster, 2, &asked["id"], |view| view["awaiting"][0]["nodes"] == json!([3]));

    cluster.restart(3).expect("it starts");
    until_erased(&cluster, 3, &asked["id"]);
    assert_eq!(shown(&cluster, 3).1, 3);

    // A person is erased wherever agents spoke of them; whoever acts on is kept from then on.
    let asked = erase(&cluster, 2, ["--person", "maria"]);
    until_erased(&cluster, 1, &asked["id"]);
    act(&cluster, 1, "ann-bot", "paul");
    until_shown(&cluster, 2, 10);
    let (mut open, erased) = shown(&cluster, 2);
    open.sort();
    let pair = |agent: &str| (agent.to_owned(), "paul".to_owned());
    assert_eq!((open, erased), (vec![pair("ann-bot"), pair("bob-bot"), pair("bob-bot"), pair("bob-bot")], 6));

    let (code, report) = cluster.cli(1, &["audit", "verify"]).expect("it runs");
    assert_eq!((code, &report["ok"], &report["erased"]), (0, &json!(true), &json!(6)), "{report}");
    let (code, refused) = cluster.cli(1, &["audit", "erase", "--tenant", "nobody", "--agent", "a"]).expect("it runs");
    assert_ne!(code, 0, "{refused}");
}
