//! `run` and `replay`: one plan, its verdict, and what it leaves behind to look at.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use nethical_sim::engine;
use nethical_sim::plan::Plan;
use nethical_sim::run::Report;

use crate::{Output, Show};

/// Violations that a person is shown; the rest follows from them.
const VIOLATIONS_SHOWN: usize = 20;

/// Runs a plan and prints its verdict. Fails where it found something.
pub fn run(plan: &Plan, show: &Show) -> anyhow::Result<ExitCode> {
    start_logging(show.log.as_deref());
    if let Some(path) = &show.plan {
        write(path, &plan.to_json())?;
    }
    let done = engine::execute(plan, show.trace.is_some())?;
    if let Some(path) = &show.trace {
        let lines: Vec<String> = done.events.iter().map(ToString::to_string).collect();
        write(path, &(lines.join("\n") + "\n"))?;
    }
    match show.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&done.report)?),
        Output::Text => print(plan, &done.report, done.cpu_ns),
    }
    Ok(ExitCode::from(u8::from(!done.report.violations.is_empty())))
}

fn print(plan: &Plan, report: &Report, cpu_ns: u64) {
    let healed =
        report.healed_after_ms.map_or_else(|| "never".to_owned(), |wait| format!("{wait} ms after the last fault"));
    let cpu_s = cpu_ns as f64 / 1e9;
    println!(
        "seed {}: {:.1} simulated seconds in {cpu_s:.2} s of CPU, {} events",
        report.seed, report.seconds, report.events
    );
    println!("  digest     {}", report.digest);
    let (nodes, partitions) = report.fleet;
    println!(
        "  fleet      {nodes} nodes, {partitions} partition groups of {}, {} faults",
        plan.fleet.replicas, report.faults
    );
    println!(
        "  requests   {}: {} decided ({} allowed), {} unanswered, {} answered again",
        report.requests, report.decided, report.allowed, report.unanswered, report.replays
    );
    println!(
        "  logs       {} leaves, {} leader changes; all groups led again {healed}",
        report.leaves, report.leader_changes
    );
    if report.is_void {
        println!("  VOID       too little was decided for the checks to mean much");
    }
    for violation in report.violations.iter().take(VIOLATIONS_SHOWN) {
        println!("  VIOLATION  {:.3} s {}: {}", violation.at_ms as f64 / 1e3, violation.check, violation.what);
    }
    if report.violations.len() > VIOLATIONS_SHOWN {
        println!("  … and {} more; `-o json` lists all", report.violations.len() - VIOLATIONS_SHOWN);
    }
    if report.violations.is_empty() {
        println!("  no violations");
    }
}

/// Simulated time in front of log lines.
struct SimulatedTime;

impl tracing_subscriber::fmt::time::FormatTime for SimulatedTime {
    #[allow(clippy::disallowed_methods, reason = "log lines show the simulated clock")]
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        static START: std::sync::OnceLock<tokio::time::Instant> = std::sync::OnceLock::new();
        if tokio::runtime::Handle::try_current().is_err() {
            return write!(w, "{:>10}", "-");
        }
        let now = tokio::time::Instant::now();
        write!(w, "{:>10.6}", now.duration_since(*START.get_or_init(|| now)).as_secs_f64())
    }
}

fn start_logging(filter: Option<&str>) {
    let Some(filter) = filter else { return };
    let format = tracing_subscriber::fmt().with_timer(SimulatedTime).with_writer(std::io::stderr).with_ansi(false);
    format.with_env_filter(filter).init();
}

/// Writes a file that a person has named.
#[allow(clippy::disallowed_methods, reason = "the command line writes the file that it was told to write")]
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
