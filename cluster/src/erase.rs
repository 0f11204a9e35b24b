//! Erasures, made complete: a group turns to a new ring key, wraps its survivors anew, and waits until no replica has the
//! old ring key any more (ARCHITECTURE 4).
//!
//! The log says what is to be so; this only brings it about, one step at a time, and may be cut off behind any of them: the
//! next leader goes on from what its state says. A ring key is used once a quorum of the group's nodes holds it durably. A
//! node destroys what its own applied state says is past, and nothing that could still come into force. Nothing here
//! delays a decision, but that a group without any ring key decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use nethical_audit::keys::rings::RingKey;
use nethical_audit::keys::subject::{ring_number, wrap_subject};
use nethical_governance::command::HeaderV1;
use nethical_governance::subject::{ErasureState, RewrapV1, SubjectId, WrappedV1};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{ControlRevision, GroupId, NodeId};
use nethical_protocol::{probe, sometimes};

use crate::api::{ErasureAwaits, ErasureView};
use crate::control::ErasureV1;
use crate::lead::Lead;
use crate::message::{AskErasuresV1, ErasuresV1, GroupErasureV1, KIND_ERASURES, KIND_RING, RingAnswerV1, RingAskV1};
use crate::node::Core;
use crate::replica::PartitionReplica;
use crate::text::tend;
use crate::world::{self, Lane};
use crate::{sealing, tier};

/// Between two looks at a group that has all it needs.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two looks at one that lacks its ring key, or has erasures to complete.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long another node may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Keys wrapped anew in one command.
const REWRAPPED_MAX: usize = 256;

/// What is awaited once nobody can read it any more.
const DESTROYING: &str = "ring keys to be destroyed";
/// What is awaited before that, where bodies are in the object store.
const RENEWING: &str = "files of the cold tier to be made anew";
/// Erasures in one answer.
const VIEWS_MAX: usize = 1_000;

/// What a look at a group came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// There is nothing to do.
    Rest,
    /// Something was done, or is awaited.
    Again,
}

/// Keeps a replica supplied with ring keys and, where it leads, completes erasures. Runs until the replica retires.
pub async fn tend(core: Arc<Core>, replica: Arc<PartitionReplica>) {
    let group = replica.group.id();
    core.shared.world.scope.spawn(tend::keep_clean(core.clone(), replica.clone()));
    while !replica.has_retired() {
        let look = look(&core, &replica).await;
        if let Err(problem) = &look {
            tracing::debug!(%group, %problem, "ring keys are looked after later");
        }
        let is_founding = replica.machine.lock().ledger.subjects().ring().is_none();
        let wait = if is_founding || look == Ok(Look::Again) { LOOK_AGAIN } else { LOOK_EVERY };
        core.shared.world.clock.sleep(wait).await;
    }
}

async fn look(core: &Arc<Core>, replica: &Arc<PartitionReplica>) -> Result<Look, Problem> {
    let supplied = supply(core, replica).await?;
    destroy(core, replica).await?;
    let Some(lead) = replica.lead() else { return Ok(supplied) };
    let (needs_turn, unturned, past) = {
        let machine = replica.machine.lock();
        let subjects = machine.ledger.subjects();
        (subjects.needs_turn(), !subjects.unturned(None, 1).is_empty(), subjects.past().to_vec())
    };
    if needs_turn {
        if !tier::cold::clear(core, replica, &lead).await {
            // Files of the cold tier still hold what was erased, and their keys would be wrapped anew with all others.
            return Ok(Look::Rest);
        }
        turn(core, replica, &lead).await?;
        return Ok(Look::Again);
    }
    if unturned {
        rewrap(core, replica, &lead).await?;
        return Ok(Look::Again);
    }
    if !past.is_empty() {
        settle(core, replica, &lead, past).await?;
        return Ok(Look::Again);
    }
    replica.ring_awaiting.lock().clear();
    Ok(supplied)
}

/// Fetches the ring key in force where it is not here: from whoever holds it, into the file, before it is used.
async fn supply(core: &Core, replica: &PartitionReplica) -> Result<Look, Problem> {
    let group = replica.group.id();
    let Some(ring) = replica.machine.lock().ledger.subjects().ring() else { return Ok(Look::Rest) };
    if core.shared.ring_keys.get(group, ring).is_some() {
        return Ok(Look::Rest);
    }
    let own = core.shared.options.node;
    for node in core.placed(group).into_iter().filter(|node| *node != own) {
        let answer = call(core, node, &RingAskV1::Get { group: group.0, ring }).await;
        if let Some(RingAnswerV1::Key { term, key }) = answer
            && ring_number(&key) == ring
        {
            sometimes!(true, "a replica fetched a ring key that it lacked");
            core.shared.ring_keys.put(RingKey { group: group.0, term, key }).await.map_err(broken)?;
            return Ok(Look::Again);
        }
    }
    Err(Problem::new(Code::NotReady, "no node that can be reached holds the group's ring key"))
}

/// Destroys what this replica's own state says is past, and what was made in a term that can bring nothing into force any
/// more.
async fn destroy(core: &Core, replica: &PartitionReplica) -> Result<(), Problem> {
    let group = replica.group.id();
    let (current, past, may_settle, term) = {
        let machine = replica.machine.lock();
        let subjects = machine.ledger.subjects();
        let term = machine.position().borrow().0;
        (subjects.ring(), subjects.past().to_vec(), subjects.may_settle(), term)
    };
    // Survivors are wrapped anew by whoever leads, and that may be this node.
    let is_past = |ring: u64| may_settle && past.contains(&ring);
    let is_void = |ring: u64, made: u64| made < term && current != Some(ring) && !past.contains(&ring);
    if probe::planted("ring-key-kept") {
        return Ok(());
    }
    if !tend::is_clean(core, replica) {
        // What is past stands for the words too: its holder is named until both are gone.
        return Ok(());
    }
    let goes = |ring: u64, made: u64| current != Some(ring) && (is_past(ring) || is_void(ring, made));
    if core.shared.ring_keys.destroy(group, goes).await.map_err(broken)? {
        sometimes!(true, "a ring key was destroyed");
        tracing::info!(%group, "a ring key was destroyed");
    }
    Ok(())
}

/// Makes a ring key, has a quorum hold it, and turns the group to it.
async fn turn(core: &Core, replica: &PartitionReplica, lead: &Lead) -> Result<(), Problem> {
    let group = replica.group.id();
    let used: Vec<u64> = {
        let machine = replica.machine.lock();
        let subjects = machine.ledger.subjects();
        subjects.ring().into_iter().chain(subjects.past().iter().copied()).collect()
    };
    // One that too few nodes could be given is tried again, or a leader without a quorum would pile them up.
    let RingKey { key, .. } = match core.shared.ring_keys.made_in(group, lead.term, &used) {
        Some(made) => made,
        None => make(core, group, lead.term).await?,
    };
    world::pass(&*core.shared.world.clock, "ring.made").await;
    let (own, placed) = (core.shared.options.node, core.placed(group));
    let ask = RingAskV1::Put { group: group.0, term: lead.term, key };
    let others = placed.iter().filter(|node| **node != own);
    let kept = join_all(others.map(|node| call(core, *node, &ask))).await;
    let holders = 1 + kept.into_iter().filter(|answer| *answer == Some(RingAnswerV1::Kept)).count();
    if holders <= placed.len() / 2 {
        return Err(Problem::new(Code::NoQuorum, "too few nodes hold the new ring key"));
    }
    world::pass(&*core.shared.world.clock, "ring.held").await;
    replica.propose(lead, HeaderV1::TurnRing(ring_number(&key)), Vec::new(), PATIENCE).await?;
    Ok(())
}

/// A new ring key, held durably here.
async fn make(core: &Core, group: GroupId, term: u64) -> Result<RingKey, Problem> {
    let mut key = [0; 32];
    core.shared.world.scope.fill(&mut key);
    let made = RingKey { group: group.0, term, key };
    core.shared.ring_keys.put(made).await.map_err(broken)?;
    Ok(made)
}

/// Wraps survivors under the ring key in force.
async fn rewrap(core: &Core, replica: &PartitionReplica, lead: &Lead) -> Result<(), Problem> {
    let group = replica.group.id();
    let mut from = None;
    loop {
        let (ring, old) = {
            let machine = replica.machine.lock();
            let subjects = machine.ledger.subjects();
            (subjects.ring(), subjects.unturned(from, REWRAPPED_MAX))
        };
        let (Some(ring), Some((last, ..))) = (ring, old.last()) else { return Ok(()) };
        from = Some(*last);
        let keys = old.iter().map(|held| anew(core, group, ring, held)).collect::<Result<_, _>>()?;
        replica.propose(lead, HeaderV1::Rewrap(RewrapV1 { keys }), Vec::new(), PATIENCE).await?;
        world::pass(&*core.shared.world.clock, "ring.rewrapped").await;
    }
}

fn anew(
    core: &Core,
    group: GroupId,
    ring: u64,
    (id, generation, old): &(SubjectId, u32, WrappedV1),
) -> Result<(SubjectId, u32, WrappedV1), Problem> {
    let key = sealing::open(&core.shared, group, old)?;
    let lacking = || Problem::new(Code::NotReady, "the group's ring key is on its way to this node");
    let ring_key = core.shared.ring_keys.get(group, ring).ok_or_else(lacking)?;
    let mut nonce = [0; 12];
    core.shared.world.scope.fill(&mut nonce);
    Ok((*id, *generation, WrappedV1 { ring, bytes: wrap_subject(&ring_key, nonce, &key) }))
}

/// Asks every node of the group whether it still holds what is past, and says so in the log once none does.
async fn settle(core: &Core, replica: &PartitionReplica, lead: &Lead, past: Vec<u64>) -> Result<(), Problem> {
    let group = replica.group.id();
    let own = core.shared.options.node;
    let ask = RingAskV1::Held { group: group.0, past: past.clone() };
    let others: Vec<NodeId> = core.placed(group).into_iter().filter(|node| *node != own).collect();
    let answers = join_all(others.iter().map(|node| call(core, *node, &ask))).await;
    let none = Some(RingAnswerV1::Held(Vec::new()));
    let mut awaiting: Vec<NodeId> =
        others.into_iter().zip(answers).filter(|(_, answer)| *answer != none).map(|(node, _)| node).collect();
    let is_own = past.iter().any(|ring| core.shared.ring_keys.get(group, *ring).is_some());
    let is_own = is_own || !tend::is_clean(core, replica);
    awaiting.extend((is_own && !probe::planted("ring-key-kept")).then_some(own));
    let is_settled = awaiting.is_empty() || probe::planted("erased-before-all-answered");
    *replica.ring_awaiting.lock() = awaiting;
    if !is_settled {
        sometimes!(true, "an erasure waited for a replica");
        core.shared.world.clock.sleep(LOOK_EVERY).await;
        return Ok(());
    }
    world::pass(&*core.shared.world.clock, "ring.destroyed").await;
    replica.propose(lead, HeaderV1::SettleErasures(past), Vec::new(), PATIENCE).await?;
    Ok(())
}

async fn call(core: &Core, node: NodeId, ask: &RingAskV1) -> Option<RingAnswerV1> {
    let answer = core.shared.world.wire.call(node, Lane::Control, KIND_RING, ask.to_bytes(), PATIENCE).await.ok()?;
    RingAnswerV1::from_bytes(&answer).ok()
}

/// Another node's word or question about ring keys. Only nodes that keep the group have any business with its keys.
pub async fn on_ring(core: Arc<Core>, from: NodeId, ask: RingAskV1) -> Bytes {
    let (RingAskV1::Put { group, .. } | RingAskV1::Get { group, .. } | RingAskV1::Held { group, .. }) = &ask;
    let group = GroupId(*group);
    let answer = match core.placed(group).contains(&from) {
        true => answer(&core, group, ask).await,
        false => RingAnswerV1::Refused(format!("node {from} keeps no replica of group {group}")),
    };
    answer.to_bytes()
}

async fn answer(core: &Arc<Core>, group: GroupId, ask: RingAskV1) -> RingAnswerV1 {
    let keys = &core.shared.ring_keys;
    match ask {
        RingAskV1::Put { term, key, .. } => match keys.put(RingKey { group: group.0, term, key }).await {
            Ok(()) => RingAnswerV1::Kept,
            Err(error) => RingAnswerV1::Refused(error.to_string()),
        },
        RingAskV1::Get { ring, .. } => match keys.find(group, ring) {
            Some(held) => RingAnswerV1::Key { term: held.term, key: held.key },
            None => RingAnswerV1::Refused("it is not here".to_owned()),
        },
        RingAskV1::Held { past, .. } => {
            // Without a replica nothing here destroys what is past; with one, its next look does.
            if let Some(replica) = core.partition(group)
                && let Err(problem) = destroy(core, &replica).await
            {
                return RingAnswerV1::Refused(problem.detail);
            }
            if probe::planted("ring-key-kept") {
                return RingAnswerV1::Held(Vec::new());
            }
            if may_have_words(core, group, &past) {
                return RingAnswerV1::Refused("text indexes here may still have words of whom was erased".to_owned());
            }
            RingAnswerV1::Held(past.into_iter().filter(|ring| keys.get(group, *ring).is_some()).collect())
        }
    }
}

/// True where text indexes of a group are here and no replica that has heard of what is past says that they are clean.
fn may_have_words(core: &Core, group: GroupId, past: &[u64]) -> bool {
    let Some(replica) = core.partition(group) else { return core.shared.texts.has_any(group) };
    let has_heard = {
        let machine = replica.machine.lock();
        let own = machine.ledger.subjects().past();
        past.iter().all(|ring| own.contains(ring))
    };
    !tend::is_clean(core, &replica) || (!has_heard && core.shared.texts.has_any(group))
}

/// How far erasures are in the groups that this node leads.
pub fn report(core: &Core) -> ErasuresV1 {
    let led = core.partitions().into_iter().filter(|replica| replica.lead().is_some());
    let of = |replica: Arc<PartitionReplica>| {
        let state = replica.machine.lock().ledger.erasure_state();
        GroupErasureV1 {
            group: replica.group.id().0,
            control_rev: state.control_rev.0,
            erased_rev: state.erased_rev.0,
            done_rev: state.done_rev.0,
            awaiting: replica.ring_awaiting.lock().iter().map(|node| node.0).collect(),
            in_files: tier::cold::holds_erased(&replica),
        }
    };
    ErasuresV1 { groups: led.map(of).collect() }
}

/// How far erasures are in all groups whose leaders answer.
pub async fn reports(core: &Arc<Core>) -> Vec<GroupErasureV1> {
    let ask = AskErasuresV1 { node: core.shared.options.node.0 }.to_bytes();
    let asked = core.peers().into_iter().map(|peer| {
        let call = core.shared.world.wire.call(peer, Lane::Control, KIND_ERASURES, ask.clone(), PATIENCE);
        async move { call.await.ok().and_then(|bytes| ErasuresV1::from_bytes(&bytes).ok()) }
    });
    let mut groups = report(core).groups;
    groups.extend(join_all(asked).await.into_iter().flatten().flat_map(|told| told.groups));
    groups
}

/// All erasures of the zone, or one, newest first, as far as the groups' leaders can be asked.
pub async fn views(core: Arc<Core>, only: Option<u64>) -> Vec<ErasureView> {
    let told: BTreeMap<u32, GroupErasureV1> =
        reports(&core).await.into_iter().map(|report| (report.group, report)).collect();
    let groups: Vec<u32> = core.groups().filter(|group| group.is_partition()).map(|group| group.0).collect();
    let view = core.shared.view();
    let asked = view.erasures().iter().rev().filter(|(revision, _)| only.is_none_or(|only| revision.0 == only));
    asked.take(VIEWS_MAX).map(|(revision, erasure)| view_of(*revision, erasure, &groups, &told)).collect()
}

fn view_of(
    revision: ControlRevision,
    erasure: &ErasureV1,
    groups: &[u32],
    told: &BTreeMap<u32, GroupErasureV1>,
) -> ErasureView {
    let awaiting: Vec<ErasureAwaits> =
        groups.iter().filter_map(|group| awaits(revision, *group, told.get(group))).collect();
    let is_pending = awaiting.iter().any(|awaits| ![DESTROYING, RENEWING].contains(&awaits.what.as_str()));
    let state = if awaiting.is_empty() {
        "erased"
    } else if is_pending {
        "pending"
    } else {
        "erasing"
    };
    ErasureView {
        id: revision.0,
        tenant: erasure.tenant.clone(),
        kind: if erasure.is_person { "person" } else { "agent" }.to_owned(),
        subject: erasure.subject.to_string(),
        reason: erasure.reason.clone(),
        at_ns: erasure.at_ns,
        state: state.to_owned(),
        awaiting,
    }
}

/// What an erasure awaits of one group, where it awaits something.
fn awaits(revision: ControlRevision, group: u32, told: Option<&GroupErasureV1>) -> Option<ErasureAwaits> {
    let Some(told) = told else {
        return Some(ErasureAwaits { group, what: "its leader's answer".to_owned(), nodes: Vec::new() });
    };
    let rev = ControlRevision;
    let (control_rev, erased_rev, done_rev) = (rev(told.control_rev), rev(told.erased_rev), rev(told.done_rev));
    let state = ErasureState { control_rev, erased_rev, done_rev };
    let what = match (state.is_complete(revision), control_rev < revision) {
        (true, _) => return None,
        (false, true) => "to hear of it",
        (false, false) if told.in_files => RENEWING,
        (false, false) => DESTROYING,
    };
    Some(ErasureAwaits { group, what: what.to_owned(), nodes: told.awaiting.clone() })
}

fn broken(error: std::io::Error) -> Problem {
    Problem::new(Code::Internal, format!("the ring keys: {error}"))
}
