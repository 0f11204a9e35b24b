//! Verifiers that others wrote, on a running cluster: what our own code would believe of itself is no proof.
//!
//! Three families: Go's `golang.org/x/mod/sumdb` from Debian's packages (golang-go, golang-golang-x-mod-dev); the crates
//! signed_note, tlog_tiles and sigstore-merkle, built by cargo apart from the workspace; pymerkle, where `NETHICAL_PYTHON`
//! or `python3` has it. One that cannot be had is skipped, says so, and proves nothing.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nethical_tests::cluster::{Cluster, pause};
use serde_json::{Value, json};

/// How long the cluster log may take to have a leaf for each log, and a checkpoint to cover what was decided: a disk that is
/// late makes a checkpoint older, not later.
const GATHER_WAIT: Duration = Duration::from_secs(60);
/// Where Debian keeps Go's packages.
const GOPATH: &str = "/usr/share/gocode";

fn acceptance(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("acceptance").join(name)
}

/// Go's verifier, built in `folder`; none where Go or its package is not on this machine.
fn go_verifier(folder: &Path) -> Option<PathBuf> {
    let has_module = Path::new(GOPATH).join("src/golang.org/x/mod/sumdb/tlog").is_dir();
    let has_go = has_module && Command::new("go").arg("version").output().is_ok_and(|output| output.status.success());
    if !has_go {
        eprintln!("skipped: Go's verifier needs the packages golang-go and golang-golang-x-mod-dev");
        return None;
    }
    let binary = folder.join("verify");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&binary)
        .arg(acceptance("verify.go"))
        .envs([("GO111MODULE", "off"), ("GOPATH", GOPATH), ("GOFLAGS", "")])
        .env("GOCACHE", folder.join("cache"))
        .output()
        .expect("go runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(binary)
}

/// The verifier over other people's crates; none where cargo cannot fetch them.
fn rust_verifier() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = acceptance("rust/Cargo.toml");
    let run = |action: &str, target: Option<&Path>| {
        let mut command = Command::new(&cargo);
        command.args([action, "--quiet", "--locked", "--manifest-path"]).arg(&manifest);
        target.map(|target| command.arg("--target-dir").arg(target));
        command.output().expect("cargo runs")
    };
    if !run("fetch", None).status.success() {
        eprintln!("skipped: the crates of tests/acceptance/rust cannot be fetched here");
        return None;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let target = target.join("foreign");
    let built = run("build", Some(&target));
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(target.join("debug").join("nethical-foreign-verifiers"))
}

/// A Python that has pymerkle.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("NETHICAL_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let has = Command::new(&python).args(["-c", "import pymerkle"]).output();
    if has.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: pymerkle is not there; install it and name its Python in NETHICAL_PYTHON");
    None
}

/// How many were decided.
fn decide(cluster: &Cluster, node: u16, actions: usize) -> u64 {
    let line = |place: usize| json!({ "tenant": "t", "agent_id": format!("a{}", place % 40), "kind": "tool_call", "name": "find", "args": { "place": place } });
    let body = json!({ "actions": (0..actions).map(line).collect::<Vec<_>>() }).to_string();
    let (status, answer) = cluster.post(node, "/v1/decisions:batch", body.as_bytes()).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    let items = answer["answers"].as_array().expect("one answer an action");
    items.iter().filter(|item| item["status"] == 200).count() as u64
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().expect("a list").iter().map(|item| item.as_str().expect("text").to_owned()).collect()
}

/// Runs a verifier; gives what it prints, or why it does not believe what it read.
fn said(command: &mut Command) -> Result<Value, String> {
    let output = command.output().expect("it runs");
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).expect("JSON")),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A verifier of signatures, tiles and proofs, on a log as a node publishes it.
fn verified(verifier: &Path, prefix: &str, vkey: &str, cosigners: &[String]) -> Result<Value, String> {
    said(Command::new(verifier).args([prefix, vkey]).args(cosigners))
}

/// Waits until `is_so`; `what` is what was waited for in vain.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < GATHER_WAIT, "{what}");
        pause(Duration::from_millis(200));
    }
}

/// Leaves that a published checkpoint covers.
fn published(cluster: &Cluster, node: u16, log: &str) -> Option<u64> {
    let note = cluster.get(node, &format!("/log/{log}/checkpoint")).ok()?;
    note.as_str()?.lines().nth(1)?.parse().ok()
}

/// Until every replica of every log publishes what was decided.
fn await_checkpoints(cluster: &Cluster, logs: usize, decided: u64) {
    for node in 1..=3 {
        wait_until(&format!("the checkpoints of node {node} do not cover {decided} decisions"), || {
            let sizes = (2..2 + logs).map(|log| published(cluster, node, &log.to_string()));
            sizes.sum::<Option<u64>>().is_some_and(|leaves| leaves >= decided)
        });
    }
}

/// As [`verified`], once `lines` replicas vouch for what is published: one whose disk is late is left out of a checkpoint.
fn vouched(verifier: &Path, prefix: &str, vkey: &str, cosigners: &[String], lines: usize) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let found = verified(verifier, prefix, vkey, cosigners).expect("it verifies");
        if found["cosigners"].as_array().map(Vec::len) == Some(lines) {
            return found;
        }
        assert!(begun.elapsed() < GATHER_WAIT, "{lines} replicas are to hold it durably: {found}");
        pause(Duration::from_millis(200));
    }
}

/// Every log on every node by each verifier; gives the leaves of all logs.
fn all_believe(cluster: &Cluster, verifiers: &[PathBuf], logs: &[String], cosigners: &[String]) -> u64 {
    let mut leaves = 0;
    for (place, vkey) in logs.iter().enumerate() {
        let prefix = |node| format!("{}/log/{}", cluster.http(node), place + 2);
        let other = &logs[(place + 1) % logs.len()];
        for verifier in verifiers {
            let mut size = 0;
            for node in 1..=3 {
                let found = vouched(verifier, &prefix(node), vkey, cosigners, 3);
                size = found["size"].as_u64().expect("a size");
            }
            leaves += if *verifier == verifiers[0] { size } else { 0 };
            assert!(verified(verifier, &prefix(1), other, &[]).is_err(), "another log's key opens it");
        }
    }
    leaves
}

/// The log of the logs' checkpoints, once it holds one of each.
fn check_cluster_log(cluster: &Cluster, verifiers: &[PathBuf], logs: &[String], cosigners: &[String]) {
    let (_, above) = cluster.cli(3, &["audit", "key", "vkey", "--cluster"]).expect("it runs");
    let above = strings(&above);
    for node in 1..=3 {
        wait_until("no checkpoints are gathered", || {
            published(cluster, node, "cluster").is_some_and(|size| size >= logs.len() as u64)
        });
    }
    for (verifier, node) in verifiers.iter().flat_map(|verifier| (1..=3).map(move |node| (verifier, node))) {
        let prefix = format!("{}/log/cluster", cluster.http(node));
        let found = verified(verifier, &prefix, &above[0], cosigners).expect("it verifies");
        assert!(found["size"].as_u64().is_some_and(|size| size >= logs.len() as u64), "{found}");
        assert!(verified(verifier, &prefix, &logs[0], &[]).is_err(), "a partition's key opens it");
    }
}

/// The proof that comes with an answer is against a checkpoint of its own, and the same one replays.
fn check_proof_with_an_answer(cluster: &Cluster) {
    let line = json!({ "tenant": "t", "agent_id": "a", "kind": "tool_call", "name": "find", "options": { "receipt": "proof" } });
    let (status, answer) = cluster.post(2, "/v1/decisions", line.to_string().as_bytes()).expect("an answer");
    let receipt = answer["audit"]["receipt"].as_str().unwrap_or_default();
    let begin = format!("c2sp.org/tlog-proof@v1\nindex {}\n", answer["audit"]["leaf_index"]);
    assert!(status == 200 && receipt.starts_with(&begin), "{answer}");
    let origin = answer["audit"]["log"].as_str().unwrap_or_default();
    let signed = receipt.contains(&format!("\n\n{origin}\n")) && receipt.contains(&format!("\u{2014} {origin} "));
    assert!(signed, "{receipt}");
}

/// Keys are turned under way: while two sign, either is believed on every node; then the new one alone.
fn check_turned_keys(cluster: &Cluster, verifiers: &[PathBuf], old: &[String]) {
    let turned = cluster.cli(2, &["audit", "key", "rotate", "--overlap", "1h"]).expect("it runs");
    assert_eq!(turned.0, 0, "{}", turned.1);
    let (_, new) = cluster.cli(1, &["audit", "key", "vkey"]).expect("it runs");
    let new = strings(&new);
    assert!(new.len() == old.len() && new.iter().all(|vkey| !old.contains(vkey)), "{new:?}");
    let places: Vec<(&PathBuf, u16)> =
        verifiers.iter().flat_map(|verifier| (1..=3).map(move |node| (verifier, node))).collect();
    let on = |node: u16| format!("{}/log/2", cluster.http(node));
    for (verifier, node) in &places {
        wait_until("the new key signs", || verified(verifier, &on(*node), &new[0], &[]).is_ok());
        verified(verifier, &on(*node), &old[0], &[]).expect("the old key still signs");
    }
    let (code, told) = cluster.cli(3, &["audit", "key", "rotate", "--now"]).expect("it runs");
    assert_eq!(code, 0, "{told}");
    for (verifier, node) in &places {
        wait_until("the old key signs no more", || verified(verifier, &on(*node), &old[0], &[]).is_err());
        verified(verifier, &on(*node), &new[0], &[]).expect("the new key signs alone");
    }
    let (code, told) = cluster.cli(1, &["audit", "verify"]).expect("it runs");
    assert_eq!(code, 0, "{told}");
}

#[test]
fn what_others_wrote_believes_every_log_on_every_node_and_nothing_that_was_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let verifiers: Vec<PathBuf> = go_verifier(folder.path()).into_iter().chain(rust_verifier()).collect();
    let python = python();
    if verifiers.is_empty() {
        return;
    }
    let mut cluster = Cluster::start().expect("a cluster");
    // More than a tile in some logs, and none in others.
    let decided: u64 = (0..8).map(|round| decide(&cluster, 1 + round % 3, 500)).sum();
    assert!(decided > 3_000, "{decided}");
    let (code, keys) = cluster.cli(1, &["audit", "key", "vkey"]).expect("it runs");
    assert_eq!(code, 0, "{keys}");
    let (_, cosigners) = cluster.cli(2, &["audit", "key", "vkey", "--cosigners"]).expect("it runs");
    let (logs, cosigners) = (strings(&keys), strings(&cosigners));
    assert_eq!((logs.len(), cosigners.len()), (12, 3));
    await_checkpoints(&cluster, logs.len(), decided);
    let leaves = all_believe(&cluster, &verifiers, &logs, &cosigners);
    assert!(leaves >= decided, "{leaves} leaves of {decided} decisions");
    for group in python.iter().flat_map(|_| 2..2 + logs.len()) {
        let python = python.as_ref().expect("there is one");
        let found = said(Command::new(python).arg(acceptance("verify.py")).args([cluster.http(2), group.to_string()]));
        found.expect("pymerkle believes it");
    }
    check_cluster_log(&cluster, &verifiers, &logs, &cosigners);
    check_proof_with_an_answer(&cluster);

    // Two of three replicas hold what is decided while one is gone; it comes back and vouches again.
    cluster.kill(3).expect("killed");
    assert!(decide(&cluster, 1, 200) > 0, "two of three decide");
    let prefix = format!("{}/log/2", cluster.http(1));
    for verifier in &verifiers {
        vouched(verifier, &prefix, &logs[0], &cosigners, 2);
    }
    cluster.restart(3).expect("it starts");
    let prefix = format!("{}/log/2", cluster.http(3));
    for verifier in &verifiers {
        verified(verifier, &prefix, &logs[0], &cosigners).expect("what came back verifies");
    }
    check_turned_keys(&cluster, &verifiers, &logs);
}
