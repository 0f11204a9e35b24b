//! The write-ahead log of a node: one for all of its groups, so that one sync makes everybody's changes durable. It
//! stands behind **replicate** in the sentence.
//!
//! # How it works
//! Changes (entries, votes, truncations, purges) are queued in the order in which they are asked for and become visible
//! to [`Wal::read`] at once. One task drains the queue into a *batch*, writes it with one `write_and_sync` and calls
//! everybody back; meanwhile the next batch gathers. There is no timer: an idle log syncs a lone vote at once.
//!
//! Batches go one after the other into *segments*: files of fixed size, zero-filled once and then used again, so that a
//! sync has neither length nor blocks to write. A segment begins with a head (epoch, salt, previous segment) and every
//! group's vote, committed position, membership and purged position, so that older segments are needed for entries
//! only. A segment is used again when every group has purged what is in it *and* a durable batch has said so.
//!
//! # What a start can find
//! Every batch carries its sequence, the end of the one before and a checksum ([`record`]). So a start can tell:
//! - a torn tail, which nobody was told is durable: it is cut ([`Recovered::torn_bytes`]);
//! - rot: a hole in front of a later batch ([`Recovered::rot`]);
//! - a log that ends before the high-water mark ([`Recovered::lost_tail`]).
//!
//! In the latter two cases the log has lost what it once acknowledged, votes perhaps among it. It then answers reads and
//! refuses every change. The caller notes that *all* of the node's replicas are lost, and opens the log again with
//! [`WalOptions::start_over`], which drops everything. Until then every start says the same.
//!
//! # What it does not do
//! It keeps no audit copy, knows nothing of Raft's rules, and never repairs. Payloads are opaque. The mark is lazy: the
//! loss of fewer than [`WalOptions::mark_every`] of the latest batches, with nothing behind them, looks like a torn tail
//! and is found by asking the peers (ARCHITECTURE 5).

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use nethical_protocol::ids::GroupId;
use nethical_protocol::limits::WAL_SEGMENT_BYTES;
use nethical_protocol::probe;

use crate::world::{Clock, Disk, Scope};

#[cfg(test)]
mod crash_tests;
mod index;
mod mark;
#[cfg(test)]
mod model;
mod open;
mod queue;
mod read;
mod record;
mod recover;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use queue::{Change, Closed, Op, Shared};
use record::{Kind, record_bytes};

/// A vote, position or membership: each is repeated in front of every segment.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Called exactly once when a change is durable or has failed; never after the node's scope was killed.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Called with the error that ended the log. In production it ends the process.
pub type OnFatal = Arc<dyn Fn(&io::Error) + Send + Sync>;

/// A log entry. The payload is opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalEntry {
    /// Raft term.
    pub term: u64,
    /// Raft index.
    pub index: u64,
    /// The entry's bytes.
    pub payload: Bytes,
}

/// How a log works.
#[derive(Clone)]
pub struct WalOptions {
    /// Size of a segment. May change between starts.
    pub segment_bytes: u64,
    /// A batch, and so an entry, is no larger than this. Costs as much memory for each batch on its way.
    pub batch_bytes_max: usize,
    /// Entries that wait for the disk; past it [`Wal::append`] waits. Costs as much memory.
    pub queue_bytes_max: usize,
    /// Batches between two writes of the high-water mark. Each costs one sync beside the log's own.
    pub mark_every: u64,
    /// Called when the disk has failed and the log is over.
    pub on_fatal: OnFatal,
    /// Time that passes at places where a simulator holds the log up; production never looks at it.
    pub clock: Arc<dyn Clock>,
    /// Drops everything. For a log that has rot or has lost its tail, once the caller has noted that its replicas are
    /// lost.
    pub start_over: bool,
}

impl WalOptions {
    /// What production uses.
    pub fn new(on_fatal: OnFatal, clock: Arc<dyn Clock>) -> Self {
        let segment_bytes = probe::knob("wal.segment-bytes", WAL_SEGMENT_BYTES);
        Self {
            segment_bytes,
            batch_bytes_max: (4 * 1024 * 1024).min(segment_bytes as usize / 2),
            queue_bytes_max: 64 * 1024 * 1024,
            mark_every: probe::knob("wal.mark-every", 64),
            on_fatal,
            clock,
            start_over: false,
        }
    }

    fn check(&self) -> Result<(), WalError> {
        let (segment, batch) = (self.segment_bytes, self.batch_bytes_max as u64);
        let refuse = |why: &str| Err(WalError::Options(why.to_owned()));
        if !(2_048..=1 << 30).contains(&segment) {
            return refuse("a segment has 2 KiB to 1 GiB");
        }
        if batch > segment / 2 {
            return refuse("a batch has at most half a segment");
        }
        if self.queue_bytes_max < self.batch_bytes_max || self.queue_bytes_max > 1 << 30 {
            return refuse("the queue has room for a batch and has at most 1 GiB");
        }
        if self.mark_every == 0 {
            return refuse("the mark is written every 1 or more batches");
        }
        Ok(())
    }
}

/// Why a log does not open.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The disk refused.
    #[error("the log's folder cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// The options contradict each other.
    #[error("log options: {0}")]
    Options(String),
    /// A newer release wrote it.
    #[error("{path} was written by a newer release (log version {version})")]
    Newer {
        /// The segment.
        path: String,
        /// Its version.
        version: u8,
    },
}

/// What one group's log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// The last vote.
    pub vote: Option<Bytes>,
    /// The last committed position that was written along.
    pub committed: Option<Bytes>,
    /// The last membership that was written along.
    pub membership: Option<Bytes>,
    /// The position up to which the group was purged, and the payload given then.
    pub purged: Option<(u64, Bytes)>,
    /// Index of the first entry.
    pub first_index: Option<u64>,
    /// Index of the last entry.
    pub last_index: Option<u64>,
    /// Term of the last entry.
    pub last_term: Option<u64>,
}

/// What a start found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// All groups that ever said anything and were not forgotten. After rot: as far as the log is whole.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// The log ends before its high-water mark: acknowledged changes are lost.
    pub lost_tail: bool,
    /// Bytes of a batch that a crash tore and that was cut, as far as they can be told from older bytes.
    pub torn_bytes: u64,
    /// What is damaged in the middle of the log, in words.
    pub rot: Option<String>,
}

impl Recovered {
    /// True where acknowledged changes are gone.
    pub fn has_lost(&self) -> bool {
        self.lost_tail || self.rot.is_some()
    }
}

/// Counts since the start, but for the segments, which are there now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Sequence of the last durable batch, over all starts.
    pub sequence: u64,
    /// Batches made durable; one sync each.
    pub batches: u64,
    /// Entries made durable.
    pub entries: u64,
    /// Bytes of payload in them.
    pub payload_bytes: u64,
    /// Bytes written to segments, zeros apart.
    pub written_bytes: u64,
    /// Zeros written into new segments.
    pub prepared_bytes: u64,
    /// Segments that are needed.
    pub live_segments: u64,
    /// Segments that may be used again.
    pub free_segments: u64,
}

/// A handle to the node's log. Clones are the same log.
#[derive(Clone)]
pub struct Wal {
    shared: Arc<Shared>,
    batch_bytes_max: usize,
    clock: Arc<dyn Clock>,
    on_fatal: OnFatal,
}

impl Wal {
    /// The clock of [`WalOptions::clock`].
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Reads the log, makes what is missing, and starts the writer in `scope`.
    pub async fn open(disk: Arc<dyn Disk>, scope: Scope, options: WalOptions) -> Result<(Wal, Recovered), WalError> {
        options.check()?;
        open::open(disk, scope, options).await
    }

    /// Queues entries, which can be read at once, and calls `done` when they are durable. Waits while the queue is full;
    /// where this future is dropped meanwhile, nothing was queued and `done` is not called. Entries must follow the
    /// group's last one without a hole.
    pub async fn append(&self, group: GroupId, entries: Vec<WalEntry>, done: Done) {
        if let Some(index) = self.too_large(&entries) {
            let message = format!("group {group}: entry {index} is larger than {} bytes", self.batch_bytes_max);
            return done(Err(io::Error::new(io::ErrorKind::InvalidInput, message)));
        }
        let bytes: usize = entries.iter().map(|entry| record_bytes(entry.payload.len())).sum();
        let permits = bytes.min(self.shared.room_bytes) as u32;
        let Ok(room) = self.shared.room.clone().acquire_many_owned(permits).await else {
            let closed = self.shared.state.lock().closed.clone();
            if let Some(closed @ Closed::Failed(..)) = closed {
                done(Err(closed.error()));
            }
            return;
        };
        self.shared.push_append(group, entries, self.batch_bytes_max, done, room);
    }

    /// Saves a vote. It is queued by the call itself and durable when the future completes.
    pub fn save_vote(&self, group: GroupId, vote: Bytes) -> BoxFuture<'static, io::Result<()>> {
        if let Err(error) = check_head(group, &vote) {
            return Box::pin(async { Err(error) });
        }
        self.awaited(group, Change::Vote(vote))
    }

    /// Saves the committed position some time: it rides along with the next batch and forces none. It is never durable
    /// before the entries that were queued before it.
    pub fn save_committed(&self, group: GroupId, committed: Bytes) {
        self.ride(group, Kind::Committed, committed);
    }

    /// Saves the membership some time, as [`Wal::save_committed`] does.
    pub fn save_membership(&self, group: GroupId, membership: Bytes) {
        self.ride(group, Kind::Membership, membership);
    }

    /// Cuts the entries after `index`, or all. It is queued by the call itself: what is appended afterwards is never
    /// durable without it.
    pub fn truncate_after(&self, group: GroupId, index: Option<u64>) -> BoxFuture<'static, io::Result<()>> {
        self.awaited(group, Change::Truncate(index))
    }

    /// Gives up the entries up to and including `up_to`, and saves `payload` (the position as Raft writes it) with that.
    /// Written with the next batch; segments that nobody needs any more are used again after the one behind it.
    pub fn purge(&self, group: GroupId, up_to: u64, payload: Bytes) {
        match check_head(group, &payload) {
            Ok(()) => self.shared.push(Op { group, change: Change::Purge(up_to, payload), done: None, room: None }),
            Err(error) => tracing::error!(%error, "a purge was not written"),
        }
    }

    /// Drops everything of a group whose replica is lost or has left.
    pub fn forget_group(&self, group: GroupId) {
        self.shared.push(Op { group, change: Change::Forget, done: None, room: None });
    }

    /// Completes when everything that was asked for before, riders included, is durable.
    pub fn flush(&self) -> BoxFuture<'static, io::Result<()>> {
        self.awaited(GroupId::default(), Change::Flush)
    }

    /// The entries of `range` that there are, in order, durable or not. What was damaged on the disk since it was
    /// written is an error of kind `InvalidData`, and fatal: the next start finds the rot and begins new lives. What was
    /// purged meanwhile is `NotFound`.
    pub fn read(&self, group: GroupId, range: Range<u64>) -> BoxFuture<'static, io::Result<Vec<WalEntry>>> {
        let (reading, on_fatal) = (read::read(self.shared.clone(), group, range), self.on_fatal.clone());
        Box::pin(async move {
            let found = reading.await;
            if let Err(error) = &found
                && error.kind() == io::ErrorKind::InvalidData
            {
                on_fatal(error);
            }
            found
        })
    }

    /// Segments that a group's oldest entry keeps from being used again, the current one included.
    pub fn pinned_segments(&self, group: GroupId) -> u64 {
        let state = self.shared.state.lock();
        state.index.oldest_epoch_of(group).map_or(0, |epoch| state.files.range(epoch..).count() as u64)
    }

    /// Bytes that a group's entries take in the log.
    pub fn log_bytes(&self, group: GroupId) -> u64 {
        self.shared.state.lock().index.bytes(group)
    }

    /// Index and term of a group's last entry, durable or not; none where it has no entries.
    pub fn last(&self, group: GroupId) -> Option<(u64, u64)> {
        let state = self.shared.state.lock();
        state.index.bounds(group).map(|bounds| (bounds.last, bounds.last_term))
    }

    /// The position up to which a group was purged.
    pub fn purged(&self, group: GroupId) -> Option<u64> {
        self.shared.state.lock().index.purged(group)
    }

    /// What the log has done and holds.
    pub fn stats(&self) -> WalStats {
        self.shared.state.lock().stats
    }

    fn awaited(&self, group: GroupId, change: Change) -> BoxFuture<'static, io::Result<()>> {
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            // The caller may have stopped waiting; the change stands all the same.
            let _ = sender.send(result);
        });
        self.shared.push(Op { group, change, done: Some(done), room: None });
        Box::pin(async move { receiver.await.unwrap_or_else(|_| Err(Closed::Killed.error())) })
    }

    fn ride(&self, group: GroupId, kind: Kind, value: Bytes) {
        match check_head(group, &value) {
            Ok(()) => self.shared.ride(group, kind, value),
            Err(error) => tracing::error!(%error, "a position was not written"),
        }
    }

    fn too_large(&self, entries: &[WalEntry]) -> Option<u64> {
        let large = |entry: &&WalEntry| record_bytes(entry.payload.len()) > self.batch_bytes_max;
        entries.iter().find(large).map(|entry| entry.index)
    }
}

fn check_head(group: GroupId, value: &Bytes) -> io::Result<()> {
    if value.len() <= HEAD_BYTES_MAX {
        return Ok(());
    }
    let message = format!("group {group}: a head of {} bytes; {HEAD_BYTES_MAX} are allowed", value.len());
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}
