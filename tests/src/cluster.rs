//! A real cluster of processes for the end-to-end tests: the binary as users run it, real ports, real disks, real signals.
//!
//! Starts `nethical dev` in a temporary folder and talks to it as a user would. Ends only processes that it started.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nethical_client::{Client, Protocol};
use serde_json::Value;

/// How long a cluster may take to be ready on a busy machine.
const READY_WAIT: Duration = Duration::from_secs(90);

/// In a cluster's block of ports, one that it does not use.
const SPARE_PORT: u16 = 8;

/// The binary that tests and bench run: `NETHICAL_BIN`, or a build of this workspace in the profile that this is built in.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("NETHICAL_BIN") {
        Some(path) => PathBuf::from(path),
        None => build().expect("a build of the binary"),
    })
}

/// With the features that `cargo test --workspace` builds everything with, so that it has built this already: a binary
/// comes along with the tests of its command line.
const TESTED: [&str; 4] = ["test", "--workspace", "--no-run", "--test=cli"];
const RELEASED: [&str; 4] = ["build", "--release", "--package=nethical", "--bin=nethical"];

fn build() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let (how, folder) = if cfg!(debug_assertions) { (TESTED, "debug") } else { (RELEASED, "release") };
    let status = Command::new(cargo).args(how).args(["--quiet", "--locked"]).current_dir(root).status()?;
    anyhow::ensure!(status.success(), "cargo {}: {status}", how.join(" "));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join(folder).join("nethical"))
}

/// A running development cluster; stopped and removed when dropped.
pub struct Cluster {
    dev: Option<Child>,
    single: Vec<Child>,
    data: tempfile::TempDir,
    http_base: u16,
    quic_base: u16,
    /// Further arguments of `nethical dev`.
    more: Vec<String>,
    /// Three nodes fill this machine: clusters of one test process run one after the other. Dropped last.
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts three nodes on ports that are free now.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(|_| Vec::new())
    }

    /// As [`Cluster::start`], with further arguments, which may name a port that stays free for something beside it.
    pub fn start_with(more: impl FnOnce(u16) -> Vec<String>) -> anyhow::Result<Self> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let data = tempfile::tempdir()?;
        let base = free_base()?;
        let more = more(base + SPARE_PORT);
        let mut cluster =
            Self { _turn: turn, dev: None, single: Vec::new(), data, http_base: base, quic_base: base + 10, more };
        cluster.run_dev()?;
        Ok(cluster)
    }

    /// Starts the cluster (again) on the same folder and waits until every node is ready.
    pub fn run_dev(&mut self) -> anyhow::Result<()> {
        let (told, said) = (self.data.path().join("dev.out"), self.data.path().join("dev.err"));
        let child = Command::new(binary())
            .args(["dev", "-o", "json", "--data"])
            .arg(self.data.path())
            .args(["--http-base", &self.http_base.to_string(), "--quic-base", &self.quic_base.to_string()])
            .args(&self.more)
            .stdout(std::fs::File::create(&told)?)
            .stderr(std::fs::File::create(&said)?)
            .spawn()?;
        self.dev = Some(child);
        for node in 1..=3 {
            self.wait_ready(node)?;
        }
        // It prints the endpoints once it has seen the nodes ready itself; a node that dies before that ends them all.
        let begun = Instant::now();
        while std::fs::metadata(&told)?.len() == 0 {
            let words = std::fs::read_to_string(&said)?;
            anyhow::ensure!(begun.elapsed() < READY_WAIT, "dev does not see its nodes ready: {words}");
            pause(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits until a node says that it is ready.
    pub fn wait_ready(&mut self, node: u16) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            if self.get(node, "/readyz").is_ok() {
                return Ok(());
            }
            if begun.elapsed() > READY_WAIT {
                let log = std::fs::read_to_string(self.dir(node).join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(20).collect();
                bail!("node {node} is not ready: {:?}\n{}", self.get(node, "/readyz?verbose"), tail.join("\n"));
            }
            pause(Duration::from_millis(100));
        }
    }

    /// A node's folder.
    pub fn dir(&self, node: u16) -> PathBuf {
        self.data.path().join(format!("node-{node}"))
    }

    /// The cluster's folder.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// The HTTP endpoint of a node.
    pub fn http(&self, node: u16) -> String {
        format!("http://127.0.0.1:{}", self.http_base + node)
    }

    /// A client over the nodes given.
    pub fn client(&self, protocol: Protocol, nodes: &[u16]) -> anyhow::Result<Client> {
        let builder = Client::builder().protocol(protocol).deadline(Duration::from_secs(30));
        match protocol {
            Protocol::Http => Ok(builder.endpoints(nodes.iter().map(|node| self.http(*node))).build()?),
            Protocol::Quic => {
                let pem = std::fs::read(self.data.path().join("ca").join("ca.pem"))?;
                let authority = nethical_client::quic::certificates_from_pem(&pem)?;
                let doors = nodes.iter().map(|node| format!("127.0.0.1:{}", self.quic_base + node));
                Ok(builder.endpoints(doors).authority("localhost", authority).build()?)
            }
        }
    }

    /// Runs the command line against a node; gives its JSON, whatever the exit code.
    pub fn cli(&self, node: u16, args: &[&str]) -> anyhow::Result<(i32, Value)> {
        let output = Command::new(binary())
            .args(args)
            .args(["--endpoint", &self.http(node), "-o", "json"])
            .env("NETHICAL_CA", self.data.path().join("ca").join("ca.pem"))
            .output()?;
        let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Ok((output.status.code().unwrap_or(-1), value))
    }

    /// GETs a path of a node's HTTP door; an error unless the status is 200.
    pub fn get(&self, node: u16, path: &str) -> anyhow::Result<Value> {
        let (status, body) = http(&self.http(node), "GET", path, None)?;
        anyhow::ensure!(status == 200, "{path}: {status}: {body}");
        Ok(serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// POSTs a body as it is; gives status and answer.
    pub fn post(&self, node: u16, path: &str, body: &[u8]) -> anyhow::Result<(u16, Value)> {
        self.send("POST", node, path, body)
    }

    /// As [`Cluster::post`], by another method.
    pub fn send(&self, method: &str, node: u16, path: &str, body: &[u8]) -> anyhow::Result<(u16, Value)> {
        let (status, answer) = http(&self.http(node), method, path, Some(body))?;
        Ok((status, serde_json::from_str(&answer).unwrap_or(Value::String(answer))))
    }

    /// The process of a node, from the file that `dev` writes.
    pub fn pid(&self, node: u16) -> anyhow::Result<i32> {
        let text = std::fs::read_to_string(self.dir(node).join("pid"))?;
        Ok(text.trim().parse()?)
    }

    /// `kill -9`.
    pub fn kill(&self, node: u16) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid(node)?).context("a pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        let begun = Instant::now();
        while self.is_running(pid) && begun.elapsed() < Duration::from_secs(10) {
            pause(Duration::from_millis(20));
        }
        Ok(())
    }

    /// False for a process that is gone, and for one that only waits to be collected by its parent.
    fn is_running(&self, pid: rustix::process::Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        !matches!(stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()), None | Some('Z' | 'X'))
    }

    /// Starts a killed node again, beside the others.
    pub fn restart(&mut self, node: u16) -> anyhow::Result<()> {
        let child = Command::new(binary())
            .args(["node", "--config"])
            .arg(self.dir(node).join("config.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::fs::write(self.dir(node).join("pid"), child.id().to_string())?;
        self.single.push(child);
        self.wait_ready(node)
    }

    /// The node that leads most partitions, as node `asked` sees it.
    pub fn busiest_leader(&self, asked: u16) -> anyhow::Result<u16> {
        let status = self.get(asked, "/v1/status")?;
        let nodes = status["nodes"].as_array().context("nodes")?;
        let most = nodes.iter().max_by_key(|node| node["leader_of"].as_array().map_or(0, Vec::len));
        most.and_then(|node| node["id"].as_u64()).map(|id| id as u16).context("a leader")
    }

    /// Kills every node at once, and what started them.
    pub fn kill_all(&mut self) -> anyhow::Result<()> {
        for node in 1..=3 {
            self.kill(node)?;
        }
        self.reap();
        Ok(())
    }

    /// Stops every node in order.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        for child in self.dev.iter().chain(&self.single) {
            if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        for mut child in self.dev.take().into_iter().chain(self.single.drain(..)) {
            child.wait()?;
        }
        Ok(())
    }

    fn reap(&mut self) {
        for mut child in self.dev.take().into_iter().chain(self.single.drain(..)) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 1..=3 {
            let _ = self.kill(node);
        }
        self.reap();
    }
}

/// Waiting for another process is done by looking again.
pub fn pause(wait: Duration) {
    std::thread::sleep(wait);
}

/// A block of ports that nobody uses now; tests of one machine take different ones.
fn free_base() -> anyhow::Result<u16> {
    let seed = std::process::id();
    for attempt in 0..200u32 {
        let base = 20_000 + ((seed.wrapping_mul(131).wrapping_add(attempt * 977)) % 300) as u16 * 130;
        let wanted =
            (1..=3).flat_map(|node| [base + node, base + 10 + node, base + 110 + node]).chain([base + SPARE_PORT]);
        let free = |port: u16| {
            std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
                && std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok()
        };
        if wanted.into_iter().all(free) {
            return Ok(base);
        }
    }
    bail!("no block of free ports was found")
}

/// One request over a connection of its own: HTTP/1.1 by hand, so that bodies can be as wrong as a test wants.
fn http(base: &str, method: &str, path: &str, body: Option<&[u8]>) -> anyhow::Result<(u16, String)> {
    use std::io::{Read, Write};
    let address = base.strip_prefix("http://").context("an http endpoint")?;
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let body = body.unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    // A door that refuses early may close before it has read everything.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
    let status = head.split_whitespace().nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}
