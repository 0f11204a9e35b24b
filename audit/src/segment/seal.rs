//! What is kept of a closed segment beside its file: enough to build the log's tree without it, and to tell the true file
//! from any other one. A log's seals stand one behind the other in its manifest (FORMATS.md, section 4).
//!
//! Pure bytes. A seal says what a segment was when it was closed, never whether its file still is that.

use super::{HEADER_BYTES, SegmentFooter, SegmentMeta};
use crate::reader::Reader;
use crate::tree::{Hash, TILE_LEAVES};
use nethical_protocol::limits::SEGMENT_LEAVES_MAX;

/// First bytes of a seal.
const MAGIC: [u8; 4] = *b"SEAL";
/// Bytes of a seal beside its tiles: magic, count of leaves, header, digest, checksum.
const FIXED_BYTES: usize = 4 + 4 + HEADER_BYTES + 32 + 4;

/// A closed segment in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSeal {
    /// What its header says.
    pub meta: SegmentMeta,
    /// SHA-256 over all bytes before its footer.
    pub content_digest: Hash,
    /// Root of each 256 leaves, in order. A closed segment has no leaves beside them.
    pub tile_hashes: Vec<Hash>,
}

impl SegmentSeal {
    /// Of a footer. `None` where a closed segment cannot have it: its leaves fill no tiles.
    pub fn of(meta: SegmentMeta, footer: &SegmentFooter) -> Option<Self> {
        let leaves = footer.leaf_hashes.len() as u64;
        let is_full = leaves > 0 && leaves == footer.tile_hashes.len() as u64 * TILE_LEAVES;
        let (content_digest, tile_hashes) = (footer.content_digest, footer.tile_hashes.clone());
        is_full.then_some(Self { meta, content_digest, tile_hashes })
    }

    /// Index after the segment's last leaf.
    pub fn next_index(&self) -> u64 {
        self.meta.first_index.saturating_add(self.tile_hashes.len() as u64 * TILE_LEAVES)
    }

    /// Its bytes in a manifest.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + self.tile_hashes.len() * 32);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&((self.tile_hashes.len() as u64 * TILE_LEAVES) as u32).to_le_bytes());
        out.extend_from_slice(&self.meta.encode());
        out.extend_from_slice(&self.content_digest);
        self.tile_hashes.iter().for_each(|hash| out.extend_from_slice(hash));
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// The seals of a manifest that check. One that does not is left out, and so is a torn end: each file's own footer
    /// says the same.
    pub fn decode_all(mut bytes: &[u8]) -> Vec<Self> {
        let mut found = Vec::new();
        while let Some(length) = length_of(bytes).filter(|length| *length <= bytes.len()) {
            let (seal, rest) = bytes.split_at(length);
            found.extend(Self::decode(seal));
            bytes = rest;
        }
        found
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (covered, checksum) = bytes.split_at(bytes.len() - 4);
        if crc32c::crc32c(covered).to_le_bytes() != checksum {
            return None;
        }
        let mut reader = Reader::new(covered.get(8..)?);
        let meta = SegmentMeta::decode(reader.take(HEADER_BYTES)?).ok()?;
        let content_digest = reader.array()?;
        let tiles = (bytes.len() - FIXED_BYTES) / 32;
        let tile_hashes = (0..tiles).map(|_| reader.array()).collect::<Option<_>>()?;
        Some(Self { meta, content_digest, tile_hashes })
    }
}

/// The bytes of the seal that begins here, by its own word; `None` where none does.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(bytes);
    let (magic, leaves) = (reader.array()?, u64::from(reader.u32()?));
    let fits = leaves > 0 && leaves <= SEGMENT_LEAVES_MAX && leaves.is_multiple_of(TILE_LEAVES);
    (magic == MAGIC && fits).then_some(FIXED_BYTES + (leaves / TILE_LEAVES) as usize * 32)
}

#[cfg(test)]
mod tests {
    use nethical_protocol::ids::{GroupId, LogId};

    use super::*;

    fn seal(first_index: u64, tiles: u8) -> SegmentSeal {
        let meta = SegmentMeta::new("test", LogId { group: GroupId(3), era: 1 }, first_index);
        SegmentSeal { meta, content_digest: [9; 32], tile_hashes: (0..tiles).map(|tile| [tile; 32]).collect() }
    }

    #[test]
    fn a_changed_seal_is_left_out_and_the_others_are_read() {
        let seals = [seal(0, 2), seal(512, 1), seal(768, 3)];
        let whole: Vec<u8> = seals.iter().flat_map(SegmentSeal::encode).collect();
        assert_eq!(SegmentSeal::decode_all(&whole), seals);
        assert_eq!(seals[2].next_index(), 1_536);
        let ends: Vec<usize> = seals.iter().map(|seal| seal.encode().len()).collect();
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            let read = SegmentSeal::decode_all(&bad);
            assert!(read.len() < 3 && read.iter().all(|seal| seals.contains(seal)), "byte {at}");
            let is_behind_count = |start: usize| at >= start + 8;
            if is_behind_count(ends[0]) && at < ends[0] + ends[1] {
                assert_eq!(read, [seals[0].clone(), seals[2].clone()], "byte {at}");
            }
        }
        for cut in 0..whole.len() {
            let read = SegmentSeal::decode_all(&whole[..cut]);
            assert_eq!(read, seals[..read.len()], "cut at {cut}");
        }
    }
}
