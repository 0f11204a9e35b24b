//! What administrators were told of legal holds, and what was seen to have expired.

use std::collections::BTreeSet;
use std::time::Duration;

use nethical_protocol::ids::DecisionId;

use super::History;

/// A legal hold on an agent of the spread tenant.
#[derive(Debug, Clone)]
pub struct LegallyHeld {
    /// The agent.
    pub agent: String,
    /// Its setting was first asked for …
    pub called: Duration,
    /// … and acknowledged.
    pub stands: Option<Duration>,
    /// Its lifting was first asked for …
    pub lift_called: Option<Duration>,
    /// … and acknowledged.
    pub lifted: Option<Duration>,
}

#[derive(Default)]
pub(super) struct Kept {
    holds: Vec<LegallyHeld>,
    expired: BTreeSet<DecisionId>,
}

impl History {
    /// The first call to set a legal hold begins; gives its number.
    pub fn legally_held(&self, agent: String, called: Duration) -> usize {
        let holds = &mut self.inner.lock().kept.holds;
        holds.push(LegallyHeld { agent, called, stands: None, lift_called: None, lifted: None });
        holds.len() - 1
    }

    /// A legal hold was acknowledged.
    pub fn legal_hold_stands(&self, number: usize, now: Duration) {
        self.change(number, |hold| hold.stands = Some(now));
    }

    /// The first call to lift a legal hold begins.
    pub fn legal_hold_lift_called(&self, number: usize, now: Duration) {
        self.change(number, |hold| hold.lift_called = Some(now));
    }

    /// The lifting of a legal hold was acknowledged.
    pub fn legal_hold_lifted(&self, number: usize, now: Duration) {
        self.change(number, |hold| hold.lifted = Some(now));
    }

    fn change(&self, number: usize, change: impl FnOnce(&mut LegallyHeld)) {
        if let Some(hold) = self.inner.lock().kept.holds.get_mut(number) {
            change(hold);
        }
    }

    /// True where a legal hold on an agent stood all the time from `begun` until now.
    pub fn is_legally_held(&self, agent: &str, begun: Duration) -> bool {
        let held = |hold: &LegallyHeld| hold.stands.is_some_and(|stands| stands <= begun) && hold.lift_called.is_none();
        self.inner.lock().kept.holds.iter().any(|hold| hold.agent == agent && held(hold))
    }

    /// True where a legal hold on an agent may have stood at some time from `begun` until now.
    pub fn may_be_legally_held(&self, agent: &str, begun: Duration) -> bool {
        let holds = &self.inner.lock().kept.holds;
        holds.iter().any(|hold| hold.agent == agent && hold.lifted.is_none_or(|lifted| lifted >= begun))
    }

    /// A node said that the body of a decision has expired.
    pub fn expired(&self, id: DecisionId) {
        self.inner.lock().kept.expired.insert(id);
    }

    /// All decisions whose bodies were said to have expired.
    pub fn all_expired(&self) -> BTreeSet<DecisionId> {
        self.inner.lock().kept.expired.clone()
    }

    /// False where no legal hold on the agent of a decision was ever asked for.
    pub fn was_ever_held(&self, id: DecisionId) -> bool {
        let inner = self.inner.lock();
        let mut told =
            inner.operations.values().filter(|operation| operation.told.as_ref().is_some_and(|told| told.id == id));
        let agent = told.next().map(|operation| operation.agent.as_str());
        agent.is_none_or(|agent| inner.kept.holds.iter().any(|hold| hold.agent == agent))
    }
}
