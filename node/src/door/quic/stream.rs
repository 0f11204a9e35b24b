//! One stream of one client: frames in, answers out in order of completion, several in one write.
//!
//! Frames are handed on in order of arrival and by one task, so that one agent's actions keep their order.

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use quinn::{Connection, RecvStream, SendStream, VarInt};

use nethical_protocol::action::Action;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::frame::encode_into;
use nethical_protocol::limits::{BATCH_ACTIONS_MAX, FRAME_BYTES_MAX};
use nethical_protocol::message::{
    DecideV1, DecidedV1, KIND_DECIDE, KIND_DECIDED, KIND_PROBLEM, KIND_SETTLE, KIND_SETTLED, ProblemV1, SettleV1,
    SettledV1,
};

use super::Door;
use super::frames::{Frame, frames};
use crate::door::submit::{self, Item, refuse, submit};
use crate::door::{request_id, stopped};
use crate::telemetry::metrics;

/// This door's name in metrics.
const DOOR: &str = "quic";
/// Frames of one stream that are read and not yet answered.
const FRAMES_IN_FLIGHT_MAX: usize = 64;
/// Answers are gathered up to this size into one write.
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// A client that takes nothing for this long is gone.
const WRITE_WAIT: Duration = Duration::from_secs(10);
/// How long a refused client gets to read why, before its connection is closed.
const FAREWELL_WAIT: Duration = Duration::from_secs(1);
/// The connection's end says that the client broke the framing.
const CLOSED_FOR_FRAMING: VarInt = VarInt::from_u32(1);

/// Serves one stream to its end.
pub(super) async fn run(door: Door, connection: Connection, send: SendStream, receive: RecvStream) {
    let (budget, mut stop) = (door.bytes.clone(), door.stop.clone());
    let frames = frames(receive, budget);
    tokio::pin!(frames);
    let mut writer = Writer { send };
    let mut in_flight = FuturesUnordered::new();
    let mut broken: Option<Problem> = None;
    loop {
        let written = tokio::select! {
            Some(answer) = in_flight.next() => {
                let mut out: Vec<u8> = answer;
                while out.len() < WRITE_BYTES_MAX && let Some(Some(more)) = in_flight.next().now_or_never() {
                    out.extend_from_slice(&more);
                }
                writer.write(&out).await
            }
            frame = frames.next(), if in_flight.len() < FRAMES_IN_FLIGHT_MAX => match frame {
                Some(Ok(frame)) => {
                    in_flight.push(answer(&door, frame));
                    true
                }
                Some(Err(problem)) => {
                    broken = Some(problem);
                    break;
                }
                None => break,
            },
            () = stopped(&mut stop) => break,
        };
        if !written {
            return;
        }
    }
    if let Some(problem) = &broken {
        writer.write(&problem_frame(0, problem)).await;
    }
    while let Some(answer) = in_flight.next().await {
        if !writer.write(&answer).await {
            return;
        }
    }
    writer.finish().await;
    if let Some(problem) = broken {
        connection.close(CLOSED_FOR_FRAMING, problem.code.as_str().as_bytes());
    }
}

struct Writer {
    send: SendStream,
}

impl Writer {
    /// False where the client is gone.
    async fn write(&mut self, bytes: &[u8]) -> bool {
        matches!(tokio::time::timeout(WRITE_WAIT, self.send.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Ends the stream and waits a little until the client has it all.
    async fn finish(&mut self) {
        if self.send.finish().is_ok() {
            let _ = tokio::time::timeout(FAREWELL_WAIT, self.send.stopped()).await;
        }
    }
}

/// The frame that answers a frame.
async fn answer(door: &Door, frame: Frame) -> Vec<u8> {
    let number = frame.number;
    let answered = match frame.kind {
        KIND_DECIDE => decide(door, &frame).await.map(|body| (KIND_DECIDED, body)),
        KIND_SETTLE => settle(door, &frame).await.map(|body| (KIND_SETTLED, body)),
        kind => Err(Problem::new(Code::MalformedFrame, format!("a client does not send frames of kind {kind}"))),
    };
    match answered {
        Ok((kind, body)) => {
            let mut out = Vec::new();
            encode_into(&mut out, kind, number, &body);
            out
        }
        Err(problem) => problem_frame(number, &problem),
    }
}

/// Says what became of an action that reserved. A governor that takes longer than the client waits may have done it.
async fn settle(door: &Door, frame: &Frame) -> Result<Vec<u8>, Problem> {
    let SettleV1 { deadline_ms, decision, outcome } = SettleV1::from_bytes(&frame.body)
        .map_err(|error| Problem::new(Code::MalformedFrame, format!("the body is no SettleV1: {error}")))?;
    let deadline = submit::deadline(Some(deadline_ms).filter(|ms| *ms > 0));
    let settled = tokio::time::timeout(deadline, door.governor.settle(decision, outcome.checked()?)).await;
    let late =
        |_| Problem::new(Code::OutcomeUnknown, "no answer came inside the deadline; settle it again the same way");
    Ok(SettledV1 { settlement: settled.map_err(late)?? }.to_bytes())
}

async fn decide(door: &Door, frame: &Frame) -> Result<Vec<u8>, Problem> {
    let DecideV1 { deadline_ms, actions } = DecideV1::from_bytes(&frame.body)
        .map_err(|error| Problem::new(Code::MalformedFrame, format!("the body is no DecideV1: {error}")))?;
    if actions.len() > BATCH_ACTIONS_MAX {
        let detail = format!("{} actions; at most {BATCH_ACTIONS_MAX} are accepted in one frame", actions.len());
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let items = actions.into_iter().map(identified).collect();
    let deadline = submit::deadline(Some(deadline_ms).filter(|ms| *ms > 0));
    let answers = submit(&door.governor, items, deadline, DOOR).await;
    let body = DecidedV1 { answers }.to_bytes();
    if body.len() > FRAME_BYTES_MAX {
        let detail = "the answers do not fit one frame; ask again in smaller batches under the same ids";
        return Err(Problem::new(Code::OutcomeUnknown, detail));
    }
    Ok(body)
}

/// The action under its id, whose time is the one inside it where it has one: the same rule as at the HTTP door.
fn identified(action: Action) -> Item {
    let stated_ms = Some(action.issued_at_ms).filter(|ms| *ms > 0);
    match request_id::resolve(Some(action.request_id.clone()), stated_ms) {
        Ok(id) => {
            Ok(Action { request_id: id.text, client_chosen: id.client_chosen, issued_at_ms: id.issued_at_ms, ..action })
        }
        Err(problem) => Err(refuse(request_id::shortened(&action.request_id), problem)),
    }
}

fn problem_frame(number: u32, problem: &Problem) -> Vec<u8> {
    metrics::count_problem(problem.code);
    let mut out = Vec::new();
    encode_into(&mut out, KIND_PROBLEM, number, &ProblemV1 { problem: problem.clone() }.to_bytes());
    out
}
