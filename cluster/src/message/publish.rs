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
        Receipt {
            /// The leaf.
            id: DecisionId,
            /// Against this checkpoint, a note of the same log; none for the newest.
            against: Option<String>,
        },
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

    /// Where does the cluster log cover this leaf of a partition's log?
    struct AskCoverV1 {
        /// Of this group.
        pub group: u32,
        /// Its log's era.
        pub era: u32,
        /// The leaf.
        pub leaf_index: u64,
    }

    /// The answer of the control leader.
    enum CoverV1 {
        /// There.
        Covered {
            /// The partition's checkpoint with cosignatures.
            note: String,
            /// The same, verbatim as in the cluster log.
            leaf: String,
            /// Its proof as text (c2sp.org/tlog-proof).
            proof: String,
        },
        /// Not yet, or it cannot be shown now.
        Not,
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
