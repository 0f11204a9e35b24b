//! The client's memory of the demo: what it submitted when, and what it was told.
#![allow(clippy::disallowed_methods, reason = "the demo is a client: it measures its own time")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use parking_lot::Mutex;

use nethical_protocol::action::Action;
use nethical_protocol::decision::{ItemAnswer, Verdict};

use super::check::{Attempt, Recorded, Told};
use crate::cli::sender::Decider;

/// Everything that was submitted through [`Noting`] deciders.
#[derive(Debug)]
pub struct Ledger {
    started: Instant,
    notes: Mutex<BTreeMap<String, Note>>,
}

#[derive(Debug, Clone)]
struct Note {
    agent: String,
    submitted_ns: u64,
    told: Option<Told>,
}

impl Ledger {
    /// Empty; its clock starts now.
    pub fn new() -> Self {
        Self { started: Instant::now(), notes: Mutex::default() }
    }

    /// The ledger's clock.
    pub fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }

    /// Every decision that came back.
    pub fn told(&self) -> Vec<Told> {
        self.notes.lock().values().filter_map(|note| note.told.clone()).collect()
    }

    /// The request ids of one agent.
    pub fn requests_of(&self, agent: &str) -> BTreeSet<String> {
        let notes = self.notes.lock();
        notes.iter().filter(|(_, note)| note.agent == agent).map(|(id, _)| id.clone()).collect()
    }

    /// One agent's actions; the verdict is the one recorded, where there is a record, else the one told.
    pub fn attempts_of(&self, agent: &str, recorded: &[Recorded]) -> Vec<Attempt> {
        let recorded: BTreeMap<&str, Verdict> =
            recorded.iter().map(|record| (record.request_id.as_str(), record.verdict)).collect();
        let notes = self.notes.lock();
        let own = notes.iter().filter(|(_, note)| note.agent == agent);
        own.map(|(request_id, note)| Attempt {
            request_id: request_id.clone(),
            submitted_ns: note.submitted_ns,
            verdict: recorded.get(request_id.as_str()).copied().or(note.told.as_ref().map(|told| told.verdict)),
        })
        .collect()
    }

    fn sending(&self, actions: &[Action]) {
        let submitted_ns = self.now_ns();
        let mut notes = self.notes.lock();
        for action in actions {
            let note = Note { agent: action.agent.clone(), submitted_ns, told: None };
            notes.insert(action.request_id.clone(), note);
        }
    }

    fn came_back(&self, answers: &[ItemAnswer]) {
        let mut notes = self.notes.lock();
        for answer in answers {
            let (Ok(decision), Some(note)) = (&answer.result, notes.get_mut(&answer.request_id)) else { continue };
            note.told = Some(Told {
                request_id: answer.request_id.clone(),
                decision_id: decision.decision_id.to_string(),
                verdict: decision.verdict,
                leaf_hash: decision.audit.leaf_hash.clone(),
            });
        }
    }
}

/// A decider that notes in the ledger what passes through it.
pub struct Noting {
    /// Where to note.
    pub ledger: Arc<Ledger>,
    /// Who decides.
    pub inner: Arc<dyn Decider>,
}

impl Decider for Noting {
    fn decide(&self, actions: Vec<Action>) -> BoxFuture<'_, Vec<ItemAnswer>> {
        self.ledger.sending(&actions);
        Box::pin(async move {
            let answers = self.inner.decide(actions).await;
            self.ledger.came_back(&answers);
            answers
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::generator::{Generator, stamp};
    use crate::cli::measure::tests::{decided, failed};
    use nethical_protocol::error::Code;

    struct EverySecond;

    impl Decider for EverySecond {
        fn decide(&self, actions: Vec<Action>) -> BoxFuture<'_, Vec<ItemAnswer>> {
            let answer = |(index, action): (usize, &Action)| match index % 2 {
                0 => decided(&action.request_id, index as u64, Verdict::Allow),
                _ => failed(&action.request_id, Code::OutcomeUnknown),
            };
            let answers = actions.iter().enumerate().map(answer).collect();
            Box::pin(async move { answers })
        }
    }

    #[tokio::test]
    async fn what_passes_is_noted_and_records_outweigh_silence() {
        let ledger = Arc::new(Ledger::new());
        let noting = Noting { ledger: ledger.clone(), inner: Arc::new(EverySecond) };
        let generator = Generator::new(1, 1);
        let mut actions: Vec<Action> = (0..4).map(|sequence| generator.action("t", sequence)).collect();
        actions.iter_mut().for_each(stamp);
        let agent = actions[0].agent.clone();
        let silent = actions[1].request_id.clone();
        noting.decide(actions).await;
        assert_eq!((ledger.told().len(), ledger.requests_of(&agent).len()), (2, 4));
        let record = Recorded {
            request_id: silent.clone(),
            decision_id: "2.1.7".into(),
            verdict: Verdict::Block,
            leaf_hash: String::new(),
        };
        let attempts = ledger.attempts_of(&agent, &[record]);
        let verdict = |id: &str| attempts.iter().find(|attempt| attempt.request_id == id).expect("noted").verdict;
        assert_eq!(verdict(&silent), Some(Verdict::Block));
        assert_eq!(attempts.iter().filter(|attempt| attempt.verdict.is_none()).count(), 1);
    }
}
