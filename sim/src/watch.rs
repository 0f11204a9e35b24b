//! Invariants that are checked at every step, from what production code says of itself through its probes.
//!
//! The sources: Ongaro's dissertation, figure 3.2 (election safety, log matching, state machine safety), and
//! ARCHITECTURE.md, decisions 5, 6 and 9. Nothing here knows of planted bugs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use nethical_protocol::ids::NodeId;

use crate::clock::{EPOCH_NS, SimClock};

/// Violations that are kept; the rest follows from them.
const VIOLATIONS_MAX: usize = 200;
/// Log time may be this far ahead of true time: a leader's wall may be off the median by 250 ms, the median off the truth
/// by as much, and stamps are slewed.
const LOG_TIME_AHEAD_NS_MAX: u64 = 600_000_000;

/// What must not happen and did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// The check that found it.
    pub check: &'static str,
    /// Milliseconds of true time.
    pub at_ms: u64,
    /// What was found.
    pub what: String,
}

/// All that was observed so far. A clone is the same.
#[derive(Clone)]
pub struct Watch {
    clock: SimClock,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    violations: Vec<Violation>,
    replicas: BTreeMap<(NodeId, u64), Replica>,
    /// Checksum and outcome of each applied entry by group and index.
    entries: BTreeMap<(u64, u64), Entry>,
    applied: u64,
    /// Checksum of each log entry by group, term and index, and who had it first.
    log: BTreeMap<(u64, u64, u64), (u64, NodeId)>,
    leaders: BTreeMap<(u64, u64), NodeId>,
    /// Requests (by checksum of their id) that clients have sent to each node.
    called: BTreeSet<(NodeId, u64)>,
}

/// What a replica has claimed to be durable, and how far it has applied since it started.
#[derive(Default, Clone, Copy)]
struct Replica {
    life: u64,
    vote: (u64, u64),
    flushed: u64,
    applied: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    term: u64,
    now_ns: u64,
    first_leaf: u64,
    leaves: u64,
    checksum: u64,
    seen_on: NodeId,
}

impl Watch {
    /// Nothing observed yet.
    pub fn new(clock: SimClock) -> Self {
        Self { clock, inner: Arc::default() }
    }

    /// Something must not have happened.
    pub fn violated(&self, check: &'static str, what: String) {
        let at_ms = self.clock.real().as_millis() as u64;
        let mut inner = self.inner.lock();
        if inner.violations.len() < VIOLATIONS_MAX {
            inner.violations.push(Violation { check, at_ms, what });
        }
    }

    /// What was found so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.inner.lock().violations.clone()
    }

    /// Entries that replicas have applied, all together.
    pub fn applied(&self) -> u64 {
        self.inner.lock().applied
    }

    /// A client sends a request to a node's door.
    pub fn called(&self, node: NodeId, request_id: &str) {
        self.inner.lock().called.insert((node, u64::from(crc32c::crc32c(request_id.as_bytes()))));
    }

    /// A disk was replaced, or its content mangled beyond what its node must survive in silence: what it claimed is void.
    pub fn forget(&self, node: NodeId) {
        self.inner.lock().replicas.retain(|(of, _), _| *of != node);
    }

    /// A fact from production code on a node.
    pub fn observe(&self, node: NodeId, name: &str, facts: &[u64]) {
        let found = {
            let mut inner = self.inner.lock();
            match (name, facts) {
                ("vote.saved", [group, term, voted, ..]) => {
                    inner.replica(node, *group).vote = (*term, *voted);
                    None
                }
                ("vote.loaded", [group, life, term, voted, ..]) => {
                    inner.vote_loaded(node, *group, *life, (*term, *voted))
                }
                ("log.flushed", [group, last, ..]) => {
                    let replica = inner.replica(node, *group);
                    replica.flushed = replica.flushed.max(*last);
                    None
                }
                ("log.truncated", [group, keep, ..]) => {
                    let replica = inner.replica(node, *group);
                    replica.flushed = replica.flushed.min(*keep);
                    None
                }
                ("entry.appended" | "entry.read", [group, term, index, checksum]) => {
                    inner.log_entry(node, (*group, *term, *index), *checksum)
                }
                ("forward.sent", [group, to, request]) => inner.forwarded(node, *group, *to, *request),
                ("leader.begun", [group, term]) => inner.leader_begun(node, *group, *term),
                ("log.loaded", [group, last, _, purged, ..]) => inner.log_loaded(node, *group, (*last).max(*purged)),
                ("entry.applied", [group, term, index, proposer, now_ns, first_leaf, leaves, checksum]) => {
                    let entry = Entry {
                        term: *term,
                        now_ns: *now_ns,
                        first_leaf: *first_leaf,
                        leaves: *leaves,
                        checksum: *checksum,
                        seen_on: node,
                    };
                    inner.applied(*group, *index, *proposer, entry, self.clock.real())
                }
                _ => None,
            }
        };
        if let Some((check, what)) = found {
            self.violated(check, what);
        }
    }
}

type Found = Option<(&'static str, String)>;

impl Inner {
    fn replica(&mut self, node: NodeId, group: u64) -> &mut Replica {
        self.replicas.entry((node, group)).or_default()
    }

    /// A vote that was durable is there at the next start (dissertation, section 3.8). A new life has voted in no term.
    fn vote_loaded(&mut self, node: NodeId, group: u64, life: u64, loaded: (u64, u64)) -> Found {
        let replica = self.replica(node, group);
        if replica.life != life {
            *replica = Replica { life, vote: loaded, ..Replica::default() };
            return None;
        }
        replica.applied = 0;
        let saved = replica.vote;
        // Within a term the vote for oneself gives way to the leader that was elected.
        let is_kept = loaded.0 >= saved.0;
        (!is_kept).then(|| {
            let what =
                format!("node {node} group {group}: vote {saved:?} (term, replica) was saved, {loaded:?} was found");
            ("vote-durable", what)
        })
    }

    /// Log matching: an index and a term name one entry, in every log and whenever it is read (figure 3.2).
    fn log_entry(&mut self, node: NodeId, place: (u64, u64, u64), checksum: u64) -> Found {
        let (first, seen_on) = *self.log.entry(place).or_insert((checksum, node));
        let (group, term, index) = place;
        (first != checksum).then(|| {
            let here = format!("group {group} entry {index} of term {term}: checksum {checksum:08x} on node {node}");
            ("log-matching", format!("{here}, {first:08x} on node {seen_on}"))
        })
    }

    /// One hop at most (ARCHITECTURE.md 15): only a node at whose door a client asked sends a request on.
    fn forwarded(&mut self, node: NodeId, group: u64, to: u64, request: u64) -> Found {
        let is_door = self.called.contains(&(node, request));
        (!is_door).then(|| {
            let what =
                format!("node {node} sent a request of group {group} on to node {to}, and no client had asked there");
            ("one-hop", what)
        })
    }

    /// Election safety: a term has one leader (figure 3.2).
    fn leader_begun(&mut self, node: NodeId, group: u64, term: u64) -> Found {
        let first = *self.leaders.entry((group, term)).or_insert(node);
        (first != node)
            .then(|| ("one-leader", format!("term {term} of group {group} has two leaders: {first} and {node}")))
    }

    /// Entries that were reported durable are there at the next start.
    fn log_loaded(&mut self, node: NodeId, group: u64, last: u64) -> Found {
        let replica = self.replica(node, group);
        let flushed = std::mem::replace(&mut replica.flushed, last);
        (last < flushed).then(|| {
            (
                "log-durable",
                format!("node {node} group {group}: entries up to {flushed} were durable, {last} were found"),
            )
        })
    }

    /// State machine safety, fencing and log time.
    fn applied(&mut self, group: u64, index: u64, proposer: u64, entry: Entry, real: Duration) -> Found {
        self.applied += 1;
        let Entry { term, now_ns, leaves, seen_on: node, .. } = entry;
        let place = format!("group {group} entry {index} on node {node}");
        let replica = self.replica(node, group);
        let before = std::mem::replace(&mut replica.applied, index);
        if before >= index {
            return Some(("applied-once", format!("{place}: entry {before} was applied before it, in the same life")));
        }
        if proposer != term && leaves > 0 {
            return Some((
                "fencing",
                format!("{place} of term {term}: a proposer of term {proposer} made {leaves} leaves"),
            ));
        }
        let true_ns = EPOCH_NS + real.as_nanos() as u64;
        if now_ns > true_ns + LOG_TIME_AHEAD_NS_MAX {
            return Some(("log-time", format!("{place}: log time is {} ms ahead", (now_ns - true_ns) / 1_000_000)));
        }
        // What an entry of another term's proposer says counts for nothing.
        if proposer != term {
            return None;
        }
        let earlier = self.entries.range((group, 0)..(group, index)).next_back().map(|(_, earlier)| *earlier);
        let later = self.entries.range((group, index + 1)..=(group, u64::MAX)).next().map(|(_, later)| *later);
        if earlier.is_some_and(|earlier| earlier.now_ns > now_ns) || later.is_some_and(|later| later.now_ns < now_ns) {
            return Some(("log-time", format!("{place}: log time goes back at {now_ns} ns")));
        }
        match self.entries.get(&(group, index)) {
            None => {
                self.entries.insert((group, index), entry);
                None
            }
            Some(first) if Entry { seen_on: node, ..*first } == entry => None,
            Some(first) => Some((
                "state-machine",
                format!(
                    "{place} has term {term}, time {now_ns}, leaves {}+{leaves}, checksum {:08x}; on node {} term {}, time {}, \
                     leaves {}+{}, checksum {:08x}",
                    entry.first_leaf,
                    entry.checksum,
                    first.seen_on,
                    first.term,
                    first.now_ns,
                    first.first_leaf,
                    first.leaves,
                    first.checksum
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    fn found(steps: &[(NodeId, &str, &[u64])]) -> Vec<&'static str> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let guard = runtime.expect("a runtime");
        let _guard = guard.enter();
        let watch = Watch::new(SimClock::begin());
        steps.iter().for_each(|(node, name, facts)| watch.observe(*node, name, facts));
        watch.violations().iter().map(|violation| violation.check).collect()
    }

    #[test]
    fn a_vote_or_an_entry_that_was_durable_and_is_gone_is_found() {
        let start: [(NodeId, &str, &[u64]); 2] = [(ONE, "vote.loaded", &[2, 9, 0, 0]), (ONE, "vote.saved", &[2, 5, 9])];
        let then = |facts| [&start[..], &[(ONE, "vote.loaded", facts)]].concat();
        assert_eq!(found(&then(&[2, 9, 5, 9])), Vec::<&str>::new());
        assert_eq!(found(&then(&[2, 9, 4, 8])), ["vote-durable"]);
        assert_eq!(found(&then(&[2, 9, 5, 7])), Vec::<&str>::new(), "the leader of the term was another one");
        assert_eq!(found(&then(&[2, 10, 0, 0])), Vec::<&str>::new(), "a new life has voted in no term");
        let log: [(NodeId, &str, &[u64]); 2] = [(ONE, "log.flushed", &[2, 30, 1]), (ONE, "log.loaded", &[2, 29, 1, 0])];
        assert_eq!(found(&log), ["log-durable"]);
        let truncated = [log[0], (ONE, "log.truncated", &[2, 20]), log[1]];
        assert_eq!(found(&truncated), Vec::<&str>::new());
    }

    #[test]
    fn entries_that_differ_run_backwards_or_come_from_another_term_are_found() {
        let at = |index, ms: u64| [2, 5, index, 5, EPOCH_NS + ms * 1_000_000, 7, 1, 0xabc];
        let (first, second) = (at(10, 1), at(11, 2));
        assert_eq!(found(&[(ONE, "entry.applied", &first), (ONE, "entry.applied", &second)]), Vec::<&str>::new());
        assert_eq!(found(&[(ONE, "entry.applied", &first), (TWO, "entry.applied", &first)]), Vec::<&str>::new());
        assert_eq!(found(&[(ONE, "entry.applied", &first), (ONE, "entry.applied", &first)]), ["applied-once"]);
        assert_eq!(found(&[(ONE, "entry.applied", &second), (TWO, "entry.applied", &at(10, 3))]), ["log-time"]);
        assert_eq!(found(&[(ONE, "entry.applied", &at(1, 5_000))]), ["log-time"]);
        let (mut other, mut stale) = (first, first);
        (other[7], stale[3]) = (0xdef, 4);
        assert_eq!(found(&[(ONE, "entry.applied", &first), (TWO, "entry.applied", &other)]), ["state-machine"]);
        assert_eq!(found(&[(ONE, "entry.applied", &stale)]), ["fencing"]);
    }

    #[test]
    fn two_leaders_of_a_term_and_two_contents_of_an_entry_are_found() {
        let (entry, torn) = ([2, 5, 9, 0xabc], [2, 5, 9, 0xabd]);
        assert_eq!(found(&[(ONE, "entry.appended", &entry), (TWO, "entry.read", &entry)]), Vec::<&str>::new());
        assert_eq!(found(&[(ONE, "entry.appended", &entry), (ONE, "entry.read", &torn)]), ["log-matching"]);
        let leads = |node, term: u64| (node, term);
        for ((one, first), (two, second), wanted) in
            [(leads(ONE, 5), leads(TWO, 6), 0), (leads(ONE, 5), leads(TWO, 5), 1)]
        {
            let (first, second) = ([2, first], [2, second]);
            assert_eq!(found(&[(one, "leader.begun", &first), (two, "leader.begun", &second)]).len(), wanted);
        }
    }
}
