//! What leaves say of limits follows from the leaves before them (ARCHITECTURE.md 2: judged in apply, at one position): a
//! budget falls by exactly what was allowed, is the refusing limit only where it would have been overspent, and is never
//! refilled within its day; every enforced limit without room is named, and none in shadow or soft mode is, also where
//! partitions share it. Rates are judged by
//! `admission`, waiting times by `retry`.

use std::collections::BTreeMap;

use nethical_audit::leaf::{DecisionLeaf, reason};
use nethical_protocol::ids::KeyedId;

use super::{Findings, Recorded};
use crate::workload::{SINGLE, SPREAD};

/// Bits of a limit's flags in a leaf.
const VIOLATED: u8 = 1;

/// Budgets whose record contradicts itself.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let (mut found, keep) = (Vec::new(), findings.plan.work.house.keep);
    for log in findings.longest().into_values() {
        let mut spent: BTreeMap<KeyedId, u64> = BTreeMap::new();
        for recorded in findings.decisions(log) {
            let Some(operation) = recorded.operation else { continue };
            if operation.tenant == SPREAD {
                found.extend(denies(&recorded));
            }
            if operation.tenant != SINGLE {
                continue;
            }
            let spent = spent.entry(recorded.decision.tenant).or_default();
            found.extend(judge(&recorded, (operation.credits, operation.is_critical), *spent, keep));
            found.extend(named(&recorded));
            if recorded.decision.verdict < 2 {
                *spent += operation.credits;
            }
        }
    }
    found
}

/// Every enforced limit without room is named as a reason, and none in shadow mode is.
fn named(recorded: &Recorded<'_>) -> Option<String> {
    let (decision, place) = (recorded.decision, recorded.leaf.leaf_index);
    let wrong = decision.quota.iter().find(|quota| {
        let enforced = quota.flags >> 1 == 0;
        is_named(decision, quota.limit) != (enforced && quota.flags & VIOLATED != 0)
    })?;
    let request = recorded.request;
    Some(format!("{request} at leaf {place}: limit {} and the reasons {:?} contradict", wrong.limit, decision.reasons))
}

/// A limit that refuses nobody is never a reason to deny.
fn denies(recorded: &Recorded<'_>) -> Option<String> {
    let (decision, place) = (recorded.decision, recorded.leaf.leaf_index);
    let mut counts = decision.quota.iter().filter(|quota| quota.flags >> 1 != 0);
    let denies = counts.find(|quota| is_named(decision, quota.limit))?;
    let request = recorded.request;
    Some(format!("{request} at leaf {place}: limit {} refuses nobody and is a reason", denies.limit))
}

fn is_named(decision: &DecisionLeaf, limit: u32) -> bool {
    let says = |(kind, number): &(u8, u64)| {
        [reason::QUOTA_EXCEEDED, reason::COST_ABOVE_CAP].contains(kind) && *number == u64::from(limit)
    };
    decision.reasons.iter().any(says)
}

/// Whether one decision's record of its budget follows from what was spent before.
fn judge(recorded: &Recorded<'_>, (credits, is_critical): (u64, bool), spent: u64, keep: u64) -> Option<String> {
    let (request, place) = (recorded.request, recorded.leaf.leaf_index);
    // The purse is the tenant's first limit.
    let budget = recorded.decision.quota.first()?;
    let allowed = recorded.decision.verdict < 2;
    let is_violated = budget.flags & VIOLATED != 0;
    // Orders may make the purse so small that less than what is to be kept is left to keep.
    let kept = if is_critical { 0 } else { keep.min(budget.cap.saturating_sub(1)) };
    let would_fit = spent + credits <= budget.cap - kept;
    let after = if allowed { spent + credits } else { spent };
    if is_violated == would_fit {
        let said = if is_violated { "refused" } else { "passed" };
        return Some(format!(
            "{request} at leaf {place}: {credits} credits {said}, with {spent} of {} spent before",
            budget.cap
        ));
    }
    let left = budget.cap.saturating_sub(after);
    (budget.remaining != left).then(|| {
        let said = budget.remaining;
        format!("{request} at leaf {place}: it says that {said} credits are left; {left} of {} are", budget.cap)
    })
}
