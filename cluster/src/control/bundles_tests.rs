//! The life of bundles in the control group: stored, in force, rolled back, shadowed, let go.

use super::super::{AskV1, ChangeV1, Changed, ControlState};
use super::*;

fn digest(number: u8) -> BundleDigest {
    [number; 32]
}

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn ask(state: &mut ControlState, change: AskV1) -> Changed {
    state.apply(&ChangeV1 { now_ns: 1, change })
}

fn put(number: u8, bytes: usize) -> AskV1 {
    AskV1::PutPolicy { digest: digest(number), text: text(bytes) }
}

fn store(number: u8, bytes: usize) -> AskV1 {
    AskV1::StoreBundle { digest: digest(number), text: text(bytes) }
}

fn code(changed: Changed) -> Option<Code> {
    match changed {
        Changed::Refused(problem) => Some(problem.code),
        _ => None,
    }
}

fn bundles(state: &ControlState) -> Bundles {
    Bundles::of(state.events())
}

fn revision(changed: Changed) -> u64 {
    match changed {
        Changed::Revision(revision) => revision.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn storing_puts_nothing_in_force_and_activation_is_one_revision() {
    let mut state = ControlState::default();
    assert_eq!(revision(ask(&mut state, put(1, 10))), 1);
    assert_eq!(revision(ask(&mut state, store(2, 10))), 2);
    assert_eq!(ask(&mut state, store(2, 10)), Changed::Unchanged(ControlRevision(2)));
    assert_eq!(bundles(&state).active(), Some(digest(1)));
    assert_eq!(revision(ask(&mut state, AskV1::ActivateBundle { digest: digest(2) })), 3);
    let now = bundles(&state);
    assert_eq!((now.active(), now.previous()), (Some(digest(2)), Some(digest(1))));
    assert_eq!(now.standing(&digest(2)), ("active", ControlRevision(3)));
    assert_eq!(now.standing(&digest(1)), ("previous", ControlRevision(1)));
    assert_eq!(ask(&mut state, AskV1::ActivateBundle { digest: digest(2) }), Changed::Unchanged(ControlRevision(3)));
    assert_eq!(code(ask(&mut state, AskV1::ActivateBundle { digest: digest(9) })), Some(Code::NotFound));
    // Putting a bundle that is kept says only which.
    assert_eq!(revision(ask(&mut state, put(1, 10))), 4);
    assert!(matches!(state.events()[3].event, EventV1::PolicyActivated { .. }));
}

#[test]
fn rollback_goes_to_the_bundle_before_and_back_again() {
    let mut state = ControlState::default();
    assert_eq!(code(ask(&mut state, AskV1::RollbackPolicy)), Some(Code::InvalidControl));
    ask(&mut state, put(1, 10));
    assert_eq!(code(ask(&mut state, AskV1::RollbackPolicy)), Some(Code::InvalidControl));
    ask(&mut state, put(2, 10));
    ask(&mut state, put(3, 10));
    ask(&mut state, AskV1::RollbackPolicy);
    assert_eq!((bundles(&state).active(), bundles(&state).previous()), (Some(digest(2)), Some(digest(3))));
    ask(&mut state, AskV1::RollbackPolicy);
    assert_eq!(bundles(&state).active(), Some(digest(3)));
}

#[test]
fn the_store_is_bounded_in_number_and_candidates_never_give_way() {
    let mut state = ControlState::default();
    ask(&mut state, put(200, 10));
    for number in 1..POLICY_BUNDLES_MAX as u8 {
        assert_eq!(code(ask(&mut state, store(number, 10))), None);
    }
    let before = state.clone();
    assert_eq!(code(ask(&mut state, store(100, 10))), Some(Code::PolicyStoreFull));
    assert_eq!(code(ask(&mut state, put(100, 10))), Some(Code::PolicyStoreFull));
    assert_eq!(before, state, "a refusal changes nothing");
    assert_eq!(code(ask(&mut state, AskV1::RemoveBundle { digest: digest(200) })), Some(Code::InvalidControl));
    ask(&mut state, AskV1::RemoveBundle { digest: digest(1) });
    assert_eq!(code(ask(&mut state, AskV1::ActivateBundle { digest: digest(1) })), Some(Code::NotFound));
    assert_eq!(code(ask(&mut state, store(100, 10))), None);
}

#[test]
fn bundles_that_were_in_force_give_way_to_newer_ones_and_their_texts_go_with_them() {
    let mut state = ControlState::default();
    let bytes = nethical_protocol::limits::POLICY_BYTES_MAX;
    for number in 1..=100 {
        assert_eq!(code(ask(&mut state, put(number, bytes))), None, "bundle {number}");
    }
    let held: usize = state.events().iter().map(|event| event.event.text().len()).sum();
    assert!(held <= POLICY_STORE_BYTES_MAX, "{held} bytes of texts in the history");
    let now = bundles(&state);
    assert_eq!((now.active(), now.previous()), (Some(digest(100)), Some(digest(99))));
    assert_eq!(code(ask(&mut state, AskV1::RollbackPolicy)), None, "the one before is always kept");
    assert!(now.all().all(|(_, kept)| kept.text.len() == bytes), "no kept bundle has lost its text");
    let revisions: Vec<u64> = state.events().iter().map(|event| event.revision.0).collect();
    assert_eq!(revisions, (1..=revisions.len() as u64).collect::<Vec<_>>(), "revisions stay consecutive");
    // Let go, and put again: kept anew.
    assert_eq!(code(ask(&mut state, put(1, bytes))), None);
    assert_eq!(bundles(&state).get(&digest(1)).map(|kept| kept.text.len()), Some(bytes));
}

#[test]
fn a_shadow_is_another_bundle_and_ends_when_it_is_put_in_force() {
    let mut state = ControlState::default();
    ask(&mut state, put(1, 10));
    let shadow = |digest| AskV1::ShadowPolicy { digest };
    assert_eq!(code(ask(&mut state, shadow(Some(digest(2))))), Some(Code::NotFound));
    assert_eq!(code(ask(&mut state, shadow(Some(digest(1))))), Some(Code::InvalidControl));
    ask(&mut state, store(2, 10));
    assert_eq!(revision(ask(&mut state, shadow(Some(digest(2))))), 3);
    assert_eq!(ask(&mut state, shadow(Some(digest(2)))), Changed::Unchanged(ControlRevision(3)));
    assert_eq!(bundles(&state).standing(&digest(2)), ("shadow", ControlRevision(3)));
    assert_eq!(code(ask(&mut state, AskV1::RemoveBundle { digest: digest(2) })), Some(Code::InvalidControl));
    ask(&mut state, AskV1::ActivateBundle { digest: digest(2) });
    assert_eq!(bundles(&state).shadow(), None);
    assert_eq!(ask(&mut state, shadow(None)), Changed::Unchanged(ControlRevision(4)));
}

fn real(number: usize) -> (BundleDigest, String) {
    let text = format!("@id(\"rule-{number}\") permit(principal, action, resource);");
    (nethical_governance::policy::digest_of(&text), text)
}

/// What a node knows that takes the whole history in, as one with an empty disk does.
fn view(state: &ControlState) -> crate::control::view::ControlView {
    let (ring, prepared) = (nethical_audit::keys::Keyring::default(), crate::prepared::Prepared::default());
    let mut view = crate::control::view::ControlView::default();
    for event in state.events() {
        view.fold(event, &ring, &prepared).expect("every event is taken in");
    }
    view
}

#[test]
fn a_node_that_comes_late_knows_the_bundles_in_force_and_in_the_shadow_though_older_texts_are_gone() {
    let mut state = ControlState::default();
    for number in 0..=POLICY_BUNDLES_MAX + 3 {
        let (digest, text) = real(number);
        assert_eq!(code(ask(&mut state, AskV1::PutPolicy { digest, text })), None);
    }
    assert!(state.events()[0].event.text().is_empty(), "the oldest text has left the history");
    let (candidate, text) = real(1_000);
    ask(&mut state, AskV1::StoreBundle { digest: candidate, text });
    ask(&mut state, AskV1::ShadowPolicy { digest: Some(candidate) });
    ask(&mut state, AskV1::RollbackPolicy);
    let (known, in_force) = (view(&state), real(POLICY_BUNDLES_MAX + 2));
    let (revision, bundle) = known.policy().expect("a policy");
    assert_eq!((revision, bundle.digest(), known.policy_text()), (state.revision(), in_force.0, &*in_force.1));
    assert_eq!(known.shadow().map(|bundle| bundle.digest()), Some(candidate));
    assert_eq!(*known.store(), bundles(&state), "state and views fold alike");
    ask(&mut state, AskV1::ActivateBundle { digest: candidate });
    assert!(view(&state).shadow().is_none());
    assert_eq!(view(&state).facts_after(ControlRevision(0), usize::MAX).len() as u64, state.revision().0);
}
