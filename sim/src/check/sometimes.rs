//! What runs must have shown for their checks to mean something. One run shows some of it; a campaign must show all.

use std::collections::{BTreeMap, BTreeSet};

use nethical_protocol::decision::Verdict;

use super::Findings;

/// Requests that a client had to make again.
pub const CALLED_AGAIN: &str = "a request needed more than one attempt";

/// Goals beside those that production code counts itself through `sometimes!`.
pub const GOALS: [&str; 9] = [
    "the rate limit refused something",
    "the budget ran out",
    "the budget that all partitions share ran out",
    "a quarantine stopped something",
    "a quarantine was released",
    "something was restricted",
    "something was blocked by policy",
    "a recorded outcome was answered again",
    CALLED_AGAIN,
];

/// The goals that a run has reached, and how often.
pub fn seen(findings: &Findings<'_>) -> BTreeMap<&'static str, u64> {
    let told: Vec<_> =
        findings.entries.iter().filter_map(|entry| entry.decision.as_ref().map(|(_, told)| told)).collect();
    let refused_by = |limit: &str| told.iter().filter(|told| told.violated.iter().any(|id| id == limit)).count();
    let quarantines = findings.history.quarantines();
    let held: BTreeSet<&str> =
        quarantines.iter().filter(|one| one.placed.is_some()).map(|one| one.agent.as_str()).collect();
    let stopped = findings.operations.values().filter(|operation| {
        held.contains(operation.agent.as_str())
            && operation.told.as_ref().is_some_and(|told| !told.verdict.is_allowed() && told.violated.is_empty())
    });
    let released = quarantines.iter().filter(|quarantine| quarantine.release_called.is_some());
    let with = |verdict: Verdict| told.iter().filter(move |told| told.verdict == verdict).count();
    let counts = [
        refused_by("pace"),
        refused_by("purse"),
        refused_by("fleet"),
        stopped.count(),
        released.count(),
        with(Verdict::Restrict),
        with(Verdict::Block),
        findings.history.replays() as usize,
        findings.operations.values().filter(|operation| operation.attempts > 1).count(),
    ];
    GOALS.into_iter().zip(counts).filter(|(_, count)| *count > 0).map(|(goal, count)| (goal, count as u64)).collect()
}
