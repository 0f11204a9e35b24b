//! One decision a request id (ARCHITECTURE.md 8): across retries, failover, restarts and snapshots a request has one leaf
//! at most, and every answer to it is the same.

use super::Findings;

/// Requests that were executed twice, or answered in two ways.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let mut found = findings.history.contradictions();
    let recorded = findings.recorded();
    let twice = recorded.iter().filter(|(_, told)| told.len() > 1);
    found.extend(twice.map(|(request, told)| {
        let places: Vec<String> = told.iter().map(|told| told.id.to_string()).collect();
        format!("{request} has {} leaves: {}", told.len(), places.join(", "))
    }));
    found
}
