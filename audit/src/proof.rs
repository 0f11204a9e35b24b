//! C2SP proofs (c2sp.org/tlog-proof@v1): one text that shows offline that a leaf is in a log.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index 42
//! <base64 hash>            zero or more, from the leaf's sibling up
//!                          an empty line
//! <signed checkpoint>
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, CheckpointError, parse_decimal, parse_hash};
use crate::note::VerifierKey;
use crate::tree::{self, Hash};

/// First line of every proof.
pub const FORMAT: &str = "c2sp.org/tlog-proof@v1";
/// Hashes in a proof; a tree of 2^63 leaves needs no more.
pub const HASHES_MAX: usize = 63;

/// A proof taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Opaque bytes that an application put beside it; not authenticated, never believed. We write none.
    pub extra: Option<Vec<u8>>,
    /// Where the leaf stands, from 0.
    pub index: u64,
    /// The audit path, from the leaf's sibling up.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

/// Why a proof does not show anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not the shape of a proof.
    #[error("not a tlog-proof: {0}")]
    Malformed(&'static str),
    /// Its checkpoint cannot be believed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not lead from the leaf to the checkpoint's root.
    #[error("the hashes do not lead from this leaf to the checkpoint's root")]
    NotIncluded,
}

impl Proof {
    /// The text form.
    pub fn encode(&self) -> String {
        let mut text = format!("{FORMAT}\n");
        if let Some(extra) = &self.extra {
            text += &format!("extra {}\n", STANDARD.encode(extra));
        }
        text += &format!("index {}\n", self.index);
        for hash in &self.hashes {
            text += &STANDARD.encode(hash);
            text.push('\n');
        }
        text.push('\n');
        text + &self.checkpoint
    }

    /// Reads the text form. The checkpoint is taken verbatim.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let refuse = ProofError::Malformed;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(refuse("there is no empty line"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FORMAT) {
            return Err(refuse("the first line is not the format's name"));
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            Some(encoded) => {
                lines.next();
                Some(STANDARD.decode(encoded).map_err(|_| refuse("the extra data is not base64"))?)
            }
            None => None,
        };
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(parse_decimal);
        let index = index.ok_or(refuse("there is no index line"))?;
        let hashes = lines.take(HASHES_MAX + 1).map(parse_hash).collect::<Option<Vec<_>>>();
        let hashes = hashes.ok_or(refuse("a line is not a base64 SHA-256 value"))?;
        if hashes.len() > HASHES_MAX {
            return Err(refuse("there are too many hashes"));
        }
        Ok(Self { extra, index, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// The checkpoint, once it is signed by one of `keys` for `origin` and the leaf is in its tree.
    pub fn verify(&self, leaf: &[u8], origin: &str, keys: &[VerifierKey]) -> Result<Checkpoint, ProofError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, origin, keys)?;
        let hash = tree::leaf_hash(leaf);
        let included = tree::verify_inclusion(&hash, self.index, checkpoint.size, &self.hashes, &checkpoint.root);
        if included { Ok(checkpoint) } else { Err(ProofError::NotIncluded) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Signer;
    use crate::tree::TileTree;

    fn proof() -> (Proof, Vec<VerifierKey>) {
        let signer = Signer::from_seed("demo/p/2/1", &[7; 32]).expect("a good name");
        let mut tree = TileTree::default();
        (0..5u8).for_each(|n| tree.append(tree::leaf_hash(&[n])));
        let checkpoint = Checkpoint { origin: "demo/p/2/1".into(), size: 5, root: tree.root() }.sign(&signer);
        let hashes = tree.inclusion_proof(3, 5, &|_| None).expect("in range");
        (Proof { extra: None, index: 3, hashes, checkpoint }, vec![signer.verifier_key()])
    }

    #[test]
    fn a_proof_reads_back_and_convinces() {
        let (proof, keys) = proof();
        let text = proof.encode();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 3\n"));
        let back = Proof::parse(&text).expect("own text");
        assert_eq!(back, proof);
        assert_eq!(back.verify(&[3], "demo/p/2/1", &keys).map(|checkpoint| checkpoint.size), Ok(5));
        let with_extra = Proof { extra: Some(b"beside".to_vec()), ..proof };
        assert_eq!(Proof::parse(&with_extra.encode()), Ok(with_extra));
    }

    #[test]
    fn another_leaf_index_or_log_does_not_convince() {
        let (proof, keys) = proof();
        assert_eq!(proof.verify(&[2], "demo/p/2/1", &keys), Err(ProofError::NotIncluded));
        let moved = Proof { index: 2, ..proof.clone() };
        assert_eq!(moved.verify(&[3], "demo/p/2/1", &keys), Err(ProofError::NotIncluded));
        assert!(matches!(proof.verify(&[3], "demo/p/3/1", &keys), Err(ProofError::Checkpoint(_))));
    }

    #[test]
    fn malformed_texts_are_refused() {
        let text = proof().0.encode();
        for bad in [
            text.replace("@v1", "@v2"),
            text.replace("index 3", "index 03"),
            text.replace("index 3\n", ""),
            text.replace("index 3\n", "index 3\nAAAA\n"),
            text.replace("\n\n", "\n"),
            text.replace("index 3\n", &format!("index 3\n{}", format!("{}\n", STANDARD.encode([0; 32])).repeat(64))),
        ] {
            assert!(Proof::parse(&bad).is_err(), "{bad}");
        }
    }
}
