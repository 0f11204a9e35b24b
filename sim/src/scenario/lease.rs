//! Limits that all partitions share: their parent is cut off, holders of shares die, messages are lost and doubled, and
//! never is more allowed than the limit (checks `admission`, `reservation`).

use super::draft::{Draft, stop};
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;
use crate::plan::SharedSpec;

const GRANTED: &str = "a lease was granted";
const RETURNED: &str = "a lease was given back";
const REFUSED: &str = "a leased budget ran out";
const NOT_TO_BE_HAD: &str = "a lease was not to be had";
const FLOWED: &str = "a share of a flow was granted";
const NO_ROOM: &str = "a leased rate or rolling window had no room";
const IN_ONE_ROUND: &str = "shares of several limits came in one round";
const AHEAD: &str = "an action was counted ahead of a grant";
const FULL: &str = "a shared limit that refuses nobody was found full";
const VOID: &str = "a share of a flow was void unspent";

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
    Scenario {
        name: "shared-rate-in-calm",
        what: "Agents of all partitions share a rate that is always asked for more than it gives, and nothing fails.",
        expected: Expected::Good,
        seen: &[FLOWED, NO_ROOM],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| flows(Draft::five(seed), Some((8, 16)), None).done(),
    },
    Scenario {
        name: "shared-limits-that-refuse-nobody",
        what: "Agents of all partitions share a rate in shadow mode and a soft budget, and one node after another is away.",
        expected: Expected::Good,
        seen: &[AHEAD, FULL],
        bounds: USUAL,
        build: |seed| {
            let draft = flows(Draft::five(seed), None, None);
            let draft = draft.work(|work| (work.shared.ghost, work.shared.tally) = (Some((6, 14)), Some((60, 5))));
            draft
                .at(6_000, 5_000, Fault::Power { nodes: vec![1] })
                .at(15_000, 5_000, Fault::Power { nodes: vec![3] })
                .done()
        },
    },
    Scenario {
        name: "shared-rate-holders-lose-quorum",
        what: "Partitions that hold some of a shared rate lose their quorum for longer than their shares live.",
        expected: Expected::Good,
        seen: &[FLOWED, NO_ROOM, VOID],
        bounds: LONG,
        build: |seed| {
            flows(Draft::five(seed).seconds(48), Some((6, 14)), None)
                .at(8_000, 15_000, Fault::Power { nodes: vec![1, 2] })
                .at(27_000, 14_000, Fault::Power { nodes: vec![3, 4] })
                .done()
        },
    },
    Scenario {
        name: "shared-rolling-window-and-clocks",
        what: "A rolling window is shared while one machine's clock jumps and holders lose their power.",
        expected: Expected::Good,
        seen: &[FLOWED, NO_ROOM],
        bounds: LONG,
        build: |seed| {
            let jump = |turn| if turn % 2 == 0 { 1_500 } else { -1_500 };
            flows(Draft::five(seed), None, Some((40, 4)))
                .each(4, 8_000, 4_100, 1_200, |turn| Fault::ClockJump { node: 2, by_ms: jump(turn) })
                .each(5, 9_000, 3_900, 300, |turn| Fault::Power { nodes: vec![turn % 5 + 1] })
                .done()
        },
    },
    Scenario {
        name: "three-limits-at-their-ends-afar",
        what: "Every action needs shares of three limits that run out, in three regions of 110 ms, and one call is enough.",
        expected: Expected::Good,
        seen: &[GRANTED, FLOWED, NO_ROOM, IN_ONE_ROUND],
        bounds: Bounds { healed_ms_max: 3_000, called_again_max: 0, ..USUAL },
        build: |seed| {
            let draft = flows(Draft::three(seed).afar(55), Some((6, 14)), Some((30, 4)));
            draft
                .work(|work| {
                    (work.clients, work.fleet, work.again_permille) = (2, Some((24, 4)), 0);
                })
                .done()
        },
    },
    Scenario {
        name: "reservations-over-all-partitions",
        what: "Partitions share a number of live reservations and a supply of tokens, and holders lose their power.",
        expected: Expected::Good,
        seen: &[GRANTED, RETURNED, "a settlement was told again", "a settlement was refused"],
        bounds: LONG,
        build: |seed| {
            reserving(Draft::five(seed), Some(5), Some(1_500))
                .each(6, 8_000, 2_900, 300, |turn| Fault::Power { nodes: vec![turn % 5 + 1] })
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

/// Enough work that a rate or a rolling window never has room for all of it.
fn flows(draft: Draft, tide: Option<(u64, u64)>, pond: Option<(u64, u64)>) -> Draft {
    draft.work(|work| {
        (work.clients, work.pause_ms, work.pace) = (12, (20, 120), (20, 40));
        work.shared = SharedSpec { tide, pond, ..SharedSpec::default() };
    })
}

/// Half of all requests reserve tokens.
pub fn reserving(draft: Draft, hall: Option<u64>, pot: Option<u64>) -> Draft {
    draft.work(|work| {
        (work.clients, work.pause_ms, work.pace) = (12, (20, 120), (20, 40));
        work.shared = SharedSpec { hall, pot, reserve_permille: 500, ..SharedSpec::default() };
    })
}
