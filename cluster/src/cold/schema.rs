//! The columns of a cold file: their order, names, types and codings. Other people read them with other programs.
//!
//! The order is part of the format: what a leaf is rebuilt from comes first and what a body is rebuilt from last, so that leaves
//! can be fetched without bodies. Layout 1 is frozen once a file of it is stored; a test pins its text.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use nethical_audit::leaf::codec::KINDS;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, TypePtr};

/// What a column holds, and how it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Yes or no.
    Flag,
    /// Unsigned integers.
    U8,
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
    /// Eight bytes.
    U64,
    /// Nanoseconds since 1970.
    Nanos,
    /// Milliseconds since 1970.
    Millis,
    /// One of some words; inside of this module their number, counted from the given one.
    Word(&'static [&'static str], u8),
    /// So many bytes.
    Fixed(usize),
    /// UTF-8.
    Text,
    /// UTF-8 that is JSON.
    Json,
    /// Any bytes.
    Binary,
    /// Hashes of eight bytes, shown as hex with commas between them.
    Hashes,
}

/// How a column is written before zstd sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Each different value once, where values repeat.
    Dictionary,
    /// Differences of integers; lengths in front of bytes.
    Delta,
    /// As it is.
    Plain,
}

/// A column.
pub(super) struct Spec {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// How it is written.
    pub coding: Coding,
    /// Smallest and largest value of each row group stand in the footer, so that readers skip groups.
    pub is_bounded: bool,
}

macro_rules! columns {
    ($($variant:ident $name:literal $kind:expr, $coding:ident $(, $bounded:ident)?;)*) => {
        /// The columns, in the order of the file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Column { $($variant,)* }

        /// The columns, in the order of the file.
        pub(super) const COLUMNS: [Column; [$(Column::$variant,)*].len()] = [$(Column::$variant,)*];

        static SPECS: [Spec; COLUMNS.len()] = [$(Spec {
            name: $name,
            kind: $kind,
            coding: Coding::$coding,
            is_bounded: columns!(@bounded $($bounded)?),
        },)*];
    };
    (@bounded) => { false };
    (@bounded bounded) => { true };
}

const VERDICTS: &[&str] = &["allow", "restrict", "escalate", "block", "terminate"];
const STATUSES: &[&str] = &["active", "restricted", "quarantined", "terminated"];
const TIERS: &[&str] = &["low", "normal", "high", "elevated"];
const ACTION_KINDS: &[&str] =
    &["tool_call", "message", "model_call", "code_execution", "data_access", "delegation", "lifecycle"];
/// What is here of a body.
pub(super) const BODIES: &[&str] = &["none", "stored", "clear"];

columns! {
    // The leaf.
    LeafIndex "leaf_index" Kind::U64, Delta, bounded;
    LeafKind "kind" Kind::Word(&KINDS, 1), Dictionary;
    LogTime "log_time" Kind::Nanos, Delta, bounded;
    LogGroup "log_group" Kind::U32, Dictionary;
    Era "era" Kind::U32, Dictionary;
    Term "term" Kind::U64, Dictionary;
    Slot "slot" Kind::U16, Dictionary;
    TenantKeyed "tenant_keyed" Kind::Fixed(16), Dictionary;
    AgentKeyed "agent_keyed" Kind::Fixed(16), Dictionary;
    SessionKeyed "session_keyed" Kind::Fixed(16), Dictionary;
    CohortKeyed "cohort_keyed" Kind::Fixed(16), Dictionary;
    ToolKeyed "tool_keyed" Kind::Fixed(16), Dictionary;
    RegionKeyed "region_keyed" Kind::Fixed(16), Dictionary;
    ResourceKeyed "resource_keyed" Kind::Fixed(16), Dictionary;
    RequestKeyed "request_keyed" Kind::Fixed(16), Plain;
    RequestContent "request_content" Kind::Fixed(8), Plain;
    IssuedAt "issued_at" Kind::Millis, Delta;
    ClientChosen "client_chosen" Kind::Flag, Plain;
    ActionKind "action_kind" Kind::Word(ACTION_KINDS, 0), Dictionary;
    Verdict "verdict" Kind::Word(VERDICTS, 0), Dictionary, bounded;
    PolicyVerdict "policy_verdict" Kind::Word(VERDICTS, 0), Dictionary;
    Status "status" Kind::Word(STATUSES, 0), Dictionary;
    Tier "tier" Kind::Word(TIERS, 0), Dictionary;
    Risk "risk" Kind::U16, Dictionary, bounded;
    RiskBehaviour "risk_behaviour" Kind::U16, Dictionary;
    RiskSeverity "risk_severity" Kind::U16, Dictionary;
    RiskFrequency "risk_frequency" Kind::U16, Dictionary;
    RiskRecency "risk_recency" Kind::U16, Dictionary;
    RiskHistory "risk_history" Kind::U16, Dictionary;
    PolicyRev "policy_rev" Kind::U64, Dictionary;
    ControlRev "control_rev" Kind::U64, Dictionary;
    Epoch "epoch" Kind::U64, Dictionary;
    Flags "flags" Kind::U8, Dictionary;
    RetryAfterNs "retry_after_ns" Kind::U64, Dictionary;
    ReserveTtlS "reserve_ttl_s" Kind::U32, Dictionary;
    Reserved "reserved" Kind::U16, Dictionary;
    Entropy "entropy" Kind::U8, Dictionary;
    Rules "rules" Kind::Hashes, Dictionary;
    Detections "detections" Kind::Binary, Dictionary;
    Reasons "reasons" Kind::Binary, Dictionary;
    Charges "charges" Kind::Binary, Dictionary;
    Limits "limits" Kind::Binary, Delta;
    DecisionIndex "decision_index" Kind::U64, Delta;
    Event "event" Kind::Binary, Delta;
    BodyCommitment "body_commitment" Kind::Fixed(32), Plain;
    LeafBytes "leaf_bytes" Kind::Binary, Delta;
    // What stands in front of a body, or all that is stored of it.
    BodyState "body" Kind::Word(BODIES, 0), Dictionary;
    BodyGeneration "body_generation" Kind::U32, Dictionary;
    BodyNode "body_node" Kind::U64, Dictionary;
    BodyProcess "body_process" Kind::U64, Dictionary;
    BodyCounter "body_counter" Kind::U64, Delta;
    BodyPerson "body_person" Kind::Fixed(16), Dictionary;
    BodyPersonGeneration "body_person_generation" Kind::U32, Dictionary;
    StoredBody "stored_body" Kind::Binary, Delta;
    // The body.
    RequestId "request_id" Kind::Text, Delta;
    Tenant "tenant" Kind::Text, Dictionary, bounded;
    Agent "agent" Kind::Text, Dictionary, bounded;
    Session "session" Kind::Text, Delta;
    Cohort "cohort" Kind::Text, Dictionary;
    Region "region" Kind::Text, Dictionary;
    Name "name" Kind::Text, Dictionary;
    ResourceType "resource_type" Kind::Text, Dictionary;
    ResourceId "resource_id" Kind::Text, Delta;
    Cost "cost" Kind::Json, Delta;
    Approval "approval" Kind::Text, Delta;
    BodyIssuedAt "body_issued_at" Kind::Millis, Delta;
    Args "args" Kind::Json, Delta;
    Context "context" Kind::Json, Delta;
    BodyRest "body_rest" Kind::Binary, Dictionary;
    BodyBytes "body_bytes" Kind::Binary, Delta;
}

/// Columns that leaves, heads and stored bodies are rebuilt from: those in front.
pub(super) const LEAF_COLUMNS: usize = Column::StoredBody as usize + 1;

impl Column {
    /// What it is.
    pub fn spec(self) -> &'static Spec {
        &SPECS[self as usize]
    }

    /// True where every row has a value.
    pub fn is_required(self) -> bool {
        matches!(self, Self::LeafIndex | Self::BodyState)
    }
}

impl Kind {
    /// Bytes that a value takes in a leaf; none where that varies.
    pub fn bytes(self) -> Option<usize> {
        match self {
            Self::Flag | Self::U8 | Self::Word(..) => Some(1),
            Self::U16 => Some(2),
            Self::U32 => Some(4),
            Self::U64 | Self::Nanos | Self::Millis => Some(8),
            Self::Fixed(bytes) => Some(bytes),
            Self::Text | Self::Json | Self::Binary | Self::Hashes => None,
        }
    }

    /// Physical type, and the annotation that says what it means.
    fn words(self) -> (String, &'static str) {
        let (physical, logical) = match self {
            Self::Flag => ("boolean", ""),
            Self::U8 => ("int32", " (INTEGER(8,false))"),
            Self::U16 => ("int32", " (INTEGER(16,false))"),
            Self::U32 => ("int32", " (INTEGER(32,false))"),
            Self::U64 => ("int64", " (INTEGER(64,false))"),
            Self::Nanos => ("int64", " (TIMESTAMP(NANOS,true))"),
            Self::Millis => ("int64", " (TIMESTAMP(MILLIS,true))"),
            Self::Word(..) | Self::Text | Self::Hashes => ("binary", " (STRING)"),
            Self::Json => ("binary", " (JSON)"),
            Self::Binary => ("binary", ""),
            Self::Fixed(bytes) => return (format!("fixed_len_byte_array({bytes})"), ""),
        };
        (physical.to_owned(), logical)
    }
}

/// The schema as Parquet writes schemas down.
pub(super) fn text() -> String {
    let mut out = "message nethical_cold_1 {\n".to_owned();
    for column in COLUMNS {
        let repetition = if column.is_required() { "required" } else { "optional" };
        let ((physical, logical), name) = (column.spec().kind.words(), column.spec().name);
        writeln!(out, "  {repetition} {physical} {name}{logical};").expect("writing to a string");
    }
    out + "}\n"
}

static SCHEMA: LazyLock<SchemaDescPtr> = LazyLock::new(|| {
    let parsed = parse_message_type(&text()).expect("a test reads this schema, and it does not change");
    Arc::new(SchemaDescriptor::new(Arc::new(parsed)))
});

/// The schema, as writers want it.
pub(super) fn schema() -> TypePtr {
    SCHEMA.root_schema_ptr()
}

/// The schema, as readers want it.
pub(super) fn descriptor() -> SchemaDescPtr {
    Arc::clone(&SCHEMA)
}

#[cfg(test)]
mod tests {
    use nethical_governance::outcome::RiskTier;
    use nethical_protocol::action::ActionKind;
    use nethical_protocol::decision::{AgentStatus, Verdict};

    use super::*;

    #[test]
    fn words_are_those_of_the_numbers_in_leaves() {
        assert_eq!(VERDICTS, Verdict::ALL.map(Verdict::as_str));
        assert_eq!(STATUSES, AgentStatus::ALL.map(AgentStatus::as_str));
        assert_eq!(TIERS, RiskTier::ALL.map(RiskTier::as_str));
        assert_eq!(ACTION_KINDS, ActionKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>());
    }

    #[test]
    fn the_schema_is_pinned() {
        assert_eq!(text(), include_str!("schema-1.txt"), "a column that changes is another layout");
    }
}
