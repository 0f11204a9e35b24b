//! Looking into the audit trail: entries, checkpoints, raw leaves, verifier keys. Reads only.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use nethical_audit::body;
use nethical_audit::leaf::{LeafEvent, LeafV1};
use nethical_audit::note::Signer;
use nethical_audit::tree::leaf_hash;
use nethical_protocol::decision::{Decision, Verdict};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, GroupId, KeyedId, LogId};

use crate::answer::{Wish, Words, decision_of};
use crate::api::*;
use crate::body::BodyV1;
use crate::control::view::{ControlView, Tenant};
use crate::node::Core;
use crate::replica::PartitionReplica;
use crate::store::sealer;
use crate::world::timeout;

/// How long a proof or checkpoint waits for the sealer.
const SEAL_PATIENCE: Duration = Duration::from_secs(5);
/// Entries in one page.
const PAGE_MAX: usize = 1_000;
/// Leaves looked at in one group for one page.
const LOOKED_AT_MAX: u64 = 20_000;
/// Leaves read at once.
const READ_LEAVES: u64 = 512;
/// Raw leaves in one answer.
const RAW_MAX: u64 = 2_048;

/// What entries must match.
struct Filter {
    tenant: Option<KeyedId>,
    agent: Option<KeyedId>,
    verdict: Option<Verdict>,
}

impl Filter {
    fn of(core: &Core, view: &ControlView, query: &EntryQuery) -> Result<Self, Problem> {
        let verdict = match &query.verdict {
            None => None,
            Some(word) => Some(Verdict::from_word(word).ok_or_else(|| {
                Problem::new(Code::MalformedRequest, "verdict must be allow, restrict, escalate, block or terminate")
            })?),
        };
        let unknown = |name: &String| core.shared.no_tenant(name);
        let tenant = match &query.tenant {
            None => None,
            Some(name) => Some(view.tenant(name).ok_or_else(|| unknown(name))?),
        };
        let agent = match (&query.agent, tenant) {
            (None, _) => None,
            (Some(agent), Some(tenant)) => Some(tenant.keys.keyed_id("agent", agent)),
            (Some(_), None) => {
                return Err(Problem::new(Code::MalformedRequest, "an agent is named within its tenant: give both"));
            }
        };
        Ok(Self { tenant: tenant.map(|tenant| tenant.id), agent, verdict })
    }

    fn matches(&self, leaf: &LeafV1) -> bool {
        let (tenant, agent, verdict) = match &leaf.event {
            LeafEvent::Decision(found) => (found.tenant, found.agent, Some(found.verdict)),
            LeafEvent::HoldPlaced(hold) | LeafEvent::HoldLifted(hold) => (hold.tenant, hold.agent, None),
            LeafEvent::ReservationEnded(ended) => (ended.tenant, ended.agent, None),
            LeafEvent::DenialsRepeated(repeats) => (repeats.tenant, repeats.agent, None),
            LeafEvent::ApprovalDecided(decided) => (decided.tenant, decided.agent, None),
            _ => (KeyedId::NONE, KeyedId::NONE, None),
        };
        self.tenant.is_none_or(|wanted| wanted == tenant)
            && self.agent.is_none_or(|wanted| wanted == agent)
            && self.verdict.is_none_or(|wanted| verdict == Some(wanted as u8))
    }
}

/// A page of entries: forward from a cursor, or the newest of every group.
pub async fn entries(core: Arc<Core>, query: EntryQuery) -> Result<EntryPage, Problem> {
    let view = core.shared.view();
    let filter = Filter::of(&core, &view, &query)?;
    let limit = query.limit.unwrap_or(50).clamp(1, PAGE_MAX);
    let groups: Vec<GroupId> = match query.group {
        Some(group) if !GroupId(group).is_partition() => {
            return Err(Problem::new(Code::NotFound, format!("group {group} decides nothing")));
        }
        Some(group) => vec![GroupId(group)],
        None => core.groups().filter(|group| group.is_partition()).collect(),
    };
    match &query.cursor {
        Some(cursor) => forward(&core, &view, &filter, &groups, cursor, limit).await,
        None => newest(&core, &view, &filter, &groups, limit).await,
    }
}

/// Goes on behind a cursor, group by group.
async fn forward(
    core: &Core,
    view: &ControlView,
    filter: &Filter,
    groups: &[GroupId],
    cursor: &str,
    limit: usize,
) -> Result<EntryPage, Problem> {
    let after: DecisionId =
        cursor.parse().map_err(|error| Problem::new(Code::MalformedRequest, format!("cursor: {error}")))?;
    let mut entries = Vec::new();
    let mut reached = after;
    for group in groups.iter().filter(|group| **group >= after.log.group) {
        let start = if *group == after.log.group { after.leaf_index + 1 } else { 0 };
        let mut at = start;
        while at < start + LOOKED_AT_MAX {
            let found = core.leaves(*group, at, READ_LEAVES).await?;
            if found.records.is_empty() {
                break;
            }
            for (bytes, sealed) in &found.records {
                let Ok(leaf) = LeafV1::decode(bytes) else { break };
                reached = id_of(&leaf);
                if filter.matches(&leaf) {
                    entries.push(entry_view(core, view, &leaf, bytes, sealed));
                    if entries.len() == limit {
                        return Ok(EntryPage { entries, cursor: Some(reached.to_string()) });
                    }
                }
                at += 1;
            }
        }
        if at >= start + LOOKED_AT_MAX {
            // The rest of this group is for the next page, though this one may be short.
            break;
        }
    }
    let cursor = (reached != after).then(|| reached.to_string());
    Ok(EntryPage { entries, cursor })
}

/// The newest matching entries of all groups, oldest first.
async fn newest(
    core: &Core,
    view: &ControlView,
    filter: &Filter,
    groups: &[GroupId],
    limit: usize,
) -> Result<EntryPage, Problem> {
    let mut entries: Vec<EntryView> = Vec::new();
    for group in groups {
        let size = core.leaves(*group, u64::MAX - 1, 1).await?.size;
        let mut found_here = 0;
        let mut end = size;
        while end > 0 && found_here < limit && size - end < LOOKED_AT_MAX {
            let from = end.saturating_sub(READ_LEAVES);
            let found = core.leaves(*group, from, end - from).await?;
            for (bytes, sealed) in found.records.iter().rev() {
                let Ok(leaf) = LeafV1::decode(bytes) else { continue };
                if found_here < limit && filter.matches(&leaf) {
                    entries.push(entry_view(core, view, &leaf, bytes, sealed));
                    found_here += 1;
                }
            }
            end = from;
        }
    }
    entries.sort_by_key(|entry| (entry.at_ns, entry.decision_id));
    let drop = entries.len().saturating_sub(limit);
    entries.drain(..drop);
    Ok(EntryPage { entries, cursor: None })
}

fn id_of(leaf: &LeafV1) -> DecisionId {
    DecisionId { log: LogId { group: GroupId(leaf.group), era: leaf.era }, leaf_index: leaf.leaf_index }
}

/// What stands at one place of the trail: the decision as it was answered, where it is one, and the body, where this node
/// can open it.
pub async fn recorded(core: &Core, id: DecisionId) -> Result<(Option<Decision>, Option<BodyV1>), Problem> {
    let found = core.leaves(id.log.group, id.leaf_index, 1).await?;
    let absent = || Problem::new(Code::NotReady, format!("the record {id} is on its way here")).retry_after_ms(200);
    let (bytes, sealed) = found.records.first().ok_or_else(absent)?;
    let leaf = LeafV1::decode(bytes).map_err(broken)?;
    let (_, decision, body) = words_of(core, &core.shared.view(), &leaf, &leaf_hash(bytes), sealed);
    Ok((decision, body))
}

fn entry_view(core: &Core, view: &ControlView, leaf: &LeafV1, bytes: &[u8], sealed: &[u8]) -> EntryView {
    let hash = leaf_hash(bytes);
    let (kind, decision, body) = words_of(core, view, leaf, &hash, sealed);
    EntryView {
        decision_id: id_of(leaf),
        kind: kind.to_owned(),
        at_ns: leaf.now_ns,
        leaf_hash: hex::encode(hash),
        decision,
        body: body.map(|body| body.to_json()),
    }
}

/// A leaf's kind, its decision where it is one, and its body where this node holds the key.
fn words_of(
    core: &Core,
    view: &ControlView,
    leaf: &LeafV1,
    hash: &[u8; 32],
    sealed: &[u8],
) -> (&'static str, Option<Decision>, Option<BodyV1>) {
    let owner = |id: KeyedId| view.tenants().find(|tenant| tenant.id == id).cloned();
    let open = |tenant: Option<Arc<Tenant>>| opened(tenant, sealed);
    match &leaf.event {
        LeafEvent::Decision(found) => {
            let body = open(owner(found.tenant));
            let request_id = match &body {
                Some(BodyV1::Decision { action, .. }) => action.request_id.clone(),
                _ => String::new(),
            };
            let wish = Wish { explain: true, replayed: false };
            let (cluster, taxonomy) = (&core.shared.options.cluster, &core.shared.world.prepared.taxonomy);
            let decision = decision_of(Words { cluster, view, taxonomy }, &request_id, leaf, hash, found, wish);
            ("decision", Some(decision), body)
        }
        LeafEvent::Control { .. } => ("control", None, None),
        LeafEvent::HoldPlaced(hold) => ("hold-placed", None, open(owner(hold.tenant))),
        LeafEvent::HoldLifted(hold) => ("hold-lifted", None, open(owner(hold.tenant))),
        LeafEvent::EraOpened { .. } => ("era-opened", None, None),
        LeafEvent::ReservationEnded(_) => ("reservation-ended", None, None),
        LeafEvent::DenialsRepeated(_) => ("denials-repeated", None, None),
        LeafEvent::ApprovalDecided(decided) => ("approval-decided", None, open(owner(decided.tenant))),
    }
}

fn opened(tenant: Option<Arc<Tenant>>, sealed: &[u8]) -> Option<BodyV1> {
    let (plaintext, _) = body::open(&tenant?.keys, sealed).ok()?;
    BodyV1::from_bytes(&plaintext).ok()
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
    sealer::sign(&core, &replica.store, size, root)
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

/// Verifier keys of all partition logs and of the cluster log.
pub fn verifier_keys(core: &Core) -> Result<VerifierKeys, Problem> {
    let cluster = core.shared.options.cluster.clone();
    let seed = core.shared.keyring.signing_seed.as_ref();
    let seed = seed.ok_or_else(|| Problem::new(Code::NotReady, "this node has no signing key"))?;
    let partitions = core.groups().filter(|group| group.is_partition());
    let vkey = |group: GroupId| {
        let origin = LogId { group, era: 1 }.origin(&cluster);
        Signer::from_seed(&origin, seed).map(|signer| signer.verifier_key().to_string()).map_err(broken)
    };
    let vkeys = partitions.map(vkey).collect::<Result<_, _>>()?;
    let cluster_log = vkey(GroupId::CONTROL)?;
    let witnesses = core.shared.options.witnesses.iter().map(|witness| witness.key.to_string()).collect();
    Ok(VerifierKeys { cluster: cluster.clone(), vkeys, cluster_log, witnesses, cosigners: Vec::new() })
}
