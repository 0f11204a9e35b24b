//! Which bodies have expired, and which may be dropped: a pure rule over a tenant's ages, its legal holds and log time.
//!
//! A body ends when its leaf's log time is its class's age ago, unless a legal hold keeps it. Log time never goes back and
//! what has expired stays so: longer ages do not bring it back. What has expired for [`grace_ns`] may be dropped from disks,
//! and only that; until then a legal hold that came late still keeps it. So whatever one replica drops has expired on all,
//! for good, however far apart they are.
//!
//! Pure. Which class a body is of follows from its leaf (`nethical_audit::retention`). Nothing in here reads or drops one.

use std::collections::BTreeMap;

use nethical_protocol::ids::{ControlRevision, KeyedId};
use nethical_protocol::limits::RETENTION_GRACE_S;
use nethical_protocol::probe;
use nethical_protocol::retention::{Age, LegalHoldFact, LegalScope, RetentionAges, RetentionClass};

const CLASSES: usize = RetentionClass::ALL.len();

/// What the rule looks at of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyFacts {
    /// The tenant of its leaf.
    pub tenant: KeyedId,
    /// The agent of its leaf.
    pub agent: KeyedId,
    /// The person whom it is about; none for most, and for one that was dropped.
    pub person: Option<KeyedId>,
    /// The class of its leaf.
    pub class: RetentionClass,
    /// The log time of its leaf, nanoseconds since 1970.
    pub at_ns: u64,
}

/// Log time between the end of a body and the moment from which it may be dropped, nanoseconds.
pub fn grace_ns() -> u64 {
    probe::knob("retention.grace-s", RETENTION_GRACE_S).saturating_mul(1_000_000_000)
}

/// One tenant's ages, and what earlier ones have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ages {
    pub(crate) ages: RetentionAges,
    /// Since when they hold.
    pub(crate) since_ns: u64,
    /// Bodies from before this time had expired by then …
    pub(crate) expired: [u64; CLASSES],
    /// … and those from before this one could be dropped.
    pub(crate) dropped: [u64; CLASSES],
}

impl Ages {
    /// Bodies from before this time have expired at `now_ns`.
    fn expired_before(&self, class: RetentionClass, now_ns: u64) -> u64 {
        self.expired[class as usize].max(edge(now_ns, self.ages.of(class)))
    }

    /// Bodies from before this time may be dropped at `now_ns`, as far as ages go.
    fn dropped_before(&self, class: RetentionClass, now_ns: u64) -> u64 {
        let earlier_ns = now_ns.saturating_sub(grace_ns());
        let carried = if self.since_ns <= earlier_ns { self.expired[class as usize] } else { 0 };
        self.dropped[class as usize].max(carried).max(edge(earlier_ns, self.ages.of(class)))
    }

    fn changed(&self, ages: RetentionAges, now_ns: u64) -> Self {
        let of = |before: fn(&Self, RetentionClass, u64) -> u64| {
            RetentionClass::ALL.map(|class| before(self, class, now_ns))
        };
        let expired = if probe::planted("longer-retention-revives") { [0; CLASSES] } else { of(Self::expired_before) };
        Self { ages, since_ns: now_ns, expired, dropped: of(Self::dropped_before) }
    }
}

/// What is older than this has reached its age.
fn edge(now_ns: u64, age: Age) -> u64 {
    now_ns.checked_sub(age.ns()).map_or(0, |last_ns| last_ns.saturating_add(1))
}

/// A legal hold as a group applied it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegalHold {
    /// What it covers.
    pub fact: LegalHoldFact,
    /// The group's log time when it was set.
    pub since_ns: u64,
    /// And when it was lifted; the greatest number while it stands.
    pub until_ns: u64,
    /// Bodies from before these times could be dropped by then, and are not kept.
    pub(crate) dropped: [u64; CLASSES],
}

impl LegalHold {
    /// True while it stands.
    pub fn stands(&self) -> bool {
        self.until_ns == u64::MAX
    }

    fn covers(&self, body: &BodyFacts) -> bool {
        let LegalHoldFact { scope, from_ns, to_ns, .. } = self.fact;
        let in_time = from_ns <= body.at_ns && (to_ns == 0 || body.at_ns < to_ns);
        in_time
            && match scope {
                LegalScope::Tenant => true,
                LegalScope::Agent(agent) => body.agent == agent,
                LegalScope::Person(person) => body.person == Some(person),
            }
    }
}

/// The ages and legal holds of all tenants, as a group has applied them: about 120 B a tenant that has ages of its own, and
/// 130 B a hold. Holds that were lifted are remembered, since what they kept may be kept on by a later one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    pub(crate) tenants: BTreeMap<KeyedId, Ages>,
    /// By tenant and the control revision that set them.
    pub(crate) holds: BTreeMap<(KeyedId, ControlRevision), LegalHold>,
}

impl Retention {
    /// How long a tenant's bodies are kept.
    pub fn ages(&self, tenant: KeyedId) -> RetentionAges {
        self.of(tenant).ages
    }

    /// True where nobody may read a body any more.
    pub fn is_expired(&self, body: &BodyFacts, now_ns: u64) -> bool {
        let past = body.at_ns < self.of(body.tenant).expired_before(body.class, now_ns);
        past && self.kept_until(body).is_none_or(|until_ns| until_ns <= now_ns)
    }

    /// True where its bytes may go: it has expired, and nothing that is still to come can change that.
    pub fn may_drop(&self, body: &BodyFacts, now_ns: u64) -> bool {
        let past = body.at_ns < self.of(body.tenant).dropped_before(body.class, now_ns);
        past && self.kept_until(body).is_none_or(|until_ns| until_ns.saturating_add(grace_ns()) <= now_ns)
    }

    /// A number that changes with every change of ages and holds.
    pub fn stamp(&self) -> u64 {
        let ages = self.tenants.values().map(|ages| ages.since_ns);
        let holds = self.holds.values().flat_map(|hold| [hold.since_ns, hold.until_ns]);
        ages.chain(holds).fold(self.holds.len() as u64, u64::wrapping_add)
    }

    /// Until when legal holds keep a body, one taking over from the other; none where none ever did.
    fn kept_until(&self, body: &BodyFacts) -> Option<u64> {
        let of_tenant = (body.tenant, ControlRevision(0))..=(body.tenant, ControlRevision(u64::MAX));
        let covering = self.holds.range(of_tenant).map(|(_, hold)| hold).filter(|hold| hold.covers(body));
        covering.fold(None, |kept, hold| {
            let was_there = body.at_ns >= hold.dropped[body.class as usize]
                || kept.is_some_and(|until_ns: u64| hold.since_ns < until_ns.saturating_add(grace_ns()));
            if was_there { kept.max(Some(hold.until_ns)) } else { kept }
        })
    }

    fn of(&self, tenant: KeyedId) -> Ages {
        self.tenants.get(&tenant).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, tenant: KeyedId, ages: RetentionAges, now_ns: u64) {
        let held = self.of(tenant);
        if held.ages != ages {
            self.tenants.insert(tenant, held.changed(ages, now_ns));
        }
    }

    pub(crate) fn hold(&mut self, id: ControlRevision, fact: LegalHoldFact, now_ns: u64) {
        let ages = self.of(fact.tenant);
        let dropped = RetentionClass::ALL.map(|class| ages.dropped_before(class, now_ns));
        self.holds.insert((fact.tenant, id), LegalHold { fact, since_ns: now_ns, until_ns: u64::MAX, dropped });
    }

    pub(crate) fn lift(&mut self, id: ControlRevision, now_ns: u64) {
        let standing = self.holds.iter_mut().find(|((_, held), hold)| *held == id && hold.stands());
        if let Some((_, hold)) = standing {
            hold.until_ns = now_ns;
        }
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
