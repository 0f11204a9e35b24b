//! Verifies audit segments on disk, without a running node: of one node, or of every node of a development cluster.
//!
//! Each replica's copy of each log is checked on its own, then the copies of one log against each other: replicas
//! that disagree about a leaf are named, even where both copies are sound in themselves.
#![allow(clippy::disallowed_methods, reason = "reads a copy of a node's files; there is no node in this process")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;

use nethical_audit::keys::{KEY_BYTES, Keyring};
use nethical_audit::note::{Signer, VerifierKey};
use nethical_audit::segment::{SegmentMeta, SegmentScan};
use nethical_audit::tree::{self, Frontier, Hash};
use nethical_audit::verify::{BadEntry, GroupLog, Verifier};
use nethical_protocol::ids::LogId;

use super::{LogReport, VerifyReport};
use crate::dev::provision::parse_kek;
use crate::output::{Exit, stop};

/// Folders are searched this deep below the one named.
pub(super) const DEPTH_MAX: usize = 8;

/// One replica's copy of one log.
struct Copy {
    log: LogId,
    /// Segment files, first leaf first.
    files: Vec<PathBuf>,
    /// Signed checkpoints beside them.
    checkpoints: Vec<String>,
    /// The cluster's name and the seed that signs, from the keyring nearest above.
    keyring: Option<Keyring>,
}

/// Verifies everything below `dir`.
pub fn verify(dir: &Path) -> anyhow::Result<VerifyReport> {
    let mut folders = BTreeSet::new();
    search(dir, DEPTH_MAX, &mut folders)?;
    if folders.is_empty() {
        let message = format!("there are no audit segments below {}; name a node's or cluster's folder", dir.display());
        return Err(stop(Exit::Usage, message));
    }
    let bar = crate::output::bar(folders.len() as u64, "verifying logs");
    let mut report = VerifyReport { ok: true, ..VerifyReport::default() };
    let mut logs: BTreeMap<LogId, Longest> = BTreeMap::new();
    for folder in &folders {
        match open(folder, dir) {
            Ok(copy) => verify_copy(&copy, folder, &mut logs, &mut report)?,
            Err(bad) => report.blame(bad),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    for (log, longest) in logs {
        report.add(longest.report(log));
    }
    Ok(report)
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
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "seg") {
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
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "seg");
    let files: Vec<PathBuf> = paths.iter().filter(|path| is_segment(path)).cloned().collect();
    let first = files.first().ok_or_else(|| blame(folder, "the segments are gone".to_owned()))?;
    let bytes = std::fs::read(first).map_err(|error| blame(first, error.to_string()))?;
    let meta = SegmentMeta::decode(&bytes).map_err(|error| blame(first, error.to_string()))?;
    // What a crash left half written ends in .tmp and was never in force.
    let notes = paths.iter().filter(|path| path.file_name().is_some_and(|name| name == "checkpoint"));
    let checkpoints = notes.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    Ok(Copy { log: meta.log, files, checkpoints, keyring: keyring_above(folder, top) })
}

/// The keyring of the node that the folder belongs to, where its key-encryption key lies beside it.
fn keyring_above(folder: &Path, top: &Path) -> Option<Keyring> {
    let limit = top.parent().unwrap_or(top);
    folder.ancestors().take_while(|dir| dir.starts_with(limit)).find_map(|dir| {
        let kek: [u8; KEY_BYTES] = parse_kek(&std::fs::read_to_string(dir.join("kek")).ok()?)?;
        Keyring::decode_sealed(&kek, &std::fs::read(dir.join("keyring")).ok()?).ok()
    })
}

fn verify_copy(
    copy: &Copy,
    folder: &Path,
    logs: &mut BTreeMap<LogId, Longest>,
    report: &mut VerifyReport,
) -> anyhow::Result<()> {
    let Some(keyring) = &copy.keyring else {
        let message = format!(
            "no keyring with its kek lies above {}: without it neither the cluster's name nor the signing key is known",
            folder.display()
        );
        return Err(stop(Exit::Usage, message));
    };
    let key = keyring.signing_seed.and_then(|seed| Signer::from_seed(&copy.log.origin(&keyring.cluster), &seed).ok());
    let keys: Vec<VerifierKey> = key.iter().map(Signer::verifier_key).collect();
    let verifier = Verifier { cluster: &keyring.cluster, keys: &keys, body_keys: None };
    // A file that cannot be read becomes empty bytes, which no segment is: the verifier then names it.
    let segments = copy.files.iter().map(|path| {
        let name = path.strip_prefix(folder.parent().unwrap_or(folder)).unwrap_or(path).display().to_string();
        (name, std::fs::read(path).unwrap_or_default())
    });
    let checked = verifier.verify([GroupLog { log: copy.log, segments, checkpoints: copy.checkpoints.clone() }]);
    report.copies += 1;
    report.checkpoints += checked.checkpoints;
    let sound = checked.ok;
    if let Some(bad) = checked.first_bad {
        report.blame(BadEntry { segment: format!("{} in {}", bad.segment, folder.display()), ..bad });
    }
    let longest = logs.entry(copy.log).or_default();
    longest.bad |= !sound;
    if let Some(leaf_index) = longest.compare(leaf_hashes(&copy.files)) {
        longest.bad = true;
        let reason = format!("{} differs from another replica's copy", folder.display());
        let segment = String::new();
        report.blame(BadEntry { group: copy.log.group.0, era: copy.log.era, leaf_index, segment, reason });
    }
    Ok(())
}

/// Leaf hashes of the readable part of a copy, 32 bytes of memory a leaf.
fn leaf_hashes(files: &[PathBuf]) -> Vec<Hash> {
    let mut hashes = Vec::new();
    for path in files {
        let bytes = std::fs::read(path).unwrap_or_default();
        let Ok(scan) = SegmentScan::new(&bytes) else { break };
        if scan.meta().first_index != hashes.len() as u64 {
            break;
        }
        hashes.extend(scan.map(|record| tree::leaf_hash(record.leaf)));
    }
    hashes
}

/// The longest copy of a log seen so far.
#[derive(Default)]
struct Longest {
    bad: bool,
    hashes: Vec<Hash>,
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

    fn report(&self, log: LogId) -> LogReport {
        let mut tree = Frontier::default();
        self.hashes.iter().for_each(|hash| tree.append(*hash));
        let root = hex::encode(tree.root());
        LogReport { group: log.group.0, era: log.era, entries: tree.size(), root, ok: !self.bad }
    }
}

#[cfg(test)]
mod tests;
