//! How much room a limit has, coarsely: what policy may see of quota.
//!
//! A hint of the moment at which a leader looked. Apply judges the limit itself at the action's own position, so a band
//! that has passed makes nothing stale and admits nothing.

use nethical_protocol::ids::LimitNumber;

use super::{Quota, Subject, cost_of};
use crate::command::CostV1;
use crate::quota::bucket::Fit;

/// The room under one limit.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
#[repr(u8)]
pub enum Band {
    /// There is no such limit, or it does not bind this action.
    #[default]
    None = 0,
    /// There is room.
    Ok = 1,
    /// A fifth of the cap or less is left.
    Low = 2,
    /// Nothing is left, or too little for this action.
    Out = 3,
}

impl Band {
    /// All bands.
    pub const ALL: [Band; 4] = [Band::None, Band::Ok, Band::Low, Band::Out];

    /// The word that policies compare with.
    pub fn as_str(self) -> &'static str {
        ["none", "ok", "low", "out"][self as usize]
    }

    /// The band of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|band| band.as_str() == word)
    }

    fn of(cap: u64, remaining: u64) -> Self {
        match remaining {
            0 => Self::Out,
            left if u128::from(left) * 5 <= u128::from(cap) => Self::Low,
            _ => Self::Ok,
        }
    }
}

impl Quota {
    /// The room under a limit for an action, before it is charged. Reads only.
    ///
    /// Of a leased limit a group knows no more than its own share: it is [`Band::Out`] where the parent has refused and
    /// the share does not do, else [`Band::Ok`].
    pub fn band(&self, number: LimitNumber, subject: &Subject, costs: &[CostV1], now_ns: u64) -> Band {
        let binds = self.limits.get(number).filter(|limit| limit.fact.tenant == subject.actor.tenant);
        let Some(limit) = binds.filter(|limit| subject.falls_under(limit)) else { return Band::None };
        let cost = cost_of(costs, limit).unwrap_or(0);
        let cost = if limit.is_leased { cost.max(1) } else { cost };
        let judged = self.judge_one(limit, subject.counter(limit), subject.claim(cost), now_ns);
        match judged.fit {
            Fit::Room | Fit::Ahead | Fit::Short if limit.is_leased => Band::Ok,
            Fit::Room | Fit::Ahead | Fit::Short => Band::of(judged.meter.cap(), judged.meter.remaining(judged.used)),
            Fit::After(_) | Fit::Exhausted | Fit::NoCounter | Fit::Never => Band::Out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_cap_is_low_and_nothing_is_out() {
        for (cap, remaining, band) in [
            (10, 10, Band::Ok),
            (10, 3, Band::Ok),
            (10, 2, Band::Low),
            (10, 1, Band::Low),
            (10, 0, Band::Out),
            (1, 1, Band::Ok),
            (u64::MAX, u64::MAX / 5, Band::Low),
            (0, 0, Band::Out),
        ] {
            assert_eq!(Band::of(cap, remaining), band, "{remaining} of {cap}");
        }
        assert!(Band::ALL.into_iter().all(|band| Band::from_word(band.as_str()) == Some(band)));
    }
}
