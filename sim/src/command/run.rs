//! `run` and `replay`: one plan, its verdict, and what it leaves behind to look at.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use nethical_sim::engine::{self, Done};
use nethical_sim::html::{self, Page};
use nethical_sim::plan::{Net, Plan, Runtime};
use nethical_sim::run::Report;
use nethical_sim::swarm::{Shape, draw_within};

use crate::{Output, Show};

/// Violations that a person is shown; the rest follows from them.
const VIOLATIONS_SHOWN: usize = 20;

/// Runs a plan and prints its verdict. Fails where it found something.
pub fn run(plan: &Plan, show: &Show) -> anyhow::Result<ExitCode> {
    start_logging(show.log.as_deref());
    if let Some(path) = &show.plan {
        write(path, &plan.to_json())?;
    }
    let done = engine::execute(plan, show.trace.is_some() || show.html.is_some())?;
    if let Some(path) = &show.trace {
        let lines: Vec<String> = done.events.iter().map(ToString::to_string).collect();
        write(path, &(lines.join("\n") + "\n"))?;
    }
    if let Some(path) = &show.html {
        write(path, &page(plan, &done))?;
    }
    match show.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&done.report)?),
        Output::Text => print(plan, &done.report, done.cpu_ns),
    }
    Ok(ExitCode::from(u8::from(!done.report.violations.is_empty())))
}

/// The run as a page.
fn page(plan: &Plan, done: &Done) -> String {
    let report = &done.report;
    let summary = [
        ("seed", report.seed.to_string()),
        ("simulated", format!("{:.1} s", report.seconds)),
        ("fleet", format!("{} nodes, {} partition groups", report.fleet.0, report.fleet.1)),
        ("faults", report.faults.to_string()),
        ("decided", format!("{} of {} requests", report.decided, report.requests)),
        ("leader changes", report.leader_changes.to_string()),
        ("digest", report.digest.chars().take(16).collect()),
    ];
    let summary: Vec<(String, String)> = summary.into_iter().map(|(label, value)| (label.to_owned(), value)).collect();
    let violations: Vec<String> =
        report.violations.iter().map(|violation| format!("{}: {}", violation.check, violation.what)).collect();
    let (title, replay, commit) = (format!("seed {}", report.seed), super::fuzz::replay(plan), super::fuzz::commit());
    let events = events_of(plan, done);
    let page = Page {
        title: &title,
        replay: &replay,
        commit: &commit,
        summary: &summary,
        events: &events,
        violations: &violations,
    };
    html::page(&page)
}

/// The events in order of time, with the fleet as the page wants it.
fn events_of(plan: &Plan, done: &Done) -> Vec<Value> {
    let at = |event: &Value| event["at"].as_f64().unwrap_or(0.0);
    let mut events: Vec<Value> = done.events.iter().filter(|event| event["kind"] != "fleet").cloned().collect();
    events.sort_by(|left, right| at(left).total_cmp(&at(right)));
    let regions: serde_json::Map<String, Value> = plan
        .nodes()
        .iter()
        .zip(&plan.fleet.regions)
        .map(|(node, region)| (node.to_string(), region.as_str().into()))
        .collect();
    let length = done.report.seconds;
    events.insert(
        0,
        serde_json::json!({ "at": 0.0, "node": null, "kind": "fleet", "regions": regions, "length": length }),
    );
    events
}

/// Prints the digests of some seeds, a line each, in the order given.
pub fn digests(seconds: u64, (net, runtime): (Net, Runtime), seeds: &[u64]) -> anyhow::Result<ExitCode> {
    for seed in seeds {
        let shape = Shape { net, runtime, ..Shape::default() };
        println!("{}", engine::execute(&draw_within(*seed, seconds, &shape), false)?.report.digest);
    }
    Ok(ExitCode::SUCCESS)
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
