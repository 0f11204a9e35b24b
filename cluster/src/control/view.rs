//! The zone's rules as a node knows them: names, tenant keys, limits, holds and bundles, folded from control events.
//!
//! A view only ever moves forward. Doors and actors read an `Arc` of it; partitions' apply never does.

use std::collections::BTreeMap;
use std::sync::Arc;

use nethical_audit::keys::{self, Keyring, TenantKeys};
use nethical_governance::policy::Bundle;
use nethical_protocol::control::{
    ControlFact, HoldFact, HoldScope, HoldSpec, LimitFact, LimitSpec, RevisedFact, TenantFact, TenantSpec,
};
use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber};

use super::bundles::Bundles;
use super::{EventV1, RevisedEventV1, quarantine};
use crate::prepared::Prepared;

/// Bundles kept so that older decisions can be put into words.
const BUNDLES_KEPT_MAX: usize = 16;

/// A tenant with its keys.
pub struct Tenant {
    /// What was asked.
    pub spec: TenantSpec,
    /// Prepared keys for ids, commitments and bodies.
    pub keys: TenantKeys,
    /// The tenant's own keyed id.
    pub id: KeyedId,
}

/// The rules at one revision.
#[derive(Clone, Default)]
pub struct ControlView {
    revision: ControlRevision,
    tenants: BTreeMap<String, Arc<Tenant>>,
    limits: BTreeMap<LimitNumber, Arc<LimitSpec>>,
    names: BTreeMap<LimitNumber, String>,
    holds: BTreeMap<ControlRevision, HoldSpec>,
    quarantine: quarantine::Sets,
    policy_rev: ControlRevision,
    /// Such as were put in force, by the revision that did so.
    bundles: BTreeMap<ControlRevision, Arc<Bundle>>,
    store: Bundles,
    shadow: Option<Arc<Bundle>>,
    facts: Arc<Vec<RevisedFact>>,
}

/// An event does not fit this node: its key is not here, or a bundle does not parse in this release.
#[derive(Debug, Clone, thiserror::Error)]
#[error("control revision {revision} cannot be taken in: {why}")]
pub struct ViewError {
    /// Which.
    pub revision: ControlRevision,
    /// Why.
    pub why: String,
}

impl ControlView {
    /// The view after one more event. Events are consecutive; others change nothing.
    pub fn fold(&mut self, event: &RevisedEventV1, ring: &Keyring, prepared: &Prepared) -> Result<(), ViewError> {
        if event.revision.0 != self.revision.0 + 1 {
            return Ok(());
        }
        let refuse = |why: String| ViewError { revision: event.revision, why };
        match &event.event {
            EventV1::Tenant { spec, wrapped_key } => {
                let key = unwrap_with(ring, wrapped_key).map_err(refuse)?;
                let keys = TenantKeys::new(&key);
                let id = keys.keyed_id("tenant", &spec.tenant);
                self.tenants.insert(spec.tenant.clone(), Arc::new(Tenant { spec: spec.clone(), keys, id }));
            }
            EventV1::Limit { number, spec } => {
                self.names.insert(*number, spec.id.clone());
                self.limits.insert(*number, Arc::new(spec.clone()));
            }
            EventV1::LimitRemoved { number, .. } => {
                self.limits.remove(number);
            }
            EventV1::Policy { digest, .. } | EventV1::PolicyActivated { digest } => {
                self.store.fold(event);
                self.put_in_force(event.revision, digest, prepared).map_err(refuse)?;
            }
            EventV1::BundleStored { .. } | EventV1::BundleRemoved { .. } => self.store.fold(event),
            EventV1::PolicyShadowed { .. } => {
                self.store.fold(event);
                self.cast_shadow(prepared);
            }
            EventV1::Hold { spec, .. } => {
                self.holds.insert(event.revision, spec.clone());
            }
            EventV1::HoldLifted { id } => {
                self.holds.remove(id);
            }
            EventV1::Quarantine(_) => self.quarantine.fold(&event.event),
        }
        self.revision = event.revision;
        let fact = self.fact_of(event);
        Arc::make_mut(&mut self.facts).push(fact);
        Ok(())
    }

    /// Makes a kept bundle the one in force. One without a text was let go since, so another one follows it.
    fn put_in_force(&mut self, at: ControlRevision, digest: &[u8; 32], prepared: &Prepared) -> Result<(), String> {
        self.policy_rev = at;
        if let Some(bundle) = self.parsed(digest, prepared)? {
            self.bundles.insert(at, bundle);
        }
        while self.bundles.len() > BUNDLES_KEPT_MAX {
            self.bundles.pop_first();
        }
        self.cast_shadow(prepared);
        Ok(())
    }

    /// A candidate that does not parse in this release is not evaluated here; that is no reason to stop taking rules in.
    fn cast_shadow(&mut self, prepared: &Prepared) {
        let digest = self.store.shadow();
        self.shadow = digest.and_then(|digest| self.parsed(&digest, prepared).ok().flatten());
    }

    fn parsed(&self, digest: &[u8; 32], prepared: &Prepared) -> Result<Option<Arc<Bundle>>, String> {
        let text = self.store.get(digest).map(|kept| &kept.text).filter(|text| !text.is_empty());
        text.map(|text| prepared.bundle(text).map_err(|error| error.to_string())).transpose()
    }

    /// The newest revision folded in.
    pub fn revision(&self) -> ControlRevision {
        self.revision
    }

    /// A tenant by name.
    pub fn tenant(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.tenants.get(name)
    }

    /// All tenants in order of name.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// A limit in force.
    pub fn limit(&self, number: LimitNumber) -> Option<&Arc<LimitSpec>> {
        self.limits.get(&number)
    }

    /// All limits in force, with their numbers.
    pub fn limits(&self) -> impl Iterator<Item = (LimitNumber, &Arc<LimitSpec>)> {
        self.limits.iter().map(|(number, spec)| (*number, spec))
    }

    /// A limit's id, also of a removed one.
    pub fn limit_name(&self, number: LimitNumber) -> String {
        self.names.get(&number).cloned().unwrap_or_else(|| format!("#{number}"))
    }

    /// The rules for automatic quarantine in force, the zone's first.
    pub fn quarantine(&self) -> &quarantine::Sets {
        &self.quarantine
    }

    /// The bundle that was put in force by a revision.
    pub fn bundle_at(&self, revision: ControlRevision) -> Option<Arc<Bundle>> {
        self.bundles.get(&revision).cloned()
    }

    /// The bundle in force and its revision.
    pub fn policy(&self) -> Option<(ControlRevision, Arc<Bundle>)> {
        self.bundle_at(self.policy_rev).map(|bundle| (self.policy_rev, bundle))
    }

    /// The text of the bundle in force; empty where there is none.
    pub fn policy_text(&self) -> &str {
        self.store.active().and_then(|digest| self.store.get(&digest)).map_or("", |kept| &kept.text)
    }

    /// All bundles that the zone keeps.
    pub fn store(&self) -> &Bundles {
        &self.store
    }

    /// The candidate that is evaluated beside the bundle in force.
    pub fn shadow(&self) -> Option<&Arc<Bundle>> {
        self.shadow.as_ref()
    }

    /// What partitions are told, after a revision, at most `count` facts.
    pub fn facts_after(&self, revision: ControlRevision, count: usize) -> Vec<RevisedFact> {
        self.facts.iter().skip(revision.0 as usize).take(count).cloned().collect()
    }

    /// What partitions are told of an event: keyed ids and numbers. The event must be folded in already.
    fn fact_of(&self, event: &RevisedEventV1) -> RevisedFact {
        let fact = match &event.event {
            EventV1::Tenant { spec, .. } => match self.tenant(&spec.tenant) {
                Some(tenant) => ControlFact::Tenant(TenantFact { tenant: tenant.id, placement: spec.placement }),
                None => ControlFact::Nothing,
            },
            EventV1::Limit { number, spec } => match self.tenant(&spec.tenant) {
                Some(tenant) => ControlFact::Limit(limit_fact(*number, spec, tenant)),
                None => ControlFact::Nothing,
            },
            EventV1::LimitRemoved { number, .. } => ControlFact::LimitRemoved(*number),
            EventV1::Policy { digest, .. } | EventV1::PolicyActivated { digest } => {
                ControlFact::Policy { digest: *digest }
            }
            EventV1::BundleStored { .. } | EventV1::BundleRemoved { .. } | EventV1::PolicyShadowed { .. } => {
                ControlFact::Nothing
            }
            EventV1::Hold { spec, until_ns } => self.hold_fact(event.revision, spec, *until_ns),
            EventV1::HoldLifted { id } => ControlFact::HoldLifted(*id),
            EventV1::Quarantine(spec) if spec.tenant.is_empty() => {
                ControlFact::Quarantine(quarantine::fact_of(KeyedId::NONE, spec))
            }
            EventV1::Quarantine(spec) => match self.tenant(&spec.tenant) {
                Some(tenant) => ControlFact::Quarantine(quarantine::fact_of(tenant.id, spec)),
                None => ControlFact::Nothing,
            },
        };
        RevisedFact { revision: event.revision, fact }
    }

    fn hold_fact(&self, id: ControlRevision, spec: &HoldSpec, until_ns: u64) -> ControlFact {
        let named = |tenant: &str| self.tenant(tenant).cloned();
        let none = KeyedId::NONE;
        let (tenant, cohort, tool) = match &spec.scope {
            HoldScope::All => (none, none, none),
            HoldScope::Tenant { tenant } => match named(tenant) {
                Some(tenant) => (tenant.id, none, none),
                None => return ControlFact::Nothing,
            },
            HoldScope::Cohort { tenant, cohort } => match named(tenant) {
                Some(tenant) => (tenant.id, tenant.keys.keyed_id("cohort", cohort), none),
                None => return ControlFact::Nothing,
            },
            HoldScope::Tool { tenant, tool } => match named(tenant) {
                Some(tenant) => (tenant.id, none, tenant.keys.keyed_id("tool", tool)),
                None => return ControlFact::Nothing,
            },
            HoldScope::Agent { .. } => return ControlFact::Nothing,
        };
        ControlFact::Hold(HoldFact { id, tenant, cohort, tool, effect: spec.effect, until_ns })
    }
}

fn unwrap_with(ring: &Keyring, wrapped: &[u8]) -> Result<[u8; 32], String> {
    let id = keys::wrapped_key_id(wrapped).ok_or("the wrapped key is cut short")?;
    let ring_key = ring.ring_keys.get(&id).ok_or_else(|| format!("ring key {id} is not in this node's keyring"))?;
    keys::unwrap(ring_key, wrapped).map_err(|error| error.to_string())
}

fn limit_fact(number: LimitNumber, spec: &LimitSpec, tenant: &Tenant) -> LimitFact {
    LimitFact {
        number,
        tenant: tenant.id,
        unit: tenant.keys.keyed_id("unit", &spec.unit),
        kind: spec.kind,
        key: spec.key.clone(),
        mode: spec.mode,
        overrun: spec.overrun,
        agent: tenant.keys.keyed_id("agent", &spec.agent),
        tool: tenant.keys.keyed_id("tool", &spec.tool),
        cohort: tenant.keys.keyed_id("cohort", &spec.cohort),
    }
}
