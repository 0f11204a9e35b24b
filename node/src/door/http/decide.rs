//! `POST /v1/decisions` and `POST /v1/decisions:batch`: decode, submit, answer; and what became of a reservation.

use std::collections::BTreeMap;

use serde::Deserialize;

use nethical_protocol::decision::{ActionOutcome, ItemAnswer};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::DecisionId;

use super::answer;
use super::call::{Call, Handled};
use super::decode::{Decoded, Dialect, decode, split_batch};
use super::routes::ok;
use crate::door::submit::{self, submit};

/// This door's name in metrics.
pub const DOOR: &str = "http";

/// One decision.
pub async fn one(call: Call) -> Handled {
    let decoded = decode(&call.body, Dialect::Native);
    let echo = echo_of(&call, &decoded);
    let answer = submit_one(&call, decoded).await;
    answer::single(&answer, call.wants_strict_status(), &echo, Clone::clone)
}

/// Up to a thousand decisions; items may fail apart.
pub async fn batch(call: Call) -> Handled {
    let (texts, own_deadline_ms) = split_batch(&call.body)?;
    let decoded: Vec<Decoded> = texts.iter().map(|text| decode(text.get(), Dialect::Native)).collect();
    // Without a deadline of its own the batch waits as long as its least patient item.
    let deadline_ms = own_deadline_ms.or_else(|| decoded.iter().filter_map(|item| item.deadline_ms).min());
    let items = decoded.into_iter().map(|decoded| decoded.item).collect();
    let answers = submit(&call.door.governor, items, submit::deadline(deadline_ms), DOOR).await;
    answer::batch(&answers, call.wants_strict_status())
}

/// `POST /v1/decisions/{decision_id}/outcome`: `{"used": {unit: amount}}` or `{"release": true}`.
pub async fn outcome(call: Call) -> Handled {
    #[derive(Deserialize)]
    struct Outcome {
        used: Option<BTreeMap<String, u64>>,
        #[serde(default)]
        release: bool,
    }
    let decision: DecisionId = call.parsed("decision_id")?;
    let outcome = match call.json()? {
        Outcome { used: None, release: true } => ActionOutcome::Released,
        Outcome { used: Some(used), release: false } => ActionOutcome::used(used.into_iter().collect())?,
        _ => return Err(Problem::new(Code::MalformedRequest, "say what was used, or that it is released")),
    };
    ok(call.door.governor.settle(decision, outcome).await)
}

/// Submits one decoded request.
pub async fn submit_one(call: &Call, decoded: Decoded) -> ItemAnswer {
    let Decoded { item, request_id, deadline_ms } = decoded;
    let answers = submit(&call.door.governor, vec![item], submit::deadline(deadline_ms), DOOR).await;
    let missing = || Problem::new(Code::Internal, "the item was not answered");
    answers.into_iter().next().unwrap_or_else(|| submit::refuse(request_id, missing()).into())
}

/// X-Request-ID of the reply: the client's, or else the id under which the action was decided.
pub fn echo_of(call: &Call, decoded: &Decoded) -> String {
    if call.headers.contains_key("x-request-id") { call.correlation.clone() } else { decoded.request_id.clone() }
}
