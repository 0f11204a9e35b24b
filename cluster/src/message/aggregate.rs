//! What nodes say to each other about aggregates.

use nethical_protocol::privacy::AggregateBy;

use super::*;

message! {
    /// Count a tenant's decisions in a group.
    struct CountAskV1 {
        /// The group.
        pub group: u32,
        /// Whose decisions.
        pub tenant: String,
        /// What they are counted by.
        pub by: AggregateBy,
        /// The cells that have names of their own.
        pub cells: Vec<String>,
        /// From this log time on.
        pub from_ns: u64,
        /// Before this log time.
        pub to_ns: u64,
        /// What one agent may add to all counts together; `None` for no bound.
        pub per_agent_max: Option<u32>,
    }

    /// The answer.
    enum CountAnswerV1 {
        /// One number a cell, in order.
        Counts(Vec<u64>),
        /// Why there are none.
        Problem(Problem),
        /// Ask that node.
        NotLeader(Option<u64>),
    }
}
