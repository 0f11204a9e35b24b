//! Looks into the nodes while they run: who leads, and how far and with which root each log has come.
//!
//! It checks two things all the time: no term of a group has two leaders, and two logs of equal length have equal
//! roots, on all nodes and for ever, whatever power was lost in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use nethical_cluster::replicate::group::Leadership;
use nethical_cluster::replicate::machine::Machine;
use nethical_cluster::world::Clock;
use nethical_protocol::ids::{GroupId, NodeId};

use crate::trace::Field;
use crate::world::{Fleet, Living};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(50);

/// What was seen so far. A clone is the same monitor.
#[derive(Clone, Default)]
pub struct Monitor {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    seen: BTreeMap<(NodeId, GroupId), Leadership>,
    leaders: BTreeMap<(GroupId, u64), NodeId>,
    sizes: BTreeMap<(NodeId, GroupId), u64>,
    roots: BTreeMap<(GroupId, u64), ([u8; 32], NodeId)>,
    leader_changes: u64,
}

impl Monitor {
    /// Looks again and again. Runs until it is ended from outside.
    pub async fn watch(self, fleet: Fleet) {
        loop {
            self.look(&fleet);
            fleet.clock().sleep(EVERY).await;
        }
    }

    /// Looks once.
    pub fn look(&self, fleet: &Fleet) {
        let mut inner = self.inner.lock();
        for (node, living) in fleet.living() {
            for (group, leadership) in leaderships(&living) {
                inner.note_leadership(fleet, node, group, leadership);
            }
            let control = living.governor.core().control.read().clone();
            if let Some(plain) = control {
                let (size, root) = plain.machine.lock().log.tree();
                if inner.sizes.get(&(node, GroupId::CONTROL)) != Some(&size) {
                    inner.note_root(fleet, node, GroupId::CONTROL, size, root);
                }
            }
            for replica in living.governor.core().partitions() {
                let (group, machine) = (replica.group.id(), replica.machine.lock());
                if inner.sizes.get(&(node, group)) != Some(&machine.leaves()) {
                    let (size, root) = machine.tree();
                    inner.note_root(fleet, node, group, size, root);
                }
            }
        }
    }

    /// Times that some node began to lead some group.
    pub fn leader_changes(&self) -> u64 {
        self.inner.lock().leader_changes
    }
}

impl Inner {
    fn note_leadership(&mut self, fleet: &Fleet, node: NodeId, group: GroupId, now: Leadership) {
        let before = self.seen.insert((node, group), now).unwrap_or_default();
        if before == now {
            return;
        }
        fleet.event(
            Some(node),
            "leader",
            &[
                ("group", Field::Number(u64::from(group.0))),
                ("term", Field::Number(now.term)),
                ("leader", now.leader.map_or(Field::None, |leader| Field::Number(leader.0))),
                ("here", Field::Flag(now.here)),
            ],
        );
        if now.here && !(before.here && before.term == now.term) {
            self.leader_changes += 1;
            let first = *self.leaders.entry((group, now.term)).or_insert(node);
            if first != node {
                let term = now.term;
                let what = format!("term {term} of group {group} has two leaders: nodes {first} and {node}");
                fleet.watch().violated("one-leader", what);
            }
        }
    }

    fn note_root(&mut self, fleet: &Fleet, node: NodeId, group: GroupId, size: u64, root: [u8; 32]) {
        self.sizes.insert((node, group), size);
        let (first, seen_on) = *self.roots.entry((group, size)).or_insert((root, node));
        if first != root {
            let (first, root) = (hex::encode(first), hex::encode(root));
            let what = format!("group {group} at {size} leaves: root {first} on node {seen_on}, {root} on node {node}");
            fleet.watch().violated("one-root", what);
        }
    }
}

/// Who leads each group, as one node knows.
pub fn leaderships(living: &Living) -> Vec<(GroupId, Leadership)> {
    let core = living.governor.core();
    let meta = core.meta.read().as_ref().map(|plain| (GroupId::META, *plain.group.leadership().borrow()));
    let control = core.control.read().as_ref().map(|plain| (GroupId::CONTROL, *plain.group.leadership().borrow()));
    let partitions = core.partitions();
    let partitions = partitions.iter().map(|replica| (replica.group.id(), *replica.group.leadership().borrow()));
    meta.into_iter().chain(control).chain(partitions).collect()
}
