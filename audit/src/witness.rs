//! The witness protocol (c2sp.org/tlog-witness): what a log sends, what a witness makes of it, and what it answers.
//!
//! Pure. A witness must keep what [`judge`] lets pass durably *before* it signs, and judge one submission of a log at a
//! time; nothing in here can see to either.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, parse_decimal, parse_hash};
use crate::note::{KeyKind, Note, VerifierKey};
use crate::tree::{self, Hash};

/// What is posted to, behind the witness's submission prefix.
pub const ADD_CHECKPOINT: &str = "add-checkpoint";
/// Content type of the answer that tells a log's size.
pub const SIZE_TYPE: &str = "text/x.tlog.size";
/// A whole submission: 63 hashes and a checkpoint with as many lines as a note may have take less.
pub const SUBMISSION_BYTES_MAX: usize = 64 * 1024;
/// An answer: cosignature lines, or a size.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Hashes in a consistency proof.
const HASHES_MAX: usize = 63;

/// A log's new checkpoint, and that it extends the one of `old` leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Leaves of the checkpoint that the witness signed last; 0 where it signed none.
    pub old: u64,
    /// The consistency proof (RFC 6962, 2.1.2).
    pub proof: Vec<Hash>,
    /// The new checkpoint, a signed note.
    pub checkpoint: String,
}

impl Submission {
    /// The body of the request.
    pub fn encode(&self) -> String {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            text += &STANDARD.encode(hash);
            text.push('\n');
        }
        text.push('\n');
        text + &self.checkpoint
    }

    /// Reads the body of a request. The checkpoint is taken verbatim.
    ///
    /// # Errors
    /// [`Refusal::Malformed`].
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let refuse = Refusal::Malformed;
        let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= SUBMISSION_BYTES_MAX);
        let text = text.ok_or(refuse("not a text of at most 64 KiB"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(refuse("there is no empty line"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(parse_decimal);
        let old = old.ok_or(refuse("the first line is not `old` and a decimal number"))?;
        let proof = lines.take(HASHES_MAX + 1).map(parse_hash).collect::<Option<Vec<_>>>();
        let proof = proof.ok_or(refuse("a line is not a base64 SHA-256 value"))?;
        if proof.len() > HASHES_MAX {
            return Err(refuse("there are too many hashes"));
        }
        Ok(Self { old, proof, checkpoint: checkpoint.to_owned() })
    }
}

/// The newest tree of a log that a witness signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its leaves.
    pub size: u64,
    /// Its root.
    pub root: Hash,
}

impl Seen {
    /// Of a log that the witness never signed anything of.
    pub fn nothing() -> Self {
        Self { size: 0, root: tree::empty_root() }
    }
}

/// Why a witness does not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not the shape of a submission, or the old size is above the new one.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// It does not watch that log.
    #[error("the log {0:?} is not known here")]
    UnknownLog(String),
    /// No signature is by a trusted key of that log.
    #[error("the checkpoint is not signed by a trusted key of its log")]
    NotSigned,
    /// It signed another size last, or another root of this size.
    #[error("a checkpoint of {size} leaves was signed last")]
    Conflict {
        /// What it signed last.
        size: u64,
    },
    /// The new tree does not extend the one that it signed.
    #[error("the proof does not lead from the tree that was signed to this one")]
    Inconsistent,
}

impl Refusal {
    /// The HTTP status by the specification.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::NotSigned => 403,
            Self::UnknownLog(_) => 404,
            Self::Conflict { .. } => 409,
            Self::Inconsistent => 422,
        }
    }

    /// Content type and body of the answer.
    pub fn answer(&self) -> (&'static str, String) {
        match self {
            Self::Conflict { size } => (SIZE_TYPE, format!("{size}\n")),
            other => ("text/plain; charset=utf-8", format!("{other}\n")),
        }
    }
}

/// The log that a submission speaks of, once a trusted key of it signed its checkpoint.
///
/// # Errors
/// [`Refusal::Malformed`], [`Refusal::UnknownLog`], [`Refusal::NotSigned`].
pub fn trusted(submission: &Submission, keys: &[VerifierKey]) -> Result<Checkpoint, Refusal> {
    let claimed = Checkpoint::parse_unverified(&submission.checkpoint);
    let claimed = claimed.map_err(|_| Refusal::Malformed("the checkpoint is not one"))?;
    let is_of = |key: &&VerifierKey| key.kind() == KeyKind::Log && key.name() == claimed.origin;
    if !keys.iter().any(|key| is_of(&key)) {
        return Err(Refusal::UnknownLog(claimed.origin));
    }
    Checkpoint::open(&submission.checkpoint, &claimed.origin, keys).map_err(|_| Refusal::NotSigned)
}

/// Whether a trusted checkpoint may be signed after `seen`. What passes is what must be kept before it is.
///
/// # Errors
/// [`Refusal::Malformed`], [`Refusal::Conflict`], [`Refusal::Inconsistent`].
pub fn judge(submission: &Submission, checkpoint: &Checkpoint, seen: Seen) -> Result<Seen, Refusal> {
    if submission.old > checkpoint.size {
        return Err(Refusal::Malformed("the old size is above the checkpoint's"));
    }
    let is_another = checkpoint.size == seen.size && checkpoint.root != seen.root;
    if submission.old != seen.size || is_another {
        return Err(Refusal::Conflict { size: seen.size });
    }
    match tree::verify_consistency(seen.size, checkpoint.size, &submission.proof, &seen.root, &checkpoint.root) {
        true => Ok(Seen { size: checkpoint.size, root: checkpoint.root }),
        false => Err(Refusal::Inconsistent),
    }
}

/// The lines of a witness's answer that `key` wrote for this checkpoint; others count for nothing.
pub fn lines_of(answer: &[u8], checkpoint: &str, key: &VerifierKey) -> Option<String> {
    let lines = std::str::from_utf8(answer).ok().filter(|lines| lines.len() <= ANSWER_BYTES_MAX)?;
    let whole = Note::parse(&format!("{checkpoint}{lines}")).ok()?;
    whole.signatures().iter().find_map(|signature| {
        let line = signature.line();
        let note = Note::parse(&format!("{checkpoint}{line}")).ok()?;
        let is_own = signature.name == key.name() && signature.key_id == key.id();
        (is_own && !note.cosigned_by(std::slice::from_ref(key)).is_empty()).then_some(line)
    })
}

/// The size that an answer to a conflict tells.
pub fn size_of(answer: &[u8]) -> Option<u64> {
    std::str::from_utf8(answer).ok()?.strip_suffix('\n').and_then(parse_decimal)
}

#[cfg(test)]
#[path = "witness_tests.rs"]
mod tests;
