//! What a node is told before it starts: one typed value, built from a TOML file, the environment and flags.
//!
//! Later layers win: built-in default < `--config` file < `--env-file` < `NETHICAL_*` environment < flags. Every
//! problem of every layer is reported at once, with its line; nothing is guessed. An unknown region or residency
//! policy is a refusal to start, never a permissive default. This module starts nothing and binds nothing; the door,
//! the groups and the telemetry are built from its result by `run`.
#![allow(clippy::disallowed_methods, reason = "the node's outermost layer reads files and the environment")]

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use nethical_cluster::witness::Witness;
use nethical_cluster::world::objects::Place;
use nethical_protocol::ids::NodeId;

pub mod check;
pub mod dialect;
pub mod file;
pub mod keys;
pub mod load;
pub mod region;

pub use load::Layers;
pub use region::ResidencyPolicy;

/// Everything that a node needs to know. All of it was checked; paths are not opened yet.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The cluster's name: first part of every audit log's origin. Never changes.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// The region that this node stands in, one of [`region::REGIONS`].
    pub region: String,
    /// The residency zone. All members of this release's cluster are in one zone.
    pub zone: String,
    /// What the zone's policy allows. [`check`] made sure that no member stands outside it.
    pub residency: &'static ResidencyPolicy,
    /// Where the node keeps its log, snapshots and audit segments.
    pub data_dir: PathBuf,
    /// HTTP door.
    pub http_listen: SocketAddr,
    /// QUIC door for clients.
    pub quic_listen: SocketAddr,
    /// QUIC endpoint for other nodes, with mandatory client certificates.
    pub peer_listen: SocketAddr,
    /// Every member of the cluster, this node included, sorted by id. The same list on every node.
    pub peers: Vec<PeerConfig>,
    /// Partition groups of the zone. Fixed when the cluster is initialised.
    pub partitions: u32,
    /// Voters of each group; never more than there are members.
    pub replicas: u32,
    /// Raft's heartbeat interval.
    pub heartbeat_ms: u64,
    /// Lower bound of Raft's election timeout.
    pub election_min_ms: u64,
    /// Upper bound of Raft's election timeout, also the leader lease.
    pub election_max_ms: u64,
    /// The largest HTTP body accepted, bytes.
    pub body_bytes_max: usize,
    /// The cluster's certificate authority, PEM.
    pub ca_path: PathBuf,
    /// This node's certificate, PEM.
    pub cert_path: PathBuf,
    /// This node's private key, PEM.
    pub key_path: PathBuf,
    /// Ring and signing keys, sealed (`nethical_audit::keys::Keyring`).
    pub keyring_path: PathBuf,
    /// The key-encryption key of the keyring: 64 hex digits.
    pub kek_path: PathBuf,
    /// A `tracing` filter: `info`, or `info,nethical=debug`.
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// True where this set of nodes may initialise the cluster when the data folder is empty.
    pub bootstrap: bool,
    /// What administrators send as `Authorization: Bearer …`; `None` leaves administration open (development).
    pub admin_token: Option<String>,
    /// Who is shown the cluster log's checkpoints.
    pub witnesses: Vec<Witness>,
    /// Age in seconds at which audit segments are moved to the warm tier; 0 for never.
    pub warm_after_s: u64,
    /// The object store of the cold tier, where there is one.
    pub cold: Option<Place>,
    /// Age in seconds at which warm segments are moved there; 0 for never.
    pub cold_after_s: u64,
    /// Bytes of disk for parts of cold files that were read again; 0 keeps none.
    pub promoted_bytes: u64,
    /// The ethical taxonomy, where it is not the built-in one.
    pub taxonomy_path: Option<PathBuf>,
}

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its node id.
    pub id: NodeId,
    /// Its region.
    pub region: String,
    /// `host:port` of its peer endpoint.
    pub peer: String,
    /// `host:port` of its HTTP door, as clients reach it.
    pub http: String,
    /// `host:port` of its QUIC door, as clients reach it.
    pub quic: String,
}

impl PeerConfig {
    /// Resolves the peer endpoint; the first address wins. Blocks on the resolver where the host is a name.
    pub fn peer_addr(&self) -> std::io::Result<SocketAddr> {
        self.peer
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, format!("{} has no address", self.peer)))
    }
}

impl NodeConfig {
    /// All members but this node.
    pub fn others(&self) -> impl Iterator<Item = &PeerConfig> {
        self.peers.iter().filter(|peer| peer.id != self.node)
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The node starts; somebody may be surprised.
    Warning,
    /// The node does not start until it is corrected.
    Error,
    /// A safety check refuses: starting anyway could put data where it must not be. Exit code 3.
    Refusal,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConfigProblem {
    /// How bad.
    pub severity: Severity,
    /// The file or variable that says so; empty for what no layer says.
    pub place: String,
    /// Line in that file, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl ConfigProblem {
    /// A problem at the place that an origin names.
    pub fn at(severity: Severity, origin: &Origin, message: impl Into<String>) -> Self {
        Self { severity, place: origin.place(), line: origin.line(), message: message.into() }
    }

    /// A problem with the whole rather than with one line.
    pub fn of_whole(severity: Severity, message: impl Into<String>) -> Self {
        Self { severity, place: String::new(), line: None, message: message.into() }
    }
}

impl std::fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.place.as_str(), self.line) {
            ("", _) => f.write_str(&self.message),
            (place, Some(line)) => write!(f, "{place}:{line}: {}", self.message),
            (place, None) => write!(f, "{place}: {}", self.message),
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A file (TOML or env) and the line in it, from 1.
    File {
        /// As the operator named it.
        path: String,
        /// From 1.
        line: usize,
    },
    /// A variable of the process environment.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl Origin {
    fn place(&self) -> String {
        match self {
            Origin::Default => "default".to_owned(),
            Origin::File { path, .. } => path.clone(),
            Origin::Environment(name) => format!("${name}"),
            Origin::Flag(name) => name.clone(),
        }
    }

    fn line(&self) -> Option<usize> {
        match self {
            Origin::File { line, .. } => Some(*line),
            _ => None,
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line() {
            Some(line) => write!(f, "{}:{line}", self.place()),
            None => f.write_str(&self.place()),
        }
    }
}
