//! One slot of a file of keys: sealed, numbered, and whole or nothing.
//!
//! Pure bytes in here. The caller keeps two slots and writes both, so that no slot remembers what is destroyed.
//!
//! ```text
//! 0   magic     8
//! 8   version   2
//! 10  sequence  8   raised by every writing; the greater of two whole slots counts
//! 18  nonce     12  random, fresh for each writing
//! 30  length    4   bytes sealed
//! 34  sealed        AES-256-GCM under the node's key at rest; associated data = bytes 0..34
//! ..  checksum  4   crc32c over everything before
//! ```

use super::{KEY_BYTES, NonceBytes, TAG_BYTES, open_copy, seal_onto};
use crate::reader::Reader;

const HEAD_BYTES: usize = 34;

/// What a slot is a slot of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// First bytes.
    pub magic: [u8; 8],
    /// The layout of the sealed part.
    pub version: u16,
}

/// The slot's bytes.
pub fn seal(kind: Kind, sequence: u64, at_rest: &[u8; KEY_BYTES], nonce: NonceBytes, contents: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + contents.len() + TAG_BYTES + 4);
    out.extend_from_slice(&kind.magic);
    out.extend_from_slice(&kind.version.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&((contents.len() + TAG_BYTES) as u32).to_le_bytes());
    let head = out.clone();
    seal_onto(&mut out, at_rest, nonce, &head, contents);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

/// Contents and sequence; `None` for a torn slot, one of another layout, or another node's. Bytes behind its end are what is
/// left of a longer one.
pub fn open(kind: Kind, bytes: &[u8], at_rest: &[u8; KEY_BYTES]) -> Option<(Vec<u8>, u64)> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let mut reader = Reader::new(head);
    let known = reader.array() == Some(kind.magic) && reader.u16() == Some(kind.version);
    let (sequence, nonce, length) = (reader.u64()?, reader.array()?, reader.u32()? as usize);
    let (sealed, behind) = rest.split_at_checked(length)?;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(head), sealed);
    if !known || behind.first_chunk() != Some(&checksum.to_le_bytes()) {
        return None;
    }
    open_copy(at_rest, nonce, head, sealed).map(|contents| (contents, sequence))
}
