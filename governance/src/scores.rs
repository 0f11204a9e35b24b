//! Scores beside that of the rules: the blend of the rules' score with a model's, and a heuristic that runs in the shadow.
//!
//! Pure integers. Only [`blend`] may reach a decision, and only where a command carries a model's score; the heuristic and
//! what [`tally`] measures of it never do, and are no part of any state.

use std::ops::RangeInclusive;

use nethical_protocol::model::MODEL_SCORE_MAX;

pub mod tally;

/// Scores of the rules that leave it open what an action is. Below it is cleared, above it is not, whatever a model says.
pub const GRAY_ZONE: RangeInclusive<u16> = 400..=600;
/// A score from here on speaks against the action …
pub const DENY_SCORE_MIN: u16 = 700;
/// … and one from here on for a warning.
pub const WARN_SCORE_MIN: u16 = 400;
/// Tenths of the blend that are the rules', and the model's.
const SHARES: (u32, u32) = (7, 3);

/// `(7·rule + 3·model) / 10`, rounded down, in the gray zone; none outside of it.
pub fn blend(rule: u16, model: u16) -> Option<u16> {
    let (rules, models) = SHARES;
    let model = u32::from(model.min(MODEL_SCORE_MAX));
    let blended = (rules * u32::from(rule) + models * model) / (rules + models);
    GRAY_ZONE.contains(&rule).then_some(blended as u16)
}

/// What a score alone makes of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Below [`WARN_SCORE_MIN`].
    Allow,
    /// Below [`DENY_SCORE_MIN`].
    Warn,
    /// From there on.
    Deny,
}

impl Class {
    /// The class of a score.
    pub fn of(score: u16) -> Self {
        match score {
            DENY_SCORE_MIN.. => Self::Deny,
            WARN_SCORE_MIN.. => Self::Warn,
            _ => Self::Allow,
        }
    }
}

/// What the heuristic goes by, each 0..1000; none where nothing is known of it. Policy's verdict is not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Findings that violate: 1000 from the first on.
    pub violation_count: Option<u16>,
    /// The worst finding.
    pub severity_max: Option<u16>,
    /// How lately the agent violated, before this action.
    pub recency_score: Option<u16>,
    /// How often it did within an hour, before this action.
    pub frequency_score: Option<u16>,
    /// What the action's surroundings add.
    pub context_risk: Option<u16>,
}

/// A score with what it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scored {
    /// 0..865, since the curve ends at `1 − e^(−2)`.
    pub score: u16,
    /// 800 where every feature was known, 160 less for each that was not.
    pub confidence: u16,
}

/// Hundredths of the sum by feature, in the order of [`Features`].
const WEIGHTS: [u32; 5] = [30, 25, 20, 15, 10];
/// All features at their greatest: the sum is in 1/100,000.
const SUM_MAX: u32 = 100_000;
/// One step of the curve.
const STEP: u32 = SUM_MAX / 40;
/// 1 − e^(−2x) for x = 0, 1/40 … 1 in 1/65,536, rounded to nearest; in between the curve is a straight line.
const CURVE: [u32; 41] = [
    0, 3196, 6237, 9129, 11880, 14497, 16986, 19354, 21606, 23748, 25786, 27725, 29569, 31323, 32992, 34579, 36089,
    37525, 38891, 40191, 41427, 42602, 43721, 44785, 45797, 46760, 47675, 48546, 49375, 50163, 50913, 51626, 52305,
    52950, 53564, 54148, 54703, 55231, 55734, 56212, 56667,
];

impl Features {
    fn all(&self) -> [Option<u16>; 5] {
        [self.violation_count, self.severity_max, self.recency_score, self.frequency_score, self.context_risk]
    }

    /// `1 − e^(−2·Σ weight·feature)` with its confidence. What is not known adds nothing.
    pub fn score(&self) -> Scored {
        let known = self.all().into_iter().zip(WEIGHTS).filter_map(|(feature, weight)| Some((feature?, weight)));
        let (sum, count) = known.fold((0, 0), |(sum, count), (feature, weight)| {
            (sum + weight * u32::from(feature.min(MODEL_SCORE_MAX)), count + 1)
        });
        Scored { score: curve(sum), confidence: 800 * count / 5 }
    }
}

/// The curve at a sum in 1/100,000, as a score rounded to nearest.
fn curve(sum: u32) -> u16 {
    let sum = sum.min(SUM_MAX);
    let at = (sum / STEP) as usize;
    let (left, right) = (CURVE[at], CURVE[(at + 1).min(CURVE.len() - 1)]);
    let height = left + (right - left) * (sum % STEP) / STEP;
    ((height * u32::from(MODEL_SCORE_MAX) + (1 << 15)) >> 16) as u16
}

/// Adds what privileged ground and an agent that nobody watches say of an action's surroundings.
pub fn context_risk(privileged: bool, automated: bool) -> u16 {
    500 * u16::from(privileged) + 500 * u16::from(automated)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_gray_zone_is_blended() {
        for (rule, model, blended) in [
            (399, 1_000, None),
            (400, 1_000, Some(580)),
            (400, 0, Some(280)),
            (500, 501, Some(500)),
            (500, 504, Some(501)),
            (600, 1_000, Some(720)),
            (600, 933, Some(699)),
            (600, 934, Some(700)),
            (601, 0, None),
            (0, 1_000, None),
            (1_000, 0, None),
        ] {
            assert_eq!(blend(rule, model), blended, "{rule} and {model}");
        }
    }

    #[test]
    fn classes_begin_at_400_and_700() {
        let classes = [0, 399, 400, 699, 700, 1_000].map(Class::of);
        assert_eq!(classes, [Class::Allow, Class::Allow, Class::Warn, Class::Warn, Class::Deny, Class::Deny]);
    }

    #[test]
    fn the_curve_is_within_a_thousandth_of_the_exponential_and_never_falls() {
        let (mut worst, mut last) = (0f64, 0);
        for sum in 0..=SUM_MAX {
            let exact = 1_000.0 * (1.0 - (-2.0 * f64::from(sum) / f64::from(SUM_MAX)).exp());
            worst = worst.max((exact - f64::from(curve(sum))).abs());
            assert!(curve(sum) >= last, "{sum}");
            last = curve(sum);
        }
        println!("the curve is off by at most {worst:.3} thousandths");
        assert!(worst <= 1.0, "{worst}");
        assert_eq!((curve(0), curve(SUM_MAX), curve(u32::MAX)), (0, 865, 865));
    }

    #[test]
    fn a_feature_that_is_not_known_adds_nothing_and_costs_confidence() {
        let known = Features { severity_max: Some(1_000), context_risk: Some(500), ..Features::default() };
        assert_eq!(known.score(), Scored { score: 451, confidence: 320 });
        assert_eq!(Features::default().score(), Scored { score: 0, confidence: 0 });
        let worst = Features {
            violation_count: Some(u16::MAX),
            severity_max: Some(1_000),
            recency_score: Some(1_000),
            frequency_score: Some(1_000),
            context_risk: Some(context_risk(true, true)),
        };
        assert_eq!(worst.score(), Scored { score: 865, confidence: 800 });
    }

    fn any_features() -> impl Strategy<Value = [Option<u16>; 5]> {
        prop::array::uniform5(prop::option::of(any::<u16>()))
    }

    fn features(
        [violation_count, severity_max, recency_score, frequency_score, context_risk]: [Option<u16>; 5],
    ) -> Features {
        Features { violation_count, severity_max, recency_score, frequency_score, context_risk }
    }

    proptest! {
        #[test]
        fn any_features_give_the_naive_score_within_a_thousandth(given in any_features()) {
            let scored = features(given).score();
            let weights = [0.3, 0.25, 0.2, 0.15, 0.1];
            let part = |(feature, weight): (Option<u16>, f64)| weight * f64::from(feature.unwrap_or(0).min(1_000)) / 1_000.0;
            let sum: f64 = given.into_iter().zip(weights).map(part).sum();
            prop_assert!((1_000.0 * (1.0 - (-2.0 * sum).exp()) - f64::from(scored.score)).abs() <= 1.0);
            let known = given.iter().flatten().count() as u16;
            prop_assert_eq!(scored.confidence, known * 160);
        }

        #[test]
        fn a_blend_lies_between_its_two_scores(rule in 0..=1_000u16, model in any::<u16>()) {
            match blend(rule, model) {
                Some(blended) => {
                    let model = model.min(1_000);
                    prop_assert!((400..=600).contains(&rule));
                    prop_assert!((rule.min(model)..=rule.max(model)).contains(&blended));
                }
                None => prop_assert!(!(400..=600).contains(&rule)),
            }
        }
    }
}
