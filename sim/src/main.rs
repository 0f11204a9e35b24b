//! The simulator's command line: runs a seed, or proves that seeds decide runs.
//!
//! It must be built with `--cfg tokio_unstable`, which alone lets a runtime's dice be seeded:
//! `RUSTFLAGS="--cfg tokio_unstable" cargo build -p nethical-sim --target-dir target-sim`. Built without, it says so.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use nethical_sim::plan::Plan;
use nethical_sim::run::{Report, run};
use nethical_sim::trace::Trace;

#[cfg(not(test))]
mod entropy;
mod verify;

/// Violations that a person is shown; the rest follows from them.
const VIOLATIONS_SHOWN: usize = 20;

/// Runs the cluster's code in a fake world, from a seed.
#[derive(Parser)]
#[command(name = "nethical-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed: three nodes, clients, faults, one loss of all power; print the trace's digest and what was found.
    Run {
        /// The seed. Everything in the run follows from it.
        #[arg(long)]
        seed: u64,
        /// Simulated seconds, 40 at least.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Write the trace there, one event a line.
        #[arg(long, value_name = "FILE")]
        trace: Option<PathBuf>,
        /// Let all disks lie about their syncs before the power goes: the run must be found bad.
        #[arg(long)]
        lying_disks: bool,
        /// How to print.
        #[arg(long, short, value_enum, default_value_t = Output::Text)]
        output: Output,
        /// What nodes log, to standard error, with simulated times: `warn`, `nethical_cluster=debug` …
        #[arg(long, value_name = "FILTER")]
        log: Option<String>,
    },
    /// Run each seed in two processes and compare the digests; name the first event that differs.
    VerifyDeterminism {
        /// How many seeds, from 1 on.
        #[arg(long, default_value_t = 3)]
        seeds: u64,
        /// Simulated seconds of each.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run { seed, seconds, trace, lying_disks, output, log } => {
            start_logging(log.as_deref());
            let plan = Plan::draw(seed, seconds);
            let plan = if lying_disks { plan.with_lying_disks() } else { plan };
            let (report, lines) = run_plan(seed, plan, trace.is_some())?;
            if let Some(path) = trace {
                write_lines(&path, &lines)?;
            }
            print(&report, output)?;
            Ok(ExitCode::from(u8::from(!report.violations.is_empty())))
        }
        Command::VerifyDeterminism { seeds, seconds } => verify::verify(seeds, seconds),
    }
}

/// Runs a plan on this thread.
fn run_plan(seed: u64, plan: Plan, keep: bool) -> anyhow::Result<(Report, Vec<String>)> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    seed_runtime(&mut builder, seed)?;
    let runtime = builder.build().context("making the runtime")?;
    let trace = Trace::new(keep);
    let report = runtime.block_on(run(seed, plan, trace.clone()));
    Ok((report, trace.take_lines()))
}

#[cfg(tokio_unstable)]
fn seed_runtime(builder: &mut tokio::runtime::Builder, seed: u64) -> anyhow::Result<()> {
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    Ok(())
}

#[cfg(not(tokio_unstable))]
fn seed_runtime(_: &mut tokio::runtime::Builder, _: u64) -> anyhow::Result<()> {
    anyhow::bail!(
        "this simulator was built without `--cfg tokio_unstable`, so its runtime cannot be seeded; build it with\n  \
         RUSTFLAGS=\"--cfg tokio_unstable\" cargo build -p nethical-sim --target-dir target-sim"
    )
}

/// Simulated time in front of log lines.
struct SimulatedTime;

impl tracing_subscriber::fmt::time::FormatTime for SimulatedTime {
    #[allow(clippy::disallowed_methods, reason = "log lines show the simulated clock")]
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        static START: std::sync::OnceLock<tokio::time::Instant> = std::sync::OnceLock::new();
        let now = tokio::time::Instant::now();
        write!(w, "{:>10.6}", now.duration_since(*START.get_or_init(|| now)).as_secs_f64())
    }
}

fn start_logging(filter: Option<&str>) {
    let Some(filter) = filter else { return };
    let format = tracing_subscriber::fmt().with_timer(SimulatedTime).with_writer(std::io::stderr).with_ansi(false);
    format.with_env_filter(filter).init();
}

#[allow(clippy::disallowed_methods, reason = "the command line writes the file that it was told to write")]
fn write_lines(path: &std::path::Path, lines: &[String]) -> anyhow::Result<()> {
    ensure!(!lines.is_empty(), "the trace is empty");
    std::fs::write(path, lines.join("\n") + "\n").with_context(|| format!("writing {}", path.display()))
}

fn print(report: &Report, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    let healed =
        report.healed_after_ms.map_or_else(|| "never".to_owned(), |wait| format!("{wait} ms after the last fault"));
    println!("seed {}: {} simulated seconds, {} events", report.seed, report.seconds, report.events);
    println!("  digest     {}", report.digest);
    println!(
        "  requests   {}: {} decided ({} allowed), {} unanswered, {} answered again",
        report.requests, report.decided, report.allowed, report.unanswered, report.replays
    );
    println!(
        "  logs       {} leaves, {} leader changes; all groups led again {healed}",
        report.leaves, report.leader_changes
    );
    report.unseen.iter().for_each(|goal| println!("  not seen   {goal}"));
    report.violations.iter().take(VIOLATIONS_SHOWN).for_each(|violation| println!("  VIOLATION  {violation}"));
    if report.violations.len() > VIOLATIONS_SHOWN {
        println!("  … and {} more; `-o json` lists all", report.violations.len() - VIOLATIONS_SHOWN);
    }
    if report.violations.is_empty() {
        println!("  no violations");
    }
    Ok(())
}
