//! The life of bundles in the control group: stored, in force, rolled back, shadowed, let go.

use super::super::signing::Place;
use super::super::{AskV1, ChangeV1, Changed, ControlState};
use super::*;
use nethical_protocol::control::ControlFact;

fn digest(number: u8) -> BundleDigest {
    [number; 32]
}

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn ask(state: &mut ControlState, change: AskV1) -> Changed {
    state.apply(&ChangeV1 { now_ns: 1, change }, Place::default())
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

fn canary(number: u8, percent: u8) -> AskV1 {
    AskV1::CanaryBundle { digest: digest(number), percent }
}

#[test]
fn a_canary_stands_beside_the_bundle_in_force_until_it_is_promoted_ended_or_passed_over() {
    let mut state = ControlState::default();
    ask(&mut state, store(1, 10));
    assert_eq!(code(ask(&mut state, canary(1, 10))), Some(Code::InvalidControl), "beside nothing there is none");
    ask(&mut state, AskV1::ActivateBundle { digest: digest(1) });
    ask(&mut state, store(2, 10));
    for (number, percent, refused) in [(1, 10, Code::InvalidControl), (9, 10, Code::NotFound)] {
        assert_eq!(code(ask(&mut state, canary(number, percent))), Some(refused));
    }
    for percent in [0, 101, 255] {
        assert_eq!(code(ask(&mut state, canary(2, percent))), Some(Code::InvalidControl));
    }
    assert_eq!(revision(ask(&mut state, canary(2, 10))), 4);
    assert_eq!(ask(&mut state, canary(2, 10)), Changed::Unchanged(ControlRevision(4)));
    assert_eq!(revision(ask(&mut state, canary(2, 50))), 5);
    let now = bundles(&state);
    assert_eq!((now.active(), now.standing(&digest(2))), (Some(digest(1)), ("canary", ControlRevision(5))));
    assert_eq!(code(ask(&mut state, AskV1::RemoveBundle { digest: digest(2) })), Some(Code::InvalidControl));

    // Rolled back: the bundle in force stays, and a second rollback has nothing before it.
    assert_eq!(revision(ask(&mut state, AskV1::RollbackPolicy)), 6);
    assert_eq!((bundles(&state).active(), bundles(&state).canary()), (Some(digest(1)), None));
    assert_eq!(code(ask(&mut state, AskV1::RollbackPolicy)), Some(Code::InvalidControl));

    // Promoted: rolling that back leads to the bundle that it stood beside.
    ask(&mut state, canary(2, 100));
    ask(&mut state, AskV1::ActivateBundle { digest: digest(2) });
    let now = bundles(&state);
    assert_eq!((now.active(), now.previous(), now.canary()), (Some(digest(2)), Some(digest(1)), None));

    // Passed over: what is put in force is in force for all, also where it was before.
    ask(&mut state, canary(1, 10));
    assert_eq!(revision(ask(&mut state, AskV1::ActivateBundle { digest: digest(2) })), 10);
    assert_eq!((bundles(&state).active(), bundles(&state).canary()), (Some(digest(2)), None));
    ask(&mut state, canary(1, 10));
    assert_eq!(revision(ask(&mut state, put(3, 10))), 12);
    assert_eq!((bundles(&state).active(), bundles(&state).canary()), (Some(digest(3)), None));
}

#[test]
fn a_node_knows_both_bundles_of_every_canary_revision_and_tells_partitions_of_each() {
    let mut state = ControlState::default();
    let ((first, first_text), (second, second_text)) = (real(1), real(2));
    ask(&mut state, AskV1::PutPolicy { digest: first, text: first_text });
    ask(&mut state, AskV1::StoreBundle { digest: second, text: second_text });
    ask(&mut state, AskV1::CanaryBundle { digest: second, percent: 10 });
    ask(&mut state, AskV1::CanaryBundle { digest: second, percent: 90 });
    ask(&mut state, AskV1::RollbackPolicy);
    let known = view(&state);
    let at = |revision, by_canary| known.bundle_at(ControlRevision(revision), by_canary).map(|bundle| bundle.digest());
    assert_eq!((at(1, false), at(1, true), at(2, false)), (Some(first), None, None));
    assert_eq!((at(3, false), at(3, true)), (Some(first), Some(second)));
    assert_eq!((at(4, false), at(4, true)), (Some(first), Some(second)));
    assert_eq!((at(5, false), at(5, true)), (Some(first), None));
    assert_eq!(known.policy().map(|(revision, _)| revision), Some(ControlRevision(5)));
    let facts: Vec<ControlFact> = known.facts_after(ControlRevision(2), 9).into_iter().map(|fact| fact.fact).collect();
    let set = |percent| ControlFact::PolicyCanary { digest: second, percent };
    assert_eq!(facts, [set(10), set(90), ControlFact::PolicyCanaryEnded]);

    // The candidate is let go: a node that comes late knows what is in force all the same.
    ask(&mut state, AskV1::RemoveBundle { digest: second });
    let late = view(&state);
    assert_eq!(late.bundle_at(ControlRevision(5), false).map(|bundle| bundle.digest()), Some(first));
    assert!(late.bundle_at(ControlRevision(4), true).is_none());
    assert_eq!(*late.store(), bundles(&state), "state and views fold alike");
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
