//! Drift of the mix of tools: PSI of the last 128 learned actions against those before, over 16 buckets.
//!
//! `PSI = Σ (p - q) · ln(p / q)`. Two samples of one mix differ by chance; what chance gives on average, (buckets - 1) ·
//! (1/n + 1/m), is taken off, or small windows would always drift. The baseline sets itself from the first 256 actions
//! and follows slowly; after a drift faster, so that a lasting change is told a few times and not for ever.

use super::stats::log2;
use super::{EXTREME, ODD, STRIKING, Seen};

const BUCKETS: usize = 16;
/// Actions in a window, and in the first baseline.
const WINDOW: u32 = 128;
const BASELINE_MIN: u32 = 256;
/// PSI in thousandths: drift, warning, critical.
const DRIFT: i64 = 200;
const WARNING: i64 = 300;
const CRITICAL: i64 = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Mix {
    /// Actions by bucket: what is usual; about 1,024 in all.
    usual: [u16; BUCKETS],
    /// Those of the window that is filling.
    window: [u16; BUCKETS],
}

impl Mix {
    /// Closes the window where it is full; tells of it then.
    pub fn judge(&mut self) -> Option<u16> {
        if total(&self.window) < WINDOW {
            return None;
        }
        let known = total(&self.usual) >= BASELINE_MIN;
        let psi = if known { psi(&self.window, &self.usual) } else { 0 };
        let keep = if psi >= DRIFT { 2 } else { 8 };
        for (usual, new) in self.usual.iter_mut().zip(&mut self.window) {
            let old = if known { *usual - (*usual).div_ceil(keep) } else { *usual };
            *usual = old.saturating_add(std::mem::take(new));
        }
        match psi {
            CRITICAL.. => Some(EXTREME),
            WARNING.. => Some(STRIKING),
            DRIFT.. => Some(ODD),
            _ => None,
        }
    }

    pub fn learn(&mut self, seen: &Seen) {
        let count = &mut self.window[usize::from(seen.tool.0[0]) % BUCKETS];
        *count = count.saturating_add(1);
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        self.usual.iter().chain(&self.window).for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
    }
}

fn total(counts: &[u16; BUCKETS]) -> u32 {
    counts.iter().map(|count| u32::from(*count)).sum()
}

/// In thousandths, less what chance gives. Half an action is added to every bucket, so that no share is 0.
fn psi(window: &[u16; BUCKETS], usual: &[u16; BUCKETS]) -> i64 {
    let whole = |counts| 2 * u64::from(total(counts)) + BUCKETS as u64;
    let (n, m) = (whole(window), whole(usual));
    let (mut sum, mut used) = (0i64, 0i64);
    for (p, q) in window.iter().zip(usual) {
        used += i64::from(*p > 0 || *q > 0);
        let (p, q) = (2 * u64::from(*p) + 1, 2 * u64::from(*q) + 1);
        // Shares with 20 fractional bits, logarithms with 16: at most 2^20 · 2^22 each.
        let difference = ((p << 20) / n) as i64 - ((q << 20) / m) as i64;
        let ratio = i64::from(log2(p)) - i64::from(log2(n)) - i64::from(log2(q)) + i64::from(log2(m));
        sum += difference * ratio;
    }
    // ln 2 = 0.693147; 2^36 is the scale of the sum.
    let thousandths = ((i128::from(sum) * 693_147 / 1_000) >> 36) as i64;
    let (n, m) = (i64::from(total(window).max(1)), i64::from(total(usual).max(1)));
    thousandths - (used - 1).max(0) * 1_000 * (n + m) / (n * m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psi_is_that_of_the_definition_less_chance() {
        let mut dice = 3u64;
        for _ in 0..500 {
            let mut counts = |most: u64| {
                std::array::from_fn::<u16, BUCKETS, _>(|_| {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    ((dice >> 33) % most) as u16
                })
            };
            let (window, usual) = (counts(20), counts(90));
            let share =
                |counts: &[u16; BUCKETS], at: usize| (f64::from(counts[at]) + 0.5) / (f64::from(total(counts)) + 8.0);
            let exact: f64 = (0..BUCKETS)
                .map(|at| (share(&window, at), share(&usual, at)))
                .map(|(p, q)| (p - q) * (p / q).ln())
                .sum();
            let chance = 15.0 * (1.0 / f64::from(total(&window)) + 1.0 / f64::from(total(&usual)));
            let ours = psi(&window, &usual) as f64 / 1_000.0;
            assert!((ours - (exact - chance)).abs() < 0.035, "{ours} against {exact} less {chance}");
        }
    }
}
