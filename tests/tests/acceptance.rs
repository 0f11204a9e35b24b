//! Verifiers that others wrote, on a running cluster: what our own code would believe of itself is no proof.
//!
//! Go's `golang.org/x/mod/sumdb` is taken from Debian's packages (golang-go, golang-golang-x-mod-dev); where they are
//! missing the test says so and proves nothing.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nethical_tests::cluster::{Cluster, pause};
use serde_json::{Value, json};

/// How long the cluster log may take to have a leaf for each log, on a busy machine.
const GATHER_WAIT: Duration = Duration::from_secs(60);
/// Where Debian keeps Go's packages.
const GOPATH: &str = "/usr/share/gocode";

/// Go's verifier, built in `folder`; none where Go or its package is not on this machine.
fn go_verifier(folder: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("acceptance/verify.go");
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
        .arg(source)
        .envs([("GO111MODULE", "off"), ("GOPATH", GOPATH), ("GOFLAGS", "")])
        .env("GOCACHE", folder.join("cache"))
        .output()
        .expect("go runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(binary)
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

/// Runs the verifier on a log as a node publishes it.
fn verified(verifier: &Path, prefix: &str, vkey: &str, cosigners: &[String]) -> Result<Value, String> {
    let output = Command::new(verifier).args([prefix, vkey]).args(cosigners).output().expect("it runs");
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).expect("JSON")),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn the_go_implementation_believes_every_log_on_every_node_and_nothing_that_was_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(verifier) = go_verifier(folder.path()) else { return };
    let mut cluster = Cluster::start().expect("a cluster");
    // More than a tile in some logs, and none in others.
    let decided: u64 = (0..8).map(|round| decide(&cluster, 1 + round % 3, 500)).sum();
    assert!(decided > 3_000, "{decided}");
    let (code, keys) = cluster.cli(1, &["audit", "key", "vkey"]).expect("it runs");
    assert_eq!(code, 0, "{keys}");
    let (_, cosigners) = cluster.cli(2, &["audit", "key", "vkey", "--cosigners"]).expect("it runs");
    let (logs, cosigners) = (strings(&keys), strings(&cosigners));
    assert_eq!((logs.len(), cosigners.len()), (12, 3));
    let mut leaves = 0;
    for (place, vkey) in logs.iter().enumerate() {
        let group = place + 2;
        let prefix = |node| format!("{}/log/{group}", cluster.http(node));
        let mut size = 0;
        for node in 1..=3 {
            let found = verified(&verifier, &prefix(node), vkey, &cosigners).expect("it verifies");
            assert_eq!(found["cosigners"].as_array().map(Vec::len), Some(3), "every replica holds it durably: {found}");
            size = found["size"].as_u64().expect("a size");
        }
        leaves += size;
        let other = &logs[(place + 1) % logs.len()];
        assert!(verified(&verifier, &prefix(1), other, &[]).is_err(), "another log's key opens it");
    }
    assert!(leaves >= decided, "{leaves} leaves of {decided} decisions");

    // The log of their checkpoints, too, once it holds one of each.
    let (_, above) = cluster.cli(3, &["audit", "key", "vkey", "--cluster"]).expect("it runs");
    let above = strings(&above);
    let size_of = |node| {
        let note = cluster.get(node, "/log/cluster/checkpoint").ok()?;
        note.as_str()?.lines().nth(1)?.parse::<usize>().ok()
    };
    let begun = std::time::Instant::now();
    while size_of(1).is_none_or(|size| size < logs.len()) {
        assert!(begun.elapsed() < GATHER_WAIT, "no checkpoints are gathered");
        pause(Duration::from_millis(200));
    }
    for node in 1..=3 {
        let prefix = format!("{}/log/cluster", cluster.http(node));
        let found = verified(&verifier, &prefix, &above[0], &cosigners).expect("it verifies");
        assert!(found["size"].as_u64().is_some_and(|size| size >= logs.len() as u64), "{found}");
        assert!(verified(&verifier, &prefix, &logs[0], &[]).is_err(), "a partition's key opens it");
    }

    // The proof that comes with an answer is against a checkpoint of its own, and the same one replays.
    let line = json!({ "tenant": "t", "agent_id": "a", "kind": "tool_call", "name": "find", "options": { "receipt": "proof" } });
    let (status, answer) = cluster.post(2, "/v1/decisions", line.to_string().as_bytes()).expect("an answer");
    let receipt = answer["audit"]["receipt"].as_str().unwrap_or_default();
    let begin = format!("c2sp.org/tlog-proof@v1\nindex {}\n", answer["audit"]["leaf_index"]);
    assert!(status == 200 && receipt.starts_with(&begin), "{answer}");
    let origin = answer["audit"]["log"].as_str().unwrap_or_default();
    assert!(
        receipt.contains(&format!("\n\n{origin}\n")) && receipt.contains(&format!("\u{2014} {origin} ")),
        "{receipt}"
    );

    // Two of three replicas hold what is decided while one is gone; it comes back and vouches again.
    cluster.kill(3).expect("killed");
    assert!(decide(&cluster, 1, 200) > 0, "two of three decide");
    let prefix = format!("{}/log/2", cluster.http(1));
    let found = verified(&verifier, &prefix, &logs[0], &cosigners).expect("it verifies");
    assert_eq!(found["cosigners"].as_array().map(Vec::len), Some(2), "{found}");
    cluster.restart(3).expect("it starts");
    let prefix = format!("{}/log/2", cluster.http(3));
    verified(&verifier, &prefix, &logs[0], &cosigners).expect("what came back verifies");
}
