//! Questions to the audit trail, and what comes back.

use serde::{Deserialize, Serialize};

use nethical_protocol::decision::Decision;
use nethical_protocol::ids::DecisionId;

/// Which entries. All that is given must hold; names of agents, sessions and tools need their tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EntryQuery {
    /// One group, or all.
    pub group: Option<u32>,
    /// One tenant.
    pub tenant: Option<String>,
    /// One agent of that tenant.
    pub agent: Option<String>,
    /// One session of that tenant.
    pub session: Option<String>,
    /// One action name of that tenant.
    pub tool: Option<String>,
    /// Log time, nanoseconds since 1970, from here on …
    pub from_ns: Option<u64>,
    /// … and before here.
    pub to_ns: Option<u64>,
    /// One verdict word.
    pub verdict: Option<String>,
    /// Risk 0..=1000 from here on …
    pub risk_min: Option<u16>,
    /// … up to here, included.
    pub risk_max: Option<u16>,
    /// Decided by this rule among others.
    pub rule: Option<String>,
    /// One kind of entry, as in [`EntryView::kind`].
    pub kind: Option<String>,
    /// Words that the body must have: all of them, `"in a row"`, or beginning so, `refun*`. Its tenant must have text search.
    /// An entry whose body cannot be opened now is given as `unavailable`, since nobody can say that it does not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// `desc`, newest first, or `asc`. Newest first where nothing is said.
    pub order: Option<String>,
    /// Where an earlier page of the same question ended.
    pub cursor: Option<String>,
    /// At most this many, 1..=1000; 50 where nothing is said.
    pub limit: Option<usize>,
    /// With `asc` and without a cursor: nothing that is there already, only what comes from now on.
    pub from_end: bool,
    /// A cursor behind each entry too, for those who give entries on one by one.
    pub cursors: bool,
}

/// Some entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPage {
    /// The entries, by log time and, within a group, by place.
    pub entries: Vec<EntryView>,
    /// Behind this page. The same question with it goes on there, now or when there is more.
    pub cursor: String,
    /// False where every group that answered has no more. A page may be short, and even empty, and still be followed by others.
    pub more: bool,
    /// Groups no replica of which answered: what they hold is missing from this page, and comes with a later one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<u32>,
    /// Where they were asked for, as many as entries: the same question with the cursor of an entry goes on behind it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cursors: Vec<String>,
}

/// One audit entry, opened where this node holds the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryView {
    /// Where it stands.
    pub decision_id: DecisionId,
    /// `decision`, `control`, `hold-placed`, `hold-lifted`, `era-opened`, `reservation-ended`, `approval-decided`,
    /// `denials-repeated`, `subjects-erased`.
    pub kind: String,
    /// Log time, nanoseconds since 1970.
    pub at_ns: u64,
    /// RFC 6962 leaf hash, hex.
    pub leaf_hash: String,
    /// The decision as it was answered; absent for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// The sealed body, opened: the action, or the reason of a hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
    /// Why a body is not shown: `erased`, `expired`, or `unavailable` for now. Absent where it is shown, or there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_state: Option<String>,
}
