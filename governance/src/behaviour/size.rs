//! Size of the payload, for each kind of action by itself: a leap against mean and deviation, and slow growth by CUSUM.
//!
//! CUSUM (Page, 1954): `sum = max(0, sum + score - slack)`, told at the bar. A growth that was told is learned faster than
//! others, so that a lasting change is told a few times and not for ever.

use nethical_protocol::action::ActionKind;

use super::stats::{Line, OCTAVE, log2};
use super::{EXTREME, STRIKING, Seen};

const KINDS: usize = ActionKind::ALL.len();
/// Payloads learned before one is unusual, and the weight of the latest one afterwards.
const LEARNING: u16 = 64;
const WEIGHT: u16 = 512;
/// In deviations: what a leap is, and slack and bar of the sum of scores, which are cut at 3.
const LEAP: u32 = 4;
const SCORE_MAX: i32 = 3;
const SLACK: i32 = 3 * 256 / 4;
const BAR: u16 = 12 * 256;
/// A payload within this is never large.
const SMALL_BYTES: u32 = 1_024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct OfKind {
    /// log2(1 + bytes).
    usual: Line,
    /// Sum of scores, 8 fractional bits.
    sum: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Sizes {
    by_kind: [OfKind; KINDS],
}

impl Sizes {
    pub fn judge(&self, seen: &Seen) -> Option<u16> {
        let of = &self.by_kind[seen.kind as usize];
        if of.usual.count < LEARNING || seen.facts.bytes <= SMALL_BYTES {
            return None;
        }
        let above = of.usual.above(size(seen));
        let leaps = above >= of.usual.deviation().saturating_mul(LEAP).max(2 * OCTAVE);
        leaps.then_some(if above >= 6 * OCTAVE { EXTREME } else { STRIKING })
    }

    pub fn judge_growth(&self, seen: &Seen) -> Option<u16> {
        let of = &self.by_kind[seen.kind as usize];
        (of.usual.count >= LEARNING && of.next_sum(size(seen)) >= BAR).then_some(STRIKING)
    }

    pub fn learn(&mut self, seen: &Seen) {
        let (of, size) = (&mut self.by_kind[seen.kind as usize], size(seen));
        if of.usual.count >= LEARNING {
            of.sum = of.next_sum(size);
            if of.sum >= BAR {
                (of.sum, of.usual.count) = (0, LEARNING);
            }
        }
        of.usual.learn(size, WEIGHT);
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        for of in &self.by_kind {
            of.usual.put(out);
            out.extend_from_slice(&of.sum.to_le_bytes());
        }
    }
}

impl OfKind {
    fn next_sum(&self, size: u32) -> u16 {
        (i32::from(self.sum) + self.usual.score(size, SCORE_MAX) - SLACK).clamp(0, i32::from(u16::MAX)) as u16
    }
}

fn size(seen: &Seen) -> u32 {
    log2(1 + u64::from(seen.facts.bytes))
}
