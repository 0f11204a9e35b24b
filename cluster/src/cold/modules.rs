//! Opens what Parquet Modular Encryption sealed, under the footer's key and with AES-256-GCM.
//!
//! The library seals but does not open without a second library's columns, and it believes the lengths in front of modules,
//! which no tag covers. So modules are opened here, and only bytes that were sealed under our key go on to the library.

use std::sync::Arc;

use bytes::{Bytes, buf};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::{ColdError, GROUP_LEAVES, PAGE_BYTES_MAX, damaged, too_large};

const LENGTH_BYTES: usize = 4;
const TAG_BYTES: usize = 16;
/// Bytes that sealing adds to a module.
const OVERHEAD_BYTES: usize = LENGTH_BYTES + NONCE_LEN + TAG_BYTES;
/// A file's own number, which every module's associated data start with.
const FILE_NUMBER_BYTES: usize = 8;
/// What stands in front of the footer in a file of ours: the algorithm is AES-GCM, no prefix, and the file's own number; then
/// nothing else (Thrift's compact protocol).
const ALGORITHM: [u8; 4] = [0x1c, 0x1c, 0x28, FILE_NUMBER_BYTES as u8];
const ALGORITHM_END: [u8; 3] = [0; 3];

/// The numbers of modules' kinds.
const FOOTER: u8 = 0;
const DATA_PAGE: u8 = 2;
const DICTIONARY_PAGE: u8 = 3;
const DATA_PAGE_HEADER: u8 = 4;
const DICTIONARY_PAGE_HEADER: u8 = 5;

/// The key and the number of one file.
#[derive(Debug, Clone)]
pub(super) struct Opener {
    key: LessSafeKey,
    file_number: [u8; FILE_NUMBER_BYTES],
}

impl Opener {
    /// Opens the footer: the opener for the rest of the file, and the file's metadata.
    pub fn footer(key: &[u8; 32], sealed: &[u8]) -> Result<(Self, Vec<u8>), ColdError> {
        let unreadable = || damaged("its encryption is not as this release writes it");
        let sealed = sealed.strip_prefix(&ALGORITHM).ok_or_else(unreadable)?;
        let (file_number, sealed) = sealed.split_first_chunk().ok_or_else(unreadable)?;
        let sealed = sealed.strip_prefix(&ALGORITHM_END).ok_or_else(unreadable)?;
        let key = UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are a key of AES-256");
        let opener = Self { key: LessSafeKey::new(key), file_number: *file_number };
        let (module, rest) = cut(sealed)?;
        if !rest.is_empty() {
            return Err(damaged("bytes follow the footer"));
        }
        let metadata = opener.open(module, &[FOOTER]).ok_or(ColdError::Key)?;
        Ok((opener, metadata))
    }

    /// Opens the pages of a column in a row group, by their numbers.
    pub fn pages(&self, sealed: &[u8], group: usize, column: usize, has_dictionary: bool) -> Result<Pages, ColdError> {
        let mut plain = Vec::with_capacity(sealed.len());
        let (mut rest, mut page, mut is_dictionary) = (sealed, 0i16, has_dictionary);
        while !rest.is_empty() {
            let kinds =
                if is_dictionary { (DICTIONARY_PAGE_HEADER, DICTIONARY_PAGE) } else { (DATA_PAGE_HEADER, DATA_PAGE) };
            let place = Place { group: group as i16, column: column as i16, page: (!is_dictionary).then_some(page) };
            let (header, after) = cut(rest)?;
            let header =
                self.open(header, &place.of(kinds.0)).ok_or_else(|| damaged("a page's header does not open"))?;
            let (sealed_page, after) = cut(after)?;
            check_header(&header, sealed_page.len() + LENGTH_BYTES)?;
            let opened = self.open(sealed_page, &place.of(kinds.1)).ok_or_else(|| damaged("a page does not open"))?;
            plain.extend_from_slice(&header);
            plain.extend_from_slice(&opened);
            // The header counts these, and `Pages` takes them off again.
            plain.extend_from_slice(&[0; OVERHEAD_BYTES]);
            page = if is_dictionary { page } else { page.checked_add(1).ok_or_else(|| damaged("too many pages"))? };
            (rest, is_dictionary) = (after, false);
        }
        Ok(Pages(plain.into()))
    }

    /// Opens a module behind its length; none where it was not sealed so.
    fn open(&self, module: &[u8], place: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = module.split_first_chunk::<NONCE_LEN>()?;
        let associated = [&self.file_number, place].concat();
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key.open_in_place(nonce, Aad::from(associated), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

/// Where a module of a page stands.
struct Place {
    group: i16,
    column: i16,
    page: Option<i16>,
}

impl Place {
    fn of(&self, kind: u8) -> Vec<u8> {
        let mut out = vec![kind];
        out.extend_from_slice(&self.group.to_le_bytes());
        out.extend_from_slice(&self.column.to_le_bytes());
        self.page.iter().for_each(|page| out.extend_from_slice(&page.to_le_bytes()));
        out
    }
}

/// The next module without its length, and what follows it.
fn cut(bytes: &[u8]) -> Result<(&[u8], &[u8]), ColdError> {
    let cut_short = || damaged("a module is cut short");
    let (length, rest) = bytes.split_first_chunk().ok_or_else(cut_short)?;
    let length = u32::from_le_bytes(*length) as usize;
    rest.split_at_checked(length).filter(|_| length >= NONCE_LEN + TAG_BYTES).ok_or_else(cut_short)
}

/// Holds the numbers in a page's header against what may be, before anything is allocated for them.
fn check_header(header: &[u8], page_bytes: usize) -> Result<(), ColdError> {
    let sizes = Sizes::read(header).ok_or_else(|| damaged("a page's header is not as this release writes it"))?;
    if sizes.sealed as usize != page_bytes {
        return Err(damaged("a page has another size than its header says"));
    }
    too_large("bytes of a page", sizes.plain.into(), PAGE_BYTES_MAX)?;
    too_large("values of a page", sizes.values.into(), GROUP_LEAVES as u64)
}

/// The numbers that every page's header starts with.
struct Sizes {
    plain: u32,
    sealed: u32,
    values: u32,
}

impl Sizes {
    /// Reads Thrift's compact protocol as far as needed: three numbers, and the first one of the structure that follows.
    fn read(header: &[u8]) -> Option<Self> {
        const NUMBER: u8 = 0x15;
        let (_kind, rest) = number(header.strip_prefix(&[NUMBER])?)?;
        let (plain, rest) = number(rest.strip_prefix(&[NUMBER])?)?;
        let (sealed, rest) = number(rest.strip_prefix(&[NUMBER])?)?;
        // A data page of version 1, a dictionary page, or a data page of version 2.
        let rest = rest.split_first().and_then(|(field, rest)| [0x2c, 0x4c, 0x5c].contains(field).then_some(rest))?;
        let (values, _) = number(rest.strip_prefix(&[NUMBER])?)?;
        Some(Self { plain, sealed, values })
    }
}

/// A number that is not negative, and what follows it.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let length = bytes.iter().take(5).position(|byte| byte & 0x80 == 0)? + 1;
    let (number, rest) = bytes.split_at_checked(length)?;
    let zigzag = number.iter().rev().fold(0u64, |sum, byte| sum << 7 | u64::from(byte & 0x7f));
    let value = u32::try_from(zigzag / 2).ok()?;
    (zigzag % 2 == 0 && value <= i32::MAX as u32).then_some((value, rest))
}

/// A column's pages in the clear, as a reader of files without encryption expects them.
pub(super) struct Pages(Bytes);

impl Pages {
    /// The library's reader of them.
    pub fn reader(self, chunk: &ColumnChunkMetaData, rows: usize) -> ParquetResult<SerializedPageReader<Self>> {
        let builder = chunk.clone().into_builder();
        let starts_with_dictionary = chunk.dictionary_page_offset().map(|_| 0);
        let builder = builder.set_dictionary_page_offset(starts_with_dictionary).set_data_page_offset(0);
        let chunk = builder.set_total_compressed_size(self.0.len() as i64).build()?;
        SerializedPageReader::new(Arc::new(self), &chunk, rows, None)
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

impl ChunkReader for Pages {
    type T = buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.0.get_bytes(start, length.saturating_sub(OVERHEAD_BYTES))
    }
}
