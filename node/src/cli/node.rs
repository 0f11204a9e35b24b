//! `nethical node`: reads the layers of configuration, refuses what is unsafe, and hands over to `run`.
#![allow(clippy::disallowed_methods, reason = "only the node's outermost layer reads the environment")]

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::config::{Layers, Severity};
use crate::output::{Exit, remark, stop};

/// See `nethical node --help`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Later layers win: default < --config < --env-file < NETHICAL_* environment < flags.\n\n\
    Examples:\n  nethical node --config /etc/nethical/node.toml\n  \
    nethical node --config node.toml --env-file config/eu-west-1.env\n  \
    nethical node --config node.toml --log-level debug --set raft.heartbeat_ms=100")]
pub struct NodeArgs {
    /// TOML file; `config/reference.toml` lists every setting.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Env file over the TOML file; the older system's region files are understood.
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: OverrideArgs,
    /// End when the process that started this one ends; `nethical dev` sets it.
    #[arg(long, hide = true)]
    pub die_with_parent: bool,
}

/// Flags over every other layer.
#[derive(Debug, Clone, Default, Args)]
pub struct OverrideArgs {
    /// This node's id [node.id].
    #[arg(long, value_name = "ID")]
    pub node_id: Option<u64>,
    /// This node's region [node.region].
    #[arg(long, value_name = "REGION")]
    pub region: Option<String>,
    /// Data folder [node.data_dir].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// HTTP door [listen.http].
    #[arg(long, value_name = "IP:PORT")]
    pub http: Option<String>,
    /// QUIC door for clients [listen.quic].
    #[arg(long, value_name = "IP:PORT")]
    pub quic: Option<String>,
    /// QUIC endpoint for other nodes [listen.peer].
    #[arg(long, value_name = "IP:PORT")]
    pub peer: Option<String>,
    /// Log filter [log.level].
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Log format, text or json [log.format].
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Initialise the cluster where the data folder is empty [cluster.bootstrap].
    #[arg(long)]
    pub bootstrap: bool,
    /// Any setting by its path, as in raft.heartbeat_ms=100; may be repeated.
    #[arg(long, value_name = "PATH=VALUE", value_parser = path_and_value)]
    pub set: Vec<(String, String)>,
}

fn path_and_value(text: &str) -> Result<(String, String), String> {
    let (path, value) = text.split_once('=').ok_or("write PATH=VALUE, as in raft.heartbeat_ms=100")?;
    Ok((path.to_owned(), value.to_owned()))
}

impl OverrideArgs {
    fn flags(&self) -> Vec<(String, String, String)> {
        let named = [
            ("node.id", "--node-id", self.node_id.map(|id| id.to_string())),
            ("node.region", "--region", self.region.clone()),
            ("node.data_dir", "--data-dir", self.data_dir.clone()),
            ("listen.http", "--http", self.http.clone()),
            ("listen.quic", "--quic", self.quic.clone()),
            ("listen.peer", "--peer", self.peer.clone()),
            ("log.level", "--log-level", self.log_level.clone()),
            ("log.format", "--log-format", self.log_format.clone()),
            ("cluster.bootstrap", "--bootstrap", self.bootstrap.then(|| "true".to_owned())),
        ];
        let set = self.set.iter().map(|(path, value)| (path.clone(), value.clone(), "--set".to_owned()));
        let named =
            named.into_iter().filter_map(|(path, flag, value)| Some((path.to_owned(), value?, flag.to_owned())));
        named.chain(set).collect()
    }
}

impl NodeArgs {
    /// All layers, the process environment included.
    pub fn layers(&self) -> Layers {
        Layers {
            config: self.config.clone(),
            env_file: self.env_file.clone(),
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            flags: self.overrides.flags(),
        }
    }
}

/// Starts a node. Returns when it has stopped.
pub fn run(args: NodeArgs) -> anyhow::Result<()> {
    if args.die_with_parent {
        set_parent_process_death_signal(Some(Signal::TERM)).context("asking to end with the parent")?;
    }
    let loaded = args.layers().load();
    for problem in &loaded.problems {
        let word = if problem.severity == Severity::Warning { "warning" } else { "error" };
        remark(&format!("{word}: {problem}"));
    }
    match (loaded.worst(), loaded.config) {
        (Some(Severity::Refusal), _) => {
            Err(stop(Exit::Refused, "the node does not start: its data could end up where it must not be"))
        }
        (_, Some(config)) => crate::run::run_node(config),
        (_, None) => {
            Err(stop(Exit::Usage, "the node does not start: correct the configuration (`nethical config check FILE`)"))
        }
    }
}
