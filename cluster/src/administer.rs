//! Administration of agents and replicas, as the group's leader does it: hold-orders, look-ups, joins, reports.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use nethical_audit::leaf::{LeafEvent, LeafV1};
use nethical_governance::command::{HeaderV1, HoldOrderV1, RequestKey};
use nethical_governance::outcome::OutcomeV1;
use nethical_governance::quota::Subject;
use nethical_protocol::control::HoldScope;
use nethical_protocol::decision::AgentStatus;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, GroupId, KeyedId, NodeId};

use crate::actor::command::actor_keys;
use crate::body::BodyV1;
use crate::lead::Lead;
use crate::message::*;
use crate::meta;
use crate::node::Core;
use crate::publish;
use crate::replica::PartitionReplica;
use crate::replicate::group::{Group, Progress};
use crate::replicate::machine::Machine;
use crate::sealing::Sealer;
use crate::world::timeout;

/// How long an administrative proposal may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// An agent's group, for a tenant that exists.
pub fn group_of_agent(core: &Core, tenant: &str, agent: &str) -> Result<GroupId, Problem> {
    let view = core.shared.view();
    let tenant = view.tenant(tenant).ok_or_else(|| core.shared.no_tenant(tenant))?;
    let founding = core
        .founding()
        .ok_or_else(|| Problem::new(Code::NotReady, "this node has not joined its zone yet").retry_after_ms(500))?;
    let slot = nethical_protocol::slot::slot_of(&tenant.spec.tenant, agent, tenant.spec.placement);
    Ok(meta::group_of(&founding, slot))
}

/// The term that this node leads in a group, or whom to ask.
pub fn lead_of(core: &Core, group: GroupId) -> Result<(Arc<PartitionReplica>, Arc<Lead>), Option<u64>> {
    let replica = core.partition(group).ok_or(None)?;
    let leader = replica.group.leadership().borrow().leader.map(|node| node.0);
    let lead = replica.lead().ok_or(leader)?;
    Ok((replica, lead))
}

/// As [`lead_of`], once a quorum has confirmed within `patience` that this node leads: what is read from the state then is no older
/// than anything that was acknowledged before.
pub async fn confirmed_lead(
    core: &Core,
    group: GroupId,
    patience: Duration,
) -> Result<(Arc<PartitionReplica>, Arc<Lead>), Option<u64>> {
    let (replica, lead) = lead_of(core, group)?;
    match timeout(&*core.shared.world.clock, patience, replica.group.confirm()).await {
        Some(Ok(())) => Ok((replica, lead)),
        _ => Err(None),
    }
}

/// Places or lifts an agent's hold-order, where this node leads the agent's group.
pub async fn on_hold(core: Arc<Core>, ask: HoldV1) -> Bytes {
    hold_here(&core, ask).await.to_bytes()
}

async fn hold_here(core: &Core, ask: HoldV1) -> HeldV1 {
    let HoldScope::Agent { tenant: tenant_name, agent } = ask.spec.scope.clone() else {
        return HeldV1::Problem(Problem::new(Code::InvalidControl, "only a hold on one agent goes to its group"));
    };
    let group = match group_of_agent(core, &tenant_name, &agent) {
        Ok(group) => group,
        Err(problem) => return HeldV1::Problem(problem),
    };
    let (replica, lead) = match lead_of(core, group) {
        Ok(found) => found,
        Err(hint) => return HeldV1::NotLeader(hint),
    };
    let view = core.shared.view();
    let Some(tenant) = view.tenant(&tenant_name) else { return HeldV1::NotLeader(None) };
    let plaintext = BodyV1::Hold(ask.spec.clone()).to_bytes();
    let actor = actor_keys(tenant, &agent);
    let sealed = match Sealer::default().seal(&lead, &actor, None, &plaintext) {
        Ok(sealed) => sealed,
        Err(problem) => return HeldV1::Problem(problem),
    };
    let request = RequestKey {
        id: tenant.keys.keyed_id("request", &ask.request_id),
        content: tenant.keys.content_mac(&[agent.as_bytes(), &[u8::from(ask.lift)]]),
        issued_at_ms: ask.issued_at_ms,
        client_chosen: true,
    };
    let order = HoldOrderV1 {
        request,
        actor,
        effect: ask.spec.effect,
        ttl_ns: ask.spec.ttl_s.saturating_mul(1_000_000_000),
        body_commitment: sealed.commitment,
        sealing: Some(sealed.sealing.agent),
        approvers: ask.spec.approvers,
        names: ask.spec.approver_names.iter().map(|name| tenant.keys.keyed_id("approver", name)).collect(),
        approver: tenant.keys.keyed_id("approver", &ask.spec.approver),
    };
    if let Err(problem) = check_release(&lead, &order, &ask) {
        return HeldV1::Problem(problem);
    }
    let header = if ask.lift { HeaderV1::LiftHoldOrder(order) } else { HeaderV1::PlaceHoldOrder(order) };
    held(core, &replica, &lead, header, sealed.bytes).await
}

/// Refuses orders that nobody could lift, and words that apply would not count.
fn check_release(lead: &Lead, order: &HoldOrderV1, ask: &HoldV1) -> Result<(), Problem> {
    ask.spec.check_release()?;
    if !ask.lift {
        return Ok(());
    }
    let machine = lead.machine().lock();
    let Some(release) = machine.ledger.release_of(&order.actor) else { return Ok(()) };
    let (needed, who) = (release.needed, &ask.spec.approver);
    match release.counts(order.approver) {
        true => Ok(()),
        false if who.is_empty() => {
            let detail = format!("approver is empty: the release needs the words of {needed} different approvers");
            Err(Problem::new(Code::InvalidControl, detail))
        }
        false => Err(Problem::new(Code::InvalidControl, format!("{who:?} is not among the order's approvers"))),
    }
}

async fn held(core: &Core, replica: &PartitionReplica, lead: &Lead, header: HeaderV1, sealed: Vec<u8>) -> HeldV1 {
    let (entry, at) = match replica.propose(lead, header, sealed, PATIENCE).await {
        Ok(applied) => applied,
        Err(problem) if problem.code == Code::NotLeader => return HeldV1::NotLeader(None),
        Err(problem) => return HeldV1::Problem(problem),
    };
    let log = replica.machine.lock().log();
    match &entry.results[at].outcome {
        OutcomeV1::HoldChanged { status, missing, .. } => {
            let leaf_index = entry.results[at].record.as_ref().map_or(0, |record| record.leaf.leaf_index);
            HeldV1::Done { decision_id: DecisionId { log, leaf_index }, status: *status, missing: *missing }
        }
        OutcomeV1::Duplicate { leaf_index } => match core.leaf(log.group, *leaf_index).await {
            Ok((leaf, _)) => {
                let (status, missing) = told_in(&leaf);
                HeldV1::Done { decision_id: DecisionId { log, leaf_index: *leaf_index }, status, missing }
            }
            Err(problem) => HeldV1::Problem(problem),
        },
        OutcomeV1::Stale(_) => HeldV1::NotLeader(None),
        OutcomeV1::UnknownTenant => HeldV1::Problem(
            Problem::new(Code::NotReady, "the tenant has not reached the agent's group yet").retry_after_ms(200),
        ),
        other => HeldV1::Problem(Problem::new(Code::RequestConflict, format!("the hold-order ended as {other:?}"))),
    }
}

fn told_in(leaf: &LeafV1) -> (AgentStatus, u8) {
    let (status, missing) = match &leaf.event {
        LeafEvent::HoldPlaced(hold) | LeafEvent::HoldLifted(hold) => (hold.status, hold.missing),
        _ => (0, 0),
    };
    (AgentStatus::ALL[usize::from(status).min(3)], missing)
}

/// Reports an agent's state, where this node leads its group and a quorum has confirmed that.
pub async fn on_agent(core: Arc<Core>, ask: AskAgentV1) -> Bytes {
    agent_here(&core, ask).await.to_bytes()
}

async fn agent_here(core: &Core, ask: AskAgentV1) -> AgentAnswerV1 {
    let group = match group_of_agent(core, &ask.tenant, &ask.agent) {
        Ok(group) => group,
        Err(problem) => return AgentAnswerV1::Problem(problem),
    };
    let lead = match confirmed_lead(core, group, PATIENCE).await {
        Ok((_, lead)) => lead,
        Err(hint) => return AgentAnswerV1::NotLeader(hint),
    };
    let view = core.shared.view();
    let Some(tenant) = view.tenant(&ask.tenant) else { return AgentAnswerV1::NotLeader(None) };
    let actor = actor_keys(tenant, &ask.agent);
    let machine = lead.machine().lock();
    let facts = machine.ledger.agent_view(&actor);
    let none = KeyedId::NONE;
    let subject =
        Subject { actor, session: none, cohort: none, tool: none, region: none, is_critical: false, has_asked: false };
    let usage = machine.ledger.usage(&subject, core.shared.world.clock.wall_ns());
    AgentAnswerV1::Agent(AgentReportV1 {
        group: group.0,
        known: facts.known,
        status: facts.status,
        epoch: facts.epoch,
        risk: facts.risk,
        tier: facts.tier as u8,
        actions: facts.actions,
        denied: facts.denied,
        violations: facts.violations,
        quota: usage.iter().map(|quota| (quota.limit.0, quota.cap, quota.remaining, quota.reset_ns)).collect(),
    })
}

/// Tells a peer what this node knows of its replica.
pub async fn on_hello(core: Arc<Core>, ask: HelloV1) -> Bytes {
    let group = GroupId(ask.group);
    let attending = core.attends(group);
    let progress = match group {
        GroupId::META => core.meta.read().as_ref().map(|plain| plain.group.progress()),
        GroupId::CONTROL => core.control.read().as_ref().map(|plain| plain.group.progress()),
        group => core.partition(group).map(|replica| replica.group.progress()),
    };
    let Some(progress) = progress else {
        return HelloAnswerV1 { attending, founded: false, replica: None, acknowledged: None, voter: None }.to_bytes();
    };
    let mut lives = progress.replicas.iter().filter(|(_, node)| node.0 == ask.node).map(|(replica, _)| *replica);
    let replica = lives.next_back();
    let voter = progress.voting.iter().filter(|(_, node)| node.0 == ask.node).map(|(replica, _)| *replica).max();
    let acknowledged = replica.and_then(|replica| core.acknowledged(group, replica, &progress));
    HelloAnswerV1 { attending, founded: !progress.replicas.is_empty(), replica, acknowledged, voter }.to_bytes()
}

/// Takes a new life of a replica in, where this node leads the group.
pub async fn on_join(core: Arc<Core>, ask: JoinV1) -> Bytes {
    let group = GroupId(ask.group);
    let (meta, control) = (core.meta.read().clone(), core.control.read().clone());
    let joined = match group {
        GroupId::META => match meta {
            Some(plain) => join(&plain.group, &ask).await,
            None => JoinedV1::NotLeader(None),
        },
        GroupId::CONTROL => match control {
            Some(plain) => join(&plain.group, &ask).await,
            None => JoinedV1::NotLeader(None),
        },
        group => match core.partition(group) {
            Some(replica) => join(&replica.group, &ask).await,
            None => JoinedV1::NotLeader(None),
        },
    };
    joined.to_bytes()
}

async fn join<M: Machine>(group: &Group<M>, ask: &JoinV1) -> JoinedV1 {
    let leadership = *group.leadership().borrow();
    if !leadership.here {
        return JoinedV1::NotLeader(leadership.leader.map(|node| node.0));
    }
    tracing::warn!(group = %group.id(), node = ask.node, old = ?ask.old, new = ask.new, "a lost replica is replaced");
    match group.replace(ask.new, NodeId(ask.node)).await {
        Ok(()) => JoinedV1::Done,
        Err(fault) => JoinedV1::Failed(fault.0),
    }
}

/// How this node is.
pub fn report(core: &Core) -> NodeReportV1 {
    let mut groups = Vec::new();
    if let Some(plain) = core.meta.read().as_ref() {
        groups.push(group_report(&plain.group, 0));
    }
    if let Some(plain) = core.control.read().as_ref() {
        groups.push(group_report(&plain.group, 0));
    }
    for replica in core.partitions() {
        let leaves = replica.machine.lock().tree().0;
        groups.push(group_report(&replica.group, leaves));
    }
    let (node, pid) = (core.shared.options.node.0, core.shared.options.pid);
    NodeReportV1 {
        node,
        pid,
        ready: core.is_ready(),
        groups,
        shadow: core.shared.shadow.report(),
        canary: core.shared.canary.report(),
        cosigner: publish::vkey(core).unwrap_or_default(),
    }
}

fn group_report<M: Machine>(group: &Group<M>, leaves: u64) -> GroupReportV1 {
    let leadership = *group.leadership().borrow();
    let Progress { term, applied, voters, .. } = group.progress();
    let leader = leadership.leader.map(|node| node.0);
    let voters = voters.into_iter().map(|node| node.0).collect();
    GroupReportV1 { group: group.id().0, leads: leadership.here, leader, term, applied, leaves, voters }
}
