//! Latency, order, faults, bounds and deaths on the simulated UDP network.

use std::collections::BTreeMap;

use nethical_cluster::world::{Clock, timeout};

use super::*;
use crate::dice;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const LATENCY_MS: u64 = 40;
const NOTHING: [u8; 0] = [];
/// Longer than any datagram is under way without a fault.
const ALL_ARRIVED: Duration = Duration::from_millis(500);

/// Two nodes of which A sends and B listens, over a link that a test can change.
struct Pair {
    network: UdpNetwork,
    clock: SimClock,
    link: Arc<Mutex<Link>>,
    a: Arc<SimSocket>,
    b: Arc<SimSocket>,
    b_scope: Scope,
}

fn pair() -> Pair {
    let clock = SimClock::begin();
    let link = Arc::new(Mutex::new(Link { latency_ms: LATENCY_MS, ..Link::default() }));
    let shown = link.clone();
    let conditions = Arc::new(move |_, _| *shown.lock());
    let network = UdpNetwork::new(clock.clone(), Trace::new(true), dice::fork(1, "udp"), conditions);
    let (a_scope, b_scope) = (Scope::new([1; 32]), Scope::new([2; 32]));
    let (a, b) = (network.attach(A, a_scope), network.attach(B, b_scope.clone()));
    Pair { network, clock, link, a, b, b_scope }
}

impl Pair {
    fn send(&self, contents: &[u8]) {
        self.send_segments(contents, None);
    }

    fn send_segments(&self, contents: &[u8], segment_size: Option<usize>) {
        let transmit = Transmit {
            destination: address_of(B),
            ecn: Some(EcnCodepoint::Ect0),
            contents,
            segment_size,
            src_ip: None,
        };
        self.a.try_send(&transmit).expect("a simulated socket never fails");
    }

    /// What B hears before nothing comes for a while, and when.
    async fn heard(&self) -> Vec<(Duration, Vec<u8>)> {
        let mut heard = Vec::new();
        while let Some(datagrams) = timeout(&self.clock, ALL_ARRIVED, receive(&self.b)).await {
            heard.extend(datagrams.into_iter().map(|datagram| (self.clock.now(), datagram)));
        }
        heard
    }

    /// First bytes of what B hears.
    async fn heard_bytes(&self) -> Vec<u8> {
        self.heard().await.iter().map(|(_, datagram)| datagram[0]).collect()
    }

    /// Sends a hundred datagrams, one a millisecond, while B listens. Gives their numbers in the order in which they were
    /// heard; each must have been heard in time.
    async fn check_times(&self, jitter_ms: u64) -> Vec<u8> {
        let begun = self.clock.now();
        let sending = async {
            for number in 0..100 {
                self.send(&[number]);
                self.clock.sleep(Duration::from_millis(1)).await;
            }
        };
        let ((), heard) = tokio::join!(sending, self.heard());
        let times = LATENCY_MS..=LATENCY_MS + LATENCY_MS * LUCK_PERCENT / 100 + jitter_ms;
        for (at, datagram) in &heard {
            let took = (*at - begun).as_millis() as u64 - u64::from(datagram[0]);
            assert!(times.contains(&took), "{took} ms");
        }
        heard.iter().map(|(_, datagram)| datagram[0]).collect()
    }

    /// How often something of this kind is in the trace.
    fn traced(&self, kind: &str) -> usize {
        self.network.inner.trace.take_events().iter().filter(|event| event["kind"] == kind).count()
    }
}

async fn receive(socket: &SimSocket) -> Vec<Vec<u8>> {
    let mut buffers = [[0; DATAGRAM_BYTES_MAX]; 4];
    let mut meta = [RecvMeta::default(); 4];
    let count = std::future::poll_fn(|cx| {
        let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        socket.poll_recv(cx, &mut slices, &mut meta)
    });
    let count = count.await.expect("a simulated socket never fails");
    for meta in &meta[..count] {
        assert_eq!((meta.addr, meta.ecn, meta.stride), (address_of(A), Some(EcnCodepoint::Ect0), meta.len));
    }
    buffers.iter().zip(&meta).take(count).map(|(buffer, meta)| buffer[..meta.len].to_vec()).collect()
}

#[test]
fn addresses_lead_back_to_their_nodes() {
    for node in [A, B, NodeId(u64::MAX)] {
        assert_eq!(node_of(address_of(node)), Some(node));
    }
    assert_ne!(address_of(A), address_of(B));
    for stranger in ["10.0.0.1:4433", "[2001:db8::1]:4433"] {
        assert_eq!(node_of(stranger.parse().expect("an address")), None);
    }
}

#[tokio::test(start_paused = true)]
async fn datagrams_take_the_latency_and_stay_in_order() {
    let pair = pair();
    pair.send_segments(&[0, 0, 1, 1, 2], Some(2));
    let heard = pair.heard().await;
    let datagrams: Vec<_> = heard.iter().map(|(_, datagram)| datagram.as_slice()).collect();
    assert_eq!(datagrams, [&[0, 0][..], &[1, 1], &[2]], "segments are datagrams of their own");
    assert_eq!(pair.traced("udp"), 3);
    assert!(pair.check_times(0).await.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn a_datagram_that_overtakes_is_heard_when_it_arrives() {
    let pair = pair();
    *pair.link.lock() = Link { duplicate_permille: 500, jitter_ms: 20, latency_ms: LATENCY_MS, ..Link::default() };
    let heard = pair.check_times(20).await;
    assert!(!heard.is_sorted() && heard.len() > 120, "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn faults_lose_double_and_reorder() {
    let pair = pair();
    let numbers: Vec<u8> = (0..200).collect();
    let pass = async |link: Link| {
        *pair.link.lock() = link;
        numbers.iter().for_each(|number| pair.send(&[*number]));
        pair.heard_bytes().await
    };
    let good = Link { latency_ms: LATENCY_MS, ..Link::default() };
    let lossy = pass(Link { loss_permille: 300, ..good }).await;
    assert!((100..180).contains(&lossy.len()) && lossy.is_sorted(), "{} of 200 arrived", lossy.len());
    let doubled = pass(Link { duplicate_permille: 300, ..good }).await;
    assert!((220..300).contains(&doubled.len()), "{} of 200 arrived", doubled.len());
    let mut mixed = pass(Link { jitter_ms: 50, ..good }).await;
    assert!(!mixed.is_sorted());
    mixed.sort();
    assert_eq!(mixed, numbers);
    assert_eq!(pass(good).await, numbers);
    assert_eq!(pair.traced("udp-lost"), 200 - lossy.len());
}

#[tokio::test(start_paused = true)]
async fn a_cut_link_loses_what_is_sent_and_what_is_under_way() {
    let pair = pair();
    pair.send(&[1]);
    pair.link.lock().is_cut = true;
    pair.send(&[2]);
    assert_eq!(pair.heard_bytes().await, NOTHING);
    pair.link.lock().is_cut = false;
    pair.send(&[3]);
    assert_eq!(pair.heard_bytes().await, [3]);
    assert_eq!(pair.traced("udp-cut"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_narrow_link_takes_its_time_and_drops_what_it_cannot_queue() {
    let pair = pair();
    let begun = pair.clock.now();
    pair.link.lock().bytes_per_s = Some(100_000);
    (0..100).for_each(|number| pair.send(&[number; 1_000]));
    let heard = pair.heard().await;
    assert_eq!(heard.len(), 26, "a quarter of a second waits, and one datagram is under way");
    let took = heard.last().map(|(at, _)| *at - begun).expect("some arrived");
    assert!((300..320).contains(&took.as_millis()), "{took:?}");
    pair.send(&vec![0; DATAGRAM_BYTES_MAX + 1]);
    assert_eq!(pair.heard().await.len(), 0, "no link takes more than an Ethernet frame");
    assert_eq!(pair.traced("udp-backlog"), 74);
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_a_node_is_bounded() {
    let pair = pair();
    (0..INBOX_MAX + 10).for_each(|_| pair.send(&[1]));
    assert_eq!(pair.heard().await.len(), INBOX_MAX);
    assert_eq!(pair.traced("udp-overflow"), 10);
}

#[tokio::test(start_paused = true)]
async fn a_socket_dies_with_its_incarnation_and_the_address_lives_on() {
    let mut pair = pair();
    pair.send(&[1]);
    pair.network.detach(B);
    pair.b_scope.kill();
    assert_eq!(pair.heard_bytes().await, NOTHING, "a dead socket hears nothing");
    pair.send(&[2]);
    let (dead, scope) = (pair.b.clone(), Scope::new([3; 32]));
    pair.b = pair.network.attach(B, scope.clone());
    assert_eq!(pair.heard_bytes().await, [2], "what arrived before is lost, what was under way is heard");
    let hello = Transmit { destination: address_of(B), ecn: None, contents: &[3], segment_size: None, src_ip: None };
    dead.try_send(&hello).expect("a simulated socket never fails");
    assert_eq!(pair.heard_bytes().await, NOTHING, "a dead socket sends nothing");
    scope.kill();
    pair.send(&[4]);
    assert_eq!(pair.heard_bytes().await, NOTHING, "a socket is dead when its scope is");
    assert_eq!(pair.traced("udp-unheard"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_dice_give_the_same_fates() {
    let mut digests = BTreeMap::new();
    for _ in 0..2 {
        let pair = pair();
        *pair.link.lock() = Link {
            loss_permille: 100,
            duplicate_permille: 100,
            jitter_ms: 30,
            latency_ms: LATENCY_MS,
            bytes_per_s: Some(50_000),
            is_cut: false,
        };
        let begun = pair.clock.now();
        for number in 0..100 {
            pair.send(&[number; 300]);
            pair.clock.sleep(Duration::from_millis(3)).await;
        }
        let fates: Vec<_> = pair.heard().await.into_iter().map(|(at, datagram)| (at - begun, datagram[0])).collect();
        *digests.entry(fates).or_insert(0) += 1;
    }
    assert_eq!(digests.into_values().collect::<Vec<_>>(), [2]);
}
