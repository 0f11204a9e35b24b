//! Simulated time: tokio's paused clock, which jumps to the next timer whenever nothing can run.
//!
//! Monotonic time is the same on every node. Wall time starts at a fixed date and is off by a constant on each node.

#![allow(clippy::disallowed_methods, reason = "this file is the seam to the simulated clock")]

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use nethical_cluster::world::Clock;

/// 2026-01-01T00:00:00Z, where every run begins: the start of a UTC day, so that a daily budget has one window in a run.
pub const EPOCH_NS: u64 = 1_767_225_600_000_000_000;

/// Time on one node. Must be made inside a runtime whose clock is paused.
#[derive(Clone, Copy)]
pub struct SimClock {
    start: Instant,
    offset_ns: i64,
}

impl SimClock {
    /// The clock of the run, begun now.
    pub fn begin() -> Self {
        Self { start: Instant::now(), offset_ns: 0 }
    }

    /// The same clock on a machine whose wall is off by this much.
    pub fn off_by(self, offset_ns: i64) -> Self {
        Self { offset_ns, ..self }
    }

    /// Completes at `at` since the start of the run.
    pub async fn reach(&self, at: Duration) {
        tokio::time::sleep_until(self.start + at).await;
    }
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_ns(&self) -> u64 {
        (EPOCH_NS + self.now().as_nanos() as u64).saturating_add_signed(self.offset_ns)
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(wait).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn walls_differ_by_their_offset_and_monotonic_time_does_not() {
        let clock = SimClock::begin();
        let late = clock.off_by(-30_000_000);
        clock.sleep(Duration::from_secs(3_600)).await;
        assert_eq!(clock.now(), late.now());
        assert_eq!(clock.now(), Duration::from_secs(3_600));
        assert_eq!(clock.wall_ns() - late.wall_ns(), 30_000_000);
        assert_eq!(clock.wall_ns(), EPOCH_NS + 3_600_000_000_000);
    }
}
