//! The warm tier loses nothing and keeps nothing that is to go (ARCHITECTURE.md 4 and 5): no body of a living subject is dropped,
//! and none of an erased one is left in a warm segment.

use super::Findings;

/// What is dropped and should not be, or the other way round.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    findings.misplaced.clone()
}
