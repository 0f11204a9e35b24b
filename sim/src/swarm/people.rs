//! What people do in a run: they approve, they hold sessions and regions, and two of them release together.
//!
//! Drawn with dice of its own, so that everything else in a seed's plan stays as it was.

use std::collections::BTreeMap;

use rand::RngExt;

use super::FOUNDED_BY_MS;
use crate::dice;
use crate::plan::{CALM, Order, OrderKind, WorkSpec};

/// Half of all runs have agents that ask for approvals, and some of those orders on parts and with several approvers.
pub(super) fn draw(work: &mut WorkSpec, knobs: &mut BTreeMap<String, u64>, seed: u64, length_ms: u64) {
    super::retention::draw(work, knobs, seed, length_ms);
    super::tiers::draw(work, knobs, seed);
    let mut dice = dice::fork(seed, "approvals");
    if dice.random_bool(0.5) {
        return;
    }
    work.approvals = dice.random_range(2..5);
    knobs.insert("approval.ttl-s".to_owned(), dice.random_range(3..20));
    let (first, last) = (FOUNDED_BY_MS + 1_000, length_ms - CALM.as_millis() as u64);
    for _ in 0..dice.random_range(0..3) {
        let (at_ms, for_ms) = (dice.random_range(first..last), dice.random_range(1_000..6_000));
        let approvers = if dice.random_bool(0.5) { 2 } else { 0 };
        let order = match dice.random_range(0..3) {
            0 => OrderKind::Guarded { agent: dice.random_range(0..work.spread_agents), for_ms },
            1 => OrderKind::HoldSession { for_ms, approvers },
            _ => OrderKind::HoldRegion { for_ms, approvers },
        };
        work.orders.push(Order { at_ms, order });
    }
    work.orders.sort_by_key(|order| order.at_ms);
}
