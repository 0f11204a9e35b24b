//! Quorum-confirmed contact to the control group (ARCHITECTURE 2): without it for the revocation bound, a leader refuses
//! decisions, so that a hold-order can be acknowledged although that leader is silent.
//!
//! Contact counts for a group only where the control group was told, in that very question, that this node leads it, and
//! only once the group has applied what the control group had by then. Otherwise a leader that has just begun, or that
//! comes back after a silence, would decide by rules that an order acknowledged in the meantime has changed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{ControlRevision, GroupId};
use nethical_protocol::limits::REVOCATION_BOUND_MS;
use nethical_protocol::{probe, sometimes};

/// Answers of the control group that one group may still have to catch up with.
const ANSWERS_MAX: usize = 64;

/// When the control group was last reached, by this node and for each group that it leads.
#[derive(Default)]
pub struct Contact {
    /// With the control group's revision then.
    confirmed: Mutex<Option<(Duration, ControlRevision)>>,
    groups: Mutex<BTreeMap<GroupId, Answers>>,
    /// Told where a group has begun to be led here, so that contact is made at once.
    pub wanted: Notify,
}

/// What the control group has answered in behalf of one group.
#[derive(Default)]
struct Answers {
    /// When it was asked, and its revision then, in order of time; revisions never fall.
    ahead: VecDeque<(Duration, ControlRevision)>,
    /// The latest time of an ask whose answer the group has caught up with.
    caught_up: Option<Duration>,
}

impl Answers {
    fn add(&mut self, sent: Duration, revision: ControlRevision) {
        let known = self.ahead.back().map_or(revision, |(_, known)| *known);
        // Of two answers with one revision the later one is worth more.
        if (known >= revision && !self.ahead.is_empty()) || self.ahead.len() >= ANSWERS_MAX {
            self.ahead.pop_back();
        }
        self.ahead.push_back((sent, revision.max(known)));
    }

    fn catch_up(&mut self, applied: ControlRevision) {
        while let Some((sent, _)) = self.ahead.front().copied().filter(|(_, revision)| *revision <= applied) {
            self.caught_up = self.caught_up.max(Some(sent));
            self.ahead.pop_front();
        }
    }
}

impl Contact {
    /// Notes a confirmed answer to a request that was *sent* at this monotonic time and named the groups that this node
    /// leads; the control group had this revision.
    pub fn confirmed(&self, sent: Duration, revision: ControlRevision, groups: impl Iterator<Item = GroupId>) {
        let mut confirmed = self.confirmed.lock();
        *confirmed = (*confirmed).max(Some((sent, revision)));
        drop(confirmed);
        let mut held = self.groups.lock();
        groups.for_each(|group| held.entry(group).or_default().add(sent, revision));
    }

    /// Refuses where this node has not reached the control group inside the bound.
    pub fn check(&self, now: Duration) -> Result<(), Problem> {
        within_bound(self.confirmed.lock().map(|(sent, _)| sent), now)
    }

    /// Refuses where this node has not reached the control group inside the bound, or knows less than it had then.
    pub fn check_known(&self, known: ControlRevision, now: Duration) -> Result<(), Problem> {
        let confirmed = *self.confirmed.lock();
        within_bound(confirmed.filter(|(_, revision)| *revision <= known).map(|(sent, _)| sent), now)
    }

    /// Refuses where a group that this node leads, and that has applied the control group's facts up to a revision, is not
    /// known to have been up to date inside the bound.
    pub fn check_group(&self, group: GroupId, applied: ControlRevision, now: Duration) -> Result<(), Problem> {
        if probe::planted("contact-of-the-node-counts") {
            return self.check(now);
        }
        let mut held = self.groups.lock();
        let answers = held.entry(group).or_default();
        answers.catch_up(applied);
        within_bound(answers.caught_up, now)
    }
}

/// How long a leader may decide after the last contact that counts.
pub fn revocation_bound() -> Duration {
    Duration::from_millis(probe::knob("control.revocation-ms", REVOCATION_BOUND_MS))
}

fn within_bound(contact: Option<Duration>, now: Duration) -> Result<(), Problem> {
    let bound = revocation_bound();
    let stale = |detail: &str| Problem::new(Code::ControlStale, detail);
    match contact {
        Some(sent) if now.saturating_sub(sent) < bound => Ok(()),
        Some(_) => {
            sometimes!(true, "a node had not reached the control group for too long");
            Err(stale("the control group has not been reached for too long").retry_after_ms(1_000))
        }
        None => Err(stale("the control group has not been reached yet").retry_after_ms(200)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(4);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn contact_of_the_node_is_none_of_a_group_that_it_did_not_speak_for() {
        let contact = Contact::default();
        contact.confirmed(at(1), ControlRevision(5), std::iter::empty());
        assert!(contact.check(at(2)).is_ok());
        assert!(contact.check_group(GROUP, ControlRevision(5), at(2)).is_err());
        contact.confirmed(at(3), ControlRevision(5), std::iter::once(GROUP));
        assert!(contact.check_group(GROUP, ControlRevision(5), at(4)).is_ok());
        assert!(contact.check_group(GROUP, ControlRevision(5), at(13)).is_err(), "the bound is over");
    }

    #[test]
    fn a_group_that_lags_lives_on_the_last_answer_that_it_has_caught_up_with() {
        let contact = Contact::default();
        contact.confirmed(at(1), ControlRevision(5), std::iter::once(GROUP));
        for (sent, revision) in [(2, 6), (3, 6), (4, 7)] {
            contact.confirmed(at(sent), ControlRevision(revision), std::iter::once(GROUP));
        }
        assert!(contact.check_group(GROUP, ControlRevision(5), at(10)).is_ok());
        assert!(contact.check_group(GROUP, ControlRevision(5), at(11)).is_err());
        assert!(contact.check_group(GROUP, ControlRevision(6), at(12)).is_ok(), "asked at 3 s");
        assert!(contact.check_group(GROUP, ControlRevision(6), at(13)).is_err());
        assert!(contact.check_group(GROUP, ControlRevision(7), at(13)).is_ok(), "asked at 4 s");
    }
}
