//! From answers to replies: statuses, rate-limit headers (IETF draft-ietf-httpapi-ratelimit-headers), batch items.
//!
//! A denied action is 200, as AuthZEN has it; only callers that prefer strict statuses see verdicts in them.

use axum::http::StatusCode;
use serde::Serialize;

use nethical_protocol::control::LimitMode;
use nethical_protocol::decision::{AgentStatus, Decision, ItemAnswer, QuotaState, RESET_NEVER_S, Verdict};
use nethical_protocol::error::{Class, Code, Problem};

use super::call::{Handled, Reply};
use super::problem::{self, Document};

/// The largest integer of a structured field (RFC 9651).
const FIELD_INTEGER_MAX: u64 = 999_999_999_999_999;

/// One item of a batch's reply.
#[derive(Serialize)]
struct BatchItem<'a> {
    request_id: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<Class>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Document>,
}

/// The status of a decision: 200, or by its verdict where the caller prefers that.
pub fn status_of(decision: &Decision, strict: bool) -> StatusCode {
    match decision.verdict {
        _ if !strict => StatusCode::OK,
        Verdict::Allow | Verdict::Restrict => StatusCode::OK,
        Verdict::Escalate => StatusCode::ACCEPTED,
        // The most severe reason stands first: waiting helps only where it is the quota.
        Verdict::Block if decision.reasons.first().is_some_and(|reason| reason.code == "quota-exceeded") => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Verdict::Block | Verdict::Terminate => StatusCode::FORBIDDEN,
    }
}

/// The reply to one item; `body` makes the JSON of a decision.
pub fn single<T: Serialize>(
    answer: &ItemAnswer,
    strict: bool,
    echo: &str,
    body: impl FnOnce(&Decision) -> T,
) -> Handled {
    let reply = match &answer.result {
        Ok(decision) => decided(decision, strict, &body(decision))?,
        Err(refusal) => problem::reply(refusal, &answer.request_id),
    };
    let reply = reply.header("x-request-id", echo);
    Ok(if strict { reply.header("preference-applied", "status=strict") } else { reply })
}

/// The reply to a request that was denied what it asked for: its status is that of the verdict, whatever the caller prefers.
pub fn denied(decision: &Decision, echo: &str) -> Handled {
    Ok(decided(decision, true, decision)?.header("x-request-id", echo))
}

/// A decision under its status; a denial that a registered problem type fits is a document of that type.
fn decided(decision: &Decision, strict: bool, body: &impl Serialize) -> Handled {
    let status = status_of(decision, strict);
    let reply = match (status, abnormal(decision)) {
        (StatusCode::TOO_MANY_REQUESTS, _) => {
            let violated = decision.quota.iter().filter(|quota| quota.violated && quota.mode == LimitMode::Enforce);
            let violated: Vec<&str> = violated.map(|quota| quota.limit.as_str()).collect();
            document(body, problem::quota_members(&violated))?
        }
        (StatusCode::FORBIDDEN, Some(rule)) => document(body, problem::abnormal_members(rule))?,
        _ => Reply::json(body)?,
    };
    Ok(with_quota(reply.status(status), decision))
}

/// The rule of automatic quarantine that holds the agent for what it did, set off by this action or by an earlier one. A rule
/// that restricts denies nothing: then another reason does.
fn abnormal(decision: &Decision) -> Option<&str> {
    let rule = decision.reasons.iter().find(|reason| reason.code == "automatic-hold")?;
    (decision.agent.state == AgentStatus::Quarantined).then_some(rule.detail.as_str())
}

/// A decision as a problem document: its own members, and the document's.
fn document<const N: usize>(body: &impl Serialize, of_document: [(&'static str, serde_json::Value); N]) -> Handled {
    let body = serde_json::to_value(body).map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let serde_json::Value::Object(mut members) = body else { return Reply::json(&body) };
    for (name, value) in of_document {
        members.entry(name).or_insert(value);
    }
    let text = serde_json::to_vec(&members).expect("a map of JSON values serialises");
    Ok(Reply::text("application/problem+json", text))
}

/// The reply to a batch, in request order.
pub fn batch(answers: &[ItemAnswer], strict: bool) -> Handled {
    #[derive(Serialize)]
    struct Batch<'a> {
        answers: Vec<BatchItem<'a>>,
    }
    let reply = Reply::json(&Batch { answers: answers.iter().map(|answer| item(answer, strict)).collect() })?;
    Ok(if strict { reply.header("preference-applied", "status=strict") } else { reply })
}

fn item(answer: &ItemAnswer, strict: bool) -> BatchItem<'_> {
    let request_id = answer.request_id.as_str();
    match &answer.result {
        Ok(decision) => {
            let status = status_of(decision, strict).as_u16();
            BatchItem { request_id, status, class: None, decision: Some(decision), problem: None }
        }
        Err(refusal) => BatchItem {
            request_id,
            status: refusal.code.status(),
            class: Some(refusal.code.class()),
            decision: None,
            problem: Some(Document::new(refusal, request_id)),
        },
    }
}

/// Adds RateLimit, RateLimit-Policy and Retry-After.
fn with_quota(mut reply: Reply, decision: &Decision) -> Reply {
    let wait_s = decision.retry_after_ms.map(|wait_ms| wait_ms.div_ceil(1_000).max(1));
    if !decision.quota.is_empty() {
        let join =
            |write: &dyn Fn(&QuotaState) -> String| decision.quota.iter().map(write).collect::<Vec<_>>().join(", ");
        reply = reply
            .header("ratelimit", &join(&|quota| rate_limit(quota, wait_s)))
            .header("ratelimit-policy", &join(&rate_limit_policy));
    }
    match wait_s {
        Some(wait_s) => reply.header("retry-after", &wait_s.to_string()),
        None => reply,
    }
}

/// `"per-minute";r=12;t=30`. Of a violated limit `t` is never after Retry-After, which wins by the draft; what never
/// resets has no `t`.
fn rate_limit(quota: &QuotaState, wait_s: Option<u64>) -> String {
    let reset_s =
        if quota.violated { wait_s.map_or(quota.reset_s, |wait_s| wait_s.min(quota.reset_s)) } else { quota.reset_s };
    let left = format!("{};r={}", field_text(&quota.limit), quota.remaining.min(FIELD_INTEGER_MAX));
    match reset_s {
        RESET_NEVER_S => left,
        reset_s => format!("{left};t={}", reset_s.min(FIELD_INTEGER_MAX)),
    }
}

/// `"per-minute";q=60;qu="requests"`. Units that the draft does not register go under a parameter of our own.
fn rate_limit_policy(quota: &QuotaState) -> String {
    let unit = if quota.unit == "requests" { "qu" } else { "nethical-unit" };
    format!("{};q={};{unit}={}", field_text(&quota.limit), quota.cap.min(FIELD_INTEGER_MAX), field_text(&quota.unit))
}

/// A structured field's string holds printable ASCII; anything else becomes `?`.
fn field_text(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            ' '..='~' => out.push(letter),
            _ => out.push('?'),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use nethical_protocol::decision::Reason;

    use super::*;
    use crate::door::scripted::{over_quota, with_verdict};

    #[test]
    fn strict_statuses_follow_verdicts_and_others_do_not() {
        let expected = [200, 200, 202, 403, 403];
        for (verdict, status) in Verdict::ALL.into_iter().zip(expected) {
            assert_eq!(status_of(&with_verdict(verdict), true).as_u16(), status, "{verdict:?}");
            assert_eq!(status_of(&with_verdict(verdict), false).as_u16(), 200);
        }
        assert_eq!(status_of(&over_quota(), true).as_u16(), 429);
        let reply = decided(&over_quota(), true, &over_quota()).expect("it serialises");
        let body: serde_json::Value = serde_json::from_slice(reply.body()).expect("JSON");
        assert_eq!(body["violated-policies"], serde_json::json!(["per-minute"]));
        assert_eq!(body["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
        assert_eq!(body["verdict"], "block", "the decision is all there");
        let mut held = over_quota();
        held.reasons.insert(0, with_verdict(Verdict::Block).reasons.remove(0));
        assert_eq!(status_of(&held, true).as_u16(), 403, "waiting does not help where another reason is more severe");
    }

    #[test]
    fn an_agent_that_is_held_for_what_it_did_is_told_so_by_type() {
        let body = |decision: &Decision| -> serde_json::Value {
            let reply = denied(decision, "r").expect("it serialises");
            serde_json::from_slice(reply.body()).expect("JSON")
        };
        let reason = |code: &str, detail: &str| Reason { code: code.to_owned(), detail: detail.to_owned() };
        let mut held = with_verdict(Verdict::Block);
        held.agent.state = AgentStatus::Quarantined;
        held.reasons = vec![reason("agent-state", "quarantined"), reason("automatic-hold", "rule 1")];
        let told = body(&held);
        assert_eq!(told["type"], "https://iana.org/assignments/http-problem-types#abnormal-usage-detected");
        assert_eq!((&told["status"], &told["verdict"]), (&403.into(), &"block".into()));
        assert_eq!(told["violated-policies"], serde_json::json!(["rule 1"]));
        let by_hand = Decision { reasons: vec![reason("hold-order", "ann")], ..held.clone() };
        let mut restricted = held.clone();
        restricted.agent.state = AgentStatus::Restricted;
        let mut going = held.clone();
        going.verdict = Verdict::Restrict;
        for other in [by_hand, restricted, going] {
            assert_eq!(body(&other)["type"], serde_json::Value::Null, "{other:?}");
        }
        let plain = decided(&held, false, &held).expect("it serialises");
        let plain: serde_json::Value = serde_json::from_slice(plain.body()).expect("JSON");
        assert_eq!(plain["type"], serde_json::Value::Null, "others did not ask for statuses");
    }

    #[test]
    fn field_texts_are_escaped() {
        assert_eq!(field_text("a\"b\\c é\n"), r#""a\"b\\c ??""#);
    }

    #[test]
    fn rate_limits_read_as_the_draft_writes_them() {
        let quota = &over_quota().quota;
        assert_eq!(rate_limit(&quota[0], Some(2)), r#""per-minute";r=0;t=2"#);
        assert_eq!(rate_limit(&quota[1], Some(2)), r#""daily";r=12;t=55"#);
        let lasting = QuotaState { reset_s: RESET_NEVER_S, ..quota[1].clone() };
        assert_eq!(rate_limit(&lasting, None), r#""daily";r=12"#);
        assert_eq!(rate_limit_policy(&quota[0]), r#""per-minute";q=60;qu="requests""#);
        let tokens = QuotaState { unit: "tokens.input".into(), cap: u64::MAX, ..quota[0].clone() };
        assert_eq!(rate_limit_policy(&tokens), r#""per-minute";q=999999999999999;nethical-unit="tokens.input""#);
    }
}
