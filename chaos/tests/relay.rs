//! The relay between real sockets: bytes pass, a cut is one-way, a seed loses the same datagrams, addresses are checked.
//!
//! Nothing here waits for a time to pass and hopes: each step waits for the relay's own counts.

use std::net::SocketAddr;
use std::time::Duration;

use nethical_chaos::plan::{Direction, Fate, Plan};
use nethical_chaos::relay::{Relay, RelayError, SESSIONS_MAX};
use tokio::net::UdpSocket;

const ANY: &str = "127.0.0.1:0";

async fn socket() -> UdpSocket {
    UdpSocket::bind(ANY).await.expect("a loopback socket")
}

/// A target, and a relay in front of it.
async fn link(plan: Plan) -> (UdpSocket, Relay) {
    let target = socket().await;
    let relay = Relay::start(address(ANY), target.local_addr().expect("bound"), plan).await.expect("a relay");
    (target, relay)
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

async fn next(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_535];
    let (size, from) = socket.recv_from(&mut buffer).await.expect("a datagram");
    buffer.truncate(size);
    (buffer, from)
}

async fn taken(relay: &Relay, direction: Direction, count: u64) {
    let mut counts = relay.counts();
    counts.wait_for(|counts| counts[direction as usize].taken >= count).await.expect("the relay runs");
}

#[tokio::test]
async fn bytes_pass_both_ways_and_senders_are_told_apart() {
    let (target, relay) = link(Plan::default()).await;
    let (first, second) = (socket().await, socket().await);
    let large: Vec<u8> = (0..9_000u32).map(|n| n as u8).collect();
    first.send_to(&large, relay.address()).await.expect("sent");
    let (got, from_first) = next(&target).await;
    assert_eq!(got, large);
    second.send_to(b"two", relay.address()).await.expect("sent");
    let (got, from_second) = next(&target).await;
    assert_eq!(got, b"two");
    assert_ne!(from_first, from_second, "each sender has its own way");
    target.send_to(b"for two", from_second).await.expect("sent");
    target.send_to(b"for one", from_first).await.expect("sent");
    assert_eq!(next(&first).await, (b"for one".to_vec(), relay.address()));
    assert_eq!(next(&second).await, (b"for two".to_vec(), relay.address()));
}

#[tokio::test]
async fn a_cut_stops_one_direction_and_healing_brings_it_back() {
    let (target, relay) = link(Plan::default()).await;
    let sender = socket().await;
    relay.cut(Direction::FromTarget);
    sender.send_to(b"question", relay.address()).await.expect("sent");
    let (question, from) = next(&target).await;
    assert_eq!(question, b"question", "the other direction passes");
    target.send_to(b"lost answer", from).await.expect("sent");
    taken(&relay, Direction::FromTarget, 1).await;
    relay.heal(Direction::FromTarget);
    target.send_to(b"answer", from).await.expect("sent");
    assert_eq!(next(&sender).await.0, b"answer");
    let counts = *relay.counts().borrow();
    assert_eq!((counts[0].cut, counts[1].cut), (0, 1));
}

#[tokio::test]
async fn a_planned_cut_from_the_start_passes_nothing_that_way() {
    let cuts = vec!["to-target@0..86400".parse().expect("a cut")];
    let (target, relay) = link(Plan { cuts, ..Plan::default() }).await;
    let sender = socket().await;
    sender.send_to(b"never", relay.address()).await.expect("sent");
    taken(&relay, Direction::ToTarget, 1).await;
    assert_eq!(relay.counts().borrow()[0].cut, 1);
    assert!(target.try_recv(&mut [0; 16]).is_err(), "nothing came");
}

/// Sends a hundred datagrams, one after the other; gives what came through.
async fn arrivals(plan: &Plan) -> Vec<u8> {
    let (target, relay) = link(plan.clone()).await;
    let sender = socket().await;
    let mut arrived = Vec::new();
    for number in 0..100u8 {
        sender.send_to(&[number], relay.address()).await.expect("sent");
        taken(&relay, Direction::ToTarget, u64::from(number) + 1).await;
        if relay.counts().borrow()[0].lost + arrived.len() as u64 == u64::from(number) {
            arrived.push(next(&target).await.0[0]);
        }
    }
    arrived
}

#[tokio::test]
async fn one_seed_loses_the_same_datagrams_twice() {
    let plan = Plan { seed: 42, loss_percent: 30, ..Plan::default() };
    let expected: Vec<u8> =
        (0..100).filter(|n| plan.fate(Direction::ToTarget, 0, u64::from(*n)) != Fate::Lost).collect();
    let (first, second) = (arrivals(&plan).await, arrivals(&plan).await);
    assert_eq!(first, expected);
    assert_eq!(first, second);
    assert!(first.len() < 100, "thirty percent of a hundred are some");
    assert_ne!(arrivals(&Plan { seed: 43, ..plan }).await, first);
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "a delay is what is tested; only its lower bound is")]
async fn latency_is_at_least_what_was_asked_for() {
    let latency = Duration::from_millis(30);
    let (target, relay) = link(Plan { latency, ..Plan::default() }).await;
    let started = tokio::time::Instant::now();
    socket().await.send_to(b"late", relay.address()).await.expect("sent");
    assert_eq!(next(&target).await.0, b"late");
    assert!(started.elapsed() >= latency);
}

#[tokio::test]
async fn more_senders_than_sessions_still_get_through() {
    let (target, relay) = link(Plan::default()).await;
    for number in 0..SESSIONS_MAX as u8 + 5 {
        let sender = socket().await;
        sender.send_to(&[number], relay.address()).await.expect("sent");
        let (got, from) = next(&target).await;
        assert_eq!(got, [number]);
        target.send_to(b"ok", from).await.expect("sent");
        assert_eq!(next(&sender).await.0, b"ok");
    }
}

#[tokio::test]
async fn addresses_of_other_machines_are_refused() {
    let refused = async |listen: &str, target: &str| {
        Relay::start(address(listen), address(target), Plan::default()).await.err().map(|error| error.to_string())
    };
    for (listen, target, named) in [
        ("0.0.0.0:0", "127.0.0.1:9", "0.0.0.0:0"),
        ("127.0.0.1:0", "192.0.2.7:9", "192.0.2.7:9"),
        ("127.0.0.1:0", "[2001:db8::1]:9", "[2001:db8::1]:9"),
    ] {
        let why = refused(listen, target).await.expect("refused");
        assert!(why.contains(named) && why.contains("loopback"), "{why}");
    }
    let circle = Relay::start(address("127.0.0.1:9"), address("127.0.0.1:9"), Plan::default()).await;
    assert!(matches!(circle, Err(RelayError::Circle(_))));
}
