//! What the tests share: a real cluster of processes, and a client's own history with the checks over it.
//!
//! Nothing here is linked into a node. Tests see the system as a user does: commands, doors, files, signals.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer: they start processes and read files")]

use base64::Engine;
use sha2::{Digest, Sha256};

pub mod cluster;
pub mod history;

/// The RFC 6962 leaf hash of a leaf in base64, as hex; recomputed apart from the code under test.
pub fn leaf_hash(leaf: &str) -> String {
    let bytes = base64::engine::general_purpose::STANDARD.decode(leaf).unwrap_or_default();
    hex::encode(Sha256::new_with_prefix([0]).chain_update(bytes).finalize())
}
