//! Nodes on loopback in one process, with certificates made for the test.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use quinn::Connection;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::world::real::RealClock;

const LONG: Duration = Duration::from_secs(20);

/// A certificate authority of a test.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
    }
}

/// Never the same dice twice: a node that restarts must not give its new connections the ids of the old ones.
fn fresh_scope() -> Scope {
    static SEED: AtomicU8 = AtomicU8::new(0);
    Scope::new([SEED.fetch_add(1, Ordering::Relaxed); 32])
}

/// A node of a test; killed when dropped.
struct Node {
    scope: Scope,
    wire: Arc<QuicWire>,
    address: SocketAddr,
}

impl Node {
    fn start(authority: &Authority, node: u64) -> Self {
        let (chain, key) = authority.issue(&format!("node-{node}.nethical"));
        Self::bind(node, chain, key, authority, "127.0.0.1:0".parse().expect("an address")).expect("a free port")
    }

    fn bind(
        node: u64,
        certificate_chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        trusted: &Authority,
        listen: SocketAddr,
    ) -> Result<Self, QuicError> {
        let scope = fresh_scope();
        let options = QuicOptions {
            node: NodeId(node),
            ground: Ground::listen(listen)?,
            peers: BTreeMap::new(),
            certificate_chain,
            key,
            ca: vec![trusted.certificate.clone()],
            queue: QueueBounds::default(),
        };
        let wire = QuicWire::bind(scope.clone(), Arc::new(RealClock::new()), options)?;
        let address = wire.local_address().expect("bound");
        Ok(Self { scope, wire, address })
    }

    fn knows(&self, others: &[(u64, &Node)]) {
        self.wire.set_peers(&others.iter().map(|(node, other)| (NodeId(*node), other.address)).collect());
    }

    async fn call(&self, to: u64, lane: Lane, body: &[u8], deadline: Duration) -> Result<Bytes, WireError> {
        self.wire.call(NodeId(to), lane, 7, Bytes::copy_from_slice(body), deadline).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.scope.kill();
    }
}

/// Answers with the body, and tells the test what came, in the order of `handle`.
struct Echo(mpsc::Sender<(NodeId, Lane, u16, Bytes)>);

impl Echo {
    fn serve(node: &Node) -> mpsc::Receiver<(NodeId, Lane, u16, Bytes)> {
        let (sender, receiver) = mpsc::channel(100_000);
        node.wire.serve(Arc::new(Echo(sender)));
        receiver
    }
}

impl Service for Echo {
    fn handle(&self, from: NodeId, lane: Lane, kind: u16, body: Bytes) -> BoxFuture<'static, Bytes> {
        let _full = self.0.try_send((from, lane, kind, body.clone()));
        async move {
            match &body[..] {
                b"never" => std::future::pending().await,
                b"panic" => panic!("a test asked for it"),
                _ => body,
            }
        }
        .boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_one_lane_arrive_in_the_order_in_which_they_were_made() {
    let authority = Authority::new();
    let (one, two, three) = (Node::start(&authority, 1), Node::start(&authority, 2), Node::start(&authority, 3));
    let mut heard = Echo::serve(&two);
    one.knows(&[(2, &two), (3, &three)]);
    three.knows(&[(2, &two)]);
    let mut answers = Vec::new();
    for number in 0..2_000u32 {
        for (node, lane) in [(&one, Lane::Log), (&one, Lane::Decide), (&three, Lane::Log)] {
            let body = Bytes::copy_from_slice(&number.to_le_bytes());
            answers.push((number, node.wire.call(NodeId(2), lane, 7, body, LONG)));
        }
    }
    for (number, answer) in answers {
        assert_eq!(answer.await.expect("an answer")[..], number.to_le_bytes());
    }
    let mut next = BTreeMap::new();
    for _ in 0..6_000 {
        let (from, lane, kind, body) = heard.recv().await.expect("all were handled");
        let next = next.entry((from, lane)).or_insert(0u32);
        assert_eq!((kind, &body[..]), (7, &next.to_le_bytes()[..]), "from {from} on {lane:?}");
        *next += 1;
    }
    assert_eq!(next.keys().map(|(from, _)| from.0).collect::<Vec<_>>(), [1, 1, 3]);
}

#[tokio::test]
async fn a_call_to_nobody_is_not_sent() {
    let authority = Authority::new();
    let one = Node::start(&authority, 1);
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port that never answers");
    one.wire.set_peers(&BTreeMap::from([(NodeId(2), nobody.local_addr().expect("bound"))]));
    let unknown = one.call(9, Lane::Pulse, b"x", LONG).await;
    assert!(matches!(unknown, Err(WireError::NotSent { to: NodeId(9), .. })), "{unknown:?}");
    let early = one.call(2, Lane::Pulse, b"x", Duration::from_millis(50)).await;
    assert!(matches!(early, Err(WireError::NotSent { .. })), "by its own deadline: {early:?}");
    let late = one.call(2, Lane::Decide, b"x", LONG).await;
    assert!(matches!(late, Err(WireError::NotSent { .. })), "by the dial that failed: {late:?}");
    let large = one.call(2, Lane::Bulk, &vec![0; FRAME_BYTES_MAX + 1], LONG).await;
    assert!(matches!(large, Err(WireError::NotSent { .. })));
}

#[tokio::test]
async fn a_call_that_was_sent_and_not_answered_is_lost() {
    let authority = Authority::new();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    let mut heard = Echo::serve(&two);
    one.knows(&[(2, &two)]);
    let by_deadline = one.wire.call(NodeId(2), Lane::Log, 7, Bytes::from_static(b"never"), Duration::from_secs(1));
    let by_death = one.wire.call(NodeId(2), Lane::Log, 7, Bytes::from_static(b"never"), LONG);
    let by_panic = one.call(2, Lane::Log, b"panic", LONG).await;
    assert_eq!(by_panic, Err(WireError::Lost { to: NodeId(2), why: "the service panicked".into() }));
    assert!(matches!(by_deadline.await, Err(WireError::Lost { .. })));
    for _ in 0..3 {
        heard.recv().await.expect("handled");
    }
    two.scope.kill();
    assert!(matches!(by_death.await, Err(WireError::Lost { .. })));
}

#[tokio::test]
async fn a_peer_that_restarts_is_reached_again() {
    let authority = Authority::new();
    let one = Node::start(&authority, 1);
    let (chain, key) = authority.issue("node-2.nethical");
    let start = |listen| Node::bind(2, chain.clone(), key.clone_key(), &authority, listen);
    let two = start("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let _heard = Echo::serve(&two);
    one.knows(&[(2, &two)]);
    for lane in Lane::ALL {
        assert!(one.call(2, lane, b"x", LONG).await.is_ok());
    }
    let address = two.address;
    drop(two);
    let two = loop {
        match start(address) {
            Ok(node) => break node,
            Err(QuicError::Listen { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    let _heard = Echo::serve(&two);
    for lane in Lane::ALL {
        while one.call(2, lane, b"again", LONG).await.is_err() {}
    }
    let three = Node::start(&authority, 2);
    let _heard = Echo::serve(&three);
    one.knows(&[(2, &three)]);
    while three.wire.counts().accepted < 2 {
        let _either = one.call(2, Lane::Log, b"moved", LONG).await;
    }
    while one.call(2, Lane::Log, b"moved", LONG).await.is_err() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_while_pulses_go_on() {
    let authority = Authority::new();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    let _heard = Echo::serve(&two);
    one.knows(&[(2, &two)]);
    let large = Bytes::from(vec![5; 1024 * 1024]);
    let (over, mut bulk_over) = oneshot::channel();
    let wire = one.wire.clone();
    let sent = large.clone();
    one.scope.spawn(async move {
        let calls = (0..24).map(|_| wire.call(NodeId(2), Lane::Bulk, 1, sent.clone(), LONG)).collect::<Vec<_>>();
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await);
        }
        let _gone = over.send(answers);
    });
    let mut pulses_meanwhile = 0;
    let answers = loop {
        assert!(one.call(2, Lane::Pulse, b"beat", LONG).await.is_ok());
        match bulk_over.try_recv() {
            Ok(answers) => break answers,
            Err(_) => pulses_meanwhile += 1,
        }
    };
    assert!(answers.iter().all(|answer| answer.as_ref() == Ok(&large)));
    assert!(pulses_meanwhile >= 24, "only {pulses_meanwhile} pulses came back while 24 MiB went both ways");
    let largest = vec![6; FRAME_BYTES_MAX];
    assert_eq!(one.call(2, Lane::Decide, &largest, LONG).await.expect("the largest frame passes").len(), largest.len());
}

#[tokio::test]
async fn who_has_no_certificate_of_the_cluster_is_refused() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let two = Node::start(&authority, 2);
    let mut heard = Echo::serve(&two);
    let (chain, key) = foreign.issue("node-1.nethical");
    let wrong_ca = Node::bind(1, chain, key, &authority, "127.0.0.1:0".parse().expect("an address")).expect("bound");
    wrong_ca.knows(&[(2, &two)]);
    assert!(wrong_ca.call(2, Lane::Decide, b"x", Duration::from_secs(2)).await.is_err());
    let (chain, key) = authority.issue("node-1.nethical");
    let trusts_wrong = Node::bind(1, chain, key, &foreign, "127.0.0.1:0".parse().expect("an address")).expect("bound");
    trusts_wrong.knows(&[(2, &two)]);
    let answer = trusts_wrong.call(2, Lane::Decide, b"x", LONG).await;
    assert!(matches!(answer, Err(WireError::NotSent { .. })), "{answer:?}");
    let impostor = Node::start(&authority, 3);
    impostor.wire.set_peers(&BTreeMap::from([(NodeId(4), two.address)]));
    let answer = impostor.call(4, Lane::Decide, b"x", LONG).await;
    assert!(matches!(answer, Err(WireError::NotSent { .. })), "node 2 answered for node 4: {answer:?}");
    assert!(heard.try_recv().is_err(), "none of these was handled");
    let (chain, key) = authority.issue("node-7.nethical");
    let misnamed = Node::bind(8, chain, key, &authority, "127.0.0.1:0".parse().expect("an address"));
    assert!(matches!(misnamed, Err(QuicError::Certificates(_))), "a node needs a certificate of its own name");
}

/// A connection made with the wire's own endpoint but none of its tasks, so that a test can send what it likes.
async fn raw(authority: &Authority, name: &str, to: &Node) -> Result<Connection, String> {
    let scope = fresh_scope();
    let (chain, key) = authority.issue(name);
    let secret = transport::reset_secret(&key);
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let ca = vec![authority.certificate.clone()];
    let listen = "127.0.0.1:0".parse().expect("an address");
    let ground = Ground::listen(listen).map_err(|error| error.to_string())?;
    let (server, client) = tls::configs(&clock, ground.provider, chain, key, ca).map_err(|error| error.to_string())?;
    let endpoint =
        transport::endpoint(&scope, ground.socket, &secret, server, client).map_err(|error| error.to_string())?;
    let connecting = endpoint.connect(to.address, "node-2.nethical").map_err(|error| error.to_string())?;
    connecting.await.map_err(|error| error.to_string())
}

fn closed_with(error: quinn::ConnectionError) -> Option<quinn::VarInt> {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code),
        _ => None,
    }
}

#[tokio::test]
async fn garbage_closes_its_connection_and_nothing_else() {
    let authority = Authority::new();
    let (one, two) = (Node::start(&authority, 1), Node::start(&authority, 2));
    let mut heard = Echo::serve(&two);
    one.knows(&[(2, &two)]);
    assert!(one.call(2, Lane::Log, b"before", LONG).await.is_ok());
    let hello = hello::hello(Lane::Decide);
    let mut flipped = nethical_protocol::frame::encode(7, 1, b"some body");
    *flipped.last_mut().expect("bytes") ^= 1;
    let garbage: [Vec<u8>; 5] = [
        vec![0xAA; 4_096],
        b"GET / HTTP/1.1\r\nhost: node-2.nethical\r\n\r\n".to_vec(),
        nethical_protocol::frame::encode(7, 1, b"a call before any hello"),
        [&hello[..], &vec![0; 70_000]].concat(),
        [&hello[..], &flipped].concat(),
    ];
    for bytes in &garbage {
        let connection = raw(&authority, "node-3.nethical", &two).await.expect("a connection");
        let (mut send, _receive) = connection.open_bi().await.expect("a stream");
        let _closed_early = send.write_all(bytes).await;
        assert_eq!(closed_with(connection.closed().await), Some(transport::CLOSE_MALFORMED));
    }
    assert_eq!(two.wire.counts().malformed, garbage.len() as u64);
    assert!(one.call(2, Lane::Log, b"after", LONG).await.is_ok(), "the server goes on");
    assert_eq!(one.wire.counts().dialled, 2, "and no other connection suffered");
    assert_eq!(heard.recv().await.expect("handled").3, "before");
    assert_eq!(heard.recv().await.expect("handled").3, "after");
}

#[tokio::test]
async fn a_certificate_without_a_node_or_with_our_own_is_refused() {
    let authority = Authority::new();
    let two = Node::start(&authority, 2);
    let _heard = Echo::serve(&two);
    for name in ["client-7.nethical", "node-2.nethical"] {
        let connection = raw(&authority, name, &two).await.expect("a handshake");
        assert_eq!(closed_with(connection.closed().await), Some(transport::CLOSE_IDENTITY), "{name}");
    }
    assert_eq!((two.wire.counts().refused, two.wire.counts().accepted), (2, 0));
}

#[tokio::test]
async fn a_newer_connection_silences_the_older_one() {
    let authority = Authority::new();
    let two = Node::start(&authority, 2);
    let mut heard = Echo::serve(&two);
    let old = raw(&authority, "node-3.nethical", &two).await.expect("a connection");
    let (mut old_send, _old_receive) = old.open_bi().await.expect("a stream");
    let frame = |body: &[u8]| nethical_protocol::frame::encode(7, 1, body);
    old_send.write_all(&[&hello::hello(Lane::Log)[..], &frame(b"old")].concat()).await.expect("written");
    assert_eq!(heard.recv().await.expect("handled").3, "old");
    let new = raw(&authority, "node-3.nethical", &two).await.expect("a connection");
    let (mut new_send, _new_receive) = new.open_bi().await.expect("a stream");
    new_send.write_all(&[&hello::hello(Lane::Log)[..], &frame(b"new")].concat()).await.expect("written");
    assert_eq!(heard.recv().await.expect("handled").3, "new");
    old_send.write_all(&frame(b"late")).await.expect("written");
    assert_eq!(closed_with(old.closed().await), Some(transport::CLOSE_SUPERSEDED));
    assert!(heard.try_recv().is_err(), "the late call was not handled");
}
