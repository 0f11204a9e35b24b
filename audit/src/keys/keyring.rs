//! The keyring file: the zone's signing seed and the partition ring keys, sealed under the operator's key-encryption key.
//!
//! It is the only place where these keys rest. Pure bytes in here; the caller writes them in two slots, replaces them in
//! place, and never copies them into a log or a snapshot (ARCHITECTURE 4).
//!
//! ```text
//! 0   magic     8   "NTHLKEYS"
//! 8   version   2   2
//! 10  nonce     12  random, fresh for each writing
//! 22  length    4   bytes sealed
//! 26  sealed        AES-256-GCM under the key-encryption key; associated data = bytes 0..26
//! ..  checksum  4   crc32c over everything before
//! ```

use std::collections::BTreeMap;

use super::{KEY_BYTES, NonceBytes, open_copy, seal_onto};
use crate::reader::Reader;

/// First bytes of a keyring.
pub const MAGIC: [u8; 8] = *b"NTHLKEYS";
/// The layout written here. Version 1, without a cosigning seed, is read too.
pub const VERSION: u16 = 2;
const WITHOUT_COSIGNER: u16 = 1;
/// Ring keys in one keyring; more than two exist only while survivors of an erasure are rewrapped.
pub const RING_KEYS_MAX: usize = 4_096;
/// A cluster's name.
pub const CLUSTER_NAME_BYTES_MAX: usize = 256;
/// Bytes before the sealed part.
const HEAD_BYTES: usize = 26;

/// What one node holds for its zone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Keyring {
    /// The cluster's name, first part of every log's origin.
    pub cluster: String,
    /// Ring keys by id. The greatest id is the one to wrap new keys under.
    pub ring_keys: BTreeMap<u32, [u8; KEY_BYTES]>,
    /// Seed of the zone's Ed25519 key that signs checkpoints; `None` on nodes that do not sign.
    pub signing_seed: Option<[u8; KEY_BYTES]>,
    /// Seed of this node's own Ed25519 key, by which it vouches for checkpoints. No other node may have it.
    pub cosigning_seed: Option<[u8; KEY_BYTES]>,
}

/// Why bytes are not a keyring that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Not a keyring, or a torn one.
    #[error("the bytes are not a whole keyring")]
    Malformed,
    /// Another layout.
    #[error("keyring version {0} is not known here; this release reads {VERSION}")]
    Version(u16),
    /// Bytes changed at rest.
    #[error("the keyring's checksum does not match its bytes")]
    Checksum,
    /// Another key-encryption key, or bytes changed on purpose.
    #[error("the keyring does not open under this key-encryption key")]
    Sealed,
    /// It opened and holds nonsense.
    #[error("the keyring's contents are not readable")]
    Contents,
}

impl Keyring {
    /// The file's bytes, sealed under the key-encryption key with a fresh random nonce.
    pub fn encode_sealed(&self, kek: &[u8; KEY_BYTES], nonce: NonceBytes) -> Vec<u8> {
        let contents = self.contents();
        let mut out = Vec::with_capacity(HEAD_BYTES + contents.len() + 20);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&((contents.len() + super::TAG_BYTES) as u32).to_le_bytes());
        let head = out.clone();
        seal_onto(&mut out, kek, nonce, &head, &contents);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// True for a file in the layout that is written here: a seed that it lacks was never given, or was taken out.
    pub fn is_of_today(bytes: &[u8]) -> bool {
        let mut reader = Reader::new(bytes);
        reader.array() == Some(MAGIC) && reader.u16() == Some(VERSION)
    }

    /// Reads the file's bytes back.
    pub fn decode_sealed(kek: &[u8; KEY_BYTES], bytes: &[u8]) -> Result<Self, KeyringError> {
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(KeyringError::Malformed)?;
        let (head, sealed) = body.split_at_checked(HEAD_BYTES).ok_or(KeyringError::Malformed)?;
        let mut reader = Reader::new(head);
        if reader.array() != Some(MAGIC) {
            return Err(KeyringError::Malformed);
        }
        let (Some(version), Some(nonce), Some(length)) = (reader.u16(), reader.array(), reader.u32()) else {
            return Err(KeyringError::Malformed);
        };
        if !(WITHOUT_COSIGNER..=VERSION).contains(&version) {
            return Err(KeyringError::Version(version));
        }
        if sealed.len() != length as usize {
            return Err(KeyringError::Malformed);
        }
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(KeyringError::Checksum);
        }
        let contents = open_copy(kek, nonce, head, sealed).ok_or(KeyringError::Sealed)?;
        Self::from_contents(&contents, version).ok_or(KeyringError::Contents)
    }

    /// Name with u16 length, ring keys with u16 count as {id u32, key}, each seed with one byte in front that says whether.
    fn contents(&self) -> Vec<u8> {
        assert!(self.cluster.len() <= CLUSTER_NAME_BYTES_MAX, "the configuration bounds the cluster's name");
        assert!(self.ring_keys.len() <= RING_KEYS_MAX, "old ring keys are destroyed after an erasure");
        let mut out = Vec::new();
        out.extend_from_slice(&(self.cluster.len() as u16).to_le_bytes());
        out.extend_from_slice(self.cluster.as_bytes());
        out.extend_from_slice(&(self.ring_keys.len() as u16).to_le_bytes());
        for (id, key) in &self.ring_keys {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(key);
        }
        for seed in [&self.signing_seed, &self.cosigning_seed] {
            out.push(u8::from(seed.is_some()));
            out.extend_from_slice(seed.as_ref().map_or(&[], <[u8; KEY_BYTES]>::as_slice));
        }
        out
    }

    fn from_contents(contents: &[u8], version: u16) -> Option<Self> {
        let mut reader = Reader::new(contents);
        let name_bytes = usize::from(reader.u16()?);
        let cluster = String::from_utf8(reader.take(name_bytes)?.to_vec()).ok()?;
        let count = reader.u16()?;
        let mut ring_keys = BTreeMap::new();
        for _ in 0..count {
            let id = reader.u32()?;
            if ring_keys.insert(id, reader.array()?).is_some() {
                return None;
            }
        }
        let signing_seed = read_seed(&mut reader)?;
        let cosigning_seed = if version == WITHOUT_COSIGNER { None } else { read_seed(&mut reader)? };
        reader.is_empty().then_some(Self { cluster, ring_keys, signing_seed, cosigning_seed })
    }
}

fn read_seed(reader: &mut Reader<'_>) -> Option<Option<[u8; KEY_BYTES]>> {
    match reader.u8()? {
        0 => Some(None),
        1 => reader.array().map(Some),
        _ => None,
    }
}

impl std::fmt::Debug for Keyring {
    /// Names what is there and shows no key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<&u32> = self.ring_keys.keys().collect();
        let (signs, vouches) = (self.signing_seed.is_some(), self.cosigning_seed.is_some());
        write!(f, "Keyring({}, ring keys {ids:?}, signs {signs}, cosigns {vouches})", self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEK: [u8; 32] = [1; 32];

    fn keyring() -> Keyring {
        let ring_keys = BTreeMap::from([(1, [2; 32]), (7, [3; 32])]);
        let (signing_seed, cosigning_seed) = (Some([4; 32]), Some([6; 32]));
        Keyring { cluster: "demo".into(), ring_keys, signing_seed, cosigning_seed }
    }

    #[test]
    fn a_keyring_reads_back_as_written() {
        for keyring in [keyring(), Keyring::default()] {
            let bytes = keyring.encode_sealed(&KEK, [5; 12]);
            assert_eq!(Keyring::decode_sealed(&KEK, &bytes), Ok(keyring));
        }
        let bytes = keyring().encode_sealed(&KEK, [5; 12]);
        assert_eq!(hex::encode(&bytes[..26]), "4e54484c4b4559530200050505050505050505050505a2000000");
    }

    #[test]
    fn a_keyring_of_the_first_version_is_read_and_has_no_cosigner() {
        let contents = keyring().contents();
        let (old, _) = contents.split_at(contents.len() - 1 - KEY_BYTES);
        let wanted = Keyring { cosigning_seed: None, ..keyring() };
        assert_eq!(Keyring::from_contents(old, WITHOUT_COSIGNER), Some(wanted));
        assert_eq!(Keyring::from_contents(old, VERSION), None);
        assert_eq!(Keyring::from_contents(&contents, WITHOUT_COSIGNER), None);
    }

    #[test]
    fn nothing_of_the_keys_is_readable_in_the_file_or_in_debug_output() {
        let bytes = keyring().encode_sealed(&KEK, [5; 12]);
        for secret in [[2u8; 8], [3; 8], [4; 8], [6; 8]] {
            assert!(!bytes.windows(8).any(|window| window == secret));
        }
        assert_eq!(format!("{:?}", keyring()), "Keyring(demo, ring keys [1, 7], signs true, cosigns true)");
    }

    #[test]
    fn every_changed_byte_every_cut_and_another_key_are_refused() {
        let bytes = keyring().encode_sealed(&KEK, [5; 12]);
        assert_eq!(Keyring::decode_sealed(&[9; 32], &bytes), Err(KeyringError::Sealed));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(Keyring::decode_sealed(&KEK, &bad).is_err(), "byte {at} changed");
            assert!(Keyring::decode_sealed(&KEK, &bytes[..at]).is_err(), "cut at {at}");
        }
        let mut forged = bytes.clone();
        let end = forged.len() - 4;
        forged[40] ^= 1;
        let checksum = crc32c::crc32c(&forged[..end]).to_le_bytes();
        forged[end..].copy_from_slice(&checksum);
        assert_eq!(Keyring::decode_sealed(&KEK, &forged), Err(KeyringError::Sealed));
    }
}
