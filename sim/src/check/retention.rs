//! Bodies expire at their age and stay expired, and what a legal hold covers does not (docs/audit.md, Retention). A model of its
//! own: it walks through the times at which each log says that ages and holds took effect, one body after the other.

use std::collections::BTreeMap;

use nethical_audit::leaf::{LeafEvent, LeafV1};
use nethical_audit::retention::class_of;
use nethical_governance::retention::grace_ns;
use nethical_protocol::control::{ControlFact, RevisedFact};
use nethical_protocol::ids::{DecisionId, GroupId, KeyedId};
use nethical_protocol::retention::{LegalHoldFact, LegalScope, RetentionAges, RetentionClass};

use super::{Findings, Log};

/// What is known of the rules, and of when entries were read.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Everything that partitions were told, in order.
    pub facts: Vec<RevisedFact>,
    /// Log time of each group before and after its entries were read.
    pub read_at: BTreeMap<GroupId, (u64, u64)>,
}

/// Bodies that are shown and must not be, or the other way round.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let longest = findings.longest();
    let mut times: BTreeMap<GroupId, Times> = BTreeMap::new();
    for (group, log) in &longest {
        times.insert(*group, Times::of(log, &findings.kept.facts));
    }
    let judged = findings.entries.iter().filter_map(|entry| {
        let group = entry.id.log.group;
        let leaf = longest.get(&group)?.leaves.get(usize::try_from(entry.id.leaf_index).ok()?)?;
        let read_at = *findings.kept.read_at.get(&group)?;
        judge(entry.id, entry.body_state.as_deref(), leaf, times.get(&group)?, read_at)
    });
    judged.collect()
}

fn judge(
    id: DecisionId,
    state: Option<&str>,
    leaf: &LeafV1,
    times: &Times,
    (before_ns, after_ns): (u64, u64),
) -> Option<String> {
    let class = class_of(&leaf.event)?;
    let ends_ns = |late_ns: u64| times.ends_ns(leaf, class, late_ns);
    match state {
        // A hold that came late may have kept it, and what ages had ended by then may be told a little later.
        None if ends_ns(2 * grace_ns()) <= before_ns => {
            Some(format!("the body of {id} is shown, and its time ended at {}", ends_ns(0)))
        }
        Some("expired") if after_ns < ends_ns(0) => {
            Some(format!("the body of {id} is said to have expired at {after_ns}, and is kept until {}", ends_ns(0)))
        }
        _ => None,
    }
}

/// When ages and holds took effect in one log.
struct Times {
    /// Log time, tenant, ages.
    ages: Vec<(u64, KeyedId, RetentionAges)>,
    /// Log time at which it was set, at which it was lifted, what it covers; in order.
    holds: Vec<(u64, u64, LegalHoldFact)>,
}

impl Times {
    fn of(log: &Log, facts: &[RevisedFact]) -> Self {
        let (mut ages, mut holds) = (Vec::new(), BTreeMap::new());
        for leaf in &log.leaves {
            let LeafEvent::Control { from_rev, to_rev } = leaf.event else { continue };
            let at_ns = leaf.now_ns;
            for revised in facts.iter().filter(|revised| (from_rev + 1..=to_rev).contains(&revised.revision.0)) {
                match &revised.fact {
                    ControlFact::TenantRetention { tenant, ages: new } => ages.push((at_ns, tenant.tenant, *new)),
                    ControlFact::LegalHold(fact) => drop(holds.insert(revised.revision, (at_ns, u64::MAX, *fact))),
                    ControlFact::LegalHoldLifted(id) => {
                        if let Some((_, until_ns, _)) = holds.get_mut(id) {
                            *until_ns = at_ns;
                        }
                    }
                    _ => {}
                }
            }
        }
        Self { ages, holds: holds.into_values().collect() }
    }

    /// When a body ends, where holds that came so late count; the greatest number for one that does not.
    fn ends_ns(&self, leaf: &LeafV1, class: RetentionClass, late_ns: u64) -> u64 {
        let Some((_, tenant, agent)) = leaf.event.agent() else { return u64::MAX };
        let mut ends_ns = self.aged_ns(leaf, tenant, class);
        for (set_ns, lifted_ns, fact) in &self.holds {
            let in_time = fact.from_ns <= leaf.now_ns && (fact.to_ns == 0 || leaf.now_ns < fact.to_ns);
            let covers = fact.tenant == tenant && [LegalScope::Tenant, LegalScope::Agent(agent)].contains(&fact.scope);
            if in_time && covers && *set_ns < ends_ns.saturating_add(late_ns) {
                ends_ns = ends_ns.max(*lifted_ns);
            }
        }
        ends_ns
    }

    /// When its age ends it, by the ages of each time: the first moment at which it is older than it may be.
    fn aged_ns(&self, leaf: &LeafV1, tenant: KeyedId, class: RetentionClass) -> u64 {
        let (mut since_ns, mut ages) = (0, RetentionAges::default());
        let ends_ns =
            |since_ns: u64, ages: &RetentionAges| leaf.now_ns.saturating_add(ages.of(class).ns()).max(since_ns);
        for (at_ns, _, new) in self.ages.iter().filter(|(_, whose, _)| *whose == tenant) {
            // Until then the earlier ages were in force.
            if ends_ns(since_ns, &ages) <= *at_ns {
                break;
            }
            (since_ns, ages) = (*at_ns, *new);
        }
        ends_ns(since_ns, &ages)
    }
}
