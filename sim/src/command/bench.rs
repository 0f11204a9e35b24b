//! `bench`: how many simulated seconds a second of CPU buys, with all checks and all assertions on.
//!
//! One thread and CPU time, so that what else the machine does shows little. The shape is fixed, so that figures of two
//! commits can be held against each other; the conditions are printed with them.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use nethical_sim::engine;
use nethical_sim::plan::{Net, Plan, Runtime};
use nethical_sim::run::Report;
use nethical_sim::swarm::{self, Shape};

use super::fuzz::{Campaign, commit, progress};
use crate::Output;

/// Simulated seconds of each run, before its convergence and its restart.
const SECONDS: u64 = 60;
/// Five nodes; meta, control and six partition groups.
const SHAPE: Shape = Shape {
    nodes: Some(5),
    partitions: Some(6),
    replicas: Some(3),
    heartbeat_ms: Some(500),
    clients: Some(18),
    batch_max: Some(8),
    pause_ms: Some((10, 200)),
    faults_per_10_s: Some((27, 36)),
    net: Net::Message,
    runtime: Runtime::One,
};

/// What to measure.
#[derive(Args, Clone)]
pub struct BenchArguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Run each seed so often; its least CPU time counts, which is what the others on this machine disturbed least.
    #[arg(long, default_value_t = 1)]
    repeat: u32,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Under what the figures hold.
#[derive(Serialize)]
struct Conditions {
    commit: String,
    profile: String,
    debug_assertions: bool,
    cpu: String,
    threads: u32,
    seeds: (u64, u64),
    /// Runs of each seed, of which the one with the least CPU time counts.
    repeat: u32,
    seconds: u64,
    nodes: usize,
    groups: u32,
    heartbeat_ms: u64,
}

/// The figures. Everything "a second" is a simulated second, convergence included.
#[derive(Serialize)]
struct Figures {
    conditions: Conditions,
    simulated_s: f64,
    cpu_s: f64,
    simulated_s_per_cpu_s: f64,
    decisions_per_s: f64,
    faults_per_s: f64,
    events_per_s: f64,
    events_per_cpu_s: f64,
    /// Shares of all runs.
    limits_reached: f64,
    snapshots_written: f64,
    actors_passivated: f64,
    void: f64,
    failures: Vec<(u64, String)>,
}

/// Runs the seeds on one thread and prints what they took. Fails where a run failed.
pub fn bench(arguments: &BenchArguments) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(engine::IS_WHOLE, "{}", engine::NOT_WHOLE);
    let seeds = arguments.from..arguments.from + arguments.seeds;
    let bar = progress(arguments.seeds, arguments.output);
    let mut campaign = Campaign { commit: commit(), ..Campaign::default() };
    for seed in seeds.clone() {
        let plan = swarm::draw_within(seed, SECONDS, &SHAPE);
        let (report, cpu_ns) = fastest(&plan, arguments.repeat.max(1))?;
        campaign.add(&report, cpu_ns);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let figures = figures(campaign, (seeds.start, seeds.end), arguments.repeat.max(1));
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&figures)?),
        Output::Text => print(&figures),
    }
    Ok(ExitCode::from(u8::from(!figures.failures.is_empty())))
}

/// A plan's report, and the least CPU time that it took. Runs of one plan must not differ.
fn fastest(plan: &Plan, repeat: u32) -> anyhow::Result<(Report, u64)> {
    let first = engine::execute(plan, false)?;
    let mut least_ns = first.cpu_ns;
    for _ in 1..repeat {
        let again = engine::execute(plan, false)?;
        let seed = plan.seed;
        anyhow::ensure!(again.report.digest == first.report.digest, "two runs of seed {seed} have different digests");
        least_ns = least_ns.min(again.cpu_ns);
    }
    Ok((first.report, least_ns))
}

fn figures(campaign: Campaign, seeds: (u64, u64), repeat: u32) -> Figures {
    let a_second = |count: u64| count as f64 / campaign.simulated_s.max(1e-9);
    let share = |runs: u64| runs as f64 / campaign.runs.max(1) as f64;
    let saw = |goal: &str| share(campaign.seen.get(goal).copied().unwrap_or(0));
    Figures {
        simulated_s: campaign.simulated_s,
        cpu_s: campaign.cpu_s,
        simulated_s_per_cpu_s: campaign.speed(),
        decisions_per_s: a_second(campaign.decided),
        faults_per_s: a_second(campaign.faults),
        events_per_s: a_second(campaign.events),
        events_per_cpu_s: campaign.events as f64 / campaign.cpu_s.max(1e-9),
        limits_reached: share(campaign.limited),
        snapshots_written: saw("a snapshot was written"),
        actors_passivated: saw("an idle actor was passivated"),
        void: share(campaign.void),
        conditions: Conditions {
            commit: campaign.commit,
            profile: profile(),
            debug_assertions: cfg!(debug_assertions),
            cpu: cpu_model(),
            threads: 1,
            seeds,
            repeat,
            seconds: SECONDS,
            nodes: SHAPE.nodes.unwrap_or(0),
            groups: 2 + SHAPE.partitions.unwrap_or(0),
            heartbeat_ms: SHAPE.heartbeat_ms.unwrap_or(0),
        },
        failures: campaign.failures,
    }
}

fn print(figures: &Figures) {
    let Conditions {
        commit, profile, debug_assertions, cpu, seeds, repeat, seconds, nodes, groups, heartbeat_ms, ..
    } = &figures.conditions;
    let runs = seeds.1 - seeds.0;
    println!("commit {commit}, profile {profile}, debug assertions {debug_assertions}, {cpu}, one thread");
    println!(
        "{runs} runs of {seconds} s from seed {}, the fastest of {repeat} each: {nodes} nodes, {groups} groups, heartbeat \
         {heartbeat_ms} ms",
        seeds.0
    );
    let row = |name: &str, value: String| println!("  {name:<32} {value:>12}");
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    row("simulated s", format!("{:.0}", figures.simulated_s));
    row("CPU s", format!("{:.2}", figures.cpu_s));
    row("simulated s a CPU s", format!("{:.1}", figures.simulated_s_per_cpu_s));
    row("decisions a simulated s", format!("{:.1}", figures.decisions_per_s));
    row("faults a simulated s", format!("{:.2}", figures.faults_per_s));
    row("events a simulated s", format!("{:.0}", figures.events_per_s));
    row("events a CPU s", format!("{:.0}", figures.events_per_cpu_s));
    row("runs that reached a limit", percent(figures.limits_reached));
    row("runs that wrote a snapshot", percent(figures.snapshots_written));
    row("runs that passivated an actor", percent(figures.actors_passivated));
    row("void runs", percent(figures.void));
    row("failed runs", figures.failures.len().to_string());
    figures.failures.iter().for_each(|(seed, what)| println!("  FAILED  seed {seed}: {what}"));
}

/// The profile that this program was built with: cargo names the folder after it.
fn profile() -> String {
    let folder = std::env::current_exe().ok().and_then(|path| path.parent()?.file_name().map(ToOwned::to_owned));
    folder.map_or_else(|| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[allow(clippy::disallowed_methods, reason = "figures name the machine that they were measured on")]
fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    named.map_or_else(|| "unknown CPU".to_owned(), |(_, model)| model.trim().to_owned())
}
