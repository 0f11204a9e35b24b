//! Keeps one connection to one peer: dials, checks who answered, waits until it breaks, dials again after a pause.
//!
//! It sends nothing. Its lanes see what it publishes in [`Link`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Endpoint};
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use tokio::sync::watch;

use nethical_protocol::ids::NodeId;

use super::counters::WireCounters;
use super::peer::Link;
use super::{tls, transport};
use crate::world::{self, Clock, Scope};

/// A dial that has brought nothing after this long has failed: room for three first packets.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before the first dial after a failure; doubled with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A connection that held this long was a good one. A peer that refuses our certificate says so only after the
/// handshake, which is no success.
const STEADY: Duration = Duration::from_secs(1);
/// How long a call is held up that is refused because the peer keeps failing.
pub(super) const BREAKER_PAUSE: Duration = Duration::from_millis(10);

/// What dialling one peer takes.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) scope: Scope,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) endpoint: Endpoint,
    pub(super) to: NodeId,
    pub(super) counters: Arc<WireCounters>,
}

impl Dialer {
    /// Keeps a connection up from now on, until the address's sender is dropped.
    pub(super) fn start(self, address: watch::Receiver<SocketAddr>) -> watch::Receiver<Link> {
        let first = Link::Down { failed: 0, failed_in_a_row: 0, why: "not connected yet".into() };
        let (sender, receiver) = watch::channel(first);
        let dice = self.scope.fork_dice();
        let scope = self.scope.clone();
        scope.spawn(self.run(address, sender, dice));
        receiver
    }

    async fn run(self, mut address: watch::Receiver<SocketAddr>, link: watch::Sender<Link>, mut dice: ChaCha12Rng) {
        let (mut failed, mut failed_in_a_row) = (0, 0u32);
        loop {
            let target = *address.borrow_and_update();
            let why = match self.dial(target).await {
                Ok(connection) => {
                    self.counters.dialled();
                    let since = self.clock.now();
                    link.send_replace(Link::Up(connection.clone()));
                    let why = wait_until_broken(&connection, &mut address).await;
                    let steady = self.clock.now().saturating_sub(since) >= STEADY;
                    failed_in_a_row = if steady { 0 } else { failed_in_a_row.saturating_add(1) };
                    why
                }
                Err(why) => {
                    self.counters.dials_failed();
                    failed += 1;
                    failed_in_a_row = failed_in_a_row.saturating_add(1);
                    why
                }
            };
            tracing::debug!(peer = %self.to, %target, why, failed_in_a_row, "no connection to the peer");
            link.send_replace(Link::Down { failed, failed_in_a_row, why: why.into() });
            tokio::select! {
                () = self.clock.sleep(pause(failed_in_a_row, &mut dice)) => {}
                changed = address.changed() => if changed.is_err() { return },
            }
            if address.has_changed().is_err() {
                return;
            }
        }
    }

    async fn dial(&self, target: SocketAddr) -> Result<Connection, String> {
        let connecting =
            self.endpoint.connect(target, &tls::name_of_node(self.to)).map_err(|error| error.to_string())?;
        let connection = world::timeout(&*self.clock, DIAL_TIMEOUT, connecting)
            .await
            .ok_or("nobody answers")?
            .map_err(|error| error.to_string())?;
        match tls::node_of_connection(&connection) {
            Some(node) if node == self.to => Ok(connection),
            _ => {
                transport::close(&connection, transport::CLOSE_IDENTITY, "the certificate names another node");
                Err("the certificate names another node".into())
            }
        }
    }
}

/// Gives the reason. A connection to an address that is no longer the peer's is closed.
async fn wait_until_broken(connection: &Connection, address: &mut watch::Receiver<SocketAddr>) -> String {
    tokio::select! {
        error = connection.closed() => error.to_string(),
        _ = address.changed() => {
            transport::close(connection, transport::CLOSE_MOVED, "the peer moved or left");
            "the peer moved or left".into()
        }
    }
}

/// Half to all of a doubling pause, so that nodes that lost the same peer do not come back in step.
fn pause(failed_in_a_row: u32, dice: &mut ChaCha12Rng) -> Duration {
    let doublings = failed_in_a_row.saturating_sub(1).min(8);
    let whole = (PAUSE_MIN * (1 << doublings)).min(PAUSE_MAX);
    whole.mul_f64(dice.random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn pauses_grow_to_a_second_and_are_never_shorter_than_half() {
        let mut dice = ChaCha12Rng::from_seed([1; 32]);
        for (failed, whole_ms) in [(0, 50), (1, 50), (2, 100), (5, 800), (6, 1_000), (u32::MAX, 1_000)] {
            for _ in 0..50 {
                let pause = pause(failed, &mut dice).as_millis();
                assert!((whole_ms / 2..=whole_ms).contains(&pause), "{pause} ms after {failed} failures");
            }
        }
    }
}
