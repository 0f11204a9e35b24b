//! How old segments get before they are moved: each node's settings, and what tenants have said for their own records.
//!
//! A segment has records of many tenants and moves as a whole. So it waits for the tenant in it that wants its records to stay
//! longest; to be warm, where bytes are dropped, for no longer than the one of them whose bodies expire first. Where it is not
//! known whose records a segment has, the ages of all tenants count.

use std::collections::BTreeMap;

use nethical_audit::segment::search::tenant_key;
use nethical_protocol::tiers::TierAges;
use nethical_protocol::{probe, sometimes};

use crate::control::view::ControlView;
use crate::shared::Shared;
use crate::store::{Aged, AuditStore};

/// One tier's ages, as one node knew them at one moment; in nanoseconds of log time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ages {
    /// Of tenants that have said nothing.
    default_ns: u64,
    /// What tenants want that want something, by the key under which indexes know them.
    own: BTreeMap<u64, Wanted>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    /// Until when its records are to stay.
    stay_ns: u64,
    /// After which they are to move, whatever others want.
    go_ns: u64,
}

impl Ages {
    /// Until when segments are hot.
    pub fn hot(view: &ControlView, default_ns: u64) -> Self {
        let wanted = view.tenants().map(|tenant| {
            let stay_ns = tenant.tier_ages().hot.map_or(default_ns, |age| age.ns());
            (tenant_key(tenant.id), stay_ns, tenant.retention().least().ns())
        });
        Self::of(default_ns, wanted)
    }

    /// Until when their bodies are on the nodes' disks.
    pub fn warm(view: &ControlView, default_ns: u64) -> Self {
        let stay_ns = |ages: TierAges| ages.warm.map_or(default_ns, |age| age.ns());
        let wanted = view.tenants().map(|tenant| (tenant_key(tenant.id), stay_ns(tenant.tier_ages()), u64::MAX));
        Self::of(default_ns, wanted.filter(|_| !probe::planted("tier-ages-ignored")))
    }

    fn of(default_ns: u64, wanted: impl Iterator<Item = (u64, u64, u64)>) -> Self {
        let is_own = |(_, stay_ns, go_ns): &(u64, u64, u64)| *stay_ns != default_ns || *go_ns < default_ns;
        let own = wanted.filter(is_own).map(|(id, stay_ns, go_ns)| (id, Wanted { stay_ns, go_ns })).collect();
        Self { default_ns, own }
    }

    /// No segment is due at a lesser age.
    pub fn least_ns(&self) -> u64 {
        self.own.values().map(|own| own.stay_ns.min(own.go_ns)).fold(self.default_ns, u64::min)
    }

    /// At which age a segment is due that has records of these tenants; none where nobody knows.
    pub fn due_ns(&self, tenants: Option<&[u64]>) -> u64 {
        let (mut stay_ns, mut go_ns) = (None::<u64>, u64::MAX);
        let mut count = |wanted: Wanted| {
            stay_ns = stay_ns.max(Some(wanted.stay_ns));
            go_ns = go_ns.min(wanted.go_ns);
        };
        let default = Wanted { stay_ns: self.default_ns, go_ns: u64::MAX };
        match tenants {
            Some(tenants) => tenants.iter().for_each(|id| count(*self.own.get(id).unwrap_or(&default))),
            None => self.own.values().copied().chain([default]).for_each(count),
        }
        stay_ns.unwrap_or(self.default_ns).min(go_ns)
    }

    /// Those of some segments that are due at a log time.
    pub async fn due(&self, shared: &Shared, store: &AuditStore, now_ns: u64, segments: Vec<Aged>) -> Vec<Aged> {
        let mut due = Vec::new();
        for segment in segments {
            let age_ns = match self.own.is_empty() {
                true => self.default_ns,
                // One that does not read is like one that nobody knows anything of.
                false => {
                    self.due_ns(store.tenants_in(&shared.index_cache, segment.first).await.ok().flatten().as_deref())
                }
            };
            let is_over = |age_ns: u64| segment.last_ns.checked_add(age_ns).is_some_and(|due_ns| due_ns < now_ns);
            if is_over(age_ns) {
                due.push(segment);
            }
            sometimes!(is_over(self.default_ns) && !is_over(age_ns), "a segment stayed because a tenant wants it to");
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ages() -> Ages {
        let wanted = [(1, 10, u64::MAX), (2, u64::MAX, u64::MAX), (3, 50, 20), (4, 30, u64::MAX)];
        Ages::of(30, wanted.into_iter())
    }

    #[test]
    fn a_segment_waits_for_the_tenant_that_wants_its_records_to_stay_longest() {
        let ages = ages();
        assert_eq!(ages.due_ns(Some(&[1])), 10);
        assert_eq!(ages.due_ns(Some(&[1, 4])), 30, "one that has said nothing has the node's");
        assert_eq!(ages.due_ns(Some(&[1, 9])), 30, "and so has one that is not known yet");
        assert_eq!(ages.due_ns(Some(&[1, 2])), u64::MAX);
        assert_eq!(ages.due_ns(Some(&[])), 30, "records of no tenant");
    }

    #[test]
    fn and_for_no_longer_than_the_one_whose_bodies_expire_first() {
        let ages = ages();
        assert_eq!(ages.due_ns(Some(&[3])), 20);
        assert_eq!(ages.due_ns(Some(&[2, 3])), 20);
        assert_eq!(ages.due_ns(None), 20, "of all tenants, where nobody knows");
        assert_eq!(ages.least_ns(), 10);
    }

    #[test]
    fn where_nobody_has_said_anything_the_nodes_setting_is_all_there_is() {
        let ages = Ages::of(30, [(1, 30, u64::MAX), (2, 30, 30)].into_iter());
        assert!(ages.own.is_empty());
        assert_eq!((ages.least_ns(), ages.due_ns(None), ages.due_ns(Some(&[1, 2]))), (30, 30, 30));
    }
}
