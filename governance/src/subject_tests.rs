//! Erasures against a model that only counts: whatever comes in whatever order, no key is told as gone that could come back,
//! and none that was erased is given out.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn id(slot: u16, subject: u8) -> SubjectId {
    SubjectId { slot: Slot(slot), tenant: KeyedId([1; 16]), subject: KeyedId([subject; 16]) }
}

fn wrapped(ring: u64, mark: u8) -> WrappedV1 {
    WrappedV1 { ring, bytes: [mark; WRAPPED_BYTES] }
}

fn fresh(generation: u32, ring: u64, mark: u8) -> KeyUseV1 {
    KeyUseV1 { generation, fresh: Some(Box::new(wrapped(ring, mark))) }
}

fn held(generation: u32) -> KeyUseV1 {
    KeyUseV1 { generation, fresh: None }
}

fn erase(subjects: &mut Subjects, subject: u8, at: u64) -> usize {
    subjects.erase(KeyedId([1; 16]), KeyedId([subject; 16]), ControlRevision(at))
}

#[test]
fn a_key_is_taken_once_and_used_until_it_is_erased() {
    let mut subjects = Subjects::default();
    assert!(!subjects.fits(&id(0, 7), &fresh(0, 1, 1)), "there is no ring key yet");
    assert!(subjects.needs_turn() && subjects.turn(1, ControlRevision(0)));
    assert!(!subjects.needs_turn() && !subjects.may_settle(), "the first ring key takes no other one's place");
    assert!(!subjects.fits(&id(0, 7), &held(0)) && subjects.fits(&id(0, 7), &fresh(0, 1, 1)));
    subjects.take(id(0, 7), &fresh(0, 1, 1));
    assert!(subjects.fits(&id(0, 7), &held(0)) && subjects.fits(&id(0, 7), &fresh(0, 1, 1)));
    assert!(!subjects.fits(&id(0, 7), &fresh(0, 1, 2)), "another key for a subject that has one");
    assert_eq!(erase(&mut subjects, 7, 5), 1);
    assert_eq!(subjects.key(&id(0, 7)), (1, None));
    assert!(!subjects.fits(&id(0, 7), &held(0)) && !subjects.fits(&id(0, 7), &fresh(0, 1, 1)));
    assert!(subjects.fits(&id(0, 7), &fresh(1, 1, 3)), "who acts on gets a key of the next generation");
}

#[test]
fn an_erasure_is_complete_once_survivors_are_wrapped_anew_and_the_old_ring_key_is_gone() {
    let mut subjects = Subjects::default();
    subjects.turn(1, ControlRevision(0));
    (0..40).for_each(|subject| subjects.take(id(0, subject), &fresh(0, 1, subject)));
    (0..20).for_each(|subject| assert_eq!(erase(&mut subjects, subject, 5 + u64::from(subject)), 1));
    assert!(subjects.settle(&[]).is_none() && subjects.needs_turn());
    assert!(subjects.turn(2, ControlRevision(24)) && !subjects.needs_turn());
    let survivors = subjects.unturned(None, 100);
    assert_eq!(survivors.len(), 20);
    assert!(!subjects.may_settle() && subjects.settle(&[1]).is_none(), "survivors are still under the old ring key");
    let anew = survivors.iter().map(|(id, generation, key)| (*id, *generation, WrappedV1 { ring: 2, ..*key }));
    assert!(subjects.rewrap(&RewrapV1 { keys: anew.clone().collect() }));
    assert!(!subjects.rewrap(&RewrapV1 { keys: anew.collect() }), "the same again changes nothing");
    assert!(subjects.settle(&[3]).is_none(), "of other ring keys");
    let incomplete = subjects.state(ControlRevision(24));
    assert!(!incomplete.is_complete(ControlRevision(5)) && !incomplete.is_complete(ControlRevision(24)));
    let first = subjects.settle(&[1]).expect("due");
    assert_eq!(first.len(), ERASED_PER_LEAF);
    assert!(!subjects.state(ControlRevision(24)).is_complete(ControlRevision(24)));
    assert_eq!(subjects.settle(&[1]).expect("the rest").len(), 20 - ERASED_PER_LEAF);
    let complete = subjects.state(ControlRevision(24));
    assert!(complete.is_complete(ControlRevision(24)) && !complete.is_complete(ControlRevision(25)));
    assert!(subjects.past().is_empty() && subjects.settle(&[1]).is_none());
}

#[test]
fn a_later_erasure_waits_for_the_next_turn() {
    let mut subjects = Subjects::default();
    subjects.turn(1, ControlRevision(0));
    (0..2).for_each(|subject| subjects.take(id(0, subject), &fresh(0, 1, subject)));
    erase(&mut subjects, 0, 5);
    subjects.turn(2, ControlRevision(5));
    erase(&mut subjects, 1, 6);
    assert_eq!(subjects.settle(&[1]).expect("due").len(), 1, "only what was erased before the turn");
    let state = subjects.state(ControlRevision(6));
    assert!(!state.is_complete(ControlRevision(6)) && subjects.needs_turn());
}

#[test]
fn an_erasure_that_is_asked_for_again_is_not_complete_before_the_first_one() {
    let mut subjects = Subjects::default();
    subjects.turn(1, ControlRevision(0));
    subjects.take(id(0, 7), &fresh(0, 1, 1));
    assert_eq!((erase(&mut subjects, 7, 5), erase(&mut subjects, 7, 6)), (1, 0));
    subjects.turn(2, ControlRevision(6));
    let state = subjects.state(ControlRevision(6));
    assert!(!state.is_complete(ControlRevision(5)) && !state.is_complete(ControlRevision(6)));
    assert_eq!(subjects.settle(&[1]).expect("due").len(), 1);
    let state = subjects.state(ControlRevision(6));
    assert!(state.is_complete(ControlRevision(5)) && state.is_complete(ControlRevision(6)));
}

#[derive(Debug, Clone)]
enum Step {
    Take(u16, u8),
    Erase(u8),
    Turn,
    Rewrap(usize),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u16, 0..6u8).prop_map(|(slot, subject)| Step::Take(slot, subject)),
        2 => (0..6u8).prop_map(Step::Erase),
        2 => Just(Step::Turn),
        3 => (1..4usize).prop_map(Step::Rewrap),
        3 => Just(Step::Settle),
    ]
}

proptest! {
    /// What is told as gone was erased, is told once, and no wrapped form of it is under a ring key that anybody may have.
    #[test]
    fn what_is_told_as_gone_cannot_come_back(steps in proptest::collection::vec(step(), 1..80)) {
        let mut subjects = Subjects::default();
        let (mut ring, mut revision, mut told) = (0u64, 0u64, BTreeSet::new());
        // Ring keys under which each (subject, generation) was ever wrapped, and ring keys that are destroyed.
        let mut under: BTreeMap<(SubjectId, u32), BTreeSet<u64>> = BTreeMap::new();
        let mut destroyed = BTreeSet::new();
        for step in steps {
            match step {
                Step::Take(slot, subject) => {
                    let (generation, key) = subjects.key(&id(slot, subject));
                    let used = if key.is_some() { held(generation) } else { fresh(generation, ring, subject) };
                    if subjects.fits(&id(slot, subject), &used) {
                        subjects.take(id(slot, subject), &used);
                        let (_, key) = subjects.key(&id(slot, subject));
                        under.entry((id(slot, subject), generation)).or_default().insert(key.expect("taken").ring);
                    }
                }
                Step::Erase(subject) => {
                    revision += 1;
                    erase(&mut subjects, subject, revision);
                }
                Step::Turn => {
                    if subjects.turn(ring + 1, ControlRevision(revision)) {
                        ring += 1;
                    }
                }
                Step::Rewrap(count) => {
                    let old = subjects.unturned(None, count);
                    for (id, generation, _) in &old {
                        under.entry((*id, *generation)).or_default().insert(ring);
                    }
                    let keys = old.into_iter().map(|(id, generation, key)| (id, generation, WrappedV1 { ring, ..key }));
                    subjects.rewrap(&RewrapV1 { keys: keys.collect() });
                }
                Step::Settle => {
                    let past = subjects.past().to_vec();
                    if let Some(gone) = subjects.settle(&past) {
                        destroyed.extend(past);
                        for erased in gone {
                            let generation = erased.below - 1;
                            prop_assert!(told.insert((erased.subject, generation)), "told twice");
                            let rings = &under[&(erased.subject, generation)];
                            prop_assert!(rings.is_subset(&destroyed), "{rings:?} of {destroyed:?}");
                            prop_assert!(subjects.key(&erased.subject).0 > generation);
                        }
                    }
                }
            }
            let mut counted = subjects.clone();
            counted.count_unturned();
            prop_assert_eq!(counted.unturned, subjects.unturned);
            prop_assert!(subjects.entries.values().filter_map(|entry| entry.key).all(|key| !destroyed.contains(&key.ring)));
        }
    }
}
