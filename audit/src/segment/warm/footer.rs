//! The footer of a warm segment: what it holds in numbers, where its frames and its search index stand, and the roots of its
//! leaves and bodies. It follows from the bytes before it; nothing in it is believed unchecked.

use super::WarmError;
use crate::body::{DICTIONARY, Dropped, Reason};
use crate::reader::Reader;
use crate::segment::SegmentIndex;
use crate::segment::footer::{END_BYTES, FrameStart, IndexPlace};
use crate::tree::{Hash, TILE_LEAVES};

const MAGIC: [u8; 4] = *b"WFO2";
const END_MAGIC: [u8; 8] = *b"NTHLWEND";
/// Magic, three counts, sums, digest, place of the search index.
const HEAD_BYTES: usize = 16 + 44 + 32 + 16;
const FIXED_BYTES: usize = HEAD_BYTES + END_BYTES;
const FRAME_BYTES: usize = 24;
const HASH_BYTES: usize = 32;

/// A warm segment in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WarmSums {
    /// Bytes of its leaves, unpacked.
    pub leaf_bytes: u64,
    /// Bytes of its bodies as they were stored, dropped ones included.
    pub body_bytes: u64,
    /// Bodies dropped as erased.
    pub erased: u32,
    /// Bodies dropped as expired.
    pub expired: u32,
    /// Bodies that are in a cold file, and not here.
    pub away: u32,
    /// Bytes that all of these have given back.
    pub freed_bytes: u64,
    /// Bytes of the frames' packed parts.
    pub packed_bytes: u64,
}

impl WarmSums {
    pub(super) fn add(&mut self, leaf: &[u8], stored: &[u8], dropped: Option<&Dropped<'_>>) {
        self.leaf_bytes += leaf.len() as u64;
        self.body_bytes += dropped.map_or(stored.len() as u64, |dropped| u64::from(dropped.bytes));
        if let Some(dropped) = dropped {
            self.freed_bytes += dropped.freed();
            match dropped.reason {
                Reason::Erased => self.erased += 1,
                Reason::Expired => self.expired += 1,
                Reason::Away => self.away += 1,
            }
        }
    }
}

/// Where a frame stands and how much of it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmSpan {
    /// From the start of the file.
    pub offset: u64,
    /// Index of the frame's first leaf.
    pub first_index: u64,
    /// Bytes of the packed part; the rests of bodies follow.
    pub packed_bytes: u32,
    /// CRC-32C of the packed part.
    pub checksum: u32,
}

/// A footer's contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmFooter {
    /// Leaves.
    pub leaves: u32,
    /// In numbers.
    pub sums: WarmSums,
    /// SHA-256 over all bytes before the footer.
    pub content_digest: Hash,
    /// The search index.
    pub index: IndexPlace,
    /// In order.
    pub frames: Vec<WarmSpan>,
    /// Root of each 256 leaves, in order.
    pub tile_hashes: Vec<Hash>,
    /// Body root of each 256 leaves, in order.
    pub body_hashes: Vec<Hash>,
}

/// How long the footer is, from the last [`END_BYTES`] bytes of a file.
pub fn warm_footer_bytes(end: &[u8; END_BYTES]) -> Option<usize> {
    let mut reader = Reader::new(end);
    let (length, _checksum, magic) = (reader.u32()?, reader.u32()?, reader.array()?);
    (magic == END_MAGIC && length as usize >= FIXED_BYTES).then_some(length as usize)
}

impl WarmFooter {
    /// Where frames stand, for readers that find a leaf's frame.
    pub fn frame_index(&self, first_index: u64) -> SegmentIndex {
        let start = |span: &WarmSpan| FrameStart { offset: span.offset, first_index: span.first_index };
        let next = first_index.saturating_add(u64::from(self.leaves));
        SegmentIndex::of(self.frames.iter().map(start).collect(), self.index.offset, next)
    }

    /// The bytes after the search index.
    pub fn encode(&self) -> Vec<u8> {
        let hashes = self.tile_hashes.len() + self.body_hashes.len();
        let length = FIXED_BYTES + self.frames.len() * FRAME_BYTES + hashes * HASH_BYTES;
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&MAGIC);
        for count in [self.leaves, self.frames.len() as u32, self.tile_hashes.len() as u32] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        let sums = &self.sums;
        for sum in [sums.leaf_bytes, sums.body_bytes, sums.freed_bytes, sums.packed_bytes] {
            out.extend_from_slice(&sum.to_le_bytes());
        }
        [sums.erased, sums.expired, sums.away].iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
        out.extend_from_slice(&self.content_digest);
        out.extend_from_slice(&self.index.offset.to_le_bytes());
        out.extend_from_slice(&self.index.length.to_le_bytes());
        out.extend_from_slice(&self.index.dictionary.to_le_bytes());
        for frame in &self.frames {
            out.extend_from_slice(&frame.offset.to_le_bytes());
            out.extend_from_slice(&frame.first_index.to_le_bytes());
            out.extend_from_slice(&frame.packed_bytes.to_le_bytes());
            out.extend_from_slice(&frame.checksum.to_le_bytes());
        }
        self.tile_hashes.iter().chain(&self.body_hashes).for_each(|hash| out.extend_from_slice(hash));
        out.extend_from_slice(&(length as u32).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.extend_from_slice(&END_MAGIC);
        out
    }

    /// Reads the footer at the end of `bytes`, which may be the footer alone or a whole warm segment.
    pub fn decode_end(bytes: &[u8]) -> Result<Self, WarmError> {
        let length = bytes.last_chunk::<END_BYTES>().and_then(warm_footer_bytes).ok_or(WarmError::Footer)?;
        let start = bytes.len().checked_sub(length).ok_or(WarmError::Footer)?;
        let footer = &bytes[start..];
        let (covered, tail) = footer.split_at(length - 12);
        if crc32c::crc32c(covered).to_le_bytes() != tail[..4] {
            return Err(WarmError::Footer);
        }
        Self::read_fields(footer).ok_or(WarmError::Footer)
    }

    fn read_fields(footer: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(footer);
        if reader.array() != Some(MAGIC) {
            return None;
        }
        let (leaves, frames, tiles) = (reader.u32()?, reader.u32()? as usize, reader.u32()? as usize);
        // Checked before anything is allocated: the counts must account for exactly the bytes that are there.
        let hashes = tiles.checked_mul(2 * HASH_BYTES)?;
        let wanted = frames.checked_mul(FRAME_BYTES)?.checked_add(hashes)?.checked_add(FIXED_BYTES)?;
        if wanted != footer.len() || frames == 0 || tiles as u64 * TILE_LEAVES != u64::from(leaves) {
            return None;
        }
        let (leaf_bytes, body_bytes) = (reader.u64()?, reader.u64()?);
        let (freed_bytes, packed_bytes) = (reader.u64()?, reader.u64()?);
        let (erased, expired, away) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let sums = WarmSums { leaf_bytes, body_bytes, erased, expired, away, freed_bytes, packed_bytes };
        let content_digest = reader.array()?;
        let index = IndexPlace { offset: reader.u64()?, length: reader.u32()?, dictionary: reader.u32()? };
        let frames = (0..frames).map(|_| WarmSpan::read(&mut reader)).collect::<Option<Vec<_>>>()?;
        let tile_hashes = (0..tiles).map(|_| reader.array()).collect::<Option<Vec<_>>>()?;
        let body_hashes = (0..tiles).map(|_| reader.array()).collect::<Option<Vec<_>>>()?;
        Some(Self { leaves, sums, content_digest, index, frames, tile_hashes, body_hashes })
    }
}

impl WarmSpan {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (offset, first_index) = (reader.u64()?, reader.u64()?);
        Some(Self { offset, first_index, packed_bytes: reader.u32()?, checksum: reader.u32()? })
    }
}

/// Where the search index of a warm segment stands.
pub(super) fn index_place(offset: u64, length: usize) -> IndexPlace {
    IndexPlace { offset, length: length as u32, dictionary: DICTIONARY }
}
