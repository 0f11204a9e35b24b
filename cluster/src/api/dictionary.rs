//! Dictionaries that tenants gave for their own bodies, as administrators see them.

use serde::{Deserialize, Serialize};

use nethical_protocol::control::ControlAck;

/// A dictionary that the zone keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DictionaryView {
    /// SHA-256 of its bytes, hex; bodies name it by the first four bytes.
    pub digest: String,
    /// The tenant that gave it first.
    pub tenant: String,
    /// Its bytes.
    pub bytes: usize,
    /// The control revision that keeps it.
    pub since: u64,
    /// The tenants whose new bodies are packed with it.
    pub packs: Vec<String>,
}

/// What became of a dictionary that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenDictionary {
    /// SHA-256 of its bytes, hex.
    pub digest: String,
    /// Whether it is in force.
    pub ack: ControlAck,
}
