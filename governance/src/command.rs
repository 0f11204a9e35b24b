//! What can be said to a ledger: one Raft entry holds many commands, each a header that apply reads and an opaque body.
//!
//! Types are frozen per version; released ones are never edited (ARCHITECTURE 3, 11).

use nethical_protocol::action::ActionKind;
use nethical_protocol::control::{HoldEffect, RevisedFact};
use nethical_protocol::decision::Verdict;
use nethical_protocol::ids::{ControlRevision, KeyedId, Slot};
use nethical_protocol::probe;

use crate::behaviour::ActionFactsV1;
use crate::quota::lease::{LeaseAskV1, LeaseKey};
use crate::subject::{ColdPutV1, KeyUseV1, RewrapV1, SealingV1};

/// The apply rules that this release writes. Kept beside older ones while an entry of theirs may be in a log.
pub const APPLY_VERSION: u16 = 1;

/// One Raft entry of a partition group.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct EntryV1 {
    /// Which apply rules hold for it.
    pub apply_version: u16,
    /// The term in which it was proposed. Applied under another term, all its commands are stale.
    pub term: u64,
    /// Log time, nanoseconds since 1970, stamped by the leader, never less than that of an earlier entry.
    pub now_ns: u64,
    /// In order.
    pub commands: Vec<CommandV1>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CommandV1 {
    /// What apply reads.
    pub header: HeaderV1,
    /// What apply never reads: sealed by the proposer (see audit's `body`), stored beside the leaf.
    pub body: Vec<u8>,
}

impl CommandV1 {
    /// True where the planted bug `audit-leaf-skipped` keeps the command's leaf out of the trail: one decision in 32.
    pub fn is_skipped(&self) -> bool {
        let is_chosen = |header: &HeaderV1| matches!(header, HeaderV1::Decide(decide) if decide.body_commitment[0] < 8);
        probe::planted("audit-leaf-skipped") && is_chosen(&self.header)
    }
}

/// What a command asks for.
#[allow(clippy::large_enum_variant, reason = "nearly all are decisions")]
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum HeaderV1 {
    /// Decide an action.
    Decide(DecideV1),
    /// Bring control facts into this group.
    ApplyControl(ApplyControlV1),
    /// Stop an agent.
    PlaceHoldOrder(HoldOrderV1),
    /// Release an agent.
    LiftHoldOrder(HoldOrderV1),
    /// Let time pass, so that what is due expires.
    Tick,
    /// Grant a share of a leased limit to another group, as its parent; notes what that group has given back.
    LeaseGrant(LeaseAskV1),
    /// Receive what the parent granted, or its refusal.
    LeaseTake(LeaseTakeV1),
    /// Give back what this group has not spent of its share.
    LeaseReturn(LeaseKey),
    /// Say what a reservation's action used.
    SettleReservation(SettleV1),
    /// Write down how often a denial was repeated from memory.
    NoteRepeats(RepeatsV1),
    /// A person's word on an approval.
    DecideApproval(WordV1),
    /// Wrap subjects' keys under this ring key from here on; a quorum has it.
    TurnRing(u64),
    /// Subjects' keys that were wrapped under an older ring key.
    Rewrap(RewrapV1),
    /// No replica has these ring keys any more, all that are past.
    SettleErasures(Vec<u64>),
    /// A closed segment is in the object store, where every replica that looks finds it.
    PutCold(Box<ColdPutV1>),
}

/// Repeats of a denial that were answered from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RepeatsV1 {
    /// Whose.
    pub actor: ActorKeys,
    /// Leaf index of the denial.
    pub decision: u64,
    /// How many.
    pub count: u64,
}

/// The parent's word on a lease, on its way into the child's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LeaseTakeV1 {
    /// Which.
    pub lease: LeaseKey,
    /// When this life of the share began and ends, by the parent's log time; 0 and [`u64::MAX`] for stocks.
    pub life_ns: (u64, u64),
    /// Ever granted to this group in that life.
    pub granted: u64,
    /// The parent had nothing left, or not enough for all who wait, and nobody else had anything to give back.
    pub refused: bool,
    /// Nanoseconds until there would be enough; 0 where that is not known.
    pub wait_ns: u64,
    /// The ask was for something critical.
    pub is_critical: bool,
    /// So much is kept for who waits for it, as the ask said …
    pub pinned: u64,
    /// … for so many nanoseconds.
    pub pinned_ns: u64,
}

/// The idempotency part of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RequestKey {
    /// Keyed hash of (tenant, request id).
    pub id: KeyedId,
    /// HMAC of the request's content: another body under the same id is a conflict.
    pub content: [u8; 8],
    /// The time in the id, milliseconds since 1970.
    pub issued_at_ms: u64,
    /// False where the door made the id. It is remembered all the same: the door retries with it, and must not decide
    /// twice.
    pub client_chosen: bool,
}

/// Who acts, as replicas know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ActorKeys {
    /// First part of every key of state, so that a slot is one contiguous range.
    pub slot: Slot,
    /// The tenant.
    pub tenant: KeyedId,
    /// The agent.
    pub agent: KeyedId,
}

/// Decide an action: ids, the actor's evaluation, costs, and the commitment to the sealed body.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DecideV1 {
    /// Idempotency.
    pub request: RequestKey,
    /// Who.
    pub actor: ActorKeys,
    /// The session, or none.
    pub session: KeyedId,
    /// The cohort, or none.
    pub cohort: KeyedId,
    /// The action's name.
    pub tool: KeyedId,
    /// The region that the client named, or the door's.
    pub region: KeyedId,
    /// The resource, or none.
    pub resource: KeyedId,
    /// What sort of action.
    pub kind: ActionKind,
    /// Amounts by unit, `requests` included, sorted by unit, each unit once.
    pub costs: Vec<CostV1>,
    /// Seconds of log time that the reserved costs may be held; 0 where none is reserved.
    pub reserve_ttl_s: u32,
    /// The policy revision that the evaluation was made under.
    pub policy_rev: ControlRevision,
    /// The canary of that revision made it, not the bundle in force.
    pub by_canary: bool,
    /// What policy could see of the agent ([`crate::ledger::Ledger::agent_version`]).
    pub agent_version: [u8; 8],
    /// What the actor found.
    pub evaluation: EvaluationV1,
    /// SHA-256(salt ‖ plaintext body).
    pub body_commitment: [u8; 32],
    /// What a person is asked where policy escalates, or has answered.
    pub review: ReviewV1,
    /// It may take what limits keep back for what is critical.
    pub is_critical: bool,
    /// Its leader has asked for the shares of leased limits that it was short of, see
    /// [`Subject::has_asked`](crate::quota::Subject::has_asked).
    pub has_asked: bool,
    /// The region, under an id that is the same in all tenants (`hold::region_id`): hold-orders on regions go by it.
    pub region_in_zone: KeyedId,
    /// The score that the caller's model gave it, 0..1000, where the tenant wants it blended; none in every other case.
    pub model_score: Option<u16>,
    /// The keys that the body was sealed under; none for a body that is sealed under none.
    pub sealing: Option<SealingV1>,
}

/// The part of a decision that is about approvals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReviewV1 {
    /// Keyed digest of the exact action, the approval that it names left out. Without one nothing can be approved.
    pub digest: KeyedId,
    /// Leaf index of the approval that the action claims; 0, which never is one, for an approval of another log.
    pub named: Option<u64>,
    /// What policy's verdict is once its escalation is lifted: allow, or restrict where something obliges.
    pub lifted: VerdictWord,
    /// Seconds of log time that an approval opened by this decision lives.
    pub ttl_s: u32,
}

/// A person's word on an approval.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct WordV1 {
    /// The slot of the agent that asked.
    pub slot: Slot,
    /// Leaf index of the decision that escalated.
    pub decision: u64,
    /// Approve, or deny.
    pub approves: bool,
    /// Who decides, under the tenant's key.
    pub approver: KeyedId,
    /// SHA-256(salt ‖ plaintext body); the body holds who and why.
    pub body_commitment: [u8; 32],
    /// The agent's key, which the body was sealed under; none for a body that is sealed under none.
    pub sealing: Option<KeyUseV1>,
}

/// An amount of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CostV1 {
    /// Keyed id of the unit's name.
    pub unit: KeyedId,
    /// How much.
    pub amount: u64,
    /// Held until the outcome is known, instead of charged for good.
    pub is_reserved: bool,
}

impl DecideV1 {
    /// True where something is held until the outcome is known.
    pub fn reserves(&self) -> bool {
        self.costs.iter().any(|cost| cost.is_reserved)
    }
}

/// Say what a reservation's action used, or that it used nothing.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SettleV1 {
    /// The slot of the agent that reserved.
    pub slot: Slot,
    /// Leaf index of the decision that reserved.
    pub decision: u64,
    /// MAC of what is said: the same again is a duplicate, something else a conflict.
    pub content: [u8; 8],
    /// Give everything back; `used` is empty.
    pub is_release: bool,
    /// Amounts by unit, each unit once. A unit that is left out was used as reserved.
    pub used: Vec<(KeyedId, u64)>,
}

impl SettleV1 {
    /// A release.
    pub fn release(slot: Slot, decision: u64, content: [u8; 8]) -> Self {
        Self { slot, decision, content, is_release: true, used: Vec::new() }
    }

    /// What was used of a unit of which so much is held.
    pub fn used(&self, unit: KeyedId, held: u64) -> u64 {
        match self.used.iter().find(|(named, _)| *named == unit) {
            _ if self.is_release => 0,
            Some((_, used)) => *used,
            None => held,
        }
    }
}

/// What detectors and policy found, as integers.
#[derive(Debug, Clone, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct EvaluationV1 {
    /// Policy's verdict; `Allow` where no rule spoke.
    pub verdict: PolicyVerdict,
    /// The rules that determined it: first 8 bytes of SHA-256 of each rule's id, sorted, at most `REASONS_MAX`.
    pub rules: Vec<[u8; 8]>,
    /// Detections, sorted by detector.
    pub detections: Vec<DetectionV1>,
    /// The action touches privileged ground (code, system, model update).
    pub privileged: bool,
    /// Nobody watches the agent (context says `automated`).
    pub automated: bool,
    /// What the agent's profile goes by.
    pub facts: ActionFactsV1,
}

/// A verdict by policy alone.
pub type PolicyVerdict = VerdictWord;

/// [`Verdict`] with a default, for evaluations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct VerdictWord(pub Verdict);

impl Default for VerdictWord {
    fn default() -> Self {
        Self(Verdict::Allow)
    }
}

/// One detector's finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DetectionV1 {
    /// The detector's number (see `detect`).
    pub detector: u8,
    /// 1..1000.
    pub severity: u16,
}

/// Facts of consecutive control revisions, `from_rev + 1 ..= to_rev`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ApplyControlV1 {
    /// The revision that the group must have applied for this to take effect.
    pub from_rev: ControlRevision,
    /// The revision afterwards.
    pub to_rev: ControlRevision,
    /// One for each revision.
    pub facts: Vec<RevisedFact>,
}

/// An agent-scoped hold-order, placed or lifted.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct HoldOrderV1 {
    /// Idempotency, as for decisions.
    pub request: RequestKey,
    /// The agent.
    pub actor: ActorKeys,
    /// Block or restrict; ignored when lifting.
    pub effect: HoldEffect,
    /// Nanoseconds of log time until it lapses; 0 for never.
    pub ttl_ns: u64,
    /// SHA-256(salt ‖ plaintext body); the body holds the reason.
    pub body_commitment: [u8; 32],
    /// How many different approvers must ask for the release; 0 and 1 for anybody's one word. Ignored when lifting.
    pub approvers: u8,
    /// The only ones whose words count; empty for anybody. Ignored when lifting.
    pub names: Vec<KeyedId>,
    /// Who asks for the release, or none. Ignored when placing.
    pub approver: KeyedId,
    /// The agent's key, which the body was sealed under; none for a body that is sealed under none.
    pub sealing: Option<KeyUseV1>,
}
