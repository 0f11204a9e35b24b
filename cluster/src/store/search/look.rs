//! Reads the candidates of a search off one segment, frame by frame, and judges each on its decoded leaf.

use std::io;

use futures::future::join_all;

use nethical_audit::filter::Filter;
use nethical_audit::leaf::LeafV1;
use nethical_audit::segment::search::Zone;
use nethical_audit::segment::{FrameSpan, SegmentIndex};

use super::{Hit, Judged, Walk};
use crate::store::frames::{Frame, FramePlace};
use crate::store::{Places, damaged};
use crate::world::File;

/// Frames read at the same time (64 KiB each, warm ones about half of that).
const FRAMES_AT_ONCE: usize = 16;

/// An opened segment, and where things stand in it.
pub(super) struct Files<'a> {
    pub(super) name: &'a str,
    pub(super) file: &'a dyn File,
    pub(super) index: &'a SegmentIndex,
    /// Of a closed one.
    pub(super) at: Option<&'a Places>,
}

impl Files<'_> {
    fn place(&self, span: FrameSpan) -> Option<FramePlace> {
        self.at.map_or_else(|| Some(FramePlace::hot(span)), |at| at.place(span))
    }
}

/// Reads candidates, frame by frame in the order asked, and keeps those that match. Frames whose zone says that none does are
/// passed over.
pub(super) async fn look(walk: &mut Walk<'_>, files: &Files<'_>, places: &[u64], zones: &[Zone]) -> io::Result<()> {
    let filter = &walk.search.filter;
    let mut frames = Frames { index: files.index, zones, filter, ascending: walk.is_ascending(), rest: places };
    while !walk.is_over() {
        // Every frame has a candidate, so hardly more are read than are needed; a cold disk reads many as fast as one.
        let at_once = FRAMES_AT_ONCE.min(walk.search.limit - walk.found.hits.len());
        let unplaced = || damaged(files.name, places.first().copied().unwrap_or_default());
        let batch = frames.take(at_once).ok_or_else(unplaced)?;
        if batch.is_empty() {
            break;
        }
        let mut reads = Vec::with_capacity(batch.len());
        for (span, wanted) in &batch {
            let (Some(place), Some(first), Some(last)) = (files.place(*span), wanted.first(), wanted.last()) else {
                return Err(unplaced());
            };
            let leaves = *first..last + 1;
            reads.push(async move { place.read(files.file, leaves).await });
        }
        for (read, (span, wanted)) in join_all(reads).await.into_iter().zip(batch) {
            if walk.is_over() {
                break;
            }
            let judged = judge(&walk.search.filter, &read?, wanted);
            let judged = judged.ok_or_else(|| damaged(files.name, span.first_index))?;
            walk.frames += 1;
            walk.take(judged);
        }
    }
    Ok(())
}

/// The frames that hold candidates, in the order asked; those whose zone says that none matches are passed over.
struct Frames<'a> {
    index: &'a SegmentIndex,
    zones: &'a [Zone],
    filter: &'a Filter,
    ascending: bool,
    rest: &'a [u64],
}

impl<'a> Frames<'a> {
    /// The next frames, at most so many, with their candidates. `None` where a candidate is in no frame.
    fn take(&mut self, count: usize) -> Option<Vec<(FrameSpan, &'a [u64])>> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let Some(pivot) = (if self.ascending { self.rest.first() } else { self.rest.last() }) else { break };
            let number = self.index.frame_number_of(*pivot)?;
            let start = |number: usize| self.index.frames().get(number).map_or(u64::MAX, |frame| frame.first_index);
            let from = self.rest.partition_point(|place| *place < start(number));
            let to = self.rest.partition_point(|place| *place < start(number + 1));
            let (span, wanted) = (self.index.frame_of(*pivot)?, &self.rest[from..to]);
            self.rest = if self.ascending { &self.rest[to..] } else { &self.rest[..from] };
            if self.zones.get(number).is_none_or(|zone| zone.admits(self.filter)) {
                taken.push((span, wanted));
            }
        }
        Some(taken)
    }
}

/// Judges leaves of one frame. `None` where one of them does not read.
fn judge(filter: &Filter, frame: &Frame, wanted: &[u64]) -> Option<Vec<Judged>> {
    let mut judged = Vec::with_capacity(wanted.len());
    for (leaf_index, bytes, body) in frame.picked(wanted) {
        let leaf = LeafV1::decode(bytes).ok()?;
        let at_ns = leaf.now_ns;
        let hit =
            filter.matches(&leaf).then(|| Hit { leaf_index, at_ns, leaf: bytes.to_vec(), body: body.into_owned() });
        judged.push((leaf_index, at_ns, hit));
    }
    (judged.len() == wanted.len()).then_some(judged)
}
