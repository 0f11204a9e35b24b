//! Apply: committed entries of a partition group become outcomes, leaves and a growing Merkle tree.
//!
//! Pure in the sense of the sentence: what it does is a function of the log. It reads no clock and no control group; it
//! never fails for a local reason but stops the group where it finds itself broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rkyv::rancor::Error;
use tokio::sync::watch;

use nethical_audit::leaf::LeafV1;
use nethical_audit::tree::Frontier;
use nethical_governance::command::{CommandV1, EntryV1};
use nethical_governance::ledger::{Applied, Lapsed, Ledger};
use nethical_governance::outcome::OutcomeV1;
use nethical_protocol::ids::{ControlRevision, LogId};
use nethical_protocol::{always, probe};

use crate::replicate::machine::{Fault, Machine, Reply};
use crate::store::AuditStore;
use crate::trail::{Record, Trail};

pub mod growth;
pub mod leaf;
pub mod proofs;

pub use growth::Growth;
pub use proofs::Proofs;

/// What a proposer gets back for its entry.
#[derive(Debug)]
pub struct AppliedEntry {
    /// Log time of the entry.
    pub now_ns: u64,
    /// One for each command.
    pub results: Vec<AppliedCommand>,
    /// What proofs of its leaves are made from, by whoever asks first.
    pub proofs: Proofs,
}

/// One command's outcome and, for a first execution, its record.
#[derive(Debug)]
pub struct AppliedCommand {
    /// The outcome.
    pub outcome: OutcomeV1,
    /// The record.
    pub record: Option<Made>,
}

/// The leaf that a command made.
#[derive(Debug, Clone)]
pub struct Made {
    /// Decoded.
    pub leaf: Arc<LeafV1>,
    /// RFC 6962 leaf hash.
    pub hash: [u8; 32],
}

/// A snapshot's bytes. Frozen per version.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct SnapshotV1 {
    group: u32,
    era: u32,
    ledger: Vec<u8>,
    leaves: u64,
    frontier: Vec<[u8; 32]>,
}

/// The state of a partition group.
pub struct PartitionMachine {
    log: LogId,
    /// The ledger; actors read it for moments only.
    pub ledger: Ledger,
    growth: Growth,
    /// Hashes of the leaves that the entry which is being applied has made so far.
    made: Vec<[u8; 32]>,
    position: watch::Sender<(u64, u64)>,
    /// [`crate::shared::Shared::newest_ns`].
    pub newest_ns: Arc<AtomicU64>,
}

impl PartitionMachine {
    /// A fresh log: its first leaf opens the era. Its replay must pass through what segments already hold.
    pub fn new(store: Arc<AuditStore>) -> Result<Self, Fault> {
        let (position, log) = (watch::channel((0, 0)).0, store.log());
        let (ledger, growth) = (Ledger::new(log.group.0), Growth::new(store));
        let mut machine = Self { log, ledger, growth, made: Vec::new(), position, newest_ns: Arc::default() };
        let (opened, _) = record_of(leaf::era_opened(log), Bytes::new());
        machine.keep(&opened);
        machine.growth.check_stored()?;
        Ok(machine)
    }

    /// The log's identity.
    pub fn log(&self) -> LogId {
        self.log
    }

    /// Leaves applied and the root over them.
    pub fn tree(&self) -> (u64, [u8; 32]) {
        (self.growth.size(), self.growth.frontier().root())
    }

    /// The applied position (term, index), now and from now on.
    pub fn position(&self) -> watch::Receiver<(u64, u64)> {
        self.position.subscribe()
    }

    /// Where unsealed leaves are.
    pub fn trail(&self) -> &Arc<Trail> {
        &self.growth.store().trail
    }

    fn keep(&mut self, record: &Arc<Record>) {
        self.made.push(record.hash);
        self.growth.keep(record);
    }

    /// Turns one applied command into its record, where it makes one.
    fn record(
        &mut self,
        term: u64,
        control_before: ControlRevision,
        applied: Applied,
        command: CommandV1,
    ) -> Result<AppliedCommand, Fault> {
        let Applied { outcome, leaf_index } = applied;
        let Some(leaf_index) = leaf_index else { return Ok(AppliedCommand { outcome, record: None }) };
        let place = self.place(leaf_index, term, control_before)?;
        let leaf = leaf::leaf_of(place, &command, &outcome)
            .ok_or_else(|| Fault("an outcome that makes a leaf has none".to_owned()))?;
        let is_skipped = command.is_skipped();
        let (record, leaf) = record_of(leaf, Bytes::from(command.body));
        if !is_skipped {
            self.keep(&record);
        }
        self.growth.check_stored()?;
        Ok(AppliedCommand { outcome, record: Some(Made { leaf, hash: record.hash }) })
    }

    /// An expiry's leaf, which no command asked for.
    fn record_lapsed(&mut self, term: u64, control_before: ControlRevision, lapsed: &Lapsed) -> Result<(), Fault> {
        let place = self.place(lapsed.leaf_index, term, control_before)?;
        let (record, _) = record_of(leaf::lapsed(place, &lapsed.what), Bytes::new());
        self.keep(&record);
        self.growth.check_stored()
    }

    /// The place of the next leaf, which must be the one that the ledger means.
    fn place(&self, leaf_index: u64, term: u64, control_before: ControlRevision) -> Result<leaf::Place, Fault> {
        let size = self.growth.size();
        if leaf_index != size {
            return Err(Fault(format!("the ledger counts {leaf_index} leaves, the tree {size}")));
        }
        Ok(leaf::Place { log: self.log, leaf_index, now_ns: self.ledger.now_ns(), term, control_before })
    }
}

fn record_of(leaf: LeafV1, body: Bytes) -> (Arc<Record>, Arc<LeafV1>) {
    let (index, leaf) = (leaf.leaf_index, Arc::new(leaf));
    let record = Record::new(index, Bytes::from(leaf.encode()), body, Some(leaf.clone()));
    (Arc::new(record), leaf)
}

impl Machine for PartitionMachine {
    fn apply(&mut self, term: u64, index: u64, payload: &Bytes, wanted: bool) -> Result<Reply, Fault> {
        let mut entry = rkyv::from_bytes::<EntryV1, Error>(payload)
            .map_err(|error| Fault(format!("a committed entry does not read: {error}")))?;
        if probe::planted("apply-reads-other-group") {
            entry.now_ns = self.newest_ns.fetch_max(entry.now_ns, Ordering::Relaxed).max(entry.now_ns);
        }
        let (first_leaf, before_ns) = (self.growth.size(), self.ledger.now_ns());
        let before = if wanted { self.growth.frontier().clone() } else { Frontier::default() };
        self.made.clear();
        let rises = entry.now_ns > before_ns || entry.term != term;
        always!(rises, "log-time-rises", "group {} {index}: {} after {before_ns}", self.log.group, entry.now_ns);
        let (proposed_in, stamp_ns) = (entry.term, entry.now_ns);
        let revision_before = self.ledger.control_revision();
        // One entry may hold several changes of control, each of which goes on where the one before ended.
        let mut revision = revision_before;
        let applied = self.ledger.apply_entry(term, &entry).map_err(|error| Fault(error.to_string()))?;
        for lapsed in self.ledger.take_lapsed() {
            self.record_lapsed(term, revision, &lapsed)?;
        }
        let mut results = Vec::with_capacity(applied.len());
        for (applied, command) in applied.into_iter().zip(entry.commands) {
            let control_before = revision;
            if let OutcomeV1::ControlApplied { revision: applied } = applied.outcome {
                revision = applied;
            }
            results.push(self.record(term, control_before, applied, command)?);
        }
        self.position.send_replace((term, index));
        let (leaves, counted) = (self.growth.size(), self.ledger.leaf_count());
        always!(leaves == counted, "tree-fits-ledger", "group {}: {leaves} and {counted}", self.log.group);
        if probe::ENABLED {
            let (group, made, crc) = (u64::from(self.log.group.0), leaves - first_leaf, crc32c::crc32c(payload));
            // Facts: group, log term, index, proposer's term, proposer's stamp, leaves before, leaves made, crc32c.
            let facts = [group, term, index, proposed_in, stamp_ns, first_leaf, made, u64::from(crc)];
            probe::observe("entry.applied", &facts);
            let revision = self.ledger.control_revision();
            if revision != revision_before {
                // Facts: group, control revision.
                probe::observe("control.revision", &[group, revision.0]);
            }
        }
        if !wanted {
            return Ok(Reply::default());
        }
        let proofs = Proofs::new(before, std::mem::take(&mut self.made));
        Ok(Reply::of(AppliedEntry { now_ns: self.ledger.now_ns(), results, proofs }))
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, Fault> {
        let snapshot = SnapshotV1 {
            group: self.log.group.0,
            era: self.log.era,
            ledger: self.ledger.to_bytes().map_err(|error| Fault(error.to_string()))?,
            leaves: self.growth.size(),
            frontier: self.growth.frontier().to_hashes(),
        };
        Ok(rkyv::to_bytes::<Error>(&snapshot).expect("encoding into memory cannot fail").into_vec())
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let fault = |why: String| Fault(format!("a snapshot of group {} does not read: {why}", self.log.group));
        let snapshot = rkyv::from_bytes::<SnapshotV1, Error>(bytes).map_err(|error| fault(error.to_string()))?;
        if (snapshot.group, snapshot.era) != (self.log.group.0, self.log.era) {
            return Err(fault(format!("it is of group {} era {}", snapshot.group, snapshot.era)));
        }
        let ledger = Ledger::from_bytes(&snapshot.ledger).map_err(|error| fault(error.to_string()))?;
        self.growth.restore(snapshot.leaves, snapshot.frontier).ok_or_else(|| fault("its frontier".into()))?;
        self.ledger = ledger;
        self.growth.check_stored()?;
        self.ledger.is_behind_snapshot = self.growth.is_behind_stored();
        Ok(())
    }

    fn leaves(&self) -> u64 {
        self.growth.size()
    }

    fn passed(&mut self, term: u64, index: u64) {
        if probe::planted("quarantine-lost-at-failover") {
            self.ledger.release_all();
        }
        self.position.send_replace((term, index));
    }
}

#[cfg(test)]
mod tests;
