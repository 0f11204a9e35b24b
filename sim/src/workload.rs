//! Clients over all nodes, and an administrator who quarantines one agent and releases it.
//!
//! Clients choose their request ids and keep them: what is to be tried again, or unknown, goes out under the same id,
//! through another node. Now and then a client asks again for what it has been told already.

use std::time::Duration;

use rand::{Rng, RngExt};
use rand_chacha::ChaCha12Rng;

use nethical_cluster::api::{Governor, HoldView};
use nethical_cluster::world::Clock;
use nethical_protocol::action::{Action, ActionKind, Cost};
use nethical_protocol::control::{
    AckState, ControlAck, HoldEffect, HoldScope, HoldSpec, KeyPart, LimitKind, LimitMode, LimitSpec, Placement,
    TenantSpec,
};
use nethical_protocol::decision::ItemAnswer;
use nethical_protocol::error::{Class, Code, Problem};
use nethical_protocol::ids::NodeId;

use crate::dice;
use crate::history::History;
use crate::plan::NODES;
use crate::world::Fleet;

/// The tenant whose agents live in all partitions.
pub const SPREAD: &str = "spread-works";
/// The tenant whose agents live in one partition.
pub const SINGLE: &str = "single-house";
/// Agents of each tenant.
pub const AGENTS: [(&str, u32); 2] = [(SPREAD, 8), (SINGLE, 4)];
/// The agent that is quarantined, of [`SPREAD`].
pub const SUSPECT: &str = "agent-3";
/// Requests per second and at once that each agent of [`SPREAD`] may make.
pub const PACE: (u64, u64) = (1, 3);
/// Credits that all agents of [`SINGLE`] may spend in a day.
pub const PURSE: u64 = 900;
/// Clients at work at the same time.
pub const CLIENTS: u32 = 6;
/// One call may take this long.
const DEADLINE: Duration = Duration::from_secs(3);
/// A client that has no answer by then gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who works where, under which clock and record.
#[derive(Clone)]
pub struct Stage {
    /// The nodes.
    pub fleet: Fleet,
    /// The record.
    pub history: History,
}

impl Stage {
    fn now(&self) -> Duration {
        self.fleet.clock().now()
    }

    /// Sends actions to a node. `None` where the node is down, or died before it answered.
    pub async fn decide(&self, node: NodeId, actions: Vec<Action>) -> Option<Vec<ItemAnswer>> {
        for action in &actions {
            self.history.attempt(action, self.now());
            self.fleet.event(Some(node), "call", &action.request_id);
        }
        let living = self.fleet.node(node)?;
        let governor = living.governor.clone();
        let answers = living.scope.spawn(async move { governor.decide(actions, DEADLINE).await }).await.ok()?;
        for answer in &answers {
            self.note(node, answer);
        }
        Some(answers)
    }

    fn note(&self, node: NodeId, answer: &ItemAnswer) {
        let id = &answer.request_id;
        match &answer.result {
            Ok(decision) => {
                self.history.decided(decision, self.now());
                let words = format!(
                    "{id} {} {} {} replayed={}",
                    decision.verdict.as_str(),
                    decision.decision_id,
                    decision.audit.leaf_hash,
                    decision.replayed
                );
                self.fleet.event(Some(node), "decided", &words);
            }
            Err(problem) => {
                self.fleet.event(Some(node), "problem", &format!("{id} {problem}"));
                if !may_try_again(problem) {
                    self.history.refused(id, problem.code);
                }
            }
        }
    }

    /// Sends actions until each has its decision, through one node after another, or until patience ends.
    pub async fn settle(&self, actions: Vec<Action>, dice: &mut ChaCha12Rng) {
        let (mut open, begun, mut node) = (actions, self.now(), any_node(dice));
        loop {
            if let Some(answers) = self.decide(node, open.clone()).await {
                let settled = |answer: &ItemAnswer| !answer.result.as_ref().is_err_and(may_try_again);
                open = open
                    .into_iter()
                    .zip(&answers)
                    .filter(|(_, answer)| !settled(answer))
                    .map(|(action, _)| action)
                    .collect();
            }
            if open.is_empty() || self.now().saturating_sub(begun) > PATIENCE {
                return;
            }
            let pause = Duration::from_millis(dice.random_range(30..300));
            self.fleet.clock().sleep(pause).await;
            node = another_node(node, dice);
        }
    }

    /// One client's work until `until`.
    pub async fn client(self, number: u32, seed: u64, until: Duration) {
        let mut dice = dice::fork(seed, &format!("client {number}"));
        let mut former: Option<Action> = None;
        while self.now() < until {
            let mut actions = self.next_actions(&mut dice);
            if let Some(action) = former.take().filter(|_| dice.random_ratio(1, 12)) {
                actions = vec![action];
            }
            former = actions.first().cloned();
            self.settle(actions, &mut dice).await;
            self.fleet.clock().sleep(Duration::from_millis(dice.random_range(20..250))).await;
        }
    }

    fn next_actions(&self, dice: &mut ChaCha12Rng) -> Vec<Action> {
        let (tenant, agents) = AGENTS[dice.random_range(0..AGENTS.len())];
        let agent = format!("agent-{}", dice.random_range(0..agents));
        let count = if dice.random_ratio(1, 5) { 3 } else { 1 };
        (0..count).map(|_| self.action(tenant, &agent, dice)).collect()
    }

    /// A new action with an id of its own, issued now.
    pub fn action(&self, tenant: &str, agent: &str, dice: &mut ChaCha12Rng) -> Action {
        let issued_at_ms = self.fleet.clock().wall_ns() / 1_000_000;
        let credits = if tenant == SINGLE { dice.random_range(1..8) } else { 0 };
        let names = [
            (ActionKind::ToolCall, "search"),
            (ActionKind::DataAccess, "orders"),
            (ActionKind::CodeExecution, "python"),
        ];
        let (kind, name) = names[dice.random_range(0..names.len())];
        Action {
            request_id: request_id(issued_at_ms, dice),
            client_chosen: true,
            issued_at_ms,
            tenant: tenant.to_owned(),
            agent: agent.to_owned(),
            session: String::new(),
            cohort: String::new(),
            region: String::new(),
            kind,
            name: name.to_owned(),
            resource_type: String::new(),
            resource_id: String::new(),
            args_json: format!("{{\"page\":{}}}", dice.random_range(0..1_000)),
            context_json: "{}".to_owned(),
            cost: if credits > 0 { vec![Cost { unit: "credits".to_owned(), amount: credits }] } else { Vec::new() },
            explain: false,
        }
    }

    /// Creates tenants and limits, and waits until all of them are in force everywhere.
    pub async fn furnish(&self, dice: &mut ChaCha12Rng) -> Result<(), Problem> {
        for (tenant, placement) in [(SPREAD, Placement::Spread), (SINGLE, Placement::Single)] {
            let spec = TenantSpec { tenant: tenant.to_owned(), placement };
            self.administer(dice, move |governor| {
                let spec = spec.clone();
                async move { governor.put_tenant(spec).await.and_then(in_force) }
            })
            .await?;
        }
        for spec in limits() {
            self.administer(dice, move |governor| {
                let spec = spec.clone();
                async move { governor.put_limit(spec).await.and_then(in_force) }
            })
            .await?;
        }
        Ok(())
    }

    /// Calls a node as an administrator until it answers; the last problem where patience ends.
    async fn administer<T, F, W>(&self, dice: &mut ChaCha12Rng, call: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: Fn(nethical_cluster::governor::NodeGovernor) -> W,
        W: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let begun = self.now();
        loop {
            let down = Err(Problem::new(Code::OutcomeUnknown, "the node is down"));
            let answer = match self.fleet.node(any_node(dice)) {
                Some(living) => living.scope.spawn(call(living.governor.clone())).await.unwrap_or(down),
                None => down,
            };
            match answer {
                Err(problem) if may_try_again(&problem) && self.now().saturating_sub(begun) < PATIENCE => {
                    self.fleet.event(None, "administer", &problem.to_string());
                    self.fleet.clock().sleep(Duration::from_millis(200)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Quarantines the suspect at the first time and releases it at the second.
    pub async fn quarantine(self, seed: u64, (place_at, release_at): (Duration, Duration)) {
        let mut dice = dice::fork(seed, "quarantine");
        self.fleet.clock().reach(place_at).await;
        let placed = self.administer(&mut dice, |governor| async move { governor.place_hold(suspect()).await }).await;
        self.note_hold("quarantined", &placed);
        let acknowledged = placed.ok().and_then(|view| view.decision_id).map(|id| (self.now(), id));
        self.history.note_quarantine(|quarantine| quarantine.placed = acknowledged);
        self.fleet.clock().reach(release_at).await;
        self.history.note_quarantine(|quarantine| quarantine.release_called = Some(self.now()));
        let lifted = self.administer(&mut dice, |governor| async move { governor.lift_hold(suspect()).await }).await;
        self.note_hold("released", &lifted);
        let released = lifted.is_ok().then(|| self.now());
        self.history.note_quarantine(|quarantine| quarantine.released = released);
    }

    fn note_hold(&self, what: &str, answer: &Result<HoldView, Problem>) {
        let words = match answer {
            Ok(view) => view.decision_id.map_or_else(String::new, |id| id.to_string()),
            Err(problem) => problem.to_string(),
        };
        self.fleet.event(None, what, &words);
    }
}

fn suspect() -> HoldSpec {
    let scope = HoldScope::Agent { tenant: SPREAD.to_owned(), agent: SUSPECT.to_owned() };
    HoldSpec { scope, effect: HoldEffect::Block, reason: "the drill of this run".to_owned(), ttl_s: 0 }
}

fn limits() -> [LimitSpec; 2] {
    let limit = |id: &str, tenant: &str, unit: &str, kind, key| LimitSpec {
        id: id.to_owned(),
        tenant: tenant.to_owned(),
        unit: unit.to_owned(),
        kind,
        key: vec![key],
        mode: LimitMode::Enforce,
        agent: String::new(),
        tool: String::new(),
        cohort: String::new(),
    };
    let pace = LimitKind::Rate { amount: PACE.0, period_s: 1, burst: PACE.1 };
    let purse = LimitKind::Budget { cap: PURSE, window_s: 86_400 };
    [limit("pace", SPREAD, "requests", pace, KeyPart::Agent), limit("purse", SINGLE, "credits", purse, KeyPart::Tenant)]
}

/// A change that some partition has not confirmed is asked for again: making it twice changes nothing.
fn in_force(ack: ControlAck) -> Result<(), Problem> {
    match ack.state {
        AckState::Acknowledged => Ok(()),
        AckState::Pending => Err(Problem::new(Code::NotReady, format!("groups {:?} are awaited", ack.awaiting))),
    }
}

/// True where the same request may bring another answer.
fn may_try_again(problem: &Problem) -> bool {
    matches!(problem.code.class(), Class::Retry | Class::Unknown | Class::Redirect)
        && problem.code != Code::RequestTooOld
}

/// Any node.
pub fn any_node(dice: &mut ChaCha12Rng) -> NodeId {
    NODES[dice.random_range(0..NODES.len())].0
}

fn another_node(node: NodeId, dice: &mut ChaCha12Rng) -> NodeId {
    let others: Vec<NodeId> = NODES.iter().map(|(other, _)| *other).filter(|other| *other != node).collect();
    others[dice.random_range(0..others.len())]
}

/// A request id of the form of a UUIDv7, from simulated time and seeded dice.
fn request_id(issued_at_ms: u64, dice: &mut ChaCha12Rng) -> String {
    let (high, low) = (dice.next_u32() & 0xfff, dice.next_u64());
    let variant = 0x8000 | (low >> 48) & 0x3fff;
    format!(
        "{:08x}-{:04x}-7{high:03x}-{variant:04x}-{:012x}",
        issued_at_ms >> 16,
        issued_at_ms & 0xffff,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_look_like_uuid_version_7_and_carry_their_time() {
        let id = request_id(0x0123_4567_89ab, &mut dice::fork(1, "test"));
        assert_eq!(id.len(), 36);
        assert!(id.starts_with("01234567-89ab-7"), "{id}");
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
    }
}
