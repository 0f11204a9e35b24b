//! `nethical audit fsck`: are the audit trail's files what they were when they were written, and can what is not be mended?
//!
//! A running node reads its own segments and mends them from other replicas; this asks it to, and waits. Folders of
//! stopped nodes are read here ([`offline`]).
#![allow(clippy::disallowed_methods, reason = "waits for nodes elsewhere; there is none in this process")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use nethical_cluster::api::{FsckList, FsckNode};

use crate::cli::EndpointArgs;
use crate::cli::http::Admin;
use crate::output::{self, Exit, Format, stop};

pub mod offline;

/// Between two looks at a pass.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Below the command's own help.
pub const EXAMPLES: &str = "A running node reads its closed segments every six hours by itself, and mends what is damaged \
    from other replicas; this asks all nodes for a pass now and waits for its end. Files of the cold tier are read as well, from the \
    object store. With --data the files of stopped nodes are \
    read; they are changed only where --from or --repair-from names a source, and only to exactly what was sealed.\n\
    Exits 10 where a running cluster has damage left or a node does not answer, 1 where files do.\n\n\
    Examples:\n  nethical audit fsck --endpoint http://127.0.0.1:8002\n  nethical audit fsck --status -o json\n  \
    nethical audit fsck --data nethical-data/node-1\n  \
    nethical audit fsck --data nethical-data/node-1 --from nethical-data/node-2\n  \
    nethical audit fsck --data nethical-data/node-1 --repair-from http://127.0.0.1:8002";

/// See `nethical audit fsck --help`.
#[derive(Debug, Args)]
pub struct FsckArgs {
    /// Read the files below this folder instead of asking a node.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Mend with files of another replica below this folder (repeatable).
    #[arg(long, value_name = "DIR", requires = "data")]
    pub from: Vec<PathBuf>,
    /// Mend with what a running node serves.
    #[arg(long, value_name = "URL", requires = "data")]
    pub repair_from: Option<String>,
    /// Only say what is known, without another pass.
    #[arg(long, conflicts_with = "data")]
    pub status: bool,
    /// Give up waiting for the pass after this many seconds; it goes on all the same.
    #[arg(long, default_value_t = 3_600, value_name = "SECONDS")]
    pub wait: u64,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries the command out.
pub async fn run(args: FsckArgs, format: Format) -> anyhow::Result<()> {
    if let Some(dir) = &args.data {
        let source = args.repair_from.as_ref().map(|url| Admin::new(url, args.endpoint.token.clone())).transpose()?;
        return offline::run(dir, &args.from, source.as_ref(), format).await;
    }
    let admin = args.endpoint.connect()?;
    let found = match args.status {
        true => admin.get(&["v1", "audit", "fsck"], &[]).await?,
        false => passed(&admin, Duration::from_secs(args.wait)).await?,
    };
    match format {
        Format::Json => output::print_json(&found)?,
        Format::Table => print(&found)?,
    }
    match found {
        FsckList { ok: true, .. } => Ok(()),
        FsckList { awaiting, .. } if !awaiting.is_empty() => {
            Err(stop(Exit::Unhealthy, format!("nodes {awaiting:?} did not answer")))
        }
        _ => Err(stop(Exit::Unhealthy, "the audit trail has damaged or missing copies")),
    }
}

/// Asks all nodes for a pass and waits for its end on those that answered.
async fn passed(admin: &Admin, wait: Duration) -> anyhow::Result<FsckList> {
    let asked: FsckList = admin.request(reqwest::Method::POST, &["v1", "audit", "fsck"], &[]).json().await?;
    let wanted: BTreeMap<u64, u64> = asked.nodes.iter().map(|node| (node.node, node.wanted)).collect();
    let segments = asked.nodes.iter().map(|node| node.segments).sum();
    let bar = output::bar(segments, "reading segments");
    for _ in 0..wait.as_millis() / LOOK_EVERY.as_millis() {
        let found: FsckList = admin.get(&["v1", "audit", "fsck"], &[]).await?;
        let has_ended = |node: &FsckNode| wanted.get(&node.node).is_none_or(|pass| node.done >= *pass);
        // A node that started anew has forgotten that it was asked; what it knows is in its answer.
        let is_new = |node: &FsckNode| wanted.get(&node.node).is_some_and(|pass| node.wanted < *pass);
        if found.nodes.iter().all(|node| has_ended(node) || is_new(node)) {
            bar.finish_and_clear();
            return Ok(found);
        }
        bar.set_position(
            found.nodes.iter().filter(|node| node.begun > node.done || has_ended(node)).map(|n| n.read).sum(),
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bar.finish_and_clear();
    Err(stop(Exit::Unknown, "the pass has not ended yet; `nethical audit fsck --status` says how far it is"))
}

fn print(found: &FsckList) -> anyhow::Result<()> {
    let mut table =
        output::table(&["NODE", "SEGMENTS", "READ", "PASSES", "REPAIRED ENTRIES", "DAMAGED SEGMENTS", "WHOLE"]);
    for node in &found.nodes {
        let damaged = node.damage.len() as u64 + node.more;
        let counts = [node.node, node.segments, node.read, node.done, node.repaired, damaged];
        let whole = if node.is_whole() { "yes" } else { "NO" };
        table.add_row(counts.iter().map(u64::to_string).chain([whole.to_owned()]));
    }
    output::print_table(&table, "no nodes")?;
    let mut table = output::table(&["NODE", "GROUP", "SEGMENT", "ENTRIES", "WHAT", "WHY NOT MENDED"]);
    for node in &found.nodes {
        for damage in &node.damage {
            let (id, group) = (node.node.to_string(), damage.group.to_string());
            let entries = format!("{}..{}", damage.first, damage.last);
            let tried = if damage.tried.is_empty() { "not tried yet" } else { &damage.tried };
            table.add_row([&id, &group, &damage.segment, &entries, &damage.why, tried]);
        }
        for gap in &node.gaps {
            let (id, group) = (node.node.to_string(), gap.group.to_string());
            let entries = format!("{}..{}", gap.first, gap.last);
            table.add_row([&id, &group, "-", &entries, "not here yet", "being fetched"]);
        }
    }
    if table.is_empty() { Ok(()) } else { output::print_table(&table, "") }
}
