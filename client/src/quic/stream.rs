//! One stream: calls out in order, many in one write; replies back by number.
//!
//! Whatever goes wrong on a stream closes its connection. Calls that were written are then lost; calls that were not
//! are not sent, and the ticket decides which is which without doubt.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use nethical_protocol::frame::{self, FrameError, HEADER_BYTES};
use nethical_protocol::message::{KIND_PROBLEM, ProblemV1};

use super::IN_FLIGHT_MAX;
use crate::error::ClientError;

/// Calls taken from the queue at once.
const TAKEN_CALLS_MAX: usize = 64;
/// A write ends with the frame that reaches this.
const WRITE_BYTES: usize = 64 * 1024;
/// Room that a read is given.
const READ_BYTES: usize = 64 * 1024;

/// A reply as it came.
pub(super) struct Reply {
    pub(super) kind: u16,
    pub(super) body: Bytes,
}

/// A handle; the stream ends with its connection.
#[derive(Clone)]
pub(super) struct Stream {
    calls: mpsc::Sender<Call>,
    shared: Arc<Shared>,
}

struct Call {
    kind: u16,
    body: Vec<u8>,
    ticket: Arc<Ticket>,
    reply: oneshot::Sender<Reply>,
}

impl Stream {
    /// Starts the two tasks of a fresh stream.
    pub(super) fn start(connection: Connection, send: SendStream, receive: RecvStream) -> Self {
        let (calls, queue) = mpsc::channel(IN_FLIGHT_MAX);
        let shared = Arc::new(Shared { connection, table: Mutex::default() });
        tokio::spawn(write_calls(shared.clone(), send, queue));
        tokio::spawn(read_replies(shared.clone(), receive));
        Self { calls, shared }
    }

    /// Sends a call and waits for its reply until `until`.
    pub(super) async fn call(&self, kind: u16, body: Vec<u8>, until: Instant) -> Result<Reply, ClientError> {
        let (reply, answer) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        let call = Call { kind, body, ticket: ticket.clone(), reply };
        let refuse = |error: mpsc::error::TrySendError<Call>| match error {
            mpsc::error::TrySendError::Full(_) => ClientError::NotSent("too many calls wait on this stream".into()),
            mpsc::error::TrySendError::Closed(_) => ClientError::NotSent("the connection broke".into()),
        };
        self.calls.try_send(call).map_err(refuse)?;
        let why = match timeout_at(until, answer).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(_)) => self.shared.why_it_ended(),
            Err(_) => "the deadline ran out".into(),
        };
        match ticket.abandon() {
            true => Err(ClientError::NotSent(why)),
            false => Err(ClientError::Lost(why)),
        }
    }
}

const QUEUED: u8 = 0;
const WRITTEN: u8 = 1;
const ABANDONED: u8 = 2;

/// Whoever moves it away from `QUEUED` first has decided whether the call may have happened.
#[derive(Default)]
struct Ticket(AtomicU8);

impl Ticket {
    fn write(&self) -> bool {
        self.0.compare_exchange(QUEUED, WRITTEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn abandon(&self) -> bool {
        self.0.compare_exchange(QUEUED, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// What writer, reader and callers share.
struct Shared {
    connection: Connection,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last: u32,
    waiting: BTreeMap<u32, oneshot::Sender<Reply>>,
    /// A problem that the node named without a call, or another reason why the stream ended.
    fault: Option<String>,
    over: bool,
}

impl Table {
    /// Enters a call under a fresh number, never 0. Forgets calls that nobody waits for once there are many.
    fn enter(&mut self, reply: oneshot::Sender<Reply>) -> u32 {
        if self.waiting.len() >= IN_FLIGHT_MAX {
            self.waiting.retain(|_, reply| !reply.is_closed());
        }
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.waiting.contains_key(&self.last) {
                self.waiting.insert(self.last, reply);
                return self.last;
            }
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn why_it_ended(&self) -> String {
        let fault = self.table().fault.clone();
        fault
            .or_else(|| self.connection.close_reason().map(|error| error.to_string()))
            .unwrap_or("the stream ended".into())
    }

    /// Ends the stream, and with it the connection: callers see their reply handles dropped.
    fn end(&self, fault: Option<String>) {
        let mut table = self.table();
        table.fault = table.fault.take().or(fault);
        table.over = true;
        table.waiting.clear();
        drop(table);
        self.connection.close(VarInt::from_u32(0), b"a stream ended");
    }

    /// Encodes calls that are still wanted; none once the stream is over.
    fn encode(&self, calls: &mut Vec<Call>) -> Vec<Bytes> {
        let mut table = self.table();
        let (mut writes, mut out) = (Vec::new(), Vec::new());
        if table.over {
            calls.clear();
        }
        for call in calls.drain(..) {
            if call.ticket.write() {
                let number = table.enter(call.reply);
                frame::encode_into(&mut out, call.kind, number, &call.body);
            }
            if out.len() >= WRITE_BYTES {
                writes.push(std::mem::take(&mut out).into());
            }
        }
        writes.push(out.into());
        writes
    }

    /// Hands one reply on. A problem without a number is about the stream as a whole.
    fn resolve(&self, kind: u16, number: u32, body: Bytes) {
        let mut table = self.table();
        if number == 0 && kind == KIND_PROBLEM {
            table.fault = ProblemV1::from_bytes(&body).ok().map(|problem| problem.problem.to_string());
        } else if let Some(waiting) = table.waiting.remove(&number) {
            let _gone = waiting.send(Reply { kind, body });
        }
    }
}

async fn write_calls(shared: Arc<Shared>, mut send: SendStream, mut queue: mpsc::Receiver<Call>) {
    let mut taken = Vec::new();
    loop {
        tokio::select! {
            biased;
            _ = shared.connection.closed() => break,
            count = queue.recv_many(&mut taken, TAKEN_CALLS_MAX) => if count == 0 { break },
        }
        // Whatever else is ready to run goes first, so that its calls share this write.
        tokio::task::yield_now().await;
        while taken.len() < TAKEN_CALLS_MAX {
            let Ok(call) = queue.try_recv() else { break };
            taken.push(call);
        }
        let mut writes = shared.encode(&mut taken);
        if send.write_all_chunks(&mut writes).await.is_err() {
            break;
        }
    }
    shared.end(None);
}

async fn read_replies(shared: Arc<Shared>, mut receive: RecvStream) {
    let mut buffer = BytesMut::new();
    let fault = loop {
        buffer.reserve(READ_BYTES);
        match receive.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break None,
            Ok(_) => {}
        }
        if let Err(error) = resolve_frames(&shared, &mut buffer) {
            break Some(format!("the node sent no frame: {error}"));
        }
    };
    shared.end(fault);
}

fn resolve_frames(shared: &Shared, buffer: &mut BytesMut) -> Result<(), FrameError> {
    loop {
        let (kind, number, end) = match frame::decode(buffer) {
            Ok((header, _, end)) => (header.kind, header.number, end),
            Err(FrameError::Truncated) => return Ok(()),
            Err(error) => return Err(error),
        };
        let body = buffer.split_to(end).split_off(HEADER_BYTES).freeze();
        shared.resolve(kind, number, body);
    }
}
