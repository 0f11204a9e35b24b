//! The checks of one log, leaf by leaf.

use std::collections::BTreeMap;

use nethical_protocol::ids::{GroupId, KeyedId, LogId};
use sha2::{Digest, Sha256};

use super::cluster::Claims;
use super::erased::Erased;
use super::{BadEntry, Checked, Report, Verifier};
use crate::body::{self, BodyError};
use crate::leaf::{LeafEvent, LeafV1};
use crate::segment::warm::check_warm;
use crate::segment::{
    Fault, Record, ScanEnd, SegmentError, SegmentFooter, SegmentMeta, SegmentScan, SegmentSeal, WarmFooter, WarmHeader,
};
use crate::tree::{self, Frontier, Hash};

/// A log as far as it was read.
pub(super) struct GroupCheck<'a> {
    verifier: &'a Verifier<'a>,
    log: LogId,
    cluster_hash: Hash,
    tree: Frontier,
    /// Roots still to be reached, by size.
    roots: BTreeMap<u64, Hash>,
    /// The greatest size whose root was as signed.
    believed_size: u64,
    /// (first leaf, name) of each segment begun.
    segments: Vec<(u64, String)>,
    /// True where the last segment was closed, or there was none.
    last_is_closed: bool,
    /// Request ids that clients chose, and their leaves; sorted once, when all is read.
    requests: Vec<(KeyedId, u64)>,
    erased: Erased,
    /// Of the cluster log.
    claims: Claims,
    /// Of the leaves that fit.
    hashes: Vec<Hash>,
    checkpoints_passed: u64,
    bodies_opened: u64,
    bodies_closed: u64,
    bodies_dropped: u64,
    bodies_expired: u64,
    bodies_away: u64,
}

impl<'a> GroupCheck<'a> {
    pub(super) fn new(verifier: &'a Verifier<'a>, log: LogId) -> Self {
        Self {
            verifier,
            log,
            cluster_hash: Sha256::digest(verifier.cluster).into(),
            tree: Frontier::default(),
            roots: BTreeMap::new(),
            believed_size: 0,
            segments: Vec::new(),
            last_is_closed: true,
            requests: Vec::new(),
            erased: Erased::default(),
            claims: Claims::default(),
            hashes: Vec::new(),
            checkpoints_passed: 0,
            bodies_opened: 0,
            bodies_closed: 0,
            bodies_dropped: 0,
            bodies_expired: 0,
            bodies_away: 0,
        }
    }

    /// Entries that fit.
    fn entries(&self) -> u64 {
        self.tree.size()
    }

    /// What came of the log, where reading it ended with `bad`.
    pub(super) fn into_checked(mut self, bad: Option<BadEntry>) -> Checked {
        // Only what was read is known of, so what was decided twice was so before reading ended.
        let first_bad = self.decided_twice().or(bad);
        let report = Report {
            ok: first_bad.is_none(),
            entries: self.entries(),
            groups: 1,
            checkpoints: self.checkpoints_passed,
            bodies_opened: self.bodies_opened,
            bodies_closed: self.bodies_closed,
            bodies_erased: self.erased.count(),
            bodies_dropped: self.bodies_dropped,
            bodies_expired: self.bodies_expired,
            bodies_away: self.bodies_away,
            claims: self.claims,
            first_bad,
        };
        Checked { report, hashes: self.hashes }
    }

    /// The first leaf that decides a request of a leaf before it.
    fn decided_twice(&mut self) -> Option<BadEntry> {
        self.requests.sort_unstable();
        let again = self.requests.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| (pair[1].1, pair[0].1));
        let (at, first) = again.min()?;
        Some(self.bad(at, format!("the request was decided before, by leaf {first}")))
    }

    fn append(&mut self, hash: Hash) -> Result<(), BadEntry> {
        self.tree.append(hash);
        self.hashes.push(hash);
        self.check_root()
    }

    /// Takes the roots that checkpoints claim.
    pub(super) fn expect_checkpoints(&mut self, roots: BTreeMap<u64, Hash>) -> Result<(), BadEntry> {
        self.roots = roots;
        self.check_root()
    }

    /// Reads one segment.
    pub(super) fn segment(&mut self, name: &str, bytes: &[u8]) -> Result<(), BadEntry> {
        let next = self.entries();
        if !self.last_is_closed {
            return Err(self.bad(next, "the segment before has no footer, yet another one follows"));
        }
        self.segments.push((next, name.to_owned()));
        if WarmHeader::is_in_front_of(bytes) {
            return self.warm_segment(bytes);
        }
        let mut scan = SegmentScan::new(bytes).map_err(|error| self.bad(next, error))?;
        self.check_meta(scan.meta())?;
        let claimed = match SegmentFooter::decode_end(bytes) {
            Ok(footer) => Some(footer),
            Err(SegmentError::NoFooter) => None,
            Err(error) => return Err(self.bad(next, error)),
        };
        let first = next;
        for record in scan.by_ref() {
            let hash = tree::leaf_hash(record.leaf);
            let inside = (record.leaf_index - first) as usize;
            if claimed.as_ref().is_some_and(|footer| footer.leaf_hashes.get(inside) != Some(&hash)) {
                return Err(self.bad(record.leaf_index, "the leaf's hash is not the one in the segment's footer"));
            }
            self.record(record, hash)?;
        }
        self.last_is_closed = match scan.finish() {
            ScanEnd::Closed => true,
            ScanEnd::Open => false,
            ScanEnd::Damaged { offset, leaf_index, damage } => {
                return Err(self.bad(leaf_index, format!("at byte {offset} of the segment: {damage}")));
            }
        };
        Ok(())
    }

    /// What can be said only after the last segment.
    pub(super) fn finish(&mut self) -> Result<(), BadEntry> {
        let entries = self.entries();
        if let Some(at) = self.erased.unexplained() {
            let reason = "its body was dropped as erased, and no leaf here says that a key that it needs is gone";
            return Err(self.bad(at, reason));
        }
        match self.roots.last_key_value() {
            Some((size, _)) => {
                let reason = format!("a checkpoint covers {size} leaves, only {entries} are here");
                Err(self.bad(entries, reason))
            }
            None => Ok(()),
        }
    }

    /// Reads one warm segment: what it says of itself must be what its leaves and bodies come to.
    fn warm_segment(&mut self, bytes: &[u8]) -> Result<(), BadEntry> {
        let next = self.entries();
        let header = WarmHeader::decode(bytes).map_err(|error| self.bad(next, error))?;
        self.check_meta(&header.meta)?;
        let footer = WarmFooter::decode_end(bytes).map_err(|error| self.bad(next, error))?;
        let seal = SegmentSeal::of_warm(&header, &footer);
        let mut bad = None;
        let checked = check_warm(&seal, bytes, |leaf_index, leaf, body| {
            let record = Record { leaf_index, leaf, body };
            bad = bad.take().or_else(|| self.record(record, tree::leaf_hash(leaf)).err());
        });
        if let Some(bad) = bad {
            return Err(bad);
        }
        let told = |fault: Fault| self.bad(fault.first, fault.flaw);
        checked.map(drop).map_err(told)?;
        self.last_is_closed = true;
        Ok(())
    }

    fn check_meta(&self, meta: &SegmentMeta) -> Result<(), BadEntry> {
        let next = self.entries();
        if meta.cluster_hash != self.cluster_hash {
            return Err(self.bad(next, format!("the segment is not of cluster {:?}", self.verifier.cluster)));
        }
        if meta.log != self.log {
            return Err(self.bad(next, format!("the segment is of group {} era {}", meta.log.group, meta.log.era)));
        }
        if meta.first_index != next {
            let reason = format!("the segment starts at leaf {}, leaf {next} is expected", meta.first_index);
            return Err(self.bad(next, reason));
        }
        Ok(())
    }

    fn record(&mut self, record: Record<'_>, hash: Hash) -> Result<(), BadEntry> {
        let at = record.leaf_index;
        if self.log.group == GroupId::CONTROL {
            self.check_cluster_leaf(&record)?;
            return self.append(hash);
        }
        let leaf = LeafV1::decode(record.leaf).map_err(|error| self.bad(at, error))?;
        self.check_place(at, &leaf)?;
        self.note_request(at, &leaf);
        self.check_body(at, &leaf, record.body)?;
        self.append(hash)
    }

    /// A leaf of the cluster log is a checkpoint that says more than the last one of its log, and has no body.
    fn check_cluster_leaf(&mut self, record: &Record<'_>) -> Result<(), BadEntry> {
        if !record.body.is_empty() {
            return Err(self.bad(record.leaf_index, "a leaf of the cluster log has no body"));
        }
        let added = self.claims.add(self.verifier.cluster, record.leaf, self.verifier.keys, self.verifier.generations);
        added.map_err(|reason| self.bad(record.leaf_index, reason))
    }

    fn check_place(&self, at: u64, leaf: &LeafV1) -> Result<(), BadEntry> {
        if leaf.leaf_index != at {
            return Err(self.bad(at, format!("the leaf says that it is number {}", leaf.leaf_index)));
        }
        if (leaf.group, leaf.era) != (self.log.group.0, self.log.era) {
            return Err(self.bad(at, format!("the leaf says that it is of group {} era {}", leaf.group, leaf.era)));
        }
        let opens_era = matches!(leaf.event, LeafEvent::EraOpened { .. });
        if opens_era && at != 0 {
            return Err(self.bad(at, "an era is opened by its first leaf only"));
        }
        if !opens_era && at == 0 && self.log.era > 1 {
            return Err(self.bad(at, "the first leaf of a later era does not say what the era continues from"));
        }
        Ok(())
    }

    fn note_request(&mut self, at: u64, leaf: &LeafV1) {
        if let LeafEvent::Decision(decision) = &leaf.event
            && decision.client_chosen
        {
            self.requests.push((decision.request, at));
        }
    }

    fn check_body(&mut self, at: u64, leaf: &LeafV1, stored: &[u8]) -> Result<(), BadEntry> {
        self.erased.take(leaf, stored);
        match body::dropped(stored).map(|dropped| dropped.reason) {
            // Whether the log says so is known at its end.
            Some(body::Reason::Erased) => {
                self.bodies_dropped += 1;
                return Ok(());
            }
            Some(body::Reason::Expired) => {
                self.bodies_expired += 1;
                return Ok(());
            }
            Some(body::Reason::Away) => {
                self.bodies_away += 1;
                return Ok(());
            }
            None => {}
        }
        let sealed_for = body::sealed_for(stored);
        let agent = leaf.event.agent().map(|(_, _, agent)| agent);
        let keys = sealed_for.zip(agent).and_then(|(sealed_for, agent)| self.verifier.body_keys?(agent, sealed_for));
        let opened = match keys {
            _ if body::is_plain(stored) => body::open_plain(stored),
            Some(keys) => body::open(&keys, stored, self.verifier.dictionaries),
            None if stored.is_empty() || sealed_for.is_some() => {
                self.bodies_closed += 1;
                return Ok(());
            }
            None => Err(BodyError::Malformed),
        };
        if let Err(BodyError::Dictionary(_)) = opened {
            self.bodies_closed += 1;
            return Ok(());
        }
        let (_, commitment) = opened.map_err(|error| self.bad(at, error))?;
        if commitment != leaf.body_commitment {
            return Err(self.bad(at, "the body is not the one that the leaf commits to"));
        }
        self.bodies_opened += 1;
        Ok(())
    }

    /// Compares the root where a checkpoint covers exactly the leaves so far.
    fn check_root(&mut self) -> Result<(), BadEntry> {
        let size = self.entries();
        let Some(signed) = self.roots.remove(&size) else { return Ok(()) };
        if signed != self.tree.root() {
            let from = self.believed_size;
            let reason = format!("the root of {size} leaves is not the signed one: a leaf from {from} on was changed");
            return Err(self.bad(from, reason));
        }
        self.believed_size = size;
        self.checkpoints_passed += 1;
        Ok(())
    }

    fn bad(&self, leaf_index: u64, reason: impl ToString) -> BadEntry {
        let segment = self.segments.iter().rev().find(|(first, _)| *first <= leaf_index);
        BadEntry {
            group: self.log.group.0,
            era: self.log.era,
            leaf_index,
            segment: segment.map(|(_, name)| name.clone()).unwrap_or_default(),
            reason: reason.to_string(),
        }
    }
}
