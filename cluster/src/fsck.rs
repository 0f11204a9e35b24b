//! The scrubber of a node: reads all closed audit segments again from time to time, mends what is damaged, and says how
//! they are. One task a node, one segment at a time, at a bounded rate: it takes nothing from decisions but that.
//!
//! A pass starts over with the process; what a start finds by itself is noted by then. Judges nothing: what a segment has
//! to be is known to its store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use nethical_protocol::ids::{GroupId, NodeId};
use nethical_protocol::{buggify, probe};

use crate::message::{AskFsckV1, AskRecordsV1, DamageV1, FsckV1, GapV1, KIND_FSCK, LeavesV1};
use crate::node::Core;
use crate::store::AuditStore;
use crate::store::damage::DAMAGED_LEAVES;
use crate::store::scrub::Pace;
use crate::tier::cold::Flaw;
use crate::tier::{self, Rule};
use crate::world::{Lane, timeout};

/// From the begin of a pass to the begin of the next one.
const EVERY_MS: u64 = 6 * 60 * 60 * 1_000;
/// From a node's start to its first pass.
const FIRST_AFTER: Duration = Duration::from_secs(60);
/// How soon what is noted as damaged is mended.
const MEND_EVERY: Duration = Duration::from_secs(2);
/// Between two tries to mend what could not be mended.
const MEND_AGAIN: Duration = Duration::from_secs(30);
/// How fast a pass reads that nobody waits for.
const BYTES_PER_S: u64 = 8 * 1024 * 1024;
/// How fast one reads that an administrator asked for.
const ASKED_BYTES_PER_S: u64 = 64 * 1024 * 1024;
/// How long another node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Damaged segments in one answer.
const DAMAGE_MAX: usize = 1_000;
/// Bytes of records in one answer, unless a single one is larger.
const RECORDS_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How far the node's scrubber is.
#[derive(Debug, Default)]
pub struct Fsck {
    begun: AtomicU64,
    done: AtomicU64,
    wanted: AtomicU64,
    read: AtomicU64,
    repaired: AtomicU64,
    demand: Notify,
}

/// How all nodes' segments are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsckList {
    /// True where nothing is known to be damaged or missing, on any node, and all nodes answered.
    pub ok: bool,
    /// The nodes that answered.
    pub nodes: Vec<FsckNode>,
    /// Nodes that did not.
    pub awaiting: Vec<u64>,
}

/// How one node's segments are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsckNode {
    /// The node.
    pub node: u64,
    /// Passes over all closed segments begun since it started.
    pub begun: u64,
    /// Of those, ended.
    pub done: u64,
    /// The pass whose end says how the segments were after the question that asked for one.
    pub wanted: u64,
    /// Closed segments.
    pub segments: u64,
    /// Of those, read by the pass that runs; all of them where none does.
    pub read: u64,
    /// Entries put back since it started.
    pub repaired: u64,
    /// What is damaged now.
    pub damage: Vec<FsckDamage>,
    /// Damaged segments beyond those listed.
    pub more: u64,
    /// Entries that its snapshots promise and that it has still to fetch.
    pub gaps: Vec<FsckGap>,
}

/// A damaged segment of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsckDamage {
    /// Its group.
    pub group: u32,
    /// Its log's era.
    pub era: u32,
    /// Its file.
    pub segment: String,
    /// The first entry concerned.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What was found.
    pub why: String,
    /// Why the last repair did not succeed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tried: String,
}

/// Entries that a node has still to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsckGap {
    /// Their group.
    pub group: u32,
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

/// Runs until the node stops.
pub async fn pump(core: Arc<Core>) {
    let (clock, fsck) = (core.shared.world.clock.clone(), &core.fsck);
    let every = Duration::from_millis(probe::knob("scrub.every-ms", EVERY_MS));
    let (mut due, mut mend_at) = (clock.now() + FIRST_AFTER.min(every), clock.now());
    loop {
        let _ = timeout(&*clock, MEND_EVERY.min(every), fsck.demand.notified()).await;
        let is_asked = fsck.begun.load(Ordering::SeqCst) < fsck.wanted.load(Ordering::SeqCst);
        if is_asked || clock.now() >= due {
            due = clock.now() + every;
            pass(&core, is_asked).await;
        }
        if (is_asked || clock.now() >= mend_at) && !mend_all(&core).await {
            mend_at = clock.now() + MEND_AGAIN.min(every);
        }
        let damages = core.audits().into_iter().flat_map(|store| store.damages());
        let leaves: u64 = damages.map(|damage| damage.last - damage.first + 1).sum();
        metrics::gauge!(DAMAGED_LEAVES).set(leaves as f64);
    }
}

/// Reads every closed segment once, and mends what it finds. Files of the cold tier are read where somebody asked for the pass.
async fn pass(core: &Core, is_asked: bool) {
    let bytes_per_s = if is_asked { ASKED_BYTES_PER_S } else { BYTES_PER_S };
    let fsck = &core.fsck;
    fsck.read.store(0, Ordering::SeqCst);
    let number = fsck.begun.fetch_add(1, Ordering::SeqCst) + 1;
    let pace = Pace { clock: &*core.shared.world.clock, bytes_per_s };
    for store in core.audits() {
        for first in store.closed_segments() {
            let rule = Rule::of(core, &store);
            if let Some((_, false)) = store.scrub(first, &rule, &pace).await {
                mend(core, &store, first, &rule, &pace).await;
            }
            fsck.read.fetch_add(1, Ordering::SeqCst);
        }
    }
    if is_asked {
        tier::cold::inspect(core).await;
    }
    fsck.done.store(number, Ordering::SeqCst);
}

/// Looks again at what is noted as damaged, and mends what still is. False where some of it could not be mended.
async fn mend_all(core: &Core) -> bool {
    let pace = Pace { clock: &*core.shared.world.clock, bytes_per_s: ASKED_BYTES_PER_S };
    let mut is_whole = true;
    for store in core.audits() {
        let damaged = store.damages();
        for first in store.closed_segments() {
            let name = format!("{first:020}.");
            let is_noted = damaged.iter().any(|damage| damage.segment.starts_with(&name));
            let rule = Rule::of(core, &store);
            if is_noted && matches!(store.scrub(first, &rule, &pace).await, Some((_, false))) {
                is_whole &= mend(core, &store, first, &rule, &pace).await;
            }
        }
    }
    is_whole
}

async fn mend(core: &Core, store: &AuditStore, first: u64, rule: &Rule, pace: &Pace<'_>) -> bool {
    let mended = store.mend(core, first, rule, pace).await;
    match &mended {
        Ok(fetched) => {
            core.fsck.repaired.fetch_add(*fetched, Ordering::SeqCst);
        }
        Err(why) => tracing::warn!(group = %store.log().group, first, why, "a damaged segment cannot be mended yet"),
    }
    mended.is_ok()
}

impl Fsck {
    /// Asks for a pass that begins after this.
    fn begin(&self) {
        let next = self.begun.load(Ordering::SeqCst) + 1;
        self.wanted.fetch_max(next, Ordering::SeqCst);
        self.demand.notify_one();
    }
}

/// Another node's question.
pub async fn on_ask(core: Arc<Core>, ask: AskFsckV1) -> Bytes {
    if ask.begin {
        core.fsck.begin();
    }
    report(&core).to_bytes()
}

/// How this node's segments are.
pub fn report(core: &Core) -> FsckV1 {
    let fsck = &core.fsck;
    let (mut segments, mut damage, mut gaps) = (0, Vec::new(), Vec::new());
    for store in core.audits() {
        let log = store.log();
        segments += store.closed_segments().len() as u64;
        let named = |gap: (u64, u64)| GapV1 { group: log.group.0, first: gap.0, last: gap.1 - 1 };
        gaps.extend(store.gap().map(named));
        damage.extend(store.damages().into_iter().map(|found| DamageV1 {
            group: log.group.0,
            era: log.era,
            segment: found.segment,
            first: found.first,
            last: found.last,
            why: found.why,
            tried: found.tried,
        }));
    }
    for replica in core.partitions() {
        damage.extend(tier::cold::flaws(core, &replica).into_iter().map(of_object));
    }
    let more = damage.len().saturating_sub(DAMAGE_MAX) as u64;
    damage.truncate(DAMAGE_MAX);
    let (begun, done) = (fsck.begun.load(Ordering::SeqCst), fsck.done.load(Ordering::SeqCst));
    let read = if begun == done { segments } else { fsck.read.load(Ordering::SeqCst).min(segments) };
    let (wanted, repaired) = (fsck.wanted.load(Ordering::SeqCst), fsck.repaired.load(Ordering::SeqCst));
    FsckV1 { begun, done, wanted, segments, read, repaired, damage, more, gaps }
}

fn of_object(flaw: Flaw) -> DamageV1 {
    let Flaw { log, object, first, last, why, tried } = flaw;
    DamageV1 { group: log.group.0, era: log.era, segment: object, first, last, why, tried }
}

/// How all nodes' segments are; with `begin`, all of them are read again from now on.
pub async fn list(core: Arc<Core>, begin: bool) -> FsckList {
    let ask = AskFsckV1 { begin }.to_bytes();
    let wire = &core.shared.world.wire;
    let asked = core.peers().into_iter().map(|peer| {
        let call = wire.call(peer, Lane::Control, KIND_FSCK, ask.clone(), PATIENCE);
        async move { (peer, call.await.ok().and_then(|bytes| FsckV1::from_bytes(&bytes).ok())) }
    });
    let others = join_all(asked).await;
    if begin {
        core.fsck.begin();
    }
    let own = (core.shared.options.node, Some(report(&core)));
    let mut said: Vec<(NodeId, Option<FsckV1>)> = [own].into_iter().chain(others).collect();
    said.sort_by_key(|(node, _)| *node);
    let awaiting: Vec<u64> = said.iter().filter(|(_, said)| said.is_none()).map(|(node, _)| node.0).collect();
    let nodes: Vec<FsckNode> = said.into_iter().filter_map(|(node, said)| Some(shown(node, said?))).collect();
    let ok = awaiting.is_empty() && nodes.iter().all(FsckNode::is_whole);
    FsckList { ok, nodes, awaiting }
}

fn shown(node: NodeId, said: FsckV1) -> FsckNode {
    let FsckV1 { begun, done, wanted, segments, read, repaired, damage, more, gaps } = said;
    let damage = damage.into_iter().map(|DamageV1 { group, era, segment, first, last, why, tried }| FsckDamage {
        group,
        era,
        segment,
        first,
        last,
        why,
        tried,
    });
    let gaps = gaps.into_iter().map(|GapV1 { group, first, last }| FsckGap { group, first, last });
    let (damage, gaps) = (damage.collect(), gaps.collect());
    FsckNode { node: node.0, begun, done, wanted, segments, read, repaired, damage, more, gaps }
}

impl FsckNode {
    /// True where nothing is known to be damaged or missing.
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty() && self.more == 0 && self.gaps.is_empty()
    }
}

/// Another replica asks for records: as many as one answer may hold, from this node's own copy.
pub async fn on_records(core: Arc<Core>, ask: AskRecordsV1) -> Bytes {
    let store = core.audit(GroupId(ask.group)).filter(|store| store.log().era == ask.era);
    let Some(store) = store else { return Bytes::new() };
    let count = ask.count.min(nethical_audit::tree::TILE_LEAVES);
    let Ok(mut records) = store.read_within(ask.from, count, RECORDS_BYTES_MAX).await else {
        return Bytes::new();
    };
    if let Some((leaf, body)) = records.first_mut().filter(|_| buggify!("repair.other-bytes")) {
        // Whoever mends a segment holds what it is given against what it knows, leaves and bodies.
        let changed = if ask.from.is_multiple_of(2) || body.is_empty() { leaf } else { body };
        changed[0] ^= 1;
    }
    LeavesV1 { size: store.stored().0, records }.to_bytes()
}
