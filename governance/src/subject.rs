//! Keys of subjects: what the bodies of an agent's actions are sealed under, wrapped, and how an erasure takes them away.
//!
//! A subject is an agent, or a person whom actions are about. Its key is in here under the group's ring key and nowhere in
//! the clear. An erasure takes the wrapped key away at one log position (from then on nobody opens what was sealed under
//! it); then the group turns to a new ring key, the survivors are wrapped anew, and once no replica has the old ring key
//! any more the erasure is complete: what still lies in old logs and snapshots opens for nobody (ARCHITECTURE 4).
//!
//! Pure. Nothing in here can open a key or make one.

use std::collections::BTreeMap;

use nethical_protocol::ids::{ControlRevision, KeyedId, Slot};
use nethical_protocol::limits::{RINGS_PAST_MAX, SUBJECTS_PER_GROUP_MAX};

mod cold;

pub use cold::{ColdFile, ColdPutV1};

/// Bytes of a wrapped key.
pub const WRAPPED_BYTES: usize = 60;
/// Subjects that one leaf names as erased.
pub const ERASED_PER_LEAF: usize = 16;

/// Whose key: an agent's id, or that of a person, in the slot of the agent that speaks of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SubjectId {
    /// First, so that a slot is one contiguous range.
    pub slot: Slot,
    /// The tenant.
    pub tenant: KeyedId,
    /// The agent or the person.
    pub subject: KeyedId,
}

/// A subject key under a ring key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct WrappedV1 {
    /// Which ring key.
    pub ring: u64,
    /// Nonce, key and tag.
    pub bytes: [u8; WRAPPED_BYTES],
}

/// The key that a body was sealed under, as its proposer saw it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct KeyUseV1 {
    /// How many keys of the subject were erased before this one.
    pub generation: u32,
    /// The key itself, where the subject had none yet.
    pub fresh: Option<Box<WrappedV1>>,
}

/// The keys that a decision's body was sealed under.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SealingV1 {
    /// The agent's.
    pub agent: KeyUseV1,
    /// The person's whom the action is about, where it names one.
    pub person: Option<Box<(KeyedId, KeyUseV1)>>,
}

/// Survivors of an erasure, wrapped anew.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RewrapV1 {
    /// Each with the generation of the key that was wrapped. One that was erased meanwhile is left alone.
    pub keys: Vec<(SubjectId, u32, WrappedV1)>,
}

/// A key that is gone for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ErasedV1 {
    /// Whose.
    pub subject: SubjectId,
    /// It and all that were before it are gone; the next key has this generation.
    pub below: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) generation: u32,
    pub(crate) key: Option<WrappedV1>,
}

/// The group's ring keys, by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ring {
    /// The one to wrap under.
    pub(crate) current: Option<u64>,
    /// Those turned away from whose destruction is not confirmed yet.
    pub(crate) past: Vec<u64>,
    /// All erasures up to here were made before the last turn.
    pub(crate) turned_rev: ControlRevision,
    /// All erasures up to here are complete.
    pub(crate) done_rev: ControlRevision,
    /// The last erasure that took a key away here.
    pub(crate) erased_rev: ControlRevision,
}

/// How far a group is with erasures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasureState {
    /// Control facts are applied up to here.
    pub control_rev: ControlRevision,
    /// The last erasure that took a key away here.
    pub erased_rev: ControlRevision,
    /// All up to here are complete.
    pub done_rev: ControlRevision,
}

impl ErasureState {
    /// True where nobody can open any more, from any copy of this group, what the erasure of this revision was about. One that
    /// found no key to take away waits for those before it, which may have taken the same one.
    pub fn is_complete(&self, revision: ControlRevision) -> bool {
        self.control_rev >= revision && self.done_rev >= self.erased_rev.min(revision)
    }
}

/// The keys of one group's subjects: about 120 B each.
#[derive(Debug, Clone, Default)]
pub struct Subjects {
    pub(crate) entries: BTreeMap<SubjectId, Entry>,
    pub(crate) ring: Ring,
    /// Erased, and not yet told as gone for good; in the order of erasure.
    pub(crate) erasing: Vec<(ControlRevision, ErasedV1)>,
    /// By first leaf. Their keys are in `entries`.
    pub(crate) cold: BTreeMap<u64, ColdFile>,
    /// Keys under another ring key than the current one. Follows from `entries`.
    pub(crate) unturned: usize,
}

impl Subjects {
    /// The generation that a body for this subject is sealed under now, and its key; none where it has none yet.
    pub fn key(&self, id: &SubjectId) -> (u32, Option<WrappedV1>) {
        self.entries.get(id).map_or((0, None), |entry| (entry.generation, entry.key))
    }

    /// The ring key to wrap under.
    pub fn ring(&self) -> Option<u64> {
        self.ring.current
    }

    /// Ring keys that nobody may have any more.
    pub fn past(&self) -> &[u64] {
        &self.ring.past
    }

    /// True where a new agent can be given a key.
    pub fn has_room(&self) -> bool {
        self.subject_count() < SUBJECTS_PER_GROUP_MAX
    }

    /// True where a new person can: half of the room is for agents, so that nobody who makes up persons keeps agents out.
    pub fn has_room_for_person(&self) -> bool {
        self.subject_count() < SUBJECTS_PER_GROUP_MAX / 2
    }

    fn subject_count(&self) -> usize {
        self.entries.len() - self.cold.len()
    }

    /// True where the group needs another ring key: it has none, or erased under the one that it has.
    pub fn needs_turn(&self) -> bool {
        let is_due = self.ring.current.is_none() || self.ring.erased_rev > self.ring.turned_rev;
        is_due && self.ring.past.len() < RINGS_PAST_MAX
    }

    /// True where ring keys are to be destroyed everywhere and no key is under them any more.
    pub fn may_settle(&self) -> bool {
        self.unturned == 0 && !self.ring.past.is_empty()
    }

    /// Keys under other ring keys than the current one, from a subject on.
    pub fn unturned(&self, from: Option<SubjectId>, count: usize) -> Vec<(SubjectId, u32, WrappedV1)> {
        if self.unturned == 0 {
            return Vec::new();
        }
        let behind = self
            .entries
            .range((from.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded), std::ops::Bound::Unbounded));
        let keys = behind.filter_map(|(id, entry)| entry.key.map(|key| (*id, entry.generation, key)));
        keys.filter(|(_, _, key)| Some(key.ring) != self.ring.current).take(count).collect()
    }

    /// Subjects with keys that are gone for good, each with the generation below which they are: no replica can open any more
    /// what was sealed under them.
    pub fn gone(&self) -> BTreeMap<SubjectId, u32> {
        let mut gone: BTreeMap<SubjectId, u32> = self
            .entries
            .iter()
            .filter_map(|(id, entry)| (entry.generation > 0).then_some((*id, entry.generation)))
            .collect();
        for (_, pending) in &self.erasing {
            // An erasure takes one generation; those before it were told as gone, or stand in here as well.
            if let Some(below) = gone.get_mut(&pending.subject) {
                *below = (*below).min(pending.below.saturating_sub(1));
            }
        }
        gone.retain(|_, below| *below > 0);
        gone
    }

    pub(crate) fn state(&self, control_rev: ControlRevision) -> ErasureState {
        ErasureState { control_rev, erased_rev: self.ring.erased_rev, done_rev: self.ring.done_rev }
    }

    /// True where a body that was sealed so can be opened by what will be in here once it is taken.
    pub(crate) fn fits(&self, id: &SubjectId, used: &KeyUseV1) -> bool {
        let entry = self.entries.get(id);
        if used.generation != entry.map_or(0, |entry| entry.generation) {
            return false;
        }
        match (entry.and_then(|entry| entry.key), &used.fresh) {
            (Some(_), None) => true,
            (Some(known), Some(fresh)) => known == **fresh,
            (None, None) => false,
            (None, Some(fresh)) => Some(fresh.ring) == self.ring.current && (entry.is_some() || self.has_room()),
        }
    }

    /// True where a person's key need not be kept, or can be.
    pub(crate) fn admits_person(&self, id: &SubjectId) -> bool {
        self.entries.contains_key(id) || self.has_room_for_person()
    }

    /// Keeps a new subject's key. The caller has seen that it fits.
    pub(crate) fn take(&mut self, id: SubjectId, used: &KeyUseV1) {
        let Some(fresh) = used.fresh.as_deref() else { return };
        let entry = self.entries.entry(id).or_insert(Entry { generation: used.generation, key: None });
        entry.key.get_or_insert(*fresh);
    }

    /// Takes the subject's keys away, in all slots, and says how many.
    pub(crate) fn erase(&mut self, tenant: KeyedId, subject: KeyedId, at: ControlRevision) -> usize {
        let current = self.ring.current;
        let before = self.erasing.len();
        let of_subject = |id: &SubjectId| id.tenant == tenant && id.subject == subject;
        for (id, entry) in self.entries.iter_mut().filter(|(id, _)| of_subject(id)) {
            let Some(key) = entry.key.take() else { continue };
            entry.generation = entry.generation.saturating_add(1);
            self.unturned -= usize::from(Some(key.ring) != current);
            self.erasing.push((at, ErasedV1 { subject: *id, below: entry.generation }));
        }
        let erased = self.erasing.len() - before;
        if erased > 0 {
            self.ring.erased_rev = at;
        }
        erased
    }

    /// Turns to a new ring key.
    pub(crate) fn turn(&mut self, ring: u64, control_rev: ControlRevision) -> bool {
        if self.ring.current == Some(ring) || self.ring.past.contains(&ring) || !self.needs_turn() {
            return false;
        }
        self.ring.past.extend(self.ring.current);
        self.ring.current = Some(ring);
        self.ring.turned_rev = control_rev;
        self.count_unturned();
        true
    }

    /// Takes survivors' keys under the current ring key in place of those under older ones.
    pub(crate) fn rewrap(&mut self, rewrap: &RewrapV1) -> bool {
        let current = self.ring.current;
        let mut changed = false;
        for (id, generation, wrapped) in rewrap.keys.iter().filter(|(_, _, wrapped)| Some(wrapped.ring) == current) {
            let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.generation == *generation) else {
                continue;
            };
            let Some(key) = entry.key.as_mut().filter(|key| Some(key.ring) != current) else { continue };
            *key = *wrapped;
            self.unturned -= 1;
            changed = true;
        }
        changed
    }

    /// Nobody has the past ring keys any more: what was erased under them is gone for good, [`ERASED_PER_LEAF`] at a time.
    /// `None` where that was said before, or of other ring keys.
    pub(crate) fn settle(&mut self, past: &[u64]) -> Option<Vec<ErasedV1>> {
        if !self.may_settle() || past != self.ring.past {
            return None;
        }
        let turned = self.ring.turned_rev;
        let due = self.erasing.iter().take_while(|(at, _)| *at <= turned).count();
        let told: Vec<ErasedV1> = self.erasing.drain(..due.min(ERASED_PER_LEAF)).map(|(_, erased)| erased).collect();
        if told.len() == due {
            self.ring.done_rev = turned;
            self.ring.past.clear();
        }
        Some(told)
    }

    /// After a restore.
    pub(crate) fn count_unturned(&mut self) {
        let current = self.ring.current;
        let keys = self.entries.values().filter_map(|entry| entry.key);
        self.unturned = keys.filter(|key| Some(key.ring) != current).count();
    }
}

#[cfg(test)]
#[path = "subject_tests.rs"]
mod tests;
