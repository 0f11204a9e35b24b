//! Hashes of a segment's stored bodies, 256 at a time: what a tier may not change when it rewrites a segment.
//!
//! The *body root* of 256 leaves is SHA-256 over the stored hashes of their bodies. A dropped body has the hash that it had
//! ([`crate::body::dropped`]), so replicas that have dropped different bodies have the same body roots. Of one that went to a cold
//! file the hash is not kept: its leaf's commitment is what is left to hold it against.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::body::{has_no_hash, stored_hash};
use crate::tree::{Hash, TILE_LEAVES};

/// Body roots of the bodies so far.
#[derive(Debug, Clone, Default)]
pub struct BodyRoots {
    open: Sha256,
    count: u64,
    roots: Vec<Hash>,
    /// Of tiles with a body whose hash is not kept, by their numbers.
    unhashed: BTreeSet<u64>,
}

impl BodyRoots {
    /// Takes the next stored body in.
    pub fn push(&mut self, stored: &[u8]) {
        self.open.update(stored_hash(stored));
        if has_no_hash(stored) {
            self.unhashed.insert(self.count / TILE_LEAVES);
        }
        self.count += 1;
        if self.count.is_multiple_of(TILE_LEAVES) {
            self.roots.push(self.open.finalize_reset().into());
        }
    }

    /// True where a tile's bodies may be those that have this root: one that went to a cold file has no hash any more.
    pub fn may_be(&self, tile: usize, root: Option<&Hash>) -> bool {
        self.unhashed.contains(&(tile as u64)) || self.roots.get(tile) == root
    }

    /// Of each complete tile, in order.
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }
}

/// True where these are as many bodies as a tile has, and may be those that have this root.
pub fn may_be_bodies<'a>(bodies: impl IntoIterator<Item = &'a [u8]>, root: &Hash) -> bool {
    let mut roots = BodyRoots::default();
    bodies.into_iter().for_each(|stored| roots.push(stored));
    roots.count == TILE_LEAVES && roots.may_be(0, Some(root))
}
