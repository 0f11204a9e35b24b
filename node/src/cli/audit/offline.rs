//! Verifies audit segments on disk, without a running node: of one node, or of every node of a development cluster.
//!
//! Each replica's copy of each log is checked on its own, then the copies of one log against each other: replicas
//! that disagree about a leaf are named, even where both copies are sound in themselves.
#![allow(clippy::disallowed_methods, reason = "reads a copy of a node's files; there is no node in this process")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use indicatif::ProgressBar;

use nethical_audit::body::Dictionaries;
use nethical_audit::cluster::ClusterLeaf;
use nethical_audit::generations::Generations;
use nethical_audit::keys::{KEY_BYTES, Keyring, seeds};
use nethical_audit::note::{Signer, VerifierKey};
use nethical_audit::segment::warm::check_warm;
use nethical_audit::segment::{SegmentMeta, SegmentScan, SegmentSeal, WarmFooter, WarmHeader};
use nethical_audit::tree::{Frontier, Hash};
use nethical_audit::verify::cluster::{Claim, Claims, Unheld};
use nethical_audit::verify::{BadEntry, Checked, GroupLog, Verifier};
use nethical_cluster::world::ahead::read_ahead;
use nethical_protocol::ids::{GroupId, LogId};

use super::{LogReport, VerifyReport};
use crate::dev::provision::parse_kek;
use crate::output::{Exit, stop};

/// Folders are searched this deep below the one named.
pub(super) const DEPTH_MAX: usize = 8;

/// No segment's header is longer.
const HEAD_BYTES: u64 = 4_096;

/// One replica's copy of one log.
struct Copy {
    log: LogId,
    /// Segment files, first leaf first.
    files: Vec<PathBuf>,
    /// Signed checkpoints beside them.
    checkpoints: Vec<String>,
    /// The cluster's name and the seed that signs, from the keyring nearest above.
    keyring: Option<Keyring>,
    /// The generations of the zone's key that the node knew; none where it was never turned.
    generations: Generations,
}

/// Verifies everything below `dir`.
pub fn verify(dir: &Path) -> anyhow::Result<VerifyReport> {
    let mut folders = BTreeSet::new();
    search(dir, DEPTH_MAX, &mut folders)?;
    if folders.is_empty() {
        let message = format!("there are no audit segments below {}; name a node's or cluster's folder", dir.display());
        return Err(stop(Exit::Usage, message));
    }
    let mut report = VerifyReport { ok: true, ..VerifyReport::default() };
    let mut logs: BTreeMap<LogId, Longest> = BTreeMap::new();
    let mut copies = Vec::new();
    for folder in &folders {
        match open(folder, dir) {
            Ok(copy) => copies.push((copy, folder)),
            Err(bad) => report.blame(bad),
        }
    }
    // A node that was down, or died a moment ago, may not know of the newest turn; the others do.
    let known = copies
        .iter()
        .map(|(copy, _)| copy.generations.clone())
        .max_by_key(|known| (known.0.len(), known.0.iter().filter(|generation| !generation.is_in_force()).count()));
    copies.iter_mut().for_each(|(copy, _)| copy.generations = known.clone().unwrap_or_default());
    // The cluster log first: where nodes run, the others are then at least as long as it says.
    copies.sort_by_key(|(copy, _)| copy.log);
    let (spoken, others) = copies.split_at(copies.partition_point(|(copy, _)| copy.log.group == GroupId::CONTROL));
    let bar = crate::output::bar(copies.iter().map(|(copy, _)| copy.files.len() as u64).sum(), "verifying segments");
    for copies in [spoken, others] {
        verify_copies(copies, &bar, &mut logs, &mut report)?;
    }
    bar.finish_and_clear();
    hold_claims(&mut logs, &mut report);
    for (log, longest) in logs {
        report.add(longest.report(log));
    }
    Ok(report)
}

/// Holds what the cluster log says against the other logs.
fn hold_claims(logs: &mut BTreeMap<LogId, Longest>, report: &mut VerifyReport) {
    let claims: Vec<Claims> = logs.values_mut().map(|longest| std::mem::take(&mut longest.claims)).collect();
    for claims in &claims {
        for log in claims.logs() {
            // Of a log that does not verify only what fits was read.
            let Some(longest) = logs.get_mut(&log).filter(|longest| !longest.bad) else { continue };
            let held = claims.hold(log, &longest.hashes).and_then(|beyond| match beyond.first() {
                // One copy alone may be behind the one that the checkpoint was made of.
                Some(claim) if longest.copies > 1 => Err(longest.cut(*claim)),
                _ => Ok(beyond.len() as u64),
            });
            match held {
                Ok(beyond) => {
                    report.covered += claims.of(log).len() as u64 - beyond;
                    report.beyond += beyond;
                }
                Err(Unheld { claim, reason }) => {
                    longest.bad = true;
                    let (group, era, leaf_index) = (log.group.0, log.era, claim.size.saturating_sub(1));
                    report.blame(BadEntry { group, era, leaf_index, segment: String::new(), reason });
                }
            }
        }
    }
}

/// Folders with segments below `dir`, this deep.
pub(super) fn search(dir: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", dir.display()))?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        // The write-ahead log's segments are no audit copy.
        if kind.is_dir() && entry.file_name() == "wal" {
            continue;
        }
        if kind.is_dir() && depth > 0 {
            search(&path, depth - 1, found)?;
        } else if kind.is_file() && is_segment(&path) {
            found.insert(dir.to_owned());
        }
    }
    Ok(())
}

fn open(folder: &Path, top: &Path) -> Result<Copy, BadEntry> {
    let blame = |path: &Path, reason: String| BadEntry {
        group: 0,
        era: 0,
        leaf_index: 0,
        segment: path.display().to_string(),
        reason,
    };
    let entries = std::fs::read_dir(folder).map_err(|error| blame(folder, error.to_string()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let files = segment_files(&paths);
    let first = files.first().ok_or_else(|| blame(folder, "the segments are gone".to_owned()))?;
    let mut head = Vec::new();
    let read = std::fs::File::open(first).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    read.map_err(|error| blame(first, error.to_string()))?;
    let meta = meta_of(&head).map_err(|reason| blame(first, reason))?;
    // What a crash left half written ends in .tmp and was never in force.
    let notes = paths.iter().filter(|path| path.file_name().is_some_and(|name| name == "checkpoint"));
    let checkpoints = notes.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    let keyring = keyring_above(folder, top);
    let generations = keyring.as_ref().map(|keyring| generations_above(folder, top, keyring)).unwrap_or_default();
    Ok(Copy { log: meta.log, files, checkpoints, keyring, generations })
}

/// What the node that the folder belongs to knew of the zone's keys, from the slots that its keyring opens.
fn generations_above(folder: &Path, top: &Path, keyring: &Keyring) -> Generations {
    let limit = top.parent().unwrap_or(top);
    let slots_in = |dir: &Path| -> Vec<Vec<u8>> {
        seeds::SLOTS.iter().filter_map(|slot| std::fs::read(dir.join(seeds::DIR).join(slot)).ok()).collect()
    };
    let above = folder.ancestors().take_while(|dir| dir.starts_with(limit));
    above
        .filter_map(|dir| seeds::newest(&slots_in(dir), keyring))
        .map(|seeds| seeds.published)
        .next()
        .unwrap_or_default()
}

/// True for files of segments, hot or warm.
fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg" || extension == "warm")
}

/// The segments among some files, one for each first leaf. Where a move was cut short there are two, and a start takes the warm
/// one if it is whole.
fn segment_files(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = paths.iter().filter(|path| is_segment(path)).cloned().collect();
    let is_hot = |path: &Path| path.extension().is_some_and(|extension| extension == "seg");
    let both: BTreeSet<_> = files.iter().filter(|path| !is_hot(path)).map(|path| path.with_extension("seg")).collect();
    let is_whole = |path: &Path| WarmCopy::read(path).is_some_and(|copy| copy.is_whole());
    let (left, right): (BTreeSet<_>, BTreeSet<_>) = files
        .iter()
        .filter(|path| both.contains(*path))
        .cloned()
        .partition(|path| is_whole(&path.with_extension("warm")));
    files.retain(|path| !left.contains(path) && (is_hot(path) || !right.contains(&path.with_extension("seg"))));
    files
}

/// A warm segment's file.
struct WarmCopy {
    bytes: Vec<u8>,
    seal: SegmentSeal,
}

impl WarmCopy {
    fn read(path: &Path) -> Option<Self> {
        Self::of(std::fs::read(path).ok()?)
    }

    fn of(bytes: Vec<u8>) -> Option<Self> {
        let (header, footer) = (WarmHeader::decode(&bytes).ok()?, WarmFooter::decode_end(&bytes).ok()?);
        Some(Self { seal: SegmentSeal::of_warm(&header, &footer), bytes })
    }

    fn is_whole(&self) -> bool {
        check_warm(&self.seal, &self.bytes, |_, _, _| {}).is_ok()
    }
}

/// What a segment's file says of itself in front.
fn meta_of(bytes: &[u8]) -> Result<SegmentMeta, String> {
    match WarmHeader::is_in_front_of(bytes) {
        true => WarmHeader::decode(bytes).map(|header| header.meta).map_err(|error| error.to_string()),
        false => SegmentMeta::decode(bytes).map_err(|error| error.to_string()),
    }
}

/// The leaves of a file, as far as they read.
fn leaves_of(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    if !WarmHeader::is_in_front_of(&bytes) {
        let scan = SegmentScan::new(&bytes);
        return scan.map(|scan| scan.map(|record| record.leaf.to_vec()).collect()).unwrap_or_default();
    }
    let mut leaves = Vec::new();
    if let Some(copy) = WarmCopy::of(bytes) {
        // What does not read is the verifier's to name.
        let _ = check_warm(&copy.seal, &copy.bytes, |_, leaf, _| leaves.push(leaf.to_vec()));
    }
    leaves
}

/// The keyring of the node that the folder belongs to, where its key-encryption key lies beside it.
fn keyring_above(folder: &Path, top: &Path) -> Option<Keyring> {
    let limit = top.parent().unwrap_or(top);
    folder.ancestors().take_while(|dir| dir.starts_with(limit)).find_map(|dir| {
        let kek: [u8; KEY_BYTES] = parse_kek(&std::fs::read_to_string(dir.join("kek")).ok()?)?;
        Keyring::decode_sealed(&kek, &std::fs::read(dir.join("keyring")).ok()?).ok()
    })
}

/// Verifies copies on all cores, a copy on each, and takes them in by their order: whom a report names does not depend on
/// which thread was faster.
fn verify_copies(
    copies: &[(Copy, &PathBuf)],
    bar: &ProgressBar,
    logs: &mut BTreeMap<LogId, Longest>,
    report: &mut VerifyReport,
) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    for copies in copies.chunks(cores) {
        let checked: Vec<anyhow::Result<Checked>> = std::thread::scope(|scope| {
            let checks: Vec<_> =
                copies.iter().map(|(copy, folder)| scope.spawn(move || verify_copy(copy, folder, bar))).collect();
            checks.into_iter().map(|check| check.join().map_err(|_| anyhow!("verifying a copy panicked"))?).collect()
        });
        for ((copy, folder), checked) in copies.iter().zip(checked) {
            take_in(copy, folder, checked?, logs, report);
        }
    }
    Ok(())
}

fn verify_copy(copy: &Copy, folder: &Path, bar: &ProgressBar) -> anyhow::Result<Checked> {
    let Some(keyring) = &copy.keyring else {
        let message = format!(
            "no keyring with its kek lies above {}: without it neither the cluster's name nor the signing key is known",
            folder.display()
        );
        return Err(stop(Exit::Usage, message));
    };
    let keys = keys_of(copy, keyring);
    let verifier = Verifier {
        cluster: &keyring.cluster,
        keys: &keys,
        generations: &copy.generations,
        body_keys: None,
        dictionaries: &Dictionaries::default(),
    };
    // A file that cannot be read becomes empty bytes, which no segment is: the verifier then names it.
    Ok(read_ahead(&copy.files, |contents| {
        let names = copy.files.iter().map(|path| {
            bar.inc(1);
            path.strip_prefix(folder.parent().unwrap_or(folder)).unwrap_or(path).display().to_string()
        });
        let (log, segments, checkpoints) = (copy.log, names.zip(contents), copy.checkpoints.clone());
        verifier.verify_one(GroupLog { log, segments, checkpoints })
    }))
}

/// Adds what a copy came to, and holds it against the copies of its log that were there before.
fn take_in(
    copy: &Copy,
    folder: &Path,
    checked: Checked,
    logs: &mut BTreeMap<LogId, Longest>,
    report: &mut VerifyReport,
) {
    let Checked { report: checked, hashes } = checked;
    report.copies += 1;
    report.checkpoints += checked.checkpoints;
    let sound = checked.ok;
    if let Some(bad) = checked.first_bad {
        report.blame(BadEntry { segment: format!("{} in {}", bad.segment, folder.display()), ..bad });
    }
    let longest = logs.entry(copy.log).or_default();
    longest.bad |= !sound;
    longest.copies += 1;
    longest.erased = longest.erased.max(checked.bodies_erased);
    longest.dropped = longest.dropped.max(checked.bodies_dropped);
    longest.expired = longest.expired.max(checked.bodies_expired);
    longest.away = longest.away.max(checked.bodies_away);
    if checked.claims.leaves() > longest.claims.leaves() {
        longest.claims = checked.claims;
    }
    if let Some(leaf_index) = longest.compare(hashes) {
        longest.bad = true;
        let reason = format!("{} differs from another replica's copy", folder.display());
        let segment = String::new();
        report.blame(BadEntry { group: copy.log.group.0, era: copy.log.era, leaf_index, segment, reason });
    }
}

/// The keys of a log, and of all that it speaks of where it is the cluster log; none where neither the node knew any nor the
/// keyring has a seed.
fn keys_of(copy: &Copy, keyring: &Keyring) -> Vec<VerifierKey> {
    let mut logs = BTreeSet::from([copy.log]);
    if copy.log.group == GroupId::CONTROL {
        for path in &copy.files {
            let bytes = std::fs::read(path).unwrap_or_default();
            let spoken =
                leaves_of(bytes).into_iter().filter_map(|leaf| ClusterLeaf::decode(&keyring.cluster, &leaf).ok());
            logs.extend(spoken.map(|leaf| leaf.log));
        }
    }
    let first = |origin: &str| Some(Signer::from_seed(origin, keyring.signing_seed.as_ref()?).ok()?.verifier_key());
    let keys = |log: LogId| {
        let origin = log.origin(&keyring.cluster);
        if copy.generations.0.is_empty() {
            first(&origin).into_iter().collect()
        } else {
            copy.generations.keys(&origin)
        }
    };
    logs.into_iter().flat_map(keys).collect()
}

/// The longest copy of a log seen so far.
#[derive(Default)]
struct Longest {
    bad: bool,
    copies: u64,
    erased: u64,
    dropped: u64,
    expired: u64,
    away: u64,
    hashes: Vec<Hash>,
    /// Of the cluster log.
    claims: Claims,
}

impl Longest {
    /// Takes another copy in; gives the first leaf on which the two disagree.
    fn compare(&mut self, other: Vec<Hash>) -> Option<u64> {
        let differs = self.hashes.iter().zip(&other).position(|(mine, theirs)| mine != theirs);
        if other.len() > self.hashes.len() && differs.is_none() {
            self.hashes = other;
        }
        differs.map(|index| index as u64)
    }

    /// What it means that a claim covers more than any copy has.
    fn cut(&self, claim: Claim) -> Unheld {
        let (index, size, here) = (claim.index, claim.size, self.hashes.len());
        Unheld { claim, reason: format!("leaf {index} of the cluster log covers {size} leaves, only {here} are here") }
    }

    fn report(&self, log: LogId) -> LogReport {
        let mut tree = Frontier::default();
        self.hashes.iter().for_each(|hash| tree.append(*hash));
        let root = hex::encode(tree.root());
        let (entries, erased, ok) = (tree.size(), self.erased, !self.bad);
        let (dropped, expired, away) = (self.dropped, self.expired, self.away);
        LogReport { group: log.group.0, era: log.era, entries, root, erased, dropped, expired, away, ok }
    }
}

#[cfg(test)]
mod tests;
