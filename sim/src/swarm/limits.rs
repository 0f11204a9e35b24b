//! What a seed's run is bound by: limits besides each agent's rate and the purse, and smaller constants of the code.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha12Rng;

use crate::plan::{HouseSpec, SharedSpec};

/// In half of all runs something is reserved, and each way of sharing is met in a third of them.
pub fn draw_shared(dice: &mut ChaCha12Rng) -> SharedSpec {
    let rate = dice.random_range(4..20);
    let window_s = dice.random_range(3..15);
    SharedSpec {
        tide: dice.random_bool(0.35).then_some((rate, rate + dice.random_range(4..30))),
        pond: dice.random_bool(0.35).then_some((rate * window_s, window_s)),
        hall: dice.random_bool(0.35).then_some(dice.random_range(1..8)),
        pot: dice.random_bool(0.35).then_some(dice.random_range(200..3_000)),
        reserve_permille: if dice.random_bool(0.5) { dice.random_range(50..500) } else { 0 },
        ghost: dice.random_bool(0.35).then_some((rate.div_ceil(2), rate + 2)),
        tally: dice.random_bool(0.35).then_some((rate * window_s / 2, window_s)),
    }
}

pub fn draw_house(dice: &mut ChaCha12Rng) -> HouseSpec {
    HouseSpec {
        coins: dice.random_bool(0.3).then_some(dice.random_range(5_000..200_000)),
        stride: dice.random_bool(0.3).then_some((dice.random_range(1..5), dice.random_range(2..9))),
        shade: dice.random_bool(0.3),
        keep: if dice.random_bool(0.3) { dice.random_range(1..40) } else { 0 },
        runaway: dice.random_bool(0.15),
        huge_permille: if dice.random_bool(0.3) { 30 } else { 0 },
        stays: false,
    }
}

/// Constants that a run of a minute would never reach otherwise.
pub fn draw_knobs(dice: &mut ChaCha12Rng) -> BTreeMap<String, u64> {
    let mut knobs = BTreeMap::new();
    let mut turn = |name: &str, chance: f64, values: &[u64]| {
        let value = *values.choose(dice).expect("not empty");
        if dice.random_bool(chance) {
            knobs.insert(name.to_owned(), value);
        }
    };
    // A segment holds at least two of the largest entries, and the first policy is one of 20 KiB.
    turn("wal.segment-bytes", 1.0, &[256 * 1024, 512 * 1024, 1024 * 1024]);
    turn("propose.entry-bytes", 1.0, &[16 * 1024, 64 * 1024]);
    turn("wal.mark-every", 0.5, &[4, 16]);
    turn("snapshot.log-bytes", 0.9, &[16 * 1024, 48 * 1024, 128 * 1024]);
    turn("snapshot.every-ms", 0.9, &[1_000, 3_000]);
    turn("snapshot.keep-entries", 0.8, &[0, 4, 64]);
    turn("snapshot.pinned-segments", 0.9, &[1, 2]);
    turn("actor.idle-ms", 0.7, &[500, 2_000, 10_000]);
    turn("dedup.entries", 0.4, &[40, 150, 1_000]);
    turn("dedup.window-ms", 0.3, &[15_000, 30_000]);
    turn("seal.leaves", 0.5, &[256]);
    turn("seal.sync-ms", 0.5, &[500, 2_000]);
    turn("scrub.every-ms", 0.5, &[1_000, 3_000, 10_000]);
    turn("control.revocation-ms", 0.6, &[1_500, 2_500, 5_000]);
    turn("seal.lag-bytes", 0.2, &[8 * 1024, 32 * 1024]);
    turn("propose.fill-commands", 0.3, &[1, 2, 256]);
    knobs
}
