//! What the default bundle does to a real agent's work, and how long that takes. Skipped where the data is absent.

use std::collections::BTreeMap;

use nethical_protocol::action::{Action, ActionKind};
use nethical_protocol::decision::Verdict;

use cedar_policy::PolicySet;

use super::slice::Slice;
use super::tests::action;
use super::{AgentFacts, Bundle, PolicyInput, default_bundle_text, evaluate_action};
use crate::detect::Detectors;
use crate::detect::measured::data_lines;

#[derive(serde::Deserialize)]
struct Recorded {
    tenant: String,
    agent_id: String,
    session: String,
    kind: String,
    name: String,
    args: serde_json::Value,
}

impl Recorded {
    fn into_action(self) -> Action {
        let kind = ActionKind::from_word(&self.kind).expect("a known kind");
        let mut action = action(kind, &self.name, &self.args.to_string());
        (action.tenant, action.agent, action.session) = (self.tenant, self.agent_id, self.session);
        action
    }
}

pub(crate) fn recorded() -> Option<Vec<Action>> {
    let lines = data_lines("airline-agent-actions.jsonl")?;
    let parse = |line: &String| serde_json::from_str::<Recorded>(line).expect("a recorded action").into_action();
    Some(lines.iter().map(parse).collect())
}

#[test]
fn a_benign_agent_may_work_under_the_default_bundle() {
    let Some(actions) = recorded() else { return };
    let (detectors, bundle) = (Detectors::new(), Bundle::parse(default_bundle_text()).expect("the default bundle"));
    let (mut verdicts, mut found, mut rules) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for action in &actions {
        let evaluated = evaluate_action(&detectors, &bundle, action, AgentFacts::default(), &[]);
        let verdict = evaluated.evaluation.verdict.0;
        *verdicts.entry(verdict).or_insert(0u32) += 1;
        for detection in &evaluated.evaluation.detections {
            *found.entry(crate::detect::name(detection.detector)).or_insert(0u32) += 1;
        }
        for rule in &evaluated.evaluation.rules {
            *rules.entry(bundle.describe(*rule).expect("a rule of the bundle").id.to_string()).or_insert(0u32) += 1;
        }
        if verdict > Verdict::Restrict {
            println!("{verdict:?}: {} {} {:?}", action.name, action.args_json, evaluated.reasons);
        }
    }
    println!("{} actions: {verdicts:?}\ndetections: {found:?}\nrules: {rules:?}", actions.len());
    let allowed: u32 = verdicts.iter().filter(|(verdict, _)| verdict.is_allowed()).map(|(_, count)| count).sum();
    assert!(allowed as usize * 100 >= actions.len() * 99, "{allowed} of {} may go ahead", actions.len());
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test measures; it asserts no time")]
fn time_per_evaluation_is_printed() {
    let Some(actions) = recorded() else { return };
    let (detectors, bundle) = (Detectors::new(), Bundle::parse(default_bundle_text()).expect("the default bundle"));
    for pass in ["cold memo", "warm memo"] {
        let mut times: Vec<(u128, u128)> = Vec::new();
        for action in &actions {
            let start = std::time::Instant::now();
            std::hint::black_box(detectors.scan_action(action));
            let scanned = start.elapsed().as_nanos();
            let start = std::time::Instant::now();
            std::hint::black_box(evaluate_action(&detectors, &bundle, action, AgentFacts::default(), &[]));
            times.push((scanned, start.elapsed().as_nanos()));
        }
        for (name, pick) in [("detectors", (|time| time.0) as fn(&(u128, u128)) -> u128), ("all facts", |time| time.1)]
        {
            let mut sorted: Vec<u128> = times.iter().map(pick).collect();
            sorted.sort_unstable();
            let (mean, count) = (sorted.iter().sum::<u128>() / sorted.len() as u128, sorted.len());
            println!(
                "{pass}, {name}: mean {mean} ns, p50 {} ns, p99 {} ns",
                sorted[count / 2],
                sorted[count * 99 / 100]
            );
        }
    }
    let input = super::tests::input();
    let median = |work: &dyn Fn()| {
        let mut times: Vec<u128> = (0..1_000)
            .map(|_| {
                let start = std::time::Instant::now();
                work();
                start.elapsed().as_nanos()
            })
            .collect();
        times.sort_unstable();
        times[500]
    };
    let request = median(&|| drop(std::hint::black_box(bundle.vocabulary.request(&input, bundle.reads))));
    let evaluation = median(&|| {
        std::hint::black_box(bundle.compute(&input, bundle.reads, &mut bundle.slices.of(&input)));
    });
    println!(
        "without memo: p50 {evaluation} ns, of which the request {request} ns; {} policies",
        bundle.policy_count()
    );
}

/// Rules of the large bundle: these few bind every action …
const GENERAL: usize = 5;
/// … and each of so many tools has so many of its own.
const OF_A_TOOL: (usize, usize) = (67, 15);

/// A thousand rules and ten, of which twenty stand in the slice of one action.
fn large_bundle() -> String {
    let mut text = String::from("@id(\"p\") permit(principal, action, resource);\n");
    for number in 1..GENERAL {
        text.push_str(&format!(
            "@id(\"g{number}\") @verdict(\"restrict\") forbid(principal, action, resource)\n\
             when {{ context.agent.tier_level >= 3 && context.severity.injection > {number} }};\n"
        ));
    }
    for tool in 0..OF_A_TOOL.0 {
        for number in 0..OF_A_TOOL.1 {
            text.push_str(&format!(
                "@id(\"t{tool}-{number}\") @verdict(\"escalate\") forbid(principal, action, resource == Tool::\"tool{tool}\")\n\
                 when {{ context.action.bytes > {} && (context.detect.pii || context.quota.daily == \"out\"\n\
                 || context.resource.id like \"*/{number}/*\") }};\n",
                1_000_000 + number
            ));
        }
    }
    text
}

/// Nanoseconds of each call, sorted: of fifty rounds the one with the lowest p99, since other programs share the machine.
#[allow(clippy::disallowed_methods, reason = "a test measures; it asserts ratios, never a time")]
fn times(calls: u64, mut work: impl FnMut(u64)) -> Vec<u128> {
    let mut round = |first: u64| {
        let timed = |call: u64| {
            let start = std::time::Instant::now();
            work(call);
            start.elapsed().as_nanos()
        };
        let mut times: Vec<u128> = (first..first + calls).map(timed).collect();
        times.sort_unstable();
        times
    };
    let rounds = (0..50).map(|number| round(number * calls));
    rounds.min_by_key(|times| late(times)).expect("there are rounds")
}

fn late(times: &[u128]) -> u128 {
    times[times.len() * 99 / 100]
}

fn tell(name: &str, times: &[u128]) -> u128 {
    let median = times[times.len() / 2];
    println!("{name}: p50 {median} ns, p99 {} ns", late(times));
    median
}

/// Figures for `cargo test -p nethical-governance --lib policy::measured -- --nocapture`; docs/policy.md states them.
#[test]
fn a_thousand_rules_cost_what_twenty_do_and_remembered_results_cost_little() {
    let bundle = Bundle::parse(&large_bundle()).expect("the large bundle parses");
    let whole = {
        let mut whole = Slice::default();
        let set: PolicySet = large_bundle().parse().expect("it was parsed before");
        set.policies().for_each(|policy| whole.add(policy.clone()));
        whole
    };
    let base = PolicyInput { tool: "tool7", resource_type: "order", resource_id: "a/b/c", ..super::tests::input() };
    let asked = |slice: &Slice| slice.permits.num_of_policies() + slice.forbids.num_of_policies();
    let in_slice: usize = bundle.slices.of(&base).map(asked).sum();
    assert!(bundle.policy_count() >= 1_000 && in_slice <= 20, "{in_slice} of {}", bundle.policy_count());
    println!("{} rules, {in_slice} in the slice of the action, opt-level of this build", bundle.policy_count());

    let fresh = |call: u64| PolicyInput { bytes: call, ..base };
    let sliced = tell(
        "every fact new",
        &times(200, |call| {
            std::hint::black_box(bundle.evaluate(&fresh(call)));
        }),
    );
    let hit = tell(
        "remembered",
        &times(200, |_| {
            std::hint::black_box(bundle.evaluate(&base));
        }),
    );
    let request = tell(
        "of that, the request",
        &times(200, |call| {
            std::hint::black_box(bundle.vocabulary.request(&fresh(call), bundle.reads));
        }),
    );
    let full = tell(
        "all rules asked",
        &times(20, |call| {
            std::hint::black_box(bundle.compute(&fresh(call), bundle.reads, &mut std::iter::once(&whole)));
        }),
    );
    assert!(sliced * 10 < full, "slicing: {sliced} ns against {full} ns");
    assert!(hit * 5 < sliced, "memory: {hit} ns against {sliced} ns");
    assert!(request < sliced, "a request is part of an evaluation");
}
