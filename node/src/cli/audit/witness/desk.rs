//! A witness's judgement, one submission of a log at a time: believe the log's key, hold the proof against what was signed
//! last, keep the new checkpoint durably, and only then sign it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use nethical_audit::note::VerifierKey;
use nethical_audit::note::cosign::Cosigner;
use nethical_audit::witness::{self, Refusal, Seen, Submission};

use super::folder::Folder;

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// By the specification.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The checkpoint may not be durable: the witness must end.
    #[error("the checkpoint cannot be kept: {0}")]
    Disk(#[from] io::Error),
}

/// What a witness decides with. A clone is the same desk.
#[derive(Clone)]
pub struct Desk {
    inner: Arc<Inner>,
}

struct Inner {
    folder: Folder,
    cosigner: Cosigner,
    keys: Vec<VerifierKey>,
    /// By origin; held while one submission is judged and kept.
    seen: BTreeMap<String, Mutex<Seen>>,
}

impl Desk {
    /// A desk that knows these logs, with what its folder holds of them.
    ///
    /// # Errors
    /// Where the folder does not read.
    pub fn open(folder: Folder, cosigner: Cosigner, keys: Vec<VerifierKey>) -> anyhow::Result<Self> {
        let mut seen = BTreeMap::new();
        for key in &keys {
            seen.insert(key.name().to_owned(), Mutex::new(folder.seen(key.name())?));
        }
        Ok(Self { inner: Arc::new(Inner { folder, cosigner, keys, seen }) })
    }

    /// The signature line for a submission. Blocks on the disk.
    ///
    /// # Errors
    /// [`DeskError`].
    pub fn add_checkpoint(&self, body: &[u8], at_s: u64) -> Result<String, DeskError> {
        let Inner { folder, cosigner, keys, seen } = &*self.inner;
        let submission = Submission::parse(body)?;
        let checkpoint = witness::trusted(&submission, keys)?;
        let unknown = || Refusal::UnknownLog(checkpoint.origin.clone());
        let mut seen = seen.get(&checkpoint.origin).ok_or_else(unknown)?.lock();
        match witness::judge(&submission, &checkpoint, *seen) {
            Ok(next) => {
                if next != *seen {
                    folder.keep(&checkpoint.origin, &submission.checkpoint)?;
                }
                *seen = next;
                Ok(cosigner.cosign(&checkpoint.text(), at_s))
            }
            Err(refusal) => {
                let is_another = matches!(refusal, Refusal::Conflict { .. })
                    && checkpoint.size == seen.size
                    && checkpoint.root != seen.root;
                if is_another || refusal == Refusal::Inconsistent {
                    folder.keep_evidence(&checkpoint.origin, &submission.checkpoint)?;
                }
                Err(refusal.into())
            }
        }
    }
}
