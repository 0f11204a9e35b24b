//! Warm segments read back as the hot ones that they were, drop what is to be dropped, and show every changed byte.

use nethical_protocol::ids::{GroupId, KeyedId, LogId};
use proptest::prelude::*;

use super::*;
use crate::body::{Reason, SealedFor, command_id, drop_body, dropped, plain, seal};
use crate::keys::BodyKeys;
use crate::leaf::{DecisionLeaf, LeafEvent, LeafV1};
use crate::segment::{Damage, Flaw, SegmentRules, SegmentSeal, SegmentWriter};

const FIRST: u64 = 512;

fn leaf(index: u64) -> Vec<u8> {
    let id = |number: u64| KeyedId([number as u8; 16]);
    let decision = DecisionLeaf {
        request: KeyedId(std::array::from_fn(|at| (index * 31 + at as u64 * 17) as u8)),
        tenant: id(1),
        agent: id(index % 5),
        risk: (index % 900) as u16,
        rules: vec![[index as u8; 8]],
        ..DecisionLeaf::default()
    };
    let event = LeafEvent::Decision(Box::new(decision));
    let (now_ns, body_commitment) = (1_000 * index, [index as u8; 32]);
    LeafV1 { group: 2, era: 1, leaf_index: index, now_ns, term: 1, body_commitment, event }.encode()
}

fn body(index: u64) -> Vec<u8> {
    let person = index.is_multiple_of(3).then_some((KeyedId([9; 16]), 1));
    match index % 4 {
        0 => Vec::new(),
        1 => plain(b"control facts").0,
        _ => {
            let sealed_for = SealedFor { generation: 1, person };
            let mut seed = index;
            let mut byte = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 40) as u8
            };
            let text: Vec<u8> = (0..200 + index % 90).map(|_| byte()).collect();
            seal(&BodyKeys::new(&[1; 32], None), sealed_for, &command_id(1, 2, index), &text, None).0
        }
    }
}

/// Leaves with their bodies.
type Records = Vec<(Vec<u8>, Vec<u8>)>;

/// A closed segment of two tiles, its seal and its records.
fn hot() -> (SegmentSeal, Records) {
    let rules = SegmentRules { segment_leaves: 512, ..SegmentRules::RELEASED };
    let meta = SegmentMeta { rules, ..SegmentMeta::new("demo", LogId { group: GroupId(2), era: 1 }, FIRST) };
    let (mut writer, _) = SegmentWriter::create(meta);
    let records: Vec<_> = (FIRST..FIRST + 512).map(|index| (leaf(index), body(index))).collect();
    records.iter().for_each(|(leaf, body)| drop(writer.push(leaf, body)));
    let bodies = writer.body_roots().to_vec();
    let (_, footer) = writer.close();
    (SegmentSeal::of(meta, &footer, bodies).expect("full"), records)
}

/// The warm segment of these records; those that `drops` names go.
fn warm(seal: &SegmentSeal, records: &[(Vec<u8>, Vec<u8>)], drops: impl Fn(u64) -> bool) -> (Vec<u8>, WarmFooter) {
    let (mut writer, mut file) = WarmWriter::create(seal);
    for (leaf, stored) in records {
        let gone = drop_body(stored, Reason::Erased).filter(|_| drops(writer.next_index()));
        file.extend(writer.push(leaf, gone.as_deref().unwrap_or(stored)).unwrap_or_default());
    }
    let (ending, footer) = writer.close();
    file.extend(ending);
    (file, footer)
}

type Read = (u64, Vec<u8>, Vec<u8>);

fn read(seal: &SegmentSeal, file: &[u8]) -> (Vec<Read>, Result<WarmSums, crate::segment::Fault>) {
    let mut records = Vec::new();
    let checked = check_warm(seal, file, |index, leaf, body| records.push((index, leaf.to_vec(), body.to_vec())));
    (records, checked)
}

#[test]
fn a_warm_segment_holds_what_the_hot_one_held_in_fewer_bytes_for_its_leaves() {
    let (seal, records) = hot();
    let (file, footer) = warm(&seal, &records, |_| false);
    let (found, checked) = read(&seal, &file);
    let sums = checked.expect("as sealed");
    assert_eq!(sums, footer.sums);
    assert_eq!((sums.erased, sums.expired, sums.freed_bytes), (0, 0, 0));
    assert!(sums.packed_bytes * 4 < sums.leaf_bytes, "{sums:?}");
    let wanted = records.iter().enumerate().map(|(at, (leaf, body))| (FIRST + at as u64, leaf.clone(), body.clone()));
    assert!(found.into_iter().eq(wanted));
    assert_eq!(warm(&seal, &records, |_| false).0, file, "the same records make the same bytes");
    assert!(footer.frames.len() > 1, "there is more than one frame");
    assert_eq!(WarmHeader::decode(&file).map(|header| header.meta), Ok(seal.meta));
}

#[test]
fn one_record_reads_without_those_beside_it() {
    let (seal, records) = hot();
    let (file, footer) = warm(&seal, &records, |index| index % 10 == 2);
    for span in &footer.frames {
        let packed = span.offset as usize + span.packed_bytes as usize;
        let packed_bytes = &file[span.offset as usize..packed];
        let leaves = WarmLeaves::unpack(packed_bytes, span, &dictionary::NEWEST).expect("own frame");
        for index in span.first_index..leaves.next_index() {
            let place = leaves.rests(index..index + 1);
            let rests = &file[packed + place.start as usize..packed + place.end as usize];
            let frame = WarmFrame { leaves: leaves.clone(), from: place.start, rests };
            let (leaf, stored) = frame.record(index).expect("it reads");
            let (wanted_leaf, wanted) = &records[(index - FIRST) as usize];
            assert_eq!(leaf, wanted_leaf);
            match dropped(&stored) {
                Some(gone) => assert_eq!((gone.bytes as usize, index % 10), (wanted.len(), 2)),
                None => assert_eq!(stored, *wanted),
            }
        }
    }
}

#[test]
fn dropping_bodies_frees_their_bytes_and_changes_no_root() {
    let (seal, records) = hot();
    let (whole, _) = warm(&seal, &records, |_| false);
    let (file, footer) = warm(&seal, &records, |index| index % 4 == 3);
    let (found, checked) = read(&seal, &file);
    let sums = checked.expect("the roots are what they were");
    assert_eq!((sums.erased, footer.sums.erased), (128, 128));
    assert!(whole.len() > file.len() && sums.freed_bytes > 0);
    for (index, _, stored) in found {
        assert_eq!(dropped(&stored).is_some(), index % 4 == 3, "leaf {index}");
    }
}

#[test]
fn every_changed_byte_and_every_cut_is_found() {
    let (seal, records) = hot();
    let (file, _) = warm(&seal, &records, |index| index % 50 == 3);
    for at in (0..file.len()).step_by(37).chain(file.len() - 700..file.len()) {
        let mut bad = file.clone();
        bad[at] ^= 0x10;
        assert!(read(&seal, &bad).1.is_err(), "byte {at} changed");
    }
    for cut in (0..file.len()).step_by(1_013) {
        assert!(read(&seal, &file[..cut]).1.is_err(), "cut at {cut}");
    }
    let longer = [&file[..], &[0]].concat();
    assert!(read(&seal, &longer).1.is_err());
}

#[test]
fn a_body_that_was_changed_with_all_checksums_made_to_fit_is_found_by_its_root() {
    let (seal, mut records) = hot();
    records[7].1 = plain(b"other facts!").0;
    let (file, _) = warm(&seal, &records, |_| false);
    let fault = read(&seal, &file).1.expect_err("another body");
    assert_eq!((fault.first, fault.last, fault.flaw), (FIRST, FIRST + 255, Flaw::Content));
    records[300].0 = leaf(1);
    let (file, _) = warm(&seal, &records, |_| false);
    assert_eq!(read(&seal, &file).1.expect_err("another leaf").flaw, Flaw::Content, "the first flaw is told");
}

#[test]
fn headers_of_later_releases_are_refused_by_what_they_say() {
    let (seal, _) = hot();
    let header = WarmHeader::new(seal.meta, seal.content_digest);
    let bytes = header.encode();
    assert_eq!((bytes.len(), WarmHeader::decode(&bytes)), (WARM_HEADER_BYTES, Ok(header)));
    let mut later = bytes.clone();
    later[8] = 3;
    assert_eq!(WarmHeader::decode(&later), Err(WarmError::Version(3)));
    let foreign = WarmHeader { dictionary: [9; 32], ..header };
    assert_eq!(WarmHeader::decode(&foreign.encode()), Err(WarmError::Dictionary("09".repeat(32))));
    assert_eq!(WarmHeader::decode(&bytes[..50]), Err(WarmError::Header));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in any::<usize>(), cut in any::<usize>()) {
        let (seal, records) = hot();
        let _ = read(&seal, &bytes);
        let _ = WarmHeader::decode(&bytes);
        let (mut file, _) = warm(&seal, &records[..300], |_| false);
        let at = at % file.len();
        file.splice(at..(at + bytes.len()).min(file.len()), bytes);
        let cut = cut % file.len();
        let fault = read(&seal, &file[..cut]).1.expect_err("not what was sealed");
        prop_assert!(fault.first >= FIRST && !matches!(fault.flaw, Flaw::Bytes(Damage::Index)));
    }
}
