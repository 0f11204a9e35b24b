//! End to end, on real processes: a tenant says how long its bodies are kept, a legal hold keeps an agent's and forbids to erase
//! them, any node shows both, and once it is lifted they are erased.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::time::Duration;

use nethical_tests::cluster::{Cluster, pause};
use serde_json::{Value, json};

/// Between two tries.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Tries until something is given up.
const LOOKS: usize = 240;

/// Asks until it is in force, or refused for good.
fn run(cluster: &Cluster, node: u16, args: &[&str]) -> (i32, Value) {
    for _ in 0..LOOKS {
        let (code, answer) = cluster.cli(node, args).expect("it runs");
        if ![4, 10].contains(&code) {
            return (code, answer);
        }
        pause(LOOK_EVERY);
    }
    panic!("{args:?} comes to no end");
}

#[test]
fn a_legal_hold_forbids_to_erase_what_it_keeps_until_it_is_lifted() {
    let cluster = Cluster::start().expect("a cluster");
    let put = ["tenant", "put", "bank", "--retention", "routine=59m"];
    assert_ne!(run(&cluster, 1, &put).0, 0, "an hour is the least");
    let put = ["tenant", "put", "bank", "--retention", "routine=1h,notable=forever"];
    assert_eq!(run(&cluster, 1, &put).0, 0);
    let line = json!({ "tenant": "bank", "agent_id": "ann-bot", "kind": "tool_call", "name": "find", "args": {} });
    let (status, answer) = cluster.post(2, "/v1/decisions", line.to_string().as_bytes()).expect("an answer");
    assert_eq!(status, 200, "{answer}");

    let set =
        ["audit", "legal-hold", "set", "--tenant", "bank", "--agent", "ann-bot", "--reason", "file 1", "--by", "ann"];
    let (code, held) = run(&cluster, 1, &set);
    assert_eq!((code, &held["scope"], &held["set_by"]), (0, &json!("agent"), &json!("ann")), "{held}");
    assert_eq!(run(&cluster, 2, &set).1["id"], held["id"], "the same again is the same hold");
    let (code, kept) = run(&cluster, 2, &["audit", "retention", "--tenant", "bank"]);
    assert_eq!((code, &kept["legal_holds"][0]["id"]), (0, &held["id"]), "{kept}");
    let ages = json!({ "routine": "1h", "notable": "forever", "administrative": "7y" });
    assert_eq!(kept["ages"], ages);

    let erase = json!({ "tenant": "bank", "agent": "ann-bot" }).to_string();
    let (status, problem) = cluster.post(3, "/v1/audit/erasures", erase.as_bytes()).expect("an answer");
    assert_eq!((status, &problem["code"]), (409, &json!("legal-hold")), "{problem}");
    let named = format!("legal hold {}", held["id"]);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(&named)), "{problem}");

    let (code, lifted) = run(&cluster, 3, &["audit", "legal-hold", "lift", &held["id"].to_string(), "--by", "ben"]);
    assert_eq!((code, &lifted["lifted_by"]), (0, &json!("ben")), "{lifted}");
    let (status, view) = cluster.post(1, "/v1/audit/erasures", erase.as_bytes()).expect("an answer");
    assert_eq!(status, 200, "{view}");
    let (code, report) = run(&cluster, 1, &["audit", "verify"]);
    assert_eq!((code, &report["ok"]), (0, &json!(true)), "{report}");
}
