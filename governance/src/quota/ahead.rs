//! Counting ahead: leases of limits in shadow and soft mode, which refuse nobody and so never make an action wait.
//!
//! Such a limit spends its share like an enforced one. Where the share is too small, the action is counted *ahead* of a
//! grant: the share owes it, and the leader asks the parent, while nobody waits. Only where the parent has refused is the
//! share *tight* and the limit reported as violated, until the parent would have enough, by what it said at its last
//! refusal: a shadow limit is not charged then, a soft one goes on to owe.
//!
//! What is owed is never lost as if it were unspent, and is counted once:
//! - of a *flow* the parent takes it over with the next ask, as granted and spent, whatever it has left (see
//!   [`super::flow`]): its counter then stands above the cap and leaks as an exact one would. So nothing is owed for long,
//!   and the parent has nothing to give to anybody, enforced or not, before it has leaked.
//! - of a *stock* it stays with the child, because a reservation may give it back. Grants pay it first.
//!
//! What is reported as having had room is then what the parent counts, and what is owed: beyond the cap by at most what
//! arrives during one ask at each partition that spends, each time that the limit fills up. A partition whose parent does
//! not answer owes at most one cap: what goes beyond is reported as violated, and of a flow not counted.
//!
//! It must not delay or deny anything, nor spend what an enforced limit could.

use nethical_protocol::control::LimitMode;
use nethical_protocol::limits::{LEASES_MAX, LIMITS_MATCHING_MAX};
use nethical_protocol::sometimes;

use super::bucket::{Fit, Meter, window_left_ns};
use super::flow::LIFE_NS;
use super::lease::{CountersV1, LeaseKey, Leases, Share};
use super::{Claim, Judgement, Quota};
use crate::command::LeaseTakeV1;

/// A parent's refusal whose end is not known is taken for so long.
const UNKNOWN_NS: u64 = 1_000_000_000;
/// No refusal of a flow is remembered longer (one day), so that shares of keys that nobody uses any more go.
const TIGHT_NS_MAX: u64 = 86_400 * 1_000_000_000;

/// A share that its parent should be asked about, though nobody waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AheadV1 {
    /// Which.
    pub lease: LeaseKey,
    /// In behalf of an action that may have what the limit keeps back.
    pub is_critical: bool,
}

impl Share {
    /// True where the parent has refused, and would still not have enough.
    pub fn is_tight(&self, is_critical: bool, now_ns: u64) -> bool {
        now_ns < if is_critical { self.tight_critical_until_ns } else { self.tight_until_ns }
    }

    /// What the parent's answer says of what is counted ahead. A refusal of something critical holds for everybody, a
    /// grant of something else as well.
    pub(super) fn note_tight(&mut self, take: &LeaseTakeV1, now_ns: u64) {
        let lasts_ns = match take.wait_ns {
            0 if take.life_ns.1 == u64::MAX => u64::MAX,
            0 => UNKNOWN_NS,
            wait_ns => wait_ns.min(TIGHT_NS_MAX),
        };
        let until_ns = if take.refused { now_ns.saturating_add(lasts_ns) } else { 0 };
        if take.is_critical || !take.refused {
            self.tight_critical_until_ns = until_ns;
        }
        if !take.is_critical || take.refused {
            self.tight_until_ns = until_ns;
        }
    }

    /// Log time at which a share of a flow may be forgotten as far as it is counted ahead of.
    pub(super) fn needed_until_ns(&self) -> u64 {
        self.owed_until_ns.max(self.tight_until_ns).max(self.tight_critical_until_ns)
    }

    /// True where its life is over and nothing is owed for it any more.
    fn is_past(&self, now_ns: u64) -> bool {
        self.counters.born_ns > 0 && now_ns >= self.until_ns.max(self.owed_until_ns)
    }

    /// Spends, ahead of the grant where there is too little. What is void of the share counts as spent.
    fn spend_ahead(&mut self, meter: Meter, cost: u64, now_ns: u64) {
        let (balance, debt) = (self.balance(now_ns), self.debt(now_ns));
        if balance == 0 {
            let held = self.counters.granted.saturating_sub(self.counters.returned);
            self.counters.spent = held.saturating_add(debt);
        }
        // What a reservation may give back is counted in full.
        let room = balance.saturating_add(meter.cap().saturating_sub(debt));
        let cost = if meter.is_flow() { cost.min(room) } else { cost };
        self.counters.spent = self.counters.spent.saturating_add(cost);
        self.counters.spent_at_ns = now_ns;
        if cost > balance {
            self.owed_until_ns = if meter.is_flow() { now_ns.saturating_add(LIFE_NS) } else { u64::MAX };
        }
    }
}

impl Leases {
    /// True where the group keeps as many shares as it may, and this would be one more.
    pub(super) fn has_no_share(&self, lease: &LeaseKey) -> bool {
        self.shares.len() >= LEASES_MAX && !self.shares.contains_key(lease)
    }

    /// An action that goes ahead spends, whether or not there is enough.
    ///
    /// Of a life that is over nothing counts any more. It is forgotten here, so that its late grants find no counters that
    /// begin anew: within a life, what is spent only rises.
    pub(super) fn spend_ahead(&mut self, lease: LeaseKey, meter: Meter, cost: u64, now_ns: u64) {
        let share = self.shares.entry(lease).or_default();
        if share.is_past(now_ns) {
            self.forgotten_ns = self.forgotten_ns.max(share.counters.born_ns);
            (share.counters, share.until_ns) = (CountersV1::default(), 0);
        }
        share.spend_ahead(meter, cost, now_ns);
    }
}

impl Meter {
    /// As [`Meter::fit_of`] for a limit that refuses nobody: never [`Fit::Short`].
    pub fn fit_ahead(&self, share: &Share, claim: Claim, now_ns: u64) -> Fit {
        let (cost, balance) = (claim.cost, share.balance(now_ns));
        if cost <= balance {
            return Fit::Room;
        }
        if cost > self.cap() {
            return Fit::Never;
        }
        let owed = share.debt(now_ns).saturating_add(cost - balance);
        if owed <= self.cap() && !share.is_tight(claim.is_critical, now_ns) {
            return Fit::Ahead;
        }
        match *self {
            Self::Budget { window_ns, .. } => Fit::After(window_left_ns(now_ns, window_ns)),
            Self::Rate { .. } | Self::Rolling { .. } => {
                let until_ns = if claim.is_critical { share.tight_critical_until_ns } else { share.tight_until_ns };
                Fit::After(until_ns.saturating_sub(now_ns).max(1))
            }
            Self::Lifetime { .. } | Self::Concurrency { .. } => Fit::Exhausted,
        }
    }
}

impl Quota {
    /// The shares that an action which goes ahead has its leader ask about, by limit number: those that it is counted
    /// ahead of, and those that were refused and may be asked about again.
    pub fn asks_ahead(&self, judgement: &Judgement, is_critical: bool) -> Vec<AheadV1> {
        let now_ns = judgement.now_ns;
        let counted = judgement.items.iter().filter(|item| item.mode != LimitMode::Enforce && item.cost > 0);
        let asked = counted.filter_map(|item| {
            let (lease, share) = (item.lease?, self.leases.share(&item.lease?));
            let owes_much = share.debt(now_ns) > item.meter.cap() / 2;
            let asks = match item.fit {
                Fit::Room | Fit::Short => false,
                Fit::Ahead => true,
                Fit::After(_) | Fit::Never | Fit::Exhausted | Fit::NoCounter => {
                    owes_much || !share.is_refused(false, now_ns)
                }
            };
            sometimes!(item.fit == Fit::Ahead, "an action was counted ahead of a grant");
            sometimes!(matches!(item.fit, Fit::After(_)), "a shared limit that refuses nobody was found full");
            asks.then_some(AheadV1 { lease, is_critical })
        });
        asked.take(LIMITS_MATCHING_MAX).collect()
    }
}

#[cfg(test)]
#[path = "ahead_tests.rs"]
mod tests;
