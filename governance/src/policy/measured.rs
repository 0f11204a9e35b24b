//! What the default bundle does to a real agent's work, and how long that takes. Skipped where the data is absent.

use std::collections::BTreeMap;

use nethical_protocol::action::{Action, ActionKind};
use nethical_protocol::decision::Verdict;

use super::tests::action;
use super::{AgentFacts, Bundle, default_bundle_text, evaluate_action};
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
        let evaluated = evaluate_action(&detectors, &bundle, action, AgentFacts::default());
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
            std::hint::black_box(evaluate_action(&detectors, &bundle, action, AgentFacts::default()));
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
