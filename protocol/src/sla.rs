//! What a tenant is promised of the service, and how the promise stands: words and numbers only, nothing is counted here.
//!
//! Shares are whole numbers: parts per million of answers, thousandths of an error budget, microseconds.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Problem};

/// What a tenant is promised.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[serde(default, deny_unknown_fields)]
pub struct SlaTargets {
    /// Answers of a million that are decisions, over 30 days.
    pub availability_ppm: u32,
    /// 95 of 100 decisions take no longer, in milliseconds.
    pub p95_ms: u32,
    /// 99 of 100 decisions take no longer, in milliseconds.
    pub p99_ms: u32,
}

impl Default for SlaTargets {
    fn default() -> Self {
        Self { availability_ppm: 999_000, p95_ms: 200, p99_ms: 500 }
    }
}

impl SlaTargets {
    /// Refuses what leaves no error budget, or is no order.
    ///
    /// # Errors
    /// `invalid-control` with the field.
    pub fn check(&self) -> Result<(), Problem> {
        let wrong = |detail: &str| Err(Problem::new(Code::InvalidControl, format!("sla: {detail}")));
        if !(1..1_000_000).contains(&self.availability_ppm) {
            return wrong("availability_ppm is 1 to 999999; a promise without any failure leaves no error budget");
        }
        if self.p95_ms == 0 || self.p95_ms > self.p99_ms || self.p99_ms > SLA_LATENCY_MS_MAX {
            return wrong("p95_ms and p99_ms are 1 to 30000, the former no greater than the latter");
        }
        Ok(())
    }
}

/// The slowest promise; no decision takes longer than its deadline.
const SLA_LATENCY_MS_MAX: u32 = crate::limits::DEADLINE_MAX_MS as u32;

/// How a promise stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlaStatus {
    /// Too few answers to say.
    Unknown,
    /// Kept.
    Ok,
    /// Kept, and near its end.
    Warning,
    /// Broken.
    Breached,
}

impl SlaStatus {
    /// All, from good to bad behind the one that says nothing.
    pub const ALL: [SlaStatus; 4] = [SlaStatus::Unknown, SlaStatus::Ok, SlaStatus::Warning, SlaStatus::Breached];

    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        ["unknown", "ok", "warning", "breached"][self as usize]
    }
}

/// Whose counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlaScope {
    /// Those of all nodes together.
    #[default]
    All,
    /// Those of the node that is asked.
    Node,
}

/// Which tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlaQuery {
    /// One tenant; all that were counted where absent.
    pub tenant: Option<String>,
    /// Whose counts.
    pub scope: SlaScope,
    /// What the page before gave.
    pub cursor: Option<String>,
}

/// Tenants in order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlaList {
    /// The tenants.
    pub tenants: Vec<SlaView>,
    /// Nodes whose counts are in here.
    pub nodes: Vec<u64>,
    /// Nodes that did not answer: what their doors answered is missing here.
    pub awaiting: Vec<u64>,
    /// Pass it as `cursor` for the next page. Absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One tenant's promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlaView {
    /// The tenant.
    pub tenant: String,
    /// The worse of the two below.
    pub status: SlaStatus,
    /// By the error budget.
    pub availability: SlaStatus,
    /// By the percentiles of the last hour.
    pub latency: SlaStatus,
    /// What is promised.
    pub targets: SlaTargets,
    /// What may fail, and how fast it does.
    pub budget: SlaBudget,
    /// 5 minutes, 1 hour, 30 days.
    pub windows: Vec<SlaWindow>,
}

/// An error budget: the failures that the promise allows among the answers of a window, one at the least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlaBudget {
    /// Thousandths of the budget of 30 days that are used; above 1,000 the promise is broken.
    pub used_permille: u64,
    /// Failures of the last hour for each 1,000 that its answers would allow: at 1,000 the budget is used exactly up.
    pub burn_1h_permille: u64,
    /// The same of the last 5 minutes.
    pub burn_5m_permille: u64,
}

/// What was counted in a window that ends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlaWindow {
    /// Its length in seconds. What is counted began at most a tenth of that later.
    pub window_s: u64,
    /// Seconds of it that the node which has counted this tenant longest knows.
    pub counted_s: u64,
    /// Decisions, and what should have been one.
    pub answered: u64,
    /// Of those, answers of class retry, unknown or broken.
    pub failed: u64,
    /// Decisions of a million answers; absent where nothing was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_ppm: Option<u32>,
    /// Half of the decisions took no longer, in microseconds; up to 1/16 above the truth. Absent without decisions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// The same of 95 in 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_us: Option<u64>,
    /// The same of 99 in 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_needs_a_budget_and_an_order() {
        assert!(SlaTargets::default().check().is_ok());
        let good = SlaTargets::default();
        for wrong in [
            SlaTargets { availability_ppm: 1_000_000, ..good },
            SlaTargets { availability_ppm: 0, ..good },
            SlaTargets { p95_ms: 501, ..good },
            SlaTargets { p95_ms: 0, ..good },
            SlaTargets { p99_ms: 30_001, ..good },
        ] {
            assert_eq!(wrong.check().map_err(|problem| problem.code), Err(Code::InvalidControl), "{wrong:?}");
        }
    }

    #[test]
    fn the_words_are_those_of_json() {
        for status in SlaStatus::ALL {
            assert_eq!(serde_json::to_value(status).expect("a word"), status.as_str());
        }
    }
}
