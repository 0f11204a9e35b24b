//! Finds one record of a segment with one read: the frames' places, from a footer or from an open writer.

use super::footer::FrameStart;
use super::{Record, SegmentFooter, read_record};

/// Where each frame of a segment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentIndex {
    frames: Vec<FrameStart>,
    frames_end: u64,
    next_index: u64,
}

/// The bytes of a file to read for one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSpan {
    /// From the start of the file.
    pub offset: u64,
    /// Bytes of the frame, its end mark included.
    pub length: u64,
    /// Index of the frame's first leaf.
    pub first_index: u64,
}

impl SegmentIndex {
    /// Of a closed segment. `first_index` is the header's.
    pub fn from_footer(footer: &SegmentFooter, first_index: u64) -> Self {
        let next_index = first_index.saturating_add(footer.leaf_hashes.len() as u64);
        Self { frames: footer.frames.clone(), frames_end: footer.index.offset, next_index }
    }

    pub(super) fn of(frames: Vec<FrameStart>, frames_end: u64, next_index: u64) -> Self {
        Self { frames, frames_end, next_index }
    }

    /// All frames in order, each with the index of the leaf behind it.
    pub fn spans(&self) -> impl Iterator<Item = (FrameSpan, u64)> + use<'_> {
        self.frames.iter().filter_map(|frame| {
            let span = self.frame_of(frame.first_index)?;
            let after = self.frames.partition_point(|other| other.first_index <= frame.first_index);
            Some((span, self.frames.get(after).map_or(self.next_index, |next| next.first_index)))
        })
    }

    /// Where the last frame ends, and a closed segment's search index begins.
    pub fn frames_end(&self) -> u64 {
        self.frames_end
    }

    /// Index after the last leaf.
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// The frame that holds a leaf.
    pub fn frame_of(&self, leaf_index: u64) -> Option<FrameSpan> {
        frame_among(&self.frames, self.frames_end, self.next_index, leaf_index)
    }

    /// The frame that holds a leaf, counted from 0.
    pub fn frame_number_of(&self, leaf_index: u64) -> Option<usize> {
        self.frames.partition_point(|frame| frame.first_index <= leaf_index).checked_sub(1)
    }

    /// Where frames start, in order.
    pub fn frames(&self) -> &[FrameStart] {
        &self.frames
    }
}

/// The frame that holds a leaf, among frames that end at `frames_end` and with the leaf before `next_index`.
pub(super) fn frame_among(
    frames: &[FrameStart],
    frames_end: u64,
    next_index: u64,
    leaf_index: u64,
) -> Option<FrameSpan> {
    if leaf_index >= next_index {
        return None;
    }
    let after = frames.partition_point(|frame| frame.first_index <= leaf_index);
    let frame = frames.get(after.checked_sub(1)?)?;
    let end = frames.get(after).map_or(frames_end, |next| next.offset);
    let length = end.checked_sub(frame.offset)?;
    Some(FrameSpan { offset: frame.offset, length, first_index: frame.first_index })
}

impl FrameSpan {
    /// The record of a leaf in the frame's bytes. `None` where it is not (yet) among them or its checksum is wrong.
    pub fn record<'a>(&self, frame: &'a [u8], leaf_index: u64) -> Option<Record<'a>> {
        self.records(frame, leaf_index).next()
    }

    /// The records of a frame from a leaf on, up to its end or the first one whose checksum is wrong.
    pub fn records<'a>(&self, frame: &'a [u8], leaf_index: u64) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let (mut rest, mut next) = (frame, self.first_index);
        let all = std::iter::from_fn(move || {
            let (leaf, body, length) = read_record(rest).ok()?;
            let record = Record { leaf_index: next, leaf, body };
            (rest, next) = (&rest[length..], next + 1);
            Some(record)
        });
        // A leaf in front of the frame is not in it.
        let wanted = self.first_index <= leaf_index;
        all.filter(move |record| wanted && record.leaf_index >= leaf_index)
    }
}
