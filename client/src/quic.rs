//! The QUIC door of one node as a client uses it: one long-lived connection, calls pipelined over a few streams.
//!
//! It keeps one connection to one node and dials again when it breaks. It does not retry calls and does not choose
//! between nodes: whoever does that must know the difference between [`ClientError::NotSent`] and
//! [`ClientError::Lost`], and this file is what tells them apart.
//!
//! Calls whose first actions name the same agent go over the same stream, so the node sees them in the order in which
//! they were made. Nothing is promised across agents.
//!
//! ```no_run
//! # async fn example(action: nethical_protocol::action::Action) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use nethical_client::quic::{QuicDoor, certificates_from_pem};
//!
//! let authority = certificates_from_pem(&std::fs::read("ca.pem")?)?;
//! let door = QuicDoor::connect("127.0.0.1:7443".parse()?, "localhost", authority).await?;
//! let answers = door.decide(vec![action], Duration::from_secs(2)).await?;
//! # Ok(()) }
//! ```
#![allow(
    clippy::disallowed_methods,
    reason = "the SDK runs in other people's processes: it has no scope and no clock of ours to use"
)]

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use quinn::Endpoint;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

use nethical_protocol::action::Action;
use nethical_protocol::decision::{ActionOutcome, ItemAnswer, Settlement};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::frame::HEADER_BYTES;
use nethical_protocol::ids::DecisionId;
use nethical_protocol::limits::{BATCH_ACTIONS_MAX, FRAME_BYTES_MAX};
use nethical_protocol::message::{
    DecideV1, DecidedV1, KIND_DECIDE, KIND_DECIDED, KIND_PROBLEM, KIND_SETTLE, KIND_SETTLED, ProblemV1, SettleV1,
    SettledV1,
};

use crate::error::ClientError;

mod keeper;
mod stream;
mod tls;

use keeper::{Keeper, Link};
use stream::{Reply, Stream};

/// Calls that one door has under way; further ones wait for their turn inside their deadline.
pub const IN_FLIGHT_MAX: usize = 1_024;

/// A client's own certificate and key, where the node asks for one.
pub struct ClientIdentity {
    /// The certificate, then those that lead to the authority.
    pub certificate_chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

/// The certificates in a PEM file, for the `ca` of [`QuicDoor::connect`].
pub fn certificates_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(ClientError::NotSent("the PEM text holds no certificate".into())),
        Err(error) => Err(ClientError::NotSent(format!("the PEM text does not parse: {error}"))),
    }
}

/// A connection to one node's QUIC door. Share it behind an `Arc`; dropping it closes the connection.
pub struct QuicDoor {
    endpoint: Endpoint,
    link: watch::Receiver<Link>,
    places: Semaphore,
}

impl QuicDoor {
    /// Connects to the door at `address`, whose certificate must name `server_name` and lead to one of `ca`.
    ///
    /// Fails where the first dial fails. From then on the door dials by itself whenever the connection breaks.
    pub async fn connect(
        address: SocketAddr,
        server_name: &str,
        ca: Vec<CertificateDer<'static>>,
    ) -> Result<Self, ClientError> {
        Self::connect_as(address, server_name, ca, None).await
    }

    /// [`QuicDoor::connect`] with a certificate of the client's own.
    pub async fn connect_as(
        address: SocketAddr,
        server_name: &str,
        ca: Vec<CertificateDer<'static>>,
        identity: Option<ClientIdentity>,
    ) -> Result<Self, ClientError> {
        let config = tls::client_config(ca, identity).map_err(ClientError::NotSent)?;
        let local = match address {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let mut endpoint = Endpoint::client(local).map_err(|error| ClientError::NotSent(error.to_string()))?;
        endpoint.set_default_client_config(config);
        let keeper = Keeper { endpoint: endpoint.clone(), address, server_name: server_name.to_owned() };
        let door = Self { endpoint, link: keeper.start(), places: Semaphore::new(IN_FLIGHT_MAX) };
        door.stream_for(0).await?;
        Ok(door)
    }

    /// True while there is a connection.
    pub fn is_connected(&self) -> bool {
        matches!(&*self.link.borrow(), Link::Up(_))
    }

    /// Decides actions: one answer each, in order. `deadline` bounds everything, waiting for a connection included.
    pub async fn decide(&self, actions: Vec<Action>, deadline: Duration) -> Result<Vec<ItemAnswer>, ClientError> {
        if actions.is_empty() || actions.len() > BATCH_ACTIONS_MAX {
            let detail = format!("{} actions; 1 to {BATCH_ACTIONS_MAX} are accepted", actions.len());
            return Err(ClientError::Refused(Problem::new(Code::TooLarge, detail)));
        }
        let until = Instant::now() + deadline;
        let (_place, stream) = self.place_until(until, stream_key(&actions)).await?;
        let expected = actions.len();
        let body = DecideV1 { deadline_ms: deadline_of_node_ms(until - Instant::now()), actions }.to_bytes();
        if body.len() > FRAME_BYTES_MAX - HEADER_BYTES {
            let detail = format!("the batch has {} bytes; at most {FRAME_BYTES_MAX} are accepted", body.len());
            return Err(ClientError::Refused(Problem::new(Code::TooLarge, detail)));
        }
        answers_of(stream.call(KIND_DECIDE, body, until).await?, expected)
    }

    /// Says what became of an action that reserved. The same again is answered with the first one's record.
    pub async fn settle(
        &self,
        decision: DecisionId,
        outcome: ActionOutcome,
        deadline: Duration,
    ) -> Result<Settlement, ClientError> {
        let until = Instant::now() + deadline;
        let (_place, stream) = self.place_until(until, decision.leaf_index).await?;
        let deadline_ms = deadline_of_node_ms(until - Instant::now());
        let body = SettleV1 { deadline_ms, decision, outcome }.to_bytes();
        if body.len() > FRAME_BYTES_MAX - HEADER_BYTES {
            let detail = format!("the outcome has {} bytes; at most {FRAME_BYTES_MAX} are accepted", body.len());
            return Err(ClientError::Refused(Problem::new(Code::TooLarge, detail)));
        }
        settlement_of(stream.call(KIND_SETTLE, body, until).await?)
    }

    /// A place among the calls under way, and a stream.
    async fn place_until(&self, until: Instant, key: u64) -> Result<(SemaphorePermit<'_>, Stream), ClientError> {
        let in_time = timeout_at(until, async {
            let place = self.places.acquire().await.expect("the semaphore is never closed");
            Ok((place, self.stream_for(key).await?))
        });
        in_time.await.unwrap_or_else(|_| Err(ClientError::NotSent(NO_CONNECTION.into())))
    }

    /// A stream of the connection. Waits for a dial that is under way, but not where the one before it failed: whoever
    /// calls has other nodes to try.
    async fn stream_for(&self, key: u64) -> Result<Stream, ClientError> {
        let mut link = self.link.clone();
        loop {
            match &*link.borrow_and_update() {
                Link::Up(streams) => return Ok(streams[(key % streams.len() as u64) as usize].clone()),
                Link::Down { failing: true, why } => return Err(ClientError::NotSent(why.clone())),
                Link::Down { failing: false, .. } => {}
            }
            if link.changed().await.is_err() {
                return Err(ClientError::NotSent("the door is closed".into()));
            }
        }
    }
}

impl Drop for QuicDoor {
    fn drop(&mut self) {
        self.endpoint.close(quinn::VarInt::from_u32(0), b"the client is done");
    }
}

const NO_CONNECTION: &str = "no connection to the node before the deadline";

/// Agents keep to one stream.
fn stream_key(actions: &[Action]) -> u64 {
    let mut hash = DefaultHasher::new();
    actions.first().map(|action| (&action.tenant, &action.agent)).hash(&mut hash);
    hash.finish()
}

/// What the node is given of the time left, so that its answer is back in time: all but a tenth, or but 50 ms.
fn deadline_of_node_ms(left: Duration) -> u64 {
    let for_the_way = (left / 10).min(Duration::from_millis(50));
    left.saturating_sub(for_the_way).as_millis() as u64
}

fn unreadable<E>(_: E) -> ClientError {
    ClientError::Lost("the answer cannot be read".into())
}

/// A reply of another kind than the one that was hoped for.
fn other(reply: &Reply) -> ClientError {
    match reply.kind {
        KIND_PROBLEM => {
            ProblemV1::from_bytes(&reply.body).map_or_else(unreadable, |told| ClientError::Refused(told.problem))
        }
        kind => ClientError::Lost(format!("an answer of the unknown kind {kind}")),
    }
}

fn settlement_of(reply: Reply) -> Result<Settlement, ClientError> {
    match reply.kind {
        KIND_SETTLED => Ok(SettledV1::from_bytes(&reply.body).map_err(unreadable)?.settlement),
        _ => Err(other(&reply)),
    }
}

fn answers_of(reply: Reply, expected: usize) -> Result<Vec<ItemAnswer>, ClientError> {
    match reply.kind {
        KIND_DECIDED => {
            let answers = DecidedV1::from_bytes(&reply.body).map_err(unreadable)?.answers;
            match answers.len() == expected {
                true => Ok(answers),
                false => Err(ClientError::Lost(format!("{} answers to {expected} actions", answers.len()))),
            }
        }
        _ => Err(other(&reply)),
    }
}

#[cfg(test)]
mod tests;
