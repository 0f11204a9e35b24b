//! How long bodies are kept in a run, and legal holds on the way. Drawn with dice of its own, so that everything else in a
//! seed's plan stays as it was.

use std::collections::BTreeMap;

use rand::RngExt;

use super::FOUNDED_BY_MS;
use crate::dice;
use crate::plan::{CALM, Order, OrderKind, WorkSpec};

/// In a third of all runs bodies are kept for seconds; later they are kept longer, and some agents' whatever comes.
pub(super) fn draw(work: &mut WorkSpec, knobs: &mut BTreeMap<String, u64>, seed: u64, length_ms: u64) {
    let mut dice = dice::fork(seed, "retention");
    if !dice.random_ratio(1, 3) {
        return;
    }
    knobs.insert("retention.age-s-min".to_owned(), 1);
    knobs.insert("retention.grace-s".to_owned(), dice.random_range(1..4));
    knobs.insert("retention.look-s".to_owned(), 2);
    let (first, last) = (FOUNDED_BY_MS + 1_000, length_ms - CALM.as_millis() as u64);
    let begun_ms = dice.random_range(first..first + 3_000);
    let later_ms = dice.random_range(begun_ms + 6_000..last.max(begun_ms + 6_001));
    let keep = |routine_s, notable_s| OrderKind::Keep { routine_s, notable_s };
    let short = keep(dice.random_range(3..8), dice.random_range(3..20));
    let mut orders =
        vec![(begun_ms, short), (later_ms, keep(dice.random_range(20..2_000), dice.random_range(3..2_000)))];
    for _ in 0..dice.random_range(0..3) {
        let (agent, for_ms) = (dice.random_range(0..work.spread_agents), dice.random_range(2_000..20_000));
        let at_ms = dice.random_range(first..last);
        orders.push((at_ms, OrderKind::LegalHold { agent, for_ms }));
        if dice.random_bool(0.5) {
            let at_ms = (at_ms + dice.random_range(500..4_000)).min(last);
            orders.push((at_ms, OrderKind::Erase { agent }));
        }
    }
    work.orders.extend(orders.into_iter().map(|(at_ms, order)| Order { at_ms, order }));
    work.orders.sort_by_key(|order| order.at_ms);
}
