//! Probes: the places where production code lets a simulator look, meddle and plant bugs. The lowest of the seams.
//!
//! Without the feature `probes`, which only the simulator's own build turns on, every function here is a constant and
//! the optimiser removes the call. With it, calls go to what the running thread has [`installed`](install). A probe
//! never decides anything in production, and no production binary may be built with the feature: a test looks.

use std::fmt;

/// The planted bugs: mistakes that programmers make, each switched on by its name at run time. A simulator that does
/// not find one of them is not good enough.
pub const PLANTED: &[(&str, &str)] = &[
    ("no-dedupe", "A request that was executed before is not recognised and is executed again."),
    ("over-grant-by-one", "Every limit has room for one unit more than its cap or burst."),
    ("holds-not-in-snapshot", "A snapshot leaves out hold-orders on tenants and the zone."),
    ("hold-lapses-early", "A hold-order on a tenant or the zone ends a second and a half too early."),
    ("contact-of-the-node-counts", "A new leader decides on contact that its node made before it led."),
    ("lease-granted-twice", "A parent forgets what it granted to other partitions."),
    ("lease-returned-and-kept", "A partition spends what it has given back to the parent."),
    ("acknowledge-before-sync", "The log's writer tells everybody that a batch is durable and only then syncs it."),
    ("vote-not-synced", "A vote counts as saved as soon as it is queued."),
    ("older-term-accepted", "Apply executes an entry whose proposer's term is not the term of the log entry."),
    ("double-apply", "The first entry behind a restored snapshot is applied to the ledger twice."),
    ("leader-restore", "A restarted leader resumes its old term instead of campaigning for a new one."),
    ("quarantine-lost-at-failover", "A new leader's first entry releases all agents and ends all hold-orders."),
    ("audit-leaf-skipped", "Some decisions are acknowledged and their leaf index is given to the next one."),
    ("snapshot-without-checksum", "A snapshot's digest and checksum are not compared, at load nor at install."),
    ("forward-loop", "A node that was sent a forwarded decision and does not lead forwards it again."),
    ("torn-tail-accepted", "Recovery takes a batch whose checksums are wrong when its record headers look plausible."),
    ("apply-reads-other-group", "Apply takes its time from whichever group of the node has come furthest."),
    ("stale-evaluation-accepted", "An evaluation under an older policy or of an older agent is executed."),
    ("log-time-from-wall", "Entries are stamped with the leader's wall clock as it is."),
    ("dedup-eviction-re-executes", "A request id that may have been forgotten is executed instead of refused."),
    ("vote-lost-on-recycling", "A log segment does not begin with the groups' votes, so that recycling loses them."),
    ("replay-charges-twice", "A repeated request is answered from its record and charged once more."),
    ("requests-not-in-snapshot", "A ledger's snapshot leaves out which requests were executed."),
    ("approval-used-twice", "An approval that was used lifts the escalation of another action again."),
    ("repair-believes-peers", "A damaged audit segment is mended with whatever another replica sends."),
    ("approval-digest-ignored", "An approval counts for any action of its agent, not for the one it was given for."),
    ("ring-key-kept", "No replica destroys ring keys that are past, and each says that it has none."),
    ("erased-before-all-answered", "An erasure is told as complete though a replica may still hold the ring key."),
    ("witness-shown-another-tree", "A control leader shows witnesses a tree that nobody else is shown."),
    ("longer-retention-revives", "What had expired can be read again once its tenant's bodies are kept longer."),
    ("signing-seed-kept", "No node destroys signing seeds that are retired, and each says that it has none."),
    (
        "source-goes-before-its-copy-is-durable",
        "A segment that was moved is removed before its copy is synced and checked.",
    ),
    (
        "left-dictionary-is-forgotten",
        "Nodes forget a dictionary as soon as its tenant leaves it, although bodies name it.",
    ),
    ("cold-file-kept", "Files of the cold tier are not made anew when bodies in them are erased or expire."),
    ("erased-words-kept", "Text indexes keep the words of whoever is erased, and each node says that it has none."),
    ("tier-ages-ignored", "Bodies go to the object store by the nodes' settings, whatever their tenants have said."),
];

/// What production code reports as it claims it to be, bugs or none: the name, its facts in order. The node is the
/// one whose task reports. An index or term of something that is not there is 0.
pub const OBSERVED: &[(&str, &str)] = &[
    ("vote.saved", "group, term, replica voted for; the vote is durable"),
    ("vote.loaded", "group, own replica, term, replica voted for; the group starts"),
    ("log.flushed", "group, last index, last term; the log up to there is durable"),
    ("log.loaded", "group, last index, last term, purged index, own replica; the group starts"),
    ("log.truncated", "group, last index kept; what came after is about to be gone"),
    (
        "entry.applied",
        "group, log term, index, proposer's term, proposer's stamp, leaves before, leaves made, crc32c of the entry",
    ),
    ("entry.appended", "group, term, index, crc32c of kind and payload; the entry goes to the log"),
    ("entry.read", "as entry.appended; the entry came back from the disk"),
    ("leader.begun", "group, term; this replica leads"),
    ("control.revision", "group, control revision that has taken effect"),
    ("forward.sent", "group, node that is asked, crc32c of the request id; one for each action"),
    ("forward.taken", "group, node that asks, crc32c of the request id; one for each action"),
];

/// The constants that a run may replace, so that a short one reaches snapshots, recycling, passivation and eviction.
pub const KNOBS: &[(&str, &str)] = &[
    ("dedup.entries", "requests that a group remembers; taken when a log begins, then kept in its snapshots"),
    ("dedup.window-ms", "how long it remembers them, in log time; as dedup.entries"),
    ("wal.segment-bytes", "at least twice the largest entry with its record header, policy bundles included"),
    ("wal.mark-every", "batches between two writes of the log's high-water mark"),
    ("snapshot.log-bytes", "log bytes of a group after which it is snapshotted"),
    ("snapshot.pinned-segments", "log segments that a group may pin before it is snapshotted"),
    ("snapshot.every-ms", "least time between two snapshots of a group"),
    ("snapshot.keep-entries", "entries kept in the log behind a snapshot"),
    ("control.revocation-ms", "contact to the control group that a leader lives on, milliseconds"),
    ("actor.idle-ms", "idle time after which an agent's actor is passivated"),
    ("cluster-log.every-ms", "time between two rounds in which the control leader gathers checkpoints"),
    ("seal.leaves", "leaves of an audit segment, a multiple of 256 up to 65,536"),
    ("seal.sync-ms", "time between two syncs of audit segments"),
    ("seal.lag-bytes", "bytes that the sealer may lag before the door sheds"),
    ("scrub.every-ms", "time between the begins of two passes of the scrubber over all closed audit segments"),
    ("warm.every-ms", "time between two looks for audit segments that are to be moved to the warm tier"),
    ("warm.after-ms", "log time after which an audit segment is old and is moved"),
    ("cold.every-ms", "time between two looks for segments whose bodies are to go to the object store"),
    ("cold.after-ms", "log time after which the bodies of a warm segment go to the object store"),
    ("cold.parts", "parts of cold files that a node keeps in memory"),
    ("cold.bytes-per-s", "how fast segments are read whose bodies go to the object store"),
    ("text.every-ms", "time between two looks for segments whose words are to be indexed"),
    ("propose.fill-commands", "commands that make an entry worth sending while another is in flight"),
    ("approval.ttl-s", "the longest that an approval lives, seconds of log time; a rule may say less"),
    ("propose.entry-bytes", "bytes of an entry; one command may still be larger"),
    ("retention.age-s-min", "the shortest time that bodies may be kept, seconds"),
    ("retention.grace-s", "how long what has expired is not dropped yet, seconds of log time"),
    ("retention.look-s", "log time after which warm segments are looked through for what has expired since, seconds"),
];

/// What `sometimes!` counts in production code: a campaign that has not seen all of it has not tested all of it.
pub const SOMETIMES: &[&str] = &[
    "a body had expired",
    "a body was packed with its tenant's own dictionary",
    "a body was read from a promoted part",
    "a body was read from the cold tier",
    "a budget ran out",
    "a canary decided",
    "a checkpoint was signed by two generations of the zone's key",
    "a checkpoint was vouched for by every replica",
    "a cold file was made anew from bodies that were still here",
    "a cold file was made anew",
    "a conflicting end of a log was cut",
    "a damaged audit segment was repaired",
    "a decision was answered with its proof",
    "a decision's outcome was unknown",
    "a denial was answered from memory",
    "a dropped body left its segment",
    "a forwarded decision came to a node that does not lead",
    "a full segment got its footer after a crash",
    "a grant came after its share was forgotten",
    "a hold lapsed",
    "a hold on a tenant or the zone was enforced",
    "a hold on an agent was enforced",
    "a leader that no quorum answered gave its group up",
    "a leader whose clock was off gave its group up",
    "a leader's snapshot was installed",
    "a lease was given back",
    "a lease was granted",
    "a lease was not to be had",
    "a lease was refused without another recall",
    "a leased budget ran out",
    "a leased rate or rolling window had no room",
    "a legal hold forbade an erasure",
    "a log segment was used again",
    "a lost replica was replaced under a new id",
    "a model's score was blended in",
    "a node fetched a signing seed that it lacked",
    "a node had not reached the control group for too long",
    "a node with damaged leaves did not vouch for them",
    "a node's clock was too far off to lead",
    "a parent had less left than who waited needed",
    "a parent had no lease left",
    "a part of a cold file was promoted",
    "a promoted part did not open and was fetched again",
    "a promoted part made room",
    "a rate limit refused something",
    "a recall waited for an action that kept a share",
    "a repair found that other bodies were sealed",
    "a repair refused another replica's leaves",
    "a repeated request was recognised in apply",
    "a replica dropped bodies that a cold file has",
    "a replica fetched a ring key that it lacked",
    "a replica had lost what it acknowledged",
    "a replica whose core had stopped was started again",
    "a request from the future was refused",
    "a request id came with another content",
    "a request that may have been forgotten was refused",
    "a request was forgotten to make room",
    "a reservation expired",
    "a retired signing key waited for a node",
    "a ring key was destroyed",
    "a search asked a text index",
    "a segment stayed because a tenant wants it to",
    "a segment's bodies went to the object store",
    "a settlement was refused",
    "a settlement was told again",
    "a share of a flow was granted",
    "a share of a flow was void unspent",
    "a share of a limit was too small",
    "a share's new life took over what was owed",
    "a shared limit that refuses nobody was found full",
    "a signing key was retired",
    "a signing seed was destroyed",
    "a snapshot came too late to be the newest",
    "a snapshot was written",
    "a stale evaluation was made again",
    "a stamp was clamped to rise",
    "a start cut the log's torn tail",
    "a start finished a move to the warm tier",
    "a start found a damaged audit segment",
    "a start found rot in the log",
    "a start missed the log's end",
    "a subject's key changed while a body was sealed",
    "a subject's key was erased",
    "a text index was written",
    "a verdict was withheld because contact to the control group was lost",
    "a warm audit segment was made anew",
    "a witness did not answer",
    "a witness signed the cluster log's checkpoint",
    "a witness told the size that it had signed",
    "an action was counted ahead of a grant",
    "an agent asked for too many approvals",
    "an agent was quarantined by a rule",
    "an agent was terminated",
    "an approval expired",
    "an approval was used",
    "an audit segment was closed",
    "an audit segment was moved to the warm tier",
    "an audit segment's torn tail was cut",
    "an entry held several commands",
    "an entry of another term was refused",
    "an erasure waited for a replica",
    "an erasure was complete",
    "an idle actor was passivated",
    "an object that no log names was removed",
    "bodies of a segment were indexed",
    "bodies were indexed from the cold tier",
    "checkpoints were added to the cluster log",
    "control facts came twice or too early",
    "entries were found by their words",
    "erased words left a text index",
    "expired or unwanted words left a text index",
    "leadership was handed over",
    "log time was ahead of a new leader's clock",
    "several parents refused in one round",
    "shares of several limits came in one round",
    "shares of several limits were too small",
    "the agent changed while its action was evaluated",
    "the policy changed while an action was evaluated",
    "the scrubber found a damaged audit segment",
    "the sealer fetched leaves that were never applied here",
    "the sealer lagged so far that the door shed",
    "too few clocks were known to lead",
];

/// True in the simulator's build alone.
pub const ENABLED: bool = cfg!(feature = "probes");

/// What happens at a point of the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Go on.
    Go,
    /// Go on this many milliseconds later.
    Wait(u64),
    /// The machine loses power here: never go on.
    Stop,
}

/// What a simulator answers. One thread has at most one.
pub trait Probes {
    /// True where this planted bug is active.
    fn planted(&self, bug: &'static str) -> bool;
    /// A constant of the code, or what this run takes in its place. The same on all nodes of a run.
    fn knob(&self, name: &'static str, default: u64) -> u64;
    /// True where the unusual but permitted way is to be taken here.
    fn buggify(&self, name: &'static str) -> bool;
    /// This has happened: one of the things that a campaign must have seen.
    fn sometimes(&self, name: &'static str);
    /// What must always hold does not.
    fn violated(&self, name: &'static str, detail: fmt::Arguments<'_>);
    /// A fact for the invariants, as numbers in the order that the name documents.
    fn observe(&self, name: &'static str, facts: &[u64]);
    /// What happens at this point.
    fn point(&self, name: &'static str) -> Point;
}

#[cfg(feature = "probes")]
mod active {
    use std::cell::RefCell;
    use std::fmt;
    use std::rc::Rc;

    use super::{Point, Probes};

    thread_local! {
        static PROBES: RefCell<Option<Rc<dyn Probes>>> = const { RefCell::new(None) };
    }

    /// From now on this thread's probes are answered by `probes`, or by nobody.
    pub fn install(probes: Option<Rc<dyn Probes>>) {
        PROBES.with(|held| *held.borrow_mut() = probes);
    }

    fn ask<T>(default: T, question: impl FnOnce(&dyn Probes) -> T) -> T {
        let probes = PROBES.with(|held| held.borrow().clone());
        probes.map_or(default, |probes| question(&*probes))
    }

    /// [`Probes::planted`]; false where nobody answers.
    pub fn planted(bug: &'static str) -> bool {
        ask(false, |probes| probes.planted(bug))
    }

    /// [`Probes::knob`]; the default where nobody answers.
    pub fn knob(name: &'static str, default: u64) -> u64 {
        ask(default, |probes| probes.knob(name, default))
    }

    /// [`Probes::buggify`]; false where nobody answers.
    pub fn buggify(name: &'static str) -> bool {
        ask(false, |probes| probes.buggify(name))
    }

    /// [`Probes::sometimes`].
    pub fn sometimes(name: &'static str) {
        ask((), |probes| probes.sometimes(name));
    }

    /// [`Probes::violated`].
    pub fn violated(name: &'static str, detail: fmt::Arguments<'_>) {
        ask((), |probes| probes.violated(name, detail));
    }

    /// [`Probes::observe`].
    pub fn observe(name: &'static str, facts: &[u64]) {
        ask((), |probes| probes.observe(name, facts));
    }

    /// [`Probes::point`]; go on where nobody answers.
    pub fn point(name: &'static str) -> Point {
        ask(Point::Go, |probes| probes.point(name))
    }
}

#[cfg(feature = "probes")]
pub use active::{buggify, install, knob, observe, planted, point, sometimes, violated};

#[cfg(not(feature = "probes"))]
mod absent {
    use std::fmt;

    use super::Point;

    /// No planted bugs in this build.
    #[inline(always)]
    pub const fn planted(_: &'static str) -> bool {
        false
    }

    /// The default.
    #[inline(always)]
    pub const fn knob(_: &'static str, default: u64) -> u64 {
        default
    }

    /// The usual way.
    #[inline(always)]
    pub const fn buggify(_: &'static str) -> bool {
        false
    }

    /// Nobody counts.
    #[inline(always)]
    pub const fn sometimes(_: &'static str) {}

    /// Nobody is told.
    #[inline(always)]
    pub const fn violated(_: &'static str, _: fmt::Arguments<'_>) {}

    /// Nobody looks.
    #[inline(always)]
    pub const fn observe(_: &'static str, _: &[u64]) {}

    /// Go on.
    #[inline(always)]
    pub const fn point(_: &'static str) -> Point {
        Point::Go
    }
}

#[cfg(not(feature = "probes"))]
pub use absent::{buggify, knob, observe, planted, point, sometimes, violated};

/// True where a simulator wants the unusual but permitted way to be taken here; false in production.
#[macro_export]
macro_rules! buggify {
    ($name:literal) => {
        $crate::probe::buggify($name)
    };
}

/// Counts that something worth seeing has happened, where a condition holds; nothing in production.
#[macro_export]
macro_rules! sometimes {
    ($condition:expr, $name:literal) => {
        if $crate::probe::ENABLED && $condition {
            $crate::probe::sometimes($name);
        }
    };
}

/// Tells the simulator that what must always hold does not; nothing in production.
#[macro_export]
macro_rules! always {
    ($condition:expr, $name:literal, $($detail:tt)+) => {
        if $crate::probe::ENABLED && !$condition {
            $crate::probe::violated($name, format_args!($($detail)+));
        }
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn planted_bugs_have_names_of_their_own_in_kebab_case_and_a_sentence() {
        let mut names = BTreeSet::new();
        for (name, sentence) in PLANTED {
            assert!(names.insert(name), "{name} is there twice");
            let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
            assert!(name.split('-').all(is_word), "{name}");
            assert!(sentence.ends_with('.'), "{name}: {sentence}");
        }
    }

    #[test]
    fn facts_and_knobs_have_names_of_their_own() {
        let names: BTreeSet<_> = OBSERVED.iter().chain(KNOBS).map(|(name, _)| name).collect();
        assert_eq!(names.len(), OBSERVED.len() + KNOBS.len());
    }
}
