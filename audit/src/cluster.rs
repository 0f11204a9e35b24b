//! Leaves of the cluster log: checkpoints of partitions' logs, verbatim, each with its log's own signature line alone.
//!
//! Says what shape such a leaf has and which log it speaks of. Whether its signature holds is for who has the key, and
//! whether its root is the right one for who has that log.

use nethical_protocol::ids::LogId;
use nethical_protocol::limits::LEAF_BYTES_MAX;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::note::{Note, NoteError, VerifierKey};

/// A leaf of the cluster log, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterLeaf {
    /// The log that it speaks of: a partition's.
    pub log: LogId,
    /// What it says. Not verified.
    pub checkpoint: Checkpoint,
    /// The id of the key that signed it.
    pub key_id: u32,
}

/// Why bytes are no leaf of a cluster's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterLeafError {
    /// Longer than any leaf, or not text.
    #[error("the leaf is not a text of at most {LEAF_BYTES_MAX} bytes")]
    Text,
    /// Not a signed checkpoint, or not to be believed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its origin is none of this cluster's partitions.
    #[error("{0:?} is no partition's log of this cluster")]
    Origin(String),
    /// It covers nothing.
    #[error("the checkpoint covers no leaf")]
    Empty,
    /// It has lines that the log itself did not write.
    #[error("the note has other signature lines than its log's own")]
    Lines,
}

impl ClusterLeaf {
    /// Takes a leaf apart. Pure, so that every replica judges alike.
    ///
    /// # Errors
    /// Where it is not of the one shape that a leaf of this cluster's log has.
    pub fn decode(cluster: &str, bytes: &[u8]) -> Result<Self, ClusterLeafError> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= LEAF_BYTES_MAX);
        let text = text.ok_or(ClusterLeafError::Text)?;
        let note = Note::parse(text).map_err(CheckpointError::from)?;
        let checkpoint = Checkpoint::parse_text(note.text_unverified())?;
        let log = LogId::of_origin(cluster, &checkpoint.origin).filter(|log| log.group.is_partition());
        let log = log.ok_or_else(|| ClusterLeafError::Origin(checkpoint.origin.clone()))?;
        if checkpoint.size == 0 {
            return Err(ClusterLeafError::Empty);
        }
        let [signature] = note.signatures() else { return Err(ClusterLeafError::Lines) };
        // Written anew it must be the same bytes: one checkpoint has one leaf.
        let is_own = signature.name == checkpoint.origin
            && text.strip_prefix(note.text_unverified()).and_then(|rest| rest.strip_prefix('\n'))
                == Some(signature.line().as_str());
        if is_own { Ok(Self { log, checkpoint, key_id: signature.key_id }) } else { Err(ClusterLeafError::Lines) }
    }

    /// Takes a leaf apart and believes it, where one of `keys` under its log's name signed it.
    ///
    /// # Errors
    /// As [`Self::decode`], and where nobody known signed it.
    pub fn open(cluster: &str, bytes: &[u8], keys: &[VerifierKey]) -> Result<Self, ClusterLeafError> {
        let leaf = Self::decode(cluster, bytes)?;
        let text = std::str::from_utf8(bytes).map_err(|_| ClusterLeafError::Text)?;
        Checkpoint::open(text, &leaf.checkpoint.origin, keys)?;
        Ok(leaf)
    }

    /// The leaf that a published checkpoint makes: what its log itself wrote of it, in one line, without cosignatures.
    ///
    /// # Errors
    /// Where the note is not a checkpoint of a partition's log that one of `keys` signed; the first one that did counts.
    pub fn of_note(cluster: &str, note: &str, keys: &[VerifierKey]) -> Result<(Self, String), ClusterLeafError> {
        let note = Note::parse(note).map_err(CheckpointError::from)?;
        let text = keys.iter().find_map(|key| note.only(key));
        let text = text.ok_or(CheckpointError::Note(NoteError::NoKnownKey))?;
        let leaf = Self::open(cluster, text.as_bytes(), keys)?;
        Ok((leaf, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Signer;
    use crate::note::cosign::Cosigner;

    fn signed(origin: &str, size: u64) -> (String, VerifierKey) {
        let signer = Signer::from_seed(origin, &[7; 32]).expect("a good name");
        (Checkpoint { origin: origin.into(), size, root: [9; 32] }.sign(&signer), signer.verifier_key())
    }

    #[test]
    fn a_published_checkpoint_makes_one_leaf_whoever_vouched_for_it() {
        let (note, key) = signed("demo/p/3/1", 5);
        let text = note.split_once("\n\n").expect("a note").0.to_owned() + "\n";
        let vouched = note.clone() + &Cosigner::from_seed("demo/n/1", &[3; 32]).expect("a good name").cosign(&text, 1);
        let (leaf, bytes) = ClusterLeaf::of_note("demo", &vouched, std::slice::from_ref(&key)).expect("a checkpoint");
        assert_eq!((bytes.as_str(), leaf.checkpoint.size, leaf.log.group.0), (note.as_str(), 5, 3));
        assert_eq!(ClusterLeaf::decode("demo", note.as_bytes()), Ok(leaf));
        assert_eq!(ClusterLeaf::decode("demo", vouched.as_bytes()), Err(ClusterLeafError::Lines));
    }

    #[test]
    fn what_is_no_partitions_checkpoint_is_refused() {
        for origin in
            ["demo/cluster/1", "demo/p/1/1", "demo/p/0/1", "demo/p/03/1", "other/p/3/1", "demo/p/3", "demo/p/3/1/1"]
        {
            let (note, _) = signed(origin, 5);
            assert!(
                matches!(ClusterLeaf::decode("demo", note.as_bytes()), Err(ClusterLeafError::Origin(_))),
                "{origin}"
            );
        }
        let (empty, _) = signed("demo/p/3/1", 0);
        assert_eq!(ClusterLeaf::decode("demo", empty.as_bytes()), Err(ClusterLeafError::Empty));
        assert!(ClusterLeaf::decode("demo", b"\xff").is_err() && ClusterLeaf::decode("demo", &[b'a'; 2_000]).is_err());
        let (note, _) = signed("demo/p/3/1", 5);
        let (_, stranger) = signed("demo/p/4/1", 5);
        assert!(ClusterLeaf::open("demo", note.as_bytes(), &[stranger]).is_err());
    }
}
