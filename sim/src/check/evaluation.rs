//! Decisions are made under the rules in force at their position (ARCHITECTURE.md 2 and 6): control revisions never go
//! back along a log, a decision names the revision that the control leaves before it have brought, and its policy is
//! none that a later one had replaced.

use nethical_audit::leaf::LeafEvent;

use super::{Findings, Log};

/// Decisions under rules that were not in force.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    findings.longest().into_values().flat_map(in_log).collect()
}

fn in_log(log: &Log) -> Vec<String> {
    let (mut revision, mut policy) = (0, 0);
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
                if decision.policy_rev < policy || decision.policy_rev > revision {
                    let said = decision.policy_rev;
                    found.push(format!("{place} was evaluated under policy {said}; {policy} was in force before it"));
                }
                policy = policy.max(decision.policy_rev);
            }
            _ => {}
        }
    }
    found
}
