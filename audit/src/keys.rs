//! Tenant keys: what a name is replaced by in leaves and state, and how keys themselves travel.
//!
//! A tenant key is 32 secret bytes. It appears in logs only wrapped under the zone's ring key, which lives in the
//! [`keyring::Keyring`] file and never in a log. Bodies are sealed under keys of their subjects ([`subject`]), whose ring
//! keys come and go (ARCHITECTURE 4). Nothing in here makes randomness: keys and nonces come in as arguments.

use nethical_protocol::ids::KeyedId;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{hkdf, hmac};

pub mod keyring;
pub mod rings;
pub mod seeds;
pub mod slot;
pub mod subject;

pub use keyring::{Keyring, KeyringError};
pub use subject::BodyKeys;

/// Bytes of every secret key in this crate.
pub const KEY_BYTES: usize = 32;
/// Bytes of an AES-256-GCM tag.
pub const TAG_BYTES: usize = 16;
/// Bytes of a wrapped tenant key: key id, nonce, key, tag.
pub const WRAPPED_BYTES: usize = 4 + NONCE_LEN + KEY_BYTES + TAG_BYTES;
/// A nonce; random, and never used twice under one key.
pub type NonceBytes = [u8; NONCE_LEN];

/// Purpose of [`TenantKeys::content_mac`].
const CONTENT_PURPOSE: &str = "request content";
/// Bound to every wrapped key beside its key id.
const WRAP_LABEL: &[u8] = b"nethical tenant key 1";
/// Salt of the extraction that [`TenantKeys::derive`] expands from.
const DERIVE_LABEL: &[u8] = b"nethical subject key 1";

/// A tenant's key, prepared: an id costs one HMAC, a derived key one HKDF expansion.
#[derive(Clone)]
pub struct TenantKeys {
    mac: hmac::Key,
    prk: hkdf::Prk,
}

/// Why a wrapped key cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// Not as long as a wrapped key.
    #[error("a wrapped key has {WRAPPED_BYTES} bytes; these are {0}")]
    Length(usize),
    /// Another ring key, or changed bytes.
    #[error("the wrapped key does not open under this ring key")]
    Sealed,
}

impl TenantKeys {
    /// Prepares a key.
    pub fn new(tenant_key: &[u8; KEY_BYTES]) -> Self {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, DERIVE_LABEL).extract(tenant_key);
        Self { mac: hmac::Key::new(hmac::HMAC_SHA256, tenant_key), prk }
    }

    /// The id that stands for `name` in leaves and state: HMAC-SHA-256 over the purpose, with its length in front, and
    /// the name, cut to 16 bytes. The empty name is [`KeyedId::NONE`]. One name has unrelated ids for two purposes.
    pub fn keyed_id(&self, purpose: &str, name: impl AsRef<[u8]>) -> KeyedId {
        let name = name.as_ref();
        if name.is_empty() {
            return KeyedId::NONE;
        }
        let mut mac = self.mac_for(purpose);
        mac.update(name);
        let tag = mac.sign();
        let (id, _) = tag.as_ref().split_first_chunk().expect("an HMAC-SHA-256 tag has 32 bytes");
        KeyedId(*id)
    }

    /// Tells two requests under one request id apart: HMAC over the parts, each with its length in front, cut to 8
    /// bytes. The caller passes every field whose change makes another request, always in the same order.
    pub fn content_mac(&self, parts: &[&[u8]]) -> [u8; 8] {
        *self.content_digest(parts).0.first_chunk().expect("a digest has 16 bytes")
    }

    /// As [`TenantKeys::content_mac`], cut to 16 bytes: what a person's approval of exactly this content is bound to.
    pub fn content_digest(&self, parts: &[&[u8]]) -> KeyedId {
        let mut mac = self.mac_for(CONTENT_PURPOSE);
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        let tag = mac.sign();
        KeyedId(*tag.as_ref().first_chunk().expect("an HMAC-SHA-256 tag has 32 bytes"))
    }

    /// 32 bytes for one purpose and one context: HKDF-Expand with info = purpose ‖ context.
    pub fn derive(&self, purpose: &[u8], context: &[u8]) -> [u8; KEY_BYTES] {
        let mut out = [0; KEY_BYTES];
        let info = [purpose, context];
        let expanded = self.prk.expand(&info, hkdf::HKDF_SHA256).expect("32 bytes are within HKDF's bound");
        expanded.fill(&mut out).expect("the length asked for is the length of the buffer");
        out
    }

    fn mac_for(&self, purpose: &str) -> hmac::Context {
        let mut mac = hmac::Context::with_key(&self.mac);
        mac.update(&(purpose.len() as u32).to_le_bytes());
        mac.update(purpose.as_bytes());
        mac
    }
}

impl std::fmt::Debug for TenantKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TenantKeys(secret)")
    }
}

/// A tenant key under a ring key: ring key's id (u32 little endian) ‖ nonce ‖ AES-256-GCM(tenant key). The nonce is
/// random and fresh; under 2^32 wraps of one ring key a repeat stays improbable (NIST SP 800-38D, 8.3).
pub fn wrap(ring_key: &[u8; KEY_BYTES], key_id: u32, nonce: NonceBytes, tenant_key: &[u8; KEY_BYTES]) -> Vec<u8> {
    let mut out = Vec::with_capacity(WRAPPED_BYTES);
    out.extend_from_slice(&key_id.to_le_bytes());
    out.extend_from_slice(&nonce);
    seal_onto(&mut out, ring_key, nonce, &wrap_label(key_id), tenant_key);
    out
}

/// Which ring key opens a wrapped key.
pub fn wrapped_key_id(wrapped: &[u8]) -> Option<u32> {
    wrapped.first_chunk().map(|id| u32::from_le_bytes(*id))
}

/// The tenant key again.
pub fn unwrap(ring_key: &[u8; KEY_BYTES], wrapped: &[u8]) -> Result<[u8; KEY_BYTES], WrapError> {
    let whole: &[u8; WRAPPED_BYTES] = wrapped.try_into().map_err(|_| WrapError::Length(wrapped.len()))?;
    let key_id = wrapped_key_id(whole).ok_or(WrapError::Length(wrapped.len()))?;
    let (head, sealed) = whole.split_at(4 + NONCE_LEN);
    let nonce = head[4..].try_into().map_err(|_| WrapError::Length(wrapped.len()))?;
    let opened = open_copy(ring_key, nonce, &wrap_label(key_id), sealed).ok_or(WrapError::Sealed)?;
    opened.try_into().map_err(|_| WrapError::Sealed)
}

fn wrap_label(key_id: u32) -> Vec<u8> {
    [WRAP_LABEL, &key_id.to_le_bytes()].concat()
}

/// A prepared AES-256-GCM key.
pub(crate) fn aead_key(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes"))
}

/// Appends ciphertext and tag of `plaintext` to `out`.
pub(crate) fn seal_onto(out: &mut Vec<u8>, key: &[u8; KEY_BYTES], nonce: NonceBytes, aad: &[u8], plaintext: &[u8]) {
    let start = out.len();
    out.extend_from_slice(plaintext);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = aead_key(key).seal_in_place_separate_tag(nonce, Aad::from(aad), &mut out[start..]);
    out.extend_from_slice(tag.expect("plaintexts here are far below AES-GCM's bound").as_ref());
}

/// The plaintext of ciphertext ‖ tag, or `None` where key, nonce, aad or bytes are not the ones sealed with.
pub(crate) fn open_copy(key: &[u8; KEY_BYTES], nonce: NonceBytes, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length = aead_key(key).open_in_place(nonce, Aad::from(aad), &mut bytes).ok()?.len();
    bytes.truncate(length);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> TenantKeys {
        TenantKeys::new(&[1; 32])
    }

    #[test]
    fn ids_and_derived_keys_are_pinned() {
        assert_eq!(keys().keyed_id("agent", "gpt-4o").to_string(), "c3be65bf97b000e3ecb05e3abaec82eb");
        assert_eq!(hex::encode(keys().content_mac(&[b"a", b"bc"])), "829013b450cfefba");
        assert_eq!(
            hex::encode(keys().derive(b"purpose", b"context")),
            "592afa5d9276506210bdc3fabcedceeb60be849e5a7e749899852e7da829ed04"
        );
    }

    #[test]
    fn ids_differ_by_tenant_purpose_and_name_and_nothing_has_no_id() {
        let id = keys().keyed_id("agent", "a");
        assert_ne!(id, keys().keyed_id("agent", "b"));
        assert_ne!(id, keys().keyed_id("tool", "a"));
        assert_ne!(id, TenantKeys::new(&[2; 32]).keyed_id("agent", "a"));
        assert_ne!(keys().keyed_id("ab", "c"), keys().keyed_id("a", "bc"), "the purpose's length is part of it");
        assert_eq!(keys().keyed_id("agent", ""), KeyedId::NONE);
        assert_ne!(keys().content_mac(&[b"ab", b"c"]), keys().content_mac(&[b"a", b"bc"]));
    }

    #[test]
    fn a_wrapped_key_opens_under_its_ring_key_only() {
        let wrapped = wrap(&[3; 32], 7, [4; 12], &[5; 32]);
        assert_eq!((wrapped.len(), wrapped_key_id(&wrapped)), (WRAPPED_BYTES, Some(7)));
        assert_eq!(unwrap(&[3; 32], &wrapped), Ok([5; 32]));
        assert_eq!(unwrap(&[9; 32], &wrapped), Err(WrapError::Sealed));
        for at in 0..wrapped.len() {
            let mut bad = wrapped.clone();
            bad[at] ^= 1;
            assert_eq!(unwrap(&[3; 32], &bad), Err(WrapError::Sealed), "byte {at} changed");
            assert_eq!(unwrap(&[3; 32], &wrapped[..at]), Err(WrapError::Length(at)));
        }
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", keys()), "TenantKeys(secret)");
    }
}
