//! What clients do with reservations: some tell what was used, some that nothing was, some tell it again or say something
//! else afterwards, and some never say anything.
//!
//! It decides nothing about what must be; `check/reservation.rs` does.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use nethical_cluster::api::Governor;
use nethical_cluster::world::Clock;
use nethical_protocol::action::Cost;
use nethical_protocol::decision::{ActionOutcome, Decision};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::DecisionId;

use super::{Stage, may_try_again};
use crate::trace::Field;

/// The unit that is reserved.
pub const TOKENS: &str = "tokens";
/// Whoever has no answer by then gives up.
const PATIENCE: Duration = Duration::from_secs(15);

/// Tokens to reserve, for a while.
pub fn reserve(dice: &mut ChaCha12Rng) -> Cost {
    Cost { unit: TOKENS.to_owned(), amount: dice.random_range(1..20), ttl_s: dice.random_range(1..9) }
}

impl Stage {
    /// Works for a while, and settles what was reserved, or does not.
    pub async fn use_up(&self, decision: &Decision, dice: &mut ChaCha12Rng) {
        let Some(reserved) = self.history.tokens(&decision.request_id) else { return };
        self.fleet.clock().sleep(Duration::from_millis(dice.random_range(20..500))).await;
        let used = |amount: u64| ActionOutcome::Used(vec![(TOKENS.to_owned(), amount)]);
        let outcome = match dice.random_range(0..10) {
            0 | 1 => return,
            2 | 3 => ActionOutcome::Released,
            4 => used(reserved + dice.random_range(1..10)),
            _ => used(dice.random_range(0..=reserved)),
        };
        self.tell(decision.decision_id, outcome.clone(), dice).await;
        if dice.random_ratio(1, 6) {
            self.tell(decision.decision_id, outcome.clone(), dice).await;
        }
        if dice.random_ratio(1, 8) {
            let other = if outcome == ActionOutcome::Released { used(0) } else { ActionOutcome::Released };
            self.tell(decision.decision_id, other, dice).await;
        }
    }

    /// Tells an outcome through one node after another until one has an answer that stands, or patience ends.
    async fn tell(&self, decision: DecisionId, outcome: ActionOutcome, dice: &mut ChaCha12Rng) {
        let (begun, mut node) = (self.now(), self.any_node(dice));
        let number = self.history.said(decision, outcome.clone());
        while self.now().saturating_sub(begun) < PATIENCE {
            let down = Err(Problem::new(Code::OutcomeUnknown, "the node is down"));
            let answer = match self.fleet.node(node) {
                Some(living) => {
                    let (governor, outcome) = (living.governor.clone(), outcome.clone());
                    let told = living.scope.spawn(async move { governor.settle(decision, outcome).await });
                    told.await.unwrap_or(down)
                }
                None => down,
            };
            let words = answer.as_ref().map_or_else(ToString::to_string, |settled| settled.state.clone());
            let id = decision.to_string();
            self.fleet.event(Some(node), "settled", &[("id", Field::Text(&id)), ("what", Field::Text(&words))]);
            match answer {
                Err(problem) if may_try_again(&problem) => {}
                answer => return self.history.settled(decision, number, answer),
            }
            self.fleet.clock().sleep(Duration::from_millis(dice.random_range(30..300))).await;
            node = self.another_node(node, dice);
        }
    }
}
