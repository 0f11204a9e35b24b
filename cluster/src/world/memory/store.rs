//! What a simulated disk holds: bytes that are durable, writes that are not yet, and the same for names.
//!
//! A crash decides the fate of every un-synced write and name for itself. It is harsher than a journaling file system,
//! which keeps some order; code that survives this survives that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use super::pages::Pages;

/// The unit that a disk writes whole or not at all.
pub(super) const SECTOR: u64 = 512;

/// A change of a file that is in the page cache only.
#[derive(Clone)]
pub(super) enum Change {
    /// Bytes at a position.
    Write { at: u64, data: Bytes },
    /// A new length.
    SetLen(u64),
}

/// A change and whether a failed sync has already dropped it: it is still seen until the crash, but no later sync can
/// make it durable (that is how Linux treats dirty pages after an error).
#[derive(Clone)]
pub(super) struct Pending {
    pub(super) change: Change,
    pub(super) dropped: bool,
}

/// A file without its names.
#[derive(Clone, Default)]
pub(super) struct Inode {
    pub(super) durable: Pages,
    pub(super) pending: Vec<Pending>,
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.pending.iter().fold(self.durable.len(), |length, pending| match &pending.change {
            Change::Write { at, data } => length.max(at + data.len() as u64),
            Change::SetLen(length) => *length,
        })
    }

    /// What a running process sees: the durable bytes under the pending ones.
    pub(super) fn read(&self, at: u64, length: usize) -> Bytes {
        let length = length.min(usize::try_from(self.len().saturating_sub(at)).unwrap_or(usize::MAX));
        let mut buffer = self.durable.copy(at, length);
        let end = at + length as u64;
        for pending in &self.pending {
            match &pending.change {
                Change::Write { at: start, data } => {
                    let (from, to) = (at.max(*start), end.min(start + data.len() as u64));
                    if from < to {
                        let source = &data[(from - start) as usize..(to - start) as usize];
                        buffer[(from - at) as usize..(to - at) as usize].copy_from_slice(source);
                    }
                }
                Change::SetLen(length) if *length < end => {
                    buffer[(length.max(&at) - at) as usize..].fill(0);
                }
                Change::SetLen(_) => {}
            }
        }
        buffer.into()
    }

    /// Makes the first `count` pending changes durable, but for those that a failed sync dropped.
    pub(super) fn settle(&mut self, count: usize) {
        let count = count.min(self.pending.len());
        let later = self.pending.split_off(count);
        for pending in std::mem::replace(&mut self.pending, later) {
            if !pending.dropped {
                self.persist(&pending.change);
            }
        }
    }

    pub(super) fn persist(&mut self, change: &Change) {
        match change {
            Change::Write { at, data } => self.durable.write(*at, data),
            Change::SetLen(length) => self.durable.set_len(*length),
        }
    }

    /// Decides what is left of the pending changes after a crash.
    fn crash(&mut self, dice: &mut impl Rng) {
        let mut pending = std::mem::take(&mut self.pending);
        if dice.random_ratio(1, 4) {
            pending.shuffle(dice);
        }
        for pending in pending {
            match (&pending.change, dice.random_range(0..8)) {
                (_, 0..=1) => {}
                (change, 2..=4) => self.persist(change),
                (Change::SetLen(length), _) => self.durable.set_len(*length),
                (Change::Write { at, data }, kind) => self.tear(*at, data, kind == 7, dice),
            }
        }
    }

    /// Keeps some sectors of a write: a beginning, or each by its own luck; where `garbage`, a few hold noise.
    fn tear(&mut self, at: u64, data: &Bytes, garbage: bool, dice: &mut impl Rng) {
        let parts = sectors(at, data);
        let beginning = dice.random_bool(0.5).then(|| dice.random_range(0..=parts.len()));
        for (number, (at, part)) in parts.into_iter().enumerate() {
            if garbage && dice.random_ratio(1, 4) {
                let mut noise = vec![0; part.len()];
                dice.fill_bytes(&mut noise);
                self.durable.write(at, &noise);
            } else if beginning.map_or_else(|| dice.random_bool(0.5), |kept| number < kept) {
                self.durable.write(at, &part);
            }
        }
    }
}

/// The parts of a write that reach the disk independently.
pub(super) fn sectors(at: u64, data: &Bytes) -> Vec<(u64, Bytes)> {
    let (mut parts, mut done) = (Vec::new(), 0);
    while done < data.len() {
        let position = at + done as u64;
        let take = (SECTOR - position % SECTOR).min((data.len() - done) as u64) as usize;
        parts.push((position, data.slice(done..done + take)));
        done += take;
    }
    parts
}

/// A change of names that is not durable yet.
#[derive(Clone)]
pub(super) enum Naming {
    /// A name that was made for a new file.
    Created { path: String, inode: u64 },
    /// A file that got a new name over whatever had it.
    Renamed { from: String, to: String, inode: u64 },
    /// A name that was removed.
    Removed { path: String },
}

impl Naming {
    fn touches(&self, dir: &str) -> bool {
        match self {
            Naming::Created { path, .. } | Naming::Removed { path } => folder(path) == dir,
            Naming::Renamed { from, to, .. } => folder(from) == dir || folder(to) == dir,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Naming::Created { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            Naming::Renamed { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            Naming::Removed { path } => {
                names.remove(path);
            }
        }
    }
}

/// The folder part of a path; empty for the root.
pub(super) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Everything on one disk.
#[derive(Clone, Default)]
pub(super) struct Store {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: BTreeMap<String, u64>,
    pub(super) durable_names: BTreeMap<String, u64>,
    pub(super) namings: Vec<Naming>,
    folders: BTreeSet<String>,
    next_inode: u64,
}

impl Store {
    pub(super) fn open(&mut self, path: &str, create: bool) -> io::Result<u64> {
        if let Some(inode) = self.names.get(path) {
            return Ok(*inode);
        }
        let parent = folder(path);
        if !create || (!parent.is_empty() && !self.folders.contains(parent)) {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{path} does not exist")));
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.name(Naming::Created { path: path.to_owned(), inode });
        Ok(inode)
    }

    pub(super) fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.namings.push(naming);
    }

    pub(super) fn list(&self, dir: &str) -> Vec<String> {
        let inside = self.names.keys().filter(|path| folder(path) == dir);
        inside.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect()
    }

    /// Folders are durable at once: the trait says so.
    pub(super) fn create_dir(&mut self, dir: &str) {
        let mut path = dir;
        while !path.is_empty() {
            self.folders.insert(path.to_owned());
            path = folder(path);
        }
    }

    pub(super) fn sync_dir(&mut self, dir: &str) {
        let (synced, later) = std::mem::take(&mut self.namings).into_iter().partition(|naming| naming.touches(dir));
        self.namings = later;
        let synced: Vec<Naming> = synced;
        synced.iter().for_each(|naming| naming.apply(&mut self.durable_names));
    }

    /// Bytes that files take, seen by a running process.
    pub(super) fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|inode| self.inodes.get(inode)).map(Inode::len).sum()
    }

    /// Power fails: every un-synced change is lost, kept or mangled by its own luck.
    pub(super) fn crash(&mut self, dice: &mut impl Rng) {
        for naming in std::mem::take(&mut self.namings) {
            if dice.random_bool(0.5) {
                naming.apply(&mut self.durable_names);
            }
        }
        self.inodes.values_mut().for_each(|inode| inode.crash(dice));
        self.restart();
    }

    /// Power fails and nothing that was not synced is left.
    pub(super) fn lose_unsynced(&mut self) {
        self.namings.clear();
        self.inodes.values_mut().for_each(|inode| inode.pending.clear());
        self.restart();
    }

    /// After a crash only durable names count, and files without one are gone.
    pub(super) fn restart(&mut self) {
        self.names = self.durable_names.clone();
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    /// What a crash that keeps exactly the chosen changes leaves behind.
    pub(super) fn resolved(&self, kept: &[Unit]) -> Store {
        let mut store = self.clone();
        store.namings.clear();
        store.inodes.values_mut().for_each(|inode| inode.pending.clear());
        for unit in kept {
            match unit {
                Unit::Name(naming) => naming.apply(&mut store.durable_names),
                Unit::Data { inode, change } => {
                    if let Some(inode) = store.inodes.get_mut(inode) {
                        inode.persist(change);
                    }
                }
            }
        }
        store.restart();
        store
    }

    /// The un-synced changes, split into what a crash may keep or lose one by one, in order.
    pub(super) fn units(&self) -> Vec<Unit> {
        let mut units: Vec<Unit> = self.namings.iter().cloned().map(|naming| Unit::Name(Arc::new(naming))).collect();
        for (inode, file) in &self.inodes {
            for pending in &file.pending {
                match &pending.change {
                    // A write of zeros (a file being prepared) is one unit: its sectors make no difference.
                    Change::Write { at, data } if data.iter().any(|byte| *byte != 0) => {
                        let parts = sectors(*at, data).into_iter();
                        units.extend(
                            parts.map(|(at, data)| Unit::Data { inode: *inode, change: Change::Write { at, data } }),
                        );
                    }
                    change => units.push(Unit::Data { inode: *inode, change: change.clone() }),
                }
            }
        }
        units
    }
}

/// The smallest change that a crash keeps or loses.
#[derive(Clone)]
pub(super) enum Unit {
    /// A change of names.
    Name(Arc<Naming>),
    /// One sector of a write, or a length.
    Data { inode: u64, change: Change },
}
