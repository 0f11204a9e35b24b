//! Draws a plan from a seed. Every seed turns some kinds of faults on and others off (swarm testing, Groce et al. 2012),
//! so that no kind always hides behind another one.
//!
//! It draws only what the cluster promises to survive: faults that cost a replica its memory all strike one machine.

use std::time::Duration;

use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha12Rng;

use crate::dice;
use crate::fault::{Entry, Fault};
use crate::plan::{CALM, FORMAT, FleetSpec, Net, Order, OrderKind, Plan, Runtime, SECONDS_MIN, WorkSpec};

mod dictionary;
mod erasures;
mod keys;
mod limits;
mod people;
mod places;
mod retention;
mod tiers;

pub use places::{BUGGIFIED, PLACES};

/// Before that the fleet founds its groups, and only the network is harmed.
const FOUNDED_BY_MS: u64 = 6_000;
/// Around a fault that costs a replica its memory no other machine dies: who knows what it had acknowledged must live.
const COSTLY_BEFORE_MS: u64 = 8_000;
const COSTLY_AFTER_MS: u64 = 14_000;
/// Faults in ten seconds, from the first to the calm: from, to.
const FAULTS_PER_10_S: (u64, u64) = (18, 32);
const REGIONS: [&str; 5] = ["us-east-1", "eu-west-1", "ap-south-1", "sa-east-1", "af-south-1"];

/// What a seed's plan may be bound to. The rest is drawn.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    /// Nodes.
    pub nodes: Option<usize>,
    /// Partition groups.
    pub partitions: Option<u32>,
    /// Replicas of each partition group.
    pub replicas: Option<usize>,
    /// Between heartbeats.
    pub heartbeat_ms: Option<u64>,
    /// Clients.
    pub clients: Option<u32>,
    /// Most actions in one call.
    pub batch_max: Option<u32>,
    /// A client's pause between two requests, milliseconds: from, to.
    pub pause_ms: Option<(u64, u64)>,
    /// Faults in ten seconds while there are any: from, to.
    pub faults_per_10_s: Option<(u64, u64)>,
    /// What carries calls.
    pub net: Net,
    /// What runs the nodes.
    pub runtime: Runtime,
}

/// The kinds of faults that a seed turns on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cut,
    Flap,
    Loss,
    Duplicate,
    Reorder,
    Gray,
    Bandwidth,
    Crash,
    Kill,
    Together,
    Region,
    Rolling,
    SlowDisk,
    StalledDisk,
    FailingDisk,
    FullDisk,
    Costly,
    ClockJump,
    ClockDrift,
    StopAt,
    VoteStop,
    WaitAt,
    Buggify,
}

// Faults of the object store are for scenarios so far. Where swarms make segments cold, their kinds belong here and in
// `one`; losing and changing objects is costly once something exists nowhere else, and then strikes no other copy either.

/// Each kind with how often it is drawn among those that are on.
const KINDS: [(Kind, u32); 23] = [
    (Kind::Cut, 10),
    (Kind::Flap, 4),
    (Kind::Loss, 6),
    (Kind::Duplicate, 4),
    (Kind::Reorder, 5),
    (Kind::Gray, 6),
    (Kind::Bandwidth, 3),
    (Kind::Crash, 5),
    (Kind::Kill, 3),
    (Kind::Together, 3),
    (Kind::Region, 1),
    (Kind::Rolling, 1),
    (Kind::SlowDisk, 9),
    (Kind::StalledDisk, 4),
    (Kind::FailingDisk, 2),
    (Kind::FullDisk, 2),
    (Kind::Costly, 2),
    (Kind::ClockJump, 4),
    (Kind::ClockDrift, 4),
    (Kind::StopAt, 6),
    (Kind::VoteStop, 4),
    (Kind::WaitAt, 12),
    (Kind::Buggify, 12),
];

/// The plan of a seed. `seconds` is at least [`SECONDS_MIN`].
pub fn draw(seed: u64, seconds: u64) -> Plan {
    draw_within(seed, seconds, &Shape::default())
}

/// The plan of a seed within a shape.
pub fn draw_within(seed: u64, seconds: u64, shape: &Shape) -> Plan {
    let mut dice = dice::fork(seed, "plan");
    let length_ms = seconds.max(SECONDS_MIN) * 1_000;
    let fleet = draw_fleet(&mut dice, shape);
    let mut work = draw_work(&mut dice, length_ms, shape);
    let mut knobs = limits::draw_knobs(&mut dice);
    let mut drawing =
        Drawing { dice, victim: 0, late: 0, length_ms, regions: fleet.regions.clone(), faults: Vec::new() };
    (drawing.victim, drawing.late) = (drawing.node(), drawing.node());
    drawing.draw(shape.faults_per_10_s.unwrap_or(FAULTS_PER_10_S));
    let faults = drawing.finish();
    let (net, runtime) = (shape.net, shape.runtime);
    people::draw(&mut work, &mut knobs, seed, length_ms);
    Plan { format: FORMAT.to_owned(), seed, net, runtime, length_ms, fleet, work, knobs, planted: None, faults }
}

fn draw_fleet(dice: &mut ChaCha12Rng, shape: &Shape) -> FleetSpec {
    let nodes = shape.nodes.unwrap_or_else(|| *[3, 3, 3, 4, 5, 5, 5, 7, 9].choose(dice).expect("not empty"));
    let regions = dice.random_range(1..=nodes.min(REGIONS.len()));
    let region_of = |node: usize| node % regions;
    let mut between = vec![vec![1; regions]; regions];
    for (from, row) in between.iter_mut().enumerate() {
        for (to, latency) in row.iter_mut().enumerate() {
            *latency = if from == to { 1 } else { dice.random_range(5..60) };
        }
    }
    let latency = |from: usize, to: usize| if from == to { 0 } else { between[region_of(from)][region_of(to)] };
    let heartbeat_ms = shape.heartbeat_ms.unwrap_or_else(|| *[200, 300, 500].choose(dice).expect("not empty"));
    FleetSpec {
        regions: (0..nodes).map(|node| REGIONS[region_of(node)].to_owned()).collect(),
        partitions: shape.partitions.unwrap_or_else(|| dice.random_range(2..=6)),
        replicas: shape.replicas.unwrap_or_else(|| if nodes >= 5 && dice.random_ratio(1, 5) { 5 } else { 3 }),
        heartbeat_ms,
        election_ms: (heartbeat_ms * 3, heartbeat_ms * 9 / 2),
        latency_ms: (0..nodes).map(|from| (0..nodes).map(|to| latency(from, to)).collect()).collect(),
        sync_ms: *[(1, 4), (1, 9), (2, 30)].choose(dice).expect("not empty"),
        wall_off_ms: (0..nodes).map(|_| dice.random_range(-60..=60)).collect(),
    }
}

fn draw_work(dice: &mut ChaCha12Rng, length_ms: u64, shape: &Shape) -> WorkSpec {
    let (spread_agents, pace) = (dice.random_range(4..24), (dice.random_range(1..4), dice.random_range(2..8)));
    let purse = length_ms / 1_000 * dice.random_range(4..40);
    let (first, last) = (FOUNDED_BY_MS + 1_000, length_ms - CALM.as_millis() as u64);
    let mut orders = Vec::new();
    for _ in 0..dice.random_range(2..=2 + length_ms / 15_000) {
        let at_ms = dice.random_range(first..last);
        let order = match dice.random_range(0..8) {
            0..=2 => {
                let agent = dice.random_range(0..spread_agents);
                OrderKind::Quarantine { agent, for_ms: dice.random_range(1_000..15_000) }
            }
            3 => OrderKind::Pace { rate: dice.random_range(1..=pace.0), burst: dice.random_range(1..=pace.1) },
            6..8 => OrderKind::Stop { for_ms: dice.random_range(1_000..6_000), lapses: dice.random_bool(0.5) },
            4 => OrderKind::Purse { cap: dice.random_range(1..=purse) },
            _ => OrderKind::of_policy(dice.random_bool(0.5), at_ms),
        };
        orders.push(Order { at_ms, order });
    }
    let agent = dice.random_range(0..spread_agents);
    orders.push(Order { at_ms: length_ms / 3, order: OrderKind::Quarantine { agent, for_ms: length_ms / 4 } });
    if dice.random_ratio(1, 3) {
        orders.push(Order::any_rules(dice, first..length_ms / 2));
    }
    orders.sort_by_key(|order| order.at_ms);
    let (a_second, window_s) = (dice.random_range(2..12), dice.random_range(4..20));
    let fleet = dice.random_bool(0.7).then_some((a_second * window_s, window_s));
    let (shared, house) = (limits::draw_shared(dice), limits::draw_house(dice));
    let (erased, turned) = (erasures::draw(&orders, spread_agents, length_ms), keys::draw(&orders, length_ms));
    let packed = dictionary::draw(&orders, length_ms);
    orders.extend([erased, turned, packed].concat());
    orders.sort_by_key(|order| order.at_ms);
    WorkSpec {
        clients: shape.clients.unwrap_or_else(|| dice.random_range(6..12)),
        pause_ms: shape.pause_ms.unwrap_or_else(|| (10, dice.random_range(60..300))),
        batch_max: shape.batch_max.unwrap_or_else(|| dice.random_range(1..8)),
        spread_agents,
        single_agents: dice.random_range(2..6),
        pace,
        purse,
        fleet,
        shared,
        house,
        again_permille: dice.random_range(20..150),
        suspicious_permille: dice.random_range(0..100),
        large_permille: dice.random_range(0..200),
        approvals: 0,
        orders,
    }
}

/// Faults while they are drawn.
struct Drawing {
    dice: ChaCha12Rng,
    /// The machine that alone may lose its memory.
    victim: u64,
    /// The machine whose clock alone is wrong: log time is as right as the walls of most machines.
    late: u64,
    length_ms: u64,
    regions: Vec<String>,
    faults: Vec<(u64, u64, Fault)>,
}

impl Drawing {
    fn draw(&mut self, (least, most): (u64, u64)) {
        let on: Vec<(Kind, u32)> = KINDS.iter().copied().filter(|_| self.dice.random_bool(0.6)).collect();
        let on = if on.is_empty() { KINDS.to_vec() } else { on };
        let last_ms = self.length_ms - CALM.as_millis() as u64;
        let per_10_s = self.dice.random_range(least..most);
        let count = (last_ms - FOUNDED_BY_MS) * per_10_s / 10_000;
        for _ in 0..count {
            let (kind, _) = *on.choose_weighted(&mut self.dice, |(_, weight)| *weight).expect("weights are positive");
            let at_ms = self.dice.random_range(FOUNDED_BY_MS..last_ms);
            self.one(kind, at_ms);
        }
    }

    /// Faults of machines are rarer than others: a fleet that is always dark shows nothing.
    fn one(&mut self, kind: Kind, at_ms: u64) {
        let node = self.node();
        let range = |dice: &mut ChaCha12Rng, from: u64, to: u64| dice.random_range(from..to);
        let dark = range(&mut self.dice, 30, 2_500);
        let span = range(&mut self.dice, 200, 4_000);
        let (for_ms, fault) = match kind {
            Kind::Cut => return self.cut(at_ms, span),
            Kind::Flap => {
                let (from, to) = self.sides();
                (span, Fault::Flap { from, to, period_ms: range(&mut self.dice, 50, 600) })
            }
            Kind::Loss => {
                let (from, to) = self.sides();
                (span, Fault::Loss { from, to, permille: self.dice.random_range(5..300) })
            }
            Kind::Duplicate => (span, Fault::Duplicate { permille: self.dice.random_range(10..300) }),
            Kind::Reorder => (span, Fault::Reorder { jitter_ms: range(&mut self.dice, 20, 400) }),
            Kind::Gray => {
                let (from, to) = self.sides();
                (span, Fault::Gray { from, to, delay_ms: range(&mut self.dice, 40, 1_500) })
            }
            Kind::Bandwidth => {
                let (from, to) = self.sides();
                (span, Fault::Bandwidth { from, to, bytes_per_s: range(&mut self.dice, 20_000, 500_000) })
            }
            Kind::Crash => (dark, Fault::Power { nodes: vec![node] }),
            Kind::Kill => (dark, Fault::Kill { node }),
            Kind::Together => (dark / 2 + 30, Fault::Power { nodes: self.most() }),
            Kind::Region => (dark, Fault::Power { nodes: self.region() }),
            Kind::Rolling => return self.rolling(at_ms),
            Kind::SlowDisk => (span, Fault::SlowDisk { node, delay_ms: range(&mut self.dice, 5, 200) }),
            Kind::StalledDisk => (span / 2, Fault::StalledDisk { node }),
            Kind::FailingDisk => (span / 4 + 1, Fault::FailingDisk { node }),
            Kind::FullDisk => (span / 4 + 1, Fault::FullDisk { node }),
            Kind::Costly => (dark, self.costly()),
            Kind::ClockJump => (span * 2, Fault::ClockJump { node: self.late, by_ms: self.jump() }),
            Kind::ClockDrift => {
                (span * 3, Fault::ClockDrift { node: self.late, ppm: self.dice.random_range(-500..=500) })
            }
            Kind::StopAt => {
                let place = (*PLACES.choose(&mut self.dice).expect("not empty")).to_owned();
                let nth = self.dice.random_range(1..6);
                (span, Fault::StopAt { node: self.node_or_any(), place, nth, dark_ms: dark })
            }
            Kind::VoteStop => return self.vote_stop(at_ms, span),
            Kind::WaitAt => {
                let place = (*PLACES.choose(&mut self.dice).expect("not empty")).to_owned();
                let (permille, wait_ms) = (self.dice.random_range(20..500), range(&mut self.dice, 1, 60));
                (span, Fault::WaitAt { node: self.node_or_any(), place, permille, wait_ms })
            }
            Kind::Buggify => {
                let name = (*BUGGIFIED.choose(&mut self.dice).expect("not empty")).to_owned();
                (span, Fault::Buggify { name, permille: self.dice.random_range(50..900) })
            }
        };
        self.push(at_ms, for_ms, fault);
    }

    fn push(&mut self, at_ms: u64, for_ms: u64, fault: Fault) {
        self.faults.push((at_ms, for_ms, fault));
    }

    fn node(&mut self) -> u64 {
        self.dice.random_range(1..=self.regions.len() as u64)
    }

    fn node_or_any(&mut self) -> u64 {
        if self.dice.random_bool(0.5) { 0 } else { self.node() }
    }

    /// Some nodes against some others, in one direction.
    fn sides(&mut self) -> (Vec<u64>, Vec<u64>) {
        let mut nodes: Vec<u64> = (1..=self.regions.len() as u64).collect();
        nodes.shuffle(&mut self.dice);
        let from = self.dice.random_range(1..nodes.len());
        let to = self.dice.random_range(1..=nodes.len() - from);
        (nodes[..from].to_vec(), nodes[from..from + to].to_vec())
    }

    /// One way, both ways, or a node that hears nobody or is heard by nobody.
    fn cut(&mut self, at_ms: u64, span: u64) {
        let (from, to) = self.sides();
        let alone = from[0];
        match self.dice.random_range(0..4) {
            0 => self.push(at_ms, span, Fault::Cut { from, to }),
            1 => {
                self.push(at_ms, span, Fault::Cut { from: from.clone(), to: to.clone() });
                self.push(at_ms, span, Fault::Cut { from: to, to: from });
            }
            2 => self.push(at_ms, span, Fault::Cut { from: vec![alone], to: self.others(alone) }),
            _ => self.push(at_ms, span, Fault::Cut { from: self.others(alone), to: vec![alone] }),
        }
    }

    fn others(&self, node: u64) -> Vec<u64> {
        (1..=self.regions.len() as u64).filter(|other| *other != node).collect()
    }

    /// A majority or all of the machines.
    fn most(&mut self) -> Vec<u64> {
        let mut nodes: Vec<u64> = (1..=self.regions.len() as u64).collect();
        nodes.shuffle(&mut self.dice);
        let majority = nodes.len() / 2 + 1;
        nodes.truncate(self.dice.random_range(majority..=nodes.len()));
        nodes.sort_unstable();
        nodes
    }

    fn region(&mut self) -> Vec<u64> {
        let region = self.regions.choose(&mut self.dice).expect("a fleet has regions").clone();
        (1..).zip(&self.regions).filter(|(_, of)| **of == region).map(|(node, _)| node).collect()
    }

    fn rolling(&mut self, at_ms: u64) {
        let pause = self.dice.random_range(600..2_500);
        for node in 1..=self.regions.len() as u64 {
            self.push(at_ms + (node - 1) * pause, 300, Fault::Kill { node });
        }
    }

    /// A node loses power as it votes, others slow their disks, and it is back before the election is over.
    fn vote_stop(&mut self, at_ms: u64, span: u64) {
        let place = if self.dice.random_bool(0.7) { "vote.after" } else { "vote.before" };
        let (node, nth) = (self.node_or_any(), self.dice.random_range(1..4));
        let dark_ms = self.dice.random_range(5..120);
        self.push(at_ms, span, Fault::StopAt { node, place: place.to_owned(), nth, dark_ms });
        // Something has to make them vote.
        let alone = self.node();
        self.push(at_ms, span.min(1_500), Fault::Cut { from: vec![alone], to: self.others(alone) });
    }

    fn costly(&mut self) -> Fault {
        let node = self.victim;
        let file = (*crate::fault::FILES.choose(&mut self.dice).expect("not empty")).to_owned();
        let copy = (*crate::fault::COPIES.choose(&mut self.dice).expect("not empty")).to_owned();
        match self.dice.random_range(0..6) {
            0 => Fault::Wipe { node },
            1 => Fault::Misdirected { node, file },
            2 => Fault::Vanished { node, file: copy },
            3 => Fault::Truncated { node, file: copy },
            _ => Fault::Rot { node, file },
        }
    }

    fn jump(&mut self) -> i64 {
        let far = *[200, 2_000, 60_000, 3_600_000].choose(&mut self.dice).expect("not empty");
        let by_ms = self.dice.random_range(1..far);
        if self.dice.random_bool(0.5) { by_ms } else { -by_ms }
    }

    /// Ends everything before the calm, keeps machines alive around what costs one its memory, and numbers the faults.
    fn finish(mut self) -> Vec<Entry> {
        let last_ms = self.length_ms - Duration::from_millis(2_000).as_millis() as u64;
        let is_costly = |fault: &Fault| {
            matches!(
                fault,
                Fault::Wipe { .. }
                    | Fault::Rot { .. }
                    | Fault::Misdirected { .. }
                    | Fault::Vanished { .. }
                    | Fault::Truncated { .. }
                    | Fault::LyingDisk { .. }
            )
        };
        let costly: Vec<u64> =
            self.faults.iter().filter(|(_, _, fault)| is_costly(fault)).map(|(at_ms, ..)| *at_ms).collect();
        let near = |at_ms: u64| {
            costly
                .iter()
                .any(|costly| (costly.saturating_sub(COSTLY_BEFORE_MS)..costly + COSTLY_AFTER_MS).contains(&at_ms))
        };
        let victim = self.victim;
        let spares = |fault: &Fault| match fault {
            Fault::Power { nodes } => nodes == &[victim],
            Fault::Kill { node } | Fault::FailingDisk { node } | Fault::FullDisk { node } => *node == victim,
            Fault::StopAt { node, .. } => *node == victim,
            _ => true,
        };
        self.faults.retain(|(at_ms, _, fault)| is_costly(fault) || spares(fault) || !near(*at_ms));
        self.faults.sort_by_key(|(at_ms, ..)| *at_ms);
        let mut entries = Vec::with_capacity(self.faults.len());
        for (id, (at_ms, for_ms, fault)) in (1..).zip(self.faults) {
            let mut entry = Entry { id, at_ms, for_ms: for_ms.max(1), fault };
            let over = entry.until_ms().saturating_sub(last_ms);
            entry.for_ms = entry.for_ms.saturating_sub(over).max(1);
            if entry.until_ms() <= last_ms {
                entries.push(entry);
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_plan_and_its_faults_are_over_before_the_calm() {
        let (mut faults, mut seconds) = (0, 0);
        for seed in 0..300 {
            let plan = draw(seed, 60);
            assert_eq!(plan, draw(seed, 60));
            assert!(plan.healed_at() + Duration::from_secs(2) <= plan.length(), "seed {seed}");
            assert!(!plan.is_beyond_contract());
            (faults, seconds) = (faults + plan.faults.len(), seconds + 60);
        }
        assert!(faults >= 3 * seconds / 2, "{faults} faults in {seconds} s are too few to find anything");
    }

    #[test]
    fn memory_is_lost_on_one_machine_at_most() {
        for seed in 0..300 {
            let plan = draw(seed, 60);
            let costly = plan.faults.iter().filter_map(|entry| match entry.fault {
                Fault::Wipe { node }
                | Fault::Rot { node, .. }
                | Fault::Misdirected { node, .. }
                | Fault::Vanished { node, .. }
                | Fault::Truncated { node, .. } => Some(node),
                _ => None,
            });
            let victims: std::collections::BTreeSet<u64> = costly.collect();
            assert!(victims.len() <= 1, "seed {seed}: {victims:?}");
        }
    }
}
