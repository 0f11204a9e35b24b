//! Agent-scoped hold-orders: an operator stops one agent, or releases it.
//!
//! Every order is recorded, also one that changes nothing: who was told to stop is worth a leaf. A later order takes
//! the place of an earlier one, weaker or stronger. A hold on an agent that was never heard of creates its entry, so
//! that it is stopped before its first action. Nothing brings a terminated agent back.

use nethical_protocol::decision::AgentStatus;

use super::Ledger;
use super::expire::Timer;
use crate::agent::{AgentEntry, AgentHold, AgentKey};
use crate::command::HoldOrderV1;
use crate::outcome::OutcomeV1;

impl Ledger {
    /// Block quarantines, restrict restricts. The tenant need not be known here: stopping never waits for facts.
    pub(super) fn place_hold_order(&mut self, order: &HoldOrderV1) -> OutcomeV1 {
        if let Some(answer) = self.dedup.answer(&order.request, self.now_ms()) {
            return answer;
        }
        let key = AgentKey::from(order.actor);
        let mut agent = self.agents.get(&key).copied().unwrap_or_default();
        if agent.status != AgentStatus::Terminated {
            if let Some(old) = agent.hold {
                self.disarm(old.until_ns, Timer::Agent(key));
            }
            let until_ns = if order.ttl_ns == 0 { 0 } else { self.now_ns.saturating_add(order.ttl_ns) };
            agent.place(AgentHold { effect: order.effect, until_ns, leaf_index: self.next_leaf, rule: None });
            agent.last_ns = self.now_ns;
            self.arm(until_ns, Timer::Agent(key));
            self.agents.insert(key, agent);
        }
        changed(&agent)
    }

    /// Back to active, whatever the effect was.
    pub(super) fn lift_hold_order(&mut self, order: &HoldOrderV1) -> OutcomeV1 {
        if let Some(answer) = self.dedup.answer(&order.request, self.now_ms()) {
            return answer;
        }
        let key = AgentKey::from(order.actor);
        let now_ns = self.now_ns;
        let Some(agent) = self.agents.get_mut(&key) else { return changed(&AgentEntry::default()) };
        let lifted = agent.release();
        let outcome = changed(agent);
        if let Some(hold) = lifted {
            agent.last_ns = now_ns;
            self.disarm(hold.until_ns, Timer::Agent(key));
        }
        outcome
    }
}

fn changed(agent: &AgentEntry) -> OutcomeV1 {
    OutcomeV1::HoldChanged { status: agent.status, epoch: agent.epoch }
}
