//! A window that slides: a ring of slots of equal width, the running one and those before it. Time is given, never read.
//!
//! A time before the newest slot counts in the newest: windows never go back. A leap forward empties at most the ring.

use std::time::Duration;

use super::histogram::{BINS, bin_of};

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Decisions and failures.
    pub answered: u64,
    /// Of those, failures.
    pub failed: u64,
    /// Decisions by latency.
    pub bins: [u64; BINS],
}

impl Default for Counts {
    fn default() -> Self {
        Self { answered: 0, failed: 0, bins: [0; BINS] }
    }
}

impl Counts {
    /// Adds what another window, or another node, counted.
    pub fn add(&mut self, answered: u64, failed: u64, bins: impl IntoIterator<Item = (u8, u64)>) {
        self.answered = self.answered.saturating_add(answered);
        self.failed = self.failed.saturating_add(failed);
        for (bin, count) in bins {
            let held = &mut self.bins[usize::from(bin)];
            *held = held.saturating_add(count);
        }
    }

    /// The bins that hold anything.
    pub fn filled(&self) -> impl Iterator<Item = (u8, u64)> {
        (0..=u8::MAX).zip(self.bins).filter(|(_, count)| *count > 0)
    }
}

/// One slot; its bins take a kilobyte as soon as it holds a decision.
#[derive(Debug, Default)]
struct Slot {
    answered: u64,
    failed: u64,
    bins: Option<Box<[u32; BINS]>>,
}

/// A window of `slots` slots.
#[derive(Debug)]
pub struct Ring {
    width_s: u64,
    newest: u64,
    slots: Vec<Slot>,
}

impl Ring {
    /// An empty window.
    pub fn new(slots: usize, width_s: u64) -> Self {
        Self { width_s, newest: 0, slots: (0..slots).map(|_| Slot::default()).collect() }
    }

    /// Counts answers of one latency; failures have none.
    pub fn note(&mut self, now: Duration, decided: u64, failed: u64, us: u64) {
        self.turn(self.tick(now));
        let place = self.place(self.newest);
        let slot = &mut self.slots[place];
        slot.answered = slot.answered.saturating_add(decided).saturating_add(failed);
        slot.failed = slot.failed.saturating_add(failed);
        if decided > 0 {
            let bins = slot.bins.get_or_insert_with(|| Box::new([0; BINS]));
            let held = &mut bins[usize::from(bin_of(us))];
            *held = held.saturating_add(u32::try_from(decided).unwrap_or(u32::MAX));
        }
    }

    /// What the window holds at a time.
    pub fn counts(&self, now: Duration) -> Counts {
        let newest = self.tick(now).max(self.newest);
        let oldest = (newest + 1).saturating_sub(self.slots.len() as u64);
        let mut counts = Counts::default();
        for tick in oldest..=self.newest {
            let slot = &self.slots[self.place(tick)];
            counts.add(slot.answered, slot.failed, []);
            // A plain loop over plain numbers: this is done for every tenant every few seconds. A few slots of 2^32 fit.
            if let Some(bins) = &slot.bins {
                counts.bins.iter_mut().zip(bins.iter()).for_each(|(held, count)| *held += u64::from(*count));
            }
        }
        counts
    }

    fn tick(&self, now: Duration) -> u64 {
        now.as_secs() / self.width_s
    }

    fn place(&self, tick: u64) -> usize {
        (tick % self.slots.len() as u64) as usize
    }

    /// Empties the slots between the newest and a later one.
    fn turn(&mut self, tick: u64) {
        let passed = tick.saturating_sub(self.newest).min(self.slots.len() as u64);
        for tick in (tick + 1 - passed)..=tick {
            let place = self.place(tick);
            self.slots[place] = Slot::default();
        }
        self.newest = self.newest.max(tick);
    }
}
