//! Reservations (SPEC.md 2, quotas): each ends once, as its client said or after its time and not before; what a client was
//! told of the end is in the log; none is forgotten; and limits on what is live or was ever used hold over all partitions.

use std::collections::BTreeMap;

use nethical_audit::leaf::{LeafEvent, ReservationLeaf};
use nethical_protocol::decision::ActionOutcome;
use nethical_protocol::ids::{DecisionId, GroupId};
use nethical_protocol::limits::CLOCK_ERROR_MS_MAX;

use super::{Findings, Log};

/// Each of two groups may be off by so much: what ends in one is free in the other, and stamps may show both at once.
const APART_NS: u64 = 2 * CLOCK_ERROR_MS_MAX * 1_000_000;
/// After its time a reservation ends with the next entry of a group that leads; runs end with all groups leading.
const LATE_NS: u64 = 10_000_000_000;
const COMMITTED: u8 = 0;
const RELEASED: u8 = 1;

/// A reservation as the log has it.
struct Held {
    from_ns: u64,
    ttl_ns: u64,
    tokens: u64,
    end: Option<(u64, u8, u64)>,
}

/// Reservations that contradict what was said, asked or promised.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut all: BTreeMap<(GroupId, u64), Held> = BTreeMap::new();
    for (group, log) in findings.longest() {
        gather(findings, group, log, &mut all, &mut found);
    }
    let told = told(findings, &all);
    found.extend(told);
    let shared = &findings.plan.work.shared;
    if let Some(cap) = shared.hall {
        found.extend(too_many(&all, cap));
    }
    let used: u64 = all.values().map(|held| held.end.map_or(held.tokens, |(_, _, used)| used.min(held.tokens))).sum();
    if let Some(cap) = shared.pot.filter(|cap| used > *cap) {
        found.push(format!("{used} tokens were used or are held of {cap} that there ever were"));
    }
    found
}

fn gather(
    findings: &Findings<'_>,
    group: GroupId,
    log: &Log,
    all: &mut BTreeMap<(GroupId, u64), Held>,
    found: &mut Vec<String>,
) {
    for recorded in findings.decisions(log).filter(|recorded| recorded.decision.verdict < 2) {
        let Some(operation) = recorded.operation.filter(|operation| operation.tokens.0 > 0) else { continue };
        let (tokens, ttl_s) = operation.tokens;
        let held = Held { from_ns: recorded.leaf.now_ns, ttl_ns: ttl_s * 1_000_000_000, tokens, end: None };
        all.insert((group, recorded.leaf.leaf_index), held);
    }
    for leaf in &log.leaves {
        let LeafEvent::ReservationEnded(ended) = &leaf.event else { continue };
        let Some(held) = all.get_mut(&(group, ended.decision)) else {
            found.push(format!("leaf {} of group {group} ends a reservation that nobody made", leaf.leaf_index));
            continue;
        };
        found.extend(judge(findings, group, (leaf.leaf_index, leaf.now_ns), ended, held));
        let used = ended.costs.first().map_or(0, |(_, _, used)| *used);
        held.end = Some((leaf.now_ns, ended.end, used));
    }
    let last_ns = log.leaves.last().map_or(0, |leaf| leaf.now_ns);
    for ((_, index), held) in all.range((group, 0)..=(group, u64::MAX)) {
        if held.end.is_none() && held.from_ns + held.ttl_ns + LATE_NS < last_ns {
            found.push(format!("the reservation of leaf {index} of group {group} never ended"));
        }
    }
}

/// Whether an end is the first one, is what its client said, and does not come too soon.
fn judge(
    findings: &Findings<'_>,
    group: GroupId,
    (index, now_ns): (u64, u64),
    ended: &ReservationLeaf,
    held: &Held,
) -> Option<String> {
    let place = format!("leaf {index} of group {group}");
    let (reserved, used) = ended.costs.first().map_or((0, 0), |(_, reserved, used)| (*reserved, *used));
    if held.end.is_some() {
        return Some(format!("{place} ends the reservation of leaf {} again", ended.decision));
    }
    if reserved != held.tokens {
        return Some(format!("{place} gives back {reserved} reserved tokens of {}", held.tokens));
    }
    let says = |said: &ActionOutcome| match said {
        ActionOutcome::Released => ended.end == RELEASED,
        ActionOutcome::Used(amounts) => ended.end == COMMITTED && amounts.iter().any(|(_, amount)| *amount == used),
    };
    let said = findings.history.settlements();
    let is_said = |id: &DecisionId| id.log.group == group && id.leaf_index == ended.decision;
    let was_said = said.iter().any(|(id, all)| is_said(id) && all.iter().any(|said| says(&said.outcome)));
    match ended.end {
        COMMITTED | RELEASED => (!was_said).then(|| format!("{place} settles with {used} tokens, which nobody said")),
        _ if now_ns < held.from_ns + held.ttl_ns => Some(format!("{place} lets a reservation expire too soon")),
        _ => None,
    }
}

/// What clients were told of ends must be in the logs.
fn told(findings: &Findings<'_>, all: &BTreeMap<(GroupId, u64), Held>) -> Vec<String> {
    let mut found = Vec::new();
    for (id, said) in findings.history.settlements() {
        let end = all.get(&(id.log.group, id.leaf_index)).and_then(|held| held.end);
        for said in said.iter().filter(|said| said.settled) {
            let fits = match (&said.outcome, end) {
                (ActionOutcome::Released, Some((_, RELEASED, _))) => true,
                (ActionOutcome::Used(amounts), Some((_, COMMITTED, used))) => {
                    amounts.iter().any(|(_, amount)| *amount == used)
                }
                _ => false,
            };
            if !fits {
                found.push(format!("{id}: {:?} was acknowledged, and the log has {end:?}", said.outcome));
            }
        }
    }
    found
}

/// Whether at some time more reservations lived than may, by stamps that are apart by what clocks may be.
fn too_many(all: &BTreeMap<(GroupId, u64), Held>, cap: u64) -> Option<String> {
    let mut steps: Vec<(u64, i64)> = Vec::new();
    for held in all.values() {
        let (from_ns, until_ns) = (held.from_ns + APART_NS, held.end.map_or(u64::MAX, |(at_ns, ..)| at_ns - APART_NS));
        if from_ns < until_ns {
            steps.extend([(from_ns, 1), (until_ns, -1)]);
        }
    }
    steps.sort_unstable();
    let mut live = 0i64;
    steps.into_iter().find_map(|(at_ns, step)| {
        live += step;
        (live > cap as i64).then(|| format!("{live} reservations lived at {at_ns} ns; {cap} may"))
    })
}
