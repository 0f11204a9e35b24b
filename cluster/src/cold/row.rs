//! One record as the values of its columns, between bytes and columns.
//!
//! A row of a record is trusted only after the record was rebuilt from it and was the same to the byte; what is not stays as
//! bytes in a column of its own. So nothing here needs to know which bytes are canonical.

use std::borrow::Cow;

use super::schema::{BODIES, COLUMNS, Column};
use super::{Body, ColdError, HeadOrStored, LeafRow, Record, body, damaged, head, leaf};

const NONE: u64 = 0;
const STORED: u64 = 1;
const CLEAR: u64 = 2;
const _: () = assert!(BODIES.len() == 3);

/// A value. Words are numbers here, and hashes the bytes that they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Int(u64),
    Bytes(Cow<'a, [u8]>),
}

/// The values of a record.
pub(super) struct Row<'a> {
    cells: [Option<Cell<'a>>; COLUMNS.len()],
}

impl Default for Row<'_> {
    fn default() -> Self {
        Self { cells: [const { None }; COLUMNS.len()] }
    }
}

impl<'a> Row<'a> {
    /// The row of a record at that place of its log.
    pub fn of(leaf_index: u64, record: &'a Record) -> Result<Self, ColdError> {
        let mut row = Self::default();
        let is_cut = leaf::split(&record.leaf, &mut row).is_some() && row.int(Column::LeafIndex) == Some(leaf_index);
        if !is_cut || row.leaf().as_deref() != Some(&record.leaf) {
            row = Self::default();
            row.put_bytes(Column::LeafBytes, &record.leaf);
        }
        row.put_int(Column::LeafIndex, leaf_index);
        match &record.body {
            Body::Stored(stored) if stored.is_empty() => row.put_int(Column::BodyState, NONE),
            Body::Stored(stored) => {
                row.put_int(Column::BodyState, STORED);
                row.put_bytes(Column::StoredBody, stored);
            }
            Body::Clear { head, plaintext } => {
                row.put_int(Column::BodyState, CLEAR);
                head::split(head, &mut row).ok_or(ColdError::Head)?;
                body::split(plaintext, &mut row);
            }
        }
        Ok(row)
    }

    /// The leaf's bytes.
    pub fn leaf(&self) -> Option<Vec<u8>> {
        match self.bytes(Column::LeafBytes) {
            Some(bytes) => Some(bytes.to_vec()),
            None => leaf::join(self),
        }
    }

    /// Leaf, and what is here of its body without the body's own columns.
    pub fn leaf_row(&self) -> Result<LeafRow, ColdError> {
        let leaf = self.leaf().ok_or_else(|| damaged("a leaf lacks a column"))?;
        let body = match self.int(Column::BodyState) {
            Some(NONE) => HeadOrStored::Stored(Vec::new()),
            Some(STORED) => HeadOrStored::Stored(self.stored()?),
            Some(CLEAR) => HeadOrStored::Head(self.head()?),
            _ => return Err(damaged("a body is in no known state")),
        };
        Ok(LeafRow { leaf, body })
    }

    /// The whole record.
    pub fn record(&self) -> Result<Record, ColdError> {
        let LeafRow { leaf, body } = self.leaf_row()?;
        let body = match body {
            HeadOrStored::Stored(stored) => Body::Stored(stored),
            HeadOrStored::Head(head) => {
                let plaintext = body::join(self).ok_or_else(|| damaged("a body lacks a column"))?;
                Body::Clear { head, plaintext }
            }
        };
        Ok(Record { leaf, body })
    }

    fn stored(&self) -> Result<Vec<u8>, ColdError> {
        let stored = self.bytes(Column::StoredBody).filter(|stored| !stored.is_empty());
        stored.map(<[u8]>::to_vec).ok_or_else(|| damaged("a stored body is not there"))
    }

    fn head(&self) -> Result<Vec<u8>, ColdError> {
        head::join(self).ok_or_else(|| damaged("a body's head lacks a column"))
    }

    /// A number, or a word's number.
    pub fn int(&self, column: Column) -> Option<u64> {
        match &self.cells[column as usize] {
            Some(Cell::Int(value)) => Some(*value),
            _ => None,
        }
    }

    /// Bytes.
    pub fn bytes(&self, column: Column) -> Option<&[u8]> {
        match &self.cells[column as usize] {
            Some(Cell::Bytes(value)) => Some(value),
            _ => None,
        }
    }

    /// Sets a number.
    pub fn put_int(&mut self, column: Column, value: u64) {
        self.cells[column as usize] = Some(Cell::Int(value));
    }

    /// Sets bytes.
    pub fn put_bytes(&mut self, column: Column, value: impl Into<Cow<'a, [u8]>>) {
        self.cells[column as usize] = Some(Cell::Bytes(value.into()));
    }

    /// Sets, or takes away.
    pub fn put(&mut self, column: Column, cell: Option<Cell<'a>>) {
        self.cells[column as usize] = cell;
    }

    /// Takes away what columns from a place on hold.
    pub fn clear_from(&mut self, first: usize) {
        self.cells[first..].iter_mut().for_each(|cell| *cell = None);
    }

    /// All values, in the order of the columns.
    pub fn into_cells(self) -> [Option<Cell<'a>>; COLUMNS.len()] {
        self.cells
    }
}
