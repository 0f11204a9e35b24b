//! `nethical audit key`: the public keys that other people's verifiers need. No secret passes through here.

use clap::Subcommand;
use serde::Serialize;

use nethical_audit::note::{KeyKind, VerifierKey};
use nethical_cluster::api::VerifierKeys;

use super::{EndpointArgs, keys_of};
use crate::output::{self, Format};

/// The keys by which logs sign and nodes vouch.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List them.
    #[command(after_help = "Example:\n  nethical audit key list")]
    List {
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Print C2SP verifier keys, one a line, for other people's verifiers.
    #[command(
        after_help = "Examples:\n  nethical audit key vkey > logs.vkeys\n  nethical audit key vkey --group 3\n  \
        nethical audit key vkey --cluster\n  nethical audit key vkey --cosigners > nodes.vkeys"
    )]
    Vkey {
        /// Only the log of this group.
        #[arg(long, conflicts_with = "cosigners")]
        group: Option<u32>,
        /// The cluster log, in place of the partitions'.
        #[arg(long, conflicts_with_all = ["group", "cosigners"])]
        cluster: bool,
        /// The nodes that vouch for checkpoints, in place of the logs.
        #[arg(long)]
        cosigners: bool,
        /// The witnesses that are shown the cluster log, in place of the logs.
        #[arg(long, conflicts_with_all = ["group", "cosigners", "cluster"])]
        witnesses: bool,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
}

/// A row of `audit key list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct KeyRow {
    name: String,
    /// `log`, `cosigner` or `witness`.
    kind: &'static str,
    /// Eight hex digits, as in signature lines.
    id: String,
    vkey: String,
}

impl KeyRow {
    fn of(key: &VerifierKey) -> Self {
        let kind = match key.kind() {
            KeyKind::Log => "log",
            KeyKind::Cosigner => "cosigner",
        };
        Self { name: key.name().to_owned(), kind, id: format!("{:08x}", key.id()), vkey: key.to_string() }
    }
}

/// Carries the command out.
pub async fn run(command: KeyCommand, format: Format) -> anyhow::Result<()> {
    match command {
        KeyCommand::List { endpoint } => list(&fetch(&endpoint).await?, format),
        KeyCommand::Vkey { group, cluster, cosigners, witnesses, endpoint } => {
            let keys = fetch(&endpoint).await?;
            let origin = group.map(|group| format!("{}/p/{group}/", keys.cluster));
            let wanted = match (cluster, cosigners, witnesses) {
                (true, ..) => std::slice::from_ref(&keys.cluster_log),
                (_, true, _) => &keys.cosigners,
                (.., true) => &keys.witnesses,
                _ => &keys.vkeys,
            };
            let is_wanted = |vkey: &&String| origin.as_ref().is_none_or(|origin| vkey.starts_with(origin.as_str()));
            let vkeys: Vec<&String> = wanted.iter().filter(is_wanted).collect();
            if format == Format::Json {
                return output::print_json(&vkeys);
            }
            vkeys.into_iter().try_for_each(|vkey| output::print_line(vkey))
        }
    }
}

async fn fetch(endpoint: &EndpointArgs) -> anyhow::Result<VerifierKeys> {
    endpoint.connect()?.get(&["v1", "audit", "keys"], &[]).await
}

fn list(keys: &VerifierKeys, format: Format) -> anyhow::Result<()> {
    let cluster_log = keys_of(std::slice::from_ref(&keys.cluster_log))?;
    let parsed = [keys_of(&keys.vkeys)?, cluster_log, keys_of(&keys.cosigners)?].concat();
    let witnesses = keys_of(&keys.witnesses)?;
    let witnesses = witnesses.iter().map(|key| KeyRow { kind: "witness", ..KeyRow::of(key) });
    let rows: Vec<KeyRow> = parsed.iter().map(KeyRow::of).chain(witnesses).collect();
    if format == Format::Json {
        return output::print_json(&rows);
    }
    let mut table = output::table(&["NAME", "KIND", "ID", "VERIFIER KEY"]);
    for row in &rows {
        table.add_row([row.name.as_str(), row.kind, &row.id, &row.vkey]);
    }
    output::print_table(&table, "this node has no signing key")
}
