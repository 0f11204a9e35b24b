//! Automatic quarantine is exact and lasts (ARCHITECTURE.md, decisions): a leaf that says that a rule holds an agent leaves it
//! quarantined, under an epoch of its own, once; and nothing of the agent is allowed after it before a leaf releases it, or
//! its time is over. Over all replicas of the log, so over every change of leader.

use std::collections::BTreeMap;

use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1, reason};
use nethical_protocol::decision::AgentStatus;
use nethical_protocol::ids::KeyedId;

use super::{Findings, Log};
use crate::plan::OrderKind;

const SECOND_NS: u64 = 1_000_000_000;

/// A hold that a rule has placed.
struct Held {
    epoch: u64,
    since_ns: u64,
}

/// Agents that a rule held and that acted, or that it held twice.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let times = findings.plan.work.orders.iter().filter_map(|order| match order.order {
        OrderKind::Rules { ttl_s, .. } => Some(ttl_s.saturating_mul(SECOND_NS)),
        _ => None,
    });
    let shortest_ns = times.filter(|ttl_ns| *ttl_ns > 0).min().unwrap_or(u64::MAX);
    findings.longest().into_values().flat_map(|log| in_log(log, shortest_ns)).collect()
}

fn in_log(log: &Log, shortest_ns: u64) -> Vec<String> {
    let mut held: BTreeMap<(KeyedId, KeyedId), Held> = BTreeMap::new();
    let mut found = Vec::new();
    for leaf in &log.leaves {
        match &leaf.event {
            LeafEvent::HoldPlaced(hold) | LeafEvent::HoldLifted(hold) => drop(held.remove(&(hold.tenant, hold.agent))),
            LeafEvent::Decision(decision) => {
                let agent = (decision.tenant, decision.agent);
                let before = held.remove(&agent);
                let (after, wrong) = judge(leaf, decision, before, shortest_ns);
                held.extend(after.map(|after| (agent, after)));
                found.extend(wrong.map(|what| format!("group {} leaf {}: {what}", leaf.group, leaf.leaf_index)));
            }
            _ => {}
        }
    }
    found
}

/// The hold after a decision, and what is wrong with the decision.
fn judge(
    leaf: &LeafV1,
    decision: &DecisionLeaf,
    before: Option<Held>,
    shortest_ns: u64,
) -> (Option<Held>, Option<String>) {
    let says_so = decision.reasons.iter().any(|(kind, _)| *kind == reason::AUTOMATIC_HOLD);
    let status = AgentStatus::ALL[usize::from(decision.status).min(3)];
    match before {
        Some(held) if decision.epoch == held.epoch => {
            let wrong = (decision.verdict < 2).then(|| "allows an action of an agent that a rule holds".to_owned());
            (Some(held), wrong)
        }
        // It was terminated, or its time is over.
        Some(_) if status == AgentStatus::Terminated => (None, None),
        Some(held) if leaf.now_ns < held.since_ns.saturating_add(shortest_ns) => {
            (None, Some(format!("the hold of epoch {} ended before its time, and nobody lifted it", held.epoch)))
        }
        _ if says_so && status == AgentStatus::Quarantined => {
            (Some(Held { epoch: decision.epoch, since_ns: leaf.now_ns }), None)
        }
        _ if says_so => (None, Some(format!("a rule holds an agent that is {}", status.as_str()))),
        _ => (None, None),
    }
}
