//! Every error that a user can see: a stable code, a class that says what may have happened, and what to do next.
//!
//! Refused and redirect mean that it did not happen. Unknown means that it may have. A code never changes its class.

use serde::{Deserialize, Serialize};

use crate::ids::DecisionId;

/// What the caller may conclude and do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It did not happen and will not by trying again.
    Refused,
    /// It did not happen; try again after the time given, with the same request id.
    Retry,
    /// It did not happen here; another place is named.
    Redirect,
    /// It may have happened. Ask again with the same request id, never with a new one.
    Unknown,
    /// The node found itself broken. A person must look.
    Broken,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $class:ident, $status:literal, $advice:literal;)*) => {
        /// A stable error code. The text form is what clients match on.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize,
            rkyv::Deserialize,
        )]
        pub enum Code { $($(#[$doc])* #[serde(rename = $text)] $variant,)* }

        impl Code {
            /// All codes, in the order in which the documentation lists them.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The text that clients match on.
            pub fn as_str(self) -> &'static str { match self { $(Code::$variant => $text,)* } }

            /// What the caller may conclude.
            pub fn class(self) -> Class { match self { $(Code::$variant => Class::$class,)* } }

            /// The HTTP status of a problem with this code.
            pub fn status(self) -> u16 { match self { $(Code::$variant => $status,)* } }

            /// What to do next, in one sentence.
            pub fn advice(self) -> &'static str { match self { $(Code::$variant => $advice,)* } }
        }
    };
}

codes! {
    /// The body is not JSON, not UTF-8, or lacks a required field.
    MalformedRequest = "malformed-request", Refused, 400, "Correct the field that the detail names and send it again.";
    /// `kind` is not one of the seven.
    UnknownKind = "unknown-kind", Refused, 400, "Use one of tool_call, message, model_call, code_execution, data_access, delegation, lifecycle.";
    /// A name, text or list is larger than its bound.
    TooLarge = "too-large", Refused, 413, "Shorten the part that the detail names; large payloads go by digest.";
    /// The endpoint does not exist.
    NotFound = "not-found", Refused, 404, "Check the path or the id.";
    /// The endpoint exists with another method.
    MethodNotAllowed = "method-not-allowed", Refused, 405, "Use a method that the Allow header lists.";
    /// The body is not application/json.
    UnsupportedMediaType = "unsupported-media-type", Refused, 415, "Send application/json.";
    /// The tenant does not exist.
    UnknownTenant = "unknown-tenant", Refused, 404, "Create the tenant first, or correct its name.";
    /// The same request id came with another body.
    RequestConflict = "request-conflict", Refused, 409, "Use a new request id for a new action; the first one stands.";
    /// The request id's time is before what the group remembers.
    RequestTooOld = "request-too-old", Unknown, 409, "It may have been decided: look the request up in the audit trail; never send it under a new id blindly.";
    /// The request id's time is ahead of the cluster's.
    RequestFromFuture = "request-from-future", Refused, 400, "Correct the client's clock.";
    /// A limit of a spread tenant would span partitions, and is of a kind that cannot be shared out.
    LimitNeedsLeases = "limit-needs-leases", Refused, 422, "Give the rate a greater burst, give it a key with the agent in it, or place the tenant single.";
    /// A limit is not well formed.
    InvalidLimit = "invalid-limit", Refused, 422, "Correct the field that the detail names.";
    /// A policy does not parse or does not fit the schema.
    InvalidPolicy = "invalid-policy", Refused, 422, "Correct the policy at the line and column that the detail names.";
    /// A hold-order, tenant or other control change is not well formed.
    InvalidControl = "invalid-control", Refused, 422, "Correct the field that the detail names.";
    /// An action that costs more than the limit's cap can never pass.
    CostAboveCap = "cost-above-cap", Refused, 422, "Split the action or raise the limit; waiting will not help.";
    /// The decision reserved nothing.
    NoReservation = "no-reservation", Refused, 404, "Check the decision id; only an allowed action with reserved costs can be settled.";
    /// The reservation was settled with another outcome.
    ReservationConflict = "reservation-conflict", Refused, 409, "The first settlement stands; its record is in the audit trail.";
    /// The reservation expired before it was settled.
    ReservationExpired = "reservation-expired", Refused, 409, "What it held was given back; settle earlier or reserve for longer.";
    /// Too many actions are waiting: shed before anything was proposed.
    Overloaded = "overloaded", Retry, 503, "Wait for Retry-After, then send it again with the same request id.";
    /// The group has no leader with a quorum now, and nothing was proposed.
    NoQuorum = "no-quorum", Retry, 503, "Wait for Retry-After; check that a majority of the group's nodes is up.";
    /// This node is not the group's leader.
    NotLeader = "not-leader", Retry, 503, "The door retries by itself; a client sees this only when the deadline ran out.";
    /// The partition leader has had no contact with the control group inside the revocation bound.
    ControlStale = "control-stale", Retry, 503, "Wait for Retry-After; the control group must be reachable before anything is decided.";
    /// The agent kept changing while its action was evaluated.
    StaleEvaluation = "stale-evaluation", Retry, 503, "Send it again with the same request id; fewer concurrent actions of this agent help.";
    /// No policy is active, or the bundle in force is not here yet.
    NotReady = "not-ready", Retry, 503, "Wait until /readyz is green; activate a policy if there is none.";
    /// The group's time is ahead of what this node's clock allows.
    ClockUncertain = "clock-uncertain", Retry, 503, "Check the clocks of the nodes; the wait is stated.";
    /// The deadline ran out before anything was proposed.
    DeadlineBeforeProposal = "deadline-exceeded", Retry, 503, "Nothing happened: send it again with the same request id and a longer deadline.";
    /// It was proposed and the outcome did not come back in time.
    OutcomeUnknown = "outcome-unknown", Unknown, 504, "It may have been decided: send it again with the same request id to learn the outcome.";
    /// The tenant's data may not enter this node.
    ResidencyRedirect = "residency-redirect", Redirect, 421, "Use one of the endpoints that the problem lists.";
    /// The bytes are not a frame of this protocol.
    MalformedFrame = "malformed-frame", Refused, 400, "Speak nethical/1; the connection is closed.";
    /// The frame's version is not spoken here.
    UnknownVersion = "unknown-version", Refused, 400, "Use a client whose protocol version the detail lists.";
    /// The peer or client has no certificate that this node accepts.
    Unauthenticated = "unauthenticated", Refused, 401, "Present a certificate or token issued by the cluster.";
    /// The entry has been erased or its key destroyed.
    Erased = "erased", Refused, 410, "The content is gone; its proof still verifies.";
    /// The replica found itself broken and stopped the group.
    GroupStopped = "group-stopped", Broken, 500, "A person must look at the node's log; other replicas go on.";
    /// A defect in this release.
    Internal = "internal", Broken, 500, "Report it with the request id.";
    /// The partition's share of a limit is spent, and the limit's parent could not be asked for more.
    LeaseUnavailable = "lease-unavailable", Retry, 503, "Wait for Retry-After, then send it again with the same request id; the limit may have room elsewhere.";
    /// The zone keeps as many policy bundles as it may.
    PolicyStoreFull = "policy-store-full", Refused, 422, "Remove a bundle that nobody needs: `nethical policy list`, then `nethical policy remove DIGEST`.";
    /// The action repeats a denial that still stands, and was answered from memory.
    DenialRepeated = "denial-repeated", Refused, 429, "Stop asking for the same thing; come back after Retry-After, or have the limit raised.";
    /// The approval was decided the other way.
    ApprovalConflict = "approval-conflict", Refused, 409, "The first word stands; its record is in the audit trail.";
    /// The approval expired before anybody decided.
    ApprovalExpired = "approval-expired", Refused, 409, "Have the agent ask again; decide sooner, or let the rule give more time with @approval_ttl.";
    /// The tenant exports with noise, and no limit counts what that costs.
    NoPrivacyBudget = "no-privacy-budget", Refused, 422, "Set an enforced limit in the unit epsilon_micros that binds every export of the tenant; docs/privacy.md shows one.";
    /// A legal hold covers what is to be erased.
    LegalHold = "legal-hold", Refused, 409, "Erase it once the order that the detail names is lifted: `nethical audit legal-hold list`.";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as it travels between nodes and to clients: code, detail in words, and when to come back.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    thiserror::Error,
)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// The stable code.
    pub code: Code,
    /// What is wrong with this request, for a person.
    pub detail: String,
    /// Milliseconds until it makes sense to try again; only with class retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The denial that this answer repeats; only with `denial-repeated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat_of: Option<DecisionId>,
}

impl Problem {
    /// A problem with its detail.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_ms: None, repeat_of: None }
    }

    /// The same problem with the decision that it repeats.
    pub fn repeat_of(mut self, decision: DecisionId) -> Self {
        self.repeat_of = Some(decision);
        self
    }

    /// The same problem with the time after which to try again, in milliseconds.
    pub fn retry_after_ms(mut self, wait_ms: u64) -> Self {
        self.retry_after_ms = Some(wait_ms);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_their_classes_fit_their_statuses() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert!(!code.advice().is_empty());
            if code.class() == Class::Retry {
                assert_eq!(code.status(), 503, "{code}: retry is always 503");
            }
        }
    }
}
