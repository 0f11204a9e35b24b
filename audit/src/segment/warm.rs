//! Warm segments as bytes: what becomes of a closed segment when it is old. Leaves are packed together, bodies stay as they are
//! sealed, and what is left of dropped ones takes their place.
//!
//! ```text
//! header     what it is part of, the hot segment's digest, the dictionary's
//! frames     each: packed leaves with the heads of their bodies ‖ the rests of these bodies
//! index      the search index, over the frames that are here
//! footer     sums, digest, where frames stand, the roots of each 256 leaves and of their bodies
//! ```
//! A frame ends with the leaf that brings its leaves to 32 KiB. Leaf hashes are not stored: they are made again from the leaves
//! and held against the tile's root. No files in here: [`WarmWriter`] gives bytes to append, [`WarmFooter`] says where things
//! stand, [`WarmCheck`] holds a file against its seal. The byte tables are in FORMATS.md.

use nethical_protocol::limits::LEAF_BYTES_MAX;

use super::{BODY_BYTES_MAX, HEADER_BYTES, SegmentMeta};
use crate::reader::Reader;
use crate::tree::Hash;

pub mod check;
pub mod dictionary;
pub mod footer;
pub mod frame;
pub mod writer;

pub use check::{WarmCheck, check_warm};
pub use footer::{WarmFooter, WarmSpan, WarmSums, warm_footer_bytes};
pub use frame::{WarmFrame, WarmLeaves};
pub use writer::WarmWriter;

/// First bytes of a warm segment.
const MAGIC: [u8; 8] = *b"NTHLWRM2";
/// The layout written here.
const VERSION: u16 = 2;
/// Bytes of the header.
pub const WARM_HEADER_BYTES: usize = 8 + 4 + HEADER_BYTES + 32 + 32 + 4;
/// A frame ends with the leaf that brings its leaves to so many bytes. Whoever looks for one leaf unpacks its whole frame, some 50
/// leaves. Four times as many in a frame would save 10 of 120 bytes a leaf, and take a search over old segments half as long again. Files
/// with greater frames read as well.
const FRAME_LEAF_BYTES: usize = 32 * 1024;

/// Why bytes are not a warm segment of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WarmError {
    /// Too short, without our magic, or with a header that changed.
    #[error("the bytes do not start with the header of a warm segment")]
    Header,
    /// Another layout.
    #[error("warm segment version {0} is not known here; this release reads {VERSION}")]
    Version(u16),
    /// Leaves were packed with a dictionary that this release does not have.
    #[error("the leaves are packed with dictionary {0}, which this release does not know; a later one does")]
    Dictionary(String),
    /// The end is not a footer, or it changed, or contradicts itself.
    #[error("the warm segment's footer does not read")]
    Footer,
    /// A frame does not unpack to what was packed.
    #[error("a frame of the warm segment does not read")]
    Frame,
}

/// What a warm segment says of itself in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmHeader {
    /// The segment that it was.
    pub meta: SegmentMeta,
    /// SHA-256 over the bytes before that one's footer.
    pub hot_digest: Hash,
    /// SHA-256 of the dictionary that leaves are packed with.
    pub dictionary: Hash,
}

impl WarmHeader {
    /// Of a segment, with the dictionary of this release.
    pub fn new(meta: SegmentMeta, hot_digest: Hash) -> Self {
        Self { meta, hot_digest, dictionary: dictionary::NEWEST }
    }

    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(WARM_HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.meta.encode());
        out.extend_from_slice(&self.hot_digest);
        out.extend_from_slice(&self.dictionary);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// True for the bytes of a warm segment, of whatever version.
    pub fn is_in_front_of(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// Reads the header at the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, WarmError> {
        let header = bytes.get(..WARM_HEADER_BYTES).ok_or(WarmError::Header)?;
        let mut reader = Reader::new(header);
        if reader.array() != Some(MAGIC) {
            return Err(WarmError::Header);
        }
        let version = reader.u16().ok_or(WarmError::Header)?;
        if version != VERSION {
            return Err(WarmError::Version(version));
        }
        let read = Self::read_fields(&mut reader).filter(|read| read.encode() == header).ok_or(WarmError::Header)?;
        dictionary::named(&read.dictionary)?;
        Ok(read)
    }

    fn read_fields(reader: &mut Reader<'_>) -> Option<Self> {
        reader.u16()?;
        let meta = SegmentMeta::decode(reader.take(HEADER_BYTES)?).ok()?;
        Some(Self { meta, hot_digest: reader.array()?, dictionary: reader.array()? })
    }
}

impl SegmentMeta {
    /// The name of its file once it is warm.
    pub fn warm_file_name(&self) -> String {
        format!("{:020}.warm", self.first_index)
    }
}

/// What a record may hold.
fn fits(leaf: &[u8], stored: &[u8]) -> bool {
    (1..=LEAF_BYTES_MAX).contains(&leaf.len()) && stored.len() <= BODY_BYTES_MAX
}

#[cfg(test)]
#[path = "warm/warm_tests.rs"]
mod tests;
