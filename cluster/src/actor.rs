//! Actor: one ractor actor per active agent on the leader. It orders the agent's actions, computes the facts about each
//! (detections, policy result), seals the body and proposes a command. It changes no state: apply does.
//!
//! An actor lives in one term. It has no name and joins no process group; its handle goes dead with the term.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use nethical_audit::leaf::{DecisionLeaf, LeafEvent};
use nethical_governance::command::ActorKeys;
use nethical_governance::outcome::OutcomeV1;
use nethical_governance::quota::lease::LeaseAskV1;
use nethical_protocol::action::Action;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, Slot};
use nethical_protocol::limits::STALE_RETRIES_MAX;
use nethical_protocol::sometimes;

use crate::actor::command::Counted;
use crate::apply::{AppliedCommand, AppliedEntry};
use crate::control::view::Tenant;
use crate::lead::Lead;
use crate::propose::{Fate, Proposal};
use crate::repeats::{self, Denials};
use crate::replicate::group::ProposeError;

pub mod command;

/// How an ask ended.
pub enum Settled {
    /// Applied; the result is at this position of the entry.
    Applied(Arc<AppliedEntry>, usize),
    /// The group's shares of leased limits are too small for it; the action comes back, to be asked again.
    Short(Box<(Vec<LeaseAskV1>, Arc<Tenant>, Action)>),
    /// It did not happen.
    Problem(Problem),
    /// It may have happened.
    Unknown,
}

/// One action on its way through an actor.
pub struct Ask {
    /// The action.
    pub action: Action,
    /// Its tenant.
    pub tenant: Arc<Tenant>,
    /// Monotonic time after which nobody waits.
    pub deadline: Duration,
    /// Shares that it was short of were asked for in its behalf.
    pub has_asked: bool,
    /// Evaluations that turned out stale.
    pub stale: u32,
    /// Told once.
    pub reply: oneshot::Sender<Settled>,
    /// The agent's asks that are not settled.
    pub pending: Arc<AtomicUsize>,
}

impl Ask {
    /// Tells the caller and frees the agent's place.
    pub fn settle(self, settled: Settled) {
        self.pending.fetch_sub(1, Ordering::AcqRel);
        let _ = self.reply.send(settled);
    }

    /// Hands the action back to whoever asked: greater shares are to be had first.
    fn give_back(self, short: Vec<LeaseAskV1>) {
        let Self { action, tenant, reply, pending, .. } = self;
        pending.fetch_sub(1, Ordering::AcqRel);
        let _ = reply.send(Settled::Short(Box::new((short, tenant, action))));
    }
}

/// The behaviour; all state is in [`AgentState`].
pub struct AgentActor;

/// What an actor keeps between messages: nothing that apply would need.
pub struct AgentState {
    lead: Arc<Lead>,
    denials: Arc<Denials>,
    builder: command::Builder,
}

impl Actor for AgentActor {
    type Msg = Ask;
    type State = AgentState;
    type Arguments = Arc<Lead>;

    async fn pre_start(&self, _myself: ActorRef<Ask>, lead: Arc<Lead>) -> Result<AgentState, ActorProcessingErr> {
        Ok(AgentState { lead, denials: Arc::default(), builder: command::Builder::default() })
    }

    async fn handle(&self, myself: ActorRef<Ask>, ask: Ask, state: &mut AgentState) -> Result<(), ActorProcessingErr> {
        state.decide(myself, ask);
        Ok(())
    }
}

impl AgentState {
    /// The refusal from memory, where the action repeats a denial that still stands.
    fn repeated(&self, ask: &Ask) -> Option<Problem> {
        if self.denials.is_empty() {
            return None;
        }
        let (request, _) = command::request_key(&ask.tenant, &ask.action);
        let actor = command::actor_keys(&ask.tenant, &ask.action.agent);
        let found = self.denials.stands(&self.lead.machine().lock().ledger, &actor, &request, self.lead.now());
        let (of, wait) = found?;
        self.lead.repeats.count(actor, of);
        Some(repeats::problem(of, wait))
    }

    fn decide(&mut self, myself: ActorRef<Ask>, ask: Ask) {
        if self.lead.has_ended() {
            return ask.settle(Settled::Problem(Problem::new(Code::NotLeader, "leadership moved")));
        }
        if self.lead.now() >= ask.deadline {
            let detail = "the deadline ran out before anything was proposed";
            return ask.settle(Settled::Problem(Problem::new(Code::DeadlineBeforeProposal, detail)));
        }
        if let Some(problem) = self.repeated(&ask) {
            return ask.settle(Settled::Problem(problem));
        }
        let asked = self.lead.now();
        let (command, counted) = match self.builder.build(&self.lead, &ask) {
            Ok(built) => built,
            Err(problem) => return ask.settle(Settled::Problem(problem)),
        };
        let (lead, denials) = (self.lead.clone(), self.denials.clone());
        // The ask travels with the proposal and comes back to this actor if the evaluation was stale.
        let done = move |fate: Fate| {
            note(&lead, counted, &fate);
            remember(&lead, &denials, asked, &fate);
            land(&lead, myself, ask, fate);
        };
        let proposal = Proposal { command, done: Box::new(done) };
        if let Err(refused) = self.lead.proposer().propose(proposal) {
            let full = "the group's queue is full";
            (refused.done)(Err(ProposeError::Refused(Problem::new(Code::Overloaded, full).retry_after_ms(200))));
        }
    }
}

/// Keeps a denial in mind, since the agent may ask for the same again.
fn remember(lead: &Lead, denials: &Denials, asked: Duration, fate: &Fate) {
    let Ok((entry, at)) = fate else { return };
    let AppliedCommand { outcome: OutcomeV1::Decided(decided), record: Some(record) } = &entry.results[*at] else {
        return;
    };
    let LeafEvent::Decision(decision) = &record.leaf.event else { return };
    if decided.verdict.is_allowed() && denials.is_empty() {
        return;
    }
    let DecisionLeaf { slot, tenant, agent, .. } = **decision;
    let actor = ActorKeys { slot: Slot(slot), tenant, agent };
    let (log, version) = {
        let machine = lead.machine().lock();
        (machine.log(), machine.ledger.agent_version(&actor))
    };
    denials.note(&record.leaf, DecisionId { log, leaf_index: record.leaf.leaf_index }, version, asked);
}

/// Counts who said what of an action that was decided now, not of a repeat.
fn note(lead: &Lead, counted: Counted, fate: &Fate) {
    let Ok((entry, at)) = fate else { return };
    if let OutcomeV1::Decided(decided) = &entry.results[*at].outcome {
        counted.foreseen.iter().for_each(|foreseen| lead.shared().scores.note(foreseen, decided));
        counted.shadow.into_iter().for_each(|pair| lead.shared().shadow.note(pair));
        counted.canary.into_iter().for_each(|judged| lead.shared().canary.note(judged));
    }
}

/// Settles an ask whose command has landed, or sends it round again.
fn land(lead: &Lead, actor: ActorRef<Ask>, mut ask: Ask, fate: Fate) {
    if let Ok((entry, at)) = &fate
        && let OutcomeV1::LeaseShort(short) = &entry.results[*at].outcome
    {
        return ask.give_back(short.clone());
    }
    match fate {
        Ok((entry, at)) if !matches!(entry.results[at].outcome, OutcomeV1::Stale(_)) => {
            ask.settle(Settled::Applied(entry, at));
        }
        Ok(_) if ask.stale < STALE_RETRIES_MAX && lead.now() < ask.deadline && !lead.has_ended() => {
            ask.stale += 1;
            sometimes!(true, "a stale evaluation was made again");
            metrics::counter!("nethical_stale_evaluations_total").increment(1);
            if let Err(ractor::MessagingErr::SendErr(ask)) = actor.send_message(ask) {
                ask.settle(Settled::Problem(Problem::new(Code::NotLeader, "leadership moved")));
            }
        }
        Ok(_) => {
            let detail = "the agent changed while its action was evaluated";
            ask.settle(Settled::Problem(Problem::new(Code::StaleEvaluation, detail).retry_after_ms(100)));
        }
        Err(ProposeError::Refused(problem)) => ask.settle(Settled::Problem(problem)),
        Err(ProposeError::NotLeader) => {
            ask.settle(Settled::Problem(Problem::new(Code::NotLeader, "this node does not lead the agent's group")));
        }
        Err(_) => ask.settle(Settled::Unknown),
    }
}
