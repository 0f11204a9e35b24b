//! The simulator's own proof: the same seed in two processes gives the same trace, and no seed of these finds fault.
//!
//! The binary is built here, by cargo, into a target folder of its own: seeding a runtime's dice needs
//! `--cfg tokio_unstable`, and no other build may have that. The first build takes minutes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const SEEDS: [u64; 3] = [1, 2, 3];

/// Builds the simulator and gives its path.
fn simulator() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace");
    let target = workspace.join("target-sim");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(workspace)
        .args(["build", "--quiet", "-p", "nethical-sim", "--bin", "nethical-sim", "--target-dir"])
        .arg(&target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env("RUSTFLAGS", "--cfg tokio_unstable")
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the simulator does not build with --cfg tokio_unstable");
    target.join("debug").join(format!("nethical-sim{}", std::env::consts::EXE_SUFFIX))
}

/// Runs a seed in a process of its own.
fn run(simulator: &Path, seed: u64) -> serde_json::Value {
    let done = Command::new(simulator).args(["run", "--output", "json", "--seed", &seed.to_string()]).output();
    let done = done.expect("the simulator runs");
    let report = serde_json::from_slice(&done.stdout);
    report.unwrap_or_else(|error| panic!("seed {seed}: {error}: {}", String::from_utf8_lossy(&done.stderr)))
}

fn words(report: &serde_json::Value, field: &str) -> BTreeSet<String> {
    let list = report[field].as_array().expect("the report has this list");
    list.iter().map(|text| text.as_str().expect("a list of sentences").to_owned()).collect()
}

#[test]
fn the_same_seed_in_two_processes_gives_the_same_trace_and_no_violation() {
    let simulator = simulator();
    let mut digests = BTreeSet::new();
    let mut unseen: Option<BTreeSet<String>> = None;
    for seed in SEEDS {
        let (first, second) = (run(&simulator, seed), run(&simulator, seed));
        assert_eq!(first, second, "seed {seed}: `nethical-sim verify-determinism` names the first event that differs");
        assert_eq!(words(&first, "violations"), BTreeSet::new(), "seed {seed}");
        assert!(first["decided"].as_u64() > Some(100), "seed {seed} decided next to nothing: {first}");
        digests.insert(first["digest"].as_str().expect("a digest").to_owned());
        let here = words(&first, "unseen");
        unseen = Some(unseen.map_or(here.clone(), |so_far| so_far.intersection(&here).cloned().collect()));
    }
    assert_eq!(digests.len(), SEEDS.len(), "another seed is another run");
    assert_eq!(unseen, Some(BTreeSet::new()), "what no seed has shown was not tested");
}
