//! Approvals: what a person is asked to decide about one exact action, and what became of the question.
//!
//! An approval's id is the leaf index of the decision that escalated. It moves from pending to approved, denied or
//! expired, and from approved to used or expired, each at a position of the log. What ended is remembered for a while, so
//! that whoever comes later is told why it does not count. Bounded by agent, by agent and hour, and by group. It must not
//! judge actions; `ledger::review` does.

use std::collections::{BTreeMap, BTreeSet};

use nethical_protocol::ids::{ControlRevision, KeyedId, Slot};
use nethical_protocol::limits::{
    APPROVAL_KEPT_S, APPROVALS_PENDING_PER_AGENT_MAX, APPROVALS_PER_AGENT_HOUR_MAX, APPROVALS_PER_GROUP_MAX,
};

use crate::agent::AgentKey;

const SECOND_NS: u64 = 1_000_000_000;
const HOUR_NS: u64 = 3_600 * SECOND_NS;

/// Which approval: slot first, so that a slot is one contiguous range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApprovalKey {
    /// The agent's slot.
    pub slot: Slot,
    /// Leaf index of the decision that escalated.
    pub leaf_index: u64,
}

/// Where an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[repr(u8)]
pub enum ApprovalState {
    /// Nobody has decided yet.
    Pending = 0,
    /// The action may be done once.
    Approved = 1,
    /// It may not.
    Denied = 2,
    /// Nobody decided, or nobody did the action, in time.
    Expired = 3,
    /// The action was allowed because of it.
    Used = 4,
}

impl ApprovalState {
    /// All states; the position is the state's number in snapshots and leaves.
    pub const ALL: [ApprovalState; 5] = [
        ApprovalState::Pending,
        ApprovalState::Approved,
        ApprovalState::Denied,
        ApprovalState::Expired,
        ApprovalState::Used,
    ];

    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        ["pending", "approved", "denied", "expired", "used"][self as usize]
    }

    /// True where it may still change.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Approved)
    }
}

/// One approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approval {
    /// Whose action.
    pub agent: AgentKey,
    /// Keyed digest of the exact action.
    pub digest: KeyedId,
    /// The policy revision that escalated it; under another one it is void.
    pub policy_rev: ControlRevision,
    /// Log time of the decision that escalated, nanoseconds.
    pub at_ns: u64,
    /// Log time at which it expires, nanoseconds; it counts before, not at it.
    pub until_ns: u64,
    /// Where it stands.
    pub state: ApprovalState,
    /// The leaf of the person's word; 0 where nobody has decided.
    pub word_leaf: u64,
    /// The leaf of the decision that used it, or of its expiry; 0 for none.
    pub end_leaf: u64,
}

impl Approval {
    /// When time next does something to it: it expires, or is forgotten.
    pub fn due_ns(&self, now_ns: u64) -> u64 {
        match self.until_ns > now_ns {
            true => self.until_ns,
            false => self.until_ns.saturating_add(APPROVAL_KEPT_S.saturating_mul(SECOND_NS)),
        }
    }
}

/// What an agent has asked for.
#[derive(Debug, Clone, Default)]
struct OfAgent {
    pending: usize,
    /// By leaf index, which is the order of opening.
    opened: BTreeSet<u64>,
}

/// All of a group's.
#[derive(Debug, Clone, Default)]
pub struct Approvals {
    known: BTreeMap<ApprovalKey, Approval>,
    /// Follows from `known`.
    by_agent: BTreeMap<AgentKey, OfAgent>,
}

impl Approvals {
    /// True where the agent and the group may ask for one more.
    pub fn has_room(&self, agent: &AgentKey, now_ns: u64) -> bool {
        if self.known.len() >= APPROVALS_PER_GROUP_MAX {
            return false;
        }
        let Some(of_agent) = self.by_agent.get(agent) else { return true };
        let is_recent = |leaf_index: &&u64| {
            let key = ApprovalKey { slot: agent.slot, leaf_index: **leaf_index };
            self.known.get(&key).is_some_and(|known| now_ns.saturating_sub(known.at_ns) < HOUR_NS)
        };
        // Those of the last hour are all remembered: what is kept outlives its hour.
        let recent = of_agent.opened.iter().rev().take_while(is_recent).count();
        of_agent.pending < APPROVALS_PENDING_PER_AGENT_MAX && recent < APPROVALS_PER_AGENT_HOUR_MAX
    }

    /// One, by key.
    pub fn get(&self, key: &ApprovalKey) -> Option<&Approval> {
        self.known.get(key)
    }

    /// How many are remembered, ended ones among them.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True where none is remembered.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// All, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&ApprovalKey, &Approval)> {
        self.known.iter()
    }

    /// Adds one; a key is used once.
    pub fn insert(&mut self, key: ApprovalKey, approval: Approval) {
        if self.known.insert(key, approval).is_none() {
            let of_agent = self.by_agent.entry(approval.agent).or_default();
            of_agent.opened.insert(key.leaf_index);
            of_agent.pending += usize::from(approval.state == ApprovalState::Pending);
        }
    }

    /// Moves one on and gives it as it is then.
    pub fn move_on(&mut self, key: &ApprovalKey, state: ApprovalState, leaf_index: u64) -> Option<Approval> {
        let known = self.known.get_mut(key)?;
        if known.state == ApprovalState::Pending
            && state != ApprovalState::Pending
            && let Some(of_agent) = self.by_agent.get_mut(&known.agent)
        {
            of_agent.pending = of_agent.pending.saturating_sub(1);
        }
        known.state = state;
        match state {
            ApprovalState::Approved | ApprovalState::Denied => known.word_leaf = leaf_index,
            _ => known.end_leaf = leaf_index,
        }
        Some(*known)
    }

    /// Forgets one.
    pub fn forget(&mut self, key: &ApprovalKey) {
        let Some(gone) = self.known.remove(key) else { return };
        if let Some(of_agent) = self.by_agent.get_mut(&gone.agent) {
            of_agent.opened.remove(&key.leaf_index);
            of_agent.pending = of_agent.pending.saturating_sub(usize::from(gone.state == ApprovalState::Pending));
            if of_agent.opened.is_empty() {
                self.by_agent.remove(&gone.agent);
            }
        }
    }
}
