//! A cluster of real node processes on this machine: its folder, its keys, its children, and their orderly end.
//!
//! Used by `nethical dev` and `nethical demo`. It starts this same binary with `node --config …` once a node, and ends
//! only processes that it started itself, by their process id. Nodes know nothing of it: they read files and listen.
//!
//! ```text
//! DIR/dev.lock                    held while a cluster runs here
//! DIR/ca/ca.pem, ca-key.pem       the development authority
//! DIR/node-<k>/config.toml        rewritten at each start; data, certificates and keyring stay
//! DIR/node-<k>/{cert,key}.pem, keyring, kek, data/, pid, log
//! ```
#![allow(clippy::disallowed_methods, reason = "starts processes and waits for them; there is no world outside a node")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::region::REGIONS;
use crate::output::{Exit, stop};

pub mod child;
pub mod folder;
pub mod provision;

pub use provision::parse_kek;

use child::NodeProcess;
use folder::Folder;

/// Nodes that this machine may be asked to hold; as many as there are regions.
pub const NODES_MAX: u64 = REGIONS.len() as u64;
/// A peer endpoint's port is that of the node's QUIC door and this.
const PEER_PORT_OFFSET: u16 = 100;
/// How long a node may take to stop by itself.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// What cluster to run.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// How many nodes, 1 to [`NODES_MAX`].
    pub nodes: u64,
    /// The folder.
    pub data: PathBuf,
    /// Node k's HTTP door is at this port plus k.
    pub http_base: u16,
    /// Node k's QUIC door is at this port plus k; its peer endpoint 100 above that.
    pub quic_base: u16,
    /// Partition groups.
    pub partitions: u32,
    /// Witnesses of the cluster log, `URL VKEY` with commas between them.
    pub witnesses: String,
    /// The nodes' log filter.
    pub log_level: String,
    /// Settings of every node, `PATH=VALUE`; they win over the file.
    pub settings: Vec<String>,
    /// How long all nodes together may take to become ready.
    pub ready_wait: Duration,
}

/// Where one node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodePlace {
    /// Its id, from 1.
    pub id: u64,
    /// Its region.
    pub region: String,
    /// `host:port` of the HTTP door.
    pub http: String,
    /// `host:port` of the QUIC door.
    pub quic: String,
    /// `host:port` of the peer endpoint.
    pub peer: String,
    /// Its folder.
    pub dir: PathBuf,
}

impl DevOptions {
    /// All nodes' places, or the reason why the ports do not work out.
    pub fn places(&self) -> anyhow::Result<Vec<NodePlace>> {
        let usage = |message: String| stop(Exit::Usage, message);
        if !(1..=NODES_MAX).contains(&self.nodes) {
            return Err(usage(format!("--nodes takes 1 to {NODES_MAX}, one for each region")));
        }
        let mut ports = std::collections::BTreeSet::new();
        let mut address = |base: u16, add: u64, what: &str| {
            let port = u16::try_from(add).ok().and_then(|add| base.checked_add(add));
            let port = port.ok_or_else(|| usage(format!("there is no port {base} + {add} for the {what}")))?;
            // HTTP is TCP, the others UDP; equal numbers would still confuse people.
            if !ports.insert(port) {
                return Err(usage(format!("port {port} is wanted twice; move --http-base and --quic-base apart")));
            }
            Ok(format!("127.0.0.1:{port}"))
        };
        (1..=self.nodes)
            .map(|id| {
                Ok(NodePlace {
                    id,
                    region: REGIONS[(id - 1) as usize].to_owned(),
                    http: address(self.http_base, id, "HTTP door")?,
                    quic: address(self.quic_base, id, "QUIC door")?,
                    peer: address(self.quic_base, id + u64::from(PEER_PORT_OFFSET), "peer endpoint")?,
                    dir: self.data.join(format!("node-{id}")),
                })
            })
            .collect()
    }
}

/// A running cluster. Dropping it kills what it started; [`DevCluster::stop`] ends it in order.
#[derive(Debug)]
pub struct DevCluster {
    options: DevOptions,
    folder: Folder,
    nodes: Vec<(NodePlace, Option<NodeProcess>)>,
}

impl DevCluster {
    /// Prepares the folder and starts every node. They are not ready yet.
    ///
    /// Call it, and [`DevCluster::start_node`], from the program's main thread: children end with the thread that
    /// started them (`PR_SET_PDEATHSIG`), so that a killed `nethical dev` leaves nobody behind.
    pub async fn start(options: DevOptions) -> anyhow::Result<Self> {
        let places = options.places()?;
        let folder = Folder::open(&options.data)?;
        folder.refuse_living_nodes()?;
        folder::refuse_busy_ports(&places)?;
        provision::provision(&folder, &options, &places)?;
        let nodes = places.into_iter().map(|place| (place, None)).collect();
        let mut cluster = Self { options, folder, nodes };
        for id in 1..=cluster.options.nodes {
            cluster.start_node(id)?;
        }
        Ok(cluster)
    }

    /// Every node's place.
    pub fn places(&self) -> impl Iterator<Item = &NodePlace> {
        self.nodes.iter().map(|(place, _)| place)
    }

    /// The authority's certificate, which QUIC clients need.
    pub fn ca_path(&self) -> PathBuf {
        self.folder.ca_path()
    }

    /// The cluster's folder.
    pub fn data(&self) -> &std::path::Path {
        &self.options.data
    }

    /// The node's process id while it runs.
    pub fn pid(&self, id: u64) -> Option<u32> {
        self.nodes.iter().find(|(place, _)| place.id == id)?.1.as_ref()?.pid()
    }

    /// Starts a node that does not run.
    pub fn start_node(&mut self, id: u64) -> anyhow::Result<()> {
        let settings = self.options.settings.clone();
        let (place, process) = self.node(id)?;
        *process = Some(NodeProcess::start(place, &settings)?);
        Ok(())
    }

    /// `kill -9`: the node gets no chance to write anything more.
    pub async fn kill_node(&mut self, id: u64) -> anyhow::Result<()> {
        match self.node(id)?.1.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    fn node(&mut self, id: u64) -> anyhow::Result<(&NodePlace, &mut Option<NodeProcess>)> {
        let found = self.nodes.iter_mut().find(|(place, _)| place.id == id);
        let (place, process) = found.ok_or_else(|| anyhow::anyhow!("there is no node {id} here"))?;
        Ok((place, process))
    }

    /// Waits until the nodes named answer `/readyz` with 200. `tell` gets who is still awaited and why.
    pub async fn wait_ready(&mut self, ids: &[u64], mut tell: impl FnMut(String)) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.options.ready_wait;
        let mut awaited: Vec<u64> = ids.to_vec();
        let mut why = String::new();
        while let Some(id) = awaited.first().copied() {
            if let Some((who, end)) = self.ended().into_iter().find(|(who, _)| ids.contains(who)) {
                let place = self.node(who)?.0;
                anyhow::bail!("node {who} ended before it was ready ({end}):\n{}", child::log_tail(place));
            }
            match child::readiness(self.node(id)?.0).await {
                Ok(()) => drop(awaited.remove(0)),
                Err(reason) => {
                    why = reason;
                    tell(format!("waiting for node {id}: {why}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            if Instant::now() > deadline && !awaited.is_empty() {
                let wait_s = self.options.ready_wait.as_secs();
                let logs: Vec<String> =
                    self.places().map(|place| place.dir.join("log").display().to_string()).collect();
                let message =
                    format!("node {id} is not ready after {wait_s} s: {why}. The logs say more: {}", logs.join(", "));
                return Err(stop(Exit::Unhealthy, message));
            }
        }
        Ok(())
    }

    /// Nodes that ended by themselves since they were started, with how; each is told once.
    pub fn ended(&mut self) -> Vec<(u64, String)> {
        let mut ended = Vec::new();
        for (place, process) in &mut self.nodes {
            if let Some(end) = process.as_mut().and_then(NodeProcess::ended) {
                ended.push((place.id, end));
                *process = None;
            }
        }
        ended
    }

    /// Asks every node to stop, and kills what has not stopped after five seconds.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let running: Vec<NodeProcess> = self.nodes.iter_mut().filter_map(|(_, process)| process.take()).collect();
        running.iter().for_each(NodeProcess::ask_to_stop);
        let deadline = Instant::now() + STOP_WAIT;
        for process in running {
            process.stopped_by(deadline).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(nodes: u64, http_base: u16, quic_base: u16) -> DevOptions {
        DevOptions {
            nodes,
            data: PathBuf::from("d"),
            http_base,
            quic_base,
            partitions: 12,
            witnesses: String::new(),
            log_level: "info".into(),
            settings: Vec::new(),
            ready_wait: Duration::from_secs(1),
        }
    }

    #[test]
    fn node_k_stands_in_region_k_at_its_ports() {
        let places = options(3, 8000, 9000).places().expect("the defaults work");
        assert_eq!(places[2].region, "ap-south-1");
        assert_eq!((places[2].http.as_str(), places[2].quic.as_str()), ("127.0.0.1:8003", "127.0.0.1:9003"));
        assert_eq!(places[0].peer, "127.0.0.1:9101");
        assert_eq!(places[1].dir, PathBuf::from("d/node-2"));
    }

    #[test]
    fn impossible_ports_and_counts_are_usage_errors() {
        for bad in [options(0, 8000, 9000), options(11, 8000, 9000), options(3, 65_534, 9000), options(3, 9000, 9000)] {
            let error = bad.places().expect_err("impossible");
            assert_eq!(crate::output::exit_code(&error), Exit::Usage as u8);
        }
    }
}
