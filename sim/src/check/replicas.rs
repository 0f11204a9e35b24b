//! Replicas are equal (Ongaro's dissertation, state machine safety; ARCHITECTURE.md 3 and 5): the same leaves, each root
//! the root of its leaves, and after the same entry the same ledger, however it was come by.

use std::collections::BTreeMap;

use nethical_protocol::ids::{GroupId, NodeId};

use super::{Findings, Log};

/// Replicas that differ.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut firsts: BTreeMap<GroupId, (NodeId, &Log)> = BTreeMap::new();
    for ((group, node), log) in &findings.logs {
        if log.root != log.recomputed {
            let leaves = log.hashes.len();
            found.push(format!("group {group} on node {node}: its root is not the root of its {leaves} leaves"));
        }
        let misplaced = (0..).zip(&log.leaves).find(|(at, leaf)| leaf.leaf_index != *at || leaf.group != group.0);
        if let Some((at, leaf)) = misplaced {
            let claims = format!("leaf {} of group {}", leaf.leaf_index, leaf.group);
            found.push(format!("group {group} on node {node}: leaf {at} says that it is {claims}"));
        }
        let (first_node, first) = *firsts.entry(*group).or_insert((*node, log));
        let common = first.hashes.iter().zip(&log.hashes).take_while(|(left, right)| left == right).count();
        if common < first.hashes.len().min(log.hashes.len()) {
            found.push(format!("group {group}: nodes {first_node} and {node} differ from leaf {common} on"));
        }
        let ((position, digest), (other_position, other_digest)) = (first.ledger, log.ledger);
        if position == other_position && digest != other_digest {
            let (term, index) = position;
            let nodes = format!("nodes {first_node} and {node}");
            found.push(format!("group {group}: {nodes} have other ledgers after entry {index} of term {term}"));
        }
    }
    found
}
