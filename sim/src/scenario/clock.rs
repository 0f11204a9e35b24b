//! Wall clocks that jump and clocks that run at another speed. Log time must rise, and budgets and holds keep to it.

use super::draft::{Draft, quarantine};
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;
use crate::plan::Plan;

const OFF: &str = "a leader whose clock was off gave its group up";
const HOUR_MS: i64 = 3_600_000;

fn jump(node: u64, by_ms: i64) -> Fault {
    Fault::ClockJump { node, by_ms }
}

fn kill(turn: u64) -> Fault {
    Fault::Kill { node: turn % 3 + 1 }
}

/// Each node's clock in turn is off when the one next to it dies, and the third one votes too slowly to win.
fn off_to_lead(seed: u64, by_ms: i64) -> Plan {
    Draft::three(seed)
        .each(3, 8_000, 6_000, 5_000, |turn| jump(turn + 1, by_ms))
        .each(3, 8_500, 6_000, 4_000, |turn| Fault::SlowDisk { node: (turn + 2) % 3 + 1, delay_ms: 300 })
        .each(3, 9_000, 6_000, 2_500, |turn| kill(turn + 1))
        .done()
}

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "clock-an-hour-ahead",
        what: "Each node's wall clock in turn jumps an hour ahead while leaders die.",
        expected: Expected::Good,
        seen: &["a node's clock was too far off to lead", OFF],
        bounds: LONG,
        build: |seed| off_to_lead(seed, HOUR_MS),
    },
    Scenario {
        name: "clock-an-hour-back",
        what: "Each node's wall clock in turn jumps an hour back while leaders die.",
        expected: Expected::Good,
        seen: &["a node's clock was too far off to lead", OFF],
        bounds: LONG,
        build: |seed| off_to_lead(seed, -HOUR_MS),
    },
    Scenario {
        name: "clock-too-far-off-to-lead",
        what: "One node's clock is five seconds off from the start, so that it may follow and never lead.",
        expected: Expected::Good,
        seen: &["a node's clock was too far off to lead", OFF],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed)
                .fleet(|fleet| fleet.wall_off_ms[1] = 5_000)
                .each(3, 9_000, 5_000, 1_500, |turn| kill(turn * 2))
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
        name: "clock-of-a-leader-a-tenth-fast",
        what: "A leader's clock runs a tenth too fast, beyond any bound, so that it has to give its groups up.",
        expected: Expected::Good,
        seen: &[OFF],
        bounds: LONG,
        build: |seed| {
            let draft = Draft::three(seed);
            let node = draft.leader(0);
            draft.at(8_000, 14_000, Fault::ClockDrift { node, ppm: 100_000 }).done()
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
