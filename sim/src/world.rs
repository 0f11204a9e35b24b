//! The fake world: nodes of the real cluster code over simulated time, network and disks, and their deaths.
//!
//! A machine that loses power ends its node's tasks, its handles go dead, and its disk keeps what was synced and a
//! seeded part of the rest. It comes back as a new incarnation over that disk. A node that ends by itself is started
//! again by its machine, as a service manager would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use rand_chacha::ChaCha12Rng;

use nethical_audit::keys::Keyring;
use nethical_cluster::governor::NodeGovernor;
use nethical_cluster::prepared::Prepared;
use nethical_cluster::replicate::group::Timing;
use nethical_cluster::shared::Options;
use nethical_cluster::start;
use nethical_cluster::world::memory::{DiskLatency, MemoryDisk, MemoryKv};
use nethical_cluster::world::presence::PresenceTable;
use nethical_cluster::world::{Clock, Scope, Wire, World};
use nethical_governance::policy::default_bundle_text;
use nethical_protocol::ids::{GroupId, NodeId};
use nethical_protocol::ring::RingNode;
use nethical_protocol::sometimes;

use crate::clock::SimClock;
use crate::dice;
use crate::keyring::SimKeyring;
use crate::links::Links;
use crate::objects::SimStore;
use crate::plan::{FleetSpec, Net, Plan};
use crate::quic::QuicNetwork;
use crate::runtimes::Lives;
use crate::trace::{Field, Trace};
use crate::udp::UdpNetwork;
use crate::watch::Watch;
use crate::wire::Network;
use crate::witness::SimWitness;

/// The cluster's name, first part of every log's origin.
pub const CLUSTER: &str = "simulated";
/// A node that ended by itself is started again after this long.
const RESTART_AFTER: Duration = Duration::from_millis(700);

/// How a node dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The machine loses power: un-synced writes meet their fate.
    Power,
    /// The machine loses power and exactly what was synced is left.
    Clean,
    /// The process ends, the machine lives: everything written is there.
    Process,
    /// The machine loses power and its disk is replaced.
    Wipe,
}

/// A machine: what outlives its node.
struct Machine {
    region: String,
    clock: SimClock,
    disk: MemoryDisk,
    keyring: SimKeyring,
    kv: Arc<MemoryKv>,
    /// The scope of the node that runs or starts.
    scope: Option<Scope>,
    node: Option<Living>,
    /// Faults that keep it dark.
    dark: BTreeSet<u32>,
    /// Faults of its disk for which its node may rightly end.
    ailing: BTreeSet<u32>,
    /// Until when an end is still owed to a fault that is over.
    forgiven_until: Duration,
    lives: u64,
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
    spec: FleetSpec,
    clock: SimClock,
    trace: Trace,
    links: Links,
    network: Network,
    /// Carries the calls, where the plan wants QUIC.
    quic: Option<QuicNetwork>,
    watch: Watch,
    /// The nodes' own runtimes, where they have them.
    lives: Option<Lives>,
    /// One for all nodes and lives of a run. Not one for all runs: a run may not depend on those before it.
    prepared: Arc<Prepared>,
    /// Outside of the fleet.
    witness: SimWitness,
    objects: SimStore,
    /// What happens to machines whether they run or not.
    scope: Scope,
    machines: Mutex<BTreeMap<NodeId, Machine>>,
    crash_dice: Mutex<ChaCha12Rng>,
    troubles: Mutex<BTreeMap<NodeId, String>>,
}

impl Fleet {
    /// The machines of a plan, without power.
    pub fn new(plan: &Plan, clock: SimClock, trace: Trace, watch: Watch, lives: Option<Lives>) -> Self {
        let (seed, spec) = (plan.seed, plan.fleet.clone());
        let links = Links::new(clock.clone(), latencies(&spec));
        let network = Network::new(clock.clone(), trace.clone(), dice::fork(seed, "wire"), links.clone());
        let quic = (plan.net == Net::Quic).then(|| quic(plan, &clock, &trace, &links));
        let mut dice = dice::fork(seed, "machines");
        let mut machines = BTreeMap::new();
        for (node, region) in plan.nodes().into_iter().zip(&spec.regions) {
            let clock = clock.machine(spec.wall_off_ms[node.0 as usize - 1]);
            let disk = MemoryDisk::new();
            set_latency(&disk, &spec, &clock, dice.next_u64());
            machines.insert(
                node,
                Machine {
                    region: region.clone(),
                    keyring: SimKeyring::new(seed, node, clock.clone()),
                    clock,
                    disk,
                    kv: Arc::new(MemoryKv::new()),
                    scope: None,
                    node: None,
                    dark: BTreeSet::new(),
                    ailing: BTreeSet::new(),
                    forgiven_until: Duration::ZERO,
                    lives: 0,
                },
            );
        }
        let (machines, crash_dice) = (Mutex::new(machines), Mutex::new(dice::fork(seed, "crashes")));
        let (scope, troubles) = (Scope::new(dice::seed_of(seed, "fleet")), Mutex::default());
        let witness = SimWitness::new(seed, clock.clone());
        let objects = SimStore::new(seed, clock.clone(), trace.clone());
        let inner = Inner {
            seed,
            spec,
            clock,
            trace,
            links,
            network,
            quic,
            watch,
            lives,
            prepared: Arc::new(Prepared::with(crate::engine::detectors().clone())),
            scope,
            witness,
            objects,
            machines,
            crash_dice,
            troubles,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The run's clock: true time.
    pub fn clock(&self) -> &SimClock {
        &self.inner.clock
    }

    /// The run's trace.
    pub fn trace(&self) -> &Trace {
        &self.inner.trace
    }

    /// The witness outside of it.
    pub fn witness(&self) -> &SimWitness {
        &self.inner.witness
    }

    /// The object store outside of it.
    pub fn objects(&self) -> &SimStore {
        &self.inner.objects
    }

    /// The links between machines.
    pub fn links(&self) -> &Links {
        &self.inner.links
    }

    /// The invariants that are checked at every step.
    pub fn watch(&self) -> &Watch {
        &self.inner.watch
    }

    /// What the fleet is made of.
    pub fn spec(&self) -> &FleetSpec {
        &self.inner.spec
    }

    /// All nodes, running or not.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.inner.machines.lock().keys().copied().collect()
    }

    /// The partition groups.
    pub fn partitions(&self) -> impl Iterator<Item = GroupId> + use<> {
        (GroupId::FIRST_PARTITION..GroupId::FIRST_PARTITION + self.inner.spec.partitions).map(GroupId)
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

    /// Why nodes that should run do not.
    pub fn troubles(&self) -> Vec<String> {
        self.inner.troubles.lock().iter().map(|(node, trouble)| format!("node {node}: {trouble}")).collect()
    }

    /// A machine's disk.
    pub fn disk(&self, node: NodeId) -> MemoryDisk {
        self.with(node, |machine| machine.disk.clone())
    }

    /// A machine's clock.
    pub fn machine_clock(&self, node: NodeId) -> SimClock {
        self.with(node, |machine| machine.clock.clone())
    }

    /// The scope of a node that runs or starts.
    pub fn scope(&self, node: NodeId) -> Option<Scope> {
        self.with(node, |machine| machine.scope.clone())
    }

    fn with<T>(&self, node: NodeId, look: impl FnOnce(&mut Machine) -> T) -> T {
        look(self.inner.machines.lock().get_mut(&node).expect("plans are checked to name only machines of the fleet"))
    }

    /// Does something to the fleet after some time, whatever runs by then.
    pub fn after(&self, wait: Duration, work: impl FnOnce(&Fleet) + Send + 'static) {
        let fleet = self.clone();
        self.inner.scope.spawn(async move {
            fleet.inner.clock.sleep(wait).await;
            work(&fleet);
        });
    }

    /// A fault puts a machine in the dark.
    pub fn darken(&self, node: NodeId, fault: u32, death: Death) {
        self.with(node, |machine| machine.dark.insert(fault));
        self.end_node(node, death);
    }

    /// The fault is over: the machine starts, unless another one keeps it dark.
    pub fn lighten(&self, node: NodeId, fault: u32) {
        let may_start = self.with(node, |machine| machine.dark.remove(&fault) && machine.dark.is_empty());
        if may_start {
            self.start(node);
        }
    }

    /// A fault of the disk begins, for which the node may end.
    pub fn ail(&self, node: NodeId, fault: u32) {
        self.with(node, |machine| machine.ailing.insert(fault));
    }

    /// The fault of the disk is over. What it did may still show for a while.
    pub fn recover(&self, node: NodeId, fault: u32) {
        let until = self.inner.clock.real() + Duration::from_secs(5);
        self.with(node, |machine| {
            machine.ailing.remove(&fault);
            machine.forgiven_until = until;
        });
    }

    /// Starts a node from what is on its disk.
    pub fn start(&self, node: NodeId) {
        if self.with(node, |machine| machine.scope.is_some() || !machine.dark.is_empty()) {
            return;
        }
        self.event(Some(node), "start", &[]);
        let (world, scope) = self.begin(node);
        let fleet = self.clone();
        self.inner.scope.spawn(async move {
            let (watched, told) = (scope.clone(), fleet.clone());
            let on_fatal = Arc::new(move |error: &std::io::Error| {
                if !watched.is_dead() {
                    told.ended_itself(node, &watched, &format!("its disk failed: {error}"));
                }
            });
            let starting = scope.spawn(start::start(world, fleet.options(node), fleet.keyring(node), on_fatal));
            match starting.await {
                Ok(Ok(governor)) => fleet.put(node, Living { scope, governor }),
                Ok(Err(fault)) => fleet.ended_itself(node, &scope, &format!("it does not start: {fault}")),
                Err(_) => fleet.ended_itself(node, &scope, "it ended while it started"),
            }
        });
    }

    fn put(&self, node: NodeId, living: Living) {
        if living.scope.is_dead() {
            return;
        }
        self.with(node, |machine| machine.node = Some(living));
        self.inner.troubles.lock().remove(&node);
        self.event(Some(node), "started", &[]);
    }

    /// A node ended although nobody took its power: that is a violation unless its disk had a reason, and it starts again.
    fn ended_itself(&self, node: NodeId, scope: &Scope, why: &str) {
        if scope.is_dead() {
            return;
        }
        let real = self.inner.clock.real();
        sometimes!(true, "a node ended by itself");
        self.event(Some(node), "exit", &[("what", Field::Text(why))]);
        self.inner.troubles.lock().insert(node, why.to_owned());
        if self.with(node, |machine| machine.ailing.is_empty() && real > machine.forgiven_until) {
            self.inner.watch.violated("no-exit", format!("node {node} ended by itself: {why}"));
        }
        self.after(Duration::ZERO, move |fleet| fleet.end_node(node, Death::Process));
        self.after(RESTART_AFTER, move |fleet| fleet.start(node));
    }

    /// Ends what a machine runs, in one of the ways in which that happens.
    fn end_node(&self, node: NodeId, death: Death) {
        let was_running = self.with(node, |machine| machine.scope.is_some());
        if was_running {
            self.event(Some(node), "crash", &[("death", Field::Text(death_name(death)))]);
        }
        self.inner.network.detach(node);
        self.inner.quic.iter().for_each(|quic| quic.detach(node));
        let mut machines = self.inner.machines.lock();
        let machine = machines.get_mut(&node).expect("looked up above");
        let (living, scope) = (machine.node.take(), machine.scope.take());
        self.strike(machine, death);
        drop(machines);
        if death == Death::Wipe {
            self.inner.watch.forget(node);
        }
        // Agents' actors are tasks of ractor, which no scope catches; with the power they would be gone too.
        let partitions = living.map(|living| living.governor.core().partitions()).unwrap_or_default();
        let leads: Vec<_> = partitions.iter().filter_map(|replica| replica.lead()).collect();
        if let Some(scope) = scope {
            scope.kill();
        }
        leads.iter().for_each(|lead| lead.end());
        self.inner.lives.iter().for_each(|lives| lives.end(node));
    }

    /// What the death does to the disk.
    fn strike(&self, machine: &mut Machine, death: Death) {
        let mut dice = self.inner.crash_dice.lock();
        match death {
            Death::Power => {
                machine.disk.crash(&mut *dice);
                machine.kv.crash(&mut *dice);
            }
            Death::Clean => machine.disk.power_off(),
            Death::Process => {}
            Death::Wipe => {
                machine.disk = MemoryDisk::new();
                set_latency(&machine.disk, &self.inner.spec, &machine.clock, dice.next_u64());
                machine.kv = Arc::new(MemoryKv::new());
            }
        }
        machine.disk = machine.disk.reincarnate();
    }

    /// Ends the world, so that nothing is left in the runtime.
    pub fn end(&self) {
        for node in self.nodes() {
            self.end_node(node, Death::Clean);
        }
        self.inner.quic.iter().for_each(QuicNetwork::end);
        self.inner.network.end();
        self.inner.scope.kill();
    }

    /// A node's next life, in a runtime of its own where nodes have them.
    fn begin(&self, node: NodeId) -> (World, Scope) {
        let Some(lives) = &self.inner.lives else { return self.world(node) };
        let life = self.with(node, |machine| machine.lives);
        let seed = dice::fork(self.inner.seed, &format!("runtime of node {node} life {life}")).next_u64();
        lives.begin(node, seed, || self.world(node)).expect("the system gives runtimes")
    }

    fn world(&self, node: NodeId) -> (World, Scope) {
        let seed = self.inner.seed;
        let mut machines = self.inner.machines.lock();
        let machine = machines.get_mut(&node).expect("looked up before");
        machine.lives += 1;
        let purpose = format!("node {node} life {}", machine.lives);
        let scope = Scope::labelled(dice::seed_of(seed, &purpose), node.0);
        machine.scope = Some(scope.clone());
        let clock: Arc<dyn Clock> = Arc::new(machine.clock.clone());
        let wire: Arc<dyn Wire> = match &self.inner.quic {
            None => self.inner.network.attach(node, scope.clone()),
            Some(quic) => {
                quic.attach(node, scope.clone(), clock.clone()).expect("certificates made from a seed are good")
            }
        };
        let world = World {
            clock: clock.clone(),
            scope: scope.clone(),
            wire,
            outside: Arc::new(self.inner.witness.clone()),
            disk: Arc::new(machine.disk.clone()),
            keyring: Arc::new(machine.keyring.clone()),
            kv: machine.kv.clone(),
            directory: Arc::new(PresenceTable::new(node, clock)),
            prepared: self.inner.prepared.clone(),
            objects: Some(self.inner.objects.attach(node, scope.clone())),
            heavy: Arc::new(nethical_cluster::world::AtOnce),
        };
        (world, scope)
    }

    fn options(&self, node: NodeId) -> Options {
        let spec = &self.inner.spec;
        let machines = self.inner.machines.lock();
        let nodes = machines.iter().map(|(node, machine)| RingNode { node: *node, region: machine.region.clone() });
        let (election_min_ms, election_max_ms) = spec.election_ms;
        Options {
            bootstrap: true,
            pid: 0,
            cluster: CLUSTER.to_owned(),
            node,
            nodes: nodes.collect(),
            doors: Vec::new(),
            partitions: spec.partitions,
            replicas: spec.replicas,
            timing: Timing { heartbeat_ms: spec.heartbeat_ms, election_min_ms, election_max_ms },
            open_tenants: false,
            // Plans make it short.
            warm_after_s: 7 * 24 * 60 * 60,
            cold_after_s: 30 * 24 * 60 * 60,
            promoted_bytes: 512 * 1024,
            witnesses: vec![self.inner.witness.told()],
            first_policy: default_bundle_text().to_owned(),
        }
    }

    /// What a node's keyring file holds.
    pub fn keyring(&self, node: NodeId) -> Keyring {
        self.with(node, |machine| machine.keyring.read())
    }

    /// Adds an event to the trace, now.
    pub fn event(&self, node: Option<NodeId>, kind: &'static str, fields: &[(&'static str, Field<'_>)]) {
        self.inner.trace.event(self.inner.clock.real(), node, kind, fields);
    }
}

/// QUIC between all nodes of a plan.
fn quic(plan: &Plan, clock: &SimClock, trace: &Trace, links: &Links) -> QuicNetwork {
    let links = links.clone();
    let conditions = Arc::new(move |from, to| links.condition(from, to));
    let udp = UdpNetwork::new(clock.clone(), trace.clone(), dice::fork(plan.seed, "udp"), conditions);
    QuicNetwork::new(plan.seed, plan.nodes(), udp).expect("every seed makes keys and certificates")
}

fn latencies(spec: &FleetSpec) -> BTreeMap<(NodeId, NodeId), u64> {
    let node = |at: usize| NodeId(at as u64 + 1);
    let rows = spec.latency_ms.iter().enumerate();
    rows.flat_map(|(from, row)| row.iter().enumerate().map(move |(to, ms)| ((node(from), node(to)), *ms))).collect()
}

fn set_latency(disk: &MemoryDisk, spec: &FleetSpec, clock: &SimClock, seed: u64) {
    let sync = Duration::from_millis(spec.sync_ms.0)..Duration::from_millis(spec.sync_ms.1);
    disk.set_latency(Arc::new(clock.clone()), DiskLatency { access: Duration::ZERO..Duration::ZERO, sync }, seed);
}

fn death_name(death: Death) -> &'static str {
    match death {
        Death::Power => "power",
        Death::Clean => "clean",
        Death::Process => "process",
        Death::Wipe => "wipe",
    }
}
