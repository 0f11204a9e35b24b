//! What stays of a stored body that was dropped: why, how long it was, and enough to tell that it is the one that was sealed.
//!
//! A body is a *head* that says whose keys it is sealed under, and the *rest*. Its stored hash is SHA-256(head ‖ SHA-256(rest)).
//! A dropped body keeps head and SHA-256(rest), so its stored hash is what it was: a segment's record of its bodies stays true
//! when some of them go, and nobody can pass a dropped body off as another one's; but for those that are in a cold file, whose
//! hash is not kept ([`super::away`]). Nothing here decides that one may go.

use sha2::{Digest, Sha256};

use super::{Head, SealedFor};
use crate::reader::Reader;
use crate::tree::Hash;

/// First byte of what stays of a dropped body.
const FORM_DROPPED: u8 = 3;
/// Form, reason, length, hash of the rest; the head follows.
const FIXED_BYTES: usize = 1 + 1 + 4 + 32;

/// Why a body is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Its subject was erased: nobody has the key that opens it.
    Erased = 1,
    /// Its time was over.
    Expired = 2,
    /// It is in a cold file, and not here.
    Away = 3,
}

impl Reason {
    fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Erased),
            2 => Some(Self::Expired),
            3 => Some(Self::Away),
            _ => None,
        }
    }
}

/// A dropped body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped<'a> {
    /// Why.
    pub reason: Reason,
    /// Bytes that it took as it was stored.
    pub bytes: u32,
    rest_hash: Hash,
    head: &'a [u8],
}

impl<'a> Dropped<'a> {
    /// Whose keys it was sealed under; none for a plain one.
    pub fn sealed_for(&self) -> Option<SealedFor> {
        Head::read(self.head).map(|head| head.sealed_for)
    }

    /// What stood in front of the sealed bytes.
    pub fn head(&self) -> &'a [u8] {
        self.head
    }

    /// Bytes that its going has given back.
    pub fn freed(&self) -> u64 {
        u64::from(self.bytes).saturating_sub((FIXED_BYTES + self.head.len()) as u64)
    }
}

/// Reads what stays of a dropped body; none for what is still there, or is nothing of ours.
pub fn dropped(stored: &[u8]) -> Option<Dropped<'_>> {
    let mut reader = Reader::new(stored);
    reader.u8().filter(|form| *form == FORM_DROPPED)?;
    let (reason, bytes, rest_hash) = (Reason::of(reader.u8()?)?, reader.u32()?, reader.array()?);
    let head = reader.take(reader.remaining())?;
    let is_head = head.is_empty() || Head::read(head).is_some_and(|read| read.sealed.is_empty());
    is_head.then_some(Dropped { reason, bytes, rest_hash, head })
}

/// What is stored in place of a body that goes; none where there is nothing to drop.
pub fn drop_body(stored: &[u8], reason: Reason) -> Option<Vec<u8>> {
    if reason == Reason::Away {
        return super::away(stored);
    }
    match dropped(stored) {
        // Gone from the cold tier, too.
        Some(gone) if gone.reason == Reason::Away => {
            return Some(of_parts(reason, gone.bytes, &gone.rest_hash, gone.head));
        }
        Some(_) => return None,
        None if stored.is_empty() => return None,
        None => {}
    }
    let (head, rest) = split(stored);
    Some(of_parts(reason, stored.len() as u32, &Sha256::digest(rest).into(), head))
}

pub(super) fn of_parts(reason: Reason, bytes: u32, rest_hash: &Hash, head: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FIXED_BYTES + head.len());
    out.extend_from_slice(&[FORM_DROPPED, reason as u8]);
    out.extend_from_slice(&bytes.to_le_bytes());
    out.extend_from_slice(rest_hash);
    out.extend_from_slice(head);
    out
}

/// Head and rest of a stored body. What stays of a dropped one is all head; a plain one has none.
pub fn split(stored: &[u8]) -> (&[u8], &[u8]) {
    match Head::read(stored) {
        Some(head) => (head.bytes, head.sealed),
        None if dropped(stored).is_some() => (stored, &[]),
        None => (&[], stored),
    }
}

/// True for what stays of a body whose hash is not kept, since it went to a cold file.
pub fn has_no_hash(stored: &[u8]) -> bool {
    dropped(stored).is_some_and(|gone| gone.rest_hash == [0; 32])
}

/// The stored hash of a body, the same before and after it is dropped.
pub fn stored_hash(stored: &[u8]) -> Hash {
    let (head, rest_hash) = match dropped(stored) {
        Some(dropped) => (dropped.head, dropped.rest_hash),
        None => {
            let (head, rest) = split(stored);
            (head, Sha256::digest(rest).into())
        }
    };
    Sha256::new_with_prefix(head).chain_update(rest_hash).finalize().into()
}

#[cfg(test)]
mod tests {
    use nethical_protocol::ids::KeyedId;
    use proptest::prelude::*;

    use super::*;
    use crate::body::{command_id, is_plain, open_plain, plain, seal, sealed_for};
    use crate::keys::BodyKeys;

    const PERSON: SealedFor = SealedFor { generation: 7, person: Some((KeyedId([6; 16]), 3)) };

    fn bodies() -> Vec<Vec<u8>> {
        let keys = BodyKeys::new(&[1; 32], None);
        let of_agent = SealedFor { generation: 2, person: None };
        let sealed = |sealed_for| seal(&keys, sealed_for, &command_id(1, 2, 3), b"what was said", None).0;
        vec![sealed(of_agent), sealed(PERSON), plain(b"control facts").0]
    }

    #[test]
    fn what_stays_of_a_dropped_body_is_pinned_and_holds_nothing_of_its_text() {
        let stored = &bodies()[0];
        let gone = drop_body(stored, Reason::Erased).expect("there is one");
        assert_eq!(hex::encode(&gone[..6]), format!("0301{}000000", hex::encode([stored.len() as u8])));
        assert_eq!(gone[6..38], Sha256::digest(&stored[29..])[..]);
        assert_eq!(gone[38..], stored[..29]);
        assert!(!is_plain(&gone) && sealed_for(&gone).is_none() && open_plain(&gone).is_err());
    }

    #[test]
    fn a_dropped_body_has_the_hash_and_the_subjects_that_it_had() {
        for stored in bodies() {
            let gone = drop_body(&stored, Reason::Expired).expect("there is one");
            assert_eq!(stored_hash(&gone), stored_hash(&stored));
            let told = dropped(&gone).expect("own bytes");
            assert_eq!((told.reason, told.bytes as usize), (Reason::Expired, stored.len()));
            assert_eq!(told.sealed_for(), sealed_for(&stored));
            assert_eq!(drop_body(&gone, Reason::Erased), None, "it goes once");
            assert_eq!(split(&gone), (gone.as_slice(), &[][..]));
        }
        assert_eq!(drop_body(&[], Reason::Erased), None);
    }

    #[test]
    fn another_head_or_another_rest_is_another_body() {
        for stored in bodies() {
            for at in 0..stored.len() {
                let mut other = stored.clone();
                other[at] ^= 1;
                assert_ne!(stored_hash(&other), stored_hash(&stored), "byte {at}");
            }
            let gone = drop_body(&stored, Reason::Erased).expect("there is one");
            for at in 6..gone.len() {
                let mut other = gone.clone();
                other[at] ^= 1;
                assert_ne!(stored_hash(&other), stored_hash(&gone), "byte {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), form in 0u8..5) {
            let stored = [&[form], bytes.as_slice()].concat();
            let (head, rest) = split(&stored);
            prop_assert_eq!([head, rest].concat(), stored.clone());
            let _ = stored_hash(&stored);
            if let Some(gone) = drop_body(&stored, Reason::Erased) {
                prop_assert_eq!(stored_hash(&gone), stored_hash(&stored));
            }
        }
    }
}
