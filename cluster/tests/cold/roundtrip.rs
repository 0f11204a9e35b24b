//! What went in comes back to the byte, and what is asked for of a part of a file is what the whole has.

use std::collections::BTreeSet;

use bytes::Bytes;
use nethical_cluster::cold::{
    self, Body, ColdError, GROUP_LEAVES, HeadOrStored, RAW_BYTES_MAX, RECORD_BYTES_MAX, Record, Tail,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sha2::{Digest, Sha256};

use super::records::{any_record, renumbered};
use super::size::traffic;
use super::{KEY, decoded, encoded, footer_of, part};

fn numbered(first_index: u64, records: &[Record]) -> Vec<(u64, Record)> {
    (first_index..).zip(records.iter().cloned()).collect()
}

/// Few kinds of records, over and over: rows whose columns change in the middle of a group.
fn many(count: usize) -> Vec<Record> {
    let some = traffic(64);
    let record = |index: usize| {
        let mut record = some[index % some.len()].clone();
        record.leaf[10..18].copy_from_slice(&(index as u64).to_le_bytes());
        record
    };
    (0..count).map(record).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn records_come_back(records in vec(any_record(), 1..40), first_index in prop_oneof![Just(0), any::<u32>().prop_map(u64::from)]) {
        let records = renumbered(first_index, records);
        let file = encoded(first_index, &records);
        prop_assert_eq!(decoded(&file).expect("own file"), numbered(first_index, &records));
        let footer = footer_of(&file);
        prop_assert_eq!((footer.first_index(), footer.leaves(), footer.groups()), (first_index, records.len() as u64, 1));
        let leaves = footer.read_leaves(0, &part(&file, footer.leaves_range(0))).expect("own leaves");
        for (row, record) in leaves.iter().zip(&records) {
            prop_assert_eq!(&row.leaf, &record.leaf);
            match (&row.body, &record.body) {
                (HeadOrStored::Stored(stored), Body::Stored(was)) => prop_assert_eq!(stored, was),
                (HeadOrStored::Head(head), Body::Clear { head: was, .. }) => prop_assert_eq!(head, was),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn a_head_that_is_none_is_refused(head in vec(any::<u8>(), 0..60)) {
        let is_one = matches!((head.first(), head.len()), (Some(1), 29) | (Some(2), 49));
        let records = [Record { leaf: vec![1], body: Body::Clear { head, plaintext: vec![] } }];
        let encoded = cold::encode(0, &records, &KEY);
        prop_assert_eq!(encoded.err(), (!is_one).then_some(ColdError::Head));
    }
}

#[test]
fn row_groups_end_where_they_should() {
    for count in [GROUP_LEAVES - 1, GROUP_LEAVES, GROUP_LEAVES + 1] {
        let records = many(count);
        let file = encoded(0, &records);
        let footer = footer_of(&file);
        assert_eq!((footer.leaves(), footer.groups()), (count as u64, count.div_ceil(GROUP_LEAVES)));
        let mut at = 4;
        for group in 0..footer.groups() {
            let (leaves, whole) = (footer.leaves_range(group), footer.whole_range(group));
            assert!(leaves.start == at && whole.start == at && leaves.end < whole.end, "one behind the other");
            at = whole.end;
            let of_group = &records[group * GROUP_LEAVES..count.min((group + 1) * GROUP_LEAVES)];
            let rows = footer.read_leaves(group, &part(&file, leaves)).expect("own leaves");
            assert!(rows.iter().map(|row| &row.leaf).eq(of_group.iter().map(|record| &record.leaf)));
            assert_eq!(footer.read_whole(group, &part(&file, whole)).expect("own records"), of_group);
        }
        assert_eq!(footer.leaves_range(footer.groups()), 0..0);
        assert!(footer.read_leaves(footer.groups(), &file).is_err());
    }
}

#[test]
fn the_end_of_a_file_is_enough_to_find_its_groups() {
    let records = traffic(300);
    let file = encoded(512, &records);
    let bytes = file.len() as u64;
    let tail = |have: u64| cold::footer(&file[(bytes - have) as usize..], bytes, &KEY);
    let Ok(Tail::More(first)) = tail(0) else { panic!("nothing is not enough") };
    assert_eq!(first, bytes.min(cold::TAIL_BYTES));
    let Ok(Tail::More(needed)) = tail(8) else { panic!("the length alone is not enough") };
    assert!(matches!(tail(needed - 1), Ok(Tail::More(again)) if again == needed));
    let Ok(Tail::Read(footer)) = tail(needed) else { panic!("that much is") };
    assert_eq!((footer.first_index(), footer.leaves()), (512, 300));
    assert_eq!(footer.whole_range(0), 4..bytes - needed);
    assert_eq!((cold::footer_bytes(&file) as u64, cold::footer_bytes(&file[file.len() - 8..])), (needed, 8));
    assert_eq!((cold::footer_bytes(&[7; 7]), cold::footer_bytes(&[0xff; 20])), (7, 20), "what says nothing");
}

#[test]
fn a_whole_segments_footer_fits_the_tail() {
    let file = encoded(0, &many(65_536));
    assert!(matches!(
        cold::footer(&file[file.len() - cold::TAIL_BYTES as usize..], file.len() as u64, &KEY),
        Ok(Tail::Read(_))
    ));
}

#[test]
fn no_records_are_a_file_as_well() {
    let file = encoded(7, &[]);
    let footer = footer_of(&file);
    assert_eq!((footer.first_index(), footer.leaves(), footer.groups()), (7, 0, 0));
    assert_eq!(decoded(&file), Ok(Vec::new()));
}

#[test]
fn two_files_of_the_same_records_differ_and_hold_the_same() {
    let records = traffic(300);
    let (first, second) = (encoded(0, &records), encoded(0, &records));
    assert_ne!(first, second, "nonces are drawn");
    assert_eq!(decoded(&first), decoded(&second));
}

#[test]
fn the_longest_bodies_come_back_and_longer_ones_are_refused() {
    let head = [&[1][..], &[0; 28]].concat();
    let clear = |bytes: usize, fill: u8| Record {
        leaf: vec![9; 1_024],
        body: Body::Clear { head: head.clone(), plaintext: vec![fill; bytes] },
    };
    let longest = RECORD_BYTES_MAX as usize - head.len();
    let records: Vec<Record> = (0..20).map(|number| clear(longest, number)).collect();
    assert_eq!(decoded(&encoded(0, &records)), Ok(numbered(0, &records)));
    let refused = |records: &[Record]| matches!(cold::encode(0, records, &KEY), Err(ColdError::TooLarge { .. }));
    assert!(refused(&[clear(longest + 1, 0)]));
    assert!(refused(&[Record { leaf: vec![0; 1_025], body: Body::Stored(Vec::new()) }]));
    assert!(refused(&vec![clear(longest, 0); (RAW_BYTES_MAX / RECORD_BYTES_MAX) as usize + 1]));
    assert!(refused(&vec![Record { leaf: vec![0], body: Body::Stored(Vec::new()) }; 65_537]));
    assert!(matches!(cold::encode(u64::MAX, &[clear(1, 0)], &KEY), Err(ColdError::TooLarge { .. })));
}

/// A file that was written when this layout was new: leaves of all kinds and bodies in all forms. Later releases read it.
#[test]
fn a_file_of_this_layout_stays_readable() {
    let file = Bytes::from_static(include_bytes!("layout-1.parquet"));
    let (mut digest, mut kinds) = (Sha256::new(), BTreeSet::new());
    for (index, record) in decoded(&file).expect("it is read") {
        kinds.extend(record.leaf.get(1).copied());
        let parts = match record.body {
            Body::Stored(stored) => [record.leaf, stored, Vec::new()],
            Body::Clear { head, plaintext } => [record.leaf, head, plaintext],
        };
        digest.update(index.to_le_bytes());
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    assert!((1..=9).all(|kind| kinds.contains(&kind)), "{kinds:?}");
    let pinned = "c1e342cf0ea66e18aac2d3efd63bb3f49e600ba65b8e25c4f202beebcf87b028";
    assert_eq!(hex::encode(digest.finalize()), pinned);
}

/// Writes a file like the one above where `NETHICAL_COLD_LAYOUT` says: for the next layout, since no released one is ever written anew.
#[test]
fn a_file_of_this_layout_is_written_where_it_is_asked_for() {
    let Ok(path) = std::env::var("NETHICAL_COLD_LAYOUT") else { return };
    let mut runner = TestRunner::deterministic();
    let mut records: Vec<Record> =
        (0..60).map(|_| any_record().new_tree(&mut runner).expect("a record").current()).collect();
    records.extend(many(4));
    let file = encoded(512, &renumbered(512, records));
    std::fs::write(path, &file).expect("it is written");
}
