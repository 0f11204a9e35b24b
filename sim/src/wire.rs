//! The network of the fake world as whole calls: an in-memory [`Wire`] for each node.
//!
//! Each lane from one node to another is a queue in order. A message meets what its [`Link`](crate::links::Link) is in
//! at that moment: it may be late, lost, or there twice; what is under way when a link is cut is gone. Handles belong to
//! one incarnation of a node and go dead with it. A caller is told `NotSent` only where there is no connection any more
//! and none can be made; on a connection that has just been silent for a moment a call is sent, and `Lost`.

use std::collections::BTreeMap;
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
use crate::links::{Link, Links};
use crate::trace::{Field, Trace};

/// Messages of one lane that may be under way.
const LANE_QUEUE_MAX: usize = 4_096;
/// A connection whose other end is silent is given up after this long.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Jitter of a healthy link, in percent of its latency.
const JITTER_PERCENT: u64 = 15;
/// A dial that fails takes a moment too; an error in no time would let callers spin.
const DIAL_PATIENCE: Duration = Duration::from_millis(20);

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
    links: Links,
    state: Mutex<State>,
}

struct State {
    dice: ChaCha12Rng,
    ends: BTreeMap<NodeId, End>,
    lanes: BTreeMap<(NodeId, NodeId, Lane), Carrier>,
    /// When the last answer of a connection came.
    heard: BTreeMap<(NodeId, NodeId), Duration>,
    /// Until when a link of bounded bandwidth is busy.
    busy: BTreeMap<(NodeId, NodeId), Duration>,
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
    is_lost: bool,
    is_doubled: bool,
}

/// From whom to whom, on which lane.
#[derive(Clone, Copy)]
struct Path {
    from: NodeId,
    to: NodeId,
    lane: Lane,
}

impl Network {
    /// A network over these links.
    pub fn new(clock: SimClock, trace: Trace, dice: ChaCha12Rng, links: Links) -> Self {
        let state = Mutex::new(State::of(dice));
        Self { inner: Arc::new(Inner { scope: Scope::new([0; 32]), clock, trace, links, state }) }
    }

    /// A wire for a node that starts. Earlier wires of the node are dead.
    pub fn attach(&self, node: NodeId, scope: Scope) -> Arc<SimWire> {
        let mut state = self.inner.state.lock();
        let end = state.ends.entry(node).or_default();
        let incarnation = end.incarnation + 1;
        *end = End { incarnation, scope: Some(scope), service: None };
        state.heard.retain(|(from, _), _| *from != node);
        Arc::new(SimWire { network: self.clone(), node, incarnation })
    }

    /// The node is gone: nobody listens there, and its wire is dead.
    pub fn detach(&self, node: NodeId) {
        let mut state = self.inner.state.lock();
        let end = state.ends.entry(node).or_default();
        *end = End { incarnation: end.incarnation + 1, scope: None, service: None };
    }

    /// Ends everything that is under way.
    pub fn end(&self) {
        self.inner.scope.kill();
        *self.inner.state.lock() = State::of(crate::dice::fork(0, "ended"));
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
        let link = self.inner.links.condition(path.from, to);
        let now = self.inner.clock.real();
        let mut state = self.inner.state.lock();
        if !state.is_alive(wire.node, wire.incarnation) {
            return Err("this node has died");
        }
        let receiver = state.ends.get(&to).filter(|end| end.service.is_some()).map(|end| end.incarnation);
        let (reply, answer) = oneshot::channel();
        let (Some(receiver), false) = (receiver, link.is_cut) else {
            let silent_for = state.heard.get(&(path.from, to)).map(|heard| now.saturating_sub(*heard));
            return match silent_for {
                // The connection still stands as far as its sender can tell.
                Some(silent_for) if silent_for < SILENCE_MAX => Ok(answer),
                _ => Err("nobody answers there"),
            };
        };
        let latency = state.latency(path, &link, body.len(), now);
        let is_lost = state.strikes(link.loss_permille);
        let is_doubled = state.strikes(link.duplicate_permille);
        let carrier = self.carrier(&mut state, path);
        let arrives = (now + latency).max(carrier.last_arrival);
        carrier.last_arrival = arrives;
        let packet = Packet { arrives, sender: wire.incarnation, receiver, kind, body, reply, is_lost, is_doubled };
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
            if packet.is_doubled {
                let (reply, _) = oneshot::channel();
                let copy = Packet { body: packet.body.clone(), reply, ..packet };
                self.deliver(path, copy).await;
            }
            self.deliver(path, packet).await;
        }
    }

    #[allow(
        clippy::async_yields_async,
        reason = "handling begins here, in order, and goes on as a task of the receiver"
    )]
    async fn deliver(&self, path: Path, packet: Packet) {
        let Packet { sender, receiver, kind, body, reply, is_lost, .. } = packet;
        let Path { from, to, lane } = path;
        let taker = if is_lost { None } else { self.receiver(path, receiver) };
        let Some((scope, service)) = taker else {
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
        if self.inner.links.condition(path.from, path.to).is_cut {
            return None;
        }
        let state = self.inner.state.lock();
        if !state.is_alive(path.to, incarnation) {
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
        let back = Path { from: path.to, to: path.from, lane: path.lane };
        let link = self.inner.links.condition(back.from, back.to);
        let (latency, is_lost) = {
            let mut state = self.inner.state.lock();
            if !state.is_alive(path.to, receiver) {
                return;
            }
            let latency = state.latency(back, &link, body.len(), self.inner.clock.real());
            (latency, state.strikes(link.loss_permille))
        };
        let network = self.clone();
        self.inner.scope.spawn(async move {
            network.inner.clock.sleep(latency).await;
            let is_cut = network.inner.links.condition(path.to, path.from).is_cut;
            let arrives = {
                let mut state = network.inner.state.lock();
                let arrives = !is_lost && !is_cut && state.is_alive(path.from, sender);
                if arrives {
                    state.heard.insert((path.from, path.to), network.inner.clock.real());
                }
                arrives
            };
            network.note(path.from, if arrives { "answer" } else { "answer-lost" }, path, kind, &body);
            if arrives {
                let _ = reply.send(body);
            }
        });
    }

    fn note(&self, node: NodeId, what: &'static str, path: Path, kind: u16, body: &Bytes) {
        let lane: &'static str = lane_name(path.lane);
        self.inner.trace.event(
            self.inner.clock.real(),
            Some(node),
            "message",
            &[
                ("message", Field::Text(what)),
                ("from", Field::Number(path.from.0)),
                ("to", Field::Number(path.to.0)),
                ("lane", Field::Text(lane)),
                ("call", Field::Number(u64::from(kind))),
                ("bytes", Field::Number(body.len() as u64)),
                ("checksum", Field::Number(u64::from(crc32c::crc32c(body)))),
            ],
        );
    }
}

/// A lane's name in traces.
pub fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Pulse => "pulse",
        Lane::Log => "log",
        Lane::Control => "control",
        Lane::Decide => "decide",
        Lane::Bulk => "bulk",
    }
}

impl State {
    fn of(dice: ChaCha12Rng) -> Self {
        let (ends, lanes) = (BTreeMap::new(), BTreeMap::new());
        Self { dice, ends, lanes, heard: BTreeMap::new(), busy: BTreeMap::new() }
    }

    fn is_alive(&self, node: NodeId, incarnation: u64) -> bool {
        self.ends.get(&node).is_some_and(|end| end.incarnation == incarnation && end.scope.is_some())
    }

    fn strikes(&mut self, permille: u32) -> bool {
        permille > 0 && self.dice.random_ratio(permille.min(1_000), 1_000)
    }

    /// How long a message is under way, in whole milliseconds, which is the grain of tokio's timers.
    fn latency(&mut self, path: Path, link: &Link, bytes: usize, now: Duration) -> Duration {
        let usual = (link.latency_ms * JITTER_PERCENT).div_ceil(100);
        let jitter = self.dice.random_range(0..=usual + link.jitter_ms);
        let mut latency = Duration::from_millis(link.latency_ms + jitter);
        if let Some(bytes_per_s) = link.bytes_per_s {
            let takes = Duration::from_millis((bytes as u64 * 1_000).div_ceil(bytes_per_s.max(1)));
            let free = self.busy.get(&(path.from, path.to)).copied().unwrap_or_default().max(now) + takes;
            self.busy.insert((path.from, path.to), free);
            latency += free - now;
        }
        latency
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
        let (work, clock) = (service.handle(to, lane, kind, body), self.network.inner.clock.clone());
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
        let (posted, clock) = (self.network.post(self, to, lane, kind, body), self.network.inner.clock.clone());
        let patience = deadline.min(SILENCE_MAX);
        async move {
            let answer = match posted {
                Ok(answer) => answer,
                Err(why) => {
                    clock.sleep(DIAL_PATIENCE.min(deadline)).await;
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
