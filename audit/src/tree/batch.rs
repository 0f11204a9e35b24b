//! Audit paths of leaves that were appended together, from the frontier before them and their own hashes.
//!
//! A proof in the very answer must not wait for a disk, so it needs nothing that is stored: whatever lies left of a batch in
//! the path of one of its leaves is a subtree of the frontier, because its parent was not complete before.

use super::{Frontier, Hash, node_hash, split_at};

/// Leaves that were appended together, and what was there before them.
#[derive(Debug, Clone)]
pub struct Batch {
    before: Frontier,
    leaves: Vec<Hash>,
    after: Frontier,
}

impl Batch {
    /// The leaves, by their hashes, behind `before`.
    pub fn new(before: Frontier, leaves: Vec<Hash>) -> Self {
        let mut after = before.clone();
        leaves.iter().for_each(|leaf| after.append(*leaf));
        Self { before, leaves, after }
    }

    /// Leaves of the tree with the batch.
    pub fn size(&self) -> u64 {
        self.after.size()
    }

    /// The root over them.
    pub fn root(&self) -> Hash {
        self.after.root()
    }

    /// The audit path of leaf `index` of the log, from the leaf up (RFC 6962, 2.1.1); `None` for a leaf that is not of this
    /// batch. Costs a hash for each leaf of the batch at the most.
    pub fn path(&self, index: u64) -> Option<Vec<Hash>> {
        if index < self.before.size() || index >= self.size() {
            return None;
        }
        let (mut path, mut from, mut to) = (Vec::new(), 0, self.size());
        while to - from > 1 {
            let middle = from + split_at(to - from);
            let sibling = if index < middle { (middle, to) } else { (from, middle) };
            path.push(self.range(sibling.0, sibling.1)?);
            (from, to) = if index < middle { (from, middle) } else { (middle, to) };
        }
        path.reverse();
        Some(path)
    }

    /// MTH of the leaves `from..to`, which is a node of the tree with the batch.
    fn range(&self, from: u64, to: u64) -> Option<Hash> {
        let begin = self.before.size();
        if to <= begin {
            return self.before.subtree(from, to - from);
        }
        if to - from == 1 {
            return self.leaves.get((from - begin) as usize).copied();
        }
        let middle = from + split_at(to - from);
        Some(node_hash(&self.range(from, middle)?, &self.range(middle, to)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::{leaf_hash, verify_inclusion};

    proptest! {
        #[test]
        fn every_leaf_of_a_batch_has_the_path_that_verifies(before in 0u64..1_100, added in 1u64..70) {
            let hash = |n: u64| leaf_hash(&n.to_le_bytes());
            let mut frontier = Frontier::default();
            (0..before).for_each(|n| frontier.append(hash(n)));
            let batch = Batch::new(frontier, (before..before + added).map(hash).collect());
            prop_assert_eq!(batch.size(), before + added);
            for index in before..before + added {
                let path = batch.path(index).expect("it is of the batch");
                prop_assert!(verify_inclusion(&hash(index), index, batch.size(), &path, &batch.root()));
            }
            prop_assert_eq!(batch.path(before + added), None);
            prop_assert_eq!(before.checked_sub(1).and_then(|index| batch.path(index)), None);
        }
    }
}
