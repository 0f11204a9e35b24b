//! Packs a body before it is sealed: zstd (RFC 8878) with a dictionary that every release knows for ever.
//!
//! A dictionary is data that is needed to read: it is named by its number in the stored body, pinned here by its digest, and
//! never changed; a better one gets the next number. It was trained on made-up actions alone, never on anybody's. What does
//! not get smaller is stored as it is. Nothing here encrypts, and sizes tell a little about what was packed.

use std::cell::RefCell;
use std::sync::LazyLock;

use nethical_protocol::limits::BODY_BYTES_MAX;
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};

/// The body as it is.
pub(super) const RAW: u8 = 0;
/// zstd with dictionary 1.
pub(super) const ZSTD_1: u8 = 1;
/// What an unpacked body may have: an action with all that is stored beside it.
pub const UNPACKED_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;
/// zstd's own default: a few microseconds for a body of a kilobyte.
const LEVEL: i32 = 3;

/// The newest dictionary that a body may be packed with in this release.
pub const DICTIONARY: u32 = 1;
/// Dictionary 1.
pub const DICTIONARY_1: &[u8] = include_bytes!("dictionary-1.zdict");

static ENCODER: LazyLock<EncoderDictionary<'static>> = LazyLock::new(|| EncoderDictionary::copy(DICTIONARY_1, LEVEL));
static DECODER: LazyLock<DecoderDictionary<'static>> = LazyLock::new(|| DecoderDictionary::copy(DICTIONARY_1));

thread_local! {
    /// A context takes longer to make than a body to pack. It keeps nothing of what it packed.
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Appends codec and packed body.
pub(super) fn pack_onto(out: &mut Vec<u8>, body: &[u8]) {
    match packed(body) {
        Some(packed) if packed.len() < body.len() => {
            out.push(ZSTD_1);
            out.extend_from_slice(&packed);
        }
        _ => {
            out.push(RAW);
            out.extend_from_slice(body);
        }
    }
}

fn packed(body: &[u8]) -> Option<Vec<u8>> {
    PACKER.with_borrow_mut(|packer| {
        if packer.is_none() {
            *packer = Compressor::with_prepared_dictionary(&ENCODER).ok();
        }
        packer.as_mut()?.compress(body).ok()
    })
}

/// Why packed bytes cannot be read.
pub(super) enum Unpackable {
    /// Another codec than those of this release.
    Codec(u8),
    /// Not what a packer gave, or more than a body may have.
    Malformed,
}

/// Reads what [`pack_onto`] wrote, codec first.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>, Unpackable> {
    match packed.split_first() {
        Some((&RAW, body)) => Ok(body.to_vec()),
        Some((&ZSTD_1, packed)) => {
            let size = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten().ok_or(Unpackable::Malformed)?;
            let size = usize::try_from(size).ok().filter(|size| *size <= UNPACKED_BYTES_MAX);
            let mut unpacker = Decompressor::with_prepared_dictionary(&DECODER).map_err(|_| Unpackable::Malformed)?;
            unpacker.decompress(packed, size.ok_or(Unpackable::Malformed)?).map_err(|_| Unpackable::Malformed)
        }
        Some((codec, _)) => Err(Unpackable::Codec(*codec)),
        None => Err(Unpackable::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    const DIGEST_1: &str = "84b8461190d66dc21d9d6657145ae987fe1e28dc91cb4a2fa144941472a6a9bd";

    #[test]
    fn the_dictionary_is_the_one_that_stored_bodies_were_packed_with() {
        assert_eq!(hex::encode(Sha256::digest(DICTIONARY_1)), DIGEST_1);
    }

    #[test]
    fn codecs_of_later_releases_and_bytes_that_nobody_packed_are_refused() {
        assert!(matches!(unpack(&[9, 1, 2]), Err(Unpackable::Codec(9))));
        assert!(matches!(unpack(&[]), Err(Unpackable::Malformed)));
        assert!(matches!(unpack(&[ZSTD_1, 1, 2, 3]), Err(Unpackable::Malformed)));
        let huge = zstd::bulk::compress(&vec![0; UNPACKED_BYTES_MAX + 1], 1).expect("it packs");
        assert!(matches!(unpack(&[&[ZSTD_1], &huge[..]].concat()), Err(Unpackable::Malformed)), "a bomb");
    }

    proptest! {
        #[test]
        fn what_was_packed_unpacks_and_nothing_grows_by_more_than_its_codec(
            body in proptest::collection::vec(any::<u8>(), 0..3_000), repeat in 1usize..4, cut in any::<usize>(),
        ) {
            let body = body.repeat(repeat);
            let mut packed = Vec::new();
            pack_onto(&mut packed, &body);
            prop_assert!(packed.len() <= body.len() + 1);
            prop_assert_eq!(unpack(&packed).ok(), Some(body));
            let _ = unpack(&packed[..cut % packed.len()]);
        }
    }
}
