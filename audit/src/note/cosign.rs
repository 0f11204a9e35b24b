//! Cosignatures (c2sp.org/tlog-cosignature, type 0x04): somebody other than the log vouches for a checkpoint at a time.
//!
//! A replica's says, beyond "this is the greatest tree of that log that I have seen and it extends all earlier ones":
//! *I hold all of its leaves durably*. Nothing here knows what is held, and nothing here keeps what was said before: who
//! signs must see to both. The signed message does not name the cosigner, so no two cosigners may share a key.

use ring::signature::Ed25519KeyPair;

use super::{KeyKind, Note, NoteError, VerifierKey, check_name, public_of, signature_line};

/// First line of what is signed.
const HEADER: &str = "cosignature/v1";
/// The greatest time that the format allows, seconds since 1970.
const TIME_MAX: u64 = i64::MAX as u64;

/// Vouches for checkpoints under one name.
pub struct Cosigner {
    name: String,
    key: Ed25519KeyPair,
}

impl Cosigner {
    /// A cosigner from a 32-byte Ed25519 seed, which must be its alone.
    ///
    /// # Errors
    /// [`NoteError::Name`] where the name cannot stand in a note.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        let key = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed of 32 bytes is always accepted");
        Ok(Self { name: name.to_owned(), key })
    }

    /// The key that verifies what this signs.
    pub fn verifier_key(&self) -> VerifierKey {
        VerifierKey::of(&self.name, KeyKind::Cosigner, public_of(&self.key))
    }

    /// One signature line, to stand behind the others of a note with this text. `at_s` counts seconds since 1970.
    pub fn cosign(&self, text: &str, at_s: u64) -> String {
        let at_s = at_s.min(TIME_MAX);
        let mut timed = at_s.to_be_bytes().to_vec();
        timed.extend_from_slice(self.key.sign(message(text, at_s).as_bytes()).as_ref());
        signature_line(&self.name, self.verifier_key().id(), &timed)
    }
}

impl std::fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cosigner({})", self.name)
    }
}

impl Note {
    /// Who of `keys` vouched for the text, and when, seconds since 1970; in the order of the lines, each key once. Lines
    /// that do not fit count for nothing.
    pub fn cosigned_by<'k>(&self, keys: &'k [VerifierKey]) -> Vec<(&'k VerifierKey, u64)> {
        let mut found: Vec<(&VerifierKey, u64)> = Vec::new();
        for signature in &self.signatures {
            let cosigners = keys.iter().filter(|key| key.kind == KeyKind::Cosigner);
            let Some(key) = cosigners.into_iter().find(|key| key.signed(signature)) else { continue };
            let is_new = found.iter().all(|(known, _)| *known != key);
            if let Some((at_s, _)) =
                timed(&signature.bytes).filter(|_| is_new && key.fits(&self.text, &signature.bytes))
            {
                found.push((key, at_s));
            }
        }
        found
    }
}

/// A cosignature's time and the signature proper.
pub(super) fn timed(signature: &[u8]) -> Option<(u64, &[u8])> {
    let (at_s, signature) = signature.split_first_chunk::<8>()?;
    let at_s = u64::from_be_bytes(*at_s);
    (at_s <= TIME_MAX).then_some((at_s, signature))
}

/// What is signed.
pub(super) fn message(text: &str, at_s: u64) -> String {
    format!("{HEADER}\ntime {at_s}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Signer;

    const AT_S: u64 = 1_679_315_147;

    fn note(lines: &[String]) -> Note {
        let signed = Signer::from_seed("demo/p/2/1", &[7; 32]).expect("a good name").sign("demo/p/2/1\n5\nroot\n");
        Note::parse(&(signed + &lines.concat())).expect("a note")
    }

    fn replica(seed: u8) -> Cosigner {
        Cosigner::from_seed(&format!("demo/r/{seed}"), &[seed; 32]).expect("a good name")
    }

    #[test]
    fn those_who_vouched_are_found_with_their_times() {
        let (one, two, three) = (replica(1), replica(2), replica(3));
        let text = "demo/p/2/1\n5\nroot\n";
        let note = note(&[one.cosign(text, AT_S), three.cosign(text, AT_S + 1), one.cosign(text, AT_S + 2)]);
        let keys = [one, two, three].map(|cosigner| cosigner.verifier_key());
        assert_eq!(note.cosigned_by(&keys), [(&keys[0], AT_S), (&keys[2], AT_S + 1)]);
        assert_eq!(note.verify(&keys), Ok(text), "a cosigner's word refuses nothing that it fits");
    }

    #[test]
    fn another_text_time_or_key_counts_for_nothing() {
        let (one, text) = (replica(1), "demo/p/2/1\n5\nroot\n");
        let keys = [one.verifier_key()];
        let elsewhere = note(&[one.cosign("demo/p/2/1\n6\nroot\n", AT_S)]);
        assert_eq!((elsewhere.cosigned_by(&keys), elsewhere.verify(&keys).is_err()), (Vec::new(), true));
        let mut moved = note(&[one.cosign(text, AT_S)]);
        moved.signatures[1].bytes[7] ^= 1;
        assert_eq!(moved.cosigned_by(&keys), []);
        let cut = &mut moved.signatures[1].bytes;
        cut.truncate(7);
        assert_eq!(moved.cosigned_by(&keys), []);
        // The same seed as a log's key has another id: it does not vouch.
        let as_log = VerifierKey::new("demo/r/1", KeyKind::Log, *keys[0].public()).expect("a good name");
        assert_ne!(as_log.id(), keys[0].id());
        assert_eq!(note(&[one.cosign(text, AT_S)]).cosigned_by(&[as_log]), []);
    }

    #[test]
    fn the_message_is_that_of_the_specification() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let wanted = "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n\
            CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        assert_eq!(message(text, AT_S), wanted);
    }

    #[test]
    fn verifier_keys_keep_their_kind_as_text() {
        let key = replica(1).verifier_key();
        assert_eq!(VerifierKey::parse(&key.to_string()), Ok(key));
    }
}
