//! Segments read back as written, end where their records say, survive crashes anywhere, and show every changed byte.

use nethical_protocol::ids::GroupId;
use proptest::prelude::*;

use super::footer::IndexPlace;
use super::*;
use crate::tree;

const SMALL: SegmentRules = SegmentRules { frame_raw_bytes: 2_000, segment_leaves: 512, segment_raw_bytes: 60_000 };

fn meta(first_index: u64, rules: SegmentRules) -> SegmentMeta {
    let log = LogId { group: GroupId(2), era: 1 };
    SegmentMeta { rules, ..SegmentMeta::new("demo", log, first_index) }
}

/// A leaf and a body of lengths that vary with the index.
fn record(index: u64) -> (Vec<u8>, Vec<u8>) {
    let leaf = [index.to_le_bytes().as_slice(), &vec![7; (index % 13) as usize]].concat();
    (leaf, vec![index as u8; (index % 7 * 40) as usize])
}

/// Writes until the segment is full or `count` records are in; flushes after those that `flush` names.
fn write(meta: SegmentMeta, count: u64, flush: impl Fn(u64) -> bool) -> (Vec<u8>, Option<SegmentWriter>) {
    let (mut writer, header) = SegmentWriter::create(meta);
    let mut file = header.to_vec();
    for index in meta.first_index..meta.first_index + count {
        let (leaf, body) = record(index);
        file.extend(writer.push(&leaf, &body).unwrap_or_default());
        if writer.is_full() {
            file.extend(writer.close().0);
            return (file, None);
        }
        if flush(index) {
            file.extend(writer.flush_frame().unwrap_or_default());
            assert_eq!(writer.bytes_given(), file.len() as u64);
        }
    }
    file.extend(writer.flush_frame().unwrap_or_default());
    (file, Some(writer))
}

/// Index, leaf, body.
type Read = (u64, Vec<u8>, Vec<u8>);

fn read(file: &[u8]) -> (Vec<Read>, ScanEnd) {
    let mut scan = SegmentScan::new(file).expect("own header");
    let records = scan.by_ref().map(|r| (r.leaf_index, r.leaf.to_vec(), r.body.to_vec())).collect();
    (records, scan.end().expect("the scan ran to its end"))
}

#[test]
fn the_bytes_of_header_record_and_mark_are_pinned() {
    let (mut writer, header) = SegmentWriter::create(meta(256, SMALL));
    let hash = hex::encode(Sha256::digest("demo"));
    let fields = "4e54484c534547310200000002000000".to_owned()
        + "01000000d0070000000100000000000060ea00000000000000020000"
        + &hash;
    assert_eq!(hex::encode(&header[..76]), fields);
    assert_eq!(writer.push(b"leaf", b"body!"), None);
    let bytes = writer.flush_frame().expect("pending bytes");
    assert_eq!(hex::encode(&bytes[..8]), "0400000005000000");
    assert_eq!(&bytes[12..], b"leafbody!");
    assert_eq!(meta(256, SMALL).file_name(), "00000000000000000256.seg");
}

#[test]
fn a_segment_ends_at_its_leaves_or_at_the_first_tile_after_its_bytes() {
    let (by_leaves, writer) = write(meta(512, SegmentRules { segment_raw_bytes: 1 << 40, ..SMALL }), 5_000, |_| false);
    assert!(writer.is_none());
    let (records, end) = read(&by_leaves);
    assert_eq!((records.len(), end), (512, ScanEnd::Closed));
    let (by_bytes, _) = write(meta(512, SegmentRules { segment_raw_bytes: 20_000, ..SMALL }), 5_000, |_| false);
    assert_eq!(read(&by_bytes).0.len(), 256);
    // A segment that starts in the middle of a full one still ends at a multiple of the log's own index.
    let (rest, _) = write(meta(256, SegmentRules { segment_raw_bytes: 1 << 40, ..SMALL }), 5_000, |_| false);
    assert_eq!(read(&rest).0.len(), 256);
}

#[test]
fn released_rules_end_a_segment_after_64_mib() {
    let (mut writer, header) = SegmentWriter::create(meta(0, SegmentRules::RELEASED));
    let (mut bytes, body) = (header.len() as u64, vec![3; 100_000]);
    while !writer.is_full() {
        bytes += writer.push(b"leaf", &body).map_or(0, |frame| frame.len() as u64);
    }
    assert_eq!(writer.next_index(), 768, "64 MiB are reached at 671 records, the next tile ends at 768");
    assert_eq!(writer.bytes_given(), bytes);
}

#[test]
fn a_closed_segment_gives_its_hashes_and_any_record_by_one_read() {
    let (file, _) = write(meta(512, SMALL), 5_000, |_| false);
    let footer = SegmentFooter::decode_end(&file).expect("closed");
    let (records, _) = read(&file);
    let hashes: Vec<Hash> = records.iter().map(|(_, leaf, _)| tree::leaf_hash(leaf)).collect();
    assert_eq!(footer.leaf_hashes, hashes);
    assert_eq!(footer.tile_hashes, hashes.chunks_exact(256).map(tree::root_of).collect::<Vec<_>>());
    let footer_bytes = footer_bytes(file.last_chunk().expect("long enough")).expect("an end");
    let at = file.len() - footer_bytes;
    assert_eq!(footer.content_digest, <[u8; 32]>::from(Sha256::digest(&file[..at])));
    assert_eq!(SegmentFooter::decode_end(&file[at..]), Ok(footer.clone()));
    let index = SegmentIndex::from_footer(&footer, 512);
    for (tile, hashes) in (0..).zip(hashes.chunks_exact(256)) {
        let place = footer::tile_offset(at as u64, footer.frames.len(), tile) as usize;
        assert!(file[place..].starts_with(&hashes.concat()), "tile {tile}");
    }
    for (leaf_index, leaf, body) in &records {
        let span = index.frame_of(*leaf_index).expect("in the segment");
        let frame = &file[span.offset as usize..(span.offset + span.length) as usize];
        assert!(span.length < 4_000, "one frame and its last record");
        let found = span.record(frame, *leaf_index).expect("in the frame");
        assert_eq!((found.leaf, found.body), (leaf.as_slice(), body.as_slice()));
    }
    assert_eq!(index.frame_of(511), None);
    assert_eq!(index.frame_of(512 + records.len() as u64), None);
}

#[test]
fn an_open_segment_gives_any_record_that_was_given_out() {
    let (file, writer) = write(meta(0, SMALL), 100, |index| index % 3 == 0);
    let writer = writer.expect("still open");
    assert_eq!(read(&file).1, ScanEnd::Open);
    for index in 0..100 {
        let span = writer.frame_of(index).expect("in the segment");
        let frame = &file[span.offset as usize..(span.offset + span.length) as usize];
        assert_eq!(span.record(frame, index).expect("in the frame").leaf, record(index).0);
    }
    assert_eq!(writer.frame_of(100), None);
}

#[test]
fn a_crash_at_any_byte_and_going_on_gives_the_same_closed_file() {
    let (whole, _) = write(meta(512, SMALL), 5_000, |_| false);
    let ends = SegmentFooter::decode_end(&whole).expect("closed").frames.iter().map(|f| f.offset as usize).collect();
    let near_ends: Vec<usize> = Vec::into_iter(ends).flat_map(|end: usize| end - 30..end + 30).collect();
    let index = SegmentFooter::decode_end(&whole).expect("closed").index.offset as usize;
    let late = (whole.len() - 200..=whole.len()).chain(index - 30..index + 400);
    for cut in (HEADER_BYTES..whole.len()).step_by(997).chain(near_ends).chain(late) {
        let cut = cut.clamp(HEADER_BYTES, whole.len());
        let mut file = whole[..cut].to_vec();
        let mut scan = SegmentScan::new(&file).expect("own header");
        let end = scan.finish();
        let (valid, next) = (scan.valid_bytes() as usize, scan.next_index());
        let Some(mut writer) = scan.into_writer() else {
            assert_eq!((end, cut), (ScanEnd::Closed, whole.len()));
            continue;
        };
        file.truncate(valid);
        assert_eq!((writer.bytes_given(), writer.next_index()), (valid as u64, next));
        while !writer.is_full() {
            let (leaf, body) = record(writer.next_index());
            file.extend(writer.push(&leaf, &body).unwrap_or_default());
        }
        file.extend(writer.close().0);
        assert!(file == whole, "cut at {cut}");
    }
}

#[test]
fn every_changed_byte_is_found_and_no_earlier_record_is_lost() {
    let (closed, _) = write(meta(512, SegmentRules { segment_raw_bytes: 1_000, ..SMALL }), 5_000, |_| false);
    let (open, _) = write(meta(512, SMALL), 100, |_| false);
    for (file, whole_end) in [(closed, ScanEnd::Closed), (open, ScanEnd::Open)] {
        let (all, end) = read(&file);
        assert_eq!(end, whole_end);
        let place = SegmentFooter::decode_end(&file).ok().map(|footer| footer.index);
        for at in (0..file.len()).step_by(3) {
            let mut bad = file.clone();
            bad[at] ^= 0x40;
            if at < HEADER_BYTES {
                assert!(SegmentScan::new(&bad).is_err(), "byte {at}");
                continue;
            }
            let (records, end) = read(&bad);
            let ScanEnd::Damaged { damage, .. } = end else { panic!("byte {at}: {end:?}") };
            if let Some(IndexPlace { offset, length, .. }) = place {
                let in_index = (offset..offset + u64::from(length)).contains(&(at as u64));
                assert_eq!(in_index, damage == Damage::Index, "byte {at}: {damage:?}");
            }
            assert_eq!(records, all[..records.len()]);
        }
    }
}

proptest! {
    #[test]
    fn early_flushes_change_no_byte(every in 1u64..50, phase in 0u64..50) {
        let (plain, _) = write(meta(512, SMALL), 5_000, |_| false);
        let (flushed, _) = write(meta(512, SMALL), 5_000, |index| index % every == phase % every);
        prop_assert!(plain == flushed);
    }

    #[test]
    fn arbitrary_bytes_after_a_header_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let file = [meta(0, SMALL).encode().as_slice(), &bytes].concat();
        read(&file);
        let _ = SegmentFooter::decode_end(&bytes);
        let _ = SegmentScan::new(&bytes);
    }
}
