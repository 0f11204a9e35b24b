//! What writer and scanner have in common: everything that the bytes so far say about the bytes to come.
//!
//! Both feed it the same bytes in the same order, so a scanner expects exactly what a writer writes.

use sha2::{Digest, Sha256};

use super::bodies::BodyRoots;
use super::footer::{FrameStart, IndexPlace, SegmentFooter};
use super::search::{self, Rows};
use super::{HEADER_BYTES, MARK_BYTES, SegmentMeta};
use crate::body::DICTIONARY;
use crate::tree::{Hash, TILE_LEAVES, root_of};

/// First bytes of a frame's end mark; as a leaf length it would be out of bounds, so no record starts with it.
const MARK_MAGIC: [u8; 4] = *b"FREN";

/// A segment as far as it goes. Holds 32 B a leaf, so at most 2 MiB for an open segment, and its rows ([`Rows`]).
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) meta: SegmentMeta,
    /// Bytes taken in, header included.
    pub(super) bytes: u64,
    pub(super) leaf_hashes: Vec<Hash>,
    pub(super) frames: Vec<FrameStart>,
    pub(super) rows: Rows,
    pub(super) bodies: BodyRoots,
    content: Sha256,
    raw_bytes: u64,
    frame: OpenFrame,
}

/// The frame that has no end mark yet.
#[derive(Debug, Clone, Copy, Default)]
struct OpenFrame {
    count: u32,
    raw_bytes: u32,
    checksum: u32,
}

impl State {
    pub(super) fn new(meta: SegmentMeta) -> Self {
        Self {
            meta,
            bytes: HEADER_BYTES as u64,
            leaf_hashes: Vec::new(),
            frames: Vec::new(),
            rows: Rows::default(),
            bodies: BodyRoots::default(),
            content: Sha256::new_with_prefix(meta.encode()),
            raw_bytes: 0,
            frame: OpenFrame::default(),
        }
    }

    /// Index of the leaf to come.
    pub(super) fn next_index(&self) -> u64 {
        self.meta.first_index + self.leaf_hashes.len() as u64
    }

    /// Takes a record in.
    pub(super) fn take_record(&mut self, record: &[u8], leaf: &[u8], body: &[u8], leaf_hash: Hash) {
        if self.frame.count == 0 {
            self.frames.push(FrameStart { offset: self.bytes, first_index: self.next_index() });
        }
        self.frame.count += 1;
        self.frame.raw_bytes += record.len() as u32;
        self.frame.checksum = crc32c::crc32c_append(self.frame.checksum, record);
        self.raw_bytes += record.len() as u64;
        self.leaf_hashes.push(leaf_hash);
        self.rows.push(leaf);
        self.bodies.push(body);
        self.take_bytes(record);
    }

    /// True where the last record ends the segment.
    pub(super) fn is_full(&self) -> bool {
        let (next, rules) = (self.next_index(), &self.meta.rules);
        let at_leaves = next.is_multiple_of(u64::from(rules.segment_leaves));
        let at_bytes = next.is_multiple_of(TILE_LEAVES) && self.raw_bytes >= rules.segment_raw_bytes;
        !self.leaf_hashes.is_empty() && (at_leaves || at_bytes)
    }

    /// The end mark that has to come next, if one has to.
    pub(super) fn mark_due(&self) -> Option<[u8; MARK_BYTES]> {
        let frame = &self.frame;
        let due = frame.count > 0 && (frame.raw_bytes >= self.meta.rules.frame_raw_bytes || self.is_full());
        due.then(|| self.mark())
    }

    /// Takes an end mark in.
    pub(super) fn take_mark(&mut self, mark: &[u8; MARK_BYTES]) {
        self.frame = OpenFrame::default();
        self.take_bytes(mark);
    }

    /// What comes behind the last end mark of a full segment: its search index, and its footer.
    pub(super) fn ending(&self) -> (Vec<u8>, SegmentFooter) {
        let index = search::encode(&self.rows, self.meta.first_index, &self.frames);
        let footer = SegmentFooter {
            content_digest: self.content.clone().chain_update(&index).finalize().into(),
            index: IndexPlace { offset: self.bytes, length: index.len() as u32, dictionary: DICTIONARY },
            frames: self.frames.clone(),
            leaf_hashes: self.leaf_hashes.clone(),
            tile_hashes: self.leaf_hashes.chunks_exact(TILE_LEAVES as usize).map(root_of).collect(),
        };
        (index, footer)
    }

    fn mark(&self) -> [u8; MARK_BYTES] {
        let first_index = self.frames.last().map_or(self.meta.first_index, |frame| frame.first_index);
        let mut out = Vec::with_capacity(MARK_BYTES);
        out.extend_from_slice(&MARK_MAGIC);
        out.extend_from_slice(&self.frame.count.to_le_bytes());
        out.extend_from_slice(&first_index.to_le_bytes());
        out.extend_from_slice(&self.frame.raw_bytes.to_le_bytes());
        let checksum = crc32c::crc32c_append(self.frame.checksum, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.try_into().expect("the fields above take 24 bytes")
    }

    fn take_bytes(&mut self, bytes: &[u8]) {
        self.content.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}
