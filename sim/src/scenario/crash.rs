//! Machines that lose power at a chosen place of the code, where a mistake in the order of writes would show.

use super::draft::{Draft, stop};
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;

/// A machine stops at a place, three times, whichever comes first there; the calm between lets it start again.
fn stops(seed: u64, place: &str, dark_ms: u64) -> Draft {
    Draft::three(seed).each(3, 8_000, 5_000, 4_000, |turn| stop(0, place, turn as u32 * 3 + 1, dark_ms))
}

/// The same, where snapshots are frequent.
fn stops_at_snapshots(seed: u64, place: &str) -> crate::plan::Plan {
    stops(seed, place, 600).knob("snapshot.log-bytes", 8 * 1024).knob("snapshot.every-ms", 1_000).done()
}

/// Elections under way as machines stop: each node in turn is cut off.
fn stops_at_votes(seed: u64, place: &str) -> crate::plan::Plan {
    let draft =
        (0..4).fold(Draft::three(seed), |draft, turn| draft.alone(8_000 + turn * 4_000, 3_000, &[turn % 3 + 1]));
    draft.each(4, 8_000, 4_000, 3_900, |turn| stop(0, place, turn as u32 + 1, 20)).done()
}

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "crash-before-a-vote-is-saved",
        what: "A node loses power before its vote is durable and is back before the election is over.",
        expected: Expected::Good,
        seen: &["vote.before"],
        bounds: USUAL,
        build: |seed| stops_at_votes(seed, "vote.before"),
    },
    Scenario {
        name: "crash-after-a-vote-is-saved",
        what: "A node loses power as its vote has become durable, and must not vote again in that term.",
        expected: Expected::Good,
        seen: &["vote.after"],
        bounds: USUAL,
        build: |seed| stops_at_votes(seed, "vote.after"),
    },
    Scenario {
        name: "crash-before-a-sync",
        what: "A node loses power between writing its log and syncing it.",
        expected: Expected::Good,
        seen: &["wal.sync.before"],
        bounds: USUAL,
        build: |seed| stops(seed, "wal.sync.before", 300).done(),
    },
    Scenario {
        name: "crash-after-a-sync",
        what: "A node loses power when its log is synced and nobody has been told.",
        expected: Expected::Good,
        seen: &["wal.sync.after"],
        bounds: USUAL,
        build: |seed| stops(seed, "wal.sync.after", 300).done(),
    },
    Scenario {
        name: "crash-after-an-append-is-told",
        what: "A node loses power just after it has told the leader that entries are durable.",
        expected: Expected::Good,
        seen: &["append.acknowledged"],
        bounds: USUAL,
        build: |seed| stops(seed, "append.acknowledged", 300).done(),
    },
    Scenario {
        name: "crash-before-the-reply",
        what: "A leader loses power when a decision is applied everywhere and its client has not been told.",
        expected: Expected::Good,
        seen: &["reply.before", "a repeated request was recognised in apply"],
        bounds: USUAL,
        build: |seed| stops(seed, "reply.before", 700).done(),
    },
    Scenario {
        name: "crash-as-it-begins-to-lead",
        what: "A new leader loses power before its first actor has started.",
        expected: Expected::Good,
        seen: &["lead.begin"],
        bounds: Bounds { leader_changes: (8, u64::MAX), ..USUAL },
        build: |seed| {
            let draft = Draft::three(seed).each(4, 8_000, 4_000, 300, |turn| Fault::Kill { node: turn % 3 + 1 });
            draft.each(4, 8_000, 4_000, 3_500, |_| stop(0, "lead.begin", 1, 400)).done()
        },
    },
    Scenario {
        name: "crash-before-a-snapshot-is-whole",
        what: "A node loses power while it writes a snapshot, and has the former one or this one, never a mix.",
        expected: Expected::Good,
        seen: &["snapshot.write", "a snapshot was written"],
        bounds: USUAL,
        build: |seed| stops_at_snapshots(seed, "snapshot.write"),
    },
    Scenario {
        name: "crash-before-a-snapshot-is-named",
        what: "A node loses power when a snapshot is written and has not got its name.",
        expected: Expected::Good,
        seen: &["snapshot.rename"],
        bounds: USUAL,
        build: |seed| stops_at_snapshots(seed, "snapshot.rename"),
    },
    Scenario {
        name: "crash-after-a-snapshot",
        what: "A node loses power when a snapshot is durable and the log behind it is still there.",
        expected: Expected::Good,
        seen: &["snapshot.written"],
        bounds: USUAL,
        build: |seed| stops_at_snapshots(seed, "snapshot.written"),
    },
    Scenario {
        name: "crash-as-a-snapshot-is-installed",
        what: "A node that was away loses power again while it installs the leader's snapshot.",
        expected: Expected::Good,
        seen: &["snapshot.install", "a leader's snapshot was installed"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed)
                .knob("snapshot.keep-entries", 0)
                .knob("snapshot.log-bytes", 16 * 1024)
                .at(8_000, 8_000, Fault::Power { nodes: vec![3] })
                .at(15_900, 4_000, stop(3, "snapshot.install", 1, 300))
                .at(15_900, 6_000, stop(3, "snapshot.install", 4, 300))
                .done()
        },
    },
    Scenario {
        name: "crash-of-the-sealer",
        what: "A node loses power before and after its sealer syncs an audit segment.",
        expected: Expected::Good,
        seen: &["seal.before", "seal.after", "an audit segment was closed"],
        bounds: USUAL,
        build: |seed| {
            Draft::three(seed)
                .each(3, 8_000, 6_000, 2_500, |turn| stop(0, "seal.before", turn as u32 + 1, 400))
                .each(3, 11_000, 6_000, 2_500, |turn| stop(0, "seal.after", turn as u32 + 1, 400))
                .done()
        },
    },
    Scenario {
        name: "crash-between-records-and-index",
        what: "A node loses power when a segment's records are written and its search index and footer are not, or half.",
        expected: Expected::Good,
        seen: &["seal.ending", "an audit segment was closed"],
        bounds: USUAL,
        build: |seed| {
            Draft::three(seed)
                .each(3, 8_000, 6_000, 4_500, |turn| stop(turn % 3 + 1, "seal.ending", 1, 400))
                .each(2, 12_600, 6_000, 1_300, |turn| stop(turn % 3 + 1, "seal.before", 1, 400))
                .done()
        },
    },
];
