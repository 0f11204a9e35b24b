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
fn expect(day: &Day, pattern: Pattern, attackers: u64, attack: impl Fn(&mut Dice, u64) -> Vec<Seen> + Copy) {
    for seed in 1..=3 {
        let minutes = ATTACK_MINUTE + pattern.cells() + 1;
        let sketch = run(day, seed, minutes, attack);
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
    let (mut windows, mut alarms) = (0, 0);
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
            assert!(told.len() as u64 * 100 <= of_day.max(100), "{day:?} seed {seed}: {told:?} in {of_day} windows");
            (windows, alarms) = (windows + of_day, alarms + told.len() as u64);
        }
    }
    println!("{alarms} alarms in {windows} windows of ordinary traffic");
    assert!(alarms * 100 <= windows, "{alarms} in {windows}");
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
    assert_eq!(crowded.work(), 6_000 + most + CORRELATE_SLOTS);
}
