//! Old audit segments are moved to the warm tier, and made anew without erased bodies, while machines lose their power at
//! every step, disks fill up, and warm files rot.

use super::draft::{Draft, stop};
use super::{Expected, LONG, Scenario};
use crate::fault::Fault;
use crate::plan::OrderKind;

const MOVED: &str = "an audit segment was moved to the warm tier";
const DROPPED: &str = "a dropped body left its segment";
const REMADE: &str = "a warm audit segment was made anew";

/// Where a move may be cut short: the copy is written, held against its seal, in place, there for good beside its source, and
/// alone.
pub const PLACES: [&str; 5] = ["warm.written", "warm.verified", "warm.renamed", "warm.noted", "warm.finished"];

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "moves-survive-every-step",
        what: "Machines lose their power at every step of moves to the warm tier.",
        expected: Expected::Good,
        seen: &[MOVED, "a start finished a move to the warm tier"],
        bounds: LONG,
        build: |seed| stops(warming(Draft::three(seed)), 7_500, 1).done(),
    },
    Scenario {
        name: "compaction-survives-every-step",
        what: "Agents are erased and their bodies dropped from warm segments while machines lose their power at every step.",
        expected: Expected::Good,
        seen: &[MOVED, REMADE, DROPPED],
        bounds: LONG,
        build: |seed| {
            let at = [(12_000, 0), (15_000, 1), (18_000, 2), (20_000, 3)];
            let draft = warming(Draft::three(seed)).knob("warm.after-ms", 1_500);
            let draft =
                at.into_iter().fold(draft, |draft, (at_ms, agent)| draft.order(at_ms, OrderKind::Erase { agent }));
            stops(draft, 9_500, 3).done()
        },
    },
    Scenario {
        name: "power-goes-behind-each-move",
        what: "All machines lose their power right behind the same moves, when what was moved is gone.",
        expected: Expected::Good,
        seen: &[MOVED, "warm.finished"],
        bounds: LONG,
        build: |seed| {
            let draft = warming(Draft::three(seed));
            (1..=3)
                .fold(draft, |draft, node| {
                    draft.at(7_500, 12_000, stop(node, "warm.finished", 1, 3_000)).at(
                        14_000,
                        8_000,
                        stop(node, "warm.finished", 2, 3_000),
                    )
                })
                .done()
        },
    },
    Scenario {
        name: "disks-fill-up-during-moves",
        what: "The disk of each node in turn has no room for three seconds while segments are moved.",
        expected: Expected::Good,
        seen: &[MOVED, "a node ended by itself"],
        bounds: LONG,
        build: |seed| {
            let full = |turn| Fault::FullDisk { node: turn + 1 };
            warming(Draft::three(seed)).each(3, 9_000, 5_000, 3_000, full).done()
        },
    },
    Scenario {
        name: "rot-in-a-warm-segment",
        what: "A bit of a warm audit segment flips on one node, again and again, and is found, and put right from the others.",
        expected: Expected::Good,
        seen: &[
            MOVED,
            "a durable file was mangled",
            "the scrubber found a damaged audit segment",
            "a damaged audit segment was repaired",
        ],
        bounds: LONG,
        build: |seed| {
            let rot = |_| Fault::Rot { node: 3, file: "warm".to_owned() };
            warming(Draft::three(seed)).each(5, 12_000, 2_700, 600, rot).done()
        },
    },
    Scenario {
        name: "warm-segments-vanish",
        what: "Files of warm audit segments are gone from one node after another, and agents were erased meanwhile.",
        expected: Expected::Good,
        seen: &[MOVED, "a durable file was mangled", "a damaged audit segment was repaired"],
        bounds: LONG,
        build: |seed| {
            let gone = |turn| Fault::Vanished { node: turn % 3 + 1, file: "warm".to_owned() };
            let draft = warming(Draft::three(seed)).order(9_000, OrderKind::Erase { agent: 1 });
            draft.each(5, 12_000, 2_700, 600, gone).done()
        },
    },
];

/// Segments are old after four seconds.
fn warming(draft: Draft) -> Draft {
    draft.seconds(36).knob("warm.after-ms", 4_000).knob("warm.every-ms", 400)
}

/// Every node loses its power at each place, the `nth` time that it passes it.
fn stops(draft: Draft, from_ms: u64, nth: u32) -> Draft {
    let stops = (1..=3).flat_map(|node| PLACES.map(|place| stop(node, place, nth, 900)));
    stops.enumerate().fold(draft, |draft, (turn, stop)| draft.at(from_ms + turn as u64 * 720, 10_000, stop))
}
