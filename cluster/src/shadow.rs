//! The candidate beside the policy in force: what it would have said of an action, and how often the two agree.
//!
//! Nothing here reaches a command's header or an answer. The candidate's verdict goes into the sealed body, and into
//! counters of this node: they begin anew with the process and with each candidate, and are no record.

use parking_lot::Mutex;

use nethical_governance::command::EvaluationV1;
use nethical_governance::policy::{AgentFacts, Bundle};
use nethical_governance::quota::band::Band;
use nethical_protocol::action::Action;
use nethical_protocol::decision::Verdict;

use crate::body::ShadowV1;
use crate::message::{PairV1, ShadowReportV1};

const VERDICTS: usize = Verdict::ALL.len();

/// What a candidate says of an action that was evaluated under the policy in force.
pub fn cast(candidate: &Bundle, action: &Action, found: &EvaluationV1, seen: AgentFacts, bands: &[Band]) -> ShadowV1 {
    let said = candidate.judge(action, found, seen, bands);
    ShadowV1 { digest: candidate.digest(), verdict: said.verdict, rules: said.rules }
}

/// A decision's two verdicts by policy, to be counted once it is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The candidate.
    pub digest: [u8; 32],
    /// By the policy in force.
    pub enforced: Verdict,
    /// By the candidate.
    pub shadow: Verdict,
}

/// Decisions by pair of verdicts, of one candidate at a time.
#[derive(Debug, Default)]
pub struct ShadowCounts(Mutex<Option<Counted>>);

#[derive(Debug)]
struct Counted {
    digest: [u8; 32],
    pairs: [[u64; VERDICTS]; VERDICTS],
}

impl ShadowCounts {
    /// Counts a decision, here and in the metrics.
    pub fn note(&self, pair: Pair) {
        let (enforced, shadow) = (pair.enforced.as_str(), pair.shadow.as_str());
        metrics::counter!("nethical_shadow_verdicts_total", "enforced" => enforced, "shadow" => shadow).increment(1);
        let mut held = self.0.lock();
        if held.as_ref().is_none_or(|counted| counted.digest != pair.digest) {
            *held = Some(Counted { digest: pair.digest, pairs: [[0; VERDICTS]; VERDICTS] });
        }
        if let Some(counted) = held.as_mut() {
            counted.pairs[pair.enforced as usize][pair.shadow as usize] += 1;
        }
    }

    /// What was counted of the latest candidate; pairs that never came are left out.
    pub fn report(&self) -> Option<ShadowReportV1> {
        let held = self.0.lock();
        let counted = held.as_ref()?;
        let each = Verdict::ALL.into_iter().flat_map(|enforced| Verdict::ALL.map(|shadow| (enforced, shadow)));
        let pair = |(enforced, shadow): (Verdict, Verdict)| {
            let count = counted.pairs[enforced as usize][shadow as usize];
            (count > 0).then_some(PairV1 { enforced, shadow, count })
        };
        Some(ShadowReportV1 { digest: counted.digest, pairs: each.filter_map(pair).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_counted_for_one_candidate_at_a_time() {
        let counts = ShadowCounts::default();
        assert_eq!(counts.report(), None);
        let note = |digest: u8, enforced, shadow| counts.note(Pair { digest: [digest; 32], enforced, shadow });
        note(1, Verdict::Allow, Verdict::Allow);
        note(1, Verdict::Allow, Verdict::Block);
        note(1, Verdict::Allow, Verdict::Block);
        let pair = |enforced, shadow, count| PairV1 { enforced, shadow, count };
        let pairs = vec![pair(Verdict::Allow, Verdict::Allow, 1), pair(Verdict::Allow, Verdict::Block, 2)];
        assert_eq!(counts.report(), Some(ShadowReportV1 { digest: [1; 32], pairs }));
        note(2, Verdict::Block, Verdict::Terminate);
        let pairs = vec![pair(Verdict::Block, Verdict::Terminate, 1)];
        assert_eq!(counts.report(), Some(ShadowReportV1 { digest: [2; 32], pairs }));
    }
}
