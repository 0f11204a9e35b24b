//! One counter and its arithmetic: exact integers, no drift, every rounding in the limit's favour.
//!
//! *Rates* are the generic cell rate algorithm (ITU-T I.371, "continuous-state leaky bucket", which is virtual
//! scheduling with TAT = at + level/amount): the level rises by an action's cost and leaks at `amount` per period. It is
//! kept in units/period_ns, so a nanosecond leaks exactly `amount` of it and no fraction is ever lost. Admitted cost
//! in any interval of t is at most `amount/period · t + burst`.
//! *Budgets* count within calendar windows `now / window`.
//!
//! Changing a limit keeps its level in units (rounded up) and the time of the last charge; a limit that was lowered
//! below its level admits nothing until enough has leaked.

use nethical_protocol::control::LimitKind;
use nethical_protocol::{probe, sometimes};

use super::lease::Share;

const SECOND_NS: u64 = 1_000_000_000;

/// A limit's kind, ready for arithmetic in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meter {
    /// A rate with a burst.
    Rate {
        /// Units that leak away per period.
        amount: u64,
        /// Nanoseconds, at least 1 s.
        period_ns: u64,
        /// Units that fit. 0 where `amount` is 0: a bucket that never leaks admits nothing.
        burst: u64,
    },
    /// A cap per calendar window.
    Budget {
        /// Units per window.
        cap: u64,
        /// Nanoseconds, at least 1 s.
        window_ns: u64,
    },
}

/// A stored counter. Absent is the same as whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// Of a rate.
    Rate {
        /// Log time of the last charge, nanoseconds.
        at_ns: u64,
        /// Level then, in units/`period_ns`.
        level: u128,
        /// The limit's period when it was charged.
        period_ns: u64,
    },
    /// Of a budget.
    Budget {
        /// Log time of the last charge, nanoseconds.
        at_ns: u64,
        /// Units charged in that instant's window.
        spent: u64,
    },
}

/// Whether a cost fits now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It fits.
    Room,
    /// It fits after this many nanoseconds and not one earlier, if nothing else is charged.
    After(u64),
    /// It is more than the limit could ever give.
    Never,
    /// It is more than this group's share of a leased limit; its parent may have more.
    Short,
}

impl Meter {
    /// From what control said. A period or window of 0 counts as 1 s.
    pub fn of(kind: &LimitKind) -> Self {
        let nanoseconds = |seconds: u64| seconds.max(1).saturating_mul(SECOND_NS);
        match *kind {
            LimitKind::Rate { amount, period_s, burst } => {
                let burst = if amount == 0 { 0 } else { burst };
                Self::Rate { amount, period_ns: nanoseconds(period_s), burst }
            }
            LimitKind::Budget { cap, window_s } => Self::Budget { cap, window_ns: nanoseconds(window_s) },
        }
    }

    /// Burst or cap.
    pub fn cap(&self) -> u64 {
        match *self {
            Self::Rate { burst, .. } => burst,
            Self::Budget { cap, .. } => cap,
        }
    }

    /// What a counter holds at `now_ns`, in this meter's scale (rates: units/period_ns; budgets: units).
    pub fn used(&self, bucket: Option<&Bucket>, now_ns: u64) -> u128 {
        match (*self, bucket) {
            (Self::Rate { amount, period_ns, .. }, Some(&Bucket::Rate { at_ns, level, period_ns: was_ns })) => {
                let leaked = u128::from(now_ns.saturating_sub(at_ns)) * u128::from(amount);
                rescale(level, was_ns, period_ns).saturating_sub(leaked)
            }
            (Self::Budget { window_ns, .. }, Some(&Bucket::Budget { at_ns, spent }))
                if at_ns >= window_start(now_ns, window_ns) =>
            {
                u128::from(spent)
            }
            // Nothing charged, an earlier window, or a counter of another kind.
            _ => 0,
        }
    }

    /// Whether `cost` fits beside what is used.
    pub fn fit(&self, used: u128, cost: u64, now_ns: u64) -> Fit {
        if cost == 0 {
            return Fit::Room;
        }
        if cost > self.cap() {
            return Fit::Never;
        }
        let over = u64::from(probe::planted("over-grant-by-one"));
        let room = self.scaled(self.cap() - cost) + self.scaled(over);
        if used <= room {
            return Fit::Room;
        }
        sometimes!(matches!(self, Self::Rate { .. }), "a rate limit refused something");
        sometimes!(matches!(self, Self::Budget { .. }), "a budget ran out");
        Fit::After(match *self {
            Self::Rate { amount, .. } => nanoseconds_to_leak(used - room, amount),
            Self::Budget { window_ns, .. } => window_left_ns(now_ns, window_ns),
        })
    }

    /// As [`Meter::fit`] for a leased budget, of which this group has a share. Only the parent may say that none is left.
    pub fn fit_of(&self, share: &Share, cost: u64, now_ns: u64) -> Fit {
        match *self {
            _ if cost == 0 => Fit::Room,
            _ if cost > self.cap() => Fit::Never,
            _ if cost <= share.balance() => Fit::Room,
            Self::Budget { window_ns, .. } if share.refused_until_ns > now_ns => {
                sometimes!(true, "a leased budget ran out");
                Fit::After(window_left_ns(now_ns, window_ns))
            }
            _ => Fit::Short,
        }
    }

    /// When the calendar window of an instant begins; `None` for a rate.
    pub fn window_of(&self, now_ns: u64) -> Option<u64> {
        match *self {
            Self::Rate { .. } => None,
            Self::Budget { window_ns, .. } => Some(window_start(now_ns, window_ns)),
        }
    }

    /// True where a window lies so far back that nobody may speak of it any more.
    pub fn is_past(&self, window_at_ns: u64, now_ns: u64) -> bool {
        match *self {
            Self::Rate { .. } => true,
            Self::Budget { window_ns, .. } => window_at_ns.saturating_add(window_ns.saturating_mul(2)) <= now_ns,
        }
    }

    /// The counter after charging a cost that fits.
    pub fn charged(&self, used: u128, cost: u64, now_ns: u64) -> Bucket {
        let level = used.saturating_add(self.scaled(cost));
        match *self {
            Self::Rate { period_ns, .. } => Bucket::Rate { at_ns: now_ns, level, period_ns },
            Self::Budget { .. } => Bucket::Budget { at_ns: now_ns, spent: u64::try_from(level).unwrap_or(u64::MAX) },
        }
    }

    /// Whole units left.
    pub fn remaining(&self, used: u128) -> u64 {
        let left = self.scaled(self.cap()).saturating_sub(used);
        let units = match *self {
            Self::Rate { period_ns, .. } => left / u128::from(period_ns),
            Self::Budget { .. } => left,
        };
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// Nanoseconds until the counter is whole again; 0 where it is.
    pub fn reset_ns(&self, used: u128, now_ns: u64) -> u64 {
        match *self {
            _ if used == 0 => 0,
            Self::Rate { amount, .. } => nanoseconds_to_leak(used, amount),
            Self::Budget { window_ns, .. } => window_left_ns(now_ns, window_ns),
        }
    }

    /// Units in this meter's scale. Two u64 always fit a u128.
    fn scaled(&self, units: u64) -> u128 {
        match *self {
            Self::Rate { period_ns, .. } => u128::from(units) * u128::from(period_ns),
            Self::Budget { .. } => u128::from(units),
        }
    }
}

/// A level of one period in the scale of another, rounded up; in two parts, so that nothing overflows.
fn rescale(level: u128, was_ns: u64, period_ns: u64) -> u128 {
    if was_ns == period_ns {
        return level;
    }
    let (was, is) = (u128::from(was_ns.max(1)), u128::from(period_ns));
    (level / was).saturating_mul(is).saturating_add((level % was * is).div_ceil(was))
}

fn nanoseconds_to_leak(level: u128, amount: u64) -> u64 {
    if amount == 0 {
        return u64::MAX;
    }
    u64::try_from(level.div_ceil(u128::from(amount))).unwrap_or(u64::MAX)
}

fn window_start(now_ns: u64, window_ns: u64) -> u64 {
    now_ns - now_ns % window_ns
}

fn window_left_ns(now_ns: u64, window_ns: u64) -> u64 {
    window_ns - now_ns % window_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: LimitKind = LimitKind::Rate { amount: 3, period_s: 1, burst: 2 };

    fn take(meter: &Meter, bucket: &mut Option<Bucket>, cost: u64, now_ns: u64) -> Fit {
        let used = meter.used(bucket.as_ref(), now_ns);
        let fit = meter.fit(used, cost, now_ns);
        if fit == Fit::Room && cost > 0 {
            *bucket = Some(meter.charged(used, cost, now_ns));
        }
        fit
    }

    #[test]
    fn three_a_second_is_a_third_of_a_second_each_and_never_drifts() {
        let (meter, mut bucket) = (Meter::of(&RATE), None);
        assert_eq!(take(&meter, &mut bucket, 2, 0), Fit::Room);
        // A third of a second is not a whole number of nanoseconds: the wait rounds up.
        assert_eq!(take(&meter, &mut bucket, 1, 0), Fit::After(333_333_334));
        assert_eq!(take(&meter, &mut bucket, 1, 333_333_333), Fit::After(1));
        // One action at each third of a second, rounded up, for an hour: all fit, and none more.
        for third in 1..=10_800u64 {
            let now_ns = (third * SECOND_NS).div_ceil(3);
            assert_eq!(take(&meter, &mut bucket, 1, now_ns), Fit::Room, "at {now_ns}");
            assert!(matches!(take(&meter, &mut bucket, 1, now_ns), Fit::After(_)));
        }
    }

    #[test]
    fn a_cost_above_the_burst_never_fits_and_a_rate_of_nothing_admits_nothing() {
        let meter = Meter::of(&RATE);
        assert_eq!(meter.fit(0, 3, 0), Fit::Never);
        let nothing = Meter::of(&LimitKind::Rate { amount: 0, period_s: 1, burst: 5 });
        assert_eq!((nothing.fit(0, 1, 0), nothing.fit(0, 0, 0)), (Fit::Never, Fit::Room));
    }

    #[test]
    fn a_lowered_limit_keeps_what_was_used() {
        let mut bucket = None;
        take(&Meter::of(&LimitKind::Rate { amount: 10, period_s: 1, burst: 10 }), &mut bucket, 10, 0);
        let lowered = Meter::of(&LimitKind::Rate { amount: 1, period_s: 60, burst: 2 });
        let used = lowered.used(bucket.as_ref(), 0);
        assert_eq!(lowered.remaining(used), 0);
        // Nine of the ten units must leak, one a minute, before one more fits into a burst of two.
        assert_eq!(lowered.fit(used, 1, 0), Fit::After(9 * 60 * SECOND_NS));
    }

    #[test]
    fn what_was_used_is_rounded_up_when_the_period_changes() {
        let mut bucket = None;
        take(&Meter::of(&LimitKind::Rate { amount: 1, period_s: 3, burst: 1 }), &mut bucket, 1, 0);
        // One nanosecond later 2,999,999,999/3,000,000,000 of a unit is left of it: in thirds of that scale, all of it.
        let Some(Bucket::Rate { level, period_ns, .. }) = bucket else { panic!("a rate's counter") };
        assert_eq!(rescale(level - 1, period_ns, SECOND_NS), u128::from(SECOND_NS));
        assert_eq!(rescale(level - 3, period_ns, SECOND_NS), u128::from(SECOND_NS) - 1);
    }

    #[test]
    fn budgets_follow_the_calendar_and_a_shorter_window_forgets_nothing_too_soon() {
        let (hour_ns, mut bucket) = (3_600 * SECOND_NS, None);
        let meter = Meter::of(&LimitKind::Budget { cap: 10, window_s: 7_200 });
        assert_eq!(take(&meter, &mut bucket, 9, hour_ns + 5), Fit::Room);
        assert_eq!(take(&meter, &mut bucket, 2, hour_ns + 5), Fit::After(hour_ns - 5));
        let shorter = Meter::of(&LimitKind::Budget { cap: 10, window_s: 3_600 });
        assert_eq!(shorter.used(bucket.as_ref(), hour_ns + 6), 9);
        assert_eq!(shorter.used(bucket.as_ref(), 2 * hour_ns), 0);
    }

    #[test]
    fn extreme_limits_never_overflow() {
        for kind in [
            LimitKind::Rate { amount: u64::MAX, period_s: u64::MAX, burst: u64::MAX },
            LimitKind::Rate { amount: 1, period_s: u64::MAX, burst: u64::MAX },
            LimitKind::Rate { amount: u64::MAX, period_s: 0, burst: u64::MAX },
            LimitKind::Budget { cap: u64::MAX, window_s: u64::MAX },
            LimitKind::Budget { cap: u64::MAX, window_s: 0 },
        ] {
            let (meter, mut bucket) = (Meter::of(&kind), None);
            for cost in [u64::MAX, 1, u64::MAX, 0] {
                for now_ns in [0, 1, u64::MAX] {
                    take(&meter, &mut bucket, cost, now_ns);
                    let used = meter.used(bucket.as_ref(), now_ns);
                    let _ = (meter.remaining(used), meter.reset_ns(used, now_ns));
                    let other = Meter::of(&RATE);
                    let _ = other.fit(other.used(bucket.as_ref(), now_ns), 1, now_ns);
                }
            }
        }
    }
}
