//! The columns of exported entries, and a Parquet file of them. Other people read them with other programs.
//!
//! Nothing is encrypted: whoever exports may read, and the file is theirs to protect. A column that is added comes last; none is
//! renamed, none changes its type.

use std::sync::{Arc, LazyLock};

use nethical_cluster::api::EntryView;
use nethical_protocol::decision::Decision;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, SchemaDescriptor};
use serde_json::Value;

/// The columns, as Parquet writes schemas down. Names that the cold tier's files have as well mean the same there.
pub const SCHEMA: &str = "message nethical_entries {
  required binary decision_id (STRING);
  required int32 log_group (INTEGER(32,false));
  required int32 era (INTEGER(32,false));
  required int64 leaf_index (INTEGER(64,false));
  required binary kind (STRING);
  required int64 log_time (TIMESTAMP(NANOS,true));
  optional binary tenant (STRING);
  optional binary agent (STRING);
  optional binary session (STRING);
  optional binary request_id (STRING);
  optional binary action_kind (STRING);
  optional binary name (STRING);
  optional binary resource_type (STRING);
  optional binary resource_id (STRING);
  optional binary verdict (STRING);
  optional boolean allowed;
  optional int32 risk (INTEGER(16,false));
  optional binary risk_tier (STRING);
  optional binary agent_state (STRING);
  optional int64 policy_revision (INTEGER(64,false));
  optional group reasons (LIST) { repeated group list { required binary element (STRING); } }
  optional binary body_state (STRING);
  required binary leaf_hash (STRING);
  optional binary decision (JSON);
  optional binary body (JSON);
}";
/// Written once, read often: a level above zstd's own.
const ZSTD_LEVEL: i32 = 5;
/// Longer smallest and largest values are cut in the footer.
const BOUND_BYTES_MAX: usize = 64;
/// Bytes that a value takes beside its text, roughly: levels and lengths.
const CELL_BYTES: usize = 8;

static DESCRIPTOR: LazyLock<SchemaDescriptor> = LazyLock::new(|| {
    SchemaDescriptor::new(Arc::new(
        parse_message_type(SCHEMA).expect("a test reads this schema, and it does not change"),
    ))
});

/// One value of a row.
enum Cell {
    None,
    Flag(bool),
    Int(u32),
    Long(i64),
    Text(String),
    Texts(Vec<String>),
}

/// Values that are there, in the library's types.
enum Values {
    Flags(Vec<bool>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    Texts(Vec<ByteArray>),
}

/// One column: values, and for each place how much of its path is there and whether it goes on with the same row.
struct Column {
    definition: Vec<i16>,
    repetition: Vec<i16>,
    values: Values,
}

/// Rows that are not written yet, by column.
pub struct Columns {
    columns: Vec<Column>,
    /// Rows.
    pub rows: u64,
    /// Bytes that the values take in memory, roughly.
    pub raw_bytes: usize,
}

impl Default for Columns {
    fn default() -> Self {
        Self { columns: (0..DESCRIPTOR.num_columns()).map(Column::new).collect(), rows: 0, raw_bytes: 0 }
    }
}

impl Columns {
    /// Adds an entry as a row.
    ///
    /// # Errors
    /// Where a value is not of its column's type, which is a mistake of this file.
    pub fn push(&mut self, entry: &EntryView) -> anyhow::Result<()> {
        for (at, (column, cell)) in self.columns.iter_mut().zip(row(entry)?).enumerate() {
            self.raw_bytes += CELL_BYTES + cell.text_bytes();
            anyhow::ensure!(
                column.push(at, cell),
                "column {} has a value of another type",
                DESCRIPTOR.column(at).name()
            );
        }
        self.rows += 1;
        Ok(())
    }

    /// All rows as a Parquet file of one row group.
    ///
    /// # Errors
    /// As the library has them, for which nothing outside can be the cause.
    pub fn encode(&self) -> parquet::errors::Result<Vec<u8>> {
        let schema = DESCRIPTOR.root_schema_ptr();
        let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties()?))?;
        let mut group = file.next_row_group()?;
        for column in &self.columns {
            let mut writer = group.next_column()?.ok_or(ParquetError::General("the schema ended".to_owned()))?;
            column.write(&mut writer)?;
            writer.close()?;
        }
        group.close()?;
        file.into_inner()
    }
}

fn properties() -> parquet::errors::Result<WriterProperties> {
    let unbounded = |properties: parquet::file::properties::WriterPropertiesBuilder, name: &str| {
        let path = ColumnPath::from(name);
        properties
            .set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
            .set_column_dictionary_enabled(path, false)
    };
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_statistics_truncate_length(Some(BOUND_BYTES_MAX));
    Ok(["decision", "body"].into_iter().fold(properties, unbounded).build())
}

impl Cell {
    fn text(text: &str) -> Self {
        if text.is_empty() { Self::None } else { Self::Text(text.to_owned()) }
    }

    fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Texts(texts) => texts.iter().map(|text| text.len() + CELL_BYTES).sum(),
            Self::None | Self::Flag(_) | Self::Int(_) | Self::Long(_) => 0,
        }
    }
}

impl Column {
    fn new(at: usize) -> Self {
        use parquet::basic::Type;
        let values = match DESCRIPTOR.column(at).physical_type() {
            Type::BOOLEAN => Values::Flags(Vec::new()),
            Type::INT32 => Values::Ints(Vec::new()),
            Type::INT64 => Values::Longs(Vec::new()),
            _ => Values::Texts(Vec::new()),
        };
        Self { definition: Vec::new(), repetition: Vec::new(), values }
    }

    /// Adds a row's value; false where it is of another type.
    fn push(&mut self, at: usize, cell: Cell) -> bool {
        let whole = DESCRIPTOR.column(at).max_def_level();
        let absent = matches!(cell, Cell::None);
        let (texts, is_list) = match cell {
            Cell::Texts(texts) => (texts, true),
            Cell::Text(text) => (vec![text], false),
            other => {
                self.level(if absent { 0 } else { whole }, 0);
                return self.push_number(other);
            }
        };
        let Values::Texts(values) = &mut self.values else { return false };
        let count = texts.len();
        values.extend(texts.into_iter().map(|text| ByteArray::from(text.into_bytes())));
        if is_list && count == 0 {
            self.level(whole - 1, 0);
        }
        (0..count).for_each(|place| self.level(whole, i16::from(place > 0)));
        true
    }

    fn push_number(&mut self, cell: Cell) -> bool {
        match (&mut self.values, cell) {
            (_, Cell::None) => {}
            (Values::Flags(values), Cell::Flag(value)) => values.push(value),
            (Values::Ints(values), Cell::Int(value)) => values.push(value.cast_signed()),
            (Values::Longs(values), Cell::Long(value)) => values.push(value),
            _ => return false,
        }
        true
    }

    fn level(&mut self, definition: i16, repetition: i16) {
        self.definition.push(definition);
        self.repetition.push(repetition);
    }

    fn write(&self, writer: &mut SerializedColumnWriter<'_>) -> parquet::errors::Result<usize> {
        let (definition, repetition) = (Some(self.definition.as_slice()), Some(self.repetition.as_slice()));
        match &self.values {
            Values::Flags(values) => writer.typed::<BoolType>().write_batch(values, definition, repetition),
            Values::Ints(values) => writer.typed::<Int32Type>().write_batch(values, definition, repetition),
            Values::Longs(values) => writer.typed::<Int64Type>().write_batch(values, definition, repetition),
            Values::Texts(values) => writer.typed::<ByteArrayType>().write_batch(values, definition, repetition),
        }
    }
}

/// An entry's values in the order of the schema.
fn row(entry: &EntryView) -> anyhow::Result<Vec<Cell>> {
    let (id, decision) = (entry.decision_id, entry.decision.as_ref());
    let word = |path: &[&str]| {
        let found = path.iter().try_fold(entry.body.as_ref()?, |value, name| value.get(name));
        found.and_then(Value::as_str).map(Cell::text)
    };
    let body = |path: &[&str]| word(path).unwrap_or(Cell::None);
    let decided = |cell: fn(&Decision) -> Cell| decision.map_or(Cell::None, cell);
    Ok(vec![
        Cell::Text(id.to_string()),
        Cell::Int(id.log.group.0),
        Cell::Int(id.log.era),
        Cell::Long(id.leaf_index.cast_signed()),
        Cell::Text(entry.kind.clone()),
        // A log time beyond 2262 has no place in 64 bits with a sign.
        Cell::Long(i64::try_from(entry.at_ns).unwrap_or(i64::MAX)),
        body(&["tenant"]),
        body(&["agent"]),
        body(&["session"]),
        body(&["request_id"]),
        decision.and_then(|_| word(&["kind"])).unwrap_or(Cell::None),
        body(&["name"]),
        body(&["resource", "type"]),
        body(&["resource", "id"]),
        decided(|decision| Cell::text(decision.verdict.as_str())),
        decided(|decision| Cell::Flag(decision.allowed)),
        decided(|decision| Cell::Int(decision.risk.score.into())),
        decided(|decision| Cell::text(&decision.risk.tier)),
        decided(|decision| Cell::text(decision.agent.state.as_str())),
        decided(|decision| Cell::Long(decision.revision.policy.0.cast_signed())),
        decided(|decision| {
            Cell::Texts(decision.reasons.iter().map(|of| format!("{}: {}", of.code, of.detail)).collect())
        }),
        entry.body_state.as_deref().map_or(Cell::None, Cell::text),
        Cell::Text(entry.leaf_hash.clone()),
        decision.map(serde_json::to_string).transpose()?.map_or(Cell::None, Cell::Text),
        entry.body.as_ref().map_or(Cell::None, |body| Cell::Text(body.to_string())),
    ])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, Row};

    use super::super::entries;
    use super::*;

    /// The entry that a row was made of.
    fn entry(row: &Row) -> EntryView {
        let fields: std::collections::BTreeMap<_, _> =
            row.get_column_iter().map(|(name, value)| (name.as_str(), value)).collect();
        let text = |name: &str| match fields[name] {
            Field::Str(text) => Some(text.clone()),
            Field::Null => None,
            other => panic!("{name} is {other}"),
        };
        let Field::Long(at_ns) = fields["log_time"] else { panic!("a time: {}", fields["log_time"]) };
        EntryView {
            decision_id: text("decision_id").expect("an id").parse().expect("an id"),
            kind: text("kind").expect("a kind"),
            at_ns: at_ns.cast_unsigned(),
            leaf_hash: text("leaf_hash").expect("a hash"),
            decision: text("decision").map(|decision| serde_json::from_str(&decision).expect("a decision")),
            body: text("body").map(|body| serde_json::from_str(&body).expect("JSON")),
            body_state: text("body_state"),
        }
    }

    #[test]
    fn what_is_written_comes_back_row_by_row_with_lists_and_what_is_absent() {
        let written = entries::all();
        let mut columns = Columns::default();
        written.iter().for_each(|entry| columns.push(entry).expect("a row"));
        assert_eq!(columns.rows, written.len() as u64);
        assert!(columns.raw_bytes > 1_000, "{}", columns.raw_bytes);
        let file = Bytes::from(columns.encode().expect("a file"));
        let reader = SerializedFileReader::new(file).expect("it reads");
        let rows: Vec<Row> = reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect();
        assert_eq!(rows.iter().map(entry).collect::<Vec<_>>(), written);
        let reasons: Vec<usize> = rows
            .iter()
            .filter_map(|row| row.get_column_iter().find(|(name, _)| name.as_str() == "reasons"))
            .map(|(_, value)| match value {
                Field::ListInternal(list) => list.elements().len(),
                _ => usize::MAX,
            })
            .collect();
        let wanted = written.iter().map(|entry| entry.decision.as_ref().map_or(usize::MAX, |of| of.reasons.len()));
        assert_eq!(reasons, wanted.collect::<Vec<_>>());
    }

    #[test]
    fn an_empty_file_reads_too() {
        let file = Bytes::from(Columns::default().encode().expect("a file"));
        assert_eq!(SerializedFileReader::new(file).expect("it reads").metadata().file_metadata().num_rows(), 0);
    }
}
