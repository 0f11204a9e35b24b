//! Keeps one connection with its streams: dials, waits until it breaks, dials again after a jittered pause.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use quinn::{ConnectError, Connection, Endpoint};
use tokio::sync::watch;

use super::stream::Stream;

/// Streams of one connection: enough that one slow agent's calls do not stand before everybody's.
const STREAMS: usize = 4;
/// A dial that has brought nothing after this long has failed.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before the first dial after a failure; doubled with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A connection that held this long was a good one. A node that refuses a client says so only after the handshake.
const STEADY: Duration = Duration::from_secs(1);
/// What the keeper publishes.
pub(super) enum Link {
    /// There is a connection with these streams.
    Up(Vec<Stream>),
    /// There is none.
    Down {
        /// True where the last dial failed: calls are refused without waiting for the next one.
        failing: bool,
        /// What stood in the way the last time.
        why: String,
    },
}

/// What dialling takes.
pub(super) struct Keeper {
    pub(super) endpoint: Endpoint,
    pub(super) address: SocketAddr,
    pub(super) server_name: String,
}

impl Keeper {
    /// Keeps a connection up until every receiver is dropped.
    pub(super) fn start(self) -> watch::Receiver<Link> {
        let (sender, receiver) = watch::channel(Link::Down { failing: false, why: "not connected yet".into() });
        tokio::spawn(async move {
            tokio::select! {
                () = self.run(&sender) => {}
                () = sender.closed() => {}
            }
        });
        receiver
    }

    async fn run(&self, link: &watch::Sender<Link>) {
        let mut failed_in_a_row = 0u32;
        loop {
            let why = match self.dial().await {
                Ok((connection, streams)) => {
                    link.send_replace(Link::Up(streams));
                    let held = tokio::time::timeout(STEADY, connection.closed()).await.is_err();
                    failed_in_a_row = if held { 0 } else { failed_in_a_row.saturating_add(1) };
                    connection.closed().await.to_string()
                }
                Err(Fault::ForGood(why)) => {
                    link.send_replace(Link::Down { failing: true, why });
                    return;
                }
                Err(Fault::Now(why)) => {
                    failed_in_a_row = failed_in_a_row.saturating_add(1);
                    why
                }
            };
            link.send_replace(Link::Down { failing: failed_in_a_row > 0, why });
            tokio::time::sleep(pause(failed_in_a_row)).await;
        }
    }

    async fn dial(&self) -> Result<(Connection, Vec<Stream>), Fault> {
        let connecting = self.endpoint.connect(self.address, &self.server_name).map_err(|error| match error {
            ConnectError::CidsExhausted => Fault::Now(error.to_string()),
            _ => Fault::ForGood(error.to_string()),
        })?;
        let connection = tokio::time::timeout(DIAL_TIMEOUT, connecting)
            .await
            .map_err(|_| Fault::Now("the node does not answer".into()))?
            .map_err(|error| Fault::Now(error.to_string()))?;
        let mut streams = Vec::with_capacity(STREAMS);
        for _ in 0..STREAMS {
            let (send, receive) = tokio::time::timeout(DIAL_TIMEOUT, connection.open_bi())
                .await
                .map_err(|_| Fault::Now("the node grants no streams".into()))?
                .map_err(|error| Fault::Now(error.to_string()))?;
            streams.push(Stream::start(connection.clone(), send, receive));
        }
        Ok((connection, streams))
    }
}

/// Why a dial failed.
enum Fault {
    /// Another dial may succeed.
    Now(String),
    /// None will: the address or the name is unusable, or the door is closed.
    ForGood(String),
}

/// Half to all of a doubling pause, so that clients that lost the same node do not come back in step.
fn pause(failed_in_a_row: u32) -> Duration {
    let whole = (PAUSE_MIN * (1 << failed_in_a_row.saturating_sub(1).min(8))).min(PAUSE_MAX);
    let dice = RandomState::new().hash_one(failed_in_a_row) % 1_000;
    whole / 2 + whole / 2 * dice as u32 / 1_000
}
