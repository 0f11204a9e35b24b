//! Whether a change fits the zone's rules as they stand: pure, and the same on every replica.

use std::collections::{BTreeMap, BTreeSet};

use nethical_governance::detect;
use nethical_governance::quota::bucket::Meter;
use nethical_protocol::control::{
    EVERY_TENANT, HoldScope, HoldSpec, KeyPart, LimitKind, LimitMode, LimitSpec, Placement, TenantSpec,
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
        AskV1::CanaryBundle { digest, percent } => ask::canary(&bundles(state), digest, *percent),
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

fn put_tenant(state: &ControlState, spec: &TenantSpec, wrapped_key: &[u8]) -> Result<Option<EventV1>, Problem> {
    check_name("the tenant's name", &spec.tenant)?;
    let mut spec = spec.clone();
    if let Some(off) = &mut spec.detectors_off {
        check_detectors(off)?;
        off.sort();
        off.dedup();
    }
    spec.sla.map_or(Ok(()), |targets| targets.check())?;
    match last_tenant_event(state, &spec.tenant) {
        Some((old, _)) if old.placement != spec.placement => {
            Err(invalid(format!("tenant {} exists with another placement, which is fixed at creation", spec.tenant)))
        }
        Some((old, key)) => {
            // What is not named stays as it is, and so does the key: everything sealed before must still open.
            spec.storage_redaction = spec.storage_redaction.or(old.storage_redaction);
            spec.detectors_off = spec.detectors_off.or_else(|| old.detectors_off.clone());
            spec.sla = spec.sla.or(old.sla);
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

/// What agents of several partitions share is leased: it must be enforced, and a rate's burst must leave something when
/// what clocks may be apart is taken off it.
fn check_leased(spec: &LimitSpec, placement: Placement) -> Result<(), Problem> {
    let is_leased = placement == Placement::Spread && !spec.key.contains(&KeyPart::Agent) && spec.agent.is_empty();
    if !is_leased {
        return Ok(());
    }
    let whose = format!("limit {} of tenant {} counts agents of several partitions together", spec.id, spec.tenant);
    let refuse = |why: String| Err(Problem::new(Code::LimitNeedsLeases, format!("{whose}; {why}")));
    if spec.mode != LimitMode::Enforce {
        return refuse("only an enforced limit can be shared by several partitions".to_owned());
    }
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
mod tests {
    use super::super::{ChangeV1, Changed};
    use nethical_protocol::control::Redaction;
    use nethical_protocol::sla::SlaTargets;

    use super::*;

    fn change(state: &mut ControlState, change: AskV1) -> Changed {
        state.apply(&ChangeV1 { now_ns: 1_000, change })
    }

    fn tenant(name: &str, placement: Placement) -> AskV1 {
        AskV1::PutTenant { spec: TenantSpec { placement, ..TenantSpec::named(name) }, wrapped_key: vec![1] }
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
    fn a_tenants_settings_change_and_its_key_does_not() {
        let mut state = ControlState::default();
        let put = |redaction, off: Option<&[&str]>| AskV1::PutTenant {
            spec: TenantSpec {
                storage_redaction: redaction,
                detectors_off: off.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
                ..TenantSpec::named("t")
            },
            wrapped_key: vec![9],
        };
        assert_eq!(change(&mut state, tenant("t", Placement::Spread)), Changed::Revision(ControlRevision(1)));
        let standard = put(Some(Redaction::Standard), None);
        assert_eq!(change(&mut state, standard.clone()), Changed::Revision(ControlRevision(2)));
        assert_eq!(change(&mut state, standard), Changed::Unchanged(ControlRevision(2)));
        let off = put(None, Some(&["phone", "ip", "phone"]));
        assert_eq!(change(&mut state, off), Changed::Revision(ControlRevision(3)));
        assert_eq!(change(&mut state, put(None, None)), Changed::Unchanged(ControlRevision(3)), "absent is as it is");
        let (spec, key) = last_tenant_event(&state, "t").expect("it was put");
        assert_eq!((spec.storage_redaction, key), (Some(Redaction::Standard), &[1][..]));
        assert_eq!(spec.detectors_off.as_deref(), Some(&["ip".to_owned(), "phone".to_owned()][..]));
        let Changed::Refused(problem) = change(&mut state, put(None, Some(&["mind-reader"]))) else {
            panic!("accepted")
        };
        assert_eq!(problem.code, Code::InvalidControl);
        assert_eq!(change(&mut state, put(None, Some(&[]))), Changed::Revision(ControlRevision(4)));
    }

    #[test]
    fn a_tenants_promise_is_checked_and_stays_until_another_is_named() {
        let mut state = ControlState::default();
        let put = |sla| AskV1::PutTenant { spec: TenantSpec { sla, ..TenantSpec::named("t") }, wrapped_key: vec![1] };
        let strict = SlaTargets { availability_ppm: 999_900, ..SlaTargets::default() };
        assert_eq!(change(&mut state, put(Some(strict))), Changed::Revision(ControlRevision(1)));
        assert_eq!(change(&mut state, put(None)), Changed::Unchanged(ControlRevision(1)));
        assert_eq!(last_tenant_event(&state, "t").expect("it was put").0.sla, Some(strict));
        let endless = SlaTargets { availability_ppm: 1_000_000, ..strict };
        let Changed::Refused(problem) = change(&mut state, put(Some(endless))) else { panic!("accepted") };
        assert_eq!(problem.code, Code::InvalidControl);
    }

    #[test]
    fn a_limit_that_spans_partitions_can_be_shared_out_or_is_refused() {
        let mut state = ControlState::default();
        assert_eq!(change(&mut state, tenant("s", Placement::Spread)), Changed::Revision(ControlRevision(1)));
        assert_eq!(change(&mut state, tenant("one", Placement::Single)), Changed::Revision(ControlRevision(2)));
        let steep = |burst| LimitKind::Rate { amount: 60, period_s: 1, burst };
        let put = |burst| AskV1::PutLimit(LimitSpec { kind: steep(burst), ..limit("s", vec![KeyPart::Tenant]) });
        let Changed::Refused(problem) = change(&mut state, put(60)) else { panic!("accepted") };
        assert_eq!(problem.code, Code::LimitNeedsLeases);
        assert!(problem.detail.ends_with("at least 61"), "{problem}");
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
        assert_eq!(change(&mut state, put(61)), Changed::Revision(ControlRevision(6)));
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
    fn a_guarded_order_needs_different_words_of_those_it_names_and_each_is_a_revision() {
        let mut state = ControlState::default();
        let scope = HoldScope::Region { tenant: String::new(), region: "eu-west-1".into() };
        let names: Vec<String> = ["ann", "ben", "cy"].map(str::to_owned).into();
        let order = HoldSpec { approvers: 2, approver_names: names, ..HoldSpec::new(scope) };
        let lift = |state: &mut ControlState, who: &str| {
            change(state, AskV1::LiftHold(HoldSpec { approver: who.into(), ..HoldSpec::new(order.scope.clone()) }))
        };
        assert_eq!(change(&mut state, AskV1::PlaceHold(order.clone())), Changed::Revision(ControlRevision(1)));
        assert_eq!(change(&mut state, AskV1::PlaceHold(order.clone())), Changed::Unchanged(ControlRevision(1)));
        for nobody in ["", "eve"] {
            assert!(matches!(lift(&mut state, nobody), Changed::Refused(_)), "{nobody:?}");
        }
        assert_eq!(lift(&mut state, "ann"), Changed::Revision(ControlRevision(2)));
        assert_eq!(
            lift(&mut state, "ann"),
            Changed::Unchanged(ControlRevision(2)),
            "a second word of hers is no other"
        );
        assert_eq!(lift(&mut state, "cy"), Changed::Revision(ControlRevision(3)));
        assert!(matches!(&state.events()[2].event, EventV1::HoldLifted { approver, .. } if approver == "cy"));
        assert_eq!(lift(&mut state, "ben"), Changed::Unchanged(ControlRevision(3)), "nothing is held any more");
        let never = HoldSpec { approvers: 4, ..order.clone() };
        assert!(matches!(change(&mut state, AskV1::PlaceHold(never)), Changed::Refused(_)), "three names, four words");
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
