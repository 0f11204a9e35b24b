//! The cluster log as the control group applies it: one leaf for each checkpoint of a partition's log that covers more
//! leaves than the last one of that log did.
//!
//! Pure: what becomes a leaf is a function of the entries. Whether a checkpoint is signed was judged by who proposed it; that
//! the key it is signed by is in force at this very place is judged here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use nethical_audit::cluster::ClusterLeaf;
use nethical_audit::generations::Generations;
use nethical_audit::tree::Hash;
use nethical_protocol::ids::{GroupId, LogId};

use crate::apply::Growth;
use crate::replicate::machine::Fault;
use crate::store::AuditStore;
use crate::trail::Record;

/// Checkpoints in one entry: as many as a zone may have partitions.
pub const CHECKPOINTS_MAX: usize = 1_024;

/// The newest checkpoint of a partition's log in the cluster log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// Leaves that it covers.
    pub size: u64,
    /// Its leaf in the cluster log.
    pub index: u64,
}

/// What a snapshot keeps of the cluster log. Frozen per version.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ClusterLogV1 {
    leaves: u64,
    frontier: Vec<Hash>,
    /// Group, era, leaves covered, leaf in the cluster log; ascending.
    newest: Vec<(u32, u32, u64, u64)>,
}

/// The cluster log's state.
pub struct ClusterLog {
    cluster: String,
    growth: Growth,
    newest: BTreeMap<LogId, Newest>,
}

impl ClusterLog {
    /// A log without leaves, whose replay must pass through what `store` holds already.
    pub fn new(cluster: &str, store: Arc<AuditStore>) -> Self {
        Self { cluster: cluster.to_owned(), growth: Growth::new(store), newest: BTreeMap::new() }
    }

    /// Leaves applied and the root over them.
    pub fn tree(&self) -> (u64, Hash) {
        (self.growth.size(), self.growth.frontier().root())
    }

    /// The newest checkpoint of a partition's log.
    pub fn newest(&self, log: LogId) -> Option<Newest> {
        self.newest.get(&log).copied()
    }

    /// Makes leaves of those checkpoints that say more than the last of their log, and that a key in force signed. Gives how
    /// many.
    ///
    /// # Errors
    /// Where the replayed tree is not the one that was stored.
    pub fn apply(&mut self, notes: &[String], generations: &Generations) -> Result<u64, Fault> {
        let before = self.growth.size();
        for note in notes.iter().take(CHECKPOINTS_MAX) {
            let Ok(leaf) = ClusterLeaf::decode(&self.cluster, note.as_bytes()) else { continue };
            let (index, size) = (self.growth.size(), leaf.checkpoint.size);
            let is_old = self.newest.get(&leaf.log).is_some_and(|newest| newest.size >= size);
            let may_stand = generations.may_have_signed(&leaf.checkpoint.origin, leaf.key_id, index).is_ok();
            if is_old || !may_stand {
                continue;
            }
            self.newest.insert(leaf.log, Newest { size, index });
            let bytes = Bytes::copy_from_slice(note.as_bytes());
            self.growth.keep(&Arc::new(Record::new(index, bytes, Bytes::new(), None)));
            self.growth.check_stored()?;
        }
        Ok(self.growth.size() - before)
    }

    /// What a snapshot keeps.
    pub fn to_snapshot(&self) -> ClusterLogV1 {
        let row = |(log, newest): (&LogId, &Newest)| (log.group.0, log.era, newest.size, newest.index);
        ClusterLogV1 {
            leaves: self.growth.size(),
            frontier: self.growth.frontier().to_hashes(),
            newest: self.newest.iter().map(row).collect(),
        }
    }

    /// Goes on from a snapshot.
    ///
    /// # Errors
    /// Where it contradicts itself, or what is stored here.
    pub fn restore(&mut self, snapshot: ClusterLogV1) -> Result<(), Fault> {
        let row = |(group, era, size, index)| (LogId { group: GroupId(group), era }, Newest { size, index });
        let newest: BTreeMap<LogId, Newest> = snapshot.newest.into_iter().map(row).collect();
        let fits = newest.values().all(|newest| newest.index < snapshot.leaves);
        let restored = self.growth.restore(snapshot.leaves, snapshot.frontier).filter(|()| fits);
        restored.ok_or_else(|| Fault("a control snapshot's cluster log contradicts itself".to_owned()))?;
        self.newest = newest;
        self.growth.check_stored()
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
