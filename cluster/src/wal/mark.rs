//! The high-water mark: the highest batch known to be durable, in two files written in turn.
//!
//! It tells a log whose end was torn by a crash, which is normal, from one that lost batches that were acknowledged. It
//! is written behind the log's back, every so many batches, so it is a lower bound: what was acknowledged after it can
//! be lost unnoticed here, and is noticed by asking the peers (ARCHITECTURE 5).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::record::{HEADER_BYTES, Header, Kind, Seed, decode, encode};
use super::segment::FOLDER;
use crate::world::{Disk, File};

const PATHS: [&str; 2] = ["wal/mark.0", "wal/mark.1"];

/// What the mark files say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// There are none.
    Absent,
    /// There are some and none is valid. A crash cannot do that: one is durable before the other is touched.
    Unreadable,
    /// The highest valid one, and which file has it.
    At { sequence: u64, slot: usize },
}

fn bytes_of(sequence: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES);
    encode(&mut out, Seed::OPEN, Header { index: sequence, ..Header::of(Kind::Mark) }, &[]);
    out.freeze()
}

/// Reads both files. `names` are the files of the log's folder.
pub(super) async fn read(disk: &dyn Disk, names: &[String]) -> io::Result<Mark> {
    let mut mark = Mark::Absent;
    for (slot, path) in PATHS.into_iter().enumerate() {
        if !names.iter().any(|name| path.ends_with(name.as_str())) {
            continue;
        }
        let file = disk.open(path, false).await?;
        file.settle().await?;
        let bytes = file.read_at(0, HEADER_BYTES).await?;
        let found = decode(&bytes, Seed::OPEN).filter(|record| record.header.kind == Kind::Mark);
        match (found.map(|record| record.header.index), mark) {
            (Some(sequence), Mark::At { sequence: other, .. }) if other >= sequence => {}
            (Some(sequence), _) => mark = Mark::At { sequence, slot },
            (None, Mark::Absent) => mark = Mark::Unreadable,
            (None, _) => {}
        }
    }
    Ok(mark)
}

/// Writes the mark whenever it has moved on.
pub(super) struct Marker {
    files: [Arc<dyn File>; 2],
    slot: usize,
    wanted: Arc<Wanted>,
}

/// The sequence that the mark should tell.
#[derive(Default)]
pub(super) struct Wanted {
    sequence: AtomicU64,
    moved: Notify,
}

impl Wanted {
    /// Everything up to `sequence` is durable.
    pub(super) fn set(&self, sequence: u64) {
        self.sequence.store(sequence, Ordering::Release);
        self.moved.notify_one();
    }
}

impl Marker {
    /// Opens the files and makes them where they are missing. Where neither is valid both are written, with `sequence`.
    pub(super) async fn open(disk: &dyn Disk, mark: Mark, sequence: u64, wanted: Arc<Wanted>) -> io::Result<Marker> {
        let files = [disk.open(PATHS[0], true).await?, disk.open(PATHS[1], true).await?];
        let slot = match mark {
            Mark::At { slot, .. } => {
                // A process that was killed may have left a mark in the page cache only; two such would be none.
                for file in &files {
                    file.sync().await?;
                }
                slot
            }
            Mark::Absent | Mark::Unreadable => {
                for file in &files {
                    file.write_and_sync(0, bytes_of(sequence)).await?;
                }
                1
            }
        };
        disk.sync_dir(FOLDER).await?;
        Ok(Marker { files, slot, wanted })
    }

    /// Writes `sequence` into the file that does not hold the latest mark.
    pub(super) async fn write(&mut self, sequence: u64) -> io::Result<()> {
        self.slot = 1 - self.slot;
        self.files[self.slot].write_and_sync(0, bytes_of(sequence)).await
    }

    /// Follows the log until a write fails.
    pub(super) async fn run(mut self) -> io::Error {
        let mut written = 0;
        loop {
            let sequence = self.wanted.sequence.load(Ordering::Acquire);
            if sequence <= written {
                self.wanted.moved.notified().await;
                continue;
            }
            if let Err(error) = self.write(sequence).await {
                return error;
            }
            written = sequence;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::memory::{DiskImage, MemoryDisk};

    async fn found(disk: &MemoryDisk) -> Mark {
        read(disk, &disk.list(FOLDER).await.unwrap()).await.unwrap()
    }

    /// Writes a mark and gives the disk at every instant of that.
    async fn write_watched(disk: &MemoryDisk, marker: &mut Marker, sequence: u64) -> Vec<DiskImage> {
        let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let images = seen.clone();
        disk.watch(move |image| images.lock().push(image));
        marker.write(sequence).await.unwrap();
        disk.unwatch();
        std::mem::take(&mut *seen.lock())
    }

    async fn check_crashes(images: &[DiskImage], sequence: u64) {
        for image in images.iter().flat_map(DiskImage::crashes) {
            let mark = found(&MemoryDisk::from_image(image)).await;
            let Mark::At { sequence: found, .. } = mark else { panic!("no mark is left of {sequence}") };
            assert!(found == sequence || found + 1 == sequence, "{found} after {sequence}");
        }
    }

    async fn started() -> (MemoryDisk, Marker) {
        let disk = MemoryDisk::new();
        disk.create_dir(FOLDER).await.unwrap();
        assert_eq!(found(&disk).await, Mark::Absent);
        let marker = Marker::open(&disk, Mark::Absent, 0, Arc::default()).await.unwrap();
        (disk, marker)
    }

    #[tokio::test]
    async fn the_highest_valid_mark_counts_whatever_a_crash_leaves_of_the_other() {
        let (disk, mut marker) = started().await;
        for sequence in 1..20 {
            let images = write_watched(&disk, &mut marker, sequence).await;
            check_crashes(&images, sequence).await;
        }
        assert!(matches!(found(&disk).await, Mark::At { sequence: 19, .. }));
        assert!(disk.flip("wal/mark.0", 9, 1));
        assert_eq!(found(&disk).await, Mark::At { sequence: 18, slot: 1 });
        assert!(disk.flip("wal/mark.1", 9, 1));
        assert_eq!(found(&disk).await, Mark::Unreadable);
    }

    #[tokio::test]
    async fn a_mark_that_a_killed_process_left_unsynced_is_not_risked_with_the_next() {
        let (disk, mut marker) = started().await;
        for image in write_watched(&disk, &mut marker, 1).await {
            // The process dies here and the page cache stays.
            let disk = MemoryDisk::from_image(image);
            let mut marker = Marker::open(&disk, found(&disk).await, 0, Arc::default()).await.unwrap();
            let images = write_watched(&disk, &mut marker, 2).await;
            check_crashes(&images, 2).await;
        }
    }
}
