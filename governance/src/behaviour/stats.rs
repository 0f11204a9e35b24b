//! Logarithms, means and deviations in fixed point. Values are base-2 logarithms with 16 fractional bits ("octaves").

/// One octave.
pub(crate) const OCTAVE: u32 = 1 << 16;

/// `log2(x)` with 16 fractional bits, rounded down; 0 for 0. By repeated squaring (Knuth, TAOCP 1, 1.2.2, exercise 25).
pub(crate) const fn log2(x: u64) -> u32 {
    let Some(whole) = x.checked_ilog2() else { return 0 };
    // The mantissa in 1..2 with 31 fractional bits.
    let mut mantissa = if whole > 31 { x >> (whole - 31) } else { x << (31 - whole) };
    // No `for` in a function that tables are made with.
    let (mut fraction, mut bits) = (0, 0);
    while bits < 16 {
        mantissa = (mantissa * mantissa) >> 31;
        let above = mantissa >> 32;
        fraction = fraction << 1 | above as u32;
        mantissa >>= above;
        bits += 1;
    }
    whole << 16 | fraction
}

/// Exponentially weighted mean and variance of a quantity; the first values weigh equally.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct Line {
    /// Values learned; stays at the weight's limit once it is there.
    pub count: u16,
    /// Octaves.
    pub mean: u32,
    /// Octaves squared, 16 fractional bits.
    variance: u32,
}

impl Line {
    /// How far a value is above the mean; 0 where it is below.
    pub fn above(&self, value: u32) -> u32 {
        value.saturating_sub(self.mean)
    }

    /// The deviation, at least a quarter of an octave: what never varied may vary a little.
    pub fn deviation(&self) -> u32 {
        ((u64::from(self.variance) << 16).isqrt() as u32).max(OCTAVE / 4)
    }

    /// (value - mean) / deviation with 8 fractional bits, within ±`most` deviations.
    pub fn score(&self, value: u32, most: i32) -> i32 {
        let difference = (i64::from(value) - i64::from(self.mean)) << 8;
        (difference / i64::from(self.deviation())).clamp(-i64::from(most) << 8, i64::from(most) << 8) as i32
    }

    /// Takes a value in, weighing as the last one of `weight`. A value far above what is usual counts as a little above
    /// it, so that a burst does not make bursts usual.
    pub fn learn(&mut self, value: u32, weight: u16) {
        let settled = self.count >= weight.min(32);
        let most = self.mean.saturating_add(self.deviation().saturating_mul(3)).saturating_add(OCTAVE / 2);
        let value = if settled { value.min(most) } else { value };
        self.count = self.count.saturating_add(1).min(weight.max(1));
        let delta = i64::from(value) - i64::from(self.mean);
        let count = i64::from(self.count);
        self.mean = (i64::from(self.mean) + delta / count).clamp(0, i64::from(u32::MAX)) as u32;
        // Welford's form: the first value has no deviation from itself.
        let after = i64::from(value) - i64::from(self.mean);
        let square = ((i128::from(delta) * i128::from(after)) >> 16).clamp(0, i128::from(u32::MAX)) as i64;
        let variance = i64::from(self.variance);
        self.variance = (variance + (square - variance) / count).clamp(0, i64::from(u32::MAX)) as u32;
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.mean.to_le_bytes());
        out.extend_from_slice(&self.variance.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right_to_a_thirty_thousandth() {
        for x in (1..5_000u64).chain((0..64).map(|bit| 1 << bit)).chain([u64::MAX, u64::MAX / 3, 123_456_789_012]) {
            let (ours, exact) = (f64::from(log2(x)) / 65_536.0, (x as f64).log2());
            assert!((ours - exact).abs() < 1.0 / 30_000.0, "{x}: {ours} against {exact}");
        }
        assert_eq!((log2(0), log2(1), log2(1 << 40)), (0, 0, 40 * OCTAVE));
    }

    #[test]
    fn mean_and_deviation_follow_a_model_with_all_values() {
        let (mut line, mut values) = (Line::default(), Vec::new());
        let mut dice = 7u64;
        for _ in 0..200 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = 5 * OCTAVE + (dice >> 48) as u32 * 2;
            values.push(f64::from(value) / f64::from(OCTAVE));
            line.learn(value, 512);
        }
        let mean = values.iter().sum::<f64>() / 200.0;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 200.0).sqrt();
        assert!((f64::from(line.mean) / 65_536.0 - mean).abs() < 0.02);
        assert!((f64::from(line.deviation()) / 65_536.0 - deviation).abs() < 0.05, "{line:?} {deviation}");
    }

    #[test]
    fn no_state_and_no_value_overflows() {
        for state in [0, 1, u32::MAX / 2, u32::MAX] {
            for value in [0, 1, u32::MAX / 2, u32::MAX] {
                for count in [0, 1, u16::MAX] {
                    let mut line = Line { count, mean: state, variance: state };
                    line.score(value, 3);
                    line.above(value);
                    line.learn(value, 64);
                    line.learn(value, 0);
                }
            }
        }
    }
}
