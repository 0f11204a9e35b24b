//! The rules' way round: an administrator's change goes to the control leader; its events come back to every node,
//! and the pump on each partition leader carries their facts into its own log (ARCHITECTURE 2).
//!
//! A change is *acknowledged* once every partition has applied it, or its silent leader is past the revocation bound
//! and refuses; until then it is *pending* and the groups awaited are named.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rkyv::rancor::Error;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use nethical_audit::body::dictionary::BadDictionary;
use nethical_audit::body::{self, Dictionary};
use nethical_audit::keys;
use nethical_governance::command::{ApplyControlV1, HeaderV1};
use nethical_governance::policy::Bundle;
use nethical_protocol::control::{AckState, ControlAck, EraseSpec, HoldSpec, RevisedFact, TenantSpec};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{ControlRevision, GroupId, NodeId};
use nethical_protocol::limits::{CLOCK_ERROR_MS_MAX, HOLDS_MAX};

use crate::contact::revocation_bound;
use crate::control::bundles::Bundles;
use crate::control::dictionaries::DictionaryAskV1;
use crate::control::signing::SigningAskV1;
use crate::control::{AskV1, ChangeV1, Changed, ControlEntryV1, ControlMachine, ErasureV1};
use crate::legal;
use crate::message::*;
use crate::node::{Core, Plain};
use crate::prepared::Prepared;
use crate::replica::PartitionReplica;
use crate::world::{Lane, timeout};

/// Between two fetches where nothing nudges.
const FETCH_EVERY: Duration = Duration::from_secs(1);
/// How long one fetch or change may take on the wire.
const CALL_PATIENCE: Duration = Duration::from_secs(2);
/// How long a change waits to be acknowledged before it is reported as pending.
const ACK_PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of events in one fetch.
const FETCH_BYTES_MAX: usize = 1024 * 1024;
/// Facts in one `ApplyControl`.
const FACTS_MAX: usize = 256;

/// What the control leader has heard of the partitions. In memory: a new leader hears it again within a second.
#[derive(Default)]
pub struct Heard {
    told: Mutex<Told>,
    changed: Notify,
}

/// What was told in one term of the control group.
#[derive(Default)]
struct Told {
    term: u64,
    /// When this node noticed that it leads; silence counts from here at the earliest. What a group told an earlier leader
    /// is not known here, and what it told this node in an earlier term may have been followed by words to another.
    since: Duration,
    applied: BTreeMap<GroupId, (u64, Duration)>,
}

impl Told {
    fn enter(&mut self, term: u64, now: Duration) {
        if self.term != term {
            *self = Self { term, since: now, applied: BTreeMap::new() };
        }
    }
}

impl Heard {
    fn note(&self, term: u64, applied: &[(u32, u64)], now: Duration) {
        let mut held = self.told.lock();
        held.enter(term, now);
        for (group, revision) in applied {
            held.applied.insert(GroupId(*group), (*revision, now));
        }
        drop(held);
        self.changed.notify_waiters();
    }

    /// The partitions that neither have applied `revision` nor have been silent past the revocation bound.
    fn awaiting(&self, term: u64, revision: u64, partitions: impl Iterator<Item = GroupId>, now: Duration) -> Vec<u32> {
        let silent_after = revocation_bound() + Duration::from_millis(CLOCK_ERROR_MS_MAX);
        let mut held = self.told.lock();
        held.enter(term, now);
        let open = partitions.filter(|group| match held.applied.get(group) {
            Some((applied, _)) if *applied >= revision => false,
            Some((_, heard)) => now.saturating_sub(*heard) < silent_after,
            None => now.saturating_sub(held.since) < silent_after,
        });
        open.map(|group| group.0).collect()
    }
}

/// The control group here, where it has a replica.
pub(crate) fn control_here(core: &Core) -> Option<Plain<ControlMachine>> {
    core.control.read().clone()
}

/// Who leads the control group, as this node knows.
pub(crate) fn control_leader(core: &Core) -> Option<NodeId> {
    let followed = control_here(core).and_then(|control| control.group.leadership().borrow().leader);
    let hinted = || *core.control_hint.lock();
    let own = core.shared.options.node;
    let someone = || core.placed(GroupId::CONTROL).into_iter().find(|node| *node != own);
    let hosted = control_here(core).is_some();
    followed.or_else(hinted).or_else(|| if hosted { None } else { someone() })
}

/// The control group here, where it leads and a quorum has confirmed that just now.
pub(crate) async fn confirmed_leader(core: &Core) -> Result<Plain<ControlMachine>, Option<u64>> {
    let hint = || control_leader(core).map(|node| node.0);
    let control = control_here(core).ok_or_else(hint)?;
    if !control.group.leadership().borrow().here {
        return Err(hint());
    }
    match timeout(&*core.shared.world.clock, CALL_PATIENCE, control.group.confirm()).await {
        Some(Ok(())) => Ok(control),
        _ => Err(None),
    }
}

/// Answers a node that asks what is new, and notes what its partitions have applied.
pub async fn on_fetch(core: Arc<Core>, ask: FetchV1) -> Bytes {
    let control = match confirmed_leader(&core).await {
        Ok(control) => control,
        Err(hint) => return FetchedV1::NotLeader(hint).to_bytes(),
    };
    let term = control.group.leadership().borrow().term;
    core.heard.note(term, &ask.applied, core.shared.world.clock.now());
    let machine = control.machine.lock();
    let events = machine.state.events_after(ControlRevision(ask.after), FETCH_BYTES_MAX);
    FetchedV1::Events { events, latest: machine.state.revision().0 }.to_bytes()
}

/// Makes a change of the rules, where this node leads the control group.
pub async fn on_change(core: Arc<Core>, ask: ChangeRulesV1) -> Bytes {
    change_here(&core, ask).await.to_bytes()
}

async fn change_here(core: &Arc<Core>, ask: ChangeRulesV1) -> RulesChangedV1 {
    let control = match confirmed_leader(core).await {
        Ok(control) => control,
        Err(hint) => return RulesChangedV1::NotLeader(hint),
    };
    match complete(core, &control, ask) {
        Ok(change) => propose_here(core, &control, change).await,
        Err(problem) => RulesChangedV1::Problem(problem),
    }
}

/// The time of a change, from a clock that a quorum of clocks agrees with: a hold-order that lapses would otherwise be
/// acknowledged and be over already. What does not lapse needs no time, and says none where the clock is not to be trusted.
fn stamp(core: &Core, change: &AskV1) -> Result<u64, Problem> {
    let (clock, nodes) = (&*core.shared.world.clock, core.shared.options.nodes.len());
    let lapses = matches!(change, AskV1::PlaceHold(spec) if spec.ttl_s > 0);
    match core.shared.timekeeper.base_ns(clock, nodes) {
        Err(problem) if lapses => Err(problem),
        stamp => Ok(stamp.unwrap_or(0)),
    }
}

/// Proposes a change to the control group that this node leads, and waits until it is in force.
pub(crate) async fn propose_here(core: &Arc<Core>, control: &Plain<ControlMachine>, change: AskV1) -> RulesChangedV1 {
    let now_ns = match stamp(core, &change) {
        Ok(now_ns) => now_ns,
        Err(problem) => return RulesChangedV1::Problem(problem),
    };
    // Partitions have no part in keys: nobody waits for them.
    let is_of_partitions = !matches!(change, AskV1::Signing(_));
    let entry = ControlEntryV1::Change(ChangeV1 { now_ns, change });
    let unknown =
        || RulesChangedV1::Problem(Problem::new(Code::OutcomeUnknown, "the control group did not answer in time"));
    let Ok(reply) = control.group.propose(entry.to_bytes()).await else { return unknown() };
    match timeout(&*core.shared.world.clock, CALL_PATIENCE, reply).await {
        Some(Ok(reply)) => match reply.get::<Changed>().as_deref() {
            Some(Changed::Refused(problem)) => RulesChangedV1::Problem(problem.clone()),
            Some(Changed::Revision(revision) | Changed::Unchanged(revision)) if is_of_partitions => {
                RulesChangedV1::Ack(acknowledge(core, control, *revision).await)
            }
            Some(Changed::Revision(revision) | Changed::Unchanged(revision)) => {
                nudge(core);
                let (revision, state, awaiting) = (*revision, AckState::Acknowledged, Vec::new());
                RulesChangedV1::Ack(ControlAck { revision, state, awaiting })
            }
            None => unknown(),
        },
        _ => unknown(),
    }
}

/// Adds to a change what only a leader has: fresh keys, and the check that a bundle parses.
fn complete(core: &Core, control: &Plain<ControlMachine>, ask: ChangeRulesV1) -> Result<AskV1, Problem> {
    let prepared = &core.shared.world.prepared;
    Ok(match ask {
        ChangeRulesV1::PutTenant(spec) => AskV1::PutTenant { spec, wrapped_key: fresh_wrapped_key(core)? },
        ChangeRulesV1::PutLimit(spec) => AskV1::PutLimit(spec),
        ChangeRulesV1::RemoveLimit { tenant, id } => AskV1::RemoveLimit { tenant, id },
        ChangeRulesV1::PutPolicy(text) => {
            check_policy(prepared, &text)?;
            AskV1::PutPolicy { digest: Sha256::digest(&text).into(), text }
        }
        ChangeRulesV1::PlaceHold(spec) => AskV1::PlaceHold(spec),
        ChangeRulesV1::LiftHold(spec) => AskV1::LiftHold(spec),
        ChangeRulesV1::StoreBundle(text) => {
            check_policy(prepared, &text)?;
            AskV1::StoreBundle { digest: Sha256::digest(&text).into(), text }
        }
        ChangeRulesV1::ActivateBundle(digest) => {
            check_kept(prepared, control, &digest)?;
            AskV1::ActivateBundle { digest }
        }
        ChangeRulesV1::RollbackPolicy => AskV1::RollbackPolicy,
        ChangeRulesV1::RemoveBundle(digest) => AskV1::RemoveBundle { digest },
        ChangeRulesV1::ShadowPolicy(digest) => {
            digest.map_or(Ok(()), |digest| check_kept(prepared, control, &digest))?;
            AskV1::ShadowPolicy { digest }
        }
        ChangeRulesV1::CanaryBundle(digest, percent) => {
            check_kept(prepared, control, &digest)?;
            AskV1::CanaryBundle { digest, percent }
        }
        ChangeRulesV1::PutQuarantine(spec) => AskV1::PutQuarantine(spec),
        ChangeRulesV1::Erase(spec) => AskV1::Erase(erasure_of(core, spec)?),
        ChangeRulesV1::SetLegalHold(spec) => AskV1::SetLegalHold(legal::hold_of(core, spec)?),
        ChangeRulesV1::LiftLegalHold { id, by } => AskV1::LiftLegalHold { id, by },
        ChangeRulesV1::Dictionary(tenant, Some(bytes)) => {
            let refuse = |error: BadDictionary| Problem::new(Code::InvalidControl, error.to_string());
            let digest = *Dictionary::read(&bytes).map_err(refuse)?.digest();
            AskV1::Dictionary(DictionaryAskV1::Give { tenant, digest, bytes })
        }
        ChangeRulesV1::Dictionary(tenant, None) => AskV1::Dictionary(DictionaryAskV1::Leave { tenant }),
        ChangeRulesV1::TurnKey(ask) => AskV1::Signing(match ask {
            TurnKeyV1::Zone { reason, overlap_s } => SigningAskV1::Rotate { reason, overlap_s },
            TurnKeyV1::Node { node, before, public, reason } => SigningAskV1::Cosigner { node, before, public, reason },
        }),
    })
}

/// Refuses a bundle that does not parse, before anything is proposed: the one in force stays in force.
fn check_policy(prepared: &Prepared, text: &str) -> Result<(), Problem> {
    let Err(first) = prepared.bundle(text) else { return Ok(()) };
    let rest = Bundle::check(text).map_or_else(|problems| problems.len().saturating_sub(1), |_| 0);
    let more = if rest == 0 { String::new() } else { format!("; {rest} more: `nethical policy validate FILE`") };
    Err(Problem::new(Code::InvalidPolicy, format!("{first}{more}")))
}

/// Refuses a kept bundle that an older release accepted and this one does not. Whether it is kept is judged in apply.
fn check_kept(prepared: &Prepared, control: &Plain<ControlMachine>, digest: &[u8; 32]) -> Result<(), Problem> {
    let kept = Bundles::of(control.machine.lock().state.events()).get(digest).cloned();
    kept.map_or(Ok(()), |kept| check_policy(prepared, &kept.text))
}

/// The subject under the tenant's key: its name goes into no log.
fn erasure_of(core: &Core, spec: EraseSpec) -> Result<ErasureV1, Problem> {
    let EraseSpec { tenant, agent, person, reason } = spec;
    let view = core.shared.view();
    let keys = &view.tenant(&tenant).ok_or_else(|| core.shared.no_tenant(&tenant))?.keys;
    let (subject, is_person) = match (agent.as_str(), person.as_str()) {
        (agent, "") if !agent.is_empty() => (keys.keyed_id("agent", agent), false),
        ("", person) if !person.is_empty() => (keys.keyed_id("person", person), true),
        _ => return Err(Problem::new(Code::InvalidControl, "name an agent or a person, one of both")),
    };
    Ok(ErasureV1 { tenant, subject, is_person, reason, at_ns: 0 })
}

fn fresh_wrapped_key(core: &Core) -> Result<Vec<u8>, Problem> {
    let newest = core.shared.keyring.ring_keys.last_key_value();
    let (id, ring_key) = newest.ok_or_else(|| Problem::new(Code::NotReady, "this node has no ring key"))?;
    let (mut key, mut nonce) = ([0; 32], [0; 12]);
    core.shared.world.scope.fill(&mut key);
    core.shared.world.scope.fill(&mut nonce);
    Ok(keys::wrap(ring_key, *id, nonce, &key))
}

/// Nudges every node and waits until the change is in force everywhere, or reports who is awaited.
async fn acknowledge(core: &Arc<Core>, control: &Plain<ControlMachine>, revision: ControlRevision) -> ControlAck {
    let clock = &core.shared.world.clock;
    let begun = clock.now();
    nudge(core);
    loop {
        let told = core.heard.changed.notified();
        let partitions = core.groups().filter(|group| group.is_partition());
        let term = control.group.leadership().borrow().term;
        let awaiting = core.heard.awaiting(term, revision.0, partitions, clock.now());
        if awaiting.is_empty() {
            return ControlAck { revision, state: AckState::Acknowledged, awaiting };
        }
        let left = (begun + ACK_PATIENCE).saturating_sub(clock.now());
        if left.is_zero() || timeout(&**clock, left, told).await.is_none() {
            return ControlAck { revision, state: AckState::Pending, awaiting };
        }
    }
}

fn nudge(core: &Core) {
    core.nudged.notify_one();
    for peer in core.peers() {
        let call = core.shared.world.wire.call(peer, Lane::Control, KIND_NUDGE, Bytes::new(), CALL_PATIENCE);
        core.shared.world.scope.spawn(call);
    }
}

/// Sends a change to the control leader, wherever it is.
pub async fn change(core: &Arc<Core>, ask: ChangeRulesV1) -> Result<ControlAck, Problem> {
    let clock = core.shared.world.clock.clone();
    let until = clock.now() + ACK_PATIENCE + CALL_PATIENCE;
    let mut problem =
        Problem::new(Code::NoQuorum, "the control group has no leader that is known here").retry_after_ms(500);
    while clock.now() < until {
        let answer = match control_leader(core) {
            Some(leader) if leader == core.shared.options.node => change_here(core, ask.clone()).await,
            Some(leader) => {
                let call = core.shared.world.wire.call(
                    leader,
                    Lane::Control,
                    KIND_RULES,
                    ask.to_bytes(),
                    ACK_PATIENCE + CALL_PATIENCE,
                );
                match call.await {
                    Ok(bytes) => RulesChangedV1::from_bytes(&bytes).unwrap_or(RulesChangedV1::NotLeader(None)),
                    Err(crate::world::WireError::Lost { why, .. }) => {
                        return Err(Problem::new(Code::OutcomeUnknown, why));
                    }
                    Err(_) => RulesChangedV1::NotLeader(None),
                }
            }
            None => RulesChangedV1::NotLeader(None),
        };
        match answer {
            RulesChangedV1::Ack(ack) => return Ok(ack),
            RulesChangedV1::Problem(told) => return Err(told),
            RulesChangedV1::NotLeader(hint) => {
                *core.control_hint.lock() = hint.map(NodeId);
                problem = Problem::new(Code::NoQuorum, "the control group has no leader now").retry_after_ms(500);
            }
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
    Err(problem)
}

/// Lifts all hold-orders of a scope: one change lifts one, so it is asked for until nothing changes any more.
pub async fn lift_all(core: &Arc<Core>, spec: &HoldSpec) -> Result<ControlAck, Problem> {
    let lift = || change(core, ChangeRulesV1::LiftHold(spec.clone()));
    let mut ack = lift().await?;
    for _ in 0..HOLDS_MAX {
        match lift().await {
            Ok(next) if next.revision == ack.revision => break,
            Ok(next) => ack = next,
            // Another order of the scope does not take this word; the count says that it is in force.
            Err(problem) if problem.code == Code::InvalidControl => break,
            Err(problem) => return Err(problem),
        }
    }
    Ok(ack)
}

/// Keeps this node's view, and the partitions that it leads, up to date. Runs until the node stops.
pub async fn pump(core: Arc<Core>) {
    loop {
        let more = fetch_once(&core).await.unwrap_or(false);
        let behind = carry_all(&core).await;
        if !more && !behind {
            let wanted = async {
                tokio::select! {
                    biased;
                    () = core.nudged.notified() => {}
                    () = core.shared.contact.wanted.notified() => {}
                }
            };
            let _ = timeout(&*core.shared.world.clock, FETCH_EVERY, wanted).await;
        } else if behind {
            core.shared.world.clock.sleep(Duration::from_millis(10)).await;
        }
    }
}

fn applied_here(core: &Core) -> Vec<(u32, u64)> {
    let led = core.partitions().into_iter().filter(|replica| replica.lead().is_some());
    led.map(|replica| (replica.group.id().0, replica.machine.lock().ledger.control_revision().0)).collect()
}

/// One round: asks the control leader, takes the events in, reports what is applied. `Ok(true)`: ask again at once.
async fn fetch_once(core: &Arc<Core>) -> Option<bool> {
    let clock = &core.shared.world.clock;
    let after = core.shared.view().revision();
    let applied = applied_here(core);
    let led: Vec<GroupId> = applied.iter().map(|(group, _)| GroupId(*group)).collect();
    let ask = FetchV1 { node: core.shared.options.node.0, after: after.0, applied };
    let sent = clock.now();
    let answer = match control_leader(core) {
        Some(leader) if leader == core.shared.options.node => on_fetch(core.clone(), ask).await,
        Some(leader) => {
            core.shared.world.wire.call(leader, Lane::Control, KIND_FETCH, ask.to_bytes(), CALL_PATIENCE).await.ok()?
        }
        None => {
            clock.sleep(Duration::from_millis(50)).await;
            return Some(true);
        }
    };
    match FetchedV1::from_bytes(&answer).ok()? {
        FetchedV1::Events { events, latest } => {
            core.shared.contact.confirmed(sent, ControlRevision(latest), led.into_iter());
            let taken = core.shared.take_in(&events).map_err(|error| tracing::error!(%error, "control events")).ok()?;
            Some(taken.0 < latest)
        }
        FetchedV1::NotLeader(hint) => {
            *core.control_hint.lock() = hint.map(NodeId);
            clock.sleep(Duration::from_millis(50)).await;
            Some(true)
        }
    }
}

/// Carries facts into every partition that this node leads. True where something was carried or is left to carry.
async fn carry_all(core: &Arc<Core>) -> bool {
    let led: Vec<_> = core.partitions().into_iter().filter(|replica| replica.lead().is_some()).collect();
    let carried = led.iter().map(|replica| carry(core, replica));
    futures::future::join_all(carried).await.into_iter().any(|behind| behind)
}

async fn carry(core: &Core, replica: &Arc<PartitionReplica>) -> bool {
    let Some(lead) = replica.lead() else { return false };
    let view = core.shared.view();
    let from = replica.machine.lock().ledger.control_revision();
    if from >= view.revision() {
        return false;
    }
    let facts = view.facts_after(from, FACTS_MAX);
    let to_rev = facts.last().map_or(from, |fact| fact.revision);
    let bytes = rkyv::to_bytes::<Error>(&FactsV1 { facts: facts.clone() }).expect("encoding into memory cannot fail");
    let header = HeaderV1::ApplyControl(ApplyControlV1 { from_rev: from, to_rev, facts });
    let applied = replica.propose(&lead, header, body::plain(&bytes).0, CALL_PATIENCE).await;
    if let Err(problem) = applied {
        tracing::debug!(group = %lead.group(), %problem, "control facts were not carried this time");
    }
    true
}

/// The body behind a control leaf: the facts, which hold keyed ids and numbers only.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FactsV1 {
    /// One for each revision.
    pub facts: Vec<RevisedFact>,
}

/// Gives a new zone its first policy, and creates tenants that were asked for. Runs until the node stops.
pub async fn attend(core: Arc<Core>) {
    loop {
        give_first_policy(&core).await;
        for tenant in core.take_asked_tenants() {
            let spec = TenantSpec::named(tenant);
            if let Err(problem) = change(&core, ChangeRulesV1::PutTenant(spec)).await {
                tracing::warn!(%problem, "a tenant was not created");
            }
        }
        let _ = timeout(&*core.shared.world.clock, FETCH_EVERY, core.tenants_wanted.notified()).await;
    }
}

/// Puts the first bundle in force where this node leads the control group and there has never been one. Whether there
/// was one is judged in apply: a leader's own state may lag behind its log, and an administrator may be faster.
async fn give_first_policy(core: &Arc<Core>) {
    let leads = control_here(core).is_some_and(|control| control.group.leadership().borrow().here);
    let lacks = |control: &Plain<ControlMachine>| !control.machine.lock().state.has_had_policy();
    if !leads || !control_here(core).is_some_and(|control| lacks(&control)) {
        return;
    }
    let text = core.shared.options.first_policy.clone();
    if let Err(error) = core.shared.world.prepared.bundle(&text) {
        return tracing::error!(%error, "the first policy does not parse; no action can be decided until one is put in force");
    }
    let Ok(control) = confirmed_leader(core).await else { return };
    if lacks(&control) {
        propose_here(core, &control, AskV1::FirstPolicy { digest: Sha256::digest(&text).into(), text }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nethical_governance::policy::default_bundle_text;

    #[test]
    fn a_bad_bundle_is_refused_with_a_code_and_the_number_of_problems_before_anything_is_proposed() {
        let prepared = Prepared::default();
        assert_eq!(check_policy(&prepared, default_bundle_text()), Ok(()));
        let bad = "@id(\"a\") @verdict(\"no\") forbid(principal, action, resource);\nforbid(";
        let problem = check_policy(&prepared, bad).expect_err("it is no bundle");
        assert_eq!(problem.code, Code::InvalidPolicy);
        assert!(problem.detail.starts_with("1:10: @verdict(\"no\")") && problem.detail.contains("1 more"), "{problem}");
    }
}
