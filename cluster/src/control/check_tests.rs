//! Changes of the zone's rules: what is accepted, what changes nothing, and what is refused with which code.

use super::super::{ChangeV1, Changed};
use nethical_protocol::control::{LimitMode, Redaction};
use nethical_protocol::model::ModelBlending;
use nethical_protocol::sla::SlaTargets;

use super::*;

fn change(state: &mut ControlState, change: AskV1) -> Changed {
    state.apply(&ChangeV1 { now_ns: 1_000, change }, Place::default())
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
        reserve: 0,
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
    let Changed::Refused(problem) = change(&mut state, put(None, Some(&["mind-reader"]))) else { panic!("accepted") };
    assert_eq!(problem.code, Code::InvalidControl);
    assert_eq!(change(&mut state, put(None, Some(&[]))), Changed::Revision(ControlRevision(4)));
}

#[test]
fn model_blending_stays_until_another_setting_is_named() {
    let mut state = ControlState::default();
    let put = |model_blending| AskV1::PutTenant {
        spec: TenantSpec { model_blending, ..TenantSpec::named("t") },
        wrapped_key: vec![1],
    };
    assert_eq!(change(&mut state, put(Some(ModelBlending::Enforce))), Changed::Revision(ControlRevision(1)));
    assert_eq!(change(&mut state, put(None)), Changed::Unchanged(ControlRevision(1)));
    assert_eq!(change(&mut state, put(Some(ModelBlending::Off))), Changed::Revision(ControlRevision(2)));
    let (spec, _) = last_tenant_event(&state, "t").expect("it was put");
    assert_eq!(spec.model_blending, Some(ModelBlending::Off));
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
    assert_eq!(change(&mut state, AskV1::PutLimit(counted)), Changed::Revision(ControlRevision(5)));
    assert_eq!(change(&mut state, AskV1::PutLimit(budget)), Changed::Revision(ControlRevision(6)));
    assert_eq!(change(&mut state, put(61)), Changed::Revision(ControlRevision(7)));
}

#[test]
fn a_limit_that_refuses_nobody_is_shared_out_like_any_other() {
    let mut state = ControlState::default();
    assert_eq!(change(&mut state, tenant("s", Placement::Spread)), Changed::Revision(ControlRevision(1)));
    let kinds = [
        LimitKind::Rate { amount: 5, period_s: 1, burst: 6 },
        LimitKind::Rolling { cap: 5, window_s: 3 },
        LimitKind::Budget { cap: 5, window_s: 60 },
        LimitKind::Lifetime { cap: 5 },
        LimitKind::Concurrency { cap: 5 },
    ];
    let mut revision = 1;
    for (at, kind) in kinds.into_iter().enumerate() {
        for (tenant, key, mode) in [
            ("s", KeyPart::Tool, LimitMode::Shadow),
            ("s", KeyPart::Tenant, LimitMode::Soft),
            ("*", KeyPart::Tenant, LimitMode::Soft),
        ] {
            let spec = LimitSpec { id: format!("{at}-{mode:?}"), kind, mode, ..limit(tenant, vec![key]) };
            revision += 1;
            assert_eq!(
                change(&mut state, AskV1::PutLimit(spec)),
                Changed::Revision(ControlRevision(revision)),
                "{kind:?}"
            );
        }
    }
    // What no mode could share out is refused in each.
    for mode in LimitMode::ALL {
        let kind = LimitKind::Rate { amount: 60, period_s: 1, burst: 60 };
        let spec = LimitSpec { id: "steep".into(), kind, mode, ..limit("s", vec![KeyPart::Tenant]) };
        let Changed::Refused(problem) = change(&mut state, AskV1::PutLimit(spec)) else { panic!("accepted") };
        assert_eq!(problem.code, Code::LimitNeedsLeases, "{mode:?}");
    }
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
    assert_eq!(lift(&mut state, "ann"), Changed::Unchanged(ControlRevision(2)), "a second word of hers is no other");
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
