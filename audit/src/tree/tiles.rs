//! A tree that makes proofs while it remembers only every eighth level: 0.126 B a leaf in memory.
//!
//! Leaf hashes themselves are in segments; a proof asks for at most a few tiles of 256 of them through a callback.

use super::{Frontier, Hash, node_hash, root_of};

/// Leaf hashes in a tile.
pub const TILE_LEAVES: u64 = 256;
/// Levels between the ones remembered.
const TILE_LEVEL: u32 = 8;

/// Gives the 256 leaf hashes of a complete tile, counted from 0, or `None` where they cannot be had.
pub type TileSource<'a> = &'a dyn Fn(u64) -> Option<Vec<Hash>>;

/// Why there is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The proof asked for lies outside the tree.
    #[error("a tree of {size} leaves has no proof for {asked}")]
    OutOfRange {
        /// The index or size asked for.
        asked: u64,
        /// The size it was asked of.
        size: u64,
    },
    /// The callback did not give a tile.
    #[error("the leaf hashes of tile {0} are not here")]
    TileMissing(u64),
}

/// All hashes at levels 8, 16, 24 …, the leaf hashes of the last, unfinished tile, and the frontier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TileTree {
    /// `levels[k]` holds the complete subtrees of 256^(k+1) leaves.
    levels: Vec<Vec<Hash>>,
    tail: Vec<Hash>,
    frontier: Frontier,
}

impl TileTree {
    /// From the roots of all complete tiles and the leaf hashes after them (fewer than 256), as segments hold them.
    pub fn from_tiles(tiles: impl IntoIterator<Item = Hash>, tail: &[Hash]) -> Self {
        let mut tree = Self::default();
        tiles.into_iter().for_each(|tile| tree.append_tile(tile));
        tail.iter().for_each(|leaf| tree.append(*leaf));
        tree
    }

    /// Adds 256 leaves by their root. The tree must hold complete tiles only.
    pub fn append_tile(&mut self, tile: Hash) {
        assert!(self.tail.is_empty(), "a tile follows complete tiles");
        self.frontier.append_subtree(tile, TILE_LEVEL);
        self.promote(tile);
    }

    /// Adds a leaf by its hash.
    pub fn append(&mut self, leaf_hash: Hash) {
        self.frontier.append(leaf_hash);
        self.tail.push(leaf_hash);
        if self.tail.len() as u64 == TILE_LEAVES {
            let tile = root_of(&self.tail);
            self.tail.clear();
            self.promote(tile);
        }
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The right edge, for snapshots.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// The leaf hashes after the last complete tile.
    pub fn tail(&self) -> &[Hash] {
        &self.tail
    }

    /// Roots of complete subtrees of 256^level leaves, `count` of them from the `from`-th on. `None` where they are not
    /// all complete, and for level 0: leaf hashes are in segments.
    pub fn level(&self, level: u8, from: u64, count: usize) -> Option<&[Hash]> {
        let hashes = self.levels.get(usize::from(level).checked_sub(1)?)?;
        let from = usize::try_from(from).ok()?;
        hashes.get(from..from.checked_add(count)?)
    }

    /// The root of the first `size` leaves.
    pub fn root_at(&self, size: u64, source: TileSource<'_>) -> Result<Hash, TreeError> {
        self.check(size)?;
        if size == 0 { Ok(super::empty_root()) } else { self.range(&mut Tiles::new(source), 0, size) }
    }

    /// The audit path of leaf `index` in the tree of the first `size` leaves, from the leaf up (RFC 6962, 2.1.1).
    pub fn inclusion_proof(&self, index: u64, size: u64, source: TileSource<'_>) -> Result<Vec<Hash>, TreeError> {
        self.check(size)?;
        if index >= size {
            return Err(TreeError::OutOfRange { asked: index, size });
        }
        let (mut tiles, mut proof) = (Tiles::new(source), Vec::new());
        let (mut from, mut to) = (0, size);
        while to - from > 1 {
            let middle = from + split_at(to - from);
            let sibling = if index < middle { (middle, to) } else { (from, middle) };
            proof.push(self.range(&mut tiles, sibling.0, sibling.1)?);
            (from, to) = if index < middle { (from, middle) } else { (middle, to) };
        }
        proof.reverse();
        Ok(proof)
    }

    /// The proof that the first `new` leaves only append to the first `old` (RFC 6962, 2.1.2).
    pub fn consistency_proof(&self, old: u64, new: u64, source: TileSource<'_>) -> Result<Vec<Hash>, TreeError> {
        self.check(new)?;
        if old > new {
            return Err(TreeError::OutOfRange { asked: old, size: new });
        }
        if old == 0 || old == new {
            return Ok(Vec::new());
        }
        let (mut tiles, mut proof) = (Tiles::new(source), Vec::new());
        let (mut from, mut to) = (0, new);
        while old != to {
            let middle = from + split_at(to - from);
            let sibling = if old <= middle { (middle, to) } else { (from, middle) };
            proof.push(self.range(&mut tiles, sibling.0, sibling.1)?);
            (from, to) = if old <= middle { (from, middle) } else { (middle, to) };
        }
        // The verifier knows the old root; a proof names it only where it is not the whole left subtree.
        if from != 0 {
            proof.push(self.range(&mut tiles, from, to)?);
        }
        proof.reverse();
        Ok(proof)
    }

    fn check(&self, size: u64) -> Result<(), TreeError> {
        if size <= self.size() { Ok(()) } else { Err(TreeError::OutOfRange { asked: size, size: self.size() }) }
    }

    /// Takes a complete tile's root in, and every larger subtree that it completes.
    fn promote(&mut self, mut hash: Hash) {
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
            let complete = self.levels[level].len();
            if !complete.is_multiple_of(TILE_LEAVES as usize) {
                return;
            }
            hash = root_of(&self.levels[level][complete - TILE_LEAVES as usize..]);
        }
    }

    /// MTH of the leaves `from..to`, where `from` is a multiple of the power of two at or above their number.
    fn range(&self, tiles: &mut Tiles<'_>, from: u64, to: u64) -> Result<Hash, TreeError> {
        let leaves = to - from;
        if leaves.is_power_of_two() {
            return self.subtree(tiles, leaves.trailing_zeros(), from);
        }
        let middle = from + split_at(leaves);
        Ok(node_hash(&self.range(tiles, from, middle)?, &self.range(tiles, middle, to)?))
    }

    /// The root of the complete subtree of 2^level leaves that starts at leaf `from`.
    fn subtree(&self, tiles: &mut Tiles<'_>, level: u32, from: u64) -> Result<Hash, TreeError> {
        let (stored, above) = (level / TILE_LEVEL, level % TILE_LEVEL);
        let count = 1usize << above;
        let at = (from >> (stored * TILE_LEVEL)) as usize;
        if stored > 0 {
            let hashes = &self.levels[stored as usize - 1];
            return Ok(root_of(&hashes[at..at + count]));
        }
        let (tile, inside) = (from / TILE_LEAVES, (from % TILE_LEAVES) as usize);
        let complete = (self.size() / TILE_LEAVES) * TILE_LEAVES;
        let hashes = if from >= complete { self.tail.as_slice() } else { tiles.get(tile)? };
        Ok(root_of(&hashes[inside..inside + count]))
    }
}

/// The largest power of two below `leaves`, where RFC 6962 splits a tree of more than one leaf.
pub(super) fn split_at(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// The callback, with the tile that it gave last: the low levels of one proof stand in one tile.
struct Tiles<'a> {
    source: TileSource<'a>,
    last: Option<(u64, Vec<Hash>)>,
}

impl<'a> Tiles<'a> {
    fn new(source: TileSource<'a>) -> Self {
        Self { source, last: None }
    }

    fn get(&mut self, tile: u64) -> Result<&[Hash], TreeError> {
        if self.last.as_ref().is_none_or(|(number, _)| *number != tile) {
            let hashes = (self.source)(tile).filter(|hashes| hashes.len() as u64 == TILE_LEAVES);
            self.last = Some((tile, hashes.ok_or(TreeError::TileMissing(tile))?));
        }
        self.last.as_ref().map(|(_, hashes)| hashes.as_slice()).ok_or(TreeError::TileMissing(tile))
    }
}
