//! Linearizability by log position (Herlihy and Wing 1990; the order is known, so the check is linear in time): what was
//! answered before something else was asked for stands before it in its log. With `quota` and `hold`, which replay each
//! log in that order, the ledger is linearizable per key.

use std::time::Duration;

use super::Findings;

/// Decisions whose order in the log contradicts the order that clients saw.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for log in findings.longest().into_values() {
        let decisions: Vec<_> = findings.decisions(log).collect();
        // From the end on: the earliest answer to anything that stands later.
        let mut earliest: Option<(Duration, &str)> = None;
        for recorded in decisions.iter().rev() {
            let Some(operation) = recorded.operation else { continue };
            if let Some((answered, later)) = earliest
                && answered < operation.invoked
            {
                let place = recorded.leaf.leaf_index;
                let request = recorded.request;
                found.push(format!(
                    "{request} at leaf {place} of group {} was asked for at {:?}, after {later}, which stands behind it, was \
                     answered at {answered:?}",
                    recorded.leaf.group, operation.invoked
                ));
            }
            if let Some(answered) = operation.answered
                && earliest.is_none_or(|(so_far, _)| answered < so_far)
            {
                earliest = Some((answered, recorded.request));
            }
        }
    }
    found
}
