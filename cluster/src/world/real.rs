//! The real world's clock and disk. They sit at the bottom of every step that waits or writes.
//!
//! Files are reached through tokio's blocking threads, one hop per operation: the hop costs some ten microseconds, the
//! sync behind it a hundred to some thousands. Nothing here retries: a sync that failed may have dropped the pages it
//! was asked to keep, so a second one that succeeds proves nothing.

#![allow(clippy::disallowed_methods, reason = "this file is the seam to the real clock and the real disk")]

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{Clock, Disk, File};

/// Monotonic time since the node started and the wall clock of the machine.
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// A clock that starts at zero now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_ns(&self) -> u64 {
        // A wall clock before 1970 reads as 1970; the clock probe refuses it like any other wrong wall.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
    }

    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(wait))
    }
}

/// A folder of the real file system.
pub struct RealDisk {
    root: Arc<Path>,
}

impl RealDisk {
    /// The data folder at `root`, made where it is missing.
    pub fn new(root: impl Into<PathBuf>) -> io::Result<Self> {
        let root: PathBuf = root.into();
        fs::create_dir_all(&root)?;
        Ok(Self { root: root.into() })
    }

    /// Takes the folder for this process until the lock is dropped; an error where another one has it. Two nodes on one
    /// log would destroy it.
    pub fn lock(&self) -> io::Result<FolderLock> {
        let path = self.root.join("lock");
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => {
                let message = format!("another process uses {}", self.root.display());
                Err(io::Error::new(io::ErrorKind::ResourceBusy, message))
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// A path below the root. Anything that could leave it is refused.
    fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        let relative = Path::new(path);
        let inside = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            let message = format!("{path:?} is not a path inside the data folder");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(self.root.join(relative))
    }
}

/// Holds a data folder for one process.
pub struct FolderLock {
    _file: fs::File,
}

/// Long work on blocking threads, two at a time at most.
pub struct Aside {
    permits: Arc<tokio::sync::Semaphore>,
}

impl Default for Aside {
    fn default() -> Self {
        Self { permits: Arc::new(tokio::sync::Semaphore::new(2)) }
    }
}

impl super::Heavy for Aside {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let permits = self.permits.clone();
        Box::pin(async move {
            let _held = permits.acquire_owned().await;
            // A panic in it is told by what does not come of it.
            let _ = tokio::task::spawn_blocking(work).await;
        })
    }
}

/// Runs `work` on a blocking thread.
pub(super) async fn hop<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(format!("a disk operation did not end: {error}"))),
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Makes a folder and those above it, each durable in its parent.
fn create_folders(root: &Path, path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut current = path;
    while current != root && !current.exists() {
        missing.push(current);
        let Some(parent) = current.parent() else { break };
        current = parent;
    }
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if let Some(parent) = folder.parent() {
            sync_folder(parent)?;
        }
    }
    Ok(())
}

fn list_files(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A name that is not UTF-8 is none of ours.
        if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

impl Disk for RealDisk {
    fn open(&self, path: &str, create: bool) -> BoxFuture<'static, io::Result<Arc<dyn File>>> {
        let path = self.resolve(path);
        Box::pin(async move {
            let path = path?;
            let open = move || fs::OpenOptions::new().read(true).write(true).create(create).open(path);
            let file: Arc<dyn File> = Arc::new(RealFile { file: Arc::new(hop(open).await?) });
            Ok(file)
        })
    }

    fn list(&self, dir: &str) -> BoxFuture<'static, io::Result<Vec<String>>> {
        let path = self.resolve(dir);
        Box::pin(async move {
            let path = path?;
            hop(move || list_files(&path)).await
        })
    }

    fn create_dir(&self, dir: &str) -> BoxFuture<'static, io::Result<()>> {
        let (root, path) = (self.root.clone(), self.resolve(dir));
        Box::pin(async move {
            let path = path?;
            hop(move || create_folders(&root, &path)).await
        })
    }

    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>> {
        let (from, to) = (self.resolve(from), self.resolve(to));
        Box::pin(async move {
            let (from, to) = (from?, to?);
            hop(move || fs::rename(from, to)).await
        })
    }

    fn remove(&self, path: &str) -> BoxFuture<'static, io::Result<()>> {
        let path = self.resolve(path);
        Box::pin(async move {
            let path = path?;
            hop(move || fs::remove_file(path)).await
        })
    }

    fn sync_dir(&self, dir: &str) -> BoxFuture<'static, io::Result<()>> {
        let path = self.resolve(dir);
        Box::pin(async move {
            let path = path?;
            hop(move || sync_folder(&path)).await
        })
    }
}

/// An open file of the real file system.
struct RealFile {
    file: Arc<fs::File>,
}

impl RealFile {
    fn hop<T: Send + 'static>(
        &self,
        work: impl FnOnce(&fs::File) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        let file = self.file.clone();
        Box::pin(hop(move || work(&file)))
    }
}

/// Reads until `length` bytes are there or the file ends.
fn read_fully(file: &fs::File, at: u64, length: usize) -> io::Result<Bytes> {
    let end = file.metadata()?.len();
    let length = length.min(usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX));
    let mut buffer = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer.into())
}

impl File for RealFile {
    fn len(&self) -> BoxFuture<'static, io::Result<u64>> {
        self.hop(|file| Ok(file.metadata()?.len()))
    }

    fn read_at(&self, at: u64, length: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        self.hop(move |file| read_fully(file, at, length))
    }

    fn write_at(&self, at: u64, data: Bytes) -> BoxFuture<'static, io::Result<()>> {
        self.hop(move |file| file.write_all_at(&data, at))
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        self.hop(fs::File::sync_data)
    }

    fn settle(&self) -> BoxFuture<'static, io::Result<()>> {
        self.hop(|file| {
            file.sync_data()?;
            // Advice, so a file system may ignore it; the ones that people run databases on do not.
            rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).map_err(io::Error::from)
        })
    }

    fn write_and_sync(&self, at: u64, data: Bytes) -> BoxFuture<'static, io::Result<()>> {
        self.hop(move |file| {
            file.write_all_at(&data, at)?;
            file.sync_data()
        })
    }

    fn set_len(&self, length: u64) -> BoxFuture<'static, io::Result<()>> {
        self.hop(move |file| file.set_len(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_back_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path()).unwrap();
        disk.create_dir("a/b").await.unwrap();
        let file = disk.open("a/b/one", true).await.unwrap();
        file.write_and_sync(3, Bytes::from_static(b"words")).await.unwrap();
        disk.sync_dir("a/b").await.unwrap();
        let disk = RealDisk::new(folder.path()).unwrap();
        assert_eq!(disk.list("a/b").await.unwrap(), ["one"]);
        assert_eq!(super::super::read_all(&disk, "a/b/one").await.unwrap(), &b"\0\0\0words"[..]);
        let file = disk.open("a/b/one", false).await.unwrap();
        assert_eq!(file.read_at(6, 100).await.unwrap(), &b"ds"[..], "a read past the end is short");
        file.set_len(4).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 4);
        disk.rename("a/b/one", "a/two").await.unwrap();
        disk.remove("a/two").await.unwrap();
        assert!(disk.open("a/two", false).await.is_err());
        assert_eq!(disk.list("missing").await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_path_that_leaves_the_data_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path()).unwrap();
        for path in ["../outside", "/etc/hosts", "a/../../b"] {
            assert!(disk.open(path, true).await.is_err(), "{path:?} was opened");
        }
    }

    #[test]
    fn a_folder_is_locked_once() {
        let folder = tempfile::tempdir().unwrap();
        let held = RealDisk::new(folder.path()).unwrap().lock().unwrap();
        let second = RealDisk::new(folder.path()).unwrap();
        assert!(second.lock().is_err());
        drop(held);
        second.lock().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_counts_monotonic_time() {
        let clock = RealClock::new();
        let before = clock.now();
        clock.sleep(Duration::from_millis(5)).await;
        assert!(clock.now() >= before + Duration::from_millis(5));
        assert!(clock.wall_ns() > 1_600_000_000_000_000_000);
    }
}
