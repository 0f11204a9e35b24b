//! Settling again until it is settled: the reservation's id never changes, so asking again is safe.
//!
//! The rules are those of decisions: *refused* is an answer, *retry* and *outcome unknown* are asked again at the next node,
//! and once an attempt may have settled, giving up says so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nethical_protocol::decision::{ActionOutcome, Settlement};
use nethical_protocol::error::{Class, Code, Problem};
use nethical_protocol::ids::DecisionId;

use super::{Doors, now, says_nothing_of_the_action, sleep};
use crate::error::ClientError;

impl Doors {
    /// Settles until there is an answer or the time is up.
    ///
    /// # Errors
    /// What a node refused it for, or why no node answered.
    pub async fn settle(&self, decision: DecisionId, outcome: ActionOutcome) -> Result<Settlement, Problem> {
        let until = now() + self.policy.overall;
        let (mut failures, mut maybe_settled) = (0u32, false);
        let mut last = Problem::new(Code::DeadlineBeforeProposal, "there was no time for an attempt");
        loop {
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                break;
            }
            let number = self.favourite.load(Ordering::Relaxed) % self.doors.len();
            let attempt = self.doors[number].settle(decision, outcome.clone(), left.min(self.policy.attempt)).await;
            let problem = match attempt.map_err(problem_of) {
                Ok(settlement) => {
                    self.earn();
                    return Ok(settlement);
                }
                Err(problem) => problem,
            };
            // A node that found no leader in time may have asked one that took the settlement and fell silent.
            maybe_settled |= matches!(problem.code, Code::OutcomeUnknown | Code::NoQuorum);
            if is_final(problem.code, maybe_settled) {
                return Err(problem);
            }
            let wait = problem.retry_after_ms.map(Duration::from_millis);
            last = problem;
            self.favourite.store(number + 1, Ordering::Relaxed);
            failures += 1;
            let pause = self.pause(failures, wait);
            if now() + pause >= until {
                break;
            }
            sleep(pause).await;
        }
        match maybe_settled && last.code != Code::OutcomeUnknown {
            true => {
                let detail = format!("an attempt may have settled it; the last one: {last}");
                Err(Problem::new(Code::OutcomeUnknown, detail))
            }
            false => Err(last),
        }
    }
}

fn problem_of(error: ClientError) -> Problem {
    match error {
        ClientError::NotSent(why) => Problem::new(Code::NotReady, format!("not sent: {why}")),
        ClientError::Lost(why) => Problem::new(Code::OutcomeUnknown, why),
        ClientError::Refused(problem) => problem,
    }
}

/// True where asking again would not change the answer.
fn is_final(code: Code, maybe_settled: bool) -> bool {
    match code {
        Code::OutcomeUnknown | Code::GroupStopped | Code::Internal => false,
        code if code.class() == Class::Retry => false,
        code => !(maybe_settled && says_nothing_of_the_action(code)),
    }
}
