//! Administration, audit, health: each route reaches the governor with what the request said.

use nethical_protocol::status::ReadyCheck;

use super::*;

/// The call of the route that turns signing keys.
const ROTATED: &str = "rotate_keys RotateSpec { reason: \"yearly\", overlap_s: Some(60), node: None }";

#[tokio::test]
async fn every_control_route_makes_its_call() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let limit = json!({
        "id": "per-minute", "tenant": "t", "kind": "rate", "amount": 60, "period_s": 60, "burst": 10, "key": ["agent"]
    });
    let cases = [
        (
            "PUT",
            "/v1/tenants/t",
            json!({ "placement": "single", "storage_redaction": "standard", "detectors_off": ["ip"], "sla": { "p95_ms": 150 }, "model_blending": "shadow", "privacy_mode": "differential", "retention": { "routine": "30d" }, "text_search": true, "tier_ages": { "hot": "1d", "warm": "forever" } }),
            "put_tenant TenantSpec { tenant: \"t\", placement: Single, storage_redaction: Some(Standard), detectors_off: Some([\"ip\"]), sla: Some(SlaTargets { availability_ppm: 999000, p95_ms: 150, p99_ms: 500 }), model_blending: Some(Shadow), privacy_mode: Some(Differential), retention: Some(RetentionSpec { routine: Some(Age(2592000)), notable: None, administrative: None }), text_search: Some(true), tier_ages: Some(TierAges { hot: Some(Age(86400)), warm: Some(Age(18446744073709551615)) }) }",
        ),
        ("GET", "/v1/tenants", Value::Null, "tenants"),
        (
            "PUT",
            "/v1/limits",
            limit,
            "put_limit LimitSpec { id: \"per-minute\", tenant: \"t\", unit: \"requests\", kind: Rate { amount: 60, period_s: 60, burst: 10 }",
        ),
        ("GET", "/v1/limits", Value::Null, "limits None"),
        ("GET", "/v1/limits?tenant=a%20b", Value::Null, "limits Some(\"a b\")"),
        ("DELETE", "/v1/limits/t/per%2Fminute", Value::Null, "remove_limit t per/minute"),
        ("GET", "/v1/limits/usage?tenant=t&agent=a", Value::Null, "limit_usage t a"),
        ("GET", "/v1/quarantine-rules", Value::Null, "quarantine_rules"),
        (
            "PUT",
            "/v1/quarantine-rules",
            json!({ "rules": [{ "when": "elevated", "actions": 3, "ttl_s": 60 }] }),
            "put_quarantine_rules QuarantineSpec { tenant: \"\", rules: [QuarantineRule { when: Elevated { actions: 3 }, effect: Block, ttl_s: 60 }] }",
        ),
        ("GET", "/v1/policy", Value::Null, "policy"),
        ("GET", "/v1/agents/t/a%C3%A9", Value::Null, "agent t aé"),
        (
            "POST",
            "/v1/agents/t/a/quarantine",
            json!({ "reason": "odd", "ttl_s": 5, "effect": "restrict", "approvers": 2 }),
            "place_hold HoldSpec { scope: Agent { tenant: \"t\", agent: \"a\" }, effect: Restrict, reason: \"odd\", ttl_s: 5, approvers: 2, approver_names: [], approver: \"\" }",
        ),
        (
            "POST",
            "/v1/agents/t/a/release",
            json!({ "approver": "ann" }),
            "lift_hold HoldSpec { scope: Agent { tenant: \"t\", agent: \"a\" }, effect: Block, reason: \"\", ttl_s: 0, approvers: 0, approver_names: [], approver: \"ann\" }",
        ),
        (
            "GET",
            "/v1/audit/entries?tenant=t&agent=a&from=1970-01-01T00:00:01Z&to=2000000000&risk_min=7&text=refund%20now&order=asc&limit=9",
            Value::Null,
            "entries EntryQuery { group: None, tenant: Some(\"t\"), agent: Some(\"a\"), session: None, tool: None, from_ns: Some(1000000000), to_ns: Some(2000000000), verdict: None, risk_min: Some(7), risk_max: None, rule: None, kind: None, text: Some(\"refund now\"), order: Some(\"asc\"), cursor: None, limit: Some(9), from_end: false, cursors: false }",
        ),
        ("GET", "/v1/audit/receipts/2.1.42", Value::Null, "receipt 2.1.42"),
        ("GET", "/v1/audit/checkpoint/2", Value::Null, "checkpoint 2"),
        ("GET", "/v1/audit/raw/3?from=7&count=999999", Value::Null, "raw_leaves 3 7 1024"),
        ("GET", "/v1/audit/keys", Value::Null, "verifier_keys"),
        ("POST", "/v1/audit/keys/rotate", json!({"reason": "yearly", "overlap_s": 60}), ROTATED),
        ("GET", "/v1/status", Value::Null, "status"),
        ("GET", "/v1/sla", Value::Null, "sla SlaQuery { tenant: None, scope: All, cursor: None }"),
        (
            "GET",
            "/v1/sla?tenant=t&scope=node",
            Value::Null,
            "sla SlaQuery { tenant: Some(\"t\"), scope: Node, cursor: None }",
        ),
    ];
    expect_calls(&rig, &cases).await;
}

#[tokio::test]
async fn every_route_of_dictionaries_makes_its_call_and_what_is_not_base64_is_refused() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let cases = [
        ("GET", "/v1/audit/dictionaries", Value::Null, "dictionaries"),
        ("DELETE", "/v1/audit/dictionaries/t", Value::Null, "leave_dictionary t"),
    ];
    expect_calls(&rig, &cases).await;
    let given = rig.send("PUT", "/v1/audit/dictionaries/t", &[], b"AQID\n").await;
    assert_eq!((given.status, &given.json()["digest"]), (200, &json!("0d")));
    assert_eq!(rig.script.calls().pop().as_deref(), Some("give_dictionary t [1, 2, 3]"));
    let refused = rig.send("PUT", "/v1/audit/dictionaries/t", &[], b"no base64!").await;
    assert_eq!(refused.problem().0, "malformed-request");
}

#[tokio::test]
async fn every_route_of_legal_holds_makes_its_call_and_one_that_is_not_in_force_is_202() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let cases = [
        (
            "POST",
            "/v1/audit/legal-holds",
            json!({ "tenant": "t", "agent": "a", "from": "1970-01-01T00:00:01Z", "reason": "file 1", "by": "ann" }),
            "set_legal_hold LegalHoldSpec { tenant: \"t\", agent: \"a\", person: \"\", from_ns: 1000000000, to_ns: 0, reason: \"file 1\", by: \"ann\" }",
        ),
        ("GET", "/v1/audit/legal-holds?tenant=t", Value::Null, "legal_holds None Some(\"t\")"),
        ("GET", "/v1/audit/legal-holds/9", Value::Null, "legal_holds Some(9) None"),
        ("DELETE", "/v1/audit/legal-holds/9", json!({ "by": "ann" }), "lift_legal_hold 9 \"ann\""),
        ("DELETE", "/v1/audit/legal-holds/9", Value::Null, "lift_legal_hold 9 \"\""),
        ("GET", "/v1/audit/retention?tenant=t", Value::Null, "retention t"),
    ];
    expect_calls(&rig, &cases).await;
    let pending = json!({ "tenant": "t", "reason": "pending" });
    let pending = rig.post("/v1/audit/legal-holds", &pending).await;
    assert_eq!((pending.status, &pending.json()["awaiting"]), (202, &json!([3])));
    let wrong = [
        json!({ "tenant": "t", "agent": "a", "person": "p" }),
        json!({ "tenant": "t", "from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z" }),
        json!({ "tenant": "t", "agents": "a" }),
        json!({ "tenant": "" }),
    ];
    for body in wrong {
        let refused = rig.post("/v1/audit/legal-holds", &body).await;
        assert!((400..500).contains(&refused.status), "{body}: {}", refused.status);
    }
    assert_eq!(rig.get("/v1/audit/legal-holds/101").await.problem().0, "not-found");
}

#[tokio::test]
async fn every_hold_and_every_word_makes_its_call() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let hold = json!({ "scope": "cohort", "tenant": "t", "cohort": "c", "reason": "drill", "ttl_s": 60 });
    let cases = [
        (
            "POST",
            "/v1/holds",
            hold.clone(),
            "place_hold HoldSpec { scope: Cohort { tenant: \"t\", cohort: \"c\" }, effect: Block, reason: \"drill\", ttl_s: 60, approvers: 0",
        ),
        ("DELETE", "/v1/holds", hold, "lift_hold HoldSpec { scope: Cohort"),
        ("POST", "/v1/holds", json!({ "scope": "all" }), "place_hold HoldSpec { scope: All"),
        (
            "POST",
            "/v1/holds",
            json!({ "scope": "session", "tenant": "t", "session": "s" }),
            "place_hold HoldSpec { scope: Session { tenant: \"t\", session: \"s\" }",
        ),
        (
            "POST",
            "/v1/holds",
            json!({ "scope": "region", "region": "eu-west-1" }),
            "place_hold HoldSpec { scope: Region { tenant: \"\", region: \"eu-west-1\" }",
        ),
        ("GET", "/v1/approvals", Value::Null, "approvals ApprovalQuery { tenant: None, state: None"),
        (
            "GET",
            "/v1/approvals?tenant=t&state=pending&limit=5&cursor=2.1.9",
            Value::Null,
            "approvals ApprovalQuery { tenant: Some(\"t\"), state: Some(\"pending\"), cursor: Some(\"2.1.9\"), limit: Some(5) }",
        ),
        ("GET", "/v1/alarms?tenant=t", Value::Null, "alarms AlarmQuery { tenant: Some(\"t\") }"),
        ("GET", "/v1/risk/shadow", Value::Null, "scores ScoreQuery { tenant: None }"),
        ("GET", "/v1/risk/shadow?tenant=t", Value::Null, "scores ScoreQuery { tenant: Some(\"t\") }"),
        ("GET", "/v1/audit/fsck", Value::Null, "fsck false"),
        ("POST", "/v1/audit/fsck", Value::Null, "fsck true"),
        ("GET", "/v1/audit/tiers", Value::Null, "tiers"),
        ("GET", "/v1/drift", Value::Null, "drift DriftQuery { tenant: None, cohort: None }"),
        (
            "GET",
            "/v1/drift?tenant=t&cohort=c",
            Value::Null,
            "drift DriftQuery { tenant: Some(\"t\"), cohort: Some(\"c\") }",
        ),
        ("GET", "/v1/approvals/2.1.42", Value::Null, "approval 2.1.42"),
        (
            "POST",
            "/v1/approvals/2.1.42/approve",
            json!({ "approver": "ann", "reason": "known" }),
            "decide_approval ApprovalWord { id: DecisionId { log: LogId { group: GroupId(2), era: 1 }, leaf_index: 42 }, approves: true, approver: \"ann\", reason: \"known\" }",
        ),
        ("POST", "/v1/approvals/2.1.42/deny", json!({ "approver": "ann" }), "decide_approval ApprovalWord"),
    ];
    expect_calls(&rig, &cases).await;
}

#[tokio::test]
async fn every_policy_route_makes_its_call() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let kept = &*format!("/v1/policies/{}", "ab".repeat(32));
    let activate = &*format!("{kept}/activate");
    let canary = &*format!("{activate}?canary_percent=10");
    let cases = [
        ("POST", "/v1/policy/rollback", Value::Null, "rollback_policy"),
        ("PUT", "/v1/policy/shadow", json!({ "digest": "ab".repeat(32) }), "shadow_policy Some(\"abab"),
        ("PUT", "/v1/policy/shadow", json!({ "digest": null }), "shadow_policy None"),
        (
            "POST",
            "/v1/policy/replay?from_ns=5&cursor=2.7",
            json!("permit"),
            "replay_policy ReplayQuery { from_ns: 5, to_ns: 18446744073709551615, cursor: Some(\"2.7\") } \"permit\"",
        ),
        ("GET", "/v1/policies", Value::Null, "policies"),
        ("POST", "/v1/policies", json!("permit"), "store_policy \"permit\""),
        ("GET", kept, Value::Null, "kept_policy abab"),
        ("DELETE", kept, Value::Null, "remove_policy abab"),
        ("POST", activate, Value::Null, "activate_policy abab"),
        ("POST", canary, Value::Null, "canary_policy 10 abab"),
    ];
    expect_calls(&rig, &cases).await;
}

/// Sends each request and looks at the call that it makes: method, path, body, and how the call begins.
async fn expect_calls(rig: &Rig, cases: &[(&str, &str, Value, &str)]) {
    for (method, path, body, call) in cases {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let response = rig.send(method, path, &[("content-type", "application/json")], text.as_bytes()).await;
        assert_eq!(response.status, 200, "{method} {path}: {response:?}");
        let last = rig.script.calls().pop().unwrap_or_default();
        assert!(last.starts_with(call), "{method} {path} made {last}");
        assert!(response.header("x-request-id").is_some());
    }
}

#[tokio::test]
async fn a_policy_is_text_and_may_be_larger_than_other_bodies() {
    let rig = rig_with(Scripted::deciding(vec![]), Options { body_bytes_max: 100, ..Options::default() }).await;
    let text = format!("permit(principal, action, resource); // {}", "x".repeat(500));
    let response = rig.send("PUT", "/v1/policy", &[("content-type", "text/plain")], text.as_bytes()).await;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(rig.script.calls(), [format!("put_policy {text}")]);
    let response = rig.send("PUT", "/v1/policy", &[], b" \n").await;
    assert_eq!((response.status, response.problem().0.as_str()), (422, "invalid-policy"));
    let response = rig.send("PUT", "/v1/policy", &[], &vec![b'x'; 512 * 1024 + 1]).await;
    assert_eq!(response.problem().0, "too-large");
}

#[tokio::test]
async fn pending_changes_are_202_with_the_groups_awaited() {
    let rig = rig(Scripted::deciding(vec![])).await;
    rig.script.leave_pending();
    let response = rig.json("PUT", "/v1/tenants/t", &json!({})).await;
    assert_eq!((response.status, response.json()["awaiting"].clone()), (202, json!([3])));
    let response = rig.post("/v1/holds", &json!({ "scope": "all" })).await;
    assert_eq!((response.status, response.json()["ack"]["state"].clone()), (202, json!("pending")));
}

#[tokio::test]
async fn malformed_control_requests_are_refused_before_the_governor() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let long = "x".repeat(257);
    let cases = [
        ("PUT", "/v1/tenants/t".to_owned(), json!({ "tenant": "u" }), 422),
        ("PUT", format!("/v1/tenants/{long}"), json!({}), 413),
        ("PUT", "/v1/tenants/t".into(), json!({ "placement": "moon" }), 400),
        ("DELETE", "/v1/policies/abc".into(), Value::Null, 400),
        ("GET", "/v1/sla?scope=moon".into(), Value::Null, 400),
        ("PUT", "/v1/tenants/t".into(), json!({ "sla": { "availability_ppm": 1_000_000 } }), 422),
        ("PUT", "/v1/tenants/t".into(), json!({ "sla": { "p96_ms": 3 } }), 400),
        ("GET", "/v1/drift?tenat=t".into(), Value::Null, 400),
        ("GET", format!("/v1/drift?tenant=t&cohort={long}"), Value::Null, 413),
        ("GET", "/v1/sla?tenat=t".into(), Value::Null, 400),
        ("GET", format!("/v1/sla?tenant={long}"), Value::Null, 413),
        ("PUT", "/v1/tenants/t".into(), json!({ "model_blending": "on" }), 400),
        ("GET", "/v1/risk/shadow?tenat=t".into(), Value::Null, 400),
        ("GET", "/v1/risk/shadow?tenant=".into(), Value::Null, 400),
        ("GET", format!("/v1/risk/shadow?tenant={long}"), Value::Null, 413),
        ("PUT", "/v1/policy/shadow".into(), json!({}), 400),
        ("POST", format!("/v1/policies/{}/activate?canary_percnt=10", "ab".repeat(32)), Value::Null, 400),
        ("POST", format!("/v1/policies/{}/activate?canary_percent=300", "ab".repeat(32)), Value::Null, 400),
        ("PUT", "/v1/policy/shadow".into(), json!({ "digest": "off" }), 400),
        ("POST", format!("/v1/policies/{}/activate", "zz".repeat(32)), Value::Null, 400),
        ("PUT", "/v1/limits".into(), json!({ "id": "x" }), 400),
        (
            "PUT",
            "/v1/limits".into(),
            json!({ "id": "x", "tenant": "t", "kind": "rate", "amount": -1, "period_s": 1, "burst": 1, "key": [] }),
            400,
        ),
        (
            "PUT",
            "/v1/limits".into(),
            json!({ "id": "", "tenant": "t", "kind": "budget", "cap": 1, "window_s": 1, "key": [] }),
            400,
        ),
        ("POST", "/v1/holds".into(), json!({ "scope": "moon" }), 400),
        ("POST", "/v1/holds".into(), json!({ "scope": "region", "region": "" }), 400),
        ("POST", "/v1/holds".into(), json!({ "scope": "all", "approvers": 9 }), 422),
        ("POST", "/v1/holds".into(), json!({ "scope": "all", "approvers": 2, "approver_names": ["ann"] }), 422),
        ("POST", "/v1/holds".into(), json!({ "scope": "all", "approvers": 2, "approver_names": ["a", "a"] }), 422),
        ("POST", "/v1/holds".into(), json!({ "scope": "agent", "tenant": "t", "agent": "" }), 400),
        ("POST", "/v1/agents/t/a/quarantine".into(), json!({ "reason": "x".repeat(2049) }), 413),
        ("GET", "/v1/approvals/42".into(), Value::Null, 400),
        ("GET", "/v1/approvals?limit=many".into(), Value::Null, 400),
        ("POST", "/v1/approvals/2.1.42/approve".into(), json!({}), 400),
        ("POST", "/v1/approvals/2.1.42/approve".into(), json!({ "approver": "" }), 400),
        ("POST", "/v1/approvals/2.1.42/deny".into(), json!({ "approver": "a", "reason": "x".repeat(1025) }), 413),
        ("GET", "/v1/limits/usage?tenant=t".into(), Value::Null, 400),
        ("GET", "/v1/audit/receipts/banana".into(), Value::Null, 400),
        ("GET", "/v1/audit/raw/-1".into(), Value::Null, 400),
        ("GET", "/v1/audit/raw/2?from=x".into(), Value::Null, 400),
        ("GET", "/v1/audit/entries?agent=a".into(), Value::Null, 400),
        ("GET", "/v1/audit/entries?limit=-5".into(), Value::Null, 400),
        ("GET", "/v1/audit/entries?session=s".into(), Value::Null, 400),
        ("GET", "/v1/audit/entries?from=yesterday".into(), Value::Null, 400),
        ("GET", "/v1/audit/entries?to=1969-12-31T23:59:59Z".into(), Value::Null, 400),
        ("GET", "/v1/audit/entries?colour=blue".into(), Value::Null, 400),
        ("GET", "/v1/agents/t/%FF".into(), Value::Null, 400),
    ];
    for (method, path, body, status) in cases {
        let response = rig.json(method, &path, &body).await;
        assert_eq!(response.status, status, "{method} {path} {body}: {response:?}");
        response.problem();
    }
    assert_eq!(rig.script.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn the_governors_refusals_pass_through() {
    let rig = rig(Scripted::deciding(vec![])).await;
    rig.script.refuse(Problem::new(Code::UnknownTenant, "no tenant t"));
    for path in ["/v1/agents/t/a", "/v1/limits", "/v1/status", "/v1/audit/checkpoint/2", "/v1/policy"] {
        let response = rig.get(path).await;
        assert_eq!((response.status, response.problem().0.as_str()), (404, "unknown-tenant"), "{path}");
    }
}

#[tokio::test]
async fn administration_needs_the_token_where_one_is_set() {
    let options = Options { admin_token: Some("s3cret".into()), ..Options::default() };
    let rig = rig_with(Scripted::deciding(vec![]), options).await;
    for wrong in [None, Some("Bearer wrong"), Some("Bearer s3cre"), Some("Basic s3cret"), Some("s3cret")] {
        let headers: Vec<(&str, &str)> = wrong.map(|value| ("authorization", value)).into_iter().collect();
        let response = rig.send("GET", "/v1/audit/entries", &headers, b"").await;
        assert_eq!((response.status, response.header("www-authenticate")), (401, Some("Bearer")), "{wrong:?}");
    }
    assert!(rig.script.calls().is_empty());
    let response = rig.send("GET", "/v1/audit/entries", &[("authorization", "bearer s3cret")], b"").await;
    assert_eq!(response.status, 200);
    for open in ["/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/log/2/checkpoint"] {
        assert_eq!(rig.get(open).await.status, 200, "{open}");
    }
}

#[tokio::test]
async fn logs_are_published_under_the_names_of_the_specification_and_no_others() {
    let rig = rig(Scripted::deciding(vec![])).await;
    for (path, asked, kind, cache) in [
        ("/log/2/checkpoint", "published 2 checkpoint", "text/plain; charset=utf-8", "public, max-age=1"),
        ("/log/cluster/checkpoint", "published 1 checkpoint", "text/plain; charset=utf-8", "public, max-age=1"),
        ("/log/3/tile/0/x001/234.p/7", "published 3 tile/0/x001/234.p/7", "application/octet-stream", "immutable"),
        ("/log/3/tile/entries/000", "published 3 tile/entries/000", "application/octet-stream", "immutable"),
    ] {
        let response = rig.get(path).await;
        assert_eq!((response.status, response.header("content-type")), (200, Some(kind)), "{path}");
        assert!(response.header("cache-control").is_some_and(|value| value.contains(cache)), "{path}");
        assert_eq!(rig.script.calls().last().map(String::as_str), Some(asked));
    }
    let before = rig.script.calls().len();
    for path in [
        "/log/2/tile/0/0",
        "/log/2/tile/0/000.p/256",
        "/log/2/tile/",
        "/log/2/tile/9/000",
        "/log/2/",
        "/log/2/tile/../x",
        "/log/1/checkpoint",
        "/log/0/tile/0/000",
        "/log/x/checkpoint",
    ] {
        assert_eq!(rig.get(path).await.status, 404, "{path}");
    }
    assert_eq!(rig.script.calls().len(), before, "nothing of it was asked of the cluster");
}

#[tokio::test]
async fn health_follows_the_checks() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let check = |name: &str, ok| ReadyCheck { name: name.into(), ok, detail: "d".into() };
    rig.script.set_checks(vec![check("quorum", true), check("policy", true)]);
    assert_eq!(rig.get("/readyz").await.json(), json!({ "status": "ready", "ready": true }));
    assert_eq!(rig.get("/readyz?verbose").await.json()["checks"].as_array().map(Vec::len), Some(2));
    assert_eq!(rig.get("/health").await.json()["status"], "healthy");
    rig.script.set_checks(vec![check("quorum", true), check("policy", false)]);
    for path in ["/readyz", "/health/ready", "/health/startup"] {
        let response = rig.get(path).await;
        assert_eq!((response.status, &response.json()["checks"][0]["name"]), (503, &json!("policy")), "{path}");
        assert_eq!(response.json()["checks"].as_array().map(Vec::len), Some(1), "only the failing ones");
    }
    let response = rig.get("/health").await;
    assert_eq!((response.status, &response.json()["failing"][0]["name"]), (503, &json!("policy")));
    for path in ["/livez", "/health/live"] {
        assert_eq!(rig.get(path).await.status, 200, "alive while not ready");
    }
}

#[tokio::test]
async fn metrics_and_the_interfaces_description_are_served() {
    crate::telemetry::start_metrics().expect("a recorder");
    let rig = rig(Scripted::deciding(vec![Ok(crate::door::scripted::decision(""))])).await;
    rig.post("/v1/decisions", &line(None)).await;
    let text = rig.get("/metrics").await.body;
    assert!(text.contains(r#"nethical_actions_total{verdict="allow",door="http"}"#), "{text}");
    assert!(text.contains(r#"nethical_latency_seconds_bucket{door="http""#), "{text}");
    assert_eq!(rig.get("/openapi.json").await.json()["openapi"], "3.1.0");
}
