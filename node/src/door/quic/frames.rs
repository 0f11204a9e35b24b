//! Reading frames from a stream: header, checks, then memory, then the body. No memory is given to a length that has
//! not been checked, and none past the door's budget.

use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use quinn::{ReadExactError, RecvStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use nethical_protocol::error::{Code, Problem};
use nethical_protocol::frame::{FrameError, HEADER_BYTES, check_body, decode_header};
use nethical_protocol::limits::FRAME_BYTES_MAX;

/// The least budget with which a largest frame can be read.
pub(super) const BYTES_IN_FLIGHT_MIN: usize = FRAME_BYTES_MAX;
/// From a frame's header to its last byte; who stalls holds memory of others.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// One whole frame. Its bytes count against the door's budget until it is dropped.
pub(super) struct Frame {
    pub(super) kind: u16,
    pub(super) number: u32,
    pub(super) body: Vec<u8>,
    pub(super) _bytes: OwnedSemaphorePermit,
}

/// The frames of a stream; ends after the first problem, at the client's end, or where the connection broke.
pub(super) fn frames(receive: RecvStream, bytes: Arc<Semaphore>) -> impl Stream<Item = Result<Frame, Problem>> {
    futures::stream::unfold(Some((receive, bytes)), |state| async {
        let (mut receive, bytes) = state?;
        match read(&mut receive, &bytes).await {
            Ok(Some(frame)) => Some((Ok(frame), Some((receive, bytes)))),
            Ok(None) => None,
            Err(problem) => Some((Err(problem), None)),
        }
    })
}

async fn read(receive: &mut RecvStream, bytes: &Arc<Semaphore>) -> Result<Option<Frame>, Problem> {
    let mut head = [0; HEADER_BYTES];
    match receive.read_exact(&mut head).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) | Err(ReadExactError::ReadError(_)) => return Ok(None),
        // What is there may already not be ours: say that rather than that it is short.
        Err(ReadExactError::FinishedEarly(_)) => {
            return Err(problem_of(decode_header(&head).err().unwrap_or(FrameError::Truncated)));
        }
    }
    let header = decode_header(&head).map_err(problem_of)?;
    let budget = bytes.clone().acquire_many_owned(header.length as u32).await;
    let budget = budget.expect("the budget is never closed");
    let mut body = vec![0; header.length];
    match tokio::time::timeout(BODY_WAIT, receive.read_exact(&mut body)).await {
        Ok(Ok(())) => {}
        Ok(Err(ReadExactError::ReadError(_))) => return Ok(None),
        Ok(Err(ReadExactError::FinishedEarly(_))) => return Err(problem_of(FrameError::Truncated)),
        Err(_) => return Err(Problem::new(Code::MalformedFrame, "the rest of the frame did not arrive in time")),
    }
    check_body(&header, &body).map_err(problem_of)?;
    Ok(Some(Frame { kind: header.kind, number: header.number, body, _bytes: budget }))
}

fn problem_of(error: FrameError) -> Problem {
    let code = if matches!(error, FrameError::Version(_)) { Code::UnknownVersion } else { Code::MalformedFrame };
    Problem::new(code, error.to_string())
}
