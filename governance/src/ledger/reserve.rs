//! Reserve, settle, expire: a decision holds what it may use until somebody says what it used, or nobody did in time.
//!
//! - A commitment replaces what is held by what was used; a unit that it leaves out was used as reserved. What was used
//!   counts from the decision on, since that is when it was admitted; what goes beyond counts from now on.
//! - A release and an expiry give back what is held. Giving back never makes more room than there would be had it never
//!   been held: see [`crate::quota::bucket::Meter::refunded`].
//! - The end is remembered like a request. The same settlement again is a duplicate, another one a conflict, and both
//!   name the leaf that says how it ended, expiry included. Where even that is forgotten there is no such reservation.

use nethical_protocol::limits::LIMITS_MATCHING_MAX;

use super::expire::Timer;
use super::{Lapsed, LapsedV1, Ledger};
use crate::agent::AgentKey;
use crate::command::{DecideV1, SettleV1};
use crate::outcome::{EndV1, OutcomeV1, SettledV1};
use crate::reservation::{EXPIRED, Hold, Reservation, ReservationKey};

const SECOND_NS: u64 = 1_000_000_000;

impl Ledger {
    /// Reservations that live.
    pub fn reservation_count(&self) -> usize {
        self.reservations.len()
    }

    /// True where the agent and the group may have one more reservation, which holds so much.
    pub(super) fn may_reserve(&self, decide: &DecideV1, holds: &[Hold]) -> bool {
        let has_room = self.reservations.has_room(&AgentKey::from(decide.actor));
        has_room && holds.len() <= LIMITS_MATCHING_MAX && decide.reserve_ttl_s > 0
    }

    /// Keeps the holds of a decision that goes ahead; its leaf is the next one.
    pub(super) fn reserve(&mut self, decide: &DecideV1, holds: Vec<Hold>) {
        let key = ReservationKey { slot: decide.actor.slot, leaf_index: self.next_leaf };
        let until_ns = self.now_ns.saturating_add(u64::from(decide.reserve_ttl_s).saturating_mul(SECOND_NS));
        let costs = decide.costs.iter().filter(|cost| cost.is_reserved).copied().collect();
        let (agent, at_ns) = (AgentKey::from(decide.actor), self.now_ns);
        self.arm(until_ns, Timer::Reservation(key));
        self.reservations.insert(key, Reservation { agent, at_ns, until_ns, costs, holds });
    }

    pub(super) fn settle_reservation(&mut self, settle: &SettleV1) -> OutcomeV1 {
        let key = ReservationKey { slot: settle.slot, leaf_index: settle.decision };
        let request = key.request(settle.content, self.now_ms());
        let Some(reservation) = self.reservations.take(&key) else {
            let ended = self.dedup.answer(&request, self.now_ms());
            return ended.unwrap_or(OutcomeV1::NoReservation);
        };
        self.disarm(reservation.until_ns, Timer::Reservation(key));
        let end = if settle.is_release { EndV1::Released } else { EndV1::Committed };
        self.dedup.remember(&request, key.slot, self.next_leaf);
        OutcomeV1::Settled(self.end(key, &reservation, end, settle))
    }

    /// Called at its time, before the command that moved time: nobody settled it. Makes a leaf of its own.
    pub(super) fn expire_reservation(&mut self, key: ReservationKey) {
        let Some(reservation) = self.reservations.take(&key) else { return };
        let leaf_index = self.next_leaf;
        self.next_leaf += 1;
        self.dedup.remember(&key.request(EXPIRED, self.now_ms()), key.slot, leaf_index);
        let nothing = SettleV1::release(key.slot, key.leaf_index, EXPIRED);
        let settled = self.end(key, &reservation, EndV1::Expired, &nothing);
        self.lapsed.push(Lapsed { leaf_index, what: LapsedV1::Reservation(settled) });
    }

    fn end(&mut self, key: ReservationKey, ended: &Reservation, end: EndV1, settle: &SettleV1) -> SettledV1 {
        let now_ns = self.now_ns;
        let hold_of =
            |hold: &Hold| self.quota.settle_hold(hold, settle.used(hold.unit, hold.amount), ended.at_ns, now_ns);
        let quota = ended.holds.iter().filter_map(hold_of).collect();
        SettledV1 {
            end,
            decision: key.leaf_index,
            slot: key.slot,
            tenant: ended.agent.tenant,
            agent: ended.agent.agent,
            content: settle.content,
            costs: ended
                .costs
                .iter()
                .map(|cost| (cost.unit, cost.amount, settle.used(cost.unit, cost.amount)))
                .collect(),
            quota,
        }
    }
}
