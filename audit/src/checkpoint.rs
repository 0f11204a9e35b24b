//! C2SP checkpoints (c2sp.org/tlog-checkpoint v1.0.0): origin, size and root of one log, as a signed note.
//!
//! Any replica may sign a prefix that it has applied (ARCHITECTURE 10); nothing here knows what is applied. No
//! extension lines are written; those of others are refused, since nothing audits them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::note::{KeyKind, Note, NoteError, Signer, VerifierKey};
use crate::tree::Hash;

/// Size and root of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: `<cluster>/p/<group>/<era>`, see `LogId::origin`.
    pub origin: String,
    /// Leaves covered.
    pub size: u64,
    /// RFC 6962 root of these leaves.
    pub root: Hash,
}

/// Why text is not a checkpoint that can be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a note, or not signed by a known key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note's text is not three lines of origin, size and root.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// It speaks of another log than the one asked about.
    #[error("the checkpoint is of log {found:?}, not of {wanted:?}")]
    Origin {
        /// The log asked about.
        wanted: String,
        /// The checkpoint's origin.
        found: String,
    },
}

impl Checkpoint {
    /// The note's text.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// The signed note. The signer's name is the origin.
    pub fn sign(&self, signer: &Signer) -> String {
        assert_eq!(signer.name(), self.origin, "a log's checkpoints are signed under its own origin");
        signer.sign(&self.text())
    }

    /// The note that several keys of the log signed, a line each, in their order; none where there is no key.
    pub fn sign_by(&self, signers: &[Signer]) -> Option<String> {
        let (first, others) = signers.split_first()?;
        let text = self.text();
        Some(others.iter().fold(self.sign(first), |note, signer| note + &signer.line(&text)))
    }

    /// Reads a note's text.
    pub fn parse_text(text: &str) -> Result<Self, CheckpointError> {
        let refuse = CheckpointError::Malformed;
        let body = text.strip_suffix('\n').ok_or(refuse("it does not end in a newline"))?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(refuse("three lines are wanted: origin, size, root"));
        };
        if origin.is_empty() {
            return Err(refuse("the origin is empty"));
        }
        let size = parse_decimal(size).ok_or(refuse("the size is not a decimal number"))?;
        let root = parse_hash(root).ok_or(refuse("the root is not a base64 SHA-256 value"))?;
        Ok(Self { origin: origin.to_owned(), size, root })
    }

    /// Reads a signed checkpoint of the log `origin` that one of `keys` under that name signed.
    pub fn open(note: &str, origin: &str, keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        let own: Vec<VerifierKey> =
            keys.iter().filter(|key| key.kind() == KeyKind::Log && key.name() == origin).cloned().collect();
        let claimed = Self::parse_text(note.text_unverified())?;
        if claimed.origin != origin {
            return Err(CheckpointError::Origin { wanted: origin.to_owned(), found: claimed.origin });
        }
        note.verify(&own)?;
        Ok(claimed)
    }

    /// Reads a checkpoint without looking at signatures; for choosing, never for believing.
    pub fn parse_unverified(note: &str) -> Result<Self, CheckpointError> {
        Self::parse_text(Note::parse(note)?.text_unverified())
    }
}

/// Decimal digits without leading zeros, as these formats write numbers.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if canonical { text.parse().ok() } else { None }
}

/// A hash in standard base64.
pub(crate) fn parse_hash(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::from_seed("demo/p/2/1", &[7; 32]).expect("a good name")
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "demo/p/2/1".into(), size: 20_852_163, root: [9; 32] }
    }

    #[test]
    fn a_checkpoint_reads_back_as_signed() {
        let text = checkpoint().text();
        assert_eq!(text, "demo/p/2/1\n20852163\nCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=\n");
        let signed = checkpoint().sign(&signer());
        assert!(signed.starts_with(&text));
        assert_eq!(Checkpoint::open(&signed, "demo/p/2/1", &[signer().verifier_key()]), Ok(checkpoint()));
    }

    #[test]
    fn another_log_another_key_and_changed_text_are_refused() {
        let (signed, keys) = (checkpoint().sign(&signer()), [signer().verifier_key()]);
        assert!(matches!(Checkpoint::open(&signed, "demo/p/3/1", &keys), Err(CheckpointError::Origin { .. })));
        let other = [Signer::from_seed("demo/p/2/1", &[8; 32]).expect("a good name").verifier_key()];
        assert_eq!(Checkpoint::open(&signed, "demo/p/2/1", &other), Err(NoteError::NoKnownKey.into()));
        let wrong = NoteError::WrongSignature("demo/p/2/1".into());
        let changed = signed.replace("20852163", "20852164");
        assert_eq!(Checkpoint::open(&changed, "demo/p/2/1", &keys), Err(wrong.into()));
        // A key of the same zone that is named after another log does not speak for this one.
        let stranger = Signer::from_seed("demo/p/9/1", &[7; 32]).expect("a good name");
        let by_stranger = stranger.sign(&checkpoint().text());
        let both = [keys[0].clone(), stranger.verifier_key()];
        assert_eq!(Checkpoint::open(&by_stranger, "demo/p/2/1", &both), Err(NoteError::NoKnownKey.into()));
    }

    #[test]
    fn malformed_texts_are_refused() {
        let root = STANDARD.encode([9; 32]);
        for text in [
            String::new(),
            "a\n1\n".into(),
            format!("a\n01\n{root}\n"),
            format!("a\n+1\n{root}\n"),
            format!("a\n\n{root}\n"),
            format!("a\n99999999999999999999\n{root}\n"),
            format!("\n1\n{root}\n"),
            format!("a\n1\n{root}\nextension\n"),
            "a\n1\nAAAA\n".into(),
            format!("a\n1\n{root}"),
        ] {
            assert!(Checkpoint::parse_text(&text).is_err(), "{text:?}");
        }
    }
}
