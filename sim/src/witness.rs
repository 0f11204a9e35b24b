//! A witness outside of the fleet: it keeps what it signed for ever, is slow, loses questions and answers, and is away for
//! seconds at a time. All of it by its own dice.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use nethical_audit::note::cosign::Cosigner;
use nethical_audit::note::{Signer, VerifierKey};
use nethical_audit::tree::Hash;
use nethical_audit::witness::{self, Refusal, Seen, Submission};
use nethical_cluster::witness::Witness;
use nethical_cluster::world::{Clock, Outside, Posted};
use nethical_protocol::ids::{GroupId, LogId};

use crate::clock::SimClock;
use crate::dice;
use crate::world::CLUSTER;

/// Of a thousand questions, how many never arrive, and how many answers are lost on the way back.
const LOST_PERMILLE: u32 = 80;
/// One second in so many it is away, in stretches of that many seconds.
const AWAY_ONE_IN: u64 = 5;
const STRETCH_S: u64 = 4;
/// The longest that a question or an answer takes, milliseconds.
const LATE_MS_MAX: u64 = 900;

/// The witness. A clone is the same one.
#[derive(Clone)]
pub struct SimWitness {
    inner: Arc<Inner>,
}

struct Inner {
    clock: SimClock,
    cosigner: Cosigner,
    state: Mutex<State>,
}

struct State {
    /// Of the log that it watches.
    keys: Vec<VerifierKey>,
    dice: ChaCha12Rng,
    seen: Seen,
    signed: Vec<(u64, Hash)>,
}

impl SimWitness {
    /// A witness that has signed nothing, of the run with this seed.
    pub fn new(seed: u64, clock: SimClock) -> Self {
        let origin = LogId { group: GroupId::CONTROL, era: 1 }.origin(CLUSTER);
        let log = Signer::from_seed(&origin, &dice::seed_of(seed, "signing seed")).expect("a good name").verifier_key();
        let cosigner =
            Cosigner::from_seed("witness.simulated/1", &dice::seed_of(seed, "witness")).expect("a good name");
        let state =
            State { keys: vec![log], dice: dice::fork(seed, "witness"), seen: Seen::nothing(), signed: Vec::new() };
        Self { inner: Arc::new(Inner { clock, cosigner, state: Mutex::new(state) }) }
    }

    /// What nodes are told of it.
    pub fn told(&self) -> Witness {
        Witness { url: "http://witness.simulated".to_owned(), key: self.inner.cosigner.verifier_key() }
    }

    /// Adds keys to those that it believes.
    pub fn learn(&self, keys: Vec<VerifierKey>) {
        let mut state = self.inner.state.lock();
        let new = keys.into_iter().filter(|key| !state.keys.contains(key)).collect::<Vec<_>>();
        state.keys.extend(new);
    }

    /// Size and root of every tree that it signed, in order.
    pub fn signed(&self) -> Vec<(u64, Hash)> {
        self.inner.state.lock().signed.clone()
    }

    fn luck(&self) -> (bool, bool, u64) {
        let dice = &mut self.inner.state.lock().dice;
        let mut lost = || dice.random_range(0..1_000) < LOST_PERMILLE;
        let (question, answer) = (lost(), lost());
        (question, answer, dice.random_range(10..LATE_MS_MAX))
    }

    fn is_away(&self) -> bool {
        (self.inner.clock.now().as_secs() / STRETCH_S) % AWAY_ONE_IN == AWAY_ONE_IN - 1
    }

    fn judge(&self, body: &[u8]) -> Result<String, Refusal> {
        let submission = Submission::parse(body)?;
        let mut state = self.inner.state.lock();
        let checkpoint = witness::trusted(&submission, &state.keys)?;
        let seen = witness::judge(&submission, &checkpoint, state.seen)?;
        state.seen = seen;
        state.signed.push((seen.size, seen.root));
        Ok(self.inner.cosigner.cosign(&checkpoint.text(), self.inner.clock.wall_ns() / 1_000_000_000))
    }
}

impl Outside for SimWitness {
    fn post(&self, _: &str, body: Bytes, deadline: Duration) -> BoxFuture<'static, Result<Posted, String>> {
        let witness = self.clone();
        async move {
            let (question_lost, answer_lost, late_ms) = witness.luck();
            let half = Duration::from_millis(late_ms / 2);
            witness.inner.clock.sleep(half).await;
            if question_lost || witness.is_away() {
                witness.inner.clock.sleep(deadline.saturating_sub(half)).await;
                return Err("nobody answers".to_owned());
            }
            let judged = witness.judge(&body);
            witness.inner.clock.sleep(half).await;
            if answer_lost {
                return Err("the answer is lost".to_owned());
            }
            let (status, text) = match judged {
                Ok(line) => (200, line),
                Err(refusal) => (refusal.status(), refusal.answer().1),
            };
            Ok(Posted { status, body: Bytes::from(text) })
        }
        .boxed()
    }
}
