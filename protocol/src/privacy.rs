//! Aggregates that leave a zone: how private they are, what is asked for and what is answered.
//!
//! Counts of decisions over a window of log time. Nothing is counted and no noise is drawn here; `cluster` does.

use serde::{Deserialize, Serialize};

use crate::decision::Decision;
use crate::error::{Code, Problem};
use crate::limits::{
    AGGREGATE_CELLS_MAX, AGGREGATE_CLOSED_AFTER_MS, AGGREGATE_PER_AGENT_MAX, EPSILON_MICROS_MAX, EPSILON_MICROS_MIN,
    NAME_BYTES_MAX,
};

/// The subject for which every export is decided. Agents cannot act under its name.
pub const EXPORT_SUBJECT: &str = "nethical:export";
/// The name of the action that an export is.
pub const EXPORT_ACTION: &str = "aggregate.export";
/// The unit in which limits count what exports cost: millionths of ε.
pub const EPSILON_UNIT: &str = "epsilon_micros";
/// What an export costs where it does not say.
pub const EPSILON_MICROS_DEFAULT: u64 = 500_000;
/// What one agent may add to the counts of an export where it does not say.
pub const PER_AGENT_DEFAULT: u32 = 10;
/// The cell of what belongs to no cell that is named.
pub const OTHER_CELL: &str = "(other)";

/// How a tenant's aggregates are exported.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum PrivacyMode {
    /// Exact counts.
    #[default]
    Standard,
    /// Counts with noise, each charged to a limit in [`EPSILON_UNIT`].
    Differential,
}

impl PrivacyMode {
    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        ["standard", "differential"][self as usize]
    }
}

/// What decisions are counted by.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum AggregateBy {
    /// The verdict.
    Verdict,
    /// The action's kind.
    Kind,
    /// The agent's risk tier.
    Tier,
    /// The risk score, in hundreds.
    Risk,
    /// Where the agent stood afterwards.
    Status,
    /// What was found; an action in which several things were found counts in several cells.
    Detector,
    /// The rules that determined policy's verdict; several of them count in several cells.
    Rule,
    /// The action's name.
    Tool,
    /// The agent's cohort.
    Cohort,
    /// The region.
    Region,
}

impl AggregateBy {
    /// All of them.
    pub const ALL: [AggregateBy; 10] = [
        AggregateBy::Verdict,
        AggregateBy::Kind,
        AggregateBy::Tier,
        AggregateBy::Risk,
        AggregateBy::Status,
        AggregateBy::Detector,
        AggregateBy::Rule,
        AggregateBy::Tool,
        AggregateBy::Cohort,
        AggregateBy::Region,
    ];

    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        ["verdict", "kind", "tier", "risk", "status", "detector", "rule", "tool", "cohort", "region"][self as usize]
    }

    /// From the JSON word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == word)
    }

    /// True where nobody but the caller knows the cells: their names come from clients, and to list those that occur would
    /// tell who was there.
    pub fn needs_cells(self) -> bool {
        matches!(self, Self::Tool | Self::Cohort | Self::Region)
    }

    /// True where the caller may name cells.
    pub fn takes_cells(self) -> bool {
        self.needs_cells() || self == Self::Rule
    }
}

/// One export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregateQuery {
    /// Whose decisions.
    pub tenant: String,
    /// What they are counted by.
    pub by: AggregateBy,
    /// The cells that are asked for, of [`AggregateBy::takes_cells`]; the others have theirs.
    pub cells: Vec<String>,
    /// From this log time on, nanoseconds since 1970.
    pub from_ns: u64,
    /// Before this log time.
    pub to_ns: u64,
    /// What it may cost, in millionths of ε; only of a tenant in mode `differential`.
    pub epsilon_micros: Option<u64>,
    /// What one agent may add to all counts together; only of a tenant in mode `differential`.
    pub per_agent_max: Option<u32>,
    /// The idempotency key: the same export again is answered with the same numbers and charged once.
    pub request_id: String,
    /// False where the door made it.
    pub client_chosen: bool,
    /// The time inside the id or beside it, milliseconds since 1970.
    pub issued_at_ms: u64,
    /// The approval that the export claims; empty for none.
    pub approval: String,
}

impl AggregateQuery {
    /// Checks every bound that does not hang on the tenant.
    ///
    /// # Errors
    /// `malformed-request` or `too-large`, with the field.
    pub fn check(&self) -> Result<(), Problem> {
        let wrong = |detail: String| Err(Problem::new(Code::MalformedRequest, detail));
        if self.from_ns >= self.to_ns {
            return wrong("from_ns must be before to_ns".to_owned());
        }
        if self.by.needs_cells() && self.cells.is_empty() {
            return wrong(format!("cells: name each {} that is to be counted", self.by.as_str()));
        }
        if !self.by.takes_cells() && !self.cells.is_empty() {
            return wrong(format!("cells: counts by {} have cells of their own", self.by.as_str()));
        }
        if self.cells.len() > AGGREGATE_CELLS_MAX {
            let detail = format!("{} cells; at most {AGGREGATE_CELLS_MAX} are accepted", self.cells.len());
            return Err(Problem::new(Code::TooLarge, detail));
        }
        let is_name = |cell: &String| (1..=NAME_BYTES_MAX).contains(&cell.len()) && cell != OTHER_CELL;
        if !self.cells.iter().all(is_name) {
            return wrong(format!("cells: each has 1 to {NAME_BYTES_MAX} bytes, and none is {OTHER_CELL:?}"));
        }
        let mut sorted: Vec<&String> = self.cells.iter().collect();
        sorted.sort();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return wrong("cells: one is named twice".to_owned());
        }
        if self.epsilon_micros.is_some_and(|micros| !(EPSILON_MICROS_MIN..=EPSILON_MICROS_MAX).contains(&micros)) {
            return wrong(format!("epsilon_micros must be {EPSILON_MICROS_MIN} to {EPSILON_MICROS_MAX}"));
        }
        if self.per_agent_max.is_some_and(|most| !(1..=AGGREGATE_PER_AGENT_MAX).contains(&most)) {
            return wrong(format!("per_agent_max must be 1 to {AGGREGATE_PER_AGENT_MAX}"));
        }
        Ok(())
    }

    /// Checks that the window is over by a clock: what is counted must never change, or a repeat would be another count.
    ///
    /// # Errors
    /// `malformed-request`.
    pub fn check_closed(&self, wall_ns: u64) -> Result<(), Problem> {
        let closed_ns = wall_ns.saturating_sub(AGGREGATE_CLOSED_AFTER_MS * 1_000_000);
        if self.to_ns <= closed_ns {
            return Ok(());
        }
        let seconds = AGGREGATE_CLOSED_AFTER_MS / 1_000;
        let detail = format!("to_ns must be at least {seconds} s ago: now it is at most {closed_ns}");
        Err(Problem::new(Code::MalformedRequest, detail))
    }
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregateView {
    /// Whose decisions.
    pub tenant: String,
    /// How they were exported.
    pub mode: PrivacyMode,
    /// What they are counted by.
    pub by: AggregateBy,
    /// From this log time on, nanoseconds since 1970.
    pub from_ns: u64,
    /// Before this log time.
    pub to_ns: u64,
    /// The counts, in a fixed order.
    pub cells: Vec<AggregateCell>,
    /// What was done to the counts; absent where they are exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseView>,
    /// The decision by which this was allowed and charged, with its place in the audit trail.
    pub decision: Decision,
}

/// One count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AggregateCell {
    /// Which.
    pub cell: String,
    /// Decisions; with noise it may be below zero.
    pub count: i64,
}

/// What stands between a count and its truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoiseView {
    /// What the export cost, in millionths of ε.
    pub epsilon_micros: u64,
    /// What one agent could add to all counts together: the sensitivity.
    pub per_agent_max: u32,
    /// Scale of the discrete Laplace noise in each cell, in thousandths: `per_agent_max`/ε.
    pub scale_thousandths: u64,
    /// The noise in a cell is at most so much either way, 95 times of 100 or more.
    pub half_width_95: u64,
}

/// What became of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AggregateAnswer {
    /// It was allowed, and here it is.
    Exported(Box<AggregateView>),
    /// It was not: nothing was exported and nothing charged.
    Denied(Box<Decision>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(by: AggregateBy, cells: &[&str]) -> AggregateQuery {
        AggregateQuery {
            tenant: "t".into(),
            by,
            cells: cells.iter().map(|cell| (*cell).to_owned()).collect(),
            from_ns: 1,
            to_ns: 2,
            epsilon_micros: None,
            per_agent_max: None,
            request_id: "r".into(),
            client_chosen: true,
            issued_at_ms: 1,
            approval: String::new(),
        }
    }

    #[test]
    fn words_read_back() {
        for by in AggregateBy::ALL {
            assert_eq!(AggregateBy::from_word(by.as_str()), Some(by));
            assert_eq!(serde_json::to_value(by).ok(), Some(by.as_str().into()));
        }
        assert_eq!(AggregateBy::from_word("agent"), None, "a count for each agent is no aggregate");
    }

    #[test]
    fn whatever_is_out_of_bounds_is_refused() {
        assert_eq!(query(AggregateBy::Verdict, &[]).check(), Ok(()));
        assert_eq!(query(AggregateBy::Tool, &["a", "b"]).check(), Ok(()));
        let good = query(AggregateBy::Tool, &["a"]);
        let many: Vec<String> = (0..=AGGREGATE_CELLS_MAX).map(|n| n.to_string()).collect();
        let bad = [
            query(AggregateBy::Tool, &[]),
            query(AggregateBy::Verdict, &["allow"]),
            query(AggregateBy::Tool, &["a", "a"]),
            query(AggregateBy::Tool, &[""]),
            query(AggregateBy::Tool, &[OTHER_CELL]),
            AggregateQuery { from_ns: 2, ..good.clone() },
            AggregateQuery { epsilon_micros: Some(0), ..good.clone() },
            AggregateQuery { epsilon_micros: Some(EPSILON_MICROS_MAX + 1), ..good.clone() },
            AggregateQuery { per_agent_max: Some(0), ..good.clone() },
            AggregateQuery { per_agent_max: Some(AGGREGATE_PER_AGENT_MAX + 1), ..good.clone() },
        ];
        for query in bad {
            assert_eq!(query.check().map_err(|p| p.code), Err(Code::MalformedRequest), "{query:?}");
        }
        assert_eq!(AggregateQuery { cells: many, ..good }.check().map_err(|p| p.code), Err(Code::TooLarge));
    }

    #[test]
    fn a_window_is_counted_once_it_is_over() {
        let closed = AGGREGATE_CLOSED_AFTER_MS * 1_000_000;
        let query = AggregateQuery { to_ns: 100, ..query(AggregateBy::Verdict, &[]) };
        assert_eq!(query.check_closed(closed + 100), Ok(()));
        assert!(query.check_closed(closed + 99).is_err() && query.check_closed(0).is_err());
    }
}
