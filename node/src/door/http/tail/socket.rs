//! A tail over a WebSocket (RFC 6455): each event a text frame. What the client says is read, bounded and ignored, except
//! that it closes or asks whether anybody is there, which the library answers.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};

use super::event::Event;
use super::follow::Follow;
use crate::door::{Stop, stopped};

/// The largest message of a client.
const CLIENT_BYTES_MAX: usize = 4 * 1024;
/// How long a frame may wait for a reader that does not read.
const SEND_WAIT: Duration = Duration::from_secs(60);
/// How long a reader may take to be told that it is over.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The upgrade with the bounds of a tail: nothing is gathered before it is sent.
pub fn bounded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .max_message_size(CLIENT_BYTES_MAX)
        .max_frame_size(CLIENT_BYTES_MAX)
        .read_buffer_size(CLIENT_BYTES_MAX)
        .write_buffer_size(0)
}

/// Sends events until the client goes, the tail is over or the node stops.
pub async fn serve(mut socket: WebSocket, mut follow: Follow, mut stop: Stop) {
    loop {
        let event = tokio::select! {
            event = follow.next() => event,
            heard = socket.recv() => match heard {
                Some(Ok(_)) => continue,
                _ => return,
            },
        };
        let Some(event) = event else { return close(socket, close_code::AWAY, "the node stops").await };
        if !send(&mut socket, &event, &mut stop).await {
            return;
        }
        if let Event::Problem(problem) = &event {
            return close(socket, close_code::ERROR, problem.code.as_str()).await;
        }
    }
}

/// False where the client is gone or reads no more, or the node stops.
async fn send(socket: &mut WebSocket, event: &Event, stop: &mut Stop) -> bool {
    tokio::select! {
        sent = tokio::time::timeout(SEND_WAIT, socket.send(Message::text(event.to_json()))) => matches!(sent, Ok(Ok(()))),
        () = stopped(stop) => false,
    }
}

async fn close(mut socket: WebSocket, code: u16, reason: &'static str) {
    let frame = CloseFrame { code, reason: reason.into() };
    let _ = tokio::time::timeout(CLOSE_WAIT, socket.send(Message::Close(Some(frame)))).await;
}
