//! What the handles and the writer share: the queue, the index and the open segments, under one lock.
//!
//! A change enters the queue and the index at the same time, so both always tell the same order. Nothing here awaits or
//! touches the disk.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use nethical_protocol::buggify;
use nethical_protocol::ids::GroupId;

use super::index::{Index, Location, Place};
use super::record::{Kind, Seed, record_bytes};
use super::{Done, WalEntry, WalStats};
use crate::world::File;

/// Lazily written changes after which the writer is woken for them alone.
const LAZY_CHANGES_MAX: usize = 1_024;

/// A change of one group, in the order of the log.
pub(super) enum Change {
    /// Entries, of which the first has this ticket.
    Append {
        entries: Vec<WalEntry>,
        ticket: u64,
    },
    Vote(Bytes),
    Truncate(Option<u64>),
    Purge(u64, Bytes),
    Forget,
    /// Nothing but the wish to know when all before it is durable.
    Flush,
}

impl Change {
    /// Bytes in the log.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Change::Append { entries, .. } => entries.iter().map(|entry| record_bytes(entry.payload.len())).sum(),
            Change::Vote(payload) | Change::Purge(_, payload) => record_bytes(payload.len()),
            Change::Truncate(_) | Change::Forget => record_bytes(0),
            Change::Flush => 0,
        }
    }

    /// True where somebody waits for it.
    fn is_awaited(&self) -> bool {
        !matches!(self, Change::Purge(..))
    }
}

/// A queued change.
pub(super) struct Op {
    pub(super) group: GroupId,
    pub(super) change: Change,
    pub(super) done: Option<Done>,
    /// Room in the queue, given back when the change is durable.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// An open segment, for readers.
#[derive(Clone)]
pub(super) struct SegmentFile {
    pub(super) file: Arc<dyn File>,
    pub(super) seed: Seed,
}

/// Entries in pieces of at most so many bytes, or of one entry.
fn split(entries: Vec<WalEntry>, piece_bytes: usize) -> Vec<Vec<WalEntry>> {
    let (mut pieces, mut piece, mut bytes) = (Vec::new(), Vec::new(), 0);
    for entry in entries {
        let entry_bytes = record_bytes(entry.payload.len());
        if bytes + entry_bytes > piece_bytes && !piece.is_empty() {
            pieces.push(std::mem::take(&mut piece));
            bytes = 0;
        }
        bytes += entry_bytes;
        piece.push(entry);
    }
    pieces.push(piece);
    pieces
}

/// Why nothing more is taken.
#[derive(Clone)]
pub(super) enum Closed {
    /// The node is dead: its callbacks must not run.
    Killed,
    /// The log cannot go on.
    Failed(io::ErrorKind, String),
}

impl Closed {
    pub(super) fn error(&self) -> io::Error {
        match self {
            Closed::Killed => io::Error::new(io::ErrorKind::BrokenPipe, "the log's node was stopped"),
            Closed::Failed(kind, message) => io::Error::new(*kind, message.clone()),
        }
    }
}

/// Values of a group that ride along: each waits for the changes that were queued before it, and the latest replaces
/// the one before. The first is kept apart so that a queue that never empties does not hold them back for ever.
#[derive(Default)]
struct Rider {
    waiting: VecDeque<(u64, Bytes)>,
}

impl Rider {
    fn set(&mut self, after: u64, value: Bytes) {
        if self.waiting.len() == 2 {
            self.waiting.pop_back();
        }
        self.waiting.push_back((after, value));
    }

    /// The latest value whose predecessors have all been taken.
    fn take(&mut self, taken: u64) -> Option<Bytes> {
        let mut latest = None;
        while self.waiting.front().is_some_and(|(after, _)| *after <= taken) {
            latest = self.waiting.pop_front().map(|(_, value)| value);
        }
        latest
    }

    fn bytes(&self) -> usize {
        self.waiting.iter().map(|(_, value)| record_bytes(value.len())).max().unwrap_or(0)
    }
}

pub(super) struct State {
    pub(super) index: Index,
    pub(super) files: BTreeMap<u64, SegmentFile>,
    pub(super) closed: Option<Closed>,
    pub(super) stats: WalStats,
    queue: VecDeque<Op>,
    /// Of those in the queue, how many somebody waits for.
    awaited: usize,
    /// Changes ever queued and ever taken.
    queued: u64,
    taken: u64,
    next_ticket: u64,
    riders: BTreeMap<(GroupId, u8), Rider>,
    /// The oldest segment needed once all changes up to that count are durable.
    floor: Option<(u64, u64)>,
}

/// What the writer took for one batch.
pub(super) struct Taken {
    pub(super) ops: Vec<Op>,
    /// Values that ride along, by group.
    pub(super) riders: Vec<(GroupId, Kind, Bytes)>,
    /// The oldest segment needed once this batch is durable, where that is known.
    pub(super) floor: Option<u64>,
    /// True where it does not fit into the current segment.
    pub(super) fresh: bool,
}

/// How much fits.
pub(super) struct Space {
    /// Into what is left of the current segment, where there is one.
    pub(super) current_bytes: Option<usize>,
    /// Into a new segment, behind its heads.
    pub(super) fresh_bytes: usize,
    /// The current segment.
    pub(super) epoch: u64,
}

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) wake: Notify,
    pub(super) room: Arc<Semaphore>,
    pub(super) room_bytes: usize,
}

impl Shared {
    pub(super) fn new(index: Index, files: BTreeMap<u64, SegmentFile>, room_bytes: usize) -> Self {
        let state = State {
            index,
            files,
            closed: None,
            stats: WalStats::default(),
            queue: VecDeque::new(),
            awaited: 0,
            queued: 0,
            taken: 0,
            next_ticket: 0,
            riders: BTreeMap::new(),
            floor: None,
        };
        Self { state: Mutex::new(state), wake: Notify::new(), room: Arc::new(Semaphore::new(room_bytes)), room_bytes }
    }

    /// Queues a change, or says at once why not.
    pub(super) fn push(&self, op: Op) {
        let refused = {
            let mut state = self.state.lock();
            match state.admit(op) {
                Ok(wake) => {
                    if wake {
                        self.wake.notify_one();
                    }
                    None
                }
                Err(refused) => Some(refused),
            }
        };
        if let Some((Op { done: Some(done), .. }, closed @ Closed::Failed(..))) = refused {
            done(Err(closed.error()));
        }
    }

    /// Queues entries, in pieces that fit into a batch; the last one calls back. All are queued or none.
    pub(super) fn push_append(
        &self,
        group: GroupId,
        entries: Vec<WalEntry>,
        piece_bytes: usize,
        done: Done,
        room: OwnedSemaphorePermit,
    ) {
        let refused = {
            let mut state = self.state.lock();
            match state.check_order(group, &entries) {
                Err(closed) => Some((done, closed)),
                Ok(()) => {
                    let mut pieces = split(entries, piece_bytes);
                    let last = pieces.pop().unwrap_or_default();
                    pieces.into_iter().for_each(|piece| state.admit_entries(group, piece, None, None));
                    state.admit_entries(group, last, Some(done), Some(room));
                    None
                }
            }
        };
        match refused {
            None => self.wake.notify_one(),
            Some((done, closed @ Closed::Failed(..))) => done(Err(closed.error())),
            Some((_, Closed::Killed)) => {}
        }
    }

    /// Sets a value that rides along with the next batch and forces none.
    pub(super) fn ride(&self, group: GroupId, kind: Kind, value: Bytes) {
        let mut state = self.state.lock();
        if state.closed.is_none() {
            let after = state.queued;
            state.riders.entry((group, kind as u8)).or_default().set(after, value);
        }
    }

    /// The next batch, where somebody waits for one.
    pub(super) fn take(&self, space: &Space) -> Option<Taken> {
        self.state.lock().take(space)
    }

    /// Fails what is queued and everything after it.
    pub(super) fn fail(&self, error: &io::Error, taken: Vec<Op>) {
        let closed = Closed::Failed(error.kind(), format!("the log has failed: {error}"));
        let queued = self.close(closed.clone());
        for done in taken.into_iter().chain(queued).filter_map(|op| op.done) {
            done(Err(closed.error()));
        }
    }

    /// Drops what is queued without a callback: the node is dead.
    pub(super) fn kill(&self) {
        drop(self.close(Closed::Killed));
    }

    fn close(&self, closed: Closed) -> VecDeque<Op> {
        let queued = {
            let mut state = self.state.lock();
            state.closed.get_or_insert(closed);
            state.awaited = 0;
            std::mem::take(&mut state.queue)
        };
        self.room.close();
        queued
    }
}

impl State {
    /// Takes a change other than entries; true where the writer has to be woken.
    fn admit(&mut self, op: Op) -> Result<bool, (Op, Closed)> {
        if let Some(closed) = &self.closed {
            return Err((op, closed.clone()));
        }
        match &op.change {
            Change::Truncate(after) => self.index.truncate(op.group, *after),
            Change::Purge(up_to, _) => self.index.purge(op.group, *up_to),
            Change::Forget => {
                self.index.forget(op.group);
                self.riders.retain(|(group, _), _| *group != op.group);
            }
            Change::Append { .. } | Change::Vote(_) | Change::Flush => {}
        }
        self.enqueue(op);
        Ok(self.has_work())
    }

    fn enqueue(&mut self, op: Op) {
        self.awaited += usize::from(op.change.is_awaited());
        self.queued += 1;
        self.queue.push_back(op);
    }

    fn check_order(&self, group: GroupId, entries: &[WalEntry]) -> Result<(), Closed> {
        if let Some(closed) = &self.closed {
            return Err(closed.clone());
        }
        let mut expected = self.index.next(group);
        for entry in entries {
            if expected.is_some_and(|expected| expected != entry.index) {
                let message = format!("group {group}: entry {} does not follow; {expected:?} would", entry.index);
                return Err(Closed::Failed(io::ErrorKind::InvalidInput, message));
            }
            expected = Some(entry.index + 1);
        }
        Ok(())
    }

    fn admit_entries(
        &mut self,
        group: GroupId,
        entries: Vec<WalEntry>,
        done: Option<Done>,
        room: Option<OwnedSemaphorePermit>,
    ) {
        let ticket = self.next_ticket;
        for entry in &entries {
            let place = Place::Queued { ticket: self.next_ticket, payload: entry.payload.clone() };
            self.next_ticket += 1;
            self.index.push(group, entry.index, entry.term, place).expect("check_order has passed these entries");
        }
        self.enqueue(Op { group, change: Change::Append { entries, ticket }, done, room });
    }

    fn has_work(&self) -> bool {
        self.awaited > 0 || self.queue.len() > LAZY_CHANGES_MAX
    }

    fn take(&mut self, space: &Space) -> Option<Taken> {
        if !self.has_work() {
            return None;
        }
        let rider_bytes: usize = self.riders.values().map(Rider::bytes).sum();
        let first_bytes = self.queue.front().map_or(0, |op| op.change.bytes());
        let fits = |bytes: &usize| rider_bytes + first_bytes <= *bytes && !buggify!("wal.switch-early");
        let current_bytes = space.current_bytes.filter(fits);
        let mut room = current_bytes.unwrap_or(space.fresh_bytes).saturating_sub(rider_bytes);
        let mut ops = Vec::new();
        while let Some(op) = self.queue.front() {
            // One change always goes, or nothing ever would; the writer checks that it fits.
            let bytes = op.change.bytes();
            if !ops.is_empty() && (bytes > room || buggify!("wal.batch-of-one")) {
                break;
            }
            room = room.saturating_sub(bytes);
            self.awaited -= usize::from(op.change.is_awaited());
            self.taken += 1;
            ops.extend(self.queue.pop_front());
        }
        let riders = self.take_riders();
        Some(Taken { ops, riders, floor: self.take_floor(space.epoch), fresh: current_bytes.is_none() })
    }

    fn take_riders(&mut self) -> Vec<(GroupId, Kind, Bytes)> {
        let taken = self.taken;
        let mut riders = Vec::new();
        for ((group, kind), rider) in &mut self.riders {
            let kind = if *kind == Kind::Committed as u8 { Kind::Committed } else { Kind::Membership };
            riders.extend(rider.take(taken).map(|value| (*group, kind, value)));
        }
        self.riders.retain(|_, rider| !rider.waiting.is_empty());
        riders
    }

    /// The index runs ahead of the log by what is queued, so what it needs now is what the log needs once everything
    /// queued now is durable.
    fn take_floor(&mut self, epoch: u64) -> Option<u64> {
        let needed = self.index.oldest_epoch().unwrap_or(epoch).min(epoch);
        let (after, floor) = *self.floor.get_or_insert((self.queued, needed));
        if self.taken < after {
            return None;
        }
        self.floor = None;
        Some(floor)
    }

    /// Notes where entries are durable now.
    pub(super) fn settle(&mut self, placed: &[Placed]) {
        for placed in placed {
            self.index.settle(placed.group, placed.index, placed.ticket, placed.location);
        }
    }
}

/// Where the writer put an entry.
pub(super) struct Placed {
    pub(super) group: GroupId,
    pub(super) index: u64,
    pub(super) ticket: u64,
    pub(super) location: Location,
}
