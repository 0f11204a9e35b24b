//! The unsealed tail of a group's audit log: leaves that are applied and not yet in a segment file.
//!
//! Apply pushes, the sealer takes from the front once a record is in its segment, readers find records by index. It is
//! bounded by shedding at the door ([`Trail::is_lagging`]), never by losing a record.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use nethical_audit::leaf::LeafV1;
use nethical_audit::tree::leaf_hash;
use nethical_protocol::limits::SEAL_LAG_BYTES_MAX;
use nethical_protocol::{probe, sometimes};

/// One leaf with its sealed body.
#[derive(Debug)]
pub struct Record {
    /// Where it stands in its log.
    pub index: u64,
    /// Decoded, where it is a partition's; a leaf of the cluster log is a note.
    pub leaf: Option<Arc<LeafV1>>,
    /// Canonical bytes.
    pub bytes: Bytes,
    /// RFC 6962 leaf hash.
    pub hash: [u8; 32],
    /// Sealed body.
    pub body: Bytes,
}

impl Record {
    /// The record of a leaf's canonical bytes.
    pub fn new(index: u64, bytes: Bytes, body: Bytes, leaf: Option<Arc<LeafV1>>) -> Self {
        Self { index, hash: leaf_hash(&bytes), leaf, bytes, body }
    }
}

/// The tail. Shared between apply, the sealer and readers.
pub struct Trail {
    inner: Mutex<Inner>,
    bytes: AtomicU64,
    /// Index after the last record.
    end: watch::Sender<u64>,
    /// Told when a record was pushed.
    pub grown: Notify,
}

#[derive(Default)]
struct Inner {
    /// Leaf index of the first record kept.
    first: u64,
    records: VecDeque<Arc<Record>>,
}

impl Trail {
    /// An empty tail whose next record has index `first`.
    pub fn new(first: u64) -> Self {
        Self {
            inner: Mutex::new(Inner { first, records: VecDeque::new() }),
            bytes: AtomicU64::new(0),
            end: watch::channel(first).0,
            grown: Notify::new(),
        }
    }

    /// Starts over behind a snapshot: the next record pushed has index `first`.
    pub fn reset(&self, first: u64) {
        let mut inner = self.inner.lock();
        *inner = Inner { first, records: VecDeque::new() };
        self.bytes.store(0, Ordering::Relaxed);
        self.end.send_replace(first);
    }

    /// Adds the next record. Records before the first one kept are in segments already and are dropped.
    pub fn push(&self, record: Arc<Record>) {
        let mut inner = self.inner.lock();
        let next = inner.first + inner.records.len() as u64;
        if record.index < next {
            return;
        }
        assert_eq!(record.index, next, "leaves are applied in order and without a gap");
        self.bytes.fetch_add(size_of(&record), Ordering::Relaxed);
        inner.records.push_back(record);
        self.end.send_replace(next + 1);
        drop(inner);
        self.grown.notify_one();
    }

    /// Records from an index on, as many as fit `bytes_max` (at least one where there is any).
    pub fn from(&self, index: u64, bytes_max: u64) -> Vec<Arc<Record>> {
        let inner = self.inner.lock();
        let skip = index.saturating_sub(inner.first) as usize;
        let mut bytes = 0;
        let mut taken = Vec::new();
        for record in inner.records.iter().skip(skip) {
            bytes += size_of(record);
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(record.clone());
        }
        taken
    }

    /// The record at an index, where it is still here.
    pub fn get(&self, index: u64) -> Option<Arc<Record>> {
        let inner = self.inner.lock();
        let at = index.checked_sub(inner.first)?;
        inner.records.get(at as usize).cloned()
    }

    /// The records of a stretch of indexes that match, at most `limit`, in the order asked; and the stretch that was looked
    /// at, from the first record kept. Looked at under the lock: it is short, since the sealer empties the tail.
    pub fn matching(
        &self,
        stretch: Range<u64>,
        ascending: bool,
        limit: usize,
        matches: impl Fn(&LeafV1) -> bool,
    ) -> (u64, Vec<Arc<Record>>) {
        let inner = self.inner.lock();
        let last = inner.records.len();
        let place = |index: u64| (index.saturating_sub(inner.first) as usize).min(last);
        let records = inner.records.range(place(stretch.start)..place(stretch.end).max(place(stretch.start)));
        let fits = |record: &&Arc<Record>| record.leaf.as_deref().is_some_and(&matches);
        let found = match ascending {
            true => records.filter(fits).take(limit).cloned().collect(),
            false => records.rev().filter(fits).take(limit).cloned().collect(),
        };
        (inner.first, found)
    }

    /// Drops records before `index`: they are in their segment.
    pub fn release(&self, index: u64) {
        let mut inner = self.inner.lock();
        while inner.first < index {
            let Some(record) = inner.records.pop_front() else {
                inner.first = index;
                drop(inner);
                self.end.send_if_modified(|end| {
                    let was = *end;
                    *end = was.max(index);
                    was < index
                });
                return;
            };
            self.bytes.fetch_sub(size_of(&record), Ordering::Relaxed);
            inner.first += 1;
        }
    }

    /// Index after the last record.
    pub fn end(&self) -> u64 {
        *self.end.borrow()
    }

    /// Waits until the log has this many leaves here.
    pub async fn reach(&self, leaves: u64) {
        // The sender lives as long as the tail.
        let _ = self.end.subscribe().wait_for(|end| *end >= leaves).await;
    }

    /// Index of the first record kept.
    pub fn first(&self) -> u64 {
        self.inner.lock().first
    }

    /// True where the sealer is so far behind that the door must shed.
    pub fn is_lagging(&self) -> bool {
        let is_lagging = self.bytes.load(Ordering::Relaxed) > probe::knob("seal.lag-bytes", SEAL_LAG_BYTES_MAX);
        sometimes!(is_lagging, "the sealer lagged so far that the door shed");
        is_lagging
    }
}

fn size_of(record: &Record) -> u64 {
    (record.bytes.len() + record.body.len() + 512) as u64
}
