//! Limits, as an administrator writes them and as partitions know them. They count nothing here; `governance` does.

use serde::{Deserialize, Serialize};

use super::Placement;
use crate::ids::{KeyedId, LimitNumber};

/// In place of a tenant's name in a limit: all tenants of the zone together.
pub const EVERY_TENANT: &str = "*";

/// How a limit counts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum LimitKind {
    /// `amount` per `period_s`, with a burst, by the generic cell rate algorithm (ITU-T I.371).
    Rate {
        /// Units per period.
        amount: u64,
        /// Length of the period in seconds.
        period_s: u64,
        /// Units that may come at once.
        burst: u64,
    },
    /// `cap` per calendar window in UTC, counted from 1970; 86,400 s is a UTC day.
    Budget {
        /// Units per window.
        cap: u64,
        /// Length of the window in seconds.
        window_s: u64,
    },
    /// `cap` once and for all: it never resets, and its counters are kept as long as the limit.
    Lifetime {
        /// Units.
        cap: u64,
    },
    /// At most `cap` in every window of this length, wherever it begins; a charge counts for `window_s`, and at most
    /// 1/32 of that longer.
    Rolling {
        /// Units per window.
        cap: u64,
        /// Length of the window in seconds.
        window_s: u64,
    },
    /// At most `cap` live reservations, whatever they reserve. An action that reserves nothing needs room for one and
    /// takes none.
    Concurrency {
        /// Reservations.
        cap: u64,
    },
}

/// Plans that are sold by name, as rates of requests; the enterprise plan is whatever was agreed.
pub const PLANS: [(&str, LimitKind); 2] = [
    ("standard", LimitKind::Rate { amount: 60, period_s: 60, burst: 20 }),
    ("premium", LimitKind::Rate { amount: 300, period_s: 60, burst: 60 }),
];

/// The parts of an action that make a limit's key: one counter for each combination seen.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum KeyPart {
    /// One counter for the tenant.
    Tenant,
    /// One for each cohort.
    Cohort,
    /// One for each agent.
    Agent,
    /// One for each session.
    Session,
    /// One for each action name.
    Tool,
    /// One for each region that clients name.
    Region,
}

/// What a limit does when it is exceeded.
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
pub enum LimitMode {
    /// Refuse the action.
    #[default]
    Enforce,
    /// Count what it would have admitted and report, never refuse.
    Shadow,
    /// Count what goes ahead, beyond the cap as well, and report, never refuse.
    Soft,
}

impl LimitMode {
    /// All modes; the position is the mode's number in leaves.
    pub const ALL: [LimitMode; 3] = [LimitMode::Enforce, LimitMode::Shadow, LimitMode::Soft];

    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        ["enforce", "shadow", "soft"][self as usize]
    }

    /// True for the mode that is assumed where none is named.
    pub fn is_enforce(&self) -> bool {
        *self == Self::Enforce
    }
}

/// What becomes of units used beyond what was reserved.
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
pub enum Overrun {
    /// They are charged, beyond the cap as well: later actions wait.
    #[default]
    Debt,
    /// They are reported and not charged.
    Cap,
}

impl Overrun {
    /// True for the policy that is assumed where none is named.
    pub fn is_debt(&self) -> bool {
        *self == Self::Debt
    }
}

/// A limit as an administrator writes it. Empty match fields match everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LimitSpec {
    /// The limit's name, unique within the tenant.
    pub id: String,
    /// The tenant that it binds.
    pub tenant: String,
    /// What it counts: `requests`, or a unit of the action's cost.
    #[serde(default = "LimitSpec::requests")]
    pub unit: String,
    /// How it counts.
    #[serde(flatten)]
    pub kind: LimitKind,
    /// One counter for each combination of these.
    pub key: Vec<KeyPart>,
    /// Refuse, or count only.
    #[serde(default)]
    pub mode: LimitMode,
    /// What becomes of units used beyond what was reserved.
    #[serde(default, skip_serializing_if = "Overrun::is_debt")]
    pub overrun: Overrun,
    /// Units of the cap or burst that only critical actions may take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reserve: u64,
    /// Only this agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// Only this action name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tool: String,
    /// Only this cohort.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cohort: String,
}

impl LimitSpec {
    fn requests() -> String {
        "requests".to_owned()
    }
}

/// A limit as partitions know it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LimitFact {
    /// Its number, under which leaves and buckets name it.
    pub number: LimitNumber,
    /// The tenant that it binds.
    pub tenant: KeyedId,
    /// Keyed id of the unit's name; commands carry costs under it.
    pub unit: KeyedId,
    /// How it counts.
    pub kind: LimitKind,
    /// Sorted, without repeats.
    pub key: Vec<KeyPart>,
    /// Refuse, or count only.
    pub mode: LimitMode,
    /// What becomes of units used beyond what was reserved.
    pub overrun: Overrun,
    /// Units of the cap or burst that only critical actions may take.
    pub reserve: u64,
    /// Only this agent, or [`KeyedId::NONE`].
    pub agent: KeyedId,
    /// Only this action name, or none.
    pub tool: KeyedId,
    /// Only this cohort, or none.
    pub cohort: KeyedId,
}

impl LimitFact {
    /// True where it counts agents of several partitions together: each partition then spends a share (ARCHITECTURE 7).
    pub fn is_leased(&self, placement: Placement) -> bool {
        placement == Placement::Spread && self.agent.is_none() && !self.key.contains(&KeyPart::Agent)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(units: &u64) -> bool {
    *units == 0
}
