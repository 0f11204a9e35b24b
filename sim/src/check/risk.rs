//! The risk that a leaf tells follows from the leaf alone (docs/scores.md): the rules' score of its terms, or in the gray zone
//! the blend with the model's score that its reason names; a blend of 700 and more is never allowed without restriction.

use nethical_audit::leaf::{DecisionLeaf, LeafEvent, reason};
use nethical_governance::risk::score_of;
use nethical_governance::scores::{DENY_SCORE_MIN, blend};
use nethical_protocol::decision::Verdict;

use super::Findings;

/// Leaves whose risk is another one.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let logs = findings.longest();
    let leaves = logs.values().flat_map(|log| &log.leaves);
    let wrong = leaves.filter_map(|leaf| {
        let LeafEvent::Decision(decision) = &leaf.event else { return None };
        Some(format!("group {} leaf {} {}", leaf.group, leaf.leaf_index, judge(decision)?))
    });
    wrong.collect()
}

fn judge(decision: &DecisionLeaf) -> Option<String> {
    let (rule, risk) = (score_of(decision.risk_terms), decision.risk);
    let Some((_, number)) = decision.reasons.iter().find(|(kind, _)| *kind == reason::BLENDED) else {
        return (risk != rule).then(|| format!("has risk {risk}, and the rules give {rule}"));
    };
    let (named, model) = ((number >> 16) as u16, *number as u16);
    if (named, blend(rule, model)) != (rule, Some(risk)) {
        return Some(format!("has risk {risk}, blended from {named} and {model}; the rules give {rule}"));
    }
    let is_free = decision.verdict == Verdict::Allow as u8 && risk >= DENY_SCORE_MIN;
    is_free.then(|| format!("is allowed without restriction at a blended risk of {risk}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(terms: u16, risk: u16, verdict: Verdict, blended: Option<(u64, u64)>) -> DecisionLeaf {
        let reasons = blended.map(|(rule, model)| (reason::BLENDED, rule << 16 | model)).into_iter().collect();
        DecisionLeaf { risk_terms: [terms; 5], risk, verdict: verdict as u8, reasons, ..DecisionLeaf::default() }
    }

    #[test]
    fn risks_that_do_not_follow_are_found() {
        for (leaf, is_wrong) in [
            (leaf(500, 500, Verdict::Allow, None), false),
            (leaf(500, 499, Verdict::Allow, None), true),
            (leaf(500, 650, Verdict::Allow, Some((500, 1_000))), false),
            (leaf(500, 650, Verdict::Allow, Some((500, 999))), true),
            (leaf(500, 650, Verdict::Allow, Some((501, 1_000))), true),
            (leaf(700, 700, Verdict::Allow, Some((700, 700))), true),
            (leaf(600, 720, Verdict::Restrict, Some((600, 1_000))), false),
            (leaf(600, 720, Verdict::Allow, Some((600, 1_000))), true),
        ] {
            assert_eq!(judge(&leaf).is_some(), is_wrong, "{leaf:?}");
        }
    }
}
