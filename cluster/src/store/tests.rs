//! What the audit store takes in at a start.

use nethical_audit::segment::SegmentRules;
use nethical_protocol::ids::GroupId;

use super::*;
use crate::world::memory::MemoryDisk;

const LOG: LogId = LogId { group: GroupId(7), era: 1 };

/// A closed segment of 256 leaves: its name and its bytes.
fn closed() -> (String, Vec<u8>) {
    let rules = SegmentRules { frame_raw_bytes: 1_024, segment_leaves: 256, ..SegmentRules::RELEASED };
    let meta = SegmentMeta { rules, ..SegmentMeta::new("test", LOG, 0) };
    let (mut writer, header) = SegmentWriter::create(meta);
    let mut bytes = header.to_vec();
    while !writer.is_full() {
        let leaf = writer.next_index().to_le_bytes();
        bytes.extend(writer.push(&leaf, &[7; 40]).unwrap_or_default());
    }
    bytes.extend(writer.close().0);
    (meta.file_name(), bytes)
}

async fn opened(bytes: &[u8], name: &str) -> Arc<AuditStore> {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    disk.create_dir(&dir_of(LOG)).await.expect("a folder");
    let file = disk.open(&format!("{}/{name}", dir_of(LOG)), true).await.expect("a file");
    file.write_and_sync(0, Bytes::copy_from_slice(bytes)).await.expect("written");
    AuditStore::open(disk, "test", LOG).await.expect("it opens")
}

#[tokio::test]
async fn a_footer_that_outlived_its_frames_is_not_believed() {
    let (name, mut bytes) = closed();
    let whole = opened(&bytes, &name).await;
    assert_eq!(whole.stored().0, 256);
    assert_eq!(whole.read(0, 256).await.expect("all are there").len(), 256);
    // The power went before the sync: the end of the file had reached the disk, a sector in its middle had not.
    let middle = bytes.len() / 2;
    bytes[middle..middle + 512].fill(0);
    let torn = opened(&bytes, &name).await;
    let (stored, _) = torn.stored();
    assert!((1..256).contains(&stored), "{stored} leaves are taken for whole");
    assert_eq!(torn.read(0, stored).await.expect("what is stored reads").len() as u64, stored);
}

#[tokio::test]
async fn a_segment_that_was_full_before_its_footer_was_written_is_closed_by_the_next_record() {
    let (name, whole) = closed();
    let end = whole.last_chunk::<END_BYTES>().expect("a footer");
    let footer = footer_bytes(end).expect("a footer's end");
    let store = opened(&whole[..whole.len() - footer], &name).await;
    assert_eq!(store.stored().0, 256, "every record is there");
    let clock = crate::world::real::RealClock::new();
    let records: Vec<(&[u8], &[u8])> = vec![(&[1; 8], &[2; 8]), (&[3; 8], &[])];
    store.write_pairs(&records, &clock).await.expect("it is written");
    assert_eq!(store.stored().0, 258);
    let read = store.read(255, 3).await.expect("they read across the segments");
    assert_eq!((read.len(), &read[2].0), (3, &vec![3; 8]));
}
