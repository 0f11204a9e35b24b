//! Asking again: which failures, where, when and how long. The request ids never change, so asking again is safe.
//!
//! Per item: *refused* is an answer; *retry* and *outcome unknown* are asked again at the next node. Once an attempt
//! may have happened, giving up says `outcome-unknown`, whatever the last attempt said.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use nethical_protocol::action::Action;
use nethical_protocol::decision::{ActionOutcome, ItemAnswer, Settlement};
use nethical_protocol::error::{Class, Code, Problem};
use nethical_protocol::ids::DecisionId;

use crate::error::ClientError;

mod settle;

/// The answer of one attempt at one node.
pub type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Vec<ItemAnswer>, ClientError>> + Send + 'a>>;

/// The answer of one attempt to settle.
pub type SettleAttempt<'a> = Pin<Box<dyn Future<Output = Result<Settlement, ClientError>> + Send + 'a>>;

/// One node's door, whichever protocol it speaks.
pub trait Door: Send + Sync {
    /// Asks once. One answer for each action, in order.
    fn decide(&self, actions: Vec<Action>, deadline: Duration) -> Attempt<'_>;

    /// Settles once.
    fn settle(&self, decision: DecisionId, outcome: ActionOutcome, deadline: Duration) -> SettleAttempt<'_>;
}

/// How long and how often to ask.
#[derive(Debug, Clone)]
pub struct Policy {
    /// From the first attempt to giving up.
    pub overall: Duration,
    /// The deadline of one attempt.
    pub attempt: Duration,
    /// The first pause after every node failed; it doubles up to `pause_max`.
    pub pause: Duration,
    /// The longest pause that is not asked for by a node.
    pub pause_max: Duration,
}

/// Retries that may be made at once beyond one for each ten answers; without it an outage multiplies the load.
const BUDGET_MAX: i64 = 100 * BUDGET_PER_RETRY;
/// What a retry costs; an answered attempt earns one.
const BUDGET_PER_RETRY: i64 = 10;

/// The doors of a cluster, asked in turn.
pub struct Doors {
    doors: Vec<Box<dyn Door>>,
    policy: Policy,
    /// The door that answered last; the others are asked when it fails.
    favourite: AtomicUsize,
    budget: AtomicI64,
}

/// One item that has no final answer yet.
struct Open {
    index: usize,
    action: Action,
    /// True once an attempt may have happened.
    maybe_decided: bool,
    last: Problem,
}

impl Doors {
    /// At least one door.
    pub fn new(doors: Vec<Box<dyn Door>>, policy: Policy) -> Self {
        assert!(!doors.is_empty(), "the builder refuses a client without endpoints");
        Self { doors, policy, favourite: AtomicUsize::new(0), budget: AtomicI64::new(BUDGET_MAX) }
    }

    /// Asks until every item has a final answer or the time is up. One answer each, in order.
    pub async fn decide(&self, actions: Vec<Action>) -> Vec<ItemAnswer> {
        let until = now() + self.policy.overall;
        let mut answers: Vec<Option<ItemAnswer>> = actions.iter().map(|_| None).collect();
        let mut open: Vec<Open> = actions.into_iter().enumerate().map(Open::new).collect();
        let mut failures = 0u32;
        while !open.is_empty() {
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                break;
            }
            let number = self.favourite.load(Ordering::Relaxed) % self.doors.len();
            let asked = open.iter().map(|item| item.action.clone()).collect();
            let outcome = self.doors[number].decide(asked, left.min(self.policy.attempt)).await;
            let wait = take(outcome, &mut open, &mut answers);
            if open.is_empty() {
                self.earn();
                break;
            }
            self.favourite.store(number + 1, Ordering::Relaxed);
            failures += 1;
            let pause = self.pause(failures, wait);
            if now() + pause >= until {
                break;
            }
            sleep(pause).await;
        }
        for item in open {
            let index = item.index;
            answers[index] = Some(item.give_up());
        }
        answers.into_iter().map(|answer| answer.expect("every item is final or given up")).collect()
    }

    /// How long to wait before the next attempt. A node's own word wins; else the other nodes are asked at once, and
    /// pauses begin when all have failed.
    fn pause(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let rounds = failures / self.doors.len() as u32;
        let doubled = self.policy.pause * (1 << rounds.saturating_sub(1).min(16));
        let own = if rounds == 0 { Duration::ZERO } else { jittered(doubled.min(self.policy.pause_max)) };
        let paced = if self.spend() { own } else { own.max(self.policy.pause_max) };
        // Jitter only lengthens what a node asked for: coming early would be refused again.
        asked.map_or(paced, |asked| paced.max(asked + jittered(asked / 10)))
    }

    fn earn(&self) {
        if self.budget.load(Ordering::Relaxed) < BUDGET_MAX {
            self.budget.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// False where the budget is used up: then retries go on, at the slowest pace.
    fn spend(&self) -> bool {
        let spent = |budget: i64| (budget >= BUDGET_PER_RETRY).then(|| budget - BUDGET_PER_RETRY);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_ok()
    }
}

impl Open {
    fn new((index, action): (usize, Action)) -> Self {
        let last = Problem::new(Code::DeadlineBeforeProposal, "there was no time for an attempt");
        Self { index, action, maybe_decided: false, last }
    }

    /// Takes one result: final, or a reason to ask again.
    fn settle(&mut self, result: Result<nethical_protocol::decision::Decision, Problem>) -> Option<ItemAnswer> {
        let problem = match result {
            Ok(decision) => return Some(self.answer(Ok(decision))),
            Err(problem) => problem,
        };
        match problem.code {
            // Looked up, not asked again: it stays too old.
            Code::RequestTooOld => return Some(self.answer(Err(problem))),
            Code::OutcomeUnknown => self.maybe_decided = true,
            // The node or its replica is broken; others go on.
            Code::GroupStopped | Code::Internal => {}
            code if code.class() == Class::Retry => {}
            code if self.maybe_decided && says_nothing_of_the_action(code) => {}
            _ => return Some(self.answer(Err(problem))),
        }
        self.last = problem;
        None
    }

    fn give_up(self) -> ItemAnswer {
        let problem = match self.maybe_decided && self.last.code != Code::OutcomeUnknown {
            true => Problem::new(
                Code::OutcomeUnknown,
                format!("an attempt may have been decided; the last one: {}", self.last),
            ),
            false => self.last,
        };
        ItemAnswer { request_id: self.action.request_id, result: Err(problem) }
    }

    fn answer(&self, result: Result<nethical_protocol::decision::Decision, Problem>) -> ItemAnswer {
        ItemAnswer { request_id: self.action.request_id.clone(), result }
    }
}

/// Refusals by this one node or at this moment, from which nothing follows for an earlier attempt.
fn says_nothing_of_the_action(code: Code) -> bool {
    use Code::*;
    matches!(
        code,
        Unauthenticated
            | NotFound
            | MethodNotAllowed
            | UnsupportedMediaType
            | ResidencyRedirect
            | MalformedFrame
            | UnknownVersion
            | DenialRepeated
    )
}

/// Settles what an attempt settled; gives the longest wait that a node asked for.
fn take(
    outcome: Result<Vec<ItemAnswer>, ClientError>,
    open: &mut Vec<Open>,
    answers: &mut [Option<ItemAnswer>],
) -> Option<Duration> {
    let results: Vec<Result<_, Problem>> = match outcome {
        Ok(given) if given.len() == open.len() => given.into_iter().map(|answer| answer.result).collect(),
        Ok(_) => repeated(open, &Problem::new(Code::OutcomeUnknown, "answers are missing")),
        Err(ClientError::NotSent(why)) => repeated(open, &Problem::new(Code::NotReady, format!("not sent: {why}"))),
        Err(ClientError::Lost(why)) => repeated(open, &Problem::new(Code::OutcomeUnknown, why)),
        Err(ClientError::Refused(problem)) => repeated(open, &problem),
    };
    let mut wait_ms = None;
    let mut still_open = Vec::new();
    for (mut item, result) in open.drain(..).zip(results) {
        match item.settle(result) {
            Some(answer) => answers[item.index] = Some(answer),
            None => {
                wait_ms = wait_ms.max(item.last.retry_after_ms);
                still_open.push(item);
            }
        }
    }
    *open = still_open;
    wait_ms.map(Duration::from_millis)
}

fn repeated<T>(open: &[Open], problem: &Problem) -> Vec<Result<T, Problem>> {
    open.iter().map(|_| Err(problem.clone())).collect()
}

/// Between half and all of `whole`, so that clients that failed together do not come back together.
fn jittered(whole: Duration) -> Duration {
    let dice = (uuid::Uuid::now_v7().as_u128() & 0xffff) as u32;
    whole / 2 + whole.mul_f64(f64::from(dice) / f64::from(0x1_0000)) / 2
}

#[allow(clippy::disallowed_methods, reason = "the SDK runs in other people's processes: it has no clock of ours")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "the SDK runs in other people's processes: it has no clock of ours")]
async fn sleep(pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests;
