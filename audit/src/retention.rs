//! Which class of retention a body is of: a function of its leaf alone, so that anybody can recompute it (FORMATS.md, 3a).
//!
//! How long a class is kept is the tenant's to say, and nothing in here knows it.

use nethical_protocol::decision::Verdict;
use nethical_protocol::retention::RetentionClass;

use crate::leaf::{DecisionLeaf, LeafEvent, reason};

/// The first risk tier that is not routine, as leaves number them.
pub const TIER_HIGH: u8 = 2;
/// Bit of a limit's flags in a leaf: it was violated.
const VIOLATED: u8 = 1;

/// The class of the body behind a leaf; none where a leaf has no body that is sealed.
pub fn class_of(event: &LeafEvent) -> Option<RetentionClass> {
    match event {
        LeafEvent::Decision(found) if is_routine(found) => Some(RetentionClass::Routine),
        LeafEvent::Decision(_) => Some(RetentionClass::Notable),
        LeafEvent::HoldPlaced(_) | LeafEvent::HoldLifted(_) | LeafEvent::ApprovalDecided(_) => {
            Some(RetentionClass::Administrative)
        }
        LeafEvent::Control { .. }
        | LeafEvent::EraOpened { .. }
        | LeafEvent::ReservationEnded(_)
        | LeafEvent::DenialsRepeated(_)
        | LeafEvent::SubjectsErased(_) => None,
    }
}

/// Allowed as it was, at low or normal risk, with no limit violated in any mode.
fn is_routine(found: &DecisionLeaf) -> bool {
    let is_quiet = found.verdict == Verdict::Allow as u8 && found.tier < TIER_HIGH;
    let is_within = found.quota.iter().all(|quota| quota.flags & VIOLATED == 0);
    let names_limit = |(kind, _): &(u8, u64)| [reason::QUOTA_EXCEEDED, reason::COST_ABOVE_CAP].contains(kind);
    is_quiet && is_within && !found.reasons.iter().any(names_limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::{ErasedLeaf, QuotaLeaf};

    fn class(change: impl FnOnce(&mut DecisionLeaf)) -> RetentionClass {
        let mut found = DecisionLeaf::default();
        change(&mut found);
        class_of(&LeafEvent::Decision(Box::new(found))).expect("a decision has a body")
    }

    #[test]
    fn what_is_allowed_at_low_risk_and_within_all_limits_is_routine_and_nothing_else_is() {
        let quota = |flags| QuotaLeaf { limit: 1, cap: 2, remaining: 0, reset_ns: 0, flags };
        assert_eq!(class(|_| {}), RetentionClass::Routine);
        assert_eq!(class(|found| found.tier = TIER_HIGH - 1), RetentionClass::Routine);
        assert_eq!(class(|found| found.quota = vec![quota(0b010)]), RetentionClass::Routine);
        assert_eq!(class(|found| found.tier = TIER_HIGH), RetentionClass::Notable);
        assert_eq!(class(|found| found.quota = vec![quota(0), quota(0b011)]), RetentionClass::Notable, "in the shadow");
        assert_eq!(class(|found| found.reasons = vec![(reason::QUOTA_EXCEEDED, 1)]), RetentionClass::Notable);
        for verdict in &Verdict::ALL[1..] {
            assert_eq!(class(|found| found.verdict = *verdict as u8), RetentionClass::Notable, "{}", verdict.as_str());
        }
    }

    #[test]
    fn leaves_without_a_sealed_body_have_no_class() {
        assert_eq!(class_of(&LeafEvent::Control { from_rev: 1, to_rev: 2 }), None);
        assert_eq!(class_of(&LeafEvent::SubjectsErased(Vec::<ErasedLeaf>::new())), None);
    }
}
