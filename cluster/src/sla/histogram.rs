//! A bounded histogram of latencies: log-linear, 16 bins an octave, in whole microseconds. No floats, no samples kept.
//!
//! A bin is at most 1/16 as wide as its lower edge, and 64 µs at the least; 256 bins reach beyond the longest deadline.

use nethical_protocol::limits::DEADLINE_MAX_MS;

/// Bins, numbered by one byte.
pub const BINS: usize = 256;
/// Bins of an octave, as a power of two.
const SUB_BITS: u32 = 4;
/// The finest width is 2^6 µs.
const UNIT_BITS: u32 = 6;

const _: () = {
    // The slowest answer of a door has a bin of its own; a second's grace and more is within the last octave.
    assert!(edge(BINS) > (DEADLINE_MAX_MS + 2_000) * 1_000);
    assert!(edge(16) == 16 << UNIT_BITS && edge(BINS) == 1 << 25);
};

/// The bin of a latency; what is slower than all bins counts in the last.
pub fn bin_of(us: u64) -> u8 {
    let units = (us >> UNIT_BITS).min((edge(BINS) >> UNIT_BITS) - 1);
    if units < 1 << SUB_BITS {
        return units as u8;
    }
    let octave = units.ilog2() - SUB_BITS;
    let sub = (units >> octave) & ((1 << SUB_BITS) - 1);
    (((octave + 1) << SUB_BITS) + sub as u32) as u8
}

/// The lower edge of a bin in microseconds, which belongs to it; the upper edge of the one before, which does not.
pub const fn edge(bin: usize) -> u64 {
    let (octave, sub) = (bin >> SUB_BITS, (bin & 15) as u64);
    let units = if octave == 0 { sub } else { (16 + sub) << (octave - 1) };
    units << UNIT_BITS
}

/// The bin in which the value lies that so many of a hundred values do not exceed (nearest rank). Nothing where nothing was
/// counted.
pub fn percentile(bins: &[u64; BINS], percent: u64) -> Option<u8> {
    let total: u128 = bins.iter().map(|count| u128::from(*count)).sum();
    let rank = (total * u128::from(percent)).div_ceil(100);
    let mut seen = 0u128;
    bins.iter()
        .position(|count| {
            seen += u128::from(*count);
            *count > 0 && seen >= rank
        })
        .map(|bin| bin as u8)
}

/// The slowest latency of a bin, in microseconds.
pub fn slowest(bin: u8) -> u64 {
    edge(usize::from(bin) + 1) - 1
}

/// The fastest latency of a bin, in microseconds.
pub fn fastest(bin: u8) -> u64 {
    edge(usize::from(bin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_follow_each_other_without_gaps_and_hold_what_is_put_into_them() {
        for bin in 0..=255u8 {
            assert_eq!((bin_of(fastest(bin)), bin_of(slowest(bin))), (bin, bin));
            assert_eq!(bin_of(slowest(bin) + 1), bin.saturating_add(1));
            let width = slowest(bin) + 1 - fastest(bin);
            assert!(width == 64 || width * 16 <= fastest(bin), "bin {bin} is {width} wide");
        }
        assert_eq!(bin_of(u64::MAX), 255);
    }

    #[test]
    fn an_empty_histogram_has_no_percentile_and_a_full_one_does_not_overflow() {
        assert_eq!(percentile(&[0; BINS], 50), None);
        assert_eq!(percentile(&[u64::MAX; BINS], 99), Some(253));
    }
}
