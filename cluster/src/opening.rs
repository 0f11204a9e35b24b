//! Opening bodies for readers: by the group's leader alone, once a quorum has confirmed that it leads.
//!
//! So nobody reads what is erased: an erasure is acknowledged when every group has applied it, and whoever opens has applied
//! all that was acknowledged before. Nor what has expired: that is judged by the group's log time, which never goes back. Where
//! it stands still, since nothing is decided, and something has expired by the clock, it is made to pass first. A body is
//! believed where its leaf commits to it. Nothing is kept in here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use nethical_audit::body::{self, BodyError, Dropped, SealedFor};
use nethical_audit::keys::BodyKeys;
use nethical_audit::leaf::LeafV1;
use nethical_governance::command::HeaderV1;
use nethical_governance::subject::{SubjectId, WrappedV1};
use nethical_protocol::error::Problem;
use nethical_protocol::ids::{GroupId, KeyedId, NodeId, Slot};
use nethical_protocol::{always, sometimes};

use crate::administer::confirmed_lead;
use crate::body::BodyV1;
use crate::message::{AskOpenV1, KIND_OPEN, OpenedBodyV1, OpenedV1};
use crate::node::Core;
use crate::replica::PartitionReplica;
use crate::world::Lane;
use crate::{retention, sealing, tier};

/// Bodies in one question.
const ASKED_MAX: usize = 256;
/// Bytes of opened bodies in one answer.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How long a quorum may take to confirm the leader.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(2);
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Leaders asked one after the other before a reader is told that none answers.
const LEADERS_ASKED_MAX: usize = 4;
/// Between two of them.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What a reader gets of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "made for one reader and never kept in numbers")]
pub enum Opened {
    /// There never was one, or it holds no personal bytes.
    None,
    /// Its content.
    Body(BodyV1),
    /// Its subject was erased.
    Erased,
    /// It was kept for as long as its tenant wants it kept.
    Expired,
    /// It cannot be opened now, and why.
    Unavailable(String),
}

impl Opened {
    /// The body, where there is one to read.
    pub fn body(self) -> Option<BodyV1> {
        match self {
            Self::Body(body) => Some(body),
            _ => None,
        }
    }

    fn of(told: OpenedBodyV1) -> Self {
        match told {
            OpenedBodyV1::Body(plaintext) => BodyV1::from_bytes(&plaintext).map_or_else(Self::Unavailable, Self::Body),
            OpenedBodyV1::Erased => Self::Erased,
            OpenedBodyV1::Expired => Self::Expired,
            OpenedBodyV1::Unavailable(why) => Self::Unavailable(why),
        }
    }
}

/// The bodies of records of one group, (leaf index, stored body) each, in rising order of index: one answer for each.
pub async fn open(core: &Arc<Core>, group: GroupId, records: &[(u64, &[u8])]) -> Vec<Opened> {
    let mut opened: Vec<Opened> = records.iter().map(|(_, stored)| without_body(stored)).collect();
    let sealed: Vec<usize> = (0..records.len()).filter(|at| of(records[*at].1).is_some()).collect();
    let mut left = sealed.as_slice();
    while let Some(asked) = left.get(..left.len().min(ASKED_MAX)).filter(|asked| !asked.is_empty()) {
        let indexes: Vec<u64> = asked.iter().map(|at| records[*at].0).collect();
        match ask(core, AskOpenV1 { group: group.0, indexes }).await {
            Ok(bodies) if !bodies.is_empty() => {
                let told = bodies.len().min(asked.len());
                asked.iter().zip(bodies).for_each(|(at, told)| opened[*at] = Opened::of(told));
                left = &left[told..];
            }
            answer => {
                let why = answer.err().unwrap_or_else(|| "the group's leader opened nothing".to_owned());
                left.iter().for_each(|at| opened[*at] = Opened::Unavailable(why.clone()));
                break;
            }
        }
    }
    opened
}

/// Whose keys a body is, or was, sealed under that can be had: stored, or in the cold tier.
fn of(stored: &[u8]) -> Option<SealedFor> {
    body::sealed_for(stored).or_else(|| body::away_of(stored)?.sealed_for())
}

/// What is to be said of a record that has no sealed body any more, or never had one.
fn without_body(stored: &[u8]) -> Opened {
    match body::dropped(stored).map(|dropped| dropped.reason) {
        Some(body::Reason::Erased) => Opened::Erased,
        Some(body::Reason::Expired) => Opened::Expired,
        Some(body::Reason::Away) | None => Opened::None,
    }
}

/// Asks the group's leader, wherever it is.
async fn ask(core: &Arc<Core>, ask: AskOpenV1) -> Result<Vec<OpenedBodyV1>, String> {
    let (own, group) = (core.shared.options.node, GroupId(ask.group));
    let placed = core.placed(group);
    let mut next = core.partition(group).and_then(|replica| replica.group.leadership().borrow().leader);
    for attempt in 0..LEADERS_ASKED_MAX {
        let node = next.take().or_else(|| placed.get(attempt % placed.len().max(1)).copied());
        let Some(node) = node else { break };
        let answer = match node == own {
            true => Some(here(core, &ask).await),
            false => {
                let call = core.shared.world.wire.call(node, Lane::Bulk, KIND_OPEN, ask.to_bytes(), PATIENCE).await;
                call.ok().and_then(|bytes| OpenedV1::from_bytes(&bytes).ok())
            }
        };
        match answer {
            Some(OpenedV1::Bodies(bodies)) => return Ok(bodies),
            Some(OpenedV1::NotLeader(Some(hint))) if NodeId(hint) != node => next = Some(NodeId(hint)),
            Some(OpenedV1::NotLeader(_)) | None => core.shared.world.clock.sleep(ASK_AGAIN).await,
        }
    }
    Err("the group's leader does not answer".to_owned())
}

/// Another node's question.
pub async fn on_open(core: Arc<Core>, ask: AskOpenV1) -> Bytes {
    here(&core, &ask).await.to_bytes()
}

async fn here(core: &Core, ask: &AskOpenV1) -> OpenedV1 {
    let (replica, lead) = match confirmed_lead(core, GroupId(ask.group), CONFIRM_PATIENCE).await {
        Ok(found) => found,
        Err(hint) => return OpenedV1::NotLeader(hint),
    };
    let (mut bodies, mut bytes, mut has_passed) = (Vec::new(), 0, false);
    for index in ask.indexes.iter().take(ASKED_MAX) {
        let told = match read(core, ask.group, *index).await {
            Ok((leaf, stored)) => {
                if !has_passed && is_due(core, &replica, &leaf, &stored) {
                    has_passed = true;
                    // Where it does not come about, log time is what it is.
                    let _ = replica.propose(&lead, HeaderV1::Tick, Vec::new(), CONFIRM_PATIENCE).await;
                }
                opened(core, &replica, &leaf, &stored).await
            }
            Err(why) => OpenedBodyV1::Unavailable(why),
        };
        bytes += if let OpenedBodyV1::Body(plaintext) = &told { plaintext.len() } else { 0 };
        bodies.push(told);
        if bytes > ANSWER_BYTES_MAX {
            break;
        }
    }
    OpenedV1::Bodies(bodies)
}

async fn read(core: &Core, group: u32, index: u64) -> Result<(LeafV1, Vec<u8>), String> {
    let found = core.leaves(GroupId(group), index, 1).await.map_err(|problem| problem.detail)?;
    let (leaf, stored) = found.records.into_iter().next().ok_or("the record is not here yet")?;
    Ok((LeafV1::decode(&leaf).map_err(|error| error.to_string())?, stored))
}

/// True where a body has expired by this node's clock and not by log time: that has stood still, or the clock is wrong.
fn is_due(core: &Core, replica: &PartitionReplica, leaf: &LeafV1, stored: &[u8]) -> bool {
    let Some(body) = retention::facts_of(leaf, of(stored)) else { return false };
    let machine = replica.machine.lock();
    let is_past = |now_ns: u64| machine.ledger.retention().is_expired(&body, now_ns);
    !is_past(machine.ledger.now_ns()) && is_past(core.shared.world.clock.wall_ns())
}

/// One body, by the keys and ages that the state holds now.
async fn opened(core: &Core, replica: &PartitionReplica, leaf: &LeafV1, stored: &[u8]) -> OpenedBodyV1 {
    let unavailable = |why: String| OpenedBodyV1::Unavailable(why);
    // This replica may have dropped what another one still has.
    match body::dropped(stored).map(|dropped| dropped.reason) {
        Some(body::Reason::Erased) => return OpenedBodyV1::Erased,
        Some(body::Reason::Expired) => return OpenedBodyV1::Expired,
        Some(body::Reason::Away) | None => {}
    }
    let Some(sealed_for) = of(stored).filter(|_| leaf.event.agent().is_some()) else {
        return unavailable("the leaf names no agent under whose key a body could be sealed".to_owned());
    };
    let keys = match keys_for(core, replica, leaf, sealed_for) {
        Ok(Some(keys)) => keys,
        Ok(None) => return OpenedBodyV1::Erased,
        Err(problem) => return unavailable(problem.detail),
    };
    if retention::is_expired(&replica.machine.lock().ledger, leaf, stored) {
        sometimes!(true, "a body had expired");
        return OpenedBodyV1::Expired;
    }
    if let Some(gone) = body::away_of(stored) {
        return fetched(core, replica, leaf, &keys, &gone).await;
    }
    match body::open(&keys, stored, core.shared.view().dictionaries().known()) {
        Ok((plaintext, commitment)) if commitment == leaf.body_commitment => OpenedBodyV1::Body(plaintext),
        Ok(_) => unavailable("the body is not the one that the leaf commits to".to_owned()),
        // It was given before it was used: this node has not heard of it yet, or could not read it and said so.
        Err(error @ BodyError::Dictionary(_)) => unavailable(error.to_string()),
        Err(error) => {
            let group = replica.group.id();
            always!(false, "bodies-open-under-their-keys", "group {group} leaf {}: {error}", leaf.leaf_index);
            unavailable(error.to_string())
        }
    }
}

/// A body that is in the cold tier, where it is the one that the leaf commits to.
async fn fetched(
    core: &Core,
    replica: &PartitionReplica,
    leaf: &LeafV1,
    keys: &BodyKeys,
    gone: &Dropped<'_>,
) -> OpenedBodyV1 {
    let plaintext = match tier::fetch::body(&core.shared, replica, leaf.leaf_index).await {
        Ok(plaintext) => plaintext,
        Err(why) => return OpenedBodyV1::Unavailable(why),
    };
    // It took a while, and an erasure may have been acknowledged meanwhile.
    if !gone.sealed_for().is_some_and(|of| has_keys(replica, leaf, of)) {
        return OpenedBodyV1::Erased;
    }
    match body::commitment_to(keys, gone.head(), &plaintext) {
        Ok(commitment) if commitment == leaf.body_commitment => {
            sometimes!(true, "a body was read from the cold tier");
            OpenedBodyV1::Body(plaintext)
        }
        _ => {
            OpenedBodyV1::Unavailable("the cold tier has another body than the one that the leaf commits to".to_owned())
        }
    }
}

/// The wrapped key of a body's agent, and of its person; none where one of them was erased.
fn held(replica: &PartitionReplica, leaf: &LeafV1, of: SealedFor) -> Option<(WrappedV1, Option<WrappedV1>)> {
    let (slot, tenant, agent) = leaf.event.agent()?;
    let machine = replica.machine.lock();
    let held = |subject: KeyedId, generation: u32| {
        let (current, key) = machine.ledger.subjects().key(&SubjectId { slot: Slot(slot), tenant, subject });
        key.filter(|_| current == generation)
    };
    let agent = held(agent, of.generation)?;
    match of.person {
        None => Some((agent, None)),
        Some((person, generation)) => Some((agent, Some(held(person, generation)?))),
    }
}

/// True where the keys of a body are not erased, by what is applied here.
pub(crate) fn has_keys(replica: &PartitionReplica, leaf: &LeafV1, of: SealedFor) -> bool {
    held(replica, leaf, of).is_some()
}

/// The keys of a leaf's body; `None` where one of them was erased.
///
/// # Errors
/// `not-ready` where the group's ring key is not here.
pub(crate) fn keys_for(
    core: &Core,
    replica: &PartitionReplica,
    leaf: &LeafV1,
    of: SealedFor,
) -> Result<Option<BodyKeys>, Problem> {
    let Some((agent, person)) = held(replica, leaf, of) else { return Ok(None) };
    let open = |wrapped| sealing::open(&core.shared, replica.group.id(), &wrapped);
    let person = person.map(open).transpose()?;
    Ok(Some(BodyKeys::new(&open(agent)?, person.as_ref())))
}
