//! Made-up entries of several kinds, for the tests of what is exported.

use nethical_cluster::api::EntryView;
use nethical_protocol::ids::{DecisionId, GroupId, LogId};
use serde_json::{Value, json};

fn entry(leaf_index: u64, kind: &str, decision: Option<Value>, body: Option<Value>, state: Option<&str>) -> EntryView {
    EntryView {
        decision_id: DecisionId { log: LogId { group: GroupId(3), era: 1 }, leaf_index },
        kind: kind.into(),
        at_ns: 1_767_225_600_000_000_000,
        leaf_hash: "00".into(),
        decision: decision.map(|decision| serde_json::from_value(decision).expect("a decision")),
        body,
        body_state: state.map(str::to_owned),
    }
}

/// Control facts took effect: no decision, no body.
pub fn control() -> EntryView {
    entry(42, "control", None, None, None)
}

fn decision(leaf_index: u64, verdict: &str, risk: u16, request_id: &str) -> Value {
    let reasons = match verdict {
        "allow" => json!([]),
        _ => {
            json!([{ "code": "policy", "detail": "no refunds on Sundays" }, { "code": "risk", "detail": "the tier is high" }])
        }
    };
    let is_allowed = ["allow", "restrict"].contains(&verdict);
    json!({
        "request_id": request_id, "decision_id": format!("3.1.{leaf_index}"), "verdict": verdict,
        "allowed": is_allowed, "decision": "ALLOW", "reasons": reasons,
        "obligations": [{ "id": "notify" }], "risk": { "score": risk, "tier": "high" },
        "agent": { "state": "active", "epoch": 7 }, "quota": [], "revision": { "policy": 12, "state": 13, "bundle": "ab12" },
        "decided_at_ns": 1_767_225_600_000_000_000_u64, "degraded": false, "replayed": false,
        "audit": { "log": "demo/p/3/1", "leaf_index": leaf_index, "leaf_hash": "00" },
    })
}

fn body() -> Value {
    json!({
        "request_id": "r-1", "tenant": "airline", "agent": "agent-7", "session": "s-1", "cohort": "", "region": "eu",
        "kind": "tool_call", "name": "refund", "resource": { "type": "booking", "id": "B-1" }, "args": { "amount": 5 },
        "context": { "intent": "héllo" }, "cost": [], "detectors_version": 2, "redaction": "none", "approval": "", "shadow": null,
    })
}

/// One entry of each sort that is shown differently.
pub fn all() -> Vec<EntryView> {
    let verdicts = [("allow", 0), ("restrict", 120), ("escalate", 480), ("block", 600), ("terminate", 900)];
    let decided = (0..).zip(verdicts).map(|(at, (verdict, risk))| {
        entry(at, "decision", Some(decision(at, verdict, risk, "r-1")), Some(body()), None)
    });
    let hidden = (5..)
        .zip(["erased", "expired", "unavailable"])
        .map(|(at, state)| entry(at, "decision", Some(decision(at, "block", 1_000, "")), None, Some(state)));
    let hold = json!({ "scope": "agent", "tenant": "airline", "agent": "agent-7", "effect": "block", "reason": "ticket 4711", "ttl_s": 0 });
    let word = |approves: bool| Some(json!({ "approves": approves, "approver": "Maria", "reason": "as agreed" }));
    let others = vec![
        control(),
        entry(43, "hold-placed", None, Some(hold), None),
        entry(44, "hold-lifted", None, None, Some("erased")),
        entry(45, "era-opened", None, None, None),
        entry(46, "reservation-ended", None, None, None),
        entry(47, "approval-decided", None, word(true), None),
        entry(48, "approval-decided", None, word(false), None),
        entry(49, "approval-decided", None, None, None),
        entry(50, "denials-repeated", None, None, None),
        entry(51, "subjects-erased", None, None, None),
    ];
    decided.chain(hidden).chain(others).collect()
}
