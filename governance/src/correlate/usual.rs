//! What is usual for a tenant in one respect: a baseline that sets itself, minute by minute, in which the last two hours count.

use crate::behaviour::stats::{Line, OCTAVE, log2};

/// Active minutes before anything is unusual.
const LEARNING: u16 = 15;
/// The weight of the latest minute afterwards.
const WEIGHT: u16 = 120;

/// A baseline of a number that is counted every minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usual {
    line: Line,
}

/// A number that is more than usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excess {
    /// The number …
    pub observed: u64,
    /// … what it usually is …
    pub usual: u64,
    /// … and from which number on it was unusual.
    pub needed: u64,
    /// Octaves above what was needed, 16 fractional bits.
    pub beyond: u32,
}

impl Usual {
    pub fn learn(&mut self, number: u64) {
        self.line.learn(level(number), WEIGHT);
    }

    /// Too little was seen to call anything unusual.
    pub fn is_learning(&self) -> bool {
        self.line.count < LEARNING
    }

    /// Octaves by which a number has grown; 0 where it has not, and while learning.
    pub fn growth(&self, number: u64) -> u32 {
        if self.is_learning() { 0 } else { self.line.above(level(number)) }
    }

    /// Whether a number is at least `least`, and `octaves` and four deviations above the usual, after so much growth was
    /// allowed for.
    pub fn excess(&self, number: u64, least: u64, octaves: u32, growth: u32) -> Option<Excess> {
        if self.is_learning() || number < least {
            return None;
        }
        let margin = self.line.deviation().saturating_mul(4).max(octaves * OCTAVE);
        let bar = self.line.mean.saturating_add(margin).saturating_add(growth);
        let beyond = level(number).checked_sub(bar)?;
        let needed = least.max(number_of(bar).saturating_add(1)).min(number);
        Some(Excess { observed: number, usual: number_of(self.line.mean), needed, beyond })
    }
}

/// Zero has a level too.
fn level(number: u64) -> u32 {
    log2(number.saturating_add(1))
}

/// The number of a level, between powers of two by a straight line; for people, decides nothing.
fn number_of(level: u32) -> u64 {
    let (whole, fraction) = (level / OCTAVE, u64::from(level % OCTAVE));
    let power = 1u64 << whole.min(40);
    (power + ((power * fraction) >> 16)).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_unusual_before_a_quarter_of_an_hour_was_seen() {
        let mut usual = Usual::default();
        for _ in 0..LEARNING {
            assert_eq!(usual.excess(1_000, 5, 2, 0), None);
            usual.learn(0);
        }
        assert_eq!(usual.excess(4, 5, 2, 0), None, "too few, however unusual");
        let found = usual.excess(1_000, 5, 2, 0).expect("unusual");
        assert_eq!((found.observed, found.usual, found.needed), (1_000, 0, 5));
    }

    #[test]
    fn what_is_usual_and_what_growth_explains_is_not_unusual() {
        let mut usual = Usual::default();
        (0..60).for_each(|minute| usual.learn(90 + minute % 20));
        assert_eq!(usual.excess(300, 5, 2, 0), None);
        assert!(usual.excess(450, 5, 2, 0).is_some());
        assert_eq!(usual.excess(450, 5, 2, OCTAVE), None, "twice as much goes on");
        (0..400).for_each(|_| usual.learn(450));
        assert_eq!(usual.excess(450, 5, 2, 0), None, "it has become usual");
    }

    #[test]
    fn numbers_and_levels_agree() {
        for number in [0u64, 1, 2, 3, 7, 100, 1_000, 65_535] {
            let back = number_of(level(number));
            assert!(back.abs_diff(number) <= 1 + number / 12, "{number} {back}");
        }
    }
}
