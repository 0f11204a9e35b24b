//! How a promise stands, from what was counted. Pure and in integers; what is near a bin's edge is called broken only where
//! it is so for certain.

use nethical_protocol::sla::{SlaBudget, SlaStatus, SlaTargets, SlaView, SlaWindow};

use super::histogram::{fastest, percentile, slowest};
use super::ring::Counts;
use super::{WINDOWS, WINDOWS_S};

/// Fewer answers, or decisions for percentiles, say nothing.
pub const SAMPLES_MIN: u64 = 100;
/// Used thousandths of the budget from which on it is near its end.
const USED_WARNING: u64 = 750;
/// A burn of this in the last hour and the last 5 minutes: a fiftieth of a month's budget in an hour.
const BURN_WARNING: u64 = 14_400;
/// Percent of a promised latency from which on it is near.
const LATENCY_WARNING_PERCENT: u64 = 90;

/// A tenant's counts, and for how many seconds of each window they were taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// 5 minutes, 1 hour, 30 days.
    pub windows: [Counts; WINDOWS],
    /// Seconds since the tenant is counted.
    pub since_s: u64,
}

/// One tenant's promise.
pub fn judge(tenant: String, counted: &Counted, targets: SlaTargets) -> SlaView {
    let [short, hour, month] = &counted.windows;
    let budget = SlaBudget {
        used_permille: used_permille(month, targets),
        burn_1h_permille: used_permille(hour, targets),
        burn_5m_permille: used_permille(short, targets),
    };
    let (availability, latency) = (availability(month, budget), latency(hour, targets));
    let windows =
        counted.windows.iter().zip(WINDOWS_S).map(|(counts, window_s)| window(counts, window_s, counted.since_s));
    SlaView {
        tenant,
        status: availability.max(latency),
        availability,
        latency,
        targets,
        budget,
        windows: windows.collect(),
    }
}

/// Failures for each thousand that the promise allows, rounded up; it allows one at the least.
fn used_permille(counts: &Counts, targets: SlaTargets) -> u64 {
    let allowed_ppm = 1_000_000u32.saturating_sub(targets.availability_ppm);
    let allowed = (u128::from(counts.answered) * u128::from(allowed_ppm)).max(1_000_000);
    let used = (u128::from(counts.failed) * 1_000_000_000).div_ceil(allowed);
    u64::try_from(used).unwrap_or(u64::MAX)
}

fn availability(month: &Counts, budget: SlaBudget) -> SlaStatus {
    let burns = budget.burn_1h_permille.min(budget.burn_5m_permille) >= BURN_WARNING;
    match budget.used_permille {
        _ if month.answered < SAMPLES_MIN => SlaStatus::Unknown,
        used if used > 1_000 => SlaStatus::Breached,
        used if used > USED_WARNING || burns => SlaStatus::Warning,
        _ => SlaStatus::Ok,
    }
}

fn latency(hour: &Counts, targets: SlaTargets) -> SlaStatus {
    if hour.answered - hour.failed.min(hour.answered) < SAMPLES_MIN {
        return SlaStatus::Unknown;
    }
    let judged = [(95, targets.p95_ms), (99, targets.p99_ms)].map(|(percent, target_ms)| {
        let target_us = u64::from(target_ms) * 1_000;
        match percentile(&hour.bins, percent) {
            Some(bin) if fastest(bin) > target_us => SlaStatus::Breached,
            Some(bin) if slowest(bin) * 100 > target_us * LATENCY_WARNING_PERCENT => SlaStatus::Warning,
            Some(_) => SlaStatus::Ok,
            None => SlaStatus::Unknown,
        }
    });
    judged[0].max(judged[1])
}

fn window(counts: &Counts, window_s: u64, since_s: u64) -> SlaWindow {
    let decided = u128::from(counts.answered.saturating_sub(counts.failed));
    let at = |percent| percentile(&counts.bins, percent).map(slowest);
    SlaWindow {
        window_s,
        counted_s: since_s.min(window_s),
        answered: counts.answered,
        failed: counts.failed,
        availability_ppm: (decided * 1_000_000).checked_div(u128::from(counts.answered)).map(|share| share as u32),
        p50_us: at(50),
        p95_us: at(95),
        p99_us: at(99),
    }
}
