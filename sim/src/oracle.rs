//! The oracle: holds what clients were told against the audit logs of all nodes, after everything has healed.
//!
//! Each check is a function of its own and gives sentences; an empty list means that the check found nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use nethical_protocol::decision::Verdict;
use nethical_protocol::ids::{DecisionId, GroupId, LogId, NodeId};

use crate::history::{History, Operation, Told};
use crate::workload::{PACE, PURSE, SINGLE, SPREAD, SUSPECT};

/// A second in log time.
const SECOND_NS: u128 = 1_000_000_000;

/// One entry of an audit log, as a reader sees it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it stands.
    pub id: DecisionId,
    /// `decision`, `hold-placed`, …
    pub kind: String,
    /// Log time, nanoseconds since 1970.
    pub at_ns: u64,
    /// For decisions: the request and what it was told.
    pub decision: Option<(String, Told)>,
}

/// One node's replica of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Leaf hashes, recomputed from the stored leaves.
    pub hashes: Vec<[u8; 32]>,
    /// The root that the node's state has.
    pub root: [u8; 32],
    /// The root over `hashes`.
    pub recomputed: [u8; 32],
}

/// Everything that was found after the run.
pub struct Findings {
    /// Clients' record.
    pub history: History,
    /// The entries of all groups, in order of group and index.
    pub entries: Vec<Entry>,
    /// All replicas of all logs.
    pub logs: BTreeMap<(GroupId, NodeId), Log>,
}

impl Findings {
    /// All checks of safety.
    pub fn check(&self) -> Vec<String> {
        let operations = self.history.operations();
        let recorded = self.recorded();
        let mut violations = self.history.contradictions();
        violations.extend(self.check_replicas());
        violations.extend(check_once(&recorded));
        violations.extend(check_acknowledged(&operations, &recorded));
        violations.extend(check_phantoms(&operations, &recorded));
        violations.extend(check_purse(&operations, &recorded));
        violations.extend(self.check_pace(&operations));
        violations.extend(self.check_quarantine(&operations));
        violations
    }

    /// Decisions by request.
    fn recorded(&self) -> BTreeMap<String, Vec<Told>> {
        let mut recorded: BTreeMap<String, Vec<Told>> = BTreeMap::new();
        for (request, told) in self.entries.iter().filter_map(|entry| entry.decision.as_ref()) {
            recorded.entry(request.clone()).or_default().push(told.clone());
        }
        recorded
    }

    /// Replicas of a log are equal, and each one's root is the root of its leaves.
    fn check_replicas(&self) -> Vec<String> {
        let mut violations = Vec::new();
        let mut firsts: BTreeMap<GroupId, (NodeId, &Log)> = BTreeMap::new();
        for ((group, node), log) in &self.logs {
            if log.root != log.recomputed {
                violations.push(format!(
                    "group {group} on node {node}: its root is not the root of its {} leaves",
                    log.hashes.len()
                ));
            }
            let (first_node, first) = *firsts.entry(*group).or_insert((*node, log));
            let common = first.hashes.iter().zip(&log.hashes).take_while(|(left, right)| left == right).count();
            if common < first.hashes.len().min(log.hashes.len()) {
                violations.push(format!("group {group}: nodes {first_node} and {node} differ from leaf {common} on"));
            }
        }
        violations
    }

    /// Between the leaf of the quarantine and the leaf of the release nothing of the agent is allowed; nor is anything
    /// that was first asked for after the acknowledgement and answered before the release was called.
    fn check_quarantine(&self, operations: &BTreeMap<String, Operation>) -> Vec<String> {
        let quarantine = self.history.quarantine();
        let Some((placed_at, placed)) = quarantine.placed else {
            return vec!["the quarantine was never acknowledged".to_owned()];
        };
        let until = quarantine.release_called.unwrap_or(Duration::MAX);
        let is_suspect = |operation: &Operation| operation.tenant == SPREAD && operation.agent == SUSPECT;
        let allowed = |told: &Told| told.verdict.is_allowed();
        let mut violations = Vec::new();
        for (request, operation) in operations.iter().filter(|(_, operation)| is_suspect(operation)) {
            let (Some(told), Some(answered)) = (&operation.told, operation.answered) else { continue };
            if allowed(told) && operation.invoked >= placed_at && answered <= until {
                violations.push(format!("{request} was allowed during the quarantine: {told:?}"));
            }
        }
        let lifted = self
            .entries
            .iter()
            .find(|entry| entry.kind == "hold-lifted" && entry.id.log == placed.log && entry.id > placed);
        let lifted_at = lifted.map_or(u64::MAX, |entry| entry.id.leaf_index);
        for entry in self
            .entries
            .iter()
            .filter(|entry| entry.id.log == placed.log && entry.id > placed && entry.id.leaf_index < lifted_at)
        {
            let Some((request, told)) = &entry.decision else { continue };
            if allowed(told) && operations.get(request).is_some_and(is_suspect) {
                violations.push(format!(
                    "{request} is allowed in leaf {} between quarantine {placed} and release {lifted_at}",
                    entry.id
                ));
            }
        }
        violations
    }

    /// In no interval of log time has an agent been allowed more than `rate · interval + burst`.
    fn check_pace(&self, operations: &BTreeMap<String, Operation>) -> Vec<String> {
        let mut times: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for entry in &self.entries {
            let Some((request, told)) = &entry.decision else { continue };
            let Some(operation) = operations.get(request).filter(|operation| operation.tenant == SPREAD) else {
                continue;
            };
            if told.verdict.is_allowed() {
                times.entry(&operation.agent).or_default().push(entry.at_ns);
            }
        }
        let (rate, burst) = (u128::from(PACE.0), u128::from(PACE.1));
        let mut violations = Vec::new();
        for (agent, times) in times {
            for (first, from) in times.iter().enumerate() {
                let worst = times[first..].iter().enumerate().find(|(more, to)| {
                    let room = u128::from(**to - *from) * rate + burst * SECOND_NS;
                    (*more as u128 + 1) * SECOND_NS > room
                });
                if let Some((more, to)) = worst {
                    violations.push(format!("{agent} was allowed {} requests within {} ns", more + 1, to - from));
                    break;
                }
            }
        }
        violations
    }

    /// What a run must have shown for its checks to mean something: each that has not been seen is named.
    pub fn unseen(&self) -> Vec<String> {
        let recorded: Vec<&Told> =
            self.entries.iter().filter_map(|entry| entry.decision.as_ref().map(|(_, told)| told)).collect();
        let refused_by = |limit: &str| recorded.iter().any(|told| told.violated.iter().any(|id| id == limit));
        let quarantine = self.history.quarantine();
        let suspect = |operation: &&Operation| operation.tenant == SPREAD && operation.agent == SUSPECT;
        let operations = self.history.operations();
        let blocked = operations.values().filter(suspect).any(|operation| {
            let during = quarantine.placed.is_some_and(|(at, _)| operation.invoked >= at);
            during && operation.told.as_ref().is_some_and(|told| !told.verdict.is_allowed())
        });
        let goals = [
            ("the rate limit refused something", refused_by("pace")),
            ("the budget ran out", refused_by("purse")),
            ("the quarantine stopped something", blocked),
            ("the quarantine was released", quarantine.released.is_some()),
            ("something was restricted", recorded.iter().any(|told| told.verdict == Verdict::Restrict)),
            ("a recorded outcome was answered again", self.history.replays() > 0),
            ("a request needed more than one attempt", operations.values().any(|operation| operation.attempts > 1)),
        ];
        goals.into_iter().filter(|(_, seen)| !seen).map(|(goal, _)| goal.to_owned()).collect()
    }
}

fn check_once(recorded: &BTreeMap<String, Vec<Told>>) -> Vec<String> {
    let twice = recorded.iter().filter(|(_, told)| told.len() > 1);
    twice.map(|(request, told)| format!("{request} has {} leaves: {told:?}", told.len())).collect()
}

/// Every acknowledged decision is in the logs, with the same verdict at the same place in the same leaf.
fn check_acknowledged(operations: &BTreeMap<String, Operation>, recorded: &BTreeMap<String, Vec<Told>>) -> Vec<String> {
    let told = operations.iter().filter_map(|(request, operation)| operation.told.as_ref().map(|told| (request, told)));
    told.filter_map(|(request, told)| match recorded.get(request).and_then(|found| found.first()) {
        None => Some(format!("{request} was acknowledged as {} and is in no log", told.id)),
        Some(found) if found != told => Some(format!("{request} was told {told:?}; its leaf says {found:?}")),
        Some(_) => None,
    })
    .collect()
}

/// Nothing is recorded that nobody asked for, or whose asker was told that it did not happen.
fn check_phantoms(operations: &BTreeMap<String, Operation>, recorded: &BTreeMap<String, Vec<Told>>) -> Vec<String> {
    recorded
        .keys()
        .filter_map(|request| match operations.get(request) {
            None => Some(format!("{request} is recorded and nobody asked for it")),
            Some(operation) => operation.refused.map(|code| format!("{request} was refused as {code} and is recorded")),
        })
        .collect()
}

/// What was allowed has not cost more than the budget.
fn check_purse(operations: &BTreeMap<String, Operation>, recorded: &BTreeMap<String, Vec<Told>>) -> Vec<String> {
    let spent: u64 = recorded
        .iter()
        .filter(|(_, told)| told.iter().any(|told| told.verdict.is_allowed()))
        .filter_map(|(request, _)| operations.get(request).filter(|operation| operation.tenant == SINGLE))
        .map(|operation| operation.credits)
        .sum();
    if spent > PURSE { vec![format!("{spent} credits were allowed of a budget of {PURSE}")] } else { Vec::new() }
}

/// The first decision's place in a zone's logs, for reading all of them from the start.
pub fn before_all() -> DecisionId {
    DecisionId { log: LogId { group: GroupId(GroupId::FIRST_PARTITION), era: 1 }, leaf_index: 0 }
}
