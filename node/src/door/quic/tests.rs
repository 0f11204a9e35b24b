//! The QUIC door over a real loopback endpoint: decisions, order, and every way to break a frame.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;

use nethical_cluster::world::Scope;
use nethical_protocol::action::Action;
use nethical_protocol::decision::ActionOutcome;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::frame::{self, HEADER_BYTES, decode_header};
use nethical_protocol::limits::{BATCH_ACTIONS_MAX, FRAME_BYTES_MAX};
use nethical_protocol::message::*;

use super::{Options, bind, serve};
use crate::door::scripted::{Scripted, action, decision, overloaded};

const ID: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";

struct Rig {
    connection: Connection,
    _client: Endpoint,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn rig(script: Arc<Scripted>) -> Rig {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let certificate = CertificateDer::from(own.cert);
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let endpoint = bind("127.0.0.1:0".parse().expect("address"), vec![certificate.clone()], key.into()).expect("bind");
    let address = endpoint.local_addr().expect("bound");
    let (stop, stopping) = watch::channel(false);
    let scope = Scope::new([7; 32]);
    let served = scope.spawn(serve(endpoint, Options::default(), script, scope.clone(), stopping));
    let client = Endpoint::client("127.0.0.1:0".parse().expect("address")).expect("client");
    let connection = client
        .connect_with(client_config(certificate, ALPN_CLIENT), address, "localhost")
        .expect("config")
        .await
        .expect("handshake");
    Rig { connection, _client: client, stop, served }
}

fn client_config(certificate: CertificateDer<'static>, alpn: &[u8]) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("own certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    ClientConfig::new(Arc::new(quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("suite")))
}

fn ask(number: u32, actions: Vec<Action>) -> Vec<u8> {
    frame::encode(KIND_DECIDE, number, &DecideV1 { deadline_ms: 700, actions }.to_bytes())
}

/// The next frame's kind, number and body.
async fn next(receive: &mut RecvStream) -> (u16, u32, Vec<u8>) {
    let mut head = [0; HEADER_BYTES];
    receive.read_exact(&mut head).await.expect("a frame's header");
    let header = decode_header(&head).expect("the door writes frames");
    let mut body = vec![0; header.length];
    receive.read_exact(&mut body).await.expect("a frame's body");
    frame::check_body(&header, &body).expect("checksum");
    (header.kind, header.number, body)
}

async fn answers(receive: &mut RecvStream) -> (u32, DecidedV1) {
    let (kind, number, body) = next(receive).await;
    assert_eq!(kind, KIND_DECIDED);
    (number, DecidedV1::from_bytes(&body).expect("answers"))
}

async fn problem(receive: &mut RecvStream) -> (u32, Problem) {
    let (kind, number, body) = next(receive).await;
    assert_eq!(kind, KIND_PROBLEM);
    (number, ProblemV1::from_bytes(&body).expect("a problem").problem)
}

async fn open(rig: &Rig, bytes: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, receive) = rig.connection.open_bi().await.expect("a stream");
    send.write_all(bytes).await.expect("written");
    (send, receive)
}

fn dated(id: &str) -> Action {
    Action { issued_at_ms: 5, ..action(id) }
}

#[tokio::test]
async fn a_frame_is_answered_under_its_number_and_in_order() {
    let script = Scripted::deciding(vec![Ok(decision("")), Err(overloaded())]);
    let rig = rig(script.clone()).await;
    let bad = Action { args_json: "[1]".into(), ..dated("bad") };
    let (_send, mut receive) = open(&rig, &ask(77, vec![dated("a"), bad, dated("b")])).await;
    let (number, decided) = answers(&mut receive).await;
    assert_eq!(number, 77);
    let ids: Vec<_> = decided.answers.iter().map(|answer| answer.request_id.as_str()).collect();
    assert_eq!(ids, ["a", "bad", "b"]);
    assert!(decided.answers[0].result.is_ok());
    assert_eq!(decided.answers[1].result.as_ref().map_err(|p| p.code), Err(Code::MalformedRequest));
    assert_eq!(decided.answers[2].result, Err(overloaded()));
    assert_eq!(script.deadlines(), [Duration::from_millis(700)]);
}

#[tokio::test]
async fn ids_carry_their_own_time_and_are_always_the_clients() {
    let script = Scripted::deciding(vec![Ok(decision("")), Ok(decision(""))]);
    let rig = rig(script.clone()).await;
    let lying = Action { client_chosen: false, issued_at_ms: 9, ..action(ID) };
    let undated = Action { issued_at_ms: 0, ..action("order-17") };
    let nameless = Action { request_id: String::new(), ..action("") };
    let (_send, mut receive) = open(&rig, &ask(1, vec![lying, undated, nameless])).await;
    let (_, decided) = answers(&mut receive).await;
    assert_eq!(decided.answers[1].result.as_ref().map_err(|p| p.code), Err(Code::MalformedRequest));
    let seen = script.actions();
    assert_eq!((seen[0].client_chosen, seen[0].issued_at_ms), (true, 1_645_557_742_000));
    assert!(!seen[1].client_chosen && seen[1].request_id == decided.answers[2].request_id);
}

#[tokio::test]
async fn frames_of_one_stream_reach_the_governor_in_order() {
    let script = Scripted::deciding((0..200).map(|_| Ok(decision(""))).collect());
    let rig = rig(script.clone()).await;
    let bytes: Vec<u8> = (0..200).flat_map(|number| ask(number, vec![dated(&format!("r{number}"))])).collect();
    let (mut send, mut receive) = rig.connection.open_bi().await.expect("a stream");
    let writing = async {
        send.write_all(&bytes).await.expect("written");
        send.finish().expect("finished");
    };
    let reading = async {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            seen.insert(answers(&mut receive).await.0);
        }
        seen
    };
    let ((), seen) = tokio::join!(writing, reading);
    assert_eq!(seen.len(), 200, "every frame has its answer");
    let order: Vec<String> = script.actions().into_iter().map(|action| action.request_id).collect();
    assert_eq!(order, (0..200).map(|number| format!("r{number}")).collect::<Vec<_>>());
    assert_eq!(receive.read(&mut [0]).await, Ok(None), "the door ends the stream after the client did");
}

#[tokio::test]
async fn a_whole_frame_that_makes_no_sense_is_a_problem_and_the_stream_goes_on() {
    let rig = rig(Scripted::deciding(vec![Ok(decision(""))])).await;
    let many = vec![dated("a"); BATCH_ACTIONS_MAX + 1];
    let (mut send, mut receive) = open(&rig, &frame::encode(99, 1, b"")).await;
    for (number, bytes, code) in [
        (1, Vec::new(), Code::MalformedFrame),
        (2, frame::encode(KIND_DECIDE, 2, b"not rkyv"), Code::MalformedFrame),
        (3, frame::encode(KIND_DECIDE, 3, &[]), Code::MalformedFrame),
        (4, ask(4, many), Code::TooLarge),
    ] {
        send.write_all(&bytes).await.expect("written");
        let (answered, problem) = problem(&mut receive).await;
        assert_eq!((answered, problem.code), (number, code));
    }
    send.write_all(&ask(5, vec![dated("a")])).await.expect("written");
    assert_eq!(answers(&mut receive).await.0, 5);
}

#[tokio::test]
async fn an_outcome_reaches_the_governor_and_its_record_comes_back() {
    let script = Scripted::deciding(vec![]);
    let rig = rig(script.clone()).await;
    let id = decision("x").decision_id;
    let settle = |number, outcome| {
        frame::encode(KIND_SETTLE, number, &SettleV1 { deadline_ms: 700, decision: id, outcome }.to_bytes())
    };
    let used = |units: &[&str]| ActionOutcome::Used(units.iter().map(|unit| ((*unit).to_owned(), 3)).collect());
    let (mut send, mut receive) = open(&rig, &settle(1, used(&["tokens", "money"]))).await;
    let (kind, number, body) = next(&mut receive).await;
    let settled = SettledV1::from_bytes(&body).expect("a settlement").settlement;
    assert_eq!((kind, number, settled.decision_id), (KIND_SETTLED, 1, id));
    send.write_all(&settle(2, ActionOutcome::Released)).await.expect("written");
    assert_eq!(next(&mut receive).await.1, 2);
    let asked = [r#"settle 2.1.42 Used([("money", 3), ("tokens", 3)])"#, "settle 2.1.42 Released"];
    assert_eq!(script.calls(), asked, "sorted, as the content of a settlement is");
    script.refuse(Problem::new(Code::ReservationExpired, "late"));
    for (number, bytes, code) in [
        (3, settle(3, used(&["a", "a"])), Code::MalformedRequest),
        (4, settle(4, used(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"])), Code::TooLarge),
        (5, frame::encode(KIND_SETTLE, 5, b"not rkyv"), Code::MalformedFrame),
        (6, settle(6, ActionOutcome::Released), Code::ReservationExpired),
    ] {
        send.write_all(&bytes).await.expect("written");
        let (answered, problem) = problem(&mut receive).await;
        assert_eq!((answered, problem.code), (number, code));
    }
}

#[tokio::test]
async fn broken_framing_is_told_and_the_connection_closed() {
    let good = ask(1, vec![dated("a")]);
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let oversized = {
        let mut bytes = good[..HEADER_BYTES].to_vec();
        bytes[8..12].copy_from_slice(&(FRAME_BYTES_MAX as u32 + 1).to_le_bytes());
        bytes
    };
    let last = good.len() - 1;
    for (what, bytes, code) in [
        ("magic", changed(0, b'X'), Code::MalformedFrame),
        ("version", changed(4, 9), Code::UnknownVersion),
        ("oversized", oversized, Code::MalformedFrame),
        ("checksum", changed(last, good[last] ^ 1), Code::MalformedFrame),
        ("cut short", good[..last].to_vec(), Code::MalformedFrame),
        ("half a header", good[..7].to_vec(), Code::MalformedFrame),
        ("http", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), Code::MalformedFrame),
    ] {
        let rig = rig(Scripted::deciding(vec![])).await;
        let (mut send, mut receive) = open(&rig, &bytes).await;
        let _ = send.finish();
        let (number, problem) = problem(&mut receive).await;
        assert_eq!((number, problem.code), (0, code), "{what}");
        let closed = rig.connection.closed().await;
        let quinn::ConnectionError::ApplicationClosed(close) = closed else { panic!("{what}: {closed:?}") };
        assert_eq!(&close.reason[..], code.as_str().as_bytes(), "{what}");
    }
}

#[tokio::test]
async fn an_answer_under_way_still_comes_when_a_later_frame_is_broken() {
    let rig = rig(Scripted::deciding(vec![Ok(decision(""))])).await;
    let mut bytes = ask(1, vec![dated("a")]);
    bytes.extend_from_slice(b"garbage in the place of a header");
    let (_send, mut receive) = open(&rig, &bytes).await;
    let mut kinds = vec![next(&mut receive).await.0, next(&mut receive).await.0];
    kinds.sort_unstable();
    assert_eq!(kinds, [KIND_DECIDED, KIND_PROBLEM]);
}

#[tokio::test]
async fn a_stop_closes_clients_and_ends_the_door() {
    let rig = rig(Scripted::deciding(vec![Ok(decision(""))])).await;
    let (_send, mut receive) = open(&rig, &ask(1, vec![dated("a")])).await;
    answers(&mut receive).await;
    rig.stop.send(true).expect("the door listens");
    let closed = rig.connection.closed().await;
    assert!(matches!(closed, quinn::ConnectionError::ApplicationClosed(_)), "{closed:?}");
    rig.served.await.expect("no panic").expect("an orderly end");
}
