//! One lane to one peer, the calling side: writes queued calls in order, many in one write, and hands answers back.
//!
//! The task outlives connections. What was written on a connection that breaks is `Lost`; what was not yet written
//! stays for the next one, and is `NotSent` as soon as a dial fails.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use nethical_protocol::frame;
use nethical_protocol::ids::NodeId;

use super::counters::WireCounters;
use super::dial::Dialer;
use super::framing::{Frame, FrameReader};
use super::hello::{KIND_NO_ANSWER, hello};
use super::peer::Link;
use super::queue::Queued;
use super::transport::{self, CLOSE_MALFORMED, CLOSE_STREAM};
use crate::world::{Clock, Lane, Scope, WireError};

/// Calls taken from the queue at once.
const TAKEN_CALLS_MAX: usize = 256;
/// A write ends with the frame that reaches this.
const WRITE_BYTES: usize = 64 * 1024;
/// Calls of one lane that are written and unanswered (about 60 B each). Past it the lane waits, and its queue fills.
const UNANSWERED_MAX: usize = 8_192;
/// How often a full table is searched for callers who no longer wait.
const SWEEP_EVERY: Duration = Duration::from_millis(10);

/// A lane's task.
pub(super) struct LaneTask {
    scope: Scope,
    clock: Arc<dyn Clock>,
    counters: Arc<WireCounters>,
    to: NodeId,
    lane: Lane,
    calls: mpsc::Receiver<Queued>,
    link: watch::Receiver<Link>,
    /// Taken from the queue and not yet written, in order.
    held: VecDeque<Queued>,
    taken: Vec<Queued>,
}

impl LaneTask {
    pub(super) fn new(dialer: &Dialer, lane: Lane, calls: mpsc::Receiver<Queued>, link: watch::Receiver<Link>) -> Self {
        let Dialer { scope, clock, counters, to, .. } = dialer.clone();
        Self { scope, clock, counters, to, lane, calls, link, held: VecDeque::new(), taken: Vec::new() }
    }

    /// Runs until the peer is dropped.
    pub(super) async fn run(mut self) {
        let mut seen = 0;
        loop {
            let link = self.link.borrow_and_update().clone();
            match link {
                Link::Up(connection) => self.session(connection).await,
                Link::Down { failed, why, .. } if failed > seen => {
                    seen = failed;
                    self.refuse_queued(&why);
                }
                Link::Down { .. } => {}
            }
            if self.link.changed().await.is_err() {
                return self.refuse_queued("the peer is gone");
            }
        }
    }

    fn refuse_queued(&mut self, why: &str) {
        while let Some(call) = self.held.pop_front().or_else(|| self.calls.try_recv().ok()) {
            if call.ticket.abandon() {
                let _gone = call.answer.send(Err(WireError::NotSent { to: self.to, why: why.to_owned() }));
            }
        }
    }

    /// Uses one connection until it breaks. Any fault of the stream closes the connection, so that all its lanes agree.
    async fn session(&mut self, connection: Connection) {
        let Ok((mut send, receive)) = connection.open_bi().await else { return };
        let _closed = send.set_priority(transport::priority(self.lane));
        let unanswered = Arc::new(Unanswered::default());
        let (over_sender, mut over) = oneshot::channel();
        let reader = AnswerReader {
            to: self.to,
            connection: connection.clone(),
            unanswered: unanswered.clone(),
            counters: self.counters.clone(),
            _over: over_sender,
        };
        let reader = self.scope.spawn(reader.run(receive));
        if send.write_chunk(hello(self.lane)).await.is_ok() {
            self.write_calls(&mut send, &unanswered, &mut over).await;
        }
        transport::close(&connection, CLOSE_STREAM, "a stream ended");
        let _ended = reader.await;
        let why =
            connection.close_reason().map_or_else(|| "the connection broke".to_owned(), |error| error.to_string());
        unanswered.lose_all(self.to, &why);
    }

    async fn write_calls(&mut self, send: &mut SendStream, unanswered: &Unanswered, over: &mut oneshot::Receiver<()>) {
        loop {
            if self.held.is_empty() {
                tokio::select! {
                    biased;
                    _ = &mut *over => return,
                    count = self.calls.recv_many(&mut self.taken, TAKEN_CALLS_MAX) => if count == 0 { return },
                }
                // Whatever else is ready to run goes first, so that its calls share this write.
                tokio::task::yield_now().await;
                while self.taken.len() < TAKEN_CALLS_MAX {
                    let Ok(call) = self.calls.try_recv() else { break };
                    self.taken.push(call);
                }
                self.held.extend(self.taken.drain(..));
            }
            let batch = unanswered.encode(&mut self.held);
            let moved_on = async {
                if batch.is_empty() && !self.held.is_empty() {
                    unanswered.wait_for_room(self.clock.sleep(SWEEP_EVERY)).await;
                    return true;
                }
                batch.is_empty() || send.write_chunk(batch).await.is_ok()
            };
            tokio::select! {
                biased;
                _ = &mut *over => return,
                goes_on = moved_on => if !goes_on { return },
            }
        }
    }
}

/// Calls written on one connection and not yet answered.
#[derive(Default)]
struct Unanswered {
    table: Mutex<Table>,
    room: Notify,
}

#[derive(Default)]
struct Table {
    last: u32,
    callers: BTreeMap<u32, oneshot::Sender<Result<Bytes, WireError>>>,
}

impl Unanswered {
    /// Encodes calls from the front of `held` and enters them; none where the table is full.
    fn encode(&self, held: &mut VecDeque<Queued>) -> Bytes {
        let mut out = Vec::new();
        let mut table = self.table.lock();
        while out.len() < WRITE_BYTES && table.has_room() {
            let Some(call) = held.pop_front() else { break };
            if call.ticket.write() {
                let number = table.enter(call.answer);
                frame::encode_into(&mut out, call.kind, number, &call.body);
            }
        }
        out.into()
    }

    async fn wait_for_room(&self, sweep: impl Future<Output = ()>) {
        tokio::select! {
            () = self.room.notified() => {}
            () = sweep => {}
        }
    }

    fn lose_all(&self, to: NodeId, why: &str) {
        for (_, caller) in std::mem::take(&mut self.table.lock().callers) {
            let _gone = caller.send(Err(WireError::Lost { to, why: why.to_owned() }));
        }
    }
}

impl Table {
    fn has_room(&mut self) -> bool {
        if self.callers.len() >= UNANSWERED_MAX {
            self.callers.retain(|_, caller| !caller.is_closed());
        }
        self.callers.len() < UNANSWERED_MAX
    }

    /// Numbers go round; one that is still in use after four thousand million calls is skipped.
    fn enter(&mut self, caller: oneshot::Sender<Result<Bytes, WireError>>) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if !self.callers.contains_key(&self.last) {
                self.callers.insert(self.last, caller);
                return self.last;
            }
        }
    }
}

/// Reads the answers of one connection's stream. Dropping it tells the writer that the stream is over.
struct AnswerReader {
    to: NodeId,
    connection: Connection,
    unanswered: Arc<Unanswered>,
    counters: Arc<WireCounters>,
    _over: oneshot::Sender<()>,
}

impl AnswerReader {
    async fn run(self, receive: RecvStream) {
        let mut frames = FrameReader::new(receive);
        while let Ok(true) = frames.fill().await {
            let mut table = self.unanswered.table.lock();
            loop {
                match frames.next() {
                    Ok(Some(frame)) => self.resolve(&mut table, frame),
                    Ok(None) => break,
                    Err(error) => {
                        drop(table);
                        self.counters.malformed();
                        tracing::warn!(peer = %self.to, %error, "closing a connection that sent no frame");
                        return transport::close(&self.connection, CLOSE_MALFORMED, "not a frame");
                    }
                }
            }
            drop(table);
            self.unanswered.room.notify_one();
        }
        transport::close(&self.connection, CLOSE_STREAM, "a stream ended");
    }

    /// Hands an answer to its caller. One that nobody waits for any more is dropped.
    fn resolve(&self, table: &mut Table, frame: Frame) {
        let Some(caller) = table.callers.remove(&frame.number) else { return };
        let answer = match frame.kind {
            KIND_NO_ANSWER => {
                Err(WireError::Lost { to: self.to, why: String::from_utf8_lossy(&frame.body).into_owned() })
            }
            _ => Ok(frame.body),
        };
        let _gone = caller.send(answer);
    }
}
