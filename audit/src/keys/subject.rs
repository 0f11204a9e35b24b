//! Subject keys: what the body of one agent's actions is sealed under, and what is destroyed to erase it (ARCHITECTURE 4).
//!
//! A subject key is 32 random bytes. It appears in logs and state only wrapped under its group's ring key; ring keys rest
//! in a file of their own and are replaced after an erasure. Nothing in here makes randomness or keeps keys.

use ring::hkdf;
use sha2::{Digest, Sha256};

use super::{KEY_BYTES, NonceBytes, TAG_BYTES, open_copy, seal_onto};

/// Bytes of a subject key under a ring key: nonce, key, tag. Which ring key it is stands beside it.
pub const WRAPPED_SUBJECT_BYTES: usize = 12 + KEY_BYTES + TAG_BYTES;

/// Bound to every wrapped key beside its ring key's number.
const WRAP_LABEL: &[u8] = b"nethical subject wrap 1";
/// Salt of the extraction that [`BodyKeys::derive`] expands from.
const EXTRACT_LABEL: &[u8] = b"nethical body keys 1";
/// Domain of a ring key's number.
const RING_LABEL: &[u8] = b"nethical ring key 1";

/// The number of a ring key: the first eight bytes of a digest of the key, so that two keys have two numbers, whoever made
/// them.
pub fn ring_number(ring_key: &[u8; KEY_BYTES]) -> u64 {
    let digest = Sha256::new_with_prefix(RING_LABEL).chain_update(ring_key).finalize();
    u64::from_le_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
}

/// A subject key under a ring key: nonce ‖ AES-256-GCM(subject key). The nonce is random and fresh; under 2^32 wraps of one
/// ring key a repeat stays improbable (NIST SP 800-38D, 8.3).
pub fn wrap_subject(
    ring_key: &[u8; KEY_BYTES],
    nonce: NonceBytes,
    subject_key: &[u8; KEY_BYTES],
) -> [u8; WRAPPED_SUBJECT_BYTES] {
    let mut out = Vec::with_capacity(WRAPPED_SUBJECT_BYTES);
    out.extend_from_slice(&nonce);
    seal_onto(&mut out, ring_key, nonce, &label(ring_key), subject_key);
    out.try_into().expect("nonce, key and tag have fixed lengths")
}

/// The subject key again; `None` under another ring key, or where bytes changed.
pub fn unwrap_subject(ring_key: &[u8; KEY_BYTES], wrapped: &[u8; WRAPPED_SUBJECT_BYTES]) -> Option<[u8; KEY_BYTES]> {
    let (nonce, sealed) = wrapped.split_first_chunk()?;
    open_copy(ring_key, *nonce, &label(ring_key), sealed)?.try_into().ok()
}

fn label(ring_key: &[u8; KEY_BYTES]) -> Vec<u8> {
    [WRAP_LABEL, &ring_number(ring_key).to_le_bytes()].concat()
}

/// What bodies about an agent, or about an agent and a person, are sealed under. Without any one of the keys it was made
/// from it cannot be had again.
#[derive(Clone)]
pub struct BodyKeys(hkdf::Prk);

impl BodyKeys {
    /// Of an agent's key, and the key of the person whom the action is about, where it names one.
    pub fn new(agent: &[u8; KEY_BYTES], person: Option<&[u8; KEY_BYTES]>) -> Self {
        let material = [agent.as_slice(), person.map_or(&[], |key| key.as_slice())].concat();
        Self(hkdf::Salt::new(hkdf::HKDF_SHA256, EXTRACT_LABEL).extract(&material))
    }

    /// 32 bytes for one purpose and one context: HKDF-Expand with info = purpose ‖ context.
    pub(crate) fn derive(&self, purpose: &[u8], context: &[u8]) -> [u8; KEY_BYTES] {
        let mut out = [0; KEY_BYTES];
        let info = [purpose, context];
        let expanded = self.0.expand(&info, hkdf::HKDF_SHA256).expect("32 bytes are within HKDF's bound");
        expanded.fill(&mut out).expect("the length asked for is the length of the buffer");
        out
    }
}

impl std::fmt::Debug for BodyKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BodyKeys(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_key_opens_under_its_ring_key_only() {
        let wrapped = wrap_subject(&[3; 32], [4; 12], &[5; 32]);
        assert_eq!(unwrap_subject(&[3; 32], &wrapped), Some([5; 32]));
        assert_eq!(unwrap_subject(&[9; 32], &wrapped), None);
        for at in 0..wrapped.len() {
            let mut bad = wrapped;
            bad[at] ^= 1;
            assert_eq!(unwrap_subject(&[3; 32], &bad), None, "byte {at} changed");
        }
    }

    #[test]
    fn numbers_and_derived_keys_are_pinned_and_a_person_changes_them() {
        assert_eq!(ring_number(&[1; 32]), PINNED_NUMBER);
        let agent = BodyKeys::new(&[1; 32], None);
        assert_eq!(hex::encode(agent.derive(b"purpose", b"context")), PINNED_KEY);
        let both = BodyKeys::new(&[1; 32], Some(&[2; 32]));
        assert_ne!(agent.derive(b"p", b"c"), both.derive(b"p", b"c"));
        assert_ne!(BodyKeys::new(&[2; 32], Some(&[1; 32])).derive(b"p", b"c"), both.derive(b"p", b"c"));
        assert_eq!(format!("{both:?}"), "BodyKeys(secret)");
    }

    const PINNED_NUMBER: u64 = 7_799_185_437_903_870_121;
    const PINNED_KEY: &str = "2e2aa4240faa5ae72aa0801cac943e28f0c44e7e7bf3ea0aaa0b3960aa091b34";
}
