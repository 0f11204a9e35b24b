//! When audit segments are old. Draws nothing: the dice of a seed fall as they did before there were any tiers.

use std::collections::BTreeMap;

/// Old after three seconds in every third plan, else within no run.
pub fn draw(knobs: &mut BTreeMap<String, u64>, seed: u64) {
    if seed.is_multiple_of(3) {
        knobs.extend([("warm.after-ms".to_owned(), 3_000), ("warm.every-ms".to_owned(), 500)]);
    }
}
