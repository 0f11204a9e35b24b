//! What one replica remembers of its cold tier: what failed and how long it rests, and what need not be looked at again.
//!
//! Nothing in here is needed to be right; a node that starts has forgotten it all.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use nethical_protocol::ids::LogId;

use super::FAILED_TOTAL;

/// Looks that a segment is left alone for, at most, however often it failed.
const REST_LOOKS_MAX: u32 = 8;

/// What one replica knows of its cold tier.
#[derive(Default)]
pub struct ColdState {
    /// Held while files are made, dropped or looked for.
    pub(super) alone: tokio::sync::Mutex<()>,
    /// Segments with which the last try failed.
    failed: Mutex<BTreeMap<u64, Failed>>,
    /// What is wrong with files, as they were read last.
    flaws: Mutex<BTreeMap<u64, Wrong>>,
    /// The state of the rule by which a file was last looked through.
    swept: Mutex<BTreeMap<u64, u64>>,
    /// Segments none of whose bodies can go to the store, or from here, by that state of the rule.
    idle: Mutex<BTreeMap<u64, u64>>,
}

/// What was tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Try {
    /// First leaf of the segment.
    pub first: u64,
    /// What only the group's leader does.
    pub is_led: bool,
}

/// What is wrong with a file.
#[derive(Debug, Clone)]
pub(super) struct Wrong {
    /// What was found.
    pub why: String,
    /// Why it is not mended, and what to do.
    pub tried: String,
}

struct Failed {
    why: String,
    /// Of what only the group's leader does.
    is_led: bool,
    /// Looks that it rests for.
    looks: u32,
    /// Monotonic time before which it is left alone.
    until: Duration,
}

impl ColdState {
    /// Segments with which the last try failed, and why.
    pub fn failed(&self) -> Vec<(u64, String)> {
        self.failed.lock().iter().map(|(first, failed)| (*first, failed.why.clone())).collect()
    }

    /// How a try ended. After a failure a segment rests for one look, then two, then four, and never more than eight.
    pub(super) fn note(&self, log: LogId, try_of: Try, came: &Result<(), String>, now: Duration, every: Duration) {
        let Try { first, is_led } = try_of;
        let mut failed = self.failed.lock();
        let Err(why) = came else {
            failed.remove(&first);
            return;
        };
        metrics::counter!(FAILED_TOTAL).increment(1);
        let before = failed.remove(&first);
        if before.as_ref().is_none_or(|before| before.why != *why) {
            tracing::error!(group = %log.group, first, why, "a segment's bodies could not go to the object store; it is tried again");
        }
        let looks = before.map_or(1, |before| before.looks.saturating_mul(2).min(REST_LOOKS_MAX));
        failed.insert(first, Failed { why: why.clone(), is_led, looks, until: now + every * looks });
    }

    /// This replica does not lead any more: the next leader finds for itself what does not work.
    pub(super) fn forget_led(&self) {
        self.failed.lock().retain(|_, failed| !failed.is_led);
        self.flaws.lock().clear();
    }

    /// What is wrong with files, by their first leaves.
    pub(super) fn flaws(&self) -> Vec<(u64, Wrong)> {
        self.flaws.lock().iter().map(|(first, wrong)| (*first, wrong.clone())).collect()
    }

    /// How a file is that was read.
    pub(super) fn note_flaw(&self, first: u64, found: Result<(), Wrong>) {
        let mut flaws = self.flaws.lock();
        match found {
            Ok(()) => flaws.remove(&first),
            Err(wrong) => flaws.insert(first, wrong),
        };
    }

    /// True while a segment with which a try failed is left alone.
    pub(super) fn rests(&self, first: u64, now: Duration) -> bool {
        self.failed.lock().get(&first).is_some_and(|failed| now < failed.until)
    }

    /// True where a file was looked through by this state of the rule.
    pub(super) fn is_swept(&self, first: u64, stamp: u64) -> bool {
        self.swept.lock().get(&first) == Some(&stamp)
    }

    /// A file was looked through.
    pub(super) fn note_swept(&self, first: u64, stamp: u64) {
        self.swept.lock().insert(first, stamp);
    }

    /// True where nothing of a segment could be moved by this state of the rule.
    pub(super) fn is_idle(&self, first: u64, stamp: u64) -> bool {
        self.idle.lock().get(&first) == Some(&stamp)
    }

    /// Nothing of a segment can be moved.
    pub(super) fn note_idle(&self, first: u64, stamp: u64) {
        self.idle.lock().insert(first, stamp);
    }
}

#[cfg(test)]
mod tests {
    use nethical_protocol::ids::GroupId;

    use super::*;

    #[test]
    fn a_segment_that_fails_rests_longer_each_time_and_is_forgotten_once_it_does_not() {
        let (state, every) = (ColdState::default(), Duration::from_secs(60));
        let log = LogId { group: GroupId(2), era: 1 };
        let (mut now, seventh) = (Duration::ZERO, Try { first: 7, is_led: true });
        for looks in [1, 2, 4, 8, 8] {
            state.note(log, seventh, &Err("the store is away".to_owned()), now, every);
            assert!(state.rests(7, now + every * looks - Duration::from_nanos(1)));
            now += every * looks;
            assert!(!state.rests(7, now) && !state.rests(8, now));
        }
        assert_eq!(state.failed(), [(7, "the store is away".to_owned())]);
        state.note(log, seventh, &Ok(()), now, every);
        assert!(!state.rests(7, now) && state.failed().is_empty());
        state.note(log, seventh, &Err("again".to_owned()), now, every);
        assert!(!state.rests(7, now + every), "it begins anew");
        state.note(log, Try { first: 9, is_led: false }, &Err("other bytes".to_owned()), now, every);
        state.forget_led();
        assert_eq!(state.failed(), [(9, "other bytes".to_owned())], "what a leader tried is the next one's to try");
    }
}
