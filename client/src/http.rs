//! The HTTP door of one node as a client uses it: batches as JSON over kept HTTP/1.1 connections.
//!
//! Does not retry and does not choose between nodes ([`crate::retry`] does); it tells apart what was never sent, what
//! may have happened, and what a node refused. Plain `http` only: this build of the SDK has no TLS for HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use nethical_protocol::action::{Action, Cost};
use nethical_protocol::decision::{ActionOutcome, Decision, ItemAnswer, Settlement};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::DecisionId;

use crate::error::ClientError;

/// A node that does not take a connection in this time is passed over.
const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// The largest answer read: a thousand decisions with all their reasons stay well below.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What is kept back of a deadline for the way to the node and back.
const WAY_WAIT_MAX: Duration = Duration::from_millis(100);

/// One node's HTTP door. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct HttpDoor {
    client: reqwest::Client,
    base: String,
}

#[derive(Serialize)]
struct BatchRequest<'a> {
    actions: Vec<ActionJson<'a>>,
    options: BatchOptions,
}

#[derive(Serialize)]
struct BatchOptions {
    deadline_ms: u64,
}

#[derive(Serialize)]
struct ActionJson<'a> {
    request_id: &'a str,
    issued_at: u64,
    subject: SubjectJson<'a>,
    action: NameJson<'a>,
    resource: ResourceJson<'a>,
    context: &'a RawValue,
    cost: BTreeMap<&'a str, CostJson>,
    options: OptionsJson<'a>,
}

/// Charged at once, or reserved.
#[derive(Serialize)]
#[serde(untagged)]
enum CostJson {
    Charged(u64),
    Reserved { reserve: u64, ttl_s: u64 },
}

impl CostJson {
    fn of(cost: &Cost) -> Self {
        match cost.ttl_s {
            0 => Self::Charged(cost.amount),
            ttl_s => Self::Reserved { reserve: cost.amount, ttl_s },
        }
    }
}

#[derive(Serialize)]
struct SubjectJson<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    properties: SubjectPropertiesJson<'a>,
}

#[derive(Serialize)]
struct SubjectPropertiesJson<'a> {
    tenant: &'a str,
    session: &'a str,
    cohort: &'a str,
    region: &'a str,
}

#[derive(Serialize)]
struct NameJson<'a> {
    name: &'a str,
    kind: &'static str,
    properties: ArgsJson<'a>,
}

#[derive(Serialize)]
struct ArgsJson<'a> {
    args: &'a RawValue,
}

#[derive(Serialize)]
struct ResourceJson<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
}

#[derive(Serialize)]
struct OptionsJson<'a> {
    explain: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    approval: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'static str>,
}

#[derive(Deserialize)]
struct BatchReply {
    answers: Vec<ItemReply>,
}

#[derive(Deserialize)]
struct ItemReply {
    request_id: String,
    decision: Option<Decision>,
    problem: Option<Problem>,
}

impl HttpDoor {
    /// A door at a base address such as `http://127.0.0.1:8101`.
    pub fn new(base: &str) -> Result<Self, ClientError> {
        let client = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .connect_timeout(CONNECT_WAIT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ClientError::NotSent(chain(&error)))?;
        let base = base.trim_end_matches('/');
        if !base.starts_with("http://") {
            return Err(ClientError::NotSent(format!("{base:?} is not an http address")));
        }
        Ok(Self { client, base: base.to_owned() })
    }

    /// Decides actions: one answer each, in order.
    pub async fn decide(&self, actions: &[Action], deadline: Duration) -> Result<Vec<ItemAnswer>, ClientError> {
        let body = request_body(actions, deadline)?;
        answers(actions, &self.post("/v1/decisions:batch", body, deadline).await?)
    }

    /// Says what became of an action that reserved. The same again is answered with the first one's record.
    pub async fn settle(
        &self,
        decision: DecisionId,
        outcome: &ActionOutcome,
        deadline: Duration,
    ) -> Result<Settlement, ClientError> {
        let body = match outcome {
            ActionOutcome::Used(used) => json!({ "used": used.iter().cloned().collect::<BTreeMap<_, _>>() }),
            ActionOutcome::Released => json!({ "release": true }),
        };
        let path = format!("/v1/decisions/{decision}/outcome");
        let bytes = self.post(&path, body.to_string().into_bytes(), deadline).await?;
        let read = serde_json::from_slice(&bytes);
        read.map_err(|error| ClientError::Lost(format!("the answer is no settlement: {error}")))
    }

    /// The body of a success.
    async fn post(&self, path: &str, body: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, ClientError> {
        let request = self.client.post(format!("{}{path}", self.base)).header("content-type", "application/json");
        let response = request.body(body).timeout(deadline).send().await.map_err(|error| failed(&error))?;
        let status = response.status();
        let bytes = read(response).await?;
        if status == StatusCode::OK { Ok(bytes) } else { Err(refused(status, &bytes)) }
    }
}

/// Connecting failed: it never left. Anything later may have reached the node.
fn failed(error: &reqwest::Error) -> ClientError {
    if error.is_connect() || error.is_builder() {
        ClientError::NotSent(chain(error))
    } else {
        ClientError::Lost(chain(error))
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| ClientError::Lost(chain(&error)))? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ClientError::Lost(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A node's own problem, or what can be concluded from the status of whatever stands before it: where a gateway gave
/// up, the node may still have decided.
fn refused(status: StatusCode, bytes: &[u8]) -> ClientError {
    if let Ok(problem) = serde_json::from_slice::<Problem>(bytes) {
        return ClientError::Refused(problem);
    }
    let detail = format!("the endpoint answers HTTP {status} without a problem document");
    match status {
        StatusCode::NOT_FOUND => ClientError::Refused(Problem::new(Code::NotFound, detail)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ClientError::Refused(Problem::new(Code::Unauthenticated, detail))
        }
        StatusCode::PAYLOAD_TOO_LARGE => ClientError::Refused(Problem::new(Code::TooLarge, detail)),
        _ => ClientError::Lost(detail),
    }
}

fn answers(actions: &[Action], bytes: &[u8]) -> Result<Vec<ItemAnswer>, ClientError> {
    let reply: BatchReply =
        serde_json::from_slice(bytes).map_err(|error| ClientError::Lost(format!("the answer is no batch: {error}")))?;
    let fits = reply.answers.len() == actions.len()
        && reply.answers.iter().zip(actions).all(|(answer, action)| answer.request_id == action.request_id);
    if !fits {
        return Err(ClientError::Lost("the answers are not those of the actions sent".into()));
    }
    reply
        .answers
        .into_iter()
        .map(|answer| match (answer.decision, answer.problem) {
            (Some(decision), None) => Ok(ItemAnswer { request_id: answer.request_id, result: Ok(decision) }),
            (None, Some(problem)) => Ok(ItemAnswer { request_id: answer.request_id, result: Err(problem) }),
            _ => Err(ClientError::Lost("an answer holds neither a decision nor a problem".into())),
        })
        .collect()
}

fn request_body(actions: &[Action], deadline: Duration) -> Result<Vec<u8>, ClientError> {
    let node_wait = deadline - WAY_WAIT_MAX.min(deadline / 4);
    let actions = actions.iter().map(action_json).collect::<Result<Vec<_>, _>>();
    let request = actions.map(|actions| BatchRequest {
        actions,
        options: BatchOptions { deadline_ms: (node_wait.as_millis() as u64).max(1) },
    });
    request.and_then(|request| serde_json::to_vec(&request)).map_err(|error| {
        ClientError::Refused(Problem::new(
            Code::MalformedRequest,
            format!("arguments or context are not JSON: {error}"),
        ))
    })
}

fn action_json(action: &Action) -> Result<ActionJson<'_>, serde_json::Error> {
    Ok(ActionJson {
        request_id: &action.request_id,
        issued_at: action.issued_at_ms,
        subject: SubjectJson {
            kind: "agent",
            id: &action.agent,
            properties: SubjectPropertiesJson {
                tenant: &action.tenant,
                session: &action.session,
                cohort: &action.cohort,
                region: &action.region,
            },
        },
        action: NameJson {
            name: &action.name,
            kind: action.kind.as_str(),
            properties: ArgsJson { args: serde_json::from_str(&action.args_json)? },
        },
        resource: ResourceJson { kind: &action.resource_type, id: &action.resource_id },
        context: serde_json::from_str(&action.context_json)?,
        cost: action.cost.iter().map(|cost| (cost.unit.as_str(), CostJson::of(cost))).collect(),
        options: OptionsJson {
            explain: action.explain,
            approval: &action.approval,
            priority: action.is_critical.then_some("critical"),
            receipt: action.wants_receipt.then_some("proof"),
        },
    })
}
