//! The simulated UDP network, for the cluster's own QUIC wire: sockets that quinn takes for the system's.
//!
//! A datagram takes the link's latency and a little seeded luck, in order, as on a path whose queues breathe. Faults
//! lose, double and reorder datagrams, and let a link carry only so much; what is under way when a link is cut is gone.
//! A node keeps its address over its deaths: what is under way to it when it dies meets whoever listens there on arrival.
//! A socket goes dead with its node's incarnation: it hears nothing any more, and what it sends goes nowhere.
//!
//! The trace gets times and sizes, never bytes. Nothing here knows what datagrams carry.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use tokio::time::{Sleep, sleep_until};

use nethical_cluster::world::Scope;
use nethical_protocol::ids::NodeId;

use crate::clock::SimClock;
use crate::links::Link;
use crate::trace::{Field, Trace};

/// The largest datagram that passes: an Ethernet frame without its IP and UDP headers.
const DATAGRAM_BYTES_MAX: usize = 1_472;
/// Datagrams under way to one node; further ones are lost.
const INBOX_MAX: usize = 16_384;
/// What waits for a link of bounded bandwidth, in time; further datagrams are lost.
const BACKLOG_MAX: Duration = Duration::from_millis(250);
/// Luck, in percent of a link's latency. It does not reorder.
const LUCK_PERCENT: u64 = 15;
/// Datagrams that quinn may hand over at once.
const SEGMENTS_MAX: usize = 10;
/// Where every node listens.
const PORT: u16 = 4_433;
/// The network of the addresses; the node's id is the rest.
const PREFIX: u128 = 0xfd00 << 112;

/// Says what a datagram meets between two nodes now.
pub type Conditions = Arc<dyn Fn(NodeId, NodeId) -> Link + Send + Sync>;

/// Where a node is reached, in all its incarnations.
pub fn address_of(node: NodeId) -> SocketAddr {
    SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from_bits(PREFIX | u128::from(node.0)), PORT, 0, 0))
}

fn node_of(address: SocketAddr) -> Option<NodeId> {
    match address {
        SocketAddr::V6(v6) => Some(NodeId(u64::try_from(v6.ip().to_bits() ^ PREFIX).ok()?)),
        SocketAddr::V4(_) => None,
    }
}

/// All links between all nodes. A clone is the same network.
#[derive(Clone)]
pub struct UdpNetwork {
    inner: Arc<Inner>,
}

struct Inner {
    clock: SimClock,
    trace: Trace,
    conditions: Conditions,
    state: Mutex<State>,
}

struct State {
    dice: ChaCha12Rng,
    /// Datagrams sent so far. Of those that arrive at one instant the one sent first is heard first.
    sent: u64,
    hosts: BTreeMap<NodeId, Host>,
    paths: BTreeMap<(NodeId, NodeId), Path>,
}

/// What listens at one address, and what is under way to it.
#[derive(Default)]
struct Host {
    incarnation: u64,
    listens: bool,
    /// By time of arrival and place in the order of sending.
    inbox: BTreeMap<(Duration, u64), Datagram>,
    reader: Option<Waker>,
}

/// One direction between two nodes.
#[derive(Default)]
struct Path {
    last_arrival: Duration,
    free_at: Duration,
}

struct Datagram {
    from: NodeId,
    contents: Box<[u8]>,
    ecn: Option<EcnCodepoint>,
}

impl UdpNetwork {
    /// A network whose links are as `conditions` says at each moment.
    pub fn new(clock: SimClock, trace: Trace, dice: ChaCha12Rng, conditions: Conditions) -> Self {
        let state = Mutex::new(State { dice, sent: 0, hosts: BTreeMap::new(), paths: BTreeMap::new() });
        Self { inner: Arc::new(Inner { clock, trace, conditions, state }) }
    }

    /// The socket of a node that starts. Earlier sockets of the node are dead.
    pub fn attach(&self, node: NodeId, scope: Scope) -> Arc<SimSocket> {
        self.drop_arrived(node);
        let mut state = self.inner.state.lock();
        let host = state.hosts.entry(node).or_default();
        host.incarnation += 1;
        (host.listens, host.reader) = (true, None);
        let timer = Mutex::new(Box::pin(sleep_until(self.inner.clock.instant(Duration::ZERO))));
        Arc::new(SimSocket { network: self.clone(), node, incarnation: host.incarnation, scope, timer })
    }

    /// The node is gone: nobody listens there, and its socket is dead.
    pub fn detach(&self, node: NodeId) {
        let mut state = self.inner.state.lock();
        let host = state.hosts.entry(node).or_default();
        host.incarnation += 1;
        (host.listens, host.reader) = (false, None);
    }

    /// Forgets everything that is under way, and everybody.
    pub fn end(&self) {
        let mut state = self.inner.state.lock();
        state.hosts.clear();
        state.paths.clear();
    }

    /// What arrived while nobody listened is lost.
    fn drop_arrived(&self, node: NodeId) {
        let mut lost = Vec::new();
        if let Some(host) = self.inner.state.lock().hosts.get_mut(&node) {
            while let Some(datagram) = host.take_arrived(self.inner.clock.real()) {
                lost.push(datagram);
            }
        }
        lost.iter().for_each(|datagram| self.note("udp-unheard", datagram.from, node, datagram.contents.len()));
    }

    /// Puts a datagram on its way.
    fn send(&self, from: NodeId, to: NodeId, contents: &[u8], ecn: Option<EcnCodepoint>) {
        let link = (self.inner.conditions)(from, to);
        let mut state = self.inner.state.lock();
        let arrivals = match state.arrivals(self.inner.clock.real(), (from, to), link, contents.len()) {
            Ok(arrivals) => arrivals,
            Err(fate) => return self.note(fate, from, to, contents.len()),
        };
        let mut reader = None;
        for arrives in arrivals.into_iter().flatten() {
            state.sent += 1;
            let number = state.sent;
            let host = state.hosts.entry(to).or_default();
            if host.inbox.len() >= INBOX_MAX {
                return self.note("udp-overflow", from, to, contents.len());
            }
            if host.inbox.first_key_value().is_none_or(|((first, _), _)| arrives < *first) {
                reader = host.reader.take().or(reader);
            }
            host.inbox.insert((arrives, number), Datagram { from, contents: contents.into(), ecn });
        }
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Fills the buffers with what has arrived; where nothing has, says when to look again.
    fn receive(
        &self,
        socket: &SimSocket,
        reader: &Waker,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Received {
        let now = self.inner.clock.real();
        let mut state = self.inner.state.lock();
        let Some(host) = state.hosts.get_mut(&socket.node).filter(|_| !socket.scope.is_dead()) else {
            return Received::Never;
        };
        if !host.listens || host.incarnation != socket.incarnation {
            return Received::Never;
        }
        let mut filled = 0;
        while filled < bufs.len().min(meta.len()) {
            let Some(Datagram { from, contents, ecn }) = host.take_arrived(now) else { break };
            if (self.inner.conditions)(from, socket.node).is_cut {
                self.note("udp-cut", from, socket.node, contents.len());
                continue;
            }
            self.note("udp", from, socket.node, contents.len());
            let len = contents.len();
            bufs[filled][..len].copy_from_slice(&contents);
            meta[filled] = RecvMeta { addr: address_of(from), len, stride: len, ecn, dst_ip: None };
            filled += 1;
        }
        if filled > 0 {
            return Received::Datagrams(filled);
        }
        host.reader = Some(reader.clone());
        host.inbox.first_key_value().map_or(Received::Nothing, |((arrives, _), _)| Received::Until(*arrives))
    }

    fn note(&self, what: &'static str, from: NodeId, to: NodeId, bytes: usize) {
        let fields = [("from", Field::Number(from.0)), ("bytes", Field::Number(bytes as u64))];
        self.inner.trace.event(self.inner.clock.real(), Some(to), what, &fields);
    }
}

/// What came of looking for datagrams.
enum Received {
    /// So many.
    Datagrams(usize),
    /// None; the next one that is known arrives then.
    Until(Duration),
    /// None, and none is under way.
    Nothing,
    /// The socket is dead.
    Never,
}

impl Host {
    fn take_arrived(&mut self, now: Duration) -> Option<Datagram> {
        let next = self.inbox.first_entry()?;
        (next.key().0 <= now).then(|| next.remove())
    }
}

impl State {
    /// When a datagram arrives, and its double where it has one; or why it does not.
    fn arrivals(
        &mut self,
        now: Duration,
        path: (NodeId, NodeId),
        link: Link,
        bytes: usize,
    ) -> Result<[Option<Duration>; 2], &'static str> {
        if link.is_cut {
            return Err("udp-cut");
        }
        if bytes > DATAGRAM_BYTES_MAX {
            return Err("udp-too-large");
        }
        if self.happens(link.loss_permille) {
            return Err("udp-lost");
        }
        let way = self.paths.entry(path).or_default();
        let mut leaves = now;
        if let Some(bytes_per_s) = link.bytes_per_s {
            leaves = now.max(way.free_at);
            if leaves - now > BACKLOG_MAX {
                return Err("udp-backlog");
            }
            leaves += Duration::from_secs_f64(bytes as f64 / bytes_per_s.max(1) as f64);
            way.free_at = leaves;
        }
        let luck = self.dice.random_range(0..=(link.latency_ms * LUCK_PERCENT).div_ceil(100));
        let arrives = (leaves + Duration::from_millis(link.latency_ms + luck)).max(way.last_arrival);
        way.last_arrival = arrives;
        let double = self.happens(link.duplicate_permille).then(|| arrives + self.jitter(link));
        Ok([Some(arrives + self.jitter(link)), double])
    }

    /// Draws only where it must: most links lose nothing.
    fn happens(&mut self, permille: u32) -> bool {
        permille > 0 && self.dice.random_ratio(permille.min(1_000), 1_000)
    }

    fn jitter(&mut self, link: Link) -> Duration {
        let most = link.jitter_ms;
        Duration::from_millis(if most == 0 { 0 } else { self.dice.random_range(0..=most) })
    }
}

/// One incarnation's socket.
pub struct SimSocket {
    network: UdpNetwork,
    node: NodeId,
    incarnation: u64,
    scope: Scope,
    /// Wakes the reader for the next arrival.
    timer: Mutex<Pin<Box<Sleep>>>,
}

impl SimSocket {
    fn is_alive(&self) -> bool {
        let state = self.network.inner.state.lock();
        let same = |host: &Host| host.listens && host.incarnation == self.incarnation;
        !self.scope.is_dead() && state.hosts.get(&self.node).is_some_and(same)
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket({})", self.node)
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(to) = node_of(transmit.destination).filter(|_| self.is_alive()) else { return Ok(()) };
        for datagram in transmit.contents.chunks(transmit.segment_size.unwrap_or(usize::MAX)) {
            self.network.send(self.node, to, datagram, transmit.ecn);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.network.receive(self, cx.waker(), bufs, meta) {
                Received::Datagrams(count) => return Poll::Ready(Ok(count)),
                Received::Nothing | Received::Never => return Poll::Pending,
                Received::Until(arrives) => {
                    let mut timer = self.timer.lock();
                    let at = self.network.inner.clock.instant(arrives);
                    if timer.deadline() != at {
                        timer.as_mut().reset(at);
                    }
                    std::task::ready!(timer.as_mut().poll(cx));
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(address_of(self.node))
    }

    fn max_transmit_segments(&self) -> usize {
        SEGMENTS_MAX
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// A sender never waits: what a link cannot carry is lost.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
