//! The local map that can be rebuilt, in a sled tree.
//!
//! sled 0.34 is not safe against power loss, which is why nothing durable may live here (ARCHITECTURE 12). A folder that
//! does not open is removed and made anew; a map that fails later answers as if it were empty and says so once.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Kv;

/// Pages that sled keeps in memory.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;
/// How often sled writes its dirty pages.
const FLUSH_EVERY_MS: u64 = 1_000;

/// One tree of a sled database.
pub struct SledKv {
    tree: sled::Tree,
    failed: AtomicBool,
    // The tree needs its database alive.
    _database: sled::Db,
}

impl SledKv {
    /// Opens the database in `folder`. What does not open is removed and recreated, empty; a folder that another process
    /// has open, or that may not be read, is left alone and is an error.
    #[allow(clippy::disallowed_methods, reason = "this file is the seam to sled's folder")]
    pub fn open(folder: &Path, tree: &str) -> io::Result<Self> {
        if folder.is_file() {
            std::fs::remove_file(folder)?;
        }
        match Self::try_open(folder, tree) {
            Ok(kv) => Ok(kv),
            Err(sled::Error::Io(error)) if is_not_damage(&error) => Err(error),
            Err(why) => {
                tracing::warn!(folder = %folder.display(), %why, "the local map does not open; it is rebuilt");
                match std::fs::remove_dir_all(folder) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
                Self::try_open(folder, tree).map_err(io::Error::other)
            }
        }
    }

    /// sled panics on some damaged files, so a panic counts as one more way of not opening.
    fn try_open(folder: &Path, tree: &str) -> sled::Result<Self> {
        let open = || -> sled::Result<Self> {
            let config = sled::Config::new()
                .path(folder)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(Some(FLUSH_EVERY_MS))
                .mode(sled::Mode::HighThroughput);
            let database = config.open()?;
            let tree = database.open_tree(tree)?;
            Ok(Self { tree, failed: AtomicBool::new(false), _database: database })
        };
        match catch_unwind(AssertUnwindSafe(open)) {
            Ok(result) => result,
            Err(_) => Err(sled::Error::ReportableBug("it panicked while it was opened".to_owned())),
        }
    }

    /// True once an operation failed: the map then misses changes and has to be rebuilt at the next start.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    fn note<T>(&self, result: sled::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                if !self.failed.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the local map failed; it answers as if it were empty until it is rebuilt");
                }
                None
            }
        }
    }
}

impl Kv for SledKv {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        if self.has_failed() {
            return None;
        }
        self.note(self.tree.get(key)).flatten().map(|value| value.to_vec())
    }

    fn put(&self, key: &[u8], value: &[u8]) {
        self.note(self.tree.insert(key, value));
    }

    fn remove(&self, key: &[u8]) {
        self.note(self.tree.remove(key));
    }

    fn scan(&self, prefix: &[u8], after: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        if self.has_failed() {
            return Vec::new();
        }
        let from = if after < prefix { Included(prefix) } else { Excluded(after) };
        let mut pairs = Vec::new();
        for pair in self.tree.range::<&[u8], _>((from, Unbounded)).take(limit) {
            match self.note(pair) {
                Some((key, value)) if key.starts_with(prefix) => pairs.push((key.to_vec(), value.to_vec())),
                _ => break,
            }
        }
        pairs
    }
}

/// sled has no kind of its own for a lock that another process holds.
fn is_not_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::StorageFull)
        || error.to_string().contains("could not acquire lock")
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryKv;
    use super::*;

    fn scans_agree(left: &dyn Kv, right: &dyn Kv) {
        for (prefix, after, limit) in
            [(&b""[..], &b""[..], 9), (b"a", b"", 9), (b"a", b"a1", 9), (b"a", b"a", 1), (b"b", b"z", 9)]
        {
            assert_eq!(left.scan(prefix, after, limit), right.scan(prefix, after, limit), "{prefix:?} after {after:?}");
        }
    }

    #[test]
    fn sled_and_the_map_in_memory_answer_alike() {
        let folder = tempfile::tempdir().unwrap();
        let (sled, memory) = (SledKv::open(folder.path(), "kv").unwrap(), MemoryKv::default());
        for kv in [&sled as &dyn Kv, &memory] {
            for key in ["a", "a1", "a2", "ab", "b", "c"] {
                kv.put(key.as_bytes(), key.as_bytes());
            }
            kv.remove(b"a2");
        }
        scans_agree(&sled, &memory);
        assert_eq!(sled.get(b"a1"), memory.get(b"a1"));
        assert_eq!(sled.get(b"a2"), None);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test damages the folder")]
    fn a_damaged_folder_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        drop(SledKv::open(folder.path(), "kv").unwrap());
        for name in ["conf", "db"] {
            std::fs::write(folder.path().join(name), [0xFF; 4096]).unwrap();
        }
        let kv = SledKv::open(folder.path(), "kv").unwrap();
        kv.put(b"k", b"v");
        assert_eq!(kv.get(b"k"), Some(b"v".to_vec()));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test damages the folder")]
    fn a_file_in_the_place_of_the_folder_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kv");
        std::fs::write(&path, b"not a folder").unwrap();
        let kv = SledKv::open(&path, "kv").unwrap();
        assert_eq!(kv.get(b"k"), None);
    }

    #[test]
    fn a_folder_in_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = SledKv::open(folder.path(), "kv").unwrap();
        first.put(b"k", b"v");
        assert!(SledKv::open(folder.path(), "kv").is_err());
        assert_eq!(first.get(b"k"), Some(b"v".to_vec()));
    }
}
