//! What a start makes of a log's folder: segments that are whole, segments that are damaged or missing and stay in their
//! place as holes, and the one that is still written to.
//!
//! A hole's part of the tree comes from the manifest, which has a seal for each closed segment. Footers and manifest vouch
//! for each other: either one is enough. Only where both are gone is what stands behind them set aside and fetched anew.

use std::collections::{BTreeMap, BTreeSet};

use nethical_audit::segment::warm::{WARM_HEADER_BYTES, check_warm, warm_footer_bytes};
use nethical_audit::segment::{Damage as Bad, Fault, Flaw, HEADER_BYTES, ScanEnd, SegmentScan, WarmHeader};
use nethical_protocol::sometimes;

use super::damage::Damage;
use super::*;
use crate::world;

/// The seals of all closed segments, in order.
pub(super) const MANIFEST: &str = "manifest";
const ENDING: &str = ".seg";
const WARM_ENDING: &str = ".warm";

/// Reads a log's folder.
pub(super) async fn recover(disk: &dyn Disk, cluster: &str, log: LogId) -> io::Result<Inner> {
    let dir = dir_of(log);
    disk.create_dir(&dir).await?;
    let (mut files, mut warm) = (BTreeMap::new(), BTreeSet::new());
    for name in disk.list(&dir).await? {
        if name.ends_with(&format!("{ENDING}.tmp")) || name.ends_with(&format!("{WARM_ENDING}.tmp")) {
            // A repair or a move that was cut short.
            disk.remove(&format!("{dir}/{name}")).await?;
        } else if let Some(first) = name.strip_suffix(WARM_ENDING).and_then(|first| first.parse().ok()) {
            warm.insert(first);
        } else if let Some(first) = name.strip_suffix(ENDING).and_then(|first| first.parse().ok()) {
            files.insert(first, name);
        }
    }
    let (manifest, seals) = read_manifest(disk, cluster, log, &dir).await?;
    let mut start = Start { disk, cluster, log, dir, files, warm, seals, inner: empty() };
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

/// In place of body roots of a segment without a seal whose file is damaged.
pub(super) const BODIES_UNKNOWN: Hash = [0; 32];

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
    /// First leaves of those that were moved.
    warm: BTreeSet<u64>,
    seals: Seals,
    inner: Inner,
}

impl Start<'_> {
    /// Takes closed segments in, whole or not, as far as their part of the tree is known.
    async fn take_closed(&mut self) -> io::Result<()> {
        let firsts: BTreeSet<u64> = self.files.keys().chain(&self.warm).chain(self.seals.keys()).copied().collect();
        loop {
            let first = self.inner.tree.size();
            let successor = firsts.range(first + 1..).next().copied();
            if self.warm.contains(&first) && self.take_warm(first, successor).await? {
                continue;
            }
            let read = match self.files.contains_key(&first) {
                true => self.read_closed(first, successor).await?,
                false => None,
            };
            match (self.seals.remove(&first), read) {
                (None, None) => return Ok(()),
                (None, Some((seal, places))) => self.push(&seal, Some(places)),
                // A word on a move without its file: what the file was moved from is still there.
                (Some(seal), Some((read, places))) if read == (SegmentSeal { warm: None, ..seal.clone() }) => {
                    self.push(&read, Some(places));
                }
                (Some(seal), read) => {
                    let warm = seal.warm.filter(|_| !self.files.contains_key(&first));
                    let seal = SegmentSeal { warm, ..seal };
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
        let (bodies, warm) = (seal.body_hashes.as_slice().into(), seal.warm);
        self.inner.closed.push(Arc::new(Closed {
            meta,
            next,
            digest,
            bodies,
            warm,
            turn: 0,
            places: places.map(Arc::new),
        }));
    }

    fn note(&mut self, fault: Fault, why: String) {
        sometimes!(true, "a start found a damaged audit segment");
        let is_warm = self.inner.closed.last().is_some_and(|segment| segment.warm.is_some());
        let segment = format!("{:020}{}", fault.first, if is_warm { WARM_ENDING } else { ENDING });
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
        let Some((footer_at, footer)) = read_footer(self.disk, &path).await? else { return Ok(None) };
        let sealed = self.seals.get(&first).filter(|seal| seal.content_digest == footer.content_digest);
        let bodies = match sealed.filter(|_| is_synced) {
            Some(seal) => seal.body_hashes.clone(),
            // Nothing else says what its bodies are, or that all of it reached the disk.
            None => match body_roots(self.disk, &path).await? {
                Some(bodies) => bodies,
                None if is_synced => vec![BODIES_UNKNOWN; footer.tile_hashes.len()],
                None => return Ok(None),
            },
        };
        let search = Searchable::read(self.disk, &path, footer.index).await?;
        let places = Places { footer_at, file_bytes: file.len().await?, ..Places::hot(&footer, first, search) };
        let seal = SegmentSeal::of(meta, &footer, bodies);
        let seal = seal.filter(|seal| successor.is_none_or(|successor| seal.next_index() <= successor));
        Ok(seal.map(|seal| (seal, places)))
    }

    /// Takes a warm segment in. False where its file is of no use and what it was moved from is to be taken instead.
    async fn take_warm(&mut self, first: u64, successor: Option<u64>) -> io::Result<bool> {
        let path = format!("{}/{first:020}{WARM_ENDING}", self.dir);
        let is_beside = self.files.contains_key(&first);
        if let Some((seal, places)) = self.read_warm(first, &path, successor).await? {
            if is_beside {
                sometimes!(true, "a start finished a move to the warm tier");
                tracing::info!(path, group = %self.log.group, "a move to the warm tier is finished");
                self.disk.remove(&self.path(first)).await?;
                self.disk.sync_dir(&self.dir).await?;
                self.files.remove(&first);
            }
            self.seals.remove(&first);
            self.push(&seal, Some(places));
            return Ok(true);
        }
        if is_beside {
            tracing::warn!(path, group = %self.log.group, "a move to the warm tier that was cut short is undone");
            self.disk.remove(&path).await?;
            self.disk.sync_dir(&self.dir).await?;
            self.warm.remove(&first);
            return Ok(false);
        }
        // Without a word on the move in the manifest, what is damaged is mended as what it was before.
        let Some(mut seal) = self.seals.remove(&first) else { return Ok(false) };
        let nothing = WarmSeal { digest: [0; 32], erased: 0, expired: 0, away: 0 };
        seal.warm = Some(seal.warm.unwrap_or(nothing));
        let fault = Fault { first, last: seal.next_index() - 1, flaw: Flaw::Bytes(Bad::Footer) };
        self.push(&seal, None);
        self.note(fault, fault.flaw.to_string());
        Ok(true)
    }

    /// What a warm file says of itself, where it is what was sealed. One that the manifest names is believed by its footer; any
    /// other one is read.
    async fn read_warm(
        &self,
        first: u64,
        path: &str,
        successor: Option<u64>,
    ) -> io::Result<Option<(SegmentSeal, Places)>> {
        let file = self.disk.open(path, false).await?;
        file.settle().await?;
        let Ok(header) = WarmHeader::decode(&file.read_at(0, WARM_HEADER_BYTES).await?) else { return Ok(None) };
        let own = SegmentMeta::new(self.cluster, self.log, first);
        if (header.meta.log, header.meta.first_index, header.meta.cluster_hash) != (self.log, first, own.cluster_hash) {
            return Ok(None);
        }
        let Some(footer) = read_warm_footer(&*file).await? else { return Ok(None) };
        let seal = SegmentSeal::of_warm(&header, &footer);
        let sealed = self.seals.get(&first);
        let fits = sealed.is_none_or(|sealed| *sealed == SegmentSeal { warm: sealed.warm, ..seal.clone() });
        if !fits || successor.is_some_and(|successor| seal.next_index() > successor) {
            return Ok(None);
        }
        let is_named = sealed.is_some_and(|sealed| sealed.warm == seal.warm) && !self.files.contains_key(&first);
        if !is_named {
            let bytes = file.read_at(0, file.len().await? as usize).await?;
            if check_warm(&seal, &bytes, |_, _, _| {}).is_err() {
                return Ok(None);
            }
        }
        let search = Searchable::read(self.disk, path, footer.index).await?;
        let places = Places::warm(&header, footer, file.len().await?, search);
        Ok(Some((seal, places)))
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

/// The body roots of a file of which every byte is as a writer would have written it, footer included.
async fn body_roots(disk: &dyn Disk, path: &str) -> io::Result<Option<Vec<Hash>>> {
    let bytes = world::read_all(disk, path).await?;
    let Ok(mut scan) = SegmentScan::new(&bytes) else { return Ok(None) };
    Ok((scan.finish() == ScanEnd::Closed).then(|| scan.body_roots().to_vec()))
}

/// The footer of a warm segment, where there is one.
pub(super) async fn read_warm_footer(file: &dyn File) -> io::Result<Option<WarmFooter>> {
    let length = file.len().await?;
    let Some(at) = length.checked_sub(END_BYTES as u64) else { return Ok(None) };
    let end = file.read_at(at, END_BYTES).await?;
    let Some(bytes) = end.first_chunk::<END_BYTES>().and_then(warm_footer_bytes) else { return Ok(None) };
    let Some(start) = length.checked_sub(bytes as u64) else { return Ok(None) };
    Ok(WarmFooter::decode_end(&file.read_at(start, bytes).await?).ok())
}
