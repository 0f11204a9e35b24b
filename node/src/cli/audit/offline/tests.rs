//! Tests of offline verification on folders laid out like a development cluster's.

use std::collections::BTreeMap;

use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::leaf::{LeafEvent, LeafV1};
use nethical_audit::segment::{SegmentRules, SegmentWriter};
use nethical_audit::tree;
use nethical_protocol::ids::DecisionId;

use super::*;

const LOG: LogId = LogId { group: GroupId(3), era: 1 };

fn record(leaf_index: u64, term: u64) -> (Vec<u8>, Vec<u8>) {
    let event = match leaf_index {
        0 => LeafEvent::EraOpened { old_size: 0, old_root: [0; 32] },
        rev => LeafEvent::Control { from_rev: rev - 1, to_rev: rev },
    };
    let (body, body_commitment) = nethical_audit::body::plain(b"{}");
    let leaf = LeafV1 { group: 3, era: 1, leaf_index, now_ns: 1 + leaf_index, term, body_commitment, event };
    (leaf.encode(), body)
}

fn segment(cluster: &str, leaves: u64, term: u64) -> Vec<u8> {
    let (mut writer, header) = SegmentWriter::create(SegmentMeta::new(cluster, LOG, 0));
    let mut bytes = header.to_vec();
    for leaf_index in 0..leaves {
        let (leaf, body) = record(leaf_index, term);
        bytes.extend(writer.push(&leaf, &body).unwrap_or_default());
    }
    bytes.extend(writer.flush_frame().unwrap_or_default());
    bytes
}

/// A cluster's folder: one node for each given segment.
fn cluster(segments: &[Vec<u8>]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    let keyring = Keyring {
        cluster: "demo".into(),
        ring_keys: BTreeMap::new(),
        signing_seed: Some([9; 32]),
        cosigning_seed: None,
    };
    for (index, bytes) in segments.iter().enumerate() {
        let node = dir.path().join(format!("node-{}", index + 1));
        let audit = node.join("data/audit/3");
        std::fs::create_dir_all(&audit).expect("made");
        std::fs::write(node.join("kek"), hex::encode([4; 32])).expect("written");
        std::fs::write(node.join("keyring"), keyring.encode_sealed(&[4; 32], [1; 12])).expect("written");
        std::fs::write(audit.join(SegmentMeta::new("demo", LOG, 0).file_name()), bytes).expect("written");
    }
    dir
}

#[test]
fn sound_copies_verify_and_count_once() {
    let dir = cluster(&[segment("demo", 5, 1), segment("demo", 7, 1)]);
    let report = verify(dir.path()).expect("readable");
    assert!(report.ok, "{report:?}");
    assert_eq!((report.groups, report.copies, report.entries), (1, 2, 7));
}

#[test]
fn checkpoints_are_believed_only_with_the_zones_signature_and_debris_of_a_crash_is_left_out() {
    let bytes = segment("demo", 5, 1);
    let leaves: Vec<Hash> = SegmentScan::new(&bytes).expect("own").map(|record| tree::leaf_hash(record.leaf)).collect();
    let checkpoint = Checkpoint { origin: "demo/p/3/1".into(), size: 5, root: tree::root_of(&leaves) };
    let dir = cluster(&[bytes]);
    let audit = dir.path().join("node-1/data/audit/3");
    let keep = |seed: u8| {
        let signer = Signer::from_seed("demo/p/3/1", &[seed; 32]).expect("a good name");
        std::fs::write(audit.join("checkpoint"), checkpoint.sign(&signer)).expect("written");
        verify(dir.path()).expect("readable")
    };
    std::fs::write(audit.join("checkpoint.tmp"), "").expect("written");
    let report = keep(9);
    assert!(report.ok, "{report:?}");
    assert_eq!(report.checkpoints, 1);
    assert!(!keep(8).ok, "signed by somebody else");
}

#[test]
fn a_flipped_bit_is_named() {
    let mut bytes = segment("demo", 5, 1);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let report = verify(cluster(&[bytes]).path()).expect("readable");
    assert!(!report.ok);
    let bad = report.first_bad.expect("named");
    assert_eq!(bad.group, 3);
    assert!((1..5).contains(&bad.leaf_index), "{bad:?}");
}

/// A log of three segments of 256 leaves.
fn segments() -> Vec<(String, Vec<u8>)> {
    let rules = SegmentRules { segment_leaves: 256, ..SegmentRules::RELEASED };
    let one = |first: u64| {
        let meta = SegmentMeta { rules, ..SegmentMeta::new("demo", LOG, first) };
        let (mut writer, header) = SegmentWriter::create(meta);
        let mut bytes = header.to_vec();
        while !writer.is_full() {
            let (leaf, body) = record(writer.next_index(), 1);
            bytes.extend(writer.push(&leaf, &body).unwrap_or_default());
        }
        bytes.extend(writer.close().0);
        (meta.file_name(), bytes)
    };
    [0, 256, 512].map(one).into()
}

#[test]
fn a_file_in_the_middle_that_is_missing_or_does_not_read_is_blamed_in_its_place() {
    let files = segments();
    let dir = cluster(&[Vec::new()]);
    let audit = dir.path().join("node-1/data/audit/3");
    let place = |(name, bytes): &(String, Vec<u8>)| std::fs::write(audit.join(name), bytes).expect("written");
    files.iter().for_each(place);
    let report = verify(dir.path()).expect("readable");
    assert!(report.ok && report.entries == 768, "{report:?}");
    let middle = audit.join(&files[1].0);
    std::fs::remove_file(&middle).expect("removed");
    let bad = verify(dir.path()).expect("readable").first_bad.expect("named");
    assert!(bad.leaf_index == 256 && bad.segment.contains(&files[2].0), "{bad:?}");
    assert!(bad.reason.contains("leaf 256 is expected"), "{bad:?}");
    // A folder of that name cannot be read as a file.
    std::fs::create_dir(&middle).expect("made");
    let report = verify(dir.path()).expect("readable");
    assert_eq!(report.entries, 256, "what stands before it was read");
    let bad = report.first_bad.expect("named");
    assert!(bad.leaf_index == 256 && bad.segment.contains(&files[1].0), "{bad:?}");
}

#[test]
fn replicas_that_disagree_are_named_though_each_is_sound() {
    let report = verify(cluster(&[segment("demo", 5, 1), segment("demo", 5, 2)]).path()).expect("readable");
    assert!(!report.ok);
    assert!(report.first_bad.expect("named").reason.contains("differs"), "the copies differ in every leaf's term");
}

/// A segment of the cluster log with these checkpoints of the log above.
fn cluster_segment(leaves: &[(u64, Hash)]) -> Vec<u8> {
    let log = LogId { group: GroupId::CONTROL, era: 1 };
    let (mut writer, header) = SegmentWriter::create(SegmentMeta::new("demo", log, 0));
    let signer = Signer::from_seed("demo/p/3/1", &[9; 32]).expect("a good name");
    let mut bytes = header.to_vec();
    for (size, root) in leaves {
        let note = Checkpoint { origin: "demo/p/3/1".into(), size: *size, root: *root }.sign(&signer);
        bytes.extend(writer.push(note.as_bytes(), &[]).unwrap_or_default());
    }
    bytes.extend(writer.flush_frame().unwrap_or_default());
    bytes
}

#[test]
fn what_the_cluster_log_says_is_held_against_each_log() {
    let bytes = segment("demo", 5, 1);
    let leaves: Vec<Hash> = SegmentScan::new(&bytes).expect("own").map(|record| tree::leaf_hash(record.leaf)).collect();
    let dir = cluster(&[bytes.clone(), bytes]);
    let above = dir.path().join("node-1/data/audit/1");
    std::fs::create_dir_all(&above).expect("made");
    let verified = |claims: &[(u64, Hash)]| {
        std::fs::write(above.join(format!("{:020}.seg", 0)), cluster_segment(claims)).expect("written");
        verify(dir.path()).expect("readable")
    };
    let (two, five) = ((2, tree::root_of(&leaves[..2])), (5, tree::root_of(&leaves)));
    let report = verified(&[two, five]);
    assert!(report.ok, "{report:?}");
    assert_eq!((report.groups, report.covered, report.beyond), (2, 2, 0));
    let report = verified(&[two, (5, [1; 32])]);
    let bad = report.first_bad.expect("another history");
    assert!((bad.group, bad.leaf_index) == (3, 4) && bad.reason.contains("leaf 1 of the cluster log"), "{bad:?}");
    let bad = verified(&[two, (6, [1; 32])]).first_bad.expect("every copy is cut");
    assert!(bad.reason.contains("covers 6 leaves, only 5 are here"), "{bad:?}");
    let bad = verified(&[five, two]).first_bad.expect("a log that shrinks");
    assert_eq!((bad.group, bad.leaf_index), (1, 1));
}

#[test]
fn a_foreign_cluster_and_an_empty_folder_do_not_pass() {
    let report = verify(cluster(&[segment("other", 5, 1)]).path()).expect("readable");
    assert!(!report.ok, "segments of another cluster");
    let empty = tempfile::tempdir().expect("temporary folder");
    assert_eq!(crate::output::exit_code(&verify(empty.path()).expect_err("nothing there")), Exit::Usage as u8);
}

#[test]
fn decision_ids_name_their_log() {
    let id: DecisionId = "3.1.42".parse().expect("well formed");
    assert_eq!(id.log, LOG);
}
