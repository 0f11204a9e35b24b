//! The cluster log says of every log what is so (C2SP tlog-checkpoint; RFC 6962, section 3): its copies are equal, each of
//! its leaves is a checkpoint with the root that the log has at that size, and a witness outside saw no other tree.

use std::collections::BTreeMap;

use nethical_audit::tree::{Frontier, leaf_hash};
use nethical_audit::verify::cluster::Claims;
use nethical_protocol::ids::GroupId;

use super::Findings;
use crate::world::CLUSTER;

/// What is not so.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let mut found = differ(findings);
    let Some(longest) = findings.cluster.values().max_by_key(|leaves| leaves.len()) else { return found };
    found.extend(untrue(findings, longest));
    found.extend(split(findings, longest));
    found
}

/// Copies that differ.
fn differ(findings: &Findings<'_>) -> Vec<String> {
    let Some((first, leaves)) = findings.cluster.first_key_value() else { return Vec::new() };
    let common = |other: &Vec<Vec<u8>>| leaves.iter().zip(other).take_while(|(left, right)| left == right).count();
    let differs = |other: &Vec<Vec<u8>>| common(other) < leaves.len().min(other.len());
    let others = findings.cluster.iter().filter(|(_, other)| differs(other));
    others.map(|(node, other)| format!("nodes {first} and {node} differ from leaf {} on", common(other))).collect()
}

/// Leaves that are no checkpoint, or one of another history.
fn untrue(findings: &Findings<'_>, leaves: &[Vec<u8>]) -> Vec<String> {
    let mut claims = Claims::default();
    for (at, leaf) in leaves.iter().enumerate() {
        if let Err(why) = claims.add(CLUSTER, leaf, &[], &findings.signing.generations) {
            return vec![format!("leaf {at}: {why}")];
        }
    }
    let longest = findings.longest();
    let judged = claims.logs().filter_map(|log| {
        let hashes = &longest.get(&log.group)?.hashes;
        match claims.hold(log, hashes) {
            Ok([]) => None,
            Ok([beyond, ..]) => Some(format!(
                "leaf {} covers {} leaves of group {}, only {} are anywhere",
                beyond.index,
                beyond.size,
                log.group,
                hashes.len()
            )),
            Err(unheld) => Some(format!("group {}: {}", log.group, unheld.reason)),
        }
    });
    judged.collect()
}

/// Trees that the witness signed and that are not this log's.
fn split(findings: &Findings<'_>, leaves: &[Vec<u8>]) -> Vec<String> {
    let mut roots = BTreeMap::new();
    let mut tree = Frontier::default();
    for leaf in leaves {
        tree.append(leaf_hash(leaf));
        roots.insert(tree.size(), tree.root());
    }
    let group = GroupId::CONTROL;
    let other = findings.witnessed.iter().filter(|(size, root)| roots.get(size) != Some(root));
    other.map(|(size, _)| format!("the witness signed a tree of {size} leaves that group {group} never had")).collect()
}
