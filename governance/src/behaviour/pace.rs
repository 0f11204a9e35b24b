//! Velocity and acceleration: actions in windows of ten seconds against what active windows usually hold.
//!
//! All actions count for the pace, also denied ones; only those that went ahead make it usual. One burst is told once,
//! and again each time that it has doubled.

use super::stats::{Line, OCTAVE, log2};
use super::{EXTREME, STRIKING};

const WINDOW_NS: u64 = 10_000_000_000;
/// Windows learned before a pace is unusual, and the weight of the latest one afterwards.
const LEARNING: u16 = 20;
const WEIGHT: u16 = 64;
/// Fewer actions than this in a window are never a burst.
const BURST_MIN: u32 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Pace {
    /// The current window, counted from 1970.
    window: u64,
    /// Actions in the current window, the one before and the one before that.
    seen: [u32; 3],
    /// Of the current window, those that went ahead.
    learned: u32,
    /// The current window's count at which a burst was told; 0 for none.
    told: u32,
    /// The current window's growth was told.
    growth_told: bool,
    /// log2(1 + actions) of active windows.
    usual: Line,
}

impl Pace {
    pub fn judge(&mut self, now_ns: u64) -> Option<u16> {
        self.turn(now_ns / WINDOW_NS);
        self.seen[0] = self.seen[0].saturating_add(1);
        let above = self.above()?;
        let is_told = self.told > 0 && self.seen[0] / 2 < self.told;
        if is_told || above < self.usual.deviation().saturating_mul(4).max(2 * OCTAVE) {
            return None;
        }
        self.told = self.seen[0];
        Some(if above >= 4 * OCTAVE { EXTREME } else { STRIKING })
    }

    /// To be asked after [`Pace::judge`].
    pub fn judge_growth(&mut self) -> Option<u16> {
        let above = self.above()?;
        let [now, before, earlier] = self.seen.map(u64::from);
        let doubled_twice = earlier > 0 && before > 2 * earlier && now > 2 * before;
        let unusual = above >= self.usual.deviation().saturating_mul(2).max(OCTAVE);
        if self.growth_told || !doubled_twice || !unusual {
            return None;
        }
        self.growth_told = true;
        Some(STRIKING)
    }

    pub fn learn(&mut self) {
        self.learned = self.learned.saturating_add(1);
    }

    /// Octaves above the usual; none while learning, and for few actions.
    fn above(&self) -> Option<u32> {
        let known = self.usual.count >= LEARNING && self.seen[0] >= BURST_MIN;
        known.then(|| self.usual.above(log2(1 + u64::from(self.seen[0]))))
    }

    /// Closes the window that has passed and opens the one of now.
    fn turn(&mut self, window: u64) {
        if window <= self.window {
            return;
        }
        if self.learned > 0 {
            self.usual.learn(log2(1 + u64::from(self.learned)), WEIGHT);
        }
        let [now, before, _] = self.seen;
        self.seen = match window - self.window {
            1 => [0, now, before],
            2 => [0, 0, now],
            _ => [0; 3],
        };
        (self.window, self.learned, self.told, self.growth_told) = (window, 0, 0, false);
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.window.to_le_bytes());
        self.seen.iter().chain([&self.learned, &self.told]).for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        out.push(u8::from(self.growth_told));
        self.usual.put(out);
    }
}
