//! A group's audit segments on this node: where stored leaves are, and the tree over them.
//!
//! The [`sealer`] writes committed records here once, in leaf order; readers find them by index, or by what is in them
//! ([`search`]). Segments are an append-only stream of bytes that is equal on all replicas, so what is on disk is rewritten
//! only where a disk has lost it ([`repair`]). Where a start finds segments damaged or missing, the store comes up all the
//! same: the manifest beside them has their part of the tree ([`open`]). This module decides nothing about what is committed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use nethical_audit::segment::footer::END_BYTES;
use nethical_audit::segment::{
    FrameSpan, SegmentFooter, SegmentIndex, SegmentMeta, SegmentSeal, SegmentWriter, footer_bytes,
};
use nethical_audit::tree::{Hash, TILE_LEAVES, TileTree};
use nethical_protocol::ids::LogId;

use crate::publish::Announced;
use crate::signing::Signers;
use crate::trail::Trail;
use crate::world::{Disk, File};

mod cache;
pub mod damage;
mod open;
mod publish;
pub mod repair;
pub mod scrub;
pub mod sealer;
pub mod search;

pub use cache::IndexCache;
use search::Searchable;

use damage::Damages;

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
    /// Those that signed this log's checkpoint last.
    pub(crate) signers: Mutex<Option<Arc<Signers>>>,
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
    /// Bytes of the manifest: where the next seal goes.
    manifest_bytes: u64,
    damages: Damages,
}

/// A segment that takes no more.
struct Closed {
    meta: SegmentMeta,
    next: u64,
    /// SHA-256 over its bytes before the footer, as it was when it was closed.
    digest: Hash,
    /// Where things stand in it; none where its file is missing or its footer does not read.
    places: Option<Arc<Places>>,
}

/// What a closed segment's footer says of where things stand in its file.
struct Places {
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

impl Closed {
    fn first(&self) -> u64 {
        self.meta.first_index
    }
}

impl Inner {
    /// The closed segment that holds a leaf.
    fn closed_with(&self, index: u64) -> Option<&Arc<Closed>> {
        let after = self.closed.partition_point(|segment| segment.first() <= index);
        self.closed.get(after.checked_sub(1)?).filter(|segment| index < segment.next)
    }

    /// What a closed segment was sealed with.
    fn seal_of(&self, segment: &Closed) -> SegmentSeal {
        let (tile, tiles) = (segment.first() / TILE_LEAVES, (segment.next - segment.first()) / TILE_LEAVES);
        let tile_hashes = self.tree.level(1, tile, tiles as usize).map(<[Hash]>::to_vec).unwrap_or_default();
        SegmentSeal { meta: segment.meta, content_digest: segment.digest, tile_hashes }
    }
}

impl AuditStore {
    /// Reads what segments hold; cuts a torn tail; starts the first segment where there is none. What is damaged or
    /// missing is noted, and mended later.
    ///
    /// # Errors
    /// Where the disk fails. Damage is none.
    pub async fn open(disk: Arc<dyn Disk>, cluster: &str, log: LogId) -> io::Result<Arc<Self>> {
        let inner = open::recover(&*disk, cluster, log).await?;
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
            signers: Mutex::default(),
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
        self.read_within(from, count, usize::MAX).await
    }

    /// As [`AuditStore::read`], but no more than fit so many bytes; at least one where there is any.
    pub async fn read_within(&self, from: u64, count: u64, bytes_max: usize) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (mut found, mut bytes) = (Vec::new(), 0usize);
        let end = from.saturating_add(count);
        while from + (found.len() as u64) < end && bytes < bytes_max {
            let index = from + found.len() as u64;
            let frame = match self.trail.get(index) {
                Some(record) => vec![(record.bytes.to_vec(), record.body.to_vec())],
                None => self.read_frame(index, end).await?,
            };
            if frame.is_empty() {
                break;
            }
            for record in frame {
                bytes = bytes.saturating_add(record.0.len() + record.1.len());
                if bytes > bytes_max && !found.is_empty() {
                    return Ok(found);
                }
                found.push(record);
            }
        }
        Ok(found)
    }

    /// The records of one frame from an index on; empty where it is not stored here. A frame that does not read is noted
    /// as damaged.
    async fn read_frame(&self, index: u64, end: u64) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let Some((name, span)) = self.place_of(index)? else { return Ok(Vec::new()) };
        let frame = match self.disk.open(&format!("{}/{name}", dir_of(self.log)), false).await {
            Ok(file) => file.read_at(span.offset, span.length as usize).await,
            Err(error) => Err(error),
        };
        let frame = frame.inspect_err(|error| self.note_unreadable(index, &error.to_string()))?;
        let records = span.records(&frame, index).take_while(|record| record.leaf_index < end);
        let found: Vec<_> = records.map(|record| (record.leaf.to_vec(), record.body.to_vec())).collect();
        if found.is_empty() {
            self.note_unreadable(index, "a record does not read");
            return Err(damaged(&name, index));
        }
        Ok(found)
    }

    fn place_of(&self, index: u64) -> io::Result<Option<(String, FrameSpan)>> {
        let inner = self.inner.lock();
        if let Some(open) = inner.open.as_ref().filter(|open| open.writer.meta().first_index <= index) {
            let written = self.sealed.borrow().written;
            let span = open.writer.frame_of(index).filter(|_| index < written);
            return Ok(span.map(|span| (open.writer.meta().file_name(), span)));
        }
        let Some(segment) = inner.closed_with(index) else { return Ok(None) };
        let name = segment.meta.file_name();
        let span = segment.places.as_ref().and_then(|places| places.index.frame_of(index));
        span.map(|span| Some((name.clone(), span))).ok_or_else(|| damaged(&name, index))
    }
}

fn damaged(name: &str, index: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("leaf {index} in {name} is damaged"))
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

#[cfg(test)]
mod tests;
