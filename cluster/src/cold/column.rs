//! The values of one column in one row group, as the Parquet library takes and gives them.
//!
//! Here words become numbers and hashes hex, and back. Values that the schema does not allow are damage, never a panic.

use parquet::column::page::PageReader;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
};
use parquet::file::writer::SerializedColumnWriter;

use super::row::Cell;
use super::schema::{Column, Kind, descriptor};
use super::{ColdError, damaged};

/// Values that are there, in the library's types.
enum Values {
    Bool(Vec<bool>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

/// One column of one row group.
pub(super) struct Chunk {
    column: Column,
    /// 1 for each row that has a value, 0 for each that has none; empty where all have to have one.
    levels: Vec<i16>,
    values: Values,
}

impl Chunk {
    /// Without rows.
    pub fn new(column: Column) -> Self {
        let values = match column.spec().kind {
            Kind::Flag => Values::Bool(Vec::new()),
            Kind::U8 | Kind::U16 | Kind::U32 => Values::Int32(Vec::new()),
            Kind::U64 | Kind::Nanos | Kind::Millis => Values::Int64(Vec::new()),
            Kind::Fixed(_) => Values::Fixed(Vec::new()),
            Kind::Word(..) | Kind::Text | Kind::Json | Kind::Binary | Kind::Hashes => Values::Bytes(Vec::new()),
        };
        Self { column, levels: Vec::new(), values }
    }

    /// Adds a row. What a column cannot hold is a mistake of the programmer and is told, because bytes would be lost.
    pub fn push(&mut self, cell: Option<Cell<'_>>) -> Result<(), ColdError> {
        if !self.column.is_required() {
            self.levels.push(i16::from(cell.is_some()));
        } else if cell.is_none() {
            return Err(damaged("a required column has no value"));
        }
        match (&mut self.values, cell) {
            (_, None) => {}
            (Values::Bool(values), Some(Cell::Int(value))) => values.push(value != 0),
            (Values::Int32(values), Some(Cell::Int(value))) => values.push(value as u32 as i32),
            (Values::Int64(values), Some(Cell::Int(value))) => values.push(value as i64),
            (Values::Bytes(values), Some(cell)) => values.push(shown(self.column.spec().kind, cell)?.into()),
            (Values::Fixed(values), Some(Cell::Bytes(value))) => values.push(value.into_owned().into()),
            _ => return Err(damaged("a column has a value of another type")),
        }
        Ok(())
    }

    /// Writes all rows.
    pub fn write(&self, writer: &mut SerializedColumnWriter<'_>) -> parquet::errors::Result<usize> {
        let levels = (!self.column.is_required()).then_some(self.levels.as_slice());
        match &self.values {
            Values::Bool(values) => writer.typed::<BoolType>().write_batch(values, levels, None),
            Values::Int32(values) => writer.typed::<Int32Type>().write_batch(values, levels, None),
            Values::Int64(values) => writer.typed::<Int64Type>().write_batch(values, levels, None),
            Values::Bytes(values) => writer.typed::<ByteArrayType>().write_batch(values, levels, None),
            Values::Fixed(values) => writer.typed::<FixedLenByteArrayType>().write_batch(values, levels, None),
        }
    }

    /// Reads that many rows, and expects no more.
    pub fn read(column: Column, pages: Box<dyn PageReader>, rows: usize) -> Result<Self, ColdError> {
        let mut chunk = Self::new(column);
        let levels = &mut chunk.levels;
        match &mut chunk.values {
            Values::Bool(values) => read::<BoolType>(column, pages, rows, levels, values),
            Values::Int32(values) => read::<Int32Type>(column, pages, rows, levels, values),
            Values::Int64(values) => read::<Int64Type>(column, pages, rows, levels, values),
            Values::Bytes(values) => read::<ByteArrayType>(column, pages, rows, levels, values),
            Values::Fixed(values) => read::<FixedLenByteArrayType>(column, pages, rows, levels, values),
        }?;
        Ok(chunk)
    }

    /// Its values, row by row.
    pub fn cells(&self) -> Cells<'_> {
        Cells { chunk: self, row: 0, value: 0 }
    }
}

fn read<T: DataType>(
    column: Column,
    pages: Box<dyn PageReader>,
    rows: usize,
    levels: &mut Vec<i16>,
    values: &mut Vec<T::T>,
) -> Result<(), ColdError> {
    let mut reader = ColumnReaderImpl::<T>::new(descriptor().column(column as usize), pages);
    // One more is asked for than there may be.
    let (found, present, _) = reader.read_records(rows + 1, Some(levels), None, values).map_err(damaged)?;
    let present_expected = if column.is_required() { rows } else { levels.iter().filter(|level| **level == 1).count() };
    let is_whole = found == rows && present == present_expected && values.len() == present;
    is_whole.then_some(()).ok_or_else(|| damaged(format!("column {} has {found} rows of {rows}", column.spec().name)))
}

/// What stands in the file for a word or hashes.
fn shown(kind: Kind, cell: Cell<'_>) -> Result<Vec<u8>, ColdError> {
    match (kind, cell) {
        (Kind::Word(words, first), Cell::Int(value)) => {
            let word = value.checked_sub(first.into()).and_then(|at| words.get(usize::try_from(at).ok()?));
            word.map(|word| word.as_bytes().to_vec()).ok_or_else(|| damaged("a number has no word"))
        }
        (Kind::Hashes, Cell::Bytes(value)) => {
            Ok(value.chunks(8).map(hex::encode).collect::<Vec<_>>().join(",").into_bytes())
        }
        (Kind::Text | Kind::Json | Kind::Binary, Cell::Bytes(value)) => Ok(value.into_owned()),
        _ => Err(damaged("a column has a value of another type")),
    }
}

/// What it stands for.
fn meant(kind: Kind, value: &ByteArray) -> Option<Cell<'_>> {
    match kind {
        Kind::Word(words, first) => {
            let at = words.iter().position(|word| word.as_bytes() == value.data())?;
            Some(Cell::Int(at as u64 + u64::from(first)))
        }
        Kind::Hashes if value.is_empty() => Some(Cell::Bytes(Vec::new().into())),
        Kind::Hashes => {
            let hashes = value.data().split(|byte| *byte == b',').map(hex::decode).collect::<Result<Vec<_>, _>>();
            let hashes = hashes.ok().filter(|hashes| hashes.iter().all(|hash| hash.len() == 8))?;
            Some(Cell::Bytes(hashes.concat().into()))
        }
        _ => Some(Cell::Bytes(value.data().into())),
    }
}

/// Gives values row by row.
pub(super) struct Cells<'a> {
    chunk: &'a Chunk,
    row: usize,
    value: usize,
}

impl<'a> Cells<'a> {
    /// The next row's value. Reading has made sure that there are as many rows as were asked for.
    pub fn next_cell(&mut self) -> Result<Option<Cell<'a>>, ColdError> {
        let is_there = self.chunk.column.is_required() || self.chunk.levels.get(self.row) == Some(&1);
        self.row += 1;
        if !is_there {
            return Ok(None);
        }
        self.value += 1;
        let name = self.chunk.column.spec().name;
        self.cell(self.value - 1)
            .map(Some)
            .ok_or_else(|| damaged(format!("column {name} has a value that is not of it")))
    }

    fn cell(&self, at: usize) -> Option<Cell<'a>> {
        let kind = self.chunk.column.spec().kind;
        match &self.chunk.values {
            Values::Bool(values) => values.get(at).map(|value| Cell::Int((*value).into())),
            Values::Int32(values) => {
                let value = u64::from(*values.get(at)? as u32);
                let bits = kind.bytes()? as u32 * 8;
                (value >> bits == 0).then_some(Cell::Int(value))
            }
            Values::Int64(values) => values.get(at).map(|value| Cell::Int(*value as u64)),
            Values::Bytes(values) => meant(kind, values.get(at)?),
            Values::Fixed(values) => {
                let value = values.get(at)?.data();
                (Some(value.len()) == kind.bytes()).then_some(Cell::Bytes(value.into()))
            }
        }
    }
}
