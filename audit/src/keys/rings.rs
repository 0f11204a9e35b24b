//! The file of ring keys: what a group's subject keys are wrapped under, kept apart from logs and snapshots so that it can be
//! destroyed (ARCHITECTURE 4).
//!
//! Pure bytes in here. The caller keeps two slots and writes both, so that no slot remembers what is destroyed.
//!
//! ```text
//! 0   magic     8   "NTHLRING"
//! 8   version   2   1
//! 10  sequence  8   raised by every writing; the greater of two whole slots counts
//! 18  nonce     12  random, fresh for each writing
//! 30  length    4   bytes sealed
//! 34  sealed        AES-256-GCM under the node's key at rest; associated data = bytes 0..34
//! ..  checksum  4   crc32c over everything before
//! ```
//! Sealed: count (u32), then group (u32), term (u64) and key (32) each.

use super::{KEY_BYTES, NonceBytes, TAG_BYTES, open_copy, seal_onto};
use crate::reader::Reader;

/// First bytes of the file.
pub const MAGIC: [u8; 8] = *b"NTHLRING";
/// The layout written here.
pub const VERSION: u16 = 1;
/// Ring keys in one file.
pub const RING_KEYS_MAX: usize = 65_536;
const HEAD_BYTES: usize = 34;

/// A group's ring key, and the term in whose leadership it was made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RingKey {
    /// The group.
    pub group: u32,
    /// The term.
    pub term: u64,
    /// The key.
    pub key: [u8; KEY_BYTES],
}

impl std::fmt::Debug for RingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RingKey(group {}, term {})", self.group, self.term)
    }
}

/// The file's bytes.
pub fn encode(keys: &[RingKey], sequence: u64, at_rest: &[u8; KEY_BYTES], nonce: NonceBytes) -> Vec<u8> {
    assert!(keys.len() <= RING_KEYS_MAX, "the caller bounds the keys that it takes");
    let mut contents = (keys.len() as u32).to_le_bytes().to_vec();
    for RingKey { group, term, key } in keys {
        contents.extend_from_slice(&group.to_le_bytes());
        contents.extend_from_slice(&term.to_le_bytes());
        contents.extend_from_slice(key);
    }
    let mut out = Vec::with_capacity(HEAD_BYTES + contents.len() + TAG_BYTES + 4);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&((contents.len() + TAG_BYTES) as u32).to_le_bytes());
    let head = out.clone();
    seal_onto(&mut out, at_rest, nonce, &head, &contents);
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    out
}

/// The keys and the sequence of a file; `None` for a torn one, one of another layout, or another node's. Bytes behind its
/// end are what is left of a longer one.
pub fn decode(bytes: &[u8], at_rest: &[u8; KEY_BYTES]) -> Option<(Vec<RingKey>, u64)> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let mut reader = Reader::new(head);
    let known = reader.array() == Some(MAGIC) && reader.u16() == Some(VERSION);
    let (sequence, nonce, length) = (reader.u64()?, reader.array()?, reader.u32()? as usize);
    let (sealed, behind) = rest.split_at_checked(length)?;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(head), sealed);
    if !known || behind.first_chunk() != Some(&checksum.to_le_bytes()) {
        return None;
    }
    let contents = open_copy(at_rest, nonce, head, sealed)?;
    let mut reader = Reader::new(&contents);
    let count = reader.u32()? as usize;
    let one =
        |reader: &mut Reader<'_>| Some(RingKey { group: reader.u32()?, term: reader.u64()?, key: reader.array()? });
    let keys = (0..count.min(RING_KEYS_MAX + 1)).map(|_| one(&mut reader)).collect::<Option<Vec<_>>>()?;
    (reader.is_empty() && keys.len() <= RING_KEYS_MAX).then_some((keys, sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_and_every_changed_byte_and_cut_is_refused() {
        let keys = [RingKey { group: 2, term: 7, key: [3; 32] }, RingKey { group: 5, term: 9, key: [4; 32] }];
        let bytes = encode(&keys, 11, &[1; 32], [2; 12]);
        assert_eq!(decode(&bytes, &[1; 32]), Some((keys.to_vec(), 11)));
        assert_eq!(decode(&[bytes.as_slice(), b"left of a longer one"].concat(), &[1; 32]), Some((keys.to_vec(), 11)));
        assert_eq!(decode(&bytes, &[9; 32]), None, "another node's");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&bad, &[1; 32]), None, "byte {at} changed");
            assert_eq!(decode(&bytes[..at], &[1; 32]), None, "cut at {at}");
        }
        assert_eq!(format!("{:?}", keys[0]), "RingKey(group 2, term 7)");
    }
}
