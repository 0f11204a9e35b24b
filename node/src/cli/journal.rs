//! The client's own ledger: what was sent, written before it is sent, and what came back. Compared with the audit
//! trail afterwards, it shows whether an acknowledged decision was lost or an action was executed twice.
//!
//! One JSON object a line, told apart by `event`: `sent`, and later `answered` or `failed`. A line is handed
//! to the operating system before the request leaves, so it survives a killed client, though not a power loss.
#![allow(clippy::disallowed_methods, reason = "the journal is a file of the command line, not of a node")]

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use nethical_protocol::action::Action;
use nethical_protocol::decision::{ItemAnswer, Verdict};
use nethical_protocol::error::{Class, Code};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Record {
    /// About to be sent.
    Sent {
        /// The id that the client chose.
        request_id: String,
        /// The tenant.
        tenant: String,
        /// The agent.
        agent: String,
    },
    /// A decision came back.
    Answered {
        /// The id that the client chose.
        request_id: String,
        /// Where its record stands.
        decision_id: String,
        /// The verdict.
        verdict: Verdict,
        /// RFC 6962 leaf hash, hex.
        leaf_hash: String,
        /// Log time of the decision.
        decided_at_ns: u64,
    },
    /// No decision came back.
    Failed {
        /// The id that the client chose.
        request_id: String,
        /// Why.
        code: Code,
        /// What may have happened.
        class: Class,
    },
}

/// An open journal. Cheap to share; a lock is held only while lines are copied out.
#[derive(Debug)]
pub struct Journal {
    file: Mutex<BufWriter<File>>,
}

impl Journal {
    /// Opens a new journal; an older file of that name is replaced.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("opening the journal {}", path.display()))?;
        Ok(Self { file: Mutex::new(BufWriter::new(file)) })
    }

    /// Notes actions that are about to be sent.
    pub fn sending(&self, actions: &[Action]) -> anyhow::Result<()> {
        self.write(actions.iter().map(|action| Record::Sent {
            request_id: action.request_id.clone(),
            tenant: action.tenant.clone(),
            agent: action.agent.clone(),
        }))
    }

    /// Notes what came back.
    pub fn came_back(&self, answers: &[ItemAnswer]) -> anyhow::Result<()> {
        self.write(answers.iter().map(record_of))
    }

    fn write(&self, records: impl Iterator<Item = Record>) -> anyhow::Result<()> {
        let mut file = self.file.lock();
        for record in records {
            serde_json::to_writer(&mut *file, &record).context("writing the journal")?;
            file.write_all(b"\n").context("writing the journal")?;
        }
        file.flush().context("writing the journal")
    }
}

fn record_of(answer: &ItemAnswer) -> Record {
    let request_id = answer.request_id.clone();
    match &answer.result {
        Ok(decision) => Record::Answered {
            request_id,
            decision_id: decision.decision_id.to_string(),
            verdict: decision.verdict,
            leaf_hash: decision.audit.leaf_hash.clone(),
            decided_at_ns: decision.decided_at_ns,
        },
        Err(problem) => Record::Failed { request_id, code: problem.code, class: problem.code.class() },
    }
}

/// Reads a journal back. A last line cut short by a killed client is left out; any other bad line is an error.
pub fn read(path: &Path) -> anyhow::Result<Vec<Record>> {
    let file = File::open(path).with_context(|| format!("reading the journal {}", path.display()))?;
    let lines: Vec<String> = BufReader::new(file).lines().collect::<Result<_, _>>()?;
    let last = lines.len().saturating_sub(1);
    let mut records = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) if index == last => {}
            Err(error) => anyhow::bail!("{}:{}: {error}", path.display(), index + 1),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::generator::{Generator, stamp};
    use crate::cli::measure::tests::{decided, failed};

    #[test]
    fn what_was_sent_and_what_came_back_is_read_again_and_a_cut_tail_is_left_out() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("journal");
        let journal = Journal::create(&path).expect("a new file");
        let mut action = Generator::new(1, 1).action("t", 0);
        stamp(&mut action);
        journal.sending(std::slice::from_ref(&action)).expect("written");
        let answers = [decided(&action.request_id, 4, Verdict::Block), failed("other", Code::OutcomeUnknown)];
        journal.came_back(&answers).expect("written");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("there");
        file.write_all(b"{\"event\":\"se").expect("written");
        let records = read(&path).expect("readable");
        assert_eq!(records.len(), 3);
        assert!(matches!(&records[0], Record::Sent { agent, .. } if *agent == action.agent));
        assert!(
            matches!(&records[1], Record::Answered { decision_id, verdict: Verdict::Block, .. } if decision_id == "2.1.4")
        );
        assert!(matches!(&records[2], Record::Failed { class: Class::Unknown, .. }));
    }
}
