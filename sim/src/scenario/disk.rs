//! Disks that rot, lie, fill up, fail or crawl.

use super::draft::{Draft, buggify};
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;

fn rot(node: u64, file: &str) -> Fault {
    Fault::Rot { node, file: file.to_owned() }
}

fn misdirected(node: u64, file: &str) -> Fault {
    Fault::Misdirected { node, file: file.to_owned() }
}

fn vanished(node: u64, file: &str) -> Fault {
    Fault::Vanished { node, file: file.to_owned() }
}

fn truncated(node: u64, file: &str) -> Fault {
    Fault::Truncated { node, file: file.to_owned() }
}

const MANGLED: &str = "a durable file was mangled";
const FOUND_BY_SCRUB: &str = "the scrubber found a damaged audit segment";
const FOUND_AT_START: &str = "a start found a damaged audit segment";
const REPAIRED: &str = "a damaged audit segment was repaired";

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "rot-in-the-log",
        what: "A durable bit of one node's write-ahead log flips, again and again, while the machine is dark.",
        expected: Expected::Good,
        seen: &[MANGLED, "a start found rot in the log", "a lost replica was replaced under a new id"],
        bounds: LONG,
        build: |seed| Draft::three(seed).each(7, 8_000, 2_600, 600, |_| rot(2, "wal")).done(),
    },
    Scenario {
        name: "misdirected-write-in-the-log",
        what: "Sectors of one node's write-ahead log are found at another place of it after a power loss.",
        expected: Expected::Good,
        seen: &[MANGLED, "a start found rot in the log"],
        bounds: LONG,
        build: |seed| Draft::three(seed).each(7, 8_000, 2_600, 600, |_| misdirected(1, "wal")).done(),
    },
    Scenario {
        name: "rot-in-the-audit-log",
        what: "A bit of one node's audit segments flips, and its copy must be told apart from the true ones.",
        expected: Expected::Good,
        seen: &[MANGLED],
        bounds: LONG,
        build: |seed| Draft::three(seed).each(6, 9_000, 2_700, 600, |_| rot(3, "audit")).done(),
    },
    Scenario {
        name: "misdirected-write-in-the-audit",
        what: "Sectors of one node's audit segments are found at another place of them.",
        expected: Expected::Good,
        seen: &[MANGLED],
        bounds: LONG,
        build: |seed| Draft::three(seed).each(11, 9_000, 1_700, 600, |_| misdirected(3, "audit")).done(),
    },
    Scenario {
        name: "rot-in-a-closed-segment",
        what: "A bit of a closed audit segment flips on one node, again and again, and is found, and put right from the others.",
        expected: Expected::Good,
        seen: &[MANGLED, FOUND_BY_SCRUB, REPAIRED],
        bounds: LONG,
        build: |seed| Draft::three(seed).each(6, 9_000, 2_700, 600, |_| rot(3, "segment")).done(),
    },
    Scenario {
        name: "segments-vanish",
        what: "Files of closed audit segments are gone from one node, which starts without them and gets them back.",
        expected: Expected::Good,
        seen: &[MANGLED, FOUND_AT_START, REPAIRED],
        bounds: LONG,
        build: |seed| Draft::three(seed).each(6, 9_000, 2_700, 600, |_| vanished(2, "segment")).done(),
    },
    Scenario {
        name: "segments-end-early",
        what: "Closed audit segments are cut short on one node after another, each by its own power loss.",
        expected: Expected::Good,
        seen: &[MANGLED, FOUND_AT_START, REPAIRED],
        bounds: LONG,
        build: |seed| Draft::three(seed).each(6, 9_000, 2_700, 600, |turn| truncated(turn % 3 + 1, "segment")).done(),
    },
    Scenario {
        name: "audit-files-vanish",
        what: "Any files of one node's audit trail are gone, the one that is written to and the manifest among them.",
        expected: Expected::Good,
        seen: &[MANGLED],
        bounds: LONG,
        build: |seed| Draft::three(seed).each(6, 9_000, 2_700, 600, |_| vanished(1, "audit")).done(),
    },
    Scenario {
        name: "a-peer-mends-with-other-bytes",
        what: "Closed audit segments rot and vanish on one node while most of what others send to mend them is changed.",
        expected: Expected::Good,
        seen: &[MANGLED, REPAIRED, "a repair refused another replica's leaves"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed)
                .at(8_000, 20_000, buggify("repair.other-bytes", 500))
                .each(
                    6,
                    9_000,
                    2_700,
                    600,
                    |turn| {
                        if turn % 2 == 0 { vanished(3, "segment") } else { rot(3, "segment") }
                    },
                )
                .done()
        },
    },
    Scenario {
        name: "rot-in-a-snapshot",
        what: "A bit of one node's snapshots flips, so that the state that they held is gone from that node.",
        expected: Expected::Good,
        seen: &[MANGLED, "a replica had lost what it acknowledged", "a lost replica was replaced under a new id"],
        bounds: LONG,
        build: |seed| Draft::three(seed).each(3, 9_000, 5_000, 700, |_| rot(1, "snapshot")).done(),
    },
    Scenario {
        name: "disk-replaced",
        what: "A machine comes back with an empty disk, and its replicas begin new lives.",
        expected: Expected::Good,
        seen: &["a lost replica was replaced under a new id", "a leader's snapshot was installed"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed).knob("snapshot.keep-entries", 0).at(10_000, 3_000, Fault::Wipe { node: 2 }).done()
        },
    },
    Scenario {
        name: "disks-replaced-one-by-one",
        what: "Every disk of three is replaced by an empty one, each when the former one has been filled again.",
        expected: Expected::Good,
        seen: &["a lost replica was replaced under a new id"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed).seconds(50).each(3, 8_000, 14_000, 1_000, |turn| Fault::Wipe { node: turn + 1 }).done()
        },
    },
    Scenario {
        name: "two-disks-replaced-at-once",
        what: "Two of three disks are replaced at the same instant: nobody can rebuild the groups from one.",
        expected: Expected::Stopped,
        seen: &[],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed)
                .at(12_000, 1_000, Fault::Wipe { node: 1 })
                .at(12_000, 1_000, Fault::Wipe { node: 2 })
                .done()
        },
    },
    Scenario {
        name: "lying-disk-on-one-node",
        what: "One disk acknowledges syncs that it does not make, and the truth comes out with a power loss.",
        expected: Expected::Good,
        seen: &["a replica had lost what it acknowledged", "a lost replica was replaced under a new id"],
        bounds: LONG,
        build: |seed| Draft::three(seed).at(9_000, 6_000, Fault::LyingDisk { nodes: vec![1] }).done(),
    },
    Scenario {
        name: "lying-disks-everywhere",
        what: "All disks acknowledge syncs that they do not make, and all machines lose their power.",
        expected: Expected::Violation("acknowledged"),
        seen: &[],
        bounds: LONG,
        build: |seed| Draft::three(seed).at(12_000, 6_000, Fault::LyingDisk { nodes: vec![1, 2, 3] }).done(),
    },
    Scenario {
        name: "disk-full",
        what: "The disk of each node in turn has no room for three seconds, leaders included.",
        expected: Expected::Good,
        seen: &["a node ended by itself", "a request needed more than one attempt"],
        bounds: LONG,
        build: |seed| Draft::three(seed).each(3, 8_000, 6_000, 3_000, |turn| Fault::FullDisk { node: turn + 1 }).done(),
    },
    Scenario {
        name: "syncs-fail",
        what: "Syncs of each node in turn fail with an error, and a process that has seen one must not go on.",
        expected: Expected::Good,
        seen: &["a node ended by itself", "a request needed more than one attempt"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed).each(3, 8_000, 6_000, 1_500, |turn| Fault::FailingDisk { node: turn + 1 }).done()
        },
    },
    Scenario {
        name: "slow-disk",
        what: "Syncs of one node take 200 ms longer for fourteen seconds.",
        expected: Expected::Good,
        seen: &[],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| Draft::three(seed).at(8_000, 14_000, Fault::SlowDisk { node: 1, delay_ms: 200 }).done(),
    },
    Scenario {
        name: "stalled-disk",
        what: "No sync of one node ends for twenty seconds, and the others go on without it.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: Bounds { healed_ms_max: 6_000, ..USUAL },
        build: |seed| Draft::three(seed).seconds(38).at(8_000, 20_000, Fault::StalledDisk { node: 2 }).done(),
    },
    Scenario {
        name: "stalled-disks-everywhere",
        what: "No sync of any node ends for four seconds: nothing may be acknowledged meanwhile.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt", "a decision's outcome was unknown"],
        bounds: Bounds { healed_ms_max: 6_000, ..USUAL },
        build: |seed| Draft::three(seed).each(3, 10_000, 0, 4_000, |turn| Fault::StalledDisk { node: turn + 1 }).done(),
    },
];
