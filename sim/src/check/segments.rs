//! Closed audit segments are the same files on all replicas, to the byte (ARCHITECTURE.md 5), whatever their disks did.

use super::Findings;

/// Segments that differ between nodes, or do not read.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for ((group, first), files) in &findings.segments {
        let mut whole = None;
        for (node, digest) in files {
            match digest {
                Err(why) => found.push(format!("group {group} on node {node}: the segment at leaf {first}: {why}")),
                Ok(digest) => {
                    let (other, held) = *whole.get_or_insert((node, digest));
                    if held != digest {
                        let nodes = format!("nodes {other} and {node}");
                        found.push(format!("group {group}: {nodes} have other segments at leaf {first}"));
                    }
                }
            }
        }
    }
    found
}
