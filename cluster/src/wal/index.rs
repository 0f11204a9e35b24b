//! Where every entry is: by group and index, in memory. The log itself is never searched.
//!
//! An entry is here from the moment it is queued, so that it can be read before it is durable, as Raft demands. Costs
//! about 48 bytes an entry; entries are batches of up to 256 commands.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use nethical_protocol::ids::GroupId;

use super::record::record_bytes;

/// A record in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) epoch: u64,
    pub(super) offset: u32,
    /// Of the whole record, header included.
    pub(super) bytes: u32,
}

/// Where an entry's bytes are.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Not durable yet. The ticket tells apart entries that were queued one after the other at the same index.
    Queued { ticket: u64, payload: Bytes },
    /// In a segment.
    Written(Location),
}

#[derive(Debug, Clone)]
struct Slot {
    term: u64,
    place: Place,
}

impl Slot {
    fn bytes(&self) -> u64 {
        match &self.place {
            Place::Queued { payload, .. } => record_bytes(payload.len()) as u64,
            Place::Written(location) => u64::from(location.bytes),
        }
    }
}

/// One group's entries: contiguous from `first` on.
#[derive(Debug, Default)]
struct Entries {
    first: u64,
    slots: VecDeque<Slot>,
    purged: Option<u64>,
    bytes: u64,
}

impl Entries {
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The only index at which the next entry may stand; none where any will do.
    fn next(&self) -> Option<u64> {
        match (self.slots.is_empty(), self.purged) {
            (false, _) => Some(self.end()),
            (true, Some(purged)) => Some(purged + 1),
            (true, None) => None,
        }
    }

    fn push(&mut self, index: u64, slot: Slot) {
        if self.slots.is_empty() {
            self.first = index;
        }
        self.bytes += slot.bytes();
        self.slots.push_back(slot);
    }

    fn truncate(&mut self, after: Option<u64>) {
        let end = after.map_or(0, |after| after.saturating_add(1));
        while self.end() > end
            && let Some(slot) = self.slots.pop_back()
        {
            self.bytes -= slot.bytes();
        }
    }

    fn purge(&mut self, up_to: u64) {
        while self.first <= up_to
            && let Some(slot) = self.slots.pop_front()
        {
            self.bytes -= slot.bytes();
            self.first += 1;
        }
        self.purged = self.purged.max(Some(up_to));
    }
}

/// First and last entry of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) last_term: u64,
}

/// An entry that was found.
pub(super) struct Found {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) place: Place,
}

/// All groups' entries.
#[derive(Debug, Default)]
pub(super) struct Index {
    groups: BTreeMap<GroupId, Entries>,
}

impl Index {
    /// Adds an entry. Refused, with the index expected, where it would leave a hole or an overlap.
    pub(super) fn push(&mut self, group: GroupId, index: u64, term: u64, place: Place) -> Result<(), u64> {
        let entries = self.groups.entry(group).or_default();
        match entries.next() {
            Some(next) if next != index => Err(next),
            _ => {
                entries.push(index, Slot { term, place });
                Ok(())
            }
        }
    }

    /// Adds an entry that was found in the log. Where the group has none yet, its first ones may have stood in a segment
    /// that is gone: a later purge covers them, which the caller checks in the end.
    pub(super) fn restore(&mut self, group: GroupId, index: u64, term: u64, place: Place) -> Result<(), u64> {
        let entries = self.groups.entry(group).or_default();
        match entries.next() {
            Some(next) if index < next || (index > next && !entries.slots.is_empty()) => Err(next),
            _ => {
                entries.push(index, Slot { term, place });
                Ok(())
            }
        }
    }

    /// The index at which the group's next entry must stand; none where any will do.
    pub(super) fn next(&self, group: GroupId) -> Option<u64> {
        self.groups.get(&group).and_then(Entries::next)
    }

    /// Drops entries after `after`, or all.
    pub(super) fn truncate(&mut self, group: GroupId, after: Option<u64>) {
        if let Some(entries) = self.groups.get_mut(&group) {
            entries.truncate(after);
        }
    }

    /// Drops entries up to `up_to`; the next one stands after it.
    pub(super) fn purge(&mut self, group: GroupId, up_to: u64) {
        self.groups.entry(group).or_default().purge(up_to);
    }

    /// Drops a group.
    pub(super) fn forget(&mut self, group: GroupId) {
        self.groups.remove(&group);
    }

    /// Notes where a queued entry was written, unless it has been cut or purged meanwhile.
    pub(super) fn settle(&mut self, group: GroupId, index: u64, queued: u64, location: Location) {
        let Some(entries) = self.groups.get_mut(&group) else { return };
        let position = index.checked_sub(entries.first).and_then(|position| usize::try_from(position).ok());
        if let Some(slot) = position.and_then(|position| entries.slots.get_mut(position))
            && matches!(slot.place, Place::Queued { ticket, .. } if ticket == queued)
        {
            slot.place = Place::Written(location);
        }
    }

    /// The entries of `range` that there are.
    pub(super) fn find(&self, group: GroupId, range: Range<u64>) -> Vec<Found> {
        let Some(entries) = self.groups.get(&group) else { return Vec::new() };
        let (from, to) = (range.start.max(entries.first), range.end.min(entries.end()));
        let indexes = from..to.max(from);
        indexes
            .filter_map(|index| {
                let slot = entries.slots.get(usize::try_from(index - entries.first).ok()?)?;
                Some(Found { index, term: slot.term, place: slot.place.clone() })
            })
            .collect()
    }

    /// True where the group still has this entry.
    pub(super) fn contains(&self, group: GroupId, index: u64) -> bool {
        self.groups.get(&group).is_some_and(|entries| (entries.first..entries.end()).contains(&index))
    }

    /// First and last entry, where there are any.
    pub(super) fn bounds(&self, group: GroupId) -> Option<Bounds> {
        let entries = self.groups.get(&group)?;
        let last = entries.slots.back()?;
        Some(Bounds { first: entries.first, last: entries.end() - 1, last_term: last.term })
    }

    /// The position up to which the group was purged.
    pub(super) fn purged(&self, group: GroupId) -> Option<u64> {
        self.groups.get(&group)?.purged
    }

    /// Bytes that a group's entries take in the log.
    pub(super) fn bytes(&self, group: GroupId) -> u64 {
        self.groups.get(&group).map_or(0, |entries| entries.bytes)
    }

    /// The segment of a group's oldest written entry.
    pub(super) fn oldest_epoch_of(&self, group: GroupId) -> Option<u64> {
        front_epoch(self.groups.get(&group)?)
    }

    /// The oldest segment that any group needs.
    pub(super) fn oldest_epoch(&self) -> Option<u64> {
        self.groups.values().filter_map(front_epoch).min()
    }

    /// Groups known here.
    pub(super) fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.groups.keys().copied()
    }
}

/// Entries become durable in order, so where the first one is not written none is.
fn front_epoch(entries: &Entries) -> Option<u64> {
    match entries.slots.front()?.place {
        Place::Queued { .. } => None,
        Place::Written(location) => Some(location.epoch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(4);

    fn written(epoch: u64) -> Place {
        Place::Written(Location { epoch, offset: 0, bytes: 100 })
    }

    fn filled(indexes: Range<u64>) -> Index {
        let mut index = Index::default();
        for number in indexes {
            index.push(GROUP, number, 1, written(number / 4)).unwrap();
        }
        index
    }

    #[test]
    fn holes_and_overlaps_are_refused() {
        let mut index = filled(5..8);
        assert_eq!(index.push(GROUP, 9, 1, written(0)), Err(8));
        assert_eq!(index.push(GROUP, 7, 1, written(0)), Err(8));
        index.purge(GROUP, 20);
        assert_eq!(index.push(GROUP, 8, 1, written(0)), Err(21), "after a purge past the end the log goes on there");
        assert_eq!(index.push(GROUP, 21, 1, written(0)), Ok(()));
    }

    #[test]
    fn cutting_and_purging_keep_the_bounds_and_the_bytes() {
        let mut index = filled(1..13);
        index.purge(GROUP, 4);
        index.truncate(GROUP, Some(9));
        assert_eq!(index.bounds(GROUP), Some(Bounds { first: 5, last: 9, last_term: 1 }));
        assert_eq!(index.bytes(GROUP), 500);
        assert_eq!(index.oldest_epoch(), Some(1));
        assert_eq!(index.find(GROUP, 0..7).iter().map(|found| found.index).collect::<Vec<_>>(), [5, 6]);
        index.truncate(GROUP, None);
        assert_eq!((index.bounds(GROUP), index.bytes(GROUP), index.next(GROUP)), (None, 0, Some(5)));
        index.forget(GROUP);
        assert_eq!(index.next(GROUP), None);
    }

    #[test]
    fn only_the_entry_that_was_written_is_settled() {
        let mut index = Index::default();
        let queued = |ticket| Place::Queued { ticket, payload: Bytes::from_static(b"x") };
        index.push(GROUP, 1, 1, queued(10)).unwrap();
        index.truncate(GROUP, None);
        index.push(GROUP, 1, 2, queued(11)).unwrap();
        let location = Location { epoch: 3, offset: 64, bytes: 33 };
        index.settle(GROUP, 1, 10, location);
        assert_eq!(index.oldest_epoch(), None, "the entry that was cut must not settle its successor");
        index.settle(GROUP, 1, 11, location);
        assert_eq!(index.oldest_epoch(), Some(3));
    }
}
