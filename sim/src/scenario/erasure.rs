//! Agents are erased while leaders lose their power at every step, replicas are away, and disks fill up.

use super::draft::{Draft, stop};
use super::{Expected, LONG, Scenario};
use crate::fault::Fault;
use crate::plan::OrderKind;

const ERASED: &str = "a subject's key was erased";
const COMPLETE: &str = "an erasure was complete";
const DESTROYED: &str = "a ring key was destroyed";

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "erasure-survives-every-step",
        what: "Machines lose their power when a ring key is made, held, used, and destroyed.",
        expected: Expected::Good,
        seen: &[ERASED, COMPLETE, DESTROYED],
        bounds: LONG,
        build: |seed| {
            let places = ["ring.made", "ring.held", "ring.rewrapped", "ring.destroyed"];
            let draft = erasing(Draft::three(seed));
            let stops = (1..=3).flat_map(|node| places.map(|place| stop(node, place, 1, 900)));
            stops
                .enumerate()
                .fold(draft, |draft, (turn, stop)| draft.at(7_500 + turn as u64 * 900, 10_000, stop))
                .done()
        },
    },
    Scenario {
        name: "erasure-waits-for-the-absent",
        what: "One replica after the other is away while agents are erased, and none is said to be erased meanwhile.",
        expected: Expected::Good,
        seen: &[ERASED, COMPLETE, "an erasure waited for a replica"],
        bounds: LONG,
        build: |seed| {
            let draft = erasing(Draft::three(seed));
            (0..3)
                .fold(draft, |draft, turn| draft.at(7_600 + turn * 5_000, 3_500, Fault::Kill { node: turn + 1 }))
                .done()
        },
    },
    Scenario {
        name: "erasure-of-a-lost-disk",
        what: "A machine's disk is lost while agents are erased: it gets its ring keys from the others.",
        expected: Expected::Good,
        seen: &[ERASED, COMPLETE, "a replica fetched a ring key that it lacked"],
        bounds: LONG,
        build: |seed| erasing(Draft::five(seed)).at(9_000, 3_000, Fault::Wipe { node: 2 }).done(),
    },
];

/// Three agents are erased, one of them twice.
fn erasing(draft: Draft) -> Draft {
    let at = [(8_000, 0), (11_000, 1), (14_000, 0), (17_000, 2)];
    at.into_iter().fold(draft, |draft, (at_ms, agent)| draft.order(at_ms, OrderKind::Erase { agent }))
}
