//! Ordinary traffic raises (almost) no alarm, every planted attack is found within its window, and work is counted.

use std::collections::BTreeSet;

use super::benign::{Day, START_NS, action};
use super::*;

/// SplitMix64.
pub(super) struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The keyed id of a number.
pub(super) fn id(number: u64) -> KeyedId {
    let halves = [mix(number ^ 0x5555), mix(number ^ 0xaaaa_0000)];
    KeyedId(std::array::from_fn(|at| halves[at / 8].to_le_bytes()[at % 8]))
}

/// Runs so many minutes of a day, with what an attack adds to each; gives the alarms.
fn run(day: &Day, seed: u64, minutes: u64, attack: impl Fn(&mut Dice, u64) -> Vec<Seen>) -> Sketch {
    let (mut dice, mut sketch) = (Dice(seed), Sketch::default());
    for minute in 0..minutes {
        let mut seen = day.minute(&mut dice, minute);
        seen.extend(attack(&mut dice, minute));
        seen.sort_by_key(|seen| seen.now_ns);
        seen.iter().for_each(|seen| drop(sketch.note(seen)));
    }
    sketch
}

fn nothing(_: &mut Dice, _: u64) -> Vec<Seen> {
    Vec::new()
}

/// The minute in which planted attacks begin, away from bursts and changes of shift.
const ATTACK_MINUTE: u64 = 70;

fn at(minute: u64, second: u64, dice: &mut Dice) -> u64 {
    START_NS + minute * CELL_NS + second * 1_000_000_000 + dice.below(1_000) * 1_000_000
}

/// An attack is told by its own pattern before its window is over, and names mostly attackers.
fn expect(day: &Day, pattern: Pattern, attackers: u64, attack: impl Fn(&mut Dice, u64) -> Vec<Seen>) {
    for seed in 1..=3 {
        let minutes = ATTACK_MINUTE + pattern.cells() + 1;
        let sketch = run(day, seed, minutes, &attack);
        let begin = START_NS + ATTACK_MINUTE * CELL_NS;
        let after = |alarm: &&Alarm| alarm.pattern == pattern && alarm.first_ns >= begin;
        let alarm = sketch.alarms(None).find(after);
        let alarm = alarm.unwrap_or_else(|| panic!("{pattern:?} of {attackers} among {day:?}, seed {seed}, not found"));
        let within_s = (alarm.first_ns - begin) / 1_000_000_000;
        assert!(within_s <= u64::from(pattern.window_s()), "{within_s} s: {alarm:?}");
        let known: BTreeSet<KeyedId> = (0..attackers).map(|attacker| id(900_000 + attacker)).collect();
        let named = alarm.sample.iter().filter(|agent| known.contains(agent)).count();
        assert!(named * 2 > alarm.sample.len() && alarm.sample.len() <= ALARM_AGENTS_MAX, "{alarm:?}");
        assert!(alarm.agents >= alarm.needed && alarm.needed > alarm.usual && alarm.severity >= 500, "{alarm:?}");
    }
}

#[test]
fn ordinary_traffic_alarms_in_no_more_than_a_hundredth_of_windows() {
    let (mut windows, mut alarms, mut days, mut by_pattern) = (0, 0, 0, BTreeMap::new());
    for (agents, minutes, seeds) in [(2, 600, 6), (5, 600, 6), (20, 600, 4), (100, 480, 3), (1_000, 260, 1)] {
        let plain = Day::of(agents);
        let kinds = [
            plain,
            Day { violations: 1, ..plain },
            Day { violations: 60, shares: false, ..plain },
            Day { unique: true, ..plain },
            Day { jobs: true, pace: 2, ..plain },
        ];
        for (day, seed) in kinds.iter().flat_map(|day| (0..seeds).map(move |seed| (day, seed + 100))) {
            let sketch = run(day, seed, minutes, nothing);
            let of_day: u64 = Pattern::ALL.iter().map(|pattern| (minutes - 15) / pattern.cells()).sum();
            let told: Vec<_> = sketch.alarms(None).map(|alarm| (alarm.pattern, alarm.agents, alarm.usual)).collect();
            told.iter().for_each(|(pattern, ..)| *by_pattern.entry(*pattern).or_insert(0) += 1);
            assert!(told.len() as u64 * 100 <= of_day.max(100), "{day:?} seed {seed}: {told:?} in {of_day} windows");
            (windows, alarms) = (windows + of_day, alarms + told.len() as u64);
            days += minutes - 15;
        }
    }
    println!("{alarms} alarms in {windows} windows of ordinary traffic: {by_pattern:?}");
    assert!(alarms * 100 <= windows, "{alarms} in {windows}");
    let is_rare = |(pattern, told): (&Pattern, &u64)| told * 100 <= days / pattern.cells();
    assert!(by_pattern.iter().all(is_rare), "{by_pattern:?} in {days} minutes");
}

#[test]
fn the_same_refused_deed_under_many_new_ids_is_found() {
    for agents in [2, 20, 100, 1_000] {
        expect(&Day::of(agents), Pattern::MultiIdProbes, 20, |dice, minute| {
            let attackers = if minute == ATTACK_MINUTE { 0..10 } else { 10..20 };
            let probe = |attacker: u64| Seen {
                violates: true,
                ..action(at(minute, 5 * (attacker % 10), dice), 900_000 + attacker, 3, 10_001)
            };
            if minute / 2 * 2 != ATTACK_MINUTE { Vec::new() } else { attackers.map(probe).collect() }
        });
    }
}

#[test]
fn a_new_deed_under_many_new_ids_is_found_though_nobody_refuses_it() {
    for agents in [2, 20, 100, 1_000] {
        expect(&Day::of(agents), Pattern::MultiIdProbes, 30, |dice, minute| {
            let probe = |attacker| action(at(minute, attacker, dice), 900_000 + attacker, 77, 77_777);
            if minute != ATTACK_MINUTE { Vec::new() } else { (0..30).map(probe).collect() }
        });
    }
}

#[test]
fn many_agents_that_violate_at_once_are_found() {
    for (agents, attackers) in [(2, 12), (20, 40), (100, 200)] {
        expect(&Day::of(agents), Pattern::CoordinatedAttack, attackers, |dice, minute| {
            let strike = |attacker| {
                let resource = 10_000 + dice.below(40);
                Seen { violates: true, ..action(at(minute, 3, dice), 900_000 + attacker, 2, resource) }
            };
            if minute != ATTACK_MINUTE { Vec::new() } else { (0..attackers).map(strike).collect() }
        });
    }
}

#[test]
fn many_agents_that_run_into_refusals_everywhere_are_found() {
    for agents in [2, 20, 100, 1_000] {
        expect(&Day::of(agents), Pattern::DistributedReconnaissance, 20, |dice, minute| {
            let probe = |attacker| {
                let resource = 60_000 + dice.below(2_000);
                Seen { violates: true, ..action(at(minute, attacker, dice), 900_000 + attacker, 1, resource) }
            };
            if minute < ATTACK_MINUTE { Vec::new() } else { (0..20).map(probe).collect() }
        });
    }
}

#[test]
fn a_minority_in_lockstep_is_found() {
    for agents in [30, 100, 1_000] {
        expect(&Day::of(agents), Pattern::AnomalousCluster, 12, |dice, minute| {
            if minute < ATTACK_MINUTE {
                return Vec::new();
            }
            let script: Vec<(u64, u64)> = (0..8).map(|_| (dice.below(6), 10_000 + dice.below(40))).collect();
            let steps = script.iter().enumerate();
            let act = |(step, (tool, resource)): (usize, &(u64, u64))| {
                let at: Vec<u64> = (0..12).map(|_| at(minute, 3 + 7 * step as u64, dice)).collect();
                let one = |(attacker, at): (u64, u64)| action(at, 900_000 + attacker, *tool, *resource);
                (0u64..12).zip(at).map(one).collect::<Vec<_>>()
            };
            steps.flat_map(act).collect()
        });
    }
}

/// Agents that send ordinary text until the attack, and something else in so many of ten payloads from then on.
fn switchers(agents: u64, tenths: u64, other: impl Fn(u64) -> u64) -> impl Fn(&mut Dice, u64) -> Vec<Seen> {
    move |dice, minute| {
        let each = (0..agents).flat_map(|agent| (0..3).map(move |turn| (900_000 + agent, turn)));
        let send = |(agent, turn): (u64, u64)| {
            let is_switched = minute >= ATTACK_MINUTE && dice.below(10) < tenths;
            let entropy = if is_switched { other(dice.next()) } else { 125 + agent % 20 + dice.below(8) };
            let seen = action(at(minute, 15 * turn + agent % 15, dice), agent, turn % 2, 10_001);
            Seen { entropy: Some(entropy as u8), ..seen }
        };
        each.map(send).collect()
    }
}

#[test]
fn many_agents_that_switch_to_encodings_are_found() {
    for agents in [2, 20, 100, 1_000] {
        let attackers = if agents == 1_000 { 40 } else { 12 };
        let attack = switchers(attackers, 10, |luck| 185 + luck % 8);
        expect(&Day::of(agents), Pattern::PayloadEntropyShift, attackers, &attack);
        let attack = switchers(attackers, 7, |luck| 185 + luck % 8);
        expect(&Day::of(agents), Pattern::PayloadEntropyShift, attackers, &attack);
    }
}

#[test]
fn many_agents_that_switch_to_filler_are_found() {
    for agents in [2, 20, 100, 1_000] {
        let attackers = if agents == 1_000 { 40 } else { 12 };
        let attack = switchers(attackers, 10, |luck| 20 + luck % 30);
        expect(&Day::of(agents), Pattern::PayloadEntropyShift, attackers, &attack);
    }
}

#[test]
fn four_agents_or_agents_that_always_did_are_no_shift() {
    let shifts = |sketch: &Sketch| sketch.alarms(None).filter(|a| a.pattern == Pattern::PayloadEntropyShift).count();
    let four = switchers(4, 10, |luck| 185 + luck % 8);
    assert_eq!(shifts(&run(&Day::of(2), 1, ATTACK_MINUTE + 15, four)), 0);
    let always = |dice: &mut Dice, minute| {
        let encoded = switchers(20, 10, |luck| 185 + luck % 8)(dice, ATTACK_MINUTE);
        encoded
            .into_iter()
            .map(move |seen| Seen { now_ns: seen.now_ns + minute * CELL_NS - ATTACK_MINUTE * CELL_NS, ..seen })
    };
    assert_eq!(shifts(&run(&Day::of(2), 1, ATTACK_MINUTE + 15, |dice, minute| always(dice, minute).collect())), 0);
}

/// In small cohorts a window is longer; those of the two and the five are one cohort, so that they last over a change of shift.
#[test]
fn a_cohort_that_is_scored_otherwise_is_found_and_the_others_are_not() {
    let attacked = id(1 << 42 | 1);
    for (agents, begin, within) in [(2, 200, 20), (5, 200, 10), (20, 70, 10), (100, 70, 10), (1_000, 70, 10)] {
        for seed in 1..=3 {
            let (mut dice, mut sketch) = (Dice(seed), Sketch::default());
            for minute in 0..begin + within {
                for seen in Day::of(agents).minute(&mut dice, minute) {
                    let cohort = if agents < 20 { attacked } else { seen.cohort };
                    let is_riskier = minute >= begin && cohort == attacked && dice.below(10) < 6;
                    sketch.note(&Seen { cohort, risk: seen.risk + if is_riskier { 300 } else { 0 }, ..seen });
                }
            }
            sketch.newest_ns = START_NS + (begin + within) * CELL_NS;
            sketch.catch_up();
            let told: Vec<_> = sketch.alarms(None).filter_map(|alarm| Some((alarm.first_ns, alarm.drift?))).collect();
            let is_right = |(at, drift): &(u64, Drift)| drift.cohort == attacked && *at >= START_NS + begin * CELL_NS;
            let all: Vec<_> = sketch.drifts(None).collect();
            assert!(told.len() == 1 && told.iter().all(is_right), "{agents} agents, seed {seed}: {told:?}, {all:?}");
        }
    }
}

#[test]
fn an_attack_is_one_alarm_that_grows_and_the_next_one_another() {
    let attack = |dice: &mut Dice, minute| {
        let strike =
            |attacker: u64| Seen { violates: true, ..action(at(minute, 3, dice), 900_000 + attacker, 2, 10_001) };
        if ![60, 61, 80].contains(&minute) { Vec::new() } else { (0..60).map(strike).collect() }
    };
    let sketch = run(&Day::of(20), 4, 85, attack);
    let alarms: Vec<_> = sketch.alarms(None).filter(|alarm| alarm.pattern == Pattern::CoordinatedAttack).collect();
    assert_eq!(alarms.len(), 2, "{alarms:?}");
    assert!(alarms[0].agents >= 60 && alarms[0].first_ns + 50_000_000_000 < alarms[0].last_ns, "{alarms:?}");
}

#[test]
fn work_does_not_grow_with_agents() {
    let minutes = 120;
    for agents in [20, 100, 1_000] {
        let sketch = run(&Day::of(agents), 9, minutes, nothing);
        let actions: u64 = (0..minutes).map(|minute| agents * if minute % 47 > 43 { 30 } else { 6 }).sum();
        // An agent is visited once for each action and once for each minute until it has been silent for fifteen.
        assert!(sketch.work() <= actions * 2 + minutes * CORRELATE_SLOTS, "{agents}: {} for {actions}", sketch.work());
    }
}

const CORRELATE_SLOTS: u64 = nethical_protocol::limits::CORRELATE_DEEDS_MAX as u64;

#[test]
fn which_partition_comes_first_matters_little() {
    let day = Day::of(50);
    let attack = |dice: &mut Dice, minute| {
        let strike =
            |attacker: u64| Seen { violates: true, ..action(at(minute, 3, dice), 900_000 + attacker, 2, 10_001) };
        if minute != ATTACK_MINUTE { Vec::new() } else { (0..90).map(strike).collect() }
    };
    let patterns = |partitions: u64| -> BTreeSet<Pattern> {
        let (mut dice, mut sketch) = (Dice(8), Sketch::default());
        for minute in 0..ATTACK_MINUTE + 3 {
            let mut seen = day.minute(&mut dice, minute);
            seen.extend(attack(&mut dice, minute));
            // Each partition's leaves of a minute come together, in order of time.
            seen.sort_by_key(|seen| (fold(seen.agent) % partitions, seen.now_ns));
            seen.iter().for_each(|seen| drop(sketch.note(seen)));
        }
        sketch.alarms(None).map(|alarm| alarm.pattern).collect()
    };
    assert!(patterns(1).contains(&Pattern::CoordinatedAttack));
    assert_eq!(patterns(1), patterns(12));
}

#[test]
fn any_order_of_time_any_number_of_tenants_and_agents_is_bounded() {
    let (mut dice, mut sketch) = (Dice(3), Sketch::default());
    for turn in 0..20_000u64 {
        let now_ns = if turn % 97 == 0 { dice.next() } else { START_NS + dice.below(3_600) * 1_000_000_000 };
        let tenant = id(dice.below(100));
        let (agent, violates) = (dice.next(), dice.below(2) == 0);
        let resource = dice.below(9);
        sketch.note(&Seen { tenant, violates, ..action(now_ns, agent, 1, resource) });
    }
    sketch.catch_up();
    assert!(sketch.tenants.len() <= CORRELATE_TENANTS_MAX && sketch.alarms.len() <= ALARMS_MAX);
    let mut crowded = Sketch::default();
    (0..6_000).for_each(|agent| drop(crowded.note(&action(START_NS, agent, 1, 1))));
    let most = nethical_protocol::limits::CORRELATE_AGENTS_MAX as u64;
    crowded.newest_ns += CELL_NS;
    crowded.catch_up();
    assert_eq!(crowded.work(), 6_000 + most + CORRELATE_SLOTS + 3, "three cohorts");
}
