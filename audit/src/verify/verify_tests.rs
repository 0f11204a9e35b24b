//! Sabotage: every way of changing a log that the design names is done here, and has to be found and named.

use nethical_protocol::ids::{GroupId, KeyedId};
use proptest::prelude::*;

use super::*;
use crate::body::{self, Dictionaries};
use crate::generations::Generations;
use crate::keys::TenantKeys;
use crate::leaf::{DecisionLeaf, ErasedLeaf, LeafEvent, LeafV1};
use crate::note::Signer;
use crate::segment::{SegmentFooter, SegmentIndex, SegmentMeta, SegmentRules, SegmentScan, SegmentWriter};
use crate::tree::{self, Frontier};

const RULES: SegmentRules = SegmentRules { frame_raw_bytes: 4_000, segment_leaves: 256, segment_raw_bytes: 1 << 30 };
const CLUSTER: &str = "demo";

type Stored = Vec<(Vec<u8>, Vec<u8>)>;

fn log(group: u32) -> LogId {
    LogId { group: GroupId(group), era: 1 }
}

fn tenant() -> TenantKeys {
    TenantKeys::new(&[1; 32])
}

const SEALED_FOR: SealedFor = SealedFor { generation: 5, person: None };

fn keys_of_agent() -> BodyKeys {
    BodyKeys::new(&[1; 32], None)
}

fn signer(group: u32) -> Signer {
    Signer::from_seed(&log(group).origin(CLUSTER), &[7; 32]).expect("a good name")
}

/// Every tenth record is a control leaf with a plain body, the others are decisions.
fn record(group: u32, index: u64) -> (Vec<u8>, Vec<u8>) {
    let text = format!("body {index} of group {group}");
    let (event, (stored, body_commitment)) = if index % 10 == 9 {
        (LeafEvent::Control { from_rev: index, to_rev: index + 1 }, body::plain(text.as_bytes()))
    } else {
        let request = tenant().keyed_id("request", text.as_bytes());
        let decision = DecisionLeaf { request, client_chosen: true, ..DecisionLeaf::default() };
        let command_id = body::command_id(1, u64::from(group), index);
        (
            LeafEvent::Decision(Box::new(decision)),
            body::seal(&keys_of_agent(), SEALED_FOR, &command_id, text.as_bytes(), None),
        )
    };
    let leaf = LeafV1 { group, era: 1, leaf_index: index, now_ns: index, term: 1, body_commitment, event };
    (leaf.encode(), stored)
}

fn records(group: u32, count: u64) -> Stored {
    (0..count).map(|index| record(group, index)).collect()
}

/// Segments of these records, whatever is in them: this is how an attacker with disk access would write.
fn segments(group: u32, records: &Stored) -> Vec<(String, Vec<u8>)> {
    let (mut files, mut first) = (Vec::new(), 0);
    let create =
        |first| SegmentWriter::create(SegmentMeta { rules: RULES, ..SegmentMeta::new(CLUSTER, log(group), first) });
    let (mut writer, mut file) = {
        let (writer, header) = create(0);
        (writer, header.to_vec())
    };
    for (leaf, body) in records {
        file.extend(writer.push(leaf, body).unwrap_or_default());
        if writer.is_full() {
            let next = writer.next_index();
            file.extend(writer.close().0);
            files.push((format!("{group}/{first}"), std::mem::take(&mut file)));
            let (fresh, header) = create(next);
            (writer, file, first) = (fresh, header.to_vec(), next);
        }
    }
    file.extend(writer.flush_frame().unwrap_or_default());
    files.push((format!("{group}/{first}"), file));
    files
}

fn checkpoint(group: u32, records: &Stored) -> String {
    let mut frontier = Frontier::default();
    records.iter().for_each(|(leaf, _)| frontier.append(tree::leaf_hash(leaf)));
    let origin = log(group).origin(CLUSTER);
    Checkpoint { origin, size: frontier.size(), root: frontier.root() }.sign(&signer(group))
}

type Log = GroupLog<Vec<(String, Vec<u8>)>>;

fn group_log(group: u32, records: &Stored) -> Log {
    GroupLog { log: log(group), segments: segments(group, records), checkpoints: vec![checkpoint(group, records)] }
}

fn verify(logs: Vec<Log>) -> Report {
    let keys: Vec<VerifierKey> = (2..5).map(|group| signer(group).verifier_key()).collect();
    let body_keys = |_, sealed_for| (sealed_for == SEALED_FOR).then(keys_of_agent);
    Verifier {
        cluster: CLUSTER,
        keys: &keys,
        generations: &Generations::default(),
        body_keys: Some(&body_keys),
        dictionaries: &Dictionaries::default(),
    }
    .verify(logs)
}

/// The report of a log of 600 leaves whose stored records were tampered with while its checkpoints were kept.
fn sabotage(tamper: impl FnOnce(&mut Stored)) -> BadEntry {
    let honest = records(3, 600);
    let mut stored = honest.clone();
    tamper(&mut stored);
    let mut log = group_log(3, &stored);
    log.checkpoints = vec![checkpoint(3, &honest[..100].to_vec()), checkpoint(3, &honest)];
    let report = verify(vec![group_log(2, &records(2, 300)), log]);
    assert!(!report.ok);
    let bad = report.first_bad.expect("something is bad");
    assert_eq!(bad.group, 3);
    bad
}

fn edit(record: &mut (Vec<u8>, Vec<u8>), change: impl FnOnce(&mut LeafV1)) {
    let mut leaf = LeafV1::decode(&record.0).expect("own leaf");
    change(&mut leaf);
    record.0 = leaf.encode();
}

#[test]
fn an_honest_log_verifies() {
    let report = verify(vec![group_log(2, &records(2, 600)), group_log(3, &records(3, 40)), group_log(4, &Vec::new())]);
    assert_eq!(report.first_bad, None);
    assert_eq!((report.ok, report.entries, report.groups, report.checkpoints), (true, 640, 3, 3));
    assert_eq!((report.bodies_opened, report.bodies_closed), (640, 0));
    let json = serde_json::to_value(&report).expect("a report is JSON");
    assert_eq!((json["ok"].as_bool(), json.get("first_bad")), (Some(true), None));
}

/// What a verifier says of a log of group 2 that has neither keys nor dictionaries.
fn without_keys(records: &Stored) -> Report {
    let verifier = Verifier {
        cluster: CLUSTER,
        keys: &[],
        generations: &Generations::default(),
        body_keys: None,
        dictionaries: &Dictionaries::default(),
    };
    verifier.verify([group_log(2, records)])
}

#[test]
fn a_plain_body_that_names_a_dictionary_is_named() {
    let bad = sabotage(|stored| {
        let at = stored.iter().position(|(_, body)| body::is_plain(body)).expect("a plain body");
        stored[at].1 = vec![0, 2, 1, 2, 3, 4, 5];
    });
    assert!(bad.reason.contains("codec 2"), "{}", bad.reason);
}

#[test]
fn without_keys_only_plain_bodies_are_opened() {
    let report = without_keys(&records(2, 100));
    assert_eq!((report.ok, report.bodies_opened, report.bodies_closed), (true, 10, 90));
}

#[test]
fn a_dropped_leaf_is_named() {
    let bad = sabotage(|stored| drop(stored.remove(300)));
    assert_eq!((bad.leaf_index, bad.segment.as_str()), (300, "3/256"));
    assert!(bad.reason.contains("number 301"), "{}", bad.reason);
}

#[test]
fn two_swapped_leaves_are_named() {
    let bad = sabotage(|stored| stored.swap(300, 301));
    assert_eq!((bad.leaf_index, bad.segment.as_str()), (300, "3/256"));
}

#[test]
fn leaves_cut_off_at_the_end_are_found_by_the_checkpoint() {
    let bad = sabotage(|stored| stored.truncate(590));
    assert_eq!((bad.leaf_index, bad.segment.as_str()), (590, "3/512"));
    assert!(bad.reason.contains("600"), "{}", bad.reason);
}

#[test]
fn a_changed_leaf_with_everything_but_the_checkpoint_made_to_fit_is_found_by_the_root() {
    let bad = sabotage(|stored| edit(&mut stored[300], |leaf| leaf.now_ns += 1));
    assert_eq!(bad.leaf_index, 100, "the last size whose root is as signed");
    assert!(bad.reason.contains("root of 600 leaves"), "{}", bad.reason);
}

#[test]
fn a_changed_leaf_under_a_kept_footer_is_named() {
    let mut log = group_log(3, &records(3, 600));
    let mut forged = records(3, 600);
    edit(&mut forged[20], |leaf| leaf.now_ns += 1);
    let (honest_file, forged_file) = (&log.segments[0].1, &segments(3, &forged)[0].1);
    let footer = crate::segment::footer_bytes(honest_file.last_chunk().expect("long enough")).expect("closed");
    let at = honest_file.len() - footer;
    log.segments[0].1 = [&forged_file[..at], &honest_file[at..]].concat();
    let bad = verify(vec![log]).first_bad.expect("something is bad");
    assert_eq!((bad.leaf_index, bad.segment.as_str()), (20, "3/0"));
    assert!(bad.reason.contains("footer"), "{}", bad.reason);
}

#[test]
fn a_second_decision_of_one_request_is_named() {
    let bad = sabotage(|stored| {
        let LeafEvent::Decision(first) = LeafV1::decode(&stored[7].0).expect("own leaf").event else { panic!() };
        edit(&mut stored[44], |leaf| {
            let LeafEvent::Decision(second) = &mut leaf.event else { panic!() };
            second.request = first.request;
        });
    });
    assert_eq!(bad.leaf_index, 44);
    assert!(bad.reason.contains("leaf 7"), "{}", bad.reason);
}

#[test]
fn the_same_request_id_twice_is_fine_where_the_door_made_it() {
    let mut stored = records(2, 50);
    for index in [7, 44] {
        edit(&mut stored[index], |leaf| {
            let LeafEvent::Decision(decision) = &mut leaf.event else { panic!() };
            (decision.client_chosen, decision.request) = (false, KeyedId([1; 16]));
        });
    }
    assert!(verify(vec![group_log(2, &stored)]).ok);
}

#[test]
fn an_exchanged_body_is_named() {
    let bad =
        sabotage(|stored| stored[30].1 = body::seal(&keys_of_agent(), SEALED_FOR, &[9; 24], b"something else", None).0);
    assert_eq!((bad.leaf_index, bad.segment.as_str()), (30, "3/0"));
    let bad = sabotage(|stored| stored[39].1 = body::plain(b"something else").0);
    assert_eq!(bad.leaf_index, 39);
    let bad = sabotage(|stored| stored[31].1 = stored[32].1.clone());
    assert_eq!(bad.leaf_index, 31);
}

#[test]
fn an_erased_body_is_fine() {
    let mut stored = records(2, 50);
    stored[30].1.clear();
    let report = verify(vec![group_log(2, &stored)]);
    assert_eq!((report.ok, report.bodies_closed), (true, 1));
}

#[test]
fn a_leaf_of_another_group_and_a_late_era_opening_are_named() {
    assert_eq!(sabotage(|stored| stored[5] = record(2, 5)).leaf_index, 5);
    let opened = |leaf: &mut LeafV1| leaf.event = LeafEvent::EraOpened { old_size: 1, old_root: [0; 32] };
    assert_eq!(sabotage(|stored| edit(&mut stored[6], opened)).leaf_index, 6);
}

#[test]
fn a_missing_a_repeated_and_a_foreign_segment_are_named() {
    let honest = || group_log(3, &records(3, 600));
    let (mut missing, mut repeated, mut foreign) = (honest(), honest(), honest());
    missing.segments.remove(1);
    repeated.segments[1] = repeated.segments[0].clone();
    foreign.segments[1] = group_log(2, &records(2, 600)).segments[1].clone();
    for log in [missing, repeated, foreign] {
        let bad = verify(vec![log]).first_bad.expect("something is bad");
        assert_eq!((bad.group, bad.leaf_index), (3, 256), "{}", bad.reason);
    }
    let mut open_in_the_middle = honest();
    open_in_the_middle.segments[1].1.truncate(20_000);
    let whole = SegmentScan::new(&open_in_the_middle.segments[1].1).expect("a header").count() as u64;
    let bad = verify(vec![open_in_the_middle]).first_bad.expect("something is bad");
    assert_eq!(bad.leaf_index, 256 + whole);
}

#[test]
fn checkpoints_by_strangers_and_two_roots_of_one_size_are_refused() {
    let honest = records(3, 50);
    let mut log = group_log(3, &honest);
    log.checkpoints[0] = Signer::from_seed("demo/p/3/1", &[8; 32])
        .expect("a good name")
        .sign(Checkpoint::parse_unverified(&log.checkpoints[0]).expect("own checkpoint").text().as_str());
    assert!(verify(vec![log]).first_bad.expect("something is bad").reason.contains("known key"));
    let mut forked = honest.clone();
    edit(&mut forked[4], |leaf| leaf.term = 9);
    let mut log = group_log(3, &honest);
    log.checkpoints.push(checkpoint(3, &forked));
    assert!(verify(vec![log]).first_bad.expect("something is bad").reason.contains("two roots"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_flipped_byte_anywhere_is_found_in_the_right_log(
        group in 2u32..5, file in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), mask in 1u8..,
    ) {
        let mut logs: Vec<Log> = (2..5).map(|group| group_log(group, &records(group, 300))).collect();
        let log = &mut logs[group as usize - 2];
        let file = file.index(log.segments.len());
        let (name, bytes) = &mut log.segments[file];
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        let name = name.clone();
        let report = verify(logs);
        prop_assert!(!report.ok, "byte {at} of {name}");
        let bad = report.first_bad.expect("something is bad");
        prop_assert_eq!(bad.group, group);
        prop_assert_eq!(bad.segment, name);
    }
}

#[test]
fn bodies_whose_keys_the_log_says_are_gone_are_erased_and_every_proof_stays_valid() {
    let (tenant, agent, other, person) = (KeyedId([2; 16]), KeyedId([3; 16]), KeyedId([4; 16]), KeyedId([5; 16]));
    let decided = |index: u64, agent: KeyedId, generation: u32, person: Option<(KeyedId, u32)>| {
        let decision = DecisionLeaf { tenant, agent, ..DecisionLeaf::default() };
        let sealed_for = SealedFor { generation, person };
        let (stored, body_commitment) = body::seal(&keys_of_agent(), sealed_for, &[index as u8; 24], b"words", None);
        let event = LeafEvent::Decision(Box::new(decision));
        (
            LeafV1 { group: 2, era: 1, leaf_index: index, now_ns: index, term: 1, body_commitment, event }.encode(),
            stored,
        )
    };
    let gone = |index: u64, subject: KeyedId, below: u32| {
        let event = LeafEvent::SubjectsErased(vec![ErasedLeaf { slot: 0, tenant, subject, below }]);
        let leaf =
            LeafV1 { group: 2, era: 1, leaf_index: index, now_ns: index, term: 1, body_commitment: [0; 32], event };
        (leaf.encode(), Vec::new())
    };
    let stored = vec![
        decided(0, agent, 0, None),
        decided(1, other, 0, Some((person, 0))),
        decided(2, other, 0, None),
        gone(3, agent, 1),
        decided(4, agent, 1, None),
        gone(5, person, 1),
    ];
    let report = without_keys(&stored);
    assert!(report.ok, "{report:?}");
    assert_eq!((report.bodies_opened, report.bodies_closed, report.bodies_erased), (0, 6, 2));
}

/// Where each kind of byte stands in the first segment of 256 leaves, and the leaf that has to be named when it flips.
fn kinds_of_bytes(file: &[u8]) -> Vec<(&'static str, usize, u64)> {
    let footer = crate::segment::footer_bytes(file.last_chunk().expect("long enough")).expect("closed");
    let (behind, end) = (file.len() - footer, file.len());
    let index = SegmentFooter::decode_end(file).expect("closed");
    let index = SegmentIndex::from_footer(&index, 0);
    let (frame, next) = index.spans().nth(1).expect("a second frame");
    let (at, leaf) = (frame.offset as usize, frame.first_index);
    let leaf_bytes = record(3, leaf).0.len();
    vec![
        ("magic", 0, 0),
        ("group in the header", 12, 0),
        ("first index in the header", 24, 0),
        ("the header's checksum", 77, 0),
        ("length of a leaf", at, leaf),
        ("length of a body", at + 4, leaf),
        ("a record's checksum", at + 8, leaf),
        ("a leaf", at + 12 + 30, leaf),
        ("a body", at + 12 + leaf_bytes + 20, leaf),
        ("an end mark", at + frame.length as usize - 20, next),
        ("an end mark's checksum", at + frame.length as usize - 1, next),
        ("the footer's begin", behind, 0),
        ("the digest in the footer", behind + 20, 0),
        ("a leaf hash in the footer", end - footer / 2, 0),
        ("the footer's length", end - 16, 0),
        ("the footer's checksum", end - 12, 0),
        ("the last byte", end - 1, 256),
    ]
}

#[test]
fn a_flip_of_every_kind_of_byte_is_found_and_its_leaf_is_named() {
    let log = group_log(3, &records(3, 600));
    for (what, at, leaf) in kinds_of_bytes(&log.segments[0].1) {
        let mut bad = log.clone();
        bad.segments[0].1[at] ^= 1;
        let report = verify(vec![bad]);
        let found = report.first_bad.unwrap_or_else(|| panic!("{what} flipped, and nobody noticed"));
        assert_eq!((found.leaf_index, found.segment.as_str()), (leaf, "3/0"), "{what}: {}", found.reason);
        assert!(!report.ok && report.entries <= leaf.max(1), "{what}");
    }
}
