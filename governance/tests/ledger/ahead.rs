//! Limits that several partitions share, in every mode, over a simulated network: what those in shadow and soft mode
//! report is what one exact counter would, up to the bound that ARCHITECTURE 7 states, and they change nothing for others.

use std::collections::{BTreeMap, BTreeSet};

use nethical_governance::command::{CostV1, HeaderV1, LeaseTakeV1};
use nethical_governance::ledger::Ledger;
use nethical_governance::outcome::{DecidedV1, OutcomeV1, QuotaV1};
use nethical_governance::quota::ahead::AheadV1;
use nethical_governance::quota::lease::{CountersV1, LeaseAskV1, LeaseKey, slot_of_lease};
use nethical_protocol::control::{ControlFact, LimitFact, LimitKind, LimitMode, Placement, TenantFact};
use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber};
use proptest::prelude::*;

use crate::bench::{Bench, SECOND_NS, START_NS, id, limit, request};
use crate::model::{History, check_never_over};

const CHILDREN: usize = 3;
const MS: u64 = 1_000_000;
/// The longest way of one message.
const WAY_MS_MAX: u64 = 60;

fn ready(group: u32, placement: Placement, limits: &[LimitFact]) -> Bench {
    let mut bench = Bench::empty(Ledger::new(group));
    bench.fact(ControlFact::Tenant(TenantFact { tenant: id("t"), placement }));
    bench.fact(ControlFact::Policy { digest: [1; 32] });
    limits.iter().for_each(|fact| drop(bench.fact(ControlFact::Limit(fact.clone()))));
    bench
}

fn in_mode(number: u32, kind: LimitKind, mode: LimitMode) -> LimitFact {
    LimitFact { mode, ..limit(number, "requests", kind) }
}

/// A message on its way, to arrive at a time.
#[derive(Clone)]
enum Message {
    Ask(usize, LeaseAskV1),
    Take(usize, LeaseAskV1, LeaseTakeV1),
}

/// A parent, its children, and the messages between them; who asks follows `cluster/src/lease.rs`.
struct Zone {
    parent: Bench,
    children: Vec<Bench>,
    way: BTreeMap<(u64, u64), Message>,
    under_way: BTreeSet<(usize, LeaseKey)>,
    wished: BTreeSet<(usize, LeaseKey)>,
    sent: u64,
    dice: u64,
    is_cut: bool,
}

impl Zone {
    fn new(limits: &[LimitFact], seed: u64) -> Self {
        let children = (0..CHILDREN as u32).map(|at| ready(3 + at, Placement::Spread, limits)).collect();
        Self {
            parent: ready(2, Placement::Spread, limits),
            children,
            way: BTreeMap::new(),
            under_way: BTreeSet::new(),
            wished: BTreeSet::new(),
            sent: 0,
            dice: seed | 1,
            is_cut: false,
        }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    fn fact(&mut self, fact: &LimitFact) {
        let all = self.children.iter_mut().chain([&mut self.parent]);
        all.for_each(|bench| drop(bench.fact(ControlFact::Limit(fact.clone()))));
    }

    fn send(&mut self, message: Message, now_ns: u64) {
        if self.is_cut {
            return;
        }
        let at_ns = now_ns + (1 + self.roll(WAY_MS_MAX)) * MS;
        self.sent += 1;
        self.way.insert((at_ns, self.sent), message);
    }

    /// All that arrives by then, in order.
    fn run_to(&mut self, now_ns: u64) {
        while let Some(((at_ns, _), message)) = self.way.first_key_value().map(|(at, what)| (*at, what.clone())) {
            if at_ns > now_ns {
                break;
            }
            self.way.pop_first();
            match message {
                Message::Ask(child, ask) => {
                    let take = self.answer(child, &ask, at_ns);
                    self.send(Message::Take(child, ask, take), at_ns);
                }
                Message::Take(child, ask, take) => self.take(child, &ask, take, at_ns),
            }
        }
    }

    fn ask_of(&mut self, child: usize, lease: LeaseKey) -> Option<LeaseAskV1> {
        self.children[child].ledger.ask_ahead(&AheadV1 { lease, is_critical: false })
    }

    fn ask_ahead(&mut self, child: usize, lease: LeaseKey, now_ns: u64) {
        if let Some(ask) = self.ask_of(child, lease)
            && !self.is_cut
        {
            self.under_way.insert((child, lease));
            self.send(Message::Ask(child, ask), now_ns);
        }
    }

    fn take(&mut self, child: usize, ask: &LeaseAskV1, take: LeaseTakeV1, now_ns: u64) {
        self.children[child].now_ns = now_ns;
        self.children[child].apply(HeaderV1::LeaseTake(take));
        let lease = ask.lease;
        self.under_way.remove(&(child, lease));
        let told = self.children[child].ledger.share(&lease).counters;
        let is_new_life = told.born_ns != ask.counters.born_ns && told.debt() > 0;
        if self.wished.remove(&(child, lease)) || is_new_life {
            self.ask_ahead(child, lease, now_ns);
        }
    }

    fn granted(&mut self, ask: LeaseAskV1, now_ns: u64) -> (LeaseTakeV1, u64, Vec<u32>) {
        self.parent.now_ns = now_ns;
        let LeaseAskV1 { lease, is_critical, pinned, pinned_ns, .. } = ask;
        match self.parent.apply(HeaderV1::LeaseGrant(ask)).outcome {
            OutcomeV1::LeaseGranted { life_ns, granted, freed, wait_ns, others } => {
                let refused = false;
                let take = LeaseTakeV1 { lease, life_ns, granted, refused, wait_ns, is_critical, pinned, pinned_ns };
                (take, freed, others)
            }
            other => panic!("{other:?}"),
        }
    }

    /// As the parent's leader: grants, else has the others give back and grants again, else refuses.
    fn answer(&mut self, child: usize, ask: &LeaseAskV1, now_ns: u64) -> LeaseTakeV1 {
        let given = |take: &LeaseTakeV1| {
            take.granted.saturating_sub(if take.life_ns.0 == ask.counters.born_ns { ask.counters.granted } else { 0 })
        };
        let (first, _, others) = self.granted(*ask, now_ns);
        if given(&first) >= ask.waiting {
            return first;
        }
        let mut freed = 0;
        for other in others.into_iter().map(|group| group as usize - 3).filter(|other| *other != child) {
            self.children[other].now_ns = self.children[other].now_ns.max(now_ns);
            self.children[other].apply(HeaderV1::LeaseReturn(ask.lease));
            let counters = self.children[other].ledger.share(&ask.lease).counters;
            let noted = LeaseAskV1 { child: other as u32 + 3, counters, need: 0, waiting: 0, want: 0, ..*ask };
            freed += self.granted(noted, now_ns).1;
        }
        let mut last = first;
        if freed > 0 {
            let had = given(&first);
            let known = if first.life_ns.0 == ask.counters.born_ns { ask.counters } else { CountersV1::default() };
            let counters = match had {
                0 => ask.counters,
                _ => CountersV1 { born_ns: first.life_ns.0, granted: first.granted, ..known },
            };
            let waiting = ask.waiting.saturating_sub(had);
            let rest = LeaseAskV1 { counters, need: ask.need.min(waiting), waiting, want: waiting, ..*ask };
            last = self.granted(rest, now_ns).0;
        }
        let refused = given(&last) < ask.waiting;
        LeaseTakeV1 { refused, ..last }
    }

    /// Decides; what is short is fetched at once.
    fn decide(&mut self, child: usize, cost: u64, now_ns: u64) -> DecidedV1 {
        self.run_to(now_ns);
        self.children[child].now_ns = now_ns;
        let mut decide = self.children[child].decision("a");
        decide.request = request("", "", now_ns / MS);
        decide.costs = vec![CostV1 { unit: id("requests"), amount: cost, is_reserved: false }];
        for _ in 0..6 {
            match self.children[child].apply(HeaderV1::Decide(decide.clone())).outcome {
                OutcomeV1::LeaseShort(asks) => {
                    for ask in asks {
                        let take = self.answer(child, &ask, now_ns);
                        self.children[child].apply(HeaderV1::LeaseTake(take));
                    }
                    decide.has_asked = true;
                }
                OutcomeV1::Decided(decided) => {
                    for ahead in &decided.ahead {
                        if self.under_way.contains(&(child, ahead.lease)) {
                            self.wished.insert((child, ahead.lease));
                        } else {
                            self.ask_ahead(child, ahead.lease, now_ns);
                        }
                    }
                    return decided;
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("short again and again");
    }

    /// Every ledger again from its own snapshot.
    fn restore(&mut self) {
        for bench in self.children.iter_mut().chain([&mut self.parent]) {
            let twin = Ledger::from_bytes(&bench.ledger.to_bytes().expect("small")).expect("our own snapshot");
            assert_eq!(twin.digest(), bench.ledger.digest());
            bench.ledger = twin;
        }
    }
}

/// When, where, how much.
type Demand = Vec<(u64, usize, u64)>;

/// So many actions in a second, for so long, at places that the dice draw.
fn demand(phases: &[(u64, u64)], costs: u64, seed: u64) -> Demand {
    let (mut dice, mut now_ns, mut all) = (seed | 1, START_NS + SECOND_NS, Vec::new());
    for (per_second, seconds) in phases {
        for _ in 0..per_second * seconds {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            now_ns += dice % (2 * SECOND_NS / per_second);
            all.push((now_ns, (dice >> 40) as usize % CHILDREN, 1 + (dice >> 20) % costs));
        }
        now_ns += if *per_second == 0 { seconds * SECOND_NS } else { 0 };
    }
    all
}

fn report(decided: &DecidedV1, number: u32) -> QuotaV1 {
    *decided.quota.iter().find(|quota| quota.limit == LimitNumber(number)).expect("it matches")
}

/// One exact counter of the amounts that a leased limit shares out.
fn exact(kind: LimitKind, mode: LimitMode) -> Bench {
    let kind = match kind {
        LimitKind::Rate { amount, period_s, burst } => {
            LimitKind::Rate { amount, period_s, burst: burst - amount.div_ceil(period_s) }
        }
        LimitKind::Rolling { cap, window_s } => LimitKind::Rolling { cap, window_s: window_s + 1 },
        stock => stock,
    };
    ready(9, Placement::Single, &[in_mode(1, kind, mode)])
}

/// Units reported as violated: (by the partitions, by one exact counter).
fn violated(kind: LimitKind, mode: LimitMode, demand: &Demand, seed: u64) -> (u64, u64) {
    let (mut zone, mut one) = (Zone::new(&[in_mode(1, kind, mode)], seed), exact(kind, mode));
    let mut sums = (0, 0);
    for (turn, (now_ns, child, cost)) in demand.iter().enumerate() {
        let decided = zone.decide(*child, *cost, *now_ns);
        assert!(decided.verdict.is_allowed() && decided.retry_after_ns == 0, "{decided:?}");
        sums.0 += if report(&decided, 1).violated { *cost } else { 0 };
        one.now_ns = *now_ns;
        let mut decide = one.decision("a");
        decide.costs = vec![CostV1 { unit: id("requests"), amount: *cost, is_reserved: false }];
        sums.1 += if report(&one.decide(decide), 1).violated { *cost } else { 0 };
        if turn % 97 == 0 {
            zone.restore();
        }
    }
    sums
}

/// What may arrive at all partitions during two asks and a third that is about to leave, and one action's cost at each.
fn in_flight(per_second: u64, costs: u64) -> u64 {
    (per_second * 6 * WAY_MS_MAX / 1_000 + CHILDREN as u64) * costs
}

const RATE: LimitKind = LimitKind::Rate { amount: 20, period_s: 1, burst: 80 };
const ROLLING: LimitKind = LimitKind::Rolling { cap: 60, window_s: 5 };
const BUDGET: LimitKind = LimitKind::Budget { cap: 300, window_s: 30 };

fn modes() -> impl Strategy<Value = LimitMode> {
    prop_oneof![Just(LimitMode::Shadow), Just(LimitMode::Soft)]
}

/// Times of plenty and of calm, well above and well below what the limits admit.
fn phases() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let high = (60..250u64, 5..40u64);
    let low = (1..5u64, 10..60u64);
    proptest::collection::vec(prop_oneof![high, low], 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// A rate takes back what was counted ahead; a window fills up anew each time.
    #[test]
    fn what_would_be_denied_is_counted_as_by_one_exact_counter(
        (mode, phases, costs, seed) in (modes(), phases(), 1..4u64, any::<u64>())
    ) {
        let demand = demand(&phases, costs, seed);
        let most = phases.iter().map(|(per_second, _)| *per_second).max().expect("a phase");
        let (bound, times) = (in_flight(most, costs), phases.len() as u64);
        let lasts_s = (demand.last().expect("an action").0 - START_NS) / SECOND_NS;
        for (kind, fills) in [(RATE, times), (ROLLING, times + lasts_s / 6), (BUDGET, times + lasts_s / 30)] {
            let (shared, exact) = violated(kind, mode, &demand, seed);
            prop_assert!(shared.abs_diff(exact) <= bound * fills, "{kind:?}: {shared}, exactly {exact}; {bound} * {fills}");
        }
    }

    /// Nothing is compared after a calm: then it depends on who comes by when a share's life is found to be over.
    #[test]
    fn an_enforced_limit_decides_the_same_beside_limits_that_refuse_nobody(
        (is_stock, pace, costs, seed) in (any::<bool>(), (60..250u64, 5..40u64), 1..4u64, any::<u64>())
    ) {
        let enforced = in_mode(1, if is_stock { BUDGET } else { RATE }, LimitMode::Enforce);
        let beside = [
            enforced.clone(),
            in_mode(2, RATE, LimitMode::Soft),
            in_mode(3, ROLLING, LimitMode::Shadow),
            in_mode(4, LimitKind::Lifetime { cap: 50 }, LimitMode::Soft),
            in_mode(5, BUDGET, LimitMode::Shadow),
        ];
        let (mut alone, mut among) = (Zone::new(&[enforced], seed), Zone::new(&beside, seed));
        for (now_ns, child, cost) in demand(&[pace], costs, seed) {
            let (one, other) = (alone.decide(child, cost, now_ns), among.decide(child, cost, now_ns));
            prop_assert_eq!(one.verdict, other.verdict);
            prop_assert_eq!((&one.reasons, one.retry_after_ns), (&other.reasons, other.retry_after_ns));
            prop_assert_eq!(report(&other, 1), one.quota[0]);
        }
    }

    /// What is admitted while the limit is enforced keeps to it, whatever was counted in between; nothing blocks for ever.
    #[test]
    fn an_enforced_limit_that_only_counted_for_a_while_admits_no_more_than_it_says(
        (mode, kind, phases, seed) in (modes(), prop_oneof![Just(RATE), Just(ROLLING), Just(BUDGET)], phases(), any::<u64>())
    ) {
        let mut zone = Zone::new(&[in_mode(1, kind, LimitMode::Enforce)], seed);
        let (mut admitted, mut total): (History, u64) = (History::new(), 0);
        for (turn, (now_ns, child, cost)) in demand(&phases, 3, seed).into_iter().enumerate() {
            let now = if turn % 150 < 75 { LimitMode::Enforce } else { mode };
            if turn % 75 == 0 {
                zone.run_to(now_ns);
                zone.fact(&in_mode(1, kind, now));
            }
            let decided = zone.decide(child, cost, now_ns);
            if now.is_enforce() && decided.verdict.is_allowed() {
                admitted.push((now_ns, cost));
            }
            total = now_ns;
        }
        check_never_over(&kind, &admitted);
        // The last windows end, and what was owed leaks or is forgotten.
        zone.fact(&in_mode(1, kind, LimitMode::Enforce));
        // A parent finds only then that shares are void, and counts them as spent then.
        let later_ns = total + 3_600 * SECOND_NS;
        (0..CHILDREN).for_each(|child| drop(zone.decide(child, 1, later_ns + child as u64)));
        let later_ns = later_ns + 40 * SECOND_NS;
        prop_assert!((0..CHILDREN).all(|child| zone.decide(child, 3, later_ns + child as u64).verdict.is_allowed()));
    }
}

/// Units counted as having had room, and what each child owes, after so many actions of one unit at one child.
fn counted(zone: &mut Zone, times: u64, now_ns: u64) -> (u64, Vec<u64>) {
    let had_room = (0..times).filter(|turn| !report(&zone.decide(0, 1, now_ns + turn * MS), 1).violated).count();
    let lease = LeaseKey {
        slot: slot_of_lease(LimitNumber(1), KeyedId::NONE),
        limit: LimitNumber(1),
        born: ControlRevision(3),
        key: KeyedId::NONE,
        window_ns: 0,
    };
    let owed = zone.children.iter().map(|child| child.ledger.share(&lease).debt(child.now_ns)).collect();
    (had_room as u64, owed)
}

#[test]
fn a_partition_that_cannot_ask_owes_one_cap_at_most_and_nothing_later() {
    for mode in [LimitMode::Shadow, LimitMode::Soft] {
        let mut zone = Zone::new(&[in_mode(1, RATE, mode)], 7);
        zone.is_cut = true;
        assert_eq!(counted(&mut zone, 500, START_NS + SECOND_NS), (60, vec![60, 0, 0]));
        zone.is_cut = false;
        // Ten seconds later it is forgotten; the parent never heard of it.
        let (had_room, owed) = counted(&mut zone, 1, START_NS + 3_600 * SECOND_NS);
        assert_eq!((had_room, &owed[1..]), (1, &[0, 0][..]));
        zone.run_to(START_NS + 3_601 * SECOND_NS);
        let (had_room, owed) = counted(&mut zone, 10, START_NS + 3_602 * SECOND_NS);
        assert_eq!((had_room, owed[0]), (10, 8), "two were granted beyond the one that was owed");
    }
}

#[test]
fn what_is_owed_of_a_stock_is_paid_before_anything_is_admitted_again() {
    let lifetime = |mode| in_mode(1, LimitKind::Lifetime { cap: 50 }, mode);
    let mut zone = Zone::new(&[lifetime(LimitMode::Soft)], 7);
    zone.is_cut = true;
    assert_eq!(counted(&mut zone, 30, START_NS + SECOND_NS), (30, vec![30, 0, 0]));
    zone.is_cut = false;
    zone.fact(&lifetime(LimitMode::Enforce));
    // Of fifty the first child has used thirty: it pays them with its first grant, and twenty are left for all.
    let at = |turn: u64| START_NS + (5 + 2 * turn) * SECOND_NS;
    assert!(zone.decide(0, 15, at(0)).verdict.is_allowed());
    assert!(!zone.decide(1, 6, at(1)).verdict.is_allowed());
    assert!(zone.decide(1, 5, at(2)).verdict.is_allowed());
    assert!((0..CHILDREN).all(|child| !zone.decide(child, 1, at(3 + child as u64)).verdict.is_allowed()));
}

#[test]
fn costs_beyond_all_bounds_overflow_nothing() {
    for mode in [LimitMode::Shadow, LimitMode::Soft] {
        for kind in [RATE, ROLLING, BUDGET, LimitKind::Lifetime { cap: 1 << 48 }] {
            let mut zone = Zone::new(&[in_mode(1, kind, mode)], 7);
            for turn in 0..40 {
                let decided = zone.decide(turn as usize % CHILDREN, u64::MAX, START_NS + turn * SECOND_NS);
                assert!(decided.verdict.is_allowed() && report(&decided, 1).violated);
            }
            zone.restore();
        }
    }
}

/// The figures of docs/limits.md.
#[test]
fn figures() {
    for mode in [LimitMode::Shadow, LimitMode::Soft] {
        for kind in [RATE, ROLLING, BUDGET] {
            for per_second in [10, 50, 200] {
                let (shared, exact) = violated(kind, mode, &demand(&[(per_second, 120)], 3, 77), 5);
                eprintln!("{} {kind:?} at {per_second}/s: {shared}, exactly {exact}", mode.as_str());
                assert!(shared.abs_diff(exact) * 50 <= exact + 4_000);
            }
        }
    }
}
