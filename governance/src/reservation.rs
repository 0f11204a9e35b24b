//! Reservations that live: amounts that an admitted decision holds in its limits' counters until its outcome is known.
//!
//! A reservation's id is its decision's leaf index. It ends exactly once: by its settlement or by its expiry, both at
//! positions of the log. Ended ones are remembered as requests are (`dedup`), so a second settlement gets the first
//! one's record; each end takes one of the group's remembered ids. Bounded by agent and by group. It must not touch
//! counters; `quota` does.

use std::collections::BTreeMap;

use nethical_protocol::ids::{ControlRevision, KeyedId, Slot};
use nethical_protocol::limits::{RESERVATIONS_PER_AGENT_MAX, RESERVATIONS_PER_GROUP_MAX};
use sha2::{Digest, Sha256};

use crate::agent::AgentKey;
use crate::command::{CostV1, RequestKey};
use crate::quota::BucketKey;

/// Content of the remembered end of a reservation that expired; no settlement's MAC, but for one chance in 2^64.
pub const EXPIRED: [u8; 8] = *b"expired.";

/// Which reservation: slot first, so that a slot is one contiguous range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReservationKey {
    /// The agent's slot.
    pub slot: Slot,
    /// Leaf index of the decision that made it.
    pub leaf_index: u64,
}

impl ReservationKey {
    /// Under which its end is remembered: no request of a client has this id.
    pub fn request(&self, content: [u8; 8], now_ms: u64) -> RequestKey {
        let digest = Sha256::new_with_prefix(b"nethical reservation 1").chain_update(self.leaf_index.to_le_bytes());
        let mut id = KeyedId::NONE;
        id.0.copy_from_slice(&digest.finalize()[..16]);
        RequestKey { id, content, issued_at_ms: now_ms, client_chosen: false }
    }
}

/// What a reservation holds in one limit's counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The counter.
    pub key: BucketKey,
    /// The unit that the limit counts.
    pub unit: KeyedId,
    /// The revision that gave the limit its amounts.
    pub changed: ControlRevision,
    /// Units held; 1 for a limit on live reservations.
    pub amount: u64,
}

/// A reservation that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Whose it is.
    pub agent: AgentKey,
    /// Log time of the decision, nanoseconds.
    pub at_ns: u64,
    /// Log time at which it expires, nanoseconds; it lives before, not at it.
    pub until_ns: u64,
    /// What was reserved, by unit.
    pub costs: Vec<CostV1>,
    /// What that holds, by limit.
    pub holds: Vec<Hold>,
}

/// All of a group's, with their number by agent.
#[derive(Debug, Clone, Default)]
pub struct Reservations {
    live: BTreeMap<ReservationKey, Reservation>,
    /// Follows from `live`.
    by_agent: BTreeMap<AgentKey, usize>,
}

impl Reservations {
    /// True where the agent and the group may have one more.
    pub fn has_room(&self, agent: &AgentKey) -> bool {
        self.live.len() < RESERVATIONS_PER_GROUP_MAX && self.count_of(agent) < RESERVATIONS_PER_AGENT_MAX
    }

    /// How many of an agent live.
    pub fn count_of(&self, agent: &AgentKey) -> usize {
        self.by_agent.get(agent).copied().unwrap_or(0)
    }

    /// How many live.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// True where none lives.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// All, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&ReservationKey, &Reservation)> {
        self.live.iter()
    }

    /// Adds one; a key is used once.
    pub fn insert(&mut self, key: ReservationKey, reservation: Reservation) {
        let agent = reservation.agent;
        if self.live.insert(key, reservation).is_none() {
            *self.by_agent.entry(agent).or_default() += 1;
        }
    }

    /// Ends one.
    pub fn take(&mut self, key: &ReservationKey) -> Option<Reservation> {
        let taken = self.live.remove(key)?;
        let left = self.count_of(&taken.agent).saturating_sub(1);
        match left {
            0 => self.by_agent.remove(&taken.agent),
            left => self.by_agent.insert(taken.agent, left),
        };
        Some(taken)
    }
}
