//! What a log's segments on this node have lost: noted by starts, reads and the scrubber, taken back by repairs.
//!
//! One note a segment, so their number is bounded by that of the segments. A note is about this node's copy alone: the
//! log itself is what its replicas agreed on.

use std::collections::BTreeMap;

use nethical_audit::segment::{Fault, Flaw};

use super::AuditStore;

/// Entries of the audit trail whose copy on this node is damaged.
pub const DAMAGED_LEAVES: &str = "nethical_audit_damaged_leaves";
/// Entries that were put back into damaged segments since the node started.
pub const REPAIRED_LEAVES_TOTAL: &str = "nethical_audit_repaired_leaves_total";
/// Bytes of closed segments that were read again since the node started.
pub const SCRUBBED_BYTES_TOTAL: &str = "nethical_audit_scrubbed_bytes_total";

/// Damage by the first leaf of its segment.
pub(super) type Damages = BTreeMap<u64, Damage>;

/// A damaged segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The segment's file.
    pub segment: String,
    /// The first leaf concerned.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What was found first.
    pub why: String,
    /// True where the file's own records may not be used to mend it, though their checksums fit.
    pub is_forged: bool,
    /// Why the last repair did not succeed; empty before the first one.
    pub tried: String,
}

impl AuditStore {
    /// What is damaged now, in order of leaves.
    pub fn damages(&self) -> Vec<Damage> {
        self.inner.lock().damages.values().cloned().collect()
    }

    /// Leaves that a snapshot says are there and that are not stored here yet: from, up to. They are being fetched.
    pub fn gap(&self) -> Option<(u64, u64)> {
        let (stored, expected) = (self.stored().0, self.trail.first());
        (stored < expected).then_some((stored, expected))
    }

    /// True where none of the first `size` leaves is known to be damaged here.
    pub fn is_whole(&self, size: u64) -> bool {
        self.inner.lock().damages.values().all(|damage| size <= damage.first)
    }

    /// Notes what a look at a closed segment has found, in place of what was noted of it before.
    pub(super) fn note_fault(&self, segment_first: u64, fault: &Fault, why: &str) {
        let tried = self.inner.lock().damages.remove(&segment_first).map(|old| old.tried).unwrap_or_default();
        self.note(segment_first, fault.first, fault.last, why, fault.flaw == Flaw::Content);
        if let Some(noted) = self.inner.lock().damages.get_mut(&segment_first) {
            noted.tried = tried;
        }
    }

    /// Notes that a leaf could not be read that is on the disk by all that is known.
    pub(super) fn note_unreadable(&self, index: u64, why: &str) {
        let durable = self.sealed.borrow().durable;
        let segment = {
            let inner = self.inner.lock();
            let open = inner.open.as_ref().map(|open| open.writer.meta().first_index);
            match inner.closed_with(index) {
                Some(closed) => (closed.next <= durable).then_some(closed.first()),
                None => open.filter(|first| *first <= index && index < durable),
            }
        };
        if let Some(segment) = segment {
            self.note(segment, index, index, why, false);
        }
    }

    fn note(&self, segment_first: u64, first: u64, last: u64, why: &str, is_forged: bool) {
        let mut inner = self.inner.lock();
        let closed = inner.closed_with(segment_first).filter(|segment| segment.first() == segment_first);
        let segment = closed.map_or_else(|| format!("{segment_first:020}.seg"), |segment| segment.file_name());
        let is_new = !inner.damages.contains_key(&segment_first);
        let new = Damage { segment, first, last, why: why.to_owned(), is_forged, tried: String::new() };
        let held = inner.damages.entry(segment_first).or_insert(new);
        (held.first, held.last) = (held.first.min(first), held.last.max(last));
        held.is_forged |= is_forged;
        if is_new {
            tracing::error!(group = %self.log.group, segment = held.segment, first, last, why, "the audit trail's copy on this node is damaged");
        }
    }

    /// Takes the note on a segment back.
    pub(super) fn forget_damage(&self, segment_first: u64) {
        self.inner.lock().damages.remove(&segment_first);
    }

    /// Notes why a segment could not be mended.
    pub(super) fn note_tried(&self, segment_first: u64, why: &str) {
        if let Some(damage) = self.inner.lock().damages.get_mut(&segment_first) {
            why.clone_into(&mut damage.tried);
        }
    }
}
