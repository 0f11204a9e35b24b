//! Audit segments as bytes: the leaves of one log, in order, each with its stored body (ARCHITECTURE 5).
//!
//! A segment is an append-only byte stream: header, records, an end mark after every frame, a search index, a footer. What stands where
//! is a function of the header and the records alone, so the file of a closed segment is byte-identical on all
//! replicas. Flushing early only decides how many of these bytes are on disk already; it never changes them, and no
//! byte is ever written twice. Every record carries its own checksum, so a torn tail costs no earlier record.
//!
//! No files in here: [`SegmentWriter`] gives bytes to append and sync, [`SegmentScan`] reads them back and resumes a
//! writer after a crash, [`SegmentIndex`] finds one record with one read, [`search`] those that match a filter. The byte tables are in FORMATS.md.

use nethical_protocol::ids::LogId;
use nethical_protocol::limits::{ENTRY_BYTES_MAX, LEAF_BYTES_MAX, SEGMENT_LEAVES_MAX, SEGMENT_RAW_BYTES_MAX};
use nethical_protocol::probe;
use sha2::{Digest, Sha256};

use crate::reader::Reader;
use crate::tree::{Hash, TILE_LEAVES};

pub mod bodies;
pub mod check;
pub mod footer;
pub mod index;
pub mod scan;
pub mod seal;
pub mod search;
mod state;
pub mod warm;
pub mod writer;

pub use bodies::{BodyRoots, may_be_bodies};
pub use check::{Fault, Flaw, SegmentCheck, check_file};
pub use footer::{SegmentFooter, footer_bytes};
pub use index::{FrameSpan, SegmentIndex};
pub use scan::{Damage, ScanEnd, SegmentScan};
pub use seal::{SegmentSeal, WarmSeal};
pub use warm::{WarmFooter, WarmHeader, WarmWriter};
pub use writer::SegmentWriter;

/// First bytes of a segment.
pub const MAGIC: [u8; 8] = *b"NTHLSEG1";
/// The layout written here.
pub const VERSION: u16 = 2;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 80;
/// Bytes in front of each record's leaf: two lengths and a checksum.
pub const RECORD_HEAD_BYTES: usize = 12;
/// Bytes of a frame's end mark.
pub const MARK_BYTES: usize = 24;
/// A stored body. An entry that holds it is bounded in the same way.
pub const BODY_BYTES_MAX: usize = ENTRY_BYTES_MAX;
/// The most that a header may ask for as a frame's size, so that no reader of foreign bytes overflows.
const FRAME_RAW_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// The greatest first index of a segment; no log gets there in this universe, only damaged bytes do.
const FIRST_INDEX_MAX: u64 = 1 << 62;

/// Where frames and segments end. Written into each header, so that a reader needs no configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentRules {
    /// A frame ends with the record that brings it to this many bytes.
    pub frame_raw_bytes: u32,
    /// A segment ends at every multiple of this many leaves …
    pub segment_leaves: u32,
    /// … and at the first multiple of 256 leaves after this many bytes of records.
    pub segment_raw_bytes: u64,
}

impl SegmentRules {
    /// What nodes use: 64 KiB, 65,536 leaves, 64 MiB.
    pub const RELEASED: Self = Self {
        frame_raw_bytes: 64 * 1024,
        segment_leaves: SEGMENT_LEAVES_MAX as u32,
        segment_raw_bytes: SEGMENT_RAW_BYTES_MAX,
    };

    /// [`SegmentRules::RELEASED`], but that a simulator may end segments at fewer leaves.
    fn in_force() -> Self {
        let released = u64::from(Self::RELEASED.segment_leaves);
        Self { segment_leaves: probe::knob("seal.leaves", released) as u32, ..Self::RELEASED }
    }

    fn are_sound(&self) -> bool {
        let leaves = u64::from(self.segment_leaves);
        let leaves_fit = leaves > 0 && leaves.is_multiple_of(TILE_LEAVES) && leaves <= SEGMENT_LEAVES_MAX;
        leaves_fit && (1..=FRAME_RAW_BYTES_MAX).contains(&self.frame_raw_bytes)
    }
}

/// What a segment is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentMeta {
    /// SHA-256 of the cluster's name.
    pub cluster_hash: Hash,
    /// The log.
    pub log: LogId,
    /// Index of the first leaf; a multiple of 256.
    pub first_index: u64,
    /// Where frames and segments end.
    pub rules: SegmentRules,
}

/// One leaf with its body, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Position in the log.
    pub leaf_index: u64,
    /// Canonical bytes of the leaf.
    pub leaf: &'a [u8],
    /// The stored body (`body.rs`); empty where there is none.
    pub body: &'a [u8],
}

/// Why bytes are not a segment of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Too short or without our magic.
    #[error("the bytes do not start with a segment header")]
    Header,
    /// Another layout.
    #[error("segment version {0} is not known here; this release reads {VERSION}")]
    Version(u16),
    /// The header changed.
    #[error("the segment header's checksum does not match its bytes")]
    HeaderChecksum,
    /// The end is not a footer.
    #[error("the segment does not end in a footer")]
    NoFooter,
    /// The footer changed.
    #[error("the segment footer's checksum does not match its bytes")]
    FooterChecksum,
    /// The footer's numbers contradict each other.
    #[error("the segment footer contradicts itself")]
    Footer,
}

impl SegmentMeta {
    /// The segment of `log` that starts at `first_index`, under the released rules.
    pub fn new(cluster: &str, log: LogId, first_index: u64) -> Self {
        Self { cluster_hash: Sha256::digest(cluster).into(), log, first_index, rules: SegmentRules::in_force() }
    }

    /// The file name that sorts segments by their first leaf.
    pub fn file_name(&self) -> String {
        format!("{:020}.seg", self.first_index)
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.log.group.0.to_le_bytes());
        out.extend_from_slice(&self.log.era.to_le_bytes());
        out.extend_from_slice(&self.rules.frame_raw_bytes.to_le_bytes());
        out.extend_from_slice(&self.first_index.to_le_bytes());
        out.extend_from_slice(&self.rules.segment_raw_bytes.to_le_bytes());
        out.extend_from_slice(&self.rules.segment_leaves.to_le_bytes());
        out.extend_from_slice(&self.cluster_hash);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out.try_into().expect("the fields above take 80 bytes")
    }

    /// Reads the header at the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(SegmentError::Header)?;
        let mut reader = Reader::new(header);
        if reader.array() != Some(MAGIC) {
            return Err(SegmentError::Header);
        }
        let version = reader.u16().ok_or(SegmentError::Header)?;
        if version != VERSION {
            return Err(SegmentError::Version(version));
        }
        let (covered, checksum) = header.split_at(HEADER_BYTES - 4);
        if crc32c::crc32c(covered).to_le_bytes() != checksum {
            return Err(SegmentError::HeaderChecksum);
        }
        let meta = Self::read_fields(&mut reader).ok_or(SegmentError::Header)?;
        let place_fits = meta.first_index.is_multiple_of(TILE_LEAVES) && meta.first_index <= FIRST_INDEX_MAX;
        let sound = meta.rules.are_sound() && place_fits;
        if sound && meta.encode() == *header { Ok(meta) } else { Err(SegmentError::Header) }
    }

    fn read_fields(reader: &mut Reader<'_>) -> Option<Self> {
        reader.u16()?;
        let log = LogId { group: nethical_protocol::ids::GroupId(reader.u32()?), era: reader.u32()? };
        let (frame_raw_bytes, first_index) = (reader.u32()?, reader.u64()?);
        let (segment_raw_bytes, segment_leaves) = (reader.u64()?, reader.u32()?);
        let rules = SegmentRules { frame_raw_bytes, segment_leaves, segment_raw_bytes };
        Some(Self { log, rules, first_index, cluster_hash: reader.array()? })
    }
}

/// Appends a record: leaf length, body length, crc32c over these, leaf and body; then leaf and body.
fn put_record(out: &mut Vec<u8>, leaf: &[u8], body: &[u8]) {
    assert!((1..=LEAF_BYTES_MAX).contains(&leaf.len()), "a leaf's encoding is bounded by its lists");
    assert!(body.len() <= BODY_BYTES_MAX, "an entry's bound holds for the bodies in it");
    let start = out.len();
    out.extend_from_slice(&(leaf.len() as u32).to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    let checksum = record_checksum(&out[start..], leaf, body);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(leaf);
    out.extend_from_slice(body);
}

/// Why there is no record at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordFault {
    Truncated,
    Length,
    Checksum,
}

/// Leaf, body, and the bytes that the record takes.
fn read_record(bytes: &[u8]) -> Result<(&[u8], &[u8], usize), RecordFault> {
    let mut reader = Reader::new(bytes);
    let fault = RecordFault::Truncated;
    let (leaf_bytes, body_bytes) = (reader.u32().ok_or(fault)? as usize, reader.u32().ok_or(fault)? as usize);
    if !(1..=LEAF_BYTES_MAX).contains(&leaf_bytes) || body_bytes > BODY_BYTES_MAX {
        return Err(RecordFault::Length);
    }
    let checksum = reader.u32().ok_or(fault)?;
    let (leaf, body) = (reader.take(leaf_bytes).ok_or(fault)?, reader.take(body_bytes).ok_or(fault)?);
    if record_checksum(&bytes[..8], leaf, body) != checksum {
        return Err(RecordFault::Checksum);
    }
    Ok((leaf, body, RECORD_HEAD_BYTES + leaf_bytes + body_bytes))
}

fn record_checksum(lengths: &[u8], leaf: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(lengths), leaf), body)
}

#[cfg(test)]
#[path = "segment/segment_tests.rs"]
mod tests;
