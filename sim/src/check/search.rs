//! A question to the audit trail is answered in full (SPEC, section 3): what a replica finds by its search indexes, in its
//! open segment and in its tail is what a reader of all its leaves finds, in the order asked.

use nethical_audit::filter::Filter;
use nethical_protocol::ids::{GroupId, NodeId};

use super::{Findings, Log};

/// What one replica found.
pub struct Searched {
    /// In the log of this group.
    pub group: GroupId,
    /// On this node.
    pub node: NodeId,
    /// What was asked.
    pub filter: Filter,
    /// Oldest first.
    pub ascending: bool,
    /// Places in the log in the order given, or why there was no answer.
    pub found: Result<Vec<u64>, String>,
}

/// Answers that are not what the leaves say.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let judged = findings.searches.iter().filter_map(|searched| {
        let log = findings.logs.get(&(searched.group, searched.node))?;
        let why = match &searched.found {
            Ok(found) => differs(log, searched, found)?,
            // A rotten copy is refused by name; another replica answers.
            Err(why) => why.clone(),
        };
        let Searched { group, node, filter, .. } = searched;
        Some(format!("group {group} on node {node}, asked for {filter:?}: {why}"))
    });
    judged.collect()
}

fn differs(log: &Log, searched: &Searched, found: &[u64]) -> Option<String> {
    let matching = log.leaves.iter().filter(|leaf| searched.filter.matches(leaf)).map(|leaf| leaf.leaf_index);
    let wanted: Vec<u64> = if searched.ascending { matching.collect() } else { matching.rev().collect() };
    let first =
        wanted.iter().zip(found).position(|(left, right)| left != right).unwrap_or(wanted.len().min(found.len()));
    let told = || format!("{} found, {} there; they part at the {first}th", found.len(), wanted.len());
    (wanted != found).then(told)
}
