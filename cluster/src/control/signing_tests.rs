//! Turning signing keys, event by event: what comes into force when, and what is refused.

use super::super::{AskV1, ChangeV1, Changed};
use super::*;

fn ask(state: &mut ControlState, now_s: u64, place: Place, ask: SigningAskV1) -> Changed {
    state.apply(&ChangeV1 { now_ns: now_s * NANOS, change: AskV1::Signing(ask) }, place)
}

fn rotate(overlap_s: u64) -> SigningAskV1 {
    SigningAskV1::Rotate { reason: "yearly".into(), overlap_s }
}

fn turn(generation: u32, term: u64) -> SigningAskV1 {
    SigningAskV1::Turn { generation, public: [generation as u8; 32], before: [generation as u8 - 1; 32], term }
}

fn at(term: u64, leaves: u64) -> Place {
    Place { term, leaves }
}

fn is_new(changed: &Changed) -> bool {
    matches!(changed, Changed::Revision(_))
}

fn signing(state: &ControlState) -> Signing {
    Signing::of(state.events())
}

/// (number, first leaf, last leaf, in whole).
fn known(state: &ControlState) -> Vec<(u32, u64, Option<u64>)> {
    let generations = signing(state).generations().0.into_iter();
    generations.map(|known| (known.number, known.since_leaf, known.until_leaf)).collect()
}

#[test]
fn a_key_is_asked_for_turned_retired_and_destroyed_in_that_order() {
    let mut state = ControlState::default();
    assert!(known(&state).is_empty() && signing(&state).newest() == 1);
    assert_eq!(ask(&mut state, 1, at(3, 4), turn(2, 3)), Changed::Unchanged(state.revision()), "nobody asked for it");
    assert!(is_new(&ask(&mut state, 10, at(3, 5), rotate(60))));
    assert!(!is_new(&ask(&mut state, 10, at(3, 5), rotate(60))), "one at a time");
    assert!(is_new(&ask(&mut state, 12, at(3, 7), turn(2, 3))));
    assert_eq!(known(&state), [(1, 0, None), (2, 7, None)]);
    assert_eq!(signing(&state).overlapping().map(|old| old.retires_ns), Some(Some(72 * NANOS)));
    assert!(!is_new(&ask(&mut state, 71, at(3, 9), SigningAskV1::Retire { generation: 1 })), "too early");
    assert!(is_new(&ask(&mut state, 72, at(4, 9), SigningAskV1::Retire { generation: 1 })));
    assert_eq!(known(&state), [(1, 0, Some(9)), (2, 7, None)]);
    assert_eq!(signing(&state).retiring().count(), 1);
    assert!(is_new(&ask(&mut state, 80, at(4, 9), SigningAskV1::Destroyed { generation: 1 })));
    assert!(!is_new(&ask(&mut state, 80, at(4, 9), SigningAskV1::Destroyed { generation: 2 })), "it is in force");
    let key = signing(&state).keys()[1].clone();
    assert_eq!((key.reason.as_str(), key.since_ns, signing(&state).retiring().count()), ("yearly", 12 * NANOS, 0));
}

#[test]
fn a_seed_of_another_term_or_for_another_generation_never_comes_into_force() {
    let mut state = ControlState::default();
    ask(&mut state, 1, at(3, 0), rotate(60));
    for (term, turned) in [(4, turn(2, 3)), (3, turn(3, 3)), (3, turn(1, 3))] {
        assert!(!is_new(&ask(&mut state, 2, at(term, 0), turned)));
    }
    assert!(signing(&state).asked().is_some());
    assert!(is_new(&ask(&mut state, 2, at(5, 0), turn(2, 5))));
    assert!(!is_new(&ask(&mut state, 2, at(5, 0), turn(2, 5))), "once");
}

#[test]
fn a_leaked_key_is_retired_at_once_and_an_overlap_under_way_can_be_ended() {
    let mut state = ControlState::default();
    ask(&mut state, 1, at(1, 0), rotate(0));
    ask(&mut state, 2, at(1, 0), turn(2, 1));
    assert!(is_new(&ask(&mut state, 2, at(1, 3), SigningAskV1::Retire { generation: 1 })), "no overlap");
    ask(&mut state, 3, at(1, 3), rotate(1_000));
    ask(&mut state, 3, at(1, 3), turn(3, 1));
    assert!(matches!(ask(&mut state, 4, at(1, 5), rotate(60)), Changed::Refused(_)), "two sign already");
    assert!(is_new(&ask(&mut state, 4, at(1, 5), rotate(0))));
    assert_eq!(known(&state), [(1, 0, Some(3)), (2, 0, Some(5)), (3, 3, None)]);
    let long = SigningAskV1::Rotate { reason: "x".repeat(NAME_BYTES_MAX + 1), overlap_s: 0 };
    assert!(matches!(ask(&mut state, 5, at(1, 5), long), Changed::Refused(_)));
    assert!(matches!(ask(&mut state, 5, at(1, 5), rotate(OVERLAP_S_MAX + 1)), Changed::Refused(_)));
}

#[test]
fn all_keys_of_a_node_stay_known_and_only_the_newest_can_be_followed() {
    let mut state = ControlState::default();
    let cosigner = |before: u8, public: u8| SigningAskV1::Cosigner {
        node: 2,
        before: [before; 32],
        public: [public; 32],
        reason: String::new(),
    };
    assert!(is_new(&ask(&mut state, 1, at(1, 0), cosigner(1, 2))));
    assert!(!is_new(&ask(&mut state, 1, at(1, 0), cosigner(1, 2))), "the same again");
    assert!(matches!(ask(&mut state, 2, at(1, 0), cosigner(1, 3)), Changed::Refused(_)), "not after the newest");
    assert!(matches!(ask(&mut state, 2, at(1, 0), cosigner(2, 1)), Changed::Refused(_)), "an old one again");
    assert!(is_new(&ask(&mut state, 3, at(1, 0), cosigner(2, 3))));
    let signing = signing(&state);
    let told = signing.cosigners()[&2].iter().map(|key| (key.public[0], key.until_ns)).collect::<Vec<_>>();
    assert_eq!(told, [(1, Some(NANOS)), (2, Some(3 * NANOS)), (3, None)]);
    assert_eq!((signing.cosigner(2).map(|key| key.public[0]), signing.cosigner(3)), (Some(3), None));
}

/// A variant that outgrew the others would change the layout of all that are stored.
#[test]
fn events_and_asks_about_keys_are_no_larger_than_others() {
    use nethical_protocol::control::LimitSpec;
    use rkyv::Archived;
    assert!(size_of::<Archived<SigningEventV1>>() <= size_of::<Archived<LimitSpec>>());
    assert!(size_of::<Archived<SigningAskV1>>() <= size_of::<Archived<LimitSpec>>());
}
