//! Whether a change fits the zone's rules as they stand: pure, and the same on every replica.

use std::collections::{BTreeMap, BTreeSet};

use nethical_governance::detect;
use nethical_governance::quota::bucket::Meter;
use nethical_protocol::control::{
    EVERY_TENANT, HoldScope, HoldSpec, KeyPart, LimitKind, LimitSpec, Placement, TenantSpec,
};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{ControlRevision, LimitNumber};
use nethical_protocol::limits::{ERASURES_MAX, HOLDS_MAX, LIMITS_PER_TENANT_MAX, NAME_BYTES_MAX, TENANTS_MAX};

use super::bundles::{Bundles, ask};
use super::signing::{self, Place};
use super::{AskV1, ControlState, ErasureV1, EventV1, RevisedEventV1, dictionaries, invalid, legal, quarantine};

/// The event that a change amounts to; `None` where everything is so already.
pub(super) fn event_of(state: &ControlState, ask: &AskV1, place: Place) -> Result<Option<EventV1>, Problem> {
    match ask {
        AskV1::PutTenant { spec, wrapped_key } => put_tenant(state, spec, wrapped_key),
        AskV1::PutLimit(spec) => put_limit(state, spec),
        AskV1::RemoveLimit { tenant, id } => remove_limit(state, tenant, id),
        AskV1::PutPolicy { digest, text } => ask::put(&bundles(state), digest, text),
        AskV1::FirstPolicy { .. } if state.has_had_policy() => Ok(None),
        AskV1::FirstPolicy { digest, text } => ask::put(&bundles(state), digest, text),
        AskV1::PlaceHold(spec) => place_hold(state, spec),
        AskV1::LiftHold(spec) => lift_hold(state, spec),
        AskV1::StoreBundle { digest, text } => ask::store(&bundles(state), digest, text),
        AskV1::ActivateBundle { digest } => ask::activate(&bundles(state), digest),
        AskV1::RollbackPolicy => ask::rollback(&bundles(state)),
        AskV1::RemoveBundle { digest } => ask::remove(&bundles(state), digest),
        AskV1::ShadowPolicy { digest } => ask::shadow(&bundles(state), digest),
        AskV1::CanaryBundle { digest, percent } => ask::canary(&bundles(state), digest, *percent),
        AskV1::PutQuarantine(spec) => quarantine::event_of(state, spec),
        AskV1::Erase(erasure) => erase(state, erasure),
        AskV1::SetLegalHold(hold) => legal::set(state, hold),
        AskV1::LiftLegalHold { id, by } => legal::lift(state, *id, by),
        AskV1::Signing(ask) => signing::event_of(state, ask, place),
        AskV1::Dictionary(ask) => dictionaries::event_of(state, ask),
    }
}

fn bundles(state: &ControlState) -> Bundles {
    Bundles::of(state.events())
}

fn check_name(what: &str, name: &str) -> Result<(), Problem> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(invalid(format!("{what} must have 1 to {NAME_BYTES_MAX} bytes; it has {}", name.len())));
    }
    match name.chars().any(char::is_control) {
        true => Err(invalid(format!("{what} holds a control character"))),
        false => Ok(()),
    }
}

pub(super) fn tenants(state: &ControlState) -> BTreeMap<&str, Placement> {
    state
        .events()
        .iter()
        .filter_map(|event| match &event.event {
            EventV1::Tenant { spec, .. } => Some((spec.tenant.as_str(), spec.placement)),
            _ => None,
        })
        .collect()
}

/// The limits in force, by (tenant, id).
fn limits(state: &ControlState) -> BTreeMap<(&str, &str), (LimitNumber, &LimitSpec)> {
    let mut found = BTreeMap::new();
    for event in state.events() {
        match &event.event {
            EventV1::Limit { number, spec } => {
                found.insert((spec.tenant.as_str(), spec.id.as_str()), (*number, spec));
            }
            EventV1::LimitRemoved { tenant, id, .. } => {
                found.remove(&(tenant.as_str(), id.as_str()));
            }
            _ => {}
        }
    }
    found
}

/// A hold-order in force, and who has asked for its release.
struct Held<'a> {
    spec: &'a HoldSpec,
    voices: BTreeSet<&'a str>,
}

/// The hold-orders in force, by the revision that placed them.
fn holds(state: &ControlState) -> BTreeMap<ControlRevision, Held<'_>> {
    let mut found = BTreeMap::new();
    for event in state.events() {
        match &event.event {
            EventV1::Hold { spec, until_ns } if *until_ns == 0 || *until_ns > state.now_ns() => {
                found.insert(event.revision, Held { spec, voices: BTreeSet::new() });
            }
            EventV1::HoldVoiced { id, approver } => {
                if let Some(held) = found.get_mut(id) {
                    held.voices.insert(approver.as_str());
                }
            }
            EventV1::HoldLifted { id, .. } => {
                found.remove(id);
            }
            _ => {}
        }
    }
    found
}

/// Every erasure is an event of its own: what was said since the last one is erased, too.
fn erase(state: &ControlState, erasure: &ErasureV1) -> Result<Option<EventV1>, Problem> {
    if erasure.reason.len() > NAME_BYTES_MAX {
        return Err(invalid(format!("the reason has more than {NAME_BYTES_MAX} bytes")));
    }
    let is_erasure = |event: &&RevisedEventV1| matches!(event.event, EventV1::SubjectErased(_));
    if state.events().iter().filter(is_erasure).count() >= ERASURES_MAX {
        return Err(invalid(format!("the zone remembers {ERASURES_MAX} erasures, and has no room for another one")));
    }
    legal::check_erasure(state, erasure)?;
    match tenants(state).contains_key(erasure.tenant.as_str()) {
        true => Ok(Some(EventV1::SubjectErased(ErasureV1 { at_ns: state.now_ns(), ..erasure.clone() }))),
        false => Err(invalid(format!("there is no tenant {:?}", erasure.tenant))),
    }
}

fn put_tenant(state: &ControlState, spec: &TenantSpec, wrapped_key: &[u8]) -> Result<Option<EventV1>, Problem> {
    check_name("the tenant's name", &spec.tenant)?;
    let mut spec = spec.clone();
    if let Some(off) = &mut spec.detectors_off {
        check_detectors(off)?;
        off.sort();
        off.dedup();
    }
    spec.sla.map_or(Ok(()), |targets| targets.check())?;
    spec.retention.map_or(Ok(()), |retention| retention.check())?;
    spec.tier_ages.map_or(Ok(()), |ages| ages.check())?;
    match last_tenant_event(state, &spec.tenant) {
        Some((old, _)) if old.placement != spec.placement => {
            Err(invalid(format!("tenant {} exists with another placement, which is fixed at creation", spec.tenant)))
        }
        Some((old, key)) => {
            // What is not named stays as it is, and so does the key: everything sealed before must still open.
            spec.storage_redaction = spec.storage_redaction.or(old.storage_redaction);
            spec.detectors_off = spec.detectors_off.or_else(|| old.detectors_off.clone());
            spec.sla = spec.sla.or(old.sla);
            spec.model_blending = spec.model_blending.or(old.model_blending);
            spec.privacy_mode = spec.privacy_mode.or(old.privacy_mode);
            spec.text_search = spec.text_search.or(old.text_search);
            let older = old.retention.unwrap_or_default();
            spec.retention = spec.retention.map(|retention| retention.or(older)).or(old.retention);
            let older = old.tier_ages.unwrap_or_default();
            spec.tier_ages = spec.tier_ages.map(|ages| ages.or(older)).or(old.tier_ages);
            spec.tier_ages.map_or(Ok(()), |ages| ages.check())?;
            Ok((spec != *old).then(|| EventV1::Tenant { spec, wrapped_key: key.to_vec() }))
        }
        None if tenants(state).len() >= TENANTS_MAX => {
            Err(invalid(format!("a zone has at most {TENANTS_MAX} tenants")))
        }
        None => Ok(Some(EventV1::Tenant { spec, wrapped_key: wrapped_key.to_vec() })),
    }
}

fn last_tenant_event<'a>(state: &'a ControlState, name: &str) -> Option<(&'a TenantSpec, &'a [u8])> {
    state.events().iter().rev().find_map(|event| match &event.event {
        EventV1::Tenant { spec, wrapped_key } if spec.tenant == name => Some((spec, wrapped_key.as_slice())),
        _ => None,
    })
}

fn check_detectors(names: &[String]) -> Result<(), Problem> {
    let unknown = names.iter().find(|name| detect::number_of_text(name).is_none());
    let said = |name: &String| {
        let known = detect::NAMES.join(", ");
        invalid(format!("there is no detector {:?}; there are {known}", name.chars().take(40).collect::<String>()))
    };
    unknown.map_or(Ok(()), |name| Err(said(name)))
}

fn put_limit(state: &ControlState, spec: &LimitSpec) -> Result<Option<EventV1>, Problem> {
    let bad = |detail: String| Problem::new(Code::InvalidLimit, detail);
    check_name("the limit's id", &spec.id)?;
    check_name("the limit's unit", &spec.unit)?;
    check_kind(&spec.kind).map_err(bad)?;
    check_leased(spec, placement_for(state, spec)?)?;
    if spec.reserve >= Meter::of(&spec.kind).cap() {
        return Err(bad(format!("a reserve of {} leaves nothing for actions that are not critical", spec.reserve)));
    }
    let mut spec = spec.clone();
    spec.key.sort();
    spec.key.dedup();
    let in_force = limits(state);
    let number = match in_force.get(&(spec.tenant.as_str(), spec.id.as_str())) {
        Some((_, old)) if **old == spec => return Ok(None),
        Some((number, _)) => *number,
        None => state.next_limit(),
    };
    if in_force.keys().filter(|(tenant, _)| *tenant == spec.tenant).count() > LIMITS_PER_TENANT_MAX {
        return Err(bad(format!("a tenant has at most {LIMITS_PER_TENANT_MAX} limits")));
    }
    Ok(Some(EventV1::Limit { number, spec }))
}

/// Where what a limit counts lives; what binds all tenants is spread.
fn placement_for(state: &ControlState, spec: &LimitSpec) -> Result<Placement, Problem> {
    if spec.tenant == EVERY_TENANT {
        let names_parts = [&spec.agent, &spec.tool, &spec.cohort].iter().any(|part| !part.is_empty());
        let keyed_by_names = spec.key.iter().any(|part| *part != KeyPart::Tenant);
        return match spec.unit == "requests" && !names_parts && !keyed_by_names {
            true => Ok(Placement::Spread),
            false => Err(Problem::new(
                Code::InvalidLimit,
                "a limit over every tenant counts requests, by nothing or by tenant: names mean nothing across tenants",
            )),
        };
    }
    let unknown = || format!("there is no tenant {:?}; create it first", spec.tenant);
    tenants(state).get(spec.tenant.as_str()).copied().ok_or_else(|| Problem::new(Code::UnknownTenant, unknown()))
}

/// What agents of several partitions share is leased, in every mode: a rate's burst must leave something when what clocks
/// may be apart is taken off it.
fn check_leased(spec: &LimitSpec, placement: Placement) -> Result<(), Problem> {
    let is_leased = placement == Placement::Spread && !spec.key.contains(&KeyPart::Agent) && spec.agent.is_empty();
    if !is_leased {
        return Ok(());
    }
    let whose = format!("limit {} of tenant {} counts agents of several partitions together", spec.id, spec.tenant);
    let refuse = |why: String| Err(Problem::new(Code::LimitNeedsLeases, format!("{whose}; {why}")));
    match spec.kind {
        LimitKind::Rate { amount, period_s, burst } if Meter::leased(&spec.kind).cap() == 0 => {
            let roomy = Meter::leased(&LimitKind::Rate { amount, period_s, burst: u64::MAX });
            let least = u64::MAX - roomy.cap() + 1;
            refuse(format!("its burst of {burst} must be more than what comes in a second: at least {least}"))
        }
        _ => Ok(()),
    }
}

/// Bounds that keep the arithmetic of quotas exact in 128 bits.
fn check_kind(kind: &LimitKind) -> Result<(), String> {
    const AMOUNT_MAX: u64 = 1 << 48;
    const SECONDS_MAX: u64 = 100 * 366 * 86_400;
    let within = |what: &str, value: u64, most: u64| match (1..=most).contains(&value) {
        true => Ok(()),
        false => Err(format!("{what} must be 1 to {most}; it is {value}")),
    };
    match kind {
        LimitKind::Rate { amount, period_s, burst } => {
            within("amount", *amount, AMOUNT_MAX)?;
            within("period_s", *period_s, SECONDS_MAX)?;
            within("burst", *burst, AMOUNT_MAX)
        }
        LimitKind::Lifetime { cap } | LimitKind::Concurrency { cap } => within("cap", *cap, AMOUNT_MAX),
        LimitKind::Budget { cap, window_s } | LimitKind::Rolling { cap, window_s } => {
            within("cap", *cap, AMOUNT_MAX)?;
            within("window_s", *window_s, SECONDS_MAX)
        }
    }
}

fn remove_limit(state: &ControlState, tenant: &str, id: &str) -> Result<Option<EventV1>, Problem> {
    match limits(state).get(&(tenant, id)) {
        Some((number, _)) => Ok(Some(EventV1::LimitRemoved { number: *number, tenant: tenant.into(), id: id.into() })),
        None => Err(Problem::new(Code::NotFound, format!("tenant {tenant} has no limit {id}"))),
    }
}

fn place_hold(state: &ControlState, spec: &HoldSpec) -> Result<Option<EventV1>, Problem> {
    let tenant = match &spec.scope {
        HoldScope::Agent { .. } => return Err(invalid("a hold on one agent goes to the agent's own group")),
        HoldScope::Cohort { tenant, cohort } => {
            check_name("the cohort's name", cohort)?;
            Some(tenant)
        }
        HoldScope::Tool { tenant, tool } => {
            check_name("the tool's name", tool)?;
            Some(tenant)
        }
        HoldScope::Tenant { tenant } => Some(tenant),
        HoldScope::All => None,
        HoldScope::Session { tenant, session } => {
            check_name("the session's name", session)?;
            Some(tenant)
        }
        HoldScope::Region { tenant, region } => {
            check_name("the region's name", region)?;
            Some(tenant).filter(|tenant| !tenant.is_empty())
        }
    };
    spec.check_release()?;
    if let Some(tenant) = tenant.filter(|tenant| !tenants(state).contains_key(tenant.as_str())) {
        return Err(Problem::new(Code::UnknownTenant, format!("there is no tenant {tenant:?}")));
    }
    let in_force = holds(state);
    if in_force.len() >= HOLDS_MAX {
        return Err(invalid(format!("a zone has at most {HOLDS_MAX} hold-orders in force")));
    }
    if in_force.values().any(|held| is_same(held.spec, spec) && held.voices.is_empty()) {
        return Ok(None);
    }
    let until_ns = match spec.ttl_s {
        0 => 0,
        seconds => state.now_ns().saturating_add(seconds.saturating_mul(1_000_000_000)),
    };
    // The reason is personal text; it is not kept in state.
    let spec = HoldSpec { reason: String::new(), approver: String::new(), ..spec.clone() };
    Ok(Some(EventV1::Hold { spec, until_ns }))
}

fn lift_hold(state: &ControlState, spec: &HoldSpec) -> Result<Option<EventV1>, Problem> {
    // One revision is about one order; a scope held twice is lifted by two calls, which the caller makes until unchanged.
    let mut refused = None;
    for (id, held) in holds(state).into_iter().filter(|(_, held)| held.spec.scope == spec.scope) {
        match voice(id, &held, &spec.approver) {
            Ok(None) => {}
            Ok(event) => return Ok(event),
            Err(problem) => refused = Some(problem),
        }
    }
    refused.map_or(Ok(None), Err)
}

/// What a word for the release of an order amounts to; `None` where the same was said before.
fn voice(id: ControlRevision, held: &Held<'_>, approver: &str) -> Result<Option<EventV1>, Problem> {
    let lifted = || Ok(Some(EventV1::HoldLifted { id, approver: approver.to_owned() }));
    if !held.spec.is_guarded() {
        return lifted();
    }
    check_name("approver", approver)?;
    let names = &held.spec.approver_names;
    if !names.is_empty() && !names.iter().any(|name| name == approver) {
        return Err(invalid(format!("{approver:?} is not among the approvers of hold-order {id}")));
    }
    match held.voices.contains(approver) {
        true => Ok(None),
        false if held.voices.len() + 1 >= usize::from(held.spec.approvers) => lifted(),
        false => Ok(Some(EventV1::HoldVoiced { id, approver: approver.to_owned() })),
    }
}

/// True where the one order would stop what the other stops, as long, and be released in the same way.
fn is_same(held: &HoldSpec, spec: &HoldSpec) -> bool {
    let release = |spec: &HoldSpec| (spec.approvers.max(1), spec.approver_names.clone());
    let lasts = held.ttl_s == 0 && spec.ttl_s == 0;
    lasts && held.scope == spec.scope && held.effect == spec.effect && release(held) == release(spec)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
