//! The bytes of the log: one header for every kind of record, and what kinds there are.
//!
//! ```text
//! payload bytes u32 | crc32c u32 | kind u8 | version u8 | flags u16 | group u32 | term u64 | index u64 | payload
//! ```
//!
//! Little-endian. The checksum begins from a seed made of the segment's epoch and salt and covers everything but itself,
//! so that bytes left over from an earlier life of a recycled file never validate, and nobody who writes payloads can
//! forge a record. Decoding never panics, whatever the bytes are.

use bytes::{BufMut, Bytes, BytesMut};

use nethical_protocol::probe;

/// Bytes in front of every payload.
pub(super) const HEADER_BYTES: usize = 32;
/// Version of the record layout written by this release.
pub(super) const VERSION: u8 = 1;

/// What a record says. The numbers are on disk for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// First record of a segment; see [`SegmentHead`].
    SegmentHead = 1,
    /// First record of a batch; see [`BatchMark`].
    BatchMark = 2,
    /// A log entry of a group.
    Entry = 3,
    /// A group's vote; the latest counts.
    Vote = 4,
    /// Entries after `index` are gone; all of them where the flag [`FLAG_ALL`] is set.
    Truncate = 5,
    /// Entries up to `index` are no longer needed.
    Purge = 6,
    /// A group's committed position; the latest counts.
    Committed = 7,
    /// A group's membership; the latest counts.
    Membership = 8,
    /// Everything of the group before this is void.
    Forget = 9,
    /// The only record of a mark file: `index` is the highest sequence known to be durable.
    Mark = 10,
}

/// Of [`Kind::Truncate`]: no entry is left.
pub(super) const FLAG_ALL: u16 = 1;
/// The record repeats a group's state at the beginning of a segment.
pub(super) const FLAG_HEAD: u16 = 2;

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::SegmentHead,
            2 => Kind::BatchMark,
            3 => Kind::Entry,
            4 => Kind::Vote,
            5 => Kind::Truncate,
            6 => Kind::Purge,
            7 => Kind::Committed,
            8 => Kind::Membership,
            9 => Kind::Forget,
            10 => Kind::Mark,
            _ => return None,
        })
    }
}

/// Where a checksum begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    /// Of segment heads and marks, which cannot know a seed before they are read.
    pub(super) const OPEN: Seed = Seed(0x4E57_414C);

    /// Of all other records of a segment.
    pub(super) fn of(epoch: u64, salt: u64) -> Seed {
        Seed(crc32c::crc32c_append(crc32c::crc32c(&epoch.to_le_bytes()), &salt.to_le_bytes()))
    }
}

/// The fixed part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) flags: u16,
    pub(super) group: u32,
    pub(super) term: u64,
    pub(super) index: u64,
}

impl Header {
    /// A header of a kind whose other fields are zero.
    pub(super) fn of(kind: Kind) -> Header {
        Header { kind, flags: 0, group: 0, term: 0, index: 0 }
    }
}

/// A record as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) header: Header,
    pub(super) payload: Bytes,
}

/// Bytes of a record with this payload.
pub(super) fn record_bytes(payload: usize) -> usize {
    HEADER_BYTES + payload
}

/// Appends a record.
pub(super) fn encode(out: &mut BytesMut, seed: Seed, header: Header, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("payload sizes are checked where they enter the log");
    let mut fixed = [0; HEADER_BYTES - 8];
    fixed[0] = header.kind as u8;
    fixed[1] = VERSION;
    fixed[2..4].copy_from_slice(&header.flags.to_le_bytes());
    fixed[4..8].copy_from_slice(&header.group.to_le_bytes());
    fixed[8..16].copy_from_slice(&header.term.to_le_bytes());
    fixed[16..24].copy_from_slice(&header.index.to_le_bytes());
    out.reserve(record_bytes(payload.len()));
    out.put_u32_le(length);
    out.put_u32_le(checksum(seed, length, &fixed, payload));
    out.put_slice(&fixed);
    out.put_slice(payload);
}

fn checksum(seed: Seed, length: u32, fixed: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(seed.0, &length.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, fixed), payload)
}

/// The record at the beginning of `bytes`; none where there is no valid one.
pub(super) fn decode(bytes: &Bytes, seed: Seed) -> Option<Record> {
    decode_checked(bytes, Some(seed))
}

/// The record at the beginning of `bytes`, which lie within a batch; none where there is no valid one.
pub(super) fn decode_in_batch(bytes: &Bytes, seed: Seed) -> Option<Record> {
    decode_checked(bytes, Some(seed).filter(|_| !probe::planted("torn-tail-accepted")))
}

/// Without a seed the checksum is not compared.
fn decode_checked(bytes: &Bytes, seed: Option<Seed>) -> Option<Record> {
    let length = u32_at(bytes, 0)?;
    let end = HEADER_BYTES.checked_add(length as usize)?;
    let (fixed, payload) = (bytes.get(8..HEADER_BYTES)?, bytes.get(HEADER_BYTES..end)?);
    let crc = u32_at(bytes, 4)?;
    if fixed[1] != VERSION || seed.is_some_and(|seed| crc != checksum(seed, length, fixed, payload)) {
        return None;
    }
    let header = Header {
        kind: Kind::from_byte(fixed[0])?,
        flags: u16::from_le_bytes([fixed[2], fixed[3]]),
        group: u32_at(fixed, 4)?,
        term: u64_at(fixed, 8)?,
        index: u64_at(fixed, 16)?,
    };
    Some(Record { header, payload: bytes.slice(HEADER_BYTES..end) })
}

/// The version of an intact segment head that a newer release wrote. Older software must say so rather than call it damage.
pub(super) fn newer_version(bytes: &Bytes) -> Option<u8> {
    let length = u32_at(bytes, 0)?;
    let fixed = bytes.get(8..HEADER_BYTES)?;
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES.checked_add(length as usize)?)?;
    let is_intact = u32_at(bytes, 4)? == checksum(Seed::OPEN, length, fixed, payload);
    (is_intact && fixed[1] > VERSION).then_some(fixed[1])
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// What a segment says about itself. Its epoch is in the header's `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHead {
    /// Rises with every segment; never reused.
    pub(super) epoch: u64,
    /// Drawn when the segment was begun; part of the checksum seed.
    pub(super) salt: u64,
    /// The segment before, 0 where the log begins here.
    pub(super) previous_epoch: u64,
    /// Sequence of its first batch.
    pub(super) base_sequence: u64,
}

impl SegmentHead {
    const PAYLOAD_BYTES: usize = 24;
    pub(super) const BYTES: usize = HEADER_BYTES + Self::PAYLOAD_BYTES;

    pub(super) fn seed(&self) -> Seed {
        Seed::of(self.epoch, self.salt)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let mut payload = [0; Self::PAYLOAD_BYTES];
        payload[0..8].copy_from_slice(&self.salt.to_le_bytes());
        payload[8..16].copy_from_slice(&self.previous_epoch.to_le_bytes());
        payload[16..24].copy_from_slice(&self.base_sequence.to_le_bytes());
        encode(out, Seed::OPEN, Header { index: self.epoch, ..Header::of(Kind::SegmentHead) }, &payload);
    }

    /// The head at the beginning of a segment's bytes.
    pub(super) fn decode(bytes: &Bytes) -> Option<SegmentHead> {
        let record = decode(bytes, Seed::OPEN)?;
        let payload = &record.payload;
        if record.header.kind != Kind::SegmentHead || payload.len() != Self::PAYLOAD_BYTES {
            return None;
        }
        Some(SegmentHead {
            epoch: record.header.index,
            salt: u64_at(payload, 0)?,
            previous_epoch: u64_at(payload, 8)?,
            base_sequence: u64_at(payload, 16)?,
        })
    }
}

/// What a batch says about itself: it is valid as a whole or not at all. Its sequence is in the header's `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchMark {
    /// Counts batches from 1 without a gap.
    pub(super) sequence: u64,
    /// The segment in which the batch before ended, 0 where there was none …
    pub(super) previous_epoch: u64,
    /// … and the position of that end.
    pub(super) previous_end: u64,
    /// No segment before this epoch is needed any more, as far as was durable when the batch was made.
    pub(super) oldest_epoch: u64,
    /// Bytes of the records that follow.
    pub(super) bytes: u32,
    /// crc32c of those bytes.
    pub(super) checksum: u32,
}

impl BatchMark {
    const PAYLOAD_BYTES: usize = 32;
    pub(super) const BYTES: usize = HEADER_BYTES + Self::PAYLOAD_BYTES;

    pub(super) fn encode(&self, out: &mut BytesMut, seed: Seed) {
        let mut payload = [0; Self::PAYLOAD_BYTES];
        payload[0..8].copy_from_slice(&self.previous_epoch.to_le_bytes());
        payload[8..16].copy_from_slice(&self.previous_end.to_le_bytes());
        payload[16..24].copy_from_slice(&self.oldest_epoch.to_le_bytes());
        payload[24..28].copy_from_slice(&self.bytes.to_le_bytes());
        payload[28..32].copy_from_slice(&self.checksum.to_le_bytes());
        encode(out, seed, Header { index: self.sequence, ..Header::of(Kind::BatchMark) }, &payload);
    }

    /// True where a mark may begin. Asked at every byte behind the last batch, so it looks at two bytes only.
    pub(super) fn may_begin(bytes: &[u8]) -> bool {
        bytes.first() == Some(&(Self::PAYLOAD_BYTES as u8)) && bytes.get(8) == Some(&(Kind::BatchMark as u8))
    }

    /// The mark at the beginning of `bytes`.
    pub(super) fn decode(bytes: &Bytes, seed: Seed) -> Option<BatchMark> {
        let record = decode(bytes, seed)?;
        let payload = &record.payload;
        if record.header.kind != Kind::BatchMark || payload.len() != Self::PAYLOAD_BYTES {
            return None;
        }
        Some(BatchMark {
            sequence: record.header.index,
            previous_epoch: u64_at(payload, 0)?,
            previous_end: u64_at(payload, 8)?,
            oldest_epoch: u64_at(payload, 16)?,
            bytes: u32_at(payload, 24)?,
            checksum: u32_at(payload, 28)?,
        })
    }
}

/// A segment head as a release with another version would write it.
#[cfg(test)]
pub(super) fn with_version(head: &Bytes, version: u8) -> Bytes {
    let mut bytes = head.to_vec();
    bytes[9] = version;
    let crc = checksum(Seed::OPEN, (head.len() - HEADER_BYTES) as u32, &bytes[8..HEADER_BYTES], &bytes[HEADER_BYTES..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(payload: &[u8], seed: Seed) -> Bytes {
        let mut out = BytesMut::new();
        encode(&mut out, seed, Header { kind: Kind::Entry, flags: 0, group: 7, term: 3, index: 41 }, payload);
        out.freeze()
    }

    #[test]
    fn the_layout_is_pinned() {
        let seed = Seed::of(5, 9);
        let text = "03000000a23a7f0e030100000700000003000000000000002900000000000000616263";
        assert_eq!(hex::encode(entry(b"abc", seed)), text);
    }

    #[test]
    fn a_record_of_another_segment_is_not_valid() {
        let bytes = entry(b"payload", Seed::of(5, 9));
        assert!(decode(&bytes, Seed::of(5, 9)).is_some());
        assert!(decode(&bytes, Seed::of(6, 9)).is_none(), "another epoch");
        assert!(decode(&bytes, Seed::of(5, 8)).is_none(), "another salt");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let seed = Seed::of(1, 2);
        let bytes = entry(b"some payload", seed);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged.into(), seed).is_none(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(payload: Vec<u8>, group: u32, term: u64, index: u64, flags: u16) {
            let header = Header { kind: Kind::Entry, flags, group, term, index };
            let mut out = BytesMut::new();
            encode(&mut out, Seed::OPEN, header, &payload);
            prop_assert_eq!(out.len(), record_bytes(payload.len()));
            prop_assert_eq!(decode(&out.freeze(), Seed::OPEN), Some(Record { header, payload: payload.into() }));
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            let _ = (decode(&bytes, Seed::OPEN), SegmentHead::decode(&bytes), BatchMark::decode(&bytes, Seed::OPEN));
        }

        #[test]
        fn heads_and_marks_read_back(a: u64, b: u64, c: u64, d: u64, e: u32, f: u32) {
            let head = SegmentHead { epoch: a, salt: b, previous_epoch: c, base_sequence: d };
            let mut out = BytesMut::new();
            head.encode(&mut out);
            prop_assert_eq!(out.len(), SegmentHead::BYTES);
            prop_assert_eq!(SegmentHead::decode(&out.freeze()), Some(head));
            let mark = BatchMark {
                sequence: a, previous_epoch: b, previous_end: c, oldest_epoch: d, bytes: e, checksum: f,
            };
            let mut out = BytesMut::new();
            mark.encode(&mut out, head.seed());
            prop_assert_eq!(out.len(), BatchMark::BYTES);
            prop_assert_eq!(BatchMark::decode(&out.freeze(), head.seed()), Some(mark));
        }
    }
}
