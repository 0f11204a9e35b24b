//! One peer as this node calls it: an address, two connections that are kept up, and a queue for each lane.
//!
//! Dropping it ends its tasks: the dialers notice that the address is gone, the lanes that the dialers are.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::Connection;
use tokio::sync::watch;

use super::dial::Dialer;
use super::lane::LaneTask;
use super::queue::{LaneQueue, QueueBounds};
use crate::world::Lane;

/// Dials that must fail in a row before calls are refused without being queued.
const BREAKER_FAILURES: u32 = 2;

/// The state of one connection to a peer, from its dialer to its lanes.
#[derive(Clone)]
pub(super) enum Link {
    /// There is one.
    Up(Connection),
    /// There is none.
    Down {
        /// Dials that have failed in all; a lane gives up its queue whenever this has grown.
        failed: u64,
        /// Dials that have failed, or connections that broke at once, since the last one that held.
        failed_in_a_row: u32,
        /// What stood in the way the last time.
        why: Arc<str>,
    },
}

/// A peer.
pub(super) struct Peer {
    address: watch::Sender<SocketAddr>,
    /// The connection for pulses, then the one for the rest.
    links: [watch::Receiver<Link>; 2],
    /// By the lane's position.
    lanes: [LaneQueue; Lane::ALL.len()],
}

impl Peer {
    /// Starts both dialers and all lanes.
    pub(super) fn start(dialer: Dialer, address: SocketAddr, bounds: QueueBounds) -> Self {
        let (sender, receiver) = watch::channel(address);
        let links = [dialer.clone().start(receiver.clone()), dialer.clone().start(receiver)];
        let lanes = Lane::ALL.map(|lane| {
            let (queue, calls) = LaneQueue::new(bounds);
            let task = LaneTask::new(&dialer, lane, calls, links[link_of(lane)].clone());
            dialer.scope.spawn(task.run());
            queue
        });
        Self { address: sender, links, lanes }
    }

    /// The queue of a lane.
    pub(super) fn lane(&self, lane: Lane) -> &LaneQueue {
        &self.lanes[lane as usize]
    }

    /// Why calls are refused without being queued, where the peer has failed repeatedly.
    pub(super) fn refuses(&self, lane: Lane) -> Option<String> {
        match &*self.links[link_of(lane)].borrow() {
            Link::Down { failed_in_a_row, why, .. } if *failed_in_a_row >= BREAKER_FAILURES => Some(why.to_string()),
            _ => None,
        }
    }

    /// The peer is elsewhere now.
    pub(super) fn move_to(&self, address: SocketAddr) {
        self.address.send_if_modified(|now| std::mem::replace(now, address) != address);
    }
}

/// Pulses have a connection of their own, so that its congestion window and its packets are never shared.
fn link_of(lane: Lane) -> usize {
    usize::from(lane != Lane::Pulse)
}
