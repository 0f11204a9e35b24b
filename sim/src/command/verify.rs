//! `verify-determinism`: each seed in two processes; equal digests, or the first event that differs.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::fuzz::{progress, replay};
use crate::{FuzzArguments, Output};

/// Runs every seed in two processes, both from their own start. Fails where two digests differ.
pub fn verify(arguments: &FuzzArguments) -> anyhow::Result<ExitCode> {
    let seeds: Vec<u64> = (arguments.from..arguments.from + arguments.seeds).collect();
    let bar = progress(arguments.seeds, arguments.output);
    let mut different = Vec::new();
    for chunk in seeds.chunks(BATCH) {
        // The second process runs the same seeds backwards: what one run leaves in a process must not reach the next.
        let backwards: Vec<u64> = chunk.iter().rev().copied().collect();
        let (first, second) = std::thread::scope(|scope| {
            let one = scope.spawn(|| digests(arguments, chunk));
            let two = digests(arguments, &backwards);
            (one.join().expect("it returns its errors"), two)
        });
        let (first, mut second) = (first?, second?);
        second.reverse();
        for (seed, (one, two)) in chunk.iter().zip(first.iter().zip(&second)) {
            if one != two {
                bar.suspend(|| println!("DIFFERENT  {}", replay(&arguments.plan(*seed))));
                different.push(*seed);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    for seed in &different {
        println!("{}", first_difference(arguments, *seed)?);
    }
    let equal = seeds.len() - different.len();
    match arguments.output {
        Output::Json => {
            println!("{}", serde_json::json!({ "seeds": seeds.len(), "equal": equal, "different": different }))
        }
        Output::Text => println!("{equal} of {} seeds have the same digest in two processes", seeds.len()),
    }
    Ok(ExitCode::from(u8::from(!different.is_empty())))
}

/// Seeds that one process runs.
const BATCH: usize = 10;

/// The digests of some seeds, from a process of their own.
fn digests(arguments: &FuzzArguments, seeds: &[u64]) -> anyhow::Result<Vec<String>> {
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new(program);
    command
        .args(["digests", "--seconds", &arguments.seconds.to_string(), "--net", arguments.net.as_str()])
        .args(["--runtime", arguments.runtime.as_str()])
        .args(&seeds);
    let done = command.output().context("running this program again")?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "seeds {} ended with {}: {said}", seeds.join(", "), done.status);
    let digests: Vec<String> = String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect();
    ensure!(digests.len() == seeds.len(), "{} digests for {} seeds", digests.len(), seeds.len());
    Ok(digests)
}

/// Runs a seed twice with its events and finds where they part.
fn first_difference(arguments: &FuzzArguments, seed: u64) -> anyhow::Result<String> {
    let folder = std::env::temp_dir().join(format!("nethical-sim-{}", std::process::id()));
    let (first, second) = (trace(arguments, &folder, "first", seed)?, trace(arguments, &folder, "second", seed)?);
    let mut lines = first.lines().zip(second.lines()).zip(1u64..);
    let found = match lines.find(|((one, two), _)| one != two) {
        Some(((one, two), number)) => format!("seed {seed}, event {number}:\n  first   {one}\n  second  {two}"),
        None => format!("seed {seed}: one trace is the beginning of the other, or both are equal this time"),
    };
    // Left-over traces do no harm.
    let _ = std::fs::remove_dir_all(folder);
    Ok(found)
}

#[allow(clippy::disallowed_methods, reason = "the command line keeps traces in a folder of its own")]
fn trace(arguments: &FuzzArguments, folder: &Path, name: &str, seed: u64) -> anyhow::Result<String> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let path: PathBuf = folder.join(format!("{seed}-{name}.ndjson"));
    let program = std::env::current_exe().context("finding this program")?;
    let (seed, seconds) = (seed.to_string(), arguments.seconds.to_string());
    let (net, runtime) = (arguments.net.as_str(), arguments.runtime.as_str());
    let mut command = Command::new(program);
    command
        .args(["run", "--seed", &seed, "--seconds", &seconds, "--net", net, "--runtime", runtime])
        .args(["--output", "json", "--trace"])
        .arg(&path);
    let done = command.output().context("running this program again")?;
    let report: Value = serde_json::from_slice(&done.stdout).with_context(|| {
        format!("seed {seed} ended with {}: {}", done.status, String::from_utf8_lossy(&done.stderr))
    })?;
    ensure!(report["digest"].is_string(), "seed {seed} gave no digest");
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}
