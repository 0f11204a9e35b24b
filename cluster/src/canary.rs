//! What a canary decides beside the bundle in force, counted on this node so that an operator can compare the two.
//!
//! Which bundle decides for an agent is governance's word; here only its verdicts are counted. Counters begin anew with
//! the process and with each pair of bundles, go on when the share changes, and are no record: the leaves are.

use parking_lot::Mutex;

use nethical_protocol::decision::Verdict;

use crate::message::CanaryReportV1;

/// A decision made while there is a canary, to be counted once it is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// The bundle in force.
    pub active: [u8; 32],
    /// The canary.
    pub canary: [u8; 32],
    /// The canary decided.
    pub by_canary: bool,
    /// The verdict by policy.
    pub verdict: Verdict,
}

/// Decisions by bundle and verdict, of one pair of bundles at a time.
#[derive(Debug, Default)]
pub struct CanaryCounts(Mutex<Option<CanaryReportV1>>);

impl CanaryCounts {
    /// Counts a decision, here and in the metrics.
    pub fn note(&self, judged: Judged) {
        let Judged { active, canary, by_canary, verdict } = judged;
        let bundle = if by_canary { "canary" } else { "active" };
        metrics::counter!("nethical_canary_verdicts_total", "bundle" => bundle, "verdict" => verdict.as_str())
            .increment(1);
        let mut held = self.0.lock();
        if held.as_ref().is_none_or(|counted| (counted.active, counted.canary) != (active, canary)) {
            *held = Some(CanaryReportV1 { active, canary, by_active: [0; 5], by_canary: [0; 5] });
        }
        if let Some(counted) = held.as_mut() {
            let verdicts = if by_canary { &mut counted.by_canary } else { &mut counted.by_active };
            verdicts[verdict as usize] += 1;
        }
    }

    /// What was counted of the latest pair.
    pub fn report(&self) -> Option<CanaryReportV1> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_counted_by_bundle_for_one_pair_at_a_time() {
        let counts = CanaryCounts::default();
        assert_eq!(counts.report(), None);
        let note = |canary: u8, by_canary, verdict| {
            counts.note(Judged { active: [1; 32], canary: [canary; 32], by_canary, verdict });
        };
        note(2, true, Verdict::Block);
        note(2, true, Verdict::Block);
        note(2, false, Verdict::Allow);
        let counted =
            CanaryReportV1 { active: [1; 32], canary: [2; 32], by_active: [1, 0, 0, 0, 0], by_canary: [0, 0, 0, 2, 0] };
        assert_eq!(counts.report(), Some(counted));
        note(3, false, Verdict::Terminate);
        let anew = counts.report().expect("counted");
        assert_eq!((anew.canary, anew.by_active, anew.by_canary), ([3; 32], [0, 0, 0, 0, 1], [0; 5]));
    }
}
