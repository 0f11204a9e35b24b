//! Which keys a segment may hold, in at most 2 KiB: a Bloom filter (Bloom 1970) over tenants, agents, tools and rules.
//!
//! It stays in memory, so that a question about a rare agent passes whole segments over without a read. "No" is certain.
//! Sessions are left out: they are many, short, and asked about within a time.

use super::posting::Dimension;

/// Bits for each key, where there is room: one key in a hundred that is not there seems to be.
const BITS_PER_KEY: usize = 10;
const PROBES: u64 = 4;
const BYTES_MIN: usize = 64;
/// Bytes of the largest filter.
pub const BYTES_MAX: usize = 2_048;
/// What is asked often and worth a read to avoid.
const DIMENSIONS: [Dimension; 4] = [Dimension::Tenant, Dimension::Agent, Dimension::Tool, Dimension::Rule];

/// The filter of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// A power of two of them.
    bytes: Vec<u8>,
}

impl Presence {
    pub(super) fn of(keys: &[(Dimension, u64)]) -> Self {
        let keys: Vec<_> = keys.iter().filter(|(dimension, _)| DIMENSIONS.contains(dimension)).collect();
        let wanted = (keys.len() * BITS_PER_KEY / 8).next_power_of_two();
        let mut presence = Self { bytes: vec![0; wanted.clamp(BYTES_MIN, BYTES_MAX)] };
        for (dimension, key) in keys {
            for bit in presence.bits(*dimension, *key) {
                presence.bytes[bit / 8] |= 1 << (bit % 8);
            }
        }
        presence
    }

    /// The bytes of a filter as stored.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let fits = bytes.len().is_power_of_two() && (BYTES_MIN..=BYTES_MAX).contains(&bytes.len());
        fits.then(|| Self { bytes: bytes.to_vec() })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// False where no leaf of the segment has the key.
    pub(super) fn may_hold(&self, dimension: Dimension, key: u64) -> bool {
        let held = |bit: usize| self.bytes[bit / 8] & (1 << (bit % 8)) != 0;
        !DIMENSIONS.contains(&dimension) || self.bits(dimension, key).into_iter().all(held)
    }

    /// Bits by double hashing (Kirsch, Mitzenmacher 2006); keys are random already and are only told apart by dimension.
    fn bits(&self, dimension: Dimension, key: u64) -> [usize; PROBES as usize] {
        let mixed = (key ^ (dimension as u64 + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (start, step) = (mixed >> 32, (mixed & 0xffff_ffff) | 1);
        let bits = self.bytes.len() as u64 * 8;
        let mut probe = 0;
        [(); PROBES as usize].map(|()| {
            let bit = start.wrapping_add(step.wrapping_mul(probe)) % bits;
            probe += 1;
            bit as usize
        })
    }
}
