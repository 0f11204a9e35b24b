//! Exports without a cluster: which limits are budgets, what the charged action is bound to, and that noise repeats.

use nethical_audit::keys::TenantKeys;
use nethical_protocol::control::TenantSpec;
use nethical_protocol::ids::KeyedId;

use super::*;
use crate::actor::command::request_key;

fn tenant(mode: PrivacyMode) -> Tenant {
    let spec = TenantSpec { privacy_mode: Some(mode), ..TenantSpec::named("t") };
    Tenant { spec, keys: TenantKeys::new(&[7; 32]), id: KeyedId([1; 16]) }
}

fn query() -> AggregateQuery {
    AggregateQuery {
        tenant: "t".into(),
        by: AggregateBy::Verdict,
        cells: vec![],
        from_ns: 1,
        to_ns: 2,
        epsilon_micros: None,
        per_agent_max: None,
        request_id: "r".into(),
        client_chosen: true,
        issued_at_ms: 1,
        approval: String::new(),
    }
}

fn limit() -> LimitSpec {
    LimitSpec {
        id: "privacy".into(),
        tenant: "t".into(),
        unit: EPSILON_UNIT.into(),
        kind: LimitKind::Budget { cap: 1_000_000, window_s: 86_400 },
        key: vec![KeyPart::Agent],
        mode: LimitMode::Enforce,
        overrun: Default::default(),
        reserve: 0,
        agent: String::new(),
        tool: String::new(),
        cohort: String::new(),
    }
}

#[test]
fn a_budget_is_enforced_and_binds_every_export() {
    let lasting = LimitKind::Lifetime { cap: 5 };
    let rolling = LimitKind::Rolling { cap: 5, window_s: 60 };
    for kind in [lasting, rolling, limit().kind] {
        assert!(is_budget(&LimitSpec { kind, ..limit() }));
    }
    let own = LimitSpec { agent: EXPORT_SUBJECT.into(), tool: EXPORT_ACTION.into(), key: vec![], ..limit() };
    assert!(is_budget(&own));
    let others = [
        LimitSpec { unit: "requests".into(), ..limit() },
        LimitSpec { mode: LimitMode::Shadow, ..limit() },
        LimitSpec { mode: LimitMode::Soft, ..limit() },
        LimitSpec { agent: "a".into(), ..limit() },
        LimitSpec { tool: "shell".into(), ..limit() },
        LimitSpec { cohort: "gold".into(), ..limit() },
        LimitSpec { key: vec![KeyPart::Tenant, KeyPart::Region], ..limit() },
        LimitSpec { kind: LimitKind::Concurrency { cap: 1 }, ..limit() },
    ];
    assert!(!others.iter().any(is_budget));
}

#[test]
fn without_a_budget_nothing_is_exported_and_exact_counts_cost_no_epsilon() {
    let view = ControlView::default();
    let code = |mode, query| noise_of(&view, &tenant(mode), &query).map_err(|problem| problem.code);
    assert_eq!(code(PrivacyMode::Standard, query()), Ok(None));
    assert_eq!(code(PrivacyMode::Differential, query()), Err(Code::NoPrivacyBudget));
    let with_epsilon = AggregateQuery { epsilon_micros: Some(500_000), ..query() };
    assert_eq!(code(PrivacyMode::Standard, with_epsilon), Err(Code::MalformedRequest));
}

/// A repeat must be the same action in every byte, and whatever changes the answer must make it another one.
#[test]
fn the_charged_action_is_bound_to_the_counts_and_to_the_query() {
    let tenant = tenant(PrivacyMode::Differential);
    let noise = Some((500_000, 10));
    let content = |query: &AggregateQuery, counts: &[u64], noise: Noise| {
        let action = action_of(&tenant, query, &query.cells, counts, noise);
        assert_eq!(action.check_bounds(), Ok(()));
        request_key(&tenant, &action).0.content
    };
    let first = content(&query(), &[1, 2], noise);
    assert_eq!(content(&query(), &[1, 2], noise), first);
    let others = [
        content(&query(), &[1, 3], noise),
        content(&query(), &[1, 2], Some((500_001, 10))),
        content(&query(), &[1, 2], Some((500_000, 11))),
        content(&query(), &[1, 2], None),
        content(&AggregateQuery { to_ns: 3, ..query() }, &[1, 2], noise),
        content(&AggregateQuery { by: AggregateBy::Kind, ..query() }, &[1, 2], noise),
    ];
    assert!(others.iter().all(|other| *other != first));
    let action = action_of(&tenant, &query(), &[], &[1, 2], noise);
    assert_eq!(action.cost, [Cost::charged(EPSILON_UNIT, 500_000)]);
    assert!(!action.args_json.contains("[1,2]"), "counts are not in the clear: {}", action.args_json);
    let largest: Vec<String> = (0..64).map(|n| format!("{n:0>256}")).collect();
    let action = action_of(&tenant, &query(), &largest, &[0; 65], noise);
    assert_eq!(action.check_bounds(), Ok(()), "as many cells as there may be fit an action");
}

#[test]
fn noise_is_the_same_for_the_same_charge_and_unrelated_for_another() {
    let tenant = tenant(PrivacyMode::Differential);
    let noisy =
        |leaf_hash: &str, bound: &str, counts: &[u64]| blurred(&tenant, leaf_hash, bound, counts, (100_000, 10));
    let counts = [1_000u64; 32];
    assert_eq!(noisy("aa", "x", &counts), noisy("aa", "x", &counts));
    assert_ne!(noisy("aa", "x", &counts), noisy("ab", "x", &counts));
    assert_ne!(noisy("aa", "x", &counts), noisy("aa", "y", &counts));
    assert_ne!(noisy("aa", "x", &counts), counts.map(|count| count as i64));
    assert_eq!(noise_view((500_000, 10)).scale_thousandths, 20_000);
}
