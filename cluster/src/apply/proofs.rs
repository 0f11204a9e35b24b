//! Proofs in the very answer: an entry's leaves against a checkpoint of the tree that ends with them.
//!
//! Made from what apply had in its hands, so nothing is read; made only where somebody asks, and signed once for the whole
//! entry. An entry that is applied is committed, so no two such checkpoints can ever contradict each other.

use std::sync::OnceLock;

use nethical_audit::proof::Proof;
use nethical_audit::tree::{Batch, Frontier, Hash};

/// What proofs of one entry's leaves are made from.
#[derive(Debug)]
pub struct Proofs {
    before: Frontier,
    leaves: Vec<Hash>,
    made: OnceLock<Option<(Batch, String)>>,
}

impl Proofs {
    /// Of the leaves that an entry made, by their hashes, behind the tree before it.
    pub fn new(before: Frontier, leaves: Vec<Hash>) -> Self {
        Self { before, leaves, made: OnceLock::new() }
    }

    /// The proof of a leaf of this entry as text (c2sp.org/tlog-proof). `sign` makes the checkpoint's note from size and
    /// root, or nothing where this node may not.
    pub fn of(&self, leaf_index: u64, sign: impl FnOnce(u64, Hash) -> Option<String>) -> Option<String> {
        let made = self.made.get_or_init(|| {
            let batch = Batch::new(self.before.clone(), self.leaves.clone());
            let note = sign(batch.size(), batch.root())?;
            Some((batch, note))
        });
        let (batch, checkpoint) = made.as_ref()?;
        let hashes = batch.path(leaf_index)?;
        Some(Proof { extra: None, index: leaf_index, hashes, checkpoint: checkpoint.clone() }.encode())
    }
}
