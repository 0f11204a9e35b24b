//! Retired keys are gone, and none has signed since (ARCHITECTURE 10): long after healing every turn is complete, no machine
//! remembers a seed that is not in force, and every leaf of the cluster log is signed by a key that was in force at its place.

use nethical_audit::cluster::ClusterLeaf;
use nethical_audit::generations::Generations;
use nethical_protocol::ids::NodeId;

use super::Findings;
use crate::world::CLUSTER;

/// What was found of signing keys.
#[derive(Default)]
pub struct Keys {
    /// Turns that are not complete, in words.
    pub unfinished: Vec<String>,
    /// All generations of the zone's key.
    pub generations: Generations,
    /// The public keys of the seeds that each machine remembers, wherever.
    pub remembered: Vec<(NodeId, [u8; 32])>,
}

/// What is not so.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let Keys { unfinished, generations, remembered } = &findings.signing;
    let mut found = unfinished.clone();
    let in_force = |public: &[u8; 32]| generations.0.iter().any(|known| known.is_in_force() && known.public == *public);
    // Before the first turn there is the keyring's alone. A turn that is not complete may have its seed anywhere.
    if !generations.0.is_empty() && unfinished.is_empty() {
        let kept = remembered.iter().filter(|(_, public)| !in_force(public));
        found.extend(kept.map(|(node, public)| {
            let known = generations.0.iter().find(|known| known.public == *public);
            let which = known.map_or("no generation".to_owned(), |known| format!("generation {}", known.number));
            format!("node {node} remembers a seed of {which}, which is not in force")
        }));
    }
    let Some(longest) = findings.cluster.values().max_by_key(|leaves| leaves.len()) else { return found };
    found.extend(longest.iter().enumerate().filter_map(|(at, leaf)| {
        let leaf = ClusterLeaf::decode(CLUSTER, leaf).ok()?;
        let why = generations.may_have_signed(&leaf.checkpoint.origin, leaf.key_id, at as u64).err()?;
        Some(format!("leaf {at} of the cluster log: {why}"))
    }));
    found
}
