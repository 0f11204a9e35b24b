//! One lane from one peer, the answering side: frames in order to the service, answers back as they are ready.
//!
//! Bounds: each call takes units of a budget until its answer has been written; when the budget is used up the stream
//! is not read any further, and QUIC's flow control holds the peer up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use nethical_protocol::frame;
use nethical_protocol::ids::NodeId;
use nethical_protocol::limits::FRAME_BYTES_MAX;

use super::accept::{Door, Gate};
use super::counters::WireCounters;
use super::framing::{Frame, FrameReader};
use super::hello::{KIND_NO_ANSWER, lane_of};
use super::transport::{self, CLOSE_MALFORMED, CLOSE_STREAM, CLOSE_SUPERSEDED};
use crate::world::Lane;

/// Answers written at once.
const TAKEN_ANSWERS_MAX: usize = 256;
/// A write ends with the frame that reaches this.
const WRITE_BYTES: usize = 64 * 1024;
/// Bytes of a request that one unit of the budget pays for; every call takes at least one unit.
const UNIT_BYTES: usize = 8 * 1024;

/// The budget of a stream: calls in work at once, and with [`UNIT_BYTES`] the bytes of their requests (32 MiB; Bulk,
/// whose answers are large, 16 MiB and 16 chunks of a snapshot).
fn units(lane: Lane) -> usize {
    match lane {
        Lane::Pulse | Lane::Log | Lane::Control | Lane::Decide => 4_096,
        Lane::Bulk => 2_048,
    }
}

/// What a call takes of the budget.
fn price(lane: Lane, body_bytes: usize) -> u32 {
    let least = if lane == Lane::Bulk { 128 } else { 1 };
    (body_bytes / UNIT_BYTES + 1).max(least) as u32
}

const _: () = assert!(FRAME_BYTES_MAX / UNIT_BYTES + 1 < 2_048, "the largest call fits the smallest budget");

/// A stream that a peer has opened.
pub(super) struct Stream {
    pub(super) door: Door,
    pub(super) from: NodeId,
    pub(super) order: u64,
    pub(super) connection: Connection,
}

impl Stream {
    /// Serves it to its end. Whatever ends it, other than the peer's own end, ends the connection.
    pub(super) async fn run(self, send: SendStream, receive: RecvStream) {
        let (connection, counters, from) = (self.connection.clone(), self.door.counters.clone(), self.from);
        match self.serve(send, FrameReader::new(receive)).await {
            End::Peer => transport::close(&connection, CLOSE_STREAM, "a stream ended"),
            End::Superseded => {
                counters.superseded();
                transport::close(&connection, CLOSE_SUPERSEDED, "a newer connection took over");
            }
            End::Malformed => {
                counters.malformed();
                tracing::warn!(peer = %from, "closing a connection that sent no frame");
                transport::close(&connection, CLOSE_MALFORMED, "not a frame");
            }
        }
    }

    async fn serve(self, send: SendStream, mut frames: FrameReader<RecvStream>) -> End {
        let lane = match first_frame(&mut frames).await.map(|frame| lane_of(&frame)) {
            Ok(Some(lane)) => lane,
            Ok(None) => return End::Malformed,
            Err(end) => return end,
        };
        let Some(gate) = self.door.gate(self.from, lane, self.order) else { return End::Superseded };
        let _closed = send.set_priority(transport::priority(lane));
        let (answers, ready) = mpsc::channel(units(lane));
        let writer = AnswerWriter { connection: self.connection.clone(), counters: self.door.counters.clone() };
        self.door.scope.spawn(writer.run(send, ready));
        let budget = Arc::new(Semaphore::new(units(lane)));
        loop {
            match frames.next() {
                Ok(Some(frame)) => {
                    let price = price(lane, frame.body.len());
                    let Ok(paid) = budget.clone().acquire_many_owned(price).await else { return End::Peer };
                    if !self.handle(&gate, lane, frame, paid, &answers) {
                        return End::Superseded;
                    }
                }
                Ok(None) => match frames.fill().await {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return End::Peer,
                },
                Err(_) => return End::Malformed,
            }
        }
    }

    /// Hands one call to the service, in order. False where a newer connection has taken the lane over.
    ///
    /// The future is polled here once: many answers are ready at once, and a task for each of them would cost half as
    /// much again as everything else that a call costs on both sides. The others get a task.
    fn handle(
        &self,
        gate: &Gate,
        lane: Lane,
        frame: Frame,
        paid: OwnedSemaphorePermit,
        answers: &mpsc::Sender<Answer>,
    ) -> bool {
        let Frame { kind, number, body } = frame;
        let call = || catch_unwind(AssertUnwindSafe(|| self.door.service.handle(self.from, lane, kind, body)));
        let Some(work) = gate.pass(call) else { return false };
        let answer = move |body| Answer { kind, number, body, _paid: paid };
        // A panic is a defect of the service; it costs its call and not the node.
        let Ok(work) = work else {
            let _gone = answers.try_send(answer(None));
            return true;
        };
        let mut work = AssertUnwindSafe(work).catch_unwind();
        match (&mut work).now_or_never() {
            // There is always room: the channel holds as many answers as the budget has units.
            Some(body) => drop(answers.try_send(answer(body.ok()))),
            None => {
                let answers = answers.clone();
                self.door.scope.spawn(async move { answers.send(answer(work.await.ok())).await });
            }
        }
        true
    }
}

/// Why a stream is no longer served.
enum End {
    /// The peer ended it, or the connection broke.
    Peer,
    /// A newer connection has the lane.
    Superseded,
    /// Bytes that are no frame.
    Malformed,
}

async fn first_frame(frames: &mut FrameReader<RecvStream>) -> Result<Frame, End> {
    loop {
        if !frames.fill().await.map_err(|_| End::Peer)? {
            return Err(End::Peer);
        }
        if let Some(frame) = frames.next().map_err(|_| End::Malformed)? {
            return Ok(frame);
        }
    }
}

/// An answer on its way out.
struct Answer {
    kind: u16,
    number: u32,
    body: Option<Bytes>,
    _paid: OwnedSemaphorePermit,
}

/// Writes answers, many in one write, in the order in which they became ready.
struct AnswerWriter {
    connection: Connection,
    counters: Arc<WireCounters>,
}

impl AnswerWriter {
    async fn run(self, mut send: SendStream, mut ready: mpsc::Receiver<Answer>) {
        let mut taken = Vec::new();
        while ready.recv_many(&mut taken, TAKEN_ANSWERS_MAX).await > 0 {
            // Whatever else is ready to run goes first, so that its answers share this write.
            tokio::task::yield_now().await;
            while taken.len() < TAKEN_ANSWERS_MAX {
                let Ok(answer) = ready.try_recv() else { break };
                taken.push(answer);
            }
            let mut out = Vec::new();
            for answer in taken.drain(..) {
                self.encode(&mut out, &answer);
                if out.len() >= WRITE_BYTES && send.write_chunk(std::mem::take(&mut out).into()).await.is_err() {
                    return transport::close(&self.connection, CLOSE_STREAM, "a stream ended");
                }
            }
            if !out.is_empty() && send.write_chunk(out.into()).await.is_err() {
                return transport::close(&self.connection, CLOSE_STREAM, "a stream ended");
            }
        }
    }

    fn encode(&self, out: &mut Vec<u8>, answer: &Answer) {
        let why = match &answer.body {
            Some(body) if body.len() <= FRAME_BYTES_MAX => {
                return frame::encode_into(out, answer.kind, answer.number, body);
            }
            Some(_) => "the answer does not fit a frame",
            None => "the service panicked",
        };
        self.counters.unanswered();
        tracing::error!(kind = answer.kind, why, "a call gets no answer");
        frame::encode_into(out, KIND_NO_ANSWER, answer.number, why.as_bytes());
    }
}
