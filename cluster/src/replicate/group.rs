//! One replica of one Raft group: starts it, proposes to it, says who leads, answers its peers, notices when it stops.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::raft::ReadPolicy;
use openraft::{ChangeMembers, Config, Instant, Raft};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot, watch};

use nethical_protocol::ids::{GroupId, NodeId, ReplicaId};
use nethical_protocol::limits::SNAPSHOT_BYTES_MAX;
use nethical_protocol::probe;

use super::codec::{self, AppendAnswerV1, AskVoteV1, ChunkAnswerV1, ChunkV1, TransferV1, VoteAnswerV1};
pub use super::leadership::Leadership;
use super::leadership::follow_leadership;
use super::log_store::LogStore;
use super::machine::{Adapter, Fault, Machine, Reply};
use super::network::Network;
use super::snapshot::SnapshotKeeper;
use super::types::{Payload, Site, Snapshot, SnapshotMeta, Types, Vote};
use crate::world::{Lane, Scope, World};

type Core<M> = Raft<Types, Adapter<M>>;
type AppendJob = (openraft::raft::AppendEntriesRequest<Types>, oneshot::Sender<AppendAnswerV1>);

/// Appends from one peer that may wait in front of the core.
const APPEND_QUEUE_MAX: usize = 64;

/// Times of one group, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between heartbeats.
    pub heartbeat_ms: u64,
    /// Least election timeout.
    pub election_min_ms: u64,
    /// Greatest election timeout; also the leader lease.
    pub election_max_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { heartbeat_ms: 200, election_min_ms: 600, election_max_ms: 900 }
    }
}

/// Why a proposal brought no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// It was not appended anywhere.
    #[error("this replica does not lead")]
    NotLeader,
    /// It was refused before it came to the group.
    #[error("{0}")]
    Refused(nethical_protocol::error::Problem),
    /// It was appended, and what became of it is not known here.
    #[error("the entry's fate is not known")]
    Unknown,
    /// The replica has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

/// What a status page shows of a replica.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Current term.
    pub term: u64,
    /// Last applied index.
    pub applied: u64,
    /// Voters by node.
    pub voters: Vec<NodeId>,
    /// Voters and learners by replica id, with their nodes.
    pub replicas: BTreeMap<u64, NodeId>,
    /// Of those, the voters.
    pub voting: BTreeMap<u64, NodeId>,
    /// On the leader: what each replica is known to hold.
    pub matched: BTreeMap<u64, u64>,
    /// False once the core has stopped.
    pub running: bool,
}

/// One replica. Clones share it.
pub struct Group<M: Machine> {
    inner: Arc<Inner<M>>,
}

impl<M: Machine> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<M: Machine> {
    id: GroupId,
    replica: ReplicaId,
    scope: Scope,
    raft: Core<M>,
    log: LogStore,
    leadership: watch::Receiver<Leadership>,
    appends: Mutex<BTreeMap<NodeId, mpsc::Sender<AppendJob>>>,
    incoming: Mutex<Option<Incoming>>,
    /// Set once the core is gone, by an error or a panic.
    ended: Arc<AtomicBool>,
}

/// A snapshot that is arriving.
struct Incoming {
    digest: [u8; 32],
    body: Vec<u8>,
}

/// What a group is started from.
pub struct GroupParts<M> {
    /// The group.
    pub id: GroupId,
    /// This life of its replica here.
    pub replica: ReplicaId,
    /// Timers.
    pub timing: Timing,
    /// The seams.
    pub world: World,
    /// Its log.
    pub log: LogStore,
    /// Its snapshots.
    pub keeper: SnapshotKeeper,
    /// Its state.
    pub machine: Arc<Mutex<M>>,
}

fn config(id: GroupId, timing: Timing) -> Arc<Config> {
    let config = Config {
        cluster_name: format!("group-{id}"),
        heartbeat_interval: timing.heartbeat_ms,
        election_timeout_min: timing.election_min_ms,
        election_timeout_max: timing.election_max_ms,
        install_snapshot_timeout: 5_000,
        // Snapshots go by log bytes, on our own trigger, and logs are purged up to them.
        snapshot_policy: openraft::SnapshotPolicy::Never,
        // Purged on our own trigger too: by its own policy openraft never purges a group with few entries, and two
        // triggers trip over each other.
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: 64,
        api_channel_size: Some(1_024),
        notification_channel_size: Some(4_096),
        // A restarted leader that resumed its term after losing an unflushed tail would fork the log.
        enable_leader_restore: Some(probe::planted("leader-restore")),
        enable_pre_vote: Some(true),
        ..Config::default()
    };
    Arc::new(config.validate().expect("timers are checked when the configuration is read"))
}

impl<M: Machine> Group<M> {
    /// Starts a replica; it campaigns and follows from now on.
    pub async fn start(parts: GroupParts<M>) -> Result<Self, Fault> {
        let GroupParts { id, replica, timing, world, log, keeper, machine } = parts;
        let adapter = Adapter::open(machine, keeper).await?;
        let network = Network { wire: world.wire.clone(), group: id };
        let raft = Raft::new(replica.0, config(id, timing), network, log.clone(), adapter)
            .await
            .map_err(|error| Fault(format!("group {id} does not start: {error}")))?;
        let ended = Arc::new(AtomicBool::new(false));
        let leadership = follow_leadership(&world.scope, &raft, id, ended.clone());
        Ok(Self {
            inner: Arc::new(Inner {
                id,
                replica,
                scope: world.scope,
                raft,
                log,
                leadership,
                appends: Mutex::new(BTreeMap::new()),
                incoming: Mutex::new(None),
                ended,
            }),
        })
    }

    /// The group's number.
    pub fn id(&self) -> GroupId {
        self.inner.id
    }

    /// This replica.
    pub fn replica(&self) -> ReplicaId {
        self.inner.replica
    }

    /// The group's log here.
    pub fn log(&self) -> &LogStore {
        &self.inner.log
    }

    /// Makes the first membership. Every founding replica calls it with the same one; later calls change nothing.
    pub async fn found(&self, members: BTreeMap<u64, NodeId>) -> Result<(), Fault> {
        if self.inner.raft.is_initialized().await.map_err(|error| Fault(error.to_string()))? {
            return Ok(());
        }
        let sites: BTreeMap<u64, Site> =
            members.into_iter().map(|(replica, node)| (replica, Site { node: node.0 })).collect();
        match self.inner.raft.initialize(sites).await {
            Ok(()) | Err(RaftError::APIError(openraft::errors::InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(Fault(error.to_string())),
        }
    }

    /// Queues an entry. Proposals of one caller keep their order. The receiver gets the reply once it is applied here.
    pub async fn propose(
        &self,
        payload: Bytes,
    ) -> Result<impl Future<Output = Result<Reply, ProposeError>> + Send + use<M>, ProposeError> {
        let (responder, done) = ProgressResponder::complete_only();
        self.inner.raft.client_write_ff(Payload(payload), Some(responder)).await.map_err(|_| ProposeError::Stopped)?;
        Ok(done.map(|done| match done {
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(ProposeError::NotLeader),
            Ok(Err(_)) => Err(ProposeError::Unknown),
            Err(_) => Err(ProposeError::Unknown),
        }))
    }

    /// Confirms by a quorum that this replica leads now and has applied all that was committed before (ReadIndex).
    pub async fn confirm(&self) -> Result<(), ProposeError> {
        match self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(_) => Ok(()),
            Err(_) => Err(ProposeError::NotLeader),
        }
    }

    /// Who leads, now and from now on.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Asks for a snapshot; it is made in the background.
    pub async fn snapshot(&self) {
        let _ = self.inner.raft.trigger().snapshot().await;
    }

    /// Drops from the log what a snapshot here covers, but for so many of the last entries: a follower a little behind
    /// is not worth a snapshot.
    pub async fn purge(&self, keep: u64) {
        let covered = self.inner.raft.metrics().borrow_watched().snapshot.as_ref().map_or(0, |id| id.index);
        if let Some(up_to) = covered.checked_sub(keep).filter(|up_to| *up_to > 0) {
            let _ = self.inner.raft.trigger().purge_log(up_to).await;
        }
    }

    /// Hands leadership to another replica.
    pub async fn transfer(&self, to: ReplicaId) {
        let _ = self.inner.raft.trigger().transfer_leader(to.0).await;
    }

    /// On the leader: a node's new life takes the place of all its former ones, one step after the other. Whoever asks
    /// again after a step was interrupted, also for a later life, comes to the same end: no former life keeps a vote.
    pub async fn replace(&self, new: u64, node: NodeId) -> Result<(), Fault> {
        let raft = &self.inner.raft;
        let fault = |what: &str, error: String| Fault(format!("group {}: {what}: {error}", self.inner.id));
        raft.add_learner(new, Site { node: node.0 }, true)
            .await
            .map_err(|error| fault("add learner", error.to_string()))?;
        let lives: BTreeSet<u64> =
            self.progress().replicas.iter().filter(|(_, of)| **of == node).map(|(replica, _)| *replica).collect();
        let mut voters: BTreeSet<u64> = raft.voter_ids().filter(|voter| !lives.contains(voter)).collect();
        voters.insert(new);
        raft.change_membership(voters, false).await.map_err(|error| fault("change voters", error.to_string()))?;
        let former: BTreeSet<u64> =
            self.progress().replicas.keys().copied().filter(|id| *id != new && lives.contains(id)).collect();
        if !former.is_empty() {
            let forget = ChangeMembers::RemoveNodes(former);
            raft.change_membership(forget, false).await.map_err(|error| fault("forget lives", error.to_string()))?;
        }
        Ok(())
    }

    /// What a status page shows.
    pub fn progress(&self) -> Progress {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let sites: BTreeMap<u64, NodeId> =
            membership.nodes().map(|(replica, site)| (*replica, NodeId(site.node))).collect();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let matched = metrics.replication.iter().flatten();
        Progress {
            term: metrics.current_term,
            applied: metrics.last_applied.map_or(0, |id| id.index),
            voters: voters.iter().filter_map(|replica| sites.get(replica).copied()).collect(),
            voting: voters.iter().filter_map(|replica| Some((*replica, *sites.get(replica)?))).collect(),
            replicas: sites,
            matched: matched.filter_map(|(replica, id)| id.as_ref().map(|id| (*replica, id.index))).collect(),
            running: metrics.running_state.is_ok(),
        }
    }

    /// How long ago a quorum has last answered this leader. None on others, and before the first answer.
    pub fn unanswered_for(&self) -> Option<Duration> {
        let acked = self.inner.raft.metrics().borrow_watched().last_quorum_acked;
        acked.map(|at| at.elapsed())
    }

    /// True while the core runs.
    pub fn is_running(&self) -> bool {
        // A core that panicked says nothing any more: its metrics end.
        !self.inner.ended.load(Ordering::SeqCst) && self.inner.raft.metrics().borrow_watched().running_state.is_ok()
    }

    /// Stops the replica and waits for its tasks.
    pub async fn stop(&self) {
        let _ = self.inner.raft.shutdown().await;
    }
}

/// A replica as the node's service sees it, whatever its machine.
pub trait Replica: Send + Sync {
    /// Answers a Raft message for this group. Order within a lane is kept from the moment this is called.
    fn handle(&self, from: NodeId, lane: Lane, kind: u16, body: Bytes) -> BoxFuture<'static, Bytes>;
}

impl<M: Machine> Replica for Group<M> {
    fn handle(&self, from: NodeId, lane: Lane, kind: u16, body: Bytes) -> BoxFuture<'static, Bytes> {
        match kind {
            codec::KIND_APPEND => self.on_append(from, lane, body),
            codec::KIND_VOTE | codec::KIND_PRE_VOTE => self.clone().on_vote(kind, body).boxed(),
            codec::KIND_TRANSFER => self.clone().on_transfer(body).boxed(),
            codec::KIND_SNAPSHOT => self.clone().on_chunk(body).boxed(),
            _ => async { Bytes::new() }.boxed(),
        }
    }
}

impl<M: Machine> Group<M> {
    fn on_append(&self, from: NodeId, lane: Lane, body: Bytes) -> BoxFuture<'static, Bytes> {
        let Ok((_, target, request)) = codec::decode_append(&body) else { return async { Bytes::new() }.boxed() };
        if target != self.inner.replica.0 {
            return async { AppendAnswerV1::Absent.to_bytes() }.boxed();
        }
        // Heartbeats have a lane of their own. An empty append on the log lane keeps its place: overtaking the entries in
        // front of it, it would conflict with a position that the leader already counts as matched.
        if lane == Lane::Pulse {
            return self.clone().on_heartbeat(request).boxed();
        }
        let (done, answer) = oneshot::channel();
        if self.append_queue(from).try_send((request, done)).is_err() {
            self.inner.appends.lock().remove(&from);
            return async { AppendAnswerV1::Absent.to_bytes() }.boxed();
        }
        async move { answer.await.unwrap_or(AppendAnswerV1::Absent).to_bytes() }.boxed()
    }

    async fn on_heartbeat(self, request: openraft::raft::AppendEntriesRequest<Types>) -> Bytes {
        let prev = request.prev_log_id;
        match self.inner.raft.append_entries(request).await {
            Ok(response) => codec::answer_of_append(response, prev, prev).to_bytes(),
            Err(_) => AppendAnswerV1::Absent.to_bytes(),
        }
    }

    /// The ordered, pipelined way into the core for one peer; made again after an error ended it.
    fn append_queue(&self, from: NodeId) -> mpsc::Sender<AppendJob> {
        let mut appends = self.inner.appends.lock();
        if let Some(queue) = appends.get(&from).filter(|queue| !queue.is_closed()) {
            return queue.clone();
        }
        let (tx, rx) = mpsc::channel(APPEND_QUEUE_MAX);
        appends.insert(from, tx.clone());
        self.inner.scope.spawn(run_appends(self.inner.raft.clone(), rx));
        tx
    }

    async fn on_vote(self, kind: u16, body: Bytes) -> Bytes {
        let Ok(ask) = AskVoteV1::from_bytes(&body) else { return Bytes::new() };
        if ask.target != self.inner.replica.0 {
            return VoteAnswerV1::Absent.to_bytes();
        }
        let request = codec::vote_request(&ask);
        let answer = match kind {
            codec::KIND_PRE_VOTE => self.inner.raft.pre_vote(request).await,
            _ => self.inner.raft.vote(request).await,
        };
        answer.map_or(VoteAnswerV1::Absent, codec::answer_of_vote).to_bytes()
    }

    async fn on_transfer(self, body: Bytes) -> Bytes {
        let Ok(request) = TransferV1::from_bytes(&body) else { return Bytes::new() };
        if request.target == self.inner.replica.0 {
            let _ = self.inner.raft.handle_transfer_leader(codec::transfer_request(&request)).await;
        }
        VoteAnswerV1::Absent.to_bytes()
    }

    async fn on_chunk(self, body: Bytes) -> Bytes {
        let Ok(chunk) = ChunkV1::from_bytes(&body) else { return Bytes::new() };
        if chunk.target != self.inner.replica.0 || chunk.total > SNAPSHOT_BYTES_MAX as u64 {
            return ChunkAnswerV1::Absent.to_bytes();
        }
        match self.take_chunk(&chunk) {
            Step::Continue(next) => ChunkAnswerV1::Continue(next).to_bytes(),
            Step::Whole(data) => self.install(&chunk, data).await.to_bytes(),
        }
    }

    /// Keeps a chunk that fits behind what has arrived of the same snapshot.
    fn take_chunk(&self, chunk: &ChunkV1) -> Step {
        let mut incoming = self.inner.incoming.lock();
        if incoming.as_ref().is_none_or(|so_far| so_far.digest != chunk.digest) {
            *incoming = Some(Incoming { digest: chunk.digest, body: Vec::new() });
        }
        let so_far = incoming.as_mut().expect("set just now");
        if so_far.body.len() as u64 == chunk.offset && so_far.body.len() + chunk.data.len() <= chunk.total as usize {
            so_far.body.extend_from_slice(&chunk.data);
        }
        if (so_far.body.len() as u64) < chunk.total {
            return Step::Continue(so_far.body.len() as u64);
        }
        let whole = incoming.take().expect("set above");
        match Sha256::digest(&whole.body).as_slice() == chunk.digest || probe::planted("snapshot-without-checksum") {
            true => Step::Whole(whole.body),
            false => Step::Continue(0),
        }
    }

    async fn install(&self, chunk: &ChunkV1, data: Vec<u8>) -> ChunkAnswerV1 {
        let Ok(meta) = SnapshotMeta::try_from(&chunk.meta) else { return ChunkAnswerV1::Absent };
        let snapshot = Snapshot { meta, snapshot: Arc::new(data) };
        match self.inner.raft.install_full_snapshot(Vote::from(chunk.vote), snapshot).await {
            Ok(response) => ChunkAnswerV1::Done(response.vote.into()),
            Err(_) => ChunkAnswerV1::Absent,
        }
    }
}

enum Step {
    Continue(u64),
    Whole(Vec<u8>),
}

/// Feeds one peer's appends through the core's pipeline and answers them in order. Ends at the first error: the sender
/// starts over from where the follower stands.
async fn run_appends<M: Machine>(raft: Core<M>, jobs: mpsc::Receiver<AppendJob>) {
    let (waiting_tx, mut waiting) = mpsc::channel::<oneshot::Sender<AppendAnswerV1>>(APPEND_QUEUE_MAX * 2);
    let requests = futures::stream::unfold((jobs, waiting_tx), |(mut jobs, waiting)| async move {
        let (request, done) = jobs.recv().await?;
        waiting.send(done).await.ok()?;
        Some((request, (jobs, waiting)))
    });
    let mut answers = raft.stream_append(Box::pin(requests)).boxed();
    while let Some(answer) = answers.next().await {
        let Some(done) = waiting.recv().await else { return };
        let Ok(result) = answer else { return };
        let failed = result.is_err();
        let _ = done.send(codec::answer_of_stream(result));
        if failed {
            return;
        }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        io::Error::other(fault)
    }
}
