//! What nodes say to each other beside Raft: rkyv types frozen per version, and their frame kinds.

use bytes::Bytes;
use rkyv::rancor::Error;

use nethical_governance::command::LeaseTakeV1;
use nethical_governance::quota::lease::{CountersV1, LeaseAskV1, LeaseKey};
use nethical_protocol::action::Action;
use nethical_protocol::control::{ControlAck, EraseSpec, HoldSpec, LimitSpec, TenantSpec};
use nethical_protocol::decision::{ActionOutcome, AgentStatus, ItemAnswer, Settlement, Verdict};
use nethical_protocol::error::Problem;
use nethical_protocol::ids::{ControlRevision, DecisionId};
use nethical_protocol::quarantine::QuarantineSpec;
use nethical_protocol::retention::LegalHoldSpec;

use crate::control::RevisedEventV1;

/// Door → leader: decide these ([`ForwardV1`] → [`ForwardedV1`]).
pub const KIND_FORWARD: u16 = 48;
/// Node → control leader: what is new ([`FetchV1`] → [`FetchedV1`]).
pub const KIND_FETCH: u16 = 49;
/// Control leader → nodes: something is new. No body, empty answer.
pub const KIND_NUDGE: u16 = 50;
/// Node → control leader: change the rules ([`ChangeRulesV1`] → [`RulesChangedV1`]).
pub const KIND_RULES: u16 = 51;
/// Node → node: your wall clock? Empty body, eight bytes back.
pub const KIND_PROBE: u16 = 52;
/// Node → node: what do you know of my replica ([`HelloV1`] → [`HelloAnswerV1`]).
pub const KIND_HELLO: u16 = 53;
/// Node → leader: take this replica in ([`JoinV1`] → [`JoinedV1`]).
pub const KIND_JOIN: u16 = 54;
/// Node → leader: place or lift a hold on an agent ([`HoldV1`] → [`HeldV1`]).
pub const KIND_HOLD: u16 = 55;
/// Node → leader: one agent's state ([`AskAgentV1`] → [`AgentAnswerV1`]).
pub const KIND_AGENT: u16 = 56;
/// Node → node: how are you (empty → [`NodeReportV1`]).
pub const KIND_REPORT: u16 = 57;
/// Node → replica: stored leaves ([`AskLeavesV1`] → [`LeavesV1`]).
pub const KIND_LEAVES: u16 = 58;
/// Door → leader: a reservation's outcome ([`SettleAskV1`] → [`SettleAnswerV1`]).
pub const KIND_SETTLE: u16 = 64;
/// Door → leader: a person's word on an approval ([`WordAskV1`] → [`WordAnswerV1`]).
pub const KIND_WORD: u16 = 65;
/// Node → leader: approvals ([`ApprovalsAskV1`] → [`ApprovalsV1`]).
pub const KIND_APPROVALS: u16 = 66;
/// Node → node: what many agents did together (empty → [`crate::alarms::AlarmsV1`]).
pub const KIND_ALARMS: u16 = 67;
/// Node → node: the founding record (empty → [`FoundingV1`]).
pub const KIND_FOUNDING: u16 = 59;

/// Child's leader → parent's leader: a greater share ([`LeaseQuestionV1`] → [`LeaseAnswerV1`]).
pub const KIND_LEASE: u16 = 60;
/// Parent's leader → child's leader: give back what you do not use ([`RecallV1`] → [`RecalledV1`]).
pub const KIND_RECALL: u16 = 61;

/// Node → node: what have you counted of tenants' promises ([`crate::sla::SlaAskV1`] → a list of [`crate::sla::SlaCountsV1`]).
pub const KIND_SLA: u16 = 68;

/// Node → replica: something that a log publishes ([`AskPublishedV1`] → [`PublishedV1`]).
pub const KIND_PUBLISHED: u16 = 75;
/// Node → replica: vouch for a checkpoint ([`AskVouchV1`] → [`VouchV1`]).
pub const KIND_VOUCH: u16 = 76;
/// Node → control leader: where does the cluster log cover this leaf ([`AskCoverV1`] → [`CoverV1`]).
pub const KIND_COVER: u16 = 77;
/// Node → node: what have you counted of scores ([`crate::scores::ScoresAskV1`] → [`crate::scores::ScoresV1`]).
pub const KIND_SCORES: u16 = 69;
/// Node → leader: count decisions ([`CountAskV1`] → [`CountAnswerV1`]).
pub const KIND_COUNT: u16 = 72;
/// Node → replica: what of this is in your log ([`SearchAskV1`] → [`SearchedV1`]).
pub const KIND_SEARCH: u16 = 85;
/// Node → node: where cohorts' risk scores stand (empty → [`crate::drift::DriftsV1`]).
pub const KIND_DRIFT: u16 = 71;

/// Node → node of the same group: ring keys ([`RingAskV1`] → [`RingAnswerV1`]).
pub const KIND_RING: u16 = 81;
/// Reader → leader: open these bodies ([`AskOpenV1`] → [`OpenedV1`]).
pub const KIND_OPEN: u16 = 82;
/// Node → node: how far are erasures ([`AskErasuresV1`] → [`ErasuresV1`]).
pub const KIND_ERASURES: u16 = 83;
/// Node → node: how are your segments ([`AskFsckV1`] → [`FsckV1`]).
pub const KIND_FSCK: u16 = 87;
/// Node → replica: records of a log, to mend a segment with ([`AskRecordsV1`] → [`LeavesV1`]).
pub const KIND_RECORDS: u16 = 88;
/// Node → node: how are your tiers (empty → [`TiersV1`]).
pub const KIND_TIERS: u16 = 97;

/// Makes a type of this module travel.
macro_rules! message {
    ($($(#[$doc:meta])* $kind:ident $name:ident $body:tt)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
        pub $kind $name $body

        impl $name {
            /// The rkyv bytes.
            pub fn to_bytes(&self) -> Bytes {
                let bytes = rkyv::api::high::to_bytes_in::<_, Error>(self, Vec::with_capacity(1_024));
                Bytes::from(bytes.expect("encoding into memory cannot fail"))
            }

            /// Reads and checks.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
                rkyv::from_bytes::<Self, Error>(bytes)
            }
        }
    )*};
}

mod aggregate;
mod erase;
mod fsck;
mod people;
mod publish;
mod search;
mod seeds;
mod tier;

pub use aggregate::*;
pub use erase::*;
pub use fsck::*;
pub use people::*;
pub use publish::*;
pub use search::*;
pub use seeds::*;
pub use tier::*;

message! {
    /// Decide these, all of one group. Never forwarded again.
    struct ForwardV1 {
        /// The group that the sender routed to.
        pub group: u32,
        /// Epoch of the slot table that it routed by.
        pub epoch: u64,
        /// Milliseconds that it will wait.
        pub deadline_ms: u64,
        /// In order.
        pub actions: Vec<Action>,
    }

    /// The answers, in order.
    struct ForwardedV1 {
        /// Who leads, where the one asked does not.
        pub leader: Option<u64>,
        /// One for each action.
        pub answers: Vec<ItemAnswer>,
    }

    /// What is new after this revision?
    struct FetchV1 {
        /// The asking node.
        pub node: u64,
        /// The newest revision that it knows.
        pub after: u64,
        /// The revision that each group led by it has applied.
        pub applied: Vec<(u32, u64)>,
    }

    /// The answer of a control replica.
    enum FetchedV1 {
        /// Confirmed by a quorum.
        Events {
            /// In order.
            events: Vec<RevisedEventV1>,
            /// The newest revision.
            latest: u64,
        },
        /// Ask that node.
        NotLeader(Option<u64>),
    }

    /// Change the zone's rules.
    enum ChangeRulesV1 {
        /// Create a tenant.
        PutTenant(TenantSpec),
        /// Set a limit.
        PutLimit(LimitSpec),
        /// Remove a limit.
        RemoveLimit {
            /// Its tenant.
            tenant: String,
            /// Its id.
            id: String,
        },
        /// Put a bundle in force.
        PutPolicy(String),
        /// Place a tenant-wide or zone-wide hold-order.
        PlaceHold(HoldSpec),
        /// Lift it.
        LiftHold(HoldSpec),
        /// Keep a bundle.
        StoreBundle(String),
        /// Put a kept bundle in force.
        ActivateBundle([u8; 32]),
        /// End the canary; where there is none, put the bundle in force that was in force before.
        RollbackPolicy,
        /// Let a bundle go.
        RemoveBundle([u8; 32]),
        /// Evaluate a kept bundle beside the one in force, or none.
        ShadowPolicy(Option<[u8; 32]>),
        /// Let a kept bundle decide for so many agents of a hundred.
        CanaryBundle([u8; 32], u8),
        /// Set the rules for automatic quarantine.
        PutQuarantine(QuarantineSpec),
        /// Erase what was said of a subject.
        Erase(EraseSpec),
        /// Set a legal hold.
        SetLegalHold(LegalHoldSpec),
        /// Lift one.
        LiftLegalHold {
            /// The revision that set it.
            id: ControlRevision,
            /// Who asks, as given.
            by: String,
        },
        /// Turn a signing key.
        TurnKey(TurnKeyV1),
        /// Keep a dictionary and pack this tenant's bodies with it; without its bytes, with the built-in one again.
        Dictionary(String, Option<Vec<u8>>),
    }

    /// What became of it.
    enum RulesChangedV1 {
        /// Done.
        Ack(ControlAck),
        /// Not done.
        Problem(Problem),
        /// Ask that node.
        NotLeader(Option<u64>),
    }

    /// What do you know of my replica of this group?
    struct HelloV1 {
        /// The group.
        pub group: u32,
        /// The asking node.
        pub node: u64,
    }

    /// What a peer knows.
    struct HelloAnswerV1 {
        /// The peer keeps a replica, or is about to found one.
        pub attending: bool,
        /// The peer's replica has a membership.
        pub founded: bool,
        /// The asker's latest replica in that membership, learners included.
        pub replica: Option<u64>,
        /// The highest index that the asker's replica acknowledged to the peer as leader.
        pub acknowledged: Option<u64>,
        /// The asker's replica among the voters of that membership.
        pub voter: Option<u64>,
    }

    /// Take this replica in, and drop its former life.
    struct JoinV1 {
        /// The group.
        pub group: u32,
        /// The node.
        pub node: u64,
        /// The life that is lost.
        pub old: Option<u64>,
        /// The new life.
        pub new: u64,
    }

    /// Whether it was taken in.
    enum JoinedV1 {
        /// It is a voter now.
        Done,
        /// Ask that node.
        NotLeader(Option<u64>),
        /// It did not work this time.
        Failed(String),
    }

    /// Place or lift a hold-order on an agent.
    struct HoldV1 {
        /// The order; its scope is one agent.
        pub spec: HoldSpec,
        /// Lift instead of place.
        pub lift: bool,
        /// Idempotency.
        pub request_id: String,
        /// The time in that id.
        pub issued_at_ms: u64,
    }

    /// What became of it.
    enum HeldV1 {
        /// In force.
        Done {
            /// Where it stands in the audit trail.
            decision_id: DecisionId,
            /// The agent afterwards.
            status: AgentStatus,
            /// Approvers whose words the release still needs.
            missing: u8,
        },
        /// Not done.
        Problem(Problem),
        /// Ask that node.
        NotLeader(Option<u64>),
    }

    /// What an action with a reservation used.
    struct SettleAskV1 {
        /// The decision that reserved.
        pub decision: DecisionId,
        /// What the client says.
        pub outcome: ActionOutcome,
    }

    /// What became of it.
    #[allow(clippy::large_enum_variant, reason = "read once and never kept in numbers")]
    enum SettleAnswerV1 {
        /// Settled now or before, in the same way.
        Done(Settlement),
        /// Not settled, or not known.
        Problem(Problem),
        /// Ask that node.
        NotLeader(Option<u64>),
    }

    /// One agent's state, please.
    struct AskAgentV1 {
        /// Its tenant.
        pub tenant: String,
        /// Its name.
        pub agent: String,
    }

    /// One agent's state.
    enum AgentAnswerV1 {
        /// As applied, confirmed by a quorum.
        Agent(AgentReportV1),
        /// Not to be had.
        Problem(Problem),
        /// Ask that node.
        NotLeader(Option<u64>),
    }

    /// An agent in numbers.
    struct AgentReportV1 {
        /// The group.
        pub group: u32,
        /// False where nothing is known.
        pub known: bool,
        /// Where it stands.
        pub status: AgentStatus,
        /// Raised by every change of state.
        pub epoch: u64,
        /// Risk, decayed to now.
        pub risk: u16,
        /// Position in `RiskTier::ALL`.
        pub tier: u8,
        /// Actions decided.
        pub actions: u64,
        /// Of those, not allowed.
        pub denied: u64,
        /// Actions with violations.
        pub violations: u64,
        /// (limit number, cap, remaining, nanoseconds until whole).
        pub quota: Vec<(u32, u64, u64, u64)>,
    }

    /// How a node is.
    struct NodeReportV1 {
        /// The node.
        pub node: u64,
        /// Its process.
        pub pid: u32,
        /// Whether it would decide now.
        pub ready: bool,
        /// Its replicas.
        pub groups: Vec<GroupReportV1>,
        /// What it has counted of the candidate in the shadow.
        pub shadow: Option<ShadowReportV1>,
        /// What it has counted of the canary.
        pub canary: Option<CanaryReportV1>,
        /// The verifier key by which it vouches for checkpoints; empty where it has none.
        pub cosigner: String,
    }

    /// What a canary and the bundle in force decided, on one node since it started.
    struct CanaryReportV1 {
        /// The bundle in force.
        pub active: [u8; 32],
        /// The canary.
        pub canary: [u8; 32],
        /// Decisions of the bundle in force by policy's verdict, in order of severity.
        pub by_active: [u64; 5],
        /// Decisions of the canary.
        pub by_canary: [u64; 5],
    }

    /// How a candidate compares with the policy in force, on one node since it started.
    struct ShadowReportV1 {
        /// The candidate.
        pub digest: [u8; 32],
        /// Pairs that came at least once.
        pub pairs: Vec<PairV1>,
    }

    /// Decisions with these two verdicts by policy.
    struct PairV1 {
        /// By the policy in force.
        pub enforced: Verdict,
        /// By the candidate.
        pub shadow: Verdict,
        /// How many.
        pub count: u64,
    }

    /// How a replica is.
    struct GroupReportV1 {
        /// The group.
        pub group: u32,
        /// True where this replica leads.
        pub leads: bool,
        /// The leader that it knows.
        pub leader: Option<u64>,
        /// The term.
        pub term: u64,
        /// Last applied index.
        pub applied: u64,
        /// Leaves applied.
        pub leaves: u64,
        /// Voters by node.
        pub voters: Vec<u64>,
    }

    /// Leaves and bodies of a group, please.
    struct AskLeavesV1 {
        /// The group.
        pub group: u32,
        /// From this index.
        pub from: u64,
        /// At most this many.
        pub count: u64,
    }

    /// Leaves and bodies as stored.
    struct LeavesV1 {
        /// Leaves that the replica has applied in all.
        pub size: u64,
        /// (canonical leaf, sealed body), in order from the index asked.
        pub records: Vec<(Vec<u8>, Vec<u8>)>,
    }

    /// A greater share of a leased limit, please.
    struct LeaseQuestionV1 {
        /// The parent's group.
        pub group: u32,
        /// What for.
        pub ask: LeaseAskV1,
    }

    /// The parent's word.
    enum LeaseAnswerV1 {
        /// As its log has it.
        Granted(LeaseTakeV1),
        /// It cannot be said now.
        Unavailable(String),
        /// Ask that node.
        NotLeader(Option<u64>),
    }

    /// Give back what you do not use.
    struct RecallV1 {
        /// The child's group.
        pub group: u32,
        /// Of this.
        pub lease: LeaseKey,
    }

    /// The child's counters.
    struct RecalledV1 {
        /// False where the node asked does not lead the group.
        pub leads: bool,
        /// Who does.
        pub hint: Option<u64>,
        /// What it has.
        pub counters: CountersV1,
    }

    /// The zone's founding record: what may never differ between its nodes.
    struct FoundingV1 {
        /// The cluster's name.
        pub cluster: String,
        /// Partition groups.
        pub partitions: u32,
        /// Epoch of the slot table.
        pub epoch: u64,
        /// The group of each slot.
        pub slots: Vec<u32>,
        /// (node, region) of the founding members.
        pub nodes: Vec<(u64, String)>,
        /// Public half of the zone's signing key.
        pub public_key: [u8; 32],
    }
}
