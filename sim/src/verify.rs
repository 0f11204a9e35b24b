//! Proves that a seed decides a run: two processes, one digest.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

/// Runs seeds 1 to `seeds` in two processes each. Fails where digests differ or a run is bad, after all have run.
pub fn verify(seeds: u64, seconds: u64) -> anyhow::Result<ExitCode> {
    let folder = std::env::temp_dir().join(format!("nethical-sim-{}", std::process::id()));
    let mut all_good = true;
    for seed in 1..=seeds {
        all_good &= verify_seed(&folder, seed, seconds)?;
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verify_seed(folder: &Path, seed: u64, seconds: u64) -> anyhow::Result<bool> {
    let first = run_apart(folder, "first", seed, seconds)?;
    let second = run_apart(folder, "second", seed, seconds)?;
    let equal = first.digest == second.digest;
    match (equal, first.violations.is_empty()) {
        (true, true) => println!("seed {seed}: {} twice, {} events", first.digest, first.events),
        (true, false) => {
            println!("seed {seed}: {} twice, with violations: {}", first.digest, first.violations.join("; "))
        }
        (false, _) => {
            println!("seed {seed}: two processes differ: {} and {}", first.digest, second.digest);
            println!("{}", first_difference(&first.trace, &second.trace)?);
            println!("the traces are {} and {}", first.trace.display(), second.trace.display());
            return Ok(false);
        }
    }
    remove(folder);
    Ok(first.violations.is_empty())
}

/// What one process said.
struct Apart {
    digest: String,
    events: u64,
    violations: Vec<String>,
    trace: PathBuf,
}

#[allow(clippy::disallowed_methods, reason = "the command line keeps traces in a folder of its own")]
fn run_apart(folder: &Path, name: &str, seed: u64, seconds: u64) -> anyhow::Result<Apart> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let trace = folder.join(format!("{seed}-{name}.trace"));
    let program = std::env::current_exe().context("finding this program")?;
    let (seed, seconds) = (seed.to_string(), seconds.to_string());
    let mut command = Command::new(program);
    command.args(["run", "--seed", &seed, "--seconds", &seconds, "--output", "json", "--trace"]).arg(&trace);
    let done = command.output().context("running this program again")?;
    let said = String::from_utf8_lossy(&done.stderr);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout)
        .with_context(|| format!("seed {seed} ended with {}: {said}", done.status))?;
    let digest = report["digest"].as_str().unwrap_or_default().to_owned();
    ensure!(!digest.is_empty(), "seed {seed} gave no digest");
    let violations =
        report["violations"].as_array().into_iter().flatten().map(|text| text.as_str().unwrap_or_default().to_owned());
    Ok(Apart { digest, events: report["events"].as_u64().unwrap_or(0), violations: violations.collect(), trace })
}

#[allow(clippy::disallowed_methods, reason = "the command line reads the traces that it has made")]
fn first_difference(left: &Path, right: &Path) -> anyhow::Result<String> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let (left, right) = (read(left)?, read(right)?);
    let (mut lefts, mut rights) = (left.lines(), right.lines());
    for number in 1u64.. {
        let (one, other) = (lefts.next(), rights.next());
        if one != other {
            let end = "(the trace ends)";
            return Ok(format!("line {number}:\n  first   {}\n  second  {}", one.unwrap_or(end), other.unwrap_or(end)));
        }
        if one.is_none() {
            break;
        }
    }
    Ok("the lines are equal and the digests are not".to_owned())
}

fn remove(folder: &Path) {
    // Left-over traces do no harm.
    let _ = std::fs::remove_dir_all(folder);
}
