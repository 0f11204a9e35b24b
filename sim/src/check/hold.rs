//! A hold is enforced after its acknowledgement (SPEC, guarantee 3; ARCHITECTURE.md 2): nothing of a held agent that was
//! first asked for after the acknowledgement is allowed before the release is called; and in the log itself, nothing
//! between the leaf that holds and the leaf that releases.

use std::collections::BTreeSet;
use std::time::Duration;

use nethical_audit::leaf::LeafEvent;
use nethical_protocol::ids::KeyedId;

use super::{Findings, Log};
use crate::history::{Operation, Quarantine};
use crate::workload::SPREAD;

/// Allowed actions of held agents.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let quarantines = findings.history.quarantines();
    let mut found: Vec<String> =
        quarantines.iter().flat_map(|quarantine| in_real_time(findings, quarantine, &quarantines)).collect();
    found.extend(findings.longest().into_values().flat_map(in_log));
    found
}

fn in_real_time(findings: &Findings<'_>, quarantine: &Quarantine, all: &[Quarantine]) -> Vec<String> {
    let Some(placed) = quarantine.placed else { return Vec::new() };
    // Whoever releases the agent first ends every hold on it; one that lapses ends at its time at the latest.
    let releases = all.iter().filter(|other| other.agent == quarantine.agent).filter_map(|other| other.release_called);
    let until = releases.filter(|released| *released >= placed).min().unwrap_or(Duration::MAX);
    let until = until.min(quarantine.lapses.unwrap_or(Duration::MAX));
    // A release that was under way when the hold was placed may come after it.
    let is_disputed = all.iter().any(|other| {
        other.agent == quarantine.agent
            && other.release_called.is_some_and(|called| called < placed)
            && !std::ptr::eq(other, quarantine)
    });
    if is_disputed {
        return Vec::new();
    }
    let held = findings
        .operations
        .iter()
        .filter(|(_, operation)| is_held(&quarantine.agent, operation) && operation.invoked >= placed);
    held.filter_map(|(request, operation)| {
        let (told, answered) = (operation.told.as_ref()?, operation.answered?);
        let wrongly = told.verdict.is_allowed() && answered <= until;
        wrongly.then(|| format!("{request} of {} was allowed as {} during a hold", operation.agent, told.id))
    })
    .collect()
}

/// True where an action falls under a hold: on its tenant, its agent, its session or its region. Regions are the zone's.
fn is_held(what: &str, operation: &Operation) -> bool {
    if let Some(region) = what.strip_prefix("region ") {
        return operation.region == region;
    }
    let part = match what.strip_prefix("session ") {
        Some(session) => operation.session == session,
        None => what.is_empty() || operation.agent == what,
    };
    operation.tenant == SPREAD && part
}

fn in_log(log: &Log) -> Vec<String> {
    let mut held: BTreeSet<(KeyedId, KeyedId)> = BTreeSet::new();
    let mut found = Vec::new();
    for leaf in &log.leaves {
        match &leaf.event {
            LeafEvent::HoldPlaced(hold) => drop(held.insert((hold.tenant, hold.agent))),
            // One of several words that are needed lifts nothing.
            LeafEvent::HoldLifted(hold) if hold.missing > 0 => {}
            LeafEvent::HoldLifted(hold) => drop(held.remove(&(hold.tenant, hold.agent))),
            LeafEvent::Decision(decision)
                if decision.verdict < 2 && held.contains(&(decision.tenant, decision.agent)) =>
            {
                let (group, index) = (leaf.group, leaf.leaf_index);
                found.push(format!("group {group} leaf {index} allows an action of an agent that is held there"));
            }
            _ => {}
        }
    }
    found
}
