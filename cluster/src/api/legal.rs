//! How long a tenant's bodies are kept, and the legal holds that keep some of them longer.

use serde::{Deserialize, Serialize};

use nethical_protocol::retention::RetentionAges;

/// A legal hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegalHoldView {
    /// Its number: the control revision that set it.
    pub id: u64,
    /// The tenant.
    pub tenant: String,
    /// What of it: `tenant` for everything, `agent` or `person`.
    pub scope: String,
    /// The agent or the person under the tenant's key, as it stands in leaves; absent for the whole tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Records from this log time on, nanoseconds since 1970; absent for all …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ns: Option<u64>,
    /// … and before this one; absent for no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ns: Option<u64>,
    /// Why, as was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Who set it, as was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub set_by: String,
    /// When, nanoseconds since 1970.
    pub set_at_ns: u64,
    /// Who lifted it, as was said; absent while it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted_by: Option<String>,
    /// When; absent while it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted_at_ns: Option<u64>,
    /// Groups whose leader has not said that it has heard of it, or of its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaiting: Vec<u32>,
}

/// How long a tenant's bodies are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionView {
    /// The tenant.
    pub tenant: String,
    /// By class.
    pub ages: RetentionAges,
    /// What has expired stays on disks for so many seconds at least.
    pub dropped_after_s: u64,
    /// The legal holds that stand, newest first.
    pub legal_holds: Vec<LegalHoldView>,
}
