//! Decisions: forms, ids, batches, strict statuses, rate-limit headers, AuthZEN and the older routes.

use nethical_protocol::decision::Verdict;

use super::*;
use crate::door::request_id;
use crate::door::scripted::{decision, over_quota, overloaded, with_verdict};

const ID: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
const OTHER_ID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn native() -> Value {
    json!({
        "request_id": ID,
        "subject": { "type": "agent", "id": "agent-1", "properties": { "tenant": "airline" } },
        "action": { "name": "search", "kind": "tool_call", "properties": { "args": { "q": 1 } } },
        "options": { "deadline_ms": 1234, "explain": true }
    })
}

#[tokio::test]
async fn a_decision_is_answered_as_the_protocol_serialises_it() {
    let rig = rig(Scripted::deciding(vec![Ok(decision(""))])).await;
    let response = rig.post("/v1/decisions", &native()).await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    assert_eq!(response.json(), serde_json::to_value(decision(ID)).expect("json"));
    assert_eq!(response.header("x-request-id"), Some(ID));
    let seen = &rig.script.actions()[0];
    assert!(seen.client_chosen && seen.explain);
    assert_eq!(
        (seen.tenant.as_str(), seen.agent.as_str(), seen.args_json.as_str()),
        ("airline", "agent-1", r#"{"q":1}"#)
    );
    assert_eq!(rig.script.deadlines(), [Duration::from_millis(1234)]);
}

#[tokio::test]
async fn the_flat_line_is_taken_too_and_the_door_makes_its_id() {
    let rig = rig(Scripted::deciding(vec![Ok(decision(""))])).await;
    let response = rig.post("/v1/decisions", &line(None)).await;
    let id = response.json()["request_id"].as_str().expect("an id").to_owned();
    assert!(request_id::time_in(&id).is_some());
    assert_eq!(response.header("x-request-id"), Some(id.as_str()));
    assert!(!rig.script.actions()[0].client_chosen);
}

#[tokio::test]
async fn the_clients_x_request_id_is_echoed_and_is_no_idempotency_key() {
    let rig = rig(Scripted::deciding(vec![Ok(decision(""))])).await;
    let body = line(Some(ID)).to_string();
    let headers = [("x-request-id", "trace-7"), ("content-type", "application/json; charset=utf-8")];
    let response = rig.send("POST", "/v1/decisions", &headers, body.as_bytes()).await;
    assert_eq!(response.header("x-request-id"), Some("trace-7"));
    assert_eq!(response.json()["request_id"], ID);
}

#[tokio::test]
async fn every_bad_input_is_a_problem_with_an_id_and_never_reaches_the_governor() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let with = |field: &str, value: Value| {
        let mut line = line(Some(ID));
        line[field] = value;
        line.to_string().into_bytes()
    };
    let nest = |levels: usize| {
        format!(
            r#"{{"request_id":"{ID}","agent_id":"a","kind":"message","name":"n","args":{}1{}}}"#,
            "{\"a\":".repeat(levels),
            "}".repeat(levels)
        )
    };
    let cases: Vec<(&str, Vec<u8>, u16, &str, bool)> = vec![
        ("empty", vec![], 400, "malformed-request", false),
        ("not utf-8", b"{\"agent_id\":\"\xff\"}".to_vec(), 400, "malformed-request", false),
        ("cut json", b"{\"agent_id\":".to_vec(), 400, "malformed-request", false),
        ("array", b"[]".to_vec(), 400, "malformed-request", false),
        ("wrong type", with("name", json!(5)), 400, "malformed-request", true),
        (
            "missing agent",
            json!({"request_id": ID, "kind": "message", "name": "n"}).to_string().into(),
            400,
            "malformed-request",
            true,
        ),
        ("empty agent", with("agent_id", json!("")), 400, "malformed-request", true),
        ("unknown kind", with("kind", json!("dance")), 400, "unknown-kind", true),
        ("args no object", with("args", json!([1])), 400, "malformed-request", true),
        ("context no object", with("context", json!("x")), 400, "malformed-request", true),
        ("score above", with("context", json!({"model_score": 1001})), 400, "malformed-request", true),
        ("score as text", with("context", json!({"model_score": "700"})), 400, "malformed-request", true),
        ("share above", with("context", json!({"features": {"ml_score": 1.5}})), 400, "malformed-request", true),
        ("long name", with("name", json!("n".repeat(257))), 413, "too-large", true),
        ("deep args", nest(65).into(), 413, "too-large", true),
        ("deeper than any body", nest(90).into(), 413, "too-large", false),
        ("reservation", with("cost", json!({"usd": {"reserve": 1}})), 400, "malformed-request", true),
    ];
    for (what, body, status, code, keeps_id) in cases {
        let response = rig.send("POST", "/v1/decisions", &[("content-type", "application/json")], &body).await;
        let (found, id) = response.problem();
        assert_eq!((response.status, found.as_str()), (status, code), "{what}: {response:?}");
        assert_eq!(id == ID, keeps_id, "{what}: {response:?}");
        assert!(request_id::time_in(&id).is_some(), "{what}: the door made an id where the client's could not be read");
    }
    let undated = rig.post("/v1/decisions", &line(Some("order-17"))).await;
    assert_eq!(undated.problem(), ("malformed-request".into(), "order-17".into()));
    assert!(rig.script.actions().is_empty());
}

#[tokio::test]
async fn problems_of_the_governor_say_when_to_come_back() {
    let unknown = Problem::new(Code::OutcomeUnknown, "no answer in time");
    let rig = rig(Scripted::deciding(vec![Err(overloaded()), Err(unknown)])).await;
    let response = rig.post("/v1/decisions", &line(Some(ID))).await;
    assert_eq!((response.status, response.header("retry-after")), (503, Some("3")));
    assert_eq!(response.problem(), ("overloaded".into(), ID.into()));
    let response = rig.post("/v1/decisions", &line(Some(ID))).await;
    assert_eq!((response.status, response.header("retry-after")), (504, None));
    assert_eq!(response.json()["class"], "unknown");
}

#[tokio::test]
async fn strict_statuses_follow_verdicts_only_where_preferred() {
    let verdicts = || Verdict::ALL.into_iter().map(|verdict| Ok(with_verdict(verdict))).chain([Ok(over_quota())]);
    let rig = rig(Scripted::deciding(verdicts().chain(verdicts()).collect())).await;
    let body = line(Some(ID)).to_string();
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let headers = [("prefer", "wait=5, status=strict"), ("content-type", "application/json")];
        let response = rig.send("POST", "/v1/decisions", &headers, body.as_bytes()).await;
        assert_eq!(response.header("preference-applied"), Some("status=strict"));
        statuses.push(response.status);
    }
    assert_eq!(statuses, [200, 200, 202, 403, 403, 429]);
    for _ in 0..6 {
        assert_eq!(rig.post("/v1/decisions", &line(Some(ID))).await.status, 200);
    }
}

#[tokio::test]
async fn quotas_are_told_in_headers() {
    let rig = rig(Scripted::deciding(vec![Ok(over_quota()), Ok(decision(""))])).await;
    let response = rig.post("/v1/decisions", &line(Some(ID))).await;
    assert_eq!(response.header("ratelimit"), Some(r#""per-minute";r=0;t=2, "daily";r=12;t=55"#));
    let policy = r#""per-minute";q=60;qu="requests", "daily";q=60;qu="requests""#;
    assert_eq!(response.header("ratelimit-policy"), Some(policy));
    assert_eq!(response.header("retry-after"), Some("2"));
    let response = rig.post("/v1/decisions", &line(Some(ID))).await;
    assert_eq!((response.header("ratelimit"), response.header("retry-after")), (None, None));
}

#[tokio::test]
async fn a_batch_is_answered_item_by_item_in_request_order() {
    let script = Scripted::deciding(vec![Ok(decision("")), Err(overloaded()), Ok(over_quota())]);
    let rig = rig(script).await;
    let mut unknown_kind = line(Some("01ARZ3NDEKTSV4RRFFQ69G5FAW"));
    unknown_kind["kind"] = "dance".into();
    let third = "017f22e2-79b0-7cc3-98c4-dc0c0c073990";
    let actions = json!([line(Some(ID)), unknown_kind, line(Some(OTHER_ID)), 5, line(Some(third))]);
    let response =
        rig.post("/v1/decisions:batch", &json!({ "actions": actions, "options": { "deadline_ms": 50 } })).await;
    assert_eq!(response.status, 200, "{response:?}");
    let answers = response.json()["answers"].as_array().expect("answers").clone();
    let statuses: Vec<_> = answers.iter().map(|answer| answer["status"].as_u64().expect("status")).collect();
    assert_eq!(statuses, [200, 400, 503, 400, 200]);
    assert_eq!((&answers[0]["request_id"], &answers[0]["decision"]["request_id"]), (&json!(ID), &json!(ID)));
    assert_eq!((&answers[1]["class"], &answers[1]["problem"]["code"]), (&json!("refused"), &json!("unknown-kind")));
    assert_eq!((&answers[2]["class"], &answers[2]["problem"]["retry_after_ms"]), (&json!("retry"), &json!(2100)));
    assert!(request_id::time_in(answers[3]["request_id"].as_str().expect("id")).is_some());
    assert_eq!((&answers[4]["request_id"], &answers[4]["decision"]["verdict"]), (&json!(third), &json!("block")));
    assert!(answers[0].get("class").is_none() && answers[0].get("problem").is_none());
    assert_eq!(rig.script.deadlines(), [Duration::from_millis(50)]);
    assert_eq!(rig.script.actions().len(), 3);
}

#[tokio::test]
async fn bare_arrays_empty_and_too_long_batches() {
    let rig = rig(Scripted::deciding(vec![Ok(decision(""))])).await;
    let response = rig.post("/v1/decisions:batch", &json!([line(Some(ID))])).await;
    assert_eq!(response.json()["answers"][0]["status"], 200);
    assert_eq!(rig.post("/v1/decisions:batch", &json!([])).await.json(), json!({ "answers": [] }));
    let response = rig.post("/v1/decisions:batch", &json!(vec![1; 1001])).await;
    assert_eq!((response.status, response.problem().0.as_str()), (413, "too-large"));
    let response = rig.post("/v1/decisions:batch", &json!({ "actions": 1 })).await;
    assert_eq!((response.status, response.problem().0.as_str()), (400, "malformed-request"));
}

#[tokio::test]
async fn authzen_evaluations_answer_a_boolean_with_the_decision_as_context() {
    let rig = rig(Scripted::deciding(vec![Ok(decision("")), Ok(with_verdict(Verdict::Block))])).await;
    let body = json!({
        "subject": { "type": "user", "id": "alice@example.com" },
        "action": { "name": "can_read" }, "resource": { "type": "todo", "id": "1" }
    });
    let response = rig.post("/access/v1/evaluation", &body).await;
    assert_eq!((response.status, &response.json()["decision"]), (200, &json!(true)));
    assert_eq!(response.json()["context"]["decision_id"], "2.1.42");
    let response = rig.post("/access/v1/evaluation", &body).await;
    assert_eq!((response.status, &response.json()["decision"]), (200, &json!(false)));
    let response = rig.post("/access/v1/evaluation", &json!({ "subject": {} })).await;
    assert_eq!(response.status, 400);
}

#[tokio::test]
async fn the_older_routes_take_the_flat_body_and_answer_in_its_words() {
    let rig = rig(Scripted::deciding(vec![Ok(decision("")), Ok(over_quota())])).await;
    let body = json!({ "agent_id": "a", "action": "hello", "action_type": "response", "cohort": "c", "features": { "ml_score": 0.1 } });
    let response = rig.post("/process_action", &body).await;
    let answer = response.json();
    assert_eq!((response.status, &answer["decision"], &answer["agent_id"]), (200, &json!("ALLOW"), &json!("a")));
    assert_eq!((&answer["decision_id"], &answer["risk_score"]), (&json!("2.1.42"), &json!(0.12)));
    let answer = rig.post("/evaluate", &body).await.json();
    assert_eq!((&answer["decision"], &answer["blocked_by_quota"]), (&json!("BLOCK"), &json!(true)));
    for bad in [json!({}), json!({ "agent_id": "a" }), json!({ "agent_id": "a", "action": 1 }), json!([])] {
        assert_eq!(rig.post("/process_action", &bad).await.problem().0, "malformed-request");
    }
    for features in [json!({ "ml_score": 2 }), json!({ "ml_score": "high" })] {
        let bad = json!({ "agent_id": "a", "action": "x", "features": features });
        let refused = rig.post("/process_action", &bad).await.json();
        assert_eq!(refused["code"], "malformed-request");
        assert_eq!(refused["detail"], "context.features.ml_score: a number from 0 to 1");
    }
    let dance = json!({ "agent_id": "a", "action": "x", "action_type": "dance", "request_id": ID });
    assert_eq!(rig.post("/evaluate", &dance).await.problem(), ("unknown-kind".into(), ID.into()));
}
