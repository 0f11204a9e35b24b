//! An independent witness beside a running cluster: it survives kill -9 without forgetting, and a cluster that was set back
//! to an older state is caught, because somebody else remembers.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nethical_tests::cluster::{Cluster, binary, pause};
use serde_json::json;

/// How long something may take that needs rounds of ten seconds and pauses after failures, on a busy machine.
const WAIT: Duration = Duration::from_secs(180);
const NAME: &str = "w.example/1";

/// A witness process; killed when dropped.
struct Witness(Child);

impl Witness {
    fn start(data: &Path, port: u16, log: &str) -> Self {
        let child = Command::new(binary())
            .args(["audit", "witness", "--listen", &format!("127.0.0.1:{port}"), "--log", log, "--data"])
            .arg(data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("it starts"))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The key, made before anybody knows of it.
fn key(data: &Path) -> String {
    let output = Command::new(binary())
        .args(["audit", "witness", "--print-key", "--name", NAME, "--data"])
        .arg(data)
        .output()
        .expect("it runs");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Looks again until there is something to see.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < WAIT, "{what}");
        pause(Duration::from_millis(200));
    }
}

/// Size of the cluster log's checkpoint that a node shows, where the witness has signed it.
fn witnessed(cluster: &Cluster, node: u16) -> Option<u64> {
    let note = cluster.get(node, "/log/cluster/checkpoint").ok()?;
    let note = note.as_str()?;
    let is_signed = note.lines().any(|line| line.starts_with(&format!("\u{2014} {NAME} ")));
    note.lines().nth(1)?.parse().ok().filter(|_| is_signed)
}

/// Makes some logs longer.
fn decide(cluster: &Cluster, node: u16, agents: &str) {
    for place in 0..20 {
        let line =
            json!({ "tenant": "t", "agent_id": format!("{agents}{place}"), "kind": "tool_call", "name": "find" });
        let (status, answer) = cluster.post(node, "/v1/decisions", line.to_string().as_bytes()).expect("an answer");
        assert_eq!(status, 200, "{answer}");
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success());
}

fn conflicts(cluster: &Cluster) -> u64 {
    let counted = |node| {
        let text = cluster.get(node, "/metrics").ok()?;
        let line = text.as_str()?.lines().find_map(|line| line.strip_prefix("nethical_witness_conflicts_total "))?;
        line.trim().parse::<u64>().ok()
    };
    (1..=3).filter_map(counted).sum()
}

#[test]
fn a_witness_remembers_through_its_death_and_catches_a_cluster_that_was_set_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("witness");
    let vkey = key(&data);
    let mut port = 0;
    let mut cluster = Cluster::start_with(|spare| {
        port = spare;
        vec!["--witness".to_owned(), format!("http://127.0.0.1:{spare} {vkey}")]
    })
    .expect("a cluster");
    let (_, logs) = cluster.cli(1, &["audit", "key", "vkey", "--cluster"]).expect("it runs");
    let log = logs[0].as_str().expect("the cluster log's key").to_owned();
    decide(&cluster, 1, "a");
    let witness = Witness::start(&data, port, &log);
    let first = until("every node shows what the witness signed", || {
        (1..=3).map(|node| witnessed(&cluster, node)).collect::<Option<Vec<u64>>>()
    });

    // Killed, it is missed by nobody; started again, it goes on where it was.
    drop(witness);
    decide(&cluster, 2, "b");
    let witness = Witness::start(&data, port, &log);
    let second = until("the witness signs more", || witnessed(&cluster, 2).filter(|size| *size > first[1]));

    // The whole cluster is set back to where it was now, and goes on with another history.
    cluster.stop().expect("it stops");
    let before = folder.path().join("before");
    copy(cluster.data(), &before);
    cluster.run_dev().expect("it starts");
    decide(&cluster, 1, "c");
    until("the witness signs more", || witnessed(&cluster, 1).filter(|size| *size > second));
    assert_eq!(conflicts(&cluster), 0, "a cluster that starts again is no conflict");
    cluster.kill_all().expect("killed");
    for node in 1..=3 {
        let name = format!("node-{node}");
        std::fs::remove_dir_all(cluster.dir(node)).expect("removed");
        copy(&before.join(&name), &cluster.dir(node));
    }
    cluster.run_dev().expect("it starts");
    until("the witness is found to know another history", || Some(conflicts(&cluster)).filter(|count| *count > 0));
    decide(&cluster, 3, "d");
    assert_eq!(witnessed(&cluster, 1), None, "nobody vouches for the other history");
    drop(witness);
}
