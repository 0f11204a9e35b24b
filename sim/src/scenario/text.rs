//! Words of bodies are indexed, and leave the indexes when their subjects are erased, while machines lose their power at every
//! step and indexes rot.

use super::cold::{cooling, erasing};
use super::draft::{Draft, stop};
use super::{Expected, LONG, Scenario};
use crate::fault::{Fault, TEXT};

const INDEXED: &str = "bodies of a segment were indexed";
const ASKED: &str = "a search asked a text index";
const FOUND: &str = "entries were found by their words";
const TAKEN_OUT: &str = "erased words left a text index";
const COMPLETE: &str = "an erasure was complete";

/// Where a writing may be cut short: the new file is there, the old one's key is overwritten, the new one has its name.
pub const PLACES: [&str; 3] = ["text.written", "text.overwritten", "text.placed"];

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "words-are-found-in-every-tier",
        what: "Entries are looked for by their words while bodies move to warm segments and to the object store.",
        expected: Expected::Good,
        seen: &[INDEXED, ASKED, FOUND, "a segment's bodies went to the object store"],
        bounds: LONG,
        build: |seed| cooling(wordy(Draft::three(seed))).done(),
    },
    Scenario {
        name: "erased-words-leave-indexes",
        what: "Agents are erased whose words are indexed, while machines lose their power at every step of that.",
        expected: Expected::Good,
        seen: &[INDEXED, ASKED, FOUND, TAKEN_OUT, COMPLETE],
        bounds: LONG,
        build: |seed| stops(erasing(wordy(Draft::three(seed)))).done(),
    },
    Scenario {
        name: "text-indexes-rot",
        what: "Text indexes rot, are cut short and vanish on one node after another: entries are found all the same.",
        expected: Expected::Good,
        seen: &[INDEXED, FOUND, "a durable file was mangled"],
        bounds: LONG,
        build: |seed| {
            let harm = |turn: u64| {
                let (node, file) = (turn % 3 + 1, TEXT.to_owned());
                match turn % 2 {
                    0 => Fault::Rot { node, file },
                    _ => Fault::Vanished { node, file },
                }
            };
            erasing(wordy(Draft::three(seed))).each(6, 10_000, 2_700, 600, harm).done()
        },
    },
    Scenario {
        name: "lost-logs-take-no-words",
        what: "A machine loses what it had acknowledged, again and again: its new replicas know nobody's keys for a while, and its indexes stay.",
        expected: Expected::Good,
        seen: &[INDEXED, ASKED, FOUND, "a durable file was mangled"],
        bounds: LONG,
        build: |seed| {
            let rot = |_| Fault::Rot { node: 2, file: "wal".to_owned() };
            wordy(Draft::three(seed)).knob("text.every-ms", 100).each(7, 10_000, 2_600, 600, rot).done()
        },
    },
    Scenario {
        name: "words-are-found-in-cold-files",
        what: "Text indexes are gone once bodies are in the object store: they are made again from what is there.",
        expected: Expected::Good,
        seen: &[INDEXED, FOUND, "bodies were indexed from the cold tier"],
        bounds: LONG,
        build: |seed| {
            let gone = |turn: u64| Fault::Vanished { node: turn % 3 + 1, file: TEXT.to_owned() };
            cooling(wordy(Draft::three(seed))).each(6, 20_000, 1_800, 600, gone).done()
        },
    },
];

/// Words are indexed within a second of a segment's end.
fn wordy(draft: Draft) -> Draft {
    draft.seconds(36).knob("text.every-ms", 700)
}

/// Every node loses its power at each place, the second time that it passes it.
fn stops(draft: Draft) -> Draft {
    let stops = (1..=3).flat_map(|node| PLACES.map(|place| stop(node, place, 2, 900)));
    stops.enumerate().fold(draft, |draft, (turn, stop)| draft.at(8_000 + turn as u64 * 900, 9_000, stop))
}
