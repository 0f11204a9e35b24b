//! Tenant-wide and zone-wide hold-orders, as control facts brought them here. Agent-scoped ones live in the agent.
//!
//! Indexed by what they match, so that a decision costs eight look-ups however many orders are in force (the control
//! group admits at most `HOLDS_MAX`). An order is never dropped for lack of room: that would set somebody free.

use std::collections::BTreeMap;

use nethical_protocol::control::{HoldEffect, HoldFact};
use nethical_protocol::decision::Verdict;
use nethical_protocol::ids::{ControlRevision, KeyedId};

/// (tenant, cohort, action name); [`KeyedId::NONE`] matches everything.
type Scope = (KeyedId, KeyedId, KeyedId);

/// The hold-orders in force that are not about one agent.
#[derive(Debug, Clone, Default)]
pub struct ZoneHolds {
    orders: BTreeMap<ControlRevision, HoldFact>,
    /// Ids by scope, ascending. Follows from `orders`.
    by_scope: BTreeMap<Scope, Vec<ControlRevision>>,
}

impl ZoneHolds {
    /// Puts an order in force, in place of one with the same id.
    pub fn place(&mut self, fact: HoldFact) {
        self.lift(fact.id);
        let ids = self.by_scope.entry(scope_of(&fact)).or_default();
        let at = ids.partition_point(|id| *id < fact.id);
        ids.insert(at, fact.id);
        self.orders.insert(fact.id, fact);
    }

    /// Ends an order and gives it; `None` where it was not in force.
    pub fn lift(&mut self, id: ControlRevision) -> Option<HoldFact> {
        let fact = self.orders.remove(&id)?;
        let scope = scope_of(&fact);
        if let Some(ids) = self.by_scope.get_mut(&scope) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_scope.remove(&scope);
            }
        }
        Some(fact)
    }

    /// Calls `found` with each order that an action falls under.
    pub fn matching(
        &self,
        tenant: KeyedId,
        cohort: KeyedId,
        tool: KeyedId,
        mut found: impl FnMut(ControlRevision, Verdict),
    ) {
        if self.orders.is_empty() {
            return;
        }
        for scope in scopes(tenant, cohort, tool) {
            for id in self.by_scope.get(&scope).into_iter().flatten() {
                if let Some(fact) = self.orders.get(id) {
                    found(*id, verdict_of(fact.effect));
                }
            }
        }
    }

    /// All orders by id.
    pub fn iter(&self) -> impl Iterator<Item = &HoldFact> {
        self.orders.values()
    }

    /// How many are in force.
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// True where none is in force.
    pub fn is_empty(&self) -> bool {
        self.orders.is_empty()
    }
}

/// What a hold-order makes of an action.
pub fn verdict_of(effect: HoldEffect) -> Verdict {
    match effect {
        HoldEffect::Block => Verdict::Block,
        HoldEffect::Restrict => Verdict::Restrict,
    }
}

fn scope_of(fact: &HoldFact) -> Scope {
    (fact.tenant, fact.cohort, fact.tool)
}

/// Every scope that matches an action, each once: a part that the action leaves out only matches "everything".
fn scopes(tenant: KeyedId, cohort: KeyedId, tool: KeyedId) -> impl Iterator<Item = Scope> {
    (0..8u8).filter_map(move |bits| {
        let part = |bit: u8, id: KeyedId| match bits & bit {
            0 => Some(KeyedId::NONE),
            _ if id.is_none() => None,
            _ => Some(id),
        };
        Some((part(1, tenant)?, part(2, cohort)?, part(4, tool)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> KeyedId {
        KeyedId([byte; 16])
    }

    fn order(revision: u64, [tenant, cohort, tool]: [u8; 3]) -> HoldFact {
        HoldFact {
            id: ControlRevision(revision),
            tenant: id(tenant),
            cohort: id(cohort),
            tool: id(tool),
            effect: HoldEffect::Block,
            until_ns: 0,
        }
    }

    fn found(holds: &ZoneHolds, [tenant, cohort, tool]: [u8; 3]) -> Vec<u64> {
        let mut ids = Vec::new();
        holds.matching(id(tenant), id(cohort), id(tool), |id, _| ids.push(id.0));
        ids.sort_unstable();
        ids
    }

    #[test]
    fn the_index_finds_what_a_scan_finds() {
        let mut holds = ZoneHolds::default();
        let mut revision = 0;
        for tenant in 0..3 {
            for cohort in 0..3 {
                for tool in 0..3 {
                    revision += 1;
                    holds.place(order(revision, [tenant, cohort, tool]));
                }
            }
        }
        holds.lift(ControlRevision(5));
        for action in (0..27).map(|n| [n / 9, n / 3 % 3, n % 3]) {
            let fits = |part: KeyedId, byte: u8| part.is_none() || part == id(byte);
            let scanned: Vec<u64> = holds
                .iter()
                .filter(|o| fits(o.tenant, action[0]) && fits(o.cohort, action[1]) && fits(o.tool, action[2]))
                .map(|o| o.id.0)
                .collect();
            assert_eq!(found(&holds, action), scanned, "{action:?}");
        }
    }

    #[test]
    fn lifting_an_order_twice_changes_nothing() {
        let mut holds = ZoneHolds::default();
        holds.place(order(1, [0, 0, 0]));
        holds.place(order(1, [1, 0, 0]));
        assert_eq!((found(&holds, [2, 2, 2]), found(&holds, [1, 2, 2])), (vec![], vec![1]));
        assert!(holds.lift(ControlRevision(1)).is_some());
        assert!(holds.lift(ControlRevision(1)).is_none());
        assert!(holds.is_empty() && holds.by_scope.is_empty());
    }
}
