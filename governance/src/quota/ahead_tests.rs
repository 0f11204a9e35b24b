//! Shares of limits that refuse nobody: when they are tight, what they owe, and how much of it is kept.

use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber, Slot};

use super::super::lease::CountersV1;
use super::*;

const LEASE: LeaseKey =
    LeaseKey { slot: Slot(7), limit: LimitNumber(1), born: ControlRevision(3), key: KeyedId::NONE, window_ns: 0 };
const RATE: Meter = Meter::Rate { amount: 1, period_ns: 1_000_000_000, burst: 10 };
const LIFETIME: Meter = Meter::Lifetime { cap: 10 };
const NOW_NS: u64 = 1_000_000_000_000;

fn take(life_ns: (u64, u64), granted: u64, wait_ns: u64, is_critical: bool) -> LeaseTakeV1 {
    let refused = wait_ns > 0;
    LeaseTakeV1 { lease: LEASE, life_ns, granted, refused, wait_ns, is_critical, pinned: 0, pinned_ns: 0 }
}

fn claim(cost: u64, is_critical: bool) -> Claim {
    Claim { cost, is_critical, has_asked: false }
}

#[test]
fn only_a_refusal_makes_it_tight_and_only_until_there_would_be_enough() {
    let (mut leases, life) = (Leases::default(), (NOW_NS, NOW_NS + LIFE_NS));
    let fit =
        |leases: &Leases, cost, critical, now_ns| RATE.fit_ahead(&leases.share(&LEASE), claim(cost, critical), now_ns);
    assert_eq!(fit(&leases, 1, false, NOW_NS), Fit::Ahead);
    assert_eq!((fit(&leases, 11, false, NOW_NS), fit(&leases, 0, false, NOW_NS)), (Fit::Never, Fit::Room));
    leases.take(&take(life, 2, 3_000, false), NOW_NS);
    assert_eq!((fit(&leases, 2, false, NOW_NS), fit(&leases, 3, false, NOW_NS)), (Fit::Room, Fit::After(3_000)));
    assert_eq!(fit(&leases, 3, true, NOW_NS), Fit::Ahead, "what is kept back may be there for it");
    assert_eq!(fit(&leases, 3, false, NOW_NS + 3_000), Fit::Ahead);
    leases.take(&take(life, 2, 5_000, true), NOW_NS);
    assert_eq!((fit(&leases, 3, true, NOW_NS), fit(&leases, 3, false, NOW_NS)), (Fit::After(5_000), Fit::After(5_000)));
    leases.take(&take(life, 2, 0, false), NOW_NS);
    assert_eq!((fit(&leases, 3, true, NOW_NS), fit(&leases, 3, false, NOW_NS)), (Fit::Ahead, Fit::Ahead));
}

#[test]
fn a_stock_is_tight_until_its_parent_grants_again() {
    let mut leases = Leases::default();
    let stock = |granted, refused| LeaseTakeV1 { refused, ..take((0, u64::MAX), granted, 0, false) };
    leases.take(&stock(0, true), NOW_NS);
    assert_eq!(LIFETIME.fit_ahead(&leases.share(&LEASE), claim(1, false), u64::MAX - 1), Fit::Exhausted);
    leases.take(&stock(1, false), NOW_NS);
    assert_eq!(LIFETIME.fit_ahead(&leases.share(&LEASE), claim(1, false), NOW_NS), Fit::Room);
}

#[test]
fn a_flow_owes_one_cap_at_most_and_a_stock_all_that_it_may_give_back() {
    let mut leases = Leases::default();
    for _ in 0..3 {
        leases.spend_ahead(LEASE, RATE, 8, NOW_NS);
    }
    assert_eq!(leases.share(&LEASE).debt(NOW_NS), 10);
    assert_eq!(leases.share(&LEASE).debt(NOW_NS + LIFE_NS), 0, "forgotten: no parent has heard of it");
    leases.spend_ahead(LEASE, RATE, 3, NOW_NS + LIFE_NS);
    assert_eq!(leases.share(&LEASE).debt(NOW_NS + LIFE_NS), 3, "and what was forgotten does not come back");
    let mut leases = Leases::default();
    (0..3).for_each(|_| leases.spend_ahead(LEASE, LIFETIME, 8, NOW_NS));
    assert_eq!(leases.share(&LEASE).debt(u64::MAX - 1), 24);
    leases.unspend(&LEASE, 20);
    assert_eq!(leases.share(&LEASE).debt(NOW_NS), 4);
    leases.spend_ahead(LEASE, LIFETIME, u64::MAX, NOW_NS);
    assert_eq!(leases.share(&LEASE).counters.spent, u64::MAX);
}

#[test]
fn a_new_life_takes_over_what_was_owed_and_a_void_share_pays_nothing() {
    let mut leases = Leases::default();
    leases.take(&take((NOW_NS, NOW_NS + LIFE_NS), 5, 0, false), NOW_NS);
    leases.spend_ahead(LEASE, RATE, 1, NOW_NS);
    let over_ns = NOW_NS + LIFE_NS;
    leases.spend_ahead(LEASE, RATE, 3, over_ns);
    assert_eq!(leases.share(&LEASE).debt(over_ns), 3, "four of five are void");
    leases.take(&take((over_ns, over_ns + LIFE_NS), 0, 9, false), over_ns);
    let CountersV1 { born_ns, granted, spent, .. } = leases.share(&LEASE).counters;
    assert_eq!((born_ns, granted, spent), (over_ns, 0, 3));
    leases.take(&take((over_ns, over_ns + LIFE_NS), 4, 0, false), over_ns);
    assert_eq!((leases.share(&LEASE).debt(over_ns), leases.share(&LEASE).balance(over_ns)), (0, 1));
}
