//! The naive model that the tests hold the log against: every change applied to plain maps, every state kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::{Rng, RngExt};

use nethical_protocol::ids::GroupId;

use super::{Done, Recovered, Wal, WalEntry, WalOptions};
use crate::world::Scope;
use crate::world::memory::MemoryDisk;
use crate::world::real::RealClock;

/// What one group should hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) vote: Option<u64>,
    pub(super) purged: Option<u64>,
    pub(super) entries: BTreeMap<u64, (u64, Bytes)>,
}

impl Group {
    pub(super) fn next(&self) -> u64 {
        self.entries.keys().next_back().copied().max(self.purged).map_or(0, |last| last + 1)
    }
}

pub(super) type State = BTreeMap<GroupId, Group>;

/// One change.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Append(GroupId, Vec<WalEntry>),
    Vote(GroupId, u64),
    Truncate(GroupId, Option<u64>),
    Purge(GroupId, u64),
    Forget(GroupId),
    Flush,
}

/// All states that the log went through, and how far it has acknowledged them.
#[derive(Debug, Default)]
pub(super) struct History {
    /// `states[n]` is the state after n changes.
    pub(super) states: Vec<State>,
    /// Changes that are acknowledged.
    pub(super) acked: usize,
    /// Every committed position that was ever saved: how many changes had been asked for before it.
    known: BTreeSet<(GroupId, usize)>,
    /// The latest of each group, unless the group was forgotten since.
    committed: BTreeMap<GroupId, usize>,
    /// The latest that an acknowledged flush covers.
    pub(super) flushed: BTreeMap<GroupId, usize>,
}

impl History {
    pub(super) fn new(state: State) -> Self {
        Self { states: vec![state], ..Self::default() }
    }

    pub(super) fn asked(&self) -> usize {
        self.states.len() - 1
    }

    pub(super) fn latest(&self) -> &State {
        self.states.last().expect("the first state is always there")
    }

    fn push(&mut self, step: &Step) {
        let mut state = self.latest().clone();
        match step {
            Step::Append(group, entries) => {
                let group = state.entry(*group).or_default();
                group.entries.extend(entries.iter().map(|entry| (entry.index, (entry.term, entry.payload.clone()))));
            }
            Step::Vote(group, vote) => state.entry(*group).or_default().vote = Some(*vote),
            Step::Truncate(group, after) => {
                let group = state.entry(*group).or_default();
                group.entries.retain(|index, _| after.is_some_and(|after| *index <= after));
            }
            Step::Purge(group, up_to) => {
                let group = state.entry(*group).or_default();
                group.entries.retain(|index, _| index > up_to);
                group.purged = group.purged.max(Some(*up_to));
            }
            Step::Forget(group) => {
                state.remove(group);
            }
            Step::Flush => {}
        }
        self.states.push(state);
    }

    /// The change number whose state was recovered. Panics where it is none of the legal ones.
    pub(super) fn matched(&self, found: &State, recovered: &Recovered, context: &str) -> usize {
        let matched = (self.acked..=self.asked()).rev().find(|number| is_same(&self.states[*number], found));
        let Some(number) = matched else {
            let (acked, asked) = (self.acked, self.asked());
            panic!("{context}: {found:#?}\nis no state from {acked} to {asked}: {:#?}", &self.states[acked..])
        };
        for (group, found) in &recovered.groups {
            let Some(committed) = &found.committed else { continue };
            let after = u64::from_le_bytes(committed[..].try_into().unwrap()) as usize;
            assert!(after <= number, "{context}: group {group}: a position from after {after} rode ahead of {number}");
            assert!(self.known.contains(&(*group, after)), "{context}: group {group}: nobody saved {after}");
            assert!(
                self.flushed.get(group).is_none_or(|flushed| after >= *flushed),
                "{context}: group {group}: {after} is older than what was flushed"
            );
        }
        number
    }
}

/// A group of which nothing is known and one that holds nothing are the same.
fn is_same(left: &State, right: &State) -> bool {
    let nothing = Group::default();
    let mut groups = left.keys().chain(right.keys());
    groups.all(|group| left.get(group).unwrap_or(&nothing) == right.get(group).unwrap_or(&nothing))
}

/// Reads all of a log.
pub(super) async fn read_state(wal: &Wal, recovered: &Recovered) -> State {
    let mut state = State::new();
    for (group, found) in &recovered.groups {
        let vote = found.vote.as_ref().map(|vote| u64::from_le_bytes(vote[..].try_into().unwrap()));
        let entries = wal.read(*group, 0..u64::MAX).await.expect("what was recovered can be read");
        assert_eq!(entries.first().map(|entry| entry.index), found.first_index);
        assert_eq!(entries.last().map(|entry| entry.index), found.last_index);
        assert_eq!(entries.last().map(|entry| entry.term), found.last_term);
        let entries = entries.into_iter().map(|entry| (entry.index, (entry.term, entry.payload))).collect();
        let purged = found.purged.as_ref().map(|(up_to, payload)| {
            assert_eq!(payload[..], up_to.to_le_bytes(), "the payload of a purge is the one that was given");
            *up_to
        });
        state.insert(*group, Group { vote, purged, entries });
    }
    state
}

/// A log whose every change is noted in a history.
#[derive(Clone)]
pub(super) struct Driver {
    pub(super) wal: Wal,
    pub(super) history: Arc<Mutex<History>>,
}

impl Driver {
    fn done(&self, number: usize) -> Done {
        let history = self.history.clone();
        Box::new(move |result| {
            result.expect("a healthy disk fails nothing");
            let mut history = history.lock();
            history.acked = history.acked.max(number);
        })
    }

    /// Asks for a change. Does not wait until it is durable.
    pub(super) async fn ask(&self, step: Step) {
        let number = {
            let mut history = self.history.lock();
            history.push(&step);
            history.asked()
        };
        let done = self.done(number);
        let bytes = |value: u64| Bytes::copy_from_slice(&value.to_le_bytes());
        let future = match step {
            Step::Append(group, entries) => return self.wal.append(group, entries, done).await,
            Step::Purge(group, up_to) => return self.wal.purge(group, up_to, bytes(up_to)),
            Step::Forget(group) => {
                let mut history = self.history.lock();
                history.committed.remove(&group);
                history.flushed.remove(&group);
                return self.wal.forget_group(group);
            }
            Step::Vote(group, vote) => self.wal.save_vote(group, bytes(vote)),
            Step::Truncate(group, after) => self.wal.truncate_after(group, after),
            Step::Flush => self.wal.flush(),
        };
        let scope = Scope::current().expect("the tests run in a scope");
        scope.spawn(async move { done(future.await) });
    }

    /// Saves a committed position that tells when it was saved.
    pub(super) fn commit(&self, group: GroupId) {
        let after = {
            let mut history = self.history.lock();
            let after = history.asked();
            history.known.insert((group, after));
            history.committed.insert(group, after);
            after
        };
        self.wal.save_committed(group, Bytes::copy_from_slice(&(after as u64).to_le_bytes()));
    }

    /// Waits until everything asked for is durable, committed positions included.
    pub(super) async fn settle(&self) {
        let (number, committed) = {
            let mut history = self.history.lock();
            history.push(&Step::Flush);
            (history.asked(), history.committed.clone())
        };
        self.done(number)(self.wal.flush().await);
        self.history.lock().flushed.extend(committed);
    }
}

/// A log that is small enough to be recycled by a handful of changes.
pub(super) fn small_options() -> WalOptions {
    WalOptions {
        segment_bytes: 2_048,
        batch_bytes_max: 1_024,
        queue_bytes_max: 8_192,
        mark_every: 3,
        ..WalOptions::new(Arc::new(|error| panic!("the log failed: {error}")), Arc::new(RealClock::new()))
    }
}

pub(super) async fn open(disk: &MemoryDisk, scope: &Scope, options: WalOptions) -> (Wal, Recovered) {
    Wal::open(Arc::new(disk.clone()), scope.clone(), options).await.expect("the log opens")
}

/// A change that makes sense in this state.
pub(super) fn random_step(state: &State, dice: &mut impl Rng, term: u64) -> Step {
    let group = GroupId(dice.random_range(0..3));
    let empty = Group::default();
    let held = state.get(&group).unwrap_or(&empty);
    let next = held.next();
    match dice.random_range(0..20) {
        0..=10 => {
            let count = dice.random_range(1..4);
            let entries = (next..next + count).map(|index| {
                let length = dice.random_range(0..250);
                let payload = Bytes::from(vec![dice.random(); length]);
                WalEntry { term, index, payload }
            });
            Step::Append(group, entries.collect())
        }
        11..=12 => Step::Vote(group, dice.random()),
        13..=14 => {
            let first = held.purged.map_or(0, |purged| purged + 1);
            let after = dice.random_range(first..=next.max(first));
            Step::Truncate(group, if held.purged.is_none() && dice.random() { None } else { Some(after) })
        }
        // Often to the end, so that segments are freed; sometimes past it, as after a snapshot was installed.
        15..=17 if dice.random_ratio(1, 6) => Step::Purge(group, next + dice.random_range(0..5)),
        15..=17 if next > 0 => Step::Purge(group, next - 1),
        18 if dice.random_ratio(1, 5) => Step::Forget(group),
        _ => Step::Flush,
    }
}
