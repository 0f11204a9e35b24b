//! Agents that need a person's approval, and people who give or refuse it, some of them slow, twice or against each other.
//!
//! Agents submit what policy escalates, wait, and claim the approval: once or twice, in time or late, for the same action
//! or for another one. Answers that contradict each other are noted here; the rest is judged from the logs.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use nethical_cluster::api::{ApprovalQuery, ApprovalView, ApprovalWord, Governor};
use nethical_cluster::world::Clock;
use nethical_protocol::action::{Action, ActionKind};
use nethical_protocol::error::Code;
use nethical_protocol::ids::DecisionId;

use super::{SINGLE, SPREAD, Stage, agent_name, request_id};
use crate::dice;
use crate::trace::Field;

/// The rule that escalates what these agents do.
pub const ASKS: &str = "\n@id(\"ask-a-person\")\n@reason(\"somebody must agree to a wire\")\n@verdict(\"escalate\")\n\
forbid (principal, action, resource == Tool::\"wire\");\n";
/// The session that these agents name.
pub const SESSION: &str = "review";
/// The region that these agents name.
pub const REGION: &str = "mars-1";
/// Their numbers begin here, in traces.
const FIRST: u32 = 1_000;
/// More than may wait at once.
const BURST: usize = 18;

impl Stage {
    /// One agent's client, which asks for approvals and claims them.
    pub async fn asker(self, number: u32, until: Duration) {
        let mut dice = dice::fork(self.seed, &format!("asker {number}"));
        while self.now() < until {
            let is_single = dice.random_ratio(1, 3);
            let (tenant, agents) =
                if is_single { (SINGLE, self.work.single_agents) } else { (SPREAD, self.work.spread_agents) };
            let agent = agent_name(dice.random_range(0..agents));
            let count = if is_single && dice.random_ratio(1, 6) { BURST } else { 1 };
            let actions: Vec<Action> = (0..count).map(|_| self.wire(tenant, &agent, &mut dice)).collect();
            self.settle(FIRST + number, actions.clone(), &mut dice).await;
            if let Some(id) = self.history.escalated(&actions[0].request_id) {
                self.claim(number, &actions[0], id, &mut dice).await;
            }
            self.fleet.clock().sleep(Duration::from_millis(dice.random_range(100..700))).await;
        }
    }

    fn wire(&self, tenant: &str, agent: &str, dice: &mut ChaCha12Rng) -> Action {
        let mut action = self.action(tenant, agent, dice);
        (action.kind, action.name) = (ActionKind::ToolCall, "wire".to_owned());
        (action.session, action.region) = (SESSION.to_owned(), REGION.to_owned());
        (action.resource_type, action.resource_id) = ("account".to_owned(), dice.random_range(0..50).to_string());
        action.args_json = format!("{{\"page\":{}}}", dice.random_range(0..1_000));
        action
    }

    /// Claims an approval, mostly of the same action; again where it still waits, and sometimes after it was used.
    async fn claim(&self, number: u32, asked: &Action, id: DecisionId, dice: &mut ChaCha12Rng) {
        for _ in 0..3 {
            self.fleet.clock().sleep(Duration::from_millis(dice.random_range(300..4_000))).await;
            let times = if dice.random_ratio(1, 2) { 2 } else { 1 };
            let claims: Vec<Action> = (0..times).map(|_| self.claim_of(asked, id, dice)).collect();
            self.settle(FIRST + number, claims.clone(), dice).await;
            if claims.iter().any(|claim| self.history.is_allowed(&claim.request_id)) && dice.random_ratio(2, 3) {
                return;
            }
        }
    }

    fn claim_of(&self, asked: &Action, id: DecisionId, dice: &mut ChaCha12Rng) -> Action {
        let issued_at_ms = self.fleet.clock().wall_ns() / 1_000_000;
        let mut claim = Action {
            request_id: request_id(issued_at_ms, dice),
            issued_at_ms,
            approval: id.to_string(),
            ..asked.clone()
        };
        if dice.random_ratio(1, 5) {
            claim.resource_id = format!("{}0", claim.resource_id);
        } else if dice.random_ratio(1, 8) {
            claim.args_json = "{\"page\":-1}".to_owned();
        }
        claim
    }

    /// One person, who decides on what waits.
    pub async fn approver(self, number: u32, until: Duration) {
        let mut dice = dice::fork(self.seed, &format!("approver {number}"));
        while self.now() < until {
            self.fleet.clock().sleep(Duration::from_millis(dice.random_range(200..1_200))).await;
            let query = ApprovalQuery { state: Some("pending".into()), limit: Some(20), ..ApprovalQuery::default() };
            let listed = self.administer(&mut dice, move |governor| {
                let query = query.clone();
                async move { governor.approvals(query).await }
            });
            let Ok(list) = listed.await else { continue };
            for view in list.approvals {
                if self.now() < until && dice.random_ratio(2, 3) {
                    self.decide_on(number, view.id, &mut dice).await;
                }
            }
        }
    }

    async fn decide_on(&self, number: u32, id: DecisionId, dice: &mut ChaCha12Rng) {
        let approves = dice.random_ratio(3, 4);
        let times = if dice.random_ratio(1, 4) { 2 } else { 1 };
        for _ in 0..times {
            let (approver, reason) = (format!("person-{number}"), "the drill of this run".to_owned());
            let word = ApprovalWord { id, approves, approver, reason };
            let answer = self.administer(dice, move |governor| {
                let word = word.clone();
                async move { governor.decide_approval(word).await }
            });
            let words = match answer.await {
                Ok(view) => {
                    self.note_word(&view, approves);
                    format!("{id} {}", view.state)
                }
                Err(problem) if matches!(problem.code, Code::ApprovalConflict | Code::ApprovalExpired) => {
                    format!("{id} {}", problem.code)
                }
                Err(problem) => format!("{id} {problem}"),
            };
            self.fleet.event(None, "word", &[("what", Field::Text(&words))]);
        }
    }

    /// An acknowledged word is the one that was said, or an earlier one like it.
    fn note_word(&self, view: &ApprovalView, approves: bool) {
        let fits = match approves {
            true => ["approved", "used", "expired"].contains(&view.state.as_str()),
            false => view.state == "denied",
        };
        if !fits {
            let said = if approves { "approved" } else { "denied" };
            self.history.contradicted(format!("{} was {said} and is {}", view.id, view.state));
        }
        self.history.worded(view.id, approves);
    }
}
