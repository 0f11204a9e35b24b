//! Looking into the audit trail: one entry, checkpoints, raw leaves, verifier keys. Reads only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use nethical_audit::leaf::codec::KINDS;
use nethical_audit::leaf::{LeafEvent, LeafV1};
use nethical_audit::tree::leaf_hash;
use nethical_protocol::decision::Decision;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, GroupId, LogId, NodeId};

use crate::answer::{Wish, Words, decision_of};
use crate::api::*;
use crate::body::BodyV1;
use crate::control::view::ControlView;
use crate::node::Core;
use crate::opening::{self, Opened};
use crate::replica::PartitionReplica;
use crate::signing;
use crate::store::sealer;
use crate::world::timeout;

/// How long a proof or checkpoint waits for the sealer.
const SEAL_PATIENCE: Duration = Duration::from_secs(5);
/// Raw leaves in one answer.
const RAW_MAX: u64 = 2_048;

fn id_of(leaf: &LeafV1) -> DecisionId {
    DecisionId { log: LogId { group: GroupId(leaf.group), era: leaf.era }, leaf_index: leaf.leaf_index }
}

/// What stands at one place of the trail: the decision as it was answered, where it is one, and the body, where it can be
/// opened.
pub async fn recorded(core: &Arc<Core>, id: DecisionId) -> Result<(Option<Decision>, Option<BodyV1>), Problem> {
    let records = core.leaves(id.log.group, id.leaf_index, 1).await?;
    let absent = || Problem::new(Code::NotReady, format!("the record {id} is on its way here")).retry_after_ms(200);
    let (bytes, stored) = records.records.into_iter().next().ok_or_else(absent)?;
    let leaf = LeafV1::decode(&bytes).map_err(broken)?;
    let opened = opening::open(core, id.log.group, &[(id.leaf_index, &stored)]).await.pop();
    let body = opened.and_then(Opened::body);
    Ok((decision_in(core, &core.shared.view(), &leaf, &leaf_hash(&bytes), body.as_ref()), body))
}

/// A record that is to be shown.
pub struct Found {
    /// Decoded.
    pub leaf: LeafV1,
    /// Canonical bytes.
    pub bytes: Vec<u8>,
    /// The stored body.
    pub stored: Vec<u8>,
}

/// The records as callers see them, in the same order; bodies are opened by the leaders of their groups.
pub async fn entry_views(core: &Arc<Core>, view: &ControlView, found: Vec<Found>) -> Vec<EntryView> {
    let opened = open_all(core, &found).await;
    found.iter().zip(opened).map(|(found, opened)| entry_view(core, view, found, opened)).collect()
}

/// The bodies of records, in the same order, opened by the leaders of their groups.
pub async fn open_all(core: &Arc<Core>, found: &[Found]) -> Vec<Opened> {
    let mut by_group: BTreeMap<GroupId, Vec<usize>> = BTreeMap::new();
    (0..found.len()).for_each(|at| by_group.entry(GroupId(found[at].leaf.group)).or_default().push(at));
    let mut all: BTreeMap<usize, Opened> = BTreeMap::new();
    for (group, mut places) in by_group {
        places.sort_by_key(|at| found[*at].leaf.leaf_index);
        let records: Vec<(u64, &[u8])> =
            places.iter().map(|at| (found[*at].leaf.leaf_index, found[*at].stored.as_slice())).collect();
        let opened = opening::open(core, group, &records).await;
        all.extend(places.into_iter().zip(opened));
    }
    all.into_values().collect()
}

/// A record as callers see it.
pub fn entry_view(core: &Core, view: &ControlView, found: &Found, opened: Opened) -> EntryView {
    let Found { leaf, bytes, .. } = found;
    let hash = leaf_hash(bytes);
    let body_state = match &opened {
        Opened::Erased => Some("erased".to_owned()),
        Opened::Expired => Some("expired".to_owned()),
        Opened::Unavailable(_) => Some("unavailable".to_owned()),
        Opened::None | Opened::Body(_) => None,
    };
    let body = opened.body();
    EntryView {
        decision_id: id_of(leaf),
        kind: leaf.event.as_str().to_owned(),
        at_ns: leaf.now_ns,
        leaf_hash: hex::encode(hash),
        decision: decision_in(core, view, leaf, &hash, body.as_ref()),
        body: body.map(|body| body.to_json()),
        body_state,
    }
}

/// The decision as it was answered, where a leaf is one. Its request id is in the body alone.
fn decision_in(
    core: &Core,
    view: &ControlView,
    leaf: &LeafV1,
    hash: &[u8; 32],
    body: Option<&BodyV1>,
) -> Option<Decision> {
    let LeafEvent::Decision(found) = &leaf.event else { return None };
    let request_id = match body {
        Some(BodyV1::Decision { action, .. }) => action.request_id.as_str(),
        _ => "",
    };
    let wish = Wish { explain: true, replayed: false };
    let (cluster, taxonomy) = (&core.shared.options.cluster, &core.shared.world.prepared.taxonomy);
    Some(decision_of(Words { cluster, view, taxonomy }, request_id, leaf, hash, found, wish))
}

fn replica_here(core: &Core, group: GroupId) -> Result<Arc<PartitionReplica>, Problem> {
    let missing = || Problem::new(Code::NotFound, format!("group {group} has no partition replica on this node"));
    core.partition(group).ok_or_else(missing)
}

fn broken(error: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Internal, error.to_string())
}

/// Waits until segments hold this many leaves; a sealer that has stopped must not hold a caller for ever.
async fn sealed(core: &Core, replica: &PartitionReplica, leaves: u64) -> Result<(), Problem> {
    let late = || Problem::new(Code::Overloaded, "the audit sealer is behind").retry_after_ms(1_000);
    let barrier = timeout(&*core.shared.world.clock, SEAL_PATIENCE, replica.store.barrier(leaves)).await;
    barrier.ok_or_else(late)?.map_err(broken)
}

/// A signed checkpoint over everything that this replica has applied, once that is in segments.
pub async fn checkpoint(core: Arc<Core>, group: GroupId) -> Result<String, Problem> {
    let replica = replica_here(&core, group)?;
    let applied = replica.machine.lock().tree().0;
    sealed(&core, &replica, applied).await?;
    let (size, root) = replica.store.stored();
    let signers = signing::signers(&core, &replica.store)?;
    sealer::sign_with(&core, &replica.store, &signers, size, root)
        .ok_or_else(|| Problem::new(Code::NotReady, "this node has no signing key"))
}

/// Leaves and sealed bodies as stored.
pub async fn raw_leaves(core: Arc<Core>, group: GroupId, from: u64, count: u64) -> Result<RawLeaves, Problem> {
    if !group.is_partition() || !core.groups().any(|known| known == group) {
        return Err(Problem::new(Code::NotFound, format!("group {group} has no audit log")));
    }
    let found = core.leaves(group, from, count.min(RAW_MAX)).await?;
    let (leaves, bodies) =
        found.records.iter().map(|(leaf, body)| (STANDARD.encode(leaf), STANDARD.encode(body))).unzip();
    Ok(RawLeaves { from, leaves, bodies })
}

/// Verifier keys of all partition logs and of the cluster log, and all that there were; those of nodes as far as they ever
/// turned theirs.
pub fn verifier_keys(core: &Core, awaits: &[u64]) -> Result<VerifierKeys, Problem> {
    let (cluster, view) = (core.shared.options.cluster.clone(), core.shared.view());
    let newest = signing::generations(core, view.signing()).0.pop();
    let newest = newest.ok_or_else(|| Problem::new(Code::NotReady, "this node has no signing key"))?;
    let origin = |group: GroupId| LogId { group, era: 1 }.origin(&cluster);
    let vkey = |group| newest.key(&origin(group)).map(|key| key.to_string()).map_err(broken);
    let vkeys = core.groups().filter(|group| group.is_partition()).map(vkey).collect::<Result<_, _>>()?;
    let cluster_log = vkey(GroupId::CONTROL)?;
    let witnesses = core.shared.options.witnesses.iter().map(|witness| witness.key.to_string()).collect();
    let signing = ZoneKeyView::all(view.signing(), &newest, awaits);
    let nodes = view.signing().cosigners().iter();
    let name = |node: u64| signing::own_name(core, NodeId(node));
    let cosigner_keys = nodes.flat_map(|(node, keys)| CosignerKeyView::all(*node, &name(*node), keys)).collect();
    Ok(VerifierKeys { vkeys, cluster_log, witnesses, signing, cosigner_keys, cosigners: Vec::new(), cluster })
}
