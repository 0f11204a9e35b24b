//! How many different agents there were, and the names of a few. Adding an agent again changes nothing, and neither does
//! the order, so it is the same whichever partition's leaves come first.
//!
//! The number is by linear counting (Whang and others, 1990), right to a few per cent up to a thousand; the names are the
//! agents with the smallest keyed ids, which are a fair sample because keyed ids are a keyed hash.

use nethical_protocol::ids::KeyedId;
use nethical_protocol::limits::ALARM_AGENTS_MAX;

use super::fold;
use crate::behaviour::stats::{OCTAVE, log2};

const WORDS: usize = 4;
const BITS: u64 = WORDS as u64 * 64;
/// ln 2 with 16 fractional bits.
const LN_2: u64 = 45_426;

/// A set of agents, counted and sampled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Crowd {
    bits: [u64; WORDS],
    sample: Vec<KeyedId>,
}

impl Crowd {
    pub fn add(&mut self, agent: KeyedId) {
        let bit = fold(agent) % BITS;
        self.bits[(bit / 64) as usize] |= 1 << (bit % 64);
        if let Err(at) = self.sample.binary_search(&agent)
            && at < ALARM_AGENTS_MAX
        {
            self.sample.insert(at, agent);
            self.sample.truncate(ALARM_AGENTS_MAX);
        }
    }

    /// How many different agents; exact while the sample is not full.
    pub fn count(&self) -> u64 {
        if self.sample.len() < ALARM_AGENTS_MAX {
            return self.sample.len() as u64;
        }
        let zeros: u64 = self.bits.iter().map(|word| u64::from(word.count_zeros())).sum();
        let octaves = u64::from((8 * OCTAVE).saturating_sub(log2(zeros.max(1))));
        (BITS * LN_2 * octaves + (1 << 31)) >> 32
    }

    /// Up to eight of them, sorted.
    pub fn sample(&self) -> &[KeyedId] {
        &self.sample
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::id;
    use super::*;

    fn crowd(agents: std::ops::Range<u64>) -> Crowd {
        let mut crowd = Crowd::default();
        agents.for_each(|agent| crowd.add(id(agent)));
        crowd
    }

    #[test]
    fn the_number_is_right_to_a_sixth_up_to_a_thousand() {
        for size in [0, 1, 2, 7, 8, 12, 20, 50, 100, 300, 1_000] {
            let counted = crowd(0..size).count();
            assert!(counted.abs_diff(size) <= 1 + size / 6, "{size} counted as {counted}");
        }
    }

    #[test]
    fn neither_order_nor_repetition_matters() {
        let (mut there, mut back) = (crowd(0..100), Crowd::default());
        (0..100).rev().for_each(|agent| back.add(id(agent)));
        assert_eq!(there, back);
        (20..60).for_each(|agent| there.add(id(agent)));
        assert_eq!(there, back);
        assert_eq!(there.sample().len(), ALARM_AGENTS_MAX);
    }
}
