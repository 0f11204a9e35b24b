//! `just bench`: the figures that the README states, measured on this machine and printed with their conditions.
//!
//! Runs the released binary as three processes with a load generator beside them, everything durable and audited, and
//! afterwards compares the client's own journal with the audit trail. Measures; asserts nothing about time.
#![allow(clippy::disallowed_methods, reason = "a bench is the outermost layer: it measures time and reads files")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use nethical_client::{Client, Protocol};
use nethical_tests::cluster::{Cluster, binary};
use serde_json::{Value, json};

/// The tenant that `nethical load` acts for.
const TENANT: &str = "load-test";
const KILLS: usize = 9;

fn main() -> anyhow::Result<()> {
    let seconds: u64 = std::env::args().nth(1).map_or(Ok(60), |text| text.parse()).context("usage: bench [SECONDS]")?;
    print_machine();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(seconds))
}

fn print_machine() {
    let shell = |command: &str| {
        let output = Command::new("sh").args(["-c", command]).output();
        output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    println!("machine   {} cores, {}", shell("nproc"), shell("grep -m1 'model name' /proc/cpuinfo | cut -d: -f2"));
    println!("kernel    {}", shell("uname -r"));
    println!("versions  {}, {}", shell("rustc --version"), shell(&format!("{} --version", binary().display())));
    println!("disk      fdatasync before every acknowledgement, on three nodes of one disk");
}

async fn run(seconds: u64) -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    idle(&cluster, "fresh")?;
    conditions(&cluster)?;
    let half = (seconds / 2).max(5);
    load(&cluster, "one at a time, HTTP, 200/s", "http", 1, 200, half, 200)?;
    load(&cluster, "batches of 1, QUIC", "quic", 1, 0, half, 1000)?;
    load(&cluster, "batches of 64, QUIC", "quic", 64, 0, seconds, 1000)?;
    idle(&cluster, "after load")?;
    outages(&mut cluster).await?;
    let (code, report) = cluster.cli(1, &["audit", "verify"])?;
    println!("audit     verify exit {code}: {} entries, ok {}", report["entries"], report["ok"]);
    cluster.stop()
}

/// Three limits that match every action and never refuse, beside the default bundle's policies and all detectors.
fn conditions(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.cli(1, &["tenant", "put", TENANT])?;
    for (id, key) in [("per-agent", "agent"), ("per-tool", "agent,tool"), ("per-session", "agent,session")] {
        let limit = [
            "limit",
            "set",
            TENANT,
            id,
            "--rate",
            "1000000000",
            "--period-s",
            "1",
            "--burst",
            "1000000000",
            "--key",
            key,
        ];
        let (code, answer) = cluster.cli(1, &limit)?;
        anyhow::ensure!(code == 0, "limit {id}: {answer}");
    }
    let policy = cluster.get(1, "/v1/policy")?;
    let status = cluster.get(1, "/v1/status")?;
    let led: Vec<usize> = status["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| node["leader_of"].as_array().map_or(0, Vec::len))
        .collect();
    println!(
        "policies  {}; limits matching each action 3; detectors on; partitions 12; groups led by node {led:?}",
        policy["policies"]
    );
    Ok(())
}

fn load(
    cluster: &Cluster,
    name: &str,
    protocol: &str,
    batch: u32,
    rps: u32,
    seconds: u64,
    agents: u32,
) -> anyhow::Result<()> {
    let journal = cluster.data().join("journal.ndjson");
    let _ = std::fs::remove_file(&journal);
    let numbers =
        [agents.to_string(), rps.to_string(), seconds.to_string(), (seconds / 6).max(2).to_string(), batch.to_string()];
    let mut command = Command::new(binary());
    command
        .args(["load", "-o", "json", "--agents", &numbers[0], "--rps", &numbers[1], "--duration", &numbers[2]])
        .args(["--warmup", &numbers[3], "--batch", &numbers[4], "--protocol", protocol])
        .args(["--in-flight", if batch == 1 { "128" } else { "24" }, "--journal"])
        .arg(&journal)
        .env("NETHICAL_CA", cluster.data().join("ca").join("ca.pem"));
    for node in 1..=3 {
        command.args(["--endpoint", &cluster.http(node)]);
    }
    let before = cpu_ticks(cluster)?;
    let begun = Instant::now();
    let output = command.output()?;
    let busy = (cpu_ticks(cluster)? - before) as f64 / 100.0 / begun.elapsed().as_secs_f64();
    let report: Value =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    println!(
        "load      {name}: {} decisions/s, latency ms {}, failed {}, nodes' cores {busy:.2}",
        report["achieved_rps"], report["latency_ms"], report["failed"],
    );
    compare(cluster, &journal)
}

/// The client's own journal, written before sending, against the audit trail.
fn compare(cluster: &Cluster, journal: &Path) -> anyhow::Result<()> {
    let journal = journal.to_string_lossy().into_owned();
    let (code, report) = cluster.cli(2, &["audit", "compare", &journal])?;
    println!("journal   compare exit {code}: {report}");
    Ok(())
}

/// User and system time of all nodes, in hundredths of a second.
fn cpu_ticks(cluster: &Cluster) -> anyhow::Result<u64> {
    let mut ticks = 0;
    for node in 1..=3 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", cluster.pid(node)?))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
        ticks += fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    }
    Ok(ticks)
}

fn idle(cluster: &Cluster, when: &str) -> anyhow::Result<()> {
    std::thread::sleep(Duration::from_secs(3));
    let before = cpu_ticks(cluster)?;
    std::thread::sleep(Duration::from_secs(10));
    let percent = (cpu_ticks(cluster)? - before) as f64 / 10.0;
    let mut resident = Vec::new();
    for node in 1..=3 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(node)?))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS")).context("VmRSS")?;
        resident.push(line.split_whitespace().nth(1).context("VmRSS")?.parse::<u64>()? / 1024);
    }
    println!("idle      {when}: {percent:.1} % of one core in all (heartbeat 200 ms), resident MB {resident:?}");
    Ok(())
}

/// Kills the node that leads most groups, nine times, and measures at a client how long nothing was decided.
async fn outages(cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut worst = Vec::new();
    for kill in 0..KILLS {
        let asked = (kill % 3) as u16 + 1;
        let victim = cluster.busiest_leader(asked)?;
        let others: Vec<u16> = (1..=3).filter(|node| *node != victim).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let probes: Vec<_> = (0..6)
            .map(|probe| Ok(tokio::spawn(longest_gap(cluster.client(Protocol::Http, &others)?, probe, stop.clone()))))
            .collect::<anyhow::Result<_>>()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.kill(victim)?;
        tokio::time::sleep(Duration::from_secs(7)).await;
        stop.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for probe in probes {
            longest = longest.max(probe.await?);
        }
        worst.push(longest.as_millis());
        cluster.restart(victim)?;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    println!(
        "kill -9   of the busiest leader, {KILLS} times: longest wait for a decision at a client, ms {worst:?}; worst {}",
        worst.iter().max().unwrap_or(&0)
    );
    Ok(())
}

/// The longest wait of one client that asks for one agent after the other.
async fn longest_gap(client: Client, probe: usize, stop: Arc<AtomicBool>) -> Duration {
    let mut longest = Duration::ZERO;
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let agent = format!("probe-{probe}-{}", n % 24);
        let line = json!({ "tenant": TENANT, "agent_id": agent, "session": "s", "kind": "message", "name": "reply", "args": {} });
        let Ok(action) = nethical_client::action::from_line(&line.to_string()) else { continue };
        let begun = Instant::now();
        let answers = client.decide(vec![action]).await;
        if answers.iter().all(|answer| answer.result.is_ok()) {
            longest = longest.max(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    longest
}
