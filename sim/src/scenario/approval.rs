//! People approve what policy escalates while leaders die, messages come twice and time runs out; sessions and regions are
//! held, and a release needs two people.

use super::draft::{Draft, stop};
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;
use crate::plan::OrderKind;

const USED: &str = "an approval was used";
const EXPIRED: &str = "an approval expired";
const ENFORCED: &str = "a hold on a tenant or the zone was enforced";

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "approval-survives-leader-kill",
        what: "Leaders are killed again and again between a question, a person's word and its use.",
        expected: Expected::Good,
        seen: &[USED],
        bounds: USUAL,
        build: |seed| {
            asking(Draft::three(seed), 4, 3_600)
                .each(6, 8_000, 2_800, 700, |turn| Fault::Kill { node: turn % 3 + 1 })
                .at(9_000, 12_000, stop(0, "apply.reply", 30, 500))
                .done()
        },
    },
    Scenario {
        name: "approval-used-once-if-doubled",
        what: "Words and claims are lost, doubled and overtaken, and everybody asks again.",
        expected: Expected::Good,
        seen: &[USED, "a repeated request was recognised in apply"],
        bounds: LONG,
        build: |seed| {
            let all: Vec<u64> = (1..=5).collect();
            asking(Draft::five(seed), 5, 3_600)
                .at(8_000, 16_000, Fault::Loss { from: all.clone(), to: all, permille: 80 })
                .at(8_000, 16_000, Fault::Duplicate { permille: 300 })
                .at(8_000, 16_000, Fault::Reorder { jitter_ms: 120 })
                .done()
        },
    },
    Scenario {
        name: "approval-expires-across-failover",
        what: "Approvals live for three seconds, and the nodes that lead are cut off for four.",
        expected: Expected::Good,
        seen: &[USED, EXPIRED],
        bounds: USUAL,
        build: |seed| {
            let draft = asking(Draft::three(seed), 5, 3);
            (0..3).fold(draft, |draft, turn| draft.alone(8_000 + turn * 5_000, 4_000, &[turn + 1])).done()
        },
    },
    Scenario {
        name: "parts-held-during-a-split",
        what: "A session and a region are held while one node after another is cut off.",
        expected: Expected::Good,
        seen: &[ENFORCED, "a quarantine was released"],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| {
            let draft = asking(Draft::three(seed), 4, 3_600)
                .order(8_500, OrderKind::HoldSession { for_ms: 5_000, approvers: 0 })
                .order(15_500, OrderKind::HoldRegion { for_ms: 5_000, approvers: 0 });
            (0..3).fold(draft, |draft, turn| draft.alone(8_000 + turn * 5_000, 4_000, &[turn + 1])).done()
        },
    },
    Scenario {
        name: "release-needs-two-and-loses-acks",
        what: "Holds need two people's words, whose acknowledgements are lost, so that each says it again.",
        expected: Expected::Good,
        seen: &[ENFORCED, "a hold on an agent was enforced", "a quarantine was released"],
        bounds: LONG,
        build: |seed| {
            let all: Vec<u64> = (1..=5).collect();
            asking(Draft::five(seed), 3, 3_600)
                .order(8_200, OrderKind::HoldSession { for_ms: 4_000, approvers: 2 })
                .work(|work| work.clients = 12)
                .order(9_000, OrderKind::Guarded { agent: 1, for_ms: 8_000 })
                .order(9_500, OrderKind::Guarded { agent: 2, for_ms: 8_000 })
                .order(12_000, OrderKind::HoldRegion { for_ms: 4_000, approvers: 2 })
                .at(8_000, 14_000, Fault::Loss { from: all.clone(), to: all, permille: 60 })
                .at(8_000, 14_000, Fault::Duplicate { permille: 200 })
                .each(3, 10_000, 4_000, 600, |turn| Fault::Power { nodes: vec![turn + 1] })
                .done()
        },
    },
];

/// Agents that ask, and approvals that live for so long.
fn asking(draft: Draft, askers: u32, ttl_s: u64) -> Draft {
    draft.work(|work| (work.approvals, work.pace) = (askers, (20, 40))).knob("approval.ttl-s", ttl_s)
}
