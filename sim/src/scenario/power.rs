//! Processes that are killed and machines that lose power, at any moment. Chosen moments are in `crash`.

use super::draft::{Draft, buggify, wait};
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;

fn power(nodes: &[u64]) -> Fault {
    Fault::Power { nodes: nodes.to_vec() }
}

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "rolling-restart",
        what: "Each node's process is killed and started again, one every four seconds, as in an update.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { healed_ms_max: 4_000, leader_changes: (8, u64::MAX), ..USUAL },
        build: |seed| Draft::three(seed).each(3, 8_000, 4_000, 800, |turn| Fault::Kill { node: turn + 1 }).done(),
    },
    Scenario {
        name: "rolling-power-loss",
        what: "Each of five machines loses its power for a second, one every three seconds.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { healed_ms_max: 4_000, leader_changes: (8, u64::MAX), ..USUAL },
        build: |seed| Draft::five(seed).each(5, 8_000, 3_000, 1_000, |turn| power(&[turn + 1])).done(),
    },
    Scenario {
        name: "torn-tails",
        what: "All machines lose power six times while slow syncs are under way, so that logs end in half a write.",
        expected: Expected::Good,
        seen: &["a start cut the log's torn tail"],
        bounds: LONG,
        build: |seed| {
            // Far enough apart that something is decided, and being written, each time.
            Draft::three(seed)
                .fleet(|fleet| fleet.sync_ms = (40, 120))
                .seconds(50)
                .each(6, 7_000, 6_000, 200, |_| power(&[1, 2, 3]))
                .done()
        },
    },
    Scenario {
        name: "all-power-lost",
        what: "All machines lose power at the same instant, three times, with writes that were never synced.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { leader_changes: (15, u64::MAX), ..USUAL },
        build: |seed| Draft::three(seed).each(3, 9_000, 6_000, 500, |_| power(&[1, 2, 3])).done(),
    },
    Scenario {
        name: "all-processes-killed",
        what: "All processes are killed at the same instant, twice, and what was written is there, synced or not.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { leader_changes: (10, u64::MAX), ..USUAL },
        build: |seed| {
            let draft = Draft::three(seed).each(3, 9_000, 0, 400, |turn| Fault::Kill { node: turn + 1 });
            draft.each(3, 16_000, 0, 400, |turn| Fault::Kill { node: turn + 1 }).done()
        },
    },
    Scenario {
        name: "majority-back-in-forty-ms",
        what: "Two of three machines lose power at the same instant and are back within 40 ms, six times.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { leader_changes: (8, u64::MAX), ..USUAL },
        build: |seed| {
            let pair = |draft: Draft, turn: u64| {
                let at_ms = 8_000 + turn * 2_700;
                draft.at(at_ms, 20, power(&[turn % 3 + 1])).at(at_ms, 40, power(&[(turn + 1) % 3 + 1]))
            };
            (0..6).fold(Draft::three(seed), pair).done()
        },
    },
    Scenario {
        name: "staggered-double-crash",
        what: "A second machine loses power just as the first one comes back, so that two are never up for long.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { leader_changes: (8, u64::MAX), ..USUAL },
        build: |seed| {
            Draft::three(seed)
                .each(4, 8_000, 4_000, 2_000, |turn| power(&[turn % 3 + 1]))
                .each(4, 9_900, 4_000, 1_500, |turn| power(&[(turn + 1) % 3 + 1]))
                .done()
        },
    },
    Scenario {
        name: "crash-loop",
        what: "One node is killed twelve times, each time soon after it has started.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { healed_ms_max: 4_000, ..USUAL },
        build: |seed| Draft::three(seed).each(12, 8_000, 1_100, 400, |_| Fault::Kill { node: 2 }).done(),
    },
    Scenario {
        name: "region-lost",
        what: "Two of five machines, a whole region, are dark for ten seconds.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { healed_ms_max: 4_000, ..USUAL },
        build: |seed| Draft::five(seed).at(8_000, 10_000, power(&[1, 4])).done(),
    },
    Scenario {
        name: "snapshot-after-a-long-outage",
        what: "A machine is dark for twelve seconds while the others drop all that it would need from their logs.",
        expected: Expected::Good,
        seen: &[
            "a leader's snapshot was installed",
            "the sealer fetched leaves that were never applied here",
            "a log segment was used again",
        ],
        bounds: USUAL,
        build: |seed| {
            Draft::three(seed)
                .knob("snapshot.keep-entries", 0)
                .knob("snapshot.log-bytes", 16 * 1024)
                .at(8_000, 12_000, power(&[2]))
                .done()
        },
    },
    Scenario {
        name: "fencing-across-power-loss",
        what: "Leaders hold entries back before they propose them while the power fails and others take over.",
        expected: Expected::Good,
        seen: &["a decision's outcome was unknown", "a request needed more than one attempt"],
        bounds: Bounds { leader_changes: (8, u64::MAX), ..USUAL },
        build: |seed| {
            Draft::three(seed)
                .at(8_000, 15_000, wait("propose.before", 900))
                .each(2, 9_000, 7_000, 300, |_| power(&[1, 2, 3]))
                .alone(12_000, 3_000, &[1])
                .alone(19_000, 3_000, &[2])
                .done()
        },
    },
    Scenario {
        name: "crash-while-it-installs",
        what: "A node that installs a snapshot is killed over and over before it has caught up.",
        expected: Expected::Good,
        seen: &["a leader's snapshot was installed"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed)
                .knob("snapshot.keep-entries", 0)
                .knob("snapshot.log-bytes", 16 * 1024)
                .at(8_000, 16_000, buggify("snapshot.small-chunk", 1_000))
                .at(8_000, 7_000, power(&[3]))
                .each(6, 15_600, 1_300, 200, |_| power(&[3]))
                .done()
        },
    },
];
