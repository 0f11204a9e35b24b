//! The right edge of a Merkle tree: enough for appending and for roots, at most 64 hashes.

use super::{Hash, empty_root, node_hash};

/// The roots of the complete subtrees that a tree of `size` leaves consists of, largest first: one for each bit set in
/// `size`. Appending costs one node hash a leaf on average.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// From what [`Frontier::size`] and [`Frontier::to_hashes`] gave. `None` where the number of hashes does not fit
    /// the size; whether they are the right ones shows only in the root.
    pub fn from_hashes(size: u64, subtrees: Vec<Hash>) -> Option<Self> {
        (subtrees.len() == size.count_ones() as usize).then_some(Self { size, subtrees })
    }

    /// The hashes for a snapshot, largest subtree first.
    pub fn to_hashes(&self) -> Vec<Hash> {
        self.subtrees.clone()
    }

    /// Leaves appended so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of a complete subtree by its first leaf and its number of leaves; `None` for one that is not whole at the
    /// right edge.
    pub fn subtree(&self, first: u64, leaves: u64) -> Option<Hash> {
        let mut begin = 0;
        let sizes = (0..u64::BITS).rev().map(|bit| 1u64 << bit).filter(|size| self.size & size != 0);
        for (hash, size) in self.subtrees.iter().zip(sizes) {
            if (begin, size) == (first, leaves) {
                return Some(*hash);
            }
            begin += size;
        }
        None
    }

    /// Adds a leaf by its hash.
    pub fn append(&mut self, leaf_hash: Hash) {
        self.append_subtree(leaf_hash, 0);
    }

    /// Adds a complete subtree of 2^level leaves; the size must be a multiple of that.
    pub fn append_subtree(&mut self, mut hash: Hash, level: u32) {
        let leaves = 1u64 << level;
        assert!(self.size.is_multiple_of(leaves), "a subtree starts at a multiple of its own size");
        let mut bit = leaves;
        while self.size & bit != 0 {
            let left = self.subtrees.pop().expect("there is one subtree for each bit of the size");
            hash = node_hash(&left, &hash);
            bit <<= 1;
        }
        self.subtrees.push(hash);
        self.size += leaves;
    }

    /// The root of the tree of all leaves so far. Costs one hash less than there are subtrees.
    pub fn root(&self) -> Hash {
        let Some((last, larger)) = self.subtrees.split_last() else { return empty_root() };
        larger.iter().rev().fold(*last, |right, left| node_hash(left, &right))
    }
}
