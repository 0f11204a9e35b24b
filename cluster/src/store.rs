//! A group's audit segments on this node: where stored leaves are, and the tree over them.
//!
//! The [`sealer`] writes committed records here once, in leaf order; readers find them by index, or by what is in them
//! ([`search`]). Segments are an append-only stream of bytes that is equal on all replicas, so what is on disk is rewritten
//! only where a disk has lost it ([`repair`]), and once more when it is old ([`warm`]). Where a start finds segments damaged or missing, the store comes up all the
//! same: the manifest beside them has their part of the tree ([`open`]). This module decides nothing about what is committed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use nethical_audit::segment::footer::END_BYTES;
use nethical_audit::segment::{
    SegmentFooter, SegmentIndex, SegmentMeta, SegmentSeal, SegmentWriter, WarmFooter, WarmSeal, footer_bytes,
};
use nethical_audit::tree::{Hash, TILE_LEAVES, TileTree};
use nethical_protocol::ids::LogId;

use crate::publish::Announced;
use crate::signing::Signers;
use crate::trail::Trail;
use crate::world::{Disk, File};

mod cache;
mod cold;
pub mod damage;
mod frames;
mod open;
mod publish;
pub mod repair;
pub mod scrub;
pub mod sealer;
pub mod search;
pub mod warm;

pub use cache::IndexCache;
use frames::FramePlace;
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
    /// Held while a file is found and opened, and alone where one takes another one's place or goes: who has opened a file may
    /// read it to the end.
    files: tokio::sync::RwLock<()>,
    /// Held while the manifest grows.
    manifest: tokio::sync::Mutex<()>,
    /// Held while a segment's file is made anew as a warm one.
    rewriting: tokio::sync::Mutex<()>,
    /// What is known of moves to the warm tier.
    moves: Mutex<warm::Moves>,
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
    /// Body roots of its tiles.
    bodies: Arc<[Hash]>,
    /// Its file, where it was moved to the warm tier.
    warm: Option<WarmSeal>,
    /// How often its file was made anew since the start, so that nothing remembered of an older one is taken for this one's.
    turn: u64,
    /// Where things stand in it; none where its file is missing or its footer does not read.
    places: Option<Arc<Places>>,
}

/// A segment that takes no more, and how old it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aged {
    /// Its first leaf.
    pub first: u64,
    /// The index behind its last one.
    pub next: u64,
    /// Greatest log time of its leaves.
    pub last_ns: u64,
}

/// What a closed segment's footer says of where things stand in its file.
struct Places {
    index: SegmentIndex,
    /// Where its footer starts.
    footer_at: u64,
    /// Length of the file.
    file_bytes: u64,
    search: Searchable,
    /// Of a warm segment.
    warm: Option<Warm>,
}

/// What more there is to know of a warm segment's file.
struct Warm {
    /// Without its hashes: the tree and the seal have them.
    footer: WarmFooter,
    /// What its leaves are packed with.
    dictionary: Hash,
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

    fn file_name(&self) -> String {
        if self.warm.is_some() { self.meta.warm_file_name() } else { self.meta.file_name() }
    }

    /// How old it is, where its index reads.
    fn aged(&self) -> Option<Aged> {
        let last_ns = self.places.as_ref()?.search.last_ns()?;
        Some(Aged { first: self.first(), next: self.next, last_ns })
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
        let (body_hashes, warm) = (segment.bodies.to_vec(), segment.warm);
        SegmentSeal { meta: segment.meta, content_digest: segment.digest, tile_hashes, body_hashes, warm }
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
            files: tokio::sync::RwLock::new(()),
            manifest: tokio::sync::Mutex::new(()),
            rewriting: tokio::sync::Mutex::new(()),
            moves: Mutex::default(),
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
        let Some((name, file, place)) = self.open_at(index).await? else { return Ok(Vec::new()) };
        let frame = match file {
            Ok(file) => place.read(&*file, index..end).await,
            Err(error) => Err(error),
        };
        let frame = frame.inspect_err(|error| self.note_unreadable(index, &error.to_string()))?;
        let records = frame.records(index).take_while(|(at, ..)| *at < end);
        let found: Vec<_> = records.map(|(_, leaf, body)| (leaf.to_vec(), body.into_owned())).collect();
        if found.is_empty() {
            self.note_unreadable(index, "a record does not read");
            return Err(damaged(&name, index));
        }
        Ok(found)
    }

    /// The file that holds a leaf, opened, and the leaf's frame in it; `None` where the leaf is not stored here.
    async fn open_at(&self, index: u64) -> io::Result<Option<(String, io::Result<Arc<dyn File>>, FramePlace)>> {
        let _held = self.files.read().await;
        let Some((name, place)) = self.place_of(index)? else { return Ok(None) };
        let file = self.disk.open(&format!("{}/{name}", dir_of(self.log)), false).await;
        Ok(Some((name, file, place)))
    }

    fn place_of(&self, index: u64) -> io::Result<Option<(String, FramePlace)>> {
        let inner = self.inner.lock();
        if let Some(open) = inner.open.as_ref().filter(|open| open.writer.meta().first_index <= index) {
            let written = self.sealed.borrow().written;
            let span = open.writer.frame_of(index).filter(|_| index < written);
            return Ok(span.map(|span| (open.writer.meta().file_name(), FramePlace::hot(span))));
        }
        let Some(segment) = inner.closed_with(index) else { return Ok(None) };
        let name = segment.file_name();
        let place = segment.places.as_ref().and_then(|places| places.frame_of(index));
        place.map(|place| Some((name.clone(), place))).ok_or_else(|| damaged(&name, index))
    }

    /// Opens the file of a closed segment; `None` where the segment has another one by now.
    async fn open_closed(&self, segment: &Arc<Closed>) -> io::Result<Option<Arc<dyn File>>> {
        let _held = self.files.read().await;
        let is_current = self.inner.lock().closed_with(segment.first()).is_some_and(|held| Arc::ptr_eq(held, segment));
        if !is_current {
            return Ok(None);
        }
        self.disk.open(&format!("{}/{}", dir_of(self.log), segment.file_name()), false).await.map(Some)
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
