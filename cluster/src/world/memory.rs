//! A disk and a map in memory, with a crash model. The simulator and the tests run nodes on them.
//!
//! The disk tells apart what a running process sees (the page cache) and what is durable. A crash decides by seeded
//! dice, for each un-synced write by itself, whether it is lost, whole, torn at 512 bytes, out of order or garbage, and
//! for each un-synced name whether it is there. The same seed makes the same crash.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::{Clock, Disk, File, Kv};

mod faults;
mod image;
mod pages;
mod store;

pub use image::DiskImage;
use store::{Change, Naming, Pending, Store};

/// How long operations take. Drawn from dice of its own, so that timing never changes a crash.
#[derive(Clone)]
pub struct DiskLatency {
    /// Time of one write or read.
    pub access: Range<Duration>,
    /// Time of one sync.
    pub sync: Range<Duration>,
}

/// Called after every change with the disk as it then is.
type Watcher = Arc<dyn Fn(DiskImage) + Send + Sync>;

#[derive(Default)]
struct Inner {
    store: Store,
    /// Handles of any other incarnation are dead.
    incarnation: u64,
    failing_syncs: bool,
    lying_syncs: bool,
    sync_delay: Duration,
    stalled: bool,
    bytes_max: Option<u64>,
    syncs: u64,
    written_bytes: u64,
    timing: Option<(Arc<dyn Clock>, DiskLatency, ChaCha12Rng)>,
    watcher: Option<Watcher>,
}

/// A disk in memory. A clone is the same disk and the same incarnation.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    inner: Arc<Mutex<Inner>>,
    incarnation: u64,
}

/// What a disk has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskCounts {
    /// Syncs of files that succeeded.
    pub syncs: u64,
    /// Bytes handed to writes.
    pub written_bytes: u64,
}

impl MemoryDisk {
    /// An empty disk without latency.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk as it was when the image was taken.
    pub fn from_image(image: DiskImage) -> Self {
        let inner = Inner { store: image.store, ..Inner::default() };
        Self { inner: Arc::new(Mutex::new(inner)), incarnation: 0 }
    }

    /// A copy of the disk as it is now.
    pub fn image(&self) -> DiskImage {
        DiskImage { store: self.inner.lock().store.clone() }
    }

    /// From now on operations take time on `clock`.
    pub fn set_latency(&self, clock: Arc<dyn Clock>, latency: DiskLatency, seed: u64) {
        self.inner.lock().timing = Some((clock, latency, ChaCha12Rng::seed_from_u64(seed)));
    }

    /// Calls `watcher` after every change. It must not touch the disk.
    pub fn watch(&self, watcher: impl Fn(DiskImage) + Send + Sync + 'static) {
        self.inner.lock().watcher = Some(Arc::new(watcher));
    }

    /// Stops calling the watcher.
    pub fn unwatch(&self) {
        self.inner.lock().watcher = None;
    }

    /// The process dies, the machine does not: what was written stays, and every handle from before is dead.
    pub fn reincarnate(&self) -> MemoryDisk {
        let mut inner = self.inner.lock();
        inner.incarnation += 1;
        MemoryDisk { inner: self.inner.clone(), incarnation: inner.incarnation }
    }

    /// Power fails. Every handle is dead until [`MemoryDisk::reincarnate`].
    pub fn crash(&self, dice: &mut impl Rng) {
        let mut inner = self.inner.lock();
        inner.incarnation += 1;
        inner.store.crash(dice);
    }

    /// Power fails and exactly what was synced is left.
    pub fn power_off(&self) {
        let mut inner = self.inner.lock();
        inner.incarnation += 1;
        inner.store.lose_unsynced();
    }

    /// Syncs fail with EIO from now on, or work again. What a failed sync held is lost at the next crash.
    pub fn fail_syncs(&self, failing: bool) {
        self.inner.lock().failing_syncs = failing;
    }

    /// Syncs answer without making anything durable from now on, or are honest again.
    pub fn lie_about_syncs(&self, lying: bool) {
        self.inner.lock().lying_syncs = lying;
    }

    /// The disk is full at this many bytes.
    pub fn set_bytes_max(&self, bytes: Option<u64>) {
        self.inner.lock().bytes_max = bytes;
    }

    /// Inverts bits of a durable byte. False where there is no such byte.
    pub fn flip(&self, path: &str, at: u64, mask: u8) -> bool {
        let mut inner = self.inner.lock();
        let store = &mut inner.store;
        let Some(inode) = store.durable_names.get(path).and_then(|inode| store.inodes.get_mut(inode)) else {
            return false;
        };
        if at >= inode.durable.len() {
            return false;
        }
        let mut byte = [0];
        inode.durable.read(at, &mut byte);
        inode.durable.write(at, &[byte[0] ^ mask]);
        true
    }

    /// What the disk has done so far.
    pub fn counts(&self) -> DiskCounts {
        let inner = self.inner.lock();
        DiskCounts { syncs: inner.syncs, written_bytes: inner.written_bytes }
    }

    /// Runs `work` on the living disk.
    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.inner.lock();
        if inner.incarnation != self.incarnation {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "this handle belongs to a process that has died"));
        }
        work(&mut inner)
    }

    /// [`MemoryDisk::with`], then tells the watcher.
    fn change<T>(&self, work: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let (value, told) = self.with(|inner| {
            let value = work(inner)?;
            let told = inner.watcher.clone().map(|watcher| (watcher, DiskImage { store: inner.store.clone() }));
            Ok((value, told))
        })?;
        if let Some((watcher, image)) = told {
            watcher(image);
        }
        Ok(value)
    }

    /// The time of a sync. A stalled one looks again and again whether it may end.
    async fn wait_for_sync(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(25);
        self.wait(|latency| latency.sync.clone()).await;
        loop {
            let (delay, clock) = {
                let mut inner = self.inner.lock();
                let delay = if inner.stalled { LOOK_EVERY } else { inner.sync_delay };
                (delay, inner.timing.as_mut().map(|(clock, _, _)| clock.clone()))
            };
            let Some(clock) = clock.filter(|_| !delay.is_zero()) else { return };
            clock.sleep(delay).await;
            if !self.inner.lock().stalled {
                return;
            }
        }
    }

    async fn wait(&self, range: impl Fn(&DiskLatency) -> Range<Duration>) {
        let sleep = {
            let mut inner = self.inner.lock();
            inner.timing.as_mut().map(|(clock, latency, dice)| {
                let range = range(latency);
                let wait = if range.is_empty() { range.start } else { dice.random_range(range) };
                clock.sleep(wait)
            })
        };
        if let Some(sleep) = sleep {
            sleep.await;
        }
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &str, create: bool) -> BoxFuture<'static, io::Result<Arc<dyn File>>> {
        let (disk, path) = (self.clone(), path.to_owned());
        Box::pin(async move {
            let inode = disk.change(|inner| inner.store.open(&path, create))?;
            let file: Arc<dyn File> = Arc::new(MemoryFile { disk, inode });
            Ok(file)
        })
    }

    fn list(&self, dir: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        let (disk, dir) = (self.clone(), dir.to_owned());
        Box::pin(async move { disk.with(|inner| Ok(inner.store.list(&dir))) })
    }

    fn create_dir(&self, dir: &str) -> BoxFuture<'static, io::Result<()>> {
        let (disk, dir) = (self.clone(), dir.to_owned());
        Box::pin(async move {
            disk.with(|inner| {
                inner.store.create_dir(&dir);
                Ok(())
            })
        })
    }

    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>> {
        let (disk, from, to) = (self.clone(), from.to_owned(), to.to_owned());
        Box::pin(async move {
            disk.change(|inner| {
                let inode = inner.store.open(&from, false)?;
                inner.store.name(Naming::Renamed { from, to, inode });
                Ok(())
            })
        })
    }

    fn remove(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        let (disk, path) = (self.clone(), path.to_owned());
        Box::pin(async move {
            disk.change(|inner| {
                inner.store.open(&path, false)?;
                inner.store.name(Naming::Removed { path });
                Ok(())
            })
        })
    }

    fn sync_dir(&self, dir: &str) -> BoxFuture<'static, io::Result<()>> {
        let (disk, dir) = (self.clone(), dir.to_owned());
        Box::pin(async move {
            disk.wait_for_sync().await;
            disk.change(|inner| {
                if inner.failing_syncs {
                    return Err(eio());
                }
                if !inner.lying_syncs {
                    inner.store.sync_dir(&dir);
                }
                Ok(())
            })
        })
    }
}

fn eio() -> io::Error {
    io::Error::other("EIO: the simulated disk fails its syncs")
}

/// An open file. It lives as long as somebody holds it, whatever happens to its names, like on Unix.
struct MemoryFile {
    disk: MemoryDisk,
    inode: u64,
}

impl MemoryFile {
    fn apply(disk: &MemoryDisk, inode: u64, change: Change) -> io::Result<()> {
        disk.change(|inner| {
            let grown = match &change {
                Change::Write { at, data } => {
                    inner.written_bytes += data.len() as u64;
                    at + data.len() as u64
                }
                Change::SetLen(length) => *length,
            };
            let bound = inner.bytes_max.map(|limit| (limit, inner.store.used_bytes()));
            let file = inner.store.inodes.entry(inode).or_default();
            if bound.is_some_and(|(limit, used)| used + grown.saturating_sub(file.len()) > limit) {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "ENOSPC: the simulated disk is full"));
            }
            file.pending.push(Pending { change, dropped: false });
            Ok(())
        })
    }

    /// Only what was written before the sync began is durable when it ends.
    async fn flush(disk: MemoryDisk, inode: u64) -> io::Result<()> {
        let count = disk.with(|inner| Ok(inner.store.inodes.get(&inode).map_or(0, |inode| inode.pending.len())))?;
        disk.wait_for_sync().await;
        disk.change(|inner| {
            let Some(file) = inner.store.inodes.get_mut(&inode) else { return Ok(()) };
            if inner.failing_syncs {
                file.pending.iter_mut().take(count).for_each(|pending| pending.dropped = true);
                return Err(eio());
            }
            if !inner.lying_syncs {
                file.settle(count);
            }
            inner.syncs += 1;
            Ok(())
        })
    }
}

impl File for MemoryFile {
    fn len(&self) -> BoxFuture<'static, io::Result<u64>> {
        let (disk, inode) = (self.disk.clone(), self.inode);
        Box::pin(async move { disk.with(|inner| Ok(inner.store.inodes.get(&inode).map_or(0, |inode| inode.len()))) })
    }

    fn read_at(&self, at: u64, length: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        let (disk, inode) = (self.disk.clone(), self.inode);
        Box::pin(async move {
            disk.wait(|latency| latency.access.clone()).await;
            disk.with(|inner| Ok(inner.store.inodes.get(&inode).map_or_else(Bytes::new, |file| file.read(at, length))))
        })
    }

    fn write_at(&self, at: u64, data: Bytes) -> BoxFuture<'static, io::Result<()>> {
        let (disk, inode) = (self.disk.clone(), self.inode);
        Box::pin(async move {
            disk.wait(|latency| latency.access.clone()).await;
            Self::apply(&disk, inode, Change::Write { at, data })
        })
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(Self::flush(self.disk.clone(), self.inode))
    }

    fn write_and_sync(&self, at: u64, data: Bytes) -> BoxFuture<'static, io::Result<()>> {
        let (disk, inode) = (self.disk.clone(), self.inode);
        Box::pin(async move {
            disk.wait(|latency| latency.access.clone()).await;
            Self::apply(&disk, inode, Change::Write { at, data })?;
            Self::flush(disk, inode).await
        })
    }

    fn set_len(&self, length: u64) -> BoxFuture<'static, io::Result<()>> {
        let (disk, inode) = (self.disk.clone(), self.inode);
        Box::pin(async move { Self::apply(&disk, inode, Change::SetLen(length)) })
    }
}

/// Changes of a [`MemoryKv`] that a crash may undo.
const KV_RECENT_MAX: usize = 1_024;

/// A map in memory. A crash may lose its latest changes, as sled's does.
#[derive(Default)]
pub struct MemoryKv {
    inner: Mutex<KvInner>,
}

#[derive(Default)]
struct KvInner {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Key and former value of the latest changes.
    recent: std::collections::VecDeque<(Vec<u8>, Option<Vec<u8>>)>,
}

impl MemoryKv {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Undoes some of the latest changes, or, once in eight times, forgets everything.
    pub fn crash(&self, dice: &mut impl Rng) {
        let mut inner = self.inner.lock();
        if dice.random_ratio(1, 8) {
            *inner = KvInner::default();
            return;
        }
        let undone = dice.random_range(0..=inner.recent.len());
        for _ in 0..undone {
            match inner.recent.pop_back() {
                Some((key, Some(value))) => inner.map.insert(key, value),
                Some((key, None)) => inner.map.remove(&key),
                None => None,
            };
        }
        inner.recent.clear();
    }

    /// Forgets everything, as when an operator removes the folder.
    pub fn clear(&self) {
        *self.inner.lock() = KvInner::default();
    }

    fn set(&self, key: &[u8], value: Option<&[u8]>) {
        let mut inner = self.inner.lock();
        let former = match value {
            Some(value) => inner.map.insert(key.to_vec(), value.to_vec()),
            None => inner.map.remove(key),
        };
        inner.recent.push_back((key.to_vec(), former));
        if inner.recent.len() > KV_RECENT_MAX {
            inner.recent.pop_front();
        }
    }
}

impl Kv for MemoryKv {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.inner.lock().map.get(key).cloned()
    }

    fn put(&self, key: &[u8], value: &[u8]) {
        self.set(key, Some(value));
    }

    fn remove(&self, key: &[u8]) {
        self.set(key, None);
    }

    fn scan(&self, prefix: &[u8], after: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = if after < prefix { Included(prefix) } else { Excluded(after) };
        let inner = self.inner.lock();
        let pairs = inner.map.range::<[u8], _>((from, Unbounded));
        pairs.take_while(|(key, _)| key.starts_with(prefix)).take(limit).map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

#[cfg(test)]
mod tests;
