//! The client itself: gives ids, cuts batches, asks the doors.

use std::net::SocketAddr;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde::de::IgnoredAny;
use tokio::sync::OnceCell;
use uuid::Uuid;

use nethical_protocol::action::Action;
use nethical_protocol::decision::{ActionOutcome, ItemAnswer, Settlement};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::DecisionId;
use nethical_protocol::limits::{
    ACTION_BYTES_MAX, BATCH_ACTIONS_MAX, BODY_BYTES_DEFAULT, CLIENT_RETRY_MS_MAX, DEADLINE_DEFAULT_MS, DEADLINE_MAX_MS,
};

use crate::error::ClientError;
use crate::http::HttpDoor;
use crate::quic::QuicDoor;
use crate::retry::{Attempt, Door, Doors, Policy, SettleAttempt};

/// Text bytes of one batch, so that it fits the HTTP door's default body with room for names of fields.
const BATCH_BYTES_MAX: usize = BODY_BYTES_DEFAULT / 2;
/// What the names of an action's fields take in JSON, about.
const ACTION_ENVELOPE_BYTES: usize = 320;

const _: () = assert!(ACTION_BYTES_MAX + ACTION_ENVELOPE_BYTES < BATCH_BYTES_MAX);

/// Which door to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// JSON over HTTP/1.1; endpoints are base addresses such as `http://127.0.0.1:8101`.
    #[default]
    Http,
    /// Frames over QUIC; endpoints are socket addresses such as `127.0.0.1:7443`.
    Quic,
}

/// Why a client could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// There is nobody to ask.
    #[error("name at least one endpoint")]
    NoEndpoints,
    /// An endpoint does not fit the protocol.
    #[error("endpoint {endpoint:?}: {why}")]
    Endpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// QUIC without a certificate to trust.
    #[error("QUIC needs the cluster's certificate authority")]
    NoAuthority,
}

/// Collects what a client needs.
#[derive(Debug, Clone)]
pub struct Builder {
    endpoints: Vec<String>,
    protocol: Protocol,
    deadline: Duration,
    attempt: Duration,
    server_name: String,
    authority: Vec<CertificateDer<'static>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            protocol: Protocol::default(),
            deadline: Duration::from_secs(30),
            attempt: Duration::from_millis(DEADLINE_DEFAULT_MS),
            server_name: "localhost".to_owned(),
            authority: Vec::new(),
        }
    }
}

impl Builder {
    /// The nodes, in order of preference. Any node decides for any agent.
    pub fn endpoints<S: Into<String>>(mut self, endpoints: impl IntoIterator<Item = S>) -> Self {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// HTTP (the default) or QUIC.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// How long one call goes on asking, retries included: 30 s unless set, a minute at most.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline.min(Duration::from_millis(CLIENT_RETRY_MS_MAX));
        self
    }

    /// The deadline of one attempt at one node: 5 s unless set.
    pub fn attempt_deadline(mut self, attempt: Duration) -> Self {
        self.attempt = attempt.min(Duration::from_millis(DEADLINE_MAX_MS));
        self
    }

    /// For QUIC: whom to trust, and the name that the nodes' certificates carry.
    pub fn authority(mut self, server_name: impl Into<String>, authority: Vec<CertificateDer<'static>>) -> Self {
        self.server_name = server_name.into();
        self.authority = authority;
        self
    }

    /// The client. Connections are made when they are first needed.
    pub fn build(self) -> Result<Client, BuildError> {
        if self.endpoints.is_empty() {
            return Err(BuildError::NoEndpoints);
        }
        if self.protocol == Protocol::Quic && self.authority.is_empty() {
            return Err(BuildError::NoAuthority);
        }
        let doors = self.endpoints.iter().map(|endpoint| self.door(endpoint)).collect::<Result<Vec<_>, _>>()?;
        let policy = Policy {
            overall: self.deadline,
            attempt: self.attempt,
            pause: Duration::from_millis(50),
            pause_max: Duration::from_secs(1),
        };
        Ok(Client { doors: Doors::new(doors, policy) })
    }

    fn door(&self, endpoint: &str) -> Result<Box<dyn Door>, BuildError> {
        let refuse = |why: String| BuildError::Endpoint { endpoint: endpoint.to_owned(), why };
        match self.protocol {
            Protocol::Http => {
                let door = HttpDoor::new(endpoint).map_err(|error| refuse(error.to_string()))?;
                Ok(Box::new(door))
            }
            Protocol::Quic => {
                let address = endpoint.parse().map_err(|_| refuse("it is no socket address".to_owned()))?;
                let (server_name, authority) = (self.server_name.clone(), self.authority.clone());
                Ok(Box::new(LazyQuic { address, server_name, authority, door: OnceCell::new() }))
            }
        }
    }
}

/// Asks a cluster. Share it behind an `Arc`.
pub struct Client {
    doors: Doors,
}

impl Client {
    /// Starts building one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Decides actions: one answer each, in order. Larger batches are cut; the parts go one after the other, so that
    /// an agent's actions keep their order.
    ///
    /// Actions without a request id get a UUIDv7; a given id is kept, and needs `issued_at_ms` beside it unless it is
    /// a UUIDv7 itself.
    pub async fn decide(&self, actions: Vec<Action>) -> Vec<ItemAnswer> {
        let mut answers: Vec<Option<ItemAnswer>> = Vec::with_capacity(actions.len());
        let mut sound = Vec::with_capacity(actions.len());
        for action in actions.into_iter().map(identified) {
            match check(&action) {
                Ok(()) => {
                    sound.push(action);
                    answers.push(None);
                }
                Err(problem) => answers.push(Some(ItemAnswer { request_id: action.request_id, result: Err(problem) })),
            }
        }
        let mut decided = Vec::with_capacity(sound.len());
        for batch in cut(sound) {
            decided.extend(self.doors.decide(batch).await);
        }
        let mut decided = decided.into_iter();
        let merged = answers.into_iter().map(|answer| answer.or_else(|| decided.next()));
        merged.map(|answer| answer.expect("every sound action is answered")).collect()
    }

    /// Says what became of an action that reserved: what it used, or that it used nothing. The reservation's id, which is
    /// its decision's, makes a repeat safe: it is answered with the first one's record, and another outcome is refused.
    ///
    /// # Errors
    /// Coded: `reservation-expired`, `reservation-conflict`, `no-reservation` …; after `outcome-unknown` ask again the same way.
    pub async fn settle(&self, decision: DecisionId, outcome: ActionOutcome) -> Result<Settlement, Problem> {
        self.doors.settle(decision, outcome.checked()?).await
    }
}

/// An id of the client's own, with its time.
fn identified(mut action: Action) -> Action {
    action.client_chosen = true;
    if action.request_id.is_empty() {
        action.request_id = Uuid::now_v7().to_string();
        action.issued_at_ms = 0;
    }
    if let Ok(id) = Uuid::try_parse(&action.request_id)
        && id.get_version_num() == 7
    {
        action.issued_at_ms = (id.as_u128() >> 80) as u64;
    }
    action
}

/// What every door would refuse is refused here, apart from its batch.
fn check(action: &Action) -> Result<(), Problem> {
    action.check_bounds()?;
    if action.issued_at_ms == 0 {
        let detail = "request_id is no UUIDv7, so issued_at_ms is required";
        return Err(Problem::new(Code::MalformedRequest, detail));
    }
    for (what, text) in [("args", &action.args_json), ("context", &action.context_json)] {
        let is_object = text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
        if !is_object {
            return Err(Problem::new(Code::MalformedRequest, format!("{what} is not a JSON object")));
        }
    }
    Ok(())
}

/// Batches within every door's bounds, in order.
fn cut(actions: Vec<Action>) -> Vec<Vec<Action>> {
    let mut batches: Vec<Vec<Action>> = Vec::new();
    let mut bytes = usize::MAX;
    for action in actions {
        let more = action.text_bytes() + ACTION_ENVELOPE_BYTES;
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_ACTIONS_MAX && bytes + more <= BATCH_BYTES_MAX => {
                bytes += more;
                batch.push(action);
            }
            _ => {
                bytes = more;
                batches.push(vec![action]);
            }
        }
    }
    batches
}

/// A QUIC door that is dialled when it is first needed.
struct LazyQuic {
    address: SocketAddr,
    server_name: String,
    authority: Vec<CertificateDer<'static>>,
    door: OnceCell<QuicDoor>,
}

impl LazyQuic {
    async fn connected(&self, deadline: Duration) -> Result<&QuicDoor, ClientError> {
        let dial = || QuicDoor::connect(self.address, &self.server_name, self.authority.clone());
        let door = tokio::time::timeout(deadline, self.door.get_or_try_init(dial)).await;
        door.map_err(|_| ClientError::NotSent("no connection inside the deadline".to_owned()))?
    }
}

impl Door for LazyQuic {
    fn decide(&self, actions: Vec<Action>, deadline: Duration) -> Attempt<'_> {
        Box::pin(async move { self.connected(deadline).await?.decide(actions, deadline).await })
    }

    fn settle(&self, decision: DecisionId, outcome: ActionOutcome, deadline: Duration) -> SettleAttempt<'_> {
        Box::pin(async move { self.connected(deadline).await?.settle(decision, outcome, deadline).await })
    }
}

impl Door for HttpDoor {
    fn decide(&self, actions: Vec<Action>, deadline: Duration) -> Attempt<'_> {
        Box::pin(async move { HttpDoor::decide(self, &actions, deadline).await })
    }

    fn settle(&self, decision: DecisionId, outcome: ActionOutcome, deadline: Duration) -> SettleAttempt<'_> {
        Box::pin(async move { HttpDoor::settle(self, decision, &outcome, deadline).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(request_id: &str, args_json: String) -> Action {
        let line = r#"{"agent_id":"a","kind":"message","name":"n"}"#;
        let action = crate::action::from_line(line).expect("a line");
        Action { request_id: request_id.to_owned(), args_json, ..action }
    }

    #[test]
    fn actions_get_ids_of_their_own_and_given_ones_are_kept() {
        let made = identified(action("", "{}".into()));
        assert!(made.client_chosen && check(&made).is_ok());
        assert_ne!(made.request_id, identified(action("", "{}".into())).request_id);
        let kept = identified(action("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "{}".into()));
        assert_eq!(
            (kept.request_id.as_str(), kept.issued_at_ms),
            ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", 1_645_557_742_000)
        );
        let undated = identified(action("order-17", "{}".into()));
        assert_eq!(check(&undated).map_err(|p| p.code), Err(Code::MalformedRequest));
        assert!(check(&Action { issued_at_ms: 5, ..undated }).is_ok());
    }

    #[test]
    fn what_is_no_object_is_refused_here() {
        for args in ["", "[]", "{", "{}x"] {
            assert!(check(&identified(action("", args.into()))).is_err(), "{args}");
        }
    }

    #[test]
    fn batches_stay_within_bounds_and_in_order() {
        let large = format!("{{\"t\":\"{}\"}}", "x".repeat(60_000));
        let actions: Vec<Action> = (0..2_500)
            .map(|number| Action {
                name: number.to_string(),
                ..action("i", if number % 700 == 3 { large.clone() } else { "{}".into() })
            })
            .collect();
        let batches = cut(actions);
        assert!(batches.iter().all(|batch| batch.len() <= BATCH_ACTIONS_MAX));
        let bytes =
            |batch: &Vec<Action>| batch.iter().map(|action| action.text_bytes() + ACTION_ENVELOPE_BYTES).sum::<usize>();
        assert!(batches.iter().all(|batch| bytes(batch) <= BATCH_BYTES_MAX));
        let names: Vec<String> = batches.into_iter().flatten().map(|action| action.name).collect();
        assert_eq!(names, (0..2_500).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(cut(Vec::new()).is_empty());
    }

    #[test]
    fn a_client_needs_endpoints_that_fit_its_protocol() {
        assert!(matches!(Client::builder().build(), Err(BuildError::NoEndpoints)));
        let https = Client::builder().endpoints(["https://localhost:1"]).build();
        assert!(matches!(https, Err(BuildError::Endpoint { .. })));
        let quic = || Client::builder().protocol(Protocol::Quic).endpoints(["localhost"]);
        assert!(matches!(quic().build(), Err(BuildError::NoAuthority)));
        let trusting = quic().authority("localhost", vec![CertificateDer::from(vec![0])]);
        assert!(matches!(trusting.build(), Err(BuildError::Endpoint { .. })));
    }
}
