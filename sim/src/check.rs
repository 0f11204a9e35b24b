//! The checks after a run: what clients were told against the audit logs of all nodes, once everything has healed.
//!
//! One invariant a file; each names its source, gives sentences, and finds nothing by giving none. Nothing here knows of
//! planted bugs, and nothing in here may be made looser to let one run pass.

use std::collections::BTreeMap;

use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1};
use nethical_protocol::ids::{DecisionId, GroupId, NodeId};

use crate::history::{History, Operation, Told};
use crate::plan::Plan;
use crate::watch::Violation;

pub mod acknowledged;
pub mod admission;
pub mod approval;
pub mod automatic;
pub mod cluster_log;
pub mod erasure;
pub mod evaluation;
pub mod hold;
pub mod linearizable;
pub mod log_time;
pub mod once;
pub mod phantom;
pub mod porcupine;
pub mod proofs;
pub mod quota;
pub mod replicas;
pub mod reservation;
pub mod retention;
pub mod retry;
pub mod risk;
pub mod search;
pub mod segments;
pub mod signing;
pub mod sometimes;
pub mod text;
pub mod tiers;

/// One entry of an audit log, as a reader of the interface sees it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it stands.
    pub id: DecisionId,
    /// The request and what it was told.
    pub decision: Option<(String, Told)>,
    /// Why its body is not shown, where it is not.
    pub body_state: Option<String>,
}

/// One node's replica of one log.
#[derive(Debug, Clone)]
pub struct Log {
    /// The leaves as stored.
    pub leaves: Vec<LeafV1>,
    /// Their hashes, recomputed.
    pub hashes: Vec<[u8; 32]>,
    /// The root that the node's state has.
    pub root: [u8; 32],
    /// The root over `hashes`.
    pub recomputed: [u8; 32],
    /// The last entry applied (term, index), and the digest of the ledger after it.
    pub ledger: ((u64, u64), [u8; 32]),
}

/// What a node has of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// SHA-256 over the hashes of its leaves and of its bodies as they were stored.
    pub records: [u8; 32],
    /// SHA-256 of its file, where that is as it was closed.
    pub file: Option<[u8; 32]>,
}

/// What nodes have of one segment, or why it does not read.
pub type Copies = BTreeMap<NodeId, Result<Copy, String>>;
/// Closed segments by log and first leaf.
pub type Segments = BTreeMap<(GroupId, u64), Copies>;

/// Everything that was found after the run.
pub struct Findings<'a> {
    /// The run.
    pub plan: &'a Plan,
    /// Clients' record.
    pub history: History,
    /// All operations by request.
    pub operations: BTreeMap<String, Operation>,
    /// The entries of all groups, in order of group and index.
    pub entries: Vec<Entry>,
    /// All replicas of all logs.
    pub logs: BTreeMap<(GroupId, NodeId), Log>,
    /// What nodes have of each closed audit segment.
    pub segments: Segments,
    /// Bodies that are dropped and should not be, or the other way round.
    pub misplaced: Vec<String>,
    /// What replicas found in their own logs.
    pub searches: Vec<search::Searched>,
    /// What nodes found by words.
    pub texts: Vec<text::Sought>,
    /// Proofs that nodes gave, with the leaf hash that the client was told.
    pub proofs: Vec<proofs::Given>,
    /// The texts of the keys that checkpoints are verified with, of all generations, by group.
    pub keys: BTreeMap<GroupId, Vec<String>>,
    /// Those by which nodes vouch for checkpoints.
    pub cosigners: Vec<String>,
    /// Signing keys.
    pub signing: signing::Keys,
    /// Erasures that are not complete long after everything has healed.
    pub unfinished: Vec<String>,
    /// How long bodies are to be kept, and when they were read.
    pub kept: retention::Kept,
    /// The leaves of the cluster log as each node that keeps it has stored them.
    pub cluster: BTreeMap<NodeId, Vec<Vec<u8>>>,
    /// Size and root of each tree of it that the witness signed.
    pub witnessed: Vec<(u64, [u8; 32])>,
}

/// A decision in a log.
#[derive(Clone, Copy)]
pub struct Recorded<'a> {
    /// Its leaf.
    pub leaf: &'a LeafV1,
    /// What was decided.
    pub decision: &'a DecisionLeaf,
    /// The request.
    pub request: &'a str,
    /// The request as its client saw it; none where nobody asked for it.
    pub operation: Option<&'a Operation>,
}

/// Each check with its name.
type Check = fn(&Findings<'_>) -> Vec<String>;

/// All of them, in the order in which they run.
pub const CHECKS: [(&str, Check); 24] = [
    ("replicas", replicas::check),
    ("segments-equal", segments::check),
    ("tiers", tiers::check),
    ("once", once::check),
    ("acknowledged", acknowledged::check),
    ("phantom", phantom::check),
    ("admission", admission::check),
    ("quota", quota::check),
    ("reservation", reservation::check),
    ("retry", retry::check),
    ("hold", hold::check),
    ("approval", approval::check),
    ("automatic", automatic::check),
    ("evaluation", evaluation::check),
    ("risk", risk::check),
    ("log-time", log_time::check),
    ("linearizable", linearizable::check),
    ("search", search::check),
    ("text", text::check),
    ("proofs", proofs::check),
    ("erasure", erasure::check),
    ("retention", retention::check),
    ("cluster-log", cluster_log::check),
    ("signing", signing::check),
];

impl<'a> Findings<'a> {
    /// Runs all checks.
    pub fn check(&self, at_ms: u64) -> Vec<Violation> {
        let named = |(name, check): &(&'static str, Check)| {
            let found = check(self).into_iter();
            found.map(|what| Violation { check: name, at_ms, what }).collect::<Vec<_>>()
        };
        let mut violations: Vec<Violation> = CHECKS.iter().flat_map(named).collect();
        violations.extend(porcupine::check(self).into_iter().map(|what| Violation { check: "porcupine", at_ms, what }));
        violations
    }

    /// Decisions by request.
    pub fn recorded(&self) -> BTreeMap<&str, Vec<&Told>> {
        let mut recorded: BTreeMap<&str, Vec<&Told>> = BTreeMap::new();
        for (request, told) in self.entries.iter().filter_map(|entry| entry.decision.as_ref()) {
            recorded.entry(request).or_default().push(told);
        }
        recorded
    }

    /// One replica of each log: the longest.
    pub fn longest(&self) -> BTreeMap<GroupId, &Log> {
        let mut longest: BTreeMap<GroupId, &Log> = BTreeMap::new();
        for ((group, _), log) in &self.logs {
            let best = longest.entry(*group).or_insert(log);
            if log.leaves.len() > best.leaves.len() {
                *best = log;
            }
        }
        longest
    }

    /// The decisions of one log in order, with their requests.
    pub fn decisions(&'a self, log: &'a Log) -> impl Iterator<Item = Recorded<'a>> + 'a {
        let place = |leaf: &LeafV1| (leaf.group, leaf.leaf_index);
        let first = log.leaves.first().map_or((0, 0), place);
        let begin = self.entries.partition_point(|entry| (entry.id.log.group.0, entry.id.leaf_index) < first);
        let requests: BTreeMap<u64, &str> = self.entries[begin..]
            .iter()
            .take_while(move |entry| entry.id.log.group.0 == first.0)
            .filter_map(|entry| Some((entry.id.leaf_index, entry.decision.as_ref()?.0.as_str())))
            .collect();
        log.leaves.iter().filter_map(move |leaf| {
            let LeafEvent::Decision(decision) = &leaf.event else { return None };
            let request = requests.get(&leaf.leaf_index).copied().unwrap_or("");
            Some(Recorded { leaf, decision, request, operation: self.operations.get(request) })
        })
    }
}
