//! Closed audit segments hold the same on all replicas, and those that were never made anew are the same files, to the byte
//! (ARCHITECTURE.md 5), whatever their disks did. A body that was dropped somewhere counts as the one that it was.

use super::Findings;

/// Segments that differ between nodes, or do not read.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for ((group, first), copies) in &findings.segments {
        let (mut whole, mut file) = (None, None);
        for (node, copy) in copies {
            let copy = match copy {
                Ok(copy) => copy,
                Err(why) => {
                    found.push(format!("group {group} on node {node}: the segment at leaf {first}: {why}"));
                    continue;
                }
            };
            let (other, held) = *whole.get_or_insert((node, copy.records));
            if held != copy.records {
                found.push(format!("group {group}: nodes {other} and {node} have other records from leaf {first} on"));
            }
            let Some(own) = copy.file else { continue };
            let (other, held) = *file.get_or_insert((node, own));
            if held != own {
                found.push(format!("group {group}: nodes {other} and {node} have other segments at leaf {first}"));
            }
        }
    }
    found
}
