//! The zone's rules as a node knows them: names, tenant keys, limits, holds and bundles, folded from control events.
//!
//! A view only ever moves forward. Doors and actors read an `Arc` of it; partitions' apply never does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nethical_audit::keys::{self, Keyring, TenantKeys};
use nethical_governance::detect::{self, DetectorSet};
use nethical_governance::hold::region_id;
use nethical_governance::policy::Bundle;
use nethical_protocol::control::{
    ControlFact, EVERY_TENANT, HoldFact, HoldScope, HoldSpec, LimitFact, LimitSpec, Redaction, RevisedFact, TenantFact,
    TenantSpec,
};
use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber};
use nethical_protocol::model::ModelBlending;
use nethical_protocol::privacy::PrivacyMode;
use nethical_protocol::retention::{LegalHoldFact, RetentionAges};
use nethical_protocol::sla::SlaTargets;
use nethical_protocol::tiers::TierAges;

use super::bundles::Bundles;
use super::dictionaries::Shelf;
use super::legal::{LegalHoldLiftedV1, LegalHoldV1};
use super::signing::Signing;
use super::{ErasureV1, EventV1, RevisedEventV1, quarantine};
use crate::prepared::Prepared;

/// Bundles kept so that older decisions can be put into words.
const BUNDLES_KEPT_MAX: usize = 16;

/// A tenant with its keys.
pub struct Tenant {
    /// What was asked.
    pub spec: TenantSpec,
    /// Prepared keys for ids and digests.
    pub keys: TenantKeys,
    /// The tenant's own keyed id.
    pub id: KeyedId,
}

impl Tenant {
    /// Detectors that say nothing about its actions. Names of a later release are passed over.
    pub fn detectors_off(&self) -> DetectorSet {
        let names = self.spec.detectors_off.iter().flatten();
        DetectorSet::of(&names.filter_map(|name| detect::number_of_text(name)).collect::<Vec<u8>>())
    }

    /// What is cut out of its actions before they are sealed.
    pub fn storage_redaction(&self) -> Redaction {
        self.spec.storage_redaction.unwrap_or_default()
    }

    /// What is done with scores of its callers' models.
    pub fn model_blending(&self) -> ModelBlending {
        self.spec.model_blending.unwrap_or_default()
    }

    /// Whether the words of its bodies are indexed.
    pub fn text_search(&self) -> bool {
        self.spec.text_search.unwrap_or_default()
    }

    /// How old its records get in a tier before they are moved.
    pub fn tier_ages(&self) -> TierAges {
        self.spec.tier_ages.unwrap_or_default()
    }

    /// How long the bodies of its records are kept.
    pub fn retention(&self) -> RetentionAges {
        self.spec.retention.unwrap_or_default().ages()
    }

    /// How its aggregates are exported.
    pub fn privacy_mode(&self) -> PrivacyMode {
        self.spec.privacy_mode.unwrap_or_default()
    }

    /// What it is promised of the service.
    pub fn sla(&self) -> SlaTargets {
        self.spec.sla.unwrap_or_default()
    }
}

/// Legal holds by the revision that set them, with the revision that lifted them.
pub type LegalHolds = BTreeMap<ControlRevision, (LegalHoldV1, Option<(ControlRevision, LegalHoldLiftedV1)>)>;

/// The rules at one revision.
#[derive(Clone, Default)]
pub struct ControlView {
    revision: ControlRevision,
    tenants: BTreeMap<String, Arc<Tenant>>,
    limits: BTreeMap<LimitNumber, Arc<LimitSpec>>,
    names: BTreeMap<LimitNumber, String>,
    /// Of limits in force, by tenant and id.
    numbers: BTreeMap<String, BTreeMap<String, LimitNumber>>,
    /// With the time at which they lapse, and who has asked for their release.
    holds: BTreeMap<ControlRevision, (HoldSpec, u64, BTreeSet<String>)>,
    quarantine: quarantine::Sets,
    policy_rev: ControlRevision,
    /// Such as were in force, by the revision that made it so.
    bundles: BTreeMap<ControlRevision, InForce>,
    store: Bundles,
    shadow: Option<Arc<Bundle>>,
    erasures: Arc<BTreeMap<ControlRevision, ErasureV1>>,
    legal_holds: Arc<LegalHolds>,
    signing: Arc<Signing>,
    dictionaries: Arc<Shelf>,
    facts: Arc<Vec<RevisedFact>>,
}

/// The bundles that decide under one policy revision.
#[derive(Clone)]
struct InForce {
    active: Arc<Bundle>,
    canary: Option<Arc<Bundle>>,
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
                self.numbers.entry(spec.tenant.clone()).or_default().insert(spec.id.clone(), *number);
                self.limits.insert(*number, Arc::new(spec.clone()));
            }
            EventV1::LimitRemoved { number, tenant, id } => {
                self.limits.remove(number);
                self.numbers.get_mut(tenant).and_then(|of_tenant| of_tenant.remove(id));
            }
            EventV1::Policy { digest, .. } | EventV1::PolicyActivated { digest } => {
                self.store.fold(event);
                self.put_in_force(event.revision, digest, prepared).map_err(refuse)?;
            }
            EventV1::CanarySet { .. } | EventV1::CanaryEnded => {
                self.store.fold(event);
                let active = self.store.active().unwrap_or_default();
                self.put_in_force(event.revision, &active, prepared).map_err(refuse)?;
            }
            EventV1::BundleStored { .. } | EventV1::BundleRemoved { .. } => self.store.fold(event),
            EventV1::PolicyShadowed { .. } => {
                self.store.fold(event);
                self.cast_shadow(prepared);
            }
            EventV1::Hold { spec, until_ns } => {
                self.holds.insert(event.revision, (spec.clone(), *until_ns, BTreeSet::new()));
            }
            EventV1::HoldVoiced { id, approver } => {
                if let Some((_, _, voices)) = self.holds.get_mut(id) {
                    voices.insert(approver.clone());
                }
            }
            EventV1::HoldLifted { id, .. } => {
                self.holds.remove(id);
            }
            EventV1::Quarantine(_) => self.quarantine.fold(&event.event),
            EventV1::SubjectErased(erasure) => {
                Arc::make_mut(&mut self.erasures).insert(event.revision, erasure.clone());
            }
            EventV1::LegalHold(hold) => {
                Arc::make_mut(&mut self.legal_holds).insert(event.revision, (hold.clone(), None));
            }
            EventV1::LegalHoldLifted(lifted) => {
                if let Some((_, end)) = Arc::make_mut(&mut self.legal_holds).get_mut(&lifted.id) {
                    *end = Some((event.revision, lifted.clone()));
                }
            }
            EventV1::Signing(_) => Arc::make_mut(&mut self.signing).fold(&event.event),
            EventV1::Dictionary(change) => {
                let tenant = self.tenant(change.tenant()).map(|tenant| tenant.id);
                Arc::make_mut(&mut self.dictionaries).fold(event, tenant);
            }
        }
        self.revision = event.revision;
        let fact = self.fact_of(event);
        Arc::make_mut(&mut self.facts).push(fact);
        Ok(())
    }

    /// Makes a kept bundle the one in force, beside the canary of the store. One without a text was let go since, so another
    /// revision follows.
    fn put_in_force(&mut self, at: ControlRevision, digest: &[u8; 32], prepared: &Prepared) -> Result<(), String> {
        self.policy_rev = at;
        let canary = self.store.canary().map(|(canary, _)| canary.digest);
        let candidate = canary.map(|digest| self.parsed(&digest, prepared)).transpose()?.flatten();
        if let Some(active) = self.parsed(digest, prepared)?.filter(|_| candidate.is_some() == canary.is_some()) {
            self.bundles.insert(at, InForce { active, canary: candidate });
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

    /// Tenants the words of whose bodies are indexed.
    pub fn text_tenants(&self) -> BTreeSet<KeyedId> {
        self.tenants().filter(|tenant| tenant.text_search()).map(|tenant| tenant.id).collect()
    }

    /// A limit in force.
    pub fn limit(&self, number: LimitNumber) -> Option<&Arc<LimitSpec>> {
        self.limits.get(&number)
    }

    /// All limits in force, with their numbers.
    pub fn limits(&self) -> impl Iterator<Item = (LimitNumber, &Arc<LimitSpec>)> {
        self.limits.iter().map(|(number, spec)| (*number, spec))
    }

    /// The number of a tenant's limit in force.
    pub fn limit_number(&self, tenant: &str, id: &str) -> Option<LimitNumber> {
        self.numbers.get(tenant)?.get(id).copied()
    }

    /// A limit's id, also of a removed one.
    pub fn limit_name(&self, number: LimitNumber) -> String {
        self.names.get(&number).cloned().unwrap_or_else(|| format!("#{number}"))
    }

    /// The rules for automatic quarantine in force, the zone's first.
    pub fn quarantine(&self) -> &quarantine::Sets {
        &self.quarantine
    }

    /// The bundle that decides under a policy revision: the one in force, or its canary.
    pub fn bundle_at(&self, revision: ControlRevision, by_canary: bool) -> Option<Arc<Bundle>> {
        let in_force = self.bundles.get(&revision)?;
        if by_canary { in_force.canary.clone() } else { Some(in_force.active.clone()) }
    }

    /// The bundle in force and its revision.
    pub fn policy(&self) -> Option<(ControlRevision, Arc<Bundle>)> {
        self.bundle_at(self.policy_rev, false).map(|bundle| (self.policy_rev, bundle))
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

    /// How many words the release of a scope still needs at a time: of the order that needs most. An order that needs one
    /// word counts as well.
    pub fn missing(&self, scope: &HoldScope, now_ns: u64) -> u8 {
        let in_force = self
            .holds
            .values()
            .filter(|(held, until_ns, _)| held.scope == *scope && (*until_ns == 0 || *until_ns > now_ns));
        let missing = in_force.map(|(held, _, voices)| usize::from(held.approvers.max(1)).saturating_sub(voices.len()));
        missing.max().unwrap_or(0) as u8
    }

    /// All erasures, by revision.
    pub fn erasures(&self) -> &BTreeMap<ControlRevision, ErasureV1> {
        &self.erasures
    }

    /// All legal holds.
    pub fn legal_holds(&self) -> &LegalHolds {
        &self.legal_holds
    }

    /// The zone's signing keys, and nodes' own.
    pub fn signing(&self) -> &Arc<Signing> {
        &self.signing
    }

    /// The dictionaries that tenants gave for their bodies.
    pub fn dictionaries(&self) -> &Arc<Shelf> {
        &self.dictionaries
    }

    /// What partitions are told, after a revision, at most `count` facts.
    pub fn facts_after(&self, revision: ControlRevision, count: usize) -> Vec<RevisedFact> {
        self.facts.iter().skip(revision.0 as usize).take(count).cloned().collect()
    }

    /// What partitions are told of an event: keyed ids and numbers. The event must be folded in already.
    fn fact_of(&self, event: &RevisedEventV1) -> RevisedFact {
        let fact = match &event.event {
            EventV1::Tenant { spec, .. } => self.tenant(&spec.tenant).map_or(ControlFact::Nothing, |tenant| {
                let tenant = TenantFact { tenant: tenant.id, placement: spec.placement };
                match spec.retention {
                    Some(retention) => ControlFact::TenantRetention { tenant, ages: retention.ages() },
                    None => ControlFact::Tenant(tenant),
                }
            }),
            EventV1::Limit { number, spec } if spec.tenant == EVERY_TENANT => {
                ControlFact::Limit(limit_fact(*number, spec, None))
            }
            EventV1::Limit { number, spec } => match self.tenant(&spec.tenant) {
                Some(tenant) => ControlFact::Limit(limit_fact(*number, spec, Some(tenant))),
                None => ControlFact::Nothing,
            },
            EventV1::LimitRemoved { number, .. } => ControlFact::LimitRemoved(*number),
            EventV1::Policy { digest, .. } | EventV1::PolicyActivated { digest } => {
                ControlFact::Policy { digest: *digest }
            }
            EventV1::BundleStored { .. } | EventV1::BundleRemoved { .. } | EventV1::PolicyShadowed { .. } => {
                ControlFact::Nothing
            }
            EventV1::CanarySet { digest, percent } => ControlFact::PolicyCanary { digest: *digest, percent: *percent },
            EventV1::CanaryEnded => ControlFact::PolicyCanaryEnded,
            EventV1::Hold { spec, until_ns } => self.hold_fact(event.revision, spec, *until_ns),
            EventV1::HoldLifted { id, .. } => ControlFact::HoldLifted(*id),
            EventV1::HoldVoiced { .. } | EventV1::Signing(_) | EventV1::Dictionary(_) => ControlFact::Nothing,
            EventV1::SubjectErased(erasure) => match self.tenant(&erasure.tenant) {
                Some(tenant) => ControlFact::Erase { tenant: tenant.id, subject: erasure.subject },
                None => ControlFact::Nothing,
            },
            EventV1::LegalHold(LegalHoldV1 { tenant, scope, from_ns, to_ns, .. }) => match self.tenant(tenant) {
                Some(tenant) => ControlFact::LegalHold(LegalHoldFact {
                    tenant: tenant.id,
                    scope: *scope,
                    from_ns: *from_ns,
                    to_ns: *to_ns,
                }),
                None => ControlFact::Nothing,
            },
            EventV1::LegalHoldLifted(lifted) => ControlFact::LegalHoldLifted(lifted.id),
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
        let all = HoldFact {
            id,
            tenant: KeyedId::NONE,
            cohort: KeyedId::NONE,
            tool: KeyedId::NONE,
            effect: spec.effect,
            until_ns,
            session: KeyedId::NONE,
            region: KeyedId::NONE,
        };
        let tenant = match &spec.scope {
            HoldScope::All => return ControlFact::Hold(all),
            HoldScope::Agent { .. } => return ControlFact::Nothing,
            HoldScope::Region { tenant, region } if tenant.is_empty() => {
                return ControlFact::Hold(HoldFact { region: region_id(region), ..all });
            }
            HoldScope::Tenant { tenant }
            | HoldScope::Cohort { tenant, .. }
            | HoldScope::Tool { tenant, .. }
            | HoldScope::Session { tenant, .. }
            | HoldScope::Region { tenant, .. } => tenant,
        };
        let Some(tenant) = self.tenant(tenant) else { return ControlFact::Nothing };
        let of_tenant = HoldFact { tenant: tenant.id, ..all };
        ControlFact::Hold(match &spec.scope {
            HoldScope::Cohort { cohort, .. } => {
                HoldFact { cohort: tenant.keys.keyed_id("cohort", cohort), ..of_tenant }
            }
            HoldScope::Tool { tool, .. } => HoldFact { tool: tenant.keys.keyed_id("tool", tool), ..of_tenant },
            HoldScope::Session { session, .. } => {
                HoldFact { session: tenant.keys.keyed_id("session", session), ..of_tenant }
            }
            HoldScope::Region { region, .. } => HoldFact { region: region_id(region), ..of_tenant },
            _ => of_tenant,
        })
    }
}

fn unwrap_with(ring: &Keyring, wrapped: &[u8]) -> Result<[u8; 32], String> {
    let id = keys::wrapped_key_id(wrapped).ok_or("the wrapped key is cut short")?;
    let ring_key = ring.ring_keys.get(&id).ok_or_else(|| format!("ring key {id} is not in this node's keyring"))?;
    keys::unwrap(ring_key, wrapped).map_err(|error| error.to_string())
}

/// Ids are keyed by the tenant's key; a limit over every tenant has none.
fn limit_fact(number: LimitNumber, spec: &LimitSpec, tenant: Option<&Arc<Tenant>>) -> LimitFact {
    let id = |purpose: &str, name: &String| tenant.map_or(KeyedId::NONE, |tenant| tenant.keys.keyed_id(purpose, name));
    LimitFact {
        number,
        tenant: tenant.map_or(KeyedId::NONE, |tenant| tenant.id),
        unit: id("unit", &spec.unit),
        kind: spec.kind,
        key: spec.key.clone(),
        mode: spec.mode,
        overrun: spec.overrun,
        reserve: spec.reserve,
        agent: id("agent", &spec.agent),
        tool: id("tool", &spec.tool),
        cohort: id("cohort", &spec.cohort),
    }
}
