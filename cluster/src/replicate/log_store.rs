//! One group's log as openraft sees it: the shared write-ahead log below, a ring of recent entries above.
//!
//! `append` makes entries readable at once and reports them flushed later, from the log's writer; `save_vote` is
//! durable on return and ordered with appends. Replication reads the ring, not the disk, unless a follower is far behind.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use parking_lot::Mutex;

use nethical_protocol::ids::{GroupId, ReplicaId};
use nethical_protocol::{always, buggify, probe, sometimes};

use super::codec::{LogIdV1, VoteV1, decode_payload, encode_payload};
use super::types::{Entry, LogId, Types, Vote, log_id, term_of};
use crate::wal::{RecoveredGroup, Wal, WalEntry};
use crate::world;

/// Ring bytes of one group; older entries are read from disk.
const RING_BYTES_MAX: usize = 2 * 1024 * 1024;

/// One group's log. Clones share it.
#[derive(Clone)]
pub struct LogStore {
    wal: Wal,
    group: GroupId,
    inner: Arc<Mutex<Inner>>,
    /// Highest index whose entries are durable here; entries above stay in the ring.
    durable: Arc<AtomicU64>,
}

struct Inner {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    ring: BTreeMap<u64, Entry>,
    ring_bytes: usize,
    /// Times that entries were cut: what was queued before a cut and flushed after it stands no more.
    cuts: u64,
}

impl LogStore {
    /// The log of a group as recovery found it; empty for a new one.
    pub fn new(wal: Wal, group: GroupId, found: Option<&RecoveredGroup>) -> io::Result<Self> {
        let (ring, ring_bytes, cuts) = (BTreeMap::new(), 0, 0);
        let mut inner = Inner { vote: None, committed: None, purged: None, last: None, ring, ring_bytes, cuts };
        let mut durable = 0;
        if let Some(found) = found {
            inner.vote = found.vote.as_deref().map(read_vote).transpose()?;
            inner.committed = found.committed.as_deref().map(read_log_id).transpose()?;
            inner.purged = found.purged.as_ref().map(|(_, bytes)| read_log_id(bytes)).transpose()?;
            let last = found.last_term.zip(found.last_index).map(|(term, index)| log_id(term, index));
            inner.last = last.or(inner.purged);
            durable = inner.last.map_or(0, |id| id.index);
        }
        Ok(Self { wal, group, inner: Arc::new(Mutex::new(inner)), durable: Arc::new(AtomicU64::new(durable)) })
    }

    /// Tells a simulator what the group's replica starts from.
    pub fn observe_start(&self, replica: ReplicaId) {
        let (group, inner) = (u64::from(self.group.0), self.inner.lock());
        let (term, voted_for) = inner.vote.map_or((0, 0), |vote| (vote.leader_id.term, vote.leader_id.voted_for));
        let (last_term, last) = inner.last.map_or((0, 0), |id| (term_of(&id), id.index));
        let purged = inner.purged.map_or(0, |id| id.index);
        // Facts: group, own replica, term, replica voted for.
        probe::observe("vote.loaded", &[group, replica.0, term, voted_for]);
        // Facts: group, last index, last term, purged index, own replica.
        probe::observe("log.loaded", &[group, last, last_term, purged, replica.0]);
    }

    /// Index of the last entry, durable or not.
    pub fn last_index(&self) -> u64 {
        self.inner.lock().last.map_or(0, |id| id.index)
    }

    /// Index of the last durable entry.
    pub fn durable_index(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Bytes of this group's entries that are not purged.
    pub fn log_bytes(&self) -> u64 {
        self.wal.log_bytes(self.group)
    }

    /// Segments that only this group keeps from being recycled.
    pub fn pinned_segments(&self) -> u64 {
        self.wal.pinned_segments(self.group)
    }

    fn remember(&self, entries: &[Entry]) {
        let durable = self.durable_index();
        let mut inner = self.inner.lock();
        for entry in entries {
            inner.last = Some(entry.log_id);
            inner.ring_bytes += entry_bytes(entry);
            inner.ring.insert(entry.log_id.index, entry.clone());
        }
        while inner.ring_bytes > RING_BYTES_MAX {
            match inner.ring.first_key_value() {
                Some((index, _)) if *index <= durable => {
                    let (_, entry) = inner.ring.pop_first().expect("looked at just now");
                    inner.ring_bytes -= entry_bytes(&entry);
                }
                _ => break,
            }
        }
    }

    fn ring_entries(&self, start: u64, end: u64) -> Option<Vec<Entry>> {
        let inner = self.inner.lock();
        let end = end.min(inner.last.map_or(0, |id| id.index + 1));
        if start >= end {
            return Some(Vec::new());
        }
        let found: Vec<Entry> = inner.ring.range(start..end).map(|(_, entry)| entry.clone()).collect();
        (found.len() as u64 == end - start).then_some(found)
    }

    async fn read(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        // Permitted where the shared log has them all: an entry that waits for room there is in the ring alone.
        let is_below = |end: u64| self.wal.last(self.group).is_some_and(|(last, _)| end <= last + 1);
        let past_ring = buggify!("log.read-disk") && is_below(end.min(self.last_index() + 1));
        if let Some(found) = self.ring_entries(start, end).filter(|_| !past_ring) {
            return Ok(found);
        }
        let end = end.min(self.last_index() + 1);
        let stored = self.wal.read(self.group, start..end).await?;
        report("entry.read", self.group, &stored);
        stored.into_iter().map(entry_of).collect()
    }
}

/// Tells the simulator what entries hold, as they go to the log and as they come back from the disk.
fn report(what: &'static str, group: GroupId, entries: &[WalEntry]) {
    if probe::ENABLED {
        for WalEntry { term, index, payload } in entries {
            // Facts: group, term, index, crc32c of kind and payload.
            probe::observe(what, &[u64::from(group.0), *term, *index, u64::from(crc32c::crc32c(payload))]);
        }
    }
}

fn entry_bytes(entry: &Entry) -> usize {
    64 + match &entry.payload {
        openraft::EntryPayload::Normal(payload) => payload.0.len(),
        _ => 128,
    }
}

fn wal_entry(entry: &Entry) -> WalEntry {
    let (kind, data) = encode_payload(&entry.payload);
    let mut payload = BytesMut::with_capacity(1 + data.len());
    payload.put_u8(kind);
    payload.put_slice(&data);
    WalEntry { term: term_of(&entry.log_id), index: entry.log_id.index, payload: payload.freeze() }
}

fn entry_of(stored: WalEntry) -> io::Result<Entry> {
    let Some(kind) = stored.payload.first().copied() else { return Err(bad("an empty log record")) };
    let payload = decode_payload(kind, stored.payload.slice(1..)).map_err(|error| bad(&error.to_string()))?;
    Ok(Entry { log_id: log_id(stored.term, stored.index), payload })
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn read_vote(bytes: &[u8]) -> io::Result<Vote> {
    VoteV1::from_bytes(bytes).map(Into::into).map_err(|error| bad(&error.to_string()))
}

fn read_log_id(bytes: &[u8]) -> io::Result<LogId> {
    LogIdV1::from_bytes(bytes).map(Into::into).map_err(|error| bad(&error.to_string()))
}

fn log_id_bytes(id: LogId) -> Bytes {
    LogIdV1::from(id).to_bytes()
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.inner.lock().vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let inner = self.inner.lock();
        Ok(LogState { last_purged_log_id: inner.purged, last_log_id: inner.last })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        world::pass(self.wal.clock(), "vote.before").await;
        let saved = self.wal.save_vote(self.group, VoteV1::from(*vote).to_bytes());
        if !probe::planted("vote-not-synced") {
            saved.await?;
        }
        let (term, before) = (vote.leader_id.term, self.inner.lock().vote.replace(*vote));
        let rises = before.is_none_or(|before| before.leader_id.term <= term);
        always!(rises, "vote-rises", "group {}: vote {vote} after {before:?}", self.group);
        // Facts: group, term, replica voted for.
        probe::observe("vote.saved", &[u64::from(self.group.0), term, vote.leader_id.voted_for]);
        world::pass(self.wal.clock(), "vote.after").await;
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(committed) = committed else { return Ok(()) };
        self.inner.lock().committed = Some(committed);
        self.wal.save_committed(self.group, log_id_bytes(committed));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let inner = self.inner.lock();
        // What was committed may have been noted before the entries themselves were durable.
        Ok(inner.committed.min(inner.last))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.remember(&entries);
        let last = entries.last().map_or(0, |entry| entry.log_id.index);
        let last_term = entries.last().map_or(0, |entry| term_of(&entry.log_id));
        let (durable, inner, group) = (self.durable.clone(), self.inner.clone(), u64::from(self.group.0));
        let cuts = if probe::ENABLED { self.inner.lock().cuts } else { 0 };
        let done = Box::new(move |result: io::Result<()>| {
            if result.is_ok() {
                durable.fetch_max(last, Ordering::AcqRel);
            }
            if probe::ENABLED && result.is_ok() && inner.lock().cuts == cuts {
                // Facts: group, last index, last term.
                probe::observe("log.flushed", &[group, last, last_term]);
            }
            callback.io_completed(result);
        });
        let entries: Vec<WalEntry> = entries.iter().map(wal_entry).collect();
        report("entry.appended", self.group, &entries);
        self.wal.append(self.group, entries, done).await;
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let keep = last.map(|id| id.index);
        // Facts: group, last index kept.
        probe::observe("log.truncated", &[u64::from(self.group.0), keep.unwrap_or(0)]);
        sometimes!(true, "a conflicting end of a log was cut");
        {
            let mut inner = self.inner.lock();
            inner.cuts += 1;
            let removed = inner.ring.split_off(&keep.map_or(0, |index| index + 1));
            inner.ring_bytes -= removed.values().map(entry_bytes).sum::<usize>();
            inner.last = last;
        }
        self.durable.fetch_min(keep.unwrap_or(0), Ordering::AcqRel);
        self.wal.truncate_after(self.group, keep).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        {
            let mut inner = self.inner.lock();
            let kept = inner.ring.split_off(&(upto.index + 1));
            let removed = std::mem::replace(&mut inner.ring, kept);
            inner.ring_bytes -= removed.values().map(entry_bytes).sum::<usize>();
            inner.purged = inner.purged.max(Some(upto));
            inner.last = inner.last.max(Some(upto));
        }
        self.wal.purge(self.group, upto.index, log_id_bytes(upto));
        Ok(())
    }
}
