//! Acknowledged means durable (ARCHITECTURE.md, invariants; SPEC, guarantee 1): every decision that a client was told of
//! is in the logs, with the same verdict at the same place in the same leaf.

use super::Findings;

/// Decisions that were acknowledged and are not there as told.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let recorded = findings.recorded();
    let told = findings.operations.iter();
    let told = told.filter_map(|(request, operation)| operation.told.as_ref().map(|told| (request, told)));
    told.filter_map(|(request, told)| match recorded.get(request.as_str()).and_then(|found| found.first()) {
        None => Some(format!("{request} was acknowledged as {} and is in no log", told.id)),
        Some(found) if *found != told => Some(format!("{request} was told {told:?}; its leaf says {found:?}")),
        Some(_) => None,
    })
    .collect()
}
