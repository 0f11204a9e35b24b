//! What nodes report of themselves: the shapes behind `nethical status`, `/readyz` and the console.

use serde::{Deserialize, Serialize};

/// One node as another node or an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node's id.
    pub id: u64,
    /// Its region.
    pub region: String,
    /// Its HTTP door.
    pub http: String,
    /// Its QUIC door.
    pub quic: String,
    /// Its process, where it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// True where it would take a decision now.
    pub ready: bool,
    /// The groups that it leads.
    pub leader_of: Vec<u32>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group's number.
    pub id: u32,
    /// The node that leads it, where one is known.
    pub leader: Option<u64>,
    /// Raft's term.
    pub term: u64,
    /// Last applied Raft index here.
    pub applied: u64,
    /// Leaves in its audit log here.
    pub leaves: u64,
    /// The nodes of its voters.
    pub replicas: Vec<u64>,
}

/// What `nethical status` prints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Every member, asked now.
    pub nodes: Vec<NodeStatus>,
    /// Every group, as its leader sees it where one answered.
    pub groups: Vec<GroupStatus>,
}

/// One named check of `/readyz?verbose`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyCheck {
    /// The check's name.
    pub name: String,
    /// Whether it passes.
    pub ok: bool,
    /// What was found, for a person.
    pub detail: String,
}
