//! Limits of every kind, and the outcomes of reservations: what the request said reaches the governor.

use super::*;

#[tokio::test]
async fn limits_of_every_kind_and_outcomes_reach_the_governor() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let cases = [
        (
            "PUT",
            "/v1/limits",
            json!({ "id": "trial", "tenant": "t", "kind": "lifetime", "cap": 9, "key": [], "mode": "soft" }),
            "put_limit LimitSpec { id: \"trial\", tenant: \"t\", unit: \"requests\", kind: Lifetime { cap: 9 }, key: [], mode: Soft",
        ),
        (
            "PUT",
            "/v1/limits",
            json!({ "id": "day", "tenant": "t", "kind": "rolling", "cap": 9, "window_s": 60, "key": [] }),
            "put_limit LimitSpec { id: \"day\", tenant: \"t\", unit: \"requests\", kind: Rolling { cap: 9, window_s: 60 }",
        ),
        (
            "PUT",
            "/v1/limits",
            json!({ "id": "plan", "tenant": "t", "plan": "premium", "key": ["tenant"] }),
            "put_limit LimitSpec { id: \"plan\", tenant: \"t\", unit: \"requests\", kind: Rate { amount: 300, period_s: 60, burst: 60 }",
        ),
        (
            "POST",
            "/v1/decisions/2.1.42/outcome",
            json!({ "used": { "tokens.output": 812, "tokens.input": 3 } }),
            "settle 2.1.42 Used([(\"tokens.input\", 3), (\"tokens.output\", 812)])",
        ),
        ("POST", "/v1/decisions/2.1.42/outcome", json!({ "release": true }), "settle 2.1.42 Released"),
        (
            "PUT",
            "/v1/limits",
            json!({ "id": "live", "tenant": "t", "kind": "concurrency", "cap": 3, "key": [], "overrun": "cap" }),
            "put_limit LimitSpec { id: \"live\", tenant: \"t\", unit: \"requests\", kind: Concurrency { cap: 3 }, key: [], mode: Enforce, overrun: Cap",
        ),
    ];
    for (method, path, body, call) in cases {
        let text = body.to_string();
        let response = rig.send(method, path, &[("content-type", "application/json")], text.as_bytes()).await;
        assert_eq!(response.status, 200, "{method} {path}: {response:?}");
        let last = rig.script.calls().pop().unwrap_or_default();
        assert!(last.starts_with(call), "{method} {path} made {last}");
    }
}

#[tokio::test]
async fn a_limit_with_an_unknown_plan_or_with_two_kinds_is_refused() {
    let rig = rig(Scripted::deciding(vec![])).await;
    for body in [
        json!({ "id": "plan", "tenant": "t", "plan": "gold", "key": [] }),
        json!({ "id": "plan", "tenant": "t", "plan": "standard", "kind": "rate", "amount": 1, "key": [] }),
        json!({ "id": "plan", "tenant": "t", "key": [] }),
    ] {
        let text = body.to_string();
        let response = rig.send("PUT", "/v1/limits", &[("content-type", "application/json")], text.as_bytes()).await;
        assert_eq!((response.status, response.problem().0), (400, "malformed-request".to_owned()), "{text}");
    }
    assert!(rig.script.calls().is_empty());
}

#[tokio::test]
async fn an_outcome_that_says_both_or_nothing_or_too_much_is_refused() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let many: serde_json::Map<String, Value> = (0..10).map(|unit| (unit.to_string(), json!(1))).collect();
    for (path, body, status) in [
        ("/v1/decisions/2.1.42/outcome", json!({}), 400),
        ("/v1/decisions/2.1.42/outcome", json!({ "release": false }), 400),
        ("/v1/decisions/2.1.42/outcome", json!({ "release": true, "used": {} }), 400),
        ("/v1/decisions/2.1.42/outcome", json!({ "used": { "tokens": -1 } }), 400),
        ("/v1/decisions/2.1.42/outcome", json!({ "used": many }), 413),
        ("/v1/decisions/forty-two/outcome", json!({ "release": true }), 400),
    ] {
        let text = body.to_string();
        let response = rig.send("POST", path, &[("content-type", "application/json")], text.as_bytes()).await;
        assert_eq!(response.status, status, "{path} {text}: {response:?}");
    }
    assert!(rig.script.calls().is_empty());
}
