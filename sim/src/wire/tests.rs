//! Order, latency, cuts and deaths on the simulated network.

use super::*;
use crate::links::Effect;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const LATENCY_MS: u64 = 40;

/// Answers with what it got, and remembers it.
#[derive(Clone, Default)]
struct Echo {
    got: Arc<Mutex<Vec<Bytes>>>,
    work: Duration,
}

struct EchoService(Echo, SimClock);

impl Service for EchoService {
    fn handle(&self, _from: NodeId, _lane: Lane, _kind: u16, body: Bytes) -> BoxFuture<'static, Bytes> {
        self.0.got.lock().push(body.clone());
        let (clock, work) = (self.1.clone(), self.0.work);
        async move {
            clock.sleep(work).await;
            body
        }
        .boxed()
    }
}

struct Pair {
    network: Network,
    links: Links,
    clock: SimClock,
    wire: Arc<SimWire>,
    echo: Echo,
}

/// Two nodes; B echoes after `work`.
fn pair(work: Duration) -> Pair {
    let clock = SimClock::begin();
    let latency_ms = BTreeMap::from([((A, B), LATENCY_MS), ((B, A), LATENCY_MS)]);
    let links = Links::new(clock.clone(), latency_ms);
    let network = Network::new(clock.clone(), Trace::new(false), crate::dice::fork(1, "test"), links.clone());
    let wire = network.attach(A, Scope::new([1; 32]));
    let echo = Echo { work, ..Echo::default() };
    network.attach(B, Scope::new([2; 32])).serve(Arc::new(EchoService(echo.clone(), clock.clone())));
    Pair { network, links, clock, wire, echo }
}

impl Pair {
    fn call(&self, body: &'static str) -> BoxFuture<'static, Result<Bytes, WireError>> {
        self.wire.call(B, Lane::Log, 7, Bytes::from_static(body.as_bytes()), Duration::from_secs(10))
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_keeps_its_order_and_takes_its_time() {
    let pair = pair(Duration::ZERO);
    let calls: Vec<_> = ["a", "b", "c", "d"].map(|body| pair.call(body)).into();
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.is_ok()));
    let got: Vec<Bytes> = pair.echo.got.lock().clone();
    assert_eq!(got, ["a", "b", "c", "d"]);
    assert!(pair.clock.now() >= Duration::from_millis(2 * LATENCY_MS));
}

#[tokio::test(start_paused = true)]
async fn a_cut_link_sends_nothing_and_a_mended_one_does() {
    let pair = pair(Duration::ZERO);
    pair.links.begin(1, &[1], &[2], Effect::Cut(None));
    assert!(matches!(pair.call("a").await, Err(WireError::NotSent { .. })));
    assert!(pair.echo.got.lock().is_empty());
    pair.links.end(1);
    assert_eq!(pair.call("b").await, Ok(Bytes::from_static(b"b")));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_way_back_is_cut_has_happened_and_is_lost() {
    let pair = pair(Duration::ZERO);
    pair.links.begin(1, &[2], &[1], Effect::Cut(None));
    assert!(matches!(pair.call("a").await, Err(WireError::Lost { .. })));
    assert_eq!(pair.echo.got.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_when_the_link_is_cut_is_gone() {
    let pair = pair(Duration::ZERO);
    let call = pair.call("a");
    pair.links.begin(1, &[1], &[2], Effect::Cut(None));
    assert!(matches!(call.await, Err(WireError::Lost { .. })));
    assert!(pair.echo.got.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_answers_nobody_and_its_wire_is_dead() {
    let pair = pair(Duration::from_secs(1));
    let call = pair.call("a");
    pair.clock.sleep(Duration::from_millis(500)).await;
    pair.network.detach(B);
    assert!(matches!(call.await, Err(WireError::Lost { .. })), "it was sent and the node died over it");
    assert!(matches!(pair.call("b").await, Err(WireError::NotSent { .. })), "nobody listens");
    pair.network.detach(A);
    let again = pair.network.attach(A, Scope::new([3; 32]));
    assert!(matches!(pair.call("c").await, Err(WireError::NotSent { .. })), "the wire of the life before is dead");
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_was_heard_from_just_now_loses_calls_and_a_silent_one_refuses_them() {
    let pair = pair(Duration::ZERO);
    assert!(pair.call("a").await.is_ok());
    pair.links.begin(1, &[1], &[2], Effect::Cut(None));
    assert!(matches!(pair.call("b").await, Err(WireError::Lost { .. })), "the connection stands as far as A can tell");
    assert!(matches!(pair.call("c").await, Err(WireError::NotSent { .. })), "it was given up meanwhile");
    assert_eq!(*pair.echo.got.lock(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_lossy_link_loses_and_a_doubling_one_delivers_twice() {
    let pair = pair(Duration::ZERO);
    pair.links.begin(1, &[1], &[2], Effect::Loss(1_000));
    assert!(matches!(pair.call("a").await, Err(WireError::Lost { .. })));
    pair.links.end(1);
    pair.links.begin(2, &[], &[], Effect::Duplicate(1_000));
    assert!(pair.call("b").await.is_ok());
    assert_eq!(*pair.echo.got.lock(), ["b", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_narrow_link_takes_its_time_for_every_byte() {
    let pair = pair(Duration::ZERO);
    pair.links.begin(1, &[1], &[2], Effect::Bandwidth(10));
    let begun = pair.clock.now();
    assert!(pair.call("0123456789").await.is_ok());
    assert!(pair.clock.now() - begun >= Duration::from_secs(1));
}
