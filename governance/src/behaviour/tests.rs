//! Behaviour against models with unbounded state, on benign mixes, and on planted anomalies.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const START_NS: u64 = 1_767_225_600_000_000_000;

/// A stream of benign or planted actions, from dice.
pub(crate) struct Maker {
    dice: u64,
    pub(crate) now_ns: u64,
}

impl Maker {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, now_ns: START_NS }
    }

    fn below(&mut self, most: u64) -> u64 {
        // xorshift64*, Vigna 2016.
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        (self.dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % most
    }

    fn unit(&mut self) -> f64 {
        (self.below(1 << 30) as f64 + 0.5) / f64::from(1 << 30)
    }

    /// Exponentially distributed waiting, so that arrivals are Poisson's.
    fn wait(&mut self, mean_s: f64) {
        self.now_ns += (-self.unit().ln() * mean_s * 1e9) as u64;
    }

    /// Log-normal, as payloads are.
    fn size(&mut self, median: f64, spread: f64) -> u32 {
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        ((normal * spread).exp() * median).clamp(2.0, 65_536.0) as u32
    }
}

pub(super) fn id(name: u64) -> KeyedId {
    use sha2::{Digest, Sha256};
    let mut id = KeyedId::NONE;
    id.0.copy_from_slice(&Sha256::digest(name.to_le_bytes())[..16]);
    id
}

fn seen(kind: ActionKind, tool: u64, resource: u64, bytes: u32) -> Seen {
    let facts = ActionFactsV1 { bytes, ..ActionFactsV1::default() };
    Seen { kind, tool: id(tool), resource: id(1_000_000 + resource), session: id(7), facts }
}

/// Judges and learns, as an action that goes ahead does.
fn act(profile: &mut Behaviour, now_ns: u64, seen: &Seen) -> Vec<DetectionV1> {
    let found = profile.judge(now_ns, seen);
    profile.learn(now_ns, seen);
    found
}

/// One of four benign agents: single-purpose, a mix in sessions, a batch job, one that meets a new customer every time.
pub(crate) fn benign(maker: &mut Maker, sort: u64, number: u64) -> Seen {
    use ActionKind::{DataAccess, Message, ToolCall};
    match sort {
        0 => {
            maker.wait(1.0);
            seen(ToolCall, 1, 1, maker.size(120.0, 0.3))
        }
        1 => {
            maker.wait(if number.is_multiple_of(13) { 90.0 } else { 2.0 });
            let tool = [1, 1, 1, 2, 2, 3, 3, 4, 5, 6][maker.below(10) as usize];
            let kind = if tool <= 2 { Message } else { ToolCall };
            seen(kind, tool, maker.below(20), maker.size(300.0, 1.0))
        }
        2 => {
            let bytes = maker.size(2_000.0, 1.4);
            maker.now_ns += if number.is_multiple_of(200) { 3_600_000_000_000 } else { 40_000_000 };
            seen(DataAccess, 1 + number % 3, number % 3, bytes)
        }
        _ => {
            maker.wait(5.0);
            seen(ToolCall, 1 + maker.below(4), number, maker.size(200.0, 0.6))
        }
    }
}

#[test]
fn benign_agents_are_rarely_odd_and_never_wrong() {
    let mut all = BTreeMap::new();
    for sort in 0..4 {
        for seed in 1..=5 {
            let (mut maker, mut profile, mut odd) = (Maker::new(seed * 31 + sort), Behaviour::default(), 0);
            for number in 0..10_000 {
                let action = benign(&mut maker, sort, number);
                let found = act(&mut profile, maker.now_ns, &action);
                odd += usize::from(!found.is_empty());
                assert!(found.iter().all(|found| found.severity < VIOLATION_SEVERITY_MIN), "{found:?}");
                for one in found {
                    *all.entry((sort, name(one.detector))).or_insert(0) += 1;
                }
            }
            assert!(odd <= 100, "sort {sort}, seed {seed}: {odd} of 10,000 were odd");
        }
    }
    println!("findings in 50,000 actions of each sort of benign agent: {all:?}");
}

/// What is found in the first actions after 4,000 benign ones of a sort.
fn planted(sort: u64, actions: u64, mut plant: impl FnMut(&mut Maker, u64) -> Seen) -> Vec<u8> {
    let (mut maker, mut profile) = (Maker::new(17), Behaviour::default());
    for number in 0..4_000 {
        let action = benign(&mut maker, sort, number);
        act(&mut profile, maker.now_ns, &action);
    }
    let mut found: Vec<u8> = (0..actions)
        .flat_map(|number| {
            let action = plant(&mut maker, number);
            act(&mut profile, maker.now_ns, &action)
        })
        .map(|found| found.detector)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn each_planted_anomaly_is_found() {
    use ActionKind::ToolCall;
    let found = planted(0, 1, |maker, _| {
        maker.wait(1.0);
        seen(ToolCall, 99, 1, 120)
    });
    assert!(found.contains(&NOVELTY), "a tool that was never used: {found:?}");
    let found = planted(0, 400, |maker, _| {
        maker.now_ns += 10_000_000;
        seen(ToolCall, 1, 1, 120)
    });
    assert!(found.contains(&RATE), "a hundred times as fast: {found:?}");
    let found = planted(3, 30, |maker, number| {
        // 3, 7 and 20 actions in three windows of ten seconds.
        if [0, 3, 10].contains(&number) {
            maker.now_ns = (maker.now_ns + 1).next_multiple_of(10_000_000_000);
        }
        seen(ToolCall, 1 + number % 4, number + 100_000, 200)
    });
    assert!(found.contains(&ACCELERATION), "faster and faster: {found:?}");
    let found = planted(0, 1, |maker, _| {
        maker.wait(1.0);
        seen(ToolCall, 1, 1, 60_000)
    });
    assert!(found.contains(&SIZE), "60 KB from an agent of 120 B: {found:?}");
    let found = planted(3, 600, |maker, number| {
        maker.wait(5.0);
        let median = 200.0 * (number as f64 / 150.0).exp2();
        seen(ToolCall, 1 + maker.below(4), number + 100_000, maker.size(median, 0.6))
    });
    assert!(found.contains(&GROWTH) && !found.contains(&SIZE), "twice as large every 150 actions: {found:?}");
    let found = planted(1, 256, |maker, _| {
        maker.wait(2.0);
        seen(ToolCall, [5, 6, 6, 6][maker.below(4) as usize], maker.below(20), 300)
    });
    assert!(found.contains(&DRIFT), "another mix of tools: {found:?}");
}

#[test]
fn what_was_denied_teaches_nothing() {
    let (mut maker, mut profile) = (Maker::new(3), Behaviour::default());
    for number in 0..4_000 {
        let action = benign(&mut maker, 0, number);
        act(&mut profile, maker.now_ns, &action);
    }
    let strange = seen(ActionKind::ToolCall, 99, 1, 60_000);
    for _ in 0..1_000 {
        maker.wait(1.0);
        let numbers: Vec<u8> = profile.judge(maker.now_ns, &strange).iter().map(|found| found.detector).collect();
        assert!(numbers.contains(&NOVELTY) && numbers.contains(&SIZE), "{numbers:?}");
    }
}

fn carrying(session: u64, labels: u16, outside: bool) -> Seen {
    let facts = ActionFactsV1 { bytes: 10, labels, outside, entropy: None };
    Seen { session: id(session), facts, ..seen(ActionKind::DataAccess, 1, 1, 10) }
}

#[test]
fn what_is_read_under_a_label_must_not_go_outside_in_the_same_session() {
    let (mut profile, confidential) = (Behaviour::default(), label_bits("Confidential"));
    assert!(act(&mut profile, START_NS, &carrying(1, confidential, false)).is_empty());
    assert!(act(&mut profile, START_NS, &carrying(1, 0, false)).is_empty());
    assert!(act(&mut profile, START_NS, &carrying(2, 0, true)).is_empty(), "another session carries nothing");
    let found = act(&mut profile, START_NS, &carrying(1, 0, true));
    assert_eq!(found, [DetectionV1 { detector: EXFILTRATION, severity: EXFILTRATION_SEVERITY }]);
    assert_eq!(act(&mut profile, START_NS, &carrying(3, confidential, true)).len(), 1, "at once");
    act(&mut profile, START_NS, &carrying(4, label_bits("internal"), false));
    assert!(act(&mut profile, START_NS, &carrying(4, 0, true)).is_empty(), "internal is not sensitive");
    let tomorrow_ns = START_NS + 86_400_000_000_000;
    assert!(act(&mut profile, tomorrow_ns, &carrying(1, 0, true)).is_empty(), "a day later nothing is carried");
}

proptest! {
    /// Up to eight sessions the bounded flow says what an unbounded one says; beyond, it never says more.
    #[test]
    fn flow_is_that_of_unbounded_sessions(
        steps in prop::collection::vec((0..12u64, 0..4u16, any::<bool>(), any::<bool>(), 0..40_000u64), 1..200),
        sessions in 2..12u64,
    ) {
        let (mut flow, mut model, mut now_ns) = (Flow::default(), BTreeMap::<u64, (u64, u16)>::new(), START_NS);
        for (session, labels, outside, goes_ahead, wait_s) in steps {
            now_ns += wait_s / 10 * 1_000_000_000;
            let session = session % sessions;
            let action = carrying(session, labels, outside);
            let now_s = now_ns / 1_000_000_000;
            let carried = model.get(&session).filter(|(at_s, _)| now_s - at_s < 86_400).map_or(0, |held| held.1);
            let wrong = outside && (carried | labels) & SENSITIVE != 0;
            let found = flow.judge(now_ns, &action).is_some();
            prop_assert!(found == wrong || (sessions > 8 && wrong), "found {found}, wrong {wrong}");
            if goes_ahead {
                flow.learn(now_ns, &action);
                if labels != 0 {
                    model.insert(session, (now_s, carried | labels));
                }
            }
        }
    }

    /// The table of fingerprints knows what a list of the last 64 whole pairs knows; a fingerprint may be shared by chance.
    #[test]
    fn novelty_is_that_of_the_last_64_whole_pairs(
        steps in prop::collection::vec((0..10_000u64, any::<bool>()), 200..900),
        pairs in 1..200u64,
    ) {
        let (mut novelty, mut model, mut share, mut learned) = (Novelty::default(), VecDeque::new(), 0f64, 0);
        let mut differ = 0;
        for (pair, goes_ahead) in steps {
            // Mostly few pairs, now and then any.
            let pair = if pair < 9_950 { pair % pairs } else { pair };
            let action = seen(ActionKind::ToolCall, pair, pair / 3, 10);
            let is_new = learned >= 128 && share <= 1.0 / 512.0 && !model.contains(&pair);
            differ += i32::from(novelty.judge(&action).is_some() != is_new);
            if goes_ahead {
                novelty.learn(&action);
                learned += 1;
                let known = model.iter().position(|held| *held == pair);
                share += (f64::from(u8::from(known.is_none())) - share) / 64.0;
                known.map(|place| model.remove(place));
                model.push_front(pair);
                model.truncate(64);
            }
        }
        prop_assert!(differ <= 2, "{differ} differ");
    }

    /// Bursts are those of a model that keeps every window; within a twentieth of an octave of the bar either may be right.
    #[test]
    fn bursts_are_those_of_all_windows(counts in prop::collection::vec((0..60u64, 1..3u64), 30..80), burst in 0..800u64) {
        let (mut pace, mut model, mut now_ns) = (Pace::default(), Vec::<u64>::new(), START_NS);
        for (count, gap) in counts.into_iter().chain([(burst, 1)]) {
            now_ns += gap * 10_000_000_000;
            let usual = usual_of(&model);
            let mut told = 0;
            for at in 1..=count {
                let found = pace.judge(now_ns).is_some();
                pace.learn();
                let (mean, deviation) = usual;
                let above = (1.0 + at as f64).log2() - mean;
                let bar = (4.0 * deviation).max(2.0);
                let is_first = told == 0 || at / 2 >= told;
                let expected = model.len() >= 20 && at >= 16 && is_first && above >= bar;
                prop_assert!(found == expected || (above - bar).abs() < 0.05, "{at} of {count}: {above} against {bar}");
                if found {
                    told = at;
                }
            }
            if count > 0 {
                model.push(count);
            }
        }
    }
}

/// Mean and deviation over all windows, as [`stats::Line`] weighs and cuts them, in floats.
fn usual_of(windows: &[u64]) -> (f64, f64) {
    let (mut mean, mut variance) = (0f64, 0f64);
    for (number, count) in windows.iter().enumerate() {
        let value = (1.0 + *count as f64).log2();
        let most = mean + 3.0 * variance.sqrt().max(0.25) + 0.5;
        let delta = if number >= 32 { value.min(most) } else { value } - mean;
        let (weight, old) = ((number + 1).min(64) as f64, mean);
        mean += delta / weight;
        variance += (delta * (delta + old - mean) - variance) / weight;
    }
    (mean, variance.sqrt().max(0.25))
}

#[test]
fn numbers_and_names_belong_together() {
    for (place, text) in NAMES.iter().enumerate() {
        assert_eq!((number(text), name(NOVELTY + place as u8)), (Some(NOVELTY + place as u8), Some(*text)));
    }
    assert_eq!((name(1), name(255), number("email"), EXFILTRATION), (None, None, None, 134));
    assert!(crate::detect::NAMES.len() < usize::from(NOVELTY));
    assert_eq!(crate::detect::name(RATE), "rate");
}
