//! What is kept of a closed segment beside its file: enough to build the log's tree without it, and to tell the true file
//! from any other one. A log's seals stand one behind the other in its manifest (FORMATS.md, section 4), and behind them what
//! became of segments since: the manifest is a journal, and the last word on a segment counts.
//!
//! Pure bytes. A seal says what a segment was when it was closed, never whether its file still is that.

use super::warm::{WarmFooter, WarmHeader, WarmSums};
use super::{HEADER_BYTES, SegmentFooter, SegmentMeta};
use crate::reader::Reader;
use crate::tree::{Hash, TILE_LEAVES};
use nethical_protocol::limits::SEGMENT_LEAVES_MAX;

/// First bytes of a seal. One without body roots, as an earlier release wrote it, begins with other ones and is left out.
const MAGIC: [u8; 4] = *b"SEA2";
/// First bytes of a word on a segment that was moved.
const WARM_MAGIC: [u8; 4] = *b"WAR2";
/// Bytes of a seal beside its tiles: magic, count of leaves, header, digest, checksum.
const FIXED_BYTES: usize = 4 + 4 + HEADER_BYTES + 32 + 4;
/// Bytes of a tile: root of its leaves, root of its bodies.
const TILE_BYTES: usize = 64;
/// Magic, first leaf, digest, counts of dropped bodies, checksum.
const WARM_BYTES: usize = 4 + 8 + 32 + 4 + 4 + 4 + 4;

/// A closed segment in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSeal {
    /// What its header says.
    pub meta: SegmentMeta,
    /// SHA-256 over all bytes before its footer, as it was closed.
    pub content_digest: Hash,
    /// Root of each 256 leaves, in order. A closed segment has no leaves beside them.
    pub tile_hashes: Vec<Hash>,
    /// Body root of each 256 leaves, in order.
    pub body_hashes: Vec<Hash>,
    /// Its file, where it was moved to the warm tier.
    pub warm: Option<WarmSeal>,
}

/// The file of a warm segment in short. Replicas may have dropped other bodies, and then have other files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmSeal {
    /// SHA-256 over all bytes before its footer.
    pub digest: Hash,
    /// Bodies dropped as erased.
    pub erased: u32,
    /// Bodies dropped as expired.
    pub expired: u32,
    /// Bodies that are in a cold file, and not here.
    pub away: u32,
}

impl WarmSeal {
    /// Of a footer.
    pub fn of(footer: &WarmFooter) -> Self {
        let WarmSums { erased, expired, away, .. } = footer.sums;
        Self { digest: footer.content_digest, erased, expired, away }
    }

    /// Its bytes in a manifest, behind the seal of the segment that begins there.
    pub fn encode(&self, first_index: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(WARM_BYTES);
        out.extend_from_slice(&WARM_MAGIC);
        out.extend_from_slice(&first_index.to_le_bytes());
        out.extend_from_slice(&self.digest);
        out.extend_from_slice(&self.erased.to_le_bytes());
        out.extend_from_slice(&self.expired.to_le_bytes());
        out.extend_from_slice(&self.away.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<(u64, Self)> {
        let mut reader = Reader::new(checked(bytes)?.get(4..)?);
        let first_index = reader.u64()?;
        let (digest, erased, expired) = (reader.array()?, reader.u32()?, reader.u32()?);
        Some((first_index, Self { digest, erased, expired, away: reader.u32()? }))
    }
}

impl SegmentSeal {
    /// Of a footer and the body roots that go with it. `None` where a closed segment cannot have it: its leaves fill no tiles.
    pub fn of(meta: SegmentMeta, footer: &SegmentFooter, body_hashes: Vec<Hash>) -> Option<Self> {
        let leaves = footer.leaf_hashes.len() as u64;
        let is_full = leaves > 0 && leaves == footer.tile_hashes.len() as u64 * TILE_LEAVES;
        let (content_digest, tile_hashes) = (footer.content_digest, footer.tile_hashes.clone());
        let is_full = is_full && body_hashes.len() == tile_hashes.len();
        is_full.then_some(Self { meta, content_digest, tile_hashes, body_hashes, warm: None })
    }

    /// What a warm file says that it was sealed as. Whoever has another seal of the segment holds the two against each other.
    pub fn of_warm(header: &WarmHeader, footer: &WarmFooter) -> Self {
        Self {
            meta: header.meta,
            content_digest: header.hot_digest,
            tile_hashes: footer.tile_hashes.clone(),
            body_hashes: footer.body_hashes.clone(),
            warm: Some(WarmSeal::of(footer)),
        }
    }

    /// Index after the segment's last leaf.
    pub fn next_index(&self) -> u64 {
        self.meta.first_index.saturating_add(self.tile_hashes.len() as u64 * TILE_LEAVES)
    }

    /// Its bytes in a manifest, with the word on its move.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED_BYTES + self.tile_hashes.len() * TILE_BYTES + WARM_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&((self.tile_hashes.len() as u64 * TILE_LEAVES) as u32).to_le_bytes());
        out.extend_from_slice(&self.meta.encode());
        out.extend_from_slice(&self.content_digest);
        self.tile_hashes.iter().chain(&self.body_hashes).for_each(|hash| out.extend_from_slice(hash));
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.extend(self.warm.iter().flat_map(|warm| warm.encode(self.meta.first_index)));
        out
    }

    /// The seals of a manifest that check, each with the last word on its move. One that does not check is left out, and so is
    /// a torn end: each file's own footer says the same.
    pub fn decode_all(mut bytes: &[u8]) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        while let Some(length) = length_of(bytes).filter(|length| *length <= bytes.len()) {
            let (seal, rest) = bytes.split_at(length);
            found.extend(Self::decode(seal));
            if let Some((first_index, warm)) = WarmSeal::decode(seal).filter(|_| seal.starts_with(&WARM_MAGIC))
                && let Some(seal) = found.iter_mut().rev().find(|seal| seal.meta.first_index == first_index)
            {
                seal.warm = Some(warm);
            }
            bytes = rest;
        }
        found
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(checked(bytes).filter(|_| bytes.starts_with(&MAGIC))?.get(8..)?);
        let meta = SegmentMeta::decode(reader.take(HEADER_BYTES)?).ok()?;
        let content_digest = reader.array()?;
        let tiles = (bytes.len() - FIXED_BYTES) / TILE_BYTES;
        let tile_hashes = (0..tiles).map(|_| reader.array()).collect::<Option<_>>()?;
        let body_hashes = (0..tiles).map(|_| reader.array()).collect::<Option<_>>()?;
        Some(Self { meta, content_digest, tile_hashes, body_hashes, warm: None })
    }
}

/// The bytes before the checksum at the end, where it fits.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (covered, checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    (crc32c::crc32c(covered).to_le_bytes() == checksum).then_some(covered)
}

/// The bytes of what begins here, by its own word; `None` where nothing of ours does.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(bytes);
    let magic: [u8; 4] = reader.array()?;
    if magic == WARM_MAGIC {
        return Some(WARM_BYTES);
    }
    let leaves = u64::from(reader.u32()?);
    let fits = leaves > 0 && leaves <= SEGMENT_LEAVES_MAX && leaves.is_multiple_of(TILE_LEAVES);
    (magic == MAGIC && fits).then_some(FIXED_BYTES + (leaves / TILE_LEAVES) as usize * TILE_BYTES)
}

#[cfg(test)]
mod tests {
    use nethical_protocol::ids::{GroupId, LogId};

    use super::*;

    fn seal(first_index: u64, tiles: u8) -> SegmentSeal {
        let meta = SegmentMeta::new("test", LogId { group: GroupId(3), era: 1 }, first_index);
        let hashes = |more: u8| (0..tiles).map(|tile| [tile + more; 32]).collect();
        SegmentSeal {
            meta,
            content_digest: [9; 32],
            tile_hashes: hashes(0),
            body_hashes: hashes(100),
            warm: (first_index == 512).then_some(WarmSeal { digest: [4; 32], erased: 3, expired: 1, away: 7 }),
        }
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
            let is_word = (ends[0] + ends[1] - WARM_BYTES..ends[0] + ends[1]).contains(&at);
            if is_word {
                let unmoved = |seal: &SegmentSeal| SegmentSeal { warm: None, ..seal.clone() };
                assert!(read.get(1).is_none_or(|seal| *seal == unmoved(&seals[1])), "byte {at}");
                continue;
            }
            assert!(read.len() < 3 && read.iter().all(|seal| seals.contains(seal)), "byte {at}");
            let is_behind_count = |start: usize| at >= start + 8;
            if is_behind_count(ends[0]) && at < ends[0] + ends[1] {
                assert_eq!(read, [seals[0].clone(), seals[2].clone()], "byte {at}");
            }
        }
        for cut in 0..whole.len() {
            let read = SegmentSeal::decode_all(&whole[..cut]);
            let is_in_word = (ends[0] + ends[1] - WARM_BYTES..ends[0] + ends[1]).contains(&cut);
            assert!(is_in_word || read == seals[..read.len()], "cut at {cut}");
        }
    }
}
