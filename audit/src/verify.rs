//! Offline verification: rebuilds every log from segment bytes and names the first entry that does not fit.
//!
//! It believes nothing but the verifier keys and what the caller says about which logs there should be. A log is a
//! [`GroupLog`]; [`Verifier::verify`] reads one segment at a time, so memory is a segment, 32 B for each leaf (its
//! hash, to be held against other copies), and 24 B for each decision whose request id a client chose (a second decision of one
//! id must be found wherever it stands).
//!
//! What it cannot see: a log cut off at its end without a checkpoint that covers the end; a body changed together with
//! all checksums where its key is not given; a body removed together with all checksums, which looks like an
//! erased one (it is counted in `bodies_closed`). Checkpoints from elsewhere, and keys, close the first two gaps.

use std::collections::BTreeMap;

use nethical_protocol::ids::{KeyedId, LogId};
use serde::{Deserialize, Serialize};

use crate::body::{Dictionaries, SealedFor};
use crate::checkpoint::Checkpoint;
use crate::generations::Generations;
use crate::keys::BodyKeys;
use crate::note::VerifierKey;
use crate::tree::Hash;

pub mod cluster;
pub mod erased;
mod group;

use cluster::Claims;
use group::GroupCheck;

/// Gives the keys of a body of an agent, where the verifier may open it.
pub type KeySource<'a> = &'a dyn Fn(KeyedId, SealedFor) -> Option<BodyKeys>;

/// One log to verify.
#[derive(Debug, Clone)]
pub struct GroupLog<S> {
    /// Which log the segments should be of.
    pub log: LogId,
    /// (name, bytes) of each segment, first leaf first.
    pub segments: S,
    /// Signed checkpoints of this log, in any order, from wherever they were kept.
    pub checkpoints: Vec<String>,
}

/// What to believe.
pub struct Verifier<'a> {
    /// The cluster's name, first part of every origin.
    pub cluster: &'a str,
    /// The logs' keys, each named after its origin. Empty: checkpoints' roots are compared, signatures are not. For the
    /// cluster log, those of the logs that its leaves speak of are wanted, too.
    pub keys: &'a [VerifierKey],
    /// Which of these keys signed when; empty where it is not known.
    pub generations: &'a Generations,
    /// Opens bodies and compares their commitments where it is given.
    pub body_keys: Option<KeySource<'a>>,
    /// The dictionaries that tenants gave. What was packed with another one counts as closed.
    pub dictionaries: &'a Dictionaries,
}

/// The outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// True where nothing was found.
    pub ok: bool,
    /// Entries read, up to the first bad one of each log.
    pub entries: u64,
    /// Logs read.
    pub groups: u64,
    /// Checkpoints whose root (and signature, where keys were given) fits.
    pub checkpoints: u64,
    /// Bodies opened whose commitment fits.
    pub bodies_opened: u64,
    /// Sealed bodies for which there was no key or no dictionary, and entries without a body.
    pub bodies_closed: u64,
    /// Bodies sealed under keys that the log says are gone for good: erased, whether they are still stored or not.
    pub bodies_erased: u64,
    /// Of those, bodies that are not stored any more.
    #[serde(default)]
    pub bodies_dropped: u64,
    /// Bodies that are not stored any more because their time was over.
    #[serde(default)]
    pub bodies_expired: u64,
    /// Bodies that are in files of the cold tier, which are not read here.
    #[serde(default)]
    pub bodies_away: u64,
    /// What the cluster log says of the others, where it is among them; not held against them yet.
    #[serde(skip)]
    pub claims: Claims,
    /// The first entry that does not fit, of the first log that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<BadEntry>,
}

impl Report {
    /// Adds what came of another log.
    fn add(&mut self, other: Report) {
        self.ok &= other.ok;
        self.entries += other.entries;
        self.groups += other.groups;
        self.checkpoints += other.checkpoints;
        self.bodies_opened += other.bodies_opened;
        self.bodies_closed += other.bodies_closed;
        self.bodies_erased += other.bodies_erased;
        self.bodies_dropped += other.bodies_dropped;
        self.bodies_expired += other.bodies_expired;
        self.bodies_away += other.bodies_away;
        if other.claims.leaves() > 0 {
            self.claims = other.claims;
        }
        self.first_bad = self.first_bad.take().or(other.first_bad);
    }
}

/// What came of one log.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The verdict.
    pub report: Report,
    /// The hashes of the leaves that fit, in their order: 32 B of memory a leaf.
    pub hashes: Vec<Hash>,
}

/// An entry that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadEntry {
    /// The group whose log it is in.
    pub group: u32,
    /// The log's era.
    pub era: u32,
    /// The entry; where only a range is known, its start (the reason names the range).
    pub leaf_index: u64,
    /// Name of the segment, empty where the fault lies in none of them.
    pub segment: String,
    /// What does not fit, for a person.
    pub reason: String,
}

impl Verifier<'_> {
    /// Reads all logs. A log is read up to its first bad entry (that a request was decided twice is known at its end); the others are
    /// read all the same.
    pub fn verify<S, B>(&self, logs: impl IntoIterator<Item = GroupLog<S>>) -> Report
    where
        S: IntoIterator<Item = (String, B)>,
        B: AsRef<[u8]>,
    {
        let mut report = Report { ok: true, ..Report::default() };
        for log in logs {
            report.add(self.verify_one(log).report);
        }
        report
    }

    /// Reads one log, up to its first bad entry, and gives its leaves' hashes as well. Logs know nothing of each other, so
    /// threads may read one each.
    pub fn verify_one<S, B>(&self, log: GroupLog<S>) -> Checked
    where
        S: IntoIterator<Item = (String, B)>,
        B: AsRef<[u8]>,
    {
        let mut check = GroupCheck::new(self, log.log);
        let first_bad = self.verify_log(&mut check, log).err();
        check.into_checked(first_bad)
    }

    fn verify_log<S, B>(&self, check: &mut GroupCheck<'_>, log: GroupLog<S>) -> Result<(), BadEntry>
    where
        S: IntoIterator<Item = (String, B)>,
        B: AsRef<[u8]>,
    {
        check.expect_checkpoints(self.open_checkpoints(log.log, &log.checkpoints)?)?;
        for (name, bytes) in log.segments {
            check.segment(&name, bytes.as_ref())?;
        }
        check.finish()
    }

    /// The roots that checkpoints claim, by size. Two of one size with different roots are a split view.
    fn open_checkpoints(&self, log: LogId, notes: &[String]) -> Result<BTreeMap<u64, [u8; 32]>, BadEntry> {
        let origin = log.origin(self.cluster);
        let bad = |leaf_index, reason: String| BadEntry {
            group: log.group.0,
            era: log.era,
            leaf_index,
            segment: String::new(),
            reason,
        };
        let mut roots = BTreeMap::new();
        for note in notes {
            let opened = if self.keys.is_empty() {
                Checkpoint::parse_unverified(note)
            } else {
                Checkpoint::open(note, &origin, self.keys)
            };
            let checkpoint = opened.map_err(|error| bad(0, format!("a checkpoint is not to be believed: {error}")))?;
            if checkpoint.origin != origin {
                return Err(bad(0, format!("a checkpoint is of log {:?}, not of {origin:?}", checkpoint.origin)));
            }
            if roots.insert(checkpoint.size, checkpoint.root).is_some_and(|root| root != checkpoint.root) {
                let size = checkpoint.size;
                return Err(bad(size.saturating_sub(1), format!("two checkpoints of {size} leaves have two roots")));
            }
        }
        Ok(roots)
    }
}

#[cfg(test)]
#[path = "verify/verify_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "verify/warm_tests.rs"]
mod warm_tests;
