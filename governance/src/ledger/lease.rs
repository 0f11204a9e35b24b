//! Leases in the ledger: the parent's grants, the child's takes and returns, each at a position of its own log.
//!
//! A group speaks only of windows that are not past by its own log time, and of limits that it knows as the asker does;
//! everything else has no effect, and whoever asked tries again. Nothing here makes a leaf: what is spent is in the leaves
//! of decisions.

use nethical_protocol::sometimes;

use super::Ledger;
use crate::command::LeaseTakeV1;
use crate::outcome::OutcomeV1;
use crate::quota::lease::{LeaseAskV1, LeaseKey};
use crate::quota::table::Limit;

/// A share is asked for in pieces of at least this part of the cap.
const PIECES: u64 = 16;
/// And of at least this part of what was spent in the window so far.
const OF_SPENT: u64 = 4;

impl Ledger {
    /// What to ask the parent for: the need, and what the group would soon use beyond it.
    pub(super) fn lease_short(&self, lease: LeaseKey, need: u64) -> OutcomeV1 {
        sometimes!(true, "a share of a limit was too small");
        let share = self.quota.leases.share(&lease);
        let cap = self.leased(&lease).map_or(0, |limit| limit.meter.cap());
        let want = need.max(cap / PIECES).max(share.spent / OF_SPENT);
        let (granted, returned) = (share.granted, share.returned);
        OutcomeV1::LeaseShort(LeaseAskV1 { lease, child: self.group, granted, returned, need, want })
    }

    /// The parent's side.
    pub(super) fn grant_lease(&mut self, ask: &LeaseAskV1) -> OutcomeV1 {
        let Some(cap) = self.leased(&ask.lease).map(|limit| limit.meter.cap()) else { return OutcomeV1::NoEffect };
        self.sweep_leases(&ask.lease);
        let Some(account) = self.quota.leases.grant(ask, cap) else { return OutcomeV1::NoEffect };
        let others = self.quota.leases.others(&ask.lease, ask.child);
        let others = others.filter(|(_, account)| account.outstanding() > 0);
        let others = others.map(|(group, account)| (group, account.granted, account.returned)).collect();
        OutcomeV1::LeaseGranted { granted: account.granted, others }
    }

    /// The child's side: what is granted may be spent from here on.
    pub(super) fn take_lease(&mut self, take: &LeaseTakeV1) -> OutcomeV1 {
        if self.leased(&take.lease).is_none() {
            return OutcomeV1::NoEffect;
        }
        self.sweep_leases(&take.lease);
        let taken = self.quota.leases.take(take.lease, take.granted, take.refused, self.now_ns);
        taken.map_or(OutcomeV1::NoEffect, |share| OutcomeV1::LeaseChanged {
            granted: share.granted,
            returned: share.returned,
        })
    }

    /// The child's side: what is not spent goes back.
    pub(super) fn return_lease(&mut self, lease: &LeaseKey) -> OutcomeV1 {
        let given = self.quota.leases.give_back(lease);
        given.map_or(OutcomeV1::NoEffect, |share| OutcomeV1::LeaseChanged {
            granted: share.granted,
            returned: share.returned,
        })
    }

    /// The limit of a lease, where it is known here as whoever names it knows it, and the window is neither past nor far
    /// ahead.
    fn leased(&self, lease: &LeaseKey) -> Option<&Limit> {
        let limit = self.quota.limits.get(lease.limit).filter(|limit| limit.is_leased && limit.born == lease.born)?;
        let here_ns = limit.meter.window_of(self.now_ns)?;
        let is_near =
            !limit.meter.is_past(lease.window_ns, self.now_ns) && !limit.meter.is_past(here_ns, lease.window_ns);
        is_near.then_some(limit)
    }

    fn sweep_leases(&mut self, after: &LeaseKey) {
        let (limits, now_ns) = (&self.quota.limits, self.now_ns);
        let is_over = |lease: &LeaseKey| {
            let limit = limits.get(lease.limit).filter(|limit| limit.born == lease.born);
            limit.is_none_or(|limit| limit.meter.is_past(lease.window_ns, now_ns))
        };
        self.quota.leases.sweep(after, is_over);
    }
}
