//! Calls that wait to be written: one bounded queue for each lane to each peer, and the ticket that settles whether a
//! call without an answer was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use nethical_protocol::ids::NodeId;

use crate::world::WireError;

/// Bounds of one lane's queue to one peer. A call that does not fit is answered `NotSent` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueBounds {
    /// Calls that wait to be written (about 150 B each beside their bodies).
    pub calls_max: usize,
    /// Bytes of bodies that wait to be written.
    pub bytes_max: usize,
}

impl Default for QueueBounds {
    /// 4,096 calls and 32 MiB; with five lanes and nine peers 1.4 GiB at the very worst, when every peer hangs.
    fn default() -> Self {
        Self { calls_max: 4_096, bytes_max: 32 * 1024 * 1024 }
    }
}

type Answer = Result<Bytes, WireError>;

/// The end of a lane's queue where calls go in.
pub(super) struct LaneQueue {
    sender: mpsc::Sender<Queued>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl LaneQueue {
    /// A queue and its other end.
    pub(super) fn new(bounds: QueueBounds) -> (Self, mpsc::Receiver<Queued>) {
        let (sender, receiver) = mpsc::channel(bounds.calls_max);
        (Self { sender, bytes: Arc::default(), bytes_max: bounds.bytes_max }, receiver)
    }

    /// Queues a call; says why where it does not fit.
    pub(super) fn push(&self, kind: u16, body: Bytes) -> Result<Waiting, &'static str> {
        let room = Room::take(&self.bytes, body.len(), self.bytes_max).ok_or("the lane's queue is full of bytes")?;
        let (sender, answer) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        let queued = Queued { kind, body, ticket: ticket.clone(), answer: sender, _room: room };
        self.sender.try_send(queued).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "the lane's queue is full",
            mpsc::error::TrySendError::Closed(_) => "the peer is gone",
        })?;
        Ok(Waiting { ticket, answer })
    }
}

/// A call in the queue.
pub(super) struct Queued {
    pub(super) kind: u16,
    pub(super) body: Bytes,
    pub(super) ticket: Arc<Ticket>,
    pub(super) answer: oneshot::Sender<Answer>,
    _room: Room,
}

/// Bytes taken from a queue's bound, given back when dropped.
struct Room {
    bytes: Arc<AtomicUsize>,
    taken: usize,
}

impl Room {
    fn take(bytes: &Arc<AtomicUsize>, taken: usize, most: usize) -> Option<Self> {
        let before = bytes.fetch_add(taken, Ordering::Relaxed);
        let room = Self { bytes: bytes.clone(), taken };
        (before + taken <= most).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

const QUEUED: u8 = 0;
const WRITTEN: u8 = 1;
const ABANDONED: u8 = 2;

/// Settles the race between a deadline and the writer: whoever moves it away from `QUEUED` first has decided whether
/// the call may have happened.
#[derive(Default)]
pub(super) struct Ticket(AtomicU8);

impl Ticket {
    /// For the writer: true where the caller still wants it sent. It counts as sent from here on.
    pub(super) fn write(&self) -> bool {
        self.leave_queue(WRITTEN)
    }

    /// For the caller: true where it has not been sent and never will be.
    pub(super) fn abandon(&self) -> bool {
        self.leave_queue(ABANDONED)
    }

    fn leave_queue(&self, to: u8) -> bool {
        self.0.compare_exchange(QUEUED, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A caller's end of a queued call.
pub(super) struct Waiting {
    ticket: Arc<Ticket>,
    answer: oneshot::Receiver<Answer>,
}

impl Waiting {
    /// Waits for the answer until `deadline` completes.
    pub(super) async fn answer(self, to: NodeId, deadline: BoxFuture<'static, ()>) -> Answer {
        let why = tokio::select! {
            biased;
            answer = self.answer => match answer {
                Ok(answer) => return answer,
                Err(_) => "the node stops",
            },
            () = deadline => "the deadline ran out",
        };
        match self.ticket.abandon() {
            true => Err(WireError::NotSent { to, why: why.into() }),
            false => Err(WireError::Lost { to, why: why.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn a_call_that_ran_out_of_time_is_either_written_or_not_sent() {
        let (queue, mut receiver) = LaneQueue::new(QueueBounds::default());
        let (one, two) = (queue.push(1, Bytes::new()).expect("room"), queue.push(2, Bytes::new()).expect("room"));
        assert!(receiver.recv().await.expect("queued").ticket.write());
        let over = || futures::future::ready(()).boxed();
        assert!(matches!(two.answer(NodeId(2), over()).await, Err(WireError::NotSent { .. })));
        assert!(!receiver.recv().await.expect("queued").ticket.write(), "an abandoned call is never written");
        assert!(matches!(one.answer(NodeId(2), over()).await, Err(WireError::Lost { .. })));
    }

    #[tokio::test]
    async fn both_bounds_refuse_and_room_comes_back() {
        let (queue, mut receiver) = LaneQueue::new(QueueBounds { calls_max: 3, bytes_max: 100 });
        let body = |length: usize| Bytes::from(vec![0; length]);
        assert!(queue.push(1, body(60)).is_ok());
        assert!(queue.push(1, body(60)).is_err(), "over the bytes");
        assert!(queue.push(1, body(40)).is_ok());
        drop(receiver.recv().await);
        assert!(queue.push(1, body(60)).is_ok(), "room came back");
        assert!(queue.push(1, body(0)).is_ok());
        assert!(queue.push(1, body(0)).is_err(), "over the calls");
    }
}
