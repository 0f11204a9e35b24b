//! Writes a segment: records in, bytes to append out. The caller appends them in order, syncs, and owns the file.

use super::index::frame_among;
use super::search::Rows;
use super::state::State;
use super::{FrameSpan, HEADER_BYTES, SegmentFooter, SegmentIndex, SegmentMeta, put_record};
use crate::tree::{self, Hash, TILE_LEAVES};

/// An open segment. Every returned vector goes to the end of the file, in the order returned; the place is
/// [`SegmentWriter::bytes_given`] before the call.
#[derive(Debug, Clone)]
pub struct SegmentWriter {
    state: State,
    /// Bytes taken in and not given out yet; at most one frame.
    pending: Vec<u8>,
}

impl SegmentWriter {
    /// A new segment and its header, which goes to the start of the file.
    pub fn create(meta: SegmentMeta) -> (Self, [u8; HEADER_BYTES]) {
        assert!(meta.rules.are_sound(), "rules come from SegmentRules::RELEASED or from a simulation's own constant");
        assert!(meta.first_index.is_multiple_of(TILE_LEAVES), "segments end at multiples of 256 leaves");
        (Self { state: State::new(meta), pending: Vec::new() }, meta.encode())
    }

    /// Goes on where a scan ended.
    pub(super) fn resume(state: State) -> Self {
        let mut writer = Self { state, pending: Vec::new() };
        writer.end_frame_where_due();
        writer
    }

    /// Adds a leaf with its stored body; gives bytes where a frame is complete. After that ask
    /// [`SegmentWriter::is_full`]; a full segment takes no more and is to be closed.
    pub fn push(&mut self, leaf: &[u8], body: &[u8]) -> Option<Vec<u8>> {
        assert!(!self.is_full(), "a full segment is closed before the next leaf");
        let start = self.pending.len();
        put_record(&mut self.pending, leaf, body);
        self.state.take_record(&self.pending[start..], leaf, body, tree::leaf_hash(leaf));
        if self.end_frame_where_due() { Some(std::mem::take(&mut self.pending)) } else { None }
    }

    /// Gives the bytes of an unfinished frame, so that they can be made durable. Changes nothing about the bytes to
    /// come. `None` where everything was given already.
    pub fn flush_frame(&mut self) -> Option<Vec<u8>> {
        if self.pending.is_empty() { None } else { Some(std::mem::take(&mut self.pending)) }
    }

    /// True where the segment has reached its end: call [`SegmentWriter::close`].
    pub fn is_full(&self) -> bool {
        self.state.is_full()
    }

    /// The last bytes of a full segment (what was pending, then search index and footer), and the footer's contents. The next
    /// segment starts at [`SegmentWriter::next_index`].
    pub fn close(mut self) -> (Vec<u8>, SegmentFooter) {
        assert!(self.is_full(), "where a segment ends is not the caller's choice");
        let (index, footer) = self.state.ending();
        self.pending.extend_from_slice(&index);
        self.pending.extend_from_slice(&footer.encode());
        (self.pending, footer)
    }

    /// What the segment is part of.
    pub fn meta(&self) -> &SegmentMeta {
        &self.state.meta
    }

    /// Index of the next leaf.
    pub fn next_index(&self) -> u64 {
        self.state.next_index()
    }

    /// Bytes given out so far, header included: where the next ones go.
    pub fn bytes_given(&self) -> u64 {
        self.state.bytes - self.pending.len() as u64
    }

    /// Bytes that only this writer holds.
    pub fn bytes_pending(&self) -> usize {
        self.pending.len()
    }

    /// Hashes of the leaves in this segment, in order.
    pub fn leaf_hashes(&self) -> &[Hash] {
        &self.state.leaf_hashes
    }

    /// Body roots of the complete tiles in this segment, in order.
    pub fn body_roots(&self) -> &[Hash] {
        self.state.bodies.roots()
    }

    /// What leaves of this segment are found by.
    pub fn rows(&self) -> &Rows {
        &self.state.rows
    }

    /// The leaf hashes of a complete tile (counted from the log's start), where this segment holds it.
    pub fn tile(&self, tile: u64) -> Option<Vec<Hash>> {
        let inside = tile.checked_sub(self.meta().first_index / TILE_LEAVES)? as usize;
        self.leaf_hashes().chunks_exact(TILE_LEAVES as usize).nth(inside).map(<[Hash]>::to_vec)
    }

    /// Where the records given out so far stand.
    pub fn index(&self) -> SegmentIndex {
        let given = self.bytes_given();
        let out = self.state.frames.partition_point(|frame| frame.offset < given);
        SegmentIndex::of(self.state.frames[..out].to_vec(), given, self.next_index())
    }

    /// The frame that holds a leaf already given out.
    pub fn frame_of(&self, leaf_index: u64) -> Option<FrameSpan> {
        let given = self.bytes_given();
        let frames = &self.state.frames;
        let out = frames.partition_point(|frame| frame.offset < given);
        frame_among(&frames[..out], given, self.next_index(), leaf_index)
    }

    fn end_frame_where_due(&mut self) -> bool {
        let Some(mark) = self.state.mark_due() else { return false };
        self.pending.extend_from_slice(&mark);
        self.state.take_mark(&mark);
        true
    }
}
