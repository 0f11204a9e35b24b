//! Dictionaries that a tenant expressly gave for its own bodies, by the SHA-256 of their bytes.
//!
//! A dictionary is data that is needed to read: a body names the one that it was packed with, and the zone keeps all of them for
//! ever. It holds pieces of what it was trained on, in clear, and no erasure reaches it; so nothing in here trains one from
//! what was sealed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use nethical_protocol::limits::DICTIONARY_BYTES_MAX;
use sha2::{Digest, Sha256};
use zstd::zstd_safe::{CDict, DDict};

use crate::tree::Hash;

/// How a stored body names its dictionary: the first bytes of the digest. A zone keeps no two with one name.
pub type DictionaryName = [u8; 4];

/// Smaller ones are none: zstd's own tables take more.
pub const DICTIONARY_BYTES_MIN: usize = 256;
/// What every trained dictionary begins with (RFC 8878, section 5).
const MAGIC: [u8; 4] = 0xEC30_A437_u32.to_le_bytes();
/// As of the built-in one.
const LEVEL: i32 = super::pack::LEVEL;

/// Why bytes are no dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadDictionary {
    /// Too few or too many bytes.
    #[error("a dictionary has {DICTIONARY_BYTES_MIN} to {DICTIONARY_BYTES_MAX} bytes, not {0}")]
    Size(usize),
    /// It was not trained.
    #[error("these bytes are no trained zstd dictionary; make one with `nethical audit dictionary train`")]
    Untrained,
    /// zstd does not take it.
    #[error("zstd does not take these bytes for a dictionary")]
    Broken,
}

/// A dictionary, ready to pack and to unpack with.
pub struct Dictionary {
    digest: Hash,
    pub(super) encoder: CDict<'static>,
    pub(super) decoder: DDict<'static>,
}

impl Dictionary {
    /// Reads a dictionary as it was trained. Takes a few milliseconds and about a megabyte.
    ///
    /// # Errors
    /// Where the bytes are none.
    pub fn read(bytes: &[u8]) -> Result<Self, BadDictionary> {
        if !(DICTIONARY_BYTES_MIN..=DICTIONARY_BYTES_MAX).contains(&bytes.len()) {
            return Err(BadDictionary::Size(bytes.len()));
        }
        if !bytes.starts_with(&MAGIC) {
            return Err(BadDictionary::Untrained);
        }
        let prepared = CDict::try_create(bytes, LEVEL).zip(DDict::try_create(bytes));
        let (encoder, decoder) = prepared.ok_or(BadDictionary::Broken)?;
        Ok(Self { digest: Sha256::digest(bytes).into(), encoder, decoder })
    }

    /// SHA-256 of its bytes.
    pub fn digest(&self) -> &Hash {
        &self.digest
    }

    /// How bodies name it.
    pub fn name(&self) -> DictionaryName {
        name_of(&self.digest)
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dictionary({})", hex::encode(self.digest))
    }
}

/// Trains a dictionary of at most `bytes` from plain bodies. Takes seconds for ten thousand of them.
///
/// # Errors
/// Where they are too few or too much alike.
pub fn train(samples: &[Vec<u8>], bytes: usize) -> std::io::Result<Vec<u8>> {
    zstd::dict::from_samples(samples, bytes)
}

/// How bodies name the dictionary with this digest.
pub fn name_of(digest: &Hash) -> DictionaryName {
    let [first, second, third, fourth, ..] = *digest;
    [first, second, third, fourth]
}

/// The dictionaries that a reader knows, by their names.
#[derive(Debug, Clone, Default)]
pub struct Dictionaries(BTreeMap<DictionaryName, Arc<Dictionary>>);

impl Dictionaries {
    /// Knows one more.
    pub fn add(&mut self, dictionary: Arc<Dictionary>) {
        self.0.insert(dictionary.name(), dictionary);
    }

    /// The one of this name.
    pub fn get(&self, name: &DictionaryName) -> Option<&Arc<Dictionary>> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::pack::DICTIONARY_1;

    #[test]
    fn a_trained_dictionary_is_named_by_its_digest() {
        let read = Dictionary::read(DICTIONARY_1).expect("it was trained");
        let digest: Hash = Sha256::digest(DICTIONARY_1).into();
        assert_eq!((*read.digest(), read.name()), (digest, name_of(&digest)));
    }

    #[test]
    fn whatever_is_no_dictionary_is_refused_in_words() {
        let refused = |bytes: &[u8]| Dictionary::read(bytes).expect_err("it is none");
        assert_eq!(refused(&[]), BadDictionary::Size(0));
        assert_eq!(refused(&vec![7; DICTIONARY_BYTES_MAX + 1]), BadDictionary::Size(DICTIONARY_BYTES_MAX + 1));
        assert_eq!(refused(&[b'x'; 4_096]), BadDictionary::Untrained);
        assert_eq!(refused(&[&MAGIC[..], &[0xff; 4_096]].concat()), BadDictionary::Broken);
    }

    proptest::proptest! {
        #[test]
        fn changed_bytes_never_panic(at in 4..DICTIONARY_1.len(), to: u8, cut in 256..DICTIONARY_1.len()) {
            let mut bytes = DICTIONARY_1[..cut].to_vec();
            let at = at % cut;
            bytes[at] = to;
            let _ = Dictionary::read(&bytes);
        }
    }
}
