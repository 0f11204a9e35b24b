//! What doors show and ask of approvals.

use serde::{Deserialize, Serialize};

use nethical_protocol::decision::Reason;
use nethical_protocol::ids::DecisionId;

/// Which approvals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApprovalQuery {
    /// One tenant.
    pub tenant: Option<String>,
    /// One state.
    pub state: Option<String>,
    /// What the page before gave.
    pub cursor: Option<String>,
    /// At most this many, up to 200.
    pub limit: Option<usize>,
}

/// Some approvals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalList {
    /// In order of their ids.
    pub approvals: Vec<ApprovalView>,
    /// Partitions that did not answer: what waits there is missing here.
    pub awaiting: Vec<u32>,
    /// Pass it as `cursor` for the next page. Absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Its id: that of the decision that escalated.
    pub id: DecisionId,
    /// `pending`, `approved`, `denied`, `expired` or `used`.
    pub state: String,
    /// True where the policy has changed since: approving it would not let the action through.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub void: bool,
    /// Whose agent; absent where this node cannot open the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The agent that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The exact action, as an audit entry's body shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<serde_json::Value>,
    /// Why it was escalated.
    pub reasons: Vec<Reason>,
    /// Log time at which it was opened, nanoseconds since 1970.
    pub opened_at_ns: u64,
    /// Log time at which it expires, nanoseconds since 1970.
    pub expires_at_ns: u64,
    /// The record of the word on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_in: Option<DecisionId>,
    /// The decision that used it, or the record of its expiry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_in: Option<DecisionId>,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approver: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// True where the same word was said before; this is its record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
}

/// A person's word on an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalWord {
    /// Which.
    pub id: DecisionId,
    /// Approve, or deny.
    pub approves: bool,
    /// Who says so.
    pub approver: String,
    /// Why; kept in the sealed body of its leaf, never in state.
    pub reason: String,
}
