//! What nodes say to each other of subjects' keys: ring keys on their way, bodies that are opened, erasures.
//!
//! The only messages that carry keys or opened bodies; they go over mutually authenticated streams alone.

use bytes::Bytes;
use rkyv::rancor::Error;

message! {
    /// Ring keys of a group.
    enum RingAskV1 {
        /// Hold this key durably: subjects' keys are about to be wrapped under it.
        Put {
            /// The group.
            group: u32,
            /// The leader's term.
            term: u64,
            /// The key.
            key: [u8; 32],
        },
        /// Give me this key.
        Get {
            /// The group.
            group: u32,
            /// Its number.
            ring: u64,
        },
        /// Which of these do you still hold?
        Held {
            /// The group.
            group: u32,
            /// Numbers.
            past: Vec<u64>,
        },
    }

    /// The answer.
    enum RingAnswerV1 {
        /// It is durable here.
        Kept,
        /// A key with the term that it was made in.
        Key {
            /// The term.
            term: u64,
            /// The key.
            key: [u8; 32],
        },
        /// Those of the ones asked for that are still here.
        Held(Vec<u64>),
        /// It is not here, or cannot be kept.
        Refused(String),
    }

    /// The bodies of these leaves, opened.
    struct AskOpenV1 {
        /// The group.
        pub group: u32,
        /// Leaf indexes, rising.
        pub indexes: Vec<u64>,
    }

    /// The answer of a leader.
    enum OpenedV1 {
        /// Ask that node.
        NotLeader(Option<u64>),
        /// The first so many of those asked for, in order.
        Bodies(Vec<OpenedBodyV1>),
    }

    /// How far erasures are in the groups that you lead?
    struct AskErasuresV1 {
        /// The asking node.
        pub node: u64,
    }

    /// The answer: of groups that the node leads.
    struct ErasuresV1 {
        /// Each group.
        pub groups: Vec<GroupErasureV1>,
    }
}

/// What became of one body.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum OpenedBodyV1 {
    /// Its plaintext.
    Body(Vec<u8>),
    /// Its subject was erased.
    Erased,
    /// Its time is over.
    Expired,
    /// It cannot be opened now, and why.
    Unavailable(String),
}

/// How far erasures are in one group.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GroupErasureV1 {
    /// The group.
    pub group: u32,
    /// The control revision that is applied there.
    pub control_rev: u64,
    /// The last erasure that took a key away there.
    pub erased_rev: u64,
    /// All erasures up to here are complete there.
    pub done_rev: u64,
    /// Nodes that still hold a ring key which is to be destroyed, or cannot be asked.
    pub awaiting: Vec<u64>,
    /// True while files of the cold tier hold what was erased.
    pub in_files: bool,
}
