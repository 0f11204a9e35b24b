//! The SDK against both doors over loopback: what it sends is what the governor sees, and answers come back whole.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::watch;

use nethical_client::{Client, Protocol};
use nethical_cluster::world::Scope;
use nethical_protocol::action::{Action, ActionKind, Cost};
use nethical_protocol::error::{Code, Problem};

use super::scripted::{Scripted, action, over_quota, overloaded};
use super::{http, quic};

const ID: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";

/// An action with every field set.
fn full() -> Action {
    Action {
        issued_at_ms: 1_645_557_742_000,
        session: "s".into(),
        cohort: "c".into(),
        region: "eu-west-1".into(),
        kind: ActionKind::DataAccess,
        resource_type: "table".into(),
        resource_id: "users/\"7\"".into(),
        args_json: r#"{"q":[1,{"é":"\n"}]}"#.into(),
        context_json: r#"{"sensitive":true}"#.into(),
        cost: vec![Cost::charged("usd_micros", 5)],
        explain: true,
        approval: String::new(),
        is_critical: false,
        wants_receipt: false,
        ..action(ID)
    }
}

async fn http_door(script: Arc<Scripted>, scope: &Scope, stop: super::Stop) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let door = http::Door::new(script, http::Options::default());
    scope.spawn(http::serve(listener, door.router(), door.options.clone(), scope.clone(), stop));
    format!("http://{address}")
}

fn quic_door(script: Arc<Scripted>, scope: &Scope, stop: super::Stop) -> (String, CertificateDer<'static>) {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let certificate = CertificateDer::from(own.cert);
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let listen = "127.0.0.1:0".parse().expect("address");
    let endpoint = quic::bind(listen, vec![certificate.clone()], key.into()).expect("bind");
    let address = endpoint.local_addr().expect("bound").to_string();
    scope.spawn(quic::serve(endpoint, quic::Options::default(), script, scope.clone(), stop));
    (address, certificate)
}

/// A shed, a conflict and a denial: the first is asked again under its id, the others are final.
fn script() -> Arc<Scripted> {
    let conflict = Problem::new(Code::RequestConflict, "another body");
    let shed = overloaded().retry_after_ms(20);
    Scripted::deciding(vec![Err(shed), Err(conflict), Ok(over_quota()), Ok(over_quota())])
}

async fn check(client: Client, script: Arc<Scripted>) {
    let answers = client.decide(vec![full(), action("order-17"), action("")]).await;
    assert_eq!(answers[0].request_id, ID);
    let decision = answers[0].result.as_ref().expect("decided by the second attempt");
    assert_eq!((decision.request_id.as_str(), &decision.quota), (ID, &over_quota().quota));
    assert_eq!(answers[1].result.as_ref().map_err(|problem| problem.code), Err(Code::RequestConflict));
    assert!(answers[2].result.is_ok());
    let seen = script.actions();
    assert_eq!(seen[0], full(), "the action arrives as it was sent");
    assert_eq!(seen[3], full(), "and so does its retry");
    assert_eq!(seen.len(), 4, "only the shed item was asked again");
    assert!(seen.iter().all(|action| action.client_chosen));
}

#[tokio::test]
async fn the_sdk_speaks_with_the_http_door() {
    let (scope, (_keep, stop)) = (Scope::new([1; 32]), watch::channel(false));
    let script = script();
    let endpoint = http_door(script.clone(), &scope, stop).await;
    let client = Client::builder().endpoints([endpoint]).build().expect("a client");
    check(client, script).await;
}

#[tokio::test]
async fn the_sdk_speaks_with_the_quic_door() {
    let (scope, (_keep, stop)) = (Scope::new([2; 32]), watch::channel(false));
    let script = script();
    let (endpoint, certificate) = quic_door(script.clone(), &scope, stop);
    let client = Client::builder().endpoints([endpoint]).protocol(Protocol::Quic);
    check(client.authority("localhost", vec![certificate]).build().expect("a client"), script).await;
}

#[tokio::test]
async fn the_sdk_passes_over_a_node_that_is_down() {
    let (scope, (_keep, stop)) = (Scope::new([3; 32]), watch::channel(false));
    let script = Scripted::deciding(vec![Ok(over_quota())]);
    let up = http_door(script.clone(), &scope, stop).await;
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let down = format!("http://{}", free.local_addr().expect("bound"));
    drop(free);
    let client = Client::builder().endpoints([down, up]).build().expect("a client");
    let answers = client.decide(vec![full()]).await;
    assert!(answers[0].result.is_ok(), "{answers:?}");
    assert_eq!(script.actions(), [full()]);
}
