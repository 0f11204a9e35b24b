//! An agent's risk profile: 0..1000 in integers, moved only by apply, from what the actor found in an action.
//!
//! `fused = 0.3·behaviour + 0.3·severity + 0.2·frequency + 0.2·recency`, `new = 0.7·fused + 0.3·decayed`, where the
//! history decays with a half-life of 24 h. Each term counts *violations*, never mere activity: an agent without any
//! stays at 0 for ever. Traffic that was denied and violated nothing teaches nothing, so that a refused flood of
//! harmless actions cannot dilute the share of violations. No floats, no clock.

use nethical_protocol::decision::Verdict;

use crate::command::{DetectionV1, EvaluationV1};
use crate::outcome::RiskTier;

/// A detection of at least this severity ("low") is a violation; weaker ones only colour the action itself.
pub const VIOLATION_SEVERITY_MIN: u16 = 250;
/// Severity of an action that policy blocks ("medium") …
pub const BLOCKED_SEVERITY: u16 = 500;
/// … and of one for which it ends the agent ("critical").
pub const TERMINATED_SEVERITY: u16 = 1_000;
/// The top of every term and score.
const SCORE_MAX: u16 = 1_000;
/// Violations remembered by time. As many within an hour give the frequency term its maximum.
pub const RECENT_MAX: usize = 10;
const HOUR_NS: u64 = 3_600_000_000_000;
/// Half-life of the history, and the time after which a violation is not recent any more.
const DAY_NS: u64 = 24 * HOUR_NS;

/// 2^(-h/24) for h = 0..=24 in 1/65,536, rounded to nearest; between hours the curve is a straight line.
const HALVING: [u32; 25] = [
    65536, 63670, 61858, 60097, 58386, 56724, 55109, 53540, 52016, 50535, 49097, 47699, 46341, 45022, 43740, 42495,
    41285, 40110, 38968, 37859, 36781, 35734, 34716, 33728, 32768,
];

/// What is kept of an agent's history, about 120 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RiskProfile {
    /// The score when it last changed, 0..1000.
    pub score: u16,
    /// When it last changed, log time in nanoseconds.
    pub at_ns: u64,
    /// Actions that counted: allowed, or with violations.
    pub judged: u64,
    /// Of those, with violations.
    pub violations: u64,
    /// Log times of the last violations, newest first; 0 where there were fewer.
    pub recent_ns: [u64; RECENT_MAX],
}

/// An action seen in the light of a profile. Changes nothing until [`RiskProfile::learn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assessment {
    /// The score that the profile has if it learns this action.
    pub score: u16,
    /// Behaviour, severity, frequency, recency, decayed history; each 0..1000.
    pub terms: [u16; 5],
    /// The action carries a violation …
    pub violates: bool,
    /// … of this severity, 0..1000; weaker ones are below [`VIOLATION_SEVERITY_MIN`].
    pub severity: u16,
}

/// What a history says by itself, each 0..1000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    /// 1000 for a violation just now, down to 0 for none within a day.
    pub recency: u16,
    /// 100 for each violation within an hour.
    pub frequency: u16,
}

/// The score by the rules: what behaviour, severity, frequency, recency and decayed history, each 0..1000, come to.
pub fn score_of(terms: [u16; 5]) -> u16 {
    let [b, s, f, r, decayed] = terms.map(u32::from);
    let fused = (3 * b + 3 * s + 2 * f + 2 * r) / 10;
    ((7 * fused + 3 * decayed) / 10).min(u32::from(SCORE_MAX)) as u16
}

impl RiskProfile {
    /// The tier of the stored score. It moves only when the profile learns, never by mere time, so that a command
    /// does not go stale while it waits.
    pub fn tier(&self) -> RiskTier {
        RiskTier::of(self.score)
    }

    /// The score, decayed to `now_ns`.
    pub fn decayed(&self, now_ns: u64) -> u16 {
        halve(self.score, now_ns.saturating_sub(self.at_ns))
    }

    /// What this action would make of the profile.
    ///
    /// `findings` are those of its behaviour, beside what the evaluation has.
    pub fn assess(&self, now_ns: u64, evaluation: &EvaluationV1, findings: &[DetectionV1]) -> Assessment {
        let severity = severity_of(evaluation, findings);
        let violates = severity >= VIOLATION_SEVERITY_MIN;
        let violations = self.violations.saturating_add(u64::from(violates));
        let terms = [
            behaviour(violations, self.judged.saturating_add(1), evaluation),
            severity,
            self.frequency(now_ns, violates),
            self.recency(now_ns, violates),
            self.decayed(now_ns),
        ];
        Assessment { score: score_of(terms), terms, violates, severity }
    }

    /// Makes an assessed action part of the history.
    pub fn learn(&mut self, now_ns: u64, assessment: &Assessment) {
        self.score = assessment.score;
        self.at_ns = now_ns;
        self.judged = self.judged.saturating_add(1);
        if assessment.violates {
            self.violations = self.violations.saturating_add(1);
            self.recent_ns.copy_within(..RECENT_MAX - 1, 1);
            self.recent_ns[0] = now_ns;
        }
    }

    /// How lately and how often the agent violated before an action at `now_ns`; none before its first action that counts.
    pub fn past(&self, now_ns: u64) -> Option<Past> {
        let past = Past { recency: self.recency(now_ns, false), frequency: self.frequency(now_ns, false) };
        (self.judged > 0).then_some(past)
    }

    fn frequency(&self, now_ns: u64, violates: bool) -> u16 {
        let remembered = RECENT_MAX.min(usize::try_from(self.violations).unwrap_or(RECENT_MAX));
        let recent = self.recent_ns[..remembered].iter().filter(|at| now_ns.saturating_sub(**at) < HOUR_NS).count();
        (recent + usize::from(violates)).min(RECENT_MAX) as u16 * (SCORE_MAX / RECENT_MAX as u16)
    }

    fn recency(&self, now_ns: u64, violates: bool) -> u16 {
        if violates {
            return SCORE_MAX;
        }
        if self.violations == 0 {
            return 0;
        }
        let age_ns = now_ns.saturating_sub(self.recent_ns[0]).min(DAY_NS);
        (u128::from(DAY_NS - age_ns) * u128::from(SCORE_MAX) / u128::from(DAY_NS)) as u16
    }
}

/// How bad the action is by itself: its worst detection, or what policy's blocking it says. From
/// [`VIOLATION_SEVERITY_MIN`] it violates. Escalation asks, it does not accuse; and limits and holds say nothing about
/// the action itself.
fn severity_of(evaluation: &EvaluationV1, findings: &[DetectionV1]) -> u16 {
    let by_policy = match evaluation.verdict.0 {
        Verdict::Terminate => TERMINATED_SEVERITY,
        Verdict::Block => BLOCKED_SEVERITY,
        Verdict::Allow | Verdict::Restrict | Verdict::Escalate => 0,
    };
    let found = evaluation.detections.iter().chain(findings).map(|found| found.severity).max().unwrap_or(0);
    by_policy.max(found).min(SCORE_MAX)
}

/// The share of violations, weighed by context: half as much again on privileged ground, a fifth more if unwatched.
fn behaviour(violations: u64, judged: u64, evaluation: &EvaluationV1) -> u16 {
    let mut share = u128::from(violations) * u128::from(SCORE_MAX) / u128::from(judged.max(1));
    if evaluation.privileged {
        share = share * 15 / 10;
    }
    if evaluation.automated {
        share = share * 12 / 10;
    }
    share.min(u128::from(SCORE_MAX)) as u16
}

/// `score · 2^(-age / 24 h)`, rounded down.
fn halve(score: u16, age_ns: u64) -> u16 {
    let days = age_ns / DAY_NS;
    if days >= 16 {
        return 0;
    }
    let hour = (age_ns % DAY_NS / HOUR_NS) as usize;
    let (left, right) = (u64::from(HALVING[hour]), u64::from(HALVING[hour + 1]));
    // 1,866 at most times 3.6e12: far from overflow.
    let factor = left - (left - right) * (age_ns % HOUR_NS) / HOUR_NS;
    ((u64::from(score) * factor) >> 16 >> days) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::VerdictWord;

    fn found(severity: u16) -> EvaluationV1 {
        EvaluationV1 { detections: vec![DetectionV1 { detector: 1, severity }], ..EvaluationV1::default() }
    }

    fn act(profile: &mut RiskProfile, now_ns: u64, evaluation: &EvaluationV1) -> Assessment {
        let assessment = profile.assess(now_ns, evaluation, &[]);
        profile.learn(now_ns, &assessment);
        assessment
    }

    #[test]
    fn a_benign_agent_stays_low_over_10_000_actions() {
        let mut profile = RiskProfile::default();
        for action in 0..10_000u64 {
            let evaluation = EvaluationV1 { privileged: action % 3 == 0, automated: true, ..EvaluationV1::default() };
            let assessment = act(&mut profile, action * 50_000_000, &evaluation);
            assert_eq!((assessment.score, profile.tier()), (0, RiskTier::Low), "action {action}");
        }
    }

    #[test]
    fn weak_findings_never_become_violations() {
        let mut profile = RiskProfile::default();
        for action in 0..10_000u64 {
            act(&mut profile, action * 1_000_000, &found(VIOLATION_SEVERITY_MIN - 1));
            assert_eq!((profile.tier(), profile.violations), (RiskTier::Low, 0));
        }
    }

    #[test]
    fn one_slip_rises_and_wears_off() {
        let mut profile = RiskProfile::default();
        for action in 0..100 {
            act(&mut profile, action * 1_000_000_000, &EvaluationV1::default());
        }
        let slip = act(&mut profile, 100_000_000_000, &found(500));
        assert_eq!(slip.terms, [9, 500, 100, 1_000, 0]);
        assert_eq!(slip.score, 260);
        let after = act(&mut profile, 101_000_000_000 + DAY_NS, &EvaluationV1::default());
        assert!(after.score < 50, "{after:?}");
    }

    #[test]
    fn an_agent_that_goes_on_violating_becomes_elevated() {
        let mut profile = RiskProfile::default();
        for action in 0..20u64 {
            act(&mut profile, action * 1_000_000_000, &found(750));
        }
        assert_eq!(profile.tier(), RiskTier::Elevated);
        assert_eq!(profile.decayed(profile.at_ns + DAY_NS), profile.score / 2);
    }

    #[test]
    fn blocked_by_policy_is_a_violation_and_escalated_is_not() {
        let word = |verdict| EvaluationV1 { verdict: VerdictWord(verdict), ..EvaluationV1::default() };
        let profile = RiskProfile::default();
        assert!(!profile.assess(1, &word(Verdict::Escalate), &[]).violates);
        assert_eq!(profile.assess(1, &word(Verdict::Block), &[]).terms[1], BLOCKED_SEVERITY);
        assert_eq!(profile.assess(1, &word(Verdict::Terminate), &[]).terms[1], TERMINATED_SEVERITY);
    }

    #[test]
    fn halving_follows_the_exponential_within_two_points_and_never_rises() {
        let mut last = SCORE_MAX;
        for minute in 0..60 * 24 * 20u64 {
            let exact = 1_000.0 * (-(minute as f64) / 1_440.0).exp2();
            let ours = halve(SCORE_MAX, minute * 60_000_000_000);
            assert!((exact - f64::from(ours)).abs() < 2.0, "minute {minute}: {exact} against {ours}");
            assert!(ours <= last);
            last = ours;
        }
        assert_eq!(halve(SCORE_MAX, u64::MAX), 0);
    }
}
