//! Every number of the doors and the process, defined once. Dashboards and alerts use these names (the older system's, kept).
//!
//! Counting is per batch, never per action; labels are verdicts, doors and codes, never names of tenants or agents.

use std::collections::BTreeMap;
use std::sync::Once;
use std::time::{Duration, Instant};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use nethical_cluster::alarms::ALARMS_TOTAL;
use nethical_cluster::overshoot::OVERSHOOT_TOTAL;
use nethical_cluster::scores::{SCORERS, SCORES_TOTAL};
use nethical_cluster::store::damage::{DAMAGED_LEAVES, REPAIRED_LEAVES_TOTAL, SCRUBBED_BYTES_TOTAL};
use nethical_cluster::store::search::INDEXES_REBUILT;
use nethical_cluster::store::warm::{DROPPED_TOTAL, MOVES_FAILED_TOTAL, MOVES_TOTAL};
use nethical_cluster::text::file::DAMAGED_TOTAL as TEXT_DAMAGED_TOTAL;
use nethical_cluster::text::tend::{BYTES as TEXT_BYTES, FAILED_TOTAL as TEXT_FAILED_TOTAL, INDEXED_TOTAL};
use nethical_cluster::tier::cold::{FAILED_TOTAL, PUTS_TOTAL};
use nethical_cluster::tier::files::KEYS_GIVEN_TOTAL;
use nethical_cluster::tier::promoted::{BYTES as PROMOTED_BYTES, HITS_TOTAL, PROMOTED_TOTAL};
use nethical_cluster::tier::{TIER_BYTES, TIER_SEGMENTS};
use nethical_cluster::witness::{CONFLICTS_TOTAL, COSIGNED_TOTAL};
use nethical_governance::correlate::Pattern;
use nethical_protocol::decision::{ItemAnswer, Verdict};
use nethical_protocol::error::Code;

/// Actions decided, by verdict and door.
pub const ACTIONS_TOTAL: &str = "nethical_actions_total";
/// Agents whose actor lives on this node; set by the node, which knows its partitions.
pub const ACTIVE_AGENTS: &str = "nethical_active_agents";
/// Bytes in the node's data folder.
pub const STORAGE_BYTES: &str = "nethical_storage_bytes";
/// From a request's decoding to its answer, by door.
pub const LATENCY_SECONDS: &str = "nethical_latency_seconds";
/// Problems answered, by code.
pub const ERRORS_TOTAL: &str = "nethical_errors_total";
/// CPU that the process used since the last scrape; 100 is one core.
pub const CPU_USAGE_PERCENT: &str = "nethical_cpu_usage_percent";
/// Resident memory of the process.
pub const RESIDENT_BYTES: &str = "nethical_resident_memory_bytes";

/// Names that are always present at `/metrics`.
#[cfg(test)]
pub const PROMISED: [&str; 27] = [
    ACTIONS_TOTAL,
    ACTIVE_AGENTS,
    STORAGE_BYTES,
    LATENCY_SECONDS,
    ERRORS_TOTAL,
    CPU_USAGE_PERCENT,
    RESIDENT_BYTES,
    OVERSHOOT_TOTAL,
    SCORES_TOTAL,
    DAMAGED_LEAVES,
    REPAIRED_LEAVES_TOTAL,
    SCRUBBED_BYTES_TOTAL,
    TIER_BYTES,
    TIER_SEGMENTS,
    MOVES_TOTAL,
    MOVES_FAILED_TOTAL,
    DROPPED_TOTAL,
    PUTS_TOTAL,
    FAILED_TOTAL,
    KEYS_GIVEN_TOTAL,
    TEXT_BYTES,
    TEXT_DAMAGED_TOTAL,
    TEXT_FAILED_TOTAL,
    INDEXED_TOTAL,
    ALARMS_TOTAL,
    COSIGNED_TOTAL,
    CONFLICTS_TOTAL,
];

/// Half a millisecond to the longest deadline; 0.2 and 0.5 are the alerts' thresholds.
pub const LATENCY_BUCKETS_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0, 30.0];

/// One request with its actions, from decoding to answer.
pub struct Batch {
    door: &'static str,
    started: Instant,
}

impl Batch {
    /// Starts the request's time.
    pub fn start(door: &'static str) -> Self {
        Self { door, started: now() }
    }

    /// Counts the answers, ends the request's time and tells it.
    pub fn finish(self, answers: &[ItemAnswer]) -> Duration {
        let mut verdicts = [0u64; Verdict::ALL.len()];
        let mut codes: BTreeMap<&'static str, u64> = BTreeMap::new();
        for answer in answers {
            match &answer.result {
                Ok(decision) => verdicts[decision.verdict as usize] += 1,
                Err(problem) => *codes.entry(problem.code.as_str()).or_default() += 1,
            }
        }
        for (verdict, count) in Verdict::ALL.into_iter().zip(verdicts).filter(|(_, count)| *count > 0) {
            counter!(ACTIONS_TOTAL, "verdict" => verdict.as_str(), "door" => self.door).increment(count);
        }
        for (code, count) in codes {
            counter!(ERRORS_TOTAL, "code" => code).increment(count);
        }
        let took = now().duration_since(self.started);
        histogram!(LATENCY_SECONDS, "door" => self.door).record(took.as_secs_f64());
        took
    }
}

/// Counts a problem that answered a whole request.
pub fn count_problem(code: Code) {
    counter!(ERRORS_TOTAL, "code" => code.as_str()).increment(1);
}

/// Makes every promised series exist, so that rates start from zero and alerts resolve.
pub fn touch() {
    for door in ["http", "quic"] {
        for verdict in Verdict::ALL {
            counter!(ACTIONS_TOTAL, "verdict" => verdict.as_str(), "door" => door).increment(0);
        }
    }
    counter!(ERRORS_TOTAL, "code" => Code::Overloaded.as_str()).increment(0);
    gauge!(ACTIVE_AGENTS).increment(0.0);
    gauge!(STORAGE_BYTES).increment(0.0);
    gauge!(CPU_USAGE_PERCENT).increment(0.0);
    gauge!(RESIDENT_BYTES).increment(0.0);
    counter!(OVERSHOOT_TOTAL).increment(0);
    gauge!(DAMAGED_LEAVES).increment(0.0);
    counter!(REPAIRED_LEAVES_TOTAL).increment(0);
    counter!(SCRUBBED_BYTES_TOTAL).increment(0);
    for tier in ["hot", "warm", "cold"] {
        gauge!(TIER_BYTES, "tier" => tier).increment(0.0);
        gauge!(TIER_SEGMENTS, "tier" => tier).increment(0.0);
    }
    for total in [MOVES_TOTAL, MOVES_FAILED_TOTAL, DROPPED_TOTAL, PUTS_TOTAL, FAILED_TOTAL, KEYS_GIVEN_TOTAL] {
        counter!(total).increment(0);
    }
    gauge!(TEXT_BYTES).increment(0.0);
    for total in [TEXT_DAMAGED_TOTAL, TEXT_FAILED_TOTAL, INDEXED_TOTAL] {
        counter!(total).increment(0);
    }
    for pattern in Pattern::ALL {
        counter!(ALARMS_TOTAL, "pattern" => pattern.as_str()).increment(0);
    }
    counter!(COSIGNED_TOTAL).increment(0);
    counter!(CONFLICTS_TOTAL).increment(0);
    for scorer in SCORERS {
        for agrees in ["true", "false"] {
            counter!(SCORES_TOTAL, "scorer" => scorer, "agrees" => agrees).increment(0);
        }
    }
}

/// Tells the recorder what each name means.
pub fn describe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        describe_counter!(ACTIONS_TOTAL, "Actions decided, by verdict and door");
        describe_gauge!(ACTIVE_AGENTS, "Agents whose actor lives on this node");
        describe_gauge!(STORAGE_BYTES, Unit::Bytes, "Bytes in the node's data folder");
        describe_histogram!(LATENCY_SECONDS, Unit::Seconds, "From a request's decoding to its answer, by door");
        describe_counter!(ERRORS_TOTAL, "Problems answered, by code");
        describe_gauge!(CPU_USAGE_PERCENT, "CPU used by the process since the last scrape; 100 is one core");
        describe_gauge!(RESIDENT_BYTES, Unit::Bytes, "Resident memory of the process");
        describe_counter!(OVERSHOOT_TOTAL, "Units let through beyond limits, added up from sealed leaves; must stay 0");
        describe_gauge!(DAMAGED_LEAVES, "Audit entries whose copy on this node is damaged; must go back to 0");
        describe_counter!(REPAIRED_LEAVES_TOTAL, "Audit entries put back into damaged segments");
        describe_counter!(SCRUBBED_BYTES_TOTAL, Unit::Bytes, "Closed audit segments read again");
        describe_gauge!(TIER_BYTES, Unit::Bytes, "Files of closed audit segments, by tier");
        describe_gauge!(TIER_SEGMENTS, "Closed audit segments, by tier");
        describe_counter!(MOVES_TOTAL, "Audit segments moved to the warm tier, or made anew there");
        describe_counter!(MOVES_FAILED_TOTAL, "Moves to the warm tier that failed; they are tried again");
        describe_counter!(DROPPED_TOTAL, "Bodies dropped from this node's audit segments");
        describe_counter!(PUTS_TOTAL, "Files stored in the cold tier, or made anew there");
        describe_counter!(FAILED_TOTAL, "Moves to or from the object store that failed; they are tried again");
        describe_counter!(KEYS_GIVEN_TOTAL, "Keys of cold files that were given out");
        describe_gauge!(
            PROMOTED_BYTES,
            Unit::Bytes,
            "Parts of cold files on this node's disk, since they were read again"
        );
        describe_counter!(PROMOTED_TOTAL, "Parts of cold files that were kept on this node's disk");
        describe_counter!(HITS_TOTAL, "Reads of a part of a cold file that this node's disk answered");
        describe_gauge!(TEXT_BYTES, Unit::Bytes, "Text indexes on this node");
        describe_counter!(TEXT_DAMAGED_TOTAL, "Text indexes that did not read; they are made again");
        describe_counter!(TEXT_FAILED_TOTAL, "Tries to make a text index that failed; they are repeated");
        describe_counter!(INDEXED_TOTAL, "Bodies whose words were indexed");
        describe_counter!(ALARMS_TOTAL, "Alarms about what many agents do together, by pattern");
        describe_counter!(INDEXES_REBUILT, "Damaged search indexes of audit segments that were made again in memory");
        describe_counter!(COSIGNED_TOTAL, "Cosignatures of the cluster log by witnesses that this node kept");
        describe_counter!(CONFLICTS_TOTAL, "Witnesses that saw another history of the cluster log; must stay 0");
        describe_counter!(SCORES_TOTAL, "Scores held against the rules', by scorer and whether they agree within 100");
        touch();
    });
}

#[allow(clippy::disallowed_methods, reason = "measures this process from its outermost layer; decides nothing")]
fn now() -> Instant {
    Instant::now()
}
