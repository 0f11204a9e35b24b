//! The leaf: header and outcome of one first execution, in a canonical encoding that other people's verifiers reproduce.
//!
//! Integers little endian in fixed order, lists with a u8 count in front, no padding, at most 1 KiB. It holds keyed
//! ids and numbers, never names, never text. The layout below is frozen; a change is a new version byte.

use nethical_protocol::ids::KeyedId;

pub mod codec;

pub use codec::LeafError;

/// What a leaf records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafV1 {
    /// The Raft group of the log.
    pub group: u32,
    /// The log's era.
    pub era: u32,
    /// Position in the log, from 0.
    pub leaf_index: u64,
    /// Log time, nanoseconds since 1970.
    pub now_ns: u64,
    /// The Raft term of the entry.
    pub term: u64,
    /// SHA-256(salt ‖ plaintext body), or of the plain body where it holds no personal bytes.
    pub body_commitment: [u8; 32],
    /// What happened.
    pub event: LeafEvent,
}

/// The kinds of leaves. The position of a variant here plus one is its kind byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeafEvent {
    /// An action was decided.
    Decision(Box<DecisionLeaf>),
    /// Control facts took effect.
    Control {
        /// The control revision before.
        from_rev: u64,
        /// The control revision after.
        to_rev: u64,
    },
    /// An agent-scoped hold-order was placed.
    HoldPlaced(HoldLeaf),
    /// An agent-scoped hold-order was lifted.
    HoldLifted(HoldLeaf),
    /// The first leaf of an era after a restore.
    EraOpened {
        /// Size of the log that the era continues from; 0 for the first era.
        old_size: u64,
        /// Root of that log.
        old_root: [u8; 32],
    },
    /// A reservation was settled, or expired.
    ReservationEnded(Box<ReservationLeaf>),
    /// An approval was given or refused, or expired.
    ApprovalDecided(ApprovalLeaf),
    /// A denial was repeated, and its repeats were answered from memory.
    DenialsRepeated(RepeatsLeaf),
    /// Keys of subjects are gone for good: nobody can open what was sealed under them.
    SubjectsErased(Vec<ErasedLeaf>),
}

impl LeafEvent {
    /// (slot, tenant, agent) of what is about one agent, under whose key its body is sealed.
    pub fn agent(&self) -> Option<(u16, KeyedId, KeyedId)> {
        match self {
            Self::Decision(found) => Some((found.slot, found.tenant, found.agent)),
            Self::HoldPlaced(hold) | Self::HoldLifted(hold) => Some((hold.slot, hold.tenant, hold.agent)),
            Self::ReservationEnded(ended) => Some((ended.slot, ended.tenant, ended.agent)),
            Self::ApprovalDecided(decided) => Some((decided.slot, decided.tenant, decided.agent)),
            Self::DenialsRepeated(repeats) => Some((repeats.slot, repeats.tenant, repeats.agent)),
            Self::Control { .. } | Self::EraOpened { .. } | Self::SubjectsErased(_) => None,
        }
    }
}

/// A decision: who, what, what was found, what was decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DecisionLeaf {
    /// Keyed hash of the request id.
    pub request: KeyedId,
    /// HMAC of the request's content.
    pub request_content: [u8; 8],
    /// Time in the request id, milliseconds since 1970.
    pub issued_at_ms: u64,
    /// 1 where the client chose the request id.
    pub client_chosen: bool,
    /// The slot.
    pub slot: u16,
    /// Keyed ids; [`KeyedId::NONE`] where the request named nothing.
    pub tenant: KeyedId,
    /// The agent.
    pub agent: KeyedId,
    /// The session.
    pub session: KeyedId,
    /// The cohort.
    pub cohort: KeyedId,
    /// The action's name.
    pub tool: KeyedId,
    /// The region.
    pub region: KeyedId,
    /// The resource.
    pub resource: KeyedId,
    /// Position in `ActionKind::ALL`.
    pub action_kind: u8,
    /// Control revision of the policy in force, its canary included.
    pub policy_rev: u64,
    /// Control revision that the group had applied.
    pub control_rev: u64,
    /// Policy's own verdict, position in `Verdict::ALL`.
    pub policy_verdict: u8,
    /// The final verdict.
    pub verdict: u8,
    /// The agent's status afterwards, position in `AgentStatus::ALL`.
    pub status: u8,
    /// The agent's epoch afterwards.
    pub epoch: u64,
    /// Bit 0 privileged, bit 1 automated, bit 3 the canary decided ([`codec::FLAG_CANARY`]); bit 2 is set by `encode`
    /// ([`codec::FLAG_QUOTA_CUT`]); bit 5 is not in here, [`DecisionLeaf::entropy`] is.
    pub flags: u8,
    /// Risk, 0..1000.
    pub risk: u16,
    /// Position in `RiskTier::ALL`.
    pub tier: u8,
    /// The terms of the risk sum.
    pub risk_terms: [u16; 5],
    /// Nanoseconds until every violated limit would pass.
    pub retry_after_ns: u64,
    /// Seconds that the reserved costs may be held; 0 where none is reserved.
    pub reserve_ttl_s: u32,
    /// Bit n: the cost at position n is reserved.
    pub reserved: u16,
    /// The rules that determined policy's verdict.
    pub rules: Vec<[u8; 8]>,
    /// (detector, severity).
    pub detections: Vec<(u8, u16)>,
    /// (reason kind, its number); see [`reason`].
    pub reasons: Vec<(u8, u64)>,
    /// (unit, amount).
    pub costs: Vec<(KeyedId, u64)>,
    /// The limits that matched.
    pub quota: Vec<QuotaLeaf>,
    /// Entropy of the arguments in 1/32 bit a byte; none where they are short. A byte behind the lists where there is one, and
    /// [`codec::FLAG_ENTROPY`] says so: a leaf without one is as it was before there was such a thing.
    pub entropy: Option<u8>,
}

/// Numbers of reason kinds in leaves.
pub mod reason {
    /// Number: the verdict.
    pub const POLICY: u8 = 1;
    /// Number: the status.
    pub const AGENT_STATE: u8 = 2;
    /// Number: 0.
    pub const AGENT_HOLD: u8 = 3;
    /// Number: the hold's control revision.
    pub const HOLD: u8 = 4;
    /// Number: the limit.
    pub const QUOTA_EXCEEDED: u8 = 5;
    /// Number: the limit.
    pub const COST_ABOVE_CAP: u8 = 6;
    /// Number: the tier.
    pub const RISK_TIER: u8 = 7;
    /// Number: 0.
    pub const RESERVATIONS_FULL: u8 = 8;
    /// Number: the rule's place in its set, from 1, in the lowest byte; above it the control revision that set it.
    pub const AUTOMATIC_HOLD: u8 = 12;
    /// Number: the score of the caller's model in the lowest two bytes; above it that of the rules. Their blend is the risk.
    pub const BLENDED: u8 = 13;
    /// Number: the log time at which the approval that was opened expires.
    pub const APPROVAL_OPENED: u8 = 16;
    /// Number: 0.
    pub const APPROVALS_FULL: u8 = 17;
    /// Number: the leaf index of the approval that was used.
    pub const APPROVED: u8 = 18;
    /// First of those about an approval that does not count; number: its leaf index. In order: unknown, pending, denied,
    /// expired, used, mismatch, void.
    pub const UNAPPROVED: u8 = 20;
}

/// One limit in a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaLeaf {
    /// The limit's number.
    pub limit: u32,
    /// Burst or cap.
    pub cap: u64,
    /// Left afterwards.
    pub remaining: u64,
    /// Nanoseconds until whole again.
    pub reset_ns: u64,
    /// Bit 0 violated, bits 1 and 2 the mode: 0 enforce, 1 shadow, 2 soft.
    pub flags: u8,
}

/// An agent-scoped hold-order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldLeaf {
    /// Keyed hash of the request id.
    pub request: KeyedId,
    /// The slot.
    pub slot: u16,
    /// The tenant.
    pub tenant: KeyedId,
    /// The agent.
    pub agent: KeyedId,
    /// 0 block, 1 restrict.
    pub effect: u8,
    /// Nanoseconds until it lapses; 0 for never.
    pub ttl_ns: u64,
    /// The agent's status afterwards.
    pub status: u8,
    /// The agent's epoch afterwards.
    pub epoch: u64,
    /// Approvers whose words the release still needs afterwards; 0 where it needs none.
    pub missing: u8,
    /// Who asked for the release, or none.
    pub approver: KeyedId,
}

/// Repeats of a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepeatsLeaf {
    /// The slot.
    pub slot: u16,
    /// The tenant.
    pub tenant: KeyedId,
    /// The agent.
    pub agent: KeyedId,
    /// Leaf index of the denial.
    pub decision: u64,
    /// How many since they were last written down; at least so many.
    pub count: u64,
}

/// A subject whose keys are gone for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasedLeaf {
    /// The slot of the agent, or of the agent that spoke of the person.
    pub slot: u16,
    /// The tenant.
    pub tenant: KeyedId,
    /// The agent or the person.
    pub subject: KeyedId,
    /// Keys of generations below this one; at least 1.
    pub below: u32,
}

/// The end of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationLeaf {
    /// The slot.
    pub slot: u16,
    /// The tenant.
    pub tenant: KeyedId,
    /// The agent.
    pub agent: KeyedId,
    /// Leaf index of the decision that reserved.
    pub decision: u64,
    /// 0 committed, 1 released, 2 expired.
    pub end: u8,
    /// MAC of what the settlement said; "expired." where nobody said anything.
    pub content: [u8; 8],
    /// (unit, reserved, used).
    pub costs: Vec<(KeyedId, u64, u64)>,
    /// The limits of whose counters it held something, with the units that their overrun policies leave uncharged.
    pub quota: Vec<(QuotaLeaf, u64)>,
}

/// What became of an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalLeaf {
    /// The slot.
    pub slot: u16,
    /// The tenant.
    pub tenant: KeyedId,
    /// The agent.
    pub agent: KeyedId,
    /// Leaf index of the decision that escalated.
    pub decision: u64,
    /// 1 approved, 2 denied, 3 expired.
    pub state: u8,
    /// Keyed digest of the action.
    pub digest: KeyedId,
    /// Who decided; none where it expired.
    pub approver: KeyedId,
}
