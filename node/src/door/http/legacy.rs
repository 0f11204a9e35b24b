//! `POST /process_action` and `POST /evaluate`: the older flat body and its answer, on the same decisions.
//!
//! Fields of the older answer that this system does not compute are left out rather than filled with zeros.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use nethical_protocol::action::{Action, ActionKind};
use nethical_protocol::decision::{AgentStatus, Decision, Reason};
use nethical_protocol::error::{Code, Problem};

use super::answer;
use super::call::{Call, Handled, malformed};
use super::decide::{echo_of, submit_one};
use super::decode::{Decoded, TENANT_DEFAULT, id_in, kind_from, missing, refused};
use crate::door::request_id;

/// Members of the older body that policies may read in the context, as they came.
const CONTEXT_MEMBERS: [&str; 11] = [
    "action_id",
    "action_type",
    "violation_detected",
    "violation_type",
    "violation_severity",
    "features",
    "rule_risk_score",
    "rule_classification",
    "compliance_requirements",
    "stated_intent",
    "priority",
];

#[derive(Deserialize)]
struct Body {
    agent_id: Option<String>,
    action: Option<Value>,
    action_type: Option<String>,
    context: Option<Map<String, Value>>,
    cohort: Option<String>,
    region_id: Option<String>,
    tenant: Option<String>,
    session: Option<String>,
    request_id: Option<String>,
    issued_at_ms: Option<u64>,
    deadline_ms: Option<u64>,
}

/// One older request.
pub async fn process_action(call: Call) -> Handled {
    let started = now();
    let decoded = decode(&call.body);
    let asked = decoded.item.as_ref().ok().map(|action| (action.agent.clone(), action.region.clone()));
    let (agent, region) = asked.unwrap_or_default();
    let echo = echo_of(&call, &decoded);
    let answer = submit_one(&call, decoded).await;
    let latency_ms = started.elapsed().as_secs_f64() * 1_000.0;
    answer::single(&answer, call.wants_strict_status(), &echo, |decision| older(decision, &agent, &region, latency_ms))
}

/// The kind of an older action type. The seven kinds themselves pass too.
pub fn kind_of(action_type: &str) -> Result<ActionKind, Problem> {
    Ok(match action_type {
        "query" | "response" | "user_input" | "generated_content" => ActionKind::Message,
        "function_call" | "external_api" => ActionKind::ToolCall,
        "system_command" | "command" => ActionKind::CodeExecution,
        "code_generation" => ActionKind::ModelCall,
        "model_update" => ActionKind::Lifecycle,
        other => kind_from(other)?,
    })
}

fn decode(text: &str) -> Decoded {
    let body = match serde_json::from_str::<Body>(text) {
        Ok(body) => body,
        Err(error) => return refused(id_in(text), malformed(&error)),
    };
    let (given, deadline_ms) = (body.request_id.clone(), body.deadline_ms);
    match action(body, text) {
        Ok(action) => Decoded { request_id: action.request_id.clone(), item: Ok(action), deadline_ms },
        Err(problem) => refused(given, problem),
    }
}

fn action(body: Body, text: &str) -> Result<Action, Problem> {
    let id = request_id::resolve(body.request_id, body.issued_at_ms)?;
    let action_type = body.action_type.unwrap_or_else(|| "query".to_owned());
    let (name, args_json) = name_and_args(body.action.ok_or_else(|| missing("action"))?, &action_type)?;
    Ok(Action {
        request_id: id.text,
        client_chosen: id.client_chosen,
        issued_at_ms: id.issued_at_ms,
        tenant: body.tenant.unwrap_or_else(|| TENANT_DEFAULT.to_owned()),
        agent: body.agent_id.ok_or_else(|| missing("agent_id"))?,
        session: body.session.unwrap_or_default(),
        cohort: body.cohort.unwrap_or_default(),
        region: body.region_id.unwrap_or_default(),
        kind: kind_of(&action_type)?,
        name,
        resource_type: String::new(),
        resource_id: String::new(),
        args_json,
        context_json: context(body.context.unwrap_or_default(), text)?,
        cost: Vec::new(),
        explain: true,
        approval: String::new(),
        is_critical: false,
        wants_receipt: false,
    })
}

/// A text becomes `{"content": text}` under the action type's name; an object keeps its members, and may name itself.
fn name_and_args(action: Value, action_type: &str) -> Result<(String, String), Problem> {
    match action {
        Value::String(content) => Ok((action_type.to_owned(), serde_json::json!({ "content": content }).to_string())),
        Value::Object(members) => {
            let name = ["name", "tool"].iter().find_map(|key| members.get(*key)?.as_str()).unwrap_or(action_type);
            Ok((name.to_owned(), Value::Object(members.clone()).to_string()))
        }
        _ => Err(Problem::new(Code::MalformedRequest, "action is a text or an object with content")),
    }
}

/// The caller's context with the older members beside it; the context's own members win.
fn context(mut context: Map<String, Value>, text: &str) -> Result<String, Problem> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    for name in CONTEXT_MEMBERS {
        let Some(raw) = members.get(name).filter(|raw| raw.get() != "null") else { continue };
        let value = serde_json::from_str(raw.get()).map_err(|error| malformed(&error))?;
        context.entry(name).or_insert(value);
    }
    Ok(Value::Object(context).to_string())
}

/// The older answer.
#[derive(Serialize)]
struct Older<'a> {
    decision: &'a str,
    decision_id: String,
    request_id: &'a str,
    agent_id: String,
    timestamp: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    region_id: String,
    reason: String,
    reasons: &'a [Reason],
    risk_score: f64,
    risk_tier: &'a str,
    quota_allowed: bool,
    blocked_by_quota: bool,
    quota_enforcement: QuotaEnforcement<'a>,
    pii_detection: PiiDetection<'a>,
    phase3: Phase3<'a>,
    phase4: Phase4<'a>,
    audit_id: String,
    audit: OlderAudit<'a>,
    latency_ms: f64,
    details: &'a Decision,
}

#[derive(Serialize)]
struct QuotaEnforcement<'a> {
    allowed: bool,
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    usage: BTreeMap<&'a str, Usage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

#[derive(Serialize)]
struct Usage<'a> {
    unit: &'a str,
    limit: u64,
    remaining: u64,
    utilization: f64,
}

#[derive(Serialize)]
struct PiiDetection<'a> {
    pii_risk_score: f64,
    pii_types: Vec<&'a str>,
}

#[derive(Serialize)]
struct Phase3<'a> {
    risk_score: f64,
    risk_tier: &'a str,
}

#[derive(Serialize)]
struct Phase4<'a> {
    quarantined: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine_reason: Option<&'a str>,
    merkle: Merkle<'a>,
    latency_ms: f64,
}

#[derive(Serialize)]
struct Merkle<'a> {
    chunk_id: &'a str,
    event_count: u64,
}

#[derive(Serialize)]
struct OlderAudit<'a> {
    seq: u64,
    chunk: &'a str,
    leaf_hash: &'a str,
}

fn older(decision: &Decision, agent: &str, region: &str, latency_ms: f64) -> Value {
    let reason_of = |code: &str| decision.reasons.iter().find(|reason| reason.code == code).map(|r| r.detail.as_str());
    let quota_allowed = !decision.quota.iter().any(|quota| quota.violated && quota.mode.is_enforce());
    let quarantined = matches!(decision.agent.state, AgentStatus::Quarantined | AgentStatus::Terminated);
    let risk_score = f64::from(decision.risk.score) / 1_000.0;
    let risk_tier = decision.risk.tier.as_str();
    let audit = &decision.audit;
    let older = Older {
        decision: &decision.decision,
        decision_id: decision.decision_id.to_string(),
        request_id: &decision.request_id,
        agent_id: agent.to_owned(),
        timestamp: timestamp(decision.decided_at_ns),
        region_id: region.to_owned(),
        reason: decision
            .reasons
            .first()
            .map_or_else(|| "no rule objects".to_owned(), |r| format!("{}: {}", r.code, r.detail)),
        reasons: &decision.reasons,
        risk_score,
        risk_tier,
        quota_allowed,
        blocked_by_quota: !quota_allowed && !decision.allowed,
        quota_enforcement: quota_enforcement(decision, quota_allowed, reason_of("quota-exceeded")),
        pii_detection: pii_detection(decision),
        phase3: Phase3 { risk_score, risk_tier },
        phase4: Phase4 {
            quarantined,
            quarantine_reason: quarantined.then(|| reason_of("agent-state").or(reason_of("hold-order"))).flatten(),
            merkle: Merkle { chunk_id: &audit.log, event_count: audit.leaf_index + 1 },
            latency_ms,
        },
        audit_id: decision.decision_id.to_string(),
        audit: OlderAudit { seq: audit.leaf_index, chunk: &audit.log, leaf_hash: &audit.leaf_hash },
        latency_ms,
        details: decision,
    };
    serde_json::to_value(&older).expect("a struct of texts and numbers serialises")
}

fn quota_enforcement<'a>(decision: &'a Decision, allowed: bool, reason: Option<&'a str>) -> QuotaEnforcement<'a> {
    let usage = decision.quota.iter().map(|quota| {
        let used = quota.cap.saturating_sub(quota.remaining) as f64;
        let utilization = if quota.cap == 0 { 1.0 } else { used / quota.cap as f64 };
        (quota.limit.as_str(), Usage { unit: &quota.unit, limit: quota.cap, remaining: quota.remaining, utilization })
    });
    QuotaEnforcement {
        allowed,
        decision: if allowed { "ALLOW" } else { "BLOCK" },
        reason,
        usage: usage.collect(),
        retry_after_ms: decision.retry_after_ms,
    }
}

/// What the risk factors say of personal data.
fn pii_detection(decision: &Decision) -> PiiDetection<'_> {
    let factors = || decision.risk.factors.iter().filter(|factor| factor.name.starts_with("pii"));
    PiiDetection {
        pii_risk_score: f64::from(factors().map(|factor| factor.points).max().unwrap_or(0)) / 1_000.0,
        pii_types: factors().map(|factor| factor.name.as_str()).collect(),
    }
}

fn timestamp(at_ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at_ns)).map_or_else(|_| at_ns.to_string(), |time| time.to_string())
}

#[allow(clippy::disallowed_methods, reason = "reports the door's own latency; decides nothing")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::scripted::{decision, over_quota};

    #[test]
    fn older_action_types_map_onto_kinds() {
        for (word, kind) in [
            ("query", ActionKind::Message),
            ("response", ActionKind::Message),
            ("user_input", ActionKind::Message),
            ("generated_content", ActionKind::Message),
            ("function_call", ActionKind::ToolCall),
            ("tool_call", ActionKind::ToolCall),
            ("external_api", ActionKind::ToolCall),
            ("data_access", ActionKind::DataAccess),
            ("model_update", ActionKind::Lifecycle),
            ("system_command", ActionKind::CodeExecution),
            ("command", ActionKind::CodeExecution),
            ("code_generation", ActionKind::ModelCall),
        ] {
            assert_eq!(kind_of(word), Ok(kind), "{word}");
        }
        assert_eq!(kind_of("dance").map_err(|p| p.code), Err(Code::UnknownKind));
    }

    #[test]
    fn the_older_body_becomes_an_action() {
        let text = r#"{"agent_id":"a","action":"say hi","action_type":"response","cohort":"c","region_id":"eu-west-1",
            "context":{"sensitive":true,"priority":"own"},"features":{"ml_score":0.3},"priority":"theirs","violation_type":null}"#;
        let action = decode(text).item.expect("a whole body");
        assert_eq!((action.kind, action.name.as_str(), action.cohort.as_str()), (ActionKind::Message, "response", "c"));
        assert_eq!((action.region.as_str(), action.args_json.as_str()), ("eu-west-1", r#"{"content":"say hi"}"#));
        let context: Value = serde_json::from_str(&action.context_json).expect("an object");
        let expected = serde_json::json!({
            "sensitive": true, "priority": "own", "features": { "ml_score": 0.3 }, "action_type": "response"
        });
        assert_eq!(context, expected);
    }

    #[test]
    fn an_object_may_name_itself_and_other_shapes_are_refused() {
        let text = r#"{"agent_id":"a","action":{"content":"x","tool":"shell"},"action_type":"command"}"#;
        assert_eq!(decode(text).item.expect("a whole body").name, "shell");
        for text in [r#"{"agent_id":"a"}"#, r#"{"action":"x"}"#, r#"{"agent_id":"a","action":5}"#, "{"] {
            let problem = decode(text).item.expect_err(text).problem;
            assert_eq!(problem.code, Code::MalformedRequest, "{text}");
        }
    }

    #[test]
    fn the_older_answer_has_its_words_and_numbers() {
        let value = older(&decision("r"), "a", "", 1.0);
        assert_eq!(value["decision"], "ALLOW");
        assert_eq!(value["timestamp"], "2023-11-14T22:13:20Z");
        assert_eq!(value["risk_score"], 0.12);
        assert_eq!(value["audit"]["seq"], 42);
        assert_eq!(value["quota_allowed"], true);
        assert!(value.get("region_id").is_none());
        let value = older(&over_quota(), "a", "eu", 1.0);
        assert_eq!((&value["decision"], &value["blocked_by_quota"]), (&"BLOCK".into(), &true.into()));
        assert_eq!(value["quota_enforcement"]["usage"]["per-minute"]["utilization"], 1.0);
    }
}
