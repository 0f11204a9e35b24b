//! Approvals: what waits for a person, and the person's word. Bounds texts, then asks the governor.
//!
//! Whoever may administer may approve: these routes need the admin token where one is set, and take the approver's name
//! as it is given.

use serde::Deserialize;

use nethical_cluster::api::{ApprovalQuery, ApprovalWord};
use nethical_protocol::ids::DecisionId;
use nethical_protocol::limits::REASON_BYTES_MAX;

use super::admin::{check_bytes, check_name};
use super::call::{Call, Handled};
use super::routes::ok;

#[derive(Deserialize)]
struct WordBody {
    approver: String,
    #[serde(default)]
    reason: String,
}

/// `GET /v1/approvals?tenant=&state=&cursor=&limit=`
pub async fn list(call: Call) -> Handled {
    let query: ApprovalQuery = call.query()?;
    ok(call.door.governor.approvals(query).await)
}

/// `GET /v1/approvals/{decision_id}`
pub async fn one(call: Call) -> Handled {
    let id: DecisionId = call.parsed("decision_id")?;
    ok(call.door.governor.approval(id).await)
}

/// `POST /v1/approvals/{decision_id}/approve`
pub async fn approve(call: Call) -> Handled {
    decide(&call, true).await
}

/// `POST /v1/approvals/{decision_id}/deny`
pub async fn deny(call: Call) -> Handled {
    decide(&call, false).await
}

async fn decide(call: &Call, approves: bool) -> Handled {
    let id: DecisionId = call.parsed("decision_id")?;
    let WordBody { approver, reason } = call.json()?;
    check_name("approver", &approver)?;
    check_bytes("reason", &reason, REASON_BYTES_MAX)?;
    ok(call.door.governor.decide_approval(ApprovalWord { id, approves, approver, reason }).await)
}
