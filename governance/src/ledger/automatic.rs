//! Automatic quarantine at a decision's position: which rule the action sets off, and the hold that it places.
//!
//! The action that sets a rule off is judged under the hold. Only a stronger hold takes the place of one in force, so a
//! rule that goes on fitting holds its agent once; and nothing holds a terminated agent.

use nethical_protocol::control::HoldEffect;
use nethical_protocol::decision::{AgentStatus, Verdict};
use nethical_protocol::quarantine::QuarantineRuleFact;
use nethical_protocol::sometimes;

use super::Ledger;
use super::expire::Timer;
use crate::agent::{AgentEntry, AgentHold, AgentKey};
use crate::command::{DecideV1, DetectionV1};
use crate::quarantine::{Deed, RuleNumber};
use crate::risk::Assessment;

/// A rule that an action set off.
pub(super) type Tripped = (RuleNumber, QuarantineRuleFact);

impl Ledger {
    /// The rule that the action sets off, where its hold would be stronger than what is in force. `verdict` is what
    /// everybody else makes of the action.
    pub(super) fn tripped(
        &self,
        decide: &DecideV1,
        agent: &AgentEntry,
        assessment: &Assessment,
        findings: &[DetectionV1],
        verdict: Verdict,
    ) -> Option<Tripped> {
        let deed = Deed {
            now_ns: self.now_ns,
            watch: &agent.watch,
            risk: &agent.risk,
            assessment,
            is_judged: verdict.is_allowed() || assessment.violates,
            of_text: &decide.evaluation.detections,
            of_behaviour: findings,
        };
        let ends = agent.status == AgentStatus::Terminated || verdict == Verdict::Terminate;
        let tripped = self.quarantine.tripped(decide.actor.tenant, &deed).filter(|_| !ends)?;
        let is_stronger = match agent.hold {
            None => true,
            Some(hold) => hold.effect == HoldEffect::Restrict && tripped.1.effect == HoldEffect::Block,
        };
        is_stronger.then_some(tripped)
    }

    /// Places the rule's hold; the decision's own leaf, the next one, is its record.
    pub(super) fn hold_automatically(&mut self, key: AgentKey, agent: &mut AgentEntry, (rule, fact): Tripped) {
        sometimes!(true, "an agent was quarantined by a rule");
        if let Some(old) = agent.hold {
            self.disarm(old.until_ns, Timer::Agent(key));
        }
        let until_ns = if fact.ttl_ns == 0 { 0 } else { self.now_ns.saturating_add(fact.ttl_ns) };
        agent.place(AgentHold { effect: fact.effect, until_ns, leaf_index: self.next_leaf, rule: Some(rule) });
        self.arm(until_ns, Timer::Agent(key));
    }
}
