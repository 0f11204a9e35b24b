//! Which closed bodies a log says are erased. An erasure is told after what it erases, so they are counted by key until then.

use std::collections::BTreeMap;

use nethical_protocol::ids::KeyedId;

use crate::body::{self, Reason, SealedFor};
use crate::leaf::{ErasedLeaf, LeafEvent, LeafV1};

/// (tenant, agent or person, generation of the key).
type Key = (KeyedId, KeyedId, u32);

/// Closed bodies, by what would open them. About 100 B for each key of a subject.
#[derive(Debug, Default)]
pub struct Erased {
    /// By both keys that a body needs; a body that needs one has it twice.
    closed: BTreeMap<(Key, Key), u64>,
    /// The first one of each kind that was dropped as erased, and of which nothing said yet that it is.
    dropped: BTreeMap<(Key, Key), u64>,
    count: u64,
}

impl Erased {
    /// Takes the next entry in, with its body as stored: closed, unless it needs no key.
    pub fn take(&mut self, leaf: &LeafV1, stored: &[u8]) {
        if let LeafEvent::SubjectsErased(gone) = &leaf.event {
            self.tell(gone);
        }
        let Some((_, tenant, agent)) = leaf.event.agent() else { return };
        if let Some(sealed_for) = body::sealed_for(stored) {
            self.see(tenant, agent, sealed_for);
        } else if let Some(gone) = body::dropped(stored).filter(|gone| gone.reason != Reason::Expired) {
            let Some(sealed_for) = gone.sealed_for() else { return };
            let keys = self.see(tenant, agent, sealed_for);
            if gone.reason == Reason::Erased {
                self.dropped.entry(keys).or_insert(leaf.leaf_index);
            }
        }
    }

    fn see(&mut self, tenant: KeyedId, agent: KeyedId, sealed_for: SealedFor) -> (Key, Key) {
        let own = (tenant, agent, sealed_for.generation);
        let other = sealed_for.person.map_or(own, |(person, generation)| (tenant, person, generation));
        *self.closed.entry((own, other)).or_default() += 1;
        (own, other)
    }

    /// What the log says is gone. Without one of its keys a body is erased.
    fn tell(&mut self, gone: &[ErasedLeaf]) {
        let is_gone =
            |key: &Key| gone.iter().any(|one| one.tenant == key.0 && one.subject == key.1 && key.2 < one.below);
        self.dropped.retain(|(own, other), _| !is_gone(own) && !is_gone(other));
        let count = &mut self.count;
        self.closed.retain(|(own, other), bodies| {
            let is_erased = is_gone(own) || is_gone(other);
            *count += if is_erased { *bodies } else { 0 };
            !is_erased
        });
    }

    /// A leaf whose body was dropped as erased without a word in the log. A copy that ends before that word has some.
    pub fn unexplained(&self) -> Option<u64> {
        self.dropped.values().min().copied()
    }

    /// Bodies that the log says are erased.
    pub fn count(&self) -> u64 {
        self.count
    }
}
