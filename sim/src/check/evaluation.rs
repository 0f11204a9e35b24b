//! Decisions are made under the rules in force at their position (ARCHITECTURE.md 2 and 6): control revisions never go
//! back along a log, a decision names the revision that the control leaves before it have brought, and its policy is the
//! latest one of that revision. Which revisions are policies follows from all decisions of all logs together.
//! Where a policy has a canary, the agents for which it decided are those of one share of the plan, in all logs alike, and
//! its rule speaks for them and for nobody else.

use std::collections::{BTreeMap, BTreeSet};

use nethical_audit::leaf::codec::FLAG_CANARY;
use nethical_audit::leaf::{DecisionLeaf, LeafEvent};
use nethical_governance::canary::Canary;
use nethical_governance::policy::{digest_of, rule_hash};
use nethical_protocol::action::ActionKind;
use nethical_protocol::decision::Verdict;
use nethical_protocol::ids::{GroupId, KeyedId};

use super::{Findings, Log};
use crate::plan::OrderKind;
use crate::workload::{STRICTER_RULE, bundle_of};

/// Decisions under rules that were not in force.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let logs = findings.longest();
    let decisions = logs.values().flat_map(|log| &log.leaves).filter_map(|leaf| match &leaf.event {
        LeafEvent::Decision(decision) => Some(decision.policy_rev),
        _ => None,
    });
    let policies: BTreeSet<u64> = decisions.collect();
    let mut found = shares(findings, &logs);
    found.extend(logs.into_values().flat_map(|log| in_log(log, &policies)));
    found
}

/// Decisions by the wrong one of two bundles.
fn shares(findings: &Findings<'_>, logs: &BTreeMap<GroupId, &Log>) -> Vec<String> {
    let orders = || findings.plan.work.orders.iter().map(|order| &order.order);
    let mut percents: BTreeSet<u8> = BTreeSet::from([0]);
    percents.extend(orders().filter_map(|order| match order {
        OrderKind::Canary { percent } => Some(*percent),
        _ => None,
    }));
    let is_strict_for_all = orders().any(|order| matches!(order, OrderKind::Policy { strict: true }));
    let digest = digest_of(&bundle_of(&findings.plan.work, true));
    let mut by_revision: BTreeMap<u64, Vec<(KeyedId, bool)>> = BTreeMap::new();
    let mut found = Vec::new();
    for leaf in logs.values().flat_map(|log| &log.leaves) {
        let LeafEvent::Decision(decision) = &leaf.event else { continue };
        let by_canary = decision.flags & FLAG_CANARY != 0;
        by_revision.entry(decision.policy_rev).or_default().push((decision.agent, by_canary));
        let place = format!("group {} leaf {}", leaf.group, leaf.leaf_index);
        found.extend(wrong_rules(decision, by_canary, is_strict_for_all).map(|what| format!("{place} {what}")));
    }
    for (revision, decided) in by_revision {
        let explains = |percent: &u8| {
            let canary = Canary { digest, percent: *percent };
            decided.iter().all(|(agent, by_canary)| canary.takes(*agent) == *by_canary)
        };
        if !percents.iter().any(explains) {
            found.push(format!("no share of agents explains which bundle decided under policy {revision}"));
        }
    }
    found
}

/// Whether the stricter policy's rule speaks where it must, and not elsewhere. Something more severe silences it.
fn wrong_rules(decision: &DecisionLeaf, by_canary: bool, is_strict_for_all: bool) -> Option<&'static str> {
    let applies = decision.action_kind == ActionKind::Message as u8 && decision.policy_verdict <= Verdict::Block as u8;
    let speaks = decision.rules.contains(&rule_hash(STRICTER_RULE));
    match (by_canary, speaks) {
        (true, false) if applies => Some("is said to be the canary's, and the canary's rule is silent"),
        (false, true) if !is_strict_for_all => Some("is said not to be the canary's, and the canary's rule speaks"),
        _ => None,
    }
}

fn in_log(log: &Log, policies: &BTreeSet<u64>) -> Vec<String> {
    let mut revision = 0;
    let mut found = Vec::new();
    for leaf in &log.leaves {
        let place = format!("group {} leaf {}", leaf.group, leaf.leaf_index);
        match &leaf.event {
            LeafEvent::Control { from_rev, to_rev } => {
                if *from_rev != revision || to_rev <= from_rev {
                    found.push(format!(
                        "{place} goes from control revision {from_rev} to {to_rev}; {revision} was in force"
                    ));
                }
                revision = *to_rev;
            }
            LeafEvent::Decision(decision) => {
                if decision.control_rev != revision {
                    let said = decision.control_rev;
                    found.push(format!("{place} names control revision {said}; {revision} was in force"));
                }
                let in_force = policies.range(..=revision).next_back().copied().unwrap_or(0);
                if decision.policy_rev != in_force {
                    let said = decision.policy_rev;
                    found.push(format!("{place} was evaluated under policy {said}; {in_force} was in force"));
                }
            }
            _ => {}
        }
    }
    found
}
