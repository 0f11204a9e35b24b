//! One node process: started with its log as output, watched, asked to stop, killed by the id that it was started under.
#![allow(clippy::disallowed_methods, reason = "starts processes and waits for them")]

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::NodePlace;
use crate::cli::http::Admin;

/// Bytes of a log that an error quotes.
const LOG_TAIL_BYTES: u64 = 2_000;
const READY_ANSWER_WAIT: Duration = Duration::from_secs(1);

/// A child that is ours until it has ended. Dropping it kills it.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    what: String,
}

impl NodeProcess {
    /// Starts this binary as the node at `place`, with settings of the form `PATH=VALUE`; its output is appended to its log.
    pub fn start(place: &NodePlace, settings: &[String]) -> anyhow::Result<Self> {
        let binary = std::env::current_exe().context("finding this binary")?;
        let mut command = Command::new(binary);
        command.arg("node").arg("--die-with-parent").arg("--config").arg(place.dir.join("config.toml"));
        for setting in settings {
            command.arg("--set").arg(setting);
        }
        // The environment is a later layer than the file: what is meant for commands must not reach the nodes.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("NETHICAL_")) {
            command.env_remove(name);
        }
        // Freed memory is kept for a second before it goes back to the system: bursts of batches would otherwise have
        // huge pages cleared over and over.
        command.env("MIMALLOC_PURGE_DELAY", "1000");
        Self::spawn(command, place)
    }

    /// Starts any command as a node; tests use a stand-in.
    pub fn spawn(mut command: Command, place: &NodePlace) -> anyhow::Result<Self> {
        let log_path = place.dir.join("log");
        let log = OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.with_context(|| format!("opening {}", log_path.display()))?;
        let errors = log.try_clone().with_context(|| format!("opening {}", log_path.display()))?;
        let what = format!("node {}", place.id);
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A group of its own: Ctrl-C in the terminal reaches the parent, which stops the nodes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {what}"))?;
        if let Some(pid) = child.id() {
            let path = place.dir.join("pid");
            std::fs::write(&path, pid.to_string()).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(Self { child, what })
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| describe(&status))
    }

    /// SIGTERM. A process that has ended already is left alone: its id may be somebody else's by now.
    pub fn ask_to_stop(&self) {
        let pid = self.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // The only error possible is that it has just ended, which is what was asked for.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("killing {}", self.what))
    }

    /// Waits until `deadline`, then kills.
    pub async fn stopped_by(mut self, deadline: Instant) -> anyhow::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, self.child.wait()).await {
            Ok(status) => status.map(drop).with_context(|| format!("waiting for {}", self.what)),
            Err(_) => {
                crate::output::remark(&format!("{} did not stop by itself; killing it", self.what));
                self.kill().await
            }
        }
    }
}

fn describe(status: &ExitStatus) -> String {
    status.to_string()
}

/// The end of a node's log.
pub fn log_tail(place: &NodePlace) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(place.dir.join("log"))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(its log cannot be read: {error})"))
}

/// `Ok` where the node would take a decision now, else why not.
pub async fn readiness(place: &NodePlace) -> Result<(), String> {
    let admin = Admin::new(&place.http, None).map_err(|error| error.to_string())?;
    let request = admin.request(reqwest::Method::GET, &["readyz"], &[("verbose", String::new())]);
    match request.within(READY_ANSWER_WAIT).raw().await {
        Ok((200, _)) => Ok(()),
        Ok((_, text)) => Err(failing_checks(&text)),
        Err(_) => Err("it does not listen yet".to_owned()),
    }
}

/// The checks that fail, of whatever shape the verbose answer is.
fn failing_checks(text: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let checks = value.get("checks").unwrap_or(&value).as_array().cloned().unwrap_or_default();
    let failing: Vec<String> = checks
        .iter()
        .filter(|check| check["ok"] == false)
        .map(|check| format!("{} ({})", check["name"].as_str().unwrap_or("?"), check["detail"].as_str().unwrap_or("")))
        .collect();
    if failing.is_empty() { "it is not ready".to_owned() } else { failing.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &std::path::Path) -> NodePlace {
        let address = "127.0.0.1:1".to_owned();
        let (http, quic, peer) = (address.clone(), address.clone(), address);
        NodePlace { id: 1, region: "us-east-1".into(), http, quic, peer, dir: dir.to_owned() }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        command
    }

    #[tokio::test]
    async fn a_process_that_ends_is_noticed_and_its_log_is_quoted() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let place = place(dir.path());
        let mut process = NodeProcess::spawn(shell("echo it broke >&2; exit 7"), &place).expect("started");
        let written: u32 = std::fs::read_to_string(dir.path().join("pid")).expect("pid").parse().expect("a number");
        assert_eq!(Some(written), process.pid());
        process.child.wait().await.expect("ended");
        assert!(process.ended().expect("ended").contains('7'));
        assert!(log_tail(&place).contains("it broke"));
    }

    #[tokio::test]
    async fn sigterm_is_enough_for_an_obedient_process_and_sigkill_for_the_rest() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let place = place(dir.path());
        let obedient =
            NodeProcess::spawn(shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done"), &place);
        let stubborn = NodeProcess::spawn(shell("trap '' TERM; echo up; while :; do sleep 0.02; done"), &place);
        let (obedient, stubborn) = (obedient.expect("started"), stubborn.expect("started"));
        while log_tail(&place).matches("up").count() < 2 {
            tokio::task::yield_now().await;
        }
        let pid = stubborn.pid().expect("running");
        obedient.ask_to_stop();
        obedient.stopped_by(Instant::now() + Duration::from_secs(20)).await.expect("stopped");
        assert!(log_tail(&place).contains("bye"));
        stubborn.ask_to_stop();
        stubborn.stopped_by(Instant::now()).await.expect("killed");
        assert!(!crate::dev::folder::is_alive(pid));
    }

    #[test]
    fn failing_checks_are_named() {
        let text = r#"{"ready":false,"checks":[{"name":"policy","ok":false,"detail":"none"},{"name":"disk","ok":true,"detail":""}]}"#;
        assert_eq!(failing_checks(text), "policy (none)");
        assert_eq!(failing_checks(r#"[{"name":"a","ok":false,"detail":"b"}]"#), "a (b)");
        assert_eq!(failing_checks("<html>"), "it is not ready");
    }
}
