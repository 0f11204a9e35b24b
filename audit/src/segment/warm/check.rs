//! Holds the file of a warm segment, frame by frame, against what was sealed: the roots of its leaves and of their bodies, and
//! what a writer would have written behind its frames.
//!
//! The seal is believed, the file is not. Roots stay true when bodies are dropped, so the check also says which were: whether
//! they may be gone is for the caller to know. Reads no files and mends nothing.

use sha2::{Digest, Sha256};

use super::footer::{WarmFooter, WarmSpan, WarmSums, index_place};
use super::frame::{WarmFrame, WarmLeaves};
use super::{WARM_HEADER_BYTES, WarmHeader};
use crate::body::dropped;
use crate::segment::bodies::BodyRoots;
use crate::segment::footer::FrameStart;
use crate::segment::search::{self, Rows};
use crate::segment::{Damage, Fault, Flaw, FrameSpan, SegmentSeal};
use crate::tree::{Hash, TILE_LEAVES, leaf_hash, root_of};

/// A warm segment as far as it was read.
pub struct WarmCheck<'a> {
    seal: &'a SegmentSeal,
    footer: &'a WarmFooter,
    dictionary: Hash,
    content: Sha256,
    rows: Rows,
    sums: WarmSums,
    hashes: Vec<Option<Hash>>,
    bodies: BodyRoots,
    fault: Option<Fault>,
}

impl<'a> WarmCheck<'a> {
    /// Begins with the first bytes of the file, as many as a header has, and the footer that the file is read by.
    pub fn begin(seal: &'a SegmentSeal, footer: &'a WarmFooter, header: &[u8]) -> Self {
        let wanted = WarmHeader::new(seal.meta, seal.content_digest);
        let mut check = Self {
            seal,
            footer,
            dictionary: wanted.dictionary,
            content: Sha256::new_with_prefix(header),
            rows: Rows::default(),
            sums: WarmSums::default(),
            hashes: Vec::new(),
            bodies: BodyRoots::default(),
            fault: None,
        };
        match WarmHeader::decode(header) {
            Ok(read) if (read.meta, read.hot_digest) == (seal.meta, seal.content_digest) => {
                check.dictionary = read.dictionary;
            }
            _ => check.note(seal.meta.first_index, seal.next_index() - 1, Flaw::Header),
        }
        check
    }

    /// Takes the next frame: its place, the index of the leaf behind it, and its bytes as far as they could be read. Gives its
    /// records as far as they read to `each`: index, leaf, stored body.
    pub fn frame(&mut self, span: &FrameSpan, next_index: u64, bytes: &[u8], mut each: impl FnMut(u64, &[u8], &[u8])) {
        self.content.update(bytes);
        let mut reached = span.first_index;
        if let Some(frame) = self.read(span, bytes) {
            self.sums.packed_bytes += (bytes.len() - frame.rests.len()) as u64;
            while let Some((leaf, stored)) = frame.record(reached).filter(|_| reached < next_index) {
                self.hashes.push(Some(leaf_hash(leaf)));
                self.rows.push(leaf);
                self.bodies.push(&stored);
                self.sums.add(leaf, &stored, dropped(&stored).as_ref());
                each(reached, leaf, &stored);
                reached += 1;
            }
        }
        if reached < next_index {
            let missing = (next_index.saturating_sub(self.seal.meta.first_index)) as usize;
            self.hashes.resize(missing.min(self.seal.tile_hashes.len() * TILE_LEAVES as usize), None);
            let flaw = if (bytes.len() as u64) < span.length { Damage::Truncated } else { Damage::Checksum };
            self.note(reached, next_index - 1, Flaw::Bytes(flaw));
        }
    }

    /// Takes the bytes behind the last frame, and says what is wrong with the whole.
    ///
    /// # Errors
    /// The leaves concerned and the first flaw.
    pub fn finish(mut self, behind: &[u8]) -> Result<WarmSums, Fault> {
        let (first, last) = (self.seal.meta.first_index, self.seal.next_index() - 1);
        self.check_roots();
        if self.fault.is_none() {
            let starts: Vec<FrameStart> = self
                .footer
                .frames
                .iter()
                .map(|span| FrameStart { offset: span.offset, first_index: span.first_index })
                .collect();
            let mut wanted = search::encode(&self.rows, first, &starts);
            let footer = WarmFooter {
                leaves: self.rows.len() as u32,
                sums: self.sums,
                content_digest: self.content.chain_update(&wanted).finalize().into(),
                index: index_place(self.footer.index.offset, wanted.len()),
                frames: self.footer.frames.clone(),
                tile_hashes: self.seal.tile_hashes.clone(),
                body_hashes: self.seal.body_hashes.clone(),
            };
            wanted.extend_from_slice(&footer.encode());
            if wanted != behind {
                self.fault = Some(Fault { first, last, flaw: Flaw::Bytes(Damage::Footer) });
            }
        }
        self.fault.map_or(Ok(self.sums), Err)
    }

    fn read<'b>(&self, span: &FrameSpan, bytes: &'b [u8]) -> Option<WarmFrame<&'b [u8]>> {
        let place: &WarmSpan = self.footer.frames.iter().find(|place| place.offset == span.offset)?;
        let (packed, rests) = bytes.split_at_checked(place.packed_bytes as usize)?;
        let leaves = WarmLeaves::unpack(packed, place, &self.dictionary).ok()?;
        Some(WarmFrame { leaves, from: 0, rests })
    }

    fn check_roots(&mut self) {
        let first = self.seal.meta.first_index;
        let is_whole = self.hashes.len() == self.seal.tile_hashes.len() * TILE_LEAVES as usize;
        if !is_whole {
            self.note(first, self.seal.next_index() - 1, Flaw::Bytes(Damage::Footer));
        }
        for tile in 0..self.seal.tile_hashes.len() {
            let from = tile * TILE_LEAVES as usize;
            let hashes = self.hashes.get(from..from + TILE_LEAVES as usize).unwrap_or_default();
            let Some(read) = hashes.iter().copied().collect::<Option<Vec<Hash>>>() else { continue };
            let flaw = match self.seal.tile_hashes.get(tile) {
                Some(root) if root_of(&read) != *root => Some(Flaw::Leaves),
                // Behind a record that does not read, bodies are not at their places.
                _ if self.fault.is_none() && !self.bodies.may_be(tile, self.seal.body_hashes.get(tile)) => {
                    Some(Flaw::Content)
                }
                _ => None,
            };
            if let Some(flaw) = flaw {
                self.note(first + from as u64, first + from as u64 + TILE_LEAVES - 1, flaw);
            }
        }
    }

    fn note(&mut self, first: u64, last: u64, flaw: Flaw) {
        let held = self.fault.get_or_insert(Fault { first, last, flaw });
        (held.first, held.last) = (held.first.min(first), held.last.max(last));
    }
}

/// Holds a whole file in memory against its seal, and gives its records as far as they read to `each`.
///
/// # Errors
/// As [`WarmCheck::finish`]; the whole segment where not even the footer reads.
pub fn check_warm(
    seal: &SegmentSeal,
    bytes: &[u8],
    mut each: impl FnMut(u64, &[u8], &[u8]),
) -> Result<WarmSums, Fault> {
    let first = seal.meta.first_index;
    let all = |flaw| Fault { first, last: seal.next_index() - 1, flaw };
    let footer = WarmFooter::decode_end(bytes).map_err(|_| all(Flaw::Bytes(Damage::Footer)))?;
    let index = footer.frame_index(first);
    let part = |from: u64, length: u64| {
        let from = (from as usize).min(bytes.len());
        &bytes[from..from.saturating_add(length as usize).min(bytes.len())]
    };
    let mut check = WarmCheck::begin(seal, &footer, part(0, WARM_HEADER_BYTES as u64));
    for (span, next) in index.spans() {
        check.frame(&span, next, part(span.offset, span.length), &mut each);
    }
    check.finish(part(index.frames_end(), u64::MAX >> 1))
}
