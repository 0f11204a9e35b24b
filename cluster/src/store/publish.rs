//! What a replica publishes of its log: tiles, bundles, and the root of what a power loss cannot take. Reads only.

use std::io;
use std::ops::Range;

use nethical_audit::publish::{Resource, bundle};
use nethical_audit::segment::footer::tile_offset;
use nethical_audit::tree::{Hash, TILE_LEAVES, leaf_hash, root_of};

use super::{AuditStore, Closed, Places, damaged, dir_of};
use crate::world::File;

impl AuditStore {
    /// The bytes of a tile or a bundle; `None` while the log is not that long. A checkpoint is not made here.
    ///
    /// # Errors
    /// Where a segment cannot be read or is damaged.
    pub async fn resource(&self, resource: Resource) -> io::Result<Option<Vec<u8>>> {
        let Some((first, end)) = resource.leaves() else { return Ok(None) };
        if end > self.sealed.borrow().written {
            return Ok(None);
        }
        match resource {
            Resource::Checkpoint => Ok(None),
            Resource::Entries { width, .. } => {
                let leaves = self.read(first, u64::from(width)).await?;
                let whole = leaves.len() == usize::from(width);
                Ok(whole.then(|| bundle(leaves.iter().map(|(leaf, _)| leaf.as_slice()))))
            }
            Resource::Tile { level: 0, index, width } => {
                Ok(self.leaf_hashes(index, usize::from(width)).await?.map(|hashes| hashes.concat()))
            }
            Resource::Tile { level, index, width } => {
                let inner = self.inner.lock();
                let hashes = inner.tree.level(level, index * TILE_LEAVES, usize::from(width));
                Ok(hashes.map(<[Hash]>::concat))
            }
        }
    }

    /// How many leaves a power loss cannot take, and their root.
    ///
    /// # Errors
    /// Where a segment cannot be read or is damaged.
    pub async fn durable(&self) -> io::Result<(u64, Hash)> {
        let size = self.sealed.borrow().durable;
        let root = self.root_at(size).await?;
        root.map(|root| (size, root)).ok_or_else(|| io::Error::other("the stored tree is shorter than what is durable"))
    }

    /// The root of the first `size` leaves; `None` while the log is not that long.
    ///
    /// # Errors
    /// Where a segment cannot be read or is damaged.
    pub async fn root_at(&self, size: u64) -> io::Result<Option<Hash>> {
        // The one tile below which the root of a prefix needs leaf hashes, unless it is the tree's own tail.
        let tile = size / TILE_LEAVES;
        let hashes = self.tile(tile).await?;
        let inner = self.inner.lock();
        if size > inner.tree.size() {
            return Ok(None);
        }
        let source = |wanted: u64| if wanted == tile { hashes.clone() } else { None };
        inner.tree.root_at(size, &source).map(Some).map_err(io::Error::other)
    }

    /// The inclusion proof of a leaf in the tree of the first `size` leaves, from the leaf up; `None` where it has none.
    ///
    /// # Errors
    /// Where a segment cannot be read or is damaged.
    pub async fn prove_at(&self, index: u64, size: u64) -> io::Result<Option<Vec<Hash>>> {
        let (own, last) = (index / TILE_LEAVES, size / TILE_LEAVES);
        let tiles = [(own, self.tile(own).await?), (last, self.tile(last).await?)];
        let inner = self.inner.lock();
        if index >= size || size > inner.tree.size() {
            return Ok(None);
        }
        let source =
            |wanted: u64| tiles.iter().find(|(tile, _)| *tile == wanted).and_then(|(_, hashes)| hashes.clone());
        inner.tree.inclusion_proof(index, size, &source).map(Some).map_err(io::Error::other)
    }

    /// The proof that the tree of the first `new` leaves extends that of the first `old` (RFC 6962, 2.1.2); `None` where the
    /// log is not that long, or `old` is the greater one.
    ///
    /// # Errors
    /// Where a segment cannot be read or is damaged.
    pub async fn prove_extension(&self, old: u64, new: u64) -> io::Result<Option<Vec<Hash>>> {
        let (from, last) = (old / TILE_LEAVES, new / TILE_LEAVES);
        let tiles = [(from, self.tile(from).await?), (last, self.tile(last).await?)];
        let inner = self.inner.lock();
        if old > new || new > inner.tree.size() {
            return Ok(None);
        }
        let source =
            |wanted: u64| tiles.iter().find(|(tile, _)| *tile == wanted).and_then(|(_, hashes)| hashes.clone());
        inner.tree.consistency_proof(old, new, &source).map(Some).map_err(io::Error::other)
    }

    /// The leaf hashes of a complete tile; `None` where it is not complete.
    pub(super) async fn tile(&self, tile: u64) -> io::Result<Option<Vec<Hash>>> {
        self.leaf_hashes(tile, TILE_LEAVES as usize).await
    }

    /// The first `width` leaf hashes of a tile; `None` while it has not as many. A tile never spans two segments. Of a
    /// closed segment only the tile itself is read (of a warm one, its leaves), and held against its root, which the tree has.
    async fn leaf_hashes(&self, tile: u64, width: usize) -> io::Result<Option<Vec<Hash>>> {
        let Some(first) = tile.checked_mul(TILE_LEAVES) else { return Ok(None) };
        let held = self.files.read().await;
        let (segment, root) = {
            let inner = self.inner.lock();
            if let Some(open) = inner.open.as_ref().filter(|open| open.writer.meta().first_index <= first) {
                let at = (first - open.writer.meta().first_index) as usize;
                return Ok(open.writer.leaf_hashes().get(at..at.saturating_add(width)).map(<[Hash]>::to_vec));
            }
            let Some(segment) = inner.closed_with(first) else { return Ok(None) };
            let Some([root]) = inner.tree.level(1, tile, 1) else { return Ok(None) };
            (segment.clone(), *root)
        };
        let name = segment.file_name();
        let Some(places) = &segment.places else { return Err(damaged(&name, first)) };
        let file = self.disk.open(&format!("{}/{name}", dir_of(self.log)), false).await?;
        drop(held);
        let mut hashes = match places.warm {
            None => stored_hashes(&*file, &segment, places, first).await?,
            Some(_) => made_hashes(&*file, places, first..first + TILE_LEAVES).await.unwrap_or_default(),
        };
        if hashes.len() as u64 != TILE_LEAVES || root_of(&hashes) != root {
            self.note_unreadable(first, "the footer does not read");
            return Err(damaged(&name, first));
        }
        hashes.truncate(width);
        Ok(Some(hashes))
    }
}

/// The leaf hashes of a tile as a hot segment's footer has them.
async fn stored_hashes(file: &dyn File, segment: &Closed, places: &Places, first: u64) -> io::Result<Vec<Hash>> {
    let inside = (first - segment.first()) / TILE_LEAVES;
    let at = tile_offset(places.footer_at, places.index.frames().len(), inside);
    let bytes = file.read_at(at, TILE_LEAVES as usize * size_of::<Hash>()).await?;
    Ok(bytes.chunks_exact(size_of::<Hash>()).filter_map(|hash| hash.try_into().ok()).collect())
}

/// The hashes of a warm segment's leaves, made again from them.
async fn made_hashes(file: &dyn File, places: &Places, leaves: Range<u64>) -> io::Result<Vec<Hash>> {
    let mut hashes = Vec::with_capacity(TILE_LEAVES as usize);
    for place in places.frames_over(leaves.clone()) {
        let read = place.leaves(file).await?;
        let wanted = leaves.start.max(place.first_index())..leaves.end.min(read.next_index());
        hashes.extend(wanted.filter_map(|index| read.get(index)).map(|(leaf, ..)| leaf_hash(leaf)));
    }
    Ok(hashes)
}
