//! What nodes say to each other of damaged segments.

use bytes::Bytes;
use rkyv::rancor::Error;

message! {
    /// How are your segments?
    struct AskFsckV1 {
        /// Read them all again first.
        pub begin: bool,
    }

    /// How a node's segments are.
    struct FsckV1 {
        /// Passes over all closed segments begun since the node started.
        pub begun: u64,
        /// Of those, ended.
        pub done: u64,
        /// The pass whose end covers the question that asked for one.
        pub wanted: u64,
        /// Closed segments of all logs here.
        pub segments: u64,
        /// Of those, read by the pass that runs; all of them where none does.
        pub read: u64,
        /// Leaves put back since the node started.
        pub repaired: u64,
        /// What is damaged now; the first thousand.
        pub damage: Vec<DamageV1>,
        /// Damaged segments beyond those.
        pub more: u64,
        /// Leaves that are being fetched.
        pub gaps: Vec<GapV1>,
    }

    /// A damaged segment.
    struct DamageV1 {
        /// Its group.
        pub group: u32,
        /// Its log's era.
        pub era: u32,
        /// Its file.
        pub segment: String,
        /// The first leaf concerned.
        pub first: u64,
        /// The last one.
        pub last: u64,
        /// What was found.
        pub why: String,
        /// Why the last repair did not succeed; empty before the first one.
        pub tried: String,
    }

    /// Leaves that a replica has still to fetch.
    struct GapV1 {
        /// Its group.
        pub group: u32,
        /// The first one.
        pub first: u64,
        /// The last one.
        pub last: u64,
    }

    /// Records of a log, please, as many as fit one answer ([`super::LeavesV1`]).
    struct AskRecordsV1 {
        /// The group.
        pub group: u32,
        /// Its log's era.
        pub era: u32,
        /// From this index.
        pub from: u64,
        /// At most this many.
        pub count: u64,
    }
}
