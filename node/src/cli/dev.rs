//! `nethical dev`: a cluster of node processes on this machine, until Ctrl-C.
#![allow(clippy::disallowed_methods, reason = "waits on the terminal's behalf; there is no node in this process")]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::dev::{DevCluster, DevOptions, NODES_MAX, NodePlace};
use crate::output::{self, Format};

/// See `nethical dev --help`.
#[derive(Debug, Args)]
#[command(
    after_help = "Node k stands in region k and listens at --http-base + k (HTTP), --quic-base + k (QUIC) and --quic-base + 100 + k (peers).\n\
    Ctrl-C stops every node. Starting again on the same folder goes on where it stopped.\n\n\
    Examples:\n  nethical dev\n  nethical dev --nodes 5 --data /tmp/five --http-base 8100 --quic-base 9100\n  \
    nethical dev -o json > cluster.json &\n  \
    nethical dev --set audit.warm_after_s=3600 --set raft.heartbeat_ms=100"
)]
pub struct DevArgs {
    /// How many nodes; 3 survive the loss of one.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=NODES_MAX))]
    pub nodes: u64,
    /// Folder of the cluster.
    #[arg(long, default_value = "nethical-data", value_name = "DIR")]
    pub data: PathBuf,
    /// Node k's HTTP door is at this port plus k.
    #[arg(long, default_value_t = 8000, value_name = "PORT")]
    pub http_base: u16,
    /// Node k's QUIC door is at this port plus k.
    #[arg(long, default_value_t = 9000, value_name = "PORT")]
    pub quic_base: u16,
    /// Partition groups; fixed at the first start.
    #[arg(long, default_value_t = 12, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub partitions: u32,
    /// A witness of the cluster log, `URL VKEY` (`nethical audit witness`); may be given several times.
    #[arg(long, value_name = "WITNESS")]
    pub witness: Vec<String>,
    /// The nodes' log filter; their logs are in DIR/node-<k>/log.
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
    /// Any setting of every node by its path, as in audit.warm_after_s=3600 (config/reference.toml); may be given several times.
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Seconds until all nodes must be ready.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub ready_timeout_s: u64,
}

impl From<DevArgs> for DevOptions {
    fn from(args: DevArgs) -> Self {
        Self {
            nodes: args.nodes,
            data: args.data,
            http_base: args.http_base,
            quic_base: args.quic_base,
            partitions: args.partitions,
            witnesses: args.witness.join(", "),
            log_level: args.log_level,
            settings: args.set,
            ready_wait: Duration::from_secs(args.ready_timeout_s),
        }
    }
}

#[derive(Debug, Serialize)]
struct Report<'c> {
    data: PathBuf,
    ca: PathBuf,
    endpoint: String,
    nodes: Vec<NodeReport<'c>>,
}

#[derive(Debug, Serialize)]
struct NodeReport<'c> {
    #[serde(flatten)]
    place: &'c NodePlace,
    pid: Option<u32>,
    log: PathBuf,
}

/// Carries the command out: returns when the cluster has stopped.
pub async fn run(args: DevArgs, format: Format) -> anyhow::Result<()> {
    let mut cluster = DevCluster::start(args.into()).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let spinner = output::spinner("starting");
    let ids: Vec<u64> = cluster.places().map(|place| place.id).collect();
    let ready = tokio::select! {
        ready = cluster.wait_ready(&ids, |text| spinner.set_message(text)) => Some(ready),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    spinner.finish_and_clear();
    match ready {
        Some(Ok(())) => report(&cluster, format)?,
        Some(Err(error)) => {
            cluster.stop().await?;
            return Err(error);
        }
        None => return cluster.stop().await,
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
        for (id, end) in cluster.ended() {
            output::remark(&format!(
                "node {id} ended ({end}); the others go on. Its log: {}",
                log_of(&cluster, id).display()
            ));
        }
    }
    output::remark("stopping");
    cluster.stop().await
}

fn log_of(cluster: &DevCluster, id: u64) -> PathBuf {
    cluster.data().join(format!("node-{id}")).join("log")
}

fn report(cluster: &DevCluster, format: Format) -> anyhow::Result<()> {
    let nodes: Vec<NodeReport<'_>> = cluster
        .places()
        .map(|place| NodeReport { place, pid: cluster.pid(place.id), log: log_of(cluster, place.id) })
        .collect();
    let endpoint = format!("http://{}", nodes.first().map_or("", |node| node.place.http.as_str()));
    if format == Format::Json {
        let report = Report { data: cluster.data().to_owned(), ca: cluster.ca_path(), endpoint, nodes };
        return output::print_json(&report);
    }
    let mut table = output::table(&["NODE", "REGION", "HTTP", "QUIC", "PID", "LOG"]);
    for node in &nodes {
        let NodePlace { id, region, http, quic, .. } = node.place;
        let pid = node.pid.map_or("-".to_owned(), |pid| pid.to_string());
        let log = node.log.display().to_string();
        table.add_row([&id.to_string(), region, &format!("http://{http}"), &format!("quic://{quic}"), &pid, &log]);
    }
    output::print_table(&table, "")?;
    output::print_line(&format!(
        "\nready. CA for QUIC: {}\nTry: nethical status --endpoint {endpoint}\nCtrl-C stops every node.",
        cluster.ca_path().display()
    ))
}
