//! The search index of a closed segment: which leaves can match a filter, without reading them.
//!
//! It is a function of the segment's leaves, so the files of all replicas stay equal. Head, zone maps and each dimension
//! have a checksum of their own: one part is read alone, and a damaged index is told apart from a damaged segment. What
//! it names are candidates; [`Filter::matches`] decides on the leaf. The byte tables are in FORMATS.md.

use roaring::RoaringBitmap;

use nethical_protocol::ids::KeyedId;

use super::footer::FrameStart;
use crate::filter::Filter;
use crate::reader::Reader;

pub mod posting;
mod presence;
pub mod row;
pub mod zone;

pub use posting::{Dimension, Postings};
pub use row::Rows;
pub use zone::Zone;

use presence::Presence;
use row::{bucket_of, key_of, rule_key};

const MAGIC: [u8; 4] = *b"SIDX";
/// Magic, leaves, frames, zone of all, bytes of the presence filter, length and checksum of nine parts.
const FIXED_BYTES: usize = 16 + zone::ZONE_BYTES + PARTS * 8;
const PARTS: usize = 1 + Dimension::ALL.len();
/// What to read of an index for its head.
pub const HEAD_BYTES_MAX: usize = FIXED_BYTES + presence::BYTES_MAX + 4;

/// One part of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The frames' zone maps.
    Zones,
    /// The postings of a dimension.
    Postings(Dimension),
}

impl Part {
    fn number(self) -> usize {
        match self {
            Self::Zones => 0,
            Self::Postings(dimension) => 1 + dimension as usize,
        }
    }
}

/// Where a part stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartSpan {
    /// From the start of the index.
    pub offset: u64,
    /// Bytes.
    pub length: u32,
    checksum: u32,
}

/// What is kept in memory of each segment: about 0.3 to 2.3 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchHead {
    /// Leaves of the segment.
    pub leaves: u32,
    /// Its frames.
    pub frames: u32,
    /// Of all its leaves.
    pub zone: Zone,
    presence: Presence,
    parts: [PartSpan; PARTS],
}

/// An index does not read: it is to be made again from the leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the segment's search index is damaged")]
pub struct DamagedIndex;

/// The index of a segment's leaves, whose frames start there.
pub fn encode(rows: &Rows, first_index: u64, frames: &[FrameStart]) -> Vec<u8> {
    let mut bodies = vec![encode_zones(rows, first_index, frames)];
    let mut keys = Vec::new();
    for dimension in Dimension::ALL {
        let pairs = rows.pairs(dimension);
        keys.extend(pairs.chunk_by(|left, right| left.0 == right.0).map(|of_key| (dimension, of_key[0].0)));
        bodies.push(posting::encode(&pairs));
    }
    let presence = Presence::of(&keys);
    let mut out = Vec::with_capacity(HEAD_BYTES_MAX + bodies.iter().map(Vec::len).sum::<usize>());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    out.extend_from_slice(&(frames.len() as u32).to_le_bytes());
    out.extend_from_slice(&(presence.bytes().len() as u32).to_le_bytes());
    rows.zone(0..rows.len()).put(&mut out);
    for body in &bodies {
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    }
    out.extend_from_slice(presence.bytes());
    out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
    bodies.iter().for_each(|body| out.extend_from_slice(body));
    out
}

fn encode_zones(rows: &Rows, first_index: u64, frames: &[FrameStart]) -> Vec<u8> {
    let starts: Vec<usize> =
        frames.iter().map(|frame| frame.first_index.saturating_sub(first_index) as usize).collect();
    let mut out = Vec::with_capacity(frames.len() * zone::ZONE_BYTES);
    for (number, start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(rows.len());
        rows.zone(*start..end).put(&mut out);
    }
    out
}

impl SearchHead {
    /// Reads the head at the start of `bytes`: an index, or its first [`HEAD_BYTES_MAX`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DamagedIndex> {
        Self::read(bytes).ok_or(DamagedIndex)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.array() != Some(MAGIC) {
            return None;
        }
        let (leaves, frames, presence_bytes) = (reader.u32()?, reader.u32()?, reader.u32()? as usize);
        if presence_bytes > presence::BYTES_MAX {
            return None;
        }
        let covered = FIXED_BYTES + presence_bytes;
        if crc32c::crc32c(bytes.get(..covered)?).to_le_bytes() != *bytes.get(covered..covered + 4)? {
            return None;
        }
        let zone = Zone::read(&mut reader)?;
        let mut offset = covered as u64 + 4;
        let mut parts = [PartSpan { offset, length: 0, checksum: 0 }; PARTS];
        for part in &mut parts {
            *part = PartSpan { offset, length: reader.u32()?, checksum: reader.u32()? };
            offset += u64::from(part.length);
        }
        let presence = Presence::read(reader.take(presence_bytes)?)?;
        Some(Self { leaves, frames, zone, presence, parts })
    }

    /// Where a part stands.
    pub fn span(&self, part: Part) -> PartSpan {
        self.parts[part.number()]
    }

    /// Bytes of the whole index.
    pub fn index_bytes(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.offset + u64::from(part.length))
    }

    /// False where no leaf of the segment can match.
    pub fn admits(&self, filter: &Filter) -> bool {
        let held =
            |(dimension, keys): &(Dimension, Vec<u64>)| keys.iter().any(|key| self.presence.may_hold(*dimension, *key));
        self.zone.admits(filter) && wanted(filter).iter().all(held)
    }
}

impl PartSpan {
    /// The zone maps, from their bytes.
    pub fn zones(&self, bytes: &[u8]) -> Result<Vec<Zone>, DamagedIndex> {
        self.check(bytes)?;
        zone::read_all(bytes).ok_or(DamagedIndex)
    }

    /// The postings, from their bytes.
    pub fn postings(&self, bytes: Vec<u8>) -> Result<Postings, DamagedIndex> {
        self.check(&bytes)?;
        Postings::decode(bytes).ok_or(DamagedIndex)
    }

    fn check(&self, bytes: &[u8]) -> Result<(), DamagedIndex> {
        let fits = bytes.len() as u64 == u64::from(self.length) && crc32c::crc32c(bytes) == self.checksum;
        fits.then_some(()).ok_or(DamagedIndex)
    }
}

/// For each dimension that a filter asks about, the keys of which a leaf must have one. The most selective come first.
pub fn wanted(filter: &Filter) -> Vec<(Dimension, Vec<u64>)> {
    let mut all = Vec::new();
    let id = |dimension, id: Option<_>| id.map(|id| (dimension, vec![key_of(id)]));
    all.extend(id(Dimension::Session, filter.session));
    all.extend(id(Dimension::Agent, filter.agent));
    all.extend(filter.rule.map(|rule| (Dimension::Rule, vec![rule_key(rule)])));
    all.extend(id(Dimension::Tool, filter.tool));
    all.extend(filter.verdict.map(|verdict| (Dimension::Verdict, vec![u64::from(verdict)])));
    if filter.asks_risk() {
        let (least, most) = filter.risks();
        all.push((Dimension::Risk, (bucket_of(least)..=bucket_of(most)).map(u64::from).collect()));
    }
    // An agent is one of its tenant's alone: its key says both.
    all.extend(id(Dimension::Tenant, filter.tenant.filter(|_| filter.agent.is_none())));
    all.extend(filter.kind.map(|kind| (Dimension::Kind, vec![u64::from(kind)])));
    all
}

/// The key by which an index knows a tenant.
pub fn tenant_key(tenant: KeyedId) -> u64 {
    key_of(tenant)
}

/// The keys of the tenants that a segment has leaves of, ascending, from its postings by tenant; none where they do not say.
pub fn tenants(postings: &Postings) -> Option<Vec<u64>> {
    Some(postings.keys()?.into_iter().filter(|key| *key != key_of(KeyedId::NONE)).collect())
}

/// The places whose leaves may have one of a dimension's keys.
pub fn places_of(postings: &Postings, keys: &[u64]) -> Result<RoaringBitmap, DamagedIndex> {
    let mut places = RoaringBitmap::new();
    for key in keys {
        places |= postings.find(*key).ok_or(DamagedIndex)?;
    }
    Ok(places)
}

#[cfg(test)]
#[path = "search/search_tests.rs"]
mod tests;
