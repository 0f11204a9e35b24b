//! What a log reads like before, while and after its segments are moved, and at a start behind every step.

use nethical_audit::body::{self, SealedFor, command_id};
use nethical_audit::filter::Filter;
use nethical_audit::keys::BodyKeys;
use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1};
use nethical_audit::publish::Resource;
use nethical_audit::segment::SegmentRules;
use nethical_protocol::ids::{GroupId, KeyedId};

use super::*;
use crate::store::search::{Order, Search};
use crate::world::memory::MemoryDisk;
use crate::world::real::RealClock;

const LOG: LogId = LogId { group: GroupId(7), era: 1 };
const LEAVES: u64 = 700;
/// The agent whose key is gone, in some tests.
const GONE: u8 = 3;

fn leaf(index: u64) -> Vec<u8> {
    let id = |number: u8| KeyedId([number; 16]);
    let request = KeyedId(std::array::from_fn(|at| (index * 131 + at as u64 * 71) as u8));
    let decision = DecisionLeaf { request, tenant: id(1), agent: id((index % 5) as u8), ..DecisionLeaf::default() };
    let event = LeafEvent::Decision(Box::new(decision));
    LeafV1 { group: 7, era: 1, leaf_index: index, now_ns: index, term: 1, body_commitment: [2; 32], event }.encode()
}

fn stored(index: u64) -> Vec<u8> {
    let sealed_for = SealedFor { generation: 0, person: None };
    let mut seed = index;
    let mut byte = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as u8
    };
    // Those of the first segment are long, so that its warm frames are not read in one go.
    let bytes = if index < 256 { 1_500 } else { 300 };
    let text: Vec<u8> = (0..bytes).map(|_| byte()).collect();
    body::seal(&BodyKeys::new(&[1; 32], None), sealed_for, &command_id(1, 2, index), &text, None).0
}

/// A log of two closed segments and an open one.
async fn furnished() -> Arc<MemoryDisk> {
    let disk = Arc::new(MemoryDisk::new());
    disk.create_dir(&dir_of(LOG)).await.expect("a folder");
    let rules = SegmentRules { frame_raw_bytes: 4_096, segment_leaves: 256, ..SegmentRules::RELEASED };
    for first in [0, 256] {
        let meta = SegmentMeta { rules, ..SegmentMeta::new("test", LOG, first) };
        let (mut writer, header) = SegmentWriter::create(meta);
        let mut bytes = header.to_vec();
        while !writer.is_full() {
            let index = writer.next_index();
            bytes.extend(writer.push(&leaf(index), &stored(index)).unwrap_or_default());
        }
        bytes.extend(writer.close().0);
        put(&disk, &meta.file_name(), &bytes).await;
    }
    let store = open(&disk).await;
    let records: Vec<_> = (512..LEAVES).map(|index| (leaf(index), stored(index))).collect();
    let pairs: Vec<(&[u8], &[u8])> = records.iter().map(|(leaf, body)| (&leaf[..], &body[..])).collect();
    store.write_pairs(&pairs, &RealClock::new()).await.expect("written");
    let file = store.inner.lock().open.as_ref().expect("an open segment").file.clone();
    file.sync().await.expect("synced");
    disk
}

async fn put(disk: &Arc<MemoryDisk>, name: &str, bytes: &[u8]) {
    let file = disk.open(&format!("{}/{name}", dir_of(LOG)), true).await.expect("a file");
    file.write_and_sync(0, Bytes::copy_from_slice(bytes)).await.expect("written");
    disk.sync_dir(&dir_of(LOG)).await.expect("synced");
}

async fn open(disk: &Arc<MemoryDisk>) -> Arc<AuditStore> {
    let store = AuditStore::open(disk.clone(), "test", LOG).await.expect("it opens");
    store.trail.release(store.stored().0);
    store
}

async fn names(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.list(&dir_of(LOG)).await.expect("a folder");
    names.into_iter().filter(|name| name.contains("seg") || name.contains("warm")).collect()
}

async fn tend(store: &AuditStore, first: u64, rule: &Rule) -> Result<Option<Moved>, String> {
    let clock = RealClock::new();
    store.tend(first, rule, &Pace { clock: &clock, bytes_per_s: u64::MAX }).await
}

/// Everything that readers can ask for is what was written; bodies of `gone` are what stays of them where they were dropped.
async fn reads_as_written(store: &AuditStore, dropped_before: u64) {
    let all = store.read(0, LEAVES).await.expect("all of it reads");
    assert_eq!(all.len() as u64, LEAVES);
    for (index, (read, body)) in all.iter().enumerate() {
        let index = index as u64;
        assert_eq!(*read, leaf(index));
        match body::dropped(body) {
            Some(_) => assert!(index < dropped_before && index % 5 == u64::from(GONE), "leaf {index}"),
            None => assert_eq!(*body, stored(index)),
        }
        if index < dropped_before && index % 5 == u64::from(GONE) {
            assert!(body::dropped(body).is_some(), "leaf {index} has its body");
        }
    }
    assert_eq!(store.read(300, 1).await.expect("one").first(), all.get(300));
    for order in [Order::Ascending, Order::Descending] {
        let filter = Filter { agent: Some(KeyedId([2; 16])), ..Filter::default() };
        let search = Search { filter, order, from: None, limit: 1_000, bytes_max: usize::MAX };
        let found = store.search(&IndexCache::new(1 << 20), &search).await.expect("it searches");
        let mut found: Vec<u64> = found.hits.iter().map(|hit| hit.leaf_index).collect();
        found.sort_unstable();
        assert!(found.into_iter().eq((0..LEAVES).filter(|index| index % 5 == 2)));
    }
    let tile = Resource::Tile { level: 0, index: 1, width: 256 };
    let hashes = store.resource(tile).await.expect("it reads").expect("it is there");
    let wanted: Vec<u8> = (256..512).flat_map(|index| nethical_audit::tree::leaf_hash(&leaf(index))).collect();
    assert_eq!(hashes, wanted);
    assert_eq!(store.damages(), []);
}

fn hot_before(store: &AuditStore, before_ns: u64) -> Vec<u64> {
    store.hot_before(before_ns).into_iter().map(|segment| segment.first).collect()
}

fn gone() -> Rule {
    Rule::for_tests(KeyedId([1; 16]), KeyedId([GONE; 16]), 1)
}

#[tokio::test]
async fn old_segments_are_moved_and_all_readers_find_what_they_found() {
    let disk = furnished().await;
    let store = open(&disk).await;
    let root = store.stored();
    reads_as_written(&store, 0).await;
    assert_eq!(hot_before(&store, 256), [0], "the newest leaf of the second is not from before 256 ns");
    assert_eq!(tend(&store, 0, &Rule::default()).await, Ok(Some(Moved::default())));
    reads_as_written(&store, 0).await;
    assert_eq!(
        names(&disk).await,
        ["00000000000000000000.warm", "00000000000000000256.seg", "00000000000000000512.seg"]
    );
    let tiers = store.tiers();
    assert_eq!((tiers.hot.segments, tiers.warm.segments, tiers.warm.leaves), (1, 1, 256));
    assert!(tiers.warm.packed_bytes * 3 < tiers.warm.leaf_bytes, "{tiers:?}");
    assert_eq!(hot_before(&store, 10_000), [256]);
    assert!(store.unswept(&Rule::default()).is_empty(), "a warm one is looked through once");
    let again = open(&disk).await;
    assert_eq!(again.stored(), root);
    reads_as_written(&again, 0).await;
    assert_eq!(again.tiers().warm, tiers.warm);
}

#[tokio::test]
async fn records_read_alike_from_frames_that_are_read_whole_and_from_those_whose_bodies_are_long() {
    let disk = furnished().await;
    let store = open(&disk).await;
    for first in [0, 256] {
        assert_eq!(tend(&store, first, &Rule::default()).await, Ok(Some(Moved::default())));
    }
    let longest = |first: u64| {
        let places = store.inner.lock().closed_with(first).and_then(|segment| segment.places.clone()).expect("closed");
        places.frames_over(first..first + 256).map(|place| place.bytes()).max().expect("a frame")
    };
    assert!(longest(0) > frames::WHOLE_BYTES_MAX as usize && longest(256) < frames::WHOLE_BYTES_MAX as usize);
    reads_as_written(&store, 0).await;
    for index in [0, 17, 255, 256, 300, 511] {
        assert_eq!(store.read(index, 1).await.expect("it reads"), [(leaf(index), stored(index))]);
    }
}

#[tokio::test]
async fn bodies_that_may_go_are_dropped_by_a_move_and_from_warm_segments_later() {
    let disk = furnished().await;
    let store = open(&disk).await;
    assert_eq!(tend(&store, 0, &Rule::default()).await, Ok(Some(Moved::default())));
    let before = store.tiers().warm.file_bytes;
    let rule = gone();
    assert_eq!((hot_before(&store, 10_000), store.unswept(&rule)), (vec![256], vec![0]));
    assert_eq!(tend(&store, 0, &rule).await, Ok(Some(Moved { fetched: 0, dropped: 51, away: 0 })));
    assert_eq!(tend(&store, 256, &rule).await, Ok(Some(Moved { fetched: 0, dropped: 51, away: 0 })));
    assert!(hot_before(&store, 10_000).is_empty() && store.unswept(&rule).is_empty());
    assert_eq!(tend(&store, 0, &rule).await, Ok(None), "nothing is left to drop");
    reads_as_written(&store, 512).await;
    let warm = store.tiers().warm;
    assert_eq!((warm.segments, warm.erased), (2, 102));
    assert!(warm.freed_bytes > 0 && warm.file_bytes < 2 * before, "{warm:?}");
    let again = open(&disk).await;
    reads_as_written(&again, 512).await;
    // No byte of theirs is left in any file.
    for name in names(&disk).await.into_iter().filter(|name| name.ends_with("warm")) {
        let bytes = world::read_all(&*disk, &format!("{}/{name}", dir_of(LOG))).await.expect("it reads");
        let has = |index: u64| {
            let body = stored(index);
            bytes.windows(30).any(|window| window == &body[60..90])
        };
        assert!((0..512).filter(|index| index % 5 == u64::from(GONE)).all(|index| !has(index)), "{name}");
    }
}

#[tokio::test]
async fn a_start_behind_any_change_to_the_disk_finds_all_leaves_and_bodies_once() {
    let disk = furnished().await;
    let store = open(&disk).await;
    let images = Arc::new(Mutex::new(Vec::new()));
    let seen = images.clone();
    disk.watch(move |image| seen.lock().push(image));
    assert!(tend(&store, 0, &Rule::default()).await.is_ok());
    let moved = images.lock().len();
    assert!(tend(&store, 0, &gone()).await.is_ok());
    disk.unwatch();
    let images = std::mem::take(&mut *images.lock());
    assert!(images.len() > moved + 4, "{} changes", images.len());
    for (number, image) in images.into_iter().enumerate() {
        for is_power_loss in [false, true] {
            let copy = MemoryDisk::from_image(image.clone());
            if is_power_loss {
                copy.power_off();
            }
            let copy = Arc::new(copy.reincarnate());
            let store = open(&copy).await;
            assert_eq!(store.stored().0, LEAVES, "change {number}");
            assert_eq!(store.damages(), [], "change {number}");
            let all = store.read(0, LEAVES).await.expect("all of it reads");
            let intact = |(index, (read, body)): (u64, &(Vec<u8>, Vec<u8>))| {
                let may_be_gone = number >= moved && index < 256 && index % 5 == u64::from(GONE);
                *read == leaf(index) && (*body == stored(index) || (may_be_gone && body::dropped(body).is_some()))
            };
            assert!((0..).zip(&all).all(intact) && all.len() as u64 == LEAVES, "change {number}");
            let (names, is_twice) = (names(&copy).await, |name: &String| name.ends_with(".tmp"));
            assert!(names.len() == 3 && !names.iter().any(is_twice), "change {number}: {names:?}");
        }
    }
}

#[tokio::test]
async fn a_full_disk_fails_a_move_and_loses_nothing() {
    let disk = furnished().await;
    let store = open(&disk).await;
    disk.set_bytes_max(Some(0));
    let failed = tend(&store, 0, &Rule::default()).await;
    assert!(failed.is_err(), "{failed:?}");
    assert_eq!(store.tiers().failed.len(), 1);
    reads_as_written(&store, 0).await;
    disk.set_bytes_max(None);
    assert_eq!(tend(&store, 0, &Rule::default()).await, Ok(Some(Moved::default())));
    assert!(store.tiers().failed.is_empty());
    reads_as_written(&store, 0).await;
}

#[tokio::test]
async fn rot_in_a_warm_segment_is_found_and_so_is_a_body_that_nothing_lets_go() {
    let disk = furnished().await;
    let store = open(&disk).await;
    assert!(tend(&store, 0, &gone()).await.is_ok());
    let clock = RealClock::new();
    let pace = Pace { clock: &clock, bytes_per_s: u64::MAX };
    assert_eq!(store.scrub(0, &gone(), &pace).await.map(|(_, whole)| whole), Some(true));
    let other = Rule::for_tests(KeyedId([1; 16]), KeyedId([9; 16]), 1);
    assert_eq!(store.scrub(0, &other, &pace).await.map(|(_, whole)| whole), Some(false));
    assert!(store.damages()[0].why.contains("was dropped"), "{:?}", store.damages());
    assert_eq!(store.scrub(0, &gone(), &pace).await.map(|(_, whole)| whole), Some(true));
    let path = format!("{}/00000000000000000000.warm", dir_of(LOG));
    for at in [20, 300, 5_000, 30_000] {
        assert!(disk.flip(&path, at, 4));
        let open = open(&disk).await;
        let found = open.scrub(0, &gone(), &pace).await.map(|(_, whole)| whole);
        assert!(found == Some(false) && open.damages()[0].segment.ends_with(".warm"), "byte {at}");
        assert!(disk.flip(&path, at, 4));
    }
}
