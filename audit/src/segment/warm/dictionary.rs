//! The dictionaries that leaves of warm segments are packed with, by the SHA-256 of their bytes.
//!
//! A dictionary is data that is needed to read, so every release knows all of them for ever and a better one is added beside the
//! others. They were trained on made-up leaves alone, never on anybody's.

use std::sync::LazyLock;

use zstd::dict::{DecoderDictionary, EncoderDictionary};

use super::WarmError;
use crate::tree::Hash;

/// Dictionary 1.
pub const LEAVES_1: &[u8] = include_bytes!("leaves-1.zdict");
/// What its bytes hash to; pinned, since every warm segment names it.
const DIGEST_1: Hash = [
    0x77, 0x1c, 0x0c, 0x8e, 0x7a, 0x90, 0xc3, 0xaf, 0x73, 0x4a, 0xa6, 0x10, 0xf8, 0x91, 0x1a, 0xc3, 0xc8, 0x7c, 0x57,
    0x52, 0xca, 0xdc, 0xc9, 0xa0, 0x46, 0x0e, 0x8a, 0x6d, 0x21, 0x64, 0xf1, 0x4c,
];
/// The one that this release packs with.
pub(super) const NEWEST: Hash = DIGEST_1;
/// Packing is done once, in the background, and read for years.
const LEVEL: i32 = 9;

static ENCODER: LazyLock<EncoderDictionary<'static>> = LazyLock::new(|| EncoderDictionary::copy(LEAVES_1, LEVEL));
static DECODER: LazyLock<DecoderDictionary<'static>> = LazyLock::new(|| DecoderDictionary::copy(LEAVES_1));

/// What [`NEWEST`] packs with.
pub(super) fn encoder() -> &'static EncoderDictionary<'static> {
    &ENCODER
}

/// What a dictionary unpacks with; an error that names it where it is not known here.
pub(super) fn named(digest: &Hash) -> Result<&'static DecoderDictionary<'static>, WarmError> {
    if *digest == DIGEST_1 { Ok(&DECODER) } else { Err(WarmError::Dictionary(hex::encode(digest))) }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_dictionary_is_the_one_that_warm_segments_name() {
        assert_eq!(hex::encode(Sha256::digest(LEAVES_1)), hex::encode(DIGEST_1));
    }

    #[test]
    fn a_dictionary_of_a_later_release_is_refused_by_its_name() {
        let Err(WarmError::Dictionary(name)) = named(&[9; 32]) else { panic!("it is not known") };
        assert_eq!(name, "09".repeat(32));
    }
}
