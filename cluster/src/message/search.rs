//! What nodes say to each other of searches in the audit trail.

use bytes::Bytes;
use rkyv::rancor::Error;

use nethical_audit::filter::Filter;
use nethical_protocol::ids::KeyedId;

message! {
    /// What of this is in your replica of that group?
    struct SearchAskV1 {
        /// The group.
        pub group: u32,
        /// What must hold.
        pub filter: FilterV1,
        /// From the oldest on, instead of from the newest back.
        pub ascending: bool,
        /// As `Search::from`.
        pub from: Option<u64>,
        /// Entries at most.
        pub limit: u32,
        /// Bytes of leaves and bodies at most; one entry may be larger.
        pub bytes_max: u32,
        /// Words that bodies must have: where an index says that one has not, it need not be told.
        pub words: Option<String>,
    }

    /// [`Filter`] on the wire.
    struct FilterV1 {
        /// The tenant.
        pub tenant: Option<KeyedId>,
        /// The agent.
        pub agent: Option<KeyedId>,
        /// The session.
        pub session: Option<KeyedId>,
        /// The action's name.
        pub tool: Option<KeyedId>,
        /// From this log time on.
        pub from_ns: Option<u64>,
        /// Before this log time.
        pub to_ns: Option<u64>,
        /// The verdict's position.
        pub verdict: Option<u8>,
        /// The least risk.
        pub risk_min: Option<u16>,
        /// The greatest risk.
        pub risk_max: Option<u16>,
        /// A rule.
        pub rule: Option<[u8; 8]>,
        /// The kind byte.
        pub kind: Option<u8>,
    }

    /// The answer of a replica.
    enum SearchedV1 {
        /// What it found.
        Found {
            /// In the order asked.
            hits: Vec<HitV1>,
            /// Where to go on.
            reached: u64,
            /// Log time there.
            reached_ns: u64,
            /// Nothing more now.
            is_end: bool,
        },
        /// This node has no replica, or the replica does not have all of it: ask another one.
        Absent,
    }

    /// An entry that matches.
    struct HitV1 {
        /// Its place in the log.
        pub leaf_index: u64,
        /// Its log time.
        pub at_ns: u64,
        /// Canonical leaf.
        pub leaf: Vec<u8>,
        /// Stored body.
        pub body: Vec<u8>,
    }
}

impl From<Filter> for FilterV1 {
    fn from(filter: Filter) -> Self {
        let Filter { tenant, agent, session, tool, from_ns, to_ns, verdict, risk_min, risk_max, rule, kind } = filter;
        Self { tenant, agent, session, tool, from_ns, to_ns, verdict, risk_min, risk_max, rule, kind }
    }
}

impl From<FilterV1> for Filter {
    fn from(filter: FilterV1) -> Self {
        let FilterV1 { tenant, agent, session, tool, from_ns, to_ns, verdict, risk_min, risk_max, rule, kind } = filter;
        Self { tenant, agent, session, tool, from_ns, to_ns, verdict, risk_min, risk_max, rule, kind }
    }
}
