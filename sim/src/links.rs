//! The state of every directed link: its latency, and what faults do to it now. Both wires ask here before each message.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use nethical_cluster::world::Clock;
use nethical_protocol::ids::NodeId;

use crate::clock::SimClock;

/// What a message meets on its way from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// Nothing passes.
    pub is_cut: bool,
    /// Of a thousand messages, lost.
    pub loss_permille: u32,
    /// Of a thousand messages, delivered twice.
    pub duplicate_permille: u32,
    /// Each message takes up to so much longer, by its own luck.
    pub jitter_ms: u64,
    /// One way.
    pub latency_ms: u64,
    /// What it carries, where that is bounded.
    pub bytes_per_s: Option<u64>,
}

/// What a fault does to links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Cut; with a period, only in every other one.
    Cut(Option<Duration>),
    /// Loses so many of a thousand.
    Loss(u32),
    /// Doubles so many of a thousand.
    Duplicate(u32),
    /// Up to so many milliseconds more, by luck.
    Jitter(u64),
    /// So many milliseconds more.
    Delay(u64),
    /// Bytes a second.
    Bandwidth(u64),
}

/// An effect on some links since some time.
struct Active {
    from: BTreeSet<NodeId>,
    to: BTreeSet<NodeId>,
    effect: Effect,
    since: Duration,
}

/// All links. A clone is the same.
#[derive(Clone)]
pub struct Links {
    clock: SimClock,
    latency_ms: Arc<BTreeMap<(NodeId, NodeId), u64>>,
    active: Arc<Mutex<BTreeMap<u32, Active>>>,
}

impl Links {
    /// Links with these one-way latencies in milliseconds, where nothing is wrong.
    pub fn new(clock: SimClock, latency_ms: BTreeMap<(NodeId, NodeId), u64>) -> Self {
        Self { clock, latency_ms: Arc::new(latency_ms), active: Arc::default() }
    }

    /// A fault begins. An empty list of nodes means all.
    pub fn begin(&self, fault: u32, from: &[u64], to: &[u64], effect: Effect) {
        let set = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect();
        let active = Active { from: set(from), to: set(to), effect, since: self.clock.now() };
        self.active.lock().insert(fault, active);
    }

    /// A fault ends.
    pub fn end(&self, fault: u32) {
        self.active.lock().remove(&fault);
    }

    /// What a message from one node to another meets now. Delays add up; of the rest the worst counts.
    pub fn condition(&self, from: NodeId, to: NodeId) -> Link {
        let latency_ms = self.latency_ms.get(&(from, to)).copied().unwrap_or(1);
        let mut link = Link { latency_ms, ..Link::default() };
        let active = self.active.lock();
        let touches = |set: &BTreeSet<NodeId>, node: NodeId| set.is_empty() || set.contains(&node);
        for fault in active.values().filter(|fault| touches(&fault.from, from) && touches(&fault.to, to)) {
            match fault.effect {
                Effect::Cut(None) => link.is_cut = true,
                Effect::Cut(Some(period)) => {
                    let periods = self.clock.now().saturating_sub(fault.since).as_millis() / period.as_millis().max(1);
                    link.is_cut |= periods.is_multiple_of(2);
                }
                Effect::Loss(permille) => link.loss_permille = link.loss_permille.max(permille),
                Effect::Duplicate(permille) => link.duplicate_permille = link.duplicate_permille.max(permille),
                Effect::Jitter(jitter_ms) => link.jitter_ms = link.jitter_ms.max(jitter_ms),
                Effect::Delay(delay_ms) => link.latency_ms += delay_ms,
                Effect::Bandwidth(bytes) => {
                    link.bytes_per_s = Some(link.bytes_per_s.map_or(bytes, |so_far| so_far.min(bytes)));
                }
            }
        }
        link
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn faults_add_up_and_end_one_by_one() {
        let clock = SimClock::begin();
        let (one, two) = (NodeId(1), NodeId(2));
        let links = Links::new(clock.clone(), BTreeMap::from([((one, two), 40)]));
        links.begin(1, &[1], &[2], Effect::Cut(None));
        links.begin(2, &[1], &[2], Effect::Cut(Some(Duration::from_millis(100))));
        links.begin(3, &[], &[], Effect::Delay(5));
        assert_eq!(links.condition(one, two), Link { is_cut: true, latency_ms: 45, ..Link::default() });
        assert_eq!(links.condition(two, one), Link { latency_ms: 6, ..Link::default() });
        links.end(1);
        assert!(links.condition(one, two).is_cut);
        clock.sleep(Duration::from_millis(150)).await;
        assert!(!links.condition(one, two).is_cut, "the second period of a flapping link is whole");
        links.end(3);
        assert_eq!(links.condition(one, two).latency_ms, 40);
    }
}
