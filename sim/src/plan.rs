//! What goes wrong in a run, and when: drawn from the seed before the run begins, so that it is data.
//!
//! Every plan has one loss of power on all nodes at once. All faults end before the calm at the end.

use std::time::Duration;

use rand::RngExt;
use serde::Serialize;

use nethical_protocol::ids::NodeId;

use crate::dice;

/// The nodes of the fake world and where they are.
pub const NODES: [(NodeId, &str); 3] = [(NodeId(1), "us-east-1"), (NodeId(2), "eu-west-1"), (NodeId(3), "ap-south-1")];
/// One-way latencies in milliseconds: from, to, forth, back. The two directions of a link differ.
pub const LATENCIES_MS: [(NodeId, NodeId, u64, u64); 3] =
    [(NodeId(1), NodeId(2), 38, 41), (NodeId(1), NodeId(3), 96, 91), (NodeId(2), NodeId(3), 57, 62)];
/// Nothing fails in the last seconds of a run.
pub const CALM: Duration = Duration::from_secs(10);
/// The shortest run in which everything finds its place.
pub const SECONDS_MIN: u64 = 40;

/// One fault, or its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// All nodes lose power at the same instant.
    PowerLoss,
    /// One node loses power.
    Crash(NodeId),
    /// A node without power starts again from what its disk kept.
    Restart(NodeId),
    /// A link is cut in one direction.
    Cut(NodeId, NodeId),
    /// A link is mended in one direction.
    Mend(NodeId, NodeId),
    /// All disks acknowledge syncs that they do not make, or are honest again. Outside of what the cluster promises to
    /// survive: a run with it must be found bad, which shows that the oracle looks.
    LyingDisks(bool),
}

/// How long before the loss of power disks begin to lie, where they do.
const LIE_BEFORE: Duration = Duration::from_millis(1_500);

/// All faults of a run, in order of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The run's length.
    pub length: Duration,
    /// When what happens.
    pub faults: Vec<(Duration, Fault)>,
    /// An agent is quarantined at the first time and released at the second.
    pub quarantine: (Duration, Duration),
}

impl Plan {
    /// The plan of a seed. `seconds` is at least [`SECONDS_MIN`].
    pub fn draw(seed: u64, seconds: u64) -> Self {
        let mut dice = dice::fork(seed, "plan");
        let length = Duration::from_secs(seconds.max(SECONDS_MIN));
        let part = |permille: u64| Duration::from_millis(length.as_millis() as u64 * permille / 1_000);
        let mut within = |from: u64, to: u64| part(dice.random_range(from..to));
        let (isolated_at, crashed_at) = (within(150, 230), within(690, 760));
        let power_lost_at = within(334, 666);
        let quarantine = (within(240, 320), within(700, 780));
        let mut faults = vec![(power_lost_at, Fault::PowerLoss)];
        for (node, _) in NODES {
            let dark = Duration::from_millis(dice.random_range(50..1_000));
            faults.push((power_lost_at + dark, Fault::Restart(node)));
        }
        let mut someone = || NODES[dice.random_range(0..NODES.len())].0;
        let (isolated, crashed) = (someone(), someone());
        let (cut_for, dark) = (dice.random_range(1_500..4_000), dice.random_range(100..1_500));
        let both_ways = dice.random_bool(0.5);
        for (other, _) in NODES.into_iter().filter(|(node, _)| *node != isolated) {
            let mended_at = isolated_at + Duration::from_millis(cut_for);
            faults.extend([(isolated_at, Fault::Cut(isolated, other)), (mended_at, Fault::Mend(isolated, other))]);
            if both_ways {
                faults.extend([(isolated_at, Fault::Cut(other, isolated)), (mended_at, Fault::Mend(other, isolated))]);
            }
        }
        faults.push((crashed_at, Fault::Crash(crashed)));
        faults.push((crashed_at + Duration::from_millis(dark), Fault::Restart(crashed)));
        faults.sort();
        Self { length, faults, quarantine }
    }

    /// The same plan, except that just before the loss of power all disks lie about their syncs.
    pub fn with_lying_disks(mut self) -> Self {
        let loss = self.faults.iter().find(|(_, fault)| *fault == Fault::PowerLoss).map(|(at, _)| *at);
        let lost_at = loss.expect("every plan has one loss of power");
        // The disks are honest again when the first node starts: faults of one instant are sorted, and this one is last.
        self.faults.extend([(lost_at - LIE_BEFORE, Fault::LyingDisks(true)), (lost_at, Fault::LyingDisks(false))]);
        self.faults.sort();
        self
    }

    /// When the last fault is over.
    pub fn healed_at(&self) -> Duration {
        self.faults.last().map_or(Duration::ZERO, |(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_loses_all_power_once_in_the_middle_third_and_ends_calmly() {
        for seed in 0..500 {
            let plan = Plan::draw(seed, 60);
            assert_eq!(plan, Plan::draw(seed, 60));
            let losses: Vec<_> = plan.faults.iter().filter(|(_, fault)| *fault == Fault::PowerLoss).collect();
            assert_eq!(losses.len(), 1);
            let at = losses[0].0;
            assert!((20_000..40_000).contains(&at.as_millis()), "{at:?}");
            for (node, _) in NODES {
                let back = plan.faults.iter().find(|(when, fault)| *when > at && *fault == Fault::Restart(node));
                assert!(back.is_some_and(|(when, _)| *when - at <= Duration::from_secs(1)));
            }
            assert!(plan.healed_at() + CALM <= plan.length, "{plan:?}");
            assert!(plan.quarantine.1 + CALM <= plan.length);
        }
    }
}
