//! End to end, on real processes: what the doors of several nodes answer a tenant is added up, and an outage breaks its promise.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use nethical_tests::cluster::Cluster;
use serde_json::{Value, json};

fn lines(count: usize) -> Vec<Value> {
    let line = |place: usize| json!({ "tenant": "t", "agent_id": format!("a{}", place % 5), "kind": "tool_call", "name": "find", "args": {} });
    (0..count).map(line).collect()
}

fn decide(cluster: &Cluster, node: u16, count: usize) {
    let body = json!({ "actions": lines(count) }).to_string();
    let (status, answer) = cluster.post(node, "/v1/decisions:batch", body.as_bytes()).expect("an answer");
    assert_eq!(status, 200, "{answer}");
}

/// The only tenant of an answer.
fn only(list: &Value) -> Value {
    assert_eq!(list["tenants"].as_array().map(Vec::len), Some(1), "{list}");
    list["tenants"][0].clone()
}

/// Answers and failures in each window.
fn counts(view: &Value) -> Vec<(u64, u64)> {
    let windows = view["windows"].as_array().expect("windows").iter();
    windows.map(|window| (window["answered"].as_u64().unwrap_or(0), window["failed"].as_u64().unwrap_or(0))).collect()
}

#[tokio::test]
async fn what_all_doors_answer_is_added_up_and_an_outage_breaks_the_promise() {
    let cluster = Cluster::start().expect("a cluster");
    let (code, answer) = cluster.cli(2, &["tenant", "put", "t", "--sla", "99.5,20000,30000"]).expect("it runs");
    assert_eq!(code, 0, "{answer}");
    decide(&cluster, 1, 120);
    decide(&cluster, 2, 30);
    decide(&cluster, 2, 10);
    let refused = json!({ "tenant": "t", "agent_id": "a", "kind": "no-such-kind", "name": "find" }).to_string();
    assert_eq!(cluster.post(3, "/v1/decisions", refused.as_bytes()).expect("an answer").0, 400);

    let (code, list) = cluster.cli(3, &["sla"]).expect("it runs");
    assert_eq!((code, &list["nodes"], &list["awaiting"]), (0, &json!([1, 2, 3]), &json!([])), "{list}");
    let view = only(&list);
    assert_eq!((&view["tenant"], &view["status"]), (&json!("t"), &json!("ok")), "{view}");
    assert_eq!(view["targets"], json!({ "availability_ppm": 995_000, "p95_ms": 20_000, "p99_ms": 30_000 }));
    assert_eq!(counts(&view), [(160, 0); 3], "refusals count for nobody");
    let own = |node| counts(&only(&cluster.get(node, "/v1/sla?tenant=t&scope=node").expect("an answer")));
    assert_eq!([own(1), own(2), own(3)], [vec![(120, 0); 3], vec![(40, 0); 3], vec![(0, 0); 3]]);
    let nobody = cluster.get(1, "/v1/sla?tenant=nobody").expect_err("nobody was counted");
    assert!(nobody.to_string().contains("unknown-tenant"), "{nobody}");

    // Without a quorum nothing is decided: what the last door says counts against it.
    cluster.kill(2).expect("killed");
    cluster.kill(3).expect("killed");
    for line in lines(3) {
        let mut line = line;
        line["options"] = json!({ "deadline_ms": 800 });
        let (status, answer) = cluster.post(1, "/v1/decisions", line.to_string().as_bytes()).expect("an answer");
        assert!([503, 504].contains(&status), "{answer}");
    }
    let (code, list) = cluster.cli(1, &["sla", "t"]).expect("it runs");
    assert_eq!((code, &list["nodes"], &list["awaiting"]), (10, &json!([1]), &json!([2, 3])), "{list}");
    let view = only(&list);
    assert_eq!(counts(&view), [(123, 3); 3]);
    assert_eq!(
        (&view["status"], &view["availability"], &view["latency"]),
        (&json!("breached"), &json!("breached"), &json!("ok"))
    );
    assert_eq!(view["budget"]["used_permille"], 3_000, "a budget is one answer at the least");
}
