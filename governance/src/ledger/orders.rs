//! Agent-scoped hold-orders: an operator stops one agent, or releases it.
//!
//! Every order is recorded, also one that changes nothing: who was told to stop is worth a leaf. A later order takes
//! the place of an earlier one, weaker or stronger, unless the earlier one needs several words for its release: then the
//! later one can only add to it, or placing an order would be a way around them. A hold on an agent that was never heard
//! of creates its entry, so that it is stopped before its first action. Nothing brings a terminated agent back.

use nethical_protocol::control::HoldEffect;
use nethical_protocol::decision::AgentStatus;

use super::Ledger;
use super::expire::Timer;
use super::sealing::subject_id;
use crate::agent::{AgentEntry, AgentHold, AgentKey};
use crate::command::HoldOrderV1;
use crate::outcome::OutcomeV1;
use crate::release::Release;

impl Ledger {
    /// Block quarantines, restrict restricts. The tenant need not be known here: stopping never waits for facts.
    pub(super) fn place_hold_order(&mut self, order: &HoldOrderV1) -> OutcomeV1 {
        if let Some(answer) = self.dedup.answer(&order.request, self.now_ms()) {
            return answer;
        }
        let subject = subject_id(&order.actor);
        if let Err(stale) = self.check_key(&subject, order.sealing.as_ref()) {
            return OutcomeV1::Stale(stale);
        }
        self.take_key(subject, order.sealing.as_ref());
        let key = AgentKey::from(order.actor);
        let mut agent = self.agents.get(&key).copied().unwrap_or_default();
        if agent.status != AgentStatus::Terminated {
            let hold = self.hold_of(order, &key, agent.hold);
            self.guard(order, &key);
            if let Some(old) = agent.hold {
                self.disarm(old.until_ns, Timer::Agent(key));
            }
            agent.place(hold);
            agent.last_ns = self.now_ns;
            self.arm(hold.until_ns, Timer::Agent(key));
            self.agents.insert(key, agent);
        }
        self.changed(&key, &agent)
    }

    /// The hold that an order comes to: its own, or where several words guard the old one, the stricter and longer of both.
    fn hold_of(&self, order: &HoldOrderV1, key: &AgentKey, old: Option<AgentHold>) -> AgentHold {
        let until_ns = if order.ttl_ns == 0 { 0 } else { self.now_ns.saturating_add(order.ttl_ns) };
        let new = AgentHold { effect: order.effect, until_ns, leaf_index: self.next_leaf, rule: None };
        let Some(old) = old.filter(|_| self.releases.contains_key(key)) else { return new };
        let blocks = new.effect == HoldEffect::Block || old.effect == HoldEffect::Block;
        let is_endless = new.until_ns == 0 || old.until_ns == 0;
        AgentHold {
            effect: if blocks { HoldEffect::Block } else { HoldEffect::Restrict },
            until_ns: if is_endless { 0 } else { new.until_ns.max(old.until_ns) },
            ..new
        }
    }

    /// Notes the words that the release needs: those of this order or of the one before, whichever needs more of them.
    /// What was said of the one before does not count for both.
    fn guard(&mut self, order: &HoldOrderV1, key: &AgentKey) {
        let old = self.releases.remove(key).map(|old| Release { voices: Vec::new(), ..old });
        let new = Release::new(order.approvers, &order.names);
        let needed = |release: &Option<Release>| release.as_ref().map_or(0, |release| release.needed);
        let guard = if needed(&new) > needed(&old) { new } else { old };
        if let Some(guard) = guard {
            self.releases.insert(*key, guard);
        }
    }

    /// Back to active, whatever the effect was; where several words are needed, this may be one of them and no more.
    pub(super) fn lift_hold_order(&mut self, order: &HoldOrderV1) -> OutcomeV1 {
        if let Some(answer) = self.dedup.answer(&order.request, self.now_ms()) {
            return answer;
        }
        let subject = subject_id(&order.actor);
        if let Err(stale) = self.check_key(&subject, order.sealing.as_ref()) {
            return OutcomeV1::Stale(stale);
        }
        self.take_key(subject, order.sealing.as_ref());
        let key = AgentKey::from(order.actor);
        let now_ns = self.now_ns;
        let missing = self.releases.get_mut(&key).map_or(0, |release| release.say(order.approver));
        let Some(agent) = self.agents.get_mut(&key) else { return self.changed(&key, &AgentEntry::default()) };
        if missing > 0 {
            let agent = *agent;
            return self.changed(&key, &agent);
        }
        let lifted = agent.release();
        if lifted.is_some() {
            agent.last_ns = now_ns;
        }
        let agent = *agent;
        self.releases.remove(&key);
        if let Some(hold) = lifted {
            self.disarm(hold.until_ns, Timer::Agent(key));
        }
        self.changed(&key, &agent)
    }

    fn changed(&self, key: &AgentKey, agent: &AgentEntry) -> OutcomeV1 {
        let missing = self.releases.get(key).map_or(0, Release::missing);
        OutcomeV1::HoldChanged { status: agent.status, epoch: agent.epoch, missing }
    }
}
