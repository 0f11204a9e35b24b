//! Novelty of (tool, resource): the last 64 pairs as 16-bit fingerprints, the latest used in front.
//!
//! New pairs are a finding only where they are rare: an agent that meets a new customer with every call is not odd. By
//! the rate's own arithmetic there is at most one finding in 130 learned actions. A pair that shares its fingerprint with
//! a known one passes for known, one time in a thousand.

use super::{ODD, Seen};

const PAIRS: usize = 64;
/// Actions learned before anything is new.
const LEARNING: u16 = 128;
/// Share of new pairs, of 2^24; one new pair weighs 1/64.
const WHOLE: u32 = 1 << 24;
const WEIGHT: u32 = 64;
/// Above this share new pairs are usual.
const RARE: u32 = WHOLE / 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Novelty {
    /// 0 for none; the latest used first.
    pairs: [u16; PAIRS],
    learned: u16,
    share: u32,
}

impl Default for Novelty {
    fn default() -> Self {
        Self { pairs: [0; PAIRS], learned: 0, share: 0 }
    }
}

impl Novelty {
    pub fn judge(&self, seen: &Seen) -> Option<u16> {
        let usual = self.learned < LEARNING || self.share > RARE || self.pairs.contains(&fingerprint(seen));
        (!usual).then_some(ODD)
    }

    pub fn learn(&mut self, seen: &Seen) {
        let pair = fingerprint(seen);
        let place = self.pairs.iter().position(|known| *known == pair);
        self.pairs.copy_within(..place.unwrap_or(PAIRS - 1), 1);
        self.pairs[0] = pair;
        self.learned = self.learned.saturating_add(1);
        let share = self.share.min(WHOLE);
        self.share = share - share / WEIGHT + if place.is_none() { WHOLE / WEIGHT } else { 0 };
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        self.pairs.iter().for_each(|pair| out.extend_from_slice(&pair.to_le_bytes()));
        out.extend_from_slice(&self.learned.to_le_bytes());
        out.extend_from_slice(&self.share.to_le_bytes());
    }
}

/// Keyed ids are uniform, so a multiplication mixes them well enough. Never 0.
fn fingerprint(seen: &Seen) -> u16 {
    let word = |bytes: &[u8; 16]| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[..8]);
        u64::from_le_bytes(word)
    };
    let pair = word(&seen.tool.0) ^ word(&seen.resource.0).rotate_left(32);
    ((pair.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16).max(1)
}
