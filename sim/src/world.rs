//! The fake world: nodes of the real cluster code over simulated time, network and disks, and their deaths.
//!
//! A node dies as a machine does that loses power: its tasks end, its handles go dead, and its disk keeps what was
//! synced and a seeded part of the rest. It comes back as a new incarnation over that disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::{Rng, RngExt};
use rand_chacha::ChaCha12Rng;

use nethical_audit::keys::Keyring;
use nethical_cluster::governor::NodeGovernor;
use nethical_cluster::replicate::group::Timing;
use nethical_cluster::shared::Options;
use nethical_cluster::start;
use nethical_cluster::world::memory::{DiskLatency, MemoryDisk, MemoryKv};
use nethical_cluster::world::presence::PresenceTable;
use nethical_cluster::world::{Clock, Scope, World};
use nethical_governance::policy::default_bundle_text;
use nethical_protocol::ids::NodeId;
use nethical_protocol::ring::RingNode;

use crate::clock::SimClock;
use crate::dice;
use crate::plan::{LATENCIES_MS, NODES};
use crate::trace::Trace;
use crate::wire::Network;

/// Partition groups of the fake zone.
pub const PARTITIONS: u32 = 4;
/// The cluster's name, first part of every log's origin.
pub const CLUSTER: &str = "simulated";
/// Walls differ by at most this much; the cluster allows 250 ms.
const WALL_OFFSET_NS_MAX: i64 = 60_000_000;

/// A machine: what outlives its node.
struct Machine {
    region: &'static str,
    clock: SimClock,
    disk: MemoryDisk,
    kv: Arc<MemoryKv>,
    node: Option<Living>,
}

/// A node that runs.
#[derive(Clone)]
pub struct Living {
    /// Everything the node runs; dies with it.
    pub scope: Scope,
    /// Its governor.
    pub governor: NodeGovernor,
}

/// All machines. A clone is the same fleet.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

struct Inner {
    seed: u64,
    clock: SimClock,
    trace: Trace,
    network: Network,
    machines: Mutex<BTreeMap<NodeId, Machine>>,
    crash_dice: Mutex<ChaCha12Rng>,
    complaints: Mutex<Vec<String>>,
}

impl Fleet {
    /// The machines of a run, without power.
    pub fn new(seed: u64, clock: SimClock, trace: Trace) -> Self {
        let mut latency_ms = BTreeMap::new();
        for (from, to, forth, back) in LATENCIES_MS {
            latency_ms.extend([((from, to), forth), ((to, from), back)]);
        }
        let network = Network::new(clock, trace.clone(), dice::fork(seed, "wire"), latency_ms);
        let mut dice = dice::fork(seed, "machines");
        let mut machines = BTreeMap::new();
        for (node, region) in NODES {
            let clock = clock.off_by(dice.random_range(-WALL_OFFSET_NS_MAX..=WALL_OFFSET_NS_MAX));
            let disk = MemoryDisk::new();
            let zero = Duration::ZERO..Duration::ZERO;
            let sync = Duration::from_millis(1)..Duration::from_millis(9);
            disk.set_latency(Arc::new(clock), DiskLatency { access: zero, sync }, dice.next_u64());
            machines.insert(node, Machine { region, clock, disk, kv: Arc::new(MemoryKv::new()), node: None });
        }
        let (crash_dice, complaints) = (Mutex::new(dice::fork(seed, "crashes")), Mutex::default());
        Self {
            inner: Arc::new(Inner {
                seed,
                clock,
                trace,
                network,
                machines: Mutex::new(machines),
                crash_dice,
                complaints,
            }),
        }
    }

    /// The run's clock.
    pub fn clock(&self) -> SimClock {
        self.inner.clock
    }

    /// The run's trace.
    pub fn trace(&self) -> &Trace {
        &self.inner.trace
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.inner.network
    }

    /// What should never have happened, so far.
    pub fn complaints(&self) -> Vec<String> {
        self.inner.complaints.lock().clone()
    }

    /// A node, where it runs.
    pub fn node(&self, node: NodeId) -> Option<Living> {
        self.inner.machines.lock().get(&node).and_then(|machine| machine.node.clone())
    }

    /// All nodes that run, in order.
    pub fn living(&self) -> Vec<(NodeId, Living)> {
        let machines = self.inner.machines.lock();
        machines.iter().filter_map(|(node, machine)| machine.node.clone().map(|living| (*node, living))).collect()
    }

    /// Starts a node from what is on its disk.
    pub async fn start(&self, node: NodeId) {
        self.event(Some(node), "start", "");
        let (world, scope) = self.world(node);
        let (fleet, watched) = (self.clone(), scope.clone());
        let on_fatal = Arc::new(move |error: &std::io::Error| {
            if !watched.is_dead() {
                fleet.complain(format!("node {node}: the disk failed: {error}"));
            }
        });
        let starting = scope.spawn(start::start(world, self.options(node), self.keyring(), on_fatal));
        match starting.await {
            Ok(Ok(governor)) => self.put(node, Living { scope, governor }),
            Ok(Err(fault)) => self.complain(format!("node {node} does not start: {fault}")),
            Err(_) => self.complain(format!("node {node} ended while it started")),
        }
    }

    /// A node loses power.
    pub fn crash(&self, node: NodeId) {
        self.event(Some(node), "crash", "");
        self.inner.network.detach(node);
        let mut machines = self.inner.machines.lock();
        let Some(machine) = machines.get_mut(&node) else { return };
        let living = machine.node.take();
        let mut dice = self.inner.crash_dice.lock();
        machine.disk.crash(&mut *dice);
        machine.kv.crash(&mut *dice);
        machine.disk = machine.disk.reincarnate();
        drop((dice, machines));
        if let Some(living) = living {
            // Agents' actors are tasks of ractor, which no scope catches; with the power they would be gone too.
            let partitions = living.governor.core().partitions();
            let leads: Vec<_> = partitions.iter().filter_map(|replica| replica.lead()).collect();
            living.scope.kill();
            leads.iter().for_each(|lead| lead.end());
        }
    }

    /// All disks acknowledge syncs that they do not make, or are honest again.
    pub fn lie_about_syncs(&self, lying: bool) {
        self.inner.machines.lock().values().for_each(|machine| machine.disk.lie_about_syncs(lying));
    }

    /// Ends the world, so that nothing is left in the runtime.
    pub fn end(&self) {
        for (node, _) in self.living() {
            self.crash(node);
        }
        self.inner.network.end();
    }

    fn world(&self, node: NodeId) -> (World, Scope) {
        let mut machines = self.inner.machines.lock();
        let machine = machines.get_mut(&node).expect("plans name only nodes of the fleet");
        let life = self.inner.crash_dice.lock().next_u64();
        let scope = Scope::new(dice::seed_of(self.inner.seed, &format!("node {node} {life}")));
        let clock: Arc<dyn Clock> = Arc::new(machine.clock);
        let world = World {
            clock: clock.clone(),
            scope: scope.clone(),
            wire: self.inner.network.attach(node, scope.clone()),
            disk: Arc::new(machine.disk.clone()),
            kv: machine.kv.clone(),
            directory: Arc::new(PresenceTable::new(node, clock)),
        };
        (world, scope)
    }

    fn options(&self, node: NodeId) -> Options {
        let machines = self.inner.machines.lock();
        let nodes = machines.iter().map(|(node, machine)| RingNode { node: *node, region: machine.region.to_owned() });
        Options {
            bootstrap: true,
            pid: 0,
            cluster: CLUSTER.to_owned(),
            node,
            nodes: nodes.collect(),
            doors: Vec::new(),
            partitions: PARTITIONS,
            replicas: NODES.len(),
            timing: Timing::default(),
            open_tenants: false,
            first_policy: default_bundle_text().to_owned(),
        }
    }

    /// The zone's keys: the same on every node, different for every seed.
    fn keyring(&self) -> Keyring {
        let seed = self.inner.seed;
        Keyring {
            cluster: CLUSTER.to_owned(),
            ring_keys: BTreeMap::from([(1, dice::seed_of(seed, "ring key"))]),
            signing_seed: Some(dice::seed_of(seed, "signing seed")),
        }
    }

    fn put(&self, node: NodeId, living: Living) {
        if let Some(machine) = self.inner.machines.lock().get_mut(&node) {
            machine.node = Some(living);
        }
        self.event(Some(node), "started", "");
    }

    fn complain(&self, what: String) {
        self.event(None, "complaint", &what);
        self.inner.complaints.lock().push(what);
    }

    /// Adds an event to the trace, now.
    pub fn event(&self, node: Option<NodeId>, kind: &str, what: &str) {
        self.inner.trace.event(self.inner.clock.now(), node, kind, format_args!("{what}"));
    }
}
