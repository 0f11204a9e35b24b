//! Leases: how a limit over agents of many partitions is shared out without a quorum per action (ARCHITECTURE 7).
//!
//! A leased limit has a *parent*, the group that owns the slot of (limit, key), and *children*, the groups whose agents
//! spend it. Amounts move from the parent to a child before they are used. All that either side says of a lease are
//! counters that only rise, *granted*, *returned* and *spent*, merged by max: a message that is lost, doubled or late
//! changes nothing. What the parent knows of `granted` is never less than what the child knows, and of `returned` and
//! `spent` never more; and a child never spends more than granted − returned.
//!
//! - *Stocks* (budgets, lifetime caps, live reservations): the parent never lets the sum over children of granted −
//!   returned rise above the cap. So the sum of what was spent is never above it, whatever crashes, and whoever cannot be
//!   reached. Counters of a budget belong to one calendar window each, by the log time of whoever spends: no clock is
//!   compared with another. Nothing comes back by a timeout; what a child holds when its window ends is void.
//! - *Flows* (rates, rolling windows) are refilled by time, at the parent only, see [`super::flow`].
//!
//! Limits in shadow and soft mode spend shares too, and owe where these are too small, see [`super::ahead`].
//!
//! Lowering a cap below what is granted takes nothing back: grants count as spent when they are made.

use std::collections::BTreeMap;

use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber, Slot};
use nethical_protocol::limits::{CLOCK_ERROR_MS_MAX, LEASES_MAX, SLOTS};
use nethical_protocol::{always, probe, sometimes};
use sha2::{Digest, Sha256};

use super::bucket::{Fit, Meter, window_left_ns};
use super::{BucketKey, Claim};
use crate::command::LeaseTakeV1;

/// After the parent has refused, a child takes its word for so long and asks no more.
const REFUSAL_NS: u64 = 1_000_000_000;
/// So long an action that waits for several shares keeps those before the first that it is short of, and that one: as long
/// as one round takes where a trip between regions and back takes 110 ms and the parent has the others give back, which is
/// eight such trips.
pub const PINNED_NS: u64 = 1_000_000_000;
/// And so long those after it: as long as grants of one round are apart where nobody has to give back.
pub const PINNED_AFTER_NS: u64 = 300_000_000;
/// Leases looked at by every change of one, so that those that are over go.
const SWEPT_PER_CHANGE: usize = 4;
/// Log times of two groups that were stamped at one instant differ by at most this much: each is off by half of it.
pub const GROUPS_APART_NS: u64 = 2 * CLOCK_ERROR_MS_MAX * 1_000_000;

/// What is shared out: a limit's counter in one calendar window. Slot first, so that a slot is one contiguous range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LeaseKey {
    /// The slot whose group is the parent, see [`slot_of_lease`].
    pub slot: Slot,
    /// The limit.
    pub limit: LimitNumber,
    /// When the limit began to count.
    pub born: ControlRevision,
    /// The limit's key parts.
    pub key: KeyedId,
    /// Budgets: when the window begins, nanoseconds of log time since 1970. Other limits: 0. In a parent's accounts of
    /// flows: when the life of the child's share began.
    pub window_ns: u64,
}

impl LeaseKey {
    /// The lease of a counter in a window.
    pub fn of(bucket: BucketKey, window_ns: u64) -> Self {
        let BucketKey { slot, limit, born, key } = bucket;
        Self { slot, limit, born, key, window_ns }
    }
}

/// The slot whose group is a lease's parent: SHA-256 over `"nethical lease 1"`, limit (u32) and key, little endian; its
/// first two bytes mod 4,096. Frozen.
pub fn slot_of_lease(limit: LimitNumber, key: KeyedId) -> Slot {
    let mut hash = Sha256::new_with_prefix(b"nethical lease 1");
    hash.update(u64::from(limit.0).to_le_bytes());
    hash.update(key.0);
    let digest = hash.finalize();
    Slot(u16::from_le_bytes([digest[0], digest[1]]) % SLOTS)
}

/// What a child says of its share. Within one life of the share, all of it only rises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CountersV1 {
    /// The parent's log time at which this life of the share began; 0 before the first, and for stocks.
    pub born_ns: u64,
    /// Ever received.
    pub granted: u64,
    /// Ever given back.
    pub returned: u64,
    /// Spent by decisions of the child. Parents read it of flows only: of reservations that count, it falls again.
    pub spent: u64,
    /// The child's log time at which it spent last.
    pub spent_at_ns: u64,
}

impl CountersV1 {
    /// Received, and neither spent nor given back.
    pub fn balance(&self) -> u64 {
        self.granted.saturating_sub(self.returned).saturating_sub(self.spent)
    }

    /// Spent beyond what was received: by settlements that owe, and ahead of grants.
    pub fn debt(&self) -> u64 {
        self.spent.saturating_sub(self.granted.saturating_sub(self.returned))
    }
}

/// A child's side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// What there is of it.
    pub counters: CountersV1,
    /// The parent's log time at which it is void; [`u64::MAX`] for stocks.
    pub until_ns: u64,
    /// Until then, in log time, the parent's last refusal stands.
    pub refused_until_ns: u64,
    /// When the parent, at its last refusal, would have had enough; 0 where that is not known.
    pub enough_at_ns: u64,
    /// The last refusal was of something critical, so there is nothing for anybody.
    pub is_refused_to_all: bool,
    /// What is kept for actions that have not spent it yet, because they still wait for shares of other limits …
    pub pinned: u64,
    /// … and until when, in log time, nobody may have it back. Else actions that need several shares could take them from
    /// each other for ever.
    pub pinned_until_ns: u64,
    /// What was counted ahead of grants is owed until then, in log time, unless the share lives longer; [`u64::MAX`] for
    /// stocks.
    pub owed_until_ns: u64,
    /// Until then, in log time, a limit that refuses nobody is violated by what the share is too small for …
    pub tight_until_ns: u64,
    /// … and by what is critical.
    pub tight_critical_until_ns: u64,
}

impl Share {
    /// What may still be spent here. A share stops earlier than its parent counts, by as much as their clocks may differ.
    pub fn balance(&self, now_ns: u64) -> u64 {
        if now_ns < self.until_ns.saturating_sub(GROUPS_APART_NS) { self.counters.balance() } else { 0 }
    }

    /// Keeps so much; several who wait are kept the most that one asked for.
    fn pin(&mut self, (amount, for_ns): (u64, u64), now_ns: u64) {
        if amount > 0 {
            let (before, until_ns) = (self.kept(now_ns), now_ns.saturating_add(for_ns));
            let until_ns = if before > 0 { self.pinned_until_ns.max(until_ns) } else { until_ns };
            (self.pinned, self.pinned_until_ns) = (before.max(amount), until_ns);
        }
    }

    /// What nobody may have back now.
    pub fn kept(&self, now_ns: u64) -> u64 {
        if now_ns < self.pinned_until_ns { self.pinned } else { 0 }
    }

    /// True where the parent's last refusal stands, which it does longer for who waited for it.
    pub fn is_refused(&self, has_asked: bool, now_ns: u64) -> bool {
        let longer_ns = if has_asked && self.refused_until_ns > 0 { REFUSAL_NS } else { 0 };
        now_ns < self.refused_until_ns.saturating_add(longer_ns)
    }

    /// What it owes.
    pub fn debt(&self, now_ns: u64) -> u64 {
        if now_ns < self.until_ns.max(self.owed_until_ns) { self.counters.debt() } else { 0 }
    }
}

/// The parent's side, one for each child.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Ever granted.
    pub granted: u64,
    /// Ever confirmed as given back.
    pub returned: u64,
    /// Ever confirmed as spent; of stocks 0.
    pub spent: u64,
    /// When it is void, log time; [`u64::MAX`] for stocks.
    pub until_ns: u64,
}

impl Account {
    /// What the child may still spend; of stocks, with what it has spent.
    pub fn outstanding(&self) -> u64 {
        self.granted.saturating_sub(self.returned).saturating_sub(self.spent)
    }
}

/// What a child tells its parent of a lease, and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LeaseAskV1 {
    /// Which.
    pub lease: LeaseKey,
    /// The child's group.
    pub child: u32,
    /// What it has.
    pub counters: CountersV1,
    /// Less would not help it.
    pub need: u64,
    /// What all who wait for it there need together, at least `need`.
    pub waiting: u64,
    /// More than this it would not use soon.
    pub want: u64,
    /// Of what is granted, so much is kept for who waits for it …
    pub pinned: u64,
    /// … for so many nanoseconds, see [`Leases::pin`].
    pub pinned_ns: u64,
    /// It may have what the limit keeps back.
    pub is_critical: bool,
}

impl LeaseAskV1 {
    /// Asks for another action's need too. The least need is what must be had for the ask to help anybody.
    pub fn join(&mut self, other: &LeaseAskV1) {
        self.need = self.need.min(other.need);
        self.waiting = self.waiting.saturating_add(other.waiting);
        self.want = self.want.max(other.want).max(self.waiting);
        self.pinned = self.pinned.saturating_add(other.pinned);
        self.pinned_ns = self.pinned_ns.max(other.pinned_ns);
    }
}

/// The parent's answer to an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// When this life of the share began, and when it ends; see [`CountersV1::born_ns`] and [`Share::until_ns`].
    pub life_ns: (u64, u64),
    /// Ever granted to the child in that life.
    pub granted: u64,
    /// How much less the child holds, by what the ask said.
    pub freed: u64,
    /// Nanoseconds until there would be enough; 0 where there is, or where that is not known.
    pub wait_ns: u64,
}

/// Both sides of the leases that a group is part of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    /// This group as a child.
    pub(crate) shares: BTreeMap<LeaseKey, Share>,
    /// This group as a parent, by child.
    pub(crate) accounts: BTreeMap<(LeaseKey, u32), Account>,
    /// The latest beginning of a share's life that was forgotten: a grant of one no later is late and must not bring it
    /// back. Shares live longer than clocks are apart, so no new one is hit.
    pub(crate) forgotten_ns: u64,
}

impl Leases {
    /// This group's share of a lease.
    pub fn share(&self, lease: &LeaseKey) -> Share {
        self.shares.get(lease).copied().unwrap_or_default()
    }

    /// What children hold of a lease, by group. Of flows that is all lives of all shares of the counter.
    pub fn held(&self, lease: &LeaseKey, is_flow: bool) -> impl Iterator<Item = (u32, Account)> {
        let last = if is_flow { LeaseKey { window_ns: u64::MAX, ..*lease } } else { *lease };
        self.accounts.range((*lease, 0)..=(last, u32::MAX)).map(|((_, child), account)| (*child, *account))
    }

    /// True where one more account would be too many.
    pub fn is_full_for(&self, place: &(LeaseKey, u32)) -> bool {
        !self.accounts.contains_key(place) && self.accounts.len() >= LEASES_MAX
    }

    /// The parent's side of an ask for a stock: notes what came back, and grants from what is left of `cap`. `None` where
    /// the bounds of this group are reached.
    pub fn grant(&mut self, ask: &LeaseAskV1, cap: u64) -> Option<Granted> {
        let place = (ask.lease, ask.child);
        if self.is_full_for(&place) {
            return None;
        }
        let others = self.held(&ask.lease, false).filter(|(child, _)| *child != ask.child);
        let elsewhere: u64 = others.map(|(_, account)| account.outstanding()).sum();
        let elsewhere = if probe::planted("lease-granted-twice") { 0 } else { elsewhere };
        let account = self.accounts.entry(place).or_insert(Account { until_ns: u64::MAX, ..Account::default() });
        let told = ask.counters;
        always!(told.granted <= account.granted, "lease-granted-first", "{ask:?} and the parent knows {account:?}");
        let before = account.returned;
        account.returned = before.max(told.returned.min(account.granted));
        // A grant that the child has not heard of yet is told again, and nothing is added to it.
        if told.granted >= account.granted {
            let free = cap.saturating_sub(elsewhere).saturating_sub(account.outstanding());
            let grant = granted_of(free, ask);
            account.granted = account.granted.saturating_add(grant);
            sometimes!(grant > 0, "a lease was granted");
            sometimes!(grant == 0 && ask.need > 0, "a parent had no lease left");
        }
        let (granted, freed) = (account.granted, account.returned - before);
        Some(Granted { life_ns: (0, u64::MAX), granted, freed, wait_ns: 0 })
    }

    /// The child's side of a grant: the counter rises, a new life of the share replaces the old one, or the refusal is
    /// noted.
    pub fn take(&mut self, take: &LeaseTakeV1, now_ns: u64) -> Option<Share> {
        if !self.shares.contains_key(&take.lease) && self.shares.len() >= LEASES_MAX {
            return None;
        }
        let (born_ns, until_ns) = take.life_ns;
        // A share that a refusal has left meanwhile is another life.
        let is_of_share = self.shares.get(&take.lease).is_some_and(|share| share.counters.born_ns == born_ns);
        let is_late = born_ns > 0 && born_ns <= self.forgotten_ns && !is_of_share;
        if is_late {
            sometimes!(true, "a grant came after its share was forgotten");
            return None;
        }
        let share = self.shares.entry(take.lease).or_default();
        // A new life takes over what was counted ahead in the last one, since no parent has heard of it.
        let spent = share.debt(now_ns);
        if (take.granted > 0 || spent > 0) && born_ns > share.counters.born_ns {
            let spent_at_ns = if spent > 0 { share.counters.spent_at_ns } else { 0 };
            share.counters = CountersV1 { born_ns, spent, spent_at_ns, ..CountersV1::default() };
            share.until_ns = until_ns;
        }
        if born_ns == share.counters.born_ns {
            if take.granted > share.counters.granted {
                share.pin((take.pinned, take.pinned_ns), now_ns);
            }
            share.counters.granted = share.counters.granted.max(take.granted);
            share.until_ns = share.until_ns.max(until_ns);
        }
        let after = |wait_ns: u64| if take.refused { now_ns.saturating_add(wait_ns) } else { 0 };
        let is_known = take.wait_ns > 0;
        share.refused_until_ns = after(if is_known { take.wait_ns.min(REFUSAL_NS) } else { REFUSAL_NS });
        share.enough_at_ns = if is_known { after(take.wait_ns) } else { 0 };
        share.is_refused_to_all = take.refused && take.is_critical;
        share.note_tight(take, now_ns);
        Some(*share)
    }

    /// An action that waits for shares of other limits keeps so much of this one for a while.
    ///
    /// It keeps what it has of the limits before the first that it is short of, and that one, for [`PINNED_NS`]; what comes
    /// of later ones only for [`PINNED_AFTER_NS`], while it lacks one before. So of actions that need several shares one
    /// goes ahead, and they neither take them from each other nor keep them from each other for ever.
    pub fn pin(&mut self, lease: &LeaseKey, amount: u64, now_ns: u64) {
        if let Some(share) = self.shares.get_mut(lease) {
            share.pin((amount, PINNED_NS), now_ns);
        }
    }

    /// An action that went ahead without spending of it keeps nothing of it any more.
    pub fn unpin(&mut self, lease: &LeaseKey, amount: u64) {
        if let Some(share) = self.shares.get_mut(lease) {
            share.pinned = share.pinned.saturating_sub(amount);
        }
    }

    /// The child gives back what it has not spent.
    pub fn give_back(&mut self, lease: &LeaseKey, now_ns: u64) -> Option<Share> {
        let share = self.shares.get_mut(lease)?;
        let idle = share.counters.balance().saturating_sub(share.kept(now_ns));
        sometimes!(idle > 0, "a lease was given back");
        let mut given = *share;
        given.counters.returned += idle;
        if !probe::planted("lease-returned-and-kept") {
            *share = given;
        }
        Some(given)
    }

    /// A decision spends what it was judged to have.
    pub fn spend(&mut self, lease: LeaseKey, cost: u64, now_ns: u64) {
        let share = self.shares.entry(lease).or_default();
        share.counters.spent = share.counters.spent.saturating_add(cost);
        share.counters.spent_at_ns = now_ns;
        share.pinned = share.pinned.saturating_sub(cost);
    }

    /// What a reservation held of a stock and did not use may be spent again, while its window lasts.
    pub fn unspend(&mut self, lease: &LeaseKey, unused: u64) {
        if let Some(share) = self.shares.get_mut(lease) {
            share.counters.spent = share.counters.spent.saturating_sub(unused);
        }
    }

    /// Forgets this group's share.
    pub fn forget(&mut self, lease: &LeaseKey) {
        if let Some(share) = self.shares.remove(lease) {
            self.forgotten_ns = self.forgotten_ns.max(share.counters.born_ns);
        }
    }

    /// The next few leases after one, round and round, on either side.
    pub fn next_after(&self, after: &LeaseKey) -> (Vec<LeaseKey>, Vec<(LeaseKey, u32)>) {
        let shares = self.shares.range(after..).chain(self.shares.range(..after)).map(|(lease, _)| *lease);
        let from = (*after, 0);
        let accounts = self.accounts.range(from..).chain(self.accounts.range(..from)).map(|(place, _)| *place);
        (shares.take(SWEPT_PER_CHANGE).collect(), accounts.take(SWEPT_PER_CHANGE).collect())
    }
}

impl Meter {
    /// As [`Meter::fit`] for a leased limit, of which this group has a share. Only the parent may say that none is left.
    ///
    /// What is kept for actions that wait is not there for one that does not. For one that has waited a refusal stands
    /// longer, so that it is denied by it however long its way back here took.
    pub fn fit_of(&self, share: &Share, claim: Claim, now_ns: u64) -> Fit {
        let Claim { cost, is_critical, has_asked } = claim;
        let kept = if has_asked { 0 } else { share.kept(now_ns) };
        if cost == 0 || cost <= share.balance(now_ns).saturating_sub(kept) {
            return Fit::Room;
        }
        if cost > self.cap() {
            return Fit::Never;
        }
        // What was refused to others may be kept back for what is critical.
        if !share.is_refused(has_asked, now_ns) || is_critical && !share.is_refused_to_all {
            return Fit::Short;
        }
        sometimes!(matches!(self, Self::Budget { .. }), "a leased budget ran out");
        sometimes!(self.is_flow(), "a leased rate or rolling window had no room");
        match *self {
            Self::Budget { window_ns, .. } => Fit::After(window_left_ns(now_ns, window_ns)),
            Self::Rate { .. } | Self::Rolling { .. } => Fit::After(share.enough_at_ns.saturating_sub(now_ns).max(1)),
            Self::Lifetime { .. } | Self::Concurrency { .. } => Fit::Exhausted,
        }
    }
}

/// What is granted of `free`: the need or nothing; then what else is waited for, as far as there is; and of what is wanted
/// beyond that at most a quarter of what is left, so that one busy child does not empty the parent.
pub(super) fn granted_of(free: u64, ask: &LeaseAskV1) -> u64 {
    let Some(left) = free.checked_sub(ask.need).filter(|_| ask.need > 0) else { return 0 };
    let waited_for = ask.waiting.saturating_sub(ask.need).min(left);
    let granted = ask.need + waited_for;
    granted + ask.want.saturating_sub(granted).min((left - waited_for) / 4)
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
