//! Packs a body before it is sealed: zstd (RFC 8878) with a dictionary that every release knows for ever, or with one that its
//! tenant gave ([`super::dictionary`]).
//!
//! A dictionary is data that is needed to read. The built-in one is named by its number in the stored body, pinned here by its
//! digest, and never changed; a better one gets the next number. It was trained on made-up actions alone, never on anybody's.
//! A tenant's own is named by four bytes in front of what it packed. What does not get smaller is stored as it is. Nothing here
//! encrypts, and sizes tell a little about what was packed.

use std::cell::RefCell;
use std::sync::LazyLock;

use nethical_protocol::limits::BODY_BYTES_MAX;
use zstd::bulk::Compressor;
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe::{CCtx, DDict, compress_bound};

use super::dictionary::{Dictionaries, Dictionary, DictionaryName};

/// The body as it is.
pub(super) const RAW: u8 = 0;
/// zstd with dictionary 1.
pub(super) const ZSTD_1: u8 = 1;
/// zstd with the dictionary whose name comes next.
pub(super) const ZSTD_NAMED: u8 = 2;
/// What an unpacked body may have: an action with all that is stored beside it.
pub const UNPACKED_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;
/// zstd's own default: a few microseconds for a body of a kilobyte.
pub(super) const LEVEL: i32 = 3;

/// The newest dictionary that a body may be packed with in this release.
pub const DICTIONARY: u32 = 1;
/// Dictionary 1.
pub const DICTIONARY_1: &[u8] = include_bytes!("dictionary-1.zdict");

static ENCODER: LazyLock<EncoderDictionary<'static>> = LazyLock::new(|| EncoderDictionary::copy(DICTIONARY_1, LEVEL));
static DECODER: LazyLock<DecoderDictionary<'static>> = LazyLock::new(|| DecoderDictionary::copy(DICTIONARY_1));

thread_local! {
    /// A context takes longer to make than a body to pack. It keeps nothing of what it packed.
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    /// The same for dictionaries that come and go.
    static NAMED_PACKER: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
}

/// Appends codec and packed body; packed with the built-in dictionary where none is given.
pub(super) fn pack_onto(out: &mut Vec<u8>, body: &[u8], dictionary: Option<&Dictionary>) {
    let (name, packed) = match dictionary {
        None => (None, packed(body)),
        Some(own) => (Some(own.name()), packed_with(own, body)),
    };
    let named = name.as_ref().map_or(&[][..], |name| name);
    match packed {
        Some(packed) if named.len() + packed.len() < body.len() => {
            out.push(if name.is_some() { ZSTD_NAMED } else { ZSTD_1 });
            out.extend_from_slice(named);
            out.extend_from_slice(&packed);
        }
        _ => {
            out.push(RAW);
            out.extend_from_slice(body);
        }
    }
}

fn packed_with(dictionary: &Dictionary, body: &[u8]) -> Option<Vec<u8>> {
    NAMED_PACKER.with_borrow_mut(|packer| {
        if packer.is_none() {
            *packer = CCtx::try_create();
        }
        let mut packed = Vec::with_capacity(compress_bound(body.len()));
        packer.as_mut()?.compress_using_cdict(&mut packed, body, &dictionary.encoder).ok()?;
        Some(packed)
    })
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
    /// The tenant's dictionary of this name is not known here.
    Dictionary(DictionaryName),
    /// Not what a packer gave, or more than a body may have.
    Malformed,
}

/// Reads what [`pack_onto`] wrote, codec first.
pub(super) fn unpack(packed: &[u8], known: &Dictionaries) -> Result<Vec<u8>, Unpackable> {
    match packed.split_first() {
        Some((&RAW, body)) => Ok(body.to_vec()),
        Some((&ZSTD_1, packed)) => unpack_with(DECODER.as_ddict(), packed),
        Some((&ZSTD_NAMED, named)) => {
            let (name, packed) = named.split_first_chunk().ok_or(Unpackable::Malformed)?;
            unpack_with(&known.get(name).ok_or(Unpackable::Dictionary(*name))?.decoder, packed)
        }
        Some((codec, _)) => Err(Unpackable::Codec(*codec)),
        None => Err(Unpackable::Malformed),
    }
}

fn unpack_with(dictionary: &DDict<'_>, packed: &[u8]) -> Result<Vec<u8>, Unpackable> {
    crate::unpack::unpack(packed, dictionary, UNPACKED_BYTES_MAX).ok_or(Unpackable::Malformed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    const DIGEST_1: &str = "84b8461190d66dc21d9d6657145ae987fe1e28dc91cb4a2fa144941472a6a9bd";

    #[test]
    fn the_dictionary_is_the_one_that_stored_bodies_were_packed_with() {
        assert_eq!(hex::encode(Sha256::digest(DICTIONARY_1)), DIGEST_1);
    }

    fn none() -> Dictionaries {
        Dictionaries::default()
    }

    /// Somebody's own dictionary, which happens to be the built-in one, and what knows it.
    fn own() -> (Arc<Dictionary>, Dictionaries) {
        static OWN: LazyLock<Arc<Dictionary>> =
            LazyLock::new(|| Arc::new(Dictionary::read(DICTIONARY_1).expect("a dictionary")));
        let mut known = none();
        known.add(OWN.clone());
        (OWN.clone(), known)
    }

    #[test]
    fn a_body_names_its_dictionary_and_reads_only_where_that_is_known() {
        let ((own, known), body, mut packed) = (own(), b"the action was allowed ".repeat(20), Vec::new());
        pack_onto(&mut packed, &body, Some(&own));
        assert_eq!((packed[0], &packed[1..5]), (ZSTD_NAMED, &own.name()[..]));
        assert_eq!(unpack(&packed, &known).ok(), Some(body));
        assert!(matches!(unpack(&packed, &none()), Err(Unpackable::Dictionary(name)) if name == own.name()));
        assert!(matches!(unpack(&packed[..4], &known), Err(Unpackable::Malformed)));
        let huge = zstd::bulk::compress(&vec![0; UNPACKED_BYTES_MAX + 1], 1).expect("it packs");
        let bomb = [&packed[..5], &huge[..]].concat();
        assert!(matches!(unpack(&bomb, &known), Err(Unpackable::Malformed)));
    }

    #[test]
    fn codecs_of_later_releases_and_bytes_that_nobody_packed_are_refused() {
        assert!(matches!(unpack(&[9, 1, 2], &none()), Err(Unpackable::Codec(9))));
        assert!(matches!(unpack(&[], &none()), Err(Unpackable::Malformed)));
        assert!(matches!(unpack(&[ZSTD_1, 1, 2, 3], &none()), Err(Unpackable::Malformed)));
        let huge = zstd::bulk::compress(&vec![0; UNPACKED_BYTES_MAX + 1], 1).expect("it packs");
        assert!(matches!(unpack(&[&[ZSTD_1], &huge[..]].concat(), &none()), Err(Unpackable::Malformed)), "a bomb");
    }

    proptest! {
        #[test]
        fn what_was_packed_unpacks_and_nothing_grows_by_more_than_its_codec(
            body in proptest::collection::vec(any::<u8>(), 0..3_000), repeat in 1usize..4, cut in any::<usize>(), named: bool,
        ) {
            let (body, (own, known)) = (body.repeat(repeat), own());
            let mut packed = Vec::new();
            pack_onto(&mut packed, &body, Some(&*own).filter(|_| named));
            prop_assert!(packed.len() <= body.len() + 1);
            prop_assert_eq!(unpack(&packed, &known).ok(), Some(body));
            let _ = unpack(&packed[..cut % packed.len()], &known);
        }
    }
}
