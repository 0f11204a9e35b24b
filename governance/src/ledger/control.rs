//! `ApplyControl`: facts of the zone's control group take effect in this group, each once, in order, at this position.
//!
//! Pumps may repeat themselves and overlap: facts already applied have no effect, and of an overlapping batch only the
//! new tail is applied. A gap has no effect either; the pump starts again from the group's revision.

use nethical_protocol::control::{ControlFact, HoldFact};
use nethical_protocol::ids::ControlRevision;
use nethical_protocol::{probe, sometimes};

use super::expire::Timer;
use super::{Ledger, PolicyInForce};
use crate::canary::Canary;
use crate::command::ApplyControlV1;
use crate::outcome::OutcomeV1;

/// By so much the planted bug `hold-lapses-early` shortens holds.
const EARLY_NS: u64 = 1_500_000_000;

impl Ledger {
    pub(super) fn apply_control(&mut self, control: &ApplyControlV1) -> OutcomeV1 {
        let current = self.control_rev;
        if control.to_rev <= current || control.from_rev > current || !is_consecutive(control) {
            sometimes!(true, "control facts came twice or too early");
            return OutcomeV1::NoEffect;
        }
        for revised in control.facts.iter().filter(|revised| revised.revision > current) {
            self.take_fact(revised.revision, &revised.fact);
            self.control_rev = revised.revision;
        }
        OutcomeV1::ControlApplied { revision: self.control_rev }
    }

    fn take_fact(&mut self, revision: ControlRevision, fact: &ControlFact) {
        match fact {
            // A tenant's placement is fixed when it is created: moving its agents between slots would split counters.
            ControlFact::Tenant(fact) => {
                self.tenants.entry(fact.tenant).or_insert(fact.placement);
            }
            ControlFact::Limit(fact) => {
                let placement = self.tenants.get(&fact.tenant).copied().unwrap_or_default();
                self.quota.limits.set(fact.clone(), revision, placement);
            }
            ControlFact::LimitRemoved(number) => {
                self.quota.limits.remove(*number);
            }
            ControlFact::Policy { digest } => {
                self.policy = Some(PolicyInForce { revision, digest: *digest, canary: None });
            }
            ControlFact::Hold(fact) => self.place_zone_hold(fact),
            ControlFact::HoldLifted(id) => self.lift_zone_hold(*id),
            ControlFact::Nothing => {}
            ControlFact::PolicyCanary { digest, percent } => {
                self.set_canary(revision, Some(Canary { digest: *digest, percent: *percent }));
            }
            ControlFact::PolicyCanaryEnded => self.set_canary(revision, None),
            ControlFact::Quarantine(fact) => self.quarantine.set(revision, fact.clone()),
            ControlFact::TenantRetention { tenant, ages } => {
                self.tenants.entry(tenant.tenant).or_insert(tenant.placement);
                self.retention.set(tenant.tenant, *ages, self.now_ns);
            }
            ControlFact::LegalHold(fact) => self.retention.hold(revision, *fact, self.now_ns),
            ControlFact::LegalHoldLifted(id) => self.retention.lift(*id, self.now_ns),
            ControlFact::Erase { tenant, subject } => self.erase_subject(*tenant, *subject, revision),
        }
    }

    /// A canary is a policy revision of its own: what was evaluated before it is stale.
    fn set_canary(&mut self, revision: ControlRevision, canary: Option<Canary>) {
        self.policy = self.policy.map(|policy| PolicyInForce { revision, canary, ..policy });
    }

    fn place_zone_hold(&mut self, fact: &HoldFact) {
        self.lift_zone_hold(fact.id);
        let early_ns = if probe::planted("hold-lapses-early") { EARLY_NS } else { 0 };
        let until_ns = fact.until_ns.saturating_sub(early_ns);
        let lapsed = fact.until_ns != 0 && until_ns <= self.now_ns;
        if !lapsed {
            self.arm(until_ns, Timer::Zone(fact.id));
            self.holds.place(HoldFact { until_ns, ..fact.clone() });
        }
    }

    fn lift_zone_hold(&mut self, id: ControlRevision) {
        if let Some(lifted) = self.holds.lift(id) {
            self.disarm(lifted.until_ns, Timer::Zone(id));
        }
    }
}

/// True where the facts are those of `from_rev + 1 ..= to_rev`, one each, in order.
fn is_consecutive(control: &ApplyControlV1) -> bool {
    let mut expected = control.from_rev.0;
    control.facts.iter().all(|revised| {
        expected = expected.saturating_add(1);
        revised.revision.0 == expected
    }) && expected == control.to_rev.0
}
