//! The live tail end to end: decisions made while a tail is followed, a killed node in between, and a tail gone on with at
//! another node, everything exactly once.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use nethical_client::{Client, Protocol};
use nethical_tests::cluster::{Cluster, binary};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// Far more than anything here takes; only a tail that lost an entry gets there.
const PATIENCE: Duration = Duration::from_secs(180);

/// `nethical audit tail -o json` against a node.
struct Tail {
    child: Child,
    entries: Lines<BufReader<ChildStdout>>,
    remarks: Lines<BufReader<ChildStderr>>,
}

impl Tail {
    /// Starts it and waits until it follows.
    async fn start(cluster: &Cluster, node: u16, more: &[&str]) -> Self {
        let mut child = Command::new(binary())
            .args(["audit", "tail", "-o", "json", "--tenant", "t", "--endpoint", &cluster.http(node)])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a tail");
        let entries = BufReader::new(child.stdout.take().expect("piped")).lines();
        let remarks = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut tail = Self { child, entries, remarks };
        tail.remark("following at").await;
        tail
    }

    /// Reads remarks up to one that has these words.
    async fn remark(&mut self, words: &str) -> String {
        let read = async {
            loop {
                let line = self.remarks.next_line().await.expect("text").unwrap_or_else(|| panic!("no {words:?}"));
                if line.contains(words) {
                    return line;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no remark {words:?}"))
    }

    /// Reads entries until all of these were there; none may come twice, and none that was not asked for.
    async fn expect(&mut self, mut wanted: BTreeSet<String>) {
        let mut seen = BTreeSet::new();
        while !wanted.is_empty() {
            let line = tokio::time::timeout(PATIENCE, self.entries.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("never came: {wanted:?}")).expect("text").expect("it goes on");
            let entry: Value = serde_json::from_str(&line).expect("JSON");
            let id = entry["decision_id"].as_str().expect("an id").to_owned();
            assert!(seen.insert(id.clone()), "{id} came twice");
            assert!(wanted.remove(&id) || entry["kind"] != "decision", "{entry} was not wanted");
        }
    }

    /// Ctrl-C; gives the cursor to go on from.
    async fn interrupt(mut self) -> String {
        let pid = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id as i32)).expect("it runs");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
        let line = self.remark("--cursor ").await;
        assert!(self.child.wait().await.expect("it ends").success());
        line.rsplit(' ').next().expect("a cursor").to_owned()
    }
}

/// Decides so many actions of as many agents; gives the decisions' ids.
async fn decide(client: &Client, count: usize) -> BTreeSet<String> {
    let action = |agent: usize| {
        let line = json!({ "tenant": "t", "agent_id": format!("a{agent}"), "kind": "tool_call", "name": "search", "args": {} });
        nethical_client::action::from_line(&line.to_string()).expect("a line of ours")
    };
    let answers = client.decide((0..count).map(action).collect()).await;
    let id = |answer: &nethical_client::ItemAnswer| {
        answer.result.as_ref().unwrap_or_else(|problem| panic!("{problem}")).decision_id.to_string()
    };
    answers.iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_tells_every_decision_once_across_a_killed_node_and_goes_on_elsewhere() {
    let mut cluster = Cluster::start().expect("a cluster");
    let client = cluster.client(Protocol::Http, &[2, 3]).expect("a client");
    decide(&client, 20).await;
    let mut tail = Tail::start(&cluster, 1, &[]).await;
    let mut told = decide(&client, 40).await;
    tail.expect(told.clone()).await;
    cluster.kill(1).expect("kill -9");
    tail.remark("trying again").await;
    told = decide(&client, 40).await;
    cluster.restart(1).expect("restart");
    tail.remark("following at").await;
    told.extend(decide(&client, 40).await);
    tail.expect(told).await;
    let cursor = tail.interrupt().await;
    let meanwhile = decide(&client, 30).await;
    let mut elsewhere = Tail::start(&cluster, 3, &["--cursor", &cursor]).await;
    elsewhere.expect(meanwhile).await;
    let (code, page) =
        cluster.cli(2, &["audit", "query", "--tenant", "t", "--order", "asc", "--cursor", &cursor]).expect("a page");
    assert_eq!((code, page["entries"].as_array().map(Vec::len)), (0, Some(30)), "a page goes on where a tail ended");
}
