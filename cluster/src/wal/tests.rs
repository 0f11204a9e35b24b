//! What the log promises, one behaviour a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::model::{open, small_options};
use super::*;
use crate::world::memory::{DiskLatency, MemoryDisk};
use crate::world::read_all;
use crate::world::real::{RealClock, RealDisk};

const A: GroupId = GroupId(2);
const B: GroupId = GroupId(3);

fn scope() -> Scope {
    Scope::new([1; 32])
}

fn entry(index: u64, payload: &[u8]) -> WalEntry {
    WalEntry { term: 1, index, payload: Bytes::copy_from_slice(payload) }
}

fn unwrap_done() -> Done {
    Box::new(|result| result.unwrap())
}

async fn append(wal: &Wal, group: GroupId, index: u64, payload: &[u8]) {
    wal.append(group, vec![entry(index, payload)], unwrap_done()).await;
}

/// Appends entries one batch at a time.
async fn append_apart(wal: &Wal, group: GroupId, indexes: Range<u64>, payload: &[u8]) {
    for index in indexes {
        append(wal, group, index, payload).await;
        wal.flush().await.unwrap();
    }
}

#[tokio::test]
async fn entries_can_be_read_before_they_are_durable_and_after_a_restart() {
    let (disk, scope) = (MemoryDisk::new(), scope());
    let (wal, recovered) = open(&disk, &scope, small_options()).await;
    assert_eq!(recovered, Recovered::default());
    let syncs = disk.counts().syncs;
    append(&wal, A, 1, b"one").await;
    append(&wal, A, 2, b"two").await;
    let both = [entry(1, b"one"), entry(2, b"two")];
    assert_eq!(wal.read(A, 0..9).await.unwrap(), both);
    assert_eq!(disk.counts().syncs, syncs, "nothing has been synced yet");
    wal.save_vote(A, Bytes::from_static(b"vote")).await.unwrap();
    assert_eq!(wal.stats().batches, 1, "what was queued together is one batch");
    assert_eq!(wal.read(A, 2..9).await.unwrap(), both[1..]);
    scope.kill();
    disk.power_off();
    let (wal, recovered) = open(&disk.reincarnate(), &Scope::new([2; 32]), small_options()).await;
    let found = &recovered.groups[&A];
    assert_eq!(found.vote, Some(Bytes::from_static(b"vote")));
    assert_eq!((found.first_index, found.last_index, found.last_term), (Some(1), Some(2), Some(1)));
    assert_eq!(wal.read(A, 0..9).await.unwrap(), both);
    assert_eq!(wal.log_bytes(A), 2 * 35);
}

#[tokio::test]
async fn a_lone_vote_is_synced_at_once_and_riders_force_nothing() {
    let (disk, scope) = (MemoryDisk::new(), scope());
    let (wal, _) = open(&disk, &scope, small_options()).await;
    wal.save_vote(A, Bytes::from_static(b"v1")).await.unwrap();
    wal.save_committed(A, Bytes::from_static(b"c1"));
    wal.save_membership(A, Bytes::from_static(b"m1"));
    wal.purge(A, 4, Bytes::from_static(b"p4"));
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(wal.stats().batches, 1, "nobody waits for riders");
    wal.save_vote(B, Bytes::from_static(b"v2")).await.unwrap();
    assert_eq!(wal.stats().batches, 2);
    scope.kill();
    disk.power_off();
    let (_, recovered) = open(&disk.reincarnate(), &Scope::new([2; 32]), small_options()).await;
    let found = &recovered.groups[&A];
    assert_eq!(found.committed, Some(Bytes::from_static(b"c1")));
    assert_eq!(found.membership, Some(Bytes::from_static(b"m1")));
    assert_eq!(found.purged, Some((4, Bytes::from_static(b"p4"))));
}

#[tokio::test]
async fn an_append_that_leaves_a_hole_or_is_too_large_is_refused_whole() {
    let (disk, scope) = (MemoryDisk::new(), scope());
    let (wal, _) = open(&disk, &scope, small_options()).await;
    append(&wal, A, 5, b"first").await;
    for wrong in [vec![entry(7, b"")], vec![entry(6, b""), entry(8, b"")], vec![entry(6, &[0; 2_000])]] {
        let (sender, receiver) = oneshot::channel();
        wal.append(A, wrong, Box::new(move |result| sender.send(result).unwrap())).await;
        assert_eq!(receiver.await.unwrap().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(wal.last(A), Some((5, 1)));
    wal.truncate_after(A, None).await.unwrap();
    wal.purge(A, 9, Bytes::new());
    append(&wal, A, 10, b"after the snapshot").await;
    wal.flush().await.unwrap();
    assert!(wal.save_vote(A, Bytes::from(vec![0; HEAD_BYTES_MAX + 1])).await.is_err());
}

#[tokio::test]
async fn a_large_append_is_cut_into_batches_and_calls_back_once() {
    let (disk, scope) = (MemoryDisk::new(), scope());
    let (wal, _) = open(&disk, &scope, small_options()).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let entries: Vec<WalEntry> = (0..12).map(|index| entry(index, &[index as u8; 400])).collect();
    let done = Box::new(move |result: io::Result<()>| {
        result.unwrap();
        counted.fetch_add(1, Ordering::SeqCst);
    });
    wal.append(A, entries.clone(), done).await;
    wal.flush().await.unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert!(wal.stats().batches >= 6);
    assert_eq!(wal.read(A, 0..99).await.unwrap(), entries);
    assert!(wal.pinned_segments(A) >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_appends_wait() {
    let (disk, scope) = (MemoryDisk::new(), scope());
    let (wal, _) = open(&disk, &scope, small_options()).await;
    let (clock, second) = (Arc::new(RealClock::new()), Duration::from_secs(1));
    disk.set_latency(clock, DiskLatency { access: Duration::ZERO..Duration::ZERO, sync: second..second }, 1);
    let mut index = 0;
    let fill = async {
        loop {
            append(&wal, A, index, &[1; 900]).await;
            index += 1;
        }
    };
    assert!(tokio::time::timeout(second / 2, fill).await.is_err(), "it waits for the disk");
    assert_eq!(index, 8, "8 KiB are queued");
    let fill = async {
        append(&wal, A, index, &[1; 900]).await;
    };
    assert!(tokio::time::timeout(4 * second, fill).await.is_ok(), "room comes back when the disk is done");
}

#[tokio::test]
async fn a_failed_sync_ends_the_log_and_is_told_to_everybody() {
    let (disk, scope) = (MemoryDisk::new(), scope());
    let told = Arc::new(Mutex::new(Vec::new()));
    let fatal = told.clone();
    let on_fatal: OnFatal = Arc::new(move |error| fatal.lock().push(error.to_string()));
    let (wal, _) = open(&disk, &scope, WalOptions { on_fatal, ..small_options() }).await;
    append_apart(&wal, A, 1..3, b"kept").await;
    disk.fail_syncs(true);
    let syncs = disk.counts().syncs;
    let (sender, receiver) = oneshot::channel();
    wal.append(A, vec![entry(3, b"lost")], Box::new(move |result| sender.send(result).unwrap())).await;
    assert!(receiver.await.unwrap().is_err());
    disk.fail_syncs(false);
    assert!(wal.save_vote(A, Bytes::new()).await.is_err(), "a sync that succeeds later proves nothing");
    assert!(wal.flush().await.is_err());
    assert_eq!((told.lock().len(), disk.counts().syncs), (1, syncs), "told once, never tried again");
    scope.kill();
    disk.power_off();
    let (_, recovered) = open(&disk.reincarnate(), &Scope::new([2; 32]), small_options()).await;
    assert_eq!(recovered.groups[&A].last_index, Some(2));
    assert!(!recovered.has_lost());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_called_back_after_the_scope_was_killed() {
    let (disk, scope) = (MemoryDisk::new(), scope());
    let (wal, _) = open(&disk, &scope, small_options()).await;
    let (clock, milli) = (Arc::new(RealClock::new()), Duration::from_millis(1));
    disk.set_latency(clock, DiskLatency { access: milli..milli, sync: milli..milli }, 1);
    let held = Arc::new(());
    for index in 0..2 {
        let witness = held.clone();
        let done = Box::new(move |_| panic!("called after death; {} hold it", Arc::strong_count(&witness)));
        wal.append(A, vec![entry(index, b"x")], done).await;
        tokio::time::advance(milli).await;
    }
    let vote = wal.save_vote(A, Bytes::new());
    scope.kill();
    assert_eq!(vote.await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    wal.append(A, vec![entry(2, b"x")], Box::new(|_| panic!("called after death"))).await;
    tokio::time::advance(10 * milli).await;
    tokio::task::yield_now().await;
    assert_eq!(Arc::strong_count(&held), 1, "the callbacks were dropped");
}

#[tokio::test]
async fn segments_are_used_again_and_never_resurrect_what_they_held() {
    let (disk, scope) = (MemoryDisk::new(), scope());
    let (wal, _) = open(&disk, &scope, small_options()).await;
    for index in 0..200 {
        append_apart(&wal, A, index..index + 1, &[0xAA; 400]).await;
        wal.purge(A, index, Bytes::new());
    }
    let stats = wal.stats();
    assert!(stats.live_segments + stats.free_segments <= 4, "{stats:?}");
    assert!(stats.prepared_bytes <= 4 * 2_048, "{stats:?}");
    assert!(stats.written_bytes > 80_000, "the same few files were written many times over");
    scope.kill();
    disk.power_off();
    // The files are full of whole old records behind the end of the log.
    let disk = disk.reincarnate();
    let (wal, recovered) = open(&disk, &Scope::new([2; 32]), small_options()).await;
    assert!(!recovered.has_lost());
    assert_eq!(wal.read(A, 0..999).await.unwrap(), wal.read(A, 199..200).await.unwrap());
    assert_eq!(wal.stats().sequence, 0, "counts begin with the start");
    append(&wal, A, 200, b"new").await;
    wal.flush().await.unwrap();
    assert_eq!(wal.stats().sequence, stats.sequence + 1);
}

#[tokio::test]
async fn a_cold_group_pins_segments_until_it_is_purged_or_forgotten() {
    let (disk, scope) = (MemoryDisk::new(), scope());
    let (wal, _) = open(&disk, &scope, small_options()).await;
    for cold in [GroupId(8), GroupId(9)] {
        append_apart(&wal, cold, 0..1, b"cold").await;
    }
    for index in 0..30 {
        append_apart(&wal, A, index..index + 1, &[1; 400]).await;
        wal.purge(A, index, Bytes::new());
    }
    assert!(wal.pinned_segments(GroupId(8)) > 4 && wal.pinned_segments(A) <= 1);
    wal.purge(GroupId(8), 0, Bytes::new());
    wal.forget_group(GroupId(9));
    assert_eq!(wal.pinned_segments(GroupId(8)), 0);
    wal.flush().await.unwrap();
    wal.flush().await.unwrap();
    assert!(wal.stats().live_segments <= 2, "{:?}", wal.stats());
}

/// A log of several segments on a disk that was switched off, and how many batches it has.
async fn written_log() -> (MemoryDisk, u64) {
    let (disk, scope) = (MemoryDisk::new(), scope());
    let (wal, _) = open(&disk, &scope, WalOptions { mark_every: 1, ..small_options() }).await;
    append_apart(&wal, A, 0..9, &[7; 300]).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let sequence = wal.stats().sequence;
    scope.kill();
    disk.power_off();
    (disk.reincarnate(), sequence)
}

#[tokio::test]
async fn every_damaged_byte_is_harmless_or_reported_and_nothing_is_cut_silently() {
    let (disk, _) = written_log().await;
    let image = disk.image();
    let (mut rotten, mut lost, mut harmless) = (0, 0, 0);
    for name in disk.list("wal").await.unwrap() {
        let path = format!("wal/{name}");
        for at in 0..read_all(&disk, &path).await.unwrap().len() as u64 {
            let (disk, scope) = (MemoryDisk::from_image(image.clone()), scope());
            assert!(disk.flip(&path, at, 0x10));
            let (wal, recovered) = open(&disk, &scope, small_options()).await;
            match (recovered.rot.is_some(), recovered.lost_tail) {
                (true, _) => rotten += 1,
                (false, true) => lost += 1,
                (false, false) => {
                    assert_eq!(wal.read(A, 0..99).await.unwrap().len(), 9, "byte {at} of {path} cut the log silently");
                    harmless += 1;
                }
            }
            assert_eq!(recovered.has_lost(), wal.flush().await.is_err(), "a log with losses takes no changes");
            scope.kill();
        }
    }
    // Nine entries of 332 bytes with 64 bytes of mark: the last one is lost, those before it are rot.
    assert!(rotten > 8 * 390 && lost > 390 && harmless > 500, "{rotten} rotten, {lost} lost, {harmless} harmless");
}

#[tokio::test]
async fn damage_that_comes_while_the_log_is_open_is_an_error_of_the_read_and_fatal() {
    let (disk, _) = written_log().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let fatal = told.clone();
    let on_fatal: OnFatal = Arc::new(move |error| fatal.lock().push(error.to_string()));
    let (wal, _) = open(&disk, &scope(), WalOptions { on_fatal, ..small_options() }).await;
    let before = wal.read(A, 0..9).await.unwrap();
    assert!(disk.flip("wal/00000000.seg", 400, 1));
    let error = wal.read(A, 0..9).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(*told.lock(), [error.to_string()], "the next start finds the rot and begins new lives");
    assert_eq!(wal.read(A, 3..9).await.unwrap(), before[3..]);
}

#[tokio::test]
async fn a_missing_segment_is_reported_until_the_log_is_started_over() {
    let (disk, sequence) = written_log().await;
    let segments = disk.list("wal").await.unwrap().into_iter().filter(|name| name.ends_with(".seg")).count();
    for missing in 0..segments as u64 {
        let disk = MemoryDisk::from_image(disk.image());
        let path = segment::path_of(missing);
        let is_used = read_all(&disk, &path).await.unwrap().iter().any(|byte| *byte != 0);
        disk.remove(&path).await.unwrap();
        disk.sync_dir("wal").await.unwrap();
        for _ in 0..3 {
            let (wal, recovered) = open(&disk, &scope(), small_options()).await;
            assert_eq!(recovered.has_lost(), is_used, "{path}: {recovered:?}");
            assert!(recovered.rot.is_none_or(|why| why.contains("missing")));
            assert_eq!(wal.save_vote(A, Bytes::new()).await.is_err(), is_used, "{path}");
        }
        let over = WalOptions { start_over: true, ..small_options() };
        let first = scope();
        let (wal, recovered) = open(&disk, &first, over).await;
        assert_eq!(recovered, Recovered::default());
        append(&wal, A, 40, b"another life").await;
        wal.flush().await.unwrap();
        assert!(wal.stats().sequence > sequence, "sequences are not used twice");
        first.kill();
        disk.power_off();
        let (wal, recovered) = open(&disk.reincarnate(), &scope(), small_options()).await;
        assert!(!recovered.has_lost(), "{recovered:?}");
        assert_eq!(wal.read(A, 0..99).await.unwrap(), [entry(40, b"another life")], "nothing old comes back");
    }
}

#[tokio::test]
async fn a_crash_while_a_lost_log_is_started_over_is_never_silent() {
    let (disk, _) = written_log().await;
    for damage in ["wal/00000000.seg", "wal/mark.0"] {
        let disk = MemoryDisk::from_image(disk.image());
        assert!(disk.flip(damage, 9, 1));
        assert!(disk.flip("wal/mark.1", 9, 1));
        let images = Arc::new(Mutex::new(Vec::new()));
        let seen = images.clone();
        disk.watch(move |image| seen.lock().push(image));
        open(&disk, &scope(), WalOptions { start_over: true, ..small_options() }).await;
        disk.unwatch();
        let crashes: Vec<_> = images.lock().drain(..).flat_map(|image| image.crashes()).collect();
        assert!(crashes.len() > 10);
        for image in crashes {
            let (_, recovered) = open(&MemoryDisk::from_image(image), &scope(), small_options()).await;
            assert!(recovered.has_lost() || recovered.groups.is_empty(), "{damage}: {recovered:?}");
        }
    }
}

#[tokio::test]
async fn a_log_of_a_newer_release_is_refused_rather_than_called_damaged() {
    let (disk, scope) = (MemoryDisk::new(), scope());
    let (wal, _) = open(&disk, &scope, small_options()).await;
    append_apart(&wal, A, 0..1, b"x").await;
    let file = disk.open("wal/00000000.seg", false).await.unwrap();
    let head = file.read_at(0, record::SegmentHead::BYTES).await.unwrap();
    file.write_and_sync(0, record::with_version(&head, record::VERSION + 1)).await.unwrap();
    let error = Wal::open(Arc::new(disk), scope, small_options()).await.err().unwrap();
    assert!(matches!(error, WalError::Newer { version, .. } if version == record::VERSION + 1), "{error}");
}

#[tokio::test]
async fn options_that_contradict_each_other_are_refused() {
    let wrong = [
        WalOptions { segment_bytes: 100, ..small_options() },
        WalOptions { batch_bytes_max: 1_500, ..small_options() },
        WalOptions { queue_bytes_max: 100, ..small_options() },
        WalOptions { mark_every: 0, ..small_options() },
    ];
    for options in wrong {
        let error = Wal::open(Arc::new(MemoryDisk::new()), scope(), options).await.err().unwrap();
        assert!(matches!(error, WalError::Options(_)));
    }
    WalOptions::new(Arc::new(|_| {}), small_options().clock).check().unwrap();
}

#[tokio::test]
async fn the_log_works_on_real_files() {
    let folder = tempfile::tempdir().unwrap();
    let options = WalOptions {
        segment_bytes: 64 * 1024,
        batch_bytes_max: 16 * 1024,
        queue_bytes_max: 1 << 20,
        ..small_options()
    };
    for life in 0..4u64 {
        let disk = Arc::new(RealDisk::new(folder.path()).unwrap());
        let scope = scope();
        let (wal, recovered) = Wal::open(disk, scope.clone(), options.clone()).await.unwrap();
        assert!(!recovered.has_lost(), "{recovered:?}");
        assert_eq!(recovered.groups.get(&A).and_then(|group| group.last_index), (life > 0).then(|| life * 100 - 1));
        let found = recovered.groups.get(&B).and_then(|group| group.vote.clone());
        assert_eq!(found, (life > 0).then(|| Bytes::copy_from_slice(&(life - 1).to_le_bytes())));
        for index in life * 100..life * 100 + 100 {
            append(&wal, A, index, &[index as u8; 700]).await;
            if index % 10 == 0 {
                wal.save_vote(B, Bytes::copy_from_slice(&life.to_le_bytes())).await.unwrap();
            }
            if index % 50 == 49 {
                wal.purge(A, index - 20, Bytes::new());
            }
        }
        wal.flush().await.unwrap();
        let last = wal.read(A, 0..u64::MAX).await.unwrap();
        assert_eq!(last.len(), 20);
        assert!(last.iter().all(|entry| entry.payload == [entry.index as u8; 700][..]));
        scope.kill();
    }
    let files = RealDisk::new(folder.path()).unwrap().list("wal").await.unwrap().len();
    assert!(files <= 2 + 4, "{files} files: segments are not used again");
}
