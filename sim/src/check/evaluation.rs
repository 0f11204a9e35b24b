//! Decisions are made under the rules in force at their position (ARCHITECTURE.md 2 and 6): control revisions never go
//! back along a log, a decision names the revision that the control leaves before it have brought, and its policy is the
//! latest one of that revision. Which revisions are policies follows from all decisions of all logs together.

use std::collections::BTreeSet;

use nethical_audit::leaf::LeafEvent;

use super::{Findings, Log};

/// Decisions under rules that were not in force.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let logs = findings.longest();
    let decisions = logs.values().flat_map(|log| &log.leaves).filter_map(|leaf| match &leaf.event {
        LeafEvent::Decision(decision) => Some(decision.policy_rev),
        _ => None,
    });
    let policies: BTreeSet<u64> = decisions.collect();
    logs.into_values().flat_map(|log| in_log(log, &policies)).collect()
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
