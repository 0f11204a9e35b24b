//! What the crash model promises to those who test against it.

use super::super::real::RealClock;
use super::super::{read_all, replace};
use super::*;

async fn file(disk: &MemoryDisk, path: &str) -> Arc<dyn File> {
    disk.open(path, true).await.unwrap()
}

fn dice(seed: u64) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(seed)
}

#[tokio::test]
async fn what_was_synced_survives_every_crash_and_the_rest_may_not() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let disk = MemoryDisk::new();
        let one = file(&disk, "one").await;
        one.write_and_sync(0, Bytes::from(vec![1; 2048])).await.unwrap();
        disk.sync_dir("").await.unwrap();
        one.write_at(2048, Bytes::from(vec![2; 2048])).await.unwrap();
        assert_eq!(read_all(&disk, "one").await.unwrap().len(), 4096, "a running process sees its writes");
        disk.crash(&mut dice(seed));
        assert!(one.len().await.is_err(), "a handle of the dead process is dead");
        let disk = disk.reincarnate();
        let bytes = read_all(&disk, "one").await.unwrap();
        assert_eq!(bytes[..2048], [1; 2048], "seed {seed} lost synced bytes");
        match bytes[2048..].iter().filter(|byte| **byte == 2).count() {
            0 => lost += 1,
            2048 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 20 && kept > 20 && torn > 20, "lost {lost}, kept {kept}, torn {torn}");
}

#[tokio::test]
async fn a_name_is_durable_only_after_its_folder_is_synced() {
    let mut present = 0;
    for seed in 0..100 {
        let disk = MemoryDisk::new();
        disk.create_dir("d").await.unwrap();
        file(&disk, "d/one").await.write_and_sync(0, Bytes::from_static(b"x")).await.unwrap();
        disk.crash(&mut dice(seed));
        present += disk.reincarnate().list("d").await.unwrap().len();
    }
    assert!((20..80).contains(&present), "{present} of 100 un-synced names were kept");
}

#[tokio::test]
async fn replacing_a_file_leaves_the_old_or_the_new_whole() {
    let images = Arc::new(Mutex::new(Vec::new()));
    let disk = MemoryDisk::new();
    disk.create_dir("d").await.unwrap();
    replace(&disk, "d", "f", Bytes::from(vec![1; 1500])).await.unwrap();
    let seen = images.clone();
    disk.watch(move |image| seen.lock().push(image));
    replace(&disk, "d", "f", Bytes::from(vec![2; 1200])).await.unwrap();
    let mut checked = 0;
    let crashes: Vec<_> = images.lock().drain(..).flat_map(|image| image.crashes()).collect();
    for image in crashes {
        let bytes = read_all(&MemoryDisk::from_image(image), "d/f").await.unwrap();
        assert!(bytes == vec![1; 1500] || bytes == vec![2; 1200], "neither old nor new");
        checked += 1;
    }
    assert!(checked > 20, "only {checked} crashes");
}

#[tokio::test]
async fn the_same_seed_makes_the_same_crash() {
    let run = |seed| async move {
        let disk = MemoryDisk::new();
        let one = file(&disk, "one").await;
        disk.sync_dir("").await.unwrap();
        for step in 0..20u8 {
            one.write_at(u64::from(step) * 700, Bytes::from(vec![step; 900])).await.unwrap();
        }
        disk.crash(&mut dice(seed));
        read_all(&disk.reincarnate(), "one").await.unwrap()
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}

#[tokio::test]
async fn a_failed_sync_loses_its_writes_even_if_a_later_one_succeeds() {
    let disk = MemoryDisk::new();
    let one = file(&disk, "one").await;
    disk.sync_dir("").await.unwrap();
    disk.fail_syncs(true);
    assert!(one.write_and_sync(0, Bytes::from_static(b"gone")).await.is_err());
    disk.fail_syncs(false);
    one.sync().await.unwrap();
    disk.power_off();
    assert_eq!(read_all(&disk.reincarnate(), "one").await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_full_disk_and_a_lying_disk_can_be_played() {
    let disk = MemoryDisk::new();
    let one = file(&disk, "one").await;
    disk.sync_dir("").await.unwrap();
    disk.set_bytes_max(Some(4));
    let error = one.write_at(0, Bytes::from_static(b"12345")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    one.write_and_sync(0, Bytes::from_static(b"1234")).await.unwrap();
    disk.lie_about_syncs(true);
    one.write_and_sync(0, Bytes::from_static(b"5678")).await.unwrap();
    disk.power_off();
    let disk = disk.reincarnate();
    assert_eq!(read_all(&disk, "one").await.unwrap(), &b"1234"[..]);
    assert!(disk.flip("one", 0, 1) && !disk.flip("one", 4, 1));
    assert_eq!(read_all(&disk, "one").await.unwrap(), &b"0234"[..]);
}

#[tokio::test(start_paused = true)]
async fn a_sync_takes_its_time_and_covers_what_came_before_it() {
    let (disk, clock) = (MemoryDisk::new(), Arc::new(RealClock::new()));
    let one = file(&disk, "one").await;
    disk.sync_dir("").await.unwrap();
    let millis = Duration::from_millis;
    disk.set_latency(clock.clone(), DiskLatency { access: millis(0)..millis(0), sync: millis(4)..millis(8) }, 1);
    one.write_at(0, Bytes::from_static(b"early")).await.unwrap();
    let (sync, late) = (one.sync(), async {
        clock.sleep(millis(1)).await;
        one.write_at(5, Bytes::from_static(b"late")).await
    });
    let (synced, written) = futures::join!(sync, late);
    synced.unwrap();
    written.unwrap();
    assert!(clock.now() >= millis(4));
    disk.power_off();
    assert_eq!(read_all(&disk.reincarnate(), "one").await.unwrap(), &b"early"[..]);
}

#[test]
fn a_crash_of_the_map_undoes_only_the_latest_changes() {
    let kv = MemoryKv::new();
    for number in 0..50u8 {
        kv.put(&[number], b"v");
    }
    let mut dice = dice(3);
    kv.crash(&mut dice);
    let left = kv.scan(b"", b"", 100);
    assert!(left.iter().enumerate().all(|(number, (key, _))| key == &[number as u8]), "a hole in the middle");
}
