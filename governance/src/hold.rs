//! Tenant-wide and zone-wide hold-orders, as control facts brought them here. Agent-scoped ones live in the agent.
//!
//! Indexed by what they match, so that a decision costs one look-up for each sort of scope in force, of which there are
//! few, however many orders are (the control group admits at most `HOLDS_MAX`). An order is never dropped for lack of room: that would set somebody free.

use std::collections::BTreeMap;

use nethical_protocol::control::{HoldEffect, HoldFact};
use nethical_protocol::decision::Verdict;
use nethical_protocol::ids::{ControlRevision, KeyedId};
use sha2::{Digest, Sha256};

/// Tenant, cohort, action name, session and region; [`KeyedId::NONE`] matches everything.
type Scope = [KeyedId; 5];

/// The parts of an action that hold-orders look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its tenant.
    pub tenant: KeyedId,
    /// The cohort, or none.
    pub cohort: KeyedId,
    /// The action's name.
    pub tool: KeyedId,
    /// The session, or none.
    pub session: KeyedId,
    /// The region, by [`region_id`].
    pub region: KeyedId,
}

/// The hold-orders in force that are not about one agent.
#[derive(Debug, Clone, Default)]
pub struct ZoneHolds {
    orders: BTreeMap<ControlRevision, HoldFact>,
    /// Ids by scope, ascending. Follows from `orders`.
    by_scope: BTreeMap<Scope, Vec<ControlRevision>>,
    /// Which parts scopes name, with the number of scopes. Follows from `by_scope`.
    shapes: BTreeMap<[bool; 5], usize>,
}

impl ZoneHolds {
    /// Puts an order in force, in place of one with the same id.
    pub fn place(&mut self, fact: HoldFact) {
        self.lift(fact.id);
        let scope = scope_of(&fact);
        if !self.by_scope.contains_key(&scope) {
            *self.shapes.entry(shape_of(&scope)).or_default() += 1;
        }
        let ids = self.by_scope.entry(scope).or_default();
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
                self.forget_shape(&scope);
            }
        }
        Some(fact)
    }

    fn forget_shape(&mut self, scope: &Scope) {
        let shape = shape_of(scope);
        match self.shapes.get(&shape).copied() {
            Some(count) if count > 1 => self.shapes.insert(shape, count - 1),
            _ => self.shapes.remove(&shape),
        };
    }

    /// Calls `found` with each order that an action falls under.
    pub fn matching(&self, held: Held, mut found: impl FnMut(ControlRevision, Verdict)) {
        let parts = [held.tenant, held.cohort, held.tool, held.session, held.region];
        for shape in self.shapes.keys() {
            // A part that the action leaves out only matches "everything".
            let Some(scope) = scope_in(shape, &parts) else { continue };
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

/// What stands for a region's name in every tenant: a region is no secret of one of them. First 16 bytes of SHA-256.
pub fn region_id(name: &str) -> KeyedId {
    let mut id = KeyedId::NONE;
    if !name.is_empty() {
        let digest = Sha256::new_with_prefix(b"nethical region 1").chain_update(name).finalize();
        id.0.copy_from_slice(&digest[..16]);
    }
    id
}

fn scope_of(fact: &HoldFact) -> Scope {
    [fact.tenant, fact.cohort, fact.tool, fact.session, fact.region]
}

fn shape_of(scope: &Scope) -> [bool; 5] {
    scope.map(|part| !part.is_none())
}

fn scope_in(shape: &[bool; 5], parts: &Scope) -> Option<Scope> {
    let mut scope = [KeyedId::NONE; 5];
    for ((place, is_named), part) in scope.iter_mut().zip(shape).zip(parts) {
        if *is_named {
            *place = Some(*part).filter(|part| !part.is_none())?;
        }
    }
    Some(scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> KeyedId {
        KeyedId([byte; 16])
    }

    fn order(revision: u64, [tenant, cohort, tool, session, region]: [u8; 5]) -> HoldFact {
        HoldFact {
            id: ControlRevision(revision),
            tenant: id(tenant),
            cohort: id(cohort),
            tool: id(tool),
            effect: HoldEffect::Block,
            until_ns: 0,
            session: id(session),
            region: id(region),
        }
    }

    fn found(holds: &ZoneHolds, action: [u8; 5]) -> Vec<u64> {
        let [tenant, cohort, tool, session, region] = action.map(id);
        let mut ids = Vec::new();
        holds.matching(Held { tenant, cohort, tool, session, region }, |id, _| ids.push(id.0));
        ids.sort_unstable();
        ids
    }

    #[test]
    fn the_index_finds_what_a_scan_finds() {
        let mut holds = ZoneHolds::default();
        let every = |n: u32| [n / 81, n / 27 % 3, n / 9 % 3, n / 3 % 3, n % 3].map(|part| part as u8);
        (0..243).for_each(|n| holds.place(order(u64::from(n) + 1, every(n))));
        for lifted in [5, 17, 100] {
            holds.lift(ControlRevision(lifted));
        }
        for action in (0..243).map(every) {
            let parts = action.map(id);
            let fits =
                |order: &HoldFact| scope_of(order).iter().zip(parts).all(|(part, of)| part.is_none() || *part == of);
            let scanned: Vec<u64> = holds.iter().filter(|order| fits(order)).map(|order| order.id.0).collect();
            assert_eq!(found(&holds, action), scanned, "{action:?}");
        }
    }

    #[test]
    fn lifting_an_order_twice_changes_nothing() {
        let mut holds = ZoneHolds::default();
        holds.place(order(1, [0, 0, 0, 0, 0]));
        holds.place(order(1, [1, 0, 0, 0, 0]));
        assert_eq!((found(&holds, [2, 2, 2, 2, 2]), found(&holds, [1, 2, 2, 2, 2])), (vec![], vec![1]));
        assert!(holds.lift(ControlRevision(1)).is_some());
        assert!(holds.lift(ControlRevision(1)).is_none());
        assert!(holds.is_empty() && holds.by_scope.is_empty() && holds.shapes.is_empty());
    }
}
