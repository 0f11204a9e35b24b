//! Every byte of a closed segment, changed or missing, is found; the leaves named are those that no longer read.

use nethical_protocol::ids::{GroupId, LogId};

use super::*;
use crate::segment::{RECORD_HEAD_BYTES, SegmentMeta, SegmentRules};

const RULES: SegmentRules = SegmentRules { frame_raw_bytes: 4_000, segment_leaves: 256, segment_raw_bytes: 1 << 30 };
const FIRST: u64 = 512;

/// A closed segment whose bodies are `body` bytes each, with its seal and its frames.
fn closed(body: u8) -> (Vec<u8>, SegmentSeal, SegmentIndex) {
    let meta = SegmentMeta { rules: RULES, ..SegmentMeta::new("demo", LogId { group: GroupId(2), era: 1 }, FIRST) };
    let (mut writer, header) = SegmentWriter::create(meta);
    let mut file = header.to_vec();
    while !writer.is_full() {
        let leaf = writer.next_index().to_le_bytes();
        file.extend(writer.push(&leaf, &[body; 40]).unwrap_or_default());
    }
    let bodies = writer.body_roots().to_vec();
    let (rest, footer) = writer.close();
    file.extend(rest);
    let index = SegmentIndex::from_footer(&footer, FIRST);
    (file, SegmentSeal::of(meta, &footer, bodies).expect("full tiles"), index)
}

fn examine(file: &[u8], seal: &SegmentSeal, index: &SegmentIndex) -> Result<(), Fault> {
    let part = |from: u64, length: u64| {
        let (from, length) = (from as usize, length as usize);
        file.get(from.min(file.len())..(from + length).min(file.len())).unwrap_or_default()
    };
    let mut check = SegmentCheck::begin(seal, part(0, HEADER_BYTES as u64));
    for (span, next) in index.spans() {
        check.frame(&span, next, part(span.offset, span.length));
    }
    check.finish(part(index.frames_end(), u64::MAX >> 1))
}

#[test]
fn a_whole_file_passes_and_changed_bytes_are_found_everywhere() {
    let (file, seal, index) = closed(7);
    assert_eq!(examine(&file, &seal, &index), Ok(()));
    assert_eq!(check_file(&seal, &file), Ok(()));
    // Every thirteenth byte of a file whose records are 60 bytes long meets every byte of a record.
    for at in (0..file.len()).step_by(13) {
        let mut bad = file.clone();
        bad[at] ^= 0x40;
        assert!(check_file(&seal, &bad).is_err(), "byte {at}");
        let found = examine(&bad, &seal, &index);
        let fits = |fault: &Fault| FIRST <= fault.first && fault.last < FIRST + 256;
        assert!(found.as_ref().is_err_and(fits), "byte {at}: {found:?}");
    }
    for cut in (0..file.len()).step_by(101) {
        assert!(examine(&file[..cut], &seal, &index).is_err(), "cut at {cut}");
    }
    assert!(examine(&[file.as_slice(), &[0]].concat(), &seal, &index).is_err(), "a byte too many");
}

#[test]
fn each_kind_of_byte_is_named_with_the_leaves_that_it_concerns() {
    let (file, seal, index) = closed(7);
    let (second, behind) = index.spans().nth(1).expect("a second frame");
    let (whole, rest) = ((FIRST, FIRST + 255), (second.first_index, behind - 1));
    let at = second.offset as usize;
    let bytes = |damage| Flaw::Bytes(damage);
    let cases = [
        ("header", 20, Flaw::Header, whole),
        ("length of the leaf", at, bytes(Damage::Checksum), rest),
        ("length of the body", at + 4, bytes(Damage::Checksum), rest),
        ("checksum", at + 8, bytes(Damage::Checksum), rest),
        ("leaf", at + RECORD_HEAD_BYTES, bytes(Damage::Checksum), rest),
        ("body", at + RECORD_HEAD_BYTES + 8, bytes(Damage::Checksum), rest),
        ("end mark", at + second.length as usize - 1, bytes(Damage::Mark), rest),
        ("footer", index.frames_end() as usize + 5, bytes(Damage::Footer), whole),
        ("end", file.len() - 1, bytes(Damage::Footer), whole),
    ];
    for (what, at, flaw, (first, last)) in cases {
        let mut bad = file.clone();
        bad[at] ^= 1;
        assert_eq!(examine(&bad, &seal, &index), Err(Fault { first, last, flaw }), "{what}");
    }
    // A record in the middle of a frame takes only what stands behind it along.
    let mut bad = file.clone();
    bad[at + 3 * (RECORD_HEAD_BYTES + 48) + RECORD_HEAD_BYTES] ^= 1;
    let fault = examine(&bad, &seal, &index).expect_err("found");
    assert_eq!((fault.first, fault.last), (second.first_index + 3, behind - 1));
}

#[test]
fn a_file_whose_checksums_were_all_made_to_fit_is_found_by_the_tree_and_by_the_seal() {
    let (file, seal, _) = closed(7);
    let (other, other_seal, other_index) = closed(8);
    assert_eq!(examine(&other, &other_seal, &other_index), Ok(()));
    let fault = examine(&other, &seal, &other_index).expect_err("other bodies under the same leaves");
    assert_eq!(fault, Fault { first: FIRST, last: FIRST + 255, flaw: Flaw::Content });
    let tree = SegmentSeal { tile_hashes: vec![[1; 32]], ..other_seal };
    let fault = examine(&other, &tree, &other_index).expect_err("other leaves");
    assert_eq!(fault.flaw, Flaw::Leaves);
    assert_ne!(file, other);
}
