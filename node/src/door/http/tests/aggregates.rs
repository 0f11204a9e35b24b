//! Exports of aggregates: what the request said reaches the governor, and a denial has the status of its verdict.

use nethical_protocol::decision::Verdict;

use super::*;
use crate::door::scripted::{over_quota, with_verdict};

const ID: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";

fn body() -> Value {
    json!({ "tenant": "t", "by": "tool", "cells": ["shell"], "from_ns": 1, "to_ns": 2, "epsilon_micros": 250_000, "request_id": ID })
}

#[tokio::test]
async fn an_export_is_asked_for_as_it_was_written() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let response = rig.post("/v1/aggregates", &body()).await;
    assert_eq!((response.status, response.header("x-request-id")), (200, Some(ID)), "{response:?}");
    assert_eq!(response.json()["cells"], json!([{ "cell": "allow", "count": 7 }]));
    let call = rig.script.calls().pop().unwrap_or_default();
    let expected = "aggregate AggregateQuery { tenant: \"t\", by: Tool, cells: [\"shell\"], from_ns: 1, to_ns: 2, \
                    epsilon_micros: Some(250000), per_agent_max: None, request_id: \"017f22e2-79b0-7cc3-98c4-dc0c0c07398f\", \
                    client_chosen: true, issued_at_ms: 1645557742000, approval: \"\" }";
    assert_eq!(call, expected);
}

#[tokio::test]
async fn a_denied_export_has_the_status_of_its_verdict_without_being_asked() {
    let script = Scripted::deciding(vec![
        Ok(over_quota()),
        Ok(with_verdict(Verdict::Block)),
        Ok(with_verdict(Verdict::Escalate)),
    ]);
    let rig = rig(script).await;
    let over = rig.post("/v1/aggregates", &body()).await;
    assert_eq!((over.status, over.header("retry-after")), (429, Some("2")), "{over:?}");
    assert_eq!(over.header("content-type"), Some("application/problem+json"));
    assert_eq!(over.json()["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    for status in [403, 202] {
        let denied = rig.post("/v1/aggregates", &body()).await;
        assert_eq!((denied.status, &denied.json()["allowed"]), (status, &json!(false)));
    }
}

#[tokio::test]
async fn what_makes_no_sense_never_reaches_the_governor() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let with = |name: &str, value: Value| {
        let mut body = body();
        body[name] = value;
        body
    };
    let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    for (body, status, code) in [
        (with("by", json!("agent")), 400, "malformed-request"),
        (with("cells", json!([])), 400, "malformed-request"),
        (with("cells", json!(many)), 413, "too-large"),
        (with("to_ns", json!(1)), 400, "malformed-request"),
        (with("epsilon", json!(0.5)), 400, "malformed-request"),
        (with("epsilon_micros", json!(0.5)), 400, "malformed-request"),
        (with("epsilon_micros", json!(999)), 400, "malformed-request"),
        (with("per_agent_max", json!(0)), 400, "malformed-request"),
        (with("request_id", json!("order-17")), 400, "malformed-request"),
        (with("request_id", json!("x".repeat(65))), 413, "too-large"),
        (with("approval", json!("none")), 400, "malformed-request"),
        (with("tenant", json!("")), 400, "malformed-request"),
    ] {
        let response = rig.post("/v1/aggregates", &body).await;
        assert_eq!((response.status, response.problem().0.as_str()), (status, code), "{body}");
    }
    assert!(rig.script.calls().is_empty());
    rig.script.refuse(Problem::new(Code::NoPrivacyBudget, "none"));
    let response = rig.post("/v1/aggregates", &body()).await;
    assert_eq!((response.status, response.problem().0), (422, "no-privacy-budget".to_owned()));
}
