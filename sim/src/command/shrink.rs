//! `shrink`: the fewest faults of a failing run that still fail, as a plan that can be kept.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use nethical_sim::engine;
use nethical_sim::plan::Plan;
use nethical_sim::shrink::shrink;

use super::fuzz::{now, replay};
use super::run::write;

/// Shrinks a plan for at most so long, writes what is left and prints it. Fails where the plan does not fail.
pub fn run(plan: &Plan, out: Option<PathBuf>, patience: Duration) -> anyhow::Result<ExitCode> {
    let begun = now();
    let done = engine::execute(plan, false)?;
    let Some(first) = done.report.violations.first().cloned() else {
        anyhow::bail!("{} finds nothing, so there is nothing to shrink", replay(plan));
    };
    println!("{} faults fail: {}: {}", plan.faults.len(), first.check, first.what);
    let bar = bar();
    let shrunk = shrink(plan, |candidate| {
        bar.inc(1);
        bar.set_message(format!("{} faults", candidate.faults.len()));
        is_within(begun, patience) && fails_as(candidate, first.check)
    });
    bar.finish_and_clear();
    let seconds = now().duration_since(begun).as_secs_f64();
    println!("{} faults are left after {} runs in {seconds:.1} s:", shrunk.plan.faults.len(), shrunk.runs);
    for entry in &shrunk.plan.faults {
        println!("  {:>8.3} s for {:>6} ms  {}", entry.at_ms as f64 / 1e3, entry.for_ms, entry.fault.words());
    }
    let path = out.unwrap_or_else(|| PathBuf::from(format!("seed-{}-shrunk.json", plan.seed)));
    write(&path, &shrunk.plan.to_json())?;
    println!("replay it with: nethical-sim replay {}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn is_within(begun: Instant, patience: Duration) -> bool {
    now().duration_since(begun) < patience
}

fn fails_as(plan: &Plan, check: &str) -> bool {
    engine::execute(plan, false).is_ok_and(|done| done.report.violations.iter().any(|found| found.check == check))
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {pos} plans run, {per_sec}, now {msg}");
    let bar = ProgressBar::new_spinner().with_style(style.expect("the template is well formed"));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
