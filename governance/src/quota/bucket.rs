//! One counter and its arithmetic: exact integers, no drift, every rounding in the limit's favour.
//!
//! *Rates* are the generic cell rate algorithm (ITU-T I.371, "continuous-state leaky bucket", which is virtual
//! scheduling with TAT = at + level/amount): the level rises by an action's cost and leaks at `amount` per period. It is
//! kept in units/period_ns, so a nanosecond leaks exactly `amount` of it and no fraction is ever lost. Admitted cost
//! in any interval of t is at most `amount/period · t + burst`.
//! *Budgets* count within calendar windows `now / window`, *rolling* ones within the last `window`, see [`super::rolling`].
//! *Lifetime* caps count for ever, *concurrency* counts reservations while they live.
//!
//! Changing a limit keeps its level in units (rounded up) and the time of the last charge; a limit that was lowered
//! below its level admits nothing until enough has leaked or expired. What a shorter window has let go does not come
//! back with a longer one.

use nethical_protocol::control::LimitKind;
use nethical_protocol::{probe, sometimes};

use super::flow::CLOCKS_NS;
use super::rolling::Cells;

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
    /// A cap that never resets.
    Lifetime {
        /// Units, once and for all.
        cap: u64,
    },
    /// A cap within every window of a length.
    Rolling {
        /// Units per window.
        cap: u64,
        /// Nanoseconds, at least 1 s.
        window_ns: u64,
    },
    /// A cap on live reservations.
    Concurrency {
        /// Reservations.
        cap: u64,
    },
}

/// A stored counter. Absent is the same as whole.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Of a lifetime cap.
    Lifetime {
        /// Units ever charged.
        spent: u64,
    },
    /// Of a rolling window; up to 528 B more than the others.
    Rolling(Cells),
    /// Of live reservations.
    Concurrency {
        /// How many live.
        live: u64,
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
    /// The same of a limit that refuses nobody: it is counted ahead of the parent's grant.
    Ahead,
    /// There is no room left, and none comes at a time that is known.
    Exhausted,
    /// The group keeps as many counters that never end as it may, and this would be one more.
    NoCounter,
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
            LimitKind::Lifetime { cap } => Self::Lifetime { cap },
            LimitKind::Concurrency { cap } => Self::Concurrency { cap },
            LimitKind::Rolling { cap, window_s } => Self::Rolling { cap, window_ns: nanoseconds(window_s) },
        }
    }

    /// Burst or cap.
    pub fn cap(&self) -> u64 {
        match *self {
            Self::Rate { burst, .. } => burst,
            Self::Budget { cap, .. }
            | Self::Lifetime { cap }
            | Self::Rolling { cap, .. }
            | Self::Concurrency { cap } => cap,
        }
    }

    /// The same with so much less in it, for those who may not take the rest.
    pub fn keeping(&self, reserve: u64) -> Self {
        let mut meter = *self;
        match &mut meter {
            Self::Rate { burst: cap, .. }
            | Self::Budget { cap, .. }
            | Self::Lifetime { cap }
            | Self::Rolling { cap, .. }
            | Self::Concurrency { cap } => *cap = cap.saturating_sub(reserve),
        }
        meter
    }

    /// True where a counter, once charged, is never whole again.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Lifetime { .. })
    }

    /// True where reservations are counted instead of what they reserve.
    pub fn counts_reservations(&self) -> bool {
        matches!(self, Self::Concurrency { .. })
    }

    /// What a counter holds at `now_ns`, in this meter's scale (rates: units/period_ns; others: units).
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
            (Self::Lifetime { .. }, Some(&Bucket::Lifetime { spent })) => u128::from(spent),
            (Self::Rolling { window_ns, .. }, Some(Bucket::Rolling(cells))) => cells.used(window_ns, now_ns),
            (Self::Concurrency { .. }, Some(&Bucket::Concurrency { live })) => u128::from(live),
            // Nothing charged, an earlier window, or a counter of another kind.
            _ => 0,
        }
    }

    /// Whether `cost` fits beside what the counter holds.
    pub fn fit(&self, bucket: Option<&Bucket>, cost: u64, now_ns: u64) -> Fit {
        if cost == 0 {
            return Fit::Room;
        }
        if cost > self.cap() {
            return Fit::Never;
        }
        let over = u64::from(probe::planted("over-grant-by-one"));
        let room = self.scaled(self.cap() - cost) + self.scaled(over);
        if self.used(bucket, now_ns) <= room {
            return Fit::Room;
        }
        sometimes!(matches!(self, Self::Rate { .. }), "a rate limit refused something");
        sometimes!(matches!(self, Self::Budget { .. }), "a budget ran out");
        match self.wait_ns(bucket, room, now_ns) {
            u64::MAX if self.is_lasting() || self.counts_reservations() => Fit::Exhausted,
            wait_ns => Fit::After(wait_ns),
        }
    }

    /// As [`Meter::of`] for a limit that several groups share, whose clocks are apart: by so much earlier or later may a
    /// flow be spent than its parent counts, so a rate's burst is smaller and a rolling window longer.
    pub fn leased(kind: &LimitKind) -> Self {
        match Self::of(kind) {
            Self::Rate { amount, period_ns, burst } => {
                let apart = (u128::from(amount) * u128::from(CLOCKS_NS)).div_ceil(u128::from(period_ns));
                let burst = burst.saturating_sub(u64::try_from(apart).unwrap_or(u64::MAX));
                Self::Rate { amount, period_ns, burst }
            }
            Self::Rolling { cap, window_ns } => Self::Rolling { cap, window_ns: window_ns.saturating_add(CLOCKS_NS) },
            stock => stock,
        }
    }

    /// True where time refills the limit, so that only the parent of its leases may.
    pub fn is_flow(&self) -> bool {
        matches!(self, Self::Rate { .. } | Self::Rolling { .. })
    }

    /// The window of a share's lease at an instant: a budget's calendar window by its beginning, 0 for what has none.
    pub fn lease_window(&self, now_ns: u64) -> u64 {
        match *self {
            Self::Budget { window_ns, .. } => window_start(now_ns, window_ns),
            _ => 0,
        }
    }

    /// True where a window lies so far back that nobody may speak of it any more.
    pub fn is_past(&self, window_at_ns: u64, now_ns: u64) -> bool {
        match *self {
            Self::Budget { window_ns, .. } => window_at_ns.saturating_add(window_ns.saturating_mul(2)) <= now_ns,
            _ => false,
        }
    }

    /// Nanoseconds until a leased limit of which so much is used is whole again, if nobody spends more.
    pub fn whole_in(&self, used: u128, now_ns: u64) -> u64 {
        match *self {
            _ if used == 0 => 0,
            Self::Rate { amount, .. } => nanoseconds_to_leak(used, amount),
            Self::Budget { window_ns, .. } => window_left_ns(now_ns, window_ns),
            Self::Rolling { window_ns, .. } => window_ns,
            Self::Lifetime { .. } | Self::Concurrency { .. } => u64::MAX,
        }
    }

    /// Nanoseconds until the counter holds no more than `room`, in this meter's scale; 0 where it does.
    pub fn wait_for(&self, bucket: Option<&Bucket>, room: u128, now_ns: u64) -> u64 {
        if self.used(bucket, now_ns) <= room { 0 } else { self.wait_ns(bucket, room, now_ns) }
    }

    /// The counter after a charge, whether or not it fits.
    pub fn charged(&self, bucket: Option<&Bucket>, cost: u64, now_ns: u64) -> Bucket {
        let level = self.used(bucket, now_ns).saturating_add(self.scaled(cost));
        let spent = u64::try_from(level).unwrap_or(u64::MAX);
        match (*self, bucket) {
            (Self::Rate { period_ns, .. }, _) => Bucket::Rate { at_ns: now_ns, level, period_ns },
            (Self::Budget { .. }, _) => Bucket::Budget { at_ns: now_ns, spent },
            (Self::Lifetime { .. }, _) => Bucket::Lifetime { spent },
            (Self::Concurrency { .. }, _) => Bucket::Concurrency { live: spent },
            (Self::Rolling { window_ns, .. }, Some(Bucket::Rolling(cells))) => {
                Bucket::Rolling(cells.charged(cost, window_ns, now_ns))
            }
            (Self::Rolling { window_ns, .. }, _) => Bucket::Rolling(Cells::default().charged(cost, window_ns, now_ns)),
        }
    }

    /// The counter after giving back `units` of what was charged at `held_ns`, under the same amounts as now.
    ///
    /// It never falls below what it would hold had they never been charged. A window gives back only what it still
    /// counts. A rate gives back what cannot have leaked since: had `units` never been in the bucket, the rest of it
    /// would have leaked at most `amount` per period less; so the two levels differ by at least `units` minus all that
    /// can leak in that time, and that much is safe. `None` where nothing changes.
    pub fn refunded(&self, bucket: &Bucket, units: u64, held_ns: u64, now_ns: u64) -> Option<Bucket> {
        match (*self, bucket) {
            (Self::Rate { amount, period_ns, .. }, Bucket::Rate { .. }) => {
                let leaked = u128::from(now_ns.saturating_sub(held_ns)) * u128::from(amount);
                let level = self.used(Some(bucket), now_ns).saturating_sub(self.scaled(units).saturating_sub(leaked));
                Some(Bucket::Rate { at_ns: now_ns, level, period_ns })
            }
            (Self::Budget { window_ns, .. }, &Bucket::Budget { at_ns, spent }) => {
                let counts = held_ns >= window_start(now_ns, window_ns);
                counts.then_some(Bucket::Budget { at_ns, spent: spent.saturating_sub(units) })
            }
            (Self::Rolling { window_ns, .. }, Bucket::Rolling(cells)) => {
                Some(Bucket::Rolling(cells.refunded(units, held_ns, window_ns, now_ns)))
            }
            (Self::Lifetime { .. }, &Bucket::Lifetime { spent }) => {
                Some(Bucket::Lifetime { spent: spent.saturating_sub(units) })
            }
            (Self::Concurrency { .. }, &Bucket::Concurrency { live }) => {
                Some(Bucket::Concurrency { live: live.saturating_sub(units) })
            }
            _ => None,
        }
    }

    /// Whole units left.
    pub fn remaining(&self, used: u128) -> u64 {
        let left = self.scaled(self.cap()).saturating_sub(used);
        let units = match *self {
            Self::Rate { period_ns, .. } => left / u128::from(period_ns),
            _ => left,
        };
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// Nanoseconds until the counter is whole again; 0 where it is, `u64::MAX` where it never will be.
    pub fn reset_ns(&self, bucket: Option<&Bucket>, now_ns: u64) -> u64 {
        match self.used(bucket, now_ns) {
            0 => 0,
            _ => self.wait_ns(bucket, 0, now_ns),
        }
    }

    /// Nanoseconds until the counter, which holds more than `room` now, holds no more than that.
    fn wait_ns(&self, bucket: Option<&Bucket>, room: u128, now_ns: u64) -> u64 {
        match (*self, bucket) {
            (Self::Rate { amount, .. }, _) => {
                nanoseconds_to_leak(self.used(bucket, now_ns).saturating_sub(room), amount)
            }
            (Self::Budget { window_ns, .. }, _) => window_left_ns(now_ns, window_ns),
            (Self::Rolling { window_ns, .. }, Some(Bucket::Rolling(cells))) => cells.wait_ns(room, window_ns, now_ns),
            (Self::Lifetime { .. } | Self::Rolling { .. } | Self::Concurrency { .. }, _) => u64::MAX,
        }
    }

    /// Units in this meter's scale. Two u64 always fit a u128.
    pub(super) fn scaled(&self, units: u64) -> u128 {
        match *self {
            Self::Rate { period_ns, .. } => u128::from(units) * u128::from(period_ns),
            _ => u128::from(units),
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

pub(super) fn window_left_ns(now_ns: u64, window_ns: u64) -> u64 {
    window_ns - now_ns % window_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: LimitKind = LimitKind::Rate { amount: 3, period_s: 1, burst: 2 };

    fn take(meter: &Meter, bucket: &mut Option<Bucket>, cost: u64, now_ns: u64) -> Fit {
        let fit = meter.fit(bucket.as_ref(), cost, now_ns);
        if fit == Fit::Room && cost > 0 {
            *bucket = Some(meter.charged(bucket.as_ref(), cost, now_ns));
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
        assert_eq!(meter.fit(None, 3, 0), Fit::Never);
        let nothing = Meter::of(&LimitKind::Rate { amount: 0, period_s: 1, burst: 5 });
        assert_eq!((nothing.fit(None, 1, 0), nothing.fit(None, 0, 0)), (Fit::Never, Fit::Room));
    }

    #[test]
    fn a_lowered_limit_keeps_what_was_used() {
        let mut bucket = None;
        take(&Meter::of(&LimitKind::Rate { amount: 10, period_s: 1, burst: 10 }), &mut bucket, 10, 0);
        let lowered = Meter::of(&LimitKind::Rate { amount: 1, period_s: 60, burst: 2 });
        let used = lowered.used(bucket.as_ref(), 0);
        assert_eq!(lowered.remaining(used), 0);
        // Nine of the ten units must leak, one a minute, before one more fits into a burst of two.
        assert_eq!(lowered.fit(bucket.as_ref(), 1, 0), Fit::After(9 * 60 * SECOND_NS));
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
    fn a_lifetime_cap_never_resets_and_waiting_is_no_advice() {
        let (meter, mut bucket) = (Meter::of(&LimitKind::Lifetime { cap: 10 }), None);
        assert_eq!(take(&meter, &mut bucket, 11, 0), Fit::Never);
        assert_eq!(take(&meter, &mut bucket, 9, 0), Fit::Room);
        assert_eq!(take(&meter, &mut bucket, 2, u64::MAX), Fit::Exhausted);
        assert_eq!(take(&meter, &mut bucket, 1, u64::MAX), Fit::Room);
        assert_eq!((meter.reset_ns(bucket.as_ref(), 5), meter.reset_ns(None, 5)), (u64::MAX, 0));
    }

    #[test]
    fn a_rolling_cap_has_no_boundary_to_burst_across() {
        let (meter, mut bucket) = (Meter::of(&LimitKind::Rolling { cap: 10, window_s: 3_600 }), None);
        let minute_ns = 60 * SECOND_NS;
        assert_eq!(take(&meter, &mut bucket, 10, 59 * minute_ns), Fit::Room);
        // A calendar hour would begin here and admit ten more.
        assert_eq!(take(&meter, &mut bucket, 1, 60 * minute_ns), Fit::After(59 * minute_ns));
        assert_eq!(take(&meter, &mut bucket, 1, 119 * minute_ns - 1), Fit::After(1));
        assert_eq!(take(&meter, &mut bucket, 10, 119 * minute_ns), Fit::Room);
    }

    #[test]
    fn extreme_limits_never_overflow() {
        for kind in [
            LimitKind::Rate { amount: u64::MAX, period_s: u64::MAX, burst: u64::MAX },
            LimitKind::Rate { amount: 1, period_s: u64::MAX, burst: u64::MAX },
            LimitKind::Rate { amount: u64::MAX, period_s: 0, burst: u64::MAX },
            LimitKind::Budget { cap: u64::MAX, window_s: u64::MAX },
            LimitKind::Budget { cap: u64::MAX, window_s: 0 },
            LimitKind::Lifetime { cap: u64::MAX },
            LimitKind::Rolling { cap: u64::MAX, window_s: u64::MAX },
            LimitKind::Rolling { cap: u64::MAX, window_s: 0 },
        ] {
            let (meter, mut bucket) = (Meter::of(&kind), None);
            for cost in [u64::MAX, 1, u64::MAX, 0] {
                for now_ns in [0, 1, u64::MAX] {
                    take(&meter, &mut bucket, cost, now_ns);
                    // As a soft limit does, whether or not it fits.
                    bucket = Some(meter.charged(bucket.as_ref(), cost.max(1), now_ns));
                    let used = meter.used(bucket.as_ref(), now_ns);
                    let _ = (meter.remaining(used), meter.reset_ns(bucket.as_ref(), now_ns));
                    let other = Meter::of(&RATE);
                    let _ = other.fit(bucket.as_ref(), 1, now_ns);
                }
            }
        }
    }
}
