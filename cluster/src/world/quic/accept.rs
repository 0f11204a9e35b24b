//! The answering side: takes connections of peers, checks who they are, and serves their streams.
//!
//! A peer's calls come over connections that the peer opened. The *gate* of each (peer, lane) keeps the order across
//! reconnects: once a newer connection has opened a lane, nothing that still arrives on the older one is handled.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use quinn::{Connection, Endpoint, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use nethical_protocol::ids::NodeId;

use super::answer::Stream;
use super::counters::WireCounters;
use super::transport::{CLOSE_IDENTITY, CLOSE_SUPERSEDED, IDLE_TIMEOUT};
use super::{tls, transport};
use crate::world::{self, Clock, Lane, Scope, Service};

/// Handshakes at once (about 1 ms of CPU and 50 KB each); further ones are refused.
const HANDSHAKES_MAX: usize = 64;
/// Handshakes at once past which a caller must first prove that it can receive at its address.
const HANDSHAKES_UNPROVEN_MAX: usize = 16;
/// Connections at once; further ones are refused.
const CONNECTIONS_MAX: usize = 512;
/// Connections of one peer: its two, and two that have not yet noticed that they are dead. The oldest makes room.
const CONNECTIONS_PER_PEER_MAX: usize = 4;

/// The place in the order of arrival of the connection that is heard on a lane.
type Holder = Arc<Mutex<u64>>;

/// What serving peers takes.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) scope: Scope,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) service: Arc<dyn Service>,
    pub(super) counters: Arc<WireCounters>,
    node: NodeId,
    endpoint: Endpoint,
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    peers: Arc<Mutex<BTreeMap<NodeId, Vec<Connection>>>>,
    gates: Arc<Mutex<BTreeMap<(NodeId, Lane), Holder>>>,
}

impl Door {
    pub(super) fn new(
        scope: Scope,
        clock: Arc<dyn Clock>,
        node: NodeId,
        endpoint: Endpoint,
        service: Arc<dyn Service>,
        counters: Arc<WireCounters>,
    ) -> Self {
        Self {
            scope,
            clock,
            service,
            counters,
            node,
            endpoint,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            peers: Arc::default(),
            gates: Arc::default(),
        }
    }

    /// Accepts until the endpoint is closed.
    pub(super) async fn run(self) {
        let mut order = 0;
        while let Some(incoming) = self.endpoint.accept().await {
            order += 1;
            self.admit(incoming, order);
        }
    }

    fn admit(&self, incoming: Incoming, order: u64) {
        let places = (self.handshakes.clone().try_acquire_owned(), self.connections.clone().try_acquire_owned());
        let (Ok(handshake), Ok(place)) = places else {
            self.counters.refused();
            return incoming.refuse();
        };
        let busy = HANDSHAKES_MAX - self.handshakes.available_permits() > HANDSHAKES_UNPROVEN_MAX;
        if busy && !incoming.remote_address_validated() && incoming.may_retry() {
            let _sent = incoming.retry();
            return;
        }
        let door = self.clone();
        self.scope.spawn(async move {
            let _place = place;
            door.connection(incoming, order, handshake).await;
        });
    }

    async fn connection(self, incoming: Incoming, order: u64, handshake: OwnedSemaphorePermit) {
        let address = incoming.remote_address();
        let Some(Ok(connection)) = world::timeout(&*self.clock, IDLE_TIMEOUT, incoming.into_future()).await else {
            self.counters.refused();
            return tracing::debug!(%address, "a handshake of a peer failed");
        };
        drop(handshake);
        let Some(from) = tls::node_of_connection(&connection).filter(|from| *from != self.node) else {
            self.counters.refused();
            tracing::warn!(%address, "refusing a certificate that names no other node");
            return transport::close(&connection, CLOSE_IDENTITY, "the certificate names no other node");
        };
        self.counters.accepted();
        self.enter(from, &connection);
        while let Ok((send, receive)) = connection.accept_bi().await {
            let stream = Stream { door: self.clone(), from, order, connection: connection.clone() };
            self.scope.spawn(stream.run(send, receive));
        }
        self.leave(from, &connection);
    }

    fn enter(&self, from: NodeId, connection: &Connection) {
        let mut peers = self.peers.lock();
        let connections = peers.entry(from).or_default();
        connections.push(connection.clone());
        if connections.len() > CONNECTIONS_PER_PEER_MAX {
            transport::close(&connections.remove(0), CLOSE_SUPERSEDED, "too many connections of one peer");
        }
    }

    fn leave(&self, from: NodeId, connection: &Connection) {
        let mut peers = self.peers.lock();
        if let Some(connections) = peers.get_mut(&from) {
            connections.retain(|other| other.stable_id() != connection.stable_id());
            if connections.is_empty() {
                peers.remove(&from);
            }
        }
    }

    /// The gate of a lane, where the connection with this place in the order of arrival may take it over.
    pub(super) fn gate(&self, from: NodeId, lane: Lane, order: u64) -> Option<Gate> {
        let holder = self.gates.lock().entry((from, lane)).or_default().clone();
        let newer = {
            let mut holder = holder.lock();
            let newer = order > *holder;
            *holder = order.max(*holder);
            newer
        };
        newer.then_some(Gate { holder, order })
    }
}

/// The right of one connection to be heard on one lane, until a newer connection takes it.
pub(super) struct Gate {
    holder: Holder,
    order: u64,
}

impl Gate {
    /// Does `work` while no newer connection can begin; none where one already has.
    pub(super) fn pass<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let holder = self.holder.lock();
        (*holder == self.order).then(work)
    }
}
