//! What a group's log shows to the world, on every node: its checkpoint, tiles and bundles (c2sp.org/tlog-tiles).
//!
//! A published checkpoint covers only leaves that this replica holds durably, and carries the word of every other replica
//! that held them durably, too, when it was asked. Nothing here writes, and nothing waits for it: what cannot be had in
//! time is left out of the note, or refused.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::join_all;

use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::note::{KeyKind, VerifierKey};
use nethical_audit::proof::Proof;
use nethical_audit::publish::Resource;
use nethical_audit::tree::Hash;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, GroupId};
use nethical_protocol::{always, sometimes};

use crate::api::{ClusterProofView, ReceiptView};
use crate::cluster_log;
use crate::message::{AskPublishedV1, AskVouchV1, KIND_PUBLISHED, KIND_VOUCH, PublishedV1, VouchV1};
use crate::node::Core;
use crate::rules::control_leader;
use crate::seeds::Public;
use crate::signing;
use crate::store::{AuditStore, sealer};
use crate::world::{Lane, timeout};

/// A note is made anew at most so often, however many ask.
const RENEW: Duration = Duration::from_secs(1);
/// How long another replica may take to vouch; who is later is not in the note.
const VOUCH_PATIENCE: Duration = Duration::from_millis(1_500);
/// Of that, how long a replica waits for its own disk.
const SYNC_PATIENCE: Duration = Duration::from_millis(1_000);
/// How long a caller waits for one who is making the note already.
const TURN_PATIENCE: Duration = Duration::from_secs(3);
/// How long another node may take for a resource.
const ASK_PATIENCE: Duration = Duration::from_secs(5);
/// How long the control leader may take for a checkpoint with witnesses' lines, before one without is shown.
const LEADER_PATIENCE: Duration = Duration::from_secs(2);
const NANOS: u64 = 1_000_000_000;

/// The checkpoint that was published last.
#[derive(Debug, Clone)]
pub struct Announced {
    /// Leaves that it covers.
    pub size: u64,
    /// The signed note with its cosignatures.
    pub note: String,
    /// When it was made, monotonic.
    at: Duration,
    /// All other replicas are in it.
    is_whole: bool,
    /// The zone's keys that signed it, newest first.
    pub signed_by: Vec<Public>,
}

impl Announced {
    /// A note that somebody else made.
    #[cfg(test)]
    pub(crate) fn of_note(size: u64, note: String) -> Self {
        Self { size, note, at: Duration::ZERO, is_whole: false, signed_by: Vec::new() }
    }
}

/// What a group's log publishes under `resource`, from here or from a replica elsewhere.
///
/// # Errors
/// `not-found` where there is no such log or it is not that long; `no-quorum` where no replica answered.
pub async fn published(core: Arc<Core>, group: GroupId, resource: Resource) -> Result<Bytes, Problem> {
    let ask = AskPublishedV1::Resource { group: group.0, path: resource.path() };
    if group == GroupId::CONTROL
        && resource == Resource::Checkpoint
        && let Some(note) = witnessed(&core, &ask).await
    {
        return Ok(note);
    }
    match anywhere(&core, group, ask).await? {
        PublishedV1::Found(bytes) => Ok(Bytes::from(bytes)),
        PublishedV1::Problem(problem) => Err(problem),
        _ => Err(Problem::new(Code::NotFound, format!("the log of group {group} has no {}", resource.path()))),
    }
}

/// The cluster log's checkpoint from the control group's leader: it has the witnesses' lines. None where there are no
/// witnesses, it is this node, or it does not answer: any replica has the checkpoint itself.
async fn witnessed(core: &Core, ask: &AskPublishedV1) -> Option<Bytes> {
    let leader = control_leader(core).filter(|leader| *leader != core.shared.options.node)?;
    if core.shared.options.witnesses.is_empty() {
        return None;
    }
    let call = core.shared.world.wire.call(leader, Lane::Bulk, KIND_PUBLISHED, ask.to_bytes(), LEADER_PATIENCE);
    match PublishedV1::from_bytes(&call.await.ok()?) {
        Ok(PublishedV1::Found(bytes)) => Some(Bytes::from(bytes)),
        _ => None,
    }
}

/// The proof of a decision against a published checkpoint, with the word of every replica that holds it. Once the cluster
/// log covers the decision, it is against the checkpoint that stands there, and the proof of that comes with it.
///
/// # Errors
/// As [`published`].
pub async fn receipt(core: Arc<Core>, id: DecisionId) -> Result<ReceiptView, Problem> {
    if !id.log.group.is_partition() {
        return Err(Problem::new(Code::NotFound, format!("there is no decision {id}")));
    }
    let cover = cluster_log::cover(&core, id).await;
    let against = cover.as_ref().map(|cover| cover.note.clone());
    match anywhere(&core, id.log.group, AskPublishedV1::Receipt { id, against }).await? {
        PublishedV1::Receipt { leaf, proof } => {
            let cluster = cover.map(|cover| ClusterProofView { leaf: cover.leaf, proof: cover.proof });
            Ok(ReceiptView { decision_id: id, leaf: STANDARD.encode(leaf), receipt: proof, cluster })
        }
        PublishedV1::Problem(problem) => Err(problem),
        _ => Err(Problem::new(Code::NotFound, format!("there is no decision {id}"))),
    }
}

/// Asks here, then the other replicas, until one has it. Only what they hold themselves, so that no two ask each other in
/// turn.
async fn anywhere(core: &Arc<Core>, group: GroupId, ask: AskPublishedV1) -> Result<PublishedV1, Problem> {
    if !core.has_audit(group) {
        return Err(Problem::new(Code::NotFound, format!("there is no log of group {group}")));
    }
    let mut last = here(core, &ask).await;
    let is_had = |found: &PublishedV1| !matches!(found, PublishedV1::Absent | PublishedV1::Problem(_));
    let (own, bytes) = (core.shared.options.node, ask.to_bytes());
    for node in core.placed(group).into_iter().filter(|node| *node != own) {
        if is_had(&last) {
            break;
        }
        let call = core.shared.world.wire.call(node, Lane::Bulk, KIND_PUBLISHED, bytes.clone(), ASK_PATIENCE);
        match call.await.map(|bytes| PublishedV1::from_bytes(&bytes)) {
            Ok(Ok(found)) if is_had(&found) => return Ok(found),
            Err(error) if last == PublishedV1::Absent => {
                last = PublishedV1::Problem(Problem::new(Code::NoQuorum, error.to_string()).retry_after_ms(500));
            }
            _ => {}
        }
    }
    Ok(last)
}

/// Another node's question.
pub async fn on_ask(core: Arc<Core>, ask: AskPublishedV1) -> Bytes {
    here(&core, &ask).await.to_bytes()
}

async fn here(core: &Arc<Core>, ask: &AskPublishedV1) -> PublishedV1 {
    let found = match ask {
        AskPublishedV1::Resource { group, path } => match (core.audit(GroupId(*group)), Resource::parse(path)) {
            (Some(store), Some(resource)) => resource_here(core, &store, resource).await,
            _ => Ok(PublishedV1::Absent),
        },
        AskPublishedV1::Receipt { id, against } => match core.partition(id.log.group) {
            Some(replica) => receipt_here(core, &replica.store, *id, against.as_deref()).await,
            None => Ok(PublishedV1::Absent),
        },
    };
    found.unwrap_or_else(PublishedV1::Problem)
}

async fn resource_here(core: &Arc<Core>, store: &Arc<AuditStore>, resource: Resource) -> Result<PublishedV1, Problem> {
    if resource == Resource::Checkpoint && store.trail.end() == 0 {
        return Ok(PublishedV1::Absent);
    }
    if resource == Resource::Checkpoint {
        let announced = shown(core, store, 0).await?;
        return Ok(PublishedV1::Found(announced.note.into_bytes()));
    }
    let found = store.resource(resource).await.map_err(broken)?;
    Ok(found.map_or(PublishedV1::Absent, PublishedV1::Found))
}

async fn receipt_here(
    core: &Arc<Core>,
    store: &Arc<AuditStore>,
    id: DecisionId,
    against: Option<&str>,
) -> Result<PublishedV1, Problem> {
    if store.log() != id.log || store.trail.end() <= id.leaf_index {
        return Ok(PublishedV1::Absent);
    }
    let (size, note) = match against {
        Some(note) => match fitting(core, store, note).await? {
            Some(size) => (size, note.to_owned()),
            None => return Ok(PublishedV1::Absent),
        },
        None => announced(core, store, id.leaf_index + 1).await.map(|announced| (announced.size, announced.note))?,
    };
    let leaf = store.read(id.leaf_index, 1).await.map_err(broken)?.into_iter().next();
    let hashes = store.prove_at(id.leaf_index, size).await.map_err(broken)?;
    let (Some((leaf, _)), Some(hashes)) = (leaf, hashes) else { return Ok(PublishedV1::Absent) };
    let proof = Proof { extra: None, index: id.leaf_index, hashes, checkpoint: note }.encode();
    Ok(PublishedV1::Receipt { leaf, proof })
}

/// The size of a checkpoint that the cluster log holds of this log, once it fits what is stored here; none where this
/// copy is not that long.
async fn fitting(core: &Core, store: &AuditStore, note: &str) -> Result<Option<u64>, Problem> {
    let claimed = Checkpoint::parse_unverified(note).ok();
    let claimed = claimed.filter(|claimed| claimed.origin == store.log().origin(&core.shared.options.cluster));
    let malformed = || Problem::new(Code::Internal, "the cluster log's checkpoint is of another log");
    let Checkpoint { size, root, .. } = claimed.ok_or_else(malformed)?;
    let Some(own) = store.root_at(size).await.map_err(broken)? else { return Ok(None) };
    always!(own == root, "cluster-log-holds-this-tree", "{} at {size} leaves", store.log().group);
    if own != root {
        tracing::error!(group = %store.log().group, size, "the cluster log holds another root of this log");
        return Err(Problem::new(Code::Internal, format!("the cluster log holds another root of {size} leaves")));
    }
    Ok(Some(size))
}

/// What is shown as a log's checkpoint of at least `size` leaves: of the cluster log with its witnesses' lines, where this
/// node has any.
///
/// # Errors
/// As [`announced`].
pub async fn shown(core: &Arc<Core>, store: &Arc<AuditStore>, size: u64) -> Result<Announced, Problem> {
    let is_witnessed = store.log().group == GroupId::CONTROL;
    let (now, end) = (core.shared.world.clock.now(), store.trail.end());
    let by = signing::in_force(core);
    let best = if is_witnessed { core.witnessed.best(size, end, now, &by) } else { None };
    match best {
        Some(best) => Ok(best),
        None => announced(core, store, size).await,
    }
}

/// The replica's published checkpoint of at least `size` leaves, made anew where it is too old or too short.
///
/// # Errors
/// `not-ready` where the node may not sign, `overloaded` where its disk does not keep up.
pub async fn announced(core: &Arc<Core>, store: &Arc<AuditStore>, size: u64) -> Result<Announced, Problem> {
    let late = || Problem::new(Code::Overloaded, "the audit sealer is behind").retry_after_ms(1_000);
    let turn = timeout(&*core.shared.world.clock, TURN_PATIENCE, store.announced.lock()).await;
    let mut last = turn.ok_or_else(late)?;
    let now = core.shared.world.clock.now();
    let applied = store.trail.end();
    let by = signing::in_force(core);
    if let Some(last) = last.as_ref().filter(|last| last.size >= size && last.signed_by == by) {
        let is_current = last.size == applied && last.is_whole;
        if is_current || now.saturating_sub(last.at) < RENEW {
            return Ok(last.clone());
        }
    }
    // A disk that is late makes the note older, not later; but an empty tree is nothing to show, and every log has a leaf.
    let synced = timeout(&*core.shared.world.clock, SYNC_PATIENCE, store.barrier(applied)).await;
    synced.transpose().map_err(broken)?;
    if store.sealed().borrow().durable < size.max(1) {
        return Err(late());
    }
    match announce(core, store, now).await {
        Ok(announced) => {
            *last = Some(announced.clone());
            Ok(announced)
        }
        // A node that is cut off signs nothing new; what it has signed stays true.
        Err(problem) => last.clone().filter(|last| last.size >= size && last.signed_by == by).ok_or(problem),
    }
}

async fn announce(core: &Arc<Core>, store: &Arc<AuditStore>, at: Duration) -> Result<Announced, Problem> {
    let (size, root) = store.durable().await.map_err(broken)?;
    let signers = signing::signers(core, store)?;
    let note = sealer::sign_with(core, store, &signers, size, root);
    let mut note = note.ok_or_else(|| Problem::new(Code::NotReady, "this node has no signing key"))?;
    let log = store.log();
    let own = core.shared.options.node;
    let others: Vec<_> = core.placed(log.group).into_iter().filter(|node| *node != own).collect();
    let ask = AskVouchV1 { group: log.group.0, era: log.era, size, root }.to_bytes();
    let asked = others
        .iter()
        .map(|node| core.shared.world.wire.call(*node, Lane::Control, KIND_VOUCH, ask.clone(), VOUCH_PATIENCE));
    let lines: Vec<String> = join_all(asked).await.into_iter().flatten().filter_map(|bytes| line_of(&bytes)).collect();
    note.extend(vouch(core, store, size, root));
    let is_whole = lines.len() == others.len();
    sometimes!(is_whole && !lines.is_empty(), "a checkpoint was vouched for by every replica");
    note.extend(lines);
    Ok(Announced { size, note, at, is_whole, signed_by: signers.by.clone() })
}

fn line_of(bytes: &[u8]) -> Option<String> {
    match VouchV1::from_bytes(bytes).ok()? {
        VouchV1::Vouched(line) => Some(line),
        VouchV1::Refused(_) => None,
    }
}

/// Another replica's question. Waits a moment for this one's disk.
pub async fn on_vouch(core: Arc<Core>, ask: AskVouchV1) -> Bytes {
    let said = match vouch_for(&core, &ask).await {
        Ok(line) => VouchV1::Vouched(line),
        Err(why) => VouchV1::Refused(why),
    };
    said.to_bytes()
}

async fn vouch_for(core: &Core, ask: &AskVouchV1) -> Result<String, String> {
    let store = core.audit(GroupId(ask.group)).ok_or("no replica here")?;
    if store.log().era != ask.era {
        return Err("another era".to_owned());
    }
    // Nothing is asked of the sealer that is not applied here: it would hurry for a size that may never come.
    let held = async {
        store.trail.reach(ask.size).await;
        store.barrier(ask.size).await
    };
    let held = timeout(&*core.shared.world.clock, SYNC_PATIENCE, held).await;
    held.ok_or("not durable here yet")?.map_err(|error| error.to_string())?;
    let root = store.root_at(ask.size).await.map_err(|error| error.to_string())?;
    let is_ours = root == Some(ask.root);
    always!(is_ours, "checkpoints-of-replicas-agree", "group {} at {} leaves", ask.group, ask.size);
    if !is_ours {
        tracing::error!(group = ask.group, size = ask.size, "another replica's checkpoint does not fit this log");
        return Err("another root".to_owned());
    }
    vouch(core, &store, ask.size, ask.root).ok_or_else(|| "not whole here, or a greater tree is vouched for".to_owned())
}

/// This replica's word that it holds these leaves durably and has never vouched for more. The caller has seen to it that
/// they are durable; that none of them is damaged and that the tree is the greatest so far is seen to here.
fn vouch(core: &Core, store: &AuditStore, size: u64, root: Hash) -> Option<String> {
    let cosigner = signing::cosigner(core)?;
    if !store.is_whole(size) {
        sometimes!(true, "a node with damaged leaves did not vouch for them");
        return None;
    }
    let mut vouched = store.vouched.lock();
    if size < *vouched {
        return None;
    }
    *vouched = size;
    let origin = store.log().origin(&core.shared.options.cluster);
    let at_s = core.shared.world.clock.wall_ns() / NANOS;
    Some(cosigner.cosign(&Checkpoint { origin, size, root }.text(), at_s))
}

/// The verifier key by which this node vouches.
pub fn vkey(core: &Core) -> Option<String> {
    let name = signing::own_name(core, core.shared.options.node);
    VerifierKey::new(&name, KeyKind::Cosigner, signing::own_public(core)?).ok().map(|key| key.to_string())
}

fn broken(error: std::io::Error) -> Problem {
    Problem::new(Code::Internal, error.to_string())
}
