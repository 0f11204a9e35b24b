//! The online auditor of limits: adds up, from sealed leaves alone, what was let through, and tells how much of it was more
//! than a limit allows. It must always be nothing; `nethical_quota_overshoot_units_total` says so.
//!
//! It shares no arithmetic with the ledger: it knows who a limit counts together, and compares plain sums. It adds up all
//! groups that this node hosts, so limits that partitions share are seen whole where a node hosts all partitions; what may be
//! given back is added up by group, since the leaves of several groups come here in no order. It is
//! bounded, and what it does not know (before its start, beyond its bounds, before a limit was changed) counts as nothing:
//! it may miss an overshoot and never invents one. It decides nothing and holds nobody up.

use std::collections::{BTreeMap, VecDeque};

use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1, ReservationLeaf};
use nethical_governance::command::ActorKeys;
use nethical_governance::quota::Subject;
use nethical_governance::quota::table::Limit;
use nethical_protocol::control::LimitKind;
use nethical_protocol::ids::{ControlRevision, GroupId, KeyedId, LimitNumber, Slot};
use nethical_protocol::limits::{OVERSHOOT_COUNTERS_MAX, OVERSHOOT_HOLDS_MAX};

/// The number that must stay 0.
pub const OVERSHOOT_TOTAL: &str = "nethical_quota_overshoot_units_total";
const SECOND_NS: u64 = 1_000_000_000;
/// Slots of a rate (a second each) and of a rolling window.
const SLOTS: usize = 32;

/// (limit, revision of its amounts, who is counted together, the group where only its part is counted).
type Key = (LimitNumber, ControlRevision, KeyedId, Option<GroupId>);
/// A reservation: its group and the leaf of its decision.
type Held = (GroupId, u64);

/// What was let through under one counter.
#[derive(Debug, Default)]
struct Sum {
    /// Units by slot of time, oldest first: (slot, units). Budgets keep one slot, lifetime caps slot 0.
    slots: VecDeque<(u64, u64)>,
    live: u64,
}

/// All sums of a node.
#[derive(Debug, Default)]
pub struct Overshoot {
    sums: BTreeMap<Key, Sum>,
    /// What reservations hold: (counter, slot, units).
    held: BTreeMap<Held, Vec<(Key, u64, u64)>>,
    /// Leaves seen, by group.
    seen: BTreeMap<GroupId, u64>,
}

impl Overshoot {
    /// Adds a leaf of a group; gives the units that it let through beyond a limit. `limit_of` gives the limits in force now.
    pub fn note(&mut self, group: GroupId, leaf: &LeafV1, limit_of: impl Fn(LimitNumber) -> Option<Limit>) -> u64 {
        let next = leaf.leaf_index + 1;
        let seen = std::mem::replace(self.seen.entry(group).or_insert(leaf.leaf_index), next);
        if next <= seen {
            self.seen.insert(group, seen);
            return 0;
        }
        if leaf.leaf_index > seen {
            // Behind a snapshot, leaves come from other replicas and not by here: with them the ends of reservations.
            self.forget();
        }
        match &leaf.event {
            LeafEvent::Decision(decision) if decision.verdict < 2 => {
                self.decided((group, leaf.leaf_index), leaf.now_ns, decision, limit_of)
            }
            LeafEvent::ReservationEnded(ended) => {
                self.ended((group, ended.decision), ended, limit_of);
                0
            }
            _ => 0,
        }
    }

    fn decided(
        &mut self,
        place: Held,
        now_ns: u64,
        decision: &DecisionLeaf,
        limit_of: impl Fn(LimitNumber) -> Option<Limit>,
    ) -> u64 {
        let mut beyond = 0;
        for quota in decision.quota.iter().filter(|quota| quota.flags >> 1 == 0) {
            let Some(limit) = limit_of(LimitNumber(quota.limit)) else { continue };
            // Decided under other amounts than those that are known here.
            if limit.changed.0 > decision.control_rev {
                continue;
            }
            let counts_live = matches!(limit.fact.kind, LimitKind::Concurrency { .. });
            let costs = decision.costs.iter().enumerate().filter(|(_, (unit, _))| *unit == limit.fact.unit);
            let (cost, is_held) = costs.fold((0u64, false), |(sum, held), (at, (_, amount))| {
                (sum.saturating_add(*amount), held || decision.reserved >> at & 1 == 1)
            });
            let cost = if limit.fact.tenant.is_none() { 1 } else { cost };
            let part = (limit.is_leased && (counts_live || is_held)).then_some(place.0);
            let key = (limit.fact.number, limit.changed, subject_of(decision).counter(&limit).key, part);
            let slot = slot_of(&limit.fact.kind, now_ns);
            if counts_live && decision.reserved == 0 {
                continue;
            }
            self.make_room(&key);
            let sum = self.sums.entry(key).or_default();
            if counts_live {
                sum.live += 1;
            } else {
                sum.add(slot, cost);
            }
            beyond += sum.beyond(&limit.fact.kind).min(cost.max(1));
            if counts_live || is_held {
                self.hold(place, (key, slot, cost));
            }
        }
        beyond
    }

    fn make_room(&mut self, key: &Key) {
        if !self.sums.contains_key(key) && self.sums.len() >= OVERSHOOT_COUNTERS_MAX {
            self.forget();
        }
    }

    /// Everything is forgotten together: a sum without what came before it is only too small.
    fn forget(&mut self) {
        self.sums.clear();
        self.held.clear();
    }

    fn hold(&mut self, place: Held, what: (Key, u64, u64)) {
        if !self.held.contains_key(&place) && self.held.len() >= OVERSHOOT_HOLDS_MAX {
            return self.forget();
        }
        self.held.entry(place).or_default().push(what);
    }

    /// What a reservation did not use is not counted any more. Use beyond the reserve is the client's word, not admitted.
    fn ended(&mut self, place: Held, ended: &ReservationLeaf, limit_of: impl Fn(LimitNumber) -> Option<Limit>) {
        for (key, slot, units) in self.held.remove(&place).unwrap_or_default() {
            let Some(limit) = limit_of(key.0) else { continue };
            let costs = ended.costs.iter().find(|(unit, ..)| *unit == limit.fact.unit);
            let unused = costs.map_or(0, |(_, reserved, used)| reserved.saturating_sub(*used)).min(units);
            if let Some(sum) = self.sums.get_mut(&key) {
                sum.live = sum.live.saturating_sub(1);
                sum.take(slot, unused);
            }
        }
    }
}

impl Sum {
    /// Leaves of several groups come in no order of time; what is older than all slots is left out.
    fn add(&mut self, slot: u64, units: u64) {
        let at = self.slots.partition_point(|(known, _)| *known < slot);
        match self.slots.get_mut(at) {
            Some((known, sum)) if *known == slot => *sum = sum.saturating_add(units),
            _ => self.slots.insert(at, (slot, units)),
        }
        if self.slots.len() > SLOTS {
            self.slots.pop_front();
        }
    }

    fn take(&mut self, slot: u64, units: u64) {
        if let Some((_, sum)) = self.slots.iter_mut().find(|(known, _)| *known == slot) {
            *sum = sum.saturating_sub(units);
        }
    }

    /// Units beyond what the limit allows, in whatever stretch of slots is worst.
    fn beyond(&self, kind: &LimitKind) -> u64 {
        let over = |sum: u64, cap: u64| sum.saturating_sub(cap);
        match *kind {
            LimitKind::Concurrency { cap } => over(self.live, cap),
            LimitKind::Budget { cap, .. } | LimitKind::Lifetime { cap } => {
                self.slots.iter().map(|(_, sum)| over(*sum, cap)).max().unwrap_or(0)
            }
            LimitKind::Rolling { cap, .. } => self.worst(|slots| (slots <= SLOTS as u64).then_some(cap)),
            LimitKind::Rate { amount, period_s, burst } => self.worst(|slots| {
                let earned = (u128::from(amount) * u128::from(slots)).div_ceil(u128::from(period_s.max(1)));
                Some(burst.saturating_add(u64::try_from(earned).unwrap_or(u64::MAX)))
            }),
        }
    }

    /// The worst stretch: `allowed` gives what may be let through within so many slots.
    fn worst(&self, allowed: impl Fn(u64) -> Option<u64>) -> u64 {
        let mut worst = 0;
        for (first, (from, _)) in self.slots.iter().enumerate() {
            let mut sum = 0u64;
            for (slot, units) in self.slots.iter().skip(first) {
                sum = sum.saturating_add(*units);
                let Some(most) = allowed(slot - from + 1) else { break };
                worst = worst.max(sum.saturating_sub(most));
            }
        }
        worst
    }
}

/// The slot of an instant. Slots of a rolling window are so short that 32 of them never reach beyond it.
fn slot_of(kind: &LimitKind, now_ns: u64) -> u64 {
    match *kind {
        LimitKind::Rate { .. } => now_ns / SECOND_NS,
        LimitKind::Budget { window_s, .. } => now_ns / window_s.max(1).saturating_mul(SECOND_NS),
        LimitKind::Rolling { window_s, .. } => {
            now_ns / (window_s.max(1).saturating_mul(SECOND_NS) / SLOTS as u64).max(1)
        }
        LimitKind::Lifetime { .. } | LimitKind::Concurrency { .. } => 0,
    }
}

fn subject_of(decision: &DecisionLeaf) -> Subject {
    let DecisionLeaf { slot, tenant, agent, session, cohort, tool, region, .. } = *decision;
    Subject {
        actor: ActorKeys { slot: Slot(slot), tenant, agent },
        session,
        cohort,
        tool,
        region,
        is_critical: false,
        has_asked: false,
    }
}

#[cfg(test)]
mod tests {
    use nethical_audit::leaf::QuotaLeaf;
    use nethical_governance::quota::table::LimitTable;
    use nethical_protocol::control::{KeyPart, LimitFact, LimitMode, Overrun, Placement};

    use super::*;

    fn sum(adds: &[(u64, u64)]) -> Sum {
        let mut sum = Sum::default();
        adds.iter().for_each(|(slot, units)| sum.add(*slot, *units));
        sum
    }

    #[test]
    fn a_rate_may_be_used_with_its_burst_in_any_stretch_and_not_beyond() {
        let kind = LimitKind::Rate { amount: 2, period_s: 1, burst: 5 };
        assert_eq!(sum(&[(1, 5), (2, 2), (3, 2), (4, 2)]).beyond(&kind), 0);
        assert_eq!(sum(&[(1, 8), (9, 9)]).beyond(&kind), 2, "eight in one second, nine in another: 5 + 2 may");
        assert_eq!(sum(&[(9, 4), (1, 2), (8, 9)]).beyond(&kind), 4, "out of order: thirteen within two seconds");
    }

    #[test]
    fn budgets_count_by_window_and_rolling_caps_by_any_stretch() {
        let budget = LimitKind::Budget { cap: 5, window_s: 60 };
        assert_eq!((sum(&[(1, 5), (2, 5)]).beyond(&budget), sum(&[(1, 5), (1, 1)]).beyond(&budget)), (0, 1));
        let rolling = LimitKind::Rolling { cap: 5, window_s: 32 };
        assert_eq!((sum(&[(1, 3), (32, 3)]).beyond(&rolling), sum(&[(1, 3), (33, 3)]).beyond(&rolling)), (1, 0));
    }

    #[test]
    fn slots_are_bounded_and_keep_the_newest() {
        let mut all = Sum::default();
        (0..100).for_each(|slot| all.add(slot, 1));
        all.add(3, 1);
        assert_eq!((all.slots.len(), all.slots.front()), (SLOTS, Some(&(68, 1))));
    }

    const UNIT: KeyedId = KeyedId([9; 16]);
    const GROUP: GroupId = GroupId(2);

    /// A tenant's limit of one live reservation, shared by partitions.
    fn hall() -> Limit {
        let fact = LimitFact {
            number: LimitNumber(1),
            tenant: KeyedId([1; 16]),
            unit: UNIT,
            kind: LimitKind::Concurrency { cap: 1 },
            key: vec![KeyPart::Tenant],
            mode: LimitMode::Enforce,
            overrun: Overrun::Debt,
            reserve: 0,
            agent: KeyedId::NONE,
            tool: KeyedId::NONE,
            cohort: KeyedId::NONE,
        };
        let mut table = LimitTable::default();
        table.set(fact, ControlRevision(1), Placement::Spread);
        table.get(LimitNumber(1)).cloned().expect("it was set")
    }

    fn leaf(leaf_index: u64, event: LeafEvent) -> LeafV1 {
        LeafV1 { group: 2, era: 1, leaf_index, now_ns: SECOND_NS, term: 1, body_commitment: [0; 32], event }
    }

    fn reserved(leaf_index: u64) -> LeafV1 {
        let quota = vec![QuotaLeaf { limit: 1, cap: 1, remaining: 0, reset_ns: 0, flags: 0 }];
        let (costs, tenant) = (vec![(UNIT, 1)], KeyedId([1; 16]));
        let decision = DecisionLeaf { tenant, control_rev: 1, reserved: 1, costs, quota, ..DecisionLeaf::default() };
        leaf(leaf_index, LeafEvent::Decision(Box::new(decision)))
    }

    fn noted(leaves: &[LeafV1]) -> u64 {
        let mut overshoot = Overshoot::default();
        leaves.iter().map(|leaf| overshoot.note(GROUP, leaf, |_| Some(hall()))).sum()
    }

    #[test]
    fn what_was_not_seen_is_held_against_nobody() {
        assert_eq!(noted(&[reserved(0), reserved(1)]), 1, "two live under a cap of one");
        assert_eq!(noted(&[reserved(0), reserved(0)]), 0, "the same leaf again");
        assert_eq!(noted(&[reserved(0), reserved(2)]), 0, "its end may have been the leaf between");
        assert_eq!(noted(&[reserved(7), reserved(8)]), 1, "a trail may begin anywhere");
    }
}
