//! What nodes say to each other of what logs publish.

use bytes::Bytes;
use rkyv::rancor::Error;

use nethical_protocol::error::Problem;
use nethical_protocol::ids::DecisionId;

message! {
    /// Something that a log publishes, please.
    enum AskPublishedV1 {
        /// A resource.
        Resource {
            /// Of this group.
            group: u32,
            /// Its path under the log's prefix (c2sp.org/tlog-tiles).
            path: String,
        },
        /// The proof of one leaf against a published checkpoint.
        Receipt(DecisionId),
    }

    /// The answer of a replica.
    enum PublishedV1 {
        /// Its bytes.
        Found(Vec<u8>),
        /// A leaf and its proof.
        Receipt {
            /// Canonical bytes.
            leaf: Vec<u8>,
            /// As text (c2sp.org/tlog-proof).
            proof: String,
        },
        /// It cannot be had now.
        Problem(Problem),
        /// The log is not that long here, or this node has no replica.
        Absent,
    }

    /// Do you hold these leaves durably? Then vouch for their checkpoint.
    struct AskVouchV1 {
        /// Of this group.
        pub group: u32,
        /// Its log's era.
        pub era: u32,
        /// Leaves.
        pub size: u64,
        /// Their root.
        pub root: [u8; 32],
    }

    /// The answer of a replica.
    enum VouchV1 {
        /// A signature line for the checkpoint's note.
        Vouched(String),
        /// It does not, and why.
        Refused(String),
    }
}
