//! Files of the cold tier: which leaves of this log's are in which object, and the keys that they open with. What is told here
//! is what the zone believes; an object store only keeps bytes.
//!
//! A file holds bodies in the clear under a key of its own, which is kept among the subjects' keys and so is wrapped anew
//! whenever the group turns to a new ring key. An erased subject's bodies go by a file being made again without them, under
//! another key: [`ColdFile::control_rev`] says of which erasures a file has heard. Pure; nothing in here opens a file.

use nethical_protocol::ids::{ControlRevision, KeyedId, Slot};
use nethical_protocol::limits::COLD_FILES_PER_GROUP_MAX;

use super::{Entry, ErasedV1, SubjectId, Subjects, WrappedV1};

/// Where the keys of cold files stand among those of subjects: in a slot that no agent has.
const COLD_SLOT: Slot = Slot(u16::MAX);

/// A closed segment is in an object from here on.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ColdPutV1 {
    /// First leaf.
    pub first: u64,
    /// How many.
    pub leaves: u32,
    /// SHA-256 of the object, which is in its name.
    pub object: [u8; 32],
    /// Its length.
    pub bytes: u64,
    /// Bodies in it.
    pub bodies: u32,
    /// What it opens with.
    pub key: WrappedV1,
    /// Its bodies were opened by what was in force here at this revision, or later.
    pub control_rev: ControlRevision,
    /// The object whose place it takes; none where the segment was not cold before.
    pub replaces: Option<[u8; 32]>,
}

/// A file of the cold tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdFile {
    /// First leaf.
    pub first: u64,
    /// How many.
    pub leaves: u32,
    /// SHA-256 of the object.
    pub object: [u8; 32],
    /// Its length.
    pub bytes: u64,
    /// Bodies in it.
    pub bodies: u32,
    /// It holds nothing of what was erased up to here.
    pub control_rev: ControlRevision,
}

impl ColdFile {
    /// Index after its last leaf.
    pub fn next(&self) -> u64 {
        self.first.saturating_add(u64::from(self.leaves))
    }
}

/// The name under which an object's key is kept.
fn key_id(object: &[u8; 32]) -> SubjectId {
    let (mut tenant, mut subject) = ([0; 16], [0; 16]);
    tenant.copy_from_slice(&object[..16]);
    subject.copy_from_slice(&object[16..]);
    SubjectId { slot: COLD_SLOT, tenant: KeyedId(tenant), subject: KeyedId(subject) }
}

impl Subjects {
    /// The cold file that holds a leaf.
    pub fn cold_with(&self, leaf_index: u64) -> Option<ColdFile> {
        let (_, file) = self.cold.range(..=leaf_index).next_back()?;
        (leaf_index < file.next()).then_some(*file)
    }

    /// The cold file that begins with a leaf, and what it opens with.
    pub fn cold_at(&self, first: u64) -> Option<(ColdFile, WrappedV1)> {
        let file = *self.cold.get(&first)?;
        let key = self.entries.get(&key_id(&file.object))?.key?;
        Some((file, key))
    }

    /// All cold files, by their first leaves.
    pub fn cold_files(&self) -> impl ExactSizeIterator<Item = &ColdFile> {
        self.cold.values()
    }

    /// Erasures under way that a cold file has not heard of: each subject, with the generation below which its keys are gone.
    pub fn erased_since(&self, file: &ColdFile) -> impl Iterator<Item = ErasedV1> + use<'_> {
        let heard = file.control_rev;
        self.erasing.iter().filter(move |(at, _)| *at > heard).map(|(_, erased)| *erased)
    }

    /// Takes a file in, in place of the one that it replaces, whose key goes. False where it does not fit: its bodies may be of
    /// somebody who was erased since, its key is under another ring key, or another file has its place.
    pub(crate) fn put_cold(&mut self, put: &ColdPutV1, next_leaf: u64) -> bool {
        let ColdPutV1 { first, leaves, object, bytes, bodies, key, control_rev, replaces } = *put;
        let file = ColdFile { first, leaves, object, bytes, bodies, control_rev };
        let held = self.cold.get(&first).map(|file| (file.object, file.leaves));
        let is_next_to = |other: &ColdFile| other.first == first || other.next() <= first || file.next() <= other.first;
        let has_place = match replaces {
            Some(replaced) => held == Some((replaced, leaves)),
            None => held.is_none() && self.cold.len() < COLD_FILES_PER_GROUP_MAX,
        };
        let neighbours = [self.cold.range(..first).next_back(), self.cold.range(first..).next()];
        let fits = has_place
            && leaves > 0
            && file.next() <= next_leaf
            && neighbours.into_iter().flatten().all(|(_, other)| is_next_to(other))
            && !self.entries.contains_key(&key_id(&object))
            && Some(key.ring) == self.ring.current
            && self.ring.erased_rev <= control_rev;
        if !fits {
            return false;
        }
        let gone = replaces.and_then(|replaced| self.entries.remove(&key_id(&replaced)));
        let was_unturned = gone.and_then(|entry| entry.key).is_some_and(|key| Some(key.ring) != self.ring.current);
        self.unturned -= usize::from(was_unturned);
        self.entries.insert(key_id(&object), Entry { generation: 0, key: Some(key) });
        self.cold.insert(first, file);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::{RewrapV1, WRAPPED_BYTES};

    fn wrapped(ring: u64) -> WrappedV1 {
        WrappedV1 { ring, bytes: [ring as u8; WRAPPED_BYTES] }
    }

    fn put(first: u64, object: u8) -> ColdPutV1 {
        ColdPutV1 {
            first,
            leaves: 256,
            object: [object; 32],
            bytes: 9,
            bodies: 3,
            key: wrapped(7),
            control_rev: ControlRevision(4),
            replaces: None,
        }
    }

    fn subjects() -> Subjects {
        let mut subjects = Subjects::default();
        assert!(subjects.turn(7, ControlRevision(1)));
        subjects
    }

    #[test]
    fn a_file_takes_a_free_place_or_that_of_the_one_it_replaces() {
        let mut subjects = subjects();
        assert!(subjects.put_cold(&put(256, 1), 1_000));
        for refused in [
            put(256, 2),
            put(300, 2),
            put(100, 2),
            put(768, 2),
            ColdPutV1 { leaves: 0, ..put(512, 2) },
            ColdPutV1 { replaces: Some([9; 32]), ..put(256, 2) },
            ColdPutV1 { replaces: Some([1; 32]), leaves: 128, ..put(256, 2) },
            ColdPutV1 { replaces: Some([1; 32]), ..put(512, 2) },
            ColdPutV1 { key: wrapped(6), ..put(512, 2) },
            put(512, 1),
        ] {
            assert!(!subjects.put_cold(&refused, 1_000), "{refused:?}");
        }
        assert!(subjects.put_cold(&put(512, 2), 1_000) && subjects.put_cold(&put(0, 3), 1_000));
        assert!(subjects.put_cold(&ColdPutV1 { replaces: Some([1; 32]), ..put(256, 4) }, 1_000));
        let objects: Vec<u8> = subjects.cold_files().map(|file| file.object[0]).collect();
        assert_eq!(objects, [3, 4, 2]);
        assert_eq!(subjects.cold_with(511).map(|file| file.first), Some(256));
        assert_eq!((subjects.cold_with(768), subjects.cold_at(300)), (None, None));
        assert_eq!(subjects.entries.len(), 3, "the replaced one's key is gone");
    }

    #[test]
    fn what_was_made_before_an_erasure_is_not_taken_and_keys_are_wrapped_anew_like_all_others() {
        let mut subjects = subjects();
        assert!(subjects.put_cold(&put(0, 1), 1_000));
        let id = SubjectId { slot: Slot(1), tenant: KeyedId([1; 16]), subject: KeyedId([2; 16]) };
        subjects.entries.insert(id, Entry { generation: 0, key: Some(wrapped(7)) });
        assert_eq!(subjects.erase(id.tenant, id.subject, ControlRevision(5)), 1);
        assert!(!subjects.put_cold(&put(256, 2), 1_000), "it may hold what was erased");
        let file = subjects.cold_with(0).expect("it is cold");
        assert_eq!(subjects.erased_since(&file).map(|erased| erased.subject).collect::<Vec<_>>(), [id]);
        let anew = ColdPutV1 { control_rev: ControlRevision(5), replaces: Some([1; 32]), ..put(0, 3) };
        assert!(subjects.put_cold(&anew, 1_000));
        let file = subjects.cold_with(0).expect("it is cold");
        assert_eq!(subjects.erased_since(&file).count(), 0);
        assert!(subjects.turn(8, ControlRevision(5)));
        let old = subjects.unturned(None, 10);
        assert_eq!(old.len(), 1);
        let keys = old.into_iter().map(|(id, generation, _)| (id, generation, wrapped(8))).collect();
        assert!(subjects.rewrap(&RewrapV1 { keys }));
        assert_eq!(subjects.cold_at(0).map(|(_, key)| key), Some(wrapped(8)));
        assert!(subjects.may_settle());
    }
}
