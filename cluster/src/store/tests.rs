//! What the audit store takes in at a start.

use nethical_audit::segment::SegmentRules;
use nethical_protocol::ids::GroupId;

use super::*;
use crate::tier::Rule;
use crate::world::memory::MemoryDisk;

const LOG: LogId = LogId { group: GroupId(7), era: 1 };

/// A closed segment of 256 leaves: its name and its bytes.
fn closed() -> (String, Vec<u8>) {
    closed_at(0)
}

fn closed_at(first: u64) -> (String, Vec<u8>) {
    let rules = SegmentRules { frame_raw_bytes: 1_024, segment_leaves: 256, ..SegmentRules::RELEASED };
    let meta = SegmentMeta { rules, ..SegmentMeta::new("test", LOG, first) };
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

/// A disk with three closed segments and an open one, as a store leaves it; and what that store had.
async fn furnished() -> (Arc<MemoryDisk>, (u64, Hash)) {
    let disk = Arc::new(MemoryDisk::new());
    disk.create_dir(&dir_of(LOG)).await.expect("a folder");
    for first in [0, 256, 512] {
        let (name, bytes) = closed_at(first);
        put(&*disk, &name, &bytes).await;
    }
    let store = AuditStore::open(disk.clone(), "test", LOG).await.expect("it opens");
    let clock = crate::world::real::RealClock::new();
    store.write_pairs(&[(&[1; 8], &[2; 8]), (&[3; 8], &[])], &clock).await.expect("it is written");
    assert_eq!((store.stored().0, store.damages()), (770, Vec::new()));
    let file = store.inner.lock().open.as_ref().expect("an open segment").file.clone();
    file.sync().await.expect("synced");
    (disk, store.stored())
}

async fn put(disk: &dyn Disk, name: &str, bytes: &[u8]) {
    let file = disk.open(&format!("{}/{name}", dir_of(LOG)), true).await.expect("a file");
    file.set_len(0).await.expect("emptied");
    file.write_and_sync(0, Bytes::copy_from_slice(bytes)).await.expect("written");
    disk.sync_dir(&dir_of(LOG)).await.expect("synced");
}

async fn again(disk: &Arc<MemoryDisk>) -> Arc<AuditStore> {
    AuditStore::open(disk.clone(), "test", LOG).await.expect("it opens whatever is damaged")
}

#[tokio::test]
async fn a_start_keeps_a_damaged_or_missing_segment_as_a_hole_and_has_the_whole_tree() {
    type Harm = fn(Vec<u8>) -> Option<Vec<u8>>;
    let harms: [(&str, Harm); 5] = [
        ("missing", |_| None),
        ("header", |mut bytes| {
            bytes[9] ^= 1;
            Some(bytes)
        }),
        ("footer", |mut bytes| {
            let at = bytes.len() - 40;
            bytes[at] ^= 1;
            Some(bytes)
        }),
        ("truncated", |mut bytes| {
            bytes.truncate(5_000);
            Some(bytes)
        }),
        ("empty", |_| Some(Vec::new())),
    ];
    for (what, harm) in harms {
        for first in [0, 256, 512] {
            let (disk, stored) = furnished().await;
            let (name, bytes) = closed_at(first);
            let path = format!("{}/{name}", dir_of(LOG));
            match harm(bytes) {
                Some(bytes) => put(&*disk, &name, &bytes).await,
                None => disk.remove(&path).await.expect("removed"),
            }
            let store = again(&disk).await;
            assert_eq!(store.stored(), stored, "{what} at {first}");
            let damages = store.damages();
            assert_eq!((damages.len(), damages[0].first, damages[0].last), (1, first, first + 255), "{what}");
            assert!(!store.is_whole(770) && store.is_whole(first), "{what}");
            let other = if first == 0 { 256 } else { 0 };
            assert_eq!(store.read(other, 256).await.expect("others read").len(), 256, "{what}");
            assert_eq!(store.read(768, 5).await.expect("the tail reads").len(), 2, "{what}");
            assert_eq!(again(&disk).await.stored(), stored, "a second start finds the same: {what}");
        }
    }
}

#[tokio::test]
async fn without_a_manifest_footers_are_enough_and_without_both_what_is_behind_is_set_aside() {
    let (disk, stored) = furnished().await;
    let manifest = format!("{}/manifest", dir_of(LOG));
    let whole = crate::world::read_all(&*disk, &manifest).await.expect("a manifest");
    disk.remove(&manifest).await.expect("removed");
    let store = again(&disk).await;
    assert_eq!((store.stored(), store.damages()), (stored, Vec::new()));
    assert_eq!(crate::world::read_all(&*disk, &manifest).await.expect("it is back"), whole);
    for at in [10, 100, 200] {
        assert!(disk.flip(&manifest, at, 1));
        assert_eq!(again(&disk).await.stored(), stored);
        assert_eq!(crate::world::read_all(&*disk, &manifest).await.expect("it is mended"), whole);
    }
    disk.remove(&manifest).await.expect("removed");
    disk.remove(&format!("{}/{}", dir_of(LOG), closed_at(256).0)).await.expect("removed");
    let store = again(&disk).await;
    assert_eq!(store.stored().0, 256, "only what is before the hole can be placed in the tree");
    assert_eq!(store.read(0, 300).await.expect("it reads").len(), 256);
    let names = disk.list(&dir_of(LOG)).await.expect("a folder");
    assert_eq!(names.iter().filter(|name| name.ends_with(".aside")).count(), 2, "{names:?}");
}

#[tokio::test]
async fn rot_is_noted_by_reads_and_by_the_scrubber_and_a_false_alarm_is_taken_back() {
    let (disk, _) = furnished().await;
    let (name, bytes) = closed_at(256);
    let path = format!("{}/{name}", dir_of(LOG));
    let store = again(&disk).await;
    let clock = crate::world::real::RealClock::new();
    let pace = scrub::Pace { clock: &clock, bytes_per_s: u64::MAX };
    assert_eq!(store.closed_segments(), [0, 256, 512]);
    assert_eq!(store.scrub(256, &Rule::default(), &pace).await, Some((bytes.len() as u64, true)));
    assert!(disk.flip(&path, 2_000, 0x20));
    assert!(store.read(256, 256).await.is_err());
    let noted = store.damages();
    assert!((256..512).contains(&noted[0].first) && noted[0].why.contains("does not read"), "{noted:?}");
    assert_eq!(store.scrub(256, &Rule::default(), &pace).await.map(|(_, whole)| whole), Some(false));
    let noted = store.damages();
    assert!(noted.len() == 1 && noted[0].why.contains("checksum"), "{noted:?}");
    assert!(disk.flip(&path, 2_000, 0x20));
    assert_eq!(store.scrub(256, &Rule::default(), &pace).await.map(|(_, whole)| whole), Some(true));
    assert_eq!(store.damages(), []);
    assert_eq!(store.scrub(768, &Rule::default(), &pace).await, None, "the open segment is not looked at");
}
