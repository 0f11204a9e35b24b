//! Parts of cold files that a node keeps on its own disk because they were read again: whoever goes through old bodies once leaves
//! nothing here, and whoever comes back does not wait for the object store a third time.
//!
//! They are kept as the store has them, sealed under their files' keys, so an erasure reaches them as it reaches the store: with the
//! file's key, they open for nobody. All of it can be deleted at any time, and nothing that is read from here is believed: what does
//! not open is fetched again. What was used longest ago makes room. Nobody waits for a sync: files are synced at the next look, when
//! most of them are on the disk already.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use nethical_protocol::sometimes;

use crate::world::{self, Disk};

/// Parts of cold files kept on this node's disk since it started.
pub const PROMOTED_TOTAL: &str = "nethical_audit_promoted_total";
/// Reads of a part that the disk answered instead of the object store, since the node started.
pub const HITS_TOTAL: &str = "nethical_audit_promoted_hits_total";
/// Bytes of parts of cold files on this node's disk.
pub const BYTES: &str = "nethical_audit_promoted_bytes";

/// The folder.
const DIR: &str = "promoted";
/// Parts of which it is remembered that they were fetched.
const ASKED_MAX: usize = 4_096;

/// An object, and a part of it.
pub type PartKey = ([u8; 32], usize);

/// What was fetched to read a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The file's footer.
    pub tail: Bytes,
    /// The part.
    pub part: Bytes,
}

/// The parts that a node keeps.
pub struct Promoted {
    disk: Arc<dyn Disk>,
    bytes_max: u64,
    inner: Mutex<Inner>,
    /// Held while a file is written or goes.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Inner {
    /// Bytes of each part, and when it was used last.
    kept: BTreeMap<PartKey, (u64, u64)>,
    bytes: u64,
    uses: u64,
    /// Kept and not synced yet.
    fresh: BTreeSet<PartKey>,
    /// Fetched from the store and not kept, the newest in front.
    asked: VecDeque<PartKey>,
}

impl Promoted {
    /// Finds what there is. What has no such name is removed, and so is what is beyond `bytes_max`. What the disk does not give is
    /// passed over.
    ///
    /// # Errors
    /// Where there can be no folder.
    pub async fn open(disk: Arc<dyn Disk>, bytes_max: u64) -> io::Result<Self> {
        disk.create_dir(DIR).await?;
        let promoted = Self { disk, bytes_max, inner: Mutex::default(), writing: tokio::sync::Mutex::default() };
        for name in promoted.disk.list(DIR).await? {
            if let Err(error) = promoted.take_in(&name).await {
                tracing::warn!(name, %error, "a part of a cold file that was kept here is passed over");
            }
        }
        promoted.make_room().await;
        Ok(promoted)
    }

    async fn take_in(&self, name: &str) -> io::Result<()> {
        let path = format!("{DIR}/{name}");
        let Some(key) = key_of(name) else { return self.disk.remove(&path).await };
        let length = self.disk.open(&path, false).await?.len().await?;
        self.inner.lock().note(key, length);
        Ok(())
    }

    /// Number and bytes of the parts kept.
    pub fn sums(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.kept.len() as u64, inner.bytes)
    }

    /// A part, where it is kept and its file is there. It may be damaged.
    pub async fn get(&self, key: PartKey) -> Option<Fetched> {
        if !self.inner.lock().touch(key) {
            return None;
        }
        let read = world::read_all(&*self.disk, &path_of(key)).await;
        let fetched = read.ok().and_then(|bytes| unpack(&bytes));
        if fetched.is_none() {
            self.forget(key).await;
        }
        fetched
    }

    /// Keeps a part that was fetched from the store, if it was fetched before. Where the disk fails, it is not kept.
    pub async fn offer(&self, key: PartKey, fetched: &Fetched) {
        let bytes = pack(fetched);
        let length = bytes.len() as u64;
        if length > self.bytes_max || !self.inner.lock().is_again(key) {
            return;
        }
        let _alone = self.writing.lock().await;
        if self.inner.lock().kept.contains_key(&key) {
            return;
        }
        match self.write(key, bytes).await {
            Ok(()) => {
                let mut inner = self.inner.lock();
                inner.note(key, length);
                inner.fresh.insert(key);
                metrics::counter!(PROMOTED_TOTAL).increment(1);
                sometimes!(true, "a part of a cold file was promoted");
            }
            Err(error) => {
                tracing::warn!(%error, "a part of a cold file could not be kept on this node's disk");
                let _ = self.disk.remove(&path_of(key)).await;
            }
        }
        self.make_room().await;
    }

    async fn write(&self, key: PartKey, bytes: Bytes) -> io::Result<()> {
        let file = self.disk.open(&path_of(key), true).await?;
        file.set_len(0).await?;
        file.write_at(0, bytes).await
    }

    /// Lets a part go that does not open.
    pub async fn forget(&self, key: PartKey) {
        let _alone = self.writing.lock().await;
        self.remove(key).await;
    }

    /// Lets go what is not of these objects, and sees to it that a power loss does not take the rest.
    pub async fn tend(&self, objects: &BTreeSet<[u8; 32]>) {
        let _alone = self.writing.lock().await;
        let gone: Vec<PartKey> =
            self.inner.lock().kept.keys().filter(|(object, _)| !objects.contains(object)).copied().collect();
        for key in gone {
            self.remove(key).await;
        }
        if let Err(error) = self.sync().await {
            tracing::warn!(%error, "parts of cold files could not be synced");
        }
        metrics::gauge!(BYTES).set(self.sums().1 as f64);
    }

    async fn sync(&self) -> io::Result<()> {
        let fresh = std::mem::take(&mut self.inner.lock().fresh);
        for key in &fresh {
            self.disk.open(&path_of(*key), false).await?.sync().await?;
        }
        if fresh.is_empty() { Ok(()) } else { self.disk.sync_dir(DIR).await }
    }

    async fn make_room(&self) {
        loop {
            let oldest = self.inner.lock().beyond(self.bytes_max);
            let Some(oldest) = oldest else { return };
            sometimes!(true, "a promoted part made room");
            self.remove(oldest).await;
        }
    }

    /// Where it cannot be removed, nobody asks for it any more, and the next start tries again.
    async fn remove(&self, key: PartKey) {
        self.inner.lock().drop_out(key);
        if let Err(error) = self.disk.remove(&path_of(key)).await {
            tracing::warn!(%error, "a part of a cold file could not be removed from this node's disk");
        }
    }
}

impl Inner {
    fn note(&mut self, key: PartKey, bytes: u64) {
        self.drop_out(key);
        self.uses += 1;
        self.bytes += bytes;
        self.kept.insert(key, (bytes, self.uses));
    }

    fn touch(&mut self, key: PartKey) -> bool {
        self.uses += 1;
        let uses = self.uses;
        self.kept.get_mut(&key).map(|(_, used)| *used = uses).is_some()
    }

    fn drop_out(&mut self, key: PartKey) {
        self.fresh.remove(&key);
        self.bytes -= self.kept.remove(&key).map_or(0, |(bytes, _)| bytes);
    }

    /// What was used longest ago, where there is too much.
    fn beyond(&self, bytes_max: u64) -> Option<PartKey> {
        let oldest = || self.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
        if self.bytes > bytes_max { oldest() } else { None }
    }

    /// True where a part was fetched before; that it was now is remembered.
    fn is_again(&mut self, key: PartKey) -> bool {
        if let Some(at) = self.asked.iter().position(|asked| *asked == key) {
            self.asked.remove(at);
            return true;
        }
        self.asked.push_front(key);
        self.asked.truncate(ASKED_MAX);
        false
    }
}

fn path_of((object, part): PartKey) -> String {
    format!("{DIR}/{}-{part:05}", hex::encode(object))
}

fn key_of(name: &str) -> Option<PartKey> {
    let (object, part) = name.split_once('-')?;
    let key = (hex::decode(object).ok()?.try_into().ok()?, part.parse().ok()?);
    (path_of(key).strip_prefix(DIR)?.strip_prefix('/')? == name).then_some(key)
}

/// Length of the tail, 4 bytes little-endian; the tail; the part.
fn pack(Fetched { tail, part }: &Fetched) -> Bytes {
    [&(tail.len() as u32).to_le_bytes()[..], tail, part].concat().into()
}

fn unpack(bytes: &[u8]) -> Option<Fetched> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (tail, part) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some(Fetched { tail: Bytes::copy_from_slice(tail), part: Bytes::copy_from_slice(part) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::memory::MemoryDisk;

    fn key(number: u8) -> PartKey {
        ([number; 32], usize::from(number))
    }

    fn fetched(number: u8) -> Fetched {
        Fetched { tail: Bytes::from(vec![number; 6]), part: Bytes::from(vec![number + 1; 90]) }
    }

    /// A part is 100 bytes.
    async fn of_three(disk: &Arc<MemoryDisk>) -> Promoted {
        Promoted::open(disk.clone(), 300).await.expect("it opens")
    }

    #[tokio::test]
    async fn what_is_fetched_a_second_time_is_kept_and_what_was_used_longest_ago_makes_room() {
        let disk = Arc::new(MemoryDisk::new());
        let promoted = of_three(&disk).await;
        for number in [1, 2, 3, 4] {
            promoted.offer(key(number), &fetched(number)).await;
        }
        assert_eq!(promoted.sums(), (0, 0), "each was fetched once");
        for number in [1, 2, 3] {
            promoted.offer(key(number), &fetched(number)).await;
        }
        assert_eq!(promoted.sums(), (3, 300));
        assert_eq!(promoted.get(key(1)).await, Some(fetched(1)));
        promoted.offer(key(4), &fetched(4)).await;
        assert_eq!(promoted.sums(), (3, 300));
        assert_eq!(promoted.get(key(2)).await, None);
        let again = of_three(&disk).await;
        assert_eq!((again.sums(), again.get(key(4)).await), ((3, 300), Some(fetched(4))), "a start finds them");
        again.tend(&BTreeSet::from([[3; 32], [9; 32]])).await;
        assert_eq!((again.sums(), disk.list(DIR).await.expect("it lists").len()), ((1, 100), 1));
        let none = Promoted::open(disk.clone(), 0).await.expect("it opens");
        assert_eq!((none.sums(), disk.list(DIR).await.expect("it lists").len()), ((0, 0), 0), "none is wanted");
    }

    #[tokio::test]
    async fn files_that_are_gone_cut_or_nobodys_are_none() {
        let disk = Arc::new(MemoryDisk::new());
        let promoted = of_three(&disk).await;
        for number in [1, 2, 1, 2] {
            promoted.offer(key(number), &fetched(number)).await;
        }
        disk.remove(&path_of(key(1))).await.expect("it goes");
        disk.open(&path_of(key(2)), false).await.expect("there").set_len(9).await.expect("cut");
        for number in [1, 2] {
            assert_eq!(promoted.get(key(number)).await, None);
        }
        assert_eq!(promoted.sums(), (0, 0));
        for name in ["x", "00-1", &format!("{}-1", "0".repeat(64)), &format!("{}-00001.tmp", "0".repeat(64))] {
            disk.open(&format!("{DIR}/{name}"), true).await.expect("made");
        }
        assert_eq!(of_three(&disk).await.sums(), (0, 0));
        assert!(disk.list(DIR).await.expect("it lists").is_empty());
    }
}
