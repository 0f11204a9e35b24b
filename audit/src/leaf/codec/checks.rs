//! What no leaf of ours has: lists over their bounds and numbers outside their ranges, before writing and after reading.

use super::{COSTS_MAX, DETECTIONS_MAX, FLAGS_KNOWN, LeafError, QUOTA_MAX, RULES_MAX};
use crate::leaf::{ApprovalLeaf, DecisionLeaf, HoldLeaf, ReservationLeaf};
use nethical_protocol::limits::REASONS_MAX;

pub(super) fn check_decision(decision: &DecisionLeaf) -> Result<(), LeafError> {
    let lists = [
        ("rules", decision.rules.len(), RULES_MAX),
        ("detections", decision.detections.len(), DETECTIONS_MAX),
        ("reasons", decision.reasons.len(), REASONS_MAX),
        ("costs", decision.costs.len(), COSTS_MAX),
        ("quota", decision.quota.len(), QUOTA_MAX),
    ];
    if let Some((name, ..)) = lists.into_iter().find(|(_, length, most)| length > most) {
        return Err(LeafError::List(name));
    }
    let ranges = [
        ("policy_verdict", decision.policy_verdict < 5),
        ("verdict", decision.verdict < 5),
        ("status", decision.status < 4),
        ("flags", decision.flags & !FLAGS_KNOWN == 0),
        ("risk", decision.risk <= 1_000),
        ("tier", decision.tier < 4),
        ("reserved", u32::from(decision.reserved) >> decision.costs.len() == 0),
        ("quota flags", decision.quota.iter().all(|quota| quota.flags < 6)),
    ];
    ranges.into_iter().find(|(_, fits)| !fits).map_or(Ok(()), |(name, _)| Err(LeafError::Range(name)))
}

pub(super) fn check_ended(ended: &ReservationLeaf) -> Result<(), LeafError> {
    match (ended.costs.len() <= COSTS_MAX, ended.quota.len() <= QUOTA_MAX) {
        (false, _) => Err(LeafError::List("costs")),
        (_, false) => Err(LeafError::List("quota")),
        _ if ended.end > 2 => Err(LeafError::Range("end")),
        _ if ended.quota.iter().any(|(quota, _)| quota.flags >= 6) => Err(LeafError::Range("quota flags")),
        _ => Ok(()),
    }
}

pub(super) fn check_approval(decided: &ApprovalLeaf) -> Result<(), LeafError> {
    if (1..=3).contains(&decided.state) { Ok(()) } else { Err(LeafError::Range("state")) }
}

pub(super) fn check_hold(hold: &HoldLeaf) -> Result<(), LeafError> {
    match (hold.effect < 2, hold.status < 4) {
        (false, _) => Err(LeafError::Range("effect")),
        (_, false) => Err(LeafError::Range("status")),
        _ => Ok(()),
    }
}
