//! What an administrator may say to a zone, and the facts that reach its partitions because of it.
//!
//! *Specs* are what people write: names in clear, kept in the control group. *Facts* are what `ApplyControl` entries
//! carry into partition groups: keyed ids and numbers only (ARCHITECTURE 2, 4).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Problem};
use crate::ids::{ControlRevision, KeyedId, LimitNumber};
use crate::limits::{HOLD_APPROVER_NAMES_MAX, HOLD_APPROVERS_MAX, NAME_BYTES_MAX};
use crate::model::ModelBlending;
use crate::privacy::PrivacyMode;
use crate::quarantine::QuarantineFact;
use crate::retention::{LegalHoldFact, RetentionAges, RetentionSpec};
use crate::sla::SlaTargets;
use crate::tiers::TierAges;

mod limit;

pub use limit::{EVERY_TENANT, KeyPart, LimitFact, LimitKind, LimitMode, LimitSpec, Overrun, PLANS};

/// Whether a tenant's agents live in one partition or in all.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// All agents in one partition: every limit is exact at one log position; the throughput of one group.
    Single,
    /// Agents over all partitions: a limit without the agent in its key is leased to them.
    #[default]
    Spread,
}

/// How much of a text is cut out.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Redaction {
    /// Nothing.
    #[default]
    None,
    /// Cards, account and social security numbers, secrets.
    Minimal,
    /// Mail addresses, telephone numbers and host addresses as well.
    Standard,
    /// Every number of five or more digits as well: dates of birth, passports, licences, postal codes.
    Aggressive,
}

impl Redaction {
    /// All policies, each cutting what the one before cuts.
    pub const ALL: [Redaction; 4] = [Redaction::None, Redaction::Minimal, Redaction::Standard, Redaction::Aggressive];

    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        ["none", "minimal", "standard", "aggressive"][self as usize]
    }

    /// From the JSON word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == word)
    }
}

/// A tenant as an administrator names it. Settings that are absent stay as they are, in a new tenant as the default.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct TenantSpec {
    /// Its name.
    pub tenant: String,
    /// Where its agents live. Fixed at creation.
    #[serde(default)]
    pub placement: Placement,
    /// What is cut out of actions before they are sealed; absent for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_redaction: Option<Redaction>,
    /// Detectors that say nothing about this tenant's actions, by name; absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectors_off: Option<Vec<String>>,
    /// What it is promised of the service; absent for the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sla: Option<SlaTargets>,
    /// What is done with scores of its callers' models; absent for off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_blending: Option<ModelBlending>,
    /// How its aggregates are exported; absent for exact counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy_mode: Option<PrivacyMode>,
    /// How long the bodies of its records are kept; absent for the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,
    /// Whether the words of its bodies are indexed, so that entries are found by them; absent for no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_search: Option<bool>,
    /// How old its records get in a tier before they are moved to the next one; absent for what each node's settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier_ages: Option<TierAges>,
}

impl TenantSpec {
    /// A tenant with default settings.
    pub fn named(tenant: impl Into<String>) -> Self {
        Self { tenant: tenant.into(), ..Self::default() }
    }
}

/// What a hold-order stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[serde(rename_all = "snake_case", tag = "scope")]
pub enum HoldScope {
    /// One agent: one entry in the agent's own group.
    Agent {
        /// Its tenant.
        tenant: String,
        /// Its name.
        agent: String,
    },
    /// All agents of a cohort.
    Cohort {
        /// Its tenant.
        tenant: String,
        /// Its name.
        cohort: String,
    },
    /// One action name of a tenant.
    Tool {
        /// The tenant.
        tenant: String,
        /// The action name.
        tool: String,
    },
    /// All agents of a tenant.
    Tenant {
        /// The tenant.
        tenant: String,
    },
    /// Everything in the zone: the kill switch.
    All,
    /// One session of a tenant's agents, as they name it.
    Session {
        /// The tenant.
        tenant: String,
        /// The session.
        session: String,
    },
    /// Everything in a region: of the region that an action names, or else of the node that leads its agent's group.
    Region {
        /// The tenant; empty for all.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        tenant: String,
        /// The region.
        region: String,
    },
}

/// What happens to actions under a hold-order.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum HoldEffect {
    /// They are blocked.
    #[default]
    Block,
    /// They are restricted.
    Restrict,
}

/// A hold-order as an administrator writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct HoldSpec {
    /// What it stops.
    #[serde(flatten)]
    pub scope: HoldScope,
    /// Block or restrict.
    #[serde(default)]
    pub effect: HoldEffect,
    /// Why; kept in the sealed body of its leaf, never in state.
    #[serde(default)]
    pub reason: String,
    /// Seconds of log time until it lapses by itself; 0 for never.
    #[serde(default)]
    pub ttl_s: u64,
    /// How many different approvers must ask for its release; 0 and 1 for anybody's one word.
    #[serde(default, skip_serializing_if = "HoldSpec::is_zero")]
    pub approvers: u8,
    /// The only ones whose words count; empty for anybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approver_names: Vec<String>,
    /// Who asks, where it is released.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub approver: String,
}

impl HoldSpec {
    /// An order on this scope that blocks until somebody lifts it.
    pub fn new(scope: HoldScope) -> Self {
        let (effect, reason, ttl_s, approvers, approver_names, approver) = Default::default();
        Self { scope, effect, reason, ttl_s, approvers, approver_names, approver }
    }

    /// True where one word does not lift it.
    pub fn is_guarded(&self) -> bool {
        self.approvers > 1
    }

    /// Refuses an order that nobody could ever lift, or that names more than may be kept.
    ///
    /// # Errors
    /// `invalid-control`, with the field.
    pub fn check_release(&self) -> Result<(), Problem> {
        let refuse = |detail: String| Err(Problem::new(Code::InvalidControl, detail));
        let names: BTreeSet<&String> = self.approver_names.iter().collect();
        if usize::from(self.approvers) > HOLD_APPROVERS_MAX || names.len() > HOLD_APPROVER_NAMES_MAX {
            let most = format!("at most {HOLD_APPROVERS_MAX} approvers of {HOLD_APPROVER_NAMES_MAX} names");
            return refuse(format!("approvers: {most} may be asked for"));
        }
        if names.len() != self.approver_names.len() || names.iter().any(|name| !fits(name)) {
            return refuse(format!("approver_names: each once, of 1 to {NAME_BYTES_MAX} bytes"));
        }
        if !names.is_empty() && names.len() < usize::from(self.approvers) {
            return refuse(format!("approvers: {} words of {} names could never be said", self.approvers, names.len()));
        }
        if self.approver.len() > NAME_BYTES_MAX {
            return refuse(format!("approver: at most {NAME_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    fn is_zero(count: &u8) -> bool {
        *count == 0
    }
}

fn fits(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
}

/// A tenant as partitions know it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TenantFact {
    /// Its keyed id.
    pub tenant: KeyedId,
    /// Where its agents live.
    pub placement: Placement,
}

/// A tenant-wide or zone-wide hold-order as partitions know it. Fields that are [`KeyedId::NONE`] match everything.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct HoldFact {
    /// The control revision that placed it is its id.
    pub id: ControlRevision,
    /// Which tenant, or none for all.
    pub tenant: KeyedId,
    /// Which cohort, or none for all.
    pub cohort: KeyedId,
    /// Which action name, or none for all.
    pub tool: KeyedId,
    /// Block or restrict.
    pub effect: HoldEffect,
    /// Log time after which it lapses, nanoseconds since 1970; 0 for never.
    pub until_ns: u64,
    /// Which session, or none for all.
    pub session: KeyedId,
    /// Which region (see the ledger's `hold::region_id`), or none for all.
    pub region: KeyedId,
}

/// One fact of a control revision. Partitions apply them in order of revision, each once.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ControlFact {
    /// A tenant exists.
    Tenant(TenantFact),
    /// A limit is set (a limit of the same number is replaced; its counters go on).
    Limit(LimitFact),
    /// A limit is gone, with its counters.
    LimitRemoved(LimitNumber),
    /// A bundle is in force from here on.
    Policy {
        /// SHA-256 of the bundle's text.
        digest: [u8; 32],
    },
    /// A hold-order is in force.
    Hold(HoldFact),
    /// A hold-order is lifted.
    HoldLifted(ControlRevision),
    /// The revision changed nothing that partitions keep.
    Nothing,
    /// Beside the bundle in force, another one decides for a share of agents from here on.
    PolicyCanary {
        /// SHA-256 of the other bundle's text.
        digest: [u8; 32],
        /// Agents of a hundred, 1 to 100.
        percent: u8,
    },
    /// The bundle in force decides for all agents again.
    PolicyCanaryEnded,
    /// A set of rules for automatic quarantine is in force, in place of the one before.
    Quarantine(QuarantineFact),
    /// Nobody may read any more what was sealed under this subject's keys so far.
    Erase {
        /// The tenant.
        tenant: KeyedId,
        /// The agent, or the person.
        subject: KeyedId,
    },
    /// As [`ControlFact::Tenant`], with how long its bodies are kept from here on.
    TenantRetention {
        /// The tenant.
        tenant: TenantFact,
        /// The ages.
        ages: RetentionAges,
    },
    /// What it covers neither expires nor is erased.
    LegalHold(LegalHoldFact),
    /// That legal hold stands no longer.
    LegalHoldLifted(ControlRevision),
}

/// Whose words are to be erased.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct EraseSpec {
    /// The tenant.
    pub tenant: String,
    /// The agent; empty where it is a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// The person, as actions named it in `context.data_subject`; empty where it is an agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub person: String,
    /// Why, for the record: a ticket or a legal basis, at most `NAME_BYTES_MAX` bytes. It is kept in the clear.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A fact with the revision that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RevisedFact {
    /// Its revision; revisions are consecutive from 1.
    pub revision: ControlRevision,
    /// What changed.
    pub fact: ControlFact,
}

/// Whether a control change is in force everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ControlAck {
    /// The revision of the change.
    pub revision: ControlRevision,
    /// `acknowledged` or `pending`.
    pub state: AckState,
    /// The groups that have not confirmed it yet.
    pub awaiting: Vec<u32>,
}

/// See [`ControlAck`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum AckState {
    /// Every partition in scope enforces it.
    Acknowledged,
    /// Some partitions have not confirmed it yet.
    Pending,
}
