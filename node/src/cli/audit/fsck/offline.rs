//! Reads the segments of stopped nodes, holds each against the seal that the log's manifest has of it, and puts the true
//! file back where another replica's folder or a running node has what it takes.
//!
//! A seal pins a segment to the byte, so no source is believed. What has no seal (the segment that is written to, a log
//! without manifest) is held against itself only, and never changed.
#![allow(clippy::disallowed_methods, reason = "works on a copy of a node's files; there is no node in this process")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use nethical_audit::segment::warm::check_warm;
use nethical_audit::segment::{
    ScanEnd, SegmentScan, SegmentSeal, SegmentWriter, WarmFooter, WarmHeader, WarmSeal, check_file,
};
use nethical_cluster::api::RawLeaves;

use super::super::offline::{DEPTH_MAX, search};
use crate::cli::http::Admin;
use crate::output::{self, Exit, Format, stop};

/// Leaves asked of a node at once.
const PAGE_LEAVES: u64 = 256;

/// What `audit fsck --data -o json` prints.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// True where nothing is damaged, or all of it was mended.
    pub ok: bool,
    /// Replicas' copies of logs.
    pub copies: u64,
    /// Segments that should be there.
    pub segments: u64,
    /// Of those, held against a seal.
    pub sealed: u64,
    /// What was damaged.
    pub damage: Vec<Found>,
}

/// A damaged segment.
#[derive(Debug, Serialize)]
pub struct Found {
    /// Its folder.
    pub folder: String,
    /// Its group; 0 where nothing says it.
    pub group: u32,
    /// Its log's era.
    pub era: u32,
    /// Its file.
    pub segment: String,
    /// The first entry concerned.
    pub first: u64,
    /// The last one, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// What was found.
    pub why: String,
    /// True where the file is what it was sealed as again.
    pub repaired: bool,
}

/// Carries the command out.
pub async fn run(dir: &Path, from: &[PathBuf], node: Option<&Admin>, format: Format) -> anyhow::Result<()> {
    let report = check(dir, from, node).await?;
    match format {
        Format::Json => output::print_json(&report)?,
        Format::Table => print(&report)?,
    }
    let left = report.damage.iter().filter(|found| !found.repaired).count();
    if report.ok { Ok(()) } else { Err(stop(Exit::Failed, format!("{left} segments are damaged"))) }
}

/// Reads everything below `dir`; mends what it can.
pub async fn check(dir: &Path, from: &[PathBuf], node: Option<&Admin>) -> anyhow::Result<Report> {
    let (mut folders, mut sources) = (BTreeSet::new(), BTreeSet::new());
    search(dir, DEPTH_MAX, &mut folders)?;
    manifests(dir, DEPTH_MAX, &mut folders)?;
    for other in from {
        search(other, DEPTH_MAX, &mut sources)?;
    }
    if folders.is_empty() {
        let message = format!("there are no audit segments below {}; name a node's or cluster's folder", dir.display());
        return Err(stop(Exit::Usage, message));
    }
    let bar = output::bar(folders.len() as u64, "reading logs");
    let mut report = Report { copies: folders.len() as u64, ..Report::default() };
    for folder in &folders {
        check_folder(folder, &sources, node, &mut report).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    report.ok = report.damage.iter().all(|found| found.repaired);
    Ok(report)
}

/// Folders in which only the manifest is left.
fn manifests(dir: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && depth > 0 {
            manifests(&entry.path(), depth - 1, found)?;
        } else if entry.file_name() == "manifest" {
            found.insert(dir.to_owned());
        }
    }
    Ok(())
}

async fn check_folder(
    folder: &Path,
    sources: &BTreeSet<PathBuf>,
    node: Option<&Admin>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let seals = SegmentSeal::decode_all(&std::fs::read(folder.join("manifest")).unwrap_or_default());
    let mut seals: BTreeMap<u64, SegmentSeal> = seals.into_iter().map(|seal| (seal.meta.first_index, seal)).collect();
    take_warm(folder, &mut seals)?;
    let files = segment_files(folder)?;
    let firsts: BTreeSet<u64> = seals.keys().chain(files.keys()).copied().collect();
    let mut end = 0;
    for first in firsts {
        let seal = seals.get(&first);
        // Only where the hot file is gone: a move that was cut short leaves both, and the hot one is the older.
        let is_warm = !files.contains_key(&first) && seal.is_some_and(|seal| seal.warm.is_some());
        let path = folder.join(if is_warm { format!("{first:020}.warm") } else { format!("{first:020}.seg") });
        let bytes = std::fs::read(&path);
        report.segments += 1;
        if first > end {
            report.damage.push(found(folder, None, end, Some(first - 1), "no file and no seal is left of these"));
        }
        match seal {
            Some(seal) => {
                report.sealed += 1;
                end = seal.next_index();
                let fault = match &bytes {
                    Ok(bytes) => hold(seal, bytes, is_warm).err(),
                    Err(error) => Some((first, end - 1, format!("the file does not read: {error}"))),
                };
                if let Some((from, last, why)) = fault {
                    let repaired = match is_warm {
                        true => mend_warm(seal, &path, sources)?,
                        false => mend(seal, &path, sources, node).await?,
                    };
                    let segment = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                    let found = found(folder, Some(seal), from, Some(last), &why);
                    report.damage.push(Found { repaired, segment, ..found });
                }
            }
            None => end = check_unsealed(folder, first, &bytes.unwrap_or_default(), report),
        }
    }
    Ok(())
}

/// Holds a segment's file against its seal.
fn hold(seal: &SegmentSeal, bytes: &[u8], is_warm: bool) -> Result<(), (u64, u64, String)> {
    let found = match is_warm {
        true => check_warm(seal, bytes, |_, _, _| {}).map(drop),
        false => check_file(seal, bytes),
    };
    found.map_err(|it| (it.first, it.last, it.flaw.to_string()))
}

/// Puts another replica's warm file in place, where it is the same to the byte: which bodies may be gone, a node knows, not a file.
fn mend_warm(seal: &SegmentSeal, path: &Path, sources: &BTreeSet<PathBuf>) -> anyhow::Result<bool> {
    for source in sources {
        let other = std::fs::read(source.join(seal.meta.warm_file_name())).unwrap_or_default();
        let is_same = WarmFooter::decode_end(&other).is_ok_and(|footer| Some(WarmSeal::of(&footer)) == seal.warm);
        if is_same && check_warm(seal, &other, |_, _, _| {}).is_ok() {
            put(path, &other)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Holds a segment against itself; gives the index behind its last good record.
fn check_unsealed(folder: &Path, first: u64, bytes: &[u8], report: &mut Report) -> u64 {
    let mut scan = match SegmentScan::new(bytes) {
        Ok(scan) => scan,
        Err(error) => {
            report.damage.push(found(folder, None, first, None, &error.to_string()));
            return first;
        }
    };
    if let ScanEnd::Damaged { leaf_index, damage, .. } = scan.finish() {
        let why = format!("{damage}; a torn tail of the segment that was written to is cut when the node starts");
        report.damage.push(Found { segment: name(first), ..found(folder, None, leaf_index, None, &why) });
    }
    scan.next_index()
}

/// Without a seal a warm segment is held against what it says of itself.
fn take_warm(folder: &Path, seals: &mut BTreeMap<u64, SegmentSeal>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "warm") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        if let (Ok(header), Ok(footer)) = (WarmHeader::decode(&bytes), WarmFooter::decode_end(&bytes)) {
            let first = header.meta.first_index;
            seals.entry(first).or_insert_with(|| SegmentSeal::of_warm(&header, &footer));
        }
    }
    Ok(())
}

fn segment_files(folder: &Path) -> anyhow::Result<BTreeMap<u64, PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let first = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".seg")?.parse().ok();
    Ok(paths.filter_map(|path| Some((first(&path)?, path))).collect())
}

fn name(first: u64) -> String {
    format!("{first:020}.seg")
}

fn found(folder: &Path, seal: Option<&SegmentSeal>, first: u64, last: Option<u64>, why: &str) -> Found {
    let (group, era) = seal.map_or((0, 0), |seal| (seal.meta.log.group.0, seal.meta.log.era));
    let segment = seal.map_or_else(|| name(first), |seal| seal.meta.file_name());
    let (folder, why) = (folder.display().to_string(), why.to_owned());
    Found { folder, group, era, segment, first, last, why, repaired: false }
}

/// Puts the sealed file in place, where a source has it.
async fn mend(
    seal: &SegmentSeal,
    path: &Path,
    sources: &BTreeSet<PathBuf>,
    node: Option<&Admin>,
) -> anyhow::Result<bool> {
    for source in sources {
        let other = std::fs::read(source.join(seal.meta.file_name())).unwrap_or_default();
        if check_file(seal, &other).is_ok() {
            put(path, &other)?;
            return Ok(true);
        }
    }
    let Some(node) = node else { return Ok(false) };
    match rebuilt(seal, node).await? {
        Some(bytes) if check_file(seal, &bytes).is_ok() => put(path, &bytes).map(|()| true),
        _ => Ok(false),
    }
}

/// The segment from the leaves and bodies that a node serves; `None` where it does not have them all.
async fn rebuilt(seal: &SegmentSeal, node: &Admin) -> anyhow::Result<Option<Vec<u8>>> {
    let (mut writer, header) = SegmentWriter::create(seal.meta);
    let (mut bytes, group) = (header.to_vec(), seal.meta.log.group.to_string());
    while !writer.is_full() {
        let from = writer.next_index();
        let query = [("from", from.to_string()), ("count", PAGE_LEAVES.to_string())];
        let page: RawLeaves = node.get(&["v1", "audit", "raw", &group], &query).await?;
        if page.leaves.is_empty() || page.leaves.len() != page.bodies.len() || page.from != from {
            return Ok(None);
        }
        for (leaf, body) in page.leaves.iter().zip(&page.bodies) {
            let (leaf, body) = (STANDARD.decode(leaf)?, STANDARD.decode(body)?);
            let fits = (1..=1_024).contains(&leaf.len()) && body.len() <= nethical_audit::segment::BODY_BYTES_MAX;
            if writer.is_full() || !fits {
                break;
            }
            bytes.extend(writer.push(&leaf, &body).unwrap_or_default());
        }
        if writer.next_index() == from {
            return Ok(None);
        }
    }
    bytes.extend(writer.close().0);
    Ok(Some(bytes))
}

/// Replaces a file in one step.
fn put(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let aside = PathBuf::from(format!("{}.tmp", path.display()));
    let mut file = std::fs::File::create(&aside).with_context(|| format!("writing {}", aside.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&aside, path).with_context(|| format!("replacing {}", path.display()))?;
    std::fs::File::open(path.parent().unwrap_or(path))?.sync_all()?;
    Ok(())
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut table = output::table(&["FOLDER", "SEGMENT", "ENTRIES", "WHAT", "MENDED"]);
    for found in &report.damage {
        let entries = format!("{}..{}", found.first, found.last.map_or(String::new(), |last| last.to_string()));
        let mended = if found.repaired { "yes" } else { "NO" };
        table.add_row([&found.folder, &found.segment, &entries, &found.why, mended]);
    }
    output::print_table(&table, "no damage found")?;
    let Report { copies, segments, sealed, .. } = report;
    output::print_line(&format!(
        "{segments} segments of {copies} copies were read, {sealed} of them held against their seals"
    ))
}

#[cfg(test)]
mod tests;
