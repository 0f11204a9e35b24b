//! Reading the log at start: what is there, what a crash tore off, and what should be there and is not.
//!
//! Batches form one chain over all segments. The chain ends in one of three ways. Bytes that are no batch, with no
//! later batch behind them, are a torn tail: nobody was told that it was durable, so it is cut. Bytes that are no batch
//! with a later batch behind them are rot: a batch is written only after the one before it was synced. A chain that
//! ends before the high-water mark has lost what it had. Rot and loss are told, never repaired here.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use nethical_protocol::ids::GroupId;
use nethical_protocol::probe;

use super::WalError;
use super::index::{Index, Location, Place};
use super::mark::{self, Mark};
use super::record::{self, BatchMark, FLAG_ALL, Kind, Record, Seed, SegmentHead, newer_version};
use super::segment::{FOLDER, FreeFile, number_of, path_of};
use crate::world::{Disk, File};

/// What a group last said, besides its entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heads {
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    pub(super) membership: Option<Bytes>,
    pub(super) purged: Option<(u64, Bytes)>,
}

/// A file with a valid head.
pub(super) struct Segment {
    pub(super) head: SegmentHead,
    pub(super) number: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) bytes: u64,
}

/// Where the chain of batches ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) sequence: u64,
    pub(super) epoch: u64,
    pub(super) position: u64,
    pub(super) oldest_epoch: u64,
}

/// All that was found.
pub(super) struct Found {
    pub(super) heads: BTreeMap<GroupId, Heads>,
    pub(super) index: Index,
    /// Needed segments, oldest first; the last one is the current one.
    pub(super) chain: Vec<Segment>,
    pub(super) free: Vec<FreeFile>,
    pub(super) end: Option<End>,
    pub(super) highest_epoch: u64,
    /// Epochs that more than one file claims.
    doubles: BTreeSet<u64>,
    pub(super) next_number: u64,
    pub(super) mark: Mark,
    pub(super) lost_tail: bool,
    pub(super) torn_bytes: u64,
    pub(super) rot: Option<String>,
}

/// Reads everything and changes nothing, but that what was read is durable afterwards.
pub(super) async fn recover(disk: &dyn Disk, segment_bytes: u64) -> Result<Found, WalError> {
    let names = disk.list(FOLDER).await?;
    let mark = mark::read(disk, &names).await?;
    let mut found = Found {
        heads: BTreeMap::new(),
        index: Index::default(),
        chain: Vec::new(),
        free: Vec::new(),
        end: None,
        highest_epoch: 0,
        doubles: BTreeSet::new(),
        next_number: names.iter().filter_map(|name| number_of(name)).max().map_or(0, |number| number + 1),
        mark,
        lost_tail: false,
        torn_bytes: 0,
        rot: None,
    };
    let mut segments = found.open_all(disk, &names, segment_bytes).await?;
    if let Some((last, scan)) = found.find_last(&mut segments, segment_bytes).await? {
        found.link(last, &scan, segments, segment_bytes);
        found.replay_all().await?;
        if found.rot.is_none() && found.end != scan.end {
            found.rot =
                Some(format!("the chain of batches ends at {:?}, its last segment at {:?}", found.end, scan.end));
        }
        found.rot = scan.rot.or(found.rot.take());
        found.torn_bytes = scan.torn_bytes;
    }
    found.judge();
    disk.sync_dir(FOLDER).await?;
    Ok(found)
}

impl Found {
    /// Opens all files and gives those with a head, by epoch.
    async fn open_all(
        &mut self,
        disk: &dyn Disk,
        names: &[String],
        segment_bytes: u64,
    ) -> Result<BTreeMap<u64, Segment>, WalError> {
        let mut segments = BTreeMap::new();
        for number in names.iter().filter_map(|name| number_of(name)) {
            let file = disk.open(&path_of(number), false).await?;
            // A process that was killed, or whose sync failed, may have left in the page cache what is not on the disk.
            file.settle().await?;
            let bytes = file.len().await?;
            let start = file.read_at(0, SegmentHead::BYTES).await?;
            if let Some(version) = newer_version(&start) {
                return Err(WalError::Newer { path: path_of(number), version });
            }
            let Some(head) = SegmentHead::decode(&start) else {
                self.free.push(FreeFile { number, file, is_whole: bytes >= segment_bytes });
                continue;
            };
            self.highest_epoch = self.highest_epoch.max(head.epoch);
            if segments.insert(head.epoch, Segment { head, number, file, bytes }).is_some() {
                self.doubles.insert(head.epoch);
            }
        }
        Ok(segments)
    }

    /// The newest segment that holds a batch. Newer ones were begun and never finished: a crash took their first batch.
    async fn find_last(
        &mut self,
        segments: &mut BTreeMap<u64, Segment>,
        segment_bytes: u64,
    ) -> io::Result<Option<(Segment, Scan)>> {
        while let Some((_, segment)) = segments.pop_last() {
            let bytes = segment.file.read_at(0, segment.bytes as usize).await?;
            let scan = scan(&bytes, &segment.head);
            if scan.end.is_some() || scan.rot.is_some() {
                return Ok(Some((segment, scan)));
            }
            self.free.push(free(segment, segment_bytes));
        }
        Ok(None)
    }

    /// Follows the chain back from its last segment to the oldest one that is needed; the rest is free.
    fn link(&mut self, last: Segment, scan: &Scan, mut segments: BTreeMap<u64, Segment>, segment_bytes: u64) {
        let oldest = scan.end.map_or(last.head.epoch, |end| end.oldest_epoch);
        let mut epoch = last.head.epoch;
        let mut previous = last.head.previous_epoch;
        self.chain.push(last);
        while epoch > oldest {
            let Some(segment) = segments.remove(&previous).filter(|segment| segment.head.epoch < epoch) else {
                self.rot = Some(format!("segment {previous} is missing before segment {epoch}"));
                break;
            };
            (epoch, previous) = (segment.head.epoch, segment.head.previous_epoch);
            self.chain.push(segment);
        }
        self.chain.reverse();
        if let Some(segment) = self.chain.iter().find(|segment| self.doubles.contains(&segment.head.epoch)) {
            self.rot = Some(format!("more than one file holds segment {}", segment.head.epoch));
        }
        self.free.extend(segments.into_values().map(|segment| free(segment, segment_bytes)));
    }

    /// Applies all batches of the chain in order, as far as it is whole.
    async fn replay_all(&mut self) -> io::Result<()> {
        for number in 0..self.chain.len() {
            let segment = &self.chain[number];
            let ended = self.end.map_or(0, |end| end.sequence);
            if number > 0 && ended + 1 != segment.head.base_sequence {
                let (epoch, base) = (segment.head.epoch, segment.head.base_sequence);
                self.rot.get_or_insert(format!(
                    "segment {epoch} begins with batch {base}, the one before ends with {ended}"
                ));
                return Ok(());
            }
            let bytes = segment.file.read_at(0, segment.bytes as usize).await?;
            let (head, mut at) = (segment.head, SegmentHead::BYTES);
            while let Some(batch) = Batch::at(&bytes, &head, at, self.end) {
                if let Err(why) = self.replay(&batch, head.epoch) {
                    let sequence = batch.mark.sequence;
                    self.rot.get_or_insert(format!("batch {sequence} in segment {}: {why}", head.epoch));
                    return Ok(());
                }
                at = batch.end;
                self.end = Some(batch.end_of(head.epoch));
            }
        }
        Ok(())
    }

    fn replay(&mut self, batch: &Batch, epoch: u64) -> Result<(), String> {
        let mut at = batch.start;
        for record in &batch.records {
            let bytes = record::record_bytes(record.payload.len());
            let location = Location { epoch, offset: at as u32, bytes: bytes as u32 };
            self.apply(record, location)?;
            at += bytes;
        }
        Ok(())
    }

    fn apply(&mut self, record: &Record, location: Location) -> Result<(), String> {
        let header = &record.header;
        let group = GroupId(header.group);
        // A copy, so that the whole segment is not kept in memory for the sake of a vote.
        let payload = || Bytes::copy_from_slice(&record.payload);
        match header.kind {
            Kind::Entry => {
                let pushed = self.index.restore(group, header.index, header.term, Place::Written(location));
                pushed
                    .map_err(|expected| format!("group {group} has entry {} in place of {expected}", header.index))?;
            }
            Kind::Vote => self.heads.entry(group).or_default().vote = Some(payload()),
            Kind::Committed => self.heads.entry(group).or_default().committed = Some(payload()),
            Kind::Membership => self.heads.entry(group).or_default().membership = Some(payload()),
            Kind::Truncate => {
                let after = (header.flags & FLAG_ALL == 0).then_some(header.index);
                self.index.truncate(group, after);
            }
            Kind::Purge => {
                self.heads.entry(group).or_default().purged = Some((header.index, payload()));
                self.index.purge(group, header.index);
            }
            Kind::Forget => {
                self.heads.remove(&group);
                self.index.forget(group);
            }
            Kind::SegmentHead | Kind::BatchMark | Kind::Mark => {
                return Err(format!("{:?} inside a batch", header.kind));
            }
        }
        Ok(())
    }

    /// Compares what was found with what must be there.
    fn judge(&mut self) {
        for group in self.index.groups().collect::<BTreeSet<_>>() {
            let (bounds, purged) = (self.index.bounds(group), self.index.purged(group));
            if let (Some(bounds), Some(purged)) = (bounds, purged)
                && bounds.first > purged + 1
            {
                let why = format!("group {group} is purged to {purged} and begins at {}", bounds.first);
                self.rot.get_or_insert(why);
            }
        }
        let last = self.end.map_or(0, |end| end.sequence);
        match self.mark {
            Mark::At { sequence, .. } => self.lost_tail = sequence > last,
            Mark::Absent | Mark::Unreadable if last > 0 => {
                self.rot.get_or_insert("the log has batches and no valid mark".to_owned());
            }
            Mark::Absent | Mark::Unreadable => {}
        }
    }
}

fn free(segment: Segment, segment_bytes: u64) -> FreeFile {
    FreeFile { number: segment.number, file: segment.file, is_whole: segment.bytes >= segment_bytes }
}

/// How the batches of one segment end.
struct Scan {
    end: Option<End>,
    torn_bytes: u64,
    rot: Option<String>,
}

/// Walks over a segment's batches and looks at what comes after them.
fn scan(bytes: &Bytes, head: &SegmentHead) -> Scan {
    let (mut end, mut at) = (None, SegmentHead::BYTES);
    while let Some(batch) = Batch::at(bytes, head, at, end) {
        at = batch.end;
        end = Some(batch.end_of(head.epoch));
    }
    let expected = end.map_or(head.base_sequence, |end: End| end.sequence + 1);
    let mut scan = Scan { end, torn_bytes: 0, rot: None };
    for position in marks_from(at, bytes) {
        let Some(mark) = BatchMark::decode(&bytes.slice(position..), head.seed()) else { continue };
        if position == at && mark.sequence == expected {
            scan.torn_bytes = BatchMark::BYTES as u64 + u64::from(mark.bytes);
        } else {
            let epoch = head.epoch;
            let why =
                format!("segment {epoch}: no batch {expected} at {at}, but batch {} at {position}", mark.sequence);
            scan.rot = Some(why);
            break;
        }
    }
    scan
}

/// Where marks may begin from a position on. Nearly all of what is behind the last batch is zeros, where none does.
fn marks_from(at: usize, bytes: &Bytes) -> impl Iterator<Item = usize> {
    const PIECE: usize = 1_024;
    let end = bytes.len().saturating_sub(BatchMark::BYTES - 1);
    let pieces = (at..end).step_by(PIECE).map(move |from| from..end.min(from + PIECE));
    let written = pieces.filter(|piece| bytes[piece.clone()] != [0; PIECE][..piece.len()]);
    written.flatten().filter(|position| BatchMark::may_begin(&bytes[*position..]))
}

/// A valid batch.
struct Batch {
    mark: BatchMark,
    /// Position of its first record.
    start: usize,
    /// Position after its last record.
    end: usize,
    records: Vec<Record>,
}

impl Batch {
    /// The batch at a position; none where there is no valid one, or not the one that follows `previous`.
    fn at(bytes: &Bytes, head: &SegmentHead, at: usize, previous: Option<End>) -> Option<Batch> {
        if at > bytes.len() {
            return None;
        }
        let seed = head.seed();
        let mark = BatchMark::decode(&bytes.slice(at..), seed)?;
        let start = at + BatchMark::BYTES;
        let end = start.checked_add(mark.bytes as usize)?;
        let body = bytes.get(start..end)?;
        let follows = match previous {
            Some(end) => {
                (mark.sequence, mark.previous_epoch, mark.previous_end) == (end.sequence + 1, end.epoch, end.position)
            }
            None => mark.sequence == head.base_sequence,
        };
        let is_whole = crc32c::crc32c(body) == mark.checksum || probe::planted("torn-tail-accepted");
        if !follows || !is_whole {
            return None;
        }
        let records = records(bytes.slice(start..end), seed)?;
        Some(Batch { mark, start, end, records })
    }

    fn end_of(&self, epoch: u64) -> End {
        let mark = &self.mark;
        End { sequence: mark.sequence, epoch, position: self.end as u64, oldest_epoch: mark.oldest_epoch }
    }
}

/// All records of a batch; none where they do not fill it exactly.
fn records(mut body: Bytes, seed: Seed) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let record = record::decode_in_batch(&body, seed)?;
        body = body.slice(record::record_bytes(record.payload.len())..);
        records.push(record);
    }
    Some(records)
}
