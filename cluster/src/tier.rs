//! The mover of a node: has closed audit segments moved to the warm tier when they are old, and made anew there when bodies in
//! them may go; and says how the tiers are. One task a node, one segment at a time, at a bounded rate, beside everything.
//!
//! What fails is said once as an error, shown, and tried again later; it never holds up sealing or decisions. What a move does
//! is in [`crate::store::warm`], what may go in [`Rule`]. The cluster log has no log time, is short, and stays hot.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};

use nethical_protocol::ids::NodeId;
use nethical_protocol::probe;

use crate::message::{FailedMoveV1, KIND_TIERS, TierV1, TiersV1};
use crate::node::Core;
use crate::replica::PartitionReplica;
use crate::store::AuditStore;
use crate::store::scrub::Pace;
use crate::store::warm::{MOVES_FAILED_TOTAL, TierSums};
use crate::world::Lane;

mod ages;
pub mod cold;
pub mod fetch;
pub mod files;
pub mod promoted;
mod rule;

use ages::Ages;
pub use rule::Rule;

/// Bytes that the files of a tier take on this node.
pub const TIER_BYTES: &str = "nethical_audit_tier_bytes";
/// Closed segments of a tier on this node.
pub const TIER_SEGMENTS: &str = "nethical_audit_tier_segments";

/// Between two looks for what is due.
const EVERY_MS: u64 = 60 * 1_000;
/// Looks that a log is left alone for after a move of it has failed.
const REST_LOOKS: u32 = 10;
/// How fast segments are read and written.
const BYTES_PER_S: u64 = 8 * 1024 * 1024;
/// How long another node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Failed moves in one answer.
const FAILED_MAX: usize = 100;

/// How all nodes' tiers are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierList {
    /// Each node's tiers, hot first.
    pub tiers: Vec<TierView>,
    /// Segments that are being moved, over all nodes.
    pub under_way: u64,
    /// Moves that failed and are tried again.
    pub failed: Vec<FailedMove>,
    /// Nodes that did not answer.
    pub awaiting: Vec<u64>,
}

/// One tier of one node, over all logs that it keeps a copy of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierView {
    /// The node.
    pub node: u64,
    /// `hot`, `warm`, or `cold`.
    pub tier: String,
    /// Closed segments.
    pub segments: u64,
    /// Their leaves.
    pub leaves: u64,
    /// Bytes of their files on this node.
    pub file_bytes: u64,
    /// Of the cold tier: bytes of the objects that their bodies are in. All replicas have the same objects.
    pub object_bytes: u64,
    /// Of the cold tier: bytes of this node's disk for parts of these objects that were read again.
    pub promoted_bytes: u64,
    /// Bytes of their leaves and bodies as they were stored, dropped bodies included.
    pub raw_bytes: u64,
    /// Of warm and cold segments: bytes of the leaves alone.
    pub leaf_bytes: u64,
    /// Of warm and cold segments: what these leaves take, packed with the heads of their bodies.
    pub packed_bytes: u64,
    /// Bodies dropped because their subjects were erased.
    pub erased: u64,
    /// Bodies dropped because their time was over.
    pub expired: u64,
    /// Bytes that bodies have given back which are not in these files any more.
    pub freed_bytes: u64,
}

/// A move that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedMove {
    /// The node.
    pub node: u64,
    /// The group.
    pub group: u32,
    /// First entry of the segment.
    pub first: u64,
    /// Why.
    pub why: String,
}

/// Runs until the node stops.
pub async fn pump(core: Arc<Core>) {
    let clock = core.shared.world.clock.clone();
    let every = Duration::from_millis(probe::knob("warm.every-ms", EVERY_MS));
    let mut resting = std::collections::BTreeMap::new();
    loop {
        clock.sleep(every).await;
        for store in core.audits() {
            let left: &mut u32 = resting.entry(store.log()).or_default();
            if *left > 0 {
                *left -= 1;
            } else if !look(&core, &store).await {
                *left = REST_LOOKS;
            }
        }
        tell(&core);
    }
}

/// Does what is due for a log; false where something failed.
async fn look(core: &Core, store: &AuditStore) -> bool {
    let Some(old) = old(core, store).await else { return true };
    let pace = Pace { clock: &*core.shared.world.clock, bytes_per_s: BYTES_PER_S };
    let rule = Rule::of(core, store);
    for first in old.into_iter().chain(store.unswept(&rule)) {
        match store.tend(first, &rule, &pace).await {
            Ok(Some(moved)) => {
                tracing::info!(group = %store.log().group, first, dropped = moved.dropped, "an audit segment is warm");
            }
            Ok(None) => {}
            Err(why) => {
                metrics::counter!(MOVES_FAILED_TOTAL).increment(1);
                tracing::error!(group = %store.log().group, first, why, "an audit segment could not be moved; it is tried again");
                return false;
            }
        }
    }
    true
}

/// First leaves of the hot segments that are old; none where the log has no log time, or nothing moves.
async fn old(core: &Core, store: &AuditStore) -> Option<Vec<u64>> {
    let after_ms = probe::knob("warm.after-ms", core.shared.options.warm_after_s.saturating_mul(1_000));
    let replica = core.partition(store.log().group).filter(|_| after_ms > 0)?;
    let now_ns = replica.machine.lock().ledger.now_ns();
    let ages = Ages::hot(&core.shared.view(), after_ms.saturating_mul(1_000_000));
    let before_ns = now_ns.checked_sub(ages.least_ns())?;
    let due = ages.due(&core.shared, store, now_ns, store.hot_before(before_ns)).await;
    Some(due.into_iter().map(|segment| segment.first).collect())
}

fn tell(core: &Core) {
    let Sums { hot, warm, cold } = sums(core);
    for (tier, sums) in [("hot", hot), ("warm", warm), ("cold", cold)] {
        metrics::gauge!(TIER_BYTES, "tier" => tier).set(sums.file_bytes as f64);
        metrics::gauge!(TIER_SEGMENTS, "tier" => tier).set(sums.segments as f64);
    }
}

/// The tiers of all logs here.
#[derive(Default)]
struct Sums {
    hot: TierSums,
    warm: TierSums,
    cold: TierSums,
}

fn sums(core: &Core) -> Sums {
    let mut sums = Sums::default();
    for tiers in core.audits().into_iter().map(|store| store.tiers()) {
        sums.hot.add(&tiers.hot);
        sums.warm.add(&tiers.warm);
        sums.cold.add(&tiers.cold);
    }
    sums
}

/// Bytes of the objects that have bodies which are not here any more.
fn object_bytes(core: &Core) -> u64 {
    let of = |replica: &Arc<PartitionReplica>| {
        let cold = replica.store.cold_segments();
        let machine = replica.machine.lock();
        let files = machine.ledger.subjects().cold_files();
        files.filter(|file| cold.contains(&file.first)).map(|file| file.bytes).sum::<u64>()
    };
    core.partitions().iter().map(of).sum()
}

/// How this node's tiers are.
pub fn report(core: &Core) -> TiersV1 {
    let Sums { hot, warm, cold } = sums(core);
    let (mut under_way, mut failed) = (0, Vec::new());
    for store in core.audits() {
        let tiers = store.tiers();
        under_way += tiers.under_way;
        let group = store.log().group.0;
        failed.extend(tiers.failed.into_iter().map(|(first, why)| FailedMoveV1 { group, first, why }));
    }
    for replica in core.partitions() {
        let group = replica.group.id().0;
        failed.extend(replica.cold.failed().into_iter().map(|(first, why)| FailedMoveV1 { group, first, why }));
    }
    failed.truncate(FAILED_MAX);
    let object_bytes = object_bytes(core);
    let promoted_bytes = core.shared.promoted.sums().1;
    TiersV1 { hot: told(&hot), warm: told(&warm), cold: told(&cold), object_bytes, promoted_bytes, under_way, failed }
}

fn told(sums: &TierSums) -> TierV1 {
    TierV1 {
        segments: sums.segments,
        leaves: sums.leaves,
        file_bytes: sums.file_bytes,
        raw_bytes: sums.raw_bytes,
        leaf_bytes: sums.leaf_bytes,
        packed_bytes: sums.packed_bytes,
        erased: sums.erased,
        expired: sums.expired,
        freed_bytes: sums.freed_bytes,
    }
}

/// How all nodes' tiers are.
pub async fn list(core: Arc<Core>) -> TierList {
    let wire = &core.shared.world.wire;
    let asked = core.peers().into_iter().map(|peer| {
        let call = wire.call(peer, Lane::Control, KIND_TIERS, bytes::Bytes::new(), PATIENCE);
        async move { (peer, call.await.ok().and_then(|bytes| TiersV1::from_bytes(&bytes).ok())) }
    });
    let others = join_all(asked).await;
    let own = (core.shared.options.node, Some(report(&core)));
    let mut said: Vec<(NodeId, Option<TiersV1>)> = [own].into_iter().chain(others).collect();
    said.sort_by_key(|(node, _)| *node);
    let mut list = TierList::default();
    for (node, said) in said {
        let Some(TiersV1 { hot, warm, cold, object_bytes, promoted_bytes, under_way, failed }) = said else {
            list.awaiting.push(node.0);
            continue;
        };
        list.tiers.extend([shown(node, "hot", hot), shown(node, "warm", warm)]);
        if cold.segments > 0 {
            list.tiers.push(TierView { object_bytes, promoted_bytes, ..shown(node, "cold", cold) });
        }
        list.under_way += under_way;
        let named = |FailedMoveV1 { group, first, why }| FailedMove { node: node.0, group, first, why };
        list.failed.extend(failed.into_iter().map(named));
    }
    list
}

fn shown(node: NodeId, tier: &str, said: TierV1) -> TierView {
    TierView {
        node: node.0,
        tier: tier.to_owned(),
        segments: said.segments,
        leaves: said.leaves,
        file_bytes: said.file_bytes,
        object_bytes: 0,
        promoted_bytes: 0,
        raw_bytes: said.raw_bytes,
        leaf_bytes: said.leaf_bytes,
        packed_bytes: said.packed_bytes,
        erased: said.erased,
        expired: said.expired,
        freed_bytes: said.freed_bytes,
    }
}
