//! Links that are cut: one way, both ways, in part, again and again. Slow and lossy links are in `gray`.

use super::draft::{Draft, buggify, cut};
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "calm",
        what: "Nothing fails.",
        expected: Expected::Good,
        seen: &["a snapshot was written", "an audit segment was closed", "an entry held several commands"],
        bounds: Bounds { healed_ms_max: 3_000, leader_changes: (5, 16), ..USUAL },
        build: |seed| Draft::three(seed).done(),
    },
    Scenario {
        name: "split-two-of-five",
        what: "Two of five nodes are cut off from the other three for eight seconds.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| Draft::five(seed).alone(9_000, 8_000, &[1, 2]).done(),
    },
    Scenario {
        name: "leader-cut-off",
        what: "The leader of each partition in turn is cut off from everybody while clients go on to ask it.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt", "a decision's outcome was unknown"],
        bounds: Bounds { healed_ms_max: 3_000, leader_changes: (9, u64::MAX), ..USUAL },
        build: |seed| {
            let draft = Draft::three(seed);
            let leaders = [draft.leader(0), draft.leader(1), draft.leader(2)];
            (0..3)
                .zip(leaders)
                .fold(draft, |draft, (turn, node)| draft.alone(8_000 + turn * 6_000, 4_000, &[node]))
                .done()
        },
    },
    Scenario {
        name: "everybody-cut-off-in-turn",
        what: "Each of three nodes in turn is cut off for three seconds, with one second between.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt", "a conflicting end of a log was cut"],
        bounds: Bounds { healed_ms_max: 3_000, leader_changes: (9, u64::MAX), ..USUAL },
        build: |seed| {
            (0..5)
                .fold(Draft::three(seed), |draft, turn| draft.alone(8_000 + turn * 4_000, 3_000, &[turn % 3 + 1]))
                .done()
        },
    },
    Scenario {
        name: "mute-node",
        what: "Each node in turn hears everybody and is heard by nobody.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { healed_ms_max: 3_000, leader_changes: (8, u64::MAX), ..USUAL },
        build: |seed| {
            let of = |node: u64| [1, 2, 3].into_iter().filter(|other| *other != node).collect::<Vec<_>>();
            Draft::three(seed).each(3, 8_000, 6_000, 5_000, |turn| cut(&[turn + 1], &of(turn + 1))).done()
        },
    },
    Scenario {
        name: "deaf-node",
        what: "Each node in turn is heard by everybody and hears nobody, so that a leader commits nothing and stays.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt", "a leader that no quorum answered gave its group up"],
        bounds: Bounds { healed_ms_max: 4_000, leader_changes: (8, u64::MAX), ..USUAL },
        build: |seed| {
            let of = |node: u64| [1, 2, 3].into_iter().filter(|other| *other != node).collect::<Vec<_>>();
            Draft::three(seed).each(3, 8_000, 6_000, 5_000, |turn| cut(&of(turn + 1), &[turn + 1])).done()
        },
    },
    Scenario {
        name: "ring-of-five",
        what: "Each of five nodes reaches only its two neighbours for ten seconds.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { healed_ms_max: 4_000, ..USUAL },
        build: |seed| {
            // The neighbours of node n are n - 1 and n + 1; the two others are out of reach.
            let beyond = |node: u64| [(node + 1) % 5 + 1, (node + 2) % 5 + 1];
            Draft::five(seed).each(5, 9_000, 0, 10_000, |turn| cut(&[turn + 1], &beyond(turn + 1))).done()
        },
    },
    Scenario {
        name: "bridge",
        what: "Two of three nodes do not reach each other for ten seconds, and both reach the third one.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| Draft::three(seed).apart(9_000, 10_000, &[1], &[3]).done(),
    },
    Scenario {
        name: "flapping-link",
        what: "All links of one node go away and come back every 200 ms for twelve seconds.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { healed_ms_max: 4_000, leader_changes: (5, 60), ..USUAL },
        build: |seed| {
            let flap = |from: &[u64], to: &[u64]| Fault::Flap { from: from.to_vec(), to: to.to_vec(), period_ms: 200 };
            Draft::three(seed).at(8_000, 12_000, flap(&[1], &[2, 3])).at(8_000, 12_000, flap(&[2, 3], &[1])).done()
        },
    },
    Scenario {
        name: "region-cut-off",
        what: "A region with two of five nodes is cut off for ten seconds while its clients go on.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt", "a node had not reached the control group for too long"],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| Draft::five(seed).alone(9_000, 12_000, &[1, 4]).done(),
    },
    Scenario {
        name: "no-quorum-anywhere",
        what: "No node reaches any other one for six seconds: nobody may decide.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt", "a decision's outcome was unknown"],
        bounds: Bounds { healed_ms_max: 4_000, ..USUAL },
        build: |seed| Draft::three(seed).apart(9_000, 6_000, &[1], &[2, 3]).apart(9_000, 6_000, &[2], &[3]).done(),
    },
    Scenario {
        name: "cuts-without-a-pause",
        what: "Every two seconds another pair of five nodes loses its link for three seconds.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { healed_ms_max: 4_000, ..USUAL },
        build: |seed| {
            let pair = |turn: u64| (turn * 2 % 5 + 1, (turn * 2 + turn / 5 + 1) % 5 + 1);
            let cut_pair = |draft: Draft, turn: u64| {
                let (one, other) = pair(turn);
                draft.apart(8_000 + turn * 1_800, 3_000, &[one], &[other])
            };
            (0..9).fold(Draft::five(seed), cut_pair).done()
        },
    },
    Scenario {
        name: "forwards-without-hints",
        what: "Nodes that do not lead never say who does, while leaders change under the clients.",
        expected: Expected::Good,
        seen: &["a forwarded decision came to a node that does not lead", "forward.no-hint"],
        bounds: LONG,
        build: |seed| {
            let draft = Draft::five(seed).at(8_000, 16_000, buggify("forward.no-hint", 1_000));
            let leaders = [draft.leader(0), draft.leader(1), draft.leader(2)];
            (0..3)
                .zip(leaders)
                .fold(draft, |draft, (turn, node)| draft.alone(9_000 + turn * 5_000, 3_000, &[node]))
                .done()
        },
    },
];
