//! The CSV of a load run, one row an action, with the older generator's columns.
#![allow(clippy::disallowed_methods, reason = "the command line writes its own report file")]

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use parking_lot::Mutex;

use nethical_protocol::decision::{ItemAnswer, Verdict};

const COLUMNS: [&str; 7] =
    ["agent_id", "action_id", "timestamp", "latency_ms", "status", "error", "violation_detected"];

/// An open CSV file. A lock is held while the rows of one request are copied out.
#[derive(Debug)]
pub struct Rows {
    writer: Mutex<csv::Writer<File>>,
}

impl Rows {
    /// Opens a new file with its header; an older one of that name is replaced.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let mut writer = csv::Writer::from_path(path).with_context(|| format!("opening {}", path.display()))?;
        writer.write_record(COLUMNS)?;
        Ok(Self { writer: Mutex::new(writer) })
    }

    /// One row for each answer; a violation is any verdict but allow.
    pub fn write(&self, agents: &[String], answers: &[ItemAnswer], latency: Duration) -> anyhow::Result<()> {
        let now = jiff::Timestamp::now().to_string();
        let latency_ms = format!("{:.3}", latency.as_secs_f64() * 1_000.0);
        let mut writer = self.writer.lock();
        for (agent, answer) in agents.iter().zip(answers) {
            let (status, error, violation) = match &answer.result {
                Ok(decision) => ("success", String::new(), decision.verdict != Verdict::Allow),
                Err(problem) => ("error", problem.to_string(), false),
            };
            let violation = if violation { "true" } else { "false" };
            writer.write_record([agent, &answer.request_id, &now, &latency_ms, status, &error, violation])?;
        }
        Ok(())
    }

    /// Hands everything to the operating system.
    pub fn finish(&self) -> anyhow::Result<()> {
        self.writer.lock().flush().context("writing the CSV file")
    }
}
