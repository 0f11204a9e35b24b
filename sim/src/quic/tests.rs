//! The production wire between two nodes on simulated datagrams.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use nethical_cluster::world::{Lane, Service, Wire, WireError};

use super::*;
use crate::clock::SimClock;
use crate::links::Link;
use crate::trace::Trace;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const LONG: Duration = Duration::from_secs(10);

struct Echo;

impl Service for Echo {
    fn handle(&self, _from: NodeId, _lane: Lane, _kind: u16, body: Bytes) -> BoxFuture<'static, Bytes> {
        async move { body }.boxed()
    }
}

/// Two nodes; B echoes.
struct Pair {
    network: QuicNetwork,
    clock: SimClock,
    trace: Trace,
    link: Arc<Mutex<Link>>,
    a: Arc<QuicWire>,
    b_scope: Scope,
    _b: Arc<QuicWire>,
}

fn pair(seed: u64) -> Pair {
    let (clock, trace) = (SimClock::begin(), Trace::new(false));
    let link = Arc::new(Mutex::new(Link { latency_ms: 40, ..Link::default() }));
    let shown = link.clone();
    let conditions = Arc::new(move |_, _| *shown.lock());
    let udp = UdpNetwork::new(clock.clone(), trace.clone(), dice::fork(seed, "udp"), conditions);
    let network = QuicNetwork::new(seed, [A, B], udp).expect("certificates");
    let a = start(&network, A, 1, clock.clone()).1;
    let (b_scope, b) = start(&network, B, 1, clock.clone());
    Pair { network, clock, trace, link, a, b_scope, _b: b }
}

fn start(network: &QuicNetwork, node: NodeId, life: u64, clock: SimClock) -> (Scope, Arc<QuicWire>) {
    let scope = Scope::new(dice::seed_of(life, &format!("node {node}")));
    let wire = network.attach(node, scope.clone(), Arc::new(clock)).expect("good certificates");
    wire.serve(Arc::new(Echo));
    (scope, wire)
}

impl Pair {
    async fn call(&self, body: &'static [u8]) -> Result<Bytes, WireError> {
        self.a.call(B, Lane::Decide, 7, Bytes::from_static(body), LONG).await
    }
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_conversation() {
    let mut digests = Vec::new();
    for seed in [1, 1, 2] {
        let pair = pair(seed);
        *pair.link.lock() =
            Link { loss_permille: 50, duplicate_permille: 20, jitter_ms: 9, latency_ms: 40, ..Link::default() };
        for _ in 0..50 {
            assert_eq!(pair.call(&[5; 5_000]).await.map(|answer| answer.len()), Ok(5_000));
        }
        digests.push((pair.trace.digest(), pair.trace.events()));
        pair.network.end();
    }
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0].0, digests[2].0);
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_noticed_and_a_mended_link_is_found_again() {
    let pair = pair(3);
    assert!(pair.call(b"before").await.is_ok());
    pair.link.lock().is_cut = true;
    let cut_at = pair.clock.now();
    assert!(matches!(pair.call(b"in the dark").await, Err(WireError::Lost { .. })));
    let silence = pair.clock.now() - cut_at;
    assert!(silence < Duration::from_secs(4), "noticed after {silence:?}");
    pair.clock.sleep(LONG).await;
    assert!(matches!(pair.call(b"still").await, Err(WireError::NotSent { .. })));
    pair.link.lock().is_cut = false;
    pair.clock.sleep(LONG).await;
    assert!(pair.call(b"after").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_restarts_tells_its_peers_at_once() {
    let pair = pair(4);
    assert!(pair.call(b"before").await.is_ok());
    pair.network.detach(B);
    pair.b_scope.kill();
    let (_scope, _wire) = start(&pair.network, B, 2, pair.clock.clone());
    let restarted_at = pair.clock.now();
    while pair.call(b"again").await.is_err() {}
    let took = pair.clock.now() - restarted_at;
    assert!(took < Duration::from_secs(1), "reached after {took:?}: a reset beats the idle timeout");
}

#[tokio::test(start_paused = true)]
async fn certificates_lapse_by_the_machines_wall() {
    let pair = pair(5);
    assert!(pair.call(b"in time").await.is_ok());
    let late = pair.clock.machine(2 * VALID.as_millis() as i64);
    let (_scope, wire) = start(&pair.network, A, 2, late);
    let answer = wire.call(B, Lane::Decide, 7, Bytes::from_static(b"too late"), LONG).await;
    assert!(matches!(answer, Err(WireError::NotSent { .. })), "{answer:?}");
}
