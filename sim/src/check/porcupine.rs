//! A second opinion on linearizability, without knowing the log: the search of Wing and Gong with Lowe's cache, as
//! porcupine-rs does it, over what clients of one budget saw. What had no answer may have happened at any later time.
//!
//! The search is exponential in what happens at once, so it is asked only of histories that are narrow enough.

use super::Findings;

#[cfg(feature = "probes")]
mod search;

/// Histories of a budget that no order explains.
#[cfg(feature = "probes")]
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    search::check(findings)
}

/// No opinion: the search comes with the simulator's own build.
#[cfg(not(feature = "probes"))]
pub fn check(_: &Findings<'_>) -> Vec<String> {
    Vec::new()
}
