//! A log as apply grows it: the Merkle frontier over all of its leaves, and the tail from which the sealer takes them.
//!
//! The same for partitions and for the cluster log. Decides nothing about what a leaf is.

use std::sync::Arc;

use nethical_audit::tree::{Frontier, Hash};

use crate::replicate::machine::Fault;
use crate::store::AuditStore;
use crate::trail::Record;

/// Size and root that stored segments have; the replayed tree must pass through it.
#[derive(Debug, Clone, Copy)]
struct Stored {
    size: u64,
    root: Hash,
}

/// The growing end of a log.
pub struct Growth {
    frontier: Frontier,
    store: Arc<AuditStore>,
    stored: Option<Stored>,
}

impl Growth {
    /// A log without leaves, whose replay must pass through what `store` holds already.
    pub fn new(store: Arc<AuditStore>) -> Self {
        let (size, root) = store.stored();
        Self { frontier: Frontier::default(), store, stored: (size > 0).then_some(Stored { size, root }) }
    }

    /// Where its leaves go.
    pub fn store(&self) -> &Arc<AuditStore> {
        &self.store
    }

    /// The frontier.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Takes the next leaf.
    pub fn keep(&mut self, record: &Arc<Record>) {
        self.frontier.append(record.hash);
        self.store.trail.push(record.clone());
    }

    /// Goes on from a snapshot of so many leaves. `None` where the hashes do not fit that number.
    pub fn restore(&mut self, leaves: u64, hashes: Vec<Hash>) -> Option<()> {
        self.frontier = Frontier::from_hashes(leaves, hashes)?;
        if self.store.trail.end() < leaves {
            // Leaves in between were never applied here: the sealer fetches them and checks them against this root.
            self.store.trail.reset(leaves);
            self.store.expect(leaves, self.frontier.root());
        }
        Some(())
    }

    /// True once the replayed tree has passed through what segments held at the start, or there was nothing.
    pub fn is_behind_stored(&self) -> bool {
        self.stored.is_none()
    }

    /// A replayed tree must have the root that the segments have at their size.
    ///
    /// # Errors
    /// Where it has another one.
    pub fn check_stored(&mut self) -> Result<(), Fault> {
        let Some(stored) = self.stored.filter(|stored| stored.size == self.frontier.size()) else { return Ok(()) };
        self.stored = None;
        match self.frontier.root() == stored.root {
            true => Ok(()),
            false => Err(Fault(format!(
                "segments of group {} differ from the log at {} leaves",
                self.store.log().group,
                stored.size
            ))),
        }
    }
}
