//! Writes a warm segment: the records of a closed one in, bytes to append out.

use sha2::{Digest, Sha256};

use super::footer::{WarmFooter, WarmSpan, WarmSums, index_place};
use super::frame::FrameBuilder;
use super::{WARM_HEADER_BYTES, WarmHeader};
use crate::body::dropped;
use crate::segment::SegmentSeal;
use crate::segment::footer::FrameStart;
use crate::segment::search::{self, Rows};
use crate::tree::{Hash, TILE_LEAVES, leaf_hash, root_of};

/// A warm segment on its way. Memory is one frame, one tile's hashes and the segment's rows ([`Rows`]).
pub struct WarmWriter {
    header: WarmHeader,
    /// Bytes given out.
    bytes: u64,
    content: Sha256,
    frame: FrameBuilder,
    frame_first: u64,
    frames: Vec<WarmSpan>,
    rows: Rows,
    sums: WarmSums,
    tile: Vec<Hash>,
    tile_hashes: Vec<Hash>,
    /// As they were sealed: a body that goes leaves its tile's root as it was.
    body_hashes: Vec<Hash>,
}

impl WarmWriter {
    /// A new warm segment of a sealed one, and its header, which goes to the start of the file.
    pub fn create(seal: &SegmentSeal) -> (Self, Vec<u8>) {
        let header = WarmHeader::new(seal.meta, seal.content_digest);
        let bytes = header.encode();
        let writer = Self {
            header,
            bytes: WARM_HEADER_BYTES as u64,
            content: Sha256::new_with_prefix(&bytes),
            frame: FrameBuilder::default(),
            frame_first: seal.meta.first_index,
            frames: Vec::new(),
            rows: Rows::default(),
            sums: WarmSums::default(),
            tile: Vec::new(),
            tile_hashes: Vec::new(),
            body_hashes: seal.body_hashes.clone(),
        };
        (writer, bytes)
    }

    /// Adds a leaf with its stored body, or what stays of it; gives bytes where a frame is complete. The caller has checked
    /// the bounds of both.
    pub fn push(&mut self, leaf: &[u8], stored: &[u8]) -> Option<Vec<u8>> {
        self.frame.push(leaf, stored);
        self.rows.push(leaf);
        self.sums.add(leaf, stored, dropped(stored).as_ref());
        self.tile.push(leaf_hash(leaf));
        if self.tile.len() as u64 == TILE_LEAVES {
            self.tile_hashes.push(root_of(&self.tile));
            self.tile.clear();
        }
        self.frame.is_full().then(|| self.end_frame())
    }

    /// Index of the next leaf.
    pub fn next_index(&self) -> u64 {
        self.header.meta.first_index + self.rows.len() as u64
    }

    /// Bytes given out so far, header included: where the next ones go.
    pub fn bytes_given(&self) -> u64 {
        self.bytes
    }

    /// The last bytes (what was pending, search index and footer), and the footer's contents.
    pub fn close(mut self) -> (Vec<u8>, WarmFooter) {
        let mut out = if self.frame.is_empty() { Vec::new() } else { self.end_frame() };
        let starts: Vec<FrameStart> =
            self.frames.iter().map(|span| FrameStart { offset: span.offset, first_index: span.first_index }).collect();
        let index = search::encode(&self.rows, self.header.meta.first_index, &starts);
        let place = index_place(self.bytes, index.len());
        out.extend_from_slice(&index);
        let footer = WarmFooter {
            leaves: self.rows.len() as u32,
            sums: self.sums,
            content_digest: self.content.chain_update(&index).finalize().into(),
            index: place,
            frames: self.frames,
            tile_hashes: self.tile_hashes,
            body_hashes: self.body_hashes,
        };
        out.extend_from_slice(&footer.encode());
        (out, footer)
    }

    fn end_frame(&mut self) -> Vec<u8> {
        let (mut bytes, rests) = self.frame.finish();
        let (offset, first_index) = (self.bytes, self.frame_first);
        let (packed_bytes, checksum) = (bytes.len() as u32, crc32c::crc32c(&bytes));
        self.frames.push(WarmSpan { offset, first_index, packed_bytes, checksum });
        self.sums.packed_bytes += u64::from(packed_bytes);
        self.frame_first = self.next_index();
        bytes.extend_from_slice(&rests);
        self.content.update(&bytes);
        self.bytes += bytes.len() as u64;
        bytes
    }
}
