//! One frame of a warm segment: its leaves and the heads of their bodies, packed together, and the rests of these bodies behind.
//!
//! Whoever looks for leaves reads the packed part alone; the rest of one body is read without those beside it. Each rest has a
//! checksum of its own in the packed part, which has one in the footer.
//!
//! Packed: count u32; for each leaf its bytes u16; for each body the bytes of its head u8, of its rest u32, the rest's CRC-32C
//! u32, column by column; then all heads; then all leaves.

use std::ops::Range;

use zstd::bulk::Compressor;

use super::dictionary;
use super::{FRAME_LEAF_BYTES, WarmError, WarmSpan, fits};
use crate::body::dropped::split;
use crate::reader::Reader;
use crate::tree::Hash;
use crate::unpack;
use nethical_protocol::limits::{LEAF_BYTES_MAX, SEGMENT_LEAVES_MAX};

/// Bytes of a record in the columns.
const ROW_BYTES: usize = 2 + 1 + 4 + 4;
/// The most that packed leaves may unpack to: leaves up to where a frame ends, and for each a row and a head.
const UNPACKED_BYTES_MAX: usize =
    4 + FRAME_LEAF_BYTES + LEAF_BYTES_MAX + SEGMENT_LEAVES_MAX as usize * (ROW_BYTES + u8::MAX as usize);

/// A frame that is being filled.
#[derive(Debug, Clone, Default)]
pub(super) struct FrameBuilder {
    rows: Vec<Row>,
    leaves: Vec<u8>,
    heads: Vec<u8>,
    rests: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    leaf: u16,
    head: u8,
    rest: u32,
    checksum: u32,
}

impl FrameBuilder {
    pub(super) fn push(&mut self, leaf: &[u8], stored: &[u8]) {
        assert!(fits(leaf, stored), "whoever reads records off a segment has checked their bounds");
        let (head, rest) = split(stored);
        let head_bytes = u8::try_from(head.len()).expect("a head has at most 87 bytes");
        let (leaf_bytes, rest_bytes, checksum) = (leaf.len() as u16, rest.len() as u32, crc32c::crc32c(rest));
        self.rows.push(Row { leaf: leaf_bytes, head: head_bytes, rest: rest_bytes, checksum });
        self.leaves.extend_from_slice(leaf);
        self.heads.extend_from_slice(head);
        self.rests.extend_from_slice(rest);
    }

    pub(super) fn is_full(&self) -> bool {
        self.leaves.len() >= FRAME_LEAF_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The packed part, and the rests.
    pub(super) fn finish(&mut self) -> (Vec<u8>, Vec<u8>) {
        let frame = std::mem::take(self);
        let mut raw = (frame.rows.len() as u32).to_le_bytes().to_vec();
        frame.rows.iter().for_each(|row| raw.extend_from_slice(&row.leaf.to_le_bytes()));
        frame.rows.iter().for_each(|row| raw.push(row.head));
        frame.rows.iter().for_each(|row| raw.extend_from_slice(&row.rest.to_le_bytes()));
        frame.rows.iter().for_each(|row| raw.extend_from_slice(&row.checksum.to_le_bytes()));
        raw.extend_from_slice(&frame.heads);
        raw.extend_from_slice(&frame.leaves);
        let packer = Compressor::with_prepared_dictionary(dictionary::encoder());
        let packed = packer.and_then(|mut packer| packer.compress(&raw));
        (packed.expect("packing in memory fails only where there is none"), frame.rests)
    }
}

/// The leaves of a frame with the heads of their bodies.
#[derive(Debug, Clone)]
pub struct WarmLeaves {
    raw: Vec<u8>,
    first_index: u64,
    records: Vec<Placed>,
}

/// Where a record's parts stand: leaf and head in the unpacked bytes, the rest behind the packed ones.
#[derive(Debug, Clone)]
struct Placed {
    leaf: Range<usize>,
    head: Range<usize>,
    rest: Range<u64>,
    checksum: u32,
}

impl WarmLeaves {
    /// Unpacks the first bytes of a frame, as many as its span says are packed.
    ///
    /// # Errors
    /// Where they are not what was packed.
    pub fn unpack(packed: &[u8], span: &WarmSpan, dictionary: &Hash) -> Result<Self, WarmError> {
        if packed.len() != span.packed_bytes as usize || crc32c::crc32c(packed) != span.checksum {
            return Err(WarmError::Frame);
        }
        let dictionary = dictionary::named(dictionary)?.as_ddict();
        let raw = unpack::unpack(packed, dictionary, UNPACKED_BYTES_MAX).ok_or(WarmError::Frame)?;
        let records = read_rows(&raw).ok_or(WarmError::Frame)?;
        Ok(Self { raw, first_index: span.first_index, records })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// A frame has at least one leaf; an empty one is damage.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Index after the last one.
    pub fn next_index(&self) -> u64 {
        self.first_index.saturating_add(self.records.len() as u64)
    }

    /// A leaf, the head of its body, and the bytes that the rest of that has.
    pub fn get(&self, leaf_index: u64) -> Option<(&[u8], &[u8], u64)> {
        let record = self.records.get(self.place(leaf_index)?)?;
        let rest_bytes = record.rest.end - record.rest.start;
        Some((self.raw.get(record.leaf.clone())?, self.raw.get(record.head.clone())?, rest_bytes))
    }

    /// Where the rests of some leaves' bodies stand, from the end of the packed part.
    pub fn rests(&self, leaves: Range<u64>) -> Range<u64> {
        let at = |index: u64| self.records.get(index.saturating_sub(self.first_index) as usize).map(|it| it.rest.start);
        let end = self.records.last().map_or(0, |last| last.rest.end);
        at(leaves.start).unwrap_or(end)..at(leaves.end).unwrap_or(end)
    }

    /// The checksummed rest of a body, from bytes that begin at `from` behind the packed part.
    fn rest<'a>(&self, leaf_index: u64, from: u64, rests: &'a [u8]) -> Option<&'a [u8]> {
        let record = self.records.get(self.place(leaf_index)?)?;
        let at = |place: u64| place.checked_sub(from).map(|place| place as usize);
        let rest = rests.get(at(record.rest.start)?..at(record.rest.end)?)?;
        (crc32c::crc32c(rest) == record.checksum).then_some(rest)
    }

    fn place(&self, leaf_index: u64) -> Option<usize> {
        Some(leaf_index.checked_sub(self.first_index)? as usize)
    }
}

fn read_rows(raw: &[u8]) -> Option<Vec<Placed>> {
    let mut reader = Reader::new(raw);
    let count = reader.u32()? as usize;
    let rows = reader.take(count.checked_mul(ROW_BYTES)?)?;
    let (leaves, rows) = rows.split_at_checked(2 * count)?;
    let (heads, rows) = rows.split_at_checked(count)?;
    let (rests, checksums) = rows.split_at_checked(4 * count)?;
    let (mut leaves, mut rests) = (Reader::new(leaves), Reader::new(rests));
    let mut checksums = Reader::new(checksums);
    let heads_at = 4 + count * ROW_BYTES;
    let (mut head_at, mut leaf_at) = (heads_at, heads_at + heads.iter().map(|head| usize::from(*head)).sum::<usize>());
    let (mut rest_at, mut records) = (0u64, Vec::with_capacity(count));
    for head in heads {
        let (leaf, head, rest) = (usize::from(leaves.u16()?), usize::from(*head), u64::from(rests.u32()?));
        records.push(Placed {
            leaf: leaf_at..leaf_at + leaf,
            head: head_at..head_at + head,
            rest: rest_at..rest_at + rest,
            checksum: checksums.u32()?,
        });
        (leaf_at, head_at, rest_at) = (leaf_at + leaf, head_at + head, rest_at + rest);
    }
    (leaf_at == raw.len() && count > 0).then_some(records)
}

/// A frame, or the part of it that was asked for: leaves, and the rests of some of their bodies.
#[derive(Debug, Clone)]
pub struct WarmFrame<B> {
    /// All of its leaves.
    pub leaves: WarmLeaves,
    /// Where `rests` begin behind the packed part.
    pub from: u64,
    /// The rests that were read.
    pub rests: B,
}

impl<B: AsRef<[u8]>> WarmFrame<B> {
    /// A leaf with its stored body; `None` where it is not among those that were read, or its checksum is wrong.
    pub fn record(&self, leaf_index: u64) -> Option<(&[u8], Vec<u8>)> {
        let (leaf, head, _) = self.leaves.get(leaf_index)?;
        let rest = self.leaves.rest(leaf_index, self.from, self.rests.as_ref())?;
        let stored = [head, rest].concat();
        fits(leaf, &stored).then_some((leaf, stored))
    }
}
