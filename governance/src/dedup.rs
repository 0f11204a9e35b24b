//! Which requests were executed: bounded by time and by count, and never silent about what it has forgotten.
//!
//! A *low-water time* moves only forward. A request id whose own time is at or below it is refused
//! (`TooOld`: look it up), because it may have been executed and forgotten; one above it is either remembered or was
//! never executed here. Time moves the low water to `now - window`; a full memory moves it to the oldest id that had
//! to make room. An id from the future is refused as well, else it could never age out.
//!
//! Records at or below the low water are gone for every reader, whether or not their bytes have been freed yet.

use std::collections::{BTreeMap, BTreeSet};

use nethical_protocol::ids::{KeyedId, Slot};
use nethical_protocol::limits::{IDEMPOTENCY_ENTRIES_MAX, IDEMPOTENCY_WINDOW_MS, REQUEST_AHEAD_MAX_MS};
use nethical_protocol::{always, probe, sometimes};

use crate::command::RequestKey;
use crate::outcome::OutcomeV1;

/// Forgotten records freed per remembered one; more than one, so that a backlog shrinks.
const FREED_PER_RECORD: usize = 4;

/// The bounds of one group's memory; equal on all replicas, part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupBounds {
    /// At most this many requests, about 100 bytes each with both indexes.
    pub entries_max: usize,
    /// At most this long, milliseconds of log time.
    pub window_ms: u64,
}

impl Default for DedupBounds {
    fn default() -> Self {
        let entries_max = probe::knob("dedup.entries", IDEMPOTENCY_ENTRIES_MAX as u64) as usize;
        Self { entries_max, window_ms: probe::knob("dedup.window-ms", IDEMPOTENCY_WINDOW_MS) }
    }
}

/// One executed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// HMAC of its content.
    pub content: [u8; 8],
    /// The leaf that records it.
    pub leaf_index: u64,
    /// The time in its id, milliseconds.
    pub issued_at_ms: u64,
    /// The slot of the agent that it acted for, so that a slot can be moved with its requests.
    pub slot: Slot,
}

/// The memory of one group.
#[derive(Debug, Clone, Default)]
pub struct Dedup {
    pub(crate) bounds: DedupBounds,
    pub(crate) low_water_ms: u64,
    pub(crate) records: BTreeMap<KeyedId, Record>,
    /// The same by age. Follows from `records`.
    by_age: BTreeSet<(u64, KeyedId)>,
}

impl Dedup {
    /// An empty memory.
    pub fn new(bounds: DedupBounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Lets time pass.
    pub fn advance(&mut self, now_ms: u64) {
        self.low_water_ms = self.low_water_ms.max(now_ms.saturating_sub(self.bounds.window_ms));
    }

    /// The answer to a request that must not be executed (again); `None` where it may be.
    pub fn answer(&self, request: &RequestKey, now_ms: u64) -> Option<OutcomeV1> {
        if request.id.is_none() {
            return None;
        }
        if request.issued_at_ms <= self.low_water_ms && !probe::planted("dedup-eviction-re-executes") {
            sometimes!(true, "a request that may have been forgotten was refused");
            return Some(OutcomeV1::TooOld { low_water_ms: self.low_water_ms });
        }
        let is_known = |record: &&Record| record.issued_at_ms > self.low_water_ms && !probe::planted("no-dedupe");
        if let Some(record) = self.records.get(&request.id).filter(is_known) {
            let leaf_index = record.leaf_index;
            let same = record.content == request.content;
            sometimes!(same, "a repeated request was recognised in apply");
            sometimes!(!same, "a request id came with another content");
            return Some(if same { OutcomeV1::Duplicate { leaf_index } } else { OutcomeV1::Conflict { leaf_index } });
        }
        let ahead = request.issued_at_ms > now_ms.saturating_add(REQUEST_AHEAD_MAX_MS);
        sometimes!(ahead, "a request from the future was refused");
        ahead.then_some(OutcomeV1::FromFuture)
    }

    /// Remembers an executed request. Where memory is full the oldest id makes room and the low water rises to it.
    pub fn remember(&mut self, request: &RequestKey, slot: Slot, leaf_index: u64) {
        if request.id.is_none() {
            return;
        }
        let (content, issued_at_ms) = (request.content, request.issued_at_ms);
        self.insert(request.id, Record { content, leaf_index, issued_at_ms, slot });
        self.free_forgotten();
        while self.records.len() > self.bounds.entries_max {
            let Some((issued_at_ms, id)) = self.by_age.pop_first() else { break };
            self.records.remove(&id);
            sometimes!(true, "a request was forgotten to make room");
            self.low_water_ms = self.low_water_ms.max(issued_at_ms);
        }
        let (held, aged) = (self.records.len(), self.by_age.len());
        always!(held == aged, "requests-and-ages-are-the-same", "{held} requests, {aged} ages");
    }

    /// Requests remembered.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// True where none is remembered.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Request ids of this many milliseconds back are still recognised. Under pressure this is what shrinks.
    pub fn covered_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.low_water_ms)
    }

    /// Takes the records of a snapshot.
    pub(crate) fn restore(&mut self, low_water_ms: u64, records: impl Iterator<Item = (KeyedId, Record)>) {
        self.low_water_ms = low_water_ms;
        // Collecting sorts once, which beats a quarter of a million insertions.
        self.records = records.collect();
        self.by_age = self.records.iter().map(|(id, record)| (record.issued_at_ms, *id)).collect();
    }

    fn insert(&mut self, id: KeyedId, record: Record) {
        self.by_age.insert((record.issued_at_ms, id));
        if let Some(old) = self.records.insert(id, record).filter(|old| old.issued_at_ms != record.issued_at_ms) {
            self.by_age.remove(&(old.issued_at_ms, id));
        }
    }

    fn free_forgotten(&mut self) {
        for _ in 0..FREED_PER_RECORD {
            let Some((issued_at_ms, id)) = self.by_age.first().copied() else { return };
            if issued_at_ms > self.low_water_ms {
                return;
            }
            self.by_age.pop_first();
            self.records.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u8, issued_at_ms: u64) -> RequestKey {
        RequestKey { id: KeyedId([id; 16]), content: [id; 8], issued_at_ms, client_chosen: true }
    }

    #[test]
    fn one_stream_of_ids_is_freed_as_it_ages() {
        let mut dedup = Dedup::new(DedupBounds { entries_max: 1_000, window_ms: 10 });
        for step in 1..=200u8 {
            let now_ms = u64::from(step) * 5;
            dedup.advance(now_ms);
            assert_eq!(dedup.answer(&request(step, now_ms), now_ms), None);
            dedup.remember(&request(step, now_ms), Slot(0), u64::from(step));
            assert!(dedup.len() <= 3, "{}", dedup.len());
            assert_eq!(dedup.by_age.len(), dedup.len());
        }
        assert_eq!(dedup.covered_ms(1_000), 10);
    }

    #[test]
    fn an_id_older_than_a_full_memory_is_refused_afterwards_never_executed_again() {
        let mut dedup = Dedup::new(DedupBounds { entries_max: 2, window_ms: 1_000_000 });
        for (id, issued_at_ms) in [(1, 50), (2, 60), (3, 10)] {
            assert_eq!(dedup.answer(&request(id, issued_at_ms), 60), None);
            dedup.remember(&request(id, issued_at_ms), Slot(0), 7);
        }
        assert_eq!(dedup.answer(&request(3, 10), 60), Some(OutcomeV1::TooOld { low_water_ms: 10 }));
        assert_eq!(dedup.answer(&request(1, 50), 60), Some(OutcomeV1::Duplicate { leaf_index: 7 }));
    }

    #[test]
    fn an_id_that_comes_back_with_another_time_is_still_known() {
        let mut dedup = Dedup::new(DedupBounds::default());
        dedup.remember(&request(1, 50), Slot(0), 7);
        assert_eq!(dedup.answer(&request(1, 55), 60), Some(OutcomeV1::Duplicate { leaf_index: 7 }));
    }
}
