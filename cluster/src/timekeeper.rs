//! Log time (ARCHITECTURE 9): where a term's stamps come from, and whether this node's clock may be trusted with them.
//!
//! In a term, now = max(last + 1 ns, base + monotonic elapsed), slewed towards the wall clock by at most 500 ppm; wall
//! jumps within a term have no effect. A node whose wall is off the median of a quorum by more than ε may not lead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::NodeId;
use nethical_protocol::limits::CLOCK_ERROR_MS_MAX;
use nethical_protocol::{probe, sometimes};

use crate::world::Clock;

/// Most that stamps are pulled towards the wall clock: parts per million of elapsed time.
const SLEW_PPM: u128 = 500;
/// A probe older than this says nothing: what was wrong with a clock then may be mended, and two wrong clocks that were never
/// wrong at the same time must not outvote a right one. Probes come every second, and sooner where one is missing.
const PROBE_AGE_MAX: Duration = Duration::from_secs(2);

/// What this node knows of the others' clocks. Cheap to clone.
#[derive(Clone, Default)]
pub struct Timekeeper {
    probes: Arc<Mutex<BTreeMap<NodeId, Probe>>>,
}

struct Probe {
    /// The peer's wall at the zero of our monotonic time. Our own wall has no part in it, since that may jump between the
    /// probe and its use.
    origin_ns: i128,
    at: Duration,
}

impl Timekeeper {
    /// Notes a peer's wall clock as answered to a probe sent at `sent` and answered at `answered` (both monotonic).
    pub fn probed(&self, peer: NodeId, peer_wall_ns: u64, sent: Duration, answered: Duration) {
        let half = answered.saturating_sub(sent).as_nanos() as i128 / 2;
        let origin_ns = i128::from(peer_wall_ns) + half - answered.as_nanos() as i128;
        self.probes.lock().insert(peer, Probe { origin_ns, at: answered });
    }

    /// The base of a new term: our wall, where it is within ε of the median of a quorum's walls.
    pub fn base_ns(&self, clock: &dyn Clock, cluster_nodes: usize) -> Result<u64, Problem> {
        let walls = self.walls(clock);
        let Some(median_ns) = median_of(&walls, cluster_nodes) else {
            sometimes!(true, "too few clocks were known to lead");
            let detail =
                format!("clocks of {} of {cluster_nodes} nodes are known; a majority is needed", walls.known());
            return Err(Problem::new(Code::ClockUncertain, detail).retry_after_ms(500));
        };
        if is_far(median_ns) {
            let median_ms = median_ns / 1_000_000;
            sometimes!(true, "a node's clock was too far off to lead");
            tracing::error!(median_ms, "this node's wall clock is off the majority's: it may not lead");
            let detail =
                format!("this node's clock is {median_ms} ms off the majority's; {CLOCK_ERROR_MS_MAX} ms are allowed");
            return Err(Problem::new(Code::ClockUncertain, detail).retry_after_ms(5_000));
        }
        Ok(walls.own_ns)
    }

    /// True where this node's wall is off the median and a majority of all nodes contradict it. Fewer prove nothing: of
    /// two walls that differ, either may be the wrong one.
    pub fn is_off(&self, clock: &dyn Clock, cluster_nodes: usize) -> bool {
        let walls = self.walls(clock);
        let against = walls.ahead_ns.iter().filter(|(_, ahead_ns)| is_far(*ahead_ns)).count();
        against > cluster_nodes / 2 && median_of(&walls, cluster_nodes).is_some_and(is_far)
    }

    /// True where a peer's wall is known, and near enough to the median that the peer may lead.
    pub fn trusts(&self, peer: NodeId, clock: &dyn Clock, cluster_nodes: usize) -> bool {
        let walls = self.walls(clock);
        let ahead = walls.ahead_ns.iter().find(|(node, _)| *node == peer).map(|(_, ahead_ns)| *ahead_ns);
        let median_ns = median_of(&walls, cluster_nodes);
        ahead.zip(median_ns).is_some_and(|(ahead_ns, median_ns)| !is_far(median_ns - ahead_ns))
    }

    fn walls(&self, clock: &dyn Clock) -> Walls {
        let (now, own_ns) = (clock.now(), clock.wall_ns());
        let ahead = |probe: &Probe| probe.origin_ns + now.as_nanos() as i128 - i128::from(own_ns);
        let probes = self.probes.lock();
        let fresh = probes.iter().filter(|(_, probe)| now.saturating_sub(probe.at) <= PROBE_AGE_MAX);
        Walls { own_ns, ahead_ns: fresh.map(|(node, probe)| (*node, ahead(probe))).collect() }
    }
}

/// The wall clocks that are known at a moment.
struct Walls {
    own_ns: u64,
    /// How far each peer's is ahead of our own.
    ahead_ns: Vec<(NodeId, i128)>,
}

impl Walls {
    fn known(&self) -> usize {
        1 + self.ahead_ns.len()
    }
}

/// How far the median is ahead of our own wall; none where no majority is known.
fn median_of(walls: &Walls, cluster_nodes: usize) -> Option<i128> {
    let mut ahead_ns: Vec<i128> = walls.ahead_ns.iter().map(|(_, ahead_ns)| *ahead_ns).chain([0]).collect();
    ahead_ns.sort_unstable();
    (walls.known() > cluster_nodes / 2).then(|| ahead_ns[(ahead_ns.len() - 1) / 2])
}

fn is_far(off_ns: i128) -> bool {
    (off_ns / 1_000_000).unsigned_abs() > u128::from(CLOCK_ERROR_MS_MAX)
}

/// Stamps the entries of one term. Owned by the term's proposer.
pub struct Stamp {
    last_ns: u64,
    estimate_ns: u64,
    at: Duration,
}

impl Stamp {
    /// Begins a term: `last_ns` is the greatest log time applied, `base_ns` comes from [`Timekeeper::base_ns`].
    pub fn begin(last_ns: u64, base_ns: u64, clock: &dyn Clock) -> Result<Self, Problem> {
        let ahead_ms = last_ns.saturating_sub(base_ns) / 1_000_000;
        if ahead_ms > CLOCK_ERROR_MS_MAX {
            sometimes!(true, "log time was ahead of a new leader's clock");
            let detail = format!("log time is {ahead_ms} ms ahead of this node's clock; the group waits for it");
            return Err(Problem::new(Code::ClockUncertain, detail).retry_after_ms(ahead_ms));
        }
        Ok(Self { last_ns, estimate_ns: base_ns, at: clock.now() })
    }

    /// The next stamp, nanoseconds since 1970: greater than all before it.
    pub fn next(&mut self, clock: &dyn Clock) -> u64 {
        self.advance(clock.now(), clock.wall_ns());
        sometimes!(self.estimate_ns <= self.last_ns, "a stamp was clamped to rise");
        self.last_ns = match probe::planted("log-time-from-wall") {
            true => clock.wall_ns(),
            false => self.estimate_ns.max(self.last_ns + 1),
        };
        self.last_ns
    }

    fn advance(&mut self, now: Duration, wall_ns: u64) {
        let elapsed = now.saturating_sub(self.at).as_nanos();
        self.at = now;
        let straight = u128::from(self.estimate_ns) + elapsed;
        let pull = (elapsed * SLEW_PPM / 1_000_000).min(u128::from(wall_ns).abs_diff(straight));
        let slewed = if u128::from(wall_ns) > straight { straight + pull } else { straight - pull };
        self.estimate_ns = u64::try_from(slewed).unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that stands still.
    struct Still(Duration, u64);

    impl Clock for Still {
        fn now(&self) -> Duration {
            self.0
        }

        fn wall_ns(&self) -> u64 {
            self.1
        }

        fn sleep(&self, _: Duration) -> futures::future::BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn a_wall_that_jumps_after_the_others_were_asked_is_not_believed() {
        const WALL_NS: u64 = 1_700_000_000_000_000_000;
        let timekeeper = Timekeeper::default();
        let (sent, answered) = (Duration::from_millis(900), Duration::from_millis(1_100));
        for peer in [2, 3] {
            // On its way back for a tenth of a second.
            timekeeper.probed(NodeId(peer), WALL_NS - 100_000_000, sent, answered);
        }
        let later = Duration::from_millis(2_100);
        let true_ns = WALL_NS + 1_000_000_000;
        assert_eq!(timekeeper.base_ns(&Still(later, true_ns), 3), Ok(true_ns));
        let jumped = timekeeper.base_ns(&Still(later, true_ns + 60_000_000_000), 3);
        assert_eq!(jumped.expect_err("it is a minute ahead").code, Code::ClockUncertain);
    }

    #[test]
    fn a_wall_that_was_wrong_a_while_ago_does_not_vouch_for_one_that_is_wrong_now() {
        const WALL_NS: u64 = 1_700_000_000_000_000_000;
        const WRONG_NS: u64 = 40_000_000_000;
        let timekeeper = Timekeeper::default();
        let second = Duration::from_secs(1);
        timekeeper.probed(NodeId(3), WALL_NS + WRONG_NS, second, second);
        timekeeper.probed(NodeId(2), WALL_NS + 2_200_000_000, second * 16 / 5, second * 16 / 5);
        let jumped = Still(second * 16 / 5, WALL_NS + 2_200_000_000 + WRONG_NS);
        assert_eq!(timekeeper.base_ns(&jumped, 3).expect_err("it is wrong").code, Code::ClockUncertain);
    }

    #[test]
    fn the_one_wall_that_is_off_is_told_from_those_that_are_not() {
        const WALL_NS: u64 = 1_700_000_000_000_000_000;
        let timekeeper = Timekeeper::default();
        let (sent, answered) = (Duration::from_millis(998), Duration::from_secs(1));
        let clock = Still(answered, WALL_NS);
        assert!(!timekeeper.is_off(&clock, 3), "nobody else is known");
        timekeeper.probed(NodeId(2), WALL_NS + 40_000_000, sent, answered);
        timekeeper.probed(NodeId(3), WALL_NS + 900_000_000, sent, answered);
        assert!(!timekeeper.is_off(&clock, 3));
        assert!(timekeeper.trusts(NodeId(2), &clock, 3));
        assert!(!timekeeper.trusts(NodeId(3), &clock, 3));
        assert!(!timekeeper.trusts(NodeId(4), &clock, 3), "its wall is not known");
        let behind = Still(answered, WALL_NS - 5_000_000_000);
        assert!(timekeeper.is_off(&behind, 3));
        assert!(timekeeper.trusts(NodeId(2), &behind, 3), "whose own wall is off still knows who may lead");
        let alone = Timekeeper::default();
        alone.probed(NodeId(2), WALL_NS - 900_000_000, sent, answered);
        assert!(alone.base_ns(&clock, 3).is_err() && !alone.is_off(&clock, 3), "one of two walls is wrong, but which?");
    }

    #[test]
    fn a_wall_jump_within_a_term_has_no_effect_beyond_the_slew() {
        let mut stamp = Stamp { last_ns: 0, estimate_ns: 1_000_000_000, at: Duration::ZERO };
        stamp.advance(Duration::from_secs(1), 3_600_000_000_000);
        assert_eq!(stamp.estimate_ns, 2_000_500_000, "one second and 500 ppm of it");
        stamp.advance(Duration::from_secs(2), 0);
        assert_eq!(stamp.estimate_ns, 3_000_000_000, "back by 500 ppm at most, never backwards");
    }
}
