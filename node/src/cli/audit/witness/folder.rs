//! A witness's folder: its key, and the last checkpoint that it signed of each log, as the log signed it.
//!
//! What is written here is durable when the call returns: a witness that forgot what it signed would sign another history.
#![allow(clippy::disallowed_methods, reason = "a process of its own, which reads and writes its folder")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::note::cosign::Cosigner;
use nethical_audit::witness::Seen;

use crate::output::{Exit, stop};

/// Name and seed of the key: two lines.
const KEY_FILE: &str = "key";
/// What a witness is called where nobody says.
const NAME_DEFAULT: &str = "nethical-witness";

/// A folder that no other process uses while this one does.
pub struct Folder {
    dir: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens a folder, made where it is missing.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let path = dir.join("lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let lock = lock.with_context(|| format!("opening {}", path.display()))?;
        let used = || stop(Exit::Refused, format!("another process uses {}", dir.display()));
        lock.try_lock().map_err(|_| used())?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// The key, made at the first start. A name is given then or never.
    pub fn cosigner(&self, name: Option<&str>) -> anyhow::Result<Cosigner> {
        let path = self.dir.join(KEY_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_key(name.unwrap_or(NAME_DEFAULT))?,
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let (known, seed) = text.trim_end().split_once('\n').context("the key's file is not a name and a seed")?;
        let seed: [u8; 32] = hex::decode(seed).ok().and_then(|seed| seed.try_into().ok()).context("the key's seed")?;
        if let Some(other) = name.filter(|name| *name != known) {
            let message = format!("{} has the key of {known:?}, not of {other:?}", self.dir.display());
            return Err(stop(Exit::Usage, message));
        }
        Ok(Cosigner::from_seed(known, &seed)?)
    }

    fn make_key(&self, name: &str) -> anyhow::Result<String> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
        Cosigner::from_seed(name, &seed)?;
        let text = format!("{name}\n{}\n", hex::encode(seed));
        self.replace(KEY_FILE, text.as_bytes()).context("writing the key")?;
        Ok(text)
    }

    /// What was signed last of a log; nothing where nothing ever was. Text that does not read is an error: to begin anew
    /// would be to forget.
    pub fn seen(&self, origin: &str) -> anyhow::Result<Seen> {
        let path = self.dir.join(name_of(origin));
        let note = match fs::read_to_string(&path) {
            Ok(note) => note,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::nothing()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let checkpoint = Checkpoint::parse_unverified(&note).with_context(|| format!("reading {}", path.display()))?;
        anyhow::ensure!(checkpoint.origin == origin, "{} is of {:?}", path.display(), checkpoint.origin);
        Ok(Seen { size: checkpoint.size, root: checkpoint.root })
    }

    /// Keeps the checkpoint that is about to be signed, durably.
    ///
    /// # Errors
    /// Where it may not be durable; nothing may be signed then, now or later.
    pub fn keep(&self, origin: &str, note: &str) -> io::Result<()> {
        self.replace(&name_of(origin), note.as_bytes())
    }

    /// Keeps a checkpoint that a log signed and that does not go with what was signed last, as evidence; the newest one.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep_evidence(&self, origin: &str, note: &str) -> io::Result<()> {
        self.replace(&format!("{}.conflict", name_of(origin)), note.as_bytes())
    }

    /// Either the old bytes or the new ones, whole, whatever happens.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let aside = self.dir.join(format!("{name}.tmp"));
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, self.dir.join(name))?;
        File::open(&self.dir)?.sync_all()
    }
}

/// A file's name that no origin can escape from.
fn name_of(origin: &str) -> String {
    format!("log-{}", hex::encode(&Sha256::digest(origin)[..16]))
}
