//! What a start makes of a log's folder: segments that are whole, segments that are damaged or missing and stay in their
//! place as holes, and the one that is still written to.
//!
//! A hole's part of the tree comes from the manifest, which has a seal for each closed segment. Footers and manifest vouch
//! for each other: either one is enough. Only where both are gone is what stands behind them set aside and fetched anew.

use std::collections::{BTreeMap, BTreeSet};

use nethical_audit::segment::{Damage as Bad, Fault, Flaw, HEADER_BYTES, ScanEnd, SegmentScan};
use nethical_protocol::sometimes;

use super::damage::Damage;
use super::*;
use crate::world;

/// The seals of all closed segments, in order.
pub(super) const MANIFEST: &str = "manifest";
const ENDING: &str = ".seg";

/// Reads a log's folder.
pub(super) async fn recover(disk: &dyn Disk, cluster: &str, log: LogId) -> io::Result<Inner> {
    let dir = dir_of(log);
    disk.create_dir(&dir).await?;
    let mut files = BTreeMap::new();
    for name in disk.list(&dir).await? {
        if name.ends_with(&format!("{ENDING}.tmp")) {
            // A repair that was cut short.
            disk.remove(&format!("{dir}/{name}")).await?;
        } else if let Some(first) = name.strip_suffix(ENDING).and_then(|first| first.parse().ok()) {
            files.insert(first, name);
        }
    }
    let (manifest, seals) = read_manifest(disk, cluster, log, &dir).await?;
    let mut start = Start { disk, cluster, log, dir, files, seals, inner: empty() };
    start.take_closed().await?;
    start.take_open().await?;
    let mut inner = start.inner;
    let wanted: Vec<u8> = inner.closed.iter().flat_map(|segment| inner.seal_of(segment).encode()).collect();
    if manifest.as_deref() != Some(&wanted[..]) {
        world::replace(disk, &dir_of(log), MANIFEST, Bytes::from(wanted.clone())).await?;
    }
    inner.manifest_bytes = wanted.len() as u64;
    Ok(inner)
}

fn empty() -> Inner {
    let (closed, tree, damages) = (Vec::new(), TileTree::default(), Damages::new());
    Inner { closed, open: None, tree, manifest_bytes: 0, damages }
}

type Seals = BTreeMap<u64, SegmentSeal>;

async fn read_manifest(disk: &dyn Disk, cluster: &str, log: LogId, dir: &str) -> io::Result<(Option<Bytes>, Seals)> {
    if !disk.list(dir).await?.iter().any(|name| name == MANIFEST) {
        return Ok((None, Seals::new()));
    }
    let path = format!("{dir}/{MANIFEST}");
    disk.open(&path, false).await?.settle().await?;
    let bytes = world::read_all(disk, &path).await?;
    let own = SegmentMeta::new(cluster, log, 0).cluster_hash;
    let seals = SegmentSeal::decode_all(&bytes).into_iter();
    let seals = seals.filter(|seal| seal.meta.log == log && seal.meta.cluster_hash == own);
    let seals = seals.map(|seal| (seal.meta.first_index, seal)).collect();
    Ok((Some(bytes), seals))
}

/// A start under way.
struct Start<'a> {
    disk: &'a dyn Disk,
    cluster: &'a str,
    log: LogId,
    dir: String,
    /// By first leaf, as their names say.
    files: BTreeMap<u64, String>,
    seals: Seals,
    inner: Inner,
}

impl Start<'_> {
    /// Takes closed segments in, whole or not, as far as their part of the tree is known.
    async fn take_closed(&mut self) -> io::Result<()> {
        let firsts: BTreeSet<u64> = self.files.keys().chain(self.seals.keys()).copied().collect();
        loop {
            let first = self.inner.tree.size();
            let successor = firsts.range(first + 1..).next().copied();
            let read = match self.files.contains_key(&first) {
                true => self.read_closed(first, successor).await?,
                false => None,
            };
            match (self.seals.remove(&first), read) {
                (None, None) => return Ok(()),
                (None, Some((seal, places))) => self.push(&seal, Some(places)),
                (Some(seal), Some((read, places))) if read == seal => self.push(&seal, Some(places)),
                (Some(seal), read) => {
                    // Where both read and differ, the scrubber says which leaves the file has lost.
                    let fault = Fault { first, last: seal.next_index() - 1, flaw: Flaw::Bytes(Bad::Footer) };
                    let why = match self.files.contains_key(&first) {
                        true => fault.flaw.to_string(),
                        false => "the file is missing".to_owned(),
                    };
                    self.push(&seal, read.map(|(_, places)| places));
                    self.note(fault, why);
                }
            }
        }
    }

    fn push(&mut self, seal: &SegmentSeal, places: Option<Places>) {
        seal.tile_hashes.iter().for_each(|tile| self.inner.tree.append_tile(*tile));
        let (meta, digest, next) = (seal.meta, seal.content_digest, seal.next_index());
        self.inner.closed.push(Arc::new(Closed { meta, next, digest, places: places.map(Arc::new) }));
    }

    fn note(&mut self, fault: Fault, why: String) {
        sometimes!(true, "a start found a damaged audit segment");
        let segment = format!("{:020}{ENDING}", fault.first);
        let (group, first, last) = (self.log.group, fault.first, fault.last);
        tracing::error!(%group, segment, first, last, why, "the audit trail's copy on this node is damaged");
        let damage = Damage { segment, first, last, why, is_forged: false, tried: String::new() };
        self.inner.damages.insert(first, damage);
    }

    /// What the file says of itself, where header and footer read and fit its place.
    ///
    /// A segment that has a successor or a seal was synced before those were written, so its footer speaks for it. The last
    /// one may have been written and not synced: its footer can be there and some of its frames not.
    async fn read_closed(&self, first: u64, successor: Option<u64>) -> io::Result<Option<(SegmentSeal, Places)>> {
        let path = self.path(first);
        let file = self.disk.open(&path, false).await?;
        file.settle().await?;
        let Ok(meta) = SegmentMeta::decode(&file.read_at(0, HEADER_BYTES).await?) else { return Ok(None) };
        let own = SegmentMeta::new(self.cluster, self.log, first);
        if (meta.log, meta.first_index, meta.cluster_hash) != (self.log, first, own.cluster_hash) {
            return Ok(None);
        }
        let is_synced = successor.is_some() || self.seals.contains_key(&first);
        if !is_synced && !is_whole(self.disk, &path).await? {
            return Ok(None);
        }
        let Some((footer_at, footer)) = read_footer(self.disk, &path).await? else { return Ok(None) };
        let search = Searchable::read(self.disk, &path, footer.index).await?;
        let places = Places { index: SegmentIndex::from_footer(&footer, first), footer_at, search };
        let seal = SegmentSeal::of(meta, &footer);
        let seal = seal.filter(|seal| successor.is_none_or(|successor| seal.next_index() <= successor));
        Ok(seal.map(|seal| (seal, places)))
    }

    /// Goes on in the segment that was written to, or begins one. What stands behind it is of no use.
    async fn take_open(&mut self) -> io::Result<()> {
        let first = self.inner.tree.size();
        if let Some(name) = self.files.remove(&first) {
            self.inner.open = self.resume(first, &name).await?;
        }
        for name in self.files.split_off(&first).into_values() {
            self.set_aside(&name).await?;
        }
        if self.inner.open.is_none() {
            let open = create(self.disk, self.cluster, self.log, first).await?;
            self.inner.open = Some(open);
        }
        Ok(())
    }

    /// Reads the open segment up to where it is valid, and cuts it there.
    async fn resume(&mut self, first: u64, name: &str) -> io::Result<Option<Open>> {
        let path = self.path(first);
        let file = self.disk.open(&path, false).await?;
        file.settle().await?;
        let mut bytes = world::read_all(self.disk, &path).await?.to_vec();
        let own = SegmentMeta::new(self.cluster, self.log, first);
        let found = SegmentMeta::decode(&bytes).ok();
        let is_ours =
            |meta: SegmentMeta| (meta.log, meta.first_index, meta.cluster_hash) == (own.log, first, own.cluster_hash);
        let has_header = found.is_some_and(is_ours);
        if let Some(header) = bytes.get_mut(..HEADER_BYTES).filter(|_| !has_header) {
            // Records behind a header that has rotted are as good as their checksums.
            header.copy_from_slice(&own.encode());
        }
        let scan = SegmentScan::new(&bytes).ok().map(|mut scan| {
            scan.finish();
            scan
        });
        let Some(scan) = scan.filter(|scan| has_header || scan.next_index() > first) else {
            if self.files.is_empty() {
                // The file was being created when the power went: nothing in it was ever acknowledged as sealed.
                tracing::warn!(name, "a segment without a header is removed");
                self.disk.remove(&path).await?;
                self.disk.sync_dir(&self.dir).await?;
            } else {
                self.set_aside(name).await?;
            }
            return Ok(None);
        };
        let valid = scan.valid_bytes();
        if valid < bytes.len() as u64 {
            sometimes!(true, "an audit segment's torn tail was cut");
            tracing::warn!(name, cut = bytes.len() as u64 - valid, "the torn tail of a segment is cut");
        }
        let Some(writer) = scan.into_writer() else {
            // Whole, and yet it does not fit what stands behind it.
            self.set_aside(name).await?;
            return Ok(None);
        };
        if !has_header {
            file.write_at(0, Bytes::copy_from_slice(&own.encode())).await?;
        }
        file.set_len(valid).await?;
        file.sync().await?;
        writer.leaf_hashes().iter().for_each(|hash| self.inner.tree.append(*hash));
        Ok(Some(Open { writer, file }))
    }

    /// Behind a segment of which neither footer nor seal is left, nothing can be trusted to be in sequence: peers have it.
    async fn set_aside(&self, name: &str) -> io::Result<()> {
        tracing::error!(name, group = %self.log.group, "a segment whose place in the tree is not known is set aside");
        let path = format!("{}/{name}", self.dir);
        self.disk.rename(&path, &format!("{path}.aside")).await?;
        self.disk.sync_dir(&self.dir).await
    }

    fn path(&self, first: u64) -> String {
        format!("{}/{}", self.dir, self.files.get(&first).cloned().unwrap_or_else(|| format!("{first:020}{ENDING}")))
    }
}

/// True where every byte of a file is as a writer would have written it, footer included.
async fn is_whole(disk: &dyn Disk, path: &str) -> io::Result<bool> {
    let bytes = world::read_all(disk, path).await?;
    Ok(SegmentScan::new(&bytes).is_ok_and(|mut scan| scan.finish() == ScanEnd::Closed))
}
