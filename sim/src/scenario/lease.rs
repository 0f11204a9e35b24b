//! Budgets that all partitions share: their parent is cut off, holders of shares die, messages are lost and doubled, and
//! never is more allowed than the budget (check `admission`).

use super::draft::{Draft, stop};
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;

const GRANTED: &str = "a lease was granted";
const RETURNED: &str = "a lease was given back";
const REFUSED: &str = "a leased budget ran out";
const NOT_TO_BE_HAD: &str = "a lease was not to be had";

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "shared-budget-in-calm",
        what: "Agents of all partitions share a budget that runs out in every window, and nothing fails.",
        expected: Expected::Good,
        seen: &[GRANTED, RETURNED, REFUSED, "the budget that all partitions share ran out"],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| shared(Draft::five(seed), 200, 5).done(),
    },
    Scenario {
        name: "shared-budget-of-one",
        what: "Every window's budget is one request, and five partitions want it.",
        expected: Expected::Good,
        seen: &[GRANTED, REFUSED],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| shared(Draft::five(seed), 1, 2).done(),
    },
    Scenario {
        name: "lease-parents-cut-off",
        what: "One node after another is cut off, the parents of shared budgets among them.",
        expected: Expected::Good,
        seen: &[GRANTED, RETURNED, REFUSED, NOT_TO_BE_HAD],
        bounds: USUAL,
        build: |seed| {
            let draft = shared(Draft::five(seed).seconds(44), 60, 6);
            (0..5).fold(draft, |draft, turn| draft.alone(8_000 + turn * 5_000, 4_000, &[turn + 1])).done()
        },
    },
    Scenario {
        name: "lease-holders-lose-power",
        what: "One machine after another loses its power between taking a share and spending it.",
        expected: Expected::Good,
        seen: &[GRANTED, RETURNED, REFUSED],
        bounds: USUAL,
        build: |seed| {
            shared(Draft::five(seed), 60, 6)
                .each(8, 8_000, 2_100, 300, |turn| Fault::Power { nodes: vec![turn % 5 + 1] })
                .at(9_000, 12_000, stop(0, "apply.reply", 40, 500))
                .done()
        },
    },
    Scenario {
        name: "leases-over-a-bad-network",
        what: "What parents and holders of shares say to each other is lost, doubled and overtaken.",
        expected: Expected::Good,
        seen: &[GRANTED, RETURNED, REFUSED],
        bounds: LONG,
        build: |seed| {
            let draft = shared(Draft::five(seed), 60, 6);
            let all: Vec<u64> = (1..=5).collect();
            draft
                .at(8_000, 16_000, Fault::Loss { from: all.clone(), to: all, permille: 80 })
                .at(8_000, 16_000, Fault::Duplicate { permille: 300 })
                .at(8_000, 16_000, Fault::Reorder { jitter_ms: 120 })
                .done()
        },
    },
    Scenario {
        name: "leases-and-a-wrong-clock",
        what: "A machine's clock jumps over the ends of windows, back and forth.",
        expected: Expected::Good,
        seen: &[GRANTED, REFUSED],
        bounds: LONG,
        build: |seed| {
            shared(Draft::five(seed), 30, 4)
                .each(6, 8_000, 2_700, 1_200, |turn| Fault::ClockJump {
                    node: 2,
                    by_ms: if turn % 2 == 0 { 9_000 } else { -9_000 },
                })
                .done()
        },
    },
];

/// Enough work that the budget runs out.
fn shared(draft: Draft, cap: u64, window_s: u64) -> Draft {
    draft.work(|work| {
        (work.clients, work.pause_ms, work.pace) = (12, (20, 120), (20, 40));
        work.fleet = Some((cap, window_s));
    })
}
