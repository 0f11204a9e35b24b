//! Writes a cold file: records to rows, rows to columns, a row group at a time.
//!
//! Two files of the same records are never equal: the library draws the file's own number and its nonces from the system.
//! Nothing may depend on that; what a file holds is equal.

use std::sync::Arc;

use nethical_protocol::limits::LEAF_BYTES_MAX;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::encryption::encrypt::FileEncryptionProperties;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::column::Chunk;
use super::row::Row;
use super::schema::{COLUMNS, Coding, Column, Kind, schema};
use super::{
    Body, ColdError, FIRST_INDEX_KEY, GROUP_LEAVES, LAYOUT, LAYOUT_KEY, LEAVES_MAX, RAW_BYTES_MAX, RECORD_BYTES_MAX,
    Record, too_large,
};

/// A file is written once and kept for years. Made-up traffic takes 309 B a record and 96 µs at level 9, 302 B and 155 µs here, and
/// 294 B and 700 µs at level 15.
const ZSTD_LEVEL: i32 = 12;
/// A page of a column takes about so many bytes before zstd, so that most columns have one page in a row group.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Longer values are cut in the footer's smallest and largest ones.
const BOUND_BYTES_MAX: usize = 64;

/// A whole file: records of consecutive leaves from `first_index` on, as many as a segment has at most.
///
/// Takes about 150 µs a record of 1.5 KB, most of it zstd's, and memory for the columns of one row group beside records and file. Leaves and bodies come back
/// to the byte, whatever they are. Two calls with the same records give different bytes, because nonces are drawn.
pub fn encode(first_index: u64, records: &[Record], key: &[u8; 32]) -> Result<Vec<u8>, ColdError> {
    check_bounds(first_index, records)?;
    let mut file = SerializedFileWriter::new(Vec::new(), schema(), Arc::new(properties(key)?)).map_err(unwritten)?;
    let mut leaf_index = first_index;
    for group in records.chunks(GROUP_LEAVES) {
        let mut chunks = COLUMNS.map(Chunk::new);
        for record in group {
            let row = Row::of(leaf_index, record)?;
            chunks.iter_mut().zip(row.into_cells()).try_for_each(|(chunk, cell)| chunk.push(cell))?;
            leaf_index += 1;
        }
        write_group(&mut file, &chunks).map_err(unwritten)?;
    }
    file.append_key_value_metadata(KeyValue::new(LAYOUT_KEY.to_owned(), LAYOUT.to_owned()));
    file.append_key_value_metadata(KeyValue::new(FIRST_INDEX_KEY.to_owned(), first_index.to_string()));
    file.into_inner().map_err(unwritten)
}

fn write_group(file: &mut SerializedFileWriter<Vec<u8>>, chunks: &[Chunk]) -> parquet::errors::Result<()> {
    let mut group = file.next_row_group()?;
    for chunk in chunks {
        let mut writer = group.next_column()?.ok_or(ParquetError::General("the schema ended".to_owned()))?;
        chunk.write(&mut writer)?;
        writer.close()?;
    }
    group.close().map(|_| ())
}

fn unwritten(error: ParquetError) -> ColdError {
    ColdError::Unwritten(error.to_string())
}

/// Refuses what no segment holds, and what would take too much memory.
fn check_bounds(first_index: u64, records: &[Record]) -> Result<(), ColdError> {
    let leaves = records.len() as u64;
    too_large("leaves", leaves, LEAVES_MAX)?;
    if first_index.checked_add(leaves).is_none() {
        return Err(ColdError::TooLarge { what: "leaf index", found: first_index, most: u64::MAX - leaves });
    }
    let mut raw = 0;
    for Record { leaf, body } in records {
        let body_bytes = match body {
            Body::Stored(stored) => stored.len(),
            Body::Clear { head, plaintext } => head.len() + plaintext.len(),
        };
        too_large("bytes of a leaf", leaf.len() as u64, LEAF_BYTES_MAX as u64)?;
        too_large("bytes of a body", body_bytes as u64, RECORD_BYTES_MAX)?;
        raw += (leaf.len() + body_bytes) as u64;
    }
    too_large("bytes of leaves and bodies", raw, RAW_BYTES_MAX)
}

fn properties(key: &[u8; 32]) -> Result<WriterProperties, ColdError> {
    let encryption = FileEncryptionProperties::builder(key.to_vec()).build().map_err(unwritten)?;
    let zstd = Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL).map_err(unwritten)?);
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(zstd)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_data_page_row_count_limit(GROUP_LEAVES)
        .set_statistics_truncate_length(Some(BOUND_BYTES_MAX))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .with_file_encryption_properties(encryption);
    for column in COLUMNS {
        let path = ColumnPath::from(column.spec().name);
        builder = builder.set_column_dictionary_enabled(path.clone(), column.spec().coding == Coding::Dictionary);
        if let Some(encoding) = encoding(column) {
            builder = builder.set_column_encoding(path.clone(), encoding);
        }
        if column.spec().is_bounded {
            builder = builder.set_column_statistics_enabled(path, EnabledStatistics::Chunk);
        }
    }
    Ok(builder.build())
}

/// How values are written that no dictionary holds.
fn encoding(column: Column) -> Option<Encoding> {
    match (column.spec().coding, column.spec().kind) {
        (Coding::Delta, Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 | Kind::Nanos | Kind::Millis) => {
            Some(Encoding::DELTA_BINARY_PACKED)
        }
        (Coding::Delta, _) => Some(Encoding::DELTA_LENGTH_BYTE_ARRAY),
        (Coding::Dictionary | Coding::Plain, _) => None,
    }
}
