//! What a ledger keeps of one agent: status, epoch, hold-order, risk, what is usual for it, counters. At most 1 KiB, in
//! fact about 750 B.
//!
//! Entries change only in apply. An agent that was never heard of reads as [`AgentEntry::default`], so that knowing it
//! and not knowing it give the same [`AgentEntry::version`] until something worth remembering happened.

use nethical_protocol::control::HoldEffect;
use nethical_protocol::decision::{AgentStatus, Verdict};
use nethical_protocol::ids::{KeyedId, Slot};
use sha2::{Digest, Sha256};

use crate::behaviour::Behaviour;
use crate::command::ActorKeys;
use crate::outcome::RiskTier;
use crate::quarantine::{RuleNumber, Watch};
use crate::risk::RiskProfile;

/// An agent of whom nothing needs remembering is forgotten after this long without an action (7 days).
pub const FORGET_AFTER_NS: u64 = 7 * 24 * 3_600_000_000_000;

/// Key of an agent in the ledger; the slot comes first, so that a slot is one contiguous range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentKey {
    /// The slot.
    pub slot: Slot,
    /// The tenant.
    pub tenant: KeyedId,
    /// The agent.
    pub agent: KeyedId,
}

impl From<ActorKeys> for AgentKey {
    fn from(actor: ActorKeys) -> Self {
        Self { slot: actor.slot, tenant: actor.tenant, agent: actor.agent }
    }
}

/// An agent-scoped hold-order in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentHold {
    /// Block or restrict.
    pub effect: HoldEffect,
    /// Log time at which it lapses, nanoseconds; 0 for never.
    pub until_ns: u64,
    /// The leaf that placed it.
    pub leaf_index: u64,
    /// The rule that placed it; none where an operator did.
    pub rule: Option<RuleNumber>,
}

/// One agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AgentEntry {
    /// Where it stands.
    pub status: AgentStatus,
    /// Raised by every change of status or hold-order.
    pub epoch: u64,
    /// The hold-order on it.
    pub hold: Option<AgentHold>,
    /// Its history.
    pub risk: RiskProfile,
    /// What is usual for it.
    pub behaviour: Behaviour,
    /// What is counted towards automatic quarantine.
    pub watch: Watch,
    /// Actions decided.
    pub actions: u64,
    /// Of those, not allowed.
    pub denied: u64,
    /// Log time of its first decision, nanoseconds; 0 for none.
    pub first_ns: u64,
    /// Log time of its last decision or hold-order, nanoseconds.
    pub last_ns: u64,
}

const _: () = assert!(size_of::<AgentKey>() + size_of::<AgentEntry>() <= 1_024, "an idle agent costs at most 1 KiB");

impl AgentEntry {
    /// Digest of what policy can see: status, epoch, tier. First 8 bytes of SHA-256 over
    /// `"nethical agent version 1"`, status, epoch (little endian), tier.
    pub fn version(&self) -> [u8; 8] {
        let mut seen = *b"nethical agent version 1..........";
        seen[24] = self.status as u8;
        seen[25..33].copy_from_slice(&self.epoch.to_le_bytes());
        seen[33] = self.risk.tier() as u8;
        let digest = Sha256::digest(seen);
        let mut version = [0; 8];
        version.copy_from_slice(&digest[..8]);
        version
    }

    /// What the status alone makes of every action.
    pub fn status_verdict(&self) -> Verdict {
        match self.status {
            AgentStatus::Active => Verdict::Allow,
            AgentStatus::Restricted => Verdict::Restrict,
            AgentStatus::Quarantined | AgentStatus::Terminated => Verdict::Block,
        }
    }

    /// Places a hold-order over whatever was in force. A terminated agent is beyond holds.
    pub(crate) fn place(&mut self, hold: AgentHold) {
        self.status = match hold.effect {
            HoldEffect::Block => AgentStatus::Quarantined,
            HoldEffect::Restrict => AgentStatus::Restricted,
        };
        self.hold = Some(hold);
        self.watch = Watch::default();
        self.epoch = self.epoch.saturating_add(1);
    }

    /// Ends the hold-order, by release or because it lapsed. Gives it, or `None` where there was nothing to end.
    pub(crate) fn release(&mut self) -> Option<AgentHold> {
        let hold = self.hold.take()?;
        self.watch = Watch::default();
        self.status = AgentStatus::Active;
        self.epoch = self.epoch.saturating_add(1);
        Some(hold)
    }

    /// Ends the agent, for ever. Gives the hold-order that was in force, which nobody needs any more.
    pub(crate) fn terminate(&mut self) -> Option<AgentHold> {
        if self.status != AgentStatus::Terminated {
            self.status = AgentStatus::Terminated;
            self.epoch = self.epoch.saturating_add(1);
        }
        self.hold.take()
    }

    /// True where forgetting the entry takes nothing back: never held, never denied, never at fault, long idle. What was
    /// usual for it is forgotten with it, and learned anew.
    pub(crate) fn is_forgettable(&self, now_ns: u64) -> bool {
        self.status == AgentStatus::Active
            && self.epoch == 0
            && self.denied == 0
            && self.risk.violations == 0
            && self.risk.score == 0
            && now_ns.saturating_sub(self.last_ns) >= FORGET_AFTER_NS
    }
}

/// What the actor, policy and the doors may read of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentFacts {
    /// False where the ledger has no entry; everything else is then what a new agent starts with.
    pub known: bool,
    /// Where it stands.
    pub status: AgentStatus,
    /// Raised by every change of status or hold-order.
    pub epoch: u64,
    /// The tier that apply and policy go by: that of the score when it last changed.
    pub tier: RiskTier,
    /// The score decayed to the ledger's time, 0..1000. For people; not covered by the agent's version.
    pub risk: u16,
    /// Actions decided.
    pub actions: u64,
    /// Of those, not allowed.
    pub denied: u64,
    /// Actions with violations.
    pub violations: u64,
    /// The hold-order on it.
    pub hold: Option<AgentHold>,
    /// Log time of its first decision, nanoseconds; 0 for none.
    pub first_ns: u64,
    /// Log time of its last decision or hold-order, nanoseconds; 0 for none.
    pub last_ns: u64,
    /// What a command evaluated with these facts must carry.
    pub version: [u8; 8],
}

impl AgentFacts {
    pub(crate) fn of(entry: Option<&AgentEntry>, now_ns: u64) -> Self {
        let known = entry.is_some();
        let entry = entry.copied().unwrap_or_default();
        Self {
            known,
            status: entry.status,
            epoch: entry.epoch,
            tier: entry.risk.tier(),
            risk: entry.risk.decayed(now_ns),
            actions: entry.actions,
            denied: entry.denied,
            violations: entry.risk.violations,
            hold: entry.hold,
            first_ns: entry.first_ns,
            last_ns: entry.last_ns,
            version: entry.version(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_covers_status_epoch_and_tier_and_is_pinned() {
        let fresh = AgentEntry::default();
        assert_eq!(hex::encode(fresh.version()), PINNED);
        let changed = [
            AgentEntry { status: AgentStatus::Restricted, ..fresh },
            AgentEntry { epoch: 1, ..fresh },
            AgentEntry { risk: RiskProfile { score: 250, ..fresh.risk }, ..fresh },
        ];
        for entry in changed {
            assert_ne!(entry.version(), fresh.version(), "{entry:?}");
        }
        let unseen = AgentEntry { actions: 9, denied: 3, risk: RiskProfile { score: 249, ..fresh.risk }, ..fresh };
        assert_eq!(unseen.version(), fresh.version());
    }

    /// Nodes of different releases compare versions: a change here needs a new apply version.
    const PINNED: &str = "49a86979a59b03b5";

    #[test]
    fn only_an_agent_without_a_past_is_forgotten() {
        let fresh = AgentEntry { actions: 5, ..AgentEntry::default() };
        assert!(!fresh.is_forgettable(FORGET_AFTER_NS - 1));
        assert!(fresh.is_forgettable(FORGET_AFTER_NS));
        assert!(!AgentEntry { denied: 1, ..fresh }.is_forgettable(u64::MAX));
        let mut released = fresh;
        released.place(AgentHold { effect: HoldEffect::Block, until_ns: 0, leaf_index: 1, rule: None });
        released.release();
        assert!(!released.is_forgettable(u64::MAX));
    }
}
