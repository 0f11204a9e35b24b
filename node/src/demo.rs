//! `nethical demo`: the system's promises, shown on a real cluster of processes on this machine, in under a minute.
//!
//! Verdicts over both doors, a quarantine, an exhausted quota, a killed leader under load and its return, and the
//! audit trail verified from the files at the end. What was promised is checked against the client's own ledger; any
//! broken promise fails the command.
#![allow(clippy::disallowed_methods, reason = "the demo is a client and a parent of processes: it measures time")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use nethical_protocol::control::{AckState, HoldEffect, KeyPart, LimitKind, LimitMode, LimitSpec, TenantSpec};
use nethical_protocol::status::ClusterStatus;

use crate::cli::demo::DemoArgs;
use crate::cli::http::Admin;
use crate::cli::sender::{Decider, Protocol, TargetArgs};
use crate::dev::{DevCluster, DevOptions};
use crate::output::{self, Exit, Format, stop};
use ledger::{Ledger, Noting};

pub mod check;
mod ledger;
mod steps;

const NODES: u64 = 3;
const TENANT: &str = "demo";
/// Agents of the crowd that makes the ordinary actions.
const CROWD_AGENTS: u64 = 50;
/// The agent that is quarantined, and the one that spends its quota.
const SUSPECT: &str = "suspect";
const SPENDER: &str = "spender";
const SPENDER_CAP: u64 = 25;
/// The longest window that limits may have: 366 days, so that hardly any ends during a demo.
const SPENDER_WINDOW_S: u64 = 31_622_400;
const READY_WAIT: Duration = Duration::from_secs(40);

/// One step as reported.
#[derive(Debug, Clone, Serialize)]
struct Step {
    name: &'static str,
    detail: String,
    broken: Vec<String>,
}

/// The demo while it runs.
struct Demo {
    format: Format,
    cluster: DevCluster,
    ledger: Arc<Ledger>,
    http: Arc<dyn Decider>,
    quic: Arc<dyn Decider>,
    actions: u64,
    steps: Vec<Step>,
}

/// Runs the demo; an error where a promise was broken.
pub async fn run(args: DemoArgs, format: Format) -> anyhow::Result<()> {
    let started = Instant::now();
    let dir = std::env::temp_dir().join(format!("nethical-demo-{}", std::process::id()));
    let outcome = in_folder(&args, format, dir.clone()).await;
    if args.keep {
        output::remark(&format!("the cluster's files are kept in {}", dir.display()));
    } else if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    let steps = outcome?;
    let broken: Vec<String> = steps.iter().flat_map(|step| step.broken.clone()).collect();
    let elapsed_s = started.elapsed().as_secs_f64();
    match format {
        Format::Json => {
            let report = serde_json::json!({ "ok": broken.is_empty(), "elapsed_s": elapsed_s, "steps": steps });
            output::print_json(&report)?;
        }
        Format::Table if broken.is_empty() => {
            output::print_line(&format!("\nEvery promise was kept ({elapsed_s:.0} s). Next: nethical dev"))?;
        }
        Format::Table => {}
    }
    if broken.is_empty() {
        Ok(())
    } else {
        Err(stop(Exit::Failed, format!("promises were broken: {}", broken.join("; "))))
    }
}

/// Starts the cluster, runs the steps, and stops the cluster whatever happened.
async fn in_folder(args: &DemoArgs, format: Format, dir: PathBuf) -> anyhow::Result<Vec<Step>> {
    let options = DevOptions {
        nodes: NODES,
        data: dir.clone(),
        http_base: args.http_base,
        quic_base: args.quic_base,
        partitions: 12,
        witnesses: String::new(),
        log_level: "info".to_owned(),
        settings: Vec::new(),
        ready_wait: READY_WAIT,
    };
    let mut cluster = DevCluster::start(options).await?;
    let started = Instant::now();
    if let Err(error) = wait_all_ready(&mut cluster).await {
        cluster.stop().await?;
        return Err(error);
    }
    let ledger = Arc::new(Ledger::new());
    let (http, quic) =
        (connect(&cluster, Protocol::Http, &ledger).await, connect(&cluster, Protocol::Quic, &ledger).await);
    let (http, quic) = match (http, quic) {
        (Ok(http), Ok(quic)) => (http, quic),
        (Err(error), _) | (_, Err(error)) => {
            cluster.stop().await?;
            return Err(error.context("connecting to the cluster's doors"));
        }
    };
    let mut demo = Demo { format, cluster, ledger, http, quic, actions: args.actions, steps: Vec::new() };
    let ready_ms = started.elapsed().as_millis();
    demo.tell("cluster", format!("{NODES} nodes in {NODES} regions are ready after {ready_ms} ms"), Vec::new())?;
    let played = demo.play().await;
    let Demo { cluster, steps, .. } = demo;
    cluster.stop().await?;
    played?;
    let mut after = steps;
    after.push(steps::verify_files(&dir, format)?);
    Ok(after)
}

async fn wait_all_ready(cluster: &mut DevCluster) -> anyhow::Result<()> {
    let spinner = output::spinner("starting three nodes");
    let ids: Vec<u64> = (1..=NODES).collect();
    let ready = cluster.wait_ready(&ids, |text| spinner.set_message(text)).await;
    spinner.finish_and_clear();
    ready
}

/// A client of all nodes through one kind of door, which notes everything in the ledger.
async fn connect(cluster: &DevCluster, protocol: Protocol, ledger: &Arc<Ledger>) -> anyhow::Result<Arc<dyn Decider>> {
    let endpoint = |place: &crate::dev::NodePlace| match protocol {
        Protocol::Http => format!("http://{}", place.http),
        Protocol::Quic => format!("quic://{}", place.quic),
    };
    let target = TargetArgs {
        endpoint: cluster.places().map(endpoint).collect(),
        protocol: Some(protocol),
        ca: cluster.ca_path(),
        token: None,
        batch: 1,
    };
    Ok(Arc::new(Noting { ledger: ledger.clone(), inner: target.connect().await? }))
}

impl Demo {
    /// All steps that need a running cluster.
    async fn play(&mut self) -> anyhow::Result<()> {
        self.set_up().await?;
        self.crowd().await?;
        let quarantined_ns = self.quarantine().await?;
        self.quota().await?;
        self.kill_under_load().await?;
        self.compare_with_audit(quarantined_ns).await
    }

    /// Reports a step as it ends.
    fn tell(&mut self, name: &'static str, detail: String, broken: Vec<String>) -> anyhow::Result<()> {
        let step = Step { name, detail, broken };
        if self.format == Format::Table {
            print(&step)?;
        }
        self.steps.push(step);
        Ok(())
    }

    /// The HTTP door of one node.
    fn admin(&self, id: u64) -> anyhow::Result<Admin> {
        let place = self.cluster.places().find(|place| place.id == id).context("the demo has three nodes")?;
        Admin::new(&place.http, None)
    }

    async fn status(&self, id: u64) -> anyhow::Result<ClusterStatus> {
        self.admin(id)?.get(&["v1", "status"], &[]).await
    }

    /// The tenant and the spender's limit.
    async fn set_up(&mut self) -> anyhow::Result<()> {
        let admin = self.admin(1)?;
        let tenant = TenantSpec::named(TENANT);
        let put = reqwest::Method::PUT;
        let ack = admin.send(put.clone(), &["v1", "tenants", TENANT], &tenant).await.context("creating the tenant")?;
        crate::cli::agent::require_acknowledged(&ack)?;
        let limit = LimitSpec {
            id: "spender-cap".to_owned(),
            tenant: TENANT.to_owned(),
            unit: "requests".to_owned(),
            kind: LimitKind::Budget { cap: SPENDER_CAP, window_s: SPENDER_WINDOW_S },
            key: vec![KeyPart::Agent],
            mode: LimitMode::Enforce,
            overrun: Default::default(),
            reserve: 0,
            agent: SPENDER.to_owned(),
            tool: String::new(),
            cohort: String::new(),
        };
        let ack = admin.send(put, &["v1", "limits"], &limit).await.context("setting the limit")?;
        crate::cli::agent::require_acknowledged(&ack)
    }

    /// Places the quarantine; gives the ledger's time of its acknowledgement.
    async fn place_quarantine(&self) -> anyhow::Result<u64> {
        let body = serde_json::json!({ "reason": "shown in the demo", "ttl_s": 0, "effect": HoldEffect::Block });
        let path = ["v1", "agents", TENANT, SUSPECT, "quarantine"];
        let view: nethical_cluster::api::HoldView = self.admin(2)?.send(reqwest::Method::POST, &path, &body).await?;
        anyhow::ensure!(
            view.ack.state == AckState::Acknowledged,
            "groups {:?} did not confirm the quarantine",
            view.ack.awaiting
        );
        Ok(self.ledger.now_ns())
    }
}

fn print(step: &Step) -> anyhow::Result<()> {
    let mark = if step.broken.is_empty() { "ok    " } else { "BROKEN" };
    output::print_line(&format!("{mark} {:<13} {}", step.name, step.detail))?;
    step.broken.iter().try_for_each(|line| output::print_line(&format!("         {line}")))
}
