//! The production [`Wire`]: calls between nodes over QUIC with certificates on both sides (ARCHITECTURE 16).
//!
//! It carries bytes and knows nothing of what they mean. In the sentence it lies under every arrow between two nodes:
//! route → (another node's) actor, and replicate. It must not retry, must not reorder within a lane, and must not
//! answer `NotSent` for anything that may have left this machine.
//!
//! ```text
//! call ─▶ lane queue (bounded) ─▶ lane task ─ one write a batch ─▶ stream ══▶ stream ─▶ gate ─▶ Service::handle, in order
//!   ▲                                │ number → waiting caller                                     │ future spawned
//!   └────────────── answer ◀─────────┴◀═══════════════ answers, in order of completion ◀═══════════┘
//! ```
//!
//! Each node keeps two connections *out* to each peer, one for [`Lane::Pulse`] alone and one for the rest, and carries
//! its own calls over them; the peer's calls come in over the peer's own two. Each lane is one long-lived stream that
//! begins with a hello frame naming the lane. A connection that fails takes its unanswered calls with it (`Lost`);
//! calls not yet written wait for the next connection, or for the first dial that fails (`NotSent`).
//!
//! Caveats. A dead machine is noticed after three silent seconds; deadlines are the caller's. A body of more than 4 KiB
//! is a slice of the 64 KiB block it was read into: copy out what is to be kept. There is no revocation list: a node's
//! certificate is good until it lapses.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use quinn::Endpoint;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use nethical_protocol::ids::NodeId;
use nethical_protocol::limits::FRAME_BYTES_MAX;

use super::{Clock, Lane, Scope, Service, Wire, WireError};

mod accept;
mod answer;
mod counters;
mod dial;
mod framing;
mod ground;
mod hello;
mod lane;
mod peer;
mod queue;
mod runtime;
mod tls;
mod transport;

pub use counters::{WireCounters, WireCounts};
pub use ground::Ground;
pub use queue::QueueBounds;
pub use tls::node_of_certificate;

use peer::Peer;

/// What a wire is made from.
pub struct QuicOptions {
    /// This node.
    pub node: NodeId,
    /// The socket at which peers reach this node, and the cryptography of its handshakes.
    pub ground: Ground,
    /// Where the other nodes are. [`QuicWire::set_peers`] changes it later.
    pub peers: BTreeMap<NodeId, SocketAddr>,
    /// This node's certificate, then those that lead to the authority. Must name `node-<id>.nethical`.
    pub certificate_chain: Vec<CertificateDer<'static>>,
    /// The certificate's private key.
    pub key: PrivateKeyDer<'static>,
    /// The authorities whose certificates are accepted.
    pub ca: Vec<CertificateDer<'static>>,
    /// Bounds of each lane's queue to each peer.
    pub queue: QueueBounds,
}

/// Why there is no wire.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// Certificate, key or authority is unusable.
    #[error("certificates between nodes: {0}")]
    Certificates(String),
    /// The address cannot be bound.
    #[error("listening for peers on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The socket has no address.
    #[error("the socket for peers: {0}")]
    Socket(io::Error),
}

/// The wire of one node. Everything it runs dies with the scope it was bound in.
pub struct QuicWire {
    scope: Scope,
    clock: Arc<dyn Clock>,
    node: NodeId,
    endpoint: Endpoint,
    bounds: QueueBounds,
    peers: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    service: OnceLock<Arc<dyn Service>>,
    counters: Arc<WireCounters>,
}

impl QuicWire {
    /// Takes the socket over and starts dialling the peers. Incoming connections wait until [`Wire::serve`].
    pub fn bind(scope: Scope, clock: Arc<dyn Clock>, options: QuicOptions) -> Result<Arc<Self>, QuicError> {
        let QuicOptions { node, ground, peers, certificate_chain, key, ca, queue } = options;
        let own = certificate_chain.first().and_then(tls::node_of_certificate);
        if own != Some(node) {
            let name = tls::name_of_node(node);
            return Err(QuicError::Certificates(format!("the node's own certificate does not name {name}")));
        }
        let secret = transport::reset_secret(&key);
        let (server, client) = tls::configs(&clock, ground.provider, certificate_chain, key, ca)?;
        let endpoint =
            transport::endpoint(&scope, ground.socket, &secret, server, client).map_err(QuicError::Socket)?;
        let wire = Arc::new(Self {
            scope,
            clock,
            node,
            endpoint,
            bounds: queue,
            peers: RwLock::new(BTreeMap::new()),
            service: OnceLock::new(),
            counters: Arc::default(),
        });
        wire.set_peers(&peers);
        Ok(wire)
    }

    /// Where this node listens.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// What has happened so far, for metrics and tests.
    pub fn counts(&self) -> WireCounts {
        self.counters.read()
    }

    /// Replaces the table of peers. A peer whose address changed is dialled anew; one that is gone is dropped with its
    /// unanswered calls. This node's own entry is ignored.
    pub fn set_peers(&self, table: &BTreeMap<NodeId, SocketAddr>) {
        let mut peers = self.peers.write();
        peers.retain(|node, _| table.contains_key(node));
        for (node, address) in table.iter().filter(|(node, _)| **node != self.node) {
            match peers.get(node) {
                Some(peer) => peer.move_to(*address),
                None => drop(peers.insert(*node, self.start_peer(*node, *address))),
            }
        }
    }

    /// Tells the peers that this node stops, and waits until they have heard or three seconds are over.
    pub async fn close(&self) {
        self.endpoint.close(transport::CLOSE_STOPPING, b"the node stops");
        super::timeout(&*self.clock, transport::IDLE_TIMEOUT, self.endpoint.wait_idle()).await;
    }

    fn start_peer(&self, node: NodeId, address: SocketAddr) -> Arc<Peer> {
        let dialer = dial::Dialer {
            scope: self.scope.clone(),
            clock: self.clock.clone(),
            endpoint: self.endpoint.clone(),
            to: node,
            counters: self.counters.clone(),
        };
        Arc::new(Peer::start(dialer, address, self.bounds))
    }

    /// A call to this node itself: no network, the same order.
    fn call_self(&self, lane: Lane, kind: u16, body: Bytes, deadline: Duration) -> Answering {
        let to = self.node;
        let Some(service) = self.service.get() else {
            return refuse(to, "this node does not serve yet");
        };
        let (work, sleep) = (service.handle(to, lane, kind, body), self.clock.sleep(deadline));
        async move {
            tokio::select! {
                biased;
                answer = work => Ok(answer),
                () = sleep => Err(WireError::Lost { to, why: "the deadline ran out".into() }),
            }
        }
        .boxed()
    }
}

type Answering = BoxFuture<'static, Result<Bytes, WireError>>;

fn refuse(to: NodeId, why: impl Into<String>) -> Answering {
    futures::future::ready(Err(WireError::NotSent { to, why: why.into() })).boxed()
}

impl Wire for QuicWire {
    fn call(&self, to: NodeId, lane: Lane, kind: u16, body: Bytes, deadline: Duration) -> Answering {
        if body.len() > FRAME_BYTES_MAX {
            return refuse(to, format!("{} bytes; at most {FRAME_BYTES_MAX} fit a frame", body.len()));
        }
        if to == self.node {
            return self.call_self(lane, kind, body, deadline);
        }
        let Some(peer) = self.peers.read().get(&to).cloned() else {
            return refuse(to, "no such peer");
        };
        if let Some(why) = peer.refuses(lane) {
            // The peer has failed repeatedly. Answer soon, so that the caller tries elsewhere, but not at once, so that
            // a caller that tries here again does not spin.
            let pause = self.clock.sleep(deadline.min(dial::BREAKER_PAUSE));
            return pause.map(move |()| Err(WireError::NotSent { to, why })).boxed();
        }
        match peer.lane(lane).push(kind, body) {
            Ok(waiting) => waiting.answer(to, self.clock.sleep(deadline)).boxed(),
            Err(why) => refuse(to, why),
        }
    }

    fn serve(&self, service: Arc<dyn Service>) {
        assert!(self.service.set(service.clone()).is_ok(), "Wire::serve is called once");
        let door = accept::Door::new(
            self.scope.clone(),
            self.clock.clone(),
            self.node,
            self.endpoint.clone(),
            service,
            self.counters.clone(),
        );
        self.scope.spawn(door.run());
    }
}

impl Drop for QuicWire {
    fn drop(&mut self) {
        self.endpoint.close(transport::CLOSE_STOPPING, b"the node stops");
    }
}

#[cfg(test)]
mod tests;
