//! Whether a change fits the zone's rules as they stand: pure, and the same on every replica.

use std::collections::BTreeMap;

use nethical_protocol::control::{
    HoldScope, HoldSpec, KeyPart, LimitKind, LimitMode, LimitSpec, Placement, TenantSpec,
};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{ControlRevision, LimitNumber};
use nethical_protocol::limits::{HOLDS_MAX, LIMITS_PER_TENANT_MAX, NAME_BYTES_MAX, TENANTS_MAX};

use super::bundles::{Bundles, ask};
use super::{AskV1, ControlState, EventV1, invalid, quarantine};

/// The event that a change amounts to; `None` where everything is so already.
pub(super) fn event_of(state: &ControlState, ask: &AskV1) -> Result<Option<EventV1>, Problem> {
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
        AskV1::PutQuarantine(spec) => quarantine::event_of(state, spec),
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

fn tenants(state: &ControlState) -> BTreeMap<&str, Placement> {
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

/// The hold-orders in force, by the revision that placed them.
fn holds(state: &ControlState) -> BTreeMap<ControlRevision, &HoldSpec> {
    let mut found = BTreeMap::new();
    for event in state.events() {
        match &event.event {
            EventV1::Hold { spec, until_ns } if *until_ns == 0 || *until_ns > state.now_ns() => {
                found.insert(event.revision, spec);
            }
            EventV1::HoldLifted { id } => {
                found.remove(id);
            }
            _ => {}
        }
    }
    found
}

fn put_tenant(state: &ControlState, spec: &TenantSpec, wrapped_key: &[u8]) -> Result<Option<EventV1>, Problem> {
    check_name("the tenant's name", &spec.tenant)?;
    let known = tenants(state);
    match known.get(spec.tenant.as_str()) {
        Some(placement) if *placement == spec.placement => Ok(None),
        Some(_) => {
            Err(invalid(format!("tenant {} exists with another placement, which is fixed at creation", spec.tenant)))
        }
        None if known.len() >= TENANTS_MAX => Err(invalid(format!("a zone has at most {TENANTS_MAX} tenants"))),
        None => Ok(Some(EventV1::Tenant { spec: spec.clone(), wrapped_key: wrapped_key.to_vec() })),
    }
}

fn put_limit(state: &ControlState, spec: &LimitSpec) -> Result<Option<EventV1>, Problem> {
    let bad = |detail: String| Problem::new(Code::InvalidLimit, detail);
    check_name("the limit's id", &spec.id)?;
    check_name("the limit's unit", &spec.unit)?;
    check_kind(&spec.kind).map_err(bad)?;
    let Some(placement) = tenants(state).get(spec.tenant.as_str()).copied() else {
        return Err(Problem::new(
            Code::UnknownTenant,
            format!("there is no tenant {:?}; create it first", spec.tenant),
        ));
    };
    check_leased(spec, placement)?;
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

/// What agents of several partitions share must be a budget, in force: only those are leased.
fn check_leased(spec: &LimitSpec, placement: Placement) -> Result<(), Problem> {
    let is_leased = placement == Placement::Spread && !spec.key.contains(&KeyPart::Agent) && spec.agent.is_empty();
    let can_be = matches!(spec.kind, LimitKind::Budget { .. }) && spec.mode == LimitMode::Enforce;
    if !is_leased || can_be {
        return Ok(());
    }
    let detail = format!(
        "tenant {} is spread over all partitions, the key of limit {} lacks the agent, and only an enforced budget can be \
         shared by several partitions",
        spec.tenant, spec.id
    );
    Err(Problem::new(Code::LimitNeedsLeases, detail))
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
    };
    if let Some(tenant) = tenant.filter(|tenant| !tenants(state).contains_key(tenant.as_str())) {
        return Err(Problem::new(Code::UnknownTenant, format!("there is no tenant {tenant:?}")));
    }
    let in_force = holds(state);
    if in_force.len() >= HOLDS_MAX {
        return Err(invalid(format!("a zone has at most {HOLDS_MAX} hold-orders in force")));
    }
    if in_force
        .values()
        .any(|held| held.scope == spec.scope && held.effect == spec.effect && held.ttl_s == 0 && spec.ttl_s == 0)
    {
        return Ok(None);
    }
    let until_ns = match spec.ttl_s {
        0 => 0,
        seconds => state.now_ns().saturating_add(seconds.saturating_mul(1_000_000_000)),
    };
    // The reason is personal text; it is not kept in state.
    let spec = HoldSpec { reason: String::new(), ..spec.clone() };
    Ok(Some(EventV1::Hold { spec, until_ns }))
}

fn lift_hold(state: &ControlState, spec: &HoldSpec) -> Result<Option<EventV1>, Problem> {
    // One revision lifts one order; a scope held twice is lifted by two calls, which the caller makes until unchanged.
    let held = holds(state).into_iter().find(|(_, held)| held.scope == spec.scope);
    Ok(held.map(|(id, _)| EventV1::HoldLifted { id }))
}

#[cfg(test)]
mod tests {
    use super::super::{ChangeV1, Changed};
    use super::*;

    fn change(state: &mut ControlState, change: AskV1) -> Changed {
        state.apply(&ChangeV1 { now_ns: 1_000, change })
    }

    fn tenant(name: &str, placement: Placement) -> AskV1 {
        AskV1::PutTenant { spec: TenantSpec { tenant: name.into(), placement }, wrapped_key: vec![1] }
    }

    fn limit(tenant: &str, key: Vec<KeyPart>) -> LimitSpec {
        let kind = LimitKind::Rate { amount: 60, period_s: 60, burst: 60 };
        let (id, unit) = ("l".to_owned(), "requests".to_owned());
        let (agent, tool, cohort) = Default::default();
        LimitSpec {
            id,
            tenant: tenant.into(),
            unit,
            kind,
            key,
            mode: Default::default(),
            overrun: Default::default(),
            agent,
            tool,
            cohort,
        }
    }

    #[test]
    fn the_first_policy_is_put_after_other_changes_too_and_never_replaces_one() {
        let mut state = ControlState::default();
        let first = |text: &str| AskV1::FirstPolicy { digest: [1; 32], text: text.into() };
        let put = |text: &str| AskV1::PutPolicy { digest: [2; 32], text: text.into() };
        assert_eq!(change(&mut state, tenant("t", Placement::Spread)), Changed::Revision(ControlRevision(1)));
        assert_eq!(change(&mut state, first("a")), Changed::Revision(ControlRevision(2)));
        assert_eq!(change(&mut state, first("b")), Changed::Unchanged(ControlRevision(2)));
        assert_eq!(change(&mut state, put("c")), Changed::Revision(ControlRevision(3)));
        assert_eq!(change(&mut state, first("a")), Changed::Unchanged(ControlRevision(3)));
    }

    #[test]
    fn a_limit_that_spans_partitions_is_an_enforced_budget_or_refused() {
        let mut state = ControlState::default();
        assert_eq!(change(&mut state, tenant("s", Placement::Spread)), Changed::Revision(ControlRevision(1)));
        assert_eq!(change(&mut state, tenant("one", Placement::Single)), Changed::Revision(ControlRevision(2)));
        let Changed::Refused(problem) = change(&mut state, AskV1::PutLimit(limit("s", vec![KeyPart::Tenant]))) else {
            panic!("accepted")
        };
        assert_eq!(problem.code, Code::LimitNeedsLeases);
        let exact = AskV1::PutLimit(limit("one", vec![KeyPart::Tenant]));
        assert_eq!(change(&mut state, exact.clone()), Changed::Revision(ControlRevision(3)));
        assert_eq!(change(&mut state, exact), Changed::Unchanged(ControlRevision(3)), "the same again changes nothing");
        let by_agent = AskV1::PutLimit(limit("s", vec![KeyPart::Tenant, KeyPart::Agent]));
        assert_eq!(change(&mut state, by_agent), Changed::Revision(ControlRevision(4)));
        let budget = LimitSpec {
            id: "shared".into(),
            kind: LimitKind::Budget { cap: 5, window_s: 60 },
            ..limit("s", vec![KeyPart::Tenant])
        };
        let counted = LimitSpec { mode: LimitMode::Shadow, ..budget.clone() };
        assert!(matches!(change(&mut state, AskV1::PutLimit(counted)), Changed::Refused(_)));
        assert_eq!(change(&mut state, AskV1::PutLimit(budget)), Changed::Revision(ControlRevision(5)));
    }

    #[test]
    fn amounts_and_windows_outside_their_bounds_are_refused_with_a_code() {
        let mut state = ControlState::default();
        change(&mut state, tenant("t", Placement::Single));
        let mut put = |kind| change(&mut state, AskV1::PutLimit(LimitSpec { kind, ..limit("t", vec![]) }));
        for bad in [
            LimitKind::Lifetime { cap: 0 },
            LimitKind::Concurrency { cap: 0 },
            LimitKind::Lifetime { cap: (1 << 48) + 1 },
            LimitKind::Rolling { cap: 0, window_s: 60 },
            LimitKind::Rolling { cap: 1, window_s: 0 },
            LimitKind::Rolling { cap: 1, window_s: u64::MAX },
        ] {
            let Changed::Refused(problem) = put(bad) else { panic!("{bad:?} was accepted") };
            assert_eq!(problem.code, Code::InvalidLimit);
        }
        assert_eq!(put(LimitKind::Lifetime { cap: 1 << 48 }), Changed::Revision(ControlRevision(2)));
        assert_eq!(put(LimitKind::Rolling { cap: 1, window_s: 1 }), Changed::Revision(ControlRevision(3)));
    }

    #[test]
    fn a_replaced_limit_keeps_its_number_and_a_removed_one_never_comes_back_under_it() {
        let mut state = ControlState::default();
        change(&mut state, tenant("t", Placement::Single));
        change(&mut state, AskV1::PutLimit(limit("t", vec![])));
        let mut wider = limit("t", vec![]);
        wider.kind = LimitKind::Budget { cap: 5, window_s: 60 };
        change(&mut state, AskV1::PutLimit(wider));
        change(&mut state, AskV1::RemoveLimit { tenant: "t".into(), id: "l".into() });
        change(&mut state, AskV1::PutLimit(limit("t", vec![])));
        let numbers: Vec<u32> = state
            .events()
            .iter()
            .filter_map(|event| match &event.event {
                EventV1::Limit { number, .. } => Some(number.0),
                _ => None,
            })
            .collect();
        assert_eq!(numbers, [1, 1, 2]);
    }
}
