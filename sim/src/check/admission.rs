//! Zero over-admission (SPEC, guarantee 2): in no span of log time was an agent allowed more than its rate and burst, and
//! a budget was never overspent, not even one that is shared out to all partitions. The bounds are the greatest that were ever in force in the run.

use std::collections::BTreeMap;

use super::Findings;
use crate::workload::{SINGLE, SPREAD};

const SECOND_NS: u128 = 1_000_000_000;

/// Limits that let too much through.
pub fn check(findings: &Findings<'_>) -> Vec<String> {
    let (mut times, mut spent): (BTreeMap<String, Vec<u64>>, u64) = (BTreeMap::new(), 0);
    let mut shared: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut everybody, mut coins): (Vec<u64>, u64) = (Vec::new(), 0);
    let mut strides: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let house = &findings.plan.work.house;
    let (fleet, limits) = (findings.plan.work.fleet, &findings.plan.work.shared);
    for log in findings.longest().into_values() {
        for recorded in findings.decisions(log).filter(|recorded| recorded.decision.verdict < 2) {
            let Some(operation) = recorded.operation else { continue };
            if operation.tenant == SPREAD {
                if let Some((_, window_s)) = fleet {
                    *shared.entry(recorded.leaf.now_ns / (window_s * SECOND_NS as u64)).or_default() += 1;
                }
                everybody.push(recorded.leaf.now_ns);
                times.entry(operation.agent.clone()).or_default().push(recorded.leaf.now_ns);
            }
            if operation.tenant == SINGLE {
                spent += operation.credits;
                coins += operation.coins;
                strides.entry(operation.agent.clone()).or_default().push(recorded.leaf.now_ns);
            }
        }
    }
    let mut found: Vec<String> =
        times.iter().filter_map(|(agent, times)| over(agent, times, findings.plan.work.pace)).collect();
    everybody.sort_unstable();
    found.extend(limits.tide.and_then(|tide| over("the spread tenant", &everybody, tide)));
    found.extend(limits.pond.and_then(|pond| too_many_within(&everybody, pond)));
    if let Some(pace) = house.stride {
        found.extend(strides.iter().filter_map(|(agent, times)| over(agent, times, pace)));
    }
    if let Some(cap) = house.coins.filter(|cap| coins > *cap) {
        found.push(format!("{coins} millionths of a dollar were allowed of {cap}"));
    }
    let purse = findings.plan.work.purse;
    if spent > purse {
        found.push(format!("{spent} credits were allowed of a budget of {purse}"));
    }
    if let Some((cap, window_s)) = fleet {
        for (window, count) in shared.into_iter().filter(|(_, count)| *count > cap) {
            let at_s = window * window_s;
            found.push(format!("{count} requests were allowed of {cap} that all partitions share from {at_s} s on"));
        }
    }
    found
}

/// The first window in which more than the cap was allowed. `times` are sorted.
fn too_many_within(times: &[u64], (cap, window_s): (u64, u64)) -> Option<String> {
    let window_ns = window_s * SECOND_NS as u64;
    let mut first = 0;
    for (last, at) in times.iter().enumerate() {
        while at - times[first] >= window_ns {
            first += 1;
        }
        if (last - first + 1) as u64 > cap {
            return Some(format!(
                "{} requests were allowed within {window_s} s before {at} ns; {cap} may",
                last - first + 1
            ));
        }
    }
    None
}

/// The first span in which an agent had more than `rate · span + burst`.
///
/// With n allowed at times t, that is: n·s − rate·t may never rise by more than burst·s above an earlier minimum.
fn over(agent: &str, times: &[u64], (rate, burst): (u64, u64)) -> Option<String> {
    let (rate, room) = (i128::from(rate), (u128::from(burst) * SECOND_NS) as i128);
    let first = *times.first()?;
    let mut least = i128::MAX;
    for (number, time) in (0i128..).zip(times) {
        let earned = i128::from(time.saturating_sub(first)) * rate;
        let before = number * SECOND_NS as i128 - earned;
        least = least.min(before);
        if before + SECOND_NS as i128 - least > room {
            return Some(format!("{agent} was allowed more than {rate}/s and {burst} at once, seen at {time} ns"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_its_cap_wherever_it_begins() {
        let second = SECOND_NS as u64;
        assert_eq!(too_many_within(&[0, 1, second, second + 1], (2, 1)), None);
        assert!(too_many_within(&[0, 1, second - 1], (2, 1)).is_some());
    }

    #[test]
    fn a_burst_and_the_rate_are_allowed_and_not_one_more() {
        let second = SECOND_NS as u64;
        assert_eq!(over("a", &[0, 0, 0, second, 2 * second, 3 * second], (1, 3)), None);
        assert!(over("a", &[0, 0, 0, 0], (1, 3)).is_some());
        assert!(over("a", &[0, 0, 0, second - 1], (1, 3)).is_some());
        assert!(over("a", &[0, 9 * second, 9 * second, 9 * second, 9 * second], (1, 3)).is_some());
    }
}
