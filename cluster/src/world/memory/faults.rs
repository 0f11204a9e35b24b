//! Faults of a simulated disk beyond crashes: slow and stalled syncs, and durable bytes that rot or lie elsewhere.

use std::time::Duration;

use rand::{Rng, RngExt};

use super::MemoryDisk;
use super::store::SECTOR;

impl MemoryDisk {
    /// From now on every sync takes so much longer.
    pub fn slow_syncs(&self, delay: Duration) {
        self.inner.lock().sync_delay = delay;
    }

    /// No sync ends from now on, or all that wait go on.
    pub fn stall_syncs(&self, stalled: bool) {
        self.inner.lock().stalled = stalled;
    }

    /// Durable files with their lengths, sorted.
    pub fn durable_files(&self) -> Vec<(String, u64)> {
        let inner = self.inner.lock();
        let store = &inner.store;
        let length = |inode: &u64| store.inodes.get(inode).map_or(0, |inode| inode.durable.len());
        store.durable_names.iter().map(|(path, inode)| (path.clone(), length(inode))).collect()
    }

    /// Flips one durable bit somewhere in the written part of a file. False where nothing is written there.
    pub fn rot(&self, path: &str, dice: &mut impl Rng) -> bool {
        let Some(at) = self.written_byte(path, dice) else { return false };
        self.flip(path, at, 1 << dice.random_range(0..8))
    }

    /// A sector of a file is found where another one should be. False where nothing is written there.
    pub fn misdirect(&self, path: &str, dice: &mut impl Rng) -> bool {
        let (Some(from), Some(to)) = (self.written_byte(path, dice), self.written_byte(path, dice)) else {
            return false;
        };
        let (from, to) = (from / SECTOR * SECTOR, to / SECTOR * SECTOR);
        let mut inner = self.inner.lock();
        let store = &mut inner.store;
        let Some(inode) = store.durable_names.get(path).and_then(|inode| store.inodes.get_mut(inode)) else {
            return false;
        };
        let length = inode.durable.len();
        let (mut sector, bytes) = ([0; SECTOR as usize], SECTOR.min(length - from.max(to)) as usize);
        inode.durable.read(from, &mut sector[..bytes]);
        inode.durable.write(to, &sector[..bytes]);
        from != to
    }

    /// A file is gone. False where there is none.
    pub fn vanish(&self, path: &str) -> bool {
        let mut inner = self.inner.lock();
        let store = &mut inner.store;
        store.names.remove(path);
        store.durable_names.remove(path).is_some()
    }

    /// A file ends somewhere before its end. False where it is empty.
    pub fn shorten(&self, path: &str, dice: &mut impl Rng) -> bool {
        let mut inner = self.inner.lock();
        let store = &mut inner.store;
        let inode = store.durable_names.get(path).and_then(|inode| store.inodes.get_mut(inode));
        let Some(inode) = inode.filter(|inode| inode.durable.len() > 0) else { return false };
        let length = dice.random_range(0..inode.durable.len());
        inode.durable.set_len(length);
        true
    }

    /// The position of a durable byte that is not zero, which in a zero-filled file is one that was written.
    fn written_byte(&self, path: &str, dice: &mut impl Rng) -> Option<u64> {
        const TRIES: u32 = 64;
        let inner = self.inner.lock();
        let inode = inner.store.durable_names.get(path).and_then(|inode| inner.store.inodes.get(inode))?;
        let length = inode.durable.len();
        let mut byte = [0];
        (0..TRIES).filter(|_| length > 0).find_map(|_| {
            // Files are written from their beginning: half of the tries look there.
            let reach = if dice.random_bool(0.5) { length } else { length.div_ceil(16) };
            let at = dice.random_range(0..reach);
            inode.durable.read(at, &mut byte);
            (byte[0] != 0).then_some(at)
        })
    }
}
