//! The cluster log's upkeep: the control leader gathers what partitions' logs publish and proposes it, and shows where the
//! cluster log covers a decision.
//!
//! What it remembers is in memory and of one leader: another one gathers it anew within a round. Nothing waits for it;
//! what becomes a leaf is judged in apply ([`crate::control::log`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;

use nethical_audit::checkpoint::{Checkpoint, CheckpointError};
use nethical_audit::cluster::{ClusterLeaf, ClusterLeafError};
use nethical_audit::note::{Note, NoteError};
use nethical_audit::proof::Proof;
use nethical_audit::publish::Resource;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, GroupId, LogId};
use nethical_protocol::{probe, sometimes};

use crate::control::log::Newest;
use crate::control::{ControlEntryV1, ControlMachine};
use crate::message::{AskCoverV1, CoverV1, KIND_COVER};
use crate::node::{Core, Plain};
use crate::publish;
use crate::rules::{control_here, control_leader};
use crate::signing;
use crate::store::AuditStore;
use crate::world::{Lane, timeout};

/// Between two rounds.
const EVERY_MS: u64 = 10_000;
/// Between two looks at whether a round is due.
const LOOK: Duration = Duration::from_secs(1);
/// A log that has grown by so many leaves since its last checkpoint in the cluster log does not wait for the round.
const GROWN_LEAVES: u64 = 4_096;
/// Logs that are asked at once.
const ASKED_AT_ONCE: usize = 8;
/// How long a quorum may take to confirm the leader, and the group to apply what it proposes.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a node may take to show where a decision is covered.
const COVER_PATIENCE: Duration = Duration::from_secs(2);

/// What the control leader remembers of its rounds.
#[derive(Default)]
pub struct Gathered {
    /// The newest note of each partition's log as it was published, cosignatures included, and how many leaves it covers.
    notes: Mutex<BTreeMap<LogId, (u64, String)>>,
    /// What was gathered is void: a round is due.
    is_void: AtomicBool,
}

impl Gathered {
    /// The published note of a log at that size.
    fn note(&self, log: LogId, size: u64) -> Option<String> {
        self.notes.lock().get(&log).filter(|(known, _)| *known == size).map(|(_, note)| note.clone())
    }

    /// Forgets all, as where other keys sign from now on: the next round does not wait.
    pub fn clear(&self) {
        self.notes.lock().clear();
        self.is_void.store(true, Ordering::SeqCst);
    }

    /// Keeps a note, unless one of that size is known for which as many vouched.
    fn keep(&self, log: LogId, size: u64, note: String) {
        let mut notes = self.notes.lock();
        let is_less = |(known, held): &(u64, String)| (*known, lines(held)) < (size, lines(&note));
        if notes.get(&log).is_none_or(is_less) {
            notes.insert(log, (size, note));
        }
    }
}

/// Where the cluster log covers a leaf of a partition's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cover {
    /// The partition's checkpoint, with the word of those who vouched for it.
    pub note: String,
    /// The same verbatim as it stands in the cluster log.
    pub leaf: String,
    /// Its proof against a checkpoint of the cluster log (c2sp.org/tlog-proof).
    pub proof: String,
}

/// Signature lines of a note that its log did not write itself.
fn lines(note: &str) -> usize {
    let Ok(note) = Note::parse(note) else { return 0 };
    let origin = note.text_unverified().lines().next().unwrap_or_default();
    note.signatures().iter().filter(|signature| signature.name != origin).count()
}

/// True where so many vouch for a group's note that a quorum holds what it covers.
fn is_vouched(core: &Core, group: GroupId, note: &str) -> bool {
    lines(note) > core.placed(group).len() / 2
}

/// Gathers, on the node that leads the control group. Runs until the node stops.
pub async fn gather(core: Arc<Core>) {
    let clock = core.shared.world.clock.clone();
    let mut last: Option<Duration> = None;
    loop {
        clock.sleep(LOOK.min(every())).await;
        let Some(control) = control_here(&core).filter(|control| control.group.leadership().borrow().here) else {
            core.gathered.clear();
            last = None;
            continue;
        };
        let is_void = core.gathered.is_void.swap(false, Ordering::SeqCst);
        let is_due = is_void || last.is_none_or(|last| clock.now().saturating_sub(last) >= every());
        if is_due || has_grown(&core, &control) {
            last = Some(clock.now());
            if let Err(problem) = round(&core, &control).await {
                tracing::debug!(why = problem.detail, "no checkpoints are gathered this time");
            }
        }
    }
}

fn every() -> Duration {
    Duration::from_millis(probe::knob("cluster-log.every-ms", EVERY_MS))
}

fn partitions(core: &Core) -> Vec<GroupId> {
    core.groups().filter(|group| group.is_partition()).collect()
}

fn newest(control: &Plain<ControlMachine>, log: LogId) -> Option<Newest> {
    control.machine.lock().log.newest(log)
}

/// True where a log that has a copy here has grown a lot. Of others only a round learns that.
fn has_grown(core: &Core, control: &Plain<ControlMachine>) -> bool {
    let grown = |store: Arc<AuditStore>| {
        let known = newest(control, store.log()).map_or(0, |newest| newest.size);
        store.trail.end() >= known.saturating_add(GROWN_LEAVES)
    };
    core.audits().into_iter().filter(|store| store.log().group.is_partition()).any(grown)
}

/// One round: asks all logs that may have something new, and proposes what says more than the cluster log does.
async fn round(core: &Arc<Core>, control: &Plain<ControlMachine>) -> Result<(), Problem> {
    let late = || Problem::new(Code::NoQuorum, "the control group did not answer in time");
    let clock = &*core.shared.world.clock;
    timeout(clock, PATIENCE, control.group.confirm()).await.and_then(Result::ok).ok_or_else(late)?;
    let asked: Vec<GroupId> =
        partitions(core).into_iter().filter(|group| may_say_more(core, control, *group)).collect();
    let asks = futures::stream::iter(asked.into_iter().map(|group| fetch(core.clone(), group)));
    let mut found: Vec<(ClusterLeaf, String, String)> =
        asks.buffer_unordered(ASKED_AT_ONCE).filter_map(|found| async move { found }).collect().await;
    found.sort_by_key(|(leaf, ..)| leaf.log);
    let mut news = Vec::new();
    for (leaf, text, note) in found {
        let size = leaf.checkpoint.size;
        core.gathered.keep(leaf.log, size, note);
        if newest(control, leaf.log).is_none_or(|newest| newest.size < size) {
            news.push(text);
        }
    }
    if news.is_empty() {
        return Ok(());
    }
    let reply = control.group.propose(ControlEntryV1::Checkpoints(news).to_bytes()).await.map_err(|_| late())?;
    timeout(clock, PATIENCE, reply).await.and_then(Result::ok).ok_or_else(late)?;
    sometimes!(true, "checkpoints were added to the cluster log");
    Ok(())
}

/// False where this node's own copy shows that nothing was added since the last round.
fn may_say_more(core: &Core, control: &Plain<ControlMachine>, group: GroupId) -> bool {
    let Some(store) = core.audit(group) else { return true };
    let size = store.trail.end();
    let is_known = newest(control, store.log()).is_some_and(|newest| newest.size == size);
    !is_known || core.gathered.note(store.log(), size).is_none_or(|note| !is_vouched(core, group, &note))
}

/// A log's published checkpoint: taken apart, as a leaf, and as it was published. None where there is none to be had that
/// its own key signed.
async fn fetch(core: Arc<Core>, group: GroupId) -> Option<(ClusterLeaf, String, String)> {
    let note = publish::published(core.clone(), group, Resource::Checkpoint).await.ok()?;
    let note = String::from_utf8(note.to_vec()).ok()?;
    let cluster = &core.shared.options.cluster;
    let origin = Checkpoint::parse_unverified(&note).ok()?.origin;
    let log = LogId::of_origin(cluster, &origin).filter(|log| log.group == group)?;
    let keys = signing::keys_of(&core, &log.origin(cluster));
    match ClusterLeaf::of_note(cluster, &note, &keys) {
        Ok((leaf, text)) => Some((leaf, text, note)),
        // A replica that has not heard of the newest turn signs by an older key.
        Err(ClusterLeafError::Checkpoint(CheckpointError::Note(NoteError::NoKnownKey))) => {
            tracing::debug!(%group, "a published checkpoint is signed by no key in force");
            None
        }
        Err(error) => {
            tracing::error!(%group, %error, "a published checkpoint is not to be believed");
            None
        }
    }
}

/// Where the cluster log covers a decision with a checkpoint that a quorum vouched for, by the word of the control group's
/// leader. None while it does not, and where the leader cannot say.
pub async fn cover(core: &Arc<Core>, id: DecisionId) -> Option<Cover> {
    let ask = AskCoverV1 { group: id.log.group.0, era: id.log.era, leaf_index: id.leaf_index };
    let leader = control_leader(core)?;
    if leader == core.shared.options.node {
        return cover_here(core, &ask).await.ok().flatten();
    }
    let call = core.shared.world.wire.call(leader, Lane::Bulk, KIND_COVER, ask.to_bytes(), COVER_PATIENCE);
    CoverV1::from_bytes(&call.await.ok()?).ok().and_then(Cover::of)
}

impl Cover {
    fn of(answer: CoverV1) -> Option<Self> {
        match answer {
            CoverV1::Covered { note, leaf, proof } => Some(Self { note, leaf, proof }),
            CoverV1::Not => None,
        }
    }
}

/// Another node's question.
pub async fn on_cover(core: Arc<Core>, ask: AskCoverV1) -> Bytes {
    let found = cover_here(&core, &ask).await.ok().flatten();
    let said = found.map_or(CoverV1::Not, |Cover { note, leaf, proof }| CoverV1::Covered { note, leaf, proof });
    said.to_bytes()
}

async fn cover_here(core: &Arc<Core>, ask: &AskCoverV1) -> Result<Option<Cover>, Problem> {
    let log = LogId { group: GroupId(ask.group), era: ask.era };
    let (Some(control), Some(store)) = (control_here(core), core.audit(GroupId::CONTROL)) else { return Ok(None) };
    let Some(Newest { size, index }) = newest(&control, log).filter(|newest| newest.size > ask.leaf_index) else {
        return Ok(None);
    };
    // A receipt carries the word of a quorum. A leader that began lately has that again after a round.
    let note = core.gathered.note(log, size).filter(|note| is_vouched(core, log.group, note));
    let Some(note) = note else { return Ok(None) };
    let broken = |error: std::io::Error| Problem::new(Code::Internal, error.to_string());
    let checkpoint = publish::shown(core, &store, index + 1).await?;
    let leaf = store.read(index, 1).await.map_err(broken)?.into_iter().next();
    let hashes = store.prove_at(index, checkpoint.size).await.map_err(broken)?;
    let (Some((leaf, _)), Some(hashes)) = (leaf, hashes) else { return Ok(None) };
    let Ok(leaf) = String::from_utf8(leaf) else { return Ok(None) };
    let proof = Proof { extra: None, index, hashes, checkpoint: checkpoint.note }.encode();
    Ok(Some(Cover { note, leaf, proof }))
}
