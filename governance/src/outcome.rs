//! What apply answers for each command. Equal on every replica; a refusal is an outcome, never an error.

use nethical_protocol::control::LimitMode;
use nethical_protocol::decision::{AgentStatus, Verdict};
use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber, Slot};

use crate::approval::ApprovalState;
use crate::command::DetectionV1;
use crate::quarantine::RuleNumber;
use crate::quota::ahead::AheadV1;
use crate::quota::lease::{CountersV1, LeaseAskV1};
use crate::subject::ErasedV1;

/// The outcome of one command.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum OutcomeV1 {
    /// First execution of a decision: makes a leaf.
    Decided(DecidedV1),
    /// The request was executed before; its record is the leaf named. Makes no leaf.
    Duplicate {
        /// Leaf index of the first execution.
        leaf_index: u64,
    },
    /// The same request id with another body. Makes no leaf.
    Conflict {
        /// Leaf index of the first execution.
        leaf_index: u64,
    },
    /// The request's time is before what is remembered. Makes no leaf.
    TooOld {
        /// The time before which requests are refused, milliseconds since 1970.
        low_water_ms: u64,
    },
    /// The request's time is ahead of log time. Makes no leaf.
    FromFuture,
    /// The evaluation does not fit the state any more: evaluate again. Makes no leaf, charges nothing.
    Stale(Stale),
    /// The tenant is not known to this group yet. Makes no leaf.
    UnknownTenant,
    /// A hold-order was placed or lifted: makes a leaf.
    HoldChanged {
        /// The agent afterwards.
        status: AgentStatus,
        /// The agent's epoch afterwards.
        epoch: u64,
        /// Approvers whose words a release still needs; 0 where nothing is held, or one word does.
        missing: u8,
    },
    /// Control facts took effect: makes a leaf.
    ControlApplied {
        /// The group's control revision afterwards.
        revision: ControlRevision,
    },
    /// Nothing changed (a tick, control facts already applied). Makes no leaf.
    NoEffect,
    /// The action would go ahead, and this group's shares of leased limits are too small: ask the parents for what the
    /// asks say, by limit number, at least one and at most `LIMITS_MATCHING_MAX`, all at once; then evaluate again. Makes no
    /// leaf, charges nothing; what the action has of other limits is kept for it for a moment.
    LeaseShort(Vec<LeaseAskV1>),
    /// The parent's side of a lease after an ask. Makes no leaf.
    LeaseGranted {
        /// When this life of the child's share began and ends, see [`Granted`](crate::quota::lease::Granted).
        life_ns: (u64, u64),
        /// Ever granted to the child in that life.
        granted: u64,
        /// How much less the child holds, by what the ask said.
        freed: u64,
        /// Nanoseconds until there would be enough; 0 where there is, or where that is not known.
        wait_ns: u64,
        /// Other groups, of which each may hold some of the rest.
        others: Vec<u32>,
    },
    /// The child's side of a lease after it took or returned. Makes no leaf.
    LeaseChanged(CountersV1),
    /// A reservation was settled: makes a leaf.
    Settled(SettledV1),
    /// Repeats of a denial were written down: makes a leaf.
    RepeatsNoted,
    /// There is no such reservation, or it ended so long ago that nobody remembers how. Makes no leaf.
    NoReservation,
    /// An approval was given or refused: makes a leaf.
    Reviewed(ReviewedV1),
    /// There is no such approval, or it ended so long ago that nobody remembers it. Makes no leaf.
    NoApproval,
    /// Ring keys or the wrapping of subjects' keys changed. Makes no leaf.
    KeysChanged,
    /// These subjects' keys are gone for good: makes a leaf. At least one, at most [`ERASED_PER_LEAF`](crate::subject::ERASED_PER_LEAF).
    Erased(Vec<ErasedV1>),
}

impl OutcomeV1 {
    /// True where the command's first execution is recorded as a leaf.
    pub fn makes_leaf(&self) -> bool {
        matches!(
            self,
            Self::Decided(_)
                | Self::HoldChanged { .. }
                | Self::ControlApplied { .. }
                | Self::Settled(_)
                | Self::RepeatsNoted
                | Self::Reviewed(_)
                | Self::Erased(_)
        )
    }
}

/// Why an evaluation is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Stale {
    /// Proposed in another term.
    Term,
    /// Evaluated under another policy revision than the one in force here.
    Policy,
    /// The agent changed in what policy can see of it.
    Agent,
    /// No policy is in force here.
    NoPolicy,
    /// The body was sealed under a key that is not the subject's here.
    Keys,
}

/// A decision as apply composed it: `max(policy, state, holds, limits, risk tier)`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DecidedV1 {
    /// The final verdict.
    pub verdict: Verdict,
    /// Why, most severe first, at most `REASONS_MAX`.
    pub reasons: Vec<ReasonV1>,
    /// The agent afterwards.
    pub status: AgentStatus,
    /// The agent's epoch afterwards.
    pub epoch: u64,
    /// Risk of this action with the agent's history, 0..1000; in the gray zone blended with a model's score, where the
    /// command carries one.
    pub risk: u16,
    /// Tier of the agent's profile afterwards. Profiles learn the rules' score alone.
    pub tier: RiskTier,
    /// Terms of the risk sum: behaviour, severity, frequency, recency, each 0..1000, then the decayed history.
    pub risk_terms: [u16; 5],
    /// Every limit that matched, sorted by number.
    pub quota: Vec<QuotaV1>,
    /// Nanoseconds after `now` at which every violated limit would pass; 0 where none was violated, or waiting
    /// would not help.
    pub retry_after_ns: u64,
    /// The control revision that the group had applied.
    pub control_rev: ControlRevision,
    /// What is odd about the action for this agent, sorted by detector (see `behaviour`).
    pub findings: Vec<DetectionV1>,
    /// Shares of limits that refuse nobody which the leader is to ask the parents about, without anybody waiting for it;
    /// at most `LIMITS_MATCHING_MAX`, by limit number. Not in the leaf.
    pub ahead: Vec<AheadV1>,
}

/// A reason by number; doors put words to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ReasonV1 {
    /// Policy said so; the rules are in the evaluation.
    Policy(Verdict),
    /// The agent's own state.
    AgentState(AgentStatus),
    /// An agent-scoped hold-order.
    AgentHold,
    /// A tenant-wide or zone-wide hold-order, by id.
    Hold(ControlRevision),
    /// A limit is exhausted.
    QuotaExceeded(LimitNumber),
    /// The action costs more than the limit could ever give.
    CostAboveCap(LimitNumber),
    /// The agent's risk tier.
    RiskTier(RiskTier),
    /// The agent or the group has as many live reservations as it may, or the action would hold too many counters.
    ReservationsFull,
    /// A rule of automatic quarantine holds the agent.
    AutomaticHold(RuleNumber),
    /// The escalation opened an approval, which expires at this log time.
    ApprovalOpened(u64),
    /// The agent or the group has asked for as many approvals as it may.
    ApprovalsFull,
    /// The escalation was lifted by the approval with this leaf index.
    Approved(u64),
    /// The approval with this leaf index does not count.
    Unapproved(Unapproved, u64),
    /// The risk is a blend of these two scores.
    Blended {
        /// By the rules.
        rule: u16,
        /// By the caller's model.
        model: u16,
    },
}

/// Why an approval that an action names does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[repr(u8)]
pub enum Unapproved {
    /// There is none, not for this agent, or it is forgotten.
    Unknown = 0,
    /// Nobody has decided yet.
    Pending = 1,
    /// It was denied.
    Denied = 2,
    /// Its time is over.
    Expired = 3,
    /// It was used before.
    Used = 4,
    /// It is for another action.
    Mismatch = 5,
    /// The policy has changed since.
    Void = 6,
}

impl Unapproved {
    /// All of them; the position is the number in leaves.
    pub const ALL: [Unapproved; 7] = [
        Unapproved::Unknown,
        Unapproved::Pending,
        Unapproved::Denied,
        Unapproved::Expired,
        Unapproved::Used,
        Unapproved::Mismatch,
        Unapproved::Void,
    ];
}

/// What became of an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReviewedV1 {
    /// Approved, denied or expired.
    pub state: ApprovalState,
    /// Leaf index of the decision that escalated.
    pub decision: u64,
    /// The slot of its agent.
    pub slot: Slot,
    /// The tenant.
    pub tenant: KeyedId,
    /// The agent.
    pub agent: KeyedId,
    /// Keyed digest of the action.
    pub digest: KeyedId,
    /// Who decided; none where it expired.
    pub approver: KeyedId,
}

/// How a reservation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[repr(u8)]
pub enum EndV1 {
    /// What was used is charged.
    Committed = 0,
    /// Everything was given back.
    Released = 1,
    /// Nobody settled it in time; everything was given back.
    Expired = 2,
}

impl EndV1 {
    /// All ends; the position is the end's number in leaves.
    pub const ALL: [EndV1; 3] = [EndV1::Committed, EndV1::Released, EndV1::Expired];

    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        ["committed", "released", "expired"][self as usize]
    }
}

/// The end of a reservation.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SettledV1 {
    /// How it ended.
    pub end: EndV1,
    /// Leaf index of the decision that reserved.
    pub decision: u64,
    /// The slot of its agent.
    pub slot: Slot,
    /// The tenant.
    pub tenant: KeyedId,
    /// The agent.
    pub agent: KeyedId,
    /// MAC of what the settlement said.
    pub content: [u8; 8],
    /// (unit, reserved, used), by unit.
    pub costs: Vec<(KeyedId, u64, u64)>,
    /// Every limit in force of whose counter it held something, by number.
    pub quota: Vec<SettledQuotaV1>,
}

/// One limit's state after a reservation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SettledQuotaV1 {
    /// The limit; never violated.
    pub quota: QuotaV1,
    /// Units used beyond what was reserved that the limit's overrun policy leaves uncharged.
    pub uncharged: u64,
}

/// Risk tiers: low < 250 ≤ normal < 500 ≤ high < 750 ≤ elevated.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[repr(u8)]
pub enum RiskTier {
    /// Below 250.
    #[default]
    Low = 0,
    /// 250..499.
    Normal = 1,
    /// 500..749.
    High = 2,
    /// 750 and above.
    Elevated = 3,
}

impl RiskTier {
    /// All tiers; the position is the tier's number in leaves.
    pub const ALL: [RiskTier; 4] = [RiskTier::Low, RiskTier::Normal, RiskTier::High, RiskTier::Elevated];

    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        ["low", "normal", "high", "elevated"][self as usize]
    }

    /// The tier of a score.
    pub fn of(score: u16) -> Self {
        Self::ALL[usize::from(score / 250).min(3)]
    }
}

/// One limit's state after the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct QuotaV1 {
    /// The limit.
    pub limit: LimitNumber,
    /// Burst (rate) or cap (others).
    pub cap: u64,
    /// What is left now.
    pub remaining: u64,
    /// Nanoseconds after `now` until it is whole again; `u64::MAX` for never.
    pub reset_ns: u64,
    /// True where it refused the action (or would have, in shadow and soft mode).
    pub violated: bool,
    /// Whether it refuses, or only counts.
    pub mode: LimitMode,
}
