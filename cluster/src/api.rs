//! What a door may ask of the cluster. Doors hold an `Arc<dyn Governor>` and know nothing below it.
//!
//! Every call is bounded by a deadline of its own or the one given; every answer is an answer or a coded problem.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use nethical_audit::publish::Resource;
use nethical_protocol::action::Action;
use nethical_protocol::control::{ControlAck, EraseSpec, HoldSpec, LimitSpec, TenantSpec};
use nethical_protocol::decision::{ActionOutcome, AgentStatus, ItemAnswer, Settlement, Verdict};
use nethical_protocol::error::Problem;
use nethical_protocol::ids::{DecisionId, GroupId};
use nethical_protocol::privacy::{AggregateAnswer, AggregateQuery};
use nethical_protocol::quarantine::QuarantineSpec;
use nethical_protocol::retention::LegalHoldSpec;
use nethical_protocol::sla::{SlaList, SlaQuery};
use nethical_protocol::status::{ClusterStatus, ReadyCheck};

mod approval;
mod dictionary;
mod entry;
mod keys;
mod legal;

pub use crate::alarms::{AlarmList, AlarmQuery, AlarmView};
pub use crate::drift::{CohortView, DriftList, DriftQuery, DriftView};
pub use crate::fsck::{FsckDamage, FsckGap, FsckList, FsckNode};
pub use crate::scores::{BinView, CheckView, ConfusionView, PromotionView, ScoreQuery, ScoreReport, ScorerView};
pub use crate::sla::Answered;
pub use crate::tier::files::{ColdFileView, ColdKeyView, ColdList, ColdQuery};
pub use crate::tier::{FailedMove, TierList, TierView};
pub use approval::{ApprovalList, ApprovalQuery, ApprovalView, ApprovalWord};
pub use dictionary::{DictionaryView, GivenDictionary};
pub use entry::{EntryPage, EntryQuery, EntryView};
pub use keys::{CosignerKeyView, RotateSpec, VerifierKeys, ZoneKeyView};
pub use legal::{LegalHoldView, RetentionView};

/// The answer of every call.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Problem>>;

/// The cluster as a door sees it.
pub trait Governor: Send + Sync + 'static {
    /// Decides actions. One answer each, in order; items may fail apart. Actions have passed `check_bounds`.
    fn decide(&self, actions: Vec<Action>, deadline: Duration) -> BoxFuture<'_, Vec<ItemAnswer>>;

    /// Says what an action with a reservation used; the same again is answered with the first one's record.
    fn settle(&self, decision: DecisionId, outcome: ActionOutcome) -> Answer<'_, Settlement>;

    /// A page of approvals, asked of every partition's leader.
    fn approvals(&self, query: ApprovalQuery) -> Answer<'_, ApprovalList>;
    /// One approval.
    fn approval(&self, id: DecisionId) -> Answer<'_, ApprovalView>;
    /// A person's word on an approval; the same again is answered with the first one's record.
    fn decide_approval(&self, word: ApprovalWord) -> Answer<'_, ApprovalView>;

    /// Creates a tenant; creating it again with the same placement changes nothing.
    fn put_tenant(&self, spec: TenantSpec) -> Answer<'_, ControlAck>;
    /// All tenants of the zone.
    fn tenants(&self) -> Answer<'_, Vec<TenantSpec>>;
    /// Sets a limit; one with the same tenant and id is replaced.
    fn put_limit(&self, spec: LimitSpec) -> Answer<'_, ControlAck>;
    /// Removes a limit.
    fn remove_limit(&self, tenant: String, id: String) -> Answer<'_, ControlAck>;
    /// All limits of the zone, or of one tenant.
    fn limits(&self, tenant: Option<String>) -> Answer<'_, Vec<LimitSpec>>;
    /// What a tenant's limits have left for one agent.
    fn limit_usage(&self, tenant: String, agent: String) -> Answer<'_, Vec<LimitUsage>>;
    /// Validates a Cedar bundle, stores it and puts it in force.
    fn put_policy(&self, text: String) -> Answer<'_, ControlAck>;
    /// The bundle in force.
    fn policy(&self) -> Answer<'_, PolicyView>;
    /// Validates a Cedar bundle and keeps it under its digest, without putting it in force.
    fn store_policy(&self, text: String) -> Answer<'_, StoredPolicy>;
    /// All bundles that the zone keeps.
    fn policies(&self) -> Answer<'_, PolicyList>;
    /// A kept bundle; its revision is the one that stored it.
    fn kept_policy(&self, digest: [u8; 32]) -> Answer<'_, PolicyView>;
    /// Puts a kept bundle in force, for all agents: a canary is promoted or ends.
    fn activate_policy(&self, digest: [u8; 32]) -> Answer<'_, ControlAck>;
    /// Lets a kept bundle decide for so many agents of a hundred, beside the one in force.
    fn canary_policy(&self, digest: [u8; 32], percent: u8) -> Answer<'_, ControlAck>;
    /// Ends the canary; where there is none, puts the bundle in force that was in force before.
    fn rollback_policy(&self) -> Answer<'_, ControlAck>;
    /// Evaluates a kept bundle beside the one in force, or none.
    fn shadow_policy(&self, digest: Option<[u8; 32]>) -> Answer<'_, ControlAck>;
    /// One page of recorded decisions, each judged again by a candidate. Changes nothing.
    fn replay_policy(&self, query: ReplayQuery, text: String) -> Answer<'_, ReplayPage>;
    /// Lets a bundle go that is neither in force nor the one before nor the canary nor the shadow.
    fn remove_policy(&self, digest: [u8; 32]) -> Answer<'_, ControlAck>;
    /// Sets the rules for automatic quarantine of a tenant or the zone, in place of those before.
    fn put_quarantine_rules(&self, spec: QuarantineSpec) -> Answer<'_, ControlAck>;
    /// All rules for automatic quarantine, the zone's first.
    fn quarantine_rules(&self) -> Answer<'_, Vec<QuarantineSpec>>;
    /// Places a hold-order.
    fn place_hold(&self, spec: HoldSpec) -> Answer<'_, HoldView>;
    /// Lifts a hold-order by its scope (release).
    fn lift_hold(&self, spec: HoldSpec) -> Answer<'_, HoldView>;
    /// What many agents did together, asked of every node.
    fn alarms(&self, query: AlarmQuery) -> Answer<'_, AlarmList>;
    /// How well scores do beside the rules', as all nodes have counted it.
    fn scores(&self, query: ScoreQuery) -> Answer<'_, ScoreReport>;
    /// How all nodes' audit segments are; with `begin`, all of them are read again from now on, and mended.
    fn fsck(&self, begin: bool) -> Answer<'_, FsckList>;
    /// How the tiers of all nodes' audit segments are.
    fn tiers(&self) -> Answer<'_, TierList>;
    /// Files of the cold tier, asked of every group's leader.
    fn cold_files(&self, query: ColdQuery) -> Answer<'_, ColdList>;
    /// The key of the cold file that begins with an entry of a group.
    fn cold_key(&self, group: GroupId, first: u64) -> Answer<'_, ColdKeyView>;
    /// Where the risk scores of cohorts stand against their baselines, asked of every node.
    fn drift(&self, query: DriftQuery) -> Answer<'_, DriftList>;
    /// One agent's state.
    fn agent(&self, tenant: String, agent: String) -> Answer<'_, AgentView>;

    /// Audit entries over all groups, newest first unless asked otherwise.
    fn entries(&self, query: EntryQuery) -> Answer<'_, EntryPage>;
    /// The group's checkpoint as a signed note.
    fn checkpoint(&self, group: GroupId) -> Answer<'_, String>;
    /// What a group's log publishes (c2sp.org/tlog-tiles), wherever it is.
    fn published(&self, group: GroupId, resource: Resource) -> Answer<'_, Bytes>;
    /// The proof of a decision against a published checkpoint.
    fn receipt(&self, id: DecisionId) -> Answer<'_, ReceiptView>;
    /// Erases what was said of a subject: nobody reads it any more once this has answered and is not `pending`.
    fn erase(&self, spec: EraseSpec) -> Answer<'_, ErasureView>;
    /// Erasures, newest first, or one.
    fn erasures(&self, only: Option<u64>) -> Answer<'_, Vec<ErasureView>>;
    /// Sets a legal hold: what it covers neither expires nor is erased once this has answered and awaits no group.
    fn set_legal_hold(&self, spec: LegalHoldSpec) -> Answer<'_, LegalHoldView>;
    /// Lifts a legal hold by its id, with the name of who asks.
    fn lift_legal_hold(&self, id: u64, by: String) -> Answer<'_, LegalHoldView>;
    /// Legal holds, newest first, or one; of all tenants, or of one.
    fn legal_holds(&self, only: Option<u64>, tenant: Option<String>) -> Answer<'_, Vec<LegalHoldView>>;
    /// How long a tenant's bodies are kept.
    fn retention(&self, tenant: String) -> Answer<'_, RetentionView>;
    /// Keeps a dictionary for ever, in clear, and packs a tenant's bodies with it from now on.
    fn give_dictionary(&self, tenant: String, bytes: Vec<u8>) -> Answer<'_, GivenDictionary>;
    /// Packs a tenant's bodies with the built-in dictionary again.
    fn leave_dictionary(&self, tenant: String) -> Answer<'_, ControlAck>;
    /// All dictionaries that the zone keeps, by digest.
    fn dictionaries(&self) -> Answer<'_, Vec<DictionaryView>>;
    /// What a verifier needs of one group: leaves and sealed bodies from an index on.
    fn raw_leaves(&self, group: GroupId, from: u64, count: u64) -> Answer<'_, RawLeaves>;
    /// The verifier key of the zone's logs, as a C2SP vkey for each group, with the cluster's name; and all that there were.
    fn verifier_keys(&self) -> Answer<'_, VerifierKeys>;
    /// Turns the zone's signing key, or the one by which a node vouches. The rest is done in the background.
    fn rotate_keys(&self, spec: RotateSpec) -> Answer<'_, VerifierKeys>;

    /// Counts of a tenant's decisions, decided and charged as an action of the tenant's reserved subject.
    fn aggregate(&self, query: AggregateQuery) -> Answer<'_, AggregateAnswer>;

    /// Counts what a door answered a tenant. Never waits.
    fn answered(&self, answered: &Answered);
    /// How tenants' promises stand, a page at a time.
    fn sla(&self, query: SlaQuery) -> Answer<'_, SlaList>;

    /// All nodes and groups, asked now.
    fn status(&self) -> Answer<'_, ClusterStatus>;
    /// The named checks of this node; ready where all pass.
    fn ready(&self) -> Vec<ReadyCheck>;
}

/// What one limit has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitUsage {
    /// The limit.
    pub limit: LimitSpec,
    /// Units used in the current window or bucket.
    pub used: u64,
    /// Units left now.
    pub remaining: u64,
    /// Seconds until it is whole again, rounded up.
    pub reset_s: u64,
}

/// The policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// The control revision that activated it.
    pub revision: u64,
    /// SHA-256 of the text, lower-case hex.
    pub digest: String,
    /// Policies in the bundle.
    pub policies: usize,
    /// The bundle.
    pub text: String,
    /// The candidate that decides for some agents beside it; absent where there is none, and for kept bundles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryView>,
}

/// A canary and what it has decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryView {
    /// The candidate.
    pub digest: String,
    /// Agents of a hundred for which it decides.
    pub percent: u8,
    /// The control revision that gave it that share.
    pub since: u64,
    /// Decisions of the bundle in force beside it. Counted by nodes that answered now, since each of them started and since
    /// the two stand beside each other: a lower bound.
    pub by_active: VerdictCounts,
    /// Decisions of the canary, counted alike.
    pub by_canary: VerdictCounts,
}

/// Decisions by policy's verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictCounts {
    /// All of them.
    pub decisions: u64,
    /// Of those, with this verdict.
    pub allow: u64,
    /// And with this one.
    pub restrict: u64,
    /// And with this one.
    pub escalate: u64,
    /// And with this one.
    pub block: u64,
    /// And with this one.
    pub terminate: u64,
}

impl VerdictCounts {
    /// In order of severity.
    pub fn of(counts: [u64; 5]) -> Self {
        let [allow, restrict, escalate, block, terminate] = counts;
        Self { decisions: counts.iter().sum(), allow, restrict, escalate, block, terminate }
    }
}

/// A bundle that was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPolicy {
    /// SHA-256 of the text, lower-case hex.
    pub digest: String,
    /// `acknowledged` or `pending`; nothing is in force because of it.
    pub ack: ControlAck,
}

/// All bundles of the zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyList {
    /// The one in force first, then the canary, the shadow, the one before, and the others, each sort newest first.
    pub bundles: Vec<KeptPolicy>,
    /// How the shadow compares with the bundle in force; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
}

/// How a candidate in the shadow compares with the bundle in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// The candidate.
    pub digest: String,
    /// Decisions that were counted by nodes that answered now, since each of them started: a lower bound.
    pub decisions: u64,
    /// Of those, with the same verdict by policy.
    pub agreed: u64,
    /// Decisions by pair of verdicts, in order of severity.
    pub pairs: Vec<VerdictPair>,
}

/// Decisions with these two verdicts by policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictPair {
    /// By the bundle in force.
    pub enforced: Verdict,
    /// By the candidate.
    pub shadow: Verdict,
    /// How many.
    pub count: u64,
}

/// A kept bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPolicy {
    /// SHA-256 of the text, lower-case hex.
    pub digest: String,
    /// Rules in the bundle.
    pub rules: usize,
    /// Bytes of the text.
    pub bytes: usize,
    /// `active`, `canary`, `shadow`, `previous` or `stored`.
    pub state: String,
    /// The control revision that made it active, the canary with its share, or the shadow; of others the one that stored it.
    pub since: u64,
}

/// Which decisions to judge again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayQuery {
    /// From this log time on, nanoseconds since 1970.
    pub from_ns: u64,
    /// Up to this log time, itself included.
    pub to_ns: u64,
    /// What the page before gave.
    pub cursor: Option<String>,
}

impl Default for ReplayQuery {
    fn default() -> Self {
        Self { from_ns: 0, to_ns: u64::MAX, cursor: None }
    }
}

/// One page of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayPage {
    /// Leaves that were looked at.
    pub leaves: u64,
    /// Decisions among them.
    pub decisions: u64,
    /// Of those, with the same verdict by policy.
    pub same: u64,
    /// With another one.
    pub flips: Vec<Flip>,
    /// Such as could not be judged.
    pub lacking: Vec<Lacking>,
    /// Pass it as `cursor` for the next page: the group and leaf at which it begins. Absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A decision to which a candidate gives another verdict by policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// Where it stands.
    pub decision_id: DecisionId,
    /// Log time, nanoseconds since 1970.
    pub at_ns: u64,
    /// Its tenant.
    pub tenant: String,
    /// Its agent.
    pub agent: String,
    /// The action's name.
    pub action: String,
    /// The control revision of the policy in force then.
    pub policy: u64,
    /// True where that revision's canary decided.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub canary: bool,
    /// What policy said then.
    pub recorded: Verdict,
    /// What the candidate says.
    pub candidate: Verdict,
    /// The candidate's rules that determine it.
    pub rules: Vec<String>,
    /// The final verdict then, with holds, limits and risk.
    pub decided: Verdict,
}

/// A decision that could not be judged again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// Where it stands.
    pub decision_id: DecisionId,
    /// What its body lacks.
    pub why: String,
}

/// A hold-order's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// What was asked.
    pub hold: HoldSpec,
    /// `acknowledged` or `pending`, and the groups awaited.
    pub ack: ControlAck,
    /// Different approvers whose words the release still needs; absent where it needs none, or nothing is held.
    #[serde(default, skip_serializing_if = "HoldView::is_zero")]
    pub missing: u8,
    /// For agent scope: where the order stands in the audit trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<DecisionId>,
}

impl HoldView {
    fn is_zero(count: &u8) -> bool {
        *count == 0
    }
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// Its tenant.
    pub tenant: String,
    /// Its name.
    pub agent: String,
    /// Its group.
    pub group: u32,
    /// False where nothing is known of it yet.
    pub known: bool,
    /// Where it stands.
    pub state: AgentStatus,
    /// Raised by every change of state.
    pub epoch: u64,
    /// Risk 0..1000, decayed to now.
    pub risk: u16,
    /// Tier of that risk.
    pub tier: String,
    /// Actions decided.
    pub actions: u64,
    /// Of those, not allowed.
    pub denied: u64,
    /// Actions with violations.
    pub violations: u64,
}

/// How far an erasure is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureView {
    /// Its number: the control revision that asked for it.
    pub id: u64,
    /// The tenant.
    pub tenant: String,
    /// `agent` or `person`.
    pub kind: String,
    /// The subject under the tenant's key, as it stands in leaves.
    pub subject: String,
    /// Why, as was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it was asked for, nanoseconds since 1970.
    pub at_ns: u64,
    /// `pending`: some group may still show it; `erasing`: nobody can read it, and keys of it may be on some disk; `erased`:
    /// every key of it is destroyed.
    pub state: String,
    /// Groups that are not done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaiting: Vec<ErasureAwaits>,
}

/// A group that is not done with an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureAwaits {
    /// The group.
    pub group: u32,
    /// What is awaited.
    pub what: String,
    /// Nodes that still hold a ring key which is to be destroyed, or cannot be asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<u64>,
}

/// A proof that outlives the cluster: it needs nothing but a verifier key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptView {
    /// Which decision.
    pub decision_id: DecisionId,
    /// The leaf's canonical bytes, base64.
    pub leaf: String,
    /// The inclusion proof with its checkpoint and cosignatures, as text (c2sp.org/tlog-proof).
    pub receipt: String,
    /// That the checkpoint stands in the cluster log; null while no checkpoint that covers the decision and that a quorum
    /// vouched for does, and where the control group's leader could not be asked.
    #[serde(default)]
    pub cluster: Option<ClusterProofView>,
}

/// That a partition's checkpoint stands in the cluster log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterProofView {
    /// The checkpoint as it stands there: a note with its log's own signature alone.
    pub leaf: String,
    /// Its inclusion proof, with the cluster log's checkpoint and cosignatures (c2sp.org/tlog-proof).
    pub proof: String,
}

/// Leaves as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawLeaves {
    /// Index of the first.
    pub from: u64,
    /// Canonical leaf bytes, base64.
    pub leaves: Vec<String>,
    /// Sealed bodies, base64, one for each leaf.
    pub bodies: Vec<String>,
}
