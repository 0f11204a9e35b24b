//! Reservations against a model that keeps the whole history: what ended counts from its decision on with what was
//! charged in the end, what lives with what it reserved.

use nethical_governance::command::{CostV1, HeaderV1, SettleV1};
use nethical_governance::outcome::OutcomeV1;
use nethical_protocol::control::{ControlFact, KeyPart, LimitKind, Overrun};
use proptest::prelude::*;

use crate::bench::{Bench, SECOND_NS, actor, id, limit, subject};
use crate::model::{History, check_never_over, has_room, level, rolled};

/// A reservation as the model knows it.
struct Held {
    /// Its place in the history.
    at: usize,
    leaf_index: u64,
    until_ns: u64,
    /// The amounts of its settlement, once it has one; `None` in it for a release.
    settled: Option<Option<u64>>,
    is_over: bool,
}

struct Model {
    kind: LimitKind,
    history: History,
    held: Vec<Held>,
}

impl Model {
    fn expire(&mut self, now_ns: u64) {
        for held in self.held.iter_mut().filter(|held| !held.is_over && held.until_ns <= now_ns) {
            held.is_over = true;
            self.history[held.at].1 = 0;
        }
    }

    fn live(&self) -> u64 {
        self.held.iter().filter(|held| !held.is_over).count() as u64
    }

    fn has_room(&self, cost: u64, now_ns: u64) -> bool {
        match self.kind {
            LimitKind::Concurrency { cap } => self.live() < cap,
            kind => cost == 0 || has_room(&kind, &self.history, cost, now_ns),
        }
    }

    /// The counter says what the model counts; that of a rate may say more, never less.
    fn check(&self, bench: &Bench) {
        let now_ns = bench.now_ns;
        let quota = bench.ledger.usage(&subject("a"), now_ns).remove(0);
        let used = match self.kind {
            LimitKind::Rate { amount, period_s, burst } => {
                let level = level(&self.history, amount, period_s * SECOND_NS, now_ns);
                let whole = level.div_ceil(u128::from(period_s * SECOND_NS)) as u64;
                return assert!(quota.remaining <= burst.saturating_sub(whole), "{} left of {burst}", quota.remaining);
            }
            LimitKind::Budget { window_s, .. } => {
                let window = |ns: u64| ns / (window_s * SECOND_NS);
                self.history.iter().filter(|(at, _)| window(*at) == window(now_ns)).map(|(_, cost)| cost).sum()
            }
            LimitKind::Rolling { window_s, .. } => rolled(&self.history, window_s * SECOND_NS, now_ns),
            LimitKind::Lifetime { .. } => self.history.iter().map(|(_, cost)| cost).sum(),
            LimitKind::Concurrency { .. } => self.live(),
        };
        assert_eq!(quota.cap - quota.remaining, used, "used under {:?} at {now_ns}", self.kind);
    }
}

/// Waits, then does something: what, with how much, about which reservation.
type Step = (u64, u8, u64, usize);

fn any_step() -> impl Strategy<Value = Step> {
    let wait_ns = prop_oneof![Just(0), 0..50_000_000u64, 0..2 * SECOND_NS];
    (wait_ns, 0..10u8, 1..8u64, any::<usize>())
}

fn any_kind() -> impl Strategy<Value = LimitKind> {
    prop_oneof![
        (1..20u64, 1..5u64, 1..10u64).prop_map(|(amount, period_s, burst)| LimitKind::Rate { amount, period_s, burst }),
        (1..30u64, 1..8u64).prop_map(|(cap, window_s)| LimitKind::Budget { cap, window_s }),
        (1..90u64).prop_map(|cap| LimitKind::Lifetime { cap }),
        (1..30u64, 1..8u64).prop_map(|(cap, window_s)| LimitKind::Rolling { cap, window_s }),
        (1..5u64).prop_map(|cap| LimitKind::Concurrency { cap }),
    ]
}

fn decide(bench: &mut Bench, model: &mut Model, amount: u64, ttl_s: Option<u32>) {
    let mut decide = bench.decision("a");
    let is_reserved = ttl_s.is_some();
    decide.costs = vec![CostV1 { unit: id("tokens"), amount, is_reserved }];
    decide.reserve_ttl_s = ttl_s.unwrap_or(0);
    // Time passes first, so that the next leaf is this command's and not an expiry's.
    bench.apply(HeaderV1::Tick);
    let leaf_index = bench.ledger.leaf_count();
    let allowed = bench.decide(decide).verdict.is_allowed();
    let room = model.has_room(amount, bench.now_ns);
    let is_rate = matches!(model.kind, LimitKind::Rate { .. });
    assert!(allowed == room || (is_rate && room), "admitted {amount}: {allowed}, room: {room}");
    if allowed {
        let until_ns = bench.now_ns + u64::from(ttl_s.unwrap_or(0)) * SECOND_NS;
        let at = model.history.len();
        model.history.push((bench.now_ns, amount));
        if is_reserved {
            model.held.push(Held { at, leaf_index, until_ns, settled: None, is_over: false });
        }
    }
}

fn settle(bench: &mut Bench, model: &mut Model, which: usize, used: Option<u64>) {
    if model.held.is_empty() {
        return;
    }
    let which = which % model.held.len();
    let held = &mut model.held[which];
    let mut content = [u8::from(used.is_none()); 8];
    content[0] = used.unwrap_or(0) as u8;
    let settle = SettleV1 {
        slot: actor("t", "a").slot,
        decision: held.leaf_index,
        content,
        is_release: used.is_none(),
        used: used.map(|used| (id("tokens"), used)).into_iter().collect(),
    };
    let outcome = bench.apply(HeaderV1::SettleReservation(settle)).outcome;
    match held.settled {
        Some(first) if first == used => assert!(matches!(outcome, OutcomeV1::Duplicate { .. }), "{outcome:?}"),
        _ if held.is_over => assert!(matches!(outcome, OutcomeV1::Conflict { .. }), "{outcome:?}"),
        _ => {
            assert!(matches!(outcome, OutcomeV1::Settled(_)), "{outcome:?}");
            (held.settled, held.is_over) = (Some(used), true);
            let charged = &mut model.history[held.at].1;
            *charged = used.unwrap_or(0).min(*charged);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_reservation_ends_once_and_its_limit_counts_what_was_charged_never_less(
        kind in any_kind(),
        steps in prop::collection::vec(any_step(), 1..80),
    ) {
        let mut bench = Bench::ready();
        let mut fact = limit(1, "tokens", kind);
        (fact.key, fact.overrun) = (vec![KeyPart::Agent], Overrun::Cap);
        bench.fact(ControlFact::Limit(fact));
        let mut model = Model { kind, history: vec![], held: vec![] };
        for (wait_ns, what, amount, which) in steps {
            bench.now_ns += wait_ns;
            model.expire(bench.now_ns);
            match what {
                0..=1 => decide(&mut bench, &mut model, amount, None),
                2..=5 => decide(&mut bench, &mut model, amount, Some(1 + which as u32 % 6)),
                6 => settle(&mut bench, &mut model, which, None),
                _ => settle(&mut bench, &mut model, which, Some(amount)),
            }
            model.check(&bench);
        }
        if !matches!(kind, LimitKind::Concurrency { .. }) {
            check_never_over(&kind, &model.history);
        }
    }
}
