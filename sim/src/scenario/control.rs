//! Administrators who quarantine agents and change limits and policies while something fails.

use nethical_protocol::ids::GroupId;

use super::draft::{Draft, buggify, quarantine, stop};
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;
use crate::plan::OrderKind;

const PACE: OrderKind = OrderKind::Pace { rate: 1, burst: 2 };
const STRICT: OrderKind = OrderKind::Policy { strict: true };
const LAX: OrderKind = OrderKind::Policy { strict: false };

/// Four agents are quarantined, one after another.
fn drill(draft: Draft) -> Draft {
    (0..4).fold(draft, |draft, agent| draft.order(8_500 + u64::from(agent) * 3_000, quarantine(agent, 6_000)))
}

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "quarantine-during-a-split",
        what: "Agents are quarantined while their leader may be cut off; once acknowledged, none of them acts anywhere.",
        expected: Expected::Good,
        seen: &["a hold on an agent was enforced", "a quarantine stopped something", "a quarantine was released"],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| {
            let draft = drill(Draft::three(seed));
            (0..3).fold(draft, |draft, turn| draft.alone(8_000 + turn * 5_000, 4_000, &[turn + 1])).done()
        },
    },
    Scenario {
        name: "quarantine-and-a-crash",
        what: "Leaders lose power as they answer, while agents are quarantined and released.",
        expected: Expected::Good,
        seen: &["a hold on an agent was enforced", "reply.before", "a quarantine was released"],
        bounds: USUAL,
        build: |seed| {
            drill(Draft::three(seed))
                .each(4, 8_500, 3_500, 3_000, |turn| stop(0, "reply.before", turn as u32 * 2 + 1, 500))
                .done()
        },
    },
    Scenario {
        name: "rule-holds-while-leaders-die",
        what: "Agents go bad and a rule quarantines them; leaders die one after another, and none of them acts again anywhere.",
        expected: Expected::Good,
        seen: &["an agent was quarantined by a rule", "a hold on an agent was enforced"],
        bounds: USUAL,
        build: |seed| {
            let draft = Draft::three(seed).order(8_000, OrderKind::Rules { count: 3, within_s: 20, ttl_s: 0 });
            let draft = draft.work(|work| work.suspicious_permille = 150);
            draft.each(4, 11_000, 3_500, 1_500, |turn| Fault::Power { nodes: vec![turn % 3 + 1] }).done()
        },
    },
    Scenario {
        name: "rule-lapses-during-a-split",
        what: "A rule holds agents for three seconds at a time while one node after another is cut off.",
        expected: Expected::Good,
        seen: &["an agent was quarantined by a rule", "a hold lapsed"],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| {
            let draft = Draft::three(seed).order(8_000, OrderKind::Rules { count: 2, within_s: 20, ttl_s: 3 });
            let draft = draft.work(|work| work.suspicious_permille = 150);
            (0..3).fold(draft, |draft, turn| draft.alone(9_000 + turn * 5_000, 4_000, &[turn + 1])).done()
        },
    },
    Scenario {
        name: "quarantine-through-snapshots",
        what: "A node that was away learns of a quarantine from a snapshot and then leads.",
        expected: Expected::Good,
        seen: &["a hold on an agent was enforced", "a leader's snapshot was installed"],
        bounds: USUAL,
        build: |seed| {
            let draft = (0..6).fold(Draft::three(seed), |draft, agent| draft.order(9_000, quarantine(agent, 17_000)));
            let draft = draft.knob("snapshot.keep-entries", 0).knob("snapshot.log-bytes", 8 * 1024);
            let dark = |nodes: &[u64]| Fault::Power { nodes: nodes.to_vec() };
            draft.at(8_000, 8_000, dark(&[1])).at(19_500, 2_500, dark(&[2])).at(23_500, 2_000, dark(&[3])).done()
        },
    },
    Scenario {
        name: "limits-change-during-a-split",
        what: "A limit becomes tighter and a purse smaller while one node after another is cut off.",
        expected: Expected::Good,
        seen: &["the rate limit refused something", "the budget ran out"],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| {
            let draft = Draft::three(seed).order(9_000, PACE).order(13_000, OrderKind::Purse { cap: 200 });
            let draft = draft.order(17_000, OrderKind::Pace { rate: 3, burst: 6 });
            (0..3).fold(draft, |draft, turn| draft.alone(8_000 + turn * 5_000, 4_000, &[turn + 1])).done()
        },
    },
    Scenario {
        name: "policy-changes-during-a-split",
        what: "A stricter policy comes into force and goes again while one node after another is cut off.",
        expected: Expected::Good,
        seen: &["something was blocked by policy", "the policy changed while an action was evaluated"],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| {
            let draft = (0..4).fold(Draft::three(seed), |draft, turn| {
                draft.order(8_500 + turn * 4_000, STRICT).order(10_500 + turn * 4_000, LAX)
            });
            (0..3).fold(draft, |draft, turn| draft.alone(8_000 + turn * 5_000, 3_000, &[turn + 1])).done()
        },
    },
    Scenario {
        name: "canary-under-partition",
        what: "A stricter policy is tried on a third of the agents, then on two thirds, and taken back, while one node after \
            another is cut off; every agent sees one of the two bundles, on whichever leader.",
        expected: Expected::Good,
        seen: &[
            "a canary decided",
            "something was blocked by policy",
            "the policy changed while an action was evaluated",
        ],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| {
            let canary = |percent| OrderKind::Canary { percent };
            let draft = Draft::three(seed).order(8_500, canary(33)).order(12_500, canary(66));
            let draft = draft.order(16_500, canary(0)).order(19_500, canary(50));
            (0..3).fold(draft, |draft, turn| draft.alone(8_000 + turn * 5_000, 3_000, &[turn + 1])).done()
        },
    },
    Scenario {
        name: "control-group-unreachable",
        what: "The control group has no quorum for sixteen seconds, and leaders refuse when ten are over.",
        expected: Expected::Good,
        seen: &["a node had not reached the control group for too long"],
        bounds: LONG,
        build: |seed| {
            let draft = Draft::five(seed).seconds(40);
            let control = draft.placed(GroupId::CONTROL);
            // Partitions that have two replicas elsewhere go on without these two, until the bound.
            draft
                .order(9_000, quarantine(1, 12_000))
                .at(8_000, 16_000, Fault::Power { nodes: control[..2].to_vec() })
                .done()
        },
    },
    Scenario {
        name: "control-leader-dies",
        what: "The leader of the control group dies again and again as rules change.",
        expected: Expected::Good,
        seen: &["the rate limit refused something", "a request needed more than one attempt"],
        bounds: USUAL,
        build: |seed| {
            let draft = Draft::five(seed);
            let control = draft.placed(GroupId::CONTROL);
            let draft = draft.order(8_100, PACE).order(12_100, STRICT).order(16_100, LAX).order(20_050, PACE);
            draft.each(4, 8_000, 4_000, 1_000, |turn| Fault::Kill { node: control[turn as usize % 2] }).done()
        },
    },
    Scenario {
        name: "memory-of-requests-is-small",
        what: "Each group remembers only forty requests, so that a late retry must be refused and never executed again.",
        expected: Expected::Good,
        seen: &["a request was forgotten to make room", "a request that may have been forgotten was refused"],
        bounds: Bounds { unanswered_max: u64::MAX, ..USUAL },
        build: |seed| {
            let draft = Draft::three(seed).knob("dedup.entries", 40);
            let draft = draft.work(|work| (work.clients, work.again_permille) = (12, 300));
            (0..3).fold(draft, |draft, turn| draft.alone(8_000 + turn * 5_000, 4_000, &[turn + 1])).done()
        },
    },
    Scenario {
        name: "retries-after-a-long-pause",
        what: "Clients ask again after seconds, and requests are remembered for fifteen.",
        expected: Expected::Good,
        seen: &["a recorded outcome was answered again"],
        bounds: Bounds { unanswered_max: u64::MAX, ..USUAL },
        build: |seed| {
            Draft::three(seed)
                .knob("dedup.window-ms", 15_000)
                .work(|work| (work.clients, work.again_permille, work.pause_ms) = (50, 500, (1_500, 6_000)))
                .each(3, 10_000, 5_000, 600, |turn| Fault::Power { nodes: vec![turn + 1] })
                .done()
        },
    },
    Scenario {
        name: "evaluations-go-stale",
        what: "Half of all evaluations name an older state of their agent and have to be made again.",
        expected: Expected::Good,
        seen: &["a stale evaluation was made again", "the agent changed while its action was evaluated"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed).at(8_000, 14_000, buggify("actor.stale-version", 500)).order(12_000, STRICT).done()
        },
    },
];
