//! The one task that writes: it takes what is queued, makes it one batch, syncs once and calls everybody back.
//!
//! While a batch is on its way to the disk the next one gathers, so batches grow with load and no timer is needed. A
//! failed write or sync is the end: the pages behind it may be gone, so nothing is tried again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rand::Rng;
use rand_chacha::ChaCha12Rng;

use nethical_protocol::ids::GroupId;
use nethical_protocol::probe;

use super::WalOptions;
use super::index::Location;
use super::mark::Wanted;
use super::queue::{Change, Op, Placed, SegmentFile, Shared, Space, Taken};
use super::record::{BatchMark, FLAG_ALL, FLAG_HEAD, Header, Kind, Seed, SegmentHead, encode, record_bytes};
use super::recover::{End, Heads};
use super::segment::Pool;
use crate::world::{self, File, Scope};

/// The segment that is written to.
pub(super) struct Current {
    pub(super) epoch: u64,
    pub(super) seed: Seed,
    pub(super) file: Arc<dyn File>,
    /// Where the next batch goes.
    pub(super) end: u64,
}

/// The writer's state; nobody else has any of it.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Pool,
    pub(super) current: Option<Current>,
    pub(super) heads: BTreeMap<GroupId, Heads>,
    /// End of the last batch; sequence 0 before the first.
    pub(super) end: End,
    pub(super) highest_epoch: u64,
    /// The oldest segment needed, now that everything up to the last batch is durable. The next batch announces it, and
    /// only segments before an announced one are used again: whatever a crash leaves, the last whole batch names none.
    pub(super) floor: u64,
    /// The batch that the mark was last told of.
    pub(super) marked: End,
    pub(super) mark: Arc<Wanted>,
    pub(super) dice: ChaCha12Rng,
    pub(super) scope: Scope,
    pub(super) options: WalOptions,
}

/// A batch as it will be written.
struct Encoded {
    bytes: Bytes,
    /// Its position in the segment.
    at: u64,
    placed: Vec<Placed>,
}

impl Writer {
    /// Writes until the scope ends or the disk fails.
    pub(super) async fn run(mut self) {
        loop {
            let Some(taken) = self.shared.take(&self.space()) else {
                self.shared.wake.notified().await;
                continue;
            };
            let Taken { ops, riders, floor, fresh } = taken;
            let (ops, result) = self.commit(ops, riders, fresh).await;
            if self.scope.is_dead() {
                return;
            }
            match result {
                Ok(placed) => {
                    world::pass(&*self.options.clock, "append.acknowledge").await;
                    self.finish(ops, &placed, floor);
                    world::pass(&*self.options.clock, "append.acknowledged").await;
                    if let Some(current) = self.current.as_ref().filter(|_| probe::planted("acknowledge-before-sync")) {
                        let _ = current.file.sync().await;
                    }
                }
                Err(error) => {
                    (self.options.on_fatal)(&error);
                    self.shared.fail(&error, ops);
                    return;
                }
            }
        }
    }

    fn space(&self) -> Space {
        let segment_bytes = self.options.segment_bytes;
        let heads_bytes: usize = self.heads.values().map(heads_bytes).sum();
        let fresh_bytes = segment_bytes as usize - SegmentHead::BYTES - BatchMark::BYTES;
        let current = self.current.as_ref();
        let current_bytes = current.map(|current| segment_bytes.saturating_sub(current.end) as usize);
        let batch_bytes_max = self.options.batch_bytes_max;
        // A segment without room for a mark has no room at all, so a batch of nothing does not go there either.
        let current_bytes = current_bytes.and_then(|bytes| bytes.checked_sub(BatchMark::BYTES));
        Space {
            current_bytes: current_bytes.map(|bytes| bytes.min(batch_bytes_max)),
            fresh_bytes: fresh_bytes.saturating_sub(heads_bytes).min(batch_bytes_max),
            epoch: current.map_or(self.highest_epoch, |current| current.epoch),
        }
    }

    /// Writes one batch, durably, and says where its entries are. Gives the changes back with that.
    async fn commit(
        &mut self,
        ops: Vec<Op>,
        riders: Vec<(GroupId, Kind, Bytes)>,
        fresh: bool,
    ) -> (Vec<Op>, io::Result<Vec<Placed>>) {
        let mut head = None;
        if fresh {
            match self.begin_segment().await {
                Ok(begun) => head = Some(begun),
                Err(error) => return (ops, Err(error)),
            }
        }
        let result = match self.encode(head, &ops, riders) {
            Ok(encoded) => self.write(encoded).await,
            Err(error) => Err(error),
        };
        (ops, result)
    }

    async fn write(&mut self, encoded: Encoded) -> io::Result<Vec<Placed>> {
        let current = self.current.as_mut().ok_or_else(|| io::Error::other("a batch needs a segment"))?;
        let bytes = encoded.bytes.len() as u64;
        world::pass(&*self.options.clock, "wal.sync.before").await;
        match probe::planted("acknowledge-before-sync") {
            true => current.file.write_at(encoded.at, encoded.bytes).await?,
            false => current.file.write_and_sync(encoded.at, encoded.bytes).await?,
        }
        world::pass(&*self.options.clock, "wal.sync.after").await;
        current.end = encoded.at + bytes;
        let (sequence, epoch, position) = (self.end.sequence + 1, current.epoch, current.end);
        self.end = End { sequence, epoch, position, oldest_epoch: self.floor };
        self.shared.state.lock().stats.written_bytes += bytes;
        Ok(encoded.placed)
    }

    /// Takes a file for the next segment.
    async fn begin_segment(&mut self) -> io::Result<SegmentHead> {
        let epoch = self.highest_epoch + 1;
        let file = self.pool.take(epoch).await?;
        let head = SegmentHead {
            epoch,
            salt: self.dice.next_u64(),
            previous_epoch: self.end.epoch,
            base_sequence: self.end.sequence + 1,
        };
        if self.end.epoch == 0 {
            self.floor = epoch;
        }
        self.highest_epoch = epoch;
        let reader = SegmentFile { file: file.clone(), seed: head.seed() };
        self.shared.state.lock().files.insert(epoch, reader);
        self.current = Some(Current { epoch, seed: head.seed(), file, end: 0 });
        Ok(head)
    }

    fn encode(
        &mut self,
        head: Option<SegmentHead>,
        ops: &[Op],
        riders: Vec<(GroupId, Kind, Bytes)>,
    ) -> io::Result<Encoded> {
        let current = self.current.as_ref().ok_or_else(|| io::Error::other("a batch needs a segment"))?;
        let (at, epoch, seed) = (current.end, current.epoch, current.seed);
        let size: usize = ops.iter().map(|op| op.change.bytes()).sum();
        let mut out = BytesMut::with_capacity(size + 4096);
        if let Some(head) = head {
            head.encode(&mut out);
        }
        let mark_at = out.len();
        out.resize(mark_at + BatchMark::BYTES, 0);
        let mut body = Body { out, at, epoch, seed, placed: Vec::new() };
        if head.is_some() {
            self.heads.iter().for_each(|(group, heads)| body.put_heads(*group, heads));
        }
        for op in ops {
            body.put_op(op);
            note(&mut self.heads, op);
        }
        for (group, kind, value) in riders {
            body.put(Header { group: group.0, ..Header::of(kind) }, &value);
            let heads = self.heads.entry(group).or_default();
            match kind {
                Kind::Committed => heads.committed = Some(value),
                _ => heads.membership = Some(value),
            }
        }
        let (mut out, placed) = (body.out, body.placed);
        if at + out.len() as u64 > self.options.segment_bytes {
            let message = "the groups' votes and positions leave no room in a log segment";
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
        let content = &out[mark_at + BatchMark::BYTES..];
        let mark = BatchMark {
            sequence: self.end.sequence + 1,
            previous_epoch: self.end.epoch,
            previous_end: self.end.position,
            oldest_epoch: self.floor,
            bytes: content.len() as u32,
            checksum: crc32c::crc32c(content),
        };
        let mut mark_bytes = BytesMut::with_capacity(BatchMark::BYTES);
        mark.encode(&mut mark_bytes, seed);
        out[mark_at..mark_at + BatchMark::BYTES].copy_from_slice(&mark_bytes);
        Ok(Encoded { bytes: out.freeze(), at, placed })
    }

    /// The batch is durable: tells everybody, then tidies up.
    fn finish(&mut self, ops: Vec<Op>, placed: &[Placed], floor: Option<u64>) {
        {
            let mut state = self.shared.state.lock();
            state.settle(placed);
            let stats = &mut state.stats;
            stats.sequence = self.end.sequence;
            stats.batches += 1;
            stats.entries += placed.len() as u64;
            stats.payload_bytes += placed.iter().map(|placed| u64::from(placed.location.bytes)).sum::<u64>()
                - record_bytes(0) as u64 * placed.len() as u64;
        }
        for Op { done, room, .. } in ops {
            drop(room);
            if let Some(done) = done {
                done(Ok(()));
            }
        }
        self.floor = self.floor.max(floor.unwrap_or(0));
        self.reclaim();
        if self.end.epoch > self.marked.epoch || self.end.sequence - self.marked.sequence >= self.options.mark_every {
            self.marked = self.end;
            self.mark.set(self.end.sequence);
        }
    }

    /// Frees the segments that the last batch has announced as unneeded, and sees to it that one is ready in time.
    fn reclaim(&mut self) {
        let freed = self.pool.reclaim(self.end.oldest_epoch);
        if self.end.position > self.options.segment_bytes / 2 {
            self.pool.prepare_ahead();
        }
        let (live, free) = self.pool.counts();
        let mut state = self.shared.state.lock();
        for epoch in freed {
            state.files.remove(&epoch);
        }
        let stats = &mut state.stats;
        (stats.live_segments, stats.free_segments, stats.prepared_bytes) = (live, free, self.pool.prepared_bytes);
    }
}

fn heads_bytes(heads: &Heads) -> usize {
    let values = [&heads.vote, &heads.committed, &heads.membership].into_iter().flatten();
    let purged = heads.purged.as_ref().map_or(0, |(_, payload)| record_bytes(payload.len()));
    values.map(|value| record_bytes(value.len())).sum::<usize>() + purged
}

/// Keeps what the next segment has to begin with.
fn note(all: &mut BTreeMap<GroupId, Heads>, op: &Op) {
    match &op.change {
        Change::Vote(vote) => all.entry(op.group).or_default().vote = Some(vote.clone()),
        Change::Purge(up_to, payload) => {
            all.entry(op.group).or_default().purged = Some((*up_to, payload.clone()));
        }
        Change::Forget => {
            all.remove(&op.group);
        }
        Change::Append { .. } | Change::Truncate(_) | Change::Flush => {}
    }
}

/// The records of a batch while they are put together.
struct Body {
    out: BytesMut,
    /// Position of `out` in the segment.
    at: u64,
    epoch: u64,
    seed: Seed,
    placed: Vec<Placed>,
}

impl Body {
    fn put(&mut self, header: Header, payload: &[u8]) {
        encode(&mut self.out, self.seed, header, payload);
    }

    fn put_heads(&mut self, group: GroupId, heads: &Heads) {
        let header = |kind| Header { flags: FLAG_HEAD, group: group.0, ..Header::of(kind) };
        if let Some((up_to, payload)) = &heads.purged {
            self.put(Header { index: *up_to, ..header(Kind::Purge) }, payload);
        }
        let values =
            [(Kind::Vote, &heads.vote), (Kind::Committed, &heads.committed), (Kind::Membership, &heads.membership)];
        for (kind, value) in values {
            if let Some(value) =
                value.as_ref().filter(|_| kind != Kind::Vote || !probe::planted("vote-lost-on-recycling"))
            {
                self.put(header(kind), value);
            }
        }
    }

    fn put_op(&mut self, op: &Op) {
        let header = |kind| Header { group: op.group.0, ..Header::of(kind) };
        match &op.change {
            Change::Append { entries, ticket } => {
                for (ticket, entry) in (*ticket..).zip(entries) {
                    let offset = (self.at + self.out.len() as u64) as u32;
                    let bytes = record_bytes(entry.payload.len()) as u32;
                    let location = Location { epoch: self.epoch, offset, bytes };
                    self.placed.push(Placed { group: op.group, index: entry.index, ticket, location });
                    self.put(Header { term: entry.term, index: entry.index, ..header(Kind::Entry) }, &entry.payload);
                }
            }
            Change::Vote(vote) => self.put(header(Kind::Vote), vote),
            Change::Truncate(Some(after)) => self.put(Header { index: *after, ..header(Kind::Truncate) }, &[]),
            Change::Truncate(None) => self.put(Header { flags: FLAG_ALL, ..header(Kind::Truncate) }, &[]),
            Change::Purge(up_to, payload) => self.put(Header { index: *up_to, ..header(Kind::Purge) }, payload),
            Change::Forget => self.put(header(Kind::Forget), &[]),
            Change::Flush => {}
        }
    }
}
