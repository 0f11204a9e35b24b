//! Divergences are right, and a cohort's own ups and downs are no drift.

use super::super::Sketch;
use super::super::benign::{START_NS, action};
use super::super::tests::{Dice, id};
use super::*;

/// Each decision a sample of its own.
fn whole(counts: [u64; BINS]) -> Tally {
    Tally { bins: counts.map(|count| count << FRACTION), samples: counts.iter().sum::<u64>() << FRACTION }
}

#[test]
fn divergences_are_those_of_the_formulas() {
    let cases = [
        ([100, 200, 300, 200, 100, 50, 20, 10, 5, 0], [90, 210, 280, 220, 110, 40, 30, 12, 3, 2]),
        ([1, 0, 0, 0, 0, 0, 0, 0, 0, 29], [900, 50, 0, 0, 0, 0, 0, 0, 0, 0]),
        ([5, 5, 5, 5, 5, 5, 5, 5, 5, 5], [500, 500, 500, 500, 500, 500, 500, 500, 500, 500]),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (window, baseline) in cases {
        let shares = |counts: [u64; BINS]| {
            let total = counts.iter().sum::<u64>() as f64 + 5.0;
            counts.map(|count| (count as f64 + 0.5) / total)
        };
        let pairs: Vec<(f64, f64)> = shares(window).into_iter().zip(shares(baseline)).collect();
        let psi: f64 = pairs.iter().map(|(p, q)| (p - q) * (p / q).ln()).sum();
        let kl: f64 = pairs.iter().map(|(p, q)| p * (p / q).ln()).sum();
        let js = |(p, q): &(f64, f64)| (p * (2.0 * p / (p + q)).ln() + q * (2.0 * q / (p + q)).ln()) / 2.0;
        let js: f64 = pairs.iter().map(js).sum::<f64>().max(0.0).sqrt();
        let found = Divergence::of(&whole(window), &whole(baseline));
        let ours = [found.psi, found.kl, distance(found.js)].map(|of| of as f64 / 65_536.0);
        for (ours, right) in ours.into_iter().zip([psi, kl, js]) {
            assert!((ours - right).abs() < 0.004 + right / 200.0, "{ours} {right}: {window:?} {baseline:?}");
        }
    }
}

#[test]
fn chance_is_allowed_for_and_levels_are_those_of_the_table() {
    let usual = whole([100, 200, 300, 200, 100, 50, 20, 10, 5, 5]);
    let thirty = [3, 3, 13, 5, 1, 4, 0, 1, 0, 0];
    let few = whole(thirty);
    let found = Divergence::of(&few, &usual);
    assert!(found.psi > ONE / 5 && found.level() == Level::Steady, "thirty by chance: {found:?}");
    let many = whole(thirty.map(|count| count * 100));
    let usual = whole([100, 200, 300, 200, 100, 50, 20, 10, 5, 5].map(|count| count * 100));
    assert!(Divergence::of(&many, &usual).level() > Level::Steady, "three thousand are no chance");
    let alike = Tally { samples: few.samples, ..many };
    assert_eq!(Divergence::of(&alike, &usual).level(), Level::Steady, "they are of a few agents in a few minutes");
    for (psi, kl, js, level) in [
        (190, 90, 95, Level::Steady),
        (210, 0, 0, Level::Notice),
        (0, 110, 0, Level::Notice),
        (0, 0, 105, Level::Notice),
        (310, 0, 0, Level::Warning),
        (0, 160, 0, Level::Warning),
        (0, 0, 185, Level::Warning),
        (510, 0, 0, Level::Critical),
        (0, 310, 0, Level::Critical),
        (0, 0, 255, Level::Critical),
    ] {
        let [psi, kl, js] = [psi, kl, js].map(|of: u64| of * ONE / 1_000);
        let found = Divergence { psi, kl, js: (js * js) >> 16, chance: 0 };
        assert_eq!(found.level(), level, "{found:?}");
    }
}

/// A cohort of five agents at a pace; `score` is what a minute's actions are scored.
fn run(minutes: u64, pace: u64, score: impl Fn(&mut Dice, u64) -> u64) -> Sketch {
    let (mut dice, mut sketch) = (Dice(11), Sketch::default());
    for at in 0..minutes * pace {
        let minute = at / pace;
        let now_ns = START_NS + at * CELL_NS / pace;
        let risk = score(&mut dice, minute) as u16;
        sketch.note(&Seen { risk, cohort: id(5), ..action(now_ns, dice.below(5), 1, 1) });
    }
    sketch
}

fn drifts(sketch: &Sketch) -> Vec<(u64, Level)> {
    let told = sketch.alarms(None).filter(|alarm| alarm.pattern == Pattern::RiskDrift);
    told.map(|alarm| ((alarm.first_ns - START_NS) / CELL_NS, alarm.drift.expect("of a drift").level)).collect()
}

#[test]
fn a_drift_is_one_alarm_with_its_cohort_and_becomes_usual() {
    let sketch = run(600, 30, |dice, minute| if minute < 60 { dice.below(300) } else { 250 + dice.below(300) });
    let told = drifts(&sketch);
    assert!(told.len() == 1 && (60..70).contains(&told[0].0) && told[0].1 == Level::Critical, "{told:?}");
    let alarm = sketch.alarms(None).next().expect("told");
    let drift = alarm.drift.expect("of a drift");
    assert!(drift.cohort == id(5) && drift.psi > 500 && drift.samples >= 30 && drift.baseline >= 100, "{drift:?}");
    assert!(alarm.agents <= 5 && !alarm.sample.is_empty() && alarm.severity >= 500, "{alarm:?}");
    assert_eq!(sketch.drifts(None).map(|(_, drift)| drift.level).collect::<Vec<_>>(), [Level::Steady]);
    assert!(alarm.last_ns < START_NS + 400 * CELL_NS, "it goes on for {}", (alarm.last_ns - START_NS) / CELL_NS);
}

#[test]
fn a_slow_cohort_has_longer_windows_and_a_new_one_none() {
    let (mut dice, mut sketch) = (Dice(2), Sketch::default());
    // One decision in five minutes: a cell is a quarter of an hour.
    for at in 0..400 {
        let risk = if at < 300 { dice.below(150) } else { 600 + dice.below(150) } as u16;
        sketch.note(&Seen { risk, cohort: id(5), ..action(START_NS + at * 5 * CELL_NS, at % 2, 1, 1) });
    }
    let told = drifts(&sketch);
    assert!(told.len() == 1 && (1_500..1_700).contains(&told[0].0), "{told:?}");
    let young = run(20, 30, |dice, minute| if minute < 10 { dice.below(100) } else { 900 });
    assert_eq!(drifts(&young), []);
    assert_eq!(young.drifts(None).map(|(_, drift)| drift.level).collect::<Vec<_>>(), [Level::Learning]);
}

#[test]
fn cohorts_are_bounded_and_a_silent_one_makes_room() {
    use nethical_protocol::limits::CORRELATE_COHORTS_MAX;
    let mut sketch = Sketch::default();
    let most = CORRELATE_COHORTS_MAX as u64;
    let mut note = |minute: u64, cohort| {
        sketch.note(&Seen { cohort: id(cohort), ..action(START_NS + minute * CELL_NS, 1, 1, 1) });
        sketch.drifts(None).map(|(_, drift)| drift.cohort).collect::<Vec<_>>()
    };
    (0..2 * most).for_each(|cohort| assert!(note(0, cohort).len() as u64 <= most));
    assert!(!note(1, 9_000).contains(&id(9_000)), "all are in use");
    let after = note(40, 9_000);
    assert!(after.contains(&id(9_000)) && after.len() as u64 == most);
}
