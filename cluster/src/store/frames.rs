//! Where frames stand in the files of segments, and reading them: of hot ones whole, of warm ones the leaves and those bodies
//! that are asked for. What does not read is not among the records that are given; whose fault that is, the caller knows.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use bytes::Bytes;

use nethical_audit::segment::warm::{WarmFrame, WarmHeader, WarmLeaves, WarmSpan};
use nethical_audit::segment::{
    FrameSpan, HEADER_BYTES, MARK_BYTES, RECORD_HEAD_BYTES, SegmentFooter, SegmentIndex, WarmFooter,
};
use nethical_audit::tree::Hash;

use super::search::Searchable;
use super::{Places, Warm};
use crate::world::File;

/// A warm frame of at most so many bytes is read in one go. Of a greater one, whose bodies are long, the leaves are read first and
/// then the bodies that are wanted.
pub(super) const WHOLE_BYTES_MAX: u64 = 64 * 1024;

/// Where one frame stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct FramePlace {
    span: FrameSpan,
    /// Of a warm segment, with its dictionary.
    warm: Option<(WarmSpan, Hash)>,
}

/// Index, leaf, stored body.
pub(super) type Stored<'a> = (u64, &'a [u8], Cow<'a, [u8]>);

/// A frame, or as much of it as was asked for.
pub(super) enum Frame {
    Hot(FrameSpan, Bytes),
    Warm(WarmFrame<Bytes>),
}

impl Places {
    /// Of a closed segment as it was written; the length of its file is not known yet.
    pub(super) fn hot(footer: &SegmentFooter, first_index: u64, search: Searchable) -> Self {
        let footer_at = footer.index.offset + u64::from(footer.index.length);
        let index = SegmentIndex::from_footer(footer, first_index);
        Self { index, footer_at, file_bytes: footer_at, search, warm: None }
    }

    /// Of a warm segment.
    pub(super) fn warm(header: &WarmHeader, footer: WarmFooter, file_bytes: u64, search: Searchable) -> Self {
        let index = footer.frame_index(header.meta.first_index);
        let footer_at = footer.index.offset + u64::from(footer.index.length);
        let footer = WarmFooter { tile_hashes: Vec::new(), body_hashes: Vec::new(), ..footer };
        let warm = Some(Warm { footer, dictionary: header.dictionary });
        Self { index, footer_at, file_bytes, search, warm }
    }

    /// Bytes of leaves and bodies in a hot segment of so many leaves.
    pub(super) fn hot_raw_bytes(&self, leaves: u64) -> u64 {
        let marks = (MARK_BYTES * self.index.frames().len()) as u64;
        let around = HEADER_BYTES as u64 + marks + leaves * RECORD_HEAD_BYTES as u64;
        self.index.frames_end().saturating_sub(around)
    }

    /// The frame that holds a leaf.
    pub(super) fn frame_of(&self, leaf_index: u64) -> Option<FramePlace> {
        self.place(self.index.frame_of(leaf_index)?)
    }

    /// The frame of a span of this segment's index.
    pub(super) fn place(&self, span: FrameSpan) -> Option<FramePlace> {
        let Some(warm) = &self.warm else { return Some(FramePlace::hot(span)) };
        let frames = &warm.footer.frames;
        let at = frames.binary_search_by_key(&span.first_index, |frame| frame.first_index).ok()?;
        Some(FramePlace { span, warm: Some((frames[at], warm.dictionary)) })
    }

    /// The frames that hold some leaves, in order.
    pub(super) fn frames_over(&self, leaves: Range<u64>) -> impl Iterator<Item = FramePlace> + use<'_> {
        let spans =
            self.index.spans().filter(move |(span, next)| span.first_index < leaves.end && *next > leaves.start);
        spans.filter_map(|(span, _)| self.place(span))
    }
}

impl FramePlace {
    /// Of a segment that is hot, closed or not.
    pub(super) fn hot(span: FrameSpan) -> Self {
        Self { span, warm: None }
    }

    /// Index of the frame's first leaf.
    pub(super) fn first_index(&self) -> u64 {
        self.span.first_index
    }

    /// Reads the frame, with the bodies of these leaves at least.
    pub(super) async fn read(&self, file: &dyn File, leaves: Range<u64>) -> io::Result<Frame> {
        let Some((packed, _)) = self.warm else {
            let bytes = file.read_at(self.span.offset, self.span.length as usize).await?;
            return Ok(Frame::Hot(self.span, bytes));
        };
        if self.span.length <= WHOLE_BYTES_MAX {
            let bytes = file.read_at(self.span.offset, self.span.length as usize).await?;
            let rests = bytes.slice((packed.packed_bytes as usize).min(bytes.len())..);
            return Ok(Frame::Warm(WarmFrame { leaves: self.unpack(&bytes)?, from: 0, rests }));
        }
        let at = packed.offset + u64::from(packed.packed_bytes);
        let leaves_read = self.leaves(file).await?;
        let Range { start, end } = leaves_read.rests(leaves);
        let rests = match end > start {
            true => file.read_at(at.saturating_add(start), (end - start) as usize).await?,
            false => Bytes::new(),
        };
        Ok(Frame::Warm(WarmFrame { leaves: leaves_read, from: start, rests }))
    }

    /// Reads the leaves of a warm frame and the heads of their bodies, and nothing else of it.
    pub(super) async fn leaves(&self, file: &dyn File) -> io::Result<WarmLeaves> {
        let packed_bytes = self.warm.map_or(0, |(span, _)| span.packed_bytes);
        self.unpack(&file.read_at(self.span.offset, packed_bytes as usize).await?)
    }

    /// Unpacks the leaves from the first bytes of a warm frame.
    fn unpack(&self, frame: &[u8]) -> io::Result<WarmLeaves> {
        let (span, dictionary) = self.warm.ok_or_else(|| io::Error::other("the segment is not warm"))?;
        let packed = frame.get(..span.packed_bytes as usize).unwrap_or(frame);
        let read = WarmLeaves::unpack(packed, &span, &dictionary);
        read.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Bytes of the file that the whole frame takes.
    pub(super) fn bytes(&self) -> usize {
        self.span.length as usize
    }
}

impl Frame {
    /// The records of some leaves of this frame, ascending, up to the first one that does not read or was not read.
    pub(super) fn picked<'a>(&'a self, leaves: &'a [u64]) -> Box<dyn Iterator<Item = Stored<'a>> + Send + 'a> {
        match self {
            Self::Hot(..) => {
                let last = leaves.last().copied().unwrap_or_default();
                let records = self.records(leaves.first().copied().unwrap_or_default());
                let near = records.take_while(move |(index, ..)| *index <= last);
                Box::new(near.filter(|(index, ..)| leaves.binary_search(index).is_ok()))
            }
            // Each is found without those beside it, whose bodies need not be looked at.
            Self::Warm(frame) => Box::new(leaves.iter().map_while(|index| stored_in(frame, *index))),
        }
    }

    /// Records from a leaf on, up to the frame's end, the end of what was read, or the first one that does not read: index,
    /// leaf, stored body.
    pub(super) fn records(&self, from: u64) -> Box<dyn Iterator<Item = Stored<'_>> + Send + '_> {
        match self {
            Self::Hot(span, bytes) => {
                let records = span.records(bytes, from);
                Box::new(records.map(|record| (record.leaf_index, record.leaf, Cow::Borrowed(record.body))))
            }
            Self::Warm(frame) => Box::new((from..frame.leaves.next_index()).map_while(|index| stored_in(frame, index))),
        }
    }
}

fn stored_in(frame: &WarmFrame<Bytes>, index: u64) -> Option<Stored<'_>> {
    let (leaf, body) = frame.record(index)?;
    Some((index, leaf, Cow::Owned(body)))
}
