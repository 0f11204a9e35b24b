//! Bodies of old audit segments go to the object store, and leave it when their subjects are erased, while machines lose their
//! power at every step and the store is away, slow, in doubt, or loses what it was given.

use super::draft::{Draft, stop};
use super::{Expected, LONG, Scenario};
use crate::fault::{Fault, PROMOTED};
use crate::plan::OrderKind;

const STORED: &str = "a segment's bodies went to the object store";
const DROPPED: &str = "a replica dropped bodies that a cold file has";
const RENEWED: &str = "a cold file was made anew";
const MENDED: &str = "a cold file was made anew from bodies that were still here";
const READ: &str = "a body was read from the cold tier";
const PROMOTED_ONE: &str = "a part of a cold file was promoted";
const HIT: &str = "a body was read from a promoted part";
const STAYED: &str = "a segment stayed because a tenant wants it to";
const COMPLETE: &str = "an erasure was complete";

/// Where a move may be cut short: a file is packed, stored, noted, held against the own copy, and that copy is gone.
pub const PLACES: [&str; 5] = ["cold.encoded", "cold.put", "cold.noted", "cold.checked", "cold.dropped"];

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "cold-moves-survive-every-step",
        what: "Machines lose their power at every step of moves to the object store.",
        expected: Expected::Good,
        seen: &[STORED, DROPPED, READ],
        bounds: LONG,
        build: |seed| stops(cooling(Draft::three(seed)), 9_000).done(),
    },
    Scenario {
        name: "erasures-reach-cold-files",
        what: "Agents are erased whose bodies are in the object store, while machines lose their power at every step.",
        expected: Expected::Good,
        seen: &[STORED, DROPPED, RENEWED, COMPLETE],
        bounds: LONG,
        build: |seed| stops(erasing(cooling(Draft::three(seed))), 13_000).done(),
    },
    Scenario {
        name: "the-object-store-is-away",
        what: "The object store cannot be reached, by all nodes and by some, while bodies move and agents are erased.",
        expected: Expected::Good,
        seen: &[STORED, DROPPED, RENEWED, COMPLETE],
        bounds: LONG,
        build: |seed| {
            let draft = erasing(cooling(Draft::three(seed)));
            draft
                .at(9_000, 4_000, Fault::away_store(&[]))
                .at(14_500, 4_000, Fault::away_store(&[]))
                .at(20_000, 3_000, Fault::away_store(&[1, 2]))
                .order(26_000, OrderKind::Erase { agent: 4 })
                .done()
        },
    },
    Scenario {
        name: "the-object-store-is-in-doubt",
        what: "The object store takes seconds for a call, and does not acknowledge half of what it does.",
        expected: Expected::Good,
        seen: &[STORED, DROPPED],
        bounds: LONG,
        build: |seed| {
            let draft = erasing(cooling(Draft::three(seed)));
            draft
                .at(8_000, 5_000, Fault::slow_store(2_500))
                .at(14_000, 9_000, Fault::DoubtfulStore { permille: 500 })
                .done()
        },
    },
    Scenario {
        name: "files-lost-before-they-are-read",
        what: "The object store loses or changes files before any node has dropped what is in them: they are made anew.",
        expected: Expected::Good,
        seen: &[STORED, DROPPED, MENDED],
        bounds: LONG,
        build: |seed| {
            // All nodes look at the same moments, every six seconds: the first file is stored at one and dropped at the next.
            let draft = cooling(Draft::three(seed)).knob("cold.every-ms", 6_000);
            let is_even = seed.is_multiple_of(2);
            let harm = if is_even { Fault::changed_object("parquet") } else { Fault::lost_object("parquet") };
            draft.at(21_000, 300, harm).done()
        },
    },
    Scenario {
        name: "lost-objects-are-told",
        what: "The object store loses objects once the nodes have dropped what is in them: whoever reads is told, and nothing else.",
        expected: Expected::Violation("erasure"),
        seen: &[STORED, DROPPED],
        bounds: LONG,
        build: |seed| {
            let lose = |_| Fault::lost_object("parquet");
            cooling(Draft::three(seed)).each(8, 22_000, 1_500, 500, lose).done()
        },
    },
    Scenario {
        name: "changed-objects-are-told",
        what: "Bytes change in the object store once the nodes have dropped what is in it: no reader gets another body.",
        expected: Expected::Violation("erasure"),
        seen: &[STORED, DROPPED],
        bounds: LONG,
        build: |seed| {
            let change = |_| Fault::changed_object("parquet");
            cooling(Draft::three(seed)).each(12, 22_000, 1_200, 500, change).done()
        },
    },
    Scenario {
        name: "promoted-parts-are-not-believed",
        what: "Cold bodies are read again and again, and what nodes keep of them on their disks rots, is cut, or vanishes.",
        expected: Expected::Good,
        seen: &[STORED, DROPPED, PROMOTED_ONE, HIT, "a promoted part did not open and was fetched again"],
        bounds: LONG,
        build: |seed| {
            let harm = |turn: u64| {
                let (node, file) = (turn % 3 + 1, PROMOTED.to_owned());
                match turn % 4 {
                    2 => Fault::Truncated { node, file },
                    3 => Fault::Vanished { node, file },
                    _ => Fault::Rot { node, file },
                }
            };
            reading(busy(cooling(Draft::three(seed)))).each(13, 14_000, 1_700, 400, harm).done()
        },
    },
    Scenario {
        name: "readers-outlive-the-store",
        what: "The object store is away for long: what was read again before is read on, from the nodes' own disks, until it is erased.",
        expected: Expected::Good,
        seen: &[STORED, DROPPED, RENEWED, PROMOTED_ONE, HIT, COMPLETE],
        bounds: LONG,
        build: |seed| {
            reading(cooling(Draft::three(seed)))
                .order(14_000, OrderKind::Erase { agent: 0 })
                .at(18_000, 11_000, Fault::away_store(&[]))
                .order(30_000, OrderKind::Erase { agent: 1 })
                .done()
        },
    },
    Scenario {
        name: "tenants-keep-bodies-at-home",
        what: "A tenant wants its bodies to stay on the nodes' disks: those of others go to the object store, while leaders fail.",
        expected: Expected::Good,
        seen: &[STORED, DROPPED, STAYED],
        bounds: LONG,
        build: |seed| {
            let draft = busy(cooling(Draft::three(seed))).work(|work| work.house.stays = true);
            draft.each(4, 12_000, 5_000, 1_500, |turn| Fault::Power { nodes: vec![turn % 3 + 1] }).done()
        },
    },
];

/// Segments are warm after three seconds and cold after six.
pub(super) fn cooling(draft: Draft) -> Draft {
    let knobs = [("warm.after-ms", 3_000), ("warm.every-ms", 400), ("cold.after-ms", 6_000), ("cold.every-ms", 500)];
    knobs.into_iter().fold(draft.seconds(40), |draft, (knob, value)| draft.knob(knob, value))
}

/// Enough is done that all groups have segments that become cold.
fn busy(draft: Draft) -> Draft {
    draft.work(|work| (work.pause_ms, work.pace) = ((10, 60), (12, 24)))
}

/// Somebody goes through the oldest entries from when the first bodies are cold, and nodes keep nothing of files in memory.
fn reading(draft: Draft) -> Draft {
    draft.knob("cold.parts", 0).order(11_000, OrderKind::Read { for_ms: 24_000 })
}

/// Four agents are erased, one after the other.
pub(super) fn erasing(draft: Draft) -> Draft {
    let at = [(12_000, 0), (15_000, 1), (18_000, 2), (21_000, 3)];
    at.into_iter().fold(draft, |draft, (at_ms, agent)| draft.order(at_ms, OrderKind::Erase { agent }))
}

/// Every node loses its power at each place, the first time that it passes it.
fn stops(draft: Draft, from_ms: u64) -> Draft {
    let stops = (1..=3).flat_map(|node| PLACES.map(|place| stop(node, place, 1, 900)));
    stops.enumerate().fold(draft, |draft, (turn, stop)| draft.at(from_ms + turn as u64 * 700, 9_000, stop))
}
