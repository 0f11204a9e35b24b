//! The keyring's file as a node keeps it: opened at the start, written anew without a seed that is retired.
//!
//! It holds the zone's ring key, without which nothing opens: a rewriting must never leave none. And it must not leave the old
//! one readable: its bytes are overwritten before its name goes. Backups are out of reach.
#![allow(clippy::disallowed_methods, reason = "the keyring is no part of the node's data folder")]

use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use futures::FutureExt;
use futures::future::BoxFuture;
use ring::rand::{SecureRandom, SystemRandom};

use nethical_audit::keys::{KEY_BYTES, Keyring};
use nethical_cluster::world::{KeyringFile, KeyringSeed};

/// The file and the key that opens it.
#[derive(Clone)]
pub struct SealedKeyring {
    path: PathBuf,
    kek: [u8; KEY_BYTES],
}

impl SealedKeyring {
    /// The keyring at this path, under this key-encryption key.
    pub fn new(path: PathBuf, kek: [u8; KEY_BYTES]) -> Self {
        Self { path, kek }
    }

    /// Reads it, and clears away what a crash has left of an older one.
    pub fn open(&self) -> anyhow::Result<Keyring> {
        let keyring = self.read()?;
        self.sweep().with_context(|| format!("clearing away what is left of an older {}", self.path.display()))?;
        Ok(keyring)
    }

    fn read(&self) -> anyhow::Result<Keyring> {
        let sealed = std::fs::read(&self.path).with_context(|| format!("reading {}", self.path.display()))?;
        Keyring::decode_sealed(&self.kek, &sealed).with_context(|| format!("opening {}", self.path.display()))
    }

    /// Writes it without a seed.
    fn without(&self, seed: KeyringSeed) -> anyhow::Result<()> {
        let mut keyring = self.read()?;
        match seed {
            KeyringSeed::Zone => keyring.signing_seed = None,
            KeyringSeed::Own => keyring.cosigning_seed = None,
        }
        let mut nonce = [0; 12];
        SystemRandom::new().fill(&mut nonce).map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        self.replace(&keyring.encode_sealed(&self.kek, nonce))?;
        Ok(())
    }

    /// The new bytes take the old ones' place in one step; the old file keeps another name until it is overwritten.
    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        self.sweep()?;
        let aside = self.beside("tmp");
        let mut file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::hard_link(&self.path, self.beside("old"))?;
        self.sync_folder()?;
        std::fs::rename(&aside, &self.path)?;
        self.sync_folder()?;
        self.sweep()
    }

    /// Overwrites and removes what is left of an older file; only its name, where that file is still the one in use.
    fn sweep(&self) -> io::Result<()> {
        let old = self.beside("old");
        let inode = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
        let left = match inode(&old) {
            Ok(left) => left,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if left != inode(&self.path)? {
            let mut file = std::fs::OpenOptions::new().write(true).open(&old)?;
            let length = file.metadata()?.len();
            file.write_all(&vec![0; usize::try_from(length).unwrap_or_default()])?;
            file.sync_all()?;
        }
        std::fs::remove_file(&old)?;
        self.sync_folder()
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(extension);
        PathBuf::from(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl KeyringFile for SealedKeyring {
    fn drop_seed(&self, seed: KeyringSeed) -> BoxFuture<'static, io::Result<()>> {
        let file = self.clone();
        async move {
            let done = tokio::task::spawn_blocking(move || file.without(seed)).await;
            done.map_err(io::Error::other)?.map_err(|error| io::Error::other(format!("{error:#}")))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEK: [u8; 32] = [7; 32];

    fn keyring() -> Keyring {
        let (signing_seed, cosigning_seed) = (Some([2; 32]), Some([3; 32]));
        Keyring { cluster: "demo".into(), ring_keys: [(1, [1; 32])].into(), signing_seed, cosigning_seed }
    }

    fn placed(dir: &Path) -> SealedKeyring {
        let file = SealedKeyring::new(dir.join("keyring"), KEK);
        std::fs::write(&file.path, keyring().encode_sealed(&KEK, [5; 12])).expect("written");
        file
    }

    #[test]
    fn a_seed_is_taken_out_and_nothing_is_left_of_the_file_that_held_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = placed(dir.path());
        // Another handle sees what becomes of the old bytes.
        let old = std::fs::File::open(&file.path).expect("there");
        file.without(KeyringSeed::Zone).expect("written");
        assert_eq!(file.open().expect("whole"), Keyring { signing_seed: None, ..keyring() });
        file.without(KeyringSeed::Own).expect("written");
        let neither = Keyring { signing_seed: None, cosigning_seed: None, ..keyring() };
        assert_eq!(file.open().expect("whole"), neither);
        let bytes = io::read_to_string(old).expect("overwritten with zeros");
        assert!(!bytes.is_empty() && bytes.bytes().all(|byte| byte == 0));
        let names = std::fs::read_dir(dir.path()).expect("a folder").count();
        assert_eq!(names, 1, "only the keyring is left");
    }

    #[test]
    fn whatever_step_a_crash_cuts_off_a_whole_keyring_is_there_and_the_next_start_clears_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = placed(dir.path());
        // Behind the link: both names are of the file in use.
        std::fs::hard_link(&file.path, file.beside("old")).expect("linked");
        assert_eq!(file.open().expect("whole"), keyring());
        assert!(!file.beside("old").exists() && file.read().is_ok());
        // Behind the renaming: the old one waits to be overwritten.
        std::fs::hard_link(&file.path, file.beside("old")).expect("linked");
        let old = std::fs::File::open(&file.path).expect("there");
        let next = Keyring { signing_seed: None, ..keyring() };
        std::fs::write(file.beside("tmp"), next.encode_sealed(&KEK, [6; 12])).expect("written");
        std::fs::rename(file.beside("tmp"), &file.path).expect("renamed");
        assert_eq!(file.open().expect("whole"), next);
        assert!(io::read_to_string(old).expect("zeros").bytes().all(|byte| byte == 0));
    }
}
