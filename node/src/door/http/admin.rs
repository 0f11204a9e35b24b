//! Administration: tenants, limits, hold-orders, agents. Bounds names, then asks the governor.
//!
//! A control change that not every partition in scope has confirmed is 202 with the groups awaited, never 200.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use nethical_cluster::api::{DriftQuery, ScoreQuery};
use nethical_protocol::control::{
    AckState, ControlAck, HoldEffect, HoldScope, HoldSpec, LimitSpec, PLANS, Placement, Redaction, TenantSpec,
};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::limits::NAME_BYTES_MAX;
use nethical_protocol::model::ModelBlending;
use nethical_protocol::privacy::PrivacyMode;
use nethical_protocol::quarantine::QuarantineSpec;
use nethical_protocol::retention::RetentionSpec;
use nethical_protocol::sla::SlaTargets;
use nethical_protocol::tiers::TierAges;

use super::call::{Call, Handled, Reply};
use super::routes::ok;

/// A reason in words, kept in the sealed body of its leaf.
const REASON_BYTES_MAX: usize = 2_048;

#[derive(Default, Deserialize)]
struct TenantBody {
    tenant: Option<String>,
    #[serde(default)]
    placement: Placement,
    storage_redaction: Option<Redaction>,
    detectors_off: Option<Vec<String>>,
    sla: Option<SlaTargets>,
    model_blending: Option<ModelBlending>,
    privacy_mode: Option<PrivacyMode>,
    retention: Option<RetentionSpec>,
    text_search: Option<bool>,
    tier_ages: Option<TierAges>,
}

#[derive(Deserialize)]
struct TenantQuery {
    tenant: Option<String>,
}

#[derive(Deserialize)]
struct UsageQuery {
    tenant: String,
    agent: String,
}

#[derive(Default, Deserialize)]
struct HoldBody {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    ttl_s: u64,
    #[serde(default)]
    effect: HoldEffect,
    #[serde(default)]
    approvers: u8,
    #[serde(default)]
    approver_names: Vec<String>,
    #[serde(default)]
    approver: String,
}

/// `GET /v1/tenants`
pub async fn tenants(call: Call) -> Handled {
    ok(call.door.governor.tenants().await)
}

/// `PUT /v1/tenants/{tenant}`
pub async fn put_tenant(call: Call) -> Handled {
    let body: TenantBody = call.json_or_default()?;
    let tenant = call.param("tenant").to_owned();
    check_name("tenant", &tenant)?;
    if body.tenant.as_ref().is_some_and(|named| *named != tenant) {
        return Err(Problem::new(Code::InvalidControl, "the body names another tenant than the path"));
    }
    let TenantBody { placement, storage_redaction, detectors_off, sla, model_blending, .. } = body;
    let TenantBody { privacy_mode, retention, text_search, tier_ages, .. } = body;
    sla.map_or(Ok(()), |targets| targets.check())?;
    retention.map_or(Ok(()), |retention| retention.check())?;
    tier_ages.map_or(Ok(()), |ages| ages.check())?;
    let spec = TenantSpec {
        tenant,
        placement,
        storage_redaction,
        detectors_off,
        sla,
        model_blending,
        privacy_mode,
        retention,
        text_search,
        tier_ages,
    };
    acknowledged(call.door.governor.put_tenant(spec).await)
}

/// `GET /v1/limits?tenant=`
pub async fn limits(call: Call) -> Handled {
    let query: TenantQuery = call.query()?;
    ok(call.door.governor.limits(query.tenant).await)
}

/// `PUT /v1/limits`
pub async fn put_limit(call: Call) -> Handled {
    let spec = limit_spec(call.json()?)?;
    for (what, name) in [("id", &spec.id), ("tenant", &spec.tenant), ("unit", &spec.unit)] {
        check_name(what, name)?;
    }
    for (what, name) in [("agent", &spec.agent), ("tool", &spec.tool), ("cohort", &spec.cohort)] {
        check_bytes(what, name, NAME_BYTES_MAX)?;
    }
    acknowledged(call.door.governor.put_limit(spec).await)
}

/// A limit as written, or with a plan's name in place of its kind.
fn limit_spec(mut body: serde_json::Map<String, serde_json::Value>) -> Result<LimitSpec, Problem> {
    let malformed = |detail: String| Problem::new(Code::MalformedRequest, detail);
    if let Some(plan) = body.remove("plan") {
        let known = PLANS.iter().find(|(name, _)| plan == *name);
        let (_, kind) =
            known.ok_or_else(|| malformed(format!("plan is {plan}; it is standard or premium, or give a kind")))?;
        let serde_json::Value::Object(kind) = serde_json::to_value(kind).expect("numbers serialise") else {
            return Err(malformed("a kind is an object".to_owned()));
        };
        if kind.keys().any(|name| body.contains_key(name)) {
            return Err(malformed("a limit has a plan or amounts of its own, not both".to_owned()));
        }
        body.extend(kind);
    }
    serde_json::from_value(body.into()).map_err(|error| malformed(error.to_string()))
}

/// `DELETE /v1/limits/{tenant}/{id}`
pub async fn remove_limit(call: Call) -> Handled {
    let (tenant, id) = (call.param("tenant").to_owned(), call.param("id").to_owned());
    check_name("tenant", &tenant)?;
    check_name("id", &id)?;
    acknowledged(call.door.governor.remove_limit(tenant, id).await)
}

/// `GET /v1/limits/usage?tenant=&agent=`
pub async fn limit_usage(call: Call) -> Handled {
    let query: UsageQuery = call.query()?;
    check_name("tenant", &query.tenant)?;
    check_name("agent", &query.agent)?;
    ok(call.door.governor.limit_usage(query.tenant, query.agent).await)
}

/// `POST /v1/holds`
pub async fn place_hold(call: Call) -> Handled {
    let spec: HoldSpec = call.json()?;
    place(&call, spec).await
}

/// `DELETE /v1/holds`, the same body
pub async fn lift_hold(call: Call) -> Handled {
    let spec: HoldSpec = call.json()?;
    lift(&call, spec).await
}

/// `GET /v1/quarantine-rules`
pub async fn quarantine_rules(call: Call) -> Handled {
    ok(call.door.governor.quarantine_rules().await)
}

/// `PUT /v1/quarantine-rules`
pub async fn put_quarantine_rules(call: Call) -> Handled {
    let spec: QuarantineSpec = call.json()?;
    check_bytes("tenant", &spec.tenant, NAME_BYTES_MAX)?;
    acknowledged(call.door.governor.put_quarantine_rules(spec).await)
}

/// `GET /v1/alarms?tenant=`
pub async fn alarms(call: Call) -> Handled {
    ok(call.door.governor.alarms(call.query()?).await)
}

/// `GET /v1/risk/shadow?tenant=`
pub async fn scores(call: Call) -> Handled {
    let query: ScoreQuery = call.query()?;
    query.tenant.as_ref().map_or(Ok(()), |name| check_name("tenant", name))?;
    ok(call.door.governor.scores(query).await)
}

/// `GET /v1/drift?tenant=&cohort=`
pub async fn drift(call: Call) -> Handled {
    let query: DriftQuery = call.query()?;
    for (what, name) in [("tenant", &query.tenant), ("cohort", &query.cohort)] {
        name.as_ref().map_or(Ok(()), |name| check_name(what, name))?;
    }
    ok(call.door.governor.drift(query).await)
}

/// `GET /v1/agents/{tenant}/{agent}`
pub async fn agent(call: Call) -> Handled {
    let (tenant, agent) = agent_of(&call)?;
    ok(call.door.governor.agent(tenant, agent).await)
}

/// `POST /v1/agents/{tenant}/{agent}/quarantine`
pub async fn quarantine(call: Call) -> Handled {
    let spec = agent_hold(&call)?;
    place(&call, spec).await
}

/// `POST /v1/agents/{tenant}/{agent}/release`
pub async fn release(call: Call) -> Handled {
    let spec = agent_hold(&call)?;
    lift(&call, spec).await
}

async fn place(call: &Call, spec: HoldSpec) -> Handled {
    check_hold(&spec)?;
    let view = call.door.governor.place_hold(spec).await?;
    with_ack_status(&view, &view.ack)
}

async fn lift(call: &Call, spec: HoldSpec) -> Handled {
    check_hold(&spec)?;
    let view = call.door.governor.lift_hold(spec).await?;
    // A word that is not the last one is taken, and nothing is lifted yet.
    if view.missing > 0 {
        return Ok(Reply::json(&view)?.status(StatusCode::ACCEPTED));
    }
    with_ack_status(&view, &view.ack)
}

fn agent_of(call: &Call) -> Result<(String, String), Problem> {
    let (tenant, agent) = (call.param("tenant").to_owned(), call.param("agent").to_owned());
    check_name("tenant", &tenant)?;
    check_name("agent", &agent)?;
    Ok((tenant, agent))
}

fn agent_hold(call: &Call) -> Result<HoldSpec, Problem> {
    let (tenant, agent) = agent_of(call)?;
    let HoldBody { reason, ttl_s, effect, approvers, approver_names, approver } = call.json_or_default()?;
    let scope = HoldScope::Agent { tenant, agent };
    Ok(HoldSpec { scope, effect, reason, ttl_s, approvers, approver_names, approver })
}

fn check_hold(spec: &HoldSpec) -> Result<(), Problem> {
    check_bytes("reason", &spec.reason, REASON_BYTES_MAX)?;
    spec.check_release()?;
    let names = match &spec.scope {
        HoldScope::Agent { tenant, agent } => vec![("tenant", tenant), ("agent", agent)],
        HoldScope::Cohort { tenant, cohort } => vec![("tenant", tenant), ("cohort", cohort)],
        HoldScope::Tool { tenant, tool } => vec![("tenant", tenant), ("tool", tool)],
        HoldScope::Tenant { tenant } => vec![("tenant", tenant)],
        HoldScope::All => vec![],
        HoldScope::Session { tenant, session } => vec![("tenant", tenant), ("session", session)],
        HoldScope::Region { tenant, region } if tenant.is_empty() => vec![("region", region)],
        HoldScope::Region { tenant, region } => vec![("tenant", tenant), ("region", region)],
    };
    names.into_iter().try_for_each(|(what, name)| check_name(what, name))
}

/// Refuses names that are empty or too long.
pub fn check_name(what: &str, name: &str) -> Result<(), Problem> {
    if name.is_empty() {
        return Err(Problem::new(Code::MalformedRequest, format!("{what} is empty")));
    }
    check_bytes(what, name, NAME_BYTES_MAX)
}

/// Refuses texts that are too long.
pub fn check_bytes(what: &str, text: &str, bytes_max: usize) -> Result<(), Problem> {
    if text.len() <= bytes_max {
        return Ok(());
    }
    let detail = format!("{what} has {} bytes; at most {bytes_max} are accepted", text.len());
    Err(Problem::new(Code::TooLarge, detail))
}

/// The reply to a control change.
pub fn acknowledged(ack: Result<ControlAck, Problem>) -> Handled {
    let ack = ack?;
    with_ack_status(&ack, &ack)
}

/// The reply to a control change that answers with more than its fate.
pub fn with_ack_status<T: Serialize>(value: &T, ack: &ControlAck) -> Handled {
    let status = if ack.state == AckState::Pending { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(Reply::json(value)?.status(status))
}
