//! The door against a node made for the test, which speaks the protocol or breaks it as each test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, ServerConfig, VarInt};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use nethical_protocol::action::ActionKind;
use nethical_protocol::decision::AuditPosition;
use nethical_protocol::frame;
use nethical_protocol::message::ALPN_CLIENT;

use super::*;

const LONG: Duration = Duration::from_secs(20);

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

    fn listen(&self, address: SocketAddr) -> std::io::Result<Endpoint> {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let chain = vec![params.signed_by(&key, &self.issuer).expect("a certificate").der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring speaks TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a good certificate");
        tls.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        let crypto = QuicServerConfig::try_from(tls).expect("ring has the initial suite");
        Endpoint::server(ServerConfig::with_crypto(Arc::new(crypto)), address)
    }

    async fn door(&self, node: &Endpoint) -> Result<QuicDoor, ClientError> {
        let address = node.local_addr().expect("bound");
        QuicDoor::connect(address, "localhost", vec![self.certificate.clone()]).await
    }
}

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn action(agent: &str, request_id: &str) -> Action {
    Action {
        request_id: request_id.into(),
        client_chosen: true,
        issued_at_ms: 0,
        tenant: "t".into(),
        agent: agent.into(),
        session: String::new(),
        cohort: String::new(),
        region: String::new(),
        kind: ActionKind::ToolCall,
        name: "search".into(),
        resource_type: String::new(),
        resource_id: String::new(),
        args_json: "{}".into(),
        context_json: "{}".into(),
        cost: Vec::new(),
        explain: false,
        approval: String::new(),
        is_critical: false,
        wants_receipt: false,
    }
}

/// Frames to write in answer to one call: its number, and what it asked.
type Script = fn(u32, DecideV1) -> Vec<u8>;

/// Answers every item with a problem that repeats its agent.
fn echo(number: u32, call: DecideV1) -> Vec<u8> {
    let answer = |action: Action| ItemAnswer {
        request_id: action.request_id,
        result: Err(Problem::new(Code::NotReady, action.agent)),
    };
    let answers = call.actions.into_iter().map(answer).collect();
    frame::encode(KIND_DECIDED, number, &DecidedV1 { answers }.to_bytes())
}

/// Settles what is released; has no reservation for the rest.
fn settled(number: u32, call: &SettleV1) -> Vec<u8> {
    let audit = AuditPosition { log: "dev/p/2/1".into(), leaf_index: 9, leaf_hash: String::new(), receipt: None };
    let (decision_id, state) = (call.decision, "released".to_owned());
    let settlement = Settlement { decision_id, state, quota: vec![], settled_at_ns: 5, replayed: false, audit };
    match call.outcome {
        ActionOutcome::Released => frame::encode(KIND_SETTLED, number, &SettledV1 { settlement }.to_bytes()),
        ActionOutcome::Used(_) => {
            let problem = Problem::new(Code::NoReservation, "none");
            frame::encode(KIND_PROBLEM, number, &ProblemV1 { problem }.to_bytes())
        }
    }
}

/// Serves connections until the endpoint closes; counts the calls.
fn serve(node: &Endpoint, script: Script) -> Arc<AtomicU64> {
    let calls = Arc::new(AtomicU64::new(0));
    let (node, counter) = (node.clone(), calls.clone());
    tokio::spawn(async move {
        while let Some(incoming) = node.accept().await {
            let Ok(connection) = incoming.await else { continue };
            tokio::spawn(serve_connection(connection, script, counter.clone()));
        }
    });
    calls
}

async fn serve_connection(connection: Connection, script: Script, calls: Arc<AtomicU64>) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let calls = calls.clone();
        tokio::spawn(async move {
            let mut header = [0; HEADER_BYTES];
            while receive.read_exact(&mut header).await.is_ok() {
                let head = frame::decode_header(&header).expect("a frame");
                let mut body = vec![0; head.length];
                receive.read_exact(&mut body).await.expect("a body");
                frame::check_body(&head, &body).expect("a checksum");
                calls.fetch_add(1, Ordering::SeqCst);
                let out = match head.kind {
                    KIND_SETTLE => settled(head.number, &SettleV1::from_bytes(&body).expect("a settlement")),
                    kind => {
                        assert_eq!(kind, KIND_DECIDE);
                        script(head.number, DecideV1::from_bytes(&body).expect("a call"))
                    }
                };
                send.write_all(&out).await.expect("written");
            }
        });
    }
}

#[tokio::test]
async fn pipelined_calls_get_their_own_answers() {
    let authority = Authority::new();
    let node = authority.listen(anywhere()).expect("a free port");
    serve(&node, echo);
    let door = Arc::new(authority.door(&node).await.expect("connected"));
    let calls = (0..3_000).map(|number| {
        let door = door.clone();
        tokio::spawn(async move {
            let (agent, id) = (format!("agent-{}", number % 50), format!("request-{number}"));
            let answers = door.decide(vec![action(&agent, &id)], LONG).await.expect("answered");
            assert_eq!((answers.len(), &answers[0].request_id), (1, &id));
            assert_eq!(answers[0].result, Err(Problem::new(Code::NotReady, agent)));
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("no call failed");
    }
    let batch = (0..BATCH_ACTIONS_MAX).map(|number| action("a", &number.to_string())).collect::<Vec<_>>();
    assert_eq!(door.decide(batch, LONG).await.expect("answered").len(), BATCH_ACTIONS_MAX);
}

#[tokio::test]
async fn a_settlement_is_told_and_a_refused_one_carries_its_problem() {
    let authority = Authority::new();
    let node = authority.listen(anywhere()).expect("a free port");
    serve(&node, echo);
    let door = authority.door(&node).await.expect("connected");
    let id: DecisionId = "2.1.42".parse().expect("an id");
    let settled = door.settle(id, ActionOutcome::Released, LONG).await.expect("settled");
    assert_eq!((settled.decision_id, settled.state.as_str()), (id, "released"));
    let refused = door.settle(id, ActionOutcome::Used(vec![]), LONG).await;
    assert_eq!(refused, Err(ClientError::Refused(Problem::new(Code::NoReservation, "none"))));
}

#[tokio::test]
async fn a_refused_call_carries_its_problem() {
    let authority = Authority::new();
    let node = authority.listen(anywhere()).expect("a free port");
    serve(&node, |number, _| {
        let problem = Problem::new(Code::Overloaded, "later").retry_after_ms(20);
        frame::encode(KIND_PROBLEM, number, &ProblemV1 { problem }.to_bytes())
    });
    let door = authority.door(&node).await.expect("connected");
    let answer = door.decide(vec![action("a", "1")], LONG).await;
    assert_eq!(answer, Err(ClientError::Refused(Problem::new(Code::Overloaded, "later").retry_after_ms(20))));
    let many = vec![action("a", "1"); BATCH_ACTIONS_MAX + 1];
    let problem = door.decide(many, LONG).await.expect_err("too many");
    assert!(matches!(problem, ClientError::Refused(Problem { code: Code::TooLarge, .. })), "{problem}");
}

#[tokio::test]
async fn an_unanswered_call_is_lost_and_the_node_knew_a_shorter_deadline() {
    static DEADLINE_MS: AtomicU64 = AtomicU64::new(0);
    let authority = Authority::new();
    let node = authority.listen(anywhere()).expect("a free port");
    serve(&node, |_, call| {
        DEADLINE_MS.store(call.deadline_ms, Ordering::SeqCst);
        Vec::new()
    });
    let door = authority.door(&node).await.expect("connected");
    let answer = door.decide(vec![action("a", "1")], Duration::from_millis(800)).await;
    assert!(matches!(answer, Err(ClientError::Lost(_))), "{answer:?}");
    assert!((1..=750).contains(&DEADLINE_MS.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn a_node_that_stops_loses_what_it_had_and_is_found_again() {
    let authority = Authority::new();
    let node = authority.listen(anywhere()).expect("a free port");
    let address = node.local_addr().expect("bound");
    let calls = serve(&node, |_, _| Vec::new());
    let door = authority.door(&node).await.expect("connected");
    let under_way = door.decide(vec![action("a", "1")], LONG);
    let stop = async {
        while calls.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        node.close(VarInt::from_u32(1), b"stopping");
        node.wait_idle().await;
    };
    let (lost, ()) = tokio::join!(under_way, stop);
    assert!(matches!(lost, Err(ClientError::Lost(_))), "{lost:?}");
    drop(node);
    let not_sent = door.decide(vec![action("a", "2")], Duration::from_millis(100)).await;
    assert!(matches!(not_sent, Err(ClientError::NotSent(_))), "{not_sent:?}");
    let node = loop {
        match authority.listen(address) {
            Ok(node) => break node,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    serve(&node, echo);
    while door.decide(vec![action("a", "3")], LONG).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(door.is_connected());
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_the_connection_and_not_the_door() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let authority = Authority::new();
    let node = authority.listen(anywhere()).expect("a free port");
    serve(&node, |number, call| match CALLS.fetch_add(1, Ordering::SeqCst) {
        0 => vec![0xAB; 100],
        1 => frame::encode(KIND_DECIDED, number, b"no answers"),
        2 => frame::encode(KIND_DECIDED, number, &DecidedV1 { answers: Vec::new() }.to_bytes()),
        3 => frame::encode(999, number, b""),
        _ => echo(number, call),
    });
    let door = authority.door(&node).await.expect("connected");
    for _ in 0..4 {
        let answer = loop {
            match door.decide(vec![action("a", "1")], LONG).await {
                Err(ClientError::NotSent(_)) => tokio::task::yield_now().await,
                answer => break answer,
            }
        };
        assert!(matches!(answer, Err(ClientError::Lost(_))), "{answer:?}");
    }
    assert!(door.decide(vec![action("a", "1")], LONG).await.is_ok());
}

#[tokio::test]
async fn a_node_of_another_authority_is_not_spoken_to() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let node = foreign.listen(anywhere()).expect("a free port");
    let calls = serve(&node, echo);
    let refused = authority.door(&node).await.map(drop);
    assert!(matches!(refused, Err(ClientError::NotSent(_))), "{refused:?}");
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    assert!(certificates_from_pem(b"nothing").is_err());
}
