//! Links that work badly: slow, lossy, narrow. What is under way arrives late, twice or never.

use super::draft::{Draft, cut};
use super::{Bounds, Expected, LONG, Scenario, USUAL};
use crate::fault::Fault;

const ALL: &[u64] = &[1, 2, 3];

fn slow(from: &[u64], to: &[u64], delay_ms: u64) -> Fault {
    Fault::Gray { from: from.to_vec(), to: to.to_vec(), delay_ms }
}

fn narrow(bytes_per_s: u64) -> Fault {
    Fault::Bandwidth { from: ALL.to_vec(), to: ALL.to_vec(), bytes_per_s }
}

/// In the order in which they are told.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "wan-twenty-times-slower",
        what: "Every link of one region takes twenty times as long for twelve seconds.",
        expected: Expected::Good,
        seen: &[],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| {
            Draft::three(seed)
                .at(8_000, 12_000, slow(&[3], &[1, 2], 228))
                .at(8_000, 12_000, slow(&[1, 2], &[3], 228))
                .done()
        },
    },
    Scenario {
        name: "lossy-links",
        what: "A third of all messages is lost, a tenth comes twice, and they overtake each other, for ten seconds.",
        expected: Expected::Good,
        seen: &["a repeated request was recognised in apply", "a request needed more than one attempt"],
        bounds: Bounds { healed_ms_max: 4_000, ..USUAL },
        build: |seed| {
            let loss = Fault::Loss { from: ALL.to_vec(), to: ALL.to_vec(), permille: 300 };
            Draft::three(seed)
                .at(8_000, 10_000, loss)
                .at(8_000, 10_000, Fault::Duplicate { permille: 100 })
                .at(8_000, 10_000, Fault::Reorder { jitter_ms: 150 })
                .done()
        },
    },
    Scenario {
        name: "everything-twice",
        what: "Half of all messages are delivered twice and overtake each other for fifteen seconds.",
        expected: Expected::Good,
        seen: &["a snapshot was written"],
        bounds: Bounds { healed_ms_max: 3_000, ..USUAL },
        build: |seed| {
            Draft::three(seed)
                .at(8_000, 15_000, Fault::Duplicate { permille: 500 })
                .at(8_000, 15_000, Fault::Reorder { jitter_ms: 80 })
                .done()
        },
    },
    Scenario {
        name: "gray-links",
        what: "Each node in turn is heard only two and a half seconds late, which is longer than an election.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt", "a decision's outcome was unknown"],
        bounds: Bounds { healed_ms_max: 6_000, ..USUAL },
        build: |seed| {
            let of = |node: u64| [1, 2, 3].into_iter().filter(|other| *other != node).collect::<Vec<_>>();
            Draft::three(seed).each(3, 8_000, 5_000, 4_000, |turn| slow(&[turn + 1], &of(turn + 1), 2_500)).done()
        },
    },
    Scenario {
        name: "late-appends-of-an-old-leader",
        what: "What a leader sends takes five seconds while the others elect a new one, and arrives in a later term.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt", "a conflicting end of a log was cut"],
        bounds: Bounds { healed_ms_max: 6_000, leader_changes: (7, u64::MAX), ..USUAL },
        build: |seed| {
            let draft = Draft::three(seed);
            let (leader, next) = (draft.leader(0), draft.leader(1));
            let (others, rest) = (draft.others(&[leader]), draft.others(&[next]));
            draft
                .at(8_000, 5_000, slow(&[leader], &others, 5_000))
                .at(18_000, 4_000, slow(&[next], &rest, 5_000))
                .done()
        },
    },
    Scenario {
        name: "retries-across-failover",
        what: "Clients ask again for half of all they were told while leaders die under them.",
        expected: Expected::Good,
        seen: &["a recorded outcome was answered again", "a repeated request was recognised in apply"],
        bounds: Bounds { leader_changes: (8, u64::MAX), ..USUAL },
        build: |seed| {
            Draft::three(seed)
                .work(|work| work.again_permille = 500)
                .each(5, 8_000, 3_500, 900, |turn| Fault::Power { nodes: vec![turn % 3 + 1] })
                .done()
        },
    },
    Scenario {
        name: "narrow-links-during-a-snapshot",
        what: "A node that was away needs a snapshot while all links carry twenty kilobytes a second.",
        expected: Expected::Good,
        seen: &["a leader's snapshot was installed"],
        bounds: LONG,
        build: |seed| {
            Draft::three(seed)
                .knob("snapshot.keep-entries", 0)
                .knob("snapshot.log-bytes", 16 * 1024)
                .at(8_000, 8_000, Fault::Power { nodes: vec![3] })
                .at(15_500, 8_000, narrow(20_000))
                .done()
        },
    },
    Scenario {
        name: "narrow-links-under-load",
        what: "All links carry forty kilobytes a second for eight seconds, which is less than the clients ask for.",
        expected: Expected::Good,
        seen: &["a request needed more than one attempt"],
        bounds: LONG,
        build: |seed| Draft::three(seed).at(9_000, 8_000, narrow(40_000)).done(),
    },
    Scenario {
        name: "snapshot-over-a-broken-link",
        what: "A node that was away needs a snapshot over a link that is cut for 300 ms of every 600.",
        expected: Expected::Good,
        seen: &["a leader's snapshot was installed", "the sealer fetched leaves that were never applied here"],
        bounds: LONG,
        build: |seed| {
            let flap = |from: &[u64], to: &[u64]| Fault::Flap { from: from.to_vec(), to: to.to_vec(), period_ms: 300 };
            Draft::three(seed)
                .knob("snapshot.keep-entries", 0)
                .knob("snapshot.log-bytes", 16 * 1024)
                .at(8_000, 10_000, super::draft::buggify("snapshot.small-chunk", 1_000))
                .at(8_000, 8_000, Fault::Power { nodes: vec![2] })
                .at(15_500, 6_000, flap(&[1, 3], &[2]))
                .done()
        },
    },
    Scenario {
        name: "answers-lost",
        what: "Requests arrive and their answers do not, so that every client has to ask again.",
        expected: Expected::Good,
        seen: &["a repeated request was recognised in apply", "a decision's outcome was unknown"],
        bounds: Bounds { healed_ms_max: 4_000, ..USUAL },
        build: |seed| {
            let lose = |from: u64, to: u64| Fault::Loss { from: vec![from], to: vec![to], permille: 600 };
            Draft::three(seed)
                .each(3, 8_000, 4_000, 3_500, |turn| lose(turn + 1, (turn + 1) % 3 + 1))
                .each(2, 20_000, 2_000, 1_500, |turn| cut(&[turn + 1], &[3]))
                .done()
        },
    },
];
