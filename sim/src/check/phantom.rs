//! Nothing is recorded that nobody asked for, or whose asker was told that it did not happen (ARCHITECTURE.md 15: refused
//! means that it did not happen).

use super::Findings;

/// Decisions out of nothing.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let recorded = findings.recorded();
    let phantom = |request: &&str| match findings.operations.get(*request) {
        None => Some(format!("{request:?} is recorded and nobody asked for it")),
        Some(operation) => operation.refused.map(|code| format!("{request} was refused as {code} and is recorded")),
    };
    recorded.keys().filter_map(phantom).collect()
}
