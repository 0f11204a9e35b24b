//! What a node does all the time beside deciding: probes clocks, learns the founding record, snapshots by log bytes,
//! restarts stopped replicas, hands leadership to where the ring prefers it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use nethical_protocol::ids::{GroupId, NodeId};
use nethical_protocol::limits::{SNAPSHOT_LOG_BYTES, WAL_PINNED_SEGMENTS_MAX};
use nethical_protocol::{buggify, probe, sometimes};

use crate::message::{FoundingV1, KIND_FOUNDING, KIND_PROBE};
use crate::node::Core;
use crate::replicate::group::{Group, Progress};
use crate::replicate::machine::Machine;
use crate::start::{self, Starter};
use crate::world::{Lane, timeout};

/// Between two rounds of supervision.
const ROUND: Duration = Duration::from_millis(500);
/// Between two snapshots of one group, whatever its log does.
const SNAPSHOT_EVERY_MS: u64 = 5_000;
/// Entries that stay in the log behind a snapshot.
const KEPT_ENTRIES: u64 = 256;
/// A leader keeps a group at least this long before it hands it to the preferred node.
const HAND_OVER_AFTER: Duration = Duration::from_secs(3);
/// A leader that no quorum has answered for so many of the longest election timeouts gives up.
const SILENT_ELECTIONS: u32 = 2;
/// Between two clock probes of a peer that is known.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// How long a quorum may take to confirm the meta leader before it is asked again.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(2);
const PROBE_PATIENCE: Duration = Duration::from_millis(500);

/// Asks the peers for their wall clocks, all at once and quickly where one did not answer. Runs until the node stops.
pub async fn probe_clocks(core: Arc<Core>) {
    let clock = core.shared.world.clock.clone();
    loop {
        let peers = core.peers();
        let answered = join_all(peers.iter().map(|peer| probe_clock(&core, *peer))).await;
        let all = answered.into_iter().all(|answered| answered);
        clock.sleep(if all { PROBE_EVERY } else { PROBE_EVERY / 10 }).await;
    }
}

/// False where the peer did not answer.
async fn probe_clock(core: &Core, peer: NodeId) -> bool {
    let (clock, sent) = (&core.shared.world.clock, core.shared.world.clock.now());
    let call = core.shared.world.wire.call(peer, Lane::Pulse, KIND_PROBE, Bytes::new(), PROBE_PATIENCE);
    let answer = call.await.unwrap_or_default();
    let Some(wall) = answer.first_chunk::<8>() else { return false };
    core.shared.timekeeper.probed(peer, u64::from_le_bytes(*wall), sent, clock.now());
    core.shared.world.directory.heard(peer, clock.now());
    true
}

/// Learns the founding record from the meta group here or from a peer; the meta leader writes it. Ends once known.
pub async fn learn_founding(core: Arc<Core>) {
    let clock = core.shared.world.clock.clone();
    while core.founding().is_none() && core.refusal.lock().is_none() {
        let meta = core.meta.read().clone();
        let known = meta.as_ref().and_then(|plain| plain.machine.lock().founding.clone());
        match (known, meta) {
            (Some(record), _) => core.set_founding(record),
            (None, Some(plain)) if plain.group.leadership().borrow().here => {
                let confirmed = timeout(&*clock, CONFIRM_PATIENCE, plain.group.confirm()).await;
                let is_new = matches!(confirmed, Some(Ok(()))) && plain.machine.lock().founding.is_none();
                if is_new && let Ok(reply) = plain.group.propose(start::founding_entry(&core)).await {
                    let _ = reply.await;
                }
            }
            (None, Some(_)) => {}
            (None, None) => {
                if let Some(record) = ask_founding(&core).await {
                    core.set_founding(record);
                }
            }
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
}

async fn ask_founding(core: &Core) -> Option<FoundingV1> {
    for peer in core.peers() {
        let call = core.shared.world.wire.call(peer, Lane::Control, KIND_FOUNDING, Bytes::new(), PROBE_PATIENCE);
        let found = call.await.ok().and_then(|bytes| FoundingV1::from_bytes(&bytes).ok());
        if found.is_some() {
            return found;
        }
    }
    None
}

/// What a round remembers of a group.
#[derive(Default, Clone, Copy)]
struct Memory {
    snapshot_at: Option<Duration>,
    leads_since: Option<Duration>,
}

/// The node's rounds. Runs until the node stops.
pub async fn supervise(core: Arc<Core>, starter: Arc<Starter>) {
    let mut memories: BTreeMap<GroupId, Memory> = BTreeMap::new();
    loop {
        core.shared.world.clock.sleep(ROUND).await;
        let mut handed_over = false;
        let (meta, control) = (core.meta.read().clone(), core.control.read().clone());
        if let Some(plain) = meta {
            round(&core, &plain.group, memories.entry(GroupId::META).or_default(), &mut handed_over).await;
        }
        if let Some(plain) = control {
            round(&core, &plain.group, memories.entry(GroupId::CONTROL).or_default(), &mut handed_over).await;
        }
        for replica in core.partitions() {
            round(&core, &replica.group, memories.entry(replica.group.id()).or_default(), &mut handed_over).await;
        }
        restart_stopped(&core, &starter).await;
    }
}

async fn round<M: Machine>(core: &Core, group: &Group<M>, memory: &mut Memory, handed_over: &mut bool) {
    let now = core.shared.world.clock.now();
    let progress = group.progress();
    core.note_acknowledged(group.id(), &progress);
    let bytes_max = probe::knob("snapshot.log-bytes", SNAPSHOT_LOG_BYTES);
    let pinned_max = probe::knob("snapshot.pinned-segments", WAL_PINNED_SEGMENTS_MAX);
    let pins = group.log().pinned_segments() > pinned_max;
    let is_large = group.log().log_bytes() > bytes_max || pins;
    let every = Duration::from_millis(probe::knob("snapshot.every-ms", SNAPSHOT_EVERY_MS));
    let is_due = memory.snapshot_at.is_none_or(|at| now.saturating_sub(at) >= every);
    if (is_large && is_due) || (progress.applied > 0 && buggify!("snapshot.early")) {
        memory.snapshot_at = Some(now);
        group.snapshot().await;
    }
    // A group with few entries would keep its first ones, and with them every log segment of the node, for ever.
    group.purge(if pins { 0 } else { probe::knob("snapshot.keep-entries", KEPT_ENTRIES) }).await;
    if !group.leadership().borrow().here {
        memory.leads_since = None;
        return;
    }
    let silent_for = group.unanswered_for().unwrap_or_default();
    if silent_for > Duration::from_millis(core.shared.options.timing.election_max_ms) * SILENT_ELECTIONS {
        return give_up_unanswered(core, group, &progress, silent_for).await;
    }
    let since = *memory.leads_since.get_or_insert(now);
    if *handed_over || now.saturating_sub(since) < HAND_OVER_AFTER {
        return;
    }
    if let Some(successor) =
        successor(core, group.id(), &progress.replicas, &progress.matched, group.log().last_index())
    {
        sometimes!(true, "leadership was handed over");
        tracing::info!(group = %group.id(), successor, "leadership goes to the preferred node");
        group.transfer(nethical_protocol::ids::ReplicaId(successor)).await;
        *handed_over = true;
        memory.leads_since = Some(now);
    }
}

/// A leader that the others hear and that hears no quorum of them commits nothing, and its heartbeats keep them from
/// electing another one. Handing over ends them: the successor is told, and where it is not, elections begin.
async fn give_up_unanswered<M: Machine>(core: &Core, group: &Group<M>, progress: &Progress, silent_for: Duration) {
    let others = progress.voting.iter().filter(|(_, node)| **node != core.shared.options.node);
    let Some((successor, _)) = others.max_by_key(|(replica, _)| progress.matched.get(replica)) else { return };
    sometimes!(true, "a leader that no quorum answered gave its group up");
    tracing::warn!(group = %group.id(), successor, ?silent_for, "no quorum answers this leader: it gives its group up");
    group.transfer(nethical_protocol::ids::ReplicaId(*successor)).await;
}

/// The preferred node's replica, where it is another one, present, has nearly everything, and a clock that it may lead by.
fn successor(
    core: &Core,
    group: GroupId,
    replicas: &BTreeMap<u64, NodeId>,
    matched: &BTreeMap<u64, u64>,
    last: u64,
) -> Option<u64> {
    let preferred = core.placed(group).first().copied()?;
    if preferred == core.shared.options.node || !core.shared.world.directory.present().contains(&preferred) {
        return None;
    }
    let (clock, nodes) = (&*core.shared.world.clock, core.shared.options.nodes.len());
    if !core.shared.timekeeper.trusts(preferred, clock, nodes) {
        return None;
    }
    let (replica, _) = replicas.iter().find(|(_, node)| **node == preferred)?;
    (last.saturating_sub(*matched.get(replica)?) < 64).then_some(*replica)
}

/// A replica whose core has stopped is started again from its log: openraft may end a core that found itself broken.
async fn restart_stopped(core: &Arc<Core>, starter: &Arc<Starter>) {
    let (meta, control) = (core.meta.read().clone(), core.control.read().clone());
    if let Some(plain) = meta.filter(|plain| !plain.group.is_running()) {
        restart_plain(starter, &plain.group).await;
    }
    if let Some(plain) = control.filter(|plain| !plain.group.is_running()) {
        restart_plain(starter, &plain.group).await;
    }
    for replica in core.partitions() {
        if replica.group.is_running() || core.starting.lock().contains_key(&replica.group.id()) {
            continue;
        }
        let id = replica.group.id();
        sometimes!(true, "a replica whose core had stopped was started again");
        tracing::error!(group = %id, "the replica's core has stopped; it is started again from its log");
        core.starting.lock().insert(id, "is starting again".to_owned());
        replica.group.stop().await;
        replica.retire();
        let (log, life) = (replica.group.log().clone(), replica.group.replica());
        drop(replica);
        core.shared.world.scope.spawn(starter.clone().start_again(id, life, log));
    }
}

async fn restart_plain<M: Machine>(starter: &Arc<Starter>, group: &Group<M>) {
    tracing::error!(group = %group.id(), "the replica's core has stopped; it is started again from its log");
    group.stop().await;
    if let Err(fault) = starter.run_group(group.id(), group.replica(), group.log().clone()).await {
        tracing::error!(group = %group.id(), %fault, "it does not start again");
    }
}
