//! Every number of the doors, defined once. Dashboards and alerts use these names (the older system's, kept).
//!
//! Counting is per batch, never per action; labels are verdicts, doors and codes, never names of tenants or agents.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{LazyLock, Once};
use std::time::{Duration, Instant};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use parking_lot::Mutex;

use nethical_protocol::action::Action;
use nethical_protocol::decision::{ItemAnswer, Verdict};
use nethical_protocol::error::Code;

/// Actions decided, by verdict and door.
pub const ACTIONS_TOTAL: &str = "nethical_actions_total";
/// Agents that sent an action to this node's doors lately.
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
pub const PROMISED: [&str; 7] =
    [ACTIONS_TOTAL, ACTIVE_AGENTS, STORAGE_BYTES, LATENCY_SECONDS, ERRORS_TOTAL, CPU_USAGE_PERCENT, RESIDENT_BYTES];

/// Half a millisecond to the longest deadline; 0.2 and 0.5 are the alerts' thresholds.
pub const LATENCY_BUCKETS_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0, 30.0];

/// An agent counts as active this long after its last action, and up to twice as long.
const ACTIVE_FOR: Duration = Duration::from_secs(60);
/// Agents counted per generation (8 B each, so 2 MiB in all); more are not told apart.
const ACTIVE_AGENTS_MAX: usize = 131_072;

static ACTIVE: LazyLock<Mutex<ActiveAgents>> = LazyLock::new(|| Mutex::new(ActiveAgents::new(now())));

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

    /// Notes whose actions these are.
    pub fn note_agents(&self, actions: &[Action]) {
        ACTIVE.lock().note(self.started, actions);
    }

    /// Counts the answers and ends the request's time.
    pub fn finish(self, answers: &[ItemAnswer]) {
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
        histogram!(LATENCY_SECONDS, "door" => self.door).record(now().duration_since(self.started).as_secs_f64());
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
    gauge!(STORAGE_BYTES).increment(0.0);
    gauge!(CPU_USAGE_PERCENT).increment(0.0);
    gauge!(RESIDENT_BYTES).increment(0.0);
}

/// Sets the gauges that are computed when somebody looks.
pub fn refresh() {
    let count = ACTIVE.lock().count(now());
    gauge!(ACTIVE_AGENTS).set(count as f64);
}

/// Tells the recorder what each name means.
pub fn describe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        describe_counter!(ACTIONS_TOTAL, "Actions decided, by verdict and door");
        describe_gauge!(ACTIVE_AGENTS, "Agents that sent an action to this node's doors in the last one to two minutes");
        describe_gauge!(STORAGE_BYTES, Unit::Bytes, "Bytes in the node's data folder");
        describe_histogram!(LATENCY_SECONDS, Unit::Seconds, "From a request's decoding to its answer, by door");
        describe_counter!(ERRORS_TOTAL, "Problems answered, by code");
        describe_gauge!(CPU_USAGE_PERCENT, "CPU used by the process since the last scrape; 100 is one core");
        describe_gauge!(RESIDENT_BYTES, Unit::Bytes, "Resident memory of the process");
        touch();
    });
}

/// Distinct agents in two generations, so that forgetting costs nothing.
struct ActiveAgents {
    hasher: RandomState,
    since: Instant,
    current: HashSet<u64>,
    previous: HashSet<u64>,
}

impl ActiveAgents {
    fn new(since: Instant) -> Self {
        Self { hasher: RandomState::new(), since, current: HashSet::new(), previous: HashSet::new() }
    }

    fn note(&mut self, now: Instant, actions: &[Action]) {
        self.turn(now);
        for action in actions {
            if self.current.len() >= ACTIVE_AGENTS_MAX {
                return;
            }
            self.current.insert(self.hasher.hash_one((&action.tenant, &action.agent)));
        }
    }

    fn count(&mut self, now: Instant) -> usize {
        self.turn(now);
        self.current.union(&self.previous).count()
    }

    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < ACTIVE_FOR {
            return;
        }
        self.previous = std::mem::take(&mut self.current);
        if age >= ACTIVE_FOR * 2 {
            self.previous.clear();
        }
        self.since = now;
    }
}

#[allow(clippy::disallowed_methods, reason = "measures this process from its outermost layer; decides nothing")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::scripted::action;

    #[test]
    fn agents_are_counted_once_and_forgotten_after_two_minutes() {
        let start = now();
        let mut agents = ActiveAgents::new(start);
        let other = Action { agent: "other".into(), ..action("c") };
        agents.note(start, &[action("a"), action("b"), other]);
        assert_eq!(agents.count(start), 2, "two requests of one agent are one agent");
        assert_eq!(agents.count(start + ACTIVE_FOR), 2, "the last generation still counts");
        agents.note(start + ACTIVE_FOR, &[action("d")]);
        assert_eq!(agents.count(start + ACTIVE_FOR), 2, "an agent in both generations is one agent");
        assert_eq!(agents.count(start + ACTIVE_FOR * 2), 1);
        assert_eq!(agents.count(start + ACTIVE_FOR * 9), 0);
    }
}
