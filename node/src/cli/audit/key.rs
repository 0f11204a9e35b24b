//! `nethical audit key`: the public keys that other people's verifiers need, and their turning. No secret passes through here.

use clap::Subcommand;
use serde::Serialize;

use nethical_audit::note::{KeyKind, VerifierKey};
use nethical_cluster::api::{VerifierKeys, ZoneKeyView};
use nethical_protocol::ids::NodeId;

use super::{EndpointArgs, keys_of, time};
use crate::output::{self, Format};

pub mod rotate;

/// The keys by which logs sign and nodes vouch.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List them, of all generations.
    #[command(after_help = "Example:\n  nethical audit key list")]
    List {
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Print C2SP verifier keys, one a line, for other people's verifiers.
    #[command(
        after_help = "Examples:\n  nethical audit key vkey > logs.vkeys\n  nethical audit key vkey --group 3\n  \
        nethical audit key vkey --cluster --all\n  nethical audit key vkey --cosigners > nodes.vkeys"
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
        /// Also those of earlier generations, the newest first.
        #[arg(long, conflicts_with = "witnesses")]
        all: bool,
        #[command(flatten)]
        endpoint: EndpointArgs,
    },
    /// Give the zone's logs, or one node, a new key.
    #[command(after_help = rotate::EXAMPLES)]
    Rotate(rotate::RotateArgs),
}

/// A row of `audit key list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct KeyRow {
    name: String,
    /// `log`, `cosigner` or `witness`.
    kind: &'static str,
    /// From 1; 0 for witnesses.
    generation: u32,
    /// Eight hex digits, as in signature lines.
    id: String,
    /// `current`, `overlapping`, `retiring` or `retired`.
    state: String,
    /// Nanoseconds since 1970; 0 for the founding.
    since_ns: u64,
    until_ns: Option<u64>,
    vkey: String,
}

impl KeyRow {
    /// Of a key of which nothing is known but itself.
    fn of(key: &VerifierKey, kind: &'static str, generation: u32) -> Self {
        Self {
            name: key.name().to_owned(),
            kind,
            generation,
            id: format!("{:08x}", key.id()),
            state: "current".to_owned(),
            since_ns: 0,
            until_ns: None,
            vkey: key.to_string(),
        }
    }
}

/// Carries the command out.
pub async fn run(command: KeyCommand, format: Format) -> anyhow::Result<()> {
    match command {
        KeyCommand::List { endpoint } => list(&fetch(&endpoint).await?, format),
        KeyCommand::Vkey { group, cluster, cosigners, witnesses, all, endpoint } => {
            let keys = fetch(&endpoint).await?;
            let origin = group.map(|group| format!("{}/p/{group}/", keys.cluster));
            let rows = rows(&keys)?;
            let is_wanted = |row: &&KeyRow| match (cluster, cosigners, witnesses) {
                (true, ..) => row.kind == "log" && is_cluster_log(&keys, &row.name),
                (_, true, _) => row.kind == "cosigner",
                (.., true) => row.kind == "witness",
                _ => row.kind == "log" && !is_cluster_log(&keys, &row.name),
            };
            let is_wanted = |row: &&KeyRow| {
                is_wanted(row)
                    && (all || row.state == "current")
                    && origin.as_ref().is_none_or(|origin| row.name.starts_with(origin))
            };
            let vkeys: Vec<&String> = rows.iter().filter(is_wanted).map(|row| &row.vkey).collect();
            if format == Format::Json {
                return output::print_json(&vkeys);
            }
            vkeys.into_iter().try_for_each(|vkey| output::print_line(vkey))
        }
        KeyCommand::Rotate(args) => rotate::run(args, format).await,
    }
}

fn is_cluster_log(keys: &VerifierKeys, name: &str) -> bool {
    keys.cluster_log.split('+').next() == Some(name)
}

async fn fetch(endpoint: &EndpointArgs) -> anyhow::Result<VerifierKeys> {
    endpoint.connect()?.get(&["v1", "audit", "keys"], &[]).await
}

/// All keys: of each log its generations, newest first; of each node its own, newest first; witnesses.
fn rows(keys: &VerifierKeys) -> anyhow::Result<Vec<KeyRow>> {
    let mut rows = Vec::new();
    for newest in keys_of(&keys.vkeys)?.iter().chain(&keys_of(std::slice::from_ref(&keys.cluster_log))?) {
        let known = keys.signing.iter().rev().filter_map(|view| log_row(newest.name(), view));
        let before = rows.len();
        rows.extend(known);
        if rows.len() == before {
            rows.push(KeyRow::of(newest, "log", 1));
        }
    }
    for vkey in keys_of(&keys.all_cosigners())? {
        let text = vkey.to_string();
        let turned = keys.cosigner_keys.iter().find(|view| view.vkey == text);
        let bare = KeyRow::of(&vkey, "cosigner", 1);
        rows.push(turned.map_or(bare.clone(), |view| KeyRow {
            generation: view.generation,
            state: view.state.clone(),
            since_ns: view.since_ns,
            until_ns: view.until_ns,
            ..bare
        }));
    }
    let place = |row: &KeyRow| (row.kind == "cosigner").then(|| (row.name.clone(), u32::MAX - row.generation));
    rows.sort_by_key(place);
    rows.extend(keys_of(&keys.witnesses)?.iter().map(|key| KeyRow::of(key, "witness", 0)));
    Ok(rows)
}

fn log_row(origin: &str, view: &ZoneKeyView) -> Option<KeyRow> {
    let generation = view.generation()?;
    let key = VerifierKey::new(origin, KeyKind::Log, generation.public).ok()?;
    let (state, since_ns, until_ns) = (view.state.clone(), view.since_ns, view.until_ns);
    Some(KeyRow { state, since_ns, until_ns, ..KeyRow::of(&key, "log", generation.number) })
}

fn list(keys: &VerifierKeys, format: Format) -> anyhow::Result<()> {
    let rows = rows(keys)?;
    if format == Format::Json {
        return output::print_json(&rows);
    }
    let mut table = output::table(&["NAME", "KIND", "GENERATION", "ID", "STATE", "SINCE", "UNTIL"]);
    for row in &rows {
        let since = if row.since_ns == 0 { "-".to_owned() } else { time(row.since_ns) };
        let until = row.until_ns.map_or("-".to_owned(), time);
        let generation = if row.generation == 0 { "-".to_owned() } else { row.generation.to_string() };
        table.add_row([row.name.as_str(), row.kind, &generation, &row.id, &row.state, &since, &until]);
    }
    output::print_table(&table, "this node has no signing key")?;
    keys.signing.iter().filter_map(pending).try_for_each(|line| output::print_line(&line))
}

/// What a generation waits for, in words.
fn pending(view: &ZoneKeyView) -> Option<String> {
    let (generation, nodes) =
        (view.generation, view.awaits.iter().map(|node| NodeId(*node).to_string()).collect::<Vec<_>>());
    let waits = if nodes.is_empty() { String::new() } else { format!("; nodes {} are waited for", nodes.join(", ")) };
    match view.state.as_str() {
        "turning" => Some(format!("generation {generation} of the zone's key is turning: nodes are given it{waits}")),
        "overlapping" => {
            let until = view.until_ns.map_or(String::new(), |until_ns| format!(" until {}", time(until_ns)));
            Some(format!("generation {generation} of the zone's key signs beside the newest{until}; --now ends that"))
        }
        "retiring" => Some(format!("generation {generation} of the zone's key signs nothing; nodes destroy it{waits}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nethical_audit::note::Signer;

    #[test]
    fn each_log_is_listed_with_all_generations_the_newest_first() {
        let key = |origin: &str, seed| Signer::from_seed(origin, &[seed; 32]).expect("a good name").verifier_key();
        let view = |generation, state: &str, seed| ZoneKeyView {
            generation,
            state: state.to_owned(),
            public: hex::encode(key("any", seed).public()),
            since_ns: 7,
            until_ns: None,
            since_leaf: 0,
            until_leaf: None,
            reason: String::new(),
            awaits: vec![3],
        };
        let keys = VerifierKeys {
            cluster: "demo".into(),
            vkeys: vec![key("demo/p/2/1", 2).to_string()],
            cluster_log: key("demo/cluster/1", 2).to_string(),
            signing: vec![view(1, "retiring", 1), view(2, "current", 2)],
            ..VerifierKeys::default()
        };
        let found = rows(&keys).expect("they read");
        let told: Vec<_> = found.iter().map(|row| (row.name.as_str(), row.generation, row.state.as_str())).collect();
        let (partition, cluster) = ("demo/p/2/1", "demo/cluster/1");
        assert_eq!(
            told,
            [(partition, 2, "current"), (partition, 1, "retiring"), (cluster, 2, "current"), (cluster, 1, "retiring")]
        );
        assert_eq!(found[1].vkey, key(partition, 1).to_string());
        let waits: Vec<String> = keys.signing.iter().filter_map(pending).collect();
        assert_eq!(waits, ["generation 1 of the zone's key signs nothing; nodes destroy it; nodes 3 are waited for"]);
        let bare = VerifierKeys { signing: Vec::new(), ..keys };
        assert_eq!(rows(&bare).expect("they read").len(), 2);
    }
}
