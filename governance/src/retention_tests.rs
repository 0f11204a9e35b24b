//! What expires when, what legal holds keep, and that nothing comes back.

use proptest::prelude::*;

use super::*;

const T: KeyedId = KeyedId([1; 16]);
const A: KeyedId = KeyedId([2; 16]);
const P: KeyedId = KeyedId([3; 16]);
const SECOND_NS: u64 = 1_000_000_000;
const HOUR_NS: u64 = 3_600 * SECOND_NS;

fn body(class: RetentionClass, at_ns: u64) -> BodyFacts {
    BodyFacts { tenant: T, agent: A, person: None, class, at_ns }
}

fn routine(at_h: u64) -> BodyFacts {
    body(RetentionClass::Routine, at_h * HOUR_NS)
}

fn ages(hours: u64) -> RetentionAges {
    RetentionAges { routine: Age::seconds(hours * 3_600), ..RetentionAges::default() }
}

fn on(scope: LegalScope) -> LegalHoldFact {
    LegalHoldFact { tenant: T, scope, from_ns: 0, to_ns: 0 }
}

/// Whether it has expired, and whether it may be dropped.
fn fate(retention: &Retention, body: &BodyFacts, at_h: u64) -> (bool, bool) {
    (retention.is_expired(body, at_h * HOUR_NS), retention.may_drop(body, at_h * HOUR_NS))
}

#[test]
fn a_body_expires_at_its_age_and_may_be_dropped_an_hour_later() {
    let mut retention = Retention::default();
    retention.set(T, ages(10), 0);
    let body = routine(5);
    assert_eq!(fate(&retention, &body, 14), (false, false));
    assert!(!retention.is_expired(&body, 15 * HOUR_NS - 1));
    assert_eq!(fate(&retention, &body, 15), (true, false));
    assert!(!retention.may_drop(&body, 16 * HOUR_NS - 1));
    assert_eq!(fate(&retention, &body, 16), (true, true));
    let other = BodyFacts { class: RetentionClass::Notable, ..body };
    assert_eq!(fate(&retention, &other, 16), (false, false));
    assert_eq!(fate(&retention, &BodyFacts { tenant: P, ..body }, 16), (false, false), "another tenant keeps a year");
    retention.set(T, RetentionAges { notable: Age::FOREVER, ..ages(10) }, 16 * HOUR_NS);
    assert!(!retention.is_expired(&other, u64::MAX - 1));
}

#[test]
fn defaults_are_a_year_and_seven() {
    let (retention, day_ns) = (Retention::default(), 24 * HOUR_NS);
    for (class, days) in [(RetentionClass::Routine, 365), (RetentionClass::Notable, 7 * 366)] {
        let body = body(class, day_ns);
        assert!(!retention.is_expired(&body, (days + 1) * day_ns - 1));
        assert!(retention.is_expired(&body, (days + 1) * day_ns));
    }
}

#[test]
fn longer_ages_do_not_bring_back_what_has_expired_and_shorter_ones_end_it_at_once() {
    let mut retention = Retention::default();
    retention.set(T, ages(10), 0);
    retention.set(T, ages(100), 12 * HOUR_NS);
    assert_eq!(fate(&retention, &routine(2), 12), (true, false));
    assert_eq!(fate(&retention, &routine(2), 13), (true, true));
    assert_eq!(fate(&retention, &routine(3), 13), (false, false));
    retention.set(T, ages(1), 14 * HOUR_NS);
    assert_eq!(fate(&retention, &routine(3), 14), (true, true), "ten hours and the grace after the end of its new age");
    assert_eq!(fate(&retention, &routine(13), 14), (true, false));
}

#[test]
fn a_legal_hold_keeps_what_it_covers_until_it_is_lifted() {
    let mut retention = Retention::default();
    retention.set(T, ages(10), 0);
    let about = BodyFacts { person: Some(P), ..routine(5) };
    let in_time = LegalHoldFact { from_ns: 5 * HOUR_NS, to_ns: 6 * HOUR_NS, ..on(LegalScope::Agent(A)) };
    retention.hold(ControlRevision(3), in_time, 7 * HOUR_NS);
    retention.hold(ControlRevision(4), on(LegalScope::Person(P)), 7 * HOUR_NS);
    assert_eq!(fate(&retention, &routine(5), 100), (false, false));
    assert_eq!(fate(&retention, &routine(6), 100), (true, true), "behind the time of the hold");
    assert_eq!(fate(&retention, &BodyFacts { agent: P, ..routine(5) }, 100), (true, true), "another agent's");
    assert_eq!(fate(&retention, &BodyFacts { agent: P, ..about }, 100), (false, false));
    retention.lift(ControlRevision(3), 100 * HOUR_NS);
    assert_eq!(fate(&retention, &routine(5), 100), (true, false), "at once, and dropped no sooner than others");
    assert_eq!(fate(&retention, &routine(5), 101), (true, true));
    assert_eq!(fate(&retention, &about, 200), (false, false), "the other hold stands");
    retention.lift(ControlRevision(4), 200 * HOUR_NS);
    retention.lift(ControlRevision(4), 300 * HOUR_NS);
    assert_eq!(fate(&retention, &about, 201), (true, true), "lifted once");
}

#[test]
fn a_hold_that_comes_late_keeps_what_could_not_be_dropped_yet() {
    let mut retention = Retention::default();
    retention.set(T, ages(10), 0);
    let half_ns = 15 * HOUR_NS + HOUR_NS / 2;
    assert!(retention.is_expired(&routine(5), half_ns));
    retention.hold(ControlRevision(3), on(LegalScope::Tenant), half_ns);
    assert_eq!(fate(&retention, &routine(5), 50), (false, false));
    assert_eq!(fate(&retention, &routine(4), 50), (true, true), "it was gone");
}

#[test]
fn one_hold_takes_over_from_another() {
    let mut retention = Retention::default();
    retention.set(T, ages(10), 0);
    retention.hold(ControlRevision(3), on(LegalScope::Agent(A)), 7 * HOUR_NS);
    retention.hold(ControlRevision(4), on(LegalScope::Tenant), 100 * HOUR_NS);
    retention.lift(ControlRevision(3), 200 * HOUR_NS);
    assert_eq!(fate(&retention, &routine(5), 300), (false, false), "the second was set while the first kept it");
    assert_eq!(fate(&retention, &BodyFacts { agent: P, ..routine(5) }, 300), (true, true), "no hold kept this one");
}

/// What can happen, an hour at most apart.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Set(u64),
    Hold(u8),
    Lift(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..3_600u64).prop_map(|seconds| Step::Pass(seconds * SECOND_NS)),
        1 => (1..8u64).prop_map(Step::Set),
        1 => (0..3u8).prop_map(Step::Hold),
        1 => (0..8u8).prop_map(Step::Lift),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever comes: what may be dropped has expired and stays so, and what a standing hold kept is kept.
    #[test]
    fn what_may_be_dropped_never_comes_back_and_what_is_held_never_goes(steps in steps(), at_s in 0..40_000u64) {
        let of_person = BodyFacts { person: Some(P), ..body(RetentionClass::Routine, at_s * SECOND_NS) };
        let (mut retention, mut now_ns, mut revision) = (Retention::default(), 0, 0);
        let (mut was_dropped, mut keeper) = (false, None);
        for step in steps {
            match step {
                Step::Pass(ns) => now_ns += ns,
                Step::Set(hours) => retention.set(T, ages(hours), now_ns),
                Step::Hold(scope) => {
                    revision += 1;
                    let scope = [LegalScope::Tenant, LegalScope::Agent(A), LegalScope::Person(P)][usize::from(scope)];
                    let is_open = of_person.at_ns <= now_ns && !retention.is_expired(&of_person, now_ns);
                    retention.hold(ControlRevision(revision), on(scope), now_ns);
                    if is_open && keeper.is_none() {
                        keeper = Some(revision);
                    }
                }
                Step::Lift(id) => {
                    retention.lift(ControlRevision(u64::from(id)), now_ns);
                    keeper = keeper.filter(|kept| *kept != u64::from(id));
                }
            }
            if of_person.at_ns > now_ns {
                continue;
            }
            let (is_expired, may_drop) =
                (retention.is_expired(&of_person, now_ns), retention.may_drop(&of_person, now_ns));
            prop_assert!(is_expired || !may_drop);
            prop_assert!(!was_dropped || may_drop, "what could be dropped cannot any more");
            prop_assert!(keeper.is_none() || !is_expired, "a standing hold does not keep it");
            was_dropped |= may_drop;
        }
    }
}
