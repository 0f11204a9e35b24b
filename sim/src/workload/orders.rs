//! What administrators do at set times: hold-orders and their releases, limits, rules, policies.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;

use nethical_cluster::api::{Governor, HoldView};
use nethical_cluster::world::Clock;
use nethical_governance::policy::digest_of;
use nethical_protocol::control::{HoldEffect, HoldScope, HoldSpec};
use nethical_protocol::error::Problem;
use nethical_protocol::quarantine::{QuarantineRule, QuarantineSpec, QuarantineWhen};

use super::{CLOCK_ERROR, SPREAD, Stage, agent_name, approvals, in_force};
use crate::dice;
use crate::plan::{Order, OrderKind};
use crate::trace::Field;

impl Stage {
    /// Does what an administrator is to do, at its time.
    pub async fn order(self, number: usize, order: Order) {
        let mut dice = dice::fork(self.seed, &format!("order {number}"));
        self.fleet.clock().reach(Duration::from_millis(order.at_ms)).await;
        let (kind, what, done) = match order.order {
            OrderKind::Quarantine { agent, for_ms } => {
                let spec = hold(HoldScope::Agent { tenant: SPREAD.to_owned(), agent: agent_name(agent) });
                return self.hold(spec, agent_name(agent), for_ms, &mut dice).await;
            }
            OrderKind::Stop { for_ms, lapses } => {
                let ttl_s = if lapses { for_ms.div_ceil(1_000) } else { 0 };
                let spec = HoldSpec { ttl_s, ..hold(HoldScope::Tenant { tenant: SPREAD.to_owned() }) };
                return self.hold(spec, String::new(), for_ms, &mut dice).await;
            }
            OrderKind::Guarded { agent, for_ms } => {
                let scope = HoldScope::Agent { tenant: SPREAD.to_owned(), agent: agent_name(agent) };
                let spec = HoldSpec { approvers: 2, ..hold(scope) };
                return self.hold(spec, agent_name(agent), for_ms, &mut dice).await;
            }
            OrderKind::HoldSession { for_ms, approvers } => {
                let scope = HoldScope::Session { tenant: SPREAD.to_owned(), session: approvals::SESSION.to_owned() };
                let spec = HoldSpec { approvers, ..hold(scope) };
                return self.hold(spec, format!("session {}", approvals::SESSION), for_ms, &mut dice).await;
            }
            OrderKind::HoldRegion { for_ms, approvers } => {
                let scope = HoldScope::Region { tenant: String::new(), region: approvals::REGION.to_owned() };
                let spec = HoldSpec { approvers, ..hold(scope) };
                return self.hold(spec, format!("region {}", approvals::REGION), for_ms, &mut dice).await;
            }
            OrderKind::Erase { agent } => return self.erase(agent_name(agent), &mut dice).await,
            OrderKind::Read { for_ms } => return self.read_on(for_ms, &mut dice).await,
            OrderKind::Keep { routine_s, notable_s } => return self.keep(routine_s, notable_s, &mut dice).await,
            OrderKind::LegalHold { agent, for_ms } => {
                return self.legal_hold(agent_name(agent), for_ms, &mut dice).await;
            }
            OrderKind::RotateKeys { overlap_s, node } => return self.rotate_keys(overlap_s, node, &mut dice).await,
            OrderKind::Pace { rate, burst } => {
                ("limit", format!("pace {rate}/s, {burst}"), self.put_limit(&mut dice, self.pace((rate, burst))).await)
            }
            OrderKind::Purse { cap } => {
                ("limit", format!("purse {cap}"), self.put_limit(&mut dice, self.purse(cap)).await)
            }
            OrderKind::Rules { count, within_s, ttl_s } => {
                let spec = rules(count, within_s, ttl_s);
                let put = self.administer(&mut dice, move |governor| {
                    let spec = spec.clone();
                    async move { governor.put_quarantine_rules(spec).await.and_then(in_force) }
                });
                ("rules", format!("{count} violations within {within_s} s"), put.await)
            }
            OrderKind::Dictionary { own } => {
                ("dictionary", format!("its own: {own}"), self.dictionary(own, &mut dice).await)
            }
            OrderKind::Policy { strict } => {
                let text = self.policy(strict);
                let put = self.administer(&mut dice, move |governor| {
                    let text = text.clone();
                    async move { governor.put_policy(text).await.and_then(in_force) }
                });
                ("policy", format!("strict: {strict}"), put.await)
            }
            OrderKind::Canary { percent } => {
                let stricter = self.policy(true);
                let set = self.administer(&mut dice, move |governor| set_canary(governor, stricter.clone(), percent));
                ("canary", format!("{percent} %"), set.await)
            }
        };
        self.history.ordered(done.is_ok());
        let words = done.map_or_else(|problem| format!("{what}: {problem}"), |()| what.clone());
        self.fleet.event(None, kind, &[("what", Field::Text(&words))]);
    }

    /// Places a hold-order, and releases it after a while unless it lapses by itself. `agent` is empty for the tenant, and
    /// says `session` or `region` before the name of such a part.
    async fn hold(self, spec: HoldSpec, agent: String, for_ms: u64, dice: &mut ChaCha12Rng) {
        let begun = self.now();
        let (place, lift) = (spec.clone(), spec.clone());
        let placed = self.administer(dice, move |governor| {
            let spec = place.clone();
            async move { governor.place_hold(spec).await.and_then(is_held) }
        });
        let placed = placed.await;
        self.note_hold("hold", &agent, &placed);
        let lapses = (spec.ttl_s > 0).then(|| (begun + Duration::from_secs(spec.ttl_s)).saturating_sub(CLOCK_ERROR));
        let number = self.history.quarantined(agent.clone(), placed.is_ok().then(|| self.now()), lapses);
        if lapses.is_some() {
            return;
        }
        self.fleet.clock().sleep(Duration::from_millis(for_ms)).await;
        // Of several people the last one releases; the first one says it twice, which must not count for two.
        let people: &[&str] = if spec.is_guarded() { &["ann", "ann", "ben"] } else { &[""] };
        for (at, approver) in people.iter().enumerate() {
            if at + 1 == people.len() {
                self.history.release_called(number, self.now());
            }
            let lift = HoldSpec { approver: (*approver).to_owned(), ..lift.clone() };
            let lifted = self.administer(dice, move |governor| {
                let spec = lift.clone();
                async move { governor.lift_hold(spec).await }
            });
            let lifted = lifted.await;
            self.note_hold("release", &agent, &lifted);
            self.history.ordered(lifted.is_ok());
            if at + 1 < people.len() {
                self.fleet.clock().sleep(Duration::from_millis(1_500)).await;
            }
        }
    }

    fn note_hold(&self, kind: &'static str, agent: &str, answer: &Result<HoldView, Problem>) {
        let words = match answer {
            Ok(view) => view.decision_id.map_or_else(String::new, |id| id.to_string()),
            Err(problem) => problem.to_string(),
        };
        let words = format!("{} {words}", if agent.is_empty() { "everybody" } else { agent });
        self.fleet.event(None, kind, &[("what", Field::Text(&words))]);
    }
}

/// Lets the stricter policy decide for so many agents of a hundred, or ends that. What is so already is not asked for
/// again: a second rollback would change more than the canary.
async fn set_canary(
    governor: nethical_cluster::governor::NodeGovernor,
    stricter: String,
    percent: u8,
) -> Result<(), Problem> {
    if percent > 0 {
        let digest = digest_of(&stricter);
        governor.store_policy(stricter).await.and_then(|stored| in_force(stored.ack))?;
        return governor.canary_policy(digest, percent).await.and_then(in_force);
    }
    match governor.policy().await?.canary {
        Some(_) => governor.rollback_policy().await.and_then(in_force),
        None => Ok(()),
    }
}

fn hold(scope: HoldScope) -> HoldSpec {
    HoldSpec { reason: "the drill of this run".to_owned(), ..HoldSpec::new(scope) }
}

/// The zone's rule: what policy blocks for what it holds counts; 0 violations end it.
fn rules(count: u8, within_s: u64, ttl_s: u64) -> QuarantineSpec {
    let when = QuarantineWhen::Violations { count, severity: 500, within_s };
    let rule = QuarantineRule { when, effect: HoldEffect::Block, ttl_s };
    QuarantineSpec { tenant: String::new(), rules: if count == 0 { Vec::new() } else { vec![rule] } }
}

/// As [`in_force`], for a hold-order.
fn is_held(view: HoldView) -> Result<HoldView, Problem> {
    in_force(view.ack.clone()).map(|()| view)
}
