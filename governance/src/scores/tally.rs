//! How well a score does beside the rules: agreement, confusion, calibration, and whether it might be promoted.
//!
//! Counters that only rise and are added up over nodes; no record of any action, no floats, nothing that a decision reads.

use super::{Class, GRAY_ZONE};

/// Scores this close agree.
pub const AGREE_WITHIN: u16 = 100;
/// Bins of calibration, each as wide as 200.
pub const BINS: usize = 5;
const BIN_WIDTH: u16 = 200;
/// Samples from the gray zone that a promotion takes.
pub const GATE_GRAY_MIN: u64 = 100;
/// Thousandths of negatives by which false positives may differ from the baseline's.
pub const GATE_FALSE_PERMILLE_MAX: u64 = 50;

/// A decision, as it is held against a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truth {
    /// The score by the rules.
    pub rule: u16,
    /// Policy refused it: blocked, or ended the agent.
    pub refused: bool,
}

/// Decisions by what a score said (deny is positive) and by what policy said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Confusion {
    /// Denied by both.
    pub true_positives: u64,
    /// Denied by the score alone.
    pub false_positives: u64,
    /// Refused by policy alone.
    pub false_negatives: u64,
    /// Denied by neither.
    pub true_negatives: u64,
}

impl Confusion {
    fn note(&mut self, score: u16, refused: bool) {
        let count = match (Class::of(score) == Class::Deny, refused) {
            (true, true) => &mut self.true_positives,
            (true, false) => &mut self.false_positives,
            (false, true) => &mut self.false_negatives,
            (false, false) => &mut self.true_negatives,
        };
        *count = count.saturating_add(1);
    }

    fn add(&mut self, other: &Self) {
        self.true_positives = self.true_positives.saturating_add(other.true_positives);
        self.false_positives = self.false_positives.saturating_add(other.false_positives);
        self.false_negatives = self.false_negatives.saturating_add(other.false_negatives);
        self.true_negatives = self.true_negatives.saturating_add(other.true_negatives);
    }

    fn negatives(&self) -> u64 {
        self.false_positives.saturating_add(self.true_negatives)
    }
}

/// Samples whose score lies in one fifth of the scale.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Bin {
    /// How many.
    pub samples: u64,
    /// The sum of their scores.
    pub scores: u64,
    /// Of them, refused by policy.
    pub refused: u64,
}

impl Bin {
    /// The mean score, as a share in thousandths; 0 without samples.
    pub fn predicted_permille(&self) -> u64 {
        self.scores.checked_div(self.samples).unwrap_or(0)
    }

    /// The share that policy refused, in thousandths; 0 without samples.
    pub fn observed_permille(&self) -> u64 {
        permille(self.refused, self.samples)
    }

    /// Samples × the distance of both, in thousandths of a sample: exact.
    fn error(&self) -> u128 {
        u128::from(self.scores).abs_diff(u128::from(self.refused) * 1_000)
    }
}

/// What was counted of one score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Tally {
    /// Decisions for which there was a score.
    pub samples: u64,
    /// Of those, with one as close to the rules' as [`AGREE_WITHIN`].
    pub agreed: u64,
    /// Of those, in the gray zone by the rules.
    pub gray: u64,
    /// The sum of confidences, 0..1000 each.
    pub confidence: u64,
    /// The score against policy.
    pub confusion: Confusion,
    /// The rules' own score against policy, on the same samples.
    pub baseline: Confusion,
    /// From [0, 200) to [800, 1000].
    pub bins: [Bin; BINS],
}

impl Tally {
    /// Counts a decision. True where the scores agree.
    pub fn note(&mut self, score: u16, confidence: u16, truth: Truth) -> bool {
        let agrees = score.abs_diff(truth.rule) <= AGREE_WITHIN;
        self.samples = self.samples.saturating_add(1);
        self.agreed = self.agreed.saturating_add(u64::from(agrees));
        self.gray = self.gray.saturating_add(u64::from(GRAY_ZONE.contains(&truth.rule)));
        self.confidence = self.confidence.saturating_add(u64::from(confidence));
        self.confusion.note(score, truth.refused);
        self.baseline.note(truth.rule, truth.refused);
        let bin = &mut self.bins[usize::from(score / BIN_WIDTH).min(BINS - 1)];
        bin.samples = bin.samples.saturating_add(1);
        bin.scores = bin.scores.saturating_add(u64::from(score));
        bin.refused = bin.refused.saturating_add(u64::from(truth.refused));
        agrees
    }

    /// Adds what somebody else has counted.
    pub fn add(&mut self, other: &Self) {
        self.samples = self.samples.saturating_add(other.samples);
        self.agreed = self.agreed.saturating_add(other.agreed);
        self.gray = self.gray.saturating_add(other.gray);
        self.confidence = self.confidence.saturating_add(other.confidence);
        self.confusion.add(&other.confusion);
        self.baseline.add(&other.baseline);
        for (bin, other) in self.bins.iter_mut().zip(&other.bins) {
            bin.samples = bin.samples.saturating_add(other.samples);
            bin.scores = bin.scores.saturating_add(other.scores);
            bin.refused = bin.refused.saturating_add(other.refused);
        }
    }

    /// The share that agrees, in thousandths; 0 without samples.
    pub fn agreement_permille(&self) -> u64 {
        permille(self.agreed, self.samples)
    }

    /// The mean confidence, 0..1000; 0 without samples.
    pub fn confidence_mean(&self) -> u64 {
        self.confidence.checked_div(self.samples).unwrap_or(0)
    }

    /// Expected calibration error in thousandths: how far mean score and share of refusals lie apart, weighed by samples.
    pub fn calibration_error_permille(&self) -> u64 {
        let error = self.bins.iter().map(Bin::error).fold(0, u128::saturating_add);
        error.checked_div(u128::from(self.samples)).unwrap_or(0) as u64
    }

    /// What a promotion takes, each with whether it holds.
    pub fn gate(&self) -> [Check; 3] {
        let (mine, rules) = (&self.confusion, &self.baseline);
        let false_permille = |of: &Confusion| permille(of.false_positives, of.negatives());
        let apart = u128::from(mine.false_positives.abs_diff(rules.false_positives)) * 1_000;
        let room = u128::from(GATE_FALSE_PERMILLE_MAX) * u128::from(mine.negatives());
        let check = |name, holds, found, bound| Check { name, holds, found, bound };
        [
            check("false-positives", apart <= room, false_permille(mine), false_permille(rules)),
            check(
                "true-positives",
                mine.true_positives > rules.true_positives,
                mine.true_positives,
                rules.true_positives,
            ),
            check("gray-samples", self.gray >= GATE_GRAY_MIN, self.gray, GATE_GRAY_MIN),
        ]
    }
}

/// One condition of a promotion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// `false-positives`, `true-positives` or `gray-samples`.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What was counted: thousandths of negatives, positives, samples.
    pub found: u64,
    /// What it is held against: the baseline's thousandths, the baseline's positives, [`GATE_GRAY_MIN`].
    pub bound: u64,
}

fn permille(part: u64, of: u64) -> u64 {
    (u128::from(part) * 1_000).checked_div(u128::from(of)).unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn truth(rule: u16, refused: bool) -> Truth {
        Truth { rule, refused }
    }

    #[test]
    fn agreement_ends_at_a_tenth() {
        let mut tally = Tally::default();
        assert!(tally.note(400, 800, truth(500, false)) && tally.note(600, 400, truth(500, false)));
        assert!(!tally.note(399, 0, truth(500, false)) && !tally.note(601, 0, truth(500, false)));
        assert_eq!((tally.agreement_permille(), tally.gray, tally.confidence_mean()), (500, 4, 300));
    }

    #[test]
    fn confusion_counts_denials_against_policy() {
        let mut tally = Tally::default();
        for (score, rule, refused) in
            [(700, 0, true), (700, 0, false), (699, 700, true), (699, 700, false), (0, 0, false)]
        {
            tally.note(score, 0, truth(rule, refused));
        }
        let counts = |of: &Confusion| [of.true_positives, of.false_positives, of.false_negatives, of.true_negatives];
        assert_eq!((counts(&tally.confusion), counts(&tally.baseline)), ([1, 1, 1, 2], [1, 1, 1, 2]));
    }

    #[test]
    fn calibration_is_right_for_a_score_that_says_what_comes() {
        let mut tally = Tally::default();
        for at in 0..10 {
            tally.note(900, 0, truth(0, at < 9));
        }
        assert_eq!((tally.bins[4].predicted_permille(), tally.bins[4].observed_permille()), (900, 900));
        assert_eq!(tally.calibration_error_permille(), 0);
        for _ in 0..10 {
            tally.note(100, 0, truth(0, true));
        }
        assert_eq!(tally.calibration_error_permille(), 450);
        tally.note(1_000, 0, truth(0, true));
        assert_eq!(tally.bins[4].samples, 11);
    }

    #[test]
    fn nothing_passes_the_gate_without_samples() {
        let passes = Tally::default().gate().map(|check| check.holds);
        assert_eq!((passes, Tally::default().calibration_error_permille()), ([true, false, false], 0));
    }

    #[test]
    fn the_gate_takes_more_hits_no_more_alarms_and_a_hundred_gray_samples() {
        let mut tally = Tally::default();
        // The rules leave a hundred refusals gray, and the score finds them.
        for _ in 0..100 {
            tally.note(800, 0, truth(500, true));
        }
        for _ in 0..100 {
            tally.note(0, 0, truth(0, false));
        }
        assert!(tally.gate().iter().all(|check| check.holds));
        // Five of a hundred and five negatives are allowed for, six are not.
        for _ in 0..5 {
            tally.note(900, 0, truth(0, false));
        }
        assert!(tally.gate().iter().all(|check| check.holds), "{:?}", tally.gate());
        tally.note(900, 0, truth(0, false));
        let holds = tally.gate().map(|check| (check.holds, check.found, check.bound));
        assert_eq!(holds, [(false, 56, 0), (true, 100, 0), (true, 100, 100)]);
        // Hits that the rules have as well are no gain.
        let mut same = Tally::default();
        for _ in 0..100 {
            same.note(800, 0, truth(800, true));
        }
        assert_eq!(same.gate().map(|check| check.holds), [true, false, false]);
    }

    proptest! {
        #[test]
        fn what_nodes_count_apart_adds_up(
            samples in prop::collection::vec((0..=1_000u16, 0..=1_000u16, any::<bool>(), any::<bool>()), 0..60),
        ) {
            let (mut whole, mut here, mut there) = <(Tally, Tally, Tally)>::default();
            for (score, rule, refused, is_here) in samples {
                whole.note(score, 160, truth(rule, refused));
                if is_here { &mut here } else { &mut there }.note(score, 160, truth(rule, refused));
            }
            here.add(&there);
            prop_assert_eq!(here, whole);
            let bins: u64 = whole.bins.iter().map(|bin| bin.samples).sum();
            let sorts = whole.confusion;
            let sorts = sorts.true_positives + sorts.false_positives + sorts.false_negatives + sorts.true_negatives;
            prop_assert_eq!((bins, sorts), (whole.samples, whole.samples));
            prop_assert!(whole.agreement_permille() <= 1_000 && whole.calibration_error_permille() <= 1_000);
        }
    }
}
