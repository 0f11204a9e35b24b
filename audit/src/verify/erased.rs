//! Which closed bodies a log says are erased. An erasure is told after what it erases, so they are counted by key until then.

use std::collections::BTreeMap;

use nethical_protocol::ids::KeyedId;

use crate::body::{self, SealedFor};
use crate::leaf::{ErasedLeaf, LeafEvent, LeafV1};

/// (tenant, agent or person, generation of the key).
type Key = (KeyedId, KeyedId, u32);

/// Closed bodies, by what would open them. About 100 B for each key of a subject.
#[derive(Debug, Default)]
pub struct Erased {
    /// By both keys that a body needs; a body that needs one has it twice.
    closed: BTreeMap<(Key, Key), u64>,
    count: u64,
}

impl Erased {
    /// Takes the next entry in, with its body as stored: closed, unless it needs no key.
    pub fn take(&mut self, leaf: &LeafV1, stored: &[u8]) {
        if let LeafEvent::SubjectsErased(gone) = &leaf.event {
            self.tell(gone);
        }
        if let (Some(sealed_for), Some((_, tenant, agent))) = (body::sealed_for(stored), leaf.event.agent()) {
            self.see(tenant, agent, sealed_for);
        }
    }

    fn see(&mut self, tenant: KeyedId, agent: KeyedId, sealed_for: SealedFor) {
        let own = (tenant, agent, sealed_for.generation);
        let other = sealed_for.person.map_or(own, |(person, generation)| (tenant, person, generation));
        *self.closed.entry((own, other)).or_default() += 1;
    }

    /// What the log says is gone. Without one of its keys a body is erased.
    fn tell(&mut self, gone: &[ErasedLeaf]) {
        let is_gone =
            |key: &Key| gone.iter().any(|one| one.tenant == key.0 && one.subject == key.1 && key.2 < one.below);
        let count = &mut self.count;
        self.closed.retain(|(own, other), bodies| {
            let is_erased = is_gone(own) || is_gone(other);
            *count += if is_erased { *bodies } else { 0 };
            !is_erased
        });
    }

    /// Bodies that the log says are erased.
    pub fn count(&self) -> u64 {
        self.count
    }
}
