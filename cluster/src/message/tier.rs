//! What nodes say to each other of the tiers of their audit segments.

use bytes::Bytes;
use rkyv::rancor::Error;

message! {
    /// How a node's tiers are, over all logs that it keeps a copy of.
    struct TiersV1 {
        /// Segments as they were closed.
        pub hot: TierV1,
        /// Segments that were moved.
        pub warm: TierV1,
        /// Segments whose bodies are in the object store.
        pub cold: TierV1,
        /// Bytes of the objects that these bodies are in; all replicas have the same ones.
        pub object_bytes: u64,
        /// Segments that are being moved.
        pub under_way: u64,
        /// Moves that failed; the first hundred.
        pub failed: Vec<FailedMoveV1>,
    }

    /// One tier.
    struct TierV1 {
        /// Closed segments.
        pub segments: u64,
        /// Their leaves.
        pub leaves: u64,
        /// Bytes of their files.
        pub file_bytes: u64,
        /// Bytes of their leaves and bodies, dropped ones included.
        pub raw_bytes: u64,
        /// Bytes of the leaves alone, where they are packed.
        pub leaf_bytes: u64,
        /// Bytes that these leaves take packed.
        pub packed_bytes: u64,
        /// Bodies dropped as erased.
        pub erased: u64,
        /// Bodies dropped as expired.
        pub expired: u64,
        /// Bytes that both have given back.
        pub freed_bytes: u64,
    }

    /// A move that failed.
    struct FailedMoveV1 {
        /// The group.
        pub group: u32,
        /// First leaf of the segment.
        pub first: u64,
        /// Why.
        pub why: String,
    }
}
