//! The end of a cold file: what it holds, and which bytes are worth asking for.
//!
//! Nothing is believed of it that the rest of the reading relies on: row groups lie one behind the other without gaps, columns
//! as the schema has them, and all counts are below their bounds.

use std::ops::Range;

use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};

use super::modules::Opener;
use super::schema::{COLUMNS, LEAF_COLUMNS, schema};
use super::{
    ColdError, FIRST_INDEX_KEY, FOOTER_BYTES_MAX, GROUP_LEAVES, LAYOUT, LAYOUT_KEY, LEAVES_MAX, RAW_BYTES_MAX,
    TAIL_BYTES, damaged, too_large,
};

/// "PARE": a Parquet file with an encrypted footer. It stands at both ends.
const MAGIC: [u8; 4] = *b"PARE";
/// Length of the footer, and the magic.
const END_BYTES: u64 = 8;
/// A column's values may take so much more than what they are made of: lengths, levels, hex and JSON.
const CHUNK_BYTES_MAX: u64 = 2 * RAW_BYTES_MAX;

/// What the end of a file gave.
#[allow(clippy::large_enum_variant, reason = "read once for a file and never kept in numbers")]
#[derive(Debug)]
pub enum Tail {
    /// The footer.
    Read(Footer),
    /// It is longer: so many bytes from the end are needed.
    More(u64),
}

/// A file's footer: where its row groups lie, and the key that opens them.
#[derive(Debug, Clone)]
pub struct Footer {
    first_index: u64,
    leaves: u64,
    /// Where each row group's columns start, and the last one's end.
    starts: Vec<[u64; COLUMNS.len() + 1]>,
    pub(super) metadata: ParquetMetaData,
    pub(super) opener: Opener,
}

/// Bytes at the end of a file that its footer takes, from some of these at least the last eight; all of them where it does not say.
pub fn footer_bytes(tail: &[u8]) -> usize {
    let said = tail.len().checked_sub(END_BYTES as usize).and_then(|at| tail[at..].first_chunk());
    let length = said.map_or(usize::MAX, |length| u32::from_le_bytes(*length) as usize);
    length.saturating_add(END_BYTES as usize).min(tail.len())
}

/// Reads the footer from the end of a file, of which [`TAIL_BYTES`] are enough nearly always.
pub fn footer(tail: &[u8], file_bytes: u64, key: &[u8; 32]) -> Result<Tail, ColdError> {
    let have = tail.len() as u64;
    if have > file_bytes || file_bytes < END_BYTES + MAGIC.len() as u64 {
        return Err(damaged("it is shorter than a file can be"));
    }
    let Some((rest, end)) = tail.split_last_chunk::<{ END_BYTES as usize }>() else {
        return Ok(Tail::More(TAIL_BYTES.min(file_bytes)));
    };
    let [l0, l1, l2, l3, magic @ ..] = *end;
    if magic != MAGIC {
        return Err(damaged("it does not end as an encrypted Parquet file does"));
    }
    let length = u64::from(u32::from_le_bytes([l0, l1, l2, l3]));
    too_large("bytes of the footer", length, FOOTER_BYTES_MAX)?;
    let footer_starts = (file_bytes - END_BYTES).checked_sub(length).filter(|start| *start >= MAGIC.len() as u64);
    let footer_starts = footer_starts.ok_or_else(|| damaged("its footer is longer than the file"))?;
    match rest.len().checked_sub(length as usize) {
        None => Ok(Tail::More(length + END_BYTES)),
        Some(before) => Footer::open(&rest[before..], footer_starts, key).map(Tail::Read),
    }
}

impl Footer {
    fn open(sealed: &[u8], footer_starts: u64, key: &[u8; 32]) -> Result<Self, ColdError> {
        let (opener, metadata) = Opener::footer(key, sealed)?;
        let metadata = ParquetMetaDataReader::decode_metadata(&metadata).map_err(damaged)?;
        let named = |name: &str| {
            let pairs = metadata.file_metadata().key_value_metadata()?;
            pairs.iter().find(|pair| pair.key == name)?.value.as_deref()
        };
        let layout = named(LAYOUT_KEY).unwrap_or_default();
        if layout != LAYOUT {
            return Err(ColdError::Layout(layout.to_owned()));
        }
        if *metadata.file_metadata().schema() != *schema() {
            return Err(damaged("its columns are not those of its layout"));
        }
        let first_index = named(FIRST_INDEX_KEY).and_then(|text| text.parse().ok());
        let first_index: u64 = first_index.ok_or_else(|| damaged("it does not say where it starts"))?;
        let leaves = checked(metadata.file_metadata().num_rows())?;
        too_large("leaves", leaves, LEAVES_MAX)?;
        first_index.checked_add(leaves).ok_or_else(|| damaged("its leaves have no numbers"))?;
        let starts = starts(&metadata, leaves, footer_starts)?;
        Ok(Self { first_index, leaves, starts, metadata, opener })
    }

    /// Number of its first leaf.
    pub fn first_index(&self) -> u64 {
        self.first_index
    }

    /// How many leaves it holds.
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// How many row groups; each has [`GROUP_LEAVES`] leaves, and the last one what is left.
    pub fn groups(&self) -> usize {
        self.starts.len()
    }

    /// Bytes of the file that hold a row group's leaves, heads of bodies and stored bodies. Nothing of a group that is not there.
    pub fn leaves_range(&self, group: usize) -> Range<u64> {
        self.range(group, LEAF_COLUMNS)
    }

    /// Bytes of the file that hold a row group, from where those of its leaves start. Nothing of a group that is not there.
    pub fn whole_range(&self, group: usize) -> Range<u64> {
        self.range(group, COLUMNS.len())
    }

    /// What each column takes in the file, by name and in order.
    pub fn column_bytes(&self) -> Vec<(&'static str, u64)> {
        let bytes = |column: usize| self.starts.iter().map(|starts| starts[column + 1] - starts[column]).sum();
        COLUMNS.iter().enumerate().map(|(number, column)| (column.spec().name, bytes(number))).collect()
    }

    fn range(&self, group: usize, columns: usize) -> Range<u64> {
        self.starts.get(group).map_or(0..0, |starts| starts[0]..starts[columns])
    }

    /// Bytes of a row group's column behind the row group's start.
    pub(super) fn column_range(&self, group: usize, column: usize) -> Range<usize> {
        let starts = &self.starts[group];
        (starts[column] - starts[0]) as usize..(starts[column + 1] - starts[0]) as usize
    }

    /// Number of a row group's first leaf, and how many it has.
    pub(super) fn rows(&self, group: usize) -> (u64, usize) {
        let before = group as u64 * GROUP_LEAVES as u64;
        (self.first_index + before, (self.leaves - before).min(GROUP_LEAVES as u64) as usize)
    }
}

fn checked(number: i64) -> Result<u64, ColdError> {
    u64::try_from(number).map_err(|_| damaged("a number is negative"))
}

/// Where columns start, for each row group. They lie one behind the other, from the magic to the footer.
fn starts(
    metadata: &ParquetMetaData,
    leaves: u64,
    footer_starts: u64,
) -> Result<Vec<[u64; COLUMNS.len() + 1]>, ColdError> {
    let (mut at, mut left, mut starts) = (MAGIC.len() as u64, leaves, Vec::new());
    for group in metadata.row_groups() {
        let rows = left.min(GROUP_LEAVES as u64);
        if rows == 0 || checked(group.num_rows())? != rows {
            return Err(damaged("a row group has another number of rows than it should"));
        }
        starts.push(column_starts(group, rows, at)?);
        at = starts.last().map_or(at, |starts| starts[COLUMNS.len()]);
        left -= rows;
    }
    let is_whole = left == 0 && at == footer_starts;
    is_whole.then_some(starts).ok_or_else(|| damaged("its row groups do not reach to its footer"))
}

fn column_starts(group: &RowGroupMetaData, rows: u64, start: u64) -> Result<[u64; COLUMNS.len() + 1], ColdError> {
    let mut starts = [start; COLUMNS.len() + 1];
    if group.num_columns() != COLUMNS.len() {
        return Err(damaged("a row group has another number of columns than it should"));
    }
    for (number, column) in group.columns().iter().enumerate() {
        if first_byte(column)? != starts[number] || checked(column.num_values())? != rows {
            return Err(damaged("a column is not where it should be"));
        }
        too_large("bytes of a column", checked(column.uncompressed_size())?, CHUNK_BYTES_MAX)?;
        let end = starts[number].checked_add(checked(column.compressed_size())?);
        starts[number + 1] = end.ok_or_else(|| damaged("a column has no end"))?;
    }
    Ok(starts)
}

fn first_byte(column: &ColumnChunkMetaData) -> Result<u64, ColdError> {
    checked(column.dictionary_page_offset().unwrap_or(column.data_page_offset()))
}
