//! Bodies that are in the cold tier: how a record speaks of one, and how one that is fetched from there is believed.
//!
//! A cold file holds a body in the clear, under the file's own key. In its place a record keeps what stays of a dropped body
//! ([`super::dropped`]), with [`Reason::Away`]. The sealed bytes are gone, and so is their hash: zeros stand for it. The leaf's
//! commitment is salted by the subject's keys as before, so what is fetched is believed where it fits, and an erased subject's
//! cannot be asked for any more. Nothing here fetches.

use super::{BodyError, Dropped, Head, Reason, dropped, sealed_commitment};
use crate::keys::BodyKeys;

/// What stays of a sealed body here once a cold file has it. None for all others.
pub fn away(stored: &[u8]) -> Option<Vec<u8>> {
    let head = Head::read(stored)?;
    Some(super::dropped::of_parts(Reason::Away, stored.len() as u32, &[0; 32], head.bytes))
}

/// What stays of a body that is elsewhere; none for all others.
pub fn away_of(stored: &[u8]) -> Option<Dropped<'_>> {
    dropped(stored).filter(|gone| gone.reason == Reason::Away)
}

/// The commitment to a body in the clear, by what stood in front of it where it was sealed.
///
/// # Errors
/// Where that is no such head.
pub fn commitment_to(keys: &BodyKeys, head: &[u8], plaintext: &[u8]) -> Result<[u8; 32], BodyError> {
    let head = Head::read(head).ok_or(BodyError::Malformed)?;
    Ok(sealed_commitment(keys, &head.command_id, plaintext))
}

#[cfg(test)]
mod tests {
    use nethical_protocol::ids::KeyedId;

    use super::*;
    use crate::body::{Dictionaries, SealedFor, command_id, drop_body, open, seal, sealed_for};

    #[test]
    fn a_body_that_is_elsewhere_names_its_keys_and_is_believed_by_its_leaf() {
        let (agent, person) = (BodyKeys::new(&[1; 32], None), BodyKeys::new(&[1; 32], Some(&[2; 32])));
        let of_agent = SealedFor { generation: 7, person: None };
        let of_person = SealedFor { generation: 7, person: Some((KeyedId([6; 16]), 3)) };
        for (keys, of) in [(agent, of_agent), (person, of_person)] {
            let (stored, commitment) = seal(&keys, of, &command_id(1, 2, 3), b"hello", None);
            let elsewhere = away(&stored).expect("it is sealed");
            let gone = away_of(&elsewhere).expect("it is away");
            assert_eq!((gone.sealed_for(), gone.bytes as usize), (Some(of), stored.len()));
            assert_eq!(commitment_to(&keys, gone.head(), b"hello"), Ok(commitment));
            assert_ne!(commitment_to(&keys, gone.head(), b"hallo"), Ok(commitment));
            assert!(open(&keys, &elsewhere, &Dictionaries::default()).is_err());
            assert!(sealed_for(&elsewhere).is_none() && away(&elsewhere).is_none() && away_of(&stored).is_none());
            assert_eq!(drop_body(&stored, Reason::Away), Some(elsewhere.clone()));
            // Once its subject is erased, or its time over, what stays says that instead.
            let erased = drop_body(&elsewhere, Reason::Erased).expect("it goes for good");
            let told = dropped(&erased).expect("it is dropped");
            assert_eq!((told.reason, told.bytes, told.sealed_for()), (Reason::Erased, gone.bytes, Some(of)));
            assert!(drop_body(&erased, Reason::Away).is_none() && drop_body(&elsewhere, Reason::Away).is_none());
        }
        assert!(away(&[]).is_none() && away(&crate::body::plain(b"facts").0).is_none());
    }
}
