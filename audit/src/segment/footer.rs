//! The footer of a closed segment: where frames and the search index start, every leaf hash, the roots of its complete tiles,
//! a digest.
//!
//! It is a function of the bytes before it, so it can be made again and compared; nothing in it is believed unchecked.

use super::SegmentError;
use crate::reader::Reader;
use crate::tree::{Hash, TILE_LEAVES};

/// First bytes of a footer.
const MAGIC: [u8; 4] = *b"FOOT";
/// Last bytes of a closed segment.
const END_MAGIC: [u8; 8] = *b"NTHLSEND";
/// Length, checksum and magic at the end.
pub const END_BYTES: usize = 16;
/// Magic, three counts, digest, place of the search index.
const HEAD_BYTES: usize = 64;
const FIXED_BYTES: usize = HEAD_BYTES + END_BYTES;
const FRAME_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Where a frame starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameStart {
    /// From the start of the file.
    pub offset: u64,
    /// Index of the frame's first leaf.
    pub first_index: u64,
}

/// Where the search index stands, and what bodies are packed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexPlace {
    /// From the start of the file.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
    /// Number of the newest dictionary that bodies of this segment may be packed with.
    pub dictionary: u32,
}

/// A footer's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFooter {
    /// SHA-256 over all bytes before the footer. Two replicas' segments are equal where this is.
    pub content_digest: Hash,
    /// The search index.
    pub index: IndexPlace,
    /// In order.
    pub frames: Vec<FrameStart>,
    /// One for each leaf, in order.
    pub leaf_hashes: Vec<Hash>,
    /// Root of each 256 leaves, in order: level 8 of the tree.
    pub tile_hashes: Vec<Hash>,
}

/// How long the footer is, from the last [`END_BYTES`] bytes of a file. The caller reads that many from the end next.
pub fn footer_bytes(end: &[u8; END_BYTES]) -> Option<usize> {
    let mut reader = Reader::new(end);
    let (length, _checksum, magic) = (reader.u32()?, reader.u32()?, reader.array()?);
    (magic == END_MAGIC && length as usize >= FIXED_BYTES).then_some(length as usize)
}

/// Where the hashes of a tile stand in a file, `tile` counted from the segment's start. So a tile is read without the footer
/// around it; whoever does holds it against the tile's root.
pub fn tile_offset(footer_offset: u64, frames: usize, tile: u64) -> u64 {
    let hashes = footer_offset.saturating_add((HEAD_BYTES + frames * FRAME_BYTES) as u64);
    hashes.saturating_add(tile.saturating_mul(TILE_LEAVES * HASH_BYTES as u64))
}

impl SegmentFooter {
    /// The bytes after the search index.
    pub fn encode(&self) -> Vec<u8> {
        let length = FIXED_BYTES
            + self.frames.len() * FRAME_BYTES
            + (self.leaf_hashes.len() + self.tile_hashes.len()) * HASH_BYTES;
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&MAGIC);
        for count in [self.leaf_hashes.len(), self.frames.len(), self.tile_hashes.len()] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        out.extend_from_slice(&self.content_digest);
        out.extend_from_slice(&self.index.offset.to_le_bytes());
        out.extend_from_slice(&self.index.length.to_le_bytes());
        out.extend_from_slice(&self.index.dictionary.to_le_bytes());
        for frame in &self.frames {
            out.extend_from_slice(&frame.offset.to_le_bytes());
            out.extend_from_slice(&frame.first_index.to_le_bytes());
        }
        self.leaf_hashes.iter().chain(&self.tile_hashes).for_each(|hash| out.extend_from_slice(hash));
        out.extend_from_slice(&(length as u32).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.extend_from_slice(&END_MAGIC);
        out
    }

    /// Reads the footer at the end of `bytes`, which may be the footer alone or a whole segment.
    pub fn decode_end(bytes: &[u8]) -> Result<Self, SegmentError> {
        let end = bytes.last_chunk::<END_BYTES>().ok_or(SegmentError::NoFooter)?;
        let length = footer_bytes(end).ok_or(SegmentError::NoFooter)?;
        let start = bytes.len().checked_sub(length).ok_or(SegmentError::NoFooter)?;
        let footer = &bytes[start..];
        let (covered, tail) = footer.split_at(length - 12);
        if crc32c::crc32c(covered).to_le_bytes() != tail[..4] {
            return Err(SegmentError::FooterChecksum);
        }
        Self::read_fields(footer).ok_or(SegmentError::Footer)
    }

    fn read_fields(footer: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(footer);
        if reader.array() != Some(MAGIC) {
            return None;
        }
        let (leaves, frames, tiles) = (reader.u32()? as usize, reader.u32()? as usize, reader.u32()? as usize);
        // Checked before anything is allocated: the counts must account for exactly the bytes that are there.
        let hashes = leaves.checked_add(tiles)?.checked_mul(HASH_BYTES)?;
        let wanted = frames.checked_mul(FRAME_BYTES)?.checked_add(hashes)?.checked_add(FIXED_BYTES)?;
        if wanted != footer.len() || tiles != leaves / TILE_LEAVES as usize {
            return None;
        }
        let content_digest = reader.array()?;
        let (offset, length, dictionary) = (reader.u64()?, reader.u32()?, reader.u32()?);
        let index = IndexPlace { offset, length, dictionary };
        let frame = |reader: &mut Reader<'_>| Some(FrameStart { offset: reader.u64()?, first_index: reader.u64()? });
        let frames = (0..frames).map(|_| frame(&mut reader)).collect::<Option<Vec<_>>>()?;
        let leaf_hashes = (0..leaves).map(|_| reader.array()).collect::<Option<Vec<_>>>()?;
        let tile_hashes = (0..tiles).map(|_| reader.array()).collect::<Option<Vec<_>>>()?;
        Some(Self { content_digest, index, frames, leaf_hashes, tile_hashes })
    }
}
