//! The files under the log: fixed in number and size, zero-filled once, used again and again.
//!
//! A file's number is only its name. What it holds is said by the head at its beginning, so that taking it into use
//! again is one write, and no rename or removal can be half done by a crash.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use nethical_protocol::sometimes;

use crate::world::{Disk, File, Scope};

/// The folder of the log.
pub(super) const FOLDER: &str = "wal";
/// Zeros are written in pieces of this size.
const ZERO_BYTES: usize = 1024 * 1024;

/// The path of a file by its number.
pub(super) fn path_of(number: u64) -> String {
    format!("{FOLDER}/{number:08}.seg")
}

/// The number of a file by its name; none where it is no segment.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// A file that may be taken into use.
pub(super) struct FreeFile {
    pub(super) number: u64,
    pub(super) file: Arc<dyn File>,
    /// False where it was found shorter than a segment: a crash interrupted its preparation.
    pub(super) is_whole: bool,
}

/// Makes a file of zeros, durable with its name, so that later syncs never have to change its length or blocks.
async fn prepare(disk: Arc<dyn Disk>, number: u64, segment_bytes: u64) -> io::Result<FreeFile> {
    let file = disk.open(&path_of(number), true).await?;
    let zeros = Bytes::from(vec![0; ZERO_BYTES.min(segment_bytes as usize)]);
    let mut done = 0;
    while done < segment_bytes {
        let part = zeros.slice(..zeros.len().min((segment_bytes - done) as usize));
        let bytes = part.len() as u64;
        file.write_at(done, part).await?;
        done += bytes;
    }
    file.sync().await?;
    disk.sync_dir(FOLDER).await?;
    Ok(FreeFile { number, file, is_whole: true })
}

/// All files but the current one: those that hold needed records and those that may be used again.
pub(super) struct Pool {
    disk: Arc<dyn Disk>,
    scope: Scope,
    segment_bytes: u64,
    live: BTreeMap<u64, FreeFile>,
    free: VecDeque<FreeFile>,
    next_number: u64,
    preparing: Option<JoinHandle<io::Result<FreeFile>>>,
    /// Bytes of zeros written.
    pub(super) prepared_bytes: u64,
}

impl Pool {
    pub(super) fn new(disk: Arc<dyn Disk>, scope: Scope, segment_bytes: u64, next_number: u64) -> Self {
        Self {
            disk,
            scope,
            segment_bytes,
            live: BTreeMap::new(),
            free: VecDeque::new(),
            next_number,
            preparing: None,
            prepared_bytes: 0,
        }
    }

    /// Adds a file that holds the segment of this epoch.
    pub(super) fn add_live(&mut self, epoch: u64, file: FreeFile) {
        self.live.insert(epoch, file);
    }

    /// Adds a file that nobody needs.
    pub(super) fn add_free(&mut self, file: FreeFile) {
        self.free.push_back(file);
    }

    /// Frees the segments before `oldest` and gives their epochs.
    pub(super) fn reclaim(&mut self, oldest: u64) -> Vec<u64> {
        let kept = self.live.split_off(&oldest);
        let freed = std::mem::replace(&mut self.live, kept);
        let epochs = freed.keys().copied().collect();
        self.free.extend(freed.into_values());
        epochs
    }

    /// Begins to make a file in the background where none is free, so that the next switch finds one.
    pub(super) fn prepare_ahead(&mut self) {
        if self.free.is_empty() && self.preparing.is_none() {
            let work = prepare(self.disk.clone(), self.next_number, self.segment_bytes);
            self.next_number += 1;
            self.prepared_bytes += self.segment_bytes;
            self.preparing = Some(self.scope.spawn(work));
        }
    }

    /// A file for the segment of this epoch.
    pub(super) async fn take(&mut self, epoch: u64) -> io::Result<Arc<dyn File>> {
        let free = match self.free.pop_front() {
            Some(free) if free.is_whole => {
                sometimes!(true, "a log segment was used again");
                free
            }
            Some(short) => {
                self.prepared_bytes += self.segment_bytes;
                prepare(self.disk.clone(), short.number, self.segment_bytes).await?
            }
            None => {
                self.prepare_ahead();
                let preparing = self.preparing.take().expect("prepare_ahead left one behind");
                preparing.await.map_err(io::Error::other)??
            }
        };
        let file = free.file.clone();
        self.live.insert(epoch, free);
        Ok(file)
    }

    /// Files that hold needed records, and free ones.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.live.len() as u64, self.free.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segments_have_numbers() {
        assert_eq!(number_of("00000012.seg"), Some(12));
        assert_eq!(path_of(12), "wal/00000012.seg");
        for name in ["mark.0", "x.seg", "12.seg.tmp", "+1.seg", "99999999999999999999999.seg"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
