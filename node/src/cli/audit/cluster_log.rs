//! The cluster log as any node publishes it (c2sp.org/tlog-tiles): fetched, recomputed and held against its checkpoint.
//!
//! The node is not believed; only keys and hashes are. What its leaves say of other logs is for the caller to hold.

use reqwest::Method;

use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::publish::{Resource, unbundle};
use nethical_audit::tree::{Frontier, TILE_LEAVES, leaf_hash};
use nethical_audit::verify::BadEntry;
use nethical_audit::verify::cluster::Claims;
use nethical_protocol::ids::{GroupId, LogId};

use super::{LogKeys, LogReport};
use crate::cli::http::Admin;

/// The status of a log that nobody has published yet.
const NOT_FOUND: u16 = 404;

/// What became of the cluster log.
pub enum Fetched {
    /// Nothing is published yet.
    Absent,
    /// It has the root that was signed.
    Sound {
        /// The log.
        log: LogReport,
        /// What its leaves say.
        claims: Claims,
    },
    /// It does not verify.
    Bad {
        /// As far as it was read.
        log: LogReport,
        /// What is wrong.
        bad: BadEntry,
    },
}

/// A log as far as it was read.
#[derive(Default)]
struct Reading {
    tree: Frontier,
    claims: Claims,
    era: u32,
}

/// Fetches and recomputes the cluster log. `keys` are its own and those of the logs that it speaks of.
pub async fn fetch(admin: &Admin, cluster: &str, keys: &LogKeys) -> anyhow::Result<Fetched> {
    let ask = || admin.request(Method::GET, &["log", "cluster", "checkpoint"], &[]);
    if ask().raw().await?.0 == NOT_FOUND {
        return Ok(Fetched::Absent);
    }
    let note = ask().text().await?;
    let mut reading = Reading { era: 1, ..Reading::default() };
    let outcome = read(admin, cluster, keys, &note, &mut reading).await?;
    let (group, era, entries) = (GroupId::CONTROL.0, reading.era, reading.tree.size());
    let (root, erased, ok) = (hex::encode(reading.tree.root()), 0, outcome.is_ok());
    let log = LogReport { group, era, entries, root, erased, dropped: 0, expired: 0, away: 0, ok };
    Ok(match outcome {
        Ok(()) => Fetched::Sound { log, claims: reading.claims },
        Err(reason) => {
            Fetched::Bad { log, bad: BadEntry { group, era, leaf_index: entries, segment: String::new(), reason } }
        }
    })
}

/// Reads all leaves; the inner error says what does not verify.
async fn read(
    admin: &Admin,
    cluster: &str,
    keys: &LogKeys,
    note: &str,
    reading: &mut Reading,
) -> anyhow::Result<Result<(), String>> {
    let claimed = Checkpoint::parse_unverified(note);
    let checkpoint = match claimed.and_then(|claimed| Checkpoint::open(note, &claimed.origin, &keys.in_force)) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Ok(Err(format!("the cluster log's checkpoint is not to be believed: {error}"))),
    };
    match LogId::of_origin(cluster, &checkpoint.origin) {
        Some(LogId { group: GroupId::CONTROL, era }) => reading.era = era,
        _ => return Ok(Err(format!("the cluster log's checkpoint is of {}", checkpoint.origin))),
    }
    while reading.tree.size() < checkpoint.size {
        let (index, left) = (reading.tree.size() / TILE_LEAVES, checkpoint.size - reading.tree.size());
        let width = left.min(TILE_LEAVES);
        let path = Resource::Entries { index, width: width as u16 }.path();
        let segments: Vec<&str> = ["log", "cluster"].into_iter().chain(path.split('/')).collect();
        let bytes = admin.request(Method::GET, &segments, &[]).bytes().await?;
        let leaves = unbundle(&bytes).filter(|leaves| leaves.len() as u64 == width);
        let Some(leaves) = leaves else { return Ok(Err(format!("{path} is not {width} leaves"))) };
        for leaf in leaves {
            if let Err(reason) = reading.claims.add(cluster, leaf, &keys.all, &keys.generations) {
                return Ok(Err(reason));
            }
            reading.tree.append(leaf_hash(leaf));
        }
    }
    let whole = reading.tree.root() == checkpoint.root;
    Ok(if whole { Ok(()) } else { Err("the leaves before this one do not have the root that was signed".to_owned()) })
}
