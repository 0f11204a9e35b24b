//! Retry-After is the earliest instant at which the refused action would pass, and is kept (SPEC.md 2, quotas): an agent
//! that was refused by its own rate alone, and was allowed nothing since, is refused by it before that instant and never
//! after it.

use std::collections::BTreeMap;

use nethical_protocol::ids::KeyedId;

use super::{Findings, Recorded};
use crate::plan::OrderKind;
use crate::workload::SPREAD;

const VIOLATED: u8 = 1;

/// Agents that were told a wrong time to come back.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let changes = |kind: &OrderKind| matches!(kind, OrderKind::Pace { .. });
    if findings.plan.work.orders.iter().any(|order| changes(&order.order)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for log in findings.longest().into_values() {
        let mut told: BTreeMap<KeyedId, u64> = BTreeMap::new();
        for recorded in findings.decisions(log) {
            if recorded.operation.is_none_or(|operation| operation.tenant != SPREAD) {
                continue;
            }
            let agent = recorded.decision.agent;
            found.extend(told.get(&agent).and_then(|at_ns| judge(&recorded, *at_ns)));
            match refused_until(&recorded) {
                Some(at_ns) => drop(told.insert(agent, at_ns)),
                None if recorded.decision.verdict < 2 => drop(told.remove(&agent)),
                None => {}
            }
        }
    }
    found
}

/// When to come back, where the agent's own rate, the tenant's first limit, was the only one without room.
fn refused_until(recorded: &Recorded<'_>) -> Option<u64> {
    let mut violated = recorded.decision.quota.iter().enumerate().filter(|(_, quota)| quota.flags & VIOLATED != 0);
    match (violated.next(), violated.next()) {
        (Some((0, _)), None) => Some(recorded.leaf.now_ns + recorded.decision.retry_after_ns),
        _ => None,
    }
}

fn judge(recorded: &Recorded<'_>, told_ns: u64) -> Option<String> {
    let is_refused = recorded.decision.quota.first()?.flags & VIOLATED != 0;
    let now_ns = recorded.leaf.now_ns;
    (is_refused != (now_ns < told_ns)).then(|| {
        let (request, place) = (recorded.request, recorded.leaf.leaf_index);
        format!(
            "{request} at leaf {place}, {now_ns} ns: refused {is_refused}, and was told to come back at {told_ns} ns"
        )
    })
}
