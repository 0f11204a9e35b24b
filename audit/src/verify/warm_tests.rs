//! Logs whose first segments are warm verify as they did when they were hot, and a body that is gone without a word does not.

use nethical_protocol::ids::{GroupId, KeyedId};

use super::*;
use crate::body::{self, Reason, drop_body};
use crate::generations::Generations;
use crate::leaf::{DecisionLeaf, ErasedLeaf, LeafEvent, LeafV1};
use crate::segment::{SegmentMeta, SegmentRules, SegmentSeal, SegmentWriter, WarmWriter};

const CLUSTER: &str = "demo";
const LOG: LogId = LogId { group: GroupId(2), era: 1 };
const TENANT: KeyedId = KeyedId([2; 16]);
const AGENT: KeyedId = KeyedId([3; 16]);
const LEAVES: u64 = 300;

/// Decisions of one agent; with `told`, the last leaf says that its key is gone.
fn record(index: u64, told: bool) -> (Vec<u8>, Vec<u8>) {
    let sealed_for = SealedFor { generation: 0, person: None };
    let (stored, commitment) =
        body::seal(&BodyKeys::new(&[1; 32], None), sealed_for, &[index as u8; 24], b"words", None);
    let decision = DecisionLeaf { tenant: TENANT, agent: AGENT, ..DecisionLeaf::default() };
    let gone = vec![ErasedLeaf { slot: 0, tenant: TENANT, subject: AGENT, below: 1 }];
    let (event, stored, body_commitment) = match told && index == LEAVES - 1 {
        true => (LeafEvent::SubjectsErased(gone), Vec::new(), [0; 32]),
        false => (LeafEvent::Decision(Box::new(decision)), stored, commitment),
    };
    (LeafV1 { group: 2, era: 1, leaf_index: index, now_ns: index, term: 1, body_commitment, event }.encode(), stored)
}

/// A warm segment of 256 leaves and an open one behind it; of the warm one's bodies those that `drops` names are gone.
fn report(told: bool, drops: impl Fn(u64) -> Option<Reason>, harm: impl Fn(&mut Vec<u8>)) -> Report {
    let rules = SegmentRules { segment_leaves: 256, ..SegmentRules::RELEASED };
    let meta = |first| SegmentMeta { rules, ..SegmentMeta::new(CLUSTER, LOG, first) };
    let (mut hot, _) = SegmentWriter::create(meta(0));
    (0..256).map(|index| record(index, told)).for_each(|(leaf, stored)| drop(hot.push(&leaf, &stored)));
    let bodies = hot.body_roots().to_vec();
    let seal = SegmentSeal::of(meta(0), &hot.close().1, bodies).expect("full");
    let (mut writer, mut warm) = WarmWriter::create(&seal);
    for index in 0..256 {
        let (leaf, stored) = record(index, told);
        let gone = drops(index).and_then(|reason| drop_body(&stored, reason));
        warm.extend(writer.push(&leaf, gone.as_deref().unwrap_or(&stored)).unwrap_or_default());
    }
    warm.extend(writer.close().0);
    harm(&mut warm);
    let (mut writer, header) = SegmentWriter::create(meta(256));
    let mut open = header.to_vec();
    for index in 256..LEAVES {
        let (leaf, stored) = record(index, told);
        open.extend(writer.push(&leaf, &stored).unwrap_or_default());
    }
    open.extend(writer.flush_frame().unwrap_or_default());
    let segments = vec![("warm".to_owned(), warm), ("open".to_owned(), open)];
    Verifier {
        cluster: CLUSTER,
        keys: &[],
        generations: &Generations::default(),
        body_keys: None,
        dictionaries: &Dictionaries::default(),
    }
    .verify([GroupLog { log: LOG, segments, checkpoints: vec![] }])
}

#[test]
fn a_warm_segment_verifies_and_its_dropped_bodies_are_counted() {
    let whole = report(false, |_| None, |_| {});
    assert_eq!((whole.ok, whole.entries, whole.bodies_closed), (true, LEAVES, LEAVES), "{whole:?}");
    let erased = report(true, |index| (index < 100).then_some(Reason::Erased), |_| {});
    assert!(erased.ok, "{erased:?}");
    assert_eq!((erased.bodies_erased, erased.bodies_dropped, erased.bodies_expired), (LEAVES - 1, 100, 0));
    let expired = report(false, |index| (index < 7).then_some(Reason::Expired), |_| {});
    assert_eq!((expired.ok, expired.bodies_expired, expired.bodies_dropped), (true, 7, 0));
}

#[test]
fn a_body_that_was_dropped_as_erased_without_a_word_in_the_log_is_named() {
    let bad = report(false, |index| (index == 42).then_some(Reason::Erased), |_| {}).first_bad.expect("it is found");
    assert_eq!((bad.leaf_index, bad.segment.as_str()), (42, "warm"));
    assert!(bad.reason.contains("dropped as erased"), "{}", bad.reason);
}

#[test]
fn a_changed_byte_of_a_warm_segment_is_found() {
    for at in [5, 100, 200, 2_000, 9_000] {
        let found = report(false, |_| None, |warm| warm[at] ^= 1);
        let bad = found.first_bad.unwrap_or_else(|| panic!("byte {at} changed, and nobody noticed"));
        assert_eq!((found.ok, bad.segment.as_str()), (false, "warm"), "byte {at}: {}", bad.reason);
    }
}
