//! Hashes of a segment's stored bodies, 256 at a time: what a tier may not change when it rewrites a segment.
//!
//! The *body root* of 256 leaves is SHA-256 over the stored hashes of their bodies. A dropped body has the hash that it had
//! ([`crate::body::dropped`]), so replicas that have dropped different bodies have the same body roots.

use sha2::{Digest, Sha256};

use crate::body::stored_hash;
use crate::tree::{Hash, TILE_LEAVES};

/// Body roots of the bodies so far.
#[derive(Debug, Clone, Default)]
pub struct BodyRoots {
    open: Sha256,
    count: u64,
    roots: Vec<Hash>,
}

impl BodyRoots {
    /// Takes the next stored body in.
    pub fn push(&mut self, stored: &[u8]) {
        self.open.update(stored_hash(stored));
        self.count += 1;
        if self.count.is_multiple_of(TILE_LEAVES) {
            self.roots.push(self.open.finalize_reset().into());
        }
    }

    /// Of each complete tile, in order.
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }
}

/// The body root of one tile; none where these are not as many bodies as a tile has.
pub fn body_root<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Option<Hash> {
    let mut roots = BodyRoots::default();
    bodies.into_iter().for_each(|stored| roots.push(stored));
    let is_tile = roots.count == TILE_LEAVES;
    roots.roots.first().copied().filter(|_| is_tile)
}
