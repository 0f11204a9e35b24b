//! Reads a segment from the start, open or closed, and says where its valid part ends.
//!
//! Recovery: scan, cut the file to [`SegmentScan::valid_bytes`], go on with [`SegmentScan::into_writer`]. The scanner
//! cannot tell a torn tail from rot; the caller knows up to which leaf it had synced.

use super::search;
use super::state::State;
use super::{HEADER_BYTES, MARK_BYTES, Record, RecordFault, SegmentError, SegmentMeta, SegmentWriter, read_record};
use crate::tree;

/// An iterator over a segment's records. After it ended, [`SegmentScan::end`] says why.
#[derive(Debug, Clone)]
pub struct SegmentScan<'a> {
    bytes: &'a [u8],
    state: State,
    end: Option<ScanEnd>,
}

/// How a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanEnd {
    /// All bytes are records and end marks, without a footer.
    Open,
    /// All bytes are as a writer would have written them, footer included.
    Closed,
    /// The bytes from `offset` on are not what has to come there.
    Damaged {
        /// Where the valid part ends.
        offset: u64,
        /// The leaf that would have come there.
        leaf_index: u64,
        /// What is wrong.
        damage: Damage,
    },
}

/// What is wrong with bytes in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The bytes end inside a record, an end mark, the index or the footer.
    #[error("the bytes are cut short")]
    Truncated,
    /// A record's lengths are out of bounds.
    #[error("the record's lengths are out of bounds")]
    Length,
    /// A record changed.
    #[error("the record's checksum does not match its bytes")]
    Checksum,
    /// A frame's end mark is not the one that its records ask for.
    #[error("the frame's end mark does not match its records")]
    Mark,
    /// The search index is not the one that the records ask for. The records themselves are whole.
    #[error("the search index does not match the records")]
    Index,
    /// The footer is not the one that the records ask for.
    #[error("the footer does not match the records")]
    Footer,
}

impl<'a> SegmentScan<'a> {
    /// Scans a segment's bytes.
    pub fn new(bytes: &'a [u8]) -> Result<Self, SegmentError> {
        Ok(Self { bytes, state: State::new(SegmentMeta::decode(bytes)?), end: None })
    }

    /// What the segment is part of.
    pub fn meta(&self) -> &SegmentMeta {
        &self.state.meta
    }

    /// How the scan ended; `None` before it has.
    pub fn end(&self) -> Option<ScanEnd> {
        self.end
    }

    /// Runs to the end and says how it ended.
    pub fn finish(&mut self) -> ScanEnd {
        loop {
            match self.end {
                Some(end) => return end,
                None => drop(self.next()),
            }
        }
    }

    /// Bytes from the start that are valid so far.
    pub fn valid_bytes(&self) -> u64 {
        match self.end {
            Some(ScanEnd::Closed) => self.bytes.len() as u64,
            _ => self.state.bytes,
        }
    }

    /// What the leaves so far are found by: a damaged index is made again from it.
    pub fn search_index(&self) -> Vec<u8> {
        search::encode(&self.state.rows, self.state.meta.first_index, &self.state.frames)
    }

    /// Body roots of the complete tiles so far.
    pub fn body_roots(&self) -> &[tree::Hash] {
        self.state.bodies.roots()
    }

    /// Index of the leaf after the last valid one.
    pub fn next_index(&self) -> u64 {
        self.state.next_index()
    }

    /// Runs to the end and gives a writer that goes on from [`SegmentScan::valid_bytes`]; the caller cuts the file
    /// there first. `None` for a closed segment.
    pub fn into_writer(mut self) -> Option<SegmentWriter> {
        if self.finish() == ScanEnd::Closed { None } else { Some(SegmentWriter::resume(self.state)) }
    }

    fn rest(&self) -> &'a [u8] {
        debug_assert!(self.state.bytes >= HEADER_BYTES as u64);
        self.bytes.get(self.state.bytes as usize..).unwrap_or_default()
    }

    fn stop(&mut self, end: ScanEnd) {
        self.end = Some(end);
    }

    fn stop_damaged(&mut self, damage: Damage) {
        let (offset, leaf_index) = (self.state.bytes, self.state.next_index());
        self.stop(ScanEnd::Damaged { offset, leaf_index, damage });
    }

    /// Takes the end mark in that has to come next. False where the scan ended there.
    fn take_due_mark(&mut self) -> bool {
        let Some(due) = self.state.mark_due() else { return true };
        match self.rest().first_chunk::<MARK_BYTES>() {
            Some(mark) if *mark == due => {
                self.state.take_mark(mark);
                return true;
            }
            Some(_) => self.stop_damaged(Damage::Mark),
            None if self.rest().is_empty() => self.stop(ScanEnd::Open),
            None => self.stop_damaged(Damage::Truncated),
        }
        false
    }

    /// Compares the bytes after the last end mark of a full segment with the index and the footer that have to stand there.
    fn take_ending(&mut self) {
        let ((index, footer), rest) = (self.state.ending(), self.rest());
        let footer = footer.encode();
        if rest.is_empty() {
            return self.stop(ScanEnd::Open);
        }
        let (own_index, own_footer) = rest.split_at(rest.len().min(index.len()));
        let is_index = own_index == index;
        if is_index && own_footer == footer {
            self.stop(ScanEnd::Closed);
        } else if rest.len() < index.len() + footer.len() {
            self.stop_damaged(Damage::Truncated);
        } else {
            self.stop_damaged(if is_index { Damage::Footer } else { Damage::Index });
        }
    }
}

impl<'a> Iterator for SegmentScan<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if self.end.is_some() || !self.take_due_mark() {
            return None;
        }
        if self.state.is_full() {
            self.take_ending();
            return None;
        }
        let rest = self.rest();
        if rest.is_empty() {
            self.stop(ScanEnd::Open);
            return None;
        }
        match read_record(rest) {
            Ok((leaf, body, length)) => {
                let leaf_index = self.state.next_index();
                self.state.take_record(&rest[..length], leaf, body, tree::leaf_hash(leaf));
                Some(Record { leaf_index, leaf, body })
            }
            Err(fault) => {
                self.stop_damaged(match fault {
                    RecordFault::Truncated => Damage::Truncated,
                    RecordFault::Length => Damage::Length,
                    RecordFault::Checksum => Damage::Checksum,
                });
                None
            }
        }
    }
}
