//! Clients over all nodes, and administrators who quarantine agents, change limits and put policies in force.
//!
//! Clients choose their request ids and keep them: what is to be tried again, or unknown, goes out under the same id,
//! through another node. Now and then a client asks again for what it has been told already.

use std::time::Duration;

use rand::{Rng, RngExt};
use rand_chacha::ChaCha12Rng;

use nethical_cluster::api::Governor;
use nethical_cluster::world::Clock;
use nethical_governance::policy::default_bundle_text;
use nethical_protocol::action::{Action, ActionKind, Cost};
use nethical_protocol::control::{
    AckState, ControlAck, KeyPart, LimitKind, LimitMode, LimitSpec, Placement, TenantSpec,
};
use nethical_protocol::decision::{Decision, ItemAnswer};
use nethical_protocol::error::{Class, Code, Problem};
use nethical_protocol::ids::NodeId;
use nethical_protocol::model::ModelBlending;
use nethical_protocol::retention::Age;
use nethical_protocol::tiers::TierAges;

use crate::dice;
use crate::findings::texts;
use crate::history::History;
use crate::plan::WorkSpec;
use crate::trace::Field;
use crate::world::Fleet;

pub mod approvals;
mod dictionary;
mod erasures;
mod keys;
mod orders;
mod reading;
mod retention;
pub mod settle;
pub mod shared;

/// The tenant whose agents live in all partitions.
pub const SPREAD: &str = "spread-works";
/// The tenant whose agents live in one partition.
pub const SINGLE: &str = "single-house";
/// What the single tenant's purse counts …
pub const CREDITS: &str = "credits";
/// … and what it counts besides.
pub const COINS: &str = "usd_micros";
/// Of actions, one in so many asks for its proof.
const RECEIPT_EVERY: u32 = 4;
/// One call may take this long.
const DEADLINE: Duration = Duration::from_secs(3);
/// A client that has no answer by then gives up.
const PATIENCE: Duration = Duration::from_secs(20);
/// An administrator who has no answer by then gives up.
const ORDER_PATIENCE: Duration = Duration::from_secs(40);
/// Log time is right to a quarter of a second, of each of two groups; what lapses by it may lapse so much earlier.
const CLOCK_ERROR: Duration = Duration::from_millis(500);
/// The rule that a stricter policy adds, by its id.
pub const STRICTER_RULE: &str = "block-searches";
/// And its text.
const STRICTER: &str = "\n@id(\"block-searches\")\n@reason(\"the stricter policy of this run\")\n\
forbid (principal, action == Action::\"message\", resource);\n";

/// Who works where, under which clock and record.
#[derive(Clone)]
pub struct Stage {
    /// The nodes.
    pub fleet: Fleet,
    /// The work.
    pub work: WorkSpec,
    /// The record.
    pub history: History,
    /// The seed of the run.
    pub seed: u64,
}

impl Stage {
    fn now(&self) -> Duration {
        self.fleet.clock().real()
    }

    /// Each tenant with the number of its agents.
    pub fn agents(&self) -> [(&'static str, u32); 2] {
        [(SPREAD, self.work.spread_agents), (SINGLE, self.work.single_agents)]
    }

    /// Sends actions to a node. `None` where the node is down, or died before it answered.
    pub async fn decide(&self, client: u32, node: NodeId, actions: Vec<Action>) -> Option<Vec<ItemAnswer>> {
        for action in &actions {
            let attempt = self.history.attempt(action, self.now());
            self.fleet.watch().called(node, &action.request_id);
            self.fleet.event(
                Some(node),
                "call",
                &[
                    ("request", Field::Text(&action.request_id)),
                    ("client", Field::Number(u64::from(client))),
                    ("attempt", Field::Number(u64::from(attempt))),
                ],
            );
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
        let request = ("request", Field::Text(&answer.request_id));
        match &answer.result {
            Ok(decision) => {
                self.history.decided(decision, self.now());
                let id = decision.decision_id.to_string();
                let fields = [
                    request,
                    ("verdict", Field::Text(decision.verdict.as_str())),
                    ("id", Field::Text(&id)),
                    ("leaf", Field::Text(&decision.audit.leaf_hash)),
                    ("replayed", Field::Flag(decision.replayed)),
                ];
                self.fleet.event(Some(node), "decided", &fields);
            }
            Err(problem) => {
                let fields =
                    [request, ("code", Field::Text(problem.code.as_str())), ("what", Field::Text(&problem.detail))];
                self.fleet.event(Some(node), "problem", &fields);
                if problem.code.class() == Class::Refused {
                    self.history.refused(&answer.request_id, problem.code);
                }
            }
        }
    }

    /// Sends actions until each has its decision, through one node after another, or until patience ends.
    /// Gives the decisions that reserved something.
    pub async fn settle(&self, client: u32, actions: Vec<Action>, dice: &mut ChaCha12Rng) -> Vec<Decision> {
        let (mut open, begun, mut node) = (actions, self.now(), self.any_node(dice));
        let mut reserved = Vec::new();
        loop {
            if let Some(answers) = self.decide(client, node, open.clone()).await {
                let decisions = answers.iter().filter_map(|answer| answer.result.as_ref().ok());
                reserved.extend(decisions.filter(|decision| decision.reservation.is_some()).cloned());
                let settled = |answer: &ItemAnswer| !answer.result.as_ref().is_err_and(may_try_again);
                open = open
                    .into_iter()
                    .zip(&answers)
                    .filter(|(_, answer)| !settled(answer))
                    .map(|(action, _)| action)
                    .collect();
            }
            if open.is_empty() || self.now().saturating_sub(begun) > PATIENCE {
                return reserved;
            }
            let pause = Duration::from_millis(dice.random_range(30..300));
            self.fleet.clock().sleep(pause).await;
            node = self.another_node(node, dice);
        }
    }

    /// One client's work until `until`.
    pub async fn client(self, number: u32, until: Duration) {
        let mut dice = dice::fork(self.seed, &format!("client {number}"));
        let mut former: Option<Action> = None;
        let (least, most) = self.work.pause_ms;
        while self.now() < until {
            let mut actions = self.next_actions(&mut dice);
            let again = dice.random_ratio(self.work.again_permille.min(1_000), 1_000);
            if let Some(action) = former.take().filter(|_| again) {
                actions = vec![action];
            }
            former = actions.first().cloned();
            if again && dice.random_ratio(1, 8) {
                actions.iter_mut().filter(|action| self.history.is_told(&action.request_id)).for_each(change);
            }
            for decision in self.settle(number, actions, &mut dice).await {
                self.use_up(&decision, &mut dice).await;
            }
            self.fleet.clock().sleep(Duration::from_millis(dice.random_range(least..=most))).await;
        }
    }

    fn next_actions(&self, dice: &mut ChaCha12Rng) -> Vec<Action> {
        let agents = self.agents();
        let (tenant, agents) = agents[dice.random_range(0..agents.len())];
        let agent = format!("agent-{}", dice.random_range(0..agents));
        let count = if dice.random_ratio(1, 3) { dice.random_range(1..=self.work.batch_max) } else { 1 };
        (0..count).map(|_| self.action(tenant, &agent, dice)).collect()
    }

    /// A new action with an id of its own, issued now.
    pub fn action(&self, tenant: &str, agent: &str, dice: &mut ChaCha12Rng) -> Action {
        let issued_at_ms = self.fleet.clock().wall_ns() / 1_000_000;
        let cost = self.cost(tenant, dice);
        let names = [
            (ActionKind::ToolCall, "search"),
            (ActionKind::DataAccess, "orders"),
            (ActionKind::CodeExecution, "python"),
            (ActionKind::Message, "mail"),
        ];
        let runs_away = tenant == SINGLE && self.work.house.runaway;
        let (kind, name) = names[if runs_away { 0 } else { dice.random_range(0..names.len()) }];
        let page: u32 = if runs_away { 0 } else { dice.random_range(0..1_000) };
        let is_suspicious = !runs_away && dice.random_ratio(self.work.suspicious_permille.min(1_000), 1_000);
        let is_large = !runs_away && dice.random_ratio(self.work.large_permille.min(1_000), 1_000);
        let args_json = match is_suspicious {
            true => format!("{{\"command\":\"rm -rf / --no-preserve-root\",\"page\":{page}}}"),
            // Words that do not compress, so that a log record spans sectors of the disk.
            false if is_large => {
                let words: Vec<String> = (0..dice.random_range(60..400)).map(|_| dice.next_u64().to_string()).collect();
                format!("{{\"page\":{page},\"text\":\"{}\"}}", words.join(" "))
            }
            false => format!("{{\"page\":{page}}}"),
        };
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
            args_json,
            context_json: context(page, runs_away),
            cost,
            explain: false,
            approval: String::new(),
            is_critical: tenant == SINGLE && self.work.house.keep > 0 && dice.random_ratio(1, 5),
            wants_receipt: page % RECEIPT_EVERY == 1,
        }
    }

    fn cost(&self, tenant: &str, dice: &mut ChaCha12Rng) -> Vec<Cost> {
        let (shared, house) = (&self.work.shared, &self.work.house);
        let mut costs = Vec::new();
        if tenant == SINGLE {
            let is_huge = house.huge_permille > 0 && dice.random_ratio(house.huge_permille.min(1_000), 1_000);
            let credits = match (is_huge, house.runaway) {
                (true, _) => self.work.purse + 1,
                (_, true) => 1,
                _ => dice.random_range(1..8),
            };
            costs.push(Cost::charged(CREDITS, credits));
            costs.extend(house.coins.map(|_| Cost::charged(COINS, dice.random_range(0..900))));
        } else if shared.reserve_permille > 0 && dice.random_ratio(shared.reserve_permille.min(1_000), 1_000) {
            costs.push(settle::reserve(dice));
        }
        costs
    }

    /// Creates tenants and limits, and waits until all of them are in force everywhere.
    pub async fn furnish(&self, dice: &mut ChaCha12Rng) -> Result<(), Problem> {
        for (tenant, placement) in [(SPREAD, Placement::Spread), (SINGLE, Placement::Single)] {
            let model_blending = Some(if tenant == SINGLE { ModelBlending::Enforce } else { ModelBlending::Shadow });
            let text_search = (tenant == SPREAD && texts::is_wanted()).then_some(true);
            let stays = TierAges { warm: Some(Age::FOREVER), ..TierAges::default() };
            let tier_ages = (tenant == SINGLE && self.work.house.stays).then_some(stays);
            let spec = TenantSpec { placement, model_blending, text_search, tier_ages, ..TenantSpec::named(tenant) };
            self.administer(dice, move |governor| {
                let spec = spec.clone();
                async move { governor.put_tenant(spec).await.and_then(in_force) }
            })
            .await?;
        }
        if self.work.approvals > 0 {
            let text = self.policy(false);
            self.administer(dice, move |governor| {
                let text = text.clone();
                async move { governor.put_policy(text).await.and_then(in_force) }
            })
            .await?;
        }
        let own = [self.pace(self.work.pace), self.purse(self.work.purse)];
        for spec in own.into_iter().chain(shared::limits(&self.work)).chain(shared::house(&self.work.house)) {
            self.put_limit(dice, spec).await?;
        }
        Ok(())
    }

    /// The policy of this run, or its stricter form.
    fn policy(&self, strict: bool) -> String {
        bundle_of(&self.work, strict)
    }

    fn pace(&self, (rate, burst): (u64, u64)) -> LimitSpec {
        limit("pace", SPREAD, "requests", LimitKind::Rate { amount: rate, period_s: 1, burst }, KeyPart::Agent)
    }

    fn purse(&self, cap: u64) -> LimitSpec {
        LimitSpec { reserve: self.work.house.keep.min(cap - 1), ..purse(cap) }
    }

    async fn put_limit(&self, dice: &mut ChaCha12Rng, spec: LimitSpec) -> Result<(), Problem> {
        self.administer(dice, move |governor| {
            let spec = spec.clone();
            async move { governor.put_limit(spec).await.and_then(in_force) }
        })
        .await
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
            let answer = match self.fleet.node(self.any_node(dice)) {
                Some(living) => living.scope.spawn(call(living.governor.clone())).await.unwrap_or(down),
                None => down,
            };
            match answer {
                Err(problem) if may_try_again(&problem) && self.now().saturating_sub(begun) < ORDER_PATIENCE => {
                    let words = problem.to_string();
                    self.fleet.event(None, "administer", &[("what", Field::Text(&words))]);
                    self.fleet.clock().sleep(Duration::from_millis(200)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Any node.
    pub fn any_node(&self, dice: &mut ChaCha12Rng) -> NodeId {
        NodeId(dice.random_range(1..=self.fleet.spec().regions.len() as u64))
    }

    fn another_node(&self, node: NodeId, dice: &mut ChaCha12Rng) -> NodeId {
        let count = self.fleet.spec().regions.len() as u64;
        NodeId((node.0 - 1 + dice.random_range(1..count)) % count + 1)
    }
}

/// Every third action comes with what a model makes of it, any score there is.
fn context(page: u32, runs_away: bool) -> String {
    if !runs_away && page.is_multiple_of(3) { format!("{{\"model_score\":{page}}}") } else { "{}".to_owned() }
}

/// The policy of a run, or its stricter form, which a canary tries and some orders put in force for all.
pub fn bundle_of(work: &WorkSpec, strict: bool) -> String {
    let asks = if work.approvals > 0 { approvals::ASKS } else { "" };
    format!("{}{asks}{}", default_bundle_text(), if strict { STRICTER } else { "" })
}

/// The name of an agent.
pub fn agent_name(number: u32) -> String {
    format!("agent-{number}")
}

fn purse(cap: u64) -> LimitSpec {
    limit("purse", SINGLE, CREDITS, LimitKind::Budget { cap, window_s: 86_400 }, KeyPart::Tenant)
}

fn limit(id: &str, tenant: &str, unit: &str, kind: LimitKind, key: KeyPart) -> LimitSpec {
    LimitSpec {
        id: id.to_owned(),
        tenant: tenant.to_owned(),
        unit: unit.to_owned(),
        kind,
        key: vec![key],
        mode: LimitMode::Enforce,
        overrun: Default::default(),
        reserve: 0,
        agent: String::new(),
        tool: String::new(),
        cohort: String::new(),
    }
}

/// A change that some partition has not confirmed is asked for again: making it twice changes nothing.
fn in_force(ack: ControlAck) -> Result<(), Problem> {
    match ack.state {
        AckState::Acknowledged => Ok(()),
        AckState::Pending => Err(Problem::new(Code::NotReady, format!("groups {:?} are awaited", ack.awaiting))),
    }
}

/// Makes another request of it under the same id, which must be refused.
fn change(action: &mut Action) {
    action.args_json = "{\"page\":-1}".to_owned();
}

/// True where the same request may bring another answer.
fn may_try_again(problem: &Problem) -> bool {
    matches!(problem.code.class(), Class::Retry | Class::Unknown | Class::Redirect)
        && problem.code != Code::RequestTooOld
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
