//! Leases of stocks: what is granted, kept and given back, and that no order of messages lets more be spent than the cap.

use super::*;

const LEASE: LeaseKey =
    LeaseKey { slot: Slot(7), limit: LimitNumber(1), born: ControlRevision(3), key: KeyedId::NONE, window_ns: 0 };

fn ask(child: u32, share: Share, need: u64, want: u64) -> LeaseAskV1 {
    let (counters, waiting) = (share.counters, need);
    LeaseAskV1 { lease: LEASE, child, counters, need, waiting, want, pinned: 0, pinned_ns: 0, is_critical: false }
}

fn take(granted: u64) -> LeaseTakeV1 {
    LeaseTakeV1 {
        lease: LEASE,
        life_ns: (0, u64::MAX),
        granted,
        refused: false,
        wait_ns: 0,
        is_critical: false,
        pinned: 0,
        pinned_ns: 0,
    }
}

#[test]
fn a_grant_that_was_not_heard_is_told_again_and_not_made_again() {
    let mut parent = Leases::default();
    let first = parent.grant(&ask(2, Share::default(), 10, 10), 100).expect("room");
    let again = parent.grant(&ask(2, Share::default(), 10, 10), 100).expect("room");
    assert_eq!((first.granted, again.granted), (10, 10));
}

#[test]
fn a_share_is_at_most_the_need_and_a_quarter_of_what_is_left() {
    let granted = |free, need, want| granted_of(free, &ask(2, Share::default(), need, want));
    assert_eq!(granted(100, 10, 90), 10 + 22);
    assert_eq!(granted(10, 10, 90), 10);
    assert_eq!(granted(9, 10, 90), 0);
    assert_eq!(granted(100, 0, 90), 0);
}

#[test]
fn all_who_wait_are_granted_what_there_is_and_the_least_need_decides() {
    let mut joined = ask(2, Share::default(), 5, 5);
    joined.join(&ask(2, Share::default(), 3, 6));
    assert_eq!((joined.need, joined.waiting, joined.want), (3, 8, 8));
    let granted = [2, 3, 7, 8, 40].map(|free| granted_of(free, &joined));
    assert_eq!(granted, [0, 3, 7, 8, 8], "the least need or nothing, then as much as there is");
    joined.want = 20;
    assert_eq!(granted_of(40, &joined), 8 + 8, "and of the rest a quarter");
}

#[test]
fn what_is_kept_for_who_waits_is_not_given_back_and_only_for_a_while() {
    let mut child = Leases::default();
    child.take(&LeaseTakeV1 { pinned: 3, pinned_ns: 5, ..take(10) }, 100);
    assert_eq!(child.give_back(&LEASE, 100).map(|share| share.balance(100)), Some(3));
    child.pin(&LEASE, 2, 100);
    assert_eq!(child.give_back(&LEASE, 101).map(|share| share.balance(101)), Some(3), "a smaller need frees nothing");
    child.unpin(&LEASE, 2);
    assert_eq!(child.give_back(&LEASE, 102).map(|share| share.balance(102)), Some(1));
    child.spend(LEASE, 1, 103);
    child.take(&take(20), 104);
    let late_ns = 104 + PINNED_NS;
    child.pin(&LEASE, 4, 104);
    child.pin(&LeaseKey { window_ns: 1, ..LEASE }, 4, 104);
    assert_eq!(child.give_back(&LEASE, late_ns).map(|share| share.balance(late_ns)), Some(0));
    assert_eq!(child.shares.len(), 1, "nothing is kept of what there is none of");
}

#[test]
fn what_is_given_back_can_be_granted_to_another() {
    let (mut parent, mut child) = (Leases::default(), Leases::default());
    let account = parent.grant(&ask(2, Share::default(), 100, 100), 100).expect("room");
    child.take(&take(account.granted), 0);
    child.spend(LEASE, 30, 0);
    assert_eq!(parent.grant(&ask(3, Share::default(), 1, 1), 100).expect("room").granted, 0);
    let share = child.give_back(&LEASE, 0).expect("a share");
    assert_eq!((share.balance(0), share.counters.returned), (0, 70));
    parent.grant(&ask(2, share, 0, 0), 100);
    assert_eq!(parent.grant(&ask(3, Share::default(), 70, 70), 100).expect("room").granted, 70);
    let heard = Share { counters: CountersV1 { granted: 70, ..CountersV1::default() }, ..Share::default() };
    assert_eq!(parent.grant(&ask(3, heard, 1, 1), 100).expect("room").granted, 70);
}

/// Messages are kept, doubled and delivered in any order; children spend whatever they believe to have.
#[test]
fn no_order_of_messages_lets_more_be_spent_than_the_cap() {
    const CAP: u64 = 50;
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = move |sides: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % sides
    };
    for _ in 0..2_000 {
        let (mut parent, mut children) = (Leases::default(), vec![Leases::default(); 3]);
        let (mut asks, mut grants): (Vec<LeaseAskV1>, Vec<(usize, u64)>) = (Vec::new(), Vec::new());
        let (mut spent, lifetime) = (0, Meter::Lifetime { cap: CAP });
        for _ in 0..60 {
            let at = roll(3) as usize;
            let share = children[at].share(&LEASE);
            match roll(6) {
                0 => asks.push(ask(at as u32, share, roll(9), roll(20))),
                1 if !asks.is_empty() => {
                    let ask = asks[roll(asks.len() as u64) as usize];
                    let account = parent.grant(&ask, CAP).expect("room");
                    grants.push((ask.child as usize, account.granted));
                }
                2 if !grants.is_empty() => {
                    let (child, granted) = grants[roll(grants.len() as u64) as usize];
                    children[child].take(&take(granted), 0);
                }
                3 => drop(children[at].give_back(&LEASE, 0)),
                // A limit that refuses nobody is charged whatever there is.
                4 => children[at].spend_ahead(LEASE, lifetime, roll(4), 0),
                _ => {
                    let cost = roll(6);
                    if cost <= share.balance(0) {
                        children[at].spend(LEASE, cost, 0);
                        spent += cost;
                    }
                }
            }
            let counters = children.iter().map(|child| child.share(&LEASE).counters);
            let covered: u64 = counters.map(|told| told.spent - told.debt()).sum();
            assert!(spent <= covered && covered <= CAP, "{spent} and {covered} were spent of {CAP}");
        }
    }
}
