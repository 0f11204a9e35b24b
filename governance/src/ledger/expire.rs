//! Time passes: log time moves forward, what is due lapses, and a little of what nobody needs any more is swept away.

use std::ops::Bound;

use nethical_protocol::ids::ControlRevision;
use nethical_protocol::sometimes;

use super::Ledger;
use crate::agent::AgentKey;
use crate::approval::ApprovalKey;
use crate::hold::ZoneHolds;
use crate::outcome::OutcomeV1;
use crate::reservation::ReservationKey;

/// Agents looked at by every decision, more than it can make.
pub(super) const SWEPT_PER_DECISION: usize = 2;
/// A tick has nothing else to do.
const SWEPT_PER_TICK: usize = 64;

/// What lapses by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The hold-order on an agent.
    Agent(AgentKey),
    /// A tenant-wide or zone-wide hold-order.
    Zone(ControlRevision),
    /// A reservation.
    Reservation(ReservationKey),
    /// An approval, which expires and later is forgotten.
    Approval(ApprovalKey),
}

impl Ledger {
    /// When the next thing lapses; an idle leader must let time pass (`Tick`) soon after.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.timers.first().map(|(due_ns, _)| *due_ns)
    }

    /// Moves log time to `now_ns`, never back, and ends what is due by then, in order of time. A hold-order is in
    /// force before its `until`, not at it.
    pub(super) fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        while let Some((due_ns, timer)) = self.timers.first().copied() {
            if due_ns > self.now_ns {
                break;
            }
            self.timers.pop_first();
            sometimes!(matches!(timer, Timer::Agent(_) | Timer::Zone(_)), "a hold lapsed");
            sometimes!(matches!(timer, Timer::Reservation(_)), "a reservation expired");
            match timer {
                Timer::Reservation(key) => self.expire_reservation(key),
                Timer::Approval(key) => self.lapse_approval(key, due_ns),
                Timer::Agent(key) => {
                    self.releases.remove(&key);
                    if let Some(agent) = self.agents.get_mut(&key) {
                        agent.release();
                        agent.last_ns = due_ns;
                    }
                }
                Timer::Zone(id) => {
                    self.holds.lift(id);
                }
            }
        }
        self.dedup.advance(self.now_ms());
    }

    /// Arms a timer; a time of 0 means never.
    pub(super) fn arm(&mut self, until_ns: u64, timer: Timer) {
        if until_ns != 0 {
            self.timers.insert((until_ns, timer));
        }
    }

    /// Disarms what [`Ledger::arm`] armed.
    pub(super) fn disarm(&mut self, until_ns: u64, timer: Timer) {
        self.timers.remove(&(until_ns, timer));
    }

    /// Timers follow from hold-orders, reservations and approvals; after a restore they are armed again.
    pub(crate) fn rearm_all(&mut self) {
        let agents = self.agents.iter().filter_map(|(key, agent)| Some((agent.hold?.until_ns, Timer::Agent(*key))));
        let zone = self.holds.iter().map(|fact| (fact.until_ns, Timer::Zone(fact.id)));
        let reserved = self.reservations.iter().map(|(key, held)| (held.until_ns, Timer::Reservation(*key)));
        let asked = self.approvals.iter().map(|(key, known)| (known.due_ns(self.now_ns), Timer::Approval(*key)));
        self.timers = agents.chain(zone).chain(reserved).chain(asked).filter(|(until_ns, _)| *until_ns != 0).collect();
    }

    /// Ends every hold-order, as only the planted bug `quarantine-lost-at-failover` does.
    pub fn release_all(&mut self) {
        self.timers.retain(|(_, timer)| matches!(timer, Timer::Reservation(_) | Timer::Approval(_)));
        self.holds = ZoneHolds::default();
        self.releases.clear();
        for agent in self.agents.values_mut() {
            agent.release();
        }
    }

    /// Nothing but time; what was due has lapsed already.
    pub(super) fn tick(&mut self) -> OutcomeV1 {
        self.quota.sweep(self.now_ns, SWEPT_PER_TICK);
        self.sweep_agents(SWEPT_PER_TICK);
        OutcomeV1::NoEffect
    }

    /// Looks at the next few agents, round and round, and forgets those of whom nothing needs remembering.
    pub(super) fn sweep_agents(&mut self, count: usize) {
        let from = self.swept_to.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut last, mut seen, mut dead) = (None, 0, Vec::new());
        for (key, agent) in self.agents.range((from, Bound::Unbounded)).take(count) {
            if agent.is_forgettable(self.now_ns) {
                dead.push(*key);
            }
            last = Some(*key);
            seen += 1;
        }
        self.swept_to = last.filter(|_| seen == count);
        for key in dead {
            self.agents.remove(&key);
        }
    }
}
