//! End to end, on real processes: counts that leave the zone are decided and charged, and settlements travel by both protocols.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nethical_client::{ActionOutcome, Code, DecisionId, Protocol};
use nethical_tests::cluster::Cluster;
use serde_json::{Value, json};

/// A UUIDv7 of now, told apart by its last digits.
fn fresh_id(number: u32) -> String {
    let ms = now_ns() / 1_000_000;
    format!("{:08x}-{:04x}-7000-8000-{number:012x}", ms >> 16, ms & 0xffff)
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64
}

fn decide(cluster: &Cluster, node: u16, count: usize) {
    let line = |place: usize| {
        let name = if place.is_multiple_of(3) { "shell" } else { "find" };
        json!({ "tenant": "t", "agent_id": format!("a{}", place % 20), "kind": "tool_call", "name": name, "args": {} })
    };
    let body = json!({ "actions": (0..count).map(line).collect::<Vec<_>>() }).to_string();
    let (status, answer) = cluster.post(node, "/v1/decisions:batch", body.as_bytes()).expect("an answer");
    assert_eq!(status, 200, "{answer}");
}

fn ran(cluster: &Cluster, args: &[&str]) -> Value {
    let (code, answer) = cluster.cli(2, args).expect("it runs");
    assert_eq!(code, 0, "{args:?}: {answer}");
    answer
}

fn export(cluster: &Cluster, node: u16, body: &Value) -> (u16, Value) {
    cluster.post(node, "/v1/aggregates", body.to_string().as_bytes()).expect("an answer")
}

/// Counts by cell.
fn count(view: &Value, cell: &str) -> i64 {
    let cells = view["cells"].as_array().expect("cells").iter();
    cells.filter(|found| found["cell"] == cell).map(|found| found["count"].as_i64().expect("a number")).sum()
}

fn exact_counts(cluster: &Cluster, to_ns: u64) {
    let view = ran(cluster, &["aggregate", "--tenant", "t", "--by", "verdict", "--since", "1h"]);
    assert_eq!((&view["mode"], count(&view, "allow"), count(&view, "block")), (&json!("standard"), 60, 0), "{view}");
    assert_eq!(view["noise"], Value::Null);
    let (status, view) =
        export(cluster, 3, &json!({ "tenant": "t", "by": "tool", "cells": ["shell"], "from_ns": 0, "to_ns": to_ns }));
    assert_eq!(
        (status, count(&view, "shell"), count(&view, "(other)")),
        (200, 20, 40),
        "exports are not counted: {view}"
    );
    let refused = [
        (json!({ "tenant": "t", "by": "verdict", "from_ns": 0, "to_ns": now_ns() }), 400, "malformed-request"),
        (
            json!({ "tenant": "t", "by": "verdict", "from_ns": 0, "to_ns": to_ns, "epsilon_micros": 500_000 }),
            400,
            "malformed-request",
        ),
        (json!({ "tenant": "nobody", "by": "verdict", "from_ns": 0, "to_ns": to_ns }), 404, "unknown-tenant"),
    ];
    for (body, status, code) in refused {
        let (found, answer) = export(cluster, 1, &body);
        assert_eq!((found, &answer["code"]), (status, &json!(code)), "{body}");
    }
}

#[tokio::test]
async fn noise_is_charged_before_it_is_drawn_and_a_retry_gets_the_same_answer() {
    let cluster = Cluster::start().expect("a cluster");
    ran(&cluster, &["tenant", "put", "t"]);
    decide(&cluster, 1, 60);
    tokio::time::sleep(Duration::from_millis(11_500)).await;
    let to_ns = now_ns() - 10_100_000_000;
    exact_counts(&cluster, to_ns);

    ran(&cluster, &["tenant", "put", "t", "--privacy-mode", "differential"]);
    let body = |number: u32| {
        json!({ "tenant": "t", "by": "verdict", "from_ns": 0, "to_ns": to_ns, "epsilon_micros": 400_000,
                "request_id": fresh_id(number) })
    };
    let (status, problem) = export(&cluster, 1, &body(1));
    assert_eq!((status, &problem["code"]), (422, &json!("no-privacy-budget")), "{problem}");
    let limit = ["limit", "set", "t", "privacy", "--lifetime", "1000000", "--unit", "epsilon_micros", "--key", "agent"];
    ran(&cluster, &limit);
    let first = body(2);
    let (status, view) = export(&cluster, 1, &first);
    assert_eq!(status, 200, "{view}");
    assert_eq!((&view["noise"]["scale_thousandths"], &view["noise"]["half_width_95"]), (&json!(25_000), &json!(75)));
    let left = |view: &Value| view["decision"]["quota"][0]["remaining"].as_u64();
    assert_eq!(left(&view), Some(600_000));
    for node in [2, 3, 1] {
        let (status, again) = export(&cluster, node, &first);
        assert_eq!((status, &again["cells"], left(&again)), (200, &view["cells"], Some(600_000)), "{again}");
        assert_eq!(again["decision"]["replayed"], true);
    }
    let mut other = first.clone();
    other["epsilon_micros"] = 1_000.into();
    assert_eq!(export(&cluster, 2, &other).0, 409, "one request id has one answer");

    let (status, second) = export(&cluster, 3, &body(3));
    assert_eq!((status, left(&second)), (200, Some(200_000)), "{second}");
    let (status, denied) = export(&cluster, 3, &body(4));
    let kind = "https://iana.org/assignments/http-problem-types#quota-exceeded";
    assert_eq!((status, &denied["type"], &denied["cells"]), (429, &json!(kind), &Value::Null), "{denied}");
    let (code, _) = cluster.cli(1, &["aggregate", "--tenant", "t", "--by", "risk", "--since", "1h"]).expect("it runs");
    assert_eq!(code, 3, "0.2 is left and 0.5 was asked for");

    let thief = json!({ "tenant": "t", "agent_id": "nethical:export", "kind": "data_access", "name": "x", "args": {} });
    assert_eq!(cluster.post(1, "/v1/decisions", thief.to_string().as_bytes()).expect("an answer").0, 400);
    ran(&cluster, &["agent", "quarantine", "t", "nethical:export", "--reason", "audit"]);
    let mut small = body(5);
    small["epsilon_micros"] = 1_000.into();
    let (status, held) = export(&cluster, 1, &small);
    assert_eq!((status, &held["reasons"][0]["code"]), (403, &json!("agent-state")), "{held}");
}

/// Reserves and gives the decision's id.
fn reserve(cluster: &Cluster) -> DecisionId {
    let body = json!({ "tenant": "s", "agent_id": "a", "kind": "model_call", "name": "chat", "args": {},
                       "cost": { "tokens": { "reserve": 400, "ttl_s": 600 } } });
    let (status, decided) = cluster.post(1, "/v1/decisions", body.to_string().as_bytes()).expect("an answer");
    assert_eq!((status, &decided["allowed"]), (200, &json!(true)), "{decided}");
    decided["decision_id"].as_str().expect("an id").parse().expect("an id")
}

#[tokio::test]
async fn a_reservation_is_settled_over_either_protocol_and_from_the_command_line() {
    let cluster = Cluster::start().expect("a cluster");
    ran(&cluster, &["tenant", "put", "s"]);
    ran(&cluster, &["limit", "set", "s", "tokens", "--budget", "1000", "--window-s", "86400", "--unit", "tokens"]);
    let used = |amount| ActionOutcome::Used(vec![("tokens".to_owned(), amount)]);
    for protocol in [Protocol::Quic, Protocol::Http] {
        let client = cluster.client(protocol, &[2, 3]).expect("a client");
        let id = reserve(&cluster);
        let settled = client.settle(id, used(30)).await.expect("settled");
        assert_eq!((settled.decision_id, settled.state.as_str(), settled.replayed), (id, "committed", false));
        let again = client.settle(id, used(30)).await.expect("the same again");
        assert_eq!((again.replayed, &again.audit), (true, &settled.audit));
        let other = client.settle(id, ActionOutcome::Released).await.map_err(|problem| problem.code);
        assert_eq!(other, Err(Code::ReservationConflict));
        let strange = client.settle(id, ActionOutcome::Used(vec![("gold".to_owned(), 1)])).await;
        assert_eq!(strange.map_err(|problem| problem.code), Err(Code::MalformedRequest));
    }
    let id = reserve(&cluster).to_string();
    let settled = ran(&cluster, &["settle", &id, "--release", "--protocol", "quic"]);
    assert_eq!((&settled["state"], &settled["quota"][0]["remaining"]), (&json!("released"), &json!(940)), "{settled}");
    let (code, _) = cluster.cli(3, &["settle", &id, "--commit", "tokens=1"]).expect("it runs");
    assert_eq!(code, 1, "the first settlement stands");
    let (code, _) = cluster.cli(3, &["settle", &id]).expect("it runs");
    assert_eq!(code, 2, "say what became of it");
}
