//! Reads whole files one ahead of who looks at them, for tools on the files of a stopped node: while one is verified the next one
//! comes from the disk. A node itself reads through [`Disk`](super::Disk), never through this.
//!
//! Files come in the order given, each is read once, and one that does not read comes as empty bytes, where it stands: what
//! that means is for the caller to say. So what is found does not depend on which of the two was faster.

#![allow(
    clippy::disallowed_methods,
    reason = "reads the files of a node that does not run; there is no disk seam there"
)]

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread;

use rustix::fs::{Advice, fadvise};

/// Hands the contents of files to `consume`, in order. Two files are in memory at a time, the one that is looked at and the one
/// behind it; of segments these are about 64 MiB each. Who stops early leaves the rest unread.
pub fn read_ahead<T>(paths: &[PathBuf], consume: impl FnOnce(&mut dyn Iterator<Item = Vec<u8>>) -> T) -> T {
    thread::scope(|scope| {
        // Nothing is queued: the reader holds one file until it is taken, and only then reads the next one.
        let (sender, receiver) = sync_channel(0);
        scope.spawn(move || {
            let mut contents = paths.iter().map(|path| read(path).unwrap_or_default());
            // It fails where nobody wants more.
            while contents.next().is_some_and(|bytes| sender.send(bytes).is_ok()) {}
        });
        consume(&mut receiver.into_iter())
    })
}

/// A whole file. The kernel is told that all of it is wanted, so that many reads of the disk are under way at a time.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    for advice in [Advice::Sequential, Advice::WillNeed] {
        // Advice: a file system that takes none is as good, only slower.
        let _ = fadvise(&file, 0, None, advice);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(count: u8) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..count).map(|number| folder.path().join(number.to_string())).collect();
        paths.iter().zip(0..).for_each(|(path, number)| std::fs::write(path, [number; 3]).unwrap());
        (folder, paths)
    }

    #[test]
    fn files_come_in_order_and_one_that_does_not_read_is_empty_in_its_place() {
        let (folder, mut paths) = files(5);
        std::fs::remove_file(&paths[2]).unwrap();
        paths[3] = folder.path().to_owned();
        let all: Vec<Vec<u8>> = read_ahead(&paths, |files| files.collect());
        assert_eq!(all, [vec![0; 3], vec![1; 3], vec![], vec![], vec![4; 3]]);
    }

    #[test]
    fn who_stops_early_is_not_held_up() {
        let (_folder, paths) = files(5);
        assert_eq!(read_ahead(&paths, |files| files.next()), Some(vec![0; 3]));
        assert_eq!(read_ahead(&paths, |_| 7), 7);
        assert_eq!(read_ahead(&[], |files| files.count()), 0);
    }
}
