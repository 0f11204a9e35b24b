//! A group's audit segments on this node: where stored leaves are, and the tree over them.
//!
//! The [`sealer`] writes committed records here once, in leaf order; readers find them by index, or by what is in them
//! ([`search`]). Segments are an
//! append-only stream of bytes that is equal on all replicas, so what is on disk never has to be rewritten. This module
//! decides nothing about what is committed.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use nethical_audit::note::Signer;
use nethical_audit::segment::footer::END_BYTES;
use nethical_audit::segment::{
    ScanEnd, SegmentFooter, SegmentIndex, SegmentMeta, SegmentScan, SegmentWriter, footer_bytes,
};
use nethical_audit::tree::{Hash, TileTree};
use nethical_protocol::ids::LogId;
use nethical_protocol::sometimes;

use crate::publish::Announced;
use crate::trail::Trail;
use crate::world::{self, Disk, File};

mod cache;
mod publish;
pub mod sealer;
pub mod search;

pub use cache::IndexCache;
use search::Searchable;

/// One group's segments, and the unsealed tail in front of them.
pub struct AuditStore {
    disk: Arc<dyn Disk>,
    cluster: String,
    log: LogId,
    /// Unsealed records.
    pub trail: Arc<Trail>,
    inner: Mutex<Inner>,
    sealed: watch::Sender<Sealed>,
    /// Told when somebody waits for the sealer.
    demand: Notify,
    wanted: Mutex<u64>,
    expected: Mutex<Option<(u64, Hash)>>,
    retired: AtomicBool,
    /// Made for the first checkpoint; none where the zone's key cannot sign under the log's origin.
    signer: OnceLock<Option<Signer>>,
    /// The checkpoint that was published last. Held while the next one is made.
    pub announced: tokio::sync::Mutex<Option<Announced>>,
    /// This replica never vouches for fewer leaves than it has before. What it vouched for before its start was durable,
    /// so it is no more than what a start finds.
    pub vouched: Mutex<u64>,
}

/// How far segments have come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Leaves whose bytes are in a file.
    pub written: u64,
    /// Of those, leaves that a power loss cannot take.
    pub durable: u64,
}

struct Inner {
    closed: Vec<Arc<Closed>>,
    open: Option<Open>,
    tree: TileTree,
}

/// A segment that takes no more.
struct Closed {
    first: u64,
    next: u64,
    name: String,
    index: SegmentIndex,
    /// Where its footer starts.
    footer_at: u64,
    search: Searchable,
}

/// The segment that is being written.
struct Open {
    writer: SegmentWriter,
    file: Arc<dyn File>,
}

impl AuditStore {
    /// Reads what segments hold; cuts a torn tail; starts the first segment where there is none.
    pub async fn open(disk: Arc<dyn Disk>, cluster: &str, log: LogId) -> io::Result<Arc<Self>> {
        let dir = dir_of(log);
        disk.create_dir(&dir).await?;
        let mut inner = Inner { closed: Vec::new(), open: None, tree: TileTree::default() };
        let names: Vec<String> = disk.list(&dir).await?.into_iter().filter(|name| name.ends_with(".seg")).collect();
        let last = names.len().saturating_sub(1);
        for (place, name) in names.into_iter().enumerate() {
            if inner.open.is_some() {
                // Behind a damaged segment nothing can be trusted to be in sequence: peers have it.
                tracing::error!(name, group = %log.group, "a segment behind a damaged one is set aside");
                disk.rename(&format!("{dir}/{name}"), &format!("{dir}/{name}.aside")).await?;
                continue;
            }
            inner.take_in(&*disk, &dir, name, place < last).await?;
        }
        if inner.open.is_none() {
            inner.open = Some(create(&*disk, cluster, log, inner.tree.size()).await?);
        }
        let size = inner.tree.size();
        let sealed = watch::channel(Sealed { written: size, durable: size }).0;
        let trail = Arc::new(Trail::new(size));
        Ok(Arc::new(Self {
            disk,
            cluster: cluster.to_owned(),
            log,
            trail,
            inner: Mutex::new(inner),
            sealed,
            demand: Notify::new(),
            wanted: Mutex::new(0),
            expected: Mutex::new(None),
            retired: AtomicBool::new(false),
            signer: OnceLock::new(),
            announced: tokio::sync::Mutex::new(None),
            vouched: Mutex::new(size),
        }))
    }

    /// Leaves in segments and their root.
    pub fn stored(&self) -> (u64, Hash) {
        let inner = self.inner.lock();
        (inner.tree.size(), inner.tree.root())
    }

    /// How far segments have come, now and from now on.
    pub fn sealed(&self) -> watch::Receiver<Sealed> {
        self.sealed.subscribe()
    }

    /// Ends the sealer: another store takes this one's place.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.demand.notify_one();
    }

    /// The log.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// Notes that after a snapshot the tree must have this root at this size, once the gap before it is filled.
    pub fn expect(&self, size: u64, root: Hash) {
        *self.expected.lock() = Some((size, root));
        self.demand.notify_one();
    }

    /// Waits until segments durably hold this many leaves.
    pub async fn barrier(&self, leaves: u64) -> io::Result<()> {
        {
            let mut wanted = self.wanted.lock();
            *wanted = (*wanted).max(leaves);
        }
        self.demand.notify_one();
        let mut sealed = self.sealed.subscribe();
        let reached = sealed.wait_for(|sealed| sealed.durable >= leaves).await;
        reached.map(|_| ()).map_err(|_| io::Error::other("the sealer has ended"))
    }

    /// Leaves with their bodies from an index on, at most `count`: from segments, then from the tail.
    pub async fn read(&self, from: u64, count: u64) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut found = Vec::new();
        let end = from.saturating_add(count);
        while from + (found.len() as u64) < end {
            let index = from + found.len() as u64;
            if let Some(record) = self.trail.get(index) {
                found.push((record.bytes.to_vec(), record.body.to_vec()));
                continue;
            }
            let frame = self.read_frame(index, end).await?;
            if frame.is_empty() {
                break;
            }
            found.extend(frame);
        }
        Ok(found)
    }

    /// The records of one frame from an index on; empty where it is not stored here.
    async fn read_frame(&self, index: u64, end: u64) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let Some((name, span)) = self.place_of(index) else { return Ok(Vec::new()) };
        let file = self.disk.open(&format!("{}/{name}", dir_of(self.log)), false).await?;
        let frame = file.read_at(span.offset, span.length as usize).await?;
        let records = span.records(&frame, index).take_while(|record| record.leaf_index < end);
        let found: Vec<_> = records.map(|record| (record.leaf.to_vec(), record.body.to_vec())).collect();
        match found.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::InvalidData, format!("leaf {index} in {name} is damaged"))),
            false => Ok(found),
        }
    }

    fn place_of(&self, index: u64) -> Option<(String, nethical_audit::segment::FrameSpan)> {
        let inner = self.inner.lock();
        if let Some(open) = inner.open.as_ref().filter(|open| open.writer.meta().first_index <= index) {
            let written = self.sealed.borrow().written;
            let span = open.writer.frame_of(index).filter(|_| index < written)?;
            return Some((open.writer.meta().file_name(), span));
        }
        let segment = inner.closed_at(index)?;
        segment.index.frame_of(index).map(|span| (segment.name.clone(), span))
    }
}

fn damaged(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("segment {name} is damaged"))
}

/// The folder of a log's segments.
pub fn dir_of(log: LogId) -> String {
    format!("audit/{:05}-{}", log.group.0, log.era)
}

async fn create(disk: &dyn Disk, cluster: &str, log: LogId, first: u64) -> io::Result<Open> {
    let meta = SegmentMeta::new(cluster, log, first);
    let (writer, header) = SegmentWriter::create(meta);
    let dir = dir_of(log);
    let file = disk.open(&format!("{dir}/{}", meta.file_name()), true).await?;
    file.set_len(0).await?;
    file.write_and_sync(0, Bytes::copy_from_slice(&header)).await?;
    disk.sync_dir(&dir).await?;
    Ok(Open { writer, file })
}

/// Footer and where it starts; `None` where the file does not end in a footer.
async fn read_footer(disk: &dyn Disk, path: &str) -> io::Result<Option<(u64, SegmentFooter)>> {
    let file = disk.open(path, false).await?;
    let length = file.len().await?;
    let Some(at) = length.checked_sub(END_BYTES as u64) else { return Ok(None) };
    let end = file.read_at(at, END_BYTES).await?;
    let Some(bytes) = end.first_chunk::<END_BYTES>().and_then(footer_bytes) else { return Ok(None) };
    let Some(start) = length.checked_sub(bytes as u64) else { return Ok(None) };
    let footer = file.read_at(start, bytes).await?;
    Ok(SegmentFooter::decode_end(&footer).ok().map(|footer| (start, footer)))
}

/// True where every byte of a file is as a writer would have written it, footer included.
async fn is_whole(disk: &dyn Disk, path: &str) -> io::Result<bool> {
    let bytes = world::read_all(disk, path).await?;
    Ok(SegmentScan::new(&bytes).is_ok_and(|mut scan| scan.finish() == ScanEnd::Closed))
}

impl Closed {
    fn of(footer: &SegmentFooter, first: u64, name: String, footer_at: u64, search: Searchable) -> Self {
        let next = first + footer.leaf_hashes.len() as u64;
        Self { first, next, name, index: SegmentIndex::from_footer(footer, first), footer_at, search }
    }
}

impl Inner {
    /// The closed segment that holds a leaf.
    fn closed_at(&self, index: u64) -> Option<&Arc<Closed>> {
        let after = self.closed.partition_point(|segment| segment.first <= index);
        self.closed.get(after.checked_sub(1)?).filter(|segment| index < segment.next)
    }

    /// Adds one segment file that recovery found, in order of its first leaf.
    ///
    /// A segment that has a successor was synced before that one began, so its footer speaks for it. The last one may
    /// have been written and not synced: its footer can be there and some of its frames not.
    async fn take_in(&mut self, disk: &dyn Disk, dir: &str, name: String, has_successor: bool) -> io::Result<()> {
        let path = format!("{dir}/{name}");
        let first = self.tree.size();
        disk.open(&path, false).await?.settle().await?;
        let footer = match has_successor || is_whole(disk, &path).await? {
            true => read_footer(disk, &path).await?,
            false => None,
        };
        if let Some((footer_at, footer)) = footer {
            let search = Searchable::read(disk, &path, footer.index).await?;
            self.closed.push(Arc::new(Closed::of(&footer, first, name, footer_at, search)));
            footer.leaf_hashes.iter().for_each(|hash| self.tree.append(*hash));
            return Ok(());
        }
        let bytes = world::read_all(disk, &path).await?;
        let Ok(mut scan) = SegmentScan::new(&bytes) else {
            // The file was being created when the power went: nothing in it was ever acknowledged as sealed.
            tracing::warn!(name, "a segment without a header is removed");
            disk.remove(&path).await?;
            return disk.sync_dir(dir).await;
        };
        if scan.meta().first_index != first {
            return Err(damaged(&name));
        }
        scan.finish();
        let valid = scan.valid_bytes();
        if valid < bytes.len() as u64 {
            sometimes!(true, "an audit segment's torn tail was cut");
            tracing::warn!(name, cut = bytes.len() as u64 - valid, "the torn tail of a segment is cut");
        }
        let writer = scan.into_writer().ok_or_else(|| damaged(&name))?;
        let file = disk.open(&path, false).await?;
        file.set_len(valid).await?;
        file.sync().await?;
        writer.leaf_hashes().iter().for_each(|hash| self.tree.append(*hash));
        self.open = Some(Open { writer, file });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
