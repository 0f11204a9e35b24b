//! Wall clocks that jump and clocks that run at another speed. Log time must rise, and budgets and holds keep to it.

use super::draft::{Draft, quarantine};
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;

const HOUR_MS: i64 = 3_600_000;

fn jump(node: u64, by_ms: i64) -> Fault {
    Fault::ClockJump { node, by_ms }
}

fn kill(turn: u64) -> Fault {
    Fault::Kill { node: turn % 3 + 1 }
}

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "clock-an-hour-ahead",
        what: "Each node's wall clock in turn jumps an hour ahead while leaders die.",
        expected: Expected::Good,
        seen: &["a node's clock was too far off to lead"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed)
                .each(3, 8_000, 5_500, 5_000, |turn| jump(turn + 1, HOUR_MS))
                .each(3, 9_000, 5_500, 400, |turn| kill(turn + 1))
                .done()
        },
    },
    Scenario {
        name: "clock-an-hour-back",
        what: "Each node's wall clock in turn jumps an hour back while leaders die.",
        expected: Expected::Good,
        seen: &["a node's clock was too far off to lead"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed)
                .each(3, 8_000, 5_500, 5_000, |turn| jump(turn + 1, -HOUR_MS))
                .each(3, 9_000, 5_500, 400, |turn| kill(turn + 1))
                .done()
        },
    },
    Scenario {
        name: "clock-too-far-off-to-lead",
        what: "One node's clock is five seconds off from the start, so that it may follow and never lead.",
        expected: Expected::Good,
        seen: &["a node's clock was too far off to lead"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed)
                .fleet(|fleet| fleet.wall_off_ms[1] = 5_000)
                .each(2, 9_000, 6_000, 500, |turn| kill(turn * 2))
                .done()
        },
    },
    Scenario {
        name: "clocks-drift-within-bounds",
        what: "One clock runs 500 parts per million fast and another one as slow while leaders change.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: USUAL,
        build: |seed| {
            let drift = |node, ppm| Fault::ClockDrift { node, ppm };
            Draft::three(seed)
                .at(7_000, 18_000, drift(1, 500))
                .at(7_000, 18_000, drift(3, -500))
                .each(3, 9_000, 5_000, 500, kill)
                .done()
        },
    },
    Scenario {
        name: "clock-a-fifth-too-fast",
        what: "One node's clock runs a fifth too fast for ten seconds, far beyond any bound.",
        expected: Expected::Good,
        seen: &["a node's clock was too far off to lead"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed)
                .at(8_000, 10_000, Fault::ClockDrift { node: 2, ppm: 200_000 })
                .each(3, 11_000, 3_000, 300, |turn| kill(turn * 2))
                .done()
        },
    },
    Scenario {
        name: "clock-steps-under-a-hold",
        what: "Clocks step back and forth by half a second while agents are held and released.",
        expected: Expected::Good,
        seen: &["a hold on an agent was enforced", "a quarantine was released"],
        bounds: Bounds { healed_ms_max: 6_000, ..USUAL },
        build: |seed| {
            let draft = (0..3).fold(Draft::three(seed), |draft, agent| {
                draft.order(8_000 + u64::from(agent) * 3_000, quarantine(agent, 5_000))
            });
            draft.each(8, 8_000, 2_000, 1_200, |turn| jump(turn % 3 + 1, if turn % 2 == 0 { 500 } else { -500 })).done()
        },
    },
];
