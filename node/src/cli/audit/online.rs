//! Verifies the audit trail of a running cluster from what any node serves: recomputes every log from its leaves and
//! holds the result against the signed checkpoint. The node is not believed; only the keys are.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use nethical_audit::body;
use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::leaf::LeafV1;
use nethical_audit::note::VerifierKey;
use nethical_audit::tree::{self, Frontier};
use nethical_audit::verify::BadEntry;
use nethical_audit::verify::cluster::{Claim, Claims};
use nethical_audit::verify::erased::Erased;
use nethical_cluster::api::{RawLeaves, VerifierKeys};
use nethical_protocol::ids::{GroupId, LogId};
use nethical_protocol::status::ClusterStatus;

use super::{LogKeys, LogReport, VerifyReport, cluster_log};
use crate::cli::http::Admin;
use crate::output::{Exit, exit_code};

/// Leaves asked for at once; at most 1 KiB each beside their bodies.
const PAGE_LEAVES: u64 = 1_000;

/// Verifies all partition groups, or the ones named.
pub async fn verify(admin: &Admin, only: &[u32]) -> anyhow::Result<VerifyReport> {
    let keys: VerifierKeys = admin.get(&["v1", "audit", "keys"], &[]).await?;
    let cluster = keys.cluster.clone();
    let log_keys = LogKeys::of(&keys)?;
    let groups = if only.is_empty() { logs(&super::keys_of(&keys.vkeys)?, admin).await? } else { only.to_vec() };
    let bar = crate::output::bar(groups.len() as u64, "verifying logs");
    let mut report = VerifyReport { ok: true, ..VerifyReport::default() };
    // The cluster log first: the others are then at least as long as it says.
    let claims = match cluster_log::fetch(admin, &cluster, &log_keys).await? {
        cluster_log::Fetched::Sound { log, claims } => {
            report.checkpoints += 1;
            report.add(log);
            claims
        }
        cluster_log::Fetched::Bad { log, bad } => {
            report.add(log);
            report.blame(bad);
            Claims::default()
        }
        cluster_log::Fetched::Absent => Claims::default(),
    };
    for group in groups {
        let mut log = Log::new(group);
        log.claims = claims.of(LogId { group: GroupId(group), era: log.era }).to_vec();
        let fault = verify_log(admin, &mut log, &log_keys.in_force).await?;
        report.covered += log.covered;
        report.checkpoints += u64::from(fault.is_none());
        report.add(log.report(fault.is_none()));
        if let Some(bad) = fault {
            report.blame(bad);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(report)
}

/// The groups that keep a log: those that a key names, as `<cluster>/p/<group>/<era>`; else what the status lists.
async fn logs(keys: &[VerifierKey], admin: &Admin) -> anyhow::Result<Vec<u32>> {
    let named: BTreeMap<u32, ()> = keys.iter().filter_map(|key| Some((log_of(key.name())?.0, ()))).collect();
    if !named.is_empty() {
        return Ok(named.into_keys().collect());
    }
    let status: ClusterStatus = admin.get(&["v1", "status"], &[]).await?;
    Ok(status.groups.iter().map(|group| group.id).filter(|id| *id >= 2).collect())
}

/// Group and era of an origin `<cluster>/p/<group>/<era>`.
fn log_of(origin: &str) -> Option<(u32, u32)> {
    let mut parts = origin.rsplit('/');
    let (era, group, p) = (parts.next()?, parts.next()?, parts.next()?);
    if p == "p" { Some((group.parse().ok()?, era.parse().ok()?)) } else { None }
}

/// Recomputes one log; gives what does not verify.
async fn verify_log(admin: &Admin, log: &mut Log, keys: &[VerifierKey]) -> anyhow::Result<Option<BadEntry>> {
    let name = log.group.to_string();
    let note = admin.request(reqwest::Method::GET, &["v1", "audit", "checkpoint", &name], &[]).text().await?;
    let claimed = Checkpoint::parse_unverified(&note);
    let checkpoint = match claimed.and_then(|claimed| Checkpoint::open(&note, &claimed.origin, keys)) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Ok(log.bad(format!("the checkpoint is not to be believed: {error}"))),
    };
    match log_of(&checkpoint.origin) {
        Some((group, era)) if (group, era) == (log.group, log.era) => {}
        _ => return Ok(log.bad(format!("the checkpoint is of {}", checkpoint.origin))),
    }
    let mut most = PAGE_LEAVES;
    while log.entries < checkpoint.size {
        let count = most.min(checkpoint.size - log.entries);
        let query = [("from", log.entries.to_string()), ("count", count.to_string())];
        let page: RawLeaves = match admin.get(&["v1", "audit", "raw", &name], &query).await {
            Ok(page) => page,
            // Smaller pages come nearer to an entry that no replica can read any more.
            Err(error) if exit_code(&error) == Exit::Unhealthy as u8 => match count {
                1 => return Ok(log.bad(format!("no replica gives this entry: {error}"))),
                _ => {
                    most = count / 2;
                    continue;
                }
            },
            Err(error) => return Err(error),
        };
        if page.from != log.entries || page.leaves.is_empty() || page.leaves.len() as u64 > count {
            let (leaves, from) = (page.leaves.len(), page.from);
            return Ok(log.bad(format!("asked for {count} leaves, got {leaves} from {from}")));
        }
        for (place, leaf) in page.leaves.iter().enumerate() {
            if let Err(reason) = log.append(leaf, page.bodies.get(place)) {
                return Ok(log.bad(reason));
            }
        }
    }
    if let Some(claim) = log.claims.get(log.covered as usize) {
        let reason = format!("leaf {} of the cluster log covers {} leaves; the log ends here", claim.index, claim.size);
        return Ok(log.bad(reason));
    }
    let whole = log.tree.root() == checkpoint.root;
    Ok(if whole { None } else { log.bad("the leaves before this one do not have the root that was signed".to_owned()) })
}

/// A log being recomputed.
struct Log {
    group: u32,
    era: u32,
    entries: u64,
    tree: Frontier,
    /// What the cluster log says of it, in order.
    claims: Vec<Claim>,
    /// How many of that hold.
    covered: u64,
    erased: Erased,
    dropped: u64,
    expired: u64,
    away: u64,
}

impl Log {
    /// One of the first era, of which the cluster log says nothing.
    fn new(group: u32) -> Self {
        Self {
            group,
            era: 1,
            entries: 0,
            tree: Frontier::default(),
            claims: Vec::new(),
            covered: 0,
            erased: Erased::default(),
            dropped: 0,
            expired: 0,
            away: 0,
        }
    }

    fn append(&mut self, leaf: &str, stored: Option<&String>) -> Result<(), String> {
        let bytes = STANDARD.decode(leaf).map_err(|_| "not base64".to_owned())?;
        let decoded = LeafV1::decode(&bytes).map_err(|error| format!("not a leaf: {error}"))?;
        if (decoded.group, decoded.era, decoded.leaf_index) != (self.group, self.era, self.entries) {
            return Err(format!("says that it is leaf {} of group {}", decoded.leaf_index, decoded.group));
        }
        let stored = stored.map(|stored| STANDARD.decode(stored)).transpose().map_err(|_| "its body is not base64")?;
        let stored = stored.unwrap_or_default();
        self.erased.take(&decoded, &stored);
        match body::dropped(&stored).map(|dropped| dropped.reason) {
            Some(body::Reason::Erased) => self.dropped += 1,
            Some(body::Reason::Expired) => self.expired += 1,
            Some(body::Reason::Away) => self.away += 1,
            None => {}
        }
        self.tree.append(tree::leaf_hash(&bytes));
        self.entries += 1;
        if let Some(claim) = self.claims.get(self.covered as usize).filter(|claim| claim.size == self.entries) {
            claim.check(&self.tree).map_err(|unheld| unheld.reason)?;
            self.covered += 1;
        }
        Ok(())
    }

    fn report(&self, ok: bool) -> LogReport {
        let (group, era, entries, erased) = (self.group, self.era, self.entries, self.erased.count());
        let (dropped, expired, away) = (self.dropped, self.expired, self.away);
        let root = hex::encode(self.tree.root());
        LogReport { group, era, entries, root, erased, dropped, expired, away, ok }
    }

    fn bad(&self, reason: String) -> Option<BadEntry> {
        let (group, era, leaf_index) = (self.group, self.era, self.entries);
        Some(BadEntry { group, era, leaf_index, segment: String::new(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nethical_audit::leaf::LeafEvent;

    fn leaf(group: u32, leaf_index: u64) -> String {
        let event = LeafEvent::Control { from_rev: 0, to_rev: 1 };
        let leaf = LeafV1 { group, era: 1, leaf_index, now_ns: 1, term: 1, body_commitment: [0; 32], event };
        STANDARD.encode(leaf.encode())
    }

    #[test]
    fn a_leaf_out_of_place_or_of_another_group_is_named() {
        let mut log = Log::new(3);
        log.append(&leaf(3, 0), None).expect("the first leaf");
        assert!(log.append(&leaf(3, 2), None).expect_err("a hole").contains("leaf 2"));
        assert!(log.append(&leaf(4, 1), None).expect_err("a stranger").contains("group 4"));
        assert!(log.append("AAAA", None).is_err() && log.append("?", None).is_err());
        assert_eq!(log.entries, 1);
    }

    #[test]
    fn groups_are_read_from_origins() {
        assert_eq!(log_of("demo/p/17/1"), Some((17, 1)));
        assert_eq!(log_of("demo/17/1"), None);
        assert_eq!(log_of("x"), None);
    }
}
