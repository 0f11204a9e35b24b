//! A made-up audit trail that grows: one log, whose cursors are `c` and the number of entries before them.

use nethical_cluster::api::{EntryPage, EntryQuery, EntryView};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, GroupId, LogId};

/// See the module.
#[derive(Default)]
pub(super) struct Trail {
    size: u64,
    /// Groups that do not answer.
    silent: Vec<u32>,
}

impl super::Scripted {
    /// The audit trail has so many entries more.
    pub(crate) fn append(&self, entries: u64) {
        self.trail.lock().size += entries;
    }

    /// These groups do not answer questions to the audit trail.
    pub(crate) fn silence(&self, groups: Vec<u32>) {
        self.trail.lock().silent = groups;
    }
}

/// The entry at a place.
pub(crate) fn entry(leaf_index: u64) -> EntryView {
    EntryView {
        decision_id: DecisionId { log: LogId { group: GroupId(2), era: 1 }, leaf_index },
        kind: "decision".into(),
        at_ns: 1_700_000_000_000_000_000 + leaf_index,
        leaf_hash: String::new(),
        decision: None,
        body: Some(serde_json::json!({ "agent": "agent-1", "name": "search" })),
        body_state: None,
    }
}

impl Trail {
    /// A page, oldest first.
    pub(super) fn page(&self, query: &EntryQuery) -> Result<EntryPage, Problem> {
        let from = match &query.cursor {
            Some(cursor) => cursor.strip_prefix('c').and_then(|from| from.parse().ok()),
            None => Some(if query.from_end { self.size } else { 0 }),
        };
        let from: u64 = from.ok_or_else(|| Problem::new(Code::MalformedRequest, "the cursor is none of ours"))?;
        let end = self.size.min(from + query.limit.unwrap_or(50) as u64).max(from);
        let cursors = if query.cursors { (from..end).map(|at| format!("c{}", at + 1)).collect() } else { Vec::new() };
        Ok(EntryPage {
            entries: (from..end).map(entry).collect(),
            cursor: format!("c{end}"),
            more: end < self.size,
            incomplete: self.silent.clone(),
            cursors,
        })
    }
}
