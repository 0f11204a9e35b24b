//! Text indexes on a node's disk: one sealed file a segment, each under a key of its own that goes before the file goes.
//!
//! All of it can be deleted at any time and is made again from bodies; nothing durable depends on it. Words of bodies would
//! outlive an erasure here if files were in the clear, or could be opened after they were replaced: so a file begins with its key,
//! sealed under the node's own (the keyring's), and whoever replaces or removes a file overwrites that first. What a file system
//! or a drive keeps of overwritten blocks is out of reach.
//!
//! ```text
//! 0   length of the head   4
//! 4   head    a slot (`nethical_audit::keys::slot`): key 32, next leaf 8, count of tenants 4, tenants 16 each
//! ..  index   a slot under that key: [`super::index::TextIndex::encode`]
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use nethical_audit::keys::slot::{self, Kind};
use nethical_audit::keys::{Keyring, TenantKeys};
use nethical_audit::reader::Reader;
use nethical_protocol::ids::{GroupId, KeyedId, LogId, NodeId};
use nethical_protocol::sometimes;

use super::index::TextIndex;
use super::tend::TextState;
use crate::world::{self, Clock, Disk, Heavy, Scope, heavy};

/// Text indexes that did not read and were removed since the node started.
pub const DAMAGED_TOTAL: &str = "nethical_audit_text_damaged_total";

/// The folder.
const DIR: &str = "text";
/// Purpose of the key that heads are sealed under.
const AT_REST: &[u8] = b"nethical text at rest 1";
const HEAD: Kind = Kind { magic: *b"NTHLTXTH", version: 1 };
/// The version says what a word is, too: with other words an index would hide entries.
const INDEX: Kind = Kind { magic: *b"NTHLTXTI", version: 1 };
/// A head is no longer than this.
const HEAD_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of indexes that a node keeps opened.
const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a file is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covers {
    /// The leaf behind the segment's last.
    pub next: u64,
    /// The tenants all of whose bodies that could be read are indexed.
    pub tenants: BTreeSet<KeyedId>,
}

/// A file by its log and its segment's first leaf.
pub type FileKey = (LogId, u64);

/// All text indexes of a node.
pub struct Texts {
    disk: Arc<dyn Disk>,
    scope: Scope,
    heavy: Arc<dyn Heavy>,
    at_rest: [u8; 32],
    /// What every file on the disk is about.
    known: Mutex<BTreeMap<FileKey, (Covers, u64)>>,
    /// Opened last, with the bytes that they take.
    opened: Mutex<VecDeque<(FileKey, Arc<TextIndex>, usize)>>,
    /// What is known of each log's files.
    states: Mutex<BTreeMap<LogId, Arc<TextState>>>,
    /// Held while a file is read, and alone where one is replaced or goes.
    files: tokio::sync::RwLock<()>,
}

/// A key and what its file is about.
struct Head {
    key: [u8; 32],
    covers: Covers,
    /// Bytes of the head with its length.
    length: usize,
}

impl Texts {
    /// Finds what there is. Files that do not read are removed, and made again later.
    ///
    /// # Errors
    /// Where the disk fails, or the keyring has no key to seal files under.
    pub async fn open(
        (disk, heavy): (Arc<dyn Disk>, Arc<dyn Heavy>),
        scope: Scope,
        keyring: &Keyring,
        node: NodeId,
    ) -> io::Result<Self> {
        let at_rest = at_rest(keyring, node)?;
        disk.create_dir(DIR).await?;
        let (known, opened, states, files) = Default::default();
        let texts = Self { disk, scope, heavy, at_rest, known, opened, states, files };
        for name in texts.disk.list(DIR).await? {
            if let Err(error) = texts.take_in(&name).await {
                tracing::warn!(name, %error, "a text index cannot be read; it is made again where it can be removed");
                texts.note_lost(key_of(name.strip_suffix(".tmp").unwrap_or(&name)));
            }
        }
        Ok(texts)
    }

    /// A file that is there and stands for nothing: searches pass it over, and whoever takes words out comes back to it.
    fn note_lost(&self, key: Option<FileKey>) {
        let nothing = Covers { next: 0, tenants: BTreeSet::new() };
        self.known.lock().extend(key.map(|key| (key, (nothing, 0))));
    }

    async fn take_in(&self, name: &str) -> io::Result<()> {
        let (key, is_aside) = match name.strip_suffix(".tmp") {
            Some(name) => (key_of(name), true),
            None => (key_of(name), false),
        };
        let Some(key) = key else { return self.disk.remove(&format!("{DIR}/{name}")).await };
        let path = format!("{DIR}/{name}");
        let head = self.head(&path).await?;
        match (head, is_aside) {
            // Its key is overwritten: either it never took its name, or it does not have it any more.
            (_, true) => self.destroy(&path).await,
            (Some(head), false) => {
                let bytes = self.disk.open(&path, false).await?.len().await?;
                self.known.lock().insert(key, (head.covers, bytes));
                Ok(())
            }
            (None, false) => self.destroy(&path).await,
        }
    }

    /// What this node remembers of a log's files.
    pub(super) fn state(&self, log: LogId) -> Arc<TextState> {
        self.states.lock().entry(log).or_default().clone()
    }

    /// What the file of a segment is about, where there is one.
    pub fn covers(&self, key: FileKey) -> Option<Covers> {
        self.known.lock().get(&key).map(|(covers, _)| covers.clone())
    }

    /// First leaves of the segments of a log that have a file.
    pub fn of_log(&self, log: LogId) -> Vec<u64> {
        let known = self.known.lock();
        known.range((log, 0)..=(log, u64::MAX)).map(|((_, first), _)| *first).collect()
    }

    /// True where there is any file of a group.
    pub fn has_any(&self, group: GroupId) -> bool {
        self.known.lock().keys().any(|(log, _)| log.group == group)
    }

    /// Logs of which there are files.
    pub fn logs(&self) -> BTreeSet<LogId> {
        self.known.lock().keys().map(|(log, _)| *log).collect()
    }

    /// Number and bytes of all files.
    pub fn sums(&self) -> (u64, u64) {
        let known = self.known.lock();
        (known.len() as u64, known.values().map(|(_, bytes)| bytes).sum())
    }

    /// The index of a segment; none where there is no file. One that does not read is removed.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn load(&self, key: FileKey) -> io::Result<Option<Arc<TextIndex>>> {
        if let Some(found) = self.remembered_index(key) {
            return Ok(Some(found));
        }
        let held = self.files.read().await;
        if self.covers(key).is_none() {
            return Ok(None);
        }
        let path = format!("{DIR}/{}", name_of(key));
        let read = world::read_all(&*self.disk, &path).await;
        if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            drop(held);
            self.remove(key).await?;
            return Ok(None);
        }
        let (bytes, at_rest) = (read?, self.at_rest);
        let length = bytes.len();
        let opened = heavy(&*self.heavy, move || open_all(&bytes, &at_rest)).await.flatten();
        let Some(index) = opened.map(Arc::new) else {
            drop(held);
            tracing::warn!(path, "a text index does not read; it is removed, and made again");
            metrics::counter!(DAMAGED_TOTAL).increment(1);
            self.remove(key).await?;
            return Ok(None);
        };
        let mut opened = self.opened.lock();
        opened.push_front((key, index.clone(), length));
        let mut kept = 0;
        opened.retain(|(_, _, bytes)| {
            kept += bytes;
            kept <= CACHE_BYTES_MAX
        });
        Ok(Some(index))
    }

    fn remembered_index(&self, key: FileKey) -> Option<Arc<TextIndex>> {
        let mut opened = self.opened.lock();
        let at = opened.iter().position(|(known, ..)| *known == key)?;
        let found = opened.remove(at)?;
        let index = found.1.clone();
        opened.push_front(found);
        Some(index)
    }

    /// Puts an index in the place of the one that there may be: the new file is durable first, then the old one's key is
    /// overwritten, and only then has the new one its name. A crash between them leaves none, which is made again.
    ///
    /// # Errors
    /// Where the disk fails, or the index does not encode.
    pub async fn put(&self, clock: &dyn Clock, key: FileKey, covers: Covers, index: Arc<TextIndex>) -> io::Result<()> {
        let came = self.write(clock, key, covers, index).await;
        if came.is_err() {
            // Best effort: whoever takes words out, and the next start, look for it again.
            let _ = self.discard_unknown(key.0).await;
        }
        came
    }

    async fn write(&self, clock: &dyn Clock, key: FileKey, covers: Covers, index: Arc<TextIndex>) -> io::Result<()> {
        let (name, at_rest) = (name_of(key), self.at_rest);
        let (mut file_key, mut nonces) = ([0; 32], [[0; 12]; 2]);
        self.scope.fill(&mut file_key);
        nonces.iter_mut().for_each(|nonce| self.scope.fill(nonce));
        let head = Head { key: file_key, covers: covers.clone(), length: 0 };
        let sealed = heavy(&*self.heavy, move || seal_all(&head, nonces, &at_rest, key.1, &index)).await;
        let bytes = Bytes::from(sealed.flatten().ok_or_else(|| io::Error::other("packing a text index did not end"))?);
        let length = bytes.len() as u64;
        world::write_aside(&*self.disk, DIR, &name, bytes).await?;
        world::pass(clock, "text.written").await;
        let _alone = self.files.write().await;
        self.forget(key);
        if self.disk.list(DIR).await?.contains(&name) {
            self.overwrite(&format!("{DIR}/{name}")).await?;
        }
        world::pass(clock, "text.overwritten").await;
        world::put_in_place(&*self.disk, DIR, &name).await?;
        world::pass(clock, "text.placed").await;
        self.known.lock().insert(key, (covers, length));
        sometimes!(true, "a text index was written");
        Ok(())
    }

    /// Removes the file of a segment.
    ///
    /// # Errors
    /// Where the disk fails; then nothing is read from it any more until the node starts again.
    pub async fn remove(&self, key: FileKey) -> io::Result<()> {
        let _alone = self.files.write().await;
        let is_there = self.covers(key).is_some();
        self.forget(key);
        if !is_there {
            return Ok(());
        }
        match self.destroy(&format!("{DIR}/{}", name_of(key))).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.note_lost(Some(key));
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Removes what is no file of a log's: one that was written aside and has no name yet, and one that could not be removed.
    /// Nothing of that log may be written meanwhile.
    ///
    /// # Errors
    /// Where the disk fails.
    pub(super) async fn discard_unknown(&self, log: LogId) -> io::Result<()> {
        let _alone = self.files.write().await;
        for name in self.disk.list(DIR).await? {
            let whole = name.strip_suffix(".tmp").unwrap_or(&name);
            let Some(key) = key_of(whole).filter(|(of, _)| *of == log) else { continue };
            if name != whole || self.covers(key).is_none() {
                self.destroy(&format!("{DIR}/{name}")).await?;
            }
        }
        Ok(())
    }

    fn forget(&self, key: FileKey) {
        self.known.lock().remove(&key);
        self.opened.lock().retain(|(known, ..)| *known != key);
    }

    async fn destroy(&self, path: &str) -> io::Result<()> {
        self.overwrite(path).await?;
        self.disk.remove(path).await?;
        self.disk.sync_dir(DIR).await
    }

    /// Overwrites a file's key: as much as a head may have, since a damaged one does not say how long it is.
    async fn overwrite(&self, path: &str) -> io::Result<()> {
        let file = self.disk.open(path, false).await?;
        let over = (HEAD_BYTES_MAX + 4).min(file.len().await? as usize);
        file.write_and_sync(0, Bytes::from(vec![0; over])).await
    }

    async fn head(&self, path: &str) -> io::Result<Option<Head>> {
        let file = self.disk.open(path, false).await?;
        let bytes = file.read_at(0, 4).await?;
        let Some(length) = bytes.first_chunk().map(|length| u32::from_le_bytes(*length) as usize) else {
            return Ok(None);
        };
        let bytes = file.read_at(0, length.min(HEAD_BYTES_MAX) + 4).await?;
        Ok(open_head(&bytes, &self.at_rest))
    }

    /// The keys that bodies needed which any file on a disk still opens to, by log. For whoever checks that what is erased is gone.
    ///
    /// # Errors
    /// Where the disk fails, or the keyring has no key that files are sealed under.
    pub async fn remembered(disk: &dyn Disk, keyring: &Keyring, node: NodeId) -> io::Result<Vec<(LogId, Vec<u8>)>> {
        let (at_rest, mut found) = (at_rest(keyring, node)?, Vec::new());
        for name in disk.list(DIR).await? {
            let Some((log, _)) = key_of(name.trim_end_matches(".tmp")) else { continue };
            let bytes = world::read_all(disk, &format!("{DIR}/{name}")).await?;
            let Some(index) = open_all(&bytes, &at_rest) else { continue };
            let subjects = index.subjects().map_err(io::Error::other)?;
            found.extend(subjects.into_iter().map(|subject| (log, subject)));
        }
        Ok(found)
    }
}

fn at_rest(keyring: &Keyring, node: NodeId) -> io::Result<[u8; 32]> {
    let zone = keyring.ring_keys.last_key_value().map(|(_, key)| key);
    let zone = zone.ok_or_else(|| io::Error::other("the keyring has no ring key"))?;
    Ok(TenantKeys::new(zone).derive(AT_REST, &node.0.to_le_bytes()))
}

fn name_of((log, first): FileKey) -> String {
    format!("{:05}-{}-{first:020}.text", log.group.0, log.era)
}

fn key_of(name: &str) -> Option<FileKey> {
    let mut parts = name.strip_suffix(".text")?.split('-');
    let group = GroupId(parts.next()?.parse().ok()?);
    let key = (LogId { group, era: parts.next()?.parse().ok()? }, parts.next()?.parse().ok()?);
    (name_of(key) == name).then_some(key)
}

fn seal_all(head: &Head, nonces: [[u8; 12]; 2], at_rest: &[u8; 32], first: u64, index: &TextIndex) -> Option<Vec<u8>> {
    let mut contents = head.key.to_vec();
    contents.extend_from_slice(&head.covers.next.to_le_bytes());
    contents.extend_from_slice(&(head.covers.tenants.len() as u32).to_le_bytes());
    head.covers.tenants.iter().for_each(|tenant| contents.extend_from_slice(&tenant.0));
    let sealed = slot::seal(HEAD, first, at_rest, nonces[0], &contents);
    let mut bytes = (sealed.len() as u32).to_le_bytes().to_vec();
    bytes.extend(sealed);
    bytes.extend(slot::seal(INDEX, first, &head.key, nonces[1], &index.encode().ok()?));
    Some(bytes)
}

fn open_head(bytes: &[u8], at_rest: &[u8; 32]) -> Option<Head> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let (contents, _) = slot::open(HEAD, rest.get(..length)?, at_rest)?;
    let mut reader = Reader::new(&contents);
    let (key, next, count) = (reader.array()?, reader.u64()?, reader.u32()?);
    let tenants = (0..count).map(|_| Some(KeyedId(reader.array()?))).collect::<Option<_>>()?;
    reader.is_empty().then_some(Head { key, covers: Covers { next, tenants }, length: length + 4 })
}

fn open_all(bytes: &[u8], at_rest: &[u8; 32]) -> Option<TextIndex> {
    let head = open_head(bytes, at_rest)?;
    let (contents, _) = slot::open(INDEX, bytes.get(head.length..)?, &head.key)?;
    TextIndex::decode(&contents).ok()
}
