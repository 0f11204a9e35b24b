//! What users of quota systems complain about most, each as a situation that must not happen here. The complaints are those
//! of public issue threads: checks that race with charges, limits that multiply by replicas, caches that fail open,
//! reservations that never end, windows with a boundary, shadow limits that refuse, units that do not mix, parents that are
//! charged for a denied child, races at a window's end, and times to come back that are not kept.

use super::draft::{Draft, stop};
use super::lease::reserving;
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;
use crate::plan::{HouseSpec, SharedSpec, WorkSpec};

const BUDGET_OUT: &str = "a budget ran out";
const RATE_OUT: &str = "a rate limit refused something";

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "no-overspend-by-concurrency",
        what: "Forty clients spend one small budget at once through all nodes, while its leaders die.",
        expected: Expected::Good,
        seen: &[BUDGET_OUT, "an entry held several commands"],
        bounds: USUAL,
        build: |seed| {
            Draft::three(seed)
                .work(|work| (work.clients, work.pause_ms, work.purse) = (40, (50, 400), 900))
                .each(3, 9_000, 5_000, 700, |turn| Fault::Kill { node: turn + 1 })
                .done()
        },
    },
    Scenario {
        name: "no-limit-times-replicas",
        what: "Five nodes take requests under one shared rate, also while apart, and together admit what one would.",
        expected: Expected::Good,
        seen: &["a leased rate or rolling window had no room"],
        bounds: LONG,
        build: |seed| {
            Draft::five(seed)
                .work(busy)
                .work(|work| work.shared.tide = Some((5, 12)))
                .apart(12_000, 5_000, &[1, 2], &[3, 4, 5])
                .done()
        },
    },
    Scenario {
        name: "closed-while-nobody-can-count",
        what: "Three of five machines are dark, and not one request is let through uncounted.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: LONG,
        build: |seed| Draft::five(seed).work(busy).at(10_000, 6_000, Fault::Power { nodes: vec![1, 2, 3] }).done(),
    },
    Scenario {
        name: "no-phantom-reservations",
        what: "Clients and leaders die between reserving and settling, and everything that was held comes back in time.",
        expected: Expected::Good,
        seen: &["a reservation expired", "a settlement was told again"],
        bounds: LONG,
        build: |seed| {
            reserving(Draft::five(seed).seconds(44), Some(4), None)
                .each(6, 8_000, 3_100, 400, |turn| Fault::Kill { node: turn % 5 + 1 })
                .at(9_000, 9_000, stop(0, "apply.reply", 30, 500))
                .done()
        },
    },
    Scenario {
        name: "no-burst-at-the-boundary",
        what: "A rolling window has no end at which twice as much could pass, whoever leads and whatever its clock says.",
        expected: Expected::Good,
        seen: &["a leased rate or rolling window had no room"],
        bounds: LONG,
        build: |seed| {
            Draft::five(seed)
                .work(busy)
                .work(|work| work.shared.pond = Some((30, 3)))
                .each(4, 8_000, 4_000, 500, |turn| Fault::Kill { node: turn % 5 + 1 })
                .done()
        },
    },
    Scenario {
        name: "shadow-limits-decide-nothing",
        what: "A limit in shadow mode that nothing fits under stands beside an enforced one and changes no verdict.",
        expected: Expected::Good,
        seen: &[BUDGET_OUT],
        bounds: USUAL,
        build: |seed| house(seed, |house| house.shade = true).done(),
    },
    Scenario {
        name: "each-unit-has-its-own-limit",
        what: "An action costs credits and millionths of a dollar, each under its own limit, and all or none are charged.",
        expected: Expected::Good,
        seen: &[BUDGET_OUT],
        bounds: USUAL,
        build: |seed| {
            house(seed, |house| house.coins = Some(60_000))
                .each(3, 9_000, 4_000, 500, |turn| Fault::Power { nodes: vec![turn + 1] })
                .done()
        },
    },
    Scenario {
        name: "a-denial-charges-nobody",
        what: "Agents over their own rate, and costs that nothing could hold, leave the tenant's budget as it was.",
        expected: Expected::Good,
        seen: &[RATE_OUT],
        bounds: USUAL,
        build: |seed| {
            house(seed, |house| (house.stride, house.huge_permille) = (Some((1, 2)), 80))
                .each(3, 9_000, 4_000, 500, |turn| Fault::Kill { node: turn + 1 })
                .done()
        },
    },
    Scenario {
        name: "room-is-kept-for-the-critical",
        what: "A budget keeps a part back for critical requests, and no other request takes any of it while leaders die.",
        expected: Expected::Good,
        seen: &[BUDGET_OUT],
        bounds: USUAL,
        build: |seed| {
            house(seed, |house| house.keep = 100)
                .each(3, 9_000, 4_000, 500, |turn| Fault::Kill { node: turn + 1 })
                .done()
        },
    },
    Scenario {
        name: "no-race-at-a-window-end",
        what: "Shared budgets of two seconds roll over while leaders die and messages come twice.",
        expected: Expected::Good,
        seen: &["a leased budget ran out", "a lease was granted"],
        bounds: LONG,
        build: |seed| {
            Draft::five(seed)
                .work(busy)
                .work(|work| work.fleet = Some((12, 2)))
                .at(8_000, 16_000, Fault::Duplicate { permille: 300 })
                .each(6, 8_000, 2_000, 300, |turn| Fault::Kill { node: turn % 5 + 1 })
                .done()
        },
    },
    Scenario {
        name: "retry-after-is-kept",
        what: "Agents over their rate are told when to come back, to the nanosecond, by whichever leader decides.",
        expected: Expected::Good,
        seen: &[RATE_OUT],
        bounds: Bounds { healed_ms_max: 8_000, ..USUAL },
        build: |seed| {
            Draft::three(seed)
                .work(|work| (work.clients, work.pause_ms, work.pace, work.spread_agents) = (16, (20, 200), (2, 3), 4))
                .each(3, 9_000, 5_000, 700, |turn| Fault::Kill { node: turn + 1 })
                .done()
        },
    },
    Scenario {
        name: "a-runaway-agent-floods-no-log",
        what: "Two agents ask for the same thing over and over, and are refused from memory once the log has said so.",
        expected: Expected::Good,
        seen: &["a denial was answered from memory"],
        bounds: LONG,
        build: |seed| {
            house(seed, |house| (house.runaway, house.stride) = (true, Some((1, 2))))
                .work(|work| (work.single_agents, work.pause_ms) = (2, (5, 40)))
                .each(3, 9_000, 4_000, 500, |turn| Fault::Kill { node: turn + 1 })
                .done()
        },
    },
];

/// More than shared limits have room for.
fn busy(work: &mut WorkSpec) {
    (work.clients, work.pause_ms, work.pace) = (12, (20, 120), (20, 40));
    work.shared = SharedSpec::default();
}

/// A busy single tenant with more limits than its purse.
fn house(seed: u64, change: impl FnOnce(&mut HouseSpec)) -> Draft {
    Draft::three(seed)
        .work(|work| (work.clients, work.pause_ms, work.purse) = (14, (20, 200), 900))
        .work(|work| change(&mut work.house))
}
