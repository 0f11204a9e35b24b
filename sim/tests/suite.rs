//! The simulator's own suite, with the simulator's own build: seeds decide runs, a swarm of seeds finds nothing, scenarios
//! end as expected, kept plans stay mended, planted bugs are found.
//!
//! The binary is built here, by cargo, into a target folder of its own: seeding a runtime's dice needs
//! `--cfg tokio_unstable` and answering probes needs a feature, and no other build may have either. The first build takes
//! minutes; the tests themselves must stay under four on two cores. They run one after another, each on all cores.

#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, OnceLock};

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the workspace")
}

/// Builds the simulator once and gives its path, and the right to use the machine.
fn simulator() -> (PathBuf, MutexGuard<'static, ()>) {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    static MACHINE: Mutex<()> = Mutex::new(());
    let machine = MACHINE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    (BUILT.get_or_init(build).clone(), machine)
}

fn build() -> PathBuf {
    let target = workspace().join("target-sim");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(workspace())
        .args(["build", "--quiet", "--locked", "--profile", "sim", "-p", "nethical-sim", "--features", "probes"])
        .args(["--bin", "nethical-sim", "--target-dir"])
        .arg(&target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env("RUSTFLAGS", "--cfg tokio_unstable")
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the simulator does not build with --cfg tokio_unstable");
    target.join("sim").join(format!("nethical-sim{}", std::env::consts::EXE_SUFFIX))
}

fn run(arguments: &[&str]) -> Output {
    let (simulator, _machine) = simulator();
    Command::new(simulator).current_dir(workspace()).args(arguments).output().expect("the simulator runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn succeeds(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "`nethical-sim {}` failed:\n{}", arguments.join(" "), said(&output));
    said(&output)
}

#[test]
fn five_seeds_have_the_same_digest_in_two_processes() {
    assert!(succeeds(&["verify-determinism", "--seeds", "5"]).contains("5 of 5 seeds"));
}

#[test]
fn a_hundred_seeds_find_nothing() {
    succeeds(&["fuzz", "--from", "1", "--seeds", "100", "--seconds", "40"]);
}

#[test]
fn runs_with_a_runtime_for_each_node_find_nothing_and_are_as_repeatable() {
    succeeds(&["fuzz", "--runtime", "per-node", "--seeds", "10", "--seconds", "40"]);
    // Seed 2 ends a node's tasks in another order where seed 1 has left tokio at another id, unless runs see to it.
    let said = succeeds(&["verify-determinism", "--runtime", "per-node", "--seeds", "3", "--seconds", "40"]);
    assert!(said.contains("3 of 3 seeds"), "{said}");
}

#[test]
fn every_scenario_ends_as_expected() {
    succeeds(&["scenarios"]);
}

#[test]
fn kept_plans_stay_mended() {
    let folder = workspace().join("sim/regressions");
    let mut plans: Vec<_> = std::fs::read_dir(folder).expect("the folder is there").filter_map(Result::ok).collect();
    plans.sort_by_key(std::fs::DirEntry::path);
    for plan in
        plans.iter().map(std::fs::DirEntry::path).filter(|path| path.extension().is_some_and(|end| end == "json"))
    {
        succeeds(&["replay", &plan.to_string_lossy()]);
    }
}

#[test]
fn some_planted_bugs_are_found_at_once() {
    for bug in ["no-dedupe", "over-grant-by-one", "acknowledge-before-sync", "quarantine-lost-at-failover"] {
        succeeds(&["mutants", "--bug", bug, "--seeds", "12", "--seconds", "40"]);
    }
}

/// Rot and a changed answer seldom meet in a seed's own plan; in this scenario they do.
#[test]
fn a_repair_that_believes_whatever_it_is_sent_is_found() {
    let scenario = ["run", "--scenario", "a-peer-mends-with-other-bytes", "--seed", "1"];
    let planted = run(&[&scenario[..], &["--planted", "repair-believes-peers"]].concat());
    assert!(!planted.status.success() && said(&planted).contains("repaired-is-what-was-sealed"), "{}", said(&planted));
    succeeds(&scenario);
}

/// Power is lost behind a move on all machines at once in this scenario, and seldom in a seed's own plan.
#[test]
fn a_move_that_removes_its_source_too_early_is_found() {
    let scenario = ["run", "--scenario", "power-goes-behind-each-move", "--seed", "1"];
    let planted = run(&[&scenario[..], &["--planted", "source-goes-before-its-copy-is-durable"]].concat());
    assert!(!planted.status.success() && said(&planted).contains("segments-equal"), "{}", said(&planted));
    succeeds(&scenario);
}

/// Seeds seldom erase agents whose bodies are in the object store; this scenario does.
#[test]
fn a_cold_file_that_keeps_what_is_erased_is_found() {
    let scenario = ["run", "--scenario", "erasures-reach-cold-files", "--seed", "1"];
    let planted = run(&[&scenario[..], &["--planted", "cold-file-kept"]].concat());
    assert!(!planted.status.success() && said(&planted).contains("is to be gone"), "{}", said(&planted));
    succeeds(&scenario);
}

/// Few seeds have a tenant that keeps its bodies at home; this scenario does.
#[test]
fn bodies_that_are_sent_where_their_tenant_does_not_want_them_are_found() {
    let scenario = ["run", "--scenario", "tenants-keep-bodies-at-home", "--seed", "1"];
    let planted = run(&[&scenario[..], &["--planted", "tier-ages-ignored"]].concat());
    assert!(!planted.status.success() && said(&planted).contains("does not want it to"), "{}", said(&planted));
    succeeds(&scenario);
}

/// Seeds seldom erase agents whose words are indexed; this scenario does.
#[test]
fn an_index_that_keeps_what_was_said_is_found() {
    let scenario = ["run", "--scenario", "erased-words-leave-indexes", "--seed", "1"];
    let planted = run(&[&scenario[..], &["--planted", "erased-words-kept"]].concat());
    assert!(!planted.status.success() && said(&planted).contains("has words of"), "{}", said(&planted));
    succeeds(&scenario);
}

/// The end-to-end tests look for the same words in the binary that serves people, where they must not be.
#[test]
fn the_simulator_is_marked_as_what_it_is() {
    let (simulator, _machine) = simulator();
    let bytes = std::fs::read(simulator).expect("the binary reads");
    let holds = |words: &[u8]| bytes.windows(words.len()).any(|part| part == words);
    assert!(holds(b"this binary answers getrandom itself") && holds(b"acknowledge-before-sync"));
}

#[test]
fn what_cannot_be_run_is_refused_in_words() {
    let refused = |arguments: &[&str], words: &str| {
        let output = run(arguments);
        assert!(!output.status.success(), "{arguments:?} was accepted");
        assert!(said(&output).contains(words), "{arguments:?} says: {}", said(&output));
    };
    let folder = std::env::temp_dir();
    let (other, broken) = (folder.join("nethical-sim-other.json"), folder.join("nethical-sim-broken.json"));
    std::fs::write(&other, "{\"format\":\"nethical-sim-plan/9\"}").expect("a temporary file");
    std::fs::write(&broken, "not a plan").expect("a temporary file");
    refused(&["replay", &other.to_string_lossy()], "nethical-sim-plan/9");
    refused(&["replay", &broken.to_string_lossy()], "not JSON");
    refused(&["replay", "no-such-file.json"], "no-such-file.json");
    refused(&["run", "--seconds", "3"], "--seconds");
    refused(&["run", "--scenario", "no-such-scenario"], "no-such-scenario");
    refused(&["mutants", "--bug", "no-such-bug"], "no-such-bug");
}
