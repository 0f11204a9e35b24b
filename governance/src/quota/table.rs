//! The limits in force, by tenant, so that a decision looks only at its own tenant's.

use std::collections::BTreeMap;
use std::mem::discriminant;

use nethical_protocol::control::{LimitFact, Placement};
use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber};

use super::BucketKey;
use super::bucket::Meter;
use super::lease::LeaseKey;

/// A limit in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// What control said.
    pub fact: LimitFact,
    /// The revision since which its counters count.
    pub born: ControlRevision,
    /// The revision that gave it the amounts that it has: what was held under others is not given back.
    pub changed: ControlRevision,
    /// Its arithmetic.
    pub meter: Meter,
    /// It counts agents of several partitions, so each of them spends a share of its own.
    pub is_leased: bool,
}

impl Limit {
    /// What an action may fill: all of it, or as much as is not kept back for what is critical.
    pub fn open_to(&self, is_critical: bool) -> Meter {
        if is_critical { self.meter } else { self.meter.keeping(self.fact.reserve) }
    }

    /// The lease that a counter's spending falls under; `None` where the limit is exact here.
    pub fn lease_at(&self, key: BucketKey, now_ns: u64) -> Option<LeaseKey> {
        self.is_leased.then(|| LeaseKey::of(key, self.meter.lease_window(now_ns)))
    }
}

/// All limits of the zone that bind this group's tenants; at most `LIMITS_PER_TENANT_MAX` a tenant, by the control group.
#[derive(Debug, Clone, Default)]
pub struct LimitTable {
    /// Each tenant's limits by number.
    by_tenant: BTreeMap<KeyedId, Vec<Limit>>,
    /// Follows from `by_tenant`.
    tenant_of: BTreeMap<LimitNumber, KeyedId>,
}

impl LimitTable {
    /// Sets a limit of a tenant placed so. One of the same number is replaced and its counters go on, unless they counted
    /// something else (another tenant, another unit, a rate instead of a budget).
    pub fn set(&mut self, fact: LimitFact, revision: ControlRevision, placement: Placement) {
        let old = self.remove(fact.number).filter(|old| counts_alike(&old.fact, &fact));
        let changed = old.as_ref().filter(|old| old.fact.kind == fact.kind).map_or(revision, |old| old.changed);
        self.restore(fact, old.map_or(revision, |old| old.born), changed, placement);
    }

    /// Puts a limit in with a known beginning.
    pub(crate) fn restore(
        &mut self,
        fact: LimitFact,
        born: ControlRevision,
        changed: ControlRevision,
        placement: Placement,
    ) {
        let is_leased = fact.is_leased(placement);
        let meter = if is_leased { Meter::leased(&fact.kind) } else { Meter::of(&fact.kind) };
        self.tenant_of.insert(fact.number, fact.tenant);
        let limits = self.by_tenant.entry(fact.tenant).or_default();
        let at = limits.partition_point(|limit| limit.fact.number < fact.number);
        limits.insert(at, Limit { fact, born, changed, meter, is_leased });
    }

    /// Removes a limit. Its counters are never found again and swept in time.
    pub fn remove(&mut self, number: LimitNumber) -> Option<Limit> {
        let tenant = self.tenant_of.remove(&number)?;
        let limits = self.by_tenant.get_mut(&tenant)?;
        let at = limits.binary_search_by_key(&number, |limit| limit.fact.number).ok()?;
        let removed = limits.remove(at);
        if limits.is_empty() {
            self.by_tenant.remove(&tenant);
        }
        Some(removed)
    }

    /// The limits that bind a tenant's actions: its own by number, then those over every tenant.
    pub fn binding(&self, tenant: KeyedId) -> impl Iterator<Item = &Limit> {
        let zone = if tenant.is_none() { &[] } else { self.of(KeyedId::NONE) };
        self.of(tenant).iter().chain(zone)
    }

    /// A tenant's limits, by number.
    pub fn of(&self, tenant: KeyedId) -> &[Limit] {
        self.by_tenant.get(&tenant).map_or(&[], Vec::as_slice)
    }

    /// One limit.
    pub fn get(&self, number: LimitNumber) -> Option<&Limit> {
        let limits = self.of(*self.tenant_of.get(&number)?);
        limits.binary_search_by_key(&number, |limit| limit.fact.number).ok().map(|at| &limits[at])
    }

    /// All limits, by tenant and number.
    pub fn iter(&self) -> impl Iterator<Item = &Limit> {
        self.by_tenant.values().flatten()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tenant_of.len()
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.tenant_of.is_empty()
    }
}

fn counts_alike(old: &LimitFact, new: &LimitFact) -> bool {
    old.tenant == new.tenant && old.unit == new.unit && discriminant(&old.kind) == discriminant(&new.kind)
}
