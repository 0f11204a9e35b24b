//! Log time (ARCHITECTURE.md 9): it never goes back along a log, whatever clocks did, and is never ahead of true time by
//! more than the allowed error of clocks, twice, and the slew.

use super::{Findings, Log};
use crate::clock::EPOCH_NS;

/// A leader's wall may be off the median by 250 ms, and the median off the truth by as much.
const AHEAD_NS_MAX: u64 = 600_000_000;

/// Leaves at impossible times.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let end_ns = EPOCH_NS + (findings.plan.length_ms + 120_000) * 1_000_000 + AHEAD_NS_MAX;
    findings.longest().into_values().flat_map(|log| in_log(log, end_ns)).collect()
}

fn in_log(log: &Log, end_ns: u64) -> Vec<String> {
    let mut found = Vec::new();
    for pair in log.leaves.windows(2) {
        let place = format!("group {} leaf {}", pair[1].group, pair[1].leaf_index);
        if pair[1].now_ns < pair[0].now_ns {
            found.push(format!("{place} is {} ns before the leaf in front of it", pair[0].now_ns - pair[1].now_ns));
        }
        if pair[1].term < pair[0].term {
            found.push(format!("{place} is of term {}, after term {}", pair[1].term, pair[0].term));
        }
        if pair[1].now_ns > end_ns {
            found.push(format!("{place} lies {} ms after the end of the run", (pair[1].now_ns - end_ns) / 1_000_000));
        }
    }
    found
}
