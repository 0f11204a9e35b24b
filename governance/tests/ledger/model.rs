//! Properties of limits and of idempotency, against models so naive that they are plainly right: they keep the whole
//! history and count it again for every question.

use nethical_governance::command::{CostV1, HeaderV1};
use nethical_governance::dedup::DedupBounds;
use nethical_governance::ledger::Ledger;
use nethical_governance::outcome::{OutcomeV1, ReasonV1};
use nethical_protocol::control::{ControlFact, KeyPart, LimitFact, LimitKind, LimitMode, Placement, TenantFact};
use nethical_protocol::decision::Verdict;
use nethical_protocol::ids::LimitNumber;
use nethical_protocol::limits::REQUEST_AHEAD_MAX_MS;
use proptest::prelude::*;

use crate::bench::{Bench, SECOND_NS, START_NS, id, limit, request};

/// What one limit admitted: when, how much.
pub type History = Vec<(u64, u64)>;

/// Used units of a rate, in units/period_ns: walk the whole history, leak, add.
pub fn level(history: &History, amount: u64, period_ns: u64, now_ns: u64) -> u128 {
    let (mut level, mut last_ns) = (0u128, 0u64);
    let leak = |level: u128, ns: u64| level.saturating_sub(u128::from(ns) * u128::from(amount));
    for (at_ns, cost) in history {
        level = leak(level, at_ns - last_ns) + u128::from(*cost) * u128::from(period_ns);
        last_ns = *at_ns;
    }
    leak(level, now_ns - last_ns)
}

/// True where the naive model has room.
pub fn has_room(kind: &LimitKind, history: &History, cost: u64, now_ns: u64) -> bool {
    match *kind {
        LimitKind::Rate { amount, period_s, burst } => {
            let period_ns = period_s * SECOND_NS;
            level(history, amount, period_ns, now_ns) + u128::from(cost) * u128::from(period_ns)
                <= u128::from(burst) * u128::from(period_ns)
        }
        LimitKind::Budget { cap, window_s } => {
            let window = |ns: u64| ns / (window_s * SECOND_NS);
            let spent: u64 = history.iter().filter(|(at, _)| window(*at) == window(now_ns)).map(|(_, cost)| cost).sum();
            spent + cost <= cap
        }
        LimitKind::Concurrency { .. } => unreachable!("nothing reserves here"),
        LimitKind::Lifetime { cap } => history.iter().map(|(_, cost)| cost).sum::<u64>() + cost <= cap,
        LimitKind::Rolling { cap, window_s } => rolled(history, window_s * SECOND_NS, now_ns) + cost <= cap,
    }
}

/// What a rolling window holds: each charge counts for a window after the latest charge of its 1/32 of a window.
pub fn rolled(history: &History, window_ns: u64, now_ns: u64) -> u64 {
    let part = |ns: u64| ns / window_ns.div_ceil(32);
    let latest = |at_ns: u64| history.iter().map(|(at, _)| *at).filter(|at| part(*at) == part(at_ns)).max();
    let counts = |at_ns: u64| latest(at_ns).is_some_and(|latest_ns| now_ns < latest_ns + window_ns);
    history.iter().filter(|(at_ns, _)| counts(*at_ns)).map(|(_, cost)| cost).sum()
}

/// The guarantee as users read it: no interval admits more than the limit says.
pub fn check_never_over(kind: &LimitKind, history: &History) {
    for first in 0..history.len() {
        let mut sum = 0u128;
        for (at_ns, cost) in &history[first..] {
            sum += u128::from(*cost);
            match *kind {
                LimitKind::Rate { amount, period_s, burst } => {
                    let (period, elapsed) = (u128::from(period_s * SECOND_NS), u128::from(at_ns - history[first].0));
                    let most = u128::from(amount) * elapsed + u128::from(burst) * period;
                    assert!(sum * period <= most, "{sum} within {elapsed} ns under {kind:?}");
                }
                LimitKind::Budget { cap, window_s } => {
                    let window = |ns: u64| ns / (window_s * SECOND_NS);
                    if window(*at_ns) != window(history[first].0) {
                        break;
                    }
                    assert!(sum <= u128::from(cap), "{sum} in one window under {kind:?}");
                }
                LimitKind::Concurrency { .. } => unreachable!("nothing reserves here"),
                LimitKind::Lifetime { cap } => assert!(sum <= u128::from(cap), "{sum} in all under {kind:?}"),
                LimitKind::Rolling { cap, window_s } => {
                    if at_ns - history[first].0 >= window_s * SECOND_NS {
                        break;
                    }
                    assert!(sum <= u128::from(cap), "{sum} within one window under {kind:?}");
                }
            }
        }
    }
}

fn any_kind() -> impl Strategy<Value = LimitKind> {
    prop_oneof![
        (1..20u64, 1..5u64, 1..10u64).prop_map(|(amount, period_s, burst)| LimitKind::Rate { amount, period_s, burst }),
        (1..30u64, 1..8u64).prop_map(|(cap, window_s)| LimitKind::Budget { cap, window_s }),
        (1..90u64).prop_map(|cap| LimitKind::Lifetime { cap }),
        (1..30u64, 1..8u64).prop_map(|(cap, window_s)| LimitKind::Rolling { cap, window_s }),
    ]
}

fn any_limit(number: u32) -> impl Strategy<Value = LimitFact> {
    (any_kind(), any::<bool>(), 0..10usize).prop_map(move |(kind, per_agent, mode)| {
        let mut fact = limit(number, "requests", kind);
        fact.key = vec![if per_agent { KeyPart::Agent } else { KeyPart::Tenant }];
        fact.mode = LimitMode::ALL[mode.saturating_sub(7)];
        fact
    })
}

#[derive(Debug, Clone)]
struct Step {
    wait_ns: u64,
    agent: usize,
    cost: u64,
    policy_blocks: bool,
}

fn any_step() -> impl Strategy<Value = Step> {
    let wait_ns = prop_oneof![Just(0), 0..50_000_000u64, 0..2 * SECOND_NS];
    (wait_ns, 0..2usize, 0..8u64, prop::bool::weighted(0.1)).prop_map(|(wait_ns, agent, cost, policy_blocks)| Step {
        wait_ns,
        agent,
        cost,
        policy_blocks,
    })
}

const AGENTS: [&str; 2] = ["a", "b"];

/// One limit and the histories of its counters: per agent, or one for the tenant.
struct Modelled {
    fact: LimitFact,
    histories: [History; 2],
}

impl Modelled {
    fn counter(&self, agent: usize) -> usize {
        if self.fact.key == [KeyPart::Agent] { agent } else { 0 }
    }

    fn has_room(&self, agent: usize, cost: u64, now_ns: u64) -> bool {
        cost == 0 || has_room(&self.fact.kind, &self.histories[self.counter(agent)], cost, now_ns)
    }
}

/// Runs one decision on the bench and on the model; both must agree on everything that limits say.
fn step(bench: &mut Bench, limits: &mut [Modelled], step: &Step) {
    bench.now_ns += step.wait_ns;
    let now_ns = bench.now_ns;
    let mut decide = bench.decision(AGENTS[step.agent]);
    decide.costs = vec![CostV1 { unit: id("requests"), amount: step.cost, is_reserved: false }];
    if step.policy_blocks {
        // Escalation denies without being a violation, so that risk stays out of this.
        decide.evaluation.verdict.0 = Verdict::Escalate;
    }
    let probe = bench.ledger.clone();
    let decided = bench.decide(decide);
    let refusing: Vec<LimitNumber> = limits
        .iter()
        .filter(|limit| limit.fact.mode == LimitMode::Enforce && !limit.has_room(step.agent, step.cost, now_ns))
        .map(|limit| limit.fact.number)
        .collect();
    let mut named: Vec<LimitNumber> = decided
        .reasons
        .iter()
        .filter_map(|reason| match reason {
            ReasonV1::QuotaExceeded(number) | ReasonV1::CostAboveCap(number) => Some(*number),
            _ => None,
        })
        .collect();
    named.sort_unstable();
    assert_eq!(named, refusing, "at {now_ns}: {step:?}");
    assert_eq!(decided.verdict.is_allowed(), refusing.is_empty() && !step.policy_blocks);
    let is_spent = |limit: &&Modelled| matches!(limit.fact.kind, LimitKind::Lifetime { .. });
    let forever = limits.iter().filter(is_spent).any(|limit| refusing.contains(&limit.fact.number));
    check_retry_after(probe, bench, step, decided.retry_after_ns, &decided.reasons, forever);
    for (limit, reported) in limits.iter_mut().zip(&decided.quota) {
        let room = limit.has_room(step.agent, step.cost, now_ns);
        assert_eq!((reported.limit, reported.violated), (limit.fact.number, !room));
        let counts = room || limit.fact.mode == LimitMode::Soft;
        if decided.verdict.is_allowed() && counts && step.cost > 0 {
            let counter = limit.counter(step.agent);
            limit.histories[counter].push((now_ns, step.cost));
        }
    }
}

/// At the instant given every refusing limit has room, and one nanosecond earlier not every one has.
fn check_retry_after(
    probe: Ledger,
    bench: &Bench,
    step: &Step,
    retry_after_ns: u64,
    reasons: &[ReasonV1],
    forever: bool,
) {
    let permanent = forever || reasons.iter().any(|reason| matches!(reason, ReasonV1::CostAboveCap(_)));
    let exceeded = reasons.iter().any(|reason| matches!(reason, ReasonV1::QuotaExceeded(_)));
    assert_eq!(retry_after_ns > 0, exceeded && !permanent);
    if retry_after_ns == 0 {
        return;
    }
    for (wait_ns, expected) in [(retry_after_ns - 1, false), (retry_after_ns, true)] {
        let mut later = Bench { ledger: probe.clone(), now_ns: bench.now_ns + wait_ns };
        let mut decide = later.decision(AGENTS[step.agent]);
        decide.costs = vec![CostV1 { unit: id("requests"), amount: step.cost, is_reserved: false }];
        assert_eq!(later.decide(decide).verdict.is_allowed(), expected, "after {wait_ns} of {retry_after_ns}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn limits_admit_what_the_naive_model_admits_all_or_none_and_never_more(
        limits in (any_limit(1), any_limit(2), any_limit(3)),
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let mut bench = Bench::ready();
        let mut modelled = Vec::new();
        for fact in [limits.0, limits.1, limits.2] {
            bench.fact(ControlFact::Limit(fact.clone()));
            modelled.push(Modelled { fact, histories: Default::default() });
        }
        for one in &steps {
            step(&mut bench, &mut modelled, one);
        }
        for limit in modelled.iter().filter(|limit| limit.fact.mode != LimitMode::Soft) {
            limit.histories.iter().for_each(|history| check_never_over(&limit.fact.kind, history));
        }
    }
}

/// A list of everything executed, oldest id thrown out first.
struct NaiveDedup {
    bounds: DedupBounds,
    low_water_ms: u64,
    /// id, content, issued, leaf.
    executed: Vec<(u8, u8, u64, u64)>,
}

impl NaiveDedup {
    fn answer(&mut self, (name, body, issued_ms): (u8, u8, u64), now_ms: u64) -> Option<OutcomeV1> {
        self.low_water_ms = self.low_water_ms.max(now_ms - self.bounds.window_ms);
        self.executed.retain(|(_, _, issued, _)| *issued > self.low_water_ms);
        if issued_ms <= self.low_water_ms {
            return Some(OutcomeV1::TooOld { low_water_ms: self.low_water_ms });
        }
        if let Some((_, content, _, leaf_index)) = self.executed.iter().find(|record| record.0 == name).copied() {
            let same = content == body;
            return Some(if same { OutcomeV1::Duplicate { leaf_index } } else { OutcomeV1::Conflict { leaf_index } });
        }
        (issued_ms > now_ms + REQUEST_AHEAD_MAX_MS).then_some(OutcomeV1::FromFuture)
    }

    fn executed(&mut self, (name, body, issued_ms): (u8, u8, u64), leaf_index: u64) {
        self.executed.push((name, body, issued_ms, leaf_index));
        if self.executed.len() > self.bounds.entries_max {
            let oldest = self.executed.iter().map(|record| (record.2, id(&record.0.to_string()))).min().expect("some");
            self.low_water_ms = self.low_water_ms.max(oldest.0);
            self.executed.retain(|record| record.2 > self.low_water_ms);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_executed_exactly_when_a_naive_list_says_so(
        entries_max in 1..6usize,
        steps in prop::collection::vec((0..3_000u64, 0..12u8, 0..2u8, 0..200_000u64), 1..80),
    ) {
        let bounds = DedupBounds { entries_max, window_ms: 100_000 };
        let mut bench = Bench::empty(Ledger::with_bounds(2, bounds));
        bench.fact(ControlFact::Tenant(TenantFact { tenant: id("t"), placement: Placement::Single }));
        bench.fact(ControlFact::Policy { digest: [1; 32] });
        let mut naive = NaiveDedup { bounds, low_water_ms: 0, executed: vec![] };
        for (wait_ms, name, body, back_ms) in steps {
            bench.now_ns += wait_ms * 1_000_000;
            let now_ms = bench.now_ns / 1_000_000;
            let issued_ms = now_ms + REQUEST_AHEAD_MAX_MS + 1_000 - back_ms;
            let mut decide = bench.decision("a");
            decide.request = request(&name.to_string(), &body.to_string(), issued_ms);
            let applied = bench.apply(HeaderV1::Decide(decide));
            match naive.answer((name, body, issued_ms), now_ms) {
                Some(refusal) => prop_assert_eq!(applied.outcome, refusal),
                None => {
                    prop_assert!(matches!(applied.outcome, OutcomeV1::Decided(_)), "{:?}", applied.outcome);
                    naive.executed((name, body, issued_ms), applied.leaf_index.expect("a leaf"));
                }
            }
            prop_assert!(bench.ledger.remembered_count() <= entries_max);
        }
        prop_assert!(bench.now_ns >= START_NS);
    }
}
