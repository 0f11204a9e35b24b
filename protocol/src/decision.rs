//! The answer: verdict, reasons, risk, quota and the place of its record in the audit trail.
//!
//! A verdict leaves a node only after the entry that decides it is committed and synced (SPEC G1).

use serde::{Deserialize, Serialize};

use crate::control::LimitMode;
use crate::error::{Code, Problem};
use crate::ids::{ControlRevision, DecisionId};
use crate::limits::COSTS_PER_ACTION_MAX;

/// The five verdicts by severity; the most severe wins.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[rkyv(compare(PartialEq), derive(Debug, Clone, Copy))]
#[repr(u8)]
pub enum Verdict {
    /// Go ahead.
    Allow = 0,
    /// Go ahead under the obligations given.
    Restrict = 1,
    /// A person must decide first.
    Escalate = 2,
    /// Do not do it.
    Block = 3,
    /// Do not do it, and stop the agent.
    Terminate = 4,
}

impl Verdict {
    /// All verdicts by severity; the position is the verdict's number in leaves.
    pub const ALL: [Verdict; 5] =
        [Verdict::Allow, Verdict::Restrict, Verdict::Escalate, Verdict::Block, Verdict::Terminate];

    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        ["allow", "restrict", "escalate", "block", "terminate"][self as usize]
    }

    /// From the JSON word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.as_str() == word)
    }

    /// True where the action may go ahead, obligations included.
    pub fn is_allowed(self) -> bool {
        self <= Verdict::Restrict
    }
}

/// Where an agent stands. Only release by an administrator leads back.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[rkyv(compare(PartialEq), derive(Debug, Clone, Copy))]
#[repr(u8)]
pub enum AgentStatus {
    /// Acts freely, under policy and limits.
    #[default]
    Active = 0,
    /// Acts under restriction.
    Restricted = 1,
    /// Every action is blocked until release.
    Quarantined = 2,
    /// Every action is blocked for ever.
    Terminated = 3,
}

impl AgentStatus {
    /// All states; the position is the state's number in leaves.
    pub const ALL: [AgentStatus; 4] =
        [AgentStatus::Active, AgentStatus::Restricted, AgentStatus::Quarantined, AgentStatus::Terminated];

    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        ["active", "restricted", "quarantined", "terminated"][self as usize]
    }
}

/// Why the verdict is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Reason {
    /// `policy`, `hold-order`, `quota-exceeded`, `agent-state`, `risk`, `cost-above-cap`,
    /// `reservations-full`, `approved`, `approval-used`, `approvals-full`, `automatic-hold` …
    pub code: String,
    /// The rule, limit or hold-order, and what it says.
    pub detail: String,
}

/// Something that the caller must do with the action; a caller that cannot must not go ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Obligation {
    /// What to do: `redact` (with a policy and a mode: `redact:minimal:drop`), `notify`, `read-only` …
    pub id: String,
}

/// The arguments as an obligation `redact` wants them: what a caller uses in the place of what it sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Transform {
    /// What is to be replaced: `args`.
    pub path: String,
    /// The new value; JSON text here, the value itself in JSON.
    #[serde(with = "json_text")]
    pub value: String,
    /// What was cut, in order of place; at most [`crate::limits::TRANSFORM_SPANS_MAX`], however many cuts there are.
    pub spans: Vec<TransformSpan>,
    /// Cuts that `spans` leaves out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spans_omitted: u64,
}

/// One cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TransformSpan {
    /// The string or number inside the value, as a JSON pointer (RFC 6901).
    pub path: String,
    /// `EMAIL_ADDRESS`, `US_SSN` …
    #[serde(rename = "type")]
    pub kind: String,
    /// First character in that string as it was sent.
    pub start: u64,
    /// Past the last character.
    pub end: u64,
    /// What stands there now.
    pub with: String,
}

/// JSON text as the value that it is.
mod json_text {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Error, Serialize, Serializer};

    pub fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<serde_json::Value>(text).map_err(S::Error::custom)?.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        serde_json::Value::deserialize(deserializer).map(|value| value.to_string())
    }
}

/// One term of the risk sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RiskFactor {
    /// Which detector or term.
    pub name: String,
    /// What it adds, 0..1000.
    pub points: u16,
}

/// Risk of the action with the agent's history, 0..1000.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Risk {
    /// 0..1000, fixed point.
    pub score: u16,
    /// `low`, `normal`, `high` or `elevated`.
    pub tier: String,
    /// The terms; empty unless `explain` was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub factors: Vec<RiskFactor>,
}

/// What a decision's findings mean for people, by the ethical taxonomy. Decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Ethics {
    /// The dimension that is concerned most, where one is concerned much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
    /// All dimensions together, 0..1000.
    pub overall: u16,
    /// The dimensions concerned, most first.
    pub dimensions: Vec<EthicsScore>,
}

/// One dimension of [`Ethics`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct EthicsScore {
    /// `privacy`, `manipulation`, `fairness` or `safety`.
    pub name: String,
    /// 0..1000.
    pub score: u16,
}

/// What one limit has left after this decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct QuotaState {
    /// The limit's id.
    pub limit: String,
    /// What it counts.
    pub unit: String,
    /// The burst (rate) or cap (others).
    pub cap: u64,
    /// What is left now.
    pub remaining: u64,
    /// Seconds until it is whole again, rounded up; [`RESET_NEVER_S`] for never.
    pub reset_s: u64,
    /// True where this limit refused the action, or would have in shadow and soft mode.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub violated: bool,
    /// Whether it refuses, or only counts.
    #[serde(default, skip_serializing_if = "LimitMode::is_enforce")]
    pub mode: LimitMode,
}

/// Seconds until a lifetime cap is whole again.
pub const RESET_NEVER_S: u64 = u64::MAX.div_ceil(1_000_000_000);

/// Amounts that a decision holds until its outcome is told at `/v1/decisions/{decision_id}/outcome`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Reservation {
    /// Log time at which it expires, nanoseconds since 1970.
    pub expires_at_ns: u64,
}

/// The approval that a decision opened or used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ApprovalRef {
    /// Its id: that of the decision that escalated. Name it as `options.approval` once it is approved.
    pub id: DecisionId,
    /// `pending` where this decision opened it, `used` where this decision used it.
    pub state: String,
    /// Log time at which it expires, nanoseconds since 1970; absent where it was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ns: Option<u64>,
}

/// What a client says of an action that it reserved for.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ActionOutcome {
    /// Amounts used, by unit, sorted, each unit once. A reserved unit that is left out was used as reserved.
    Used(Vec<(String, u64)>),
    /// Nothing was used.
    Released,
}

impl ActionOutcome {
    /// What was used, sorted. Amounts of a unit that is named twice are refused, and so are more units than can be reserved.
    ///
    /// # Errors
    /// `malformed-request` or `too-large`.
    pub fn used(mut amounts: Vec<(String, u64)>) -> Result<Self, Problem> {
        if amounts.len() > COSTS_PER_ACTION_MAX + 1 {
            let detail = "the outcome names more units than an action can reserve";
            return Err(Problem::new(Code::TooLarge, detail));
        }
        amounts.sort();
        match amounts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(Problem::new(Code::MalformedRequest, format!("unit {:?} is named twice", pair[0].0))),
            None => Ok(Self::Used(amounts)),
        }
    }

    /// The same outcome, checked and sorted, where it came from outside.
    ///
    /// # Errors
    /// As [`ActionOutcome::used`].
    pub fn checked(self) -> Result<Self, Problem> {
        match self {
            Self::Used(amounts) => Self::used(amounts),
            Self::Released => Ok(Self::Released),
        }
    }
}

/// The end of a reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Settlement {
    /// The decision that reserved.
    pub decision_id: DecisionId,
    /// `committed` or `released`.
    pub state: String,
    /// The limits of whose counters it held something, afterwards.
    pub quota: Vec<SettledQuota>,
    /// Log time of the settlement, nanoseconds since 1970.
    pub settled_at_ns: u64,
    /// True where the same settlement was made before; this is its record.
    pub replayed: bool,
    /// The record.
    pub audit: AuditPosition,
}

/// One limit after a settlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SettledQuota {
    /// The limit.
    #[serde(flatten)]
    pub quota: QuotaState,
    /// Units used beyond what was reserved that the limit's overrun policy leaves uncharged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uncharged: u64,
}

fn is_zero(amount: &u64) -> bool {
    *amount == 0
}

/// The agent as the decision found and left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AgentSummary {
    /// Where it stands.
    pub state: AgentStatus,
    /// Raised by every change of state.
    pub epoch: u64,
}

/// Which rules the decision was made under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Revision {
    /// The control revision of the policy in force: the latest that put a bundle in force or changed its canary.
    pub policy: ControlRevision,
    /// The control revision that the group had applied.
    pub state: ControlRevision,
    /// SHA-256 of the bundle that decided, lower-case hex; absent where the node that answers knows it no longer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bundle: String,
    /// True where that was the canary and not the bundle in force.
    #[serde(default, skip_serializing_if = "is_false")]
    pub canary: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Where the record is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AuditPosition {
    /// The log's origin `<cluster>/p/<group>/<era>`.
    pub log: String,
    /// Position in that log.
    pub leaf_index: u64,
    /// RFC 6962 leaf hash, lower-case hex.
    pub leaf_hash: String,
    /// The proof of it against a signed checkpoint, as text (c2sp.org/tlog-proof); only where it was asked for and could be
    /// had at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

/// A decision. Refusals by policy, state or quota are decisions too: they are recorded and answered with 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Decision {
    /// The idempotency key that the decision answers.
    pub request_id: String,
    /// Where it stands in the audit trail.
    pub decision_id: DecisionId,
    /// The verdict.
    pub verdict: Verdict,
    /// True where the action may go ahead.
    pub allowed: bool,
    /// The older upper-case word: ALLOW, RESTRICT, BLOCK, QUARANTINE, TERMINATE.
    pub decision: String,
    /// Why, most severe first.
    pub reasons: Vec<Reason>,
    /// What the caller must do.
    pub obligations: Vec<Obligation>,
    /// The redacted arguments; absent where no obligation asks for them, or where nothing is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
    /// Risk and its factors.
    pub risk: Risk,
    /// The agent.
    pub agent: AgentSummary,
    /// Every limit that matched.
    pub quota: Vec<QuotaState>,
    /// Earliest time after which every violated limit would pass, milliseconds; absent where none was violated,
    /// or where waiting would not help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What the decision holds; absent where it reserved nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Reservation>,
    /// The approval that the decision opened or used; absent for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRef>,
    /// The rules in force.
    pub revision: Revision,
    /// Log time of the decision, nanoseconds since 1970.
    pub decided_at_ns: u64,
    /// True where a degradation level left something out.
    pub degraded: bool,
    /// True where this is the recorded outcome of an earlier execution of the same request.
    pub replayed: bool,
    /// The record.
    pub audit: AuditPosition,
    /// What was found means so much for people; absent unless `explain` was asked for, and where nothing was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ethics: Option<Ethics>,
}

/// The older word for a verdict in the light of the agent's state.
pub fn legacy_word(verdict: Verdict, status: AgentStatus) -> &'static str {
    match (verdict, status) {
        (Verdict::Block, AgentStatus::Quarantined) => "QUARANTINE",
        (Verdict::Allow, _) => "ALLOW",
        (Verdict::Restrict | Verdict::Escalate, _) => "RESTRICT",
        (Verdict::Block, _) => "BLOCK",
        (Verdict::Terminate, _) => "TERMINATE",
    }
}

/// The answer to one item: a decision, or the reason why there is none, with the id under which to ask again.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ItemAnswer {
    /// The idempotency key of the item.
    pub request_id: String,
    /// Decision or problem.
    pub result: Result<Decision, Problem>,
}
