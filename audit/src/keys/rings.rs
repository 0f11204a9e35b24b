//! The file of ring keys: what a group's subject keys are wrapped under, kept apart from logs and snapshots so that it can be
//! destroyed (ARCHITECTURE 4).
//!
//! A file is one of two slots ([`super::slot`]), so that no slot remembers what is destroyed. Sealed: count (u32), then group
//! (u32), term (u64) and key (32) each.

use super::KEY_BYTES;
use super::slot::Kind;
use crate::reader::Reader;

/// The file's slots.
pub const KIND: Kind = Kind { magic: *b"NTHLRING", version: 1 };
/// Ring keys in one file.
pub const RING_KEYS_MAX: usize = 65_536;

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

/// What is sealed.
pub fn encode(keys: &[RingKey]) -> Vec<u8> {
    assert!(keys.len() <= RING_KEYS_MAX, "the caller bounds the keys that it takes");
    let mut contents = (keys.len() as u32).to_le_bytes().to_vec();
    for RingKey { group, term, key } in keys {
        contents.extend_from_slice(&group.to_le_bytes());
        contents.extend_from_slice(&term.to_le_bytes());
        contents.extend_from_slice(key);
    }
    contents
}

/// The keys; `None` where the contents do not read.
pub fn decode(contents: &[u8]) -> Option<Vec<RingKey>> {
    let mut reader = Reader::new(contents);
    let count = reader.u32()? as usize;
    let one =
        |reader: &mut Reader<'_>| Some(RingKey { group: reader.u32()?, term: reader.u64()?, key: reader.array()? });
    let keys = (0..count.min(RING_KEYS_MAX + 1)).map(|_| one(&mut reader)).collect::<Option<Vec<_>>>()?;
    (reader.is_empty() && keys.len() <= RING_KEYS_MAX).then_some(keys)
}

#[cfg(test)]
mod tests {
    use super::super::slot;
    use super::*;

    #[test]
    fn a_slot_reads_back_and_every_changed_byte_and_cut_is_refused() {
        let keys = [RingKey { group: 2, term: 7, key: [3; 32] }, RingKey { group: 5, term: 9, key: [4; 32] }];
        let bytes = slot::seal(KIND, 11, &[1; 32], [2; 12], &encode(&keys));
        let read = |bytes: &[u8], at_rest: &[u8; 32]| {
            let (contents, sequence) = slot::open(KIND, bytes, at_rest)?;
            Some((decode(&contents)?, sequence))
        };
        assert_eq!(read(&bytes, &[1; 32]), Some((keys.to_vec(), 11)));
        assert_eq!(read(&[bytes.as_slice(), b"left of a longer one"].concat(), &[1; 32]), Some((keys.to_vec(), 11)));
        assert_eq!(read(&bytes, &[9; 32]), None, "another node's");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(read(&bad, &[1; 32]), None, "byte {at} changed");
            assert_eq!(read(&bytes[..at], &[1; 32]), None, "cut at {at}");
        }
        assert_eq!(format!("{:?}", keys[0]), "RingKey(group 2, term 7)");
    }
}
