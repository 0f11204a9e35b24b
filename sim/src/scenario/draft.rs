//! The calm plan that every scenario starts from, and the few words to add faults, orders and constants to it.
//!
//! All latencies are fixed, nothing fails, and constants are small enough that half a minute reaches snapshots, closed
//! audit segments and recycled log segments. It draws nothing but a small shift of all faults.

use std::collections::BTreeMap;

use rand::RngExt;

use nethical_protocol::ids::{GroupId, NodeId};
use nethical_protocol::ring::{RingNode, place_group};

use crate::dice;
use crate::fault::{Entry, Fault};
use crate::plan::{FORMAT, FleetSpec, HouseSpec, Net, Order, OrderKind, Plan, Runtime, SharedSpec, WorkSpec};

/// One-way latency within a region and between two, milliseconds.
const NEAR_MS: u64 = 1;
const FAR_MS: u64 = 12;
/// All faults of a seed are moved by up to so much, so that seeds meet different moments.
const SHIFT_MS: u64 = 300;
const REGIONS: [&str; 3] = ["us-east-1", "eu-west-1", "ap-south-1"];

/// A plan that is being made.
pub struct Draft {
    plan: Plan,
    shift_ms: u64,
}

impl Draft {
    /// Three nodes in three regions: every group is on every node.
    pub fn three(seed: u64) -> Self {
        Self::of(seed, 3, 3)
    }

    /// Five nodes in three regions, groups of three.
    pub fn five(seed: u64) -> Self {
        Self::of(seed, 5, 4)
    }

    fn of(seed: u64, nodes: usize, partitions: u32) -> Self {
        let region = |node: usize| node % REGIONS.len();
        let latency = |from: usize, to: usize| match (from == to, region(from) == region(to)) {
            (true, _) => 0,
            (_, true) => NEAR_MS,
            _ => FAR_MS,
        };
        let fleet = FleetSpec {
            regions: (0..nodes).map(|node| REGIONS[region(node)].to_owned()).collect(),
            partitions,
            replicas: 3,
            heartbeat_ms: 300,
            election_ms: (900, 1_350),
            latency_ms: (0..nodes).map(|from| (0..nodes).map(|to| latency(from, to)).collect()).collect(),
            sync_ms: (1, 4),
            wall_off_ms: (0..nodes as i64).map(|node| node * 8 - 10).collect(),
        };
        let (net, runtime, faults) = (Net::Message, Runtime::One, Vec::new());
        let plan = Plan {
            format: FORMAT.to_owned(),
            seed,
            net,
            runtime,
            length_ms: 34_000,
            fleet,
            work: work(),
            knobs: knobs(),
            planted: None,
            faults,
        };
        Self { plan, shift_ms: dice::fork(seed, "scenario").random_range(0..SHIFT_MS) }
    }

    /// The run's length before convergence is awaited, seconds.
    pub fn seconds(mut self, seconds: u64) -> Self {
        self.plan.length_ms = seconds * 1_000;
        self
    }

    /// Changes the fleet.
    pub fn fleet(mut self, change: impl FnOnce(&mut FleetSpec)) -> Self {
        change(&mut self.plan.fleet);
        self
    }

    /// Between two regions, one way, milliseconds, with timeouts that fit.
    pub fn afar(self, latency_ms: u64) -> Self {
        self.fleet(|fleet| {
            fleet.latency_ms.iter_mut().flatten().filter(|ms| **ms == FAR_MS).for_each(|ms| *ms = latency_ms);
            (fleet.heartbeat_ms, fleet.election_ms) = (500, (1_500, 2_250));
        })
    }

    /// Changes the work.
    pub fn work(mut self, change: impl FnOnce(&mut WorkSpec)) -> Self {
        change(&mut self.plan.work);
        self
    }

    /// Replaces a constant of the code.
    pub fn knob(mut self, name: &str, value: u64) -> Self {
        self.plan.knobs.insert(name.to_owned(), value);
        self
    }

    /// An administrator does something.
    pub fn order(mut self, at_ms: u64, order: OrderKind) -> Self {
        self.plan.work.orders.push(Order { at_ms, order });
        self
    }

    /// A fault begins at a time and lasts for another one.
    pub fn at(mut self, at_ms: u64, for_ms: u64, fault: Fault) -> Self {
        let id = self.plan.faults.len() as u32 + 1;
        self.plan.faults.push(Entry { id, at_ms: at_ms + self.shift_ms, for_ms, fault });
        self
    }

    /// One fault after another: `make` is given 0, 1, 2 … and each begins `every_ms` after the one before.
    pub fn each(self, times: u64, at_ms: u64, every_ms: u64, for_ms: u64, make: impl Fn(u64) -> Fault) -> Self {
        (0..times).fold(self, |draft, time| draft.at(at_ms + time * every_ms, for_ms, make(time)))
    }

    /// Nothing passes between these nodes and those, in either direction.
    pub fn apart(self, at_ms: u64, for_ms: u64, one: &[u64], other: &[u64]) -> Self {
        self.at(at_ms, for_ms, cut(one, other)).at(at_ms, for_ms, cut(other, one))
    }

    /// Nothing passes between these nodes and all others.
    pub fn alone(self, at_ms: u64, for_ms: u64, nodes: &[u64]) -> Self {
        let rest = self.others(nodes);
        self.apart(at_ms, for_ms, nodes, &rest)
    }

    /// All nodes but these.
    pub fn others(&self, nodes: &[u64]) -> Vec<u64> {
        self.plan.nodes().into_iter().map(|node| node.0).filter(|node| !nodes.contains(node)).collect()
    }

    /// The nodes of a group, the one that leads it in calm times first.
    pub fn placed(&self, group: GroupId) -> Vec<u64> {
        let regions = (1..).zip(&self.plan.fleet.regions);
        let nodes: Vec<RingNode> =
            regions.map(|(node, region)| RingNode { node: NodeId(node), region: region.clone() }).collect();
        place_group(group, &nodes, self.plan.fleet.replicas).into_iter().map(|node| node.0).collect()
    }

    /// The node that leads a partition in calm times; partitions count from 0 here.
    pub fn leader(&self, partition: u32) -> u64 {
        self.placed(GroupId(GroupId::FIRST_PARTITION + partition))[0]
    }

    /// The plan.
    pub fn done(mut self) -> Plan {
        self.plan.work.orders.sort_by_key(|order| order.at_ms);
        self.plan
    }
}

/// Every link from one of these to one of those is cut.
pub fn cut(from: &[u64], to: &[u64]) -> Fault {
    Fault::Cut { from: from.to_vec(), to: to.to_vec() }
}

/// A machine, 0 for whichever is the first, loses its power the `nth` time that it passes a place.
pub fn stop(node: u64, place: &str, nth: u32, dark_ms: u64) -> Fault {
    Fault::StopAt { node, place: place.to_owned(), nth, dark_ms }
}

/// All machines are held up at a place, whenever they pass it.
pub fn wait(place: &str, wait_ms: u64) -> Fault {
    Fault::WaitAt { node: 0, place: place.to_owned(), permille: 1_000, wait_ms }
}

/// The code takes an unusual way.
pub fn buggify(name: &str, permille: u32) -> Fault {
    Fault::Buggify { name: name.to_owned(), permille }
}

/// An agent is quarantined and released after a while.
pub fn quarantine(agent: u32, for_ms: u64) -> OrderKind {
    OrderKind::Quarantine { agent, for_ms }
}

fn work() -> WorkSpec {
    WorkSpec {
        clients: 6,
        pause_ms: (20, 140),
        batch_max: 4,
        spread_agents: 12,
        single_agents: 4,
        pace: (3, 6),
        purse: 2_000,
        fleet: None,
        shared: SharedSpec::default(),
        house: HouseSpec::default(),
        again_permille: 60,
        suspicious_permille: 10,
        large_permille: 50,
        approvals: 0,
        orders: Vec::new(),
    }
}

fn knobs() -> BTreeMap<String, u64> {
    let small = [
        ("wal.segment-bytes", 256 * 1024),
        ("propose.entry-bytes", 16 * 1024),
        ("wal.mark-every", 8),
        ("snapshot.log-bytes", 48 * 1024),
        ("snapshot.every-ms", 1_500),
        ("snapshot.keep-entries", 16),
        ("snapshot.pinned-segments", 1),
        ("actor.idle-ms", 5_000),
        ("seal.leaves", 256),
        ("seal.sync-ms", 1_000),
        ("scrub.every-ms", 3_000),
        ("cluster-log.every-ms", 2_000),
    ];
    small.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
