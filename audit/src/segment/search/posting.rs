//! One dimension of a search index: for each key the places of the leaves that have it.
//!
//! Two forms; the writer takes the smaller one. *Keyed*: a sorted table of keys, then for each the places, as plain u16
//! where they are few and as a roaring bitmap (RoaringFormatSpec, runs included) where that is smaller. *Hashed*: for
//! dimensions with a key for every other leaf, 24 bits of the key and the place, sorted: 4 B a leaf whatever clients do, and
//! one key in 256 segments that is not there seems to be. A found place is a candidate; the leaf decides.

use roaring::RoaringBitmap;

use crate::reader::Reader;

/// What leaves are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// The tenant.
    Tenant,
    /// The agent.
    Agent,
    /// The session.
    Session,
    /// The action's name.
    Tool,
    /// The final verdict.
    Verdict,
    /// The risk, in 32 buckets.
    Risk,
    /// A rule that decided.
    Rule,
    /// The leaf's kind.
    Kind,
}

impl Dimension {
    /// In the order in which they are stored.
    pub const ALL: [Self; 8] =
        [Self::Tenant, Self::Agent, Self::Session, Self::Tool, Self::Verdict, Self::Risk, Self::Rule, Self::Kind];
}

const KEYED: u32 = 1;
const HASHED: u32 = 2;
/// Form and count.
const HEAD_BYTES: usize = 8;
/// A key and where its places begin.
const KEY_BYTES: usize = 12;
/// Set in the place of a key whose places are a roaring bitmap.
const IS_ROARING: u32 = 1 << 31;
/// No bitmap is smaller than so few plain places.
const PLAIN_MAX: usize = 7;
/// Starts of the buckets of the hashed form, by the highest byte of the key, and the end.
const BUCKETS: usize = 256;
const DIRECTORY_BYTES: usize = (BUCKETS + 1) * 4;

/// The bytes of one dimension, from sorted pairs of key and place.
pub(super) fn encode(pairs: &[(u64, u16)]) -> Vec<u8> {
    let hashed_bytes = HEAD_BYTES + DIRECTORY_BYTES + 4 * pairs.len();
    match encode_keyed(pairs, hashed_bytes) {
        Some(keyed) => keyed,
        None => encode_hashed(pairs),
    }
}

/// `None` where it takes more than `bytes_max`.
fn encode_keyed(pairs: &[(u64, u16)], bytes_max: usize) -> Option<Vec<u8>> {
    let keys = pairs.chunk_by(|left, right| left.0 == right.0).count();
    let places_at = HEAD_BYTES + keys * KEY_BYTES;
    if places_at > bytes_max {
        return None;
    }
    let mut out = vec![0; places_at];
    out[..4].copy_from_slice(&KEYED.to_le_bytes());
    out[4..8].copy_from_slice(&(keys as u32).to_le_bytes());
    for (number, of_key) in pairs.chunk_by(|left, right| left.0 == right.0).enumerate() {
        let start = (out.len() - places_at) as u32;
        let bitmap = bitmap_of(of_key);
        let entry = HEAD_BYTES + number * KEY_BYTES;
        out[entry..entry + 8].copy_from_slice(&of_key[0].0.to_le_bytes());
        let flag = if bitmap.is_some() { IS_ROARING } else { 0 };
        out[entry + 8..entry + 12].copy_from_slice(&(start | flag).to_le_bytes());
        match bitmap {
            Some(bitmap) => bitmap.serialize_into(&mut out).expect("writing to memory cannot fail"),
            None => of_key.iter().for_each(|(_, place)| out.extend_from_slice(&place.to_le_bytes())),
        }
    }
    (out.len() <= bytes_max).then_some(out)
}

/// The bitmap of a key's places, where it is smaller than they are.
fn bitmap_of(of_key: &[(u64, u16)]) -> Option<RoaringBitmap> {
    if of_key.len() <= PLAIN_MAX {
        return None;
    }
    let mut bitmap = RoaringBitmap::from_sorted_iter(of_key.iter().map(|(_, place)| u32::from(*place))).ok()?;
    bitmap.optimize();
    (bitmap.serialized_size() < 2 * of_key.len()).then_some(bitmap)
}

fn encode_hashed(pairs: &[(u64, u16)]) -> Vec<u8> {
    let mut hashed: Vec<(u32, u16)> = pairs.iter().map(|(key, place)| (hash_of(*key), *place)).collect();
    hashed.sort_unstable();
    let mut out = Vec::with_capacity(HEAD_BYTES + DIRECTORY_BYTES + 4 * pairs.len());
    out.extend_from_slice(&HASHED.to_le_bytes());
    out.extend_from_slice(&(pairs.len() as u32).to_le_bytes());
    for bucket in 0..=BUCKETS as u32 {
        let start = hashed.partition_point(|(hash, _)| hash >> 16 < bucket) as u32;
        out.extend_from_slice(&start.to_le_bytes());
    }
    hashed.iter().for_each(|(hash, _)| out.extend_from_slice(&(*hash as u16).to_le_bytes()));
    hashed.iter().for_each(|(_, place)| out.extend_from_slice(&place.to_le_bytes()));
    out
}

/// The highest 24 bits of a key: keys of dimensions that need this form are random.
fn hash_of(key: u64) -> u32 {
    (key >> 40) as u32
}

/// One dimension as stored, read key by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postings {
    bytes: Vec<u8>,
    is_hashed: bool,
    count: usize,
}

impl Postings {
    /// Reads a dimension whose checksum fits. `None` where its numbers contradict each other.
    pub(super) fn decode(bytes: Vec<u8>) -> Option<Self> {
        let mut reader = Reader::new(&bytes);
        let (form, count) = (reader.u32()?, reader.u32()? as usize);
        let rest = bytes.len() - HEAD_BYTES;
        let fits = match form {
            KEYED => count.checked_mul(KEY_BYTES)? <= rest,
            HASHED => count.checked_mul(4)?.checked_add(DIRECTORY_BYTES)? == rest,
            _ => false,
        };
        fits.then_some(Self { is_hashed: form == HASHED, bytes, count })
    }

    /// Bytes that it takes in memory, about.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Keys in the keyed form, leaves in the hashed one.
    pub fn count(&self) -> usize {
        self.count
    }

    /// All keys, ascending; none in the hashed form.
    pub fn keys(&self) -> Option<Vec<u64>> {
        if self.is_hashed {
            return None;
        }
        (0..self.count).map(|number| self.entry(number).map(|(key, _)| key)).collect()
    }

    /// The places of a key, perhaps with a few of others. `None` where the bytes contradict each other.
    pub fn find(&self, key: u64) -> Option<RoaringBitmap> {
        if self.is_hashed { self.find_hashed(hash_of(key)) } else { self.find_keyed(key) }
    }

    fn find_keyed(&self, key: u64) -> Option<RoaringBitmap> {
        let number = partition_point(self.count, |at| self.entry(at).is_some_and(|(known, _)| known < key));
        let Some((_, place)) = self.entry(number).filter(|(known, _)| *known == key) else {
            return Some(RoaringBitmap::new());
        };
        let places = self.bytes.get(HEAD_BYTES + self.count * KEY_BYTES..)?;
        let end = match self.entry(number + 1) {
            Some((_, next)) => (next & !IS_ROARING) as usize,
            None => places.len(),
        };
        let bytes = places.get((place & !IS_ROARING) as usize..end)?;
        if place & IS_ROARING == 0 {
            return plain(bytes);
        }
        let bitmap = RoaringBitmap::deserialize_from(bytes).ok()?;
        bitmap.max().is_none_or(|most| most <= u32::from(u16::MAX)).then_some(bitmap)
    }

    fn entry(&self, number: usize) -> Option<(u64, u32)> {
        if number >= self.count {
            return None;
        }
        let mut reader = Reader::new(self.bytes.get(HEAD_BYTES + number * KEY_BYTES..)?);
        Some((reader.u64()?, reader.u32()?))
    }

    fn find_hashed(&self, hash: u32) -> Option<RoaringBitmap> {
        let start = |bucket: usize| Reader::new(self.bytes.get(HEAD_BYTES + bucket * 4..)?).u32();
        let bucket = (hash >> 16) as usize;
        let (from, to) = (start(bucket)? as usize, start(bucket + 1)? as usize);
        if from > to || to > self.count {
            return None;
        }
        let hashes = self.bytes.get(HEAD_BYTES + DIRECTORY_BYTES..)?;
        let low = |at: usize| hashes.get(2 * at..).and_then(|rest| Reader::new(rest).u16()).unwrap_or(u16::MAX);
        let wanted = hash as u16;
        let first = from + partition_point(to - from, |at| low(from + at) < wanted);
        let after = first + (first..to).take_while(|at| low(*at) == wanted).count();
        plain(hashes.get(2 * (self.count + first)..2 * (self.count + after))?)
    }
}

fn plain(bytes: &[u8]) -> Option<RoaringBitmap> {
    let places = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_le_bytes([pair[0], pair[1]])));
    RoaringBitmap::from_sorted_iter(places).ok()
}

/// The first of `count` numbers for which `is_before` does not hold.
fn partition_point(count: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (0, count);
    while from < to {
        let middle = from + (to - from) / 2;
        if is_before(middle) { from = middle + 1 } else { to = middle }
    }
    from
}
