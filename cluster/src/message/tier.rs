//! What nodes say to each other of the tiers of their audit segments, and of the files of the cold tier.
//!
//! A file's key goes over mutually authenticated streams alone.

use bytes::Bytes;
use rkyv::rancor::Error;

/// Node → leader: which files of the cold tier has your group ([`AskColdV1`] → [`ColdFilesV1`]).
pub const KIND_COLD: u16 = 98;

message! {
    /// Files of a group's log in the cold tier, in order of their leaves.
    struct AskColdV1 {
        /// The group.
        pub group: u32,
        /// Leaf that the first one holds, or that comes before it.
        pub from: u64,
        /// How many at most.
        pub limit: u32,
        /// Only the one that begins with that leaf, and the key that it opens with.
        pub with_key: bool,
    }

    /// The answer of a replica.
    enum ColdFilesV1 {
        /// It does not lead; who may.
        NotLeader(Option<u64>),
        /// Files; more of them follow where the flag is set.
        Files(Vec<ColdFileV1>, bool),
        /// The leader could not say.
        Refused(String),
    }

    /// A file of the cold tier.
    struct ColdFileV1 {
        /// Its name in the object store.
        pub name: String,
        /// Its first leaf.
        pub first: u64,
        /// Its leaves.
        pub leaves: u32,
        /// Of these, leaves whose bodies it holds.
        pub bodies: u32,
        /// Its bytes.
        pub bytes: u64,
        /// What is wrong with it, as the leader last saw it; empty where nothing is.
        pub flaw: String,
        /// Its key where that was asked for; empty otherwise.
        pub key: Vec<u8>,
    }

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
        /// Bytes of parts of cold files on its disk, kept because they were read again.
        pub promoted_bytes: u64,
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
