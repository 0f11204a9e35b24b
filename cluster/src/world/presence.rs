//! Who was heard from lately: the directory of a node that needs no other process for it.
//!
//! Advice for status and administration. Nothing safe may depend on it: a node that is missing here may be alive, and
//! one that is present may be gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use nethical_protocol::ids::NodeId;

use super::{Clock, Directory};

/// A node that was silent for longer than this is absent.
pub const PRESENT_FOR: Duration = Duration::from_secs(3);

/// The nodes heard from, with the time. Bounded by the number of nodes: silent ones are dropped.
pub struct PresenceTable {
    this: NodeId,
    clock: Arc<dyn Clock>,
    heard: Mutex<BTreeMap<NodeId, Duration>>,
}

impl PresenceTable {
    /// A table of the node `this`, which is always present to itself.
    pub fn new(this: NodeId, clock: Arc<dyn Clock>) -> Self {
        Self { this, clock, heard: Mutex::new(BTreeMap::new()) }
    }
}

impl Directory for PresenceTable {
    fn present(&self) -> Vec<NodeId> {
        let now = self.clock.now();
        let mut heard = self.heard.lock();
        heard.retain(|_, at| now.saturating_sub(*at) <= PRESENT_FOR);
        let mut nodes: Vec<NodeId> = heard.keys().copied().filter(|node| *node != self.this).collect();
        nodes.push(self.this);
        nodes.sort();
        nodes
    }

    fn heard(&self, node: NodeId, now: Duration) {
        let mut heard = self.heard.lock();
        let at = heard.entry(node).or_insert(now);
        *at = now.max(*at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::real::RealClock;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_is_present_for_three_seconds_after_it_was_heard() {
        let clock = Arc::new(RealClock::new());
        let table = PresenceTable::new(NodeId(2), clock.clone());
        table.heard(NodeId(3), clock.now());
        table.heard(NodeId(1), clock.now());
        assert_eq!(table.present(), [NodeId(1), NodeId(2), NodeId(3)]);
        clock.sleep(Duration::from_secs(2)).await;
        table.heard(NodeId(3), clock.now());
        clock.sleep(Duration::from_secs(2)).await;
        assert_eq!(table.present(), [NodeId(2), NodeId(3)], "node 1 was silent for four seconds");
    }
}
