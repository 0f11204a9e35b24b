//! `nethical audit`: read the audit trail, prove one decision, verify everything, mend what disks have lost.
//!
//! Verification believes keys and hashes, never the node that serves them.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;

use nethical_audit::generations::Generations;
use nethical_audit::note::VerifierKey;
use nethical_audit::verify::BadEntry;
use nethical_cluster::api::VerifierKeys;

use super::EndpointArgs;
use crate::output::{self, Exit, Format, stop};

pub mod cluster_log;
pub mod cold;
pub mod compare;
pub mod dictionary;
pub mod erase;
pub mod export;
pub mod fsck;
pub mod key;
pub mod legal;
pub mod offline;
pub mod online;
pub mod prove;
pub mod query;
pub mod tail;
pub mod tiers;
pub mod witness;

/// Read, prove and verify the audit trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Recompute every log and hold it against the signed checkpoints.
    #[command(after_help = "Exits 0 only where everything verifies; names the first entry that does not.\n\n\
        Examples:\n  nethical audit verify --data nethical-data            (offline, on the files of stopped or running nodes)\n  \
        nethical audit verify --endpoint http://127.0.0.1:8002  (over HTTP)")]
    Verify(VerifyArgs),
    /// Read all closed segments again, and mend what disks have lost.
    #[command(after_help = fsck::EXAMPLES)]
    Fsck(fsck::FsckArgs),
    /// Where segments are, what they take, and what was dropped from them.
    #[command(after_help = tiers::EXAMPLES)]
    Tiers(tiers::TiersArgs),
    /// Files of the cold tier, and the keys by which other people's programs read them.
    #[command(subcommand)]
    Cold(cold::ColdCommand),
    /// Fetch the proof of one decision and check it.
    #[command(
        after_help = "Examples:\n  nethical audit prove 3.1.42\n  nethical audit prove 3.1.42 --save decision.tlog-proof"
    )]
    Prove(prove::ProveArgs),
    /// The keys by which logs sign and nodes vouch.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Watch logs for somebody: sign each checkpoint that extends all that was signed before, and no other.
    #[command(after_help = "The folder remembers what was signed; it must never be set back to an older state.\n\n\
        Examples:\n  nethical audit witness --data w --print-key\n  \
        nethical audit witness --data w --listen 127.0.0.1:8700 --log \"$(nethical audit key vkey --cluster)\"")]
    Witness(witness::WitnessArgs),
    /// Make what was said of an agent or a person unreadable, everywhere and for good.
    #[command(
        after_help = "From the answer on nobody reads it. Then every node destroys the keys that could open copies in old logs and\n\
        snapshots; nodes that are down are named and do so when they are back. Every proof stays valid. An agent that acts on\n\
        gets a new key: what it does from then on is kept.\n\n\
        Examples:\n  nethical audit erase --tenant bank --agent assistant-7 --reason 'ticket 4711'\n  \
        nethical audit erase --tenant bank --person maria@example.org --reason 'GDPR Art. 17' --wait 0"
    )]
    Erase(erase::EraseArgs),
    /// How far erasures are.
    #[command(after_help = "Examples:\n  nethical audit erasures\n  nethical audit erasures 17 -o json")]
    Erasures(erase::ErasuresArgs),
    /// Order that records are kept, whatever their age, and lift such orders.
    #[command(subcommand)]
    LegalHold(legal::LegalHoldCommand),
    /// How long a tenant's bodies are kept, and the legal holds that stand.
    #[command(after_help = "Ages are set with `nethical tenant put NAME --retention routine=30d,notable=7y`.\n\n\
        Example:\n  nethical audit retention --tenant bank")]
    Retention(legal::RetentionArgs),
    /// Pack a tenant's bodies with a dictionary that was trained for them.
    #[command(subcommand)]
    Dictionary(dictionary::DictionaryCommand),
    /// Find entries in all groups.
    #[command(
        after_help = "Newest first. A page says where it ends; the cursor goes on there and never skips or repeats an entry.\n\
        Exits 10 where a group did not answer: it is named, and its entries are missing.\n\n\
        Examples:\n  nethical audit query --tenant airline --agent gpt-4o-airline-00 --limit 20\n  \
        nethical audit query --verdict block --from 2026-01-31T09:00:00Z -o json\n  \
        nethical audit query --tenant airline --tool refund --risk-min 700 --all"
    )]
    Query(query::QueryArgs),
    /// Print entries as they come.
    #[command(after_help = tail::EXAMPLES)]
    Tail(tail::TailArgs),
    /// Write entries to a file, a folder or standard output: NDJSON, CloudEvents, OCSF or Parquet.
    #[command(after_help = export::EXAMPLES)]
    Export(export::ExportArgs),
    /// Compare a client's journal (`nethical load --journal`) with the audit trail.
    #[command(
        after_help = "Exits 1 where a decision that the client was told is not recorded as told, or a request was executed twice.\n\n\
        Examples:\n  nethical load --rps 500 --duration 30 --journal load.journal\n  nethical audit compare load.journal"
    )]
    Compare(CompareArgs),
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The journal.
    #[arg(value_name = "FILE")]
    pub journal: PathBuf,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Folder of one node or of a whole `nethical dev` cluster.
    #[arg(long, value_name = "DIR", conflicts_with = "endpoint")]
    pub data: Option<PathBuf>,
    /// HTTP door of any node.
    #[arg(long, env = "NETHICAL_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,
    /// Only these groups (online).
    #[arg(long, value_delimiter = ',', value_name = "GROUP")]
    pub group: Vec<u32>,
    /// Bearer token.
    #[arg(long, env = "NETHICAL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
}

/// What `audit verify -o json` prints.
#[derive(Debug, Clone, Default, Serialize)]
pub struct VerifyReport {
    /// True where everything verifies.
    pub ok: bool,
    /// Leaves of all logs; copies of one log count once.
    pub entries: u64,
    /// Bodies that their logs say are erased.
    pub erased: u64,
    /// Of those, bodies that are not stored any more.
    pub dropped: u64,
    /// Bodies that are not stored any more because their time was over.
    pub expired: u64,
    /// Bodies that are in the cold tier alone, which was not read.
    pub away: u64,
    /// Logs looked at.
    pub groups: u64,
    /// Replicas' copies looked at (offline).
    pub copies: u64,
    /// Checkpoints whose root and signature fit.
    pub checkpoints: u64,
    /// Checkpoints in the cluster log whose root is that of their log here.
    pub covered: u64,
    /// Checkpoints in the cluster log that cover more leaves than the one copy that is here (offline).
    pub beyond: u64,
    /// Each log.
    pub logs: Vec<LogReport>,
    /// The first thing that does not verify.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<BadEntry>,
}

/// One log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogReport {
    /// Its group.
    pub group: u32,
    /// Its era.
    pub era: u32,
    /// Its leaves.
    pub entries: u64,
    /// Its root as recomputed, hex.
    pub root: String,
    /// Bodies that it says are erased.
    pub erased: u64,
    /// Of those, bodies that are not stored any more (of the copy that has dropped most).
    pub dropped: u64,
    /// Bodies that are not stored any more because their time was over.
    pub expired: u64,
    /// Bodies that are in the cold tier alone, which was not read.
    pub away: u64,
    /// True where it verifies.
    pub ok: bool,
}

impl VerifyReport {
    /// Adds a log's result.
    pub fn add(&mut self, log: LogReport) {
        self.entries += log.entries;
        self.erased += log.erased;
        self.dropped += log.dropped;
        self.expired += log.expired;
        self.away += log.away;
        self.groups += 1;
        self.ok &= log.ok;
        self.logs.push(log);
    }

    /// Notes something bad; the first one is kept.
    pub fn blame(&mut self, bad: BadEntry) {
        self.ok = false;
        self.first_bad.get_or_insert(bad);
    }
}

/// Carries the command out.
pub async fn run(command: AuditCommand, format: Format) -> anyhow::Result<()> {
    match command {
        AuditCommand::Verify(args) => verify(args, format).await,
        AuditCommand::Fsck(args) => fsck::run(args, format).await,
        AuditCommand::Tiers(args) => tiers::run(args, format).await,
        AuditCommand::Cold(command) => cold::run(command, format).await,
        AuditCommand::Prove(args) => prove::run(args, format).await,
        AuditCommand::Key(command) => key::run(command, format).await,
        AuditCommand::Witness(args) => witness::run(args).await,
        AuditCommand::Erase(args) => erase::run(args, format).await,
        AuditCommand::Erasures(args) => erase::list(args, format).await,
        AuditCommand::LegalHold(command) => legal::run(command, format).await,
        AuditCommand::Retention(args) => legal::retention(args, format).await,
        AuditCommand::Dictionary(command) => dictionary::run(command, format).await,
        AuditCommand::Query(args) => query::run(args, format).await,
        AuditCommand::Tail(args) => tail::run(args, format).await,
        AuditCommand::Export(args) => export::run(args, format).await,
        AuditCommand::Compare(args) => compare::run(args, format).await,
    }
}

async fn verify(args: VerifyArgs, format: Format) -> anyhow::Result<()> {
    let report = match &args.data {
        Some(dir) => offline::verify(dir)?,
        None => {
            let endpoint = args.endpoint.clone().unwrap_or_else(|| "http://127.0.0.1:8001".to_owned());
            let endpoint = EndpointArgs { endpoint, token: args.token.clone() };
            online::verify(&endpoint.connect()?, &args.group).await?
        }
    };
    match format {
        Format::Json => output::print_json(&report)?,
        Format::Table => print(&report)?,
    }
    match &report.first_bad {
        None if report.ok => Ok(()),
        None => Err(stop(Exit::Failed, "the audit trail does not verify")),
        Some(bad) => {
            let place = if bad.segment.is_empty() { String::new() } else { format!(" ({})", bad.segment) };
            let (group, leaf_index, reason) = (bad.group, bad.leaf_index, &bad.reason);
            Err(stop(
                Exit::Failed,
                format!("the audit trail does not verify: group {group}, leaf {leaf_index}{place}: {reason}"),
            ))
        }
    }
}

fn print(report: &VerifyReport) -> anyhow::Result<()> {
    let mut table = output::table(&["GROUP", "ERA", "ENTRIES", "ROOT", "VERIFIES"]);
    for log in &report.logs {
        let ok = if log.ok { "yes" } else { "NO" };
        table.add_row([&log.group.to_string(), &log.era.to_string(), &log.entries.to_string(), &log.root, ok]);
    }
    output::print_table(&table, "no logs found")?;
    let verdict = if report.ok { "all verify" } else { "NOT ALL VERIFY" };
    if report.covered + report.beyond > 0 {
        let beyond = match report.beyond {
            0 => String::new(),
            beyond => format!("; {beyond} cover more than the one copy that is here"),
        };
        output::print_line(&format!("{} checkpoints in the cluster log fit their logs{beyond}", report.covered))?;
    }
    let copies = if report.copies > 0 { format!(" ({} copies)", report.copies) } else { String::new() };
    let dropped = if report.dropped > 0 { format!(" ({} of them dropped)", report.dropped) } else { String::new() };
    let erased = match report.erased {
        0 => String::new(),
        erased => format!(", {erased} bodies are erased{dropped}"),
    };
    let expired = if report.expired > 0 { format!(", {} have expired", report.expired) } else { String::new() };
    let away = if report.away > 0 { format!(", {} are in the cold tier", report.away) } else { String::new() };
    let (entries, logs) = (report.entries, report.groups);
    output::print_line(&format!("{entries} entries in {logs} logs{copies}: {verdict}{erased}{expired}{away}"))
}

/// The keys that a node serves, parsed.
pub fn keys_of(vkeys: &[String]) -> anyhow::Result<Vec<VerifierKey>> {
    let parsed = vkeys.iter().map(|vkey| VerifierKey::parse(vkey)).collect::<Result<Vec<_>, _>>();
    parsed.context("the node serves a malformed verifier key")
}

/// The keys that checkpoints of logs are held against.
pub struct LogKeys {
    /// Of every log, of all generations, newest first.
    pub all: Vec<VerifierKey>,
    /// Those by which checkpoints are signed now.
    pub in_force: Vec<VerifierKey>,
    /// Which of them signed when.
    pub generations: Generations,
}

impl LogKeys {
    /// Those of the partitions' logs and of the cluster log, as a node serves them.
    pub fn of(keys: &VerifierKeys) -> anyhow::Result<Self> {
        let newest = [keys_of(&keys.vkeys)?, keys_of(std::slice::from_ref(&keys.cluster_log))?].concat();
        let generations = keys.generations();
        if generations.0.is_empty() {
            return Ok(Self { all: newest.clone(), in_force: newest, generations });
        }
        let names = newest.iter().map(VerifierKey::name);
        let all = names.clone().flat_map(|name| generations.keys(name)).collect();
        let in_force = names.flat_map(|name| generations.keys_in_force(name)).collect();
        Ok(Self { all, in_force, generations })
    }
}

fn time(at_ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at_ns)).map_or("-".to_owned(), |time| format!("{time:.3}"))
}
