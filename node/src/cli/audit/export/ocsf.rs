//! An entry as an event of the Open Cybersecurity Schema Framework: class API Activity, schema 1.9.0.
//!
//! A decision uses the profiles `security_control`, for what was decided, and `ai_operation`, for the agent. Every other kind of
//! entry is an API Activity too. What the schema has no place for stays under `unmapped`, so that nothing of an entry is lost.
//! What an entry does not say is left out, or called unknown where the schema requires it; nothing is made up. The tables are in
//! `docs/audit.md`.

use nethical_cluster::api::EntryView;
use nethical_protocol::decision::Decision;
use serde_json::{Map, Value, json};

pub mod scale;
#[cfg(test)]
mod schema;

use scale::{Caption, OTHER};

/// The release of the schema whose words these are (3 August 2026).
pub const SCHEMA_VERSION: &str = "1.9.0";
/// API Activity.
const CLASS_UID: u64 = 6_003;
/// Application Activity.
const CATEGORY_UID: u64 = 6;
/// Who wrote what wrote this.
const PRODUCT: &str = "Nethical";
/// Stands where the schema requires a name and the entry does not say it: its body is gone, or cannot be opened now.
const UNKNOWN: &str = "unknown";

/// What of a decision has a place of its own.
const DECISION_PLACED: [&str; 8] =
    ["decision_id", "request_id", "verdict", "allowed", "decision", "decided_at_ns", "audit", "replayed"];
/// What of a body has a place of its own.
const BODY_PLACED: [&str; 8] = ["request_id", "tenant", "agent", "session", "kind", "name", "args", "context"];

/// The event. `cluster` is the cluster's name.
pub fn event(entry: &EntryView, cluster: &str) -> Value {
    let subject = Subject::of(entry);
    let severity = scale::severity(entry);
    let mut event = json!({
        "activity_id": OTHER,
        "activity_name": subject.activity,
        "category_uid": CATEGORY_UID,
        "category_name": "Application Activity",
        "class_uid": CLASS_UID,
        "class_name": "API Activity",
        "type_uid": CLASS_UID * 100 + OTHER,
        "severity_id": severity.id,
        "severity": severity.caption,
        "time": entry.at_ns / 1_000_000,
        "message": subject.message(entry, cluster),
        "metadata": metadata(entry, cluster, &subject),
        "actor": actor(entry, cluster, &subject),
        "src_endpoint": { "svc_name": subject.source() },
        "api": api(&subject),
        "unmapped": unmapped(entry),
    });
    let event_map = event.as_object_mut().expect("it was made as an object");
    set(event_map, scale::status(entry), "status");
    if let Some(decision) = &entry.decision {
        control(event_map, decision);
    } else if let Some((action, disposition)) = scale::approval(entry) {
        set(event_map, action, "action");
        set(event_map, disposition, "disposition");
    }
    if let Some(agent) = subject.actor {
        let session = subject.session.map(|session| ("instance_uid".to_owned(), json!(session)));
        event_map.insert(
            "ai_agent".into(),
            Value::Object([("uid".to_owned(), json!(agent))].into_iter().chain(session).collect()),
        );
    }
    let resources = subject.resources();
    if !resources.is_empty() {
        event_map.insert("resources".into(), resources.into());
    }
    event
}

/// What a body says of who did what; all of it absent where the body is not shown.
struct Subject<'a> {
    /// What was done: the action's kind, or else the entry's.
    activity: &'a str,
    tenant: Option<&'a str>,
    /// The agent that acts, of a decision.
    actor: Option<&'a str>,
    /// The agent that something is done to, of a hold-order.
    target: Option<&'a str>,
    session: Option<&'a str>,
    name: Option<&'a str>,
    request_id: Option<&'a str>,
    body: Option<&'a Value>,
    is_decision: bool,
}

impl<'a> Subject<'a> {
    fn of(entry: &'a EntryView) -> Self {
        let body = entry.body.as_ref();
        let word = |name: &str| body.and_then(|body| body.get(name)?.as_str()).filter(|word| !word.is_empty());
        let is_decision = entry.decision.is_some();
        let agent = word("agent");
        Self {
            activity: word("kind").filter(|_| is_decision).unwrap_or(&entry.kind),
            tenant: word("tenant"),
            actor: agent.filter(|_| is_decision),
            target: agent.filter(|_| !is_decision),
            session: word("session"),
            name: word("name"),
            request_id: word("request_id"),
            body,
            is_decision,
        }
    }

    /// The agent, somebody unknown where an agent's decision does not show it, or else the cluster itself.
    fn source(&self) -> &str {
        self.actor.unwrap_or(if self.is_decision { UNKNOWN } else { "nethical" })
    }

    fn message(&self, entry: &EntryView, cluster: &str) -> String {
        let Some(decision) = &entry.decision else {
            return format!("{} in {}", entry.kind, entry.decision_id.log.origin(cluster));
        };
        let verdict = decision.verdict.as_str();
        let (Some(agent), Some(name)) = (self.actor, self.name) else {
            let state = entry.body_state.as_deref().unwrap_or("absent");
            return format!("{verdict}: an action that is not shown ({state})");
        };
        let tenant = self.tenant.map(|tenant| format!(" of {tenant}")).unwrap_or_default();
        format!("{verdict}: {} {name} by {agent}{tenant}", self.activity)
    }

    /// What the action touches, or whom a hold-order stops.
    fn resources(&self) -> Vec<Value> {
        let resource = self.body.and_then(|body| body.get("resource"));
        let word = |name: &str| resource.and_then(|of| of.get(name)?.as_str()).filter(|word| !word.is_empty());
        let touched = word("id").map(|id| match word("type") {
            Some(kind) => json!({ "uid": id, "type": kind, "role_id": 1, "role": "Target" }),
            None => json!({ "uid": id, "role_id": 1, "role": "Target" }),
        });
        let held = self.target.map(|agent| json!({ "uid": agent, "type": "agent", "role_id": 1, "role": "Target" }));
        touched.into_iter().chain(held).collect()
    }
}

fn metadata(entry: &EntryView, cluster: &str, subject: &Subject<'_>) -> Value {
    let controls = entry.decision.is_some() || scale::approval(entry).is_some();
    let used = [(controls, "security_control"), (subject.actor.is_some(), "ai_operation")];
    let profiles: Vec<&str> = used.into_iter().filter_map(|(is_used, name)| is_used.then_some(name)).collect();
    let mut metadata = json!({
        "version": SCHEMA_VERSION,
        "product": { "name": PRODUCT, "vendor_name": PRODUCT, "version": env!("CARGO_PKG_VERSION") },
        "profiles": profiles,
        "uid": entry.decision_id,
        "log_name": entry.decision_id.log.origin(cluster),
        "event_code": entry.kind,
    });
    if let Some(tenant) = subject.tenant {
        metadata["tenant_uid"] = json!(tenant);
    }
    metadata
}

/// Who did it: an agent, a person who decided on an approval, or the cluster by itself.
fn actor(entry: &EntryView, cluster: &str, subject: &Subject<'_>) -> Value {
    let approver = entry.body.as_ref().and_then(|body| body.get("approver")?.as_str()).filter(|name| !name.is_empty());
    let mut actor = match (subject.actor, approver) {
        (Some(agent), _) => json!({ "application": { "uid": agent, "name": agent, "type": "AI agent" } }),
        (None, Some(person)) => json!({ "user": { "name": person } }),
        (None, None) if subject.is_decision => json!({ "application": { "name": UNKNOWN, "type": "AI agent" } }),
        (None, None) => json!({ "application": { "name": "nethical", "uid": cluster } }),
    };
    if let (Some(_), Some(session)) = (subject.actor, subject.session) {
        actor["session"] = json!({ "uid": session });
    }
    actor
}

fn api(subject: &Subject<'_>) -> Value {
    let mut api =
        json!({ "operation": subject.name.unwrap_or(if subject.is_decision { UNKNOWN } else { subject.activity }) });
    if let (Some(id), Some(body)) = (subject.request_id, subject.body) {
        api["request"] = json!({ "uid": id, "data": { "args": body.get("args"), "context": body.get("context") } });
    }
    api
}

/// The attributes of the profile `security_control`, and what was said to whoever asked.
fn control(event: &mut Map<String, Value>, decision: &Decision) {
    let (action, disposition) = scale::outcome(decision.verdict);
    set(event, action, "action");
    set(event, disposition, "disposition");
    set(event, scale::risk_level(decision.risk.score), "risk_level");
    let reasons: Vec<_> = decision.reasons.iter().map(|reason| format!("{}: {}", reason.code, reason.detail)).collect();
    event.insert("risk_score".into(), json!(decision.risk.score));
    event.insert("is_alert".into(), json!(scale::is_alert(decision)));
    event.insert("status_code".into(), json!(decision.verdict.as_str()));
    if !reasons.is_empty() {
        event.insert("status_detail".into(), json!(reasons.join("; ")));
    }
    let revision = decision.revision.policy.to_string();
    let bundle = Some(&decision.revision.bundle).filter(|bundle| !bundle.is_empty());
    let mut policy = json!({ "name": "policy bundle", "version": revision });
    if let Some(bundle) = bundle {
        policy["uid"] = json!(bundle);
    }
    event.insert("policy".into(), policy);
}

/// Sets a number and its caption, as the schema has them side by side.
fn set(event: &mut Map<String, Value>, Caption { id, caption }: Caption, name: &str) {
    event.insert(format!("{name}_id"), json!(id));
    event.insert(name.to_owned(), json!(caption));
}

/// Everything that has no place elsewhere, by the names that it has in an entry.
fn unmapped(entry: &EntryView) -> Value {
    let mut unmapped =
        Map::from_iter([("at_ns".to_owned(), json!(entry.at_ns)), ("leaf_hash".to_owned(), json!(entry.leaf_hash))]);
    if let Some(state) = &entry.body_state {
        unmapped.insert("body_state".into(), json!(state));
    }
    let decision = serde_json::to_value(&entry.decision).unwrap_or_default();
    let placed_body: &[&str] = if entry.decision.is_some() { &BODY_PLACED } else { &[] };
    let body = entry.body.clone().unwrap_or_default();
    for (name, value, placed) in [("decision", decision, &DECISION_PLACED[..]), ("body", body, placed_body)] {
        let Value::Object(mut fields) = value else { continue };
        let is_placed =
            |key: &str, value: &Value| placed.contains(&key) || (key == "resource" && !is_empty(&value["id"]));
        fields.retain(|key, value| !is_placed(key, value) && !is_empty(value));
        if !fields.is_empty() {
            unmapped.insert(name.to_owned(), Value::Object(fields));
        }
    }
    Value::Object(unmapped)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
