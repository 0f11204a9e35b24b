//! What nodes say to each other of approvals and people's words on them.

use bytes::Bytes;
use rkyv::rancor::Error;

use nethical_governance::approval::ApprovalState;
use nethical_protocol::error::Problem;
use nethical_protocol::ids::{DecisionId, KeyedId};

message! {
    /// A person's word on an approval.
    struct WordAskV1 {
        /// Which.
        pub approval: DecisionId,
        /// Approve, or deny.
        pub approves: bool,
        /// Who says so.
        pub approver: String,
        /// Why.
        pub reason: String,
    }

    /// What became of it.
    enum WordAnswerV1 {
        /// It counts, or the same word did before.
        Done {
            /// The approval afterwards.
            approval: ApprovalV1,
            /// The same word was said before.
            replayed: bool,
        },
        /// It does not count, or that is not known.
        Problem(Problem),
        /// Ask that node.
        NotLeader(Option<u64>),
    }

    /// Approvals, please.
    struct ApprovalsAskV1 {
        /// Of this group.
        pub group: u32,
        /// Behind this leaf index.
        pub after: u64,
        /// Only the one with this leaf index.
        pub only: Option<u64>,
        /// Only of this tenant.
        pub tenant: Option<KeyedId>,
        /// Only in this state.
        pub state: Option<ApprovalState>,
        /// At most so many.
        pub count: u64,
    }

    /// Approvals in order of leaf index.
    enum ApprovalsV1 {
        /// As applied, confirmed by a quorum.
        Found {
            /// The log's era.
            era: u32,
            /// The policy revision in force.
            policy: u64,
            /// The approvals.
            approvals: Vec<ApprovalV1>,
        },
        /// Ask that node.
        NotLeader(Option<u64>),
    }

    /// One approval in numbers.
    struct ApprovalV1 {
        /// Leaf index of the decision that escalated.
        pub leaf_index: u64,
        /// Where it stands.
        pub state: ApprovalState,
        /// The policy revision that escalated it.
        pub policy_rev: u64,
        /// Log time at which it was opened.
        pub at_ns: u64,
        /// Log time at which it expires.
        pub until_ns: u64,
        /// The leaf of the word on it; 0 for none.
        pub word_leaf: u64,
        /// The leaf of its use or expiry; 0 for none.
        pub end_leaf: u64,
    }
}
