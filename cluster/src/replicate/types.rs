//! The types that openraft is instantiated with, in one place.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use openraft::impls::leader_id_std::LeaderId;

use super::machine::Reply;
use super::runtime::NodeRuntime;

openraft::declare_raft_types!(
    /// Replicated data are opaque bytes; one leader a term (standard Raft leader ids).
    pub Types:
        D = Payload,
        R = Reply,
        NodeId = u64,
        Node = Site,
        LeaderId = LeaderId<u64, u64>,
        AsyncRuntime = NodeRuntime,
);

/// Where a replica lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Site {
    /// The node's id; the replica's own id is Raft's node id.
    pub node: u64,
}

/// The bytes of one entry, as the proposer encoded them. Written to the log and sent to peers unchanged.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(pub Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A snapshot travels as checked bytes.
pub type SnapshotData = Arc<Vec<u8>>;

/// Aliases of openraft's types for this configuration.
pub type LogId = openraft::alias::LogIdOf<Types>;
/// A vote.
pub type Vote = openraft::alias::VoteOf<Types>;
/// A log entry.
pub type Entry = openraft::alias::EntryOf<Types>;
/// What an entry holds.
pub type EntryPayload = openraft::EntryPayload<Payload, u64, Site>;
/// A membership with the log id that set it.
pub type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
/// A membership.
pub type Membership = openraft::Membership<u64, Site>;
/// Snapshot meta data.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
/// A snapshot.
pub type Snapshot = openraft::alias::SnapshotOf<Types, SnapshotData>;

/// A log id from its parts.
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

/// The term of a log id.
pub fn term_of(id: &LogId) -> u64 {
    id.committed_leader_id().term
}

/// A vote from its parts.
pub fn vote(term: u64, voted_for: u64, committed: bool) -> Vote {
    if committed { Vote::new_committed(term, voted_for) } else { Vote::new(term, voted_for) }
}
