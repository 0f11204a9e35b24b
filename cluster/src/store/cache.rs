//! The parts of search indexes that a node used lately, under one bound in bytes for all its groups.
//!
//! What was used longest ago makes room. Nothing is kept here that the disk does not have.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use nethical_audit::segment::search::{Part, Postings, Zone};
use nethical_protocol::ids::LogId;

/// One part of one segment's index: its log, the segment's first leaf, how often its file was made anew, the part.
pub(super) type PartKey = (LogId, u64, u64, Part);

/// What a part holds, read and checked.
#[derive(Debug, Clone)]
pub(super) enum Loaded {
    /// Zone maps of the frames.
    Zones(Arc<Vec<Zone>>),
    /// Postings of a dimension.
    Postings(Arc<Postings>),
}

/// What a part takes beside its own bytes, about.
const ENTRY_BYTES: usize = 160;

/// The parts in memory.
pub struct IndexCache {
    bytes_max: usize,
    inner: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Each part with its last use.
    parts: BTreeMap<PartKey, (u64, Loaded)>,
    /// Parts by last use.
    uses: BTreeMap<u64, PartKey>,
    clock: u64,
    bytes: usize,
}

impl Loaded {
    fn bytes(&self) -> usize {
        let own = match self {
            Self::Zones(zones) => size_of::<Zone>() * zones.len(),
            Self::Postings(postings) => postings.bytes(),
        };
        own + ENTRY_BYTES
    }
}

impl IndexCache {
    /// An empty cache of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inner: Mutex::default() }
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        self.inner.lock().bytes
    }

    pub(super) fn get(&self, key: PartKey) -> Option<Loaded> {
        self.inner.lock().touch(key)
    }

    pub(super) fn put(&self, key: PartKey, loaded: Loaded) {
        if loaded.bytes() > self.bytes_max {
            return;
        }
        let mut held = self.inner.lock();
        held.remove(&key);
        held.bytes += loaded.bytes();
        held.clock += 1;
        let now = held.clock;
        held.uses.insert(now, key);
        held.parts.insert(key, (now, loaded));
        while held.bytes > self.bytes_max {
            let Some(oldest) = held.uses.first_key_value().map(|(_, key)| *key) else { return };
            held.remove(&oldest);
        }
    }
}

impl Held {
    fn touch(&mut self, key: PartKey) -> Option<Loaded> {
        let (used, loaded) = self.parts.get_mut(&key)?;
        self.clock += 1;
        self.uses.remove(used);
        self.uses.insert(self.clock, key);
        *used = self.clock;
        Some(loaded.clone())
    }

    fn remove(&mut self, key: &PartKey) {
        if let Some((used, loaded)) = self.parts.remove(key) {
            self.uses.remove(&used);
            self.bytes -= loaded.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use nethical_protocol::ids::GroupId;

    use super::*;

    fn key(first: u64) -> PartKey {
        (LogId { group: GroupId(2), era: 1 }, first, 0, Part::Zones)
    }

    fn zones(count: usize) -> Loaded {
        Loaded::Zones(Arc::new(vec![Zone::EMPTY; count]))
    }

    #[test]
    fn what_was_used_longest_ago_makes_room_and_the_bound_holds() {
        let one = zones(10).bytes();
        let cache = IndexCache::new(3 * one);
        (0..3).for_each(|first| cache.put(key(first), zones(10)));
        assert!(cache.get(key(0)).is_some());
        cache.put(key(3), zones(10));
        assert!(cache.get(key(1)).is_none(), "the first was used since");
        assert!(cache.get(key(0)).is_some() && cache.get(key(2)).is_some() && cache.get(key(3)).is_some());
        cache.put(key(3), zones(20));
        assert!(cache.bytes() <= 3 * one, "{}", cache.bytes());
        cache.put(key(9), zones(10_000));
        assert!(cache.get(key(9)).is_none(), "it would fill the cache alone");
    }
}
