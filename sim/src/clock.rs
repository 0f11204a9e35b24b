//! Simulated time: tokio's paused clock, which jumps to the next timer whenever nothing can run.
//!
//! The run has one true time. A machine's clock may be off, jump, and run too fast or too slowly; its timers run with it.

#![allow(clippy::disallowed_methods, reason = "this file is the seam to the simulated clock")]

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use nethical_cluster::world::Clock;

/// 2026-01-01T00:00:00Z, where every run begins: the start of a UTC day, so that a daily budget has one window in a run.
pub const EPOCH_NS: u64 = 1_767_225_600_000_000_000;

const MILLION: i128 = 1_000_000;

thread_local! {
    /// How the clock of the runtime that runs now stands to that of the run.
    static ALIGNED: Cell<Option<Aligned>> = const { Cell::new(None) };
}

/// The same moment on the clocks of two runtimes: each paused clock begins where it likes.
#[derive(Clone, Copy)]
pub struct Aligned {
    /// On the clock of a node's runtime.
    pub here: Instant,
    /// On the clock of the run's own runtime.
    pub there: Instant,
}

impl Aligned {
    /// While `work` runs, this thread's time is that of a node's runtime.
    pub fn during<T>(self, work: impl FnOnce() -> T) -> T {
        let before = ALIGNED.replace(Some(self));
        let done = work();
        ALIGNED.set(before);
        done
    }

    /// A moment of the run on the clock of the node's runtime; what is over is now.
    pub fn of(self, there: Instant) -> Instant {
        self.here + there.saturating_duration_since(self.there)
    }
}

/// Now, on the clock of the run's own runtime.
pub fn now() -> Instant {
    match ALIGNED.get() {
        None => Instant::now(),
        Some(Aligned { here, there }) => there + (Instant::now() - here),
    }
}

/// Time. Must be made inside a runtime whose clock is paused. A clone is the same clock.
#[derive(Clone)]
pub struct SimClock {
    start: Instant,
    skew: Option<Arc<Mutex<Skew>>>,
}

/// How a machine's clock differs from true time. Everything is counted from the last change.
struct Skew {
    since: Duration,
    monotonic: Duration,
    wall_ns: u64,
    ppm: i64,
}

impl Skew {
    /// What the machine has counted since the last change. Runtimes in lock-step may be a tick behind that change.
    fn counted(&self, real: Duration) -> Duration {
        scaled(real.saturating_sub(self.since), MILLION + i128::from(self.ppm), MILLION)
    }

    /// Counts what has passed, so that the rate can change.
    fn settle(&mut self, real: Duration) {
        let passed = self.counted(real);
        self.monotonic += passed;
        self.wall_ns += passed.as_nanos() as u64;
        self.since = self.since.max(real);
    }
}

fn scaled(span: Duration, times: i128, over: i128) -> Duration {
    Duration::from_nanos((span.as_nanos() as i128 * times / over) as u64)
}

impl SimClock {
    /// The run's own clock, begun now: true time.
    pub fn begin() -> Self {
        Self { start: Instant::now(), skew: None }
    }

    /// The clock of a machine whose wall is off by this much.
    pub fn machine(&self, off_ms: i64) -> Self {
        let wall_ns = (EPOCH_NS + self.real().as_nanos() as u64).saturating_add_signed(off_ms * 1_000_000);
        let skew = Skew { since: self.real(), monotonic: self.real(), wall_ns, ppm: 0 };
        Self { start: self.start, skew: Some(Arc::new(Mutex::new(skew))) }
    }

    /// The wall jumps.
    pub fn jump(&self, by_ms: i64) {
        if let Some(skew) = &self.skew {
            let mut skew = skew.lock();
            skew.settle(self.real());
            skew.wall_ns = skew.wall_ns.saturating_add_signed(by_ms * 1_000_000);
        }
    }

    /// From now on the clock runs by this many parts per million too fast.
    pub fn drift(&self, ppm: i64) {
        if let Some(skew) = &self.skew {
            let mut skew = skew.lock();
            skew.settle(self.real());
            skew.ppm = ppm;
        }
    }

    /// True time since the start of the run, whatever this clock shows.
    pub fn real(&self) -> Duration {
        now() - self.start
    }

    /// `at` since the start of the run, as the timers of the runtime that runs now count.
    pub fn instant(&self, at: Duration) -> Instant {
        let there = self.start + at;
        ALIGNED.get().map_or(there, |aligned| aligned.of(there))
    }

    /// Completes at `at` since the start of the run.
    pub async fn reach(&self, at: Duration) {
        tokio::time::sleep_until(self.instant(at)).await;
    }
}

impl Clock for SimClock {
    fn now(&self) -> Duration {
        let real = self.real();
        match &self.skew {
            None => real,
            Some(skew) => {
                let skew = skew.lock();
                skew.monotonic + skew.counted(real)
            }
        }
    }

    fn wall_ns(&self) -> u64 {
        let real = self.real();
        match &self.skew {
            None => EPOCH_NS + real.as_nanos() as u64,
            Some(skew) => {
                let skew = skew.lock();
                skew.wall_ns + skew.counted(real).as_nanos() as u64
            }
        }
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let ppm = self.skew.as_ref().map_or(0, |skew| skew.lock().ppm);
        tokio::time::sleep(scaled(wait, MILLION, MILLION + i128::from(ppm))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn walls_differ_by_their_offset_and_jumps_and_monotonic_time_does_not() {
        let clock = SimClock::begin();
        let late = clock.machine(-30);
        clock.sleep(Duration::from_secs(3_600)).await;
        assert_eq!(clock.now(), late.now());
        assert_eq!(clock.wall_ns() - late.wall_ns(), 30_000_000);
        assert_eq!(clock.wall_ns(), EPOCH_NS + 3_600_000_000_000);
        late.jump(5_000);
        assert_eq!(late.wall_ns() - clock.wall_ns(), 4_970_000_000);
        assert_eq!(clock.now(), late.now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_clock_counts_more_and_wakes_earlier() {
        let clock = SimClock::begin();
        let fast = clock.machine(0);
        fast.drift(250_000);
        let (begun, counted) = (clock.real(), fast.now());
        fast.sleep(Duration::from_secs(10)).await;
        assert_eq!(clock.real() - begun, Duration::from_secs(8));
        assert_eq!(fast.now() - counted, Duration::from_secs(10));
        assert_eq!(fast.wall_ns() - clock.wall_ns(), 2_000_000_000);
        fast.drift(0);
        clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(fast.now() - counted, Duration::from_secs(11), "nothing is counted twice when the rate changes");
    }
}
