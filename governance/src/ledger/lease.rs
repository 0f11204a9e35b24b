//! Leases in the ledger: the parent's grants, the child's takes and returns, each at a position of its own log.
//!
//! A group speaks only of windows that are not past by its own log time, and of limits that it knows as the asker does;
//! everything else has no effect, and whoever asked tries again. Nothing here makes a leaf: what is spent is in the leaves
//! of decisions.

use nethical_protocol::limits::LIMITS_MATCHING_MAX;
use nethical_protocol::sometimes;

use super::Ledger;
use crate::command::LeaseTakeV1;
use crate::outcome::OutcomeV1;
use crate::quota::Judgement;
use crate::quota::ahead::AheadV1;
use crate::quota::lease::{Granted, LeaseAskV1, LeaseKey, PINNED_AFTER_NS, PINNED_NS};
use crate::quota::table::Limit;

/// A share is asked for in pieces of at least this part of the cap.
const PIECES: u64 = 16;
/// And of at least this part of what was spent in the window so far.
const OF_SPENT: u64 = 4;

impl Ledger {
    /// What to ask the parents for of all limits that an action is short of, by number; and keeps for it what it has of
    /// those before. `None` where it is short of nothing. Of more than [`LIMITS_MATCHING_MAX`] the rest has to wait for
    /// another round.
    pub(super) fn lease_short(&mut self, judgement: &Judgement, is_critical: bool) -> Option<OutcomeV1> {
        let shorts: Vec<(LeaseKey, u64)> = judgement.shorts().take(LIMITS_MATCHING_MAX).collect();
        let (first, _) = *shorts.first()?;
        sometimes!(true, "a share of a limit was too small");
        sometimes!(shorts.len() > 1, "shares of several limits were too small");
        for (lease, cost) in judgement.had_before_short() {
            self.quota.leases.pin(&lease, cost, self.now_ns);
        }
        let asks = shorts.into_iter().map(|(lease, cost)| {
            let ask = self.ask_for(lease, cost, is_critical);
            LeaseAskV1 { pinned_ns: if lease == first { PINNED_NS } else { PINNED_AFTER_NS }, ..ask }
        });
        Some(OutcomeV1::LeaseShort(asks.collect()))
    }

    /// The need, and what the group would soon use beyond it.
    fn ask_for(&self, lease: LeaseKey, need: u64, is_critical: bool) -> LeaseAskV1 {
        let share = self.quota.leases.share(&lease);
        let cap = self.leased(&lease).map_or(0, |limit| limit.meter.cap());
        let need = need.saturating_add(share.debt(self.now_ns));
        // What is kept back is given out as it is needed and no sooner.
        let soon = if is_critical { need } else { (cap / PIECES).max(share.counters.spent / OF_SPENT) };
        let want = need.max(soon);
        let (child, counters) = (self.group, share.counters);
        LeaseAskV1 { lease, child, counters, need, waiting: need, want, pinned: need, pinned_ns: 0, is_critical }
    }

    /// What to ask a parent for of a limit that refuses nobody, as things are now: what is owed, and one unit, since a
    /// grant of any helps. `None` where there is no need any more.
    pub fn ask_ahead(&self, ahead: &AheadV1) -> Option<LeaseAskV1> {
        let AheadV1 { lease, is_critical } = *ahead;
        let cap = self.leased(&lease)?.meter.cap();
        let (share, now_ns) = (self.quota.leases.share(&lease), self.now_ns);
        let owed = share.debt(now_ns);
        if owed == 0 && share.balance(now_ns) > 0 && !share.is_tight(is_critical, now_ns) {
            return None;
        }
        let (child, counters, waiting) = (self.group, share.counters, owed.saturating_add(1));
        let soon = if is_critical { 0 } else { (cap / PIECES).max(counters.spent / OF_SPENT) };
        let want = waiting.max(soon);
        Some(LeaseAskV1 { lease, child, counters, need: 1, waiting, want, pinned: 0, pinned_ns: 0, is_critical })
    }

    /// The parent's side.
    pub(super) fn grant_lease(&mut self, ask: &LeaseAskV1) -> OutcomeV1 {
        let Some(meter) = self.leased(&ask.lease).map(|limit| limit.open_to(ask.is_critical)) else {
            return OutcomeV1::NoEffect;
        };
        self.quota.sweep_leases(&ask.lease, self.now_ns);
        let granted = match meter.is_flow() {
            true => self.quota.grant_flow(meter, ask, self.now_ns),
            false => self.quota.leases.grant(ask, meter.cap()),
        };
        let Some(Granted { life_ns, granted, freed, wait_ns }) = granted else { return OutcomeV1::NoEffect };
        let held = self.quota.leases.held(&ask.lease, meter.is_flow());
        let others = held.filter(|(child, account)| *child != ask.child && account.outstanding() > 0);
        let mut others: Vec<u32> = others.map(|(child, _)| child).collect();
        others.sort_unstable();
        others.dedup();
        OutcomeV1::LeaseGranted { life_ns, granted, freed, wait_ns, others }
    }

    /// The child's side: what is granted may be spent from here on.
    pub(super) fn take_lease(&mut self, take: &LeaseTakeV1) -> OutcomeV1 {
        if self.leased(&take.lease).is_none() {
            return OutcomeV1::NoEffect;
        }
        self.quota.sweep_leases(&take.lease, self.now_ns);
        let taken = self.quota.leases.take(take, self.now_ns);
        taken.map_or(OutcomeV1::NoEffect, |share| OutcomeV1::LeaseChanged(share.counters))
    }

    /// The child's side: what is not spent goes back.
    pub(super) fn return_lease(&mut self, lease: &LeaseKey) -> OutcomeV1 {
        let given = self.quota.leases.give_back(lease, self.now_ns);
        given.map_or(OutcomeV1::NoEffect, |share| OutcomeV1::LeaseChanged(share.counters))
    }

    /// The limit of a lease, where it is known here as whoever names it knows it, and the window is neither past nor far
    /// ahead.
    fn leased(&self, lease: &LeaseKey) -> Option<&Limit> {
        let limit = self.quota.limits.get(lease.limit).filter(|limit| limit.is_leased && limit.born == lease.born)?;
        let (meter, here_ns) = (limit.meter, limit.meter.lease_window(self.now_ns));
        let is_near = match here_ns {
            0 => lease.window_ns == 0,
            _ => !meter.is_past(lease.window_ns, self.now_ns) && !meter.is_past(here_ns, lease.window_ns),
        };
        is_near.then_some(limit)
    }
}
