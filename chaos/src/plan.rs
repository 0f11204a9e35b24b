//! What a link does to its datagrams, as a pure function of the seed and the datagram's place. No clock, no sockets.
//!
//! The fate of a datagram depends on (seed, direction, session, position) alone: two relays with one seed lose the
//! same datagrams, however fast they arrive. What depends on time (delays, cuts) is given as durations.

use std::str::FromStr;
use std::time::Duration;

/// A link's two ways. QUIC answers on the path on which it was asked, so both pass the same relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From whoever sends to the relay, to its target.
    ToTarget,
    /// From the target back.
    FromTarget,
}

impl Direction {
    /// Both, in the order of their numbers.
    pub const ALL: [Direction; 2] = [Direction::ToTarget, Direction::FromTarget];

    /// The word used in flags and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::ToTarget => "to-target",
            Direction::FromTarget => "from-target",
        }
    }
}

/// A time in which one direction passes nothing. The other direction is not touched: that is what makes it hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Which way.
    pub direction: Direction,
    /// Since the relay's start.
    pub from: Duration,
    /// Since the relay's start; the cut ends here.
    pub until: Duration,
}

/// A cut that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no cut; write to-target@3..8 or from-target@3..8, in whole seconds since the start")]
pub struct BadCut(String);

impl FromStr for Cut {
    type Err = BadCut;

    fn from_str(text: &str) -> Result<Self, BadCut> {
        let read = || {
            let (word, times) = text.split_once('@')?;
            let (from, until) = times.split_once("..")?;
            let direction = Direction::ALL.into_iter().find(|direction| direction.as_str() == word)?;
            let seconds = |text: &str| text.parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()));
            let (from, until) = (seconds(from)?, seconds(until)?);
            (from < until).then_some(Cut { direction, from, until })
        };
        read().ok_or_else(|| BadCut(text.to_owned()))
    }
}

/// What happens on a link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The same seed gives the same losses and the same jitter.
    pub seed: u64,
    /// Each way takes at least this long.
    pub latency: Duration,
    /// Up to this much longer, drawn for each datagram; datagrams overtake each other within it.
    pub jitter: Duration,
    /// Of a hundred datagrams, how many are lost; 100 loses all.
    pub loss_percent: u8,
    /// One-way cuts by time.
    pub cuts: Vec<Cut>,
}

/// What becomes of one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost,
    /// It arrives this much later.
    After(Duration),
}

impl Plan {
    /// The fate of the datagram at `position` (from 0) of one direction of one session.
    pub fn fate(&self, direction: Direction, session: u64, position: u64) -> Fate {
        let place = mix(self.seed ^ mix(session.wrapping_mul(2).wrapping_add(direction as u64) ^ mix(position)));
        if place % 100 < u64::from(self.loss_percent) {
            return Fate::Lost;
        }
        let jitter_us = u64::try_from(self.jitter.as_micros()).unwrap_or(u64::MAX);
        let extra_us = if jitter_us == 0 { 0 } else { mix(place) % jitter_us };
        Fate::After(self.latency + Duration::from_micros(extra_us))
    }

    /// True where nothing passes this way at this time since the start.
    pub fn is_cut(&self, direction: Direction, elapsed: Duration) -> bool {
        self.cuts.iter().any(|cut| cut.direction == direction && cut.from <= elapsed && elapsed < cut.until)
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit moves every output bit.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(plan: &Plan, direction: Direction, session: u64) -> Vec<u64> {
        (0..10_000).filter(|position| plan.fate(direction, session, *position) == Fate::Lost).collect()
    }

    #[test]
    fn one_seed_loses_the_same_datagrams_and_another_seed_others() {
        let plan = Plan { seed: 7, loss_percent: 10, ..Plan::default() };
        let other = Plan { seed: 8, ..plan.clone() };
        let first = lost(&plan, Direction::ToTarget, 0);
        assert_eq!(first, lost(&plan.clone(), Direction::ToTarget, 0));
        assert_ne!(first, lost(&other, Direction::ToTarget, 0));
        assert_ne!(first, lost(&plan, Direction::FromTarget, 0), "the two ways have dice of their own");
        assert_ne!(first, lost(&plan, Direction::ToTarget, 1), "so have sessions");
        assert!((900..1_100).contains(&first.len()), "{} of 10,000 at ten percent", first.len());
    }

    #[test]
    fn nothing_is_lost_at_zero_and_everything_at_a_hundred() {
        assert!(lost(&Plan::default(), Direction::ToTarget, 0).is_empty());
        assert_eq!(lost(&Plan { loss_percent: 100, ..Plan::default() }, Direction::ToTarget, 0).len(), 10_000);
    }

    #[test]
    fn delays_stay_between_latency_and_latency_plus_jitter() {
        let (latency, jitter) = (Duration::from_millis(40), Duration::from_millis(10));
        let plan = Plan { latency, jitter, ..Plan::default() };
        let delays: Vec<Fate> = (0..1_000).map(|position| plan.fate(Direction::ToTarget, 0, position)).collect();
        for fate in &delays {
            assert!(matches!(fate, Fate::After(delay) if (latency..latency + jitter).contains(delay)), "{fate:?}");
        }
        assert!(delays.iter().any(|fate| *fate != delays[0]), "jitter varies");
        let steady = Plan { latency, ..Plan::default() };
        assert_eq!(steady.fate(Direction::FromTarget, 3, 9), Fate::After(latency));
    }

    #[test]
    fn a_cut_is_one_way_and_ends() {
        let plan = Plan { cuts: vec!["to-target@3..8".parse().expect("a cut")], ..Plan::default() };
        let at = Duration::from_secs;
        assert!(!plan.is_cut(Direction::ToTarget, at(2)));
        assert!(plan.is_cut(Direction::ToTarget, at(3)));
        assert!(!plan.is_cut(Direction::FromTarget, at(3)));
        assert!(!plan.is_cut(Direction::ToTarget, at(8)));
        for bad in ["", "to-target", "sideways@1..2", "to-target@2..1", "to-target@1..x", "to-target@-1..2"] {
            assert_eq!(bad.parse::<Cut>(), Err(BadCut(bad.to_owned())), "{bad}");
        }
    }
}
