//! Limits: all that match an action are judged in one pass at one log position, and charged all or none.
//!
//! - A denied action, for whatever reason, charges nothing.
//! - An enforced limit without room refuses; every one that refuses is named. A cost that no waiting could ever make
//!   room for is refused for good and pins no bucket.
//! - A shadow limit is judged like an enforced one and refuses nobody. It is charged where the action goes ahead and
//!   the limit had room, so it counts what it would have admitted; where it had none, it is reported as violated and
//!   not charged, and the others are charged as if it were not there.
//! - A soft limit is judged like an enforced one and refuses nobody either. It is charged wherever the action goes ahead,
//!   beyond its cap as well, so it counts what was really used; where it had no room it is reported as violated, and it
//!   stays violated until what lies beyond has leaked or expired. It never adds to the time after which to come back.
//! - Counters of lifetime caps never end. A group keeps at most `LIFETIME_COUNTERS_MAX` of them; a limit that would need
//!   one more refuses as if it were exhausted, and a shadow or soft one does not count.
//! - What an action reserves is charged like any cost and held until its outcome is known; then it is replaced by what
//!   was used, see [`Quota::settle_hold`]. Use beyond the reserve is debt or only reported, as the limit says.
//! - A concurrency limit counts reservations, 1 each. An action that reserves nothing needs room for one and takes none.
//! - A limit may keep some of its cap back: for actions that are not critical it has only the rest.
//! - A limit over every tenant counts actions, one each.
//! - A limit matches only actions that name its unit. A cost of 0 asks and never charges or violates.
//!
//! Counters are keyed by slot first and hold absolute log time; whole ones are swept away a few at a time. A limit over
//! agents of several slots is exact for tenants placed `single`; for others it is *leased*, see [`lease`], and where it
//! refuses nobody [`ahead`].

use std::collections::BTreeMap;
use std::ops::Bound;

use nethical_protocol::control::{KeyPart, LimitMode, Overrun};
use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber, Slot};
use nethical_protocol::limits::{LIFETIME_COUNTERS_MAX, LIMITS_MATCHING_MAX};
use sha2::{Digest, Sha256};

use crate::command::{ActorKeys, CostV1};
use crate::outcome::{QuotaV1, ReasonV1, SettledQuotaV1};
use crate::reservation::Hold;

pub mod ahead;
pub mod band;
pub mod bucket;
pub mod flow;
#[cfg(test)]
mod flow_tests;
pub mod lease;
pub mod rolling;
pub mod table;

use bucket::{Bucket, Fit};
use lease::{LeaseKey, Leases, slot_of_lease};
use table::{Limit, LimitTable};

/// Counters looked at by every decision, so that sweeping costs the same small amount each time.
const SWEPT_PER_DECISION: usize = 2;

/// The parts of an action that limits match on and count by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Who.
    pub actor: ActorKeys,
    /// The session, or none.
    pub session: KeyedId,
    /// The cohort, or none.
    pub cohort: KeyedId,
    /// The action's name.
    pub tool: KeyedId,
    /// The region.
    pub region: KeyedId,
    /// It may take what limits keep back.
    pub is_critical: bool,
    /// It has waited for shares of leased limits: what is kept is kept for it, and its parents' refusals stand for it.
    pub has_asked: bool,
}

/// What an action wants of one limit.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// Units.
    pub cost: u64,
    /// See [`Subject::is_critical`].
    pub is_critical: bool,
    /// See [`Subject::has_asked`].
    pub has_asked: bool,
}

impl Claim {
    /// What settles something that went ahead wants: all that there is.
    fn settling(cost: u64) -> Self {
        Self { cost, is_critical: true, has_asked: true }
    }
}

/// Where a counter is: slot first, so that a slot is one contiguous range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketKey {
    /// The slot of the agents that it counts.
    pub slot: Slot,
    /// The limit.
    pub limit: LimitNumber,
    /// When the limit began to count: counters of a removed namesake are never found again.
    pub born: ControlRevision,
    /// The limit's key parts, see [`Subject::counter`].
    pub key: KeyedId,
}

impl Subject {
    /// The counter of a limit that this action falls under. The tenant is left out where the limit binds one;
    /// one other part stands for itself; several are hashed (SHA-256, 16 bytes) in the limit's order.
    pub fn counter(&self, limit: &Limit) -> BucketKey {
        let part = |part: &KeyPart| match part {
            KeyPart::Tenant => limit.fact.tenant.is_none().then_some(self.actor.tenant),
            KeyPart::Cohort => Some(self.cohort),
            KeyPart::Agent => Some(self.actor.agent),
            KeyPart::Session => Some(self.session),
            KeyPart::Tool => Some(self.tool),
            KeyPart::Region => Some(self.region),
        };
        let mut parts = limit.fact.key.iter().filter_map(part);
        let key = match (parts.next(), parts.next()) {
            (None, _) => KeyedId::NONE,
            (Some(only), None) => only,
            (Some(first), Some(second)) => hash_of([first, second].into_iter().chain(parts)),
        };
        let number = limit.fact.number;
        let slot = if limit.is_leased { slot_of_lease(number, key) } else { self.actor.slot };
        BucketKey { slot, limit: number, born: limit.born, key }
    }

    fn claim(&self, cost: u64) -> Claim {
        Claim { cost, is_critical: self.is_critical, has_asked: self.has_asked }
    }

    fn falls_under(&self, limit: &Limit) -> bool {
        let fits = |wanted: KeyedId, given: KeyedId| wanted.is_none() || wanted == given;
        fits(limit.fact.agent, self.actor.agent)
            && fits(limit.fact.tool, self.tool)
            && fits(limit.fact.cohort, self.cohort)
    }

    /// As [`Subject::falls_under`], but a part that this subject leaves out excludes nothing.
    fn may_fall_under(&self, limit: &Limit) -> bool {
        let fits = |wanted: KeyedId, given: KeyedId| wanted.is_none() || given.is_none() || wanted == given;
        fits(limit.fact.agent, self.actor.agent)
            && fits(limit.fact.tool, self.tool)
            && fits(limit.fact.cohort, self.cohort)
    }
}

fn hash_of(parts: impl Iterator<Item = KeyedId>) -> KeyedId {
    let mut hash = Sha256::new_with_prefix(b"nethical limit key 1");
    for part in parts {
        hash.update(part.0);
    }
    let digest = hash.finalize();
    let mut key = KeyedId::NONE;
    key.0.copy_from_slice(&digest[..16]);
    key
}

/// One matching limit, judged.
#[derive(Debug, Clone, Copy)]
struct Judged {
    key: BucketKey,
    meter: bucket::Meter,
    mode: LimitMode,
    used: u128,
    reset_ns: u64,
    cost: u64,
    fit: Fit,
    /// Where the limit is leased.
    lease: Option<LeaseKey>,
    unit: KeyedId,
    changed: ControlRevision,
    /// What is charged is held by the action's reservation.
    is_held: bool,
}

impl Judged {
    fn enforces(&self) -> bool {
        self.mode == LimitMode::Enforce
    }

    /// True where an action that goes ahead is charged.
    fn is_charged(&self) -> bool {
        let has_room = matches!(self.fit, Fit::Room | Fit::Ahead);
        let counts = has_room || (self.mode == LimitMode::Soft && self.fit != Fit::NoCounter);
        // A limit on live reservations takes only those that live on.
        counts && self.cost > 0 && (self.is_held || !self.meter.counts_reservations())
    }
}

/// All matching limits, judged at one instant; nothing is charged yet.
#[derive(Debug)]
pub struct Judgement {
    now_ns: u64,
    items: Vec<Judged>,
}

impl Judgement {
    /// The limits that refuse the action, by number.
    pub fn refusals(&self) -> impl Iterator<Item = ReasonV1> {
        self.items.iter().filter(|item| item.enforces()).filter_map(|item| match item.fit {
            Fit::Room | Fit::Ahead | Fit::Short => None,
            Fit::After(_) | Fit::Exhausted | Fit::NoCounter => Some(ReasonV1::QuotaExceeded(item.key.limit)),
            Fit::Never => Some(ReasonV1::CostAboveCap(item.key.limit)),
        })
    }

    /// What a reservation of the action would hold, by limit number.
    pub fn holds(&self) -> Vec<Hold> {
        let held = self.items.iter().filter(|item| item.is_held && item.is_charged());
        held.map(|item| Hold { key: item.key, unit: item.unit, changed: item.changed, amount: item.cost }).collect()
    }

    /// Nanoseconds until every refusing limit has room; 0 where none refuses, or where one will never have room.
    pub fn retry_after_ns(&self) -> u64 {
        let mut latest_ns = 0;
        for item in self.items.iter().filter(|item| item.enforces()) {
            match item.fit {
                Fit::Room | Fit::Ahead | Fit::Short => {}
                Fit::After(wait_ns) => latest_ns = latest_ns.max(wait_ns),
                Fit::Never | Fit::Exhausted | Fit::NoCounter => return 0,
            }
        }
        latest_ns
    }

    /// The leased limits of which this group's share is too small, by number, and what the action needs of each.
    pub fn shorts(&self) -> impl Iterator<Item = (LeaseKey, u64)> {
        let shorts = self.items.iter().filter(|item| item.fit == Fit::Short);
        shorts.filter_map(|item| Some((item.lease?, item.cost)))
    }

    /// The leased limits before the first short one of which this group's share is enough, and what the action needs of
    /// each: what it may keep while it waits for the others.
    pub fn had_before_short(&self) -> impl Iterator<Item = (LeaseKey, u64)> {
        let before = self.items.iter().take_while(|item| item.fit != Fit::Short);
        before.filter(|item| item.enforces() && item.cost > 0).filter_map(|item| Some((item.lease?, item.cost)))
    }
}

/// The limits that bind this group's tenants, and their counters.
#[derive(Debug, Clone, Default)]
pub struct Quota {
    pub(crate) limits: LimitTable,
    pub(crate) buckets: BTreeMap<BucketKey, Bucket>,
    /// Shares of limits that span partitions, of either side.
    pub(crate) leases: Leases,
    /// Where the last sweep stopped; state, since it decides what is still stored.
    pub(crate) swept_to: Option<BucketKey>,
    /// Counters that never end. Follows from `buckets`.
    lasting: usize,
}

impl Quota {
    /// Judges an action by every limit that matches it. Reads only.
    pub fn judge(&self, subject: &Subject, costs: &[CostV1], now_ns: u64) -> Judgement {
        let mut items = Vec::with_capacity(4);
        for limit in self.limits.binding(subject.actor.tenant) {
            let Some(cost) = cost_of(costs, limit) else { continue };
            if !subject.falls_under(limit) {
                continue;
            }
            let key = subject.counter(limit);
            let mut item = self.judge_one(limit, key, subject.claim(cost), now_ns);
            let counts_any = limit.meter.counts_reservations();
            item.is_held = costs.iter().any(|cost| cost.is_reserved && (counts_any || cost.unit == limit.fact.unit));
            items.push(item);
        }
        items.sort_by_key(|item| item.key.limit);
        Judgement { now_ns, items }
    }

    fn judge_one(&self, limit: &Limit, key: BucketKey, claim: Claim, now_ns: u64) -> Judged {
        let (meter, bucket) = (limit.meter, self.buckets.get(&key));
        let cost = if meter.counts_reservations() { claim.cost.min(1) } else { claim.cost };
        let has_no_counter = meter.is_lasting() && bucket.is_none() && self.lasting >= LIFETIME_COUNTERS_MAX;
        if let Some(lease) = limit.lease_at(key, now_ns) {
            return self.judge_share(limit, (key, lease), Claim { cost, ..claim }, now_ns);
        }
        let fit = match limit.open_to(claim.is_critical).fit(bucket, cost, now_ns) {
            Fit::Room if has_no_counter && cost > 0 => Fit::NoCounter,
            fit => fit,
        };
        let (used, reset_ns) = (meter.used(bucket, now_ns), meter.reset_ns(bucket, now_ns));
        let (mode, unit, changed) = (limit.fact.mode, limit.fact.unit, limit.changed);
        Judged { key, meter, mode, used, reset_ns, cost, fit, unit, changed, is_held: false, lease: None }
    }

    /// As [`Quota::judge_one`], for a limit of which this group has a share.
    fn judge_share(&self, limit: &Limit, (key, lease): (BucketKey, LeaseKey), claim: Claim, now_ns: u64) -> Judged {
        let (meter, share, cost) = (limit.meter, self.leases.share(&lease), claim.cost);
        let used = meter.scaled(meter.cap().saturating_sub(share.balance(now_ns)));
        let open = limit.open_to(claim.is_critical);
        let fit = match limit.fact.mode {
            LimitMode::Enforce => open.fit_of(&share, claim, now_ns),
            LimitMode::Shadow | LimitMode::Soft if cost > 0 && self.leases.has_no_share(&lease) => Fit::NoCounter,
            LimitMode::Shadow | LimitMode::Soft => open.fit_ahead(&share, claim, now_ns),
        };
        let reset_ns = meter.whole_in(used, now_ns);
        let (mode, unit, changed) = (limit.fact.mode, limit.fact.unit, limit.changed);
        Judged { key, meter, mode, used, reset_ns, cost, fit, unit, changed, is_held: false, lease: Some(lease) }
    }

    /// Charges what was judged where the action goes ahead, nothing otherwise, and reports the limits afterwards, by
    /// number. Then looks at a few other counters, see [`Quota::sweep`]. Should more than `LIMITS_MATCHING_MAX` match, all are judged and charged, and the report keeps the
    /// violated ones first.
    pub fn settle(&mut self, mut judgement: Judgement, goes_ahead: bool) -> Vec<QuotaV1> {
        let now_ns = judgement.now_ns;
        let mut made = 0;
        if goes_ahead {
            for item in &mut judgement.items {
                if item.is_charged() {
                    made += usize::from(self.charge(item, now_ns));
                } else if let Some(lease) = item.lease {
                    self.leases.unpin(&lease, item.cost);
                }
            }
        }
        // Looking at more counters than are made keeps garbage from piling up.
        self.sweep(now_ns, SWEPT_PER_DECISION + 2 * made);
        let mut items = judgement.items;
        if items.len() > LIMITS_MATCHING_MAX {
            items.sort_by_key(|item| (item.fit == Fit::Room, item.key.limit));
            items.truncate(LIMITS_MATCHING_MAX);
            items.sort_by_key(|item| item.key.limit);
        }
        items.iter().map(report).collect()
    }

    /// Charges one counter and looks at it again; true where it is a new one.
    fn charge(&mut self, item: &mut Judged, now_ns: u64) -> bool {
        if let Some(lease) = item.lease {
            match item.mode {
                LimitMode::Enforce => self.leases.spend(lease, item.cost, now_ns),
                LimitMode::Shadow | LimitMode::Soft => self.leases.spend_ahead(lease, item.meter, item.cost, now_ns),
            }
            item.used = item.used.saturating_add(item.meter.scaled(item.cost));
            return false;
        }
        let charged = item.meter.charged(self.buckets.get(&item.key), item.cost, now_ns);
        item.used = item.meter.used(Some(&charged), now_ns);
        item.reset_ns = item.meter.reset_ns(Some(&charged), now_ns);
        let is_new = self.buckets.insert(item.key, charged).is_none();
        self.lasting += usize::from(is_new && item.meter.is_lasting());
        is_new
    }

    /// Replaces what a reservation holds in a counter by what was used, and reports the limit afterwards; `None` where
    /// the limit is gone. What was held while the limit had other amounts stays charged, since how much of it has
    /// leaked or expired is not known any more; lifetime caps and live reservations do not depend on that. What was spent
    /// of a share of a flow stays spent: its parent may have refilled it.
    pub fn settle_hold(&mut self, hold: &Hold, used: u64, held_ns: u64, now_ns: u64) -> Option<SettledQuotaV1> {
        let limit = self.limits.get(hold.key.limit).filter(|limit| limit.born == hold.key.born)?.clone();
        let meter = limit.meter;
        let used = if meter.counts_reservations() { 0 } else { used };
        let over = used.saturating_sub(hold.amount);
        let unused = hold.amount.saturating_sub(used);
        let is_known = limit.changed == hold.changed || meter.is_lasting() || meter.counts_reservations();
        if let Some(lease) = limit.lease_at(hold.key, held_ns).filter(|_| is_known && !meter.is_flow()) {
            self.leases.unspend(&lease, unused);
        }
        let bucket = self.buckets.get(&hold.key).filter(|_| is_known && unused > 0);
        if let Some(bucket) = bucket.and_then(|bucket| meter.refunded(bucket, unused, held_ns, now_ns)) {
            self.buckets.insert(hold.key, bucket);
        }
        let charged = if limit.fact.overrun == Overrun::Debt { over } else { 0 };
        let mut item = self.judge_one(&limit, hold.key, Claim::settling(charged), now_ns);
        if charged > 0 {
            self.charge(&mut item, now_ns);
            item.fit = Fit::Room;
        }
        Some(SettledQuotaV1 { quota: report(&item), uncharged: over - charged })
    }

    /// Takes the counters of a snapshot.
    pub(crate) fn restore(&mut self, buckets: BTreeMap<BucketKey, Bucket>) {
        self.lasting = buckets.values().filter(|bucket| matches!(bucket, Bucket::Lifetime { .. })).count();
        self.buckets = buckets;
    }

    /// What the limits of a tenant have left for a subject; parts that it leaves out exclude no limit. Reads only.
    pub fn usage(&self, subject: &Subject, now_ns: u64) -> Vec<QuotaV1> {
        let bound = self.limits.binding(subject.actor.tenant).filter(|limit| subject.may_fall_under(limit));
        bound.map(|limit| report(&self.judge_one(limit, subject.counter(limit), Claim::settling(0), now_ns))).collect()
    }

    /// Looks at the next `count` counters, round and round, and drops those that are whole again or whose limit is
    /// gone. Dropping them changes no verdict under the limits in force.
    pub fn sweep(&mut self, now_ns: u64, count: usize) {
        let from = self.swept_to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        let mut seen = 0;
        let mut dead = Vec::new();
        for (key, bucket) in self.buckets.range((from, Bound::Unbounded)).take(count) {
            let limit = self.limits.get(key.limit).filter(|limit| limit.born == key.born);
            if limit.is_none_or(|limit| limit.meter.used(Some(bucket), now_ns) == 0) {
                dead.push(*key);
            }
            last = Some(*key);
            seen += 1;
        }
        self.swept_to = last.filter(|_| seen == count);
        for key in dead {
            let removed = self.buckets.remove(&key);
            self.lasting -= usize::from(matches!(removed, Some(Bucket::Lifetime { .. })));
        }
    }
}

/// What the action costs in a unit; `None` where it does not name it.
fn cost_of(costs: &[CostV1], limit: &Limit) -> Option<u64> {
    let unit = limit.fact.unit;
    if limit.fact.tenant.is_none() {
        return Some(1);
    }
    costs.iter().filter(|cost| cost.unit == unit).map(|cost| cost.amount).reduce(u64::saturating_add)
}

fn report(item: &Judged) -> QuotaV1 {
    QuotaV1 {
        limit: item.key.limit,
        cap: item.meter.cap(),
        remaining: item.meter.remaining(item.used),
        reset_ns: item.reset_ns,
        violated: !matches!(item.fit, Fit::Room | Fit::Ahead | Fit::Short),
        mode: item.mode,
    }
}

#[cfg(test)]
mod tests {
    use nethical_protocol::control::{LimitFact, LimitKind, Placement};

    use super::*;

    fn lifetime(number: u32, mode: LimitMode) -> LimitFact {
        let (tenant, none) = (KeyedId([1; 16]), KeyedId::NONE);
        let kind = LimitKind::Lifetime { cap: 5 };
        let (number, key) = (LimitNumber(number), vec![KeyPart::Agent]);
        LimitFact {
            number,
            tenant,
            unit: none,
            kind,
            key,
            mode,
            overrun: Overrun::Debt,
            reserve: 0,
            agent: none,
            tool: none,
            cohort: none,
        }
    }

    fn subject(agent: u8) -> Subject {
        let actor = ActorKeys { slot: Slot(0), tenant: KeyedId([1; 16]), agent: KeyedId([agent; 16]) };
        let (session, cohort, tool, region) = Default::default();
        Subject { actor, session, cohort, tool, region, is_critical: false, has_asked: false }
    }

    #[test]
    fn a_lifetime_counter_over_the_bound_refuses_and_is_not_made() {
        let costs = [CostV1 { unit: KeyedId::NONE, amount: 1, is_reserved: false }];
        let mut quota = Quota::default();
        quota.limits.set(lifetime(1, LimitMode::Enforce), ControlRevision(1), Placement::Single);
        quota.limits.set(lifetime(2, LimitMode::Soft), ControlRevision(2), Placement::Single);
        let judgement = quota.judge(&subject(1), &costs, 7);
        quota.settle(judgement, true);
        assert_eq!((quota.lasting, quota.buckets.len()), (2, 2));
        quota.lasting = LIFETIME_COUNTERS_MAX;
        let judgement = quota.judge(&subject(2), &costs, 8);
        assert_eq!(judgement.refusals().collect::<Vec<_>>(), [ReasonV1::QuotaExceeded(LimitNumber(1))]);
        assert_eq!(judgement.retry_after_ns(), 0);
        assert!(quota.settle(judgement, true).iter().all(|report| report.violated));
        assert_eq!(quota.buckets.len(), 2, "neither the enforced nor the soft limit has another counter");
        assert_eq!(quota.judge(&subject(1), &costs, 9).refusals().count(), 0, "the counters that exist go on");
    }

    #[test]
    fn of_more_limits_than_a_report_holds_the_violated_ones_are_in_it() {
        let costs = [CostV1 { unit: KeyedId::NONE, amount: 6, is_reserved: false }];
        let (mut quota, last) = (Quota::default(), LIMITS_MATCHING_MAX as u32 + 3);
        for number in 1..=last {
            let cap = if number == last { 5 } else { 500 };
            let fact = LimitFact { kind: LimitKind::Lifetime { cap }, ..lifetime(number, LimitMode::Shadow) };
            quota.limits.set(fact, ControlRevision(1), Placement::Single);
        }
        let judgement = quota.judge(&subject(1), &costs, 7);
        let report = quota.settle(judgement, true);
        assert_eq!(report.len(), LIMITS_MATCHING_MAX);
        let violated: Vec<_> = report.iter().filter(|limit| limit.violated).map(|limit| limit.limit).collect();
        assert_eq!(violated, [LimitNumber(last)]);
        assert!(report.windows(2).all(|pair| pair[0].limit < pair[1].limit), "by number");
    }
}
