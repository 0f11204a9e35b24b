//! Automatic quarantine: rules by which a partition holds an agent without being told, as people write them (specs) and as
//! partitions know them (facts). Off until somebody sets a rule.

use serde::{Deserialize, Serialize};

use crate::control::HoldEffect;
use crate::ids::KeyedId;

/// Rules in one set: 16 speak about an agent at most, those of its tenant and those of the zone.
pub const QUARANTINE_RULES_MAX: usize = 8;
/// Violations that a rule may ask for: so many are remembered of an agent.
pub const QUARANTINE_VIOLATIONS_MAX: u8 = 10;
/// Consecutive actions of an elevated tier that a rule may ask for.
pub const QUARANTINE_RUN_MAX: u16 = 1_000;
/// The longest time that a rule may look back or hold an agent: a year.
pub const QUARANTINE_SECONDS_MAX: u64 = 366 * 86_400;

/// The rules of a tenant or of the whole zone; a later set takes the place of an earlier one, an empty set ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct QuarantineSpec {
    /// The tenant; empty for all tenants of the zone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tenant: String,
    /// At most [`QUARANTINE_RULES_MAX`]. Of several that fit, the first that blocks counts, else the first.
    pub rules: Vec<QuarantineRule>,
}

/// One rule: when, and what then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct QuarantineRule {
    /// What sets it off.
    #[serde(flatten)]
    pub when: QuarantineWhen,
    /// Block or restrict.
    #[serde(default)]
    pub effect: HoldEffect,
    /// Seconds of log time until the hold lapses; 0 for never.
    #[serde(default)]
    pub ttl_s: u64,
}

/// What sets a rule off; the action that does so is itself judged under the hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[serde(rename_all = "snake_case", tag = "when")]
pub enum QuarantineWhen {
    /// So many judged actions in a row left the agent's risk tier at elevated. Judged is what went ahead or violated.
    Elevated {
        /// 1 to [`QUARANTINE_RUN_MAX`].
        actions: u16,
    },
    /// So many violations of such a severity within some time.
    Violations {
        /// 1 to [`QUARANTINE_VIOLATIONS_MAX`].
        count: u8,
        /// At least this, 250..1000.
        severity: u16,
        /// Seconds of log time.
        within_s: u64,
    },
    /// One finding of a detector, of text or of behaviour.
    Finding {
        /// The detector's name.
        finding: String,
        /// At least this, 1..1000.
        severity: u16,
    },
}

/// A set of rules as partitions know it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct QuarantineFact {
    /// The tenant, or none for the zone.
    pub tenant: KeyedId,
    /// In the order of the spec.
    pub rules: Vec<QuarantineRuleFact>,
}

/// A rule as partitions know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct QuarantineRuleFact {
    /// What sets it off.
    pub when: QuarantineWhenFact,
    /// Block or restrict.
    pub effect: HoldEffect,
    /// Nanoseconds of log time until the hold lapses; 0 for never.
    pub ttl_ns: u64,
}

/// See [`QuarantineWhen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum QuarantineWhenFact {
    /// Judged actions in a row with an elevated tier.
    Elevated {
        /// How many.
        actions: u16,
    },
    /// Violations within some time.
    Violations {
        /// How many.
        count: u8,
        /// At least this.
        severity: u16,
        /// Nanoseconds of log time.
        within_ns: u64,
    },
    /// One finding.
    Finding {
        /// The detector's number.
        detector: u8,
        /// At least this.
        severity: u16,
    },
}
