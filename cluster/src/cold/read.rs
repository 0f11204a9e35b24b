//! Reads row groups of a cold file: the columns of leaves alone, or all of them.

use bytes::Bytes;

use super::column::{Cells, Chunk};
use super::footer::{Footer, Tail, footer};
use super::row::Row;
use super::schema::{COLUMNS, Column, LEAF_COLUMNS};
use super::{ColdError, LeafRow, Record, damaged};

impl Footer {
    /// A row group's leaves, and what is here of their bodies without the bodies' own columns, from the bytes of
    /// [`Footer::leaves_range`] or more of the row group.
    pub fn read_leaves(&self, group: usize, bytes: &Bytes) -> Result<Vec<LeafRow>, ColdError> {
        self.read(group, bytes, LEAF_COLUMNS, |row| row.leaf_row())
    }

    /// A row group's records, from the bytes of [`Footer::whole_range`].
    pub fn read_whole(&self, group: usize, bytes: &Bytes) -> Result<Vec<Record>, ColdError> {
        self.read(group, bytes, COLUMNS.len(), |row| row.record())
    }

    fn read<T>(
        &self,
        group: usize,
        bytes: &[u8],
        columns: usize,
        each: impl Fn(&Row<'_>) -> Result<T, ColdError>,
    ) -> Result<Vec<T>, ColdError> {
        if group >= self.groups() {
            return Err(damaged("there is no such row group"));
        }
        let (first, rows) = self.rows(group);
        let chunks = COLUMNS[..columns].iter().map(|column| self.chunk(group, *column, bytes, rows));
        let chunks = chunks.collect::<Result<Vec<_>, _>>()?;
        let mut cells: Vec<Cells<'_>> = chunks.iter().map(Chunk::cells).collect();
        let mut out = Vec::with_capacity(rows);
        for leaf_index in first..first + rows as u64 {
            let row = next_row(&mut cells)?;
            if row.int(Column::LeafIndex) != Some(leaf_index) {
                return Err(damaged("a leaf is not in its place"));
            }
            out.push(each(&row)?);
        }
        Ok(out)
    }

    /// One column of a row group, from the row group's first bytes.
    fn chunk(&self, group: usize, column: Column, bytes: &[u8], rows: usize) -> Result<Chunk, ColdError> {
        let sealed = bytes.get(self.column_range(group, column as usize));
        let sealed = sealed.ok_or_else(|| damaged("bytes of the row group are missing"))?;
        let metadata = self.metadata.row_group(group).column(column as usize);
        let has_dictionary = metadata.dictionary_page_offset().is_some();
        let pages = self.opener.pages(sealed, group, column as usize, has_dictionary)?;
        Chunk::read(column, Box::new(pages.reader(metadata, rows).map_err(damaged)?), rows)
    }
}

fn next_row<'a>(cells: &mut [Cells<'a>]) -> Result<Row<'a>, ColdError> {
    let mut row = Row::default();
    for (column, cells) in COLUMNS.into_iter().zip(cells) {
        row.put(column, cells.next_cell()?);
    }
    Ok(row)
}

/// All of a file in memory, row group by row group: `each` gets a leaf's number and its record.
pub fn decode(bytes: &Bytes, key: &[u8; 32], mut each: impl FnMut(u64, Record)) -> Result<(), ColdError> {
    let Tail::Read(footer) = footer(bytes, bytes.len() as u64, key)? else {
        return Err(damaged("its footer is longer than the file"));
    };
    for group in 0..footer.groups() {
        let range = footer.whole_range(group);
        let records = footer.read_whole(group, &bytes.slice(range.start as usize..range.end as usize))?;
        (footer.rows(group).0..).zip(records).for_each(|(leaf_index, record)| each(leaf_index, record));
    }
    Ok(())
}
