//! The network of the fake world: an in-memory [`Wire`] for each node.
//!
//! Each lane from one node to another is a queue in order. A message takes the link's latency, which differs by
//! direction, and seeded jitter. Links can be cut in one direction; what is under way when a link is cut is gone.
//! Handles belong to one incarnation of a node and go dead with it. A caller is told `NotSent` only where the link was
//! cut, or nobody listened, when it called; afterwards it learns nothing until its patience ends: `Lost`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use tokio::sync::{mpsc, oneshot};

use nethical_cluster::world::{Clock, Lane, Scope, Service, Wire, WireError};
use nethical_protocol::ids::NodeId;

use crate::clock::SimClock;
use crate::trace::{Trace, payload_digest};

/// Messages of one lane that may be under way.
const LANE_QUEUE_MAX: usize = 4_096;
/// A connection whose other end is silent is given up after this long.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Jitter, in percent of a link's latency.
const JITTER_PERCENT: u64 = 15;

/// All links between all nodes. A clone is the same network.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    /// Messages under way outlive their sender, so they are carried by tasks of no node.
    scope: Scope,
    clock: SimClock,
    trace: Trace,
    state: Mutex<State>,
}

struct State {
    dice: ChaCha12Rng,
    latency_ms: BTreeMap<(NodeId, NodeId), u64>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    ends: BTreeMap<NodeId, End>,
    lanes: BTreeMap<(NodeId, NodeId, Lane), Carrier>,
}

/// One node's end of the network.
#[derive(Default)]
struct End {
    incarnation: u64,
    scope: Option<Scope>,
    service: Option<Arc<dyn Service>>,
}

/// One lane in one direction.
struct Carrier {
    queue: mpsc::Sender<Packet>,
    last_arrival: Duration,
}

struct Packet {
    arrives: Duration,
    sender: u64,
    receiver: u64,
    kind: u16,
    body: Bytes,
    reply: oneshot::Sender<Bytes>,
}

/// From whom to whom, on which lane.
#[derive(Clone, Copy)]
struct Path {
    from: NodeId,
    to: NodeId,
    lane: Lane,
}

impl Network {
    /// A network with these one-way latencies, in milliseconds.
    pub fn new(clock: SimClock, trace: Trace, dice: ChaCha12Rng, latency_ms: BTreeMap<(NodeId, NodeId), u64>) -> Self {
        let (cuts, ends, lanes) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        let state = Mutex::new(State { dice, latency_ms, cuts, ends, lanes });
        Self { inner: Arc::new(Inner { scope: Scope::new([0; 32]), clock, trace, state }) }
    }

    /// A wire for a node that starts. Earlier wires of the node are dead.
    pub fn attach(&self, node: NodeId, scope: Scope) -> Arc<SimWire> {
        let mut state = self.inner.state.lock();
        let end = state.ends.entry(node).or_default();
        let incarnation = end.incarnation + 1;
        *end = End { incarnation, scope: Some(scope), service: None };
        Arc::new(SimWire { network: self.clone(), node, incarnation })
    }

    /// The node is gone: nobody listens there, and its wire is dead.
    pub fn detach(&self, node: NodeId) {
        let mut state = self.inner.state.lock();
        let end = state.ends.entry(node).or_default();
        *end = End { incarnation: end.incarnation + 1, scope: None, service: None };
    }

    /// Cuts a link in one direction.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.inner.state.lock().cuts.insert((from, to));
    }

    /// Mends a link in one direction.
    pub fn mend(&self, from: NodeId, to: NodeId) {
        self.inner.state.lock().cuts.remove(&(from, to));
    }

    /// Ends everything that is under way.
    pub fn end(&self) {
        self.inner.scope.kill();
        *self.inner.state.lock() = State {
            dice: crate::dice::fork(0, "ended"),
            latency_ms: BTreeMap::new(),
            cuts: BTreeSet::new(),
            ends: BTreeMap::new(),
            lanes: BTreeMap::new(),
        };
    }

    /// Puts a message on its way; the error says what stood in the way.
    fn post(
        &self,
        wire: &SimWire,
        to: NodeId,
        lane: Lane,
        kind: u16,
        body: Bytes,
    ) -> Result<oneshot::Receiver<Bytes>, &'static str> {
        let path = Path { from: wire.node, to, lane };
        let mut state = self.inner.state.lock();
        if !state.is_alive(wire.node, wire.incarnation) {
            return Err("this node has died");
        }
        if state.cuts.contains(&(path.from, to)) {
            return Err("the link is cut");
        }
        let receiver = match state.ends.get(&to) {
            Some(end) if end.service.is_some() => end.incarnation,
            _ => return Err("nobody listens there"),
        };
        let latency = state.latency(path.from, to);
        let carrier = self.carrier(&mut state, path);
        let arrives = (self.inner.clock.now() + latency).max(carrier.last_arrival);
        carrier.last_arrival = arrives;
        let (reply, answer) = oneshot::channel();
        let packet = Packet { arrives, sender: wire.incarnation, receiver, kind, body, reply };
        match carrier.queue.try_send(packet) {
            Ok(()) => Ok(answer),
            Err(_) => Err("the lane's queue is full"),
        }
    }

    fn carrier<'a>(&self, state: &'a mut State, path: Path) -> &'a mut Carrier {
        state.lanes.entry((path.from, path.to, path.lane)).or_insert_with(|| {
            let (queue, packets) = mpsc::channel(LANE_QUEUE_MAX);
            self.inner.scope.spawn(self.clone().carry(path, packets));
            Carrier { queue, last_arrival: Duration::ZERO }
        })
    }

    /// Delivers one lane's messages in order. Runs until the network ends.
    async fn carry(self, path: Path, mut packets: mpsc::Receiver<Packet>) {
        while let Some(packet) = packets.recv().await {
            self.inner.clock.reach(packet.arrives).await;
            self.deliver(path, packet).await;
        }
    }

    #[allow(
        clippy::async_yields_async,
        reason = "handling begins here, in order, and goes on as a task of the receiver"
    )]
    async fn deliver(&self, path: Path, packet: Packet) {
        let Packet { sender, receiver, kind, body, reply, .. } = packet;
        let Path { from, to, lane } = path;
        let Some((scope, service)) = self.receiver(path, receiver) else {
            self.note(to, "lost", path, kind, &body);
            return;
        };
        self.note(to, "deliver", path, kind, &body);
        let work = scope.enter(async move { service.handle(from, lane, kind, body) }).await;
        let network = self.clone();
        scope.spawn(async move {
            let answer = work.await;
            network.answer(path, (sender, receiver), kind, answer, reply);
        });
    }

    /// Who takes the message, where it still can be taken.
    fn receiver(&self, path: Path, incarnation: u64) -> Option<(Scope, Arc<dyn Service>)> {
        let state = self.inner.state.lock();
        if state.cuts.contains(&(path.from, path.to)) || !state.is_alive(path.to, incarnation) {
            return None;
        }
        let end = state.ends.get(&path.to)?;
        Some((end.scope.clone()?, end.service.clone()?))
    }

    /// Sends an answer back. Answers of one lane may overtake each other, as they do over QUIC.
    fn answer(
        &self,
        path: Path,
        (sender, receiver): (u64, u64),
        kind: u16,
        body: Bytes,
        reply: oneshot::Sender<Bytes>,
    ) {
        let latency = {
            let mut state = self.inner.state.lock();
            if !state.is_alive(path.to, receiver) {
                return;
            }
            state.latency(path.to, path.from)
        };
        let network = self.clone();
        self.inner.scope.spawn(async move {
            network.inner.clock.sleep(latency).await;
            let arrives = {
                let state = network.inner.state.lock();
                !state.cuts.contains(&(path.to, path.from)) && state.is_alive(path.from, sender)
            };
            network.note(path.from, if arrives { "answer" } else { "answer-lost" }, path, kind, &body);
            if arrives {
                let _ = reply.send(body);
            }
        });
    }

    fn note(&self, node: NodeId, what: &str, path: Path, kind: u16, body: &Bytes) {
        let Path { from, to, lane } = path;
        let digest = payload_digest(body);
        self.inner.trace.event(
            self.inner.clock.now(),
            Some(node),
            what,
            format_args!("{from}>{to} {lane:?} kind={kind} {} B {digest}", body.len()),
        );
    }
}

impl State {
    fn is_alive(&self, node: NodeId, incarnation: u64) -> bool {
        self.ends.get(&node).is_some_and(|end| end.incarnation == incarnation && end.scope.is_some())
    }

    /// One draw of a link's latency, in whole milliseconds, which is the grain of tokio's timers.
    fn latency(&mut self, from: NodeId, to: NodeId) -> Duration {
        let base = self.latency_ms.get(&(from, to)).copied().unwrap_or(1);
        let jitter = self.dice.random_range(0..=(base * JITTER_PERCENT).div_ceil(100));
        Duration::from_millis(base + jitter)
    }
}

/// One incarnation of one node on the network.
pub struct SimWire {
    network: Network,
    node: NodeId,
    incarnation: u64,
}

impl SimWire {
    fn call_self(
        &self,
        lane: Lane,
        kind: u16,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, WireError>> {
        let to = self.node;
        let service = self.network.inner.state.lock().ends.get(&to).and_then(|end| end.service.clone());
        let Some(service) = service else {
            let error = WireError::NotSent { to, why: "this node does not serve yet".to_owned() };
            return async move { Err(error) }.boxed();
        };
        let (work, clock) = (service.handle(to, lane, kind, body), self.network.inner.clock);
        async move {
            let answer = nethical_cluster::world::timeout(&clock, deadline, work).await;
            answer.ok_or_else(|| WireError::Lost { to, why: "the deadline ran out".to_owned() })
        }
        .boxed()
    }
}

impl Wire for SimWire {
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        kind: u16,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, WireError>> {
        if to == self.node {
            return self.call_self(lane, kind, body, deadline);
        }
        let (posted, clock) = (self.network.post(self, to, lane, kind, body), self.network.inner.clock);
        let patience = deadline.min(SILENCE_MAX);
        async move {
            let answer = match posted {
                Ok(answer) => answer,
                Err(why) => {
                    // A dial that fails takes a moment too; an error in no time would let callers spin.
                    clock.sleep(Duration::from_millis(20).min(deadline)).await;
                    return Err(WireError::NotSent { to, why: why.to_owned() });
                }
            };
            let begun = clock.now();
            match nethical_cluster::world::timeout(&clock, deadline, answer).await {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(_)) => clock.sleep(patience.saturating_sub(clock.now().saturating_sub(begun))).await,
                None => {}
            }
            Err(WireError::Lost { to, why: "no answer came in time".to_owned() })
        }
        .boxed()
    }

    fn serve(&self, service: Arc<dyn Service>) {
        let mut state = self.network.inner.state.lock();
        if !state.is_alive(self.node, self.incarnation) {
            return;
        }
        if let Some(end) = state.ends.get_mut(&self.node) {
            end.service = Some(service);
        }
    }
}

#[cfg(test)]
mod tests;
