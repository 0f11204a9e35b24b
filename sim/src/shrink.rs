//! Finds the fewest faults of a plan that still fail (ddmin, Zeller and Hildebrandt 2002).
//!
//! Every fault has an end and dice of its own, so any of them can be left out. A plan fails as before where the same
//! check finds something.

use crate::fault::Entry;
use crate::plan::Plan;

/// What came of shrinking.
pub struct Shrunk {
    /// The smallest plan found that fails.
    pub plan: Plan,
    /// Plans that were run.
    pub runs: u64,
}

/// Shrinks a plan. `fails` runs one and says whether it fails as the whole one did; it may give up by saying no.
pub fn shrink(plan: &Plan, mut fails: impl FnMut(&Plan) -> bool) -> Shrunk {
    let (mut faults, mut runs) = (plan.faults.clone(), 0);
    let mut still_fails = |faults: &[Entry]| {
        runs += 1;
        fails(&plan.with_faults(faults.to_vec()))
    };
    // What happens after the failure has no part in it, so a beginning is tried first.
    faults = shortest_beginning(faults, &mut still_fails);
    let mut parts = 2;
    while !faults.is_empty() {
        let size = faults.len().div_ceil(parts);
        let without = (0..faults.len()).step_by(size).find_map(|at| {
            let kept: Vec<Entry> =
                faults[..at].iter().chain(&faults[(at + size).min(faults.len())..]).cloned().collect();
            still_fails(&kept).then_some(kept)
        });
        match without {
            Some(kept) => {
                faults = kept;
                parts = (parts - 1).max(2);
            }
            None if size <= 1 => break,
            None => parts = (parts * 2).min(faults.len()),
        }
    }
    Shrunk { plan: plan.with_faults(faults), runs }
}

/// The fewest first faults that fail, by halving.
fn shortest_beginning(faults: Vec<Entry>, still_fails: &mut impl FnMut(&[Entry]) -> bool) -> Vec<Entry> {
    let (mut too_few, mut enough) = (0, faults.len());
    while enough - too_few > 1 {
        let middle = too_few + (enough - too_few) / 2;
        match still_fails(&faults[..middle]) {
            true => enough = middle,
            false => too_few = middle,
        }
    }
    faults[..enough].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm;

    #[test]
    fn only_the_faults_that_matter_together_are_left() {
        let plan = swarm::draw(3, 60);
        assert!(plan.faults.len() > 40);
        let wanted = [plan.faults[7].id, plan.faults[21].id, plan.faults[33].id];
        let shrunk = shrink(&plan, |plan| wanted.iter().all(|id| plan.faults.iter().any(|entry| entry.id == *id)));
        let left: Vec<u32> = shrunk.plan.faults.iter().map(|entry| entry.id).collect();
        assert_eq!(left, wanted);
        assert!(shrunk.runs < 120, "{} runs", shrunk.runs);
    }

    #[test]
    fn a_plan_that_fails_without_any_fault_is_left_with_none() {
        let shrunk = shrink(&swarm::draw(3, 60), |_| true);
        assert!(shrunk.plan.faults.len() <= 1);
    }
}
