//! Witnesses outside of the cluster: the control leader shows them each new checkpoint of the cluster log, and keeps the
//! lines by which they vouch that it extends all that they saw (c2sp.org/tlog-witness).
//!
//! Nothing waits for a witness and none is believed: only lines that its configured key wrote are kept, in memory of one
//! leader; another one asks again. A witness that saw another history is an alarm and stops nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use nethical_audit::note::{KeyKind, VerifierKey};
use nethical_audit::tree::leaf_hash;
use nethical_audit::witness::{self, ADD_CHECKPOINT, Submission};
use nethical_protocol::ids::GroupId;
use nethical_protocol::{always, probe, sometimes};

use crate::control::ControlMachine;
use crate::node::{Core, Plain};
use crate::publish::{self, Announced};
use crate::rules::control_here;
use crate::seeds::Public;
use crate::signing;
use crate::store::{AuditStore, sealer};
use crate::world::timeout;

/// Cosignatures of witnesses that were kept.
pub const COSIGNED_TOTAL: &str = "nethical_witness_cosignatures_total";
/// Witnesses that saw another history of the cluster log.
pub const CONFLICTS_TOTAL: &str = "nethical_witness_conflicts_total";
/// Witnesses of a cluster: with the replicas' lines a note stays far below the lines that verifiers read.
pub const WITNESSES_MAX: usize = 16;

/// Between two looks at whether there is anything new.
const LOOK: Duration = Duration::from_secs(1);
/// How long a witness may take. It syncs before it answers.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a quorum may take to confirm the leader.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(2);
/// The longest pause after failures, and the pause after a conflict.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Checkpoints whose lines are kept.
const KEPT_MAX: usize = 4;
/// How long a checkpoint with more witnesses is shown instead of a newer one with less.
const SHOWN_FOR: Duration = Duration::from_secs(60);

/// A witness that a node is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witness {
    /// Its submission prefix, without a slash at the end.
    pub url: String,
    /// The key by which it vouches.
    pub key: VerifierKey,
}

impl Witness {
    /// Reads a list: `URL VKEY`, with a comma between two of them.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        let written = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let witnesses: Vec<Self> = written.map(Self::parse).collect::<Result<_, _>>()?;
        if witnesses.len() > WITNESSES_MAX {
            return Err(format!("{} witnesses; at most {WITNESSES_MAX} can be", witnesses.len()));
        }
        let mut names: Vec<&str> = witnesses.iter().map(|witness| witness.key.name()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(format!("the witness {} is there twice", twice[0])),
            None => Ok(witnesses),
        }
    }

    fn parse(one: &str) -> Result<Self, String> {
        let (url, vkey) = one.split_once(' ').ok_or_else(|| format!("{one:?} is not a URL, a space and a key"))?;
        let key = VerifierKey::parse(vkey.trim()).map_err(|error| format!("{vkey:?}: {error}"))?;
        if key.kind() != KeyKind::Cosigner {
            return Err(format!("{vkey:?} is a log's key, not a witness's"));
        }
        if !url.starts_with("http://") {
            return Err(format!("{url:?} does not begin with http://; put TLS in front where it leaves the machine"));
        }
        Ok(Self { url: url.trim_end_matches('/').to_owned(), key })
    }
}

/// What witnesses have signed lately. In memory of the control leader.
#[derive(Default)]
pub struct Witnessed {
    kept: Mutex<VecDeque<Kept>>,
}

/// One checkpoint with its witnesses' lines by their names.
struct Kept {
    note: Announced,
    lines: BTreeMap<String, String>,
    since: Duration,
}

impl Witnessed {
    fn add(&self, note: &Announced, name: &str, line: String, now: Duration) {
        let mut kept = self.kept.lock();
        kept.retain(|known| known.note.size != note.size || known.note.signed_by == note.signed_by);
        if !kept.iter().any(|known| known.note.size == note.size) {
            kept.push_back(Kept { note: note.clone(), lines: BTreeMap::new(), since: now });
        }
        if let Some(known) = kept.iter_mut().find(|known| known.note.size == note.size) {
            known.lines.insert(name.to_owned(), line);
        }
        while kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }

    /// The checkpoint of at least so many leaves that most witnesses signed, the newest of several, with their lines. Where
    /// the log has `end` leaves by now, none is shown that is older than a minute and covers less; and none that other keys
    /// signed than those in force.
    pub fn best(&self, size: u64, end: u64, now: Duration, signed_by: &[Public]) -> Option<Announced> {
        let kept = self.kept.lock();
        let is_fresh = |known: &&Kept| known.note.size >= end || now.saturating_sub(known.since) < SHOWN_FOR;
        let fits = |known: &&Kept| known.note.size >= size && known.note.signed_by == signed_by;
        let fresh = kept.iter().filter(fits).filter(is_fresh);
        let best = fresh.max_by_key(|known| (known.lines.len(), known.note.size))?;
        let lines: String = best.lines.values().map(String::as_str).collect();
        let mut shown = best.note.clone();
        shown.note += &lines;
        Some(shown)
    }

    /// True where that witness has signed the checkpoint of so many leaves that these keys signed.
    fn has(&self, size: u64, name: &str, signed_by: &[Public]) -> bool {
        let kept = self.kept.lock();
        let fits = |known: &&Kept| known.note.size == size && known.note.signed_by == signed_by;
        kept.iter().filter(fits).any(|known| known.lines.contains_key(name))
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.kept.lock().clear();
    }
}

/// What became of one round with one witness.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It has signed the newest checkpoint, or there is none.
    Current,
    /// Its size is known now: once more at once.
    Taught,
    /// It could not be asked.
    Failed(String),
    /// It saw another history.
    Conflict,
}

/// Shows one witness what is new, on the node that leads the control group. Runs until the node stops; never more than one
/// submission is on its way to it.
pub async fn attend(core: Arc<Core>, witness: Witness) {
    let clock = core.shared.world.clock.clone();
    let (mut old, mut pause) = (0, LOOK);
    loop {
        clock.sleep(pause).await;
        let Some(control) = control_here(&core).filter(|control| control.group.leadership().borrow().here) else {
            core.witnessed.clear();
            pause = LOOK;
            continue;
        };
        let mut outcome = submit(&core, &control, &witness, &mut old).await;
        if outcome == Outcome::Taught {
            outcome = submit(&core, &control, &witness, &mut old).await;
        }
        pause = match outcome {
            Outcome::Current => LOOK,
            Outcome::Taught => pause.saturating_mul(2).min(PAUSE_MAX),
            Outcome::Failed(why) => {
                sometimes!(true, "a witness did not answer");
                tracing::warn!(witness = witness.key.name(), why, "a witness has not signed");
                pause.saturating_mul(2).min(PAUSE_MAX)
            }
            Outcome::Conflict => {
                always!(false, "no-other-history-was-witnessed", "{} refuses the cluster log", witness.key.name());
                metrics::counter!(CONFLICTS_TOTAL).increment(1);
                // Perhaps it was set up anew meanwhile: it is asked from the start.
                old = 0;
                tracing::error!(witness = witness.key.name(), "a witness has seen another history of the cluster log");
                PAUSE_MAX
            }
        };
    }
}

/// One submission, where there is anything that the witness has not signed for this leader.
async fn submit(core: &Arc<Core>, control: &Plain<ControlMachine>, witness: &Witness, old: &mut u64) -> Outcome {
    let (clock, Some(store)) = (&core.shared.world.clock, core.audit(GroupId::CONTROL)) else {
        return Outcome::Current;
    };
    let by = signing::in_force(core);
    if store.trail.end() == 0 || core.witnessed.has(store.trail.end(), witness.key.name(), &by) {
        return Outcome::Current;
    }
    // A leader that was deposed may be behind what its successor has shown.
    if !matches!(timeout(&**clock, CONFIRM_PATIENCE, control.group.confirm()).await, Some(Ok(()))) {
        return Outcome::Failed("no quorum confirms this leader".to_owned());
    }
    let note = match publish::announced(core, &store, 1).await {
        Ok(note) => note,
        Err(problem) => return Outcome::Failed(problem.detail),
    };
    if core.witnessed.has(note.size, witness.key.name(), &note.signed_by) {
        return Outcome::Current;
    }
    if *old > note.size {
        // Confirmed, this leader has all that any leader ever showed.
        let is_ours = *old <= store.trail.end();
        return if is_ours {
            Outcome::Failed("what it signed is not durable here yet".to_owned())
        } else {
            Outcome::Conflict
        };
    }
    let proof = match store.prove_extension(*old, note.size).await {
        Ok(Some(proof)) => proof,
        Ok(None) => return Outcome::Failed("the stored log is shorter than what was announced".to_owned()),
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let submission = Submission { old: *old, proof, checkpoint: shown(core, &store, &note) };
    let url = format!("{}/{ADD_CHECKPOINT}", witness.url);
    let body = Bytes::from(submission.encode());
    let posted = match core.shared.world.outside.post(&url, body, PATIENCE).await {
        Ok(posted) => posted,
        Err(why) => return Outcome::Failed(why),
    };
    match (posted.status, witness::size_of(&posted.body)) {
        (200, _) => match witness::lines_of(&posted.body, &note.note, &witness.key) {
            Some(line) => {
                *old = note.size;
                core.witnessed.add(&note, witness.key.name(), line, clock.now());
                metrics::counter!(COSIGNED_TOTAL).increment(1);
                sometimes!(true, "a witness signed the cluster log's checkpoint");
                Outcome::Current
            }
            None => Outcome::Failed("its answer is not a line of its own for this checkpoint".to_owned()),
        },
        (409, Some(size)) if size != *old => {
            sometimes!(true, "a witness told the size that it had signed");
            *old = size;
            Outcome::Taught
        }
        // Another root of the size that it signed, or a true proof that does not hold from there.
        (409 | 422, _) => Outcome::Conflict,
        (403, _) => Outcome::Failed(
            "it knows no key that signs the cluster log: start it with the new one as another --log".to_owned(),
        ),
        (status, _) => Outcome::Failed(format!("it answers with status {status}")),
    }
}

/// The checkpoint that a witness is shown. The planted bug shows it a tree that nobody else is shown.
fn shown(core: &Core, store: &AuditStore, note: &Announced) -> String {
    if !probe::planted("witness-shown-another-tree") {
        return note.note.clone();
    }
    let other = leaf_hash(&note.size.to_be_bytes());
    sealer::sign(core, store, note.size, other).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nethical_audit::note::Signer;
    use nethical_audit::note::cosign::Cosigner;

    fn key(name: &str) -> String {
        Cosigner::from_seed(name, &[3; 32]).expect("a good name").verifier_key().to_string()
    }

    #[test]
    fn witnesses_are_read_from_one_line_and_nonsense_is_refused() {
        let (one, two) = (key("w.example/1"), key("w.example/2"));
        let list = Witness::parse_list(&format!("http://127.0.0.1:1/w/ {one}, http://127.0.0.1:2 {two}")).expect("two");
        assert_eq!(
            list.iter().map(|witness| witness.url.as_str()).collect::<Vec<_>>(),
            ["http://127.0.0.1:1/w", "http://127.0.0.1:2"]
        );
        assert_eq!(Witness::parse_list(" "), Ok(Vec::new()));
        let log = Signer::from_seed("demo/cluster/1", &[3; 32]).expect("a good name").verifier_key();
        for bad in [
            format!("http://a {one}, http://b {one}"),
            format!("https://a {one}"),
            format!("http://a {log}"),
            "http://a".to_owned(),
            "http://a key".to_owned(),
        ] {
            assert!(Witness::parse_list(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_checkpoint_with_most_witnesses_is_shown_for_a_minute_and_the_newest_for_ever() {
        let witnessed = Witnessed::default();
        let at = |seconds| Duration::from_secs(seconds);
        let note = |size: u64| Announced::of_note(size, format!("note {size}\n"));
        witnessed.add(&note(5), "a", "line a\n".into(), at(0));
        witnessed.add(&note(5), "b", "line b\n".into(), at(1));
        witnessed.add(&note(7), "a", "line a\n".into(), at(10));
        let best = |size, end, seconds| witnessed.best(size, end, at(seconds), &[]).map(|best| (best.size, best.note));
        assert_eq!(best(0, 7, 20), Some((5, "note 5\nline a\nline b\n".to_owned())));
        assert_eq!(best(6, 7, 20), Some((7, "note 7\nline a\n".to_owned())), "one that covers more was asked for");
        assert_eq!(best(0, 7, 65).map(|best| best.0), Some(7), "the older one is too old");
        assert_eq!(best(0, 7, 900).map(|best| best.0), Some(7), "nothing newer is there");
        assert_eq!(best(0, 8, 900), None);
        assert_eq!((witnessed.has(7, "a", &[]), witnessed.has(7, "b", &[])), (true, false));
    }
}
