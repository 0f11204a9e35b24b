//! Starting a node: recover the log, decide for each group whether its replica lives on, is new, or is lost, and run
//! everything in the node's scope.
//!
//! A group is founded only when all of its founding nodes attend; so a node that finds nothing on its disk while its
//! peers know the group has lost a replica, and comes back under a new life (ARCHITECTURE 5).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use parking_lot::Mutex;

use nethical_audit::keys::Keyring;
use nethical_protocol::ids::{GroupId, LogId, NodeId, ReplicaId};
use nethical_protocol::sometimes;

use crate::apply::PartitionMachine;
use crate::control::ControlMachine;
use crate::control::log::ClusterLog;
use crate::governor::NodeGovernor;
use crate::identity::{Identity, life_of, replica_id};
use crate::message::*;
use crate::meta::{self, MetaMachine};
use crate::node::{Core, Plain};
use crate::replica::PartitionReplica;
use crate::replicate::group::{Group, GroupParts};
use crate::replicate::log_store::LogStore;
use crate::replicate::machine::{Fault, Machine};
use crate::replicate::snapshot::{SealBarrier, SnapshotKeeper};
use crate::ringkeys::RingKeys;
use crate::seeds::SigningSeeds;
use crate::service::NodeService;
use crate::shared::{Options, Shared};
use crate::store::AuditStore;
use crate::text::file::Texts;
use crate::tier::promoted::Promoted;
use crate::wal::{OnFatal, Recovered, Wal, WalOptions};
use crate::world::{Lane, World};
use crate::{cluster_log, erase, fsck, rules, signing, supervise, text, tier, witness};

/// Between two rounds of asking peers.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How long one question to a peer may take.
const ASK_PATIENCE: Duration = Duration::from_millis(800);
/// How long a replica with intact log waits for its peers' word before it starts without it.
const WORD_PATIENCE: Duration = Duration::from_secs(2);
/// The first era of every log.
const FIRST_ERA: u32 = 1;

/// What starting groups needs, in one place.
pub struct Starter {
    /// The node.
    pub core: Arc<Core>,
    identity: tokio::sync::Mutex<Identity>,
    recovered: Recovered,
    /// Groups whose log was there at the start and is not any more.
    forgotten: Mutex<BTreeSet<GroupId>>,
}

/// Starts a node and gives its governor. Groups come up in the background; `/readyz` says when all are there.
pub async fn start(
    world: World,
    options: Options,
    mut keyring: Keyring,
    on_fatal: OnFatal,
) -> Result<NodeGovernor, Fault> {
    let fault = |what: &str, error: String| Fault(format!("{what}: {error}"));
    let scope = world.scope.clone();
    let mut identity = Identity::load(&*world.disk, options.node, &options.cluster)
        .await
        .map_err(|error| fault("this node's identity", error.to_string()))?;
    let (wal, recovered) = open_log(&world, &mut identity, on_fatal.clone()).await?;
    let ring_keys = RingKeys::open(world.disk.clone(), scope.clone(), &keyring, options.node).await;
    let ring_keys = ring_keys.map_err(|error| fault("the ring keys", error.to_string()))?;
    let parts = (world.disk.clone(), world.heavy.clone());
    let texts = Texts::open(parts, scope.clone(), &keyring, options.node).await;
    let texts = texts.map_err(|error| fault("the text indexes", error.to_string()))?;
    let promoted = Promoted::open(world.disk.clone(), options.promoted_bytes).await;
    let promoted = promoted.map_err(|error| fault("parts of cold files", error.to_string()))?;
    let seeds = SigningSeeds::open(world.disk.clone(), scope.clone(), &mut keyring, world.keyring.clone()).await;
    let seeds = seeds.map_err(|error| fault("the signing seeds", error.to_string()))?;
    let shared = Shared::new(world, options, (keyring, ring_keys, seeds), (texts, promoted), on_fatal);
    let core = Core::new(shared, wal);
    core.shared.world.wire.serve(Arc::new(NodeService { core: core.clone() }));
    let starter = Arc::new(Starter {
        core: core.clone(),
        identity: tokio::sync::Mutex::new(identity),
        recovered,
        forgotten: Mutex::default(),
    });
    for group in core.groups().filter(|group| core.placed(*group).contains(&core.shared.options.node)) {
        core.starting.lock().insert(group, "is starting".to_owned());
        scope.spawn(starter.clone().launch(group));
    }
    scope.spawn(rules::pump(core.clone()));
    scope.spawn(rules::attend(core.clone()));
    scope.spawn(fsck::pump(core.clone()));
    scope.spawn(tier::pump(core.clone()));
    scope.spawn(tier::cold::pump(core.clone()));
    scope.spawn(text::tend::pump(core.clone()));
    scope.spawn(cluster_log::gather(core.clone()));
    scope.spawn(signing::tend(core.clone()));
    for seat in core.shared.options.witnesses.clone() {
        scope.spawn(witness::attend(core.clone(), seat));
    }
    scope.spawn(supervise::probe_clocks(core.clone()));
    scope.spawn(supervise::learn_founding(core.clone()));
    scope.spawn(supervise::supervise(core.clone(), starter));
    Ok(NodeGovernor::new(core))
}

/// Opens the log; one that has lost acknowledged changes is started over, and every replica's life with it.
async fn open_log(world: &World, identity: &mut Identity, on_fatal: OnFatal) -> Result<(Wal, Recovered), Fault> {
    let fault = |error: crate::wal::WalError| Fault(format!("the write-ahead log: {error}"));
    let options = WalOptions::new(on_fatal, world.clock.clone());
    let (wal, recovered) = Wal::open(world.disk.clone(), world.scope.clone(), options.clone()).await.map_err(fault)?;
    if !recovered.has_lost() {
        return Ok((wal, recovered));
    }
    tracing::error!(rot = ?recovered.rot, lost_tail = recovered.lost_tail, "the log has lost acknowledged changes: all replicas here begin new lives");
    identity.lose_all();
    identity.save(&world.disk).await.map_err(|error| Fault(error.to_string()))?;
    let options = WalOptions { start_over: true, ..options };
    Wal::open(world.disk.clone(), world.scope.clone(), options).await.map_err(fault)
}

/// What peers say of a group.
#[derive(Default)]
struct Word {
    answered: usize,
    attending: usize,
    founded: bool,
    replica: Option<u64>,
    voter: Option<u64>,
    acknowledged: u64,
}

impl Starter {
    async fn launch(self: Arc<Self>, group: GroupId) {
        loop {
            match self.clone().try_launch(group).await {
                Ok(()) => {
                    self.core.starting.lock().remove(&group);
                    return;
                }
                Err(fault) => {
                    tracing::error!(%group, %fault, "a group does not start");
                    self.core.starting.lock().insert(group, format!("does not start: {fault}"));
                    self.core.shared.world.clock.sleep(Duration::from_secs(2)).await;
                }
            }
        }
    }

    async fn try_launch(self: Arc<Self>, group: GroupId) -> Result<(), Fault> {
        let (replica, found) = self.settle_life(group).await?;
        let log = match found {
            true => LogStore::new(self.core.wal.clone(), group, self.recovered.groups.get(&group)),
            false => LogStore::new(self.core.wal.clone(), group, None),
        };
        let log = log.map_err(|error| Fault(error.to_string()))?;
        self.run_group(group, replica, log).await
    }

    /// Starts a partition's replica whose core had stopped, however often that has to be tried: a disk may be full.
    pub async fn start_again(self: Arc<Self>, group: GroupId, replica: ReplicaId, log: LogStore) {
        while let Err(fault) = self.run_group(group, replica, log.clone()).await {
            tracing::error!(%group, %fault, "a group does not start again");
            self.core.starting.lock().insert(group, format!("does not start again: {fault}"));
            self.core.shared.world.clock.sleep(Duration::from_secs(2)).await;
        }
        self.core.starting.lock().remove(&group);
    }

    /// Starts a group's replica from its log and snapshot, founding the group where nobody has yet.
    pub async fn run_group(self: &Arc<Self>, group: GroupId, replica: ReplicaId, log: LogStore) -> Result<(), Fault> {
        log.observe_start(replica);
        match group {
            GroupId::META => {
                let plain = self.plain(group, replica, log, MetaMachine::default(), no_barrier()).await?;
                *self.core.meta.write() = Some(plain.clone());
                self.join_in(&plain.group).await
            }
            GroupId::CONTROL => {
                let (store, barrier) = self.audit_store(group).await?;
                let cluster_log = ClusterLog::new(&self.core.shared.options.cluster, store);
                let plain = self.plain(group, replica, log, ControlMachine::new(cluster_log), barrier).await?;
                *self.core.control.write() = Some(plain.clone());
                self.join_in(&plain.group).await
            }
            _ => self.partition(group, replica, log).await,
        }
    }

    /// Which life the replica is in, and whether its log is still there.
    async fn settle_life(&self, group: GroupId) -> Result<(ReplicaId, bool), Fault> {
        let io = |error: std::io::Error| Fault(error.to_string());
        let is_forgotten = self.forgotten.lock().contains(&group);
        let local = self.recovered.groups.get(&group).filter(|_| !is_forgotten);
        let (known, was_lost) = {
            let identity = self.identity.lock().await;
            (identity.replica(group), identity.is_lost(group))
        };
        // Nobody waits for the identity meanwhile: a silent peer must not hold up one group after another.
        // All peers are heard where they answer: the one that is silent may know of a later life than the others.
        let mut word = self.hear(group, |word, peers| word.answered == peers, Some(WORD_PATIENCE)).await;
        if known.is_none() && !word.founded {
            word = self.hear(group, |word, peers| word.founded || word.answered == peers, None).await;
        }
        // A rotten snapshot is lost memory as well: the entries that it stood for are gone from the log.
        let is_whole = self.keeper(group, no_barrier()).load().await.map(|_| ());
        let last = local.and_then(|found| found.last_index.or(found.purged.as_ref().map(|(index, _)| *index)));
        let is_lost = was_lost || is_damaged(&is_whole) || word.acknowledged > last.unwrap_or(0);
        let mut identity = self.identity.lock().await;
        match known {
            Some(replica) if !is_lost => return Ok((replica, local.is_some())),
            Some(_) => {
                sometimes!(true, "a replica had lost what it acknowledged");
                // First it is noted that this life is over, then its log goes, and only then the next one begins: whatever
                // a crash leaves, no life begins on another one's log.
                identity.lose(group);
                identity.save(&self.core.shared.world.disk).await.map_err(io)?;
                tracing::error!(%group, acknowledged = word.acknowledged, found = ?last, "the replica has lost acknowledged log");
            }
            None => {}
        }
        self.core.wal.forget_group(group);
        self.core.wal.flush().await.map_err(io)?;
        self.keeper(group, no_barrier()).forget().await.map_err(io)?;
        self.forgotten.lock().insert(group);
        let heard_of = word.replica.map_or(0, life_of);
        let replica = identity.begin(group, heard_of);
        identity.save(&self.core.shared.world.disk).await.map_err(io)?;
        Ok((replica, false))
    }

    /// Asks the group's other nodes what they know, until `enough` or for at most `patience`.
    async fn hear(&self, group: GroupId, enough: impl Fn(&Word, usize) -> bool, patience: Option<Duration>) -> Word {
        let clock = &self.core.shared.world.clock;
        let own = self.core.shared.options.node;
        let peers: Vec<NodeId> = self.core.placed(group).into_iter().filter(|node| *node != own).collect();
        let begun = clock.now();
        loop {
            let word = self.ask_once(group, &peers).await;
            let is_late = patience.is_some_and(|patience| clock.now().saturating_sub(begun) >= patience);
            if enough(&word, peers.len()) || is_late {
                return word;
            }
            clock.sleep(ASK_EVERY).await;
        }
    }

    async fn ask_once(&self, group: GroupId, peers: &[NodeId]) -> Word {
        let ask = HelloV1 { group: group.0, node: self.core.shared.options.node.0 }.to_bytes();
        let wire = &self.core.shared.world.wire;
        let calls = peers.iter().map(|peer| wire.call(*peer, Lane::Control, KIND_HELLO, ask.clone(), ASK_PATIENCE));
        let mut word = Word::default();
        for answer in join_all(calls).await.into_iter().flatten() {
            let Ok(answer) = HelloAnswerV1::from_bytes(&answer) else { continue };
            word.answered += 1;
            word.attending += usize::from(answer.attending);
            word.founded |= answer.founded;
            word.replica = word.replica.max(answer.replica);
            word.voter = word.voter.max(answer.voter);
            word.acknowledged = word.acknowledged.max(answer.acknowledged.unwrap_or(0));
        }
        word
    }

    fn keeper(&self, group: GroupId, barrier: SealBarrier) -> SnapshotKeeper {
        let world = &self.core.shared.world;
        SnapshotKeeper::new(world.disk.clone(), world.clock.clone(), group, barrier)
    }

    async fn group_of<M: Machine>(
        &self,
        id: GroupId,
        replica: ReplicaId,
        log: LogStore,
        machine: Arc<Mutex<M>>,
        barrier: SealBarrier,
    ) -> Result<Group<M>, Fault> {
        let shared = &self.core.shared;
        let (timing, world, keeper) = (shared.options.timing, shared.world.clone(), self.keeper(id, barrier));
        Group::start(GroupParts { id, replica, timing, world, log, keeper, machine }).await
    }

    async fn plain<M: Machine>(
        &self,
        group: GroupId,
        replica: ReplicaId,
        log: LogStore,
        machine: M,
        barrier: SealBarrier,
    ) -> Result<Plain<M>, Fault> {
        let machine = Arc::new(Mutex::new(machine));
        let group = self.group_of(group, replica, log, machine.clone(), barrier).await?;
        Ok(Plain { group, machine })
    }

    async fn partition(self: &Arc<Self>, id: GroupId, replica: ReplicaId, log: LogStore) -> Result<(), Fault> {
        let shared = self.core.shared.clone();
        let (store, barrier) = self.audit_store(id).await?;
        let mut machine = PartitionMachine::new(store.clone())?;
        machine.newest_ns = shared.newest_ns.clone();
        let machine = Arc::new(Mutex::new(machine));
        let group = self.group_of(id, replica, log, machine.clone(), barrier).await?;
        let replica = PartitionReplica::new(shared.clone(), group.clone(), machine, store);
        self.core.put_partition(replica.clone());
        shared.world.scope.spawn(replica.clone().follow());
        shared.world.scope.spawn(erase::tend(self.core.clone(), replica.clone()));
        shared.world.scope.spawn(replica.keep_house());
        self.join_in(&group).await
    }

    /// Opens a group's audit segments and lets its sealer run. One that ran for an earlier start of the group ends.
    async fn audit_store(&self, group: GroupId) -> Result<(Arc<AuditStore>, SealBarrier), Fault> {
        let shared = &self.core.shared;
        if let Some(former) = self.core.audit(group) {
            former.retire();
        }
        let log = LogId { group, era: FIRST_ERA };
        let store = AuditStore::open(shared.world.disk.clone(), &shared.options.cluster, log).await;
        let store = store.map_err(|error| Fault(format!("audit segments of group {group}: {error}")))?;
        self.core.put_audit(store.clone());
        let sealing = store.clone();
        let barrier: SealBarrier = Arc::new(move |leaves| {
            let store = sealing.clone();
            async move { store.barrier(leaves).await }.boxed()
        });
        shared.world.scope.spawn(store.clone().seal(self.core.clone()));
        Ok((store, barrier))
    }

    /// Founds the group where nobody has, once all founding nodes attend; asks to be taken in where this life is new.
    async fn join_in<M: Machine>(&self, group: &Group<M>) -> Result<(), Fault> {
        let id = group.id();
        self.core.attend(id);
        // A crash may have left it a learner, so that it knows a membership and has no vote in it.
        if group.progress().voting.contains_key(&group.replica().0) {
            return Ok(());
        }
        let may_found = self.core.shared.options.bootstrap;
        let enough = |word: &Word, peers: usize| word.founded || (may_found && word.attending == peers);
        let word = self.hear(id, enough, None).await;
        if !word.founded {
            let members = self.core.placed(id).into_iter().map(|node| (replica_id(node, 1).0, node));
            return group.found(members.collect()).await;
        }
        let (mut voter, mut former) = (word.voter, word.replica);
        while voter != Some(group.replica().0) {
            self.ask_to_join(group, former).await;
            self.core.shared.world.clock.sleep(ASK_EVERY * 5).await;
            let word = self.hear(id, |word, _| word.founded, None).await;
            (voter, former) = (word.voter, word.replica);
        }
        Ok(())
    }

    async fn ask_to_join<M: Machine>(&self, group: &Group<M>, former: Option<u64>) {
        let own = self.core.shared.options.node;
        let ask = JoinV1 { group: group.id().0, node: own.0, old: former, new: group.replica().0 }.to_bytes();
        for peer in self.core.placed(group.id()).into_iter().filter(|node| *node != own) {
            let patience = Duration::from_secs(10);
            let call = self.core.shared.world.wire.call(peer, Lane::Control, KIND_JOIN, ask.clone(), patience);
            match call.await.ok().and_then(|bytes| JoinedV1::from_bytes(&bytes).ok()) {
                Some(JoinedV1::Done) => {
                    sometimes!(true, "a lost replica was replaced under a new id");
                    return;
                }
                Some(JoinedV1::Failed(why)) => tracing::warn!(group = %group.id(), why, "not taken in yet"),
                _ => {}
            }
        }
    }
}

fn is_damaged(read: &std::io::Result<()>) -> bool {
    matches!(read, Err(error) if error.kind() == std::io::ErrorKind::InvalidData)
}

fn no_barrier() -> SealBarrier {
    Arc::new(|_| async { Ok(()) }.boxed())
}

/// The public half of the zone's first signing key, for the founding record.
pub fn public_key(core: &Core) -> [u8; 32] {
    core.shared.seeds.first().unwrap_or_default()
}

/// The founding record that this node would write, as an entry.
pub fn founding_entry(core: &Core) -> Bytes {
    meta::founding_of(&core.shared.options, public_key(core)).to_bytes()
}
