//! Placement by consistent hashing: slots to groups, groups to nodes, regions spread.
//!
//! `hashring` finds the point; the walk that skips regions already taken is ours. Points are hashed from raw bytes
//! under fixed SipHash keys, inserted in sorted order, and pinned by golden tests: two nodes that disagree here would
//! route the same agent to different groups.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use hashring::HashRing;
use serde::{Deserialize, Serialize};

use crate::ids::{GroupId, NodeId, Slot};
use crate::limits::{RING_POINTS_PER_NODE, SLOTS};

/// A member that groups can be placed on.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct RingNode {
    /// The node.
    pub node: NodeId,
    /// Its region.
    pub region: String,
}

/// One point of a node: hashes as exactly sixteen raw bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Point {
    owner: u64,
    copy: u32,
}

/// A key that hashes as exactly its bytes (`str` would add a 0xff, slices their length).
struct Raw<'a>(&'a [u8]);

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0u8; 16];
        bytes[..8].copy_from_slice(&self.owner.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.copy.to_le_bytes());
        bytes[12..].copy_from_slice(b"ring");
        state.write(&bytes);
    }
}

impl Hash for Raw<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

fn ring_of(owners: impl IntoIterator<Item = u64>) -> HashRing<Point> {
    let owners: BTreeSet<u64> = owners.into_iter().collect();
    let mut ring = HashRing::new();
    let points =
        owners.into_iter().flat_map(|owner| (0..RING_POINTS_PER_NODE).map(move |copy| Point { owner, copy })).collect();
    ring.batch_add(points);
    ring
}

/// The owners, of whom there are `count`, in clockwise order from `key`, each once.
fn walk(ring: &HashRing<Point>, count: usize, key: &[u8]) -> Vec<u64> {
    // Some points past the first one nearly always name all of them; if not, all points do.
    let all = ring.len().saturating_sub(1);
    for points in [(count * 16).min(all), all] {
        let mut seen = BTreeSet::new();
        let found = ring.get_with_replicas(&Raw(key), points).unwrap_or_default();
        let owners: Vec<u64> =
            found.into_iter().filter(|point| seen.insert(point.owner)).map(|point| point.owner).collect();
        if owners.len() == count || points == all {
            return owners;
        }
    }
    Vec::new()
}

/// The first filling of a zone's slot table: 4,096 slots over partition groups, by consistent hashing.
///
/// `partitions` groups numbered from [`GroupId::FIRST_PARTITION`]. The table is epoch-numbered state afterwards and
/// changes only by slot moves; this function is used once, when the zone is made.
pub fn fill_slots(partitions: u32) -> Vec<GroupId> {
    let ring = ring_of((0..partitions).map(|n| u64::from(GroupId::FIRST_PARTITION + n)));
    (0..SLOTS)
        .map(|slot| {
            let mut key = *b"slot00";
            key[4..].copy_from_slice(&Slot(slot).0.to_le_bytes());
            let point = ring.get(&Raw(&key)).expect("a zone has at least one partition");
            GroupId(point.owner as u32)
        })
        .collect()
}

/// The nodes of a group's replicas: a clockwise walk that takes a new region as long as there is one left.
pub fn place_group(group: GroupId, nodes: &[RingNode], replicas: usize) -> Vec<NodeId> {
    place_on(&ring_of(nodes.iter().map(|node| node.node.0)), group, nodes, replicas)
}

/// [`place_group`] for many groups, which costs hardly more than for one: the ring is what takes long.
pub fn place_groups(
    groups: impl IntoIterator<Item = GroupId>,
    nodes: &[RingNode],
    replicas: usize,
) -> BTreeMap<GroupId, Vec<NodeId>> {
    let ring = ring_of(nodes.iter().map(|node| node.node.0));
    groups.into_iter().map(|group| (group, place_on(&ring, group, nodes, replicas))).collect()
}

fn place_on(ring: &HashRing<Point>, group: GroupId, nodes: &[RingNode], replicas: usize) -> Vec<NodeId> {
    let mut key = *b"group0000";
    key[5..].copy_from_slice(&group.0.to_le_bytes());
    let order = walk(ring, nodes.len(), &key);
    let region_of = |id: u64| nodes.iter().find(|node| node.node.0 == id).map(|node| node.region.as_str());
    let (mut chosen, mut regions) = (Vec::new(), BTreeSet::new());
    for id in &order {
        if chosen.len() < replicas && regions.insert(region_of(*id)) {
            chosen.push(NodeId(*id));
        }
    }
    let rest = order.into_iter().map(NodeId).filter(|id| !chosen.contains(id)).collect::<Vec<_>>();
    chosen.extend(rest.into_iter().take(replicas.saturating_sub(chosen.len())));
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u64, regions: u64) -> Vec<RingNode> {
        (1..=count).map(|n| RingNode { node: NodeId(n), region: format!("region-{}", n % regions) }).collect()
    }

    #[test]
    fn the_first_slot_table_is_pinned_for_ever() {
        let table = fill_slots(12);
        let start: Vec<u32> = table[..16].iter().map(|group| group.0).collect();
        assert_eq!(start, PINNED_SLOTS);
        let mut counts = std::collections::BTreeMap::new();
        table.iter().for_each(|group| *counts.entry(group.0).or_insert(0u32) += 1);
        assert_eq!(counts.len(), 12, "every partition owns slots");
        let most = *counts.values().max().expect("counts");
        assert!(most * 12 < 4096 * 13 / 10, "the fullest partition has {most} of 4,096 slots");
    }

    /// Never edit: a changed number means that every stored ledger is in the wrong group.
    const PINNED_SLOTS: [u32; 16] = [12, 13, 5, 5, 10, 2, 6, 3, 8, 13, 4, 10, 6, 2, 7, 9];

    #[test]
    fn replicas_stand_in_different_regions_while_there_are_any() {
        for group in 0..60 {
            let placed = place_group(GroupId(group), &nodes(9, 3), 3);
            let regions: BTreeSet<u64> = placed.iter().map(|node| node.0 % 3).collect();
            assert_eq!((placed.len(), regions.len()), (3, 3), "group {group}");
        }
        let together = place_groups((0..60).map(GroupId), &nodes(9, 3), 3);
        assert!((0..60).all(|group| together[&GroupId(group)] == place_group(GroupId(group), &nodes(9, 3), 3)));
        assert_eq!(place_group(GroupId(5), &nodes(3, 1), 3).len(), 3, "one region still gives three replicas");
        assert_eq!(place_group(GroupId(5), &nodes(2, 2), 3).len(), 2, "never a node twice");
    }

    #[test]
    fn an_eleventh_node_moves_about_an_eleventh() {
        let (before, after) = (nodes(10, 10), nodes(11, 11));
        let moved = (0..2_000)
            .filter(|group| place_group(GroupId(*group), &before, 1) != place_group(GroupId(*group), &after, 1))
            .count();
        assert!((120..260).contains(&moved), "{moved} of 2,000 moved; 182 are ideal");
    }
}
