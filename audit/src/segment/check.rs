//! Holds the file of a closed segment, frame by frame, against what a writer would have written, the log's tree, and the
//! digest that the segment was sealed with. Memory is one frame and the hashes of the segment's leaves.
//!
//! The tree and the seal are believed, the file is not: a file that was changed with all checksums made to fit is found
//! as well. Reads no files; says what is wrong and where, and mends nothing.

use std::fmt;

use super::{Damage, FrameSpan, HEADER_BYTES, SegmentFooter, SegmentIndex, SegmentSeal, SegmentWriter};
use crate::tree::{Hash, TILE_LEAVES, leaf_hash, root_of};

/// What is wrong with a segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The file does not begin with the segment's header.
    Header,
    /// A record, an end mark or the footer is not what has to be there.
    Bytes(Damage),
    /// All checksums fit, but the leaves are not those of the log's tree.
    Leaves,
    /// All checksums fit and the leaves are right, but the bytes are not those that were sealed: a body was changed.
    Content,
    /// A body was dropped, and nothing that is known here says that it may be gone.
    Dropped,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the file does not begin with the segment's header"),
            Self::Bytes(damage) => damage.fmt(f),
            Self::Leaves => f.write_str("the leaves are not those of the log's tree, though their checksums fit"),
            Self::Content => f.write_str("a body is not the one that was sealed, though all checksums fit"),
            Self::Dropped => f.write_str("a body was dropped, though nothing known here says that it may be gone"),
        }
    }
}

/// Something wrong, and the leaves that it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The first leaf concerned.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What was found first.
    pub flaw: Flaw,
}

/// A segment as far as it was read.
pub struct SegmentCheck<'a> {
    seal: &'a SegmentSeal,
    /// Writes what has to be in the file; `None` behind a record that does not read.
    writer: Option<SegmentWriter>,
    hashes: Vec<Option<Hash>>,
    fault: Option<Fault>,
}

impl<'a> SegmentCheck<'a> {
    /// Begins with the first bytes of the file, as many as a header has.
    pub fn begin(seal: &'a SegmentSeal, header: &[u8]) -> Self {
        let (writer, wanted) = SegmentWriter::create(seal.meta);
        let mut check = Self { seal, writer: Some(writer), hashes: Vec::new(), fault: None };
        if header != wanted {
            check.note(seal.meta.first_index, seal.next_index() - 1, Flaw::Header);
        }
        check
    }

    /// Takes the next frame: its place, the index of the leaf behind it, and its bytes as far as they could be read.
    pub fn frame(&mut self, span: &FrameSpan, next_index: u64, bytes: &[u8]) {
        let (mut reached, mut wanted) = (span.first_index, Vec::new());
        for record in span.records(bytes, span.first_index).take_while(|record| record.leaf_index < next_index) {
            self.hashes.push(Some(leaf_hash(record.leaf)));
            reached += 1;
            if let Some(writer) = self.writer.as_mut().filter(|writer| !writer.is_full()) {
                wanted.extend(writer.push(record.leaf, record.body).unwrap_or_default());
            }
        }
        if reached < next_index {
            self.hashes.resize((next_index - self.seal.meta.first_index) as usize, None);
            self.writer = None;
            let flaw = if (bytes.len() as u64) < span.length { Damage::Truncated } else { Damage::Checksum };
            self.note(reached, next_index - 1, Flaw::Bytes(flaw));
        } else if self.writer.is_some() && wanted != bytes {
            self.note(span.first_index, next_index - 1, Flaw::Bytes(Damage::Mark));
        }
    }

    /// Takes the bytes behind the last frame, search index and footer, and says what is wrong with the whole.
    ///
    /// # Errors
    /// The leaves concerned and the first flaw.
    pub fn finish(mut self, behind: &[u8]) -> Result<(), Fault> {
        let (first, last) = (self.seal.meta.first_index, self.seal.next_index() - 1);
        self.check_leaves();
        let Some(writer) = self.writer.take().filter(|writer| writer.is_full()) else {
            return Err(self.fault.unwrap_or(Fault { first, last, flaw: Flaw::Bytes(Damage::Footer) }));
        };
        let (ending, wanted) = writer.close();
        if ending != behind {
            self.note(first, last, Flaw::Bytes(Damage::Footer));
        }
        // Only where nothing else explains it: any other flaw leaves the records as they were.
        if wanted.content_digest != self.seal.content_digest && self.fault.is_none() {
            self.note(first, last, Flaw::Content);
        }
        self.fault.map_or(Ok(()), Err)
    }

    fn check_leaves(&mut self) {
        for (tile, wanted) in self.seal.tile_hashes.iter().enumerate() {
            let from = tile * TILE_LEAVES as usize;
            let hashes = self.hashes.get(from..from + TILE_LEAVES as usize).unwrap_or_default();
            let read: Option<Vec<Hash>> = hashes.iter().copied().collect();
            if read.is_some_and(|read| root_of(&read) != *wanted) {
                let first = self.seal.meta.first_index + from as u64;
                self.note(first, first + TILE_LEAVES - 1, Flaw::Leaves);
            }
        }
    }

    fn note(&mut self, first: u64, last: u64, flaw: Flaw) {
        let held = self.fault.get_or_insert(Fault { first, last, flaw });
        (held.first, held.last) = (held.first.min(first), held.last.max(last));
    }
}

/// Holds a whole file in memory against its seal.
///
/// # Errors
/// As [`SegmentCheck::finish`]; the whole segment where not even the footer reads.
pub fn check_file(seal: &SegmentSeal, bytes: &[u8]) -> Result<(), Fault> {
    let first = seal.meta.first_index;
    let all = |flaw| Fault { first, last: seal.next_index() - 1, flaw };
    let footer = SegmentFooter::decode_end(bytes).map_err(|_| all(Flaw::Bytes(Damage::Footer)))?;
    let index = SegmentIndex::from_footer(&footer, first);
    let part = |from: u64, length: u64| {
        let from = (from as usize).min(bytes.len());
        &bytes[from..from.saturating_add(length as usize).min(bytes.len())]
    };
    let mut check = SegmentCheck::begin(seal, part(0, HEADER_BYTES as u64));
    for (span, next) in index.spans() {
        check.frame(&span, next, part(span.offset, span.length));
    }
    check.finish(part(index.frames_end(), u64::MAX >> 1))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
