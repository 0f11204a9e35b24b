//! Discrete Laplace noise, drawn exactly from integers: Canonne, Kamath, Steinke, *The Discrete Gaussian for Differential
//! Privacy* (NeurIPS 2020), algorithms 1 and 2.
//!
//! No float takes part in a draw: the gaps between floats give the true value away (Mironov, CCS 2012). How long a draw takes
//! does depend on what is drawn; who can time a node that closely has nothing to gain from noise.

use rand::Rng;

/// The scale of the noise as a fraction: `numerator / denominator`, sensitivity over ε.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    numerator: u64,
    denominator: u64,
}

impl Scale {
    /// The scale for counts to which one agent adds at most `per_agent_max`, at a cost in millionths of ε. Neither may be 0.
    pub fn new(per_agent_max: u32, epsilon_micros: u64) -> Self {
        assert!(per_agent_max > 0 && epsilon_micros > 0, "bounds are checked before a scale is made");
        Self { numerator: u64::from(per_agent_max) * 1_000_000, denominator: epsilon_micros }
    }

    /// In thousandths, rounded down, for people.
    pub fn thousandths(self) -> u64 {
        (u128::from(self.numerator) * 1_000 / u128::from(self.denominator)) as u64
    }

    /// The least whole number that noise stays within 95 times of 100 or more. Scales are public, so floats do no harm here.
    pub fn half_width_95(self) -> u64 {
        let scale = self.numerator as f64 / self.denominator as f64;
        // P(|x| > m) = 2 α^(m + 1) / (1 + α), where α = exp(-1 / scale).
        let alpha = (-1.0 / scale).exp();
        let beyond = scale * (40.0 / (1.0 + alpha)).ln();
        (beyond.ceil() as u64).saturating_sub(1)
    }

    /// One draw: x with a probability proportional to exp(-|x| / scale).
    pub fn draw(self, dice: &mut impl Rng) -> i64 {
        loop {
            // Geometric with exp(-1 / numerator): a remainder that is accepted by its weight, and whole turns.
            let rest = below(dice, self.numerator);
            if !exp_of_minus(dice, rest, self.numerator) {
                continue;
            }
            let mut turns = 0u64;
            while exp_of_minus(dice, 1, 1) {
                turns += 1;
            }
            let steps = u128::from(rest) + u128::from(self.numerator) * u128::from(turns);
            let size = i64::try_from(steps / u128::from(self.denominator)).unwrap_or(i64::MAX);
            let is_negative = below(dice, 2) == 1;
            // Zero would be drawn twice as often with either sign.
            if is_negative && size == 0 {
                continue;
            }
            return if is_negative { -size } else { size };
        }
    }
}

/// True with probability exp(-numerator / denominator); the fraction is at most 1.
fn exp_of_minus(dice: &mut impl Rng, numerator: u64, denominator: u64) -> bool {
    let mut turn = 1u64;
    while below(dice, denominator.saturating_mul(turn)) < numerator {
        turn += 1;
    }
    turn % 2 == 1
}

/// A whole number below `end`, each as likely as the other.
fn below(dice: &mut impl Rng, end: u64) -> u64 {
    // Of 2^64 numbers, so many at the end make no whole turn.
    let surplus = (u64::MAX % end + 1) % end;
    loop {
        let drawn = dice.next_u64();
        if drawn <= u64::MAX - surplus {
            return drawn % end;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    /// P(x) = (1 - α) / (1 + α) · α^|x|.
    fn probability(scale: Scale, x: i64) -> f64 {
        let alpha = (-(scale.denominator as f64) / scale.numerator as f64).exp();
        (1.0 - alpha) / (1.0 + alpha) * alpha.powi(x.unsigned_abs() as i32)
    }

    /// Pearson's statistic over the cells that are expected at least ten times, everything beyond in one, and their number.
    fn chi_square(scale: Scale, seed: u8, draws: usize) -> (f64, usize) {
        let mut dice = ChaCha12Rng::from_seed([seed; 32]);
        let mut seen: BTreeMap<i64, f64> = BTreeMap::new();
        (0..draws).for_each(|_| *seen.entry(scale.draw(&mut dice)).or_default() += 1.0);
        let wide = (0..).take_while(|x| probability(scale, *x) * draws as f64 >= 10.0).last().expect("zero is likely");
        let (mut statistic, mut inside, mut inside_expected) = (0.0, 0.0, 0.0);
        for x in -wide..=wide {
            let (found, expected) = (seen.get(&x).copied().unwrap_or(0.0), probability(scale, x) * draws as f64);
            statistic += (found - expected).powi(2) / expected;
            (inside, inside_expected) = (inside + found, inside_expected + expected);
        }
        let (beyond, expected) = (draws as f64 - inside, draws as f64 - inside_expected);
        (statistic + (beyond - expected).powi(2) / expected, 2 * wide as usize + 1)
    }

    #[test]
    fn draws_follow_the_exact_distribution() {
        // Scales below, at and above one, and one that is no whole number.
        for (per_agent, micros, seed) in [(1, 3_000_000, 1), (1, 1_000_000, 2), (10, 1_000_000, 3), (7, 1_300_000, 4)] {
            let scale = Scale::new(per_agent, micros);
            let (statistic, freedom) = chi_square(scale, seed, 100_000);
            // A statistic this far above its mean is seen once in ten thousand seeds (Wilson and Hilferty, 1931).
            let part = 2.0 / (9.0 * freedom as f64);
            let critical = freedom as f64 * (1.0 - part + 3.72 * part.sqrt()).powi(3);
            assert!(statistic < critical, "scale {scale:?}: {statistic} of {critical}");
        }
    }

    #[test]
    fn a_scale_that_is_a_little_off_is_found_out() {
        let mut dice = ChaCha12Rng::from_seed([9; 32]);
        let (scale, wrong) = (Scale::new(10, 1_000_000), Scale::new(11, 1_000_000));
        let mean = |scale: Scale, dice: &mut ChaCha12Rng| {
            (0..50_000).map(|_| scale.draw(dice).unsigned_abs() as f64).sum::<f64>() / 50_000.0
        };
        // E|x| = 2 α / (1 - α²).
        let alpha = (-0.1f64).exp();
        let expected = 2.0 * alpha / (1.0 - alpha * alpha);
        assert!((mean(scale, &mut dice) - expected).abs() < 0.3);
        assert!((mean(wrong, &mut dice) - expected).abs() > 0.6);
    }

    #[test]
    fn nineteen_of_twenty_draws_stay_within_the_half_width_and_fewer_one_below_it() {
        for (per_agent, micros) in [(1, 10_000_000), (1, 1_000_000), (10, 500_000), (1_000, 1_000)] {
            let scale = Scale::new(per_agent, micros);
            let width = scale.half_width_95();
            let within = |m: u64| {
                let alpha = (-(scale.denominator as f64) / scale.numerator as f64).exp();
                1.0 - 2.0 * alpha.powf(m as f64 + 1.0) / (1.0 + alpha)
            };
            assert!(within(width) >= 0.95 - 1e-12, "{scale:?}");
            assert!(width == 0 || within(width - 1) < 0.95, "{scale:?} could be narrower than {width}");
        }
        assert_eq!((Scale::new(10, 500_000).half_width_95(), Scale::new(10, 500_000).thousandths()), (60, 20_000));
    }

    #[test]
    fn the_same_dice_give_the_same_draws_at_either_end_of_the_bounds() {
        for scale in [Scale::new(1, 10_000_000), Scale::new(1_000, 1_000)] {
            let draws = |seed| {
                let mut dice = ChaCha12Rng::from_seed([seed; 32]);
                (0..200).map(|_| scale.draw(&mut dice)).collect::<Vec<_>>()
            };
            assert_eq!(draws(1), draws(1));
            // At the greatest cost nearly every draw is zero.
            assert_eq!(draws(1) != draws(2), scale.thousandths() > 1_000, "{scale:?}");
        }
    }

    #[test]
    fn numbers_below_an_end_are_all_reached() {
        let mut dice = ChaCha12Rng::from_seed([3; 32]);
        let mut seen = [0u32; 5];
        (0..5_000).for_each(|_| seen[below(&mut dice, 5) as usize] += 1);
        assert!(seen.iter().all(|count| (900..1_100).contains(count)), "{seen:?}");
        assert!((0..100).all(|_| below(&mut dice, 1) == 0));
        assert!((0..100).all(|_| below(&mut dice, u64::MAX) < u64::MAX));
    }
}
