//! Aggregates of decisions: decodes what is asked for, then asks the governor, which decides, charges and counts.
//!
//! A denied export is answered with the status of its verdict, whatever the caller prefers: it asked for numbers, and there
//! are none.

use serde::Deserialize;

use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::DecisionId;
use nethical_protocol::limits::REQUEST_ID_BYTES_MAX;
use nethical_protocol::privacy::{AggregateAnswer, AggregateBy, AggregateQuery};

use super::admin::{check_bytes, check_name};
use super::answer;
use super::call::{Call, Handled, Reply};
use crate::door::request_id;

/// A slip in a name is refused: it could cost what nobody meant to spend.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    tenant: String,
    by: AggregateBy,
    #[serde(default)]
    cells: Vec<String>,
    from_ns: u64,
    to_ns: u64,
    epsilon_micros: Option<u64>,
    per_agent_max: Option<u32>,
    request_id: Option<String>,
    issued_at: Option<u64>,
    #[serde(default)]
    approval: String,
}

/// `POST /v1/aggregates`
pub async fn export(call: Call) -> Handled {
    let body: Body = call.json()?;
    check_name("tenant", &body.tenant)?;
    check_bytes("request_id", body.request_id.as_deref().unwrap_or_default(), REQUEST_ID_BYTES_MAX)?;
    if !body.approval.is_empty() {
        let named = body.approval.parse::<DecisionId>();
        named.map_err(|error| Problem::new(Code::MalformedRequest, format!("approval: {error}")))?;
    }
    let id = request_id::resolve(body.request_id, body.issued_at)?;
    let query = AggregateQuery {
        tenant: body.tenant,
        by: body.by,
        cells: body.cells,
        from_ns: body.from_ns,
        to_ns: body.to_ns,
        epsilon_micros: body.epsilon_micros,
        per_agent_max: body.per_agent_max,
        request_id: id.text.clone(),
        client_chosen: id.client_chosen,
        issued_at_ms: id.issued_at_ms,
        approval: body.approval,
    };
    query.check()?;
    match call.door.governor.aggregate(query).await? {
        AggregateAnswer::Exported(view) => Ok(Reply::json(&view)?.header("x-request-id", &id.text)),
        AggregateAnswer::Denied(decision) => answer::denied(&decision, &id.text),
    }
}
