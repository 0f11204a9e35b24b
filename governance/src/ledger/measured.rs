//! Whole evaluations, detectors to ledger, over a real agent's work and over a generated one: who stays low, what is
//! found, how long it takes, how many bytes an idle agent costs. Real actions are skipped where the data is absent.

use nethical_protocol::action::{Action, ActionKind};
use nethical_protocol::control::{ControlFact, Placement, RevisedFact, TenantFact};
use nethical_protocol::ids::{ControlRevision, KeyedId, Slot};
use sha2::{Digest, Sha256};

mod together;

use super::Ledger;
use crate::behaviour::tests::{Maker, benign};
use crate::command::{
    ActorKeys, ApplyControlV1, CommandV1, DecideV1, DetectionV1, EvaluationV1, HeaderV1, RequestKey, ReviewV1,
};
use crate::detect::Detectors;
use crate::outcome::{DecidedV1, OutcomeV1, RiskTier};
use crate::policy::measured::recorded;
use crate::policy::{AgentFacts, Bundle, default_bundle_text, evaluate_action};

const START_NS: u64 = 1_767_225_600_000_000_000;
const POLICY_REV: ControlRevision = ControlRevision(2);

fn id(name: &str) -> KeyedId {
    let mut id = KeyedId::NONE;
    if !name.is_empty() {
        id.0.copy_from_slice(&Sha256::digest(name)[..16]);
    }
    id
}

/// A ledger with one tenant and a policy, and what actors need.
struct Whole {
    ledger: Ledger,
    now_ns: u64,
    detectors: Detectors,
    bundle: Bundle,
}

impl Whole {
    fn new() -> Self {
        let bundle = Bundle::parse(default_bundle_text()).expect("the default bundle");
        let mut ledger = Ledger::new(2);
        let tenant = ControlFact::Tenant(TenantFact { tenant: id("airline"), placement: Placement::Single });
        let facts = [(1, tenant), (2, ControlFact::Policy { digest: [0; 32] })];
        let facts = facts.into_iter().map(|(at, fact)| RevisedFact { revision: ControlRevision(at), fact }).collect();
        let control = ApplyControlV1 { from_rev: ControlRevision(0), to_rev: POLICY_REV, facts };
        let command = CommandV1 { header: HeaderV1::ApplyControl(control), body: Vec::new() };
        ledger.apply(START_NS, &command);
        Self { ledger, now_ns: START_NS, detectors: Detectors::new(), bundle }
    }

    fn command(&self, action: &Action) -> DecideV1 {
        let actor = ActorKeys { slot: Slot(0), tenant: id("airline"), agent: id(&action.agent) };
        let view = self.ledger.agent_view(&actor);
        let seen = AgentFacts { status: view.status, tier: view.tier, epoch: view.epoch };
        let evaluation = evaluate_action(&self.detectors, &self.bundle, action, seen, &[]).evaluation;
        let issued_at_ms = self.now_ns / 1_000_000;
        let number = self.ledger.leaf_count().to_string();
        DecideV1 {
            request: RequestKey { id: id(&number), content: [0; 8], issued_at_ms, client_chosen: true },
            actor,
            session: id(&action.session),
            cohort: KeyedId::NONE,
            tool: id(&action.name),
            region: KeyedId::NONE,
            resource: id(&action.resource_id),
            kind: action.kind,
            costs: Vec::new(),
            reserve_ttl_s: 0,
            policy_rev: POLICY_REV,
            by_canary: false,
            agent_version: view.version,
            evaluation,
            body_commitment: [0; 32],
            region_in_zone: KeyedId::NONE,
            model_score: None,
            review: ReviewV1::default(),
            is_critical: false,
            has_asked: false,
            sealing: None,
        }
    }

    fn apply(&mut self, decide: DecideV1) -> DecidedV1 {
        let command = CommandV1 { header: HeaderV1::Decide(decide), body: Vec::new() };
        match self.ledger.apply(self.now_ns, &command).outcome {
            OutcomeV1::Decided(decided) => decided,
            other => panic!("not decided: {other:?}"),
        }
    }
}

/// The real actions again and again, until there are so many, with two seconds between them and a minute between sessions.
fn work(actions: &[Action], count: usize) -> impl Iterator<Item = (u64, Action)> {
    let (mut now_ns, mut session) = (START_NS, String::new());
    actions.iter().cycle().take(count).enumerate().map(move |(number, action)| {
        let same = session == action.session;
        now_ns += if same { 1_500_000_000 + number as u64 * 7_919 % 1_000 * 1_000_000 } else { 60_000_000_000 };
        session.clone_from(&action.session);
        (now_ns, action.clone())
    })
}

#[test]
fn a_real_agent_stays_low_over_10_000_actions_and_is_rarely_odd() {
    let Some(actions) = recorded() else { return };
    let mut whole = Whole::new();
    let (mut found, mut odd, mut worst) = (std::collections::BTreeMap::new(), 0, 0);
    for (now_ns, action) in work(&actions, 10_000) {
        whole.now_ns = now_ns;
        let decide = whole.command(&action);
        let blocked = !decide.evaluation.verdict.0.is_allowed();
        let decided = whole.apply(decide);
        odd += usize::from(!decided.findings.is_empty());
        decided.findings.iter().for_each(|one| *found.entry(crate::detect::name(one.detector)).or_insert(0) += 1);
        worst = decided.risk.max(worst);
        assert!(blocked || decided.tier == RiskTier::Low, "{} {}: {decided:?}", action.name, action.args_json);
    }
    println!("10,000 real actions: {odd} odd {found:?}, highest risk {worst}");
    assert!(odd <= 100, "{odd} of 10,000 were odd");
    // The same agent gone astray: a tool that it never used, with far more text than ever.
    let mut astray = actions[2].clone();
    (astray.name, astray.args_json) =
        ("export_all_users".to_owned(), format!(r#"{{"text":"{}"}}"#, "a ".repeat(20_000)));
    whole.now_ns += 2_000_000_000;
    let decide = whole.command(&astray);
    let numbers: Vec<u8> = whole.apply(decide).findings.iter().map(|found| found.detector).collect();
    assert_eq!(numbers, [crate::behaviour::NOVELTY, crate::behaviour::SIZE]);
}

#[test]
fn generated_agents_stay_low_over_10_000_actions_each_and_are_rarely_odd() {
    for sort in 0..4 {
        let (mut whole, mut maker, mut odd) = (Whole::new(), Maker::new(5 + sort), 0);
        let action = crate::policy::tests::action(ActionKind::ToolCall, "search", "{}");
        for number in 0..10_000 {
            let seen = benign(&mut maker, sort, number);
            whole.now_ns = maker.now_ns;
            let mut decide = whole.command(&action);
            (decide.kind, decide.tool, decide.resource, decide.session) =
                (seen.kind, seen.tool, seen.resource, seen.session);
            // Now and then a weak finding, on privileged ground, with nobody watching.
            let detections = if number % 40 == 0 { vec![DetectionV1 { detector: 1, severity: 200 }] } else { vec![] };
            let (facts, privileged, automated) = (seen.facts, number % 3 == 0, true);
            decide.evaluation = EvaluationV1 { detections, facts, privileged, automated, ..EvaluationV1::default() };
            let decided = whole.apply(decide);
            assert_eq!(decided.tier, RiskTier::Low, "sort {sort}, action {number}: {decided:?}");
            odd += usize::from(!decided.findings.is_empty());
        }
        assert!(odd <= 100, "sort {sort}: {odd} of 10,000 were odd");
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test measures; it asserts no time")]
fn time_of_whole_evaluations_is_printed() {
    let Some(actions) = recorded() else { return };
    let mut whole = Whole::new();
    let (mut facts, mut apply) = (Vec::new(), Vec::new());
    for (now_ns, action) in work(&actions, 3 * actions.len()) {
        whole.now_ns = now_ns;
        let start = std::time::Instant::now();
        let decide = whole.command(&action);
        facts.push(start.elapsed().as_nanos());
        let start = std::time::Instant::now();
        std::hint::black_box(whole.apply(decide));
        apply.push(start.elapsed().as_nanos());
    }
    let both = facts.iter().zip(&apply).map(|(facts, apply)| facts + apply).collect();
    let (mut profile, mut behaviour) = (crate::behaviour::Behaviour::default(), Vec::new());
    for (now_ns, action) in work(&actions, actions.len()) {
        let seen = super::decide::seen_of(&whole.command(&action));
        let start = std::time::Instant::now();
        std::hint::black_box(profile.judge(now_ns, &seen));
        profile.learn(now_ns, &seen);
        behaviour.push(start.elapsed().as_nanos());
    }
    for (name, mut times) in [
        ("behaviour alone", behaviour),
        ("detectors, policy, ids", facts),
        ("apply with risk and behaviour", apply),
        ("both", both),
    ] {
        times.sort_unstable();
        let (mean, count) = (times.iter().sum::<u128>() / times.len() as u128, times.len());
        println!("{name}: mean {mean} ns, p50 {} ns, p99 {} ns", times[count / 2], times[count * 99 / 100]);
    }
}

#[test]
fn an_idle_agent_costs_less_than_a_kilobyte_in_memory_and_in_a_snapshot() {
    let with = |agents: usize| {
        let mut whole = Whole::new();
        let mut action = crate::policy::tests::action(ActionKind::ToolCall, "search", "{}");
        for agent in 0..agents {
            action.agent = agent.to_string();
            for _ in 0..10 {
                let mut decide = whole.command(&action);
                decide.evaluation = EvaluationV1::default();
                // Remembered requests are no part of an agent's entry.
                decide.request.id = KeyedId::NONE;
                whole.apply(decide);
                whole.now_ns += 1_000_000;
            }
        }
        assert_eq!(whole.ledger.remembered_count(), 0);
        whole.ledger.to_bytes().expect("a small ledger").len()
    };
    let (few, many) = (with(10), with(110));
    let in_snapshot = (many - few) / 100;
    let in_memory = size_of::<crate::agent::AgentKey>() + size_of::<crate::agent::AgentEntry>();
    println!("an idle agent: {in_memory} B in memory, {in_snapshot} B in a snapshot");
    assert!(in_snapshot <= 1_024 && in_memory <= 1_024);
}
