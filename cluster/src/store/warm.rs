//! Moves closed segments to the warm tier, and makes warm ones anew without bodies that may go. One segment at a time, at a
//! bounded rate; a crash anywhere leaves the old file or the new one, whole.
//!
//! The new file is written aside and synced, read again from the disk and held against the seal, renamed, told to the manifest,
//! and only then is the old one removed. A start that finds both files finishes the move where the new one is whole, and undoes
//! it otherwise. Nothing here decides which bodies may go ([`crate::tier::Rule`] does), nothing is lost where the disk
//! is full or fails, and nobody waits: readers who have the old file open read it to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use roaring::RoaringBitmap;

use nethical_audit::body::dropped::split;
use nethical_audit::body::{Reason, away_of, drop_body, sealed_for};
use nethical_audit::leaf::LeafV1;
use nethical_audit::segment::warm::{WARM_HEADER_BYTES, WarmCheck};
use nethical_audit::segment::{Fault, SegmentScan, WarmHeader, WarmWriter};
use nethical_protocol::{probe, sometimes};

use super::open::BODIES_UNKNOWN;
use super::repair::Others;
use super::scrub::{Pace, Target};
use super::*;
use crate::tier::Rule;
use crate::world::{self, Clock};

/// Segments moved to the warm tier, or made anew there, since the node started.
pub const MOVES_TOTAL: &str = "nethical_audit_warm_moves_total";
/// Moves that failed since the node started.
pub const MOVES_FAILED_TOTAL: &str = "nethical_audit_warm_moves_failed_total";
/// Bodies dropped from this node's segments since it started.
pub const DROPPED_TOTAL: &str = "nethical_audit_bodies_dropped_total";

/// How long the newest leaves may take to become durable before a move is put off.
const BARRIER_PATIENCE: Duration = Duration::from_secs(30);

/// What is known of moves. Bounded by the number of segments.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// First leaf of the segment that is being moved.
    under_way: Option<u64>,
    /// Why the last move of a segment failed.
    failed: BTreeMap<u64, String>,
    /// Segments whose new file is in force and whose move is not told to the manifest, or whose old file is still there.
    unfinished: BTreeSet<u64>,
    /// The state of the rule by which a warm segment was last looked through.
    swept: BTreeMap<u64, u64>,
}

/// What becomes of a segment's records when its file is made anew.
#[derive(Clone, Copy)]
pub(super) struct Rewrite<'a> {
    /// Bodies that may go for good.
    pub(super) rule: &'a Rule,
    /// Places of bodies, from the segment's first leaf, that a cold file has: they go from here.
    pub(super) away: Option<&'a RoaringBitmap>,
    /// How fast.
    pub(super) pace: &'a Pace<'a>,
    /// Who may be asked for what does not read here.
    pub(super) others: Option<&'a Others<'a>>,
}

/// What a move came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Records that came from other replicas.
    pub fetched: u64,
    /// Bodies that were dropped.
    pub dropped: u64,
    /// Bodies that are in a cold file alone from now on.
    pub away: u64,
}

/// One tier of a log on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TierSums {
    /// Closed segments.
    pub segments: u64,
    /// Their leaves.
    pub leaves: u64,
    /// Bytes of their files.
    pub file_bytes: u64,
    /// Bytes of their leaves and bodies, dropped ones included.
    pub raw_bytes: u64,
    /// Bytes of the leaves alone, where it is known.
    pub leaf_bytes: u64,
    /// Bytes that the leaves take packed.
    pub packed_bytes: u64,
    /// Bodies dropped as erased.
    pub erased: u64,
    /// Bodies dropped as expired.
    pub expired: u64,
    /// Bodies that are in a cold file alone.
    pub away: u64,
    /// Bytes that all of these have given back.
    pub freed_bytes: u64,
}

impl TierSums {
    /// Takes another log's in.
    pub fn add(&mut self, other: &Self) {
        self.segments += other.segments;
        self.leaves += other.leaves;
        self.file_bytes += other.file_bytes;
        self.raw_bytes += other.raw_bytes;
        self.leaf_bytes += other.leaf_bytes;
        self.packed_bytes += other.packed_bytes;
        self.erased += other.erased;
        self.expired += other.expired;
        self.away += other.away;
        self.freed_bytes += other.freed_bytes;
    }
}

/// How the tiers of a log are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tiers {
    /// As they were closed.
    pub hot: TierSums,
    /// Moved.
    pub warm: TierSums,
    /// Moved, and without bodies that a cold file has.
    pub cold: TierSums,
    /// Segments that are being moved.
    pub under_way: u64,
    /// Segments whose last move failed, and why.
    pub failed: Vec<(u64, String)>,
}

impl AuditStore {
    /// Hot segments whose newest leaf is from before `before_ns`. Damaged ones are the scrubber's first.
    pub fn hot_before(&self, before_ns: u64) -> Vec<Aged> {
        let inner = self.inner.lock();
        let hot = self.undamaged(&inner).filter(|segment| segment.warm.is_none());
        hot.filter_map(|segment| segment.aged()).filter(|segment| segment.last_ns < before_ns).collect()
    }

    /// First leaves of the warm segments that were not looked through by this rule yet, and of those with which a move was begun.
    pub fn unswept(&self, rule: &Rule) -> Vec<u64> {
        let (inner, moves) = (self.inner.lock(), self.moves.lock());
        let is_unswept =
            |segment: &&Arc<Closed>| segment.warm.is_some() && moves.swept.get(&segment.first()) != Some(&rule.stamp());
        let unswept = self.undamaged(&inner).filter(is_unswept).map(|segment| segment.first());
        unswept.chain(moves.unfinished.iter().copied()).collect()
    }

    fn undamaged<'a>(&self, inner: &'a Inner) -> impl Iterator<Item = &'a Arc<Closed>> {
        let durable = self.sealed.borrow().durable;
        let is_whole = move |segment: &&Arc<Closed>| {
            segment.places.is_some() && segment.next <= durable && !inner.damages.contains_key(&segment.first())
        };
        inner.closed.iter().filter(is_whole)
    }

    /// Does what is due for a segment. Gives what a move came to; none where there was nothing to move.
    ///
    /// # Errors
    /// Why a move failed, in words; the segment is what it was.
    pub async fn tend(&self, first: u64, rule: &Rule, pace: &Pace<'_>) -> Result<Option<Moved>, String> {
        let told = |error: io::Error| error.to_string();
        if self.moves.lock().unfinished.contains(&first) {
            self.finish_move(first, pace.clock).await.map_err(told)?;
        }
        let Some(target) = self.target(first) else { return Ok(None) };
        if target.seal.warm.is_some() && !self.has_droppable(&target, rule, pace).await.map_err(told)? {
            self.moves.lock().swept.insert(first, rule.stamp());
            return Ok(None);
        }
        if target.seal.body_hashes.contains(&BODIES_UNKNOWN) {
            self.learn_bodies(&target).await.map_err(told)?;
            return Ok(None);
        }
        // What lets bodies go must be in the log where a power loss cannot take it.
        let durable = world::timeout(pace.clock, BARRIER_PATIENCE, self.barrier(self.trail.end())).await;
        durable.ok_or("the newest leaves are not in segments yet")?.map_err(told)?;
        self.moves.lock().under_way = Some(first);
        let moved = self.rewrite(&target, Rewrite { rule, away: None, pace, others: None }).await;
        let mut moves = self.moves.lock();
        moves.under_way = None;
        match &moved {
            Ok(_) => {
                moves.failed.remove(&first);
                moves.swept.insert(first, rule.stamp());
            }
            Err(why) => {
                moves.failed.insert(first, why.clone());
            }
        }
        moved.map(Some)
    }

    /// True where a warm segment has a body that may go. Reads its leaves and the heads of their bodies.
    async fn has_droppable(&self, target: &Target, rule: &Rule, pace: &Pace<'_>) -> io::Result<bool> {
        let (Some(places), Some(file)) = (&target.places, self.open_closed(&target.segment).await?) else {
            return Ok(false);
        };
        for place in places.frames_over(target.seal.meta.first_index..target.seal.next_index()) {
            let leaves = place.leaves(&*file).await?;
            pace.spend(place.bytes() / 4).await;
            let mut all = (place.first_index()..leaves.next_index()).filter_map(|index| leaves.get(index));
            if all.any(|(leaf, head, rest_bytes)| may_drop(rule, leaf, head, rest_bytes > 0).is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes a segment's file anew as a warm one, from its own records and, where those do not read, from others'. Whatever may
    /// go is left out.
    ///
    /// # Errors
    /// Why it could not be done; the old file is in force, and whole where it was.
    pub(super) async fn rewrite(&self, target: &Target, how: Rewrite<'_>) -> Result<Moved, String> {
        // A mender and the mover write the same name aside.
        let _alone = self.rewriting.lock().await;
        let written = match self.write_aside(target, how).await {
            Ok(written) => written,
            Err(why) => {
                // Best effort: the next try, or the next start, clears it away.
                let _ = self.disk.remove(&format!("{}.tmp", self.warm_path(target))).await;
                return Err(why);
            }
        };
        if target.seal.warm.is_none() && how.others.is_some() && !has_dropped(&written.0) {
            return Err("no replica has what was sealed".to_owned());
        }
        self.switch(target, written.0, how.pace).await.map_err(|error| error.to_string())?;
        metrics::counter!(MOVES_TOTAL).increment(1);
        metrics::counter!(DROPPED_TOTAL).increment(written.1.dropped);
        sometimes!(true, "an audit segment was moved to the warm tier");
        sometimes!(target.seal.warm.is_some(), "a warm audit segment was made anew");
        sometimes!(written.1.dropped > 0, "a dropped body left its segment");
        Ok(written.1)
    }

    /// The new file, durable beside the old one, read again and held against the seal.
    async fn write_aside(&self, target: &Target, how: Rewrite<'_>) -> Result<(Closed, Moved), String> {
        let told = |error: io::Error| error.to_string();
        let pace = how.pace;
        let path = format!("{}.tmp", self.warm_path(target));
        let file = self.disk.open(&path, true).await.map_err(told)?;
        file.set_len(0).await.map_err(told)?;
        let (mut writer, header) = WarmWriter::create(&target.seal);
        file.write_at(0, Bytes::from(header)).await.map_err(told)?;
        let mut moved = Moved::default();
        for tile in 0..target.seal.tile_hashes.len() {
            let (records, fetched) = self.tile_to_move(target, how.rule, how.others, tile).await?;
            moved.fetched += fetched;
            let (at, mut bytes) = (writer.bytes_given(), Vec::new());
            for (index, (leaf, stored)) in &records {
                let gone = how.goes((index - target.seal.meta.first_index) as u32, leaf, stored);
                let is_away = gone.as_deref().is_some_and(|gone| away_of(gone).is_some());
                moved.away += u64::from(is_away);
                moved.dropped += u64::from(gone.is_some() && !is_away);
                bytes.extend(writer.push(leaf, gone.as_deref().unwrap_or(stored)).unwrap_or_default());
            }
            pace.spend(records.values().map(|(leaf, stored)| leaf.len() + stored.len()).sum()).await;
            file.write_at(at, Bytes::from(bytes)).await.map_err(told)?;
        }
        let at = writer.bytes_given();
        let (ending, footer) = writer.close();
        let file_bytes = at + ending.len() as u64;
        file.write_at(at, Bytes::from(ending)).await.map_err(told)?;
        world::pass(pace.clock, "warm.written").await;
        if !probe::planted("source-goes-before-its-copy-is-durable") {
            file.sync().await.map_err(told)?;
            self.verify_aside(target, &*file, &footer, pace).await?;
        }
        world::pass(pace.clock, "warm.verified").await;
        let search = Searchable::read(&*self.disk, &path, footer.index).await.map_err(told)?;
        let header = WarmHeader::new(target.seal.meta, target.seal.content_digest);
        let warm = Some(WarmSeal::of(&footer));
        let places = Some(Arc::new(Places::warm(&header, footer, file_bytes, search)));
        let Closed { meta, next, digest, turn, .. } = *target.segment;
        let bodies = target.segment.bodies.clone();
        Ok((Closed { meta, next, digest, bodies, warm, turn: turn + 1, places }, moved))
    }

    /// Reads the new file from the disk and holds it against what was sealed: roots of leaves and of bodies, to the byte.
    async fn verify_aside(
        &self,
        target: &Target,
        file: &dyn File,
        footer: &WarmFooter,
        pace: &Pace<'_>,
    ) -> Result<(), String> {
        let told = |error: io::Error| error.to_string();
        file.settle().await.map_err(told)?;
        let header = file.read_at(0, WARM_HEADER_BYTES).await.map_err(told)?;
        let mut check = WarmCheck::begin(&target.seal, footer, &header);
        let index = footer.frame_index(target.seal.meta.first_index);
        for (span, next) in index.spans() {
            let frame = file.read_at(span.offset, span.length as usize).await.map_err(told)?;
            check.frame(&span, next, &frame, |_, _, _| {});
            pace.spend(frame.len()).await;
        }
        let rest = file.len().await.map_err(told)?.saturating_sub(index.frames_end());
        let behind = file.read_at(index.frames_end(), rest as usize).await.map_err(told)?;
        let wrong = |fault: Fault| format!("the new file is not what was sealed: {}", fault.flaw);
        check.finish(&behind).map(drop).map_err(wrong)
    }

    /// Puts the new file in the old one's place.
    async fn switch(&self, target: &Target, closed: Closed, pace: &Pace<'_>) -> io::Result<()> {
        let (clock, first) = (pace.clock, closed.first());
        let path = self.warm_path(target);
        {
            // Nobody finds a file here between the two, so nobody reads one by what is known of the other.
            let _alone = self.files.write().await;
            if !self.is_current(target) || self.retired.load(Ordering::SeqCst) {
                return Err(io::Error::other("the segment was made anew meanwhile"));
            }
            self.disk.rename(&format!("{path}.tmp"), &path).await?;
            let mut inner = self.inner.lock();
            if let Some(segment) = inner.closed.iter_mut().find(|segment| segment.first() == first) {
                *segment = Arc::new(closed);
            }
            self.moves.lock().unfinished.insert(first);
        }
        world::pass(clock, "warm.renamed").await;
        self.finish_move(first, clock).await?;
        world::pass(clock, "warm.finished").await;
        Ok(())
    }

    /// Makes a switch durable, tells the manifest, and removes the file that was moved. Done again where it fails.
    async fn finish_move(&self, first: u64, clock: &dyn Clock) -> io::Result<()> {
        if self.retired.load(Ordering::SeqCst) {
            return Err(io::Error::other("another store has taken this one's place"));
        }
        let dir = dir_of(self.log);
        self.disk.sync_dir(&dir).await?;
        let warm = {
            let inner = self.inner.lock();
            let segment = inner.closed_with(first).filter(|segment| segment.first() == first);
            segment.and_then(|segment| segment.warm.map(|warm| (warm, segment.meta.file_name())))
        };
        let Some((warm, hot)) = warm else { return Ok(()) };
        self.append_to_manifest(warm.encode(first)).await?;
        world::pass(clock, "warm.noted").await;
        // Who has found the old file has opened it by now.
        drop(self.files.write().await);
        if self.disk.list(&dir).await?.contains(&hot) {
            self.disk.remove(&format!("{dir}/{hot}")).await?;
            self.disk.sync_dir(&dir).await?;
        }
        self.moves.lock().unfinished.remove(&first);
        Ok(())
    }

    /// Reads a hot segment's bodies where nothing but its footer was left of what it was sealed as.
    async fn learn_bodies(&self, target: &Target) -> io::Result<()> {
        let Some(file) = self.open_closed(&target.segment).await? else { return Ok(()) };
        let bytes = file.read_at(0, file.len().await? as usize).await?;
        let footer = SegmentFooter::decode_end(&bytes).ok();
        let is_sealed = footer.is_some_and(|footer| footer.content_digest == target.seal.content_digest);
        let scan = SegmentScan::new(&bytes).ok().filter(|_| is_sealed).map(|mut scan| {
            scan.finish();
            scan
        });
        let Some(scan) = scan.filter(|scan| scan.body_roots().len() == target.seal.tile_hashes.len()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its bodies are not known before it is mended"));
        };
        let seal = SegmentSeal { body_hashes: scan.body_roots().to_vec(), ..target.seal.clone() };
        self.append_to_manifest(seal.encode()).await?;
        let mut inner = self.inner.lock();
        if let Some(segment) = inner.closed.iter_mut().find(|segment| Arc::ptr_eq(segment, &target.segment)) {
            let Closed { meta, next, digest, warm, turn, .. } = **segment;
            let (bodies, places) = (seal.body_hashes.into(), segment.places.clone());
            *segment = Arc::new(Closed { meta, next, digest, bodies, warm, turn, places });
        }
        Ok(())
    }

    fn warm_path(&self, target: &Target) -> String {
        format!("{}/{}", dir_of(self.log), target.seal.meta.warm_file_name())
    }

    /// How the tiers are now.
    pub fn tiers(&self) -> Tiers {
        let (inner, moves) = (self.inner.lock(), self.moves.lock());
        let mut tiers = Tiers {
            under_way: u64::from(moves.under_way.is_some()),
            failed: moves.failed.iter().map(|(first, why)| (*first, why.clone())).collect(),
            ..Tiers::default()
        };
        for segment in &inner.closed {
            let sums = match segment.warm {
                None => &mut tiers.hot,
                Some(warm) if warm.away == 0 => &mut tiers.warm,
                Some(_) => &mut tiers.cold,
            };
            sums.segments += 1;
            sums.leaves += segment.next - segment.first();
            let Some(places) = &segment.places else { continue };
            sums.file_bytes += places.file_bytes;
            let Some(warm) = &places.warm else {
                sums.raw_bytes += places.hot_raw_bytes(segment.next - segment.first());
                continue;
            };
            let found = &warm.footer.sums;
            sums.raw_bytes += found.leaf_bytes + found.body_bytes;
            sums.leaf_bytes += found.leaf_bytes;
            sums.packed_bytes += found.packed_bytes;
            sums.erased += u64::from(found.erased);
            sums.expired += u64::from(found.expired);
            sums.away += u64::from(found.away);
            sums.freed_bytes += found.freed_bytes;
        }
        tiers
    }
}

impl Rewrite<'_> {
    /// What is stored in place of a body that goes; none where it stays.
    fn goes(&self, place: u32, leaf: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
        let (head, rest) = split(stored);
        match may_drop(self.rule, leaf, head, !rest.is_empty()) {
            Some(reason) => drop_body(stored, reason),
            None => self.away.filter(|away| away.contains(place)).and_then(|_| drop_body(stored, Reason::Away)),
        }
    }
}

/// True for a warm segment with bodies that are not there any more.
fn has_dropped(closed: &Closed) -> bool {
    closed.warm.is_some_and(|warm| warm.erased + warm.expired + warm.away > 0)
}

/// Why a body may go, by its leaf and its head; none where it may not, or there is none.
fn may_drop(rule: &Rule, leaf: &[u8], head: &[u8], has_rest: bool) -> Option<Reason> {
    if !has_rest {
        return None;
    }
    rule.may_drop(&LeafV1::decode(leaf).ok()?, sealed_for(head))
}

#[cfg(test)]
#[path = "warm/tests.rs"]
mod tests;
