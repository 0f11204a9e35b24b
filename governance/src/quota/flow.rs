//! Flows: leases of limits that time refills, rates and rolling windows. The parent alone refills.
//!
//! The parent keeps the counter of the whole limit and hands out units of it. With P units left at the parent and H held by
//! children, never more than a full counter may be about: P + H ≤ burst. The parent knows H only as O, granted − returned −
//! spent as far as it was told, which is never less. So
//!
//! - a *rate*'s level never leaks below O. Admitted in any interval is then at most `rate · t + burst`: with G granted in
//!   it, admitted ≤ G + H at its beginning, G ≤ burst − level + rate · t, and level ≥ O ≥ H. When a child tells that it had
//!   spent by some time, the level leaks from that time on as if this had been known.
//! - a *rolling window* counts what was told as spent, from when it was told, and O besides.
//!
//! What a child tells as spent beyond what it was granted, by settlements that owe or counted ahead of grants (see
//! [`super::ahead`]), is taken over as granted and spent, whatever is left: the counter may then stand above the burst or
//! the cap, and nobody is granted anything before it has leaked. Since G never comes of that, it admits nothing more.
//!
//! A share has *lives*. A life ends [`LIFE_NS`] after the parent's last grant in it; what is unspent by then is void, on
//! the child a clock's error earlier and on the parent a clock's error later. So a child that cannot be reached takes
//! nothing for long, and forgets a share that is over: it is given another life. A rate's burst is smaller, and a rolling
//! window longer, by what clocks of different groups may be apart ([`CLOCKS_NS`]), so that no window of anybody's log time
//! admits too much.
//!
//! Costs and counters only; it must not know tenants or verdicts.

use nethical_protocol::sometimes;

use super::bucket::{Bucket, Meter};
use super::lease::{Account, CountersV1, GROUPS_APART_NS, Granted, LeaseAskV1, LeaseKey, Leases, granted_of};
use super::rolling::Cells;
use super::{BucketKey, Quota};

/// A life of a share lasts so long after the last grant in it.
pub const LIFE_NS: u64 = 10_000_000_000;
/// How far stamps of one interval may lie apart in two groups' logs: at either end by what two groups may differ.
pub const CLOCKS_NS: u64 = 2 * GROUPS_APART_NS;

/// What an ask changes before anything is granted, in units.
#[derive(Debug, Clone, Copy, Default)]
struct News {
    /// Held by all children before, as the parent knew.
    held_before: u64,
    /// Of that, void by now.
    void: u64,
    /// Of that, given back.
    returned: u64,
    /// Spent that was not held, so that it is counted only now.
    ahead: u64,
    /// Of what was held, spent …
    spent: u64,
    /// … not later than this, by the parent's log time.
    spent_by_ns: u64,
}

impl News {
    fn held(&self) -> u64 {
        self.held_before.saturating_sub(self.void).saturating_sub(self.returned).saturating_sub(self.spent)
    }
}

impl Quota {
    /// The parent's side of an ask for a flow: notes what was spent and came back, and grants from what is left. `None`
    /// where the bounds of this group are reached.
    pub fn grant_flow(&mut self, meter: Meter, ask: &LeaseAskV1, now_ns: u64) -> Option<Granted> {
        let counter = counter_of(&ask.lease);
        let news = self.advance(meter, &ask.lease, Some((ask.child, ask.counters)), now_ns);
        let (bucket, held) = (self.buckets.get(&counter), news.held());
        let free = free_of(meter, bucket, held, now_ns);
        // What is taken over need not be granted.
        let need = ask.need.saturating_sub(news.ahead).max(ask.need.min(1));
        let waiting = ask.waiting.saturating_sub(news.ahead).max(need);
        let ask = &LeaseAskV1 { need, waiting, ..*ask };
        let wait_ns = if ask.need > free { wait_of(meter, bucket, held, ask.need, now_ns) } else { 0 };
        let place = place_of(&self.leases, ask, now_ns);
        let known = self.leases.accounts.get(&place).copied();
        // A grant that the child has not heard of yet is told again, and nothing is added to it; unless it was of what the
        // child had spent already.
        let told = ask.counters;
        let heard = told.granted.max(told.spent.saturating_add(told.returned));
        let is_heard = known.is_none_or(|known| heard >= known.granted);
        let grant = if is_heard { granted_of(free, ask) } else { 0 };
        sometimes!(grant > 0, "a share of a flow was granted");
        let freed = news.returned + news.spent;
        // A child that owes is given a life to tell it in.
        if grant == 0 && known.is_none() && (ask.need == 0 || told.debt() == 0) {
            return Some(Granted { life_ns: (0, 0), granted: 0, freed, wait_ns });
        }
        if self.leases.is_full_for(&place) {
            return None;
        }
        let account = self.leases.accounts.entry(place).or_default();
        account.granted = account.granted.saturating_add(grant);
        if ask.need > 0 {
            account.until_ns = now_ns.saturating_add(LIFE_NS);
        }
        let (granted, until_ns) = (account.granted, account.until_ns);
        if let (Meter::Rate { period_ns, .. }, true) = (meter, grant > 0) {
            let used = used_of(meter, self.buckets.get(&counter), held, now_ns);
            let level = used.saturating_add(meter.scaled(grant));
            self.buckets.insert(counter, Bucket::Rate { at_ns: now_ns, level, period_ns });
        }
        Some(Granted { life_ns: (place.0.window_ns, until_ns), granted, freed, wait_ns })
    }

    /// Brings the parent's counter of a flow to `now_ns`: lives that are over are void, and what a child tells is noted.
    fn advance(&mut self, meter: Meter, lease: &LeaseKey, told: Option<(u32, CountersV1)>, now_ns: u64) -> News {
        let mut news = News { spent_by_ns: now_ns, ..News::default() };
        let first = LeaseKey { window_ns: 0, ..*lease };
        let range = (first, 0)..=(LeaseKey { window_ns: u64::MAX, ..first }, u32::MAX);
        let mut over = Vec::new();
        for ((life, child), account) in self.leases.accounts.range_mut(range) {
            news.held_before = news.held_before.saturating_add(account.outstanding());
            if is_over(account, now_ns) {
                news.void = news.void.saturating_add(account.outstanding());
                over.push((*life, *child));
            } else if let Some((_, told)) = told.filter(|(by, told)| by == child && told.born_ns == life.window_ns) {
                note(account, &told, &mut news, now_ns);
            }
        }
        for place in &over {
            self.leases.accounts.remove(place);
        }
        sometimes!(news.void > 0, "a share of a flow was void unspent");
        self.bring(meter, counter_of(lease), &news, now_ns);
        news
    }

    /// Without news the counter stays as it is: what it may not leak below is known only once a child has told.
    fn bring(&mut self, meter: Meter, counter: BucketKey, news: &News, now_ns: u64) {
        if news.void == 0 && news.returned == 0 && news.spent == 0 && news.ahead == 0 {
            return;
        }
        let bucket = self.buckets.get(&counter);
        let brought = match meter {
            Meter::Rate { .. } => level(meter, bucket, news, now_ns),
            Meter::Rolling { window_ns, .. } => {
                let gone = news.spent.saturating_add(news.ahead).saturating_add(news.void);
                let cells = if let Some(Bucket::Rolling(cells)) = bucket { cells.clone() } else { Cells::default() };
                if gone > 0 { Bucket::Rolling(cells.charged(gone, window_ns, now_ns)) } else { return }
            }
            _ => return,
        };
        self.buckets.insert(counter, brought);
    }

    /// Looks at the next few leases after one and forgets those that are over.
    pub fn sweep_leases(&mut self, after: &LeaseKey, now_ns: u64) {
        let (shares, accounts) = self.leases.next_after(after);
        for lease in shares {
            let share = self.leases.share(&lease);
            let until_ns = share.until_ns.saturating_add(GROUPS_APART_NS).max(share.needed_until_ns());
            let is_over = self.meter_of(&lease).is_none_or(|meter| match meter.is_flow() {
                true => now_ns >= until_ns,
                false => meter.is_past(lease.window_ns, now_ns),
            });
            if is_over {
                self.leases.forget(&lease);
            }
        }
        for place in accounts {
            match self.meter_of(&place.0) {
                Some(meter) if meter.is_flow() => {
                    self.advance(meter, &place.0, None, now_ns);
                }
                Some(meter) if !meter.is_past(place.0.window_ns, now_ns) => {}
                _ => drop(self.leases.accounts.remove(&place)),
            }
        }
    }

    fn meter_of(&self, lease: &LeaseKey) -> Option<Meter> {
        self.limits.get(lease.limit).filter(|limit| limit.born == lease.born).map(|limit| limit.meter)
    }
}

fn counter_of(lease: &LeaseKey) -> BucketKey {
    BucketKey { slot: lease.slot, limit: lease.limit, born: lease.born, key: lease.key }
}

/// The account that an ask is about: that of the life it names, or of a new one where that is over or unknown.
fn place_of(leases: &Leases, ask: &LeaseAskV1, now_ns: u64) -> (LeaseKey, u32) {
    let named = (LeaseKey { window_ns: ask.counters.born_ns, ..ask.lease }, ask.child);
    let lives = leases.accounts.get(&named).is_some_and(|account| !is_over(account, now_ns));
    if lives { named } else { (LeaseKey { window_ns: now_ns, ..ask.lease }, ask.child) }
}

fn is_over(account: &Account, now_ns: u64) -> bool {
    now_ns >= account.until_ns.saturating_add(GROUPS_APART_NS)
}

fn note(account: &mut Account, told: &CountersV1, news: &mut News, now_ns: u64) {
    let returned = account.returned.max(told.returned.min(account.granted));
    news.ahead = told.spent.saturating_sub(account.granted.saturating_sub(told.returned));
    account.granted = account.granted.saturating_add(news.ahead);
    let spent = account.spent.max(told.spent.min(account.granted - returned));
    if spent > account.spent {
        news.spent_by_ns = told.spent_at_ns.saturating_add(GROUPS_APART_NS).min(now_ns);
    }
    news.returned = returned - account.returned;
    news.spent = (spent - account.spent).saturating_sub(news.ahead);
    (account.returned, account.spent) = (returned, spent);
}

/// A rate's counter now: it has leaked, though never below what children held.
fn level(meter: Meter, bucket: Option<&Bucket>, news: &News, now_ns: u64) -> Bucket {
    let (Meter::Rate { amount, period_ns, .. }, floor) = (meter, |units: u64| meter.scaled(units)) else {
        return Bucket::Lifetime { spent: u64::MAX };
    };
    let last_ns = if let Some(Bucket::Rate { at_ns, .. }) = bucket { *at_ns } else { 0 };
    let spent_by_ns = news.spent_by_ns.clamp(last_ns.min(now_ns), now_ns);
    let then = meter.used(bucket, spent_by_ns).max(floor(news.held_before)).saturating_add(floor(news.ahead));
    let leaked = u128::from(now_ns - spent_by_ns) * u128::from(amount);
    let before = then.saturating_sub(leaked).max(floor(news.held_before.saturating_sub(news.spent)));
    let after = before.saturating_sub(floor(news.returned)).max(floor(news.held()));
    Bucket::Rate { at_ns: now_ns, level: after, period_ns }
}

/// Whole units that the parent may hand out.
fn free_of(meter: Meter, bucket: Option<&Bucket>, held: u64, now_ns: u64) -> u64 {
    meter.remaining(used_of(meter, bucket, held, now_ns))
}

/// What is used or held, in the meter's scale.
fn used_of(meter: Meter, bucket: Option<&Bucket>, held: u64, now_ns: u64) -> u128 {
    let (used, held) = (meter.used(bucket, now_ns), meter.scaled(held));
    match meter {
        Meter::Rate { .. } => used.max(held),
        _ => used.saturating_add(held),
    }
}

/// Nanoseconds until `need` units are free, if nobody else takes any; the length of a life where time alone does not help.
fn wait_of(meter: Meter, bucket: Option<&Bucket>, held: u64, need: u64, now_ns: u64) -> u64 {
    match meter.cap().checked_sub(held).and_then(|room| room.checked_sub(need)) {
        None => LIFE_NS,
        Some(room) if matches!(meter, Meter::Rate { .. }) => {
            meter.wait_for(bucket, meter.scaled(room.saturating_add(held)), now_ns)
        }
        Some(room) => meter.wait_for(bucket, u128::from(room), now_ns),
    }
}
