//! Route: from actions to answers. Splits a batch by group, sends each part to its leader (at most one hop), and owns
//! the retries: the same request ids, inside the deadline, until each item is decided, refused or unknown.
//!
//! What must keep its order happens before the first await: the first attempt of every part is on its way when
//! [`Decider::decide`] returns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;

use nethical_protocol::action::Action;
use nethical_protocol::control::Placement;
use nethical_protocol::decision::ItemAnswer;
use nethical_protocol::error::{Class, Code, Problem};
use nethical_protocol::ids::{GroupId, NodeId};
use nethical_protocol::slot::slot_of;
use nethical_protocol::{buggify, probe, sometimes};

use crate::local::{self, decide_here};
use crate::message::{ForwardV1, ForwardedV1, KIND_FORWARD};
use crate::meta;
use crate::node::Core;
use crate::world::{Lane, WireError};

/// Between two attempts at the same items.
const RETRY_PAUSES_MS: [u64; 6] = [5, 10, 20, 40, 80, 160];
/// Left of the deadline for the way back when a part is forwarded.
const HOP_MARGIN: Duration = Duration::from_millis(5);

/// Answers of one attempt, and who leads where the one asked did not.
pub struct Attempt {
    /// One for each action, in order.
    pub answers: Vec<ItemAnswer>,
    /// A hint for the next attempt.
    pub leader: Option<NodeId>,
}

type AttemptFuture = BoxFuture<'static, Attempt>;

/// Routes for one node. Cheap to clone.
#[derive(Clone)]
pub struct Decider {
    core: Arc<Core>,
    hints: Arc<Mutex<BTreeMap<GroupId, NodeId>>>,
}

/// A part of a batch: the actions of one group, with their places in the batch.
struct Part {
    group: GroupId,
    places: Vec<usize>,
    actions: Vec<Action>,
}

impl Decider {
    /// A router over a node's core.
    pub fn new(core: Arc<Core>) -> Self {
        Self { core, hints: Arc::default() }
    }

    /// Decides a batch; see the module's words on order.
    pub fn decide(&self, actions: Vec<Action>, deadline: Duration) -> BoxFuture<'static, Vec<ItemAnswer>> {
        let until = self.core.shared.world.clock.now() + deadline;
        let ids: Vec<String> = actions.iter().map(|action| action.request_id.clone()).collect();
        let (parts, refused) = self.split(actions);
        let started: Vec<_> = parts
            .into_iter()
            .map(|part| {
                let first = self.attempt(part.group, part.actions.clone(), until);
                (part, first)
            })
            .collect();
        let decider = self.clone();
        async move {
            let mut answers: Vec<Option<ItemAnswer>> = vec![None; ids.len()];
            for (place, problem) in refused {
                answers[place] = Some(ItemAnswer { request_id: ids[place].clone(), result: Err(problem) });
            }
            let parts = started.into_iter().map(|(part, first)| decider.clone().see_through(part, first, until));
            for (places, part_answers) in join_all(parts).await {
                for (place, answer) in places.into_iter().zip(part_answers) {
                    answers[place] = Some(answer);
                }
            }
            let filled = answers.into_iter().enumerate();
            filled.map(|(place, answer)| answer.unwrap_or_else(|| lost(&ids[place]))).collect()
        }
        .boxed()
    }

    /// Groups actions by their partition; what cannot be routed is refused by place.
    fn split(&self, actions: Vec<Action>) -> (Vec<Part>, Vec<(usize, Problem)>) {
        let mut parts: BTreeMap<GroupId, Part> = BTreeMap::new();
        let mut refused = Vec::new();
        let Some(founding) = self.core.founding() else {
            let problem = Problem::new(Code::NotReady, "this node has not joined its zone yet").retry_after_ms(500);
            return (Vec::new(), (0..actions.len()).map(|place| (place, problem.clone())).collect());
        };
        let view = self.core.shared.view();
        for (place, action) in actions.into_iter().enumerate() {
            let placement = match view.tenant(&action.tenant) {
                Some(tenant) => tenant.spec.placement,
                // An open zone creates it on the way; new tenants are spread.
                None if self.core.shared.options.open_tenants => Placement::Spread,
                None => {
                    refused.push((place, self.core.shared.no_tenant(&action.tenant)));
                    continue;
                }
            };
            let group = meta::group_of(&founding, slot_of(&action.tenant, &action.agent, placement));
            let part = parts.entry(group).or_insert_with(|| Part { group, places: Vec::new(), actions: Vec::new() });
            part.places.push(place);
            part.actions.push(action);
        }
        (parts.into_values().collect(), refused)
    }

    /// Starts one attempt: here where this node leads, else at the leader that it knows of.
    pub fn attempt(&self, group: GroupId, actions: Vec<Action>, until: Duration) -> AttemptFuture {
        if let Some(lead) = self.core.partition(group).and_then(|replica| replica.lead()) {
            return decide_here(self.core.clone(), lead, actions, until);
        }
        match self.leader_of(group) {
            Some(leader) => self.forward(leader, group, actions, until),
            None => {
                let problem = Problem::new(Code::NoQuorum, format!("group {group} has no leader that is known here"))
                    .retry_after_ms(500);
                let answers = local::all(&actions, problem);
                async move { Attempt { answers, leader: None } }.boxed()
            }
        }
    }

    /// The leader to ask: what our own replica follows, else the last hint, else some replica of the group.
    fn leader_of(&self, group: GroupId) -> Option<NodeId> {
        let own = self.core.shared.options.node;
        let followed = self.core.partition(group).and_then(|replica| replica.group.leadership().borrow().leader);
        let hinted = || self.hints.lock().get(&group).copied();
        let someone = || self.core.placed(group).into_iter().find(|node| *node != own);
        let hosted = self.core.partition(group).is_some();
        followed.or_else(hinted).or_else(|| if hosted { None } else { someone() }).filter(|node| *node != own)
    }

    fn forward(&self, to: NodeId, group: GroupId, actions: Vec<Action>, until: Duration) -> AttemptFuture {
        let left = until.saturating_sub(self.core.shared.world.clock.now());
        let inner = left.saturating_sub(HOP_MARGIN);
        let epoch = self.core.founding().map_or(0, |founding| founding.epoch);
        let ids: Vec<String> = actions.iter().map(|action| action.request_id.clone()).collect();
        observe_forwarded("forward.sent", group, to, &actions);
        let message = ForwardV1 { group: group.0, epoch, deadline_ms: inner.as_millis() as u64, actions };
        let call = self.core.shared.world.wire.call(to, Lane::Decide, KIND_FORWARD, message.to_bytes(), left);
        async move {
            let all = |problem: Problem| Attempt {
                answers: ids
                    .iter()
                    .map(|id| ItemAnswer { request_id: id.clone(), result: Err(problem.clone()) })
                    .collect(),
                leader: None,
            };
            match call.await {
                Ok(bytes) => match ForwardedV1::from_bytes(&bytes) {
                    Ok(answer) if answer.answers.len() == ids.len() => {
                        Attempt { answers: answer.answers, leader: answer.leader.map(NodeId) }
                    }
                    _ => all(Problem::new(Code::OutcomeUnknown, "the leader's answer does not read")),
                },
                Err(WireError::NotSent { why, .. }) => {
                    all(Problem::new(Code::NoQuorum, format!("the group's leader cannot be reached: {why}"))
                        .retry_after_ms(500))
                }
                Err(WireError::Lost { why, .. }) => {
                    all(Problem::new(Code::OutcomeUnknown, format!("the group's leader did not answer: {why}")))
                }
            }
        }
        .boxed()
    }

    /// Tries again what may be tried again, with the same ids, until everything is settled or the time is up.
    async fn see_through(self, part: Part, first: AttemptFuture, until: Duration) -> (Vec<usize>, Vec<ItemAnswer>) {
        let mut answers: Vec<Option<ItemAnswer>> = vec![None; part.actions.len()];
        let mut open: Vec<usize> = (0..part.actions.len()).collect();
        let mut was_unknown = vec![false; part.actions.len()];
        let mut attempt = first;
        for round in 0usize.. {
            let done = attempt.await;
            if let Some(leader) = done.leader {
                self.hints.lock().insert(part.group, leader);
            }
            for (at, answer) in std::mem::take(&mut open).into_iter().zip(done.answers) {
                let class = answer.result.as_ref().err().map(|problem| problem.code.class());
                was_unknown[at] |= class == Some(Class::Unknown) && !is_final(&answer);
                let settles_nothing = was_unknown[at] && is_from_memory(&answer);
                if matches!(class, Some(Class::Retry | Class::Unknown)) && !is_final(&answer) || settles_nothing {
                    open.push(at);
                } else if answer.result.is_ok() && buggify!("decide.repeat-answered") {
                    // What a network or a client may do too: the same request comes once more, and nobody listens.
                    let repeated = self.attempt(part.group, vec![part.actions[at].clone()], until);
                    self.core.shared.world.scope.spawn(repeated);
                }
                answers[at] = Some(answer);
            }
            let pause = Duration::from_millis(RETRY_PAUSES_MS[round.min(RETRY_PAUSES_MS.len() - 1)]);
            if open.is_empty() || self.core.shared.world.clock.now() + pause >= until {
                break;
            }
            self.core.shared.world.clock.sleep(pause).await;
            let again = open.iter().map(|at| part.actions[*at].clone()).collect();
            attempt = self.attempt(part.group, again, until);
        }
        let ids = part.actions.iter().map(|action| &action.request_id);
        let settled = answers.into_iter().zip(ids).zip(was_unknown);
        (part.places, settled.map(|((answer, id), unknown)| settle(answer, id, unknown)).collect())
    }
}

/// Tells a simulator of each action that goes from one node to another. Facts: group, the other node, crc32c of the id.
pub fn observe_forwarded(what: &'static str, group: GroupId, other: NodeId, actions: &[Action]) {
    for action in actions.iter().filter(|_| probe::ENABLED) {
        let crc = crc32c::crc32c(action.request_id.as_bytes());
        probe::observe(what, &[u64::from(group.0), other.0, u64::from(crc)]);
    }
}

/// Problems that another attempt would not change.
fn is_final(answer: &ItemAnswer) -> bool {
    matches!(&answer.result, Err(problem) if problem.code == Code::RequestTooOld)
}

/// A refusal from memory says nothing of an attempt of the same request that may still be on its way into the log.
fn is_from_memory(answer: &ItemAnswer) -> bool {
    matches!(&answer.result, Err(problem) if problem.code == Code::DenialRepeated)
}

/// Once an attempt was unknown, a later refusal to try again does not make it *not happened*.
fn settle(answer: Option<ItemAnswer>, id: &str, was_unknown: bool) -> ItemAnswer {
    let unknown = |answer: &ItemAnswer| matches!(&answer.result, Err(problem) if problem.code == Code::OutcomeUnknown);
    sometimes!(was_unknown || answer.as_ref().is_none_or(unknown), "a decision's outcome was unknown");
    match answer {
        None => lost(id),
        Some(ItemAnswer { request_id, result: Err(problem) })
            if was_unknown && (problem.code.class() == Class::Retry || problem.code == Code::DenialRepeated) =>
        {
            let detail = format!("an earlier attempt was not answered; the last one said: {}", problem.detail);
            ItemAnswer { request_id, result: Err(Problem::new(Code::OutcomeUnknown, detail)) }
        }
        Some(answer) => answer,
    }
}

fn lost(id: &str) -> ItemAnswer {
    let problem = Problem::new(Code::OutcomeUnknown, "no answer came back");
    ItemAnswer { request_id: id.to_owned(), result: Err(problem) }
}
