//! Repeated denials: an agent that asks for the same thing again and again, and was refused by limits each time, is
//! answered from memory until time could have made a difference. So a runaway agent cannot flood the log (SPEC, G1).
//!
//! Only what is already a leaf is repeated, only for an action of the same content, and only while policy, rules and agent
//! are what they were; the answer is a refusal and no decision. How often that happened reaches the log within a second, as
//! one leaf for each denial; what a crash takes is not counted.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1, reason};
use nethical_governance::command::{ActorKeys, HeaderV1, RepeatsV1, RequestKey};
use nethical_governance::ledger::Ledger;
use nethical_protocol::decision::Verdict;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::DecisionId;
use nethical_protocol::limits::{DENIALS_BEFORE_MEMORY, REMEMBERED_DENIALS_MAX};
use nethical_protocol::sometimes;

/// Whatever Retry-After says, the log is asked again after so long: settlements give back sooner than time does.
const STANDS: Duration = Duration::from_secs(1);
/// Denials of one agent that are remembered.
const DENIALS_MAX: usize = 4;

/// What a denial depended on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Basis {
    policy_rev: u64,
    control_rev: u64,
    agent_version: [u8; 8],
}

#[derive(Debug, Clone, Copy)]
struct Denial {
    content: [u8; 8],
    id: DecisionId,
    basis: Basis,
    /// Decided so often in a row.
    times: u32,
    /// Monotonic time until which it stands, and until which waiting helps nobody.
    stands_until: Duration,
    retry_at: Duration,
}

/// The denials of one agent, in its actor.
#[derive(Debug, Default)]
pub struct Denials(Mutex<Vec<Denial>>);

impl Denials {
    /// Remembers a decision that limits refused, and forgets what another one contradicts. `asked` is when its evaluation
    /// began, which is not later than its stamp.
    pub fn note(&self, leaf: &LeafV1, id: DecisionId, agent_version: [u8; 8], asked: Duration) {
        let LeafEvent::Decision(decision) = &leaf.event else { return };
        let mut denials = self.0.lock();
        let before = denials.iter().position(|denial| denial.content == decision.request_content);
        let times = before.map_or(0, |at| denials.remove(at).times);
        if !is_by_limits(decision) {
            return;
        }
        let basis = Basis { policy_rev: decision.policy_rev, control_rev: decision.control_rev, agent_version };
        let wait = Duration::from_nanos(decision.retry_after_ns);
        let (stands_until, retry_at) = (asked + wait.min(STANDS), asked + wait);
        let content = decision.request_content;
        denials.push(Denial { content, id, basis, times: times.saturating_add(1), stands_until, retry_at });
        if denials.len() > DENIALS_MAX {
            denials.remove(0);
        }
    }

    /// True where nothing is remembered: most agents, most of the time.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// The denial that an action would repeat, where it stands and the log has not seen the request itself.
    pub fn stands(
        &self,
        ledger: &Ledger,
        actor: &ActorKeys,
        request: &RequestKey,
        now: Duration,
    ) -> Option<(DecisionId, Duration)> {
        let denials = self.0.lock();
        let denial = denials.iter().find(|denial| denial.content == request.content)?;
        let basis = Basis {
            policy_rev: ledger.policy()?.revision.0,
            control_rev: ledger.control_revision().0,
            agent_version: ledger.agent_version(actor),
        };
        let stands = denial.times >= DENIALS_BEFORE_MEMORY && now < denial.stands_until && denial.basis == basis;
        (stands && !ledger.is_decided(request)).then(|| (denial.id, denial.retry_at.saturating_sub(now)))
    }
}

/// Refused by limits alone, and time will help. A blend refuses nothing.
fn is_by_limits(decision: &DecisionLeaf) -> bool {
    decision.verdict == Verdict::Block as u8
        && decision.retry_after_ns > 0
        && decision.reasons.iter().all(|(kind, _)| matches!(*kind, reason::QUOTA_EXCEEDED | reason::BLENDED))
}

/// The answer to a repeat.
pub fn problem(of: DecisionId, wait: Duration) -> Problem {
    sometimes!(true, "a denial was answered from memory");
    metrics::counter!("nethical_repeated_denials_total").increment(1);
    let detail =
        format!("the same action was denied as {of} a moment ago; nothing was decided and nothing was charged");
    Problem::new(Code::DenialRepeated, detail).repeat_of(of).retry_after_ms(wait.as_millis() as u64 + 1)
}

/// How often each denial was repeated since it was last written down, on one leader.
#[derive(Debug, Default)]
pub struct Repeats(Mutex<BTreeMap<u64, (ActorKeys, u64)>>);

impl Repeats {
    /// Counts one; beyond the bound it is only answered.
    pub fn count(&self, actor: ActorKeys, of: DecisionId) {
        let mut counts = self.0.lock();
        if counts.len() < REMEMBERED_DENIALS_MAX || counts.contains_key(&of.leaf_index) {
            counts.entry(of.leaf_index).or_insert((actor, 0)).1 += 1;
        }
    }

    /// What is to be written down.
    pub fn take(&self) -> Vec<HeaderV1> {
        let counts = std::mem::take(&mut *self.0.lock());
        let repeats = counts.into_iter();
        repeats.map(|(decision, (actor, count))| HeaderV1::NoteRepeats(RepeatsV1 { actor, decision, count })).collect()
    }
}
