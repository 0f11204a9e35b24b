//! When audit segments are old, and whether words are indexed. Draws nothing: the dice of a seed fall as they did before there were any tiers.

use std::collections::BTreeMap;

use crate::plan::WorkSpec;

/// Old after three seconds in every third plan, and in half of these bodies go to the object store three seconds later; in the
/// others nothing is moved within a run. Of every other one of those with an object store a tenant keeps its bodies from it.
pub fn draw(work: &mut WorkSpec, knobs: &mut BTreeMap<String, u64>, seed: u64) {
    work.house.stays = seed % 12 == 6;
    if seed.is_multiple_of(3) {
        knobs.extend([("warm.after-ms".to_owned(), 3_000), ("warm.every-ms".to_owned(), 500)]);
    }
    if seed.is_multiple_of(4) {
        knobs.insert("text.every-ms".to_owned(), 900);
    }
    if seed.is_multiple_of(6) {
        knobs.extend([("cold.after-ms".to_owned(), 6_000), ("cold.every-ms".to_owned(), 500)]);
    }
}
