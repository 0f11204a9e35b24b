//! Keys that verify checkpoints, of all generations, and the request to turn them. Public halves only.

use serde::{Deserialize, Serialize};

use nethical_audit::generations::{Generation, Generations};
use nethical_audit::note::{KeyKind, VerifierKey};
use nethical_protocol::limits::OVERLAP_S_DEFAULT;

use crate::control::signing::{CosignerKey, Signing, ZoneKey};

/// Keys that verify checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifierKeys {
    /// The cluster's name, first part of every origin.
    pub cluster: String,
    /// C2SP verifier keys `name+id+key` of the newest generation.
    pub vkeys: Vec<String>,
    /// The cluster log's verifier key of the newest generation.
    pub cluster_log: String,
    /// Verifier keys of the witnesses that this node is told of.
    #[serde(default)]
    pub witnesses: Vec<String>,
    /// Verifier keys by which nodes vouch for checkpoints now, as far as they answered.
    #[serde(default)]
    pub cosigners: Vec<String>,
    /// All generations of the zone's signing key, oldest first.
    #[serde(default)]
    pub signing: Vec<ZoneKeyView>,
    /// All keys of those nodes that ever turned theirs, oldest first.
    #[serde(default)]
    pub cosigner_keys: Vec<CosignerKeyView>,
}

/// One generation of the zone's signing key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneKeyView {
    /// From 1.
    pub generation: u32,
    /// `turning`, `current`, `overlapping`, `retiring` (it signs nothing; its seed is not destroyed everywhere yet) or `retired`.
    pub state: String,
    /// The Ed25519 public key of all logs, hex; empty while it is `turning`.
    pub public: String,
    /// When it came into force, nanoseconds since 1970; 0 for the founding.
    pub since_ns: u64,
    /// When it was retired, or is to be; none while that is not known.
    pub until_ns: Option<u64>,
    /// Leaves of the cluster log when it came into force.
    pub since_leaf: u64,
    /// Leaves of the cluster log when it was retired.
    pub until_leaf: Option<u64>,
    /// Why it was made.
    pub reason: String,
    /// Nodes that are waited for.
    pub awaits: Vec<u64>,
}

/// One key by which a node vouches or vouched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CosignerKeyView {
    /// The node.
    pub node: u64,
    /// From 1.
    pub generation: u32,
    /// `current` or `retired`.
    pub state: String,
    /// The verifier key.
    pub vkey: String,
    /// When it was made, nanoseconds since 1970; 0 for the first one.
    pub since_ns: u64,
    /// When it was retired.
    pub until_ns: Option<u64>,
    /// Why it was made.
    pub reason: String,
}

/// Which key is to be turned, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RotateSpec {
    /// Why, for the record, at most `NAME_BYTES_MAX` bytes.
    pub reason: String,
    /// How long the old key of the zone signs beside the new one, seconds; a week where nothing is said. Where two sign already, 0
    /// ends that.
    pub overlap_s: Option<u64>,
    /// The node whose own key is turned, in place of the zone's.
    pub node: Option<u64>,
}

impl RotateSpec {
    /// The overlap that is meant.
    pub fn overlap_s(&self) -> u64 {
        self.overlap_s.unwrap_or(OVERLAP_S_DEFAULT)
    }
}

impl ZoneKeyView {
    /// All generations; `newest` is the only one before the first turn.
    pub(crate) fn all(signing: &Signing, newest: &Generation, awaits: &[u64]) -> Vec<Self> {
        let mut views: Vec<Self> = signing.keys().iter().map(|key| Self::of(key, signing.newest(), awaits)).collect();
        if views.is_empty() {
            views.push(Self::bare(*newest, "current"));
        }
        if let Some(asked) = signing.asked() {
            let next = Generation { number: signing.newest() + 1, ..*newest };
            let turning = Self::bare(next, "turning");
            let (reason, awaits) = (asked.reason.clone(), awaits.to_vec());
            views.push(Self { public: String::new(), since_ns: asked.at_ns, since_leaf: 0, reason, awaits, ..turning });
        }
        views
    }

    fn of(key: &ZoneKey, newest: u32, awaits: &[u64]) -> Self {
        let state = match (key.generation.is_in_force(), key.is_destroyed) {
            (true, _) if key.generation.number == newest => "current",
            (true, _) => "overlapping",
            (false, false) => "retiring",
            (false, true) => "retired",
        };
        let awaits = if state == "retiring" { awaits.to_vec() } else { Vec::new() };
        let (since_ns, until_ns, reason) = (key.since_ns, key.retired_ns.or(key.retires_ns), key.reason.clone());
        Self { since_ns, until_ns, reason, awaits, ..Self::bare(key.generation, state) }
    }

    fn bare(generation: Generation, state: &str) -> Self {
        let Generation { number, public, since_leaf, until_leaf } = generation;
        Self {
            generation: number,
            state: state.to_owned(),
            public: hex::encode(public),
            since_ns: 0,
            until_ns: None,
            since_leaf,
            until_leaf,
            reason: String::new(),
            awaits: Vec::new(),
        }
    }

    /// For whoever verifies; none while it is `turning`.
    pub fn generation(&self) -> Option<Generation> {
        let public = hex::decode(&self.public).ok()?.try_into().ok()?;
        let Self { generation: number, since_leaf, until_leaf, .. } = *self;
        Some(Generation { number, public, since_leaf, until_leaf })
    }
}

impl CosignerKeyView {
    pub(crate) fn all(node: u64, name: &str, keys: &[CosignerKey]) -> Vec<Self> {
        let view = |(at, key): (usize, &CosignerKey)| {
            let vkey = VerifierKey::new(name, KeyKind::Cosigner, key.public).ok()?.to_string();
            let state = if key.until_ns.is_some() { "retired" } else { "current" }.to_owned();
            let (since_ns, until_ns, reason) = (key.since_ns, key.until_ns, key.reason.clone());
            Some(Self { node, generation: at as u32 + 1, state, vkey, since_ns, until_ns, reason })
        };
        keys.iter().enumerate().filter_map(view).collect()
    }
}

impl VerifierKeys {
    /// All generations that there were, for whoever verifies. None where the node does not say.
    pub fn generations(&self) -> Generations {
        Generations(self.signing.iter().filter_map(ZoneKeyView::generation).collect())
    }

    /// The verifier keys by which nodes vouch and vouched.
    pub fn all_cosigners(&self) -> Vec<String> {
        let retired = self.cosigner_keys.iter().map(|key| &key.vkey);
        let mut all: Vec<String> = self.cosigners.iter().chain(retired).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}
