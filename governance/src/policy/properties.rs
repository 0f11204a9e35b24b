//! Properties of bundles: results never depend on slicing, blanking or memory, and no text makes anything panic.

use proptest::prelude::*;

use super::tests::{bundle, input};
use super::*;

const PRINCIPALS: [&str; 6] = [
    "principal",
    "principal == Agent::\"agent-1\"",
    "principal in Tenant::\"airline\"",
    "principal in Cohort::\"beta\"",
    "principal is Agent",
    "principal is Agent in Tenant::\"bank\"",
];
const ACTIONS: [&str; 4] = [
    "action",
    "action == Action::\"tool_call\"",
    "action in [Action::\"message\", Action::\"tool_call\"]",
    "action in Action::\"delegation\"",
];
const RESOURCES: [&str; 6] = [
    "resource",
    "resource == Tool::\"book\"",
    "resource in Resource::\"booking/7\"",
    "resource in ResourceType::\"booking\"",
    "resource is Tool",
    "resource == Tool::\"quote\\\"d\"",
];
const CONDITIONS: [&str; 20] = [
    "true",
    "context.detect.pii",
    "context.severity.injection >= 500",
    "context.agent.tier == \"high\"",
    "context.agent.status != \"active\"",
    "context.agent.epoch > 3",
    "context.action.amount > 100",
    "context.action.bytes < 100",
    "context.cost.tokens + 9223372036854775800 > 0",
    "context.cohort == \"beta\"",
    "context.region like \"e*\"",
    "context.session == \"s1\"",
    "context.automated && !context.privileged",
    "context.resource.id like \"7*\"",
    "principal in Tenant::\"bank\" || resource in ResourceType::\"booking\"",
    "context.tenant == \"bank\" && context.action.name == \"book\"",
    "context.quota.daily == \"out\"",
    "context.quota[\"a \\\"b\\\"\"] == \"low\" && context.detect.pii",
    "context.quota.daily == context.quota.weekly",
    "[\"low\", \"out\"].contains(context.quota.weekly)",
];
const VERDICTS: [&str; 5] = ["allow", "restrict", "escalate", "block", "terminate"];

fn bundles() -> impl Strategy<Value = String> {
    let policy =
        (any::<bool>(), 0..PRINCIPALS.len(), 0..ACTIONS.len(), 0..RESOURCES.len(), 0..CONDITIONS.len(), 0..5usize);
    proptest::collection::vec(policy, 1..14).prop_map(|policies| {
        let mut text = String::new();
        for (number, (permit, principal, action, resource, condition, verdict)) in policies.into_iter().enumerate() {
            let (effect, verdict) = if permit { ("permit", verdict % 2) } else { ("forbid", 1 + verdict % 4) };
            let (principal, action, resource) = (PRINCIPALS[principal], ACTIONS[action], RESOURCES[resource]);
            text.push_str(&format!(
                "@id(\"r{number}\") @verdict(\"{}\")\n{effect}({principal}, {action}, {resource}) when {{ {} }};\n",
                VERDICTS[verdict], CONDITIONS[condition]
            ));
        }
        text
    })
}

/// The facts of one input, owned.
#[derive(Debug, Clone)]
struct Facts {
    texts: [&'static str; 8],
    kind: ActionKind,
    status: usize,
    numbers: [u64; 5],
    detections: Vec<DetectionV1>,
    flags: (bool, bool),
    /// As many as a caller gives, which may be fewer or more than the bundle names.
    bands: Vec<Band>,
}

impl Facts {
    fn input(&self) -> PolicyInput<'_> {
        let [tenant, agent, session, cohort, region, tool, resource_type, resource_id] = self.texts;
        let [epoch, amount, bytes, usd_micros, tokens] = self.numbers;
        let (status, tier) = (AgentStatus::ALL[self.status], RiskTier::ALL[self.status]);
        let (privileged, automated) = self.flags;
        PolicyInput {
            tenant,
            agent,
            session,
            cohort,
            region,
            kind: self.kind,
            tool,
            resource_type,
            resource_id,
            status,
            tier,
            epoch,
            detections: &self.detections,
            amount,
            bytes,
            usd_micros,
            tokens,
            privileged,
            automated,
            bands: &self.bands,
        }
    }
}

fn facts() -> impl Strategy<Value = Facts> {
    let text = |choices: &'static [&'static str]| proptest::sample::select(choices);
    let texts = (
        text(&["airline", "bank"]),
        text(&["agent-1", "agent-2"]),
        text(&["", "s1"]),
        text(&["", "beta"]),
        text(&["", "eu"]),
        text(&["book", "quote\"d", "other"]),
        text(&["", "booking"]),
        text(&["", "7", "8"]),
    );
    let detection = (0u8..20, 0u16..1001).prop_map(|(detector, severity)| DetectionV1 { detector, severity });
    let numbers = proptest::array::uniform5(prop_oneof![Just(0u64), Just(7), Just(101), Just(u64::MAX)]);
    let kind = proptest::sample::select(ActionKind::ALL);
    let bands = proptest::collection::vec(proptest::sample::select(&Band::ALL[..]), 0..5);
    let found = proptest::collection::vec(detection, 0..4);
    (texts, kind, 0..4usize, numbers, found, any::<(bool, bool)>(), bands).prop_map(
        |((a, b, c, d, e, f, g, h), kind, status, numbers, detections, flags, bands)| Facts {
            texts: [a, b, c, d, e, f, g, h],
            kind,
            status,
            numbers,
            detections,
            flags,
            bands,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// One set of all policies, every fact given, nothing remembered: the naive model of `evaluate`.
    #[test]
    fn slicing_blanking_and_memory_change_no_result(text in bundles(), all in proptest::collection::vec(facts(), 1..24)) {
        let bundle = bundle(&text);
        let mut whole = Slice::default();
        let set: PolicySet = text.parse().expect("it was parsed before");
        set.policies().for_each(|policy| whole.add(policy.clone()));
        for facts in all.iter().chain(&all) {
            let input = facts.input();
            let naive = bundle.compute(&input, Reads::EVERYTHING, &mut std::iter::once(&whole));
            prop_assert_eq!(bundle.evaluate(&input), naive, "{}\n{:?}", text, input);
        }
    }

    #[test]
    fn any_printable_name_of_a_limit_can_be_read(name in "[ -~]{1,24}|[\"'\\\\*{}]{1,12}") {
        let quoted = name.escape_debug().to_string();
        let text = format!("@id(\"n\") forbid(principal, action, resource) when {{ context.quota[\"{quoted}\"] == \"out\" }};");
        let bundle = bundle(&text);
        prop_assert_eq!(bundle.limits_named(), std::slice::from_ref(&name));
        let result = bundle.evaluate(&PolicyInput { bands: &[Band::Out], ..input() });
        prop_assert_eq!(result.rules.contains(&rule_hash("n")), true);
    }

    #[test]
    fn odd_texts_never_panic(texts in proptest::array::uniform8("\\PC{0,12}|[\"'\\\\\u{0}*{}\n]{0,12}"), long in 0..65_536usize) {
        let bundle = bundle_of_defaults();
        let [tenant, agent, session, cohort, region, tool, resource_type, mut resource_id] = texts;
        resource_id.push_str(&"*\"".repeat(long / 2));
        let base = input();
        let input = PolicyInput {
            tenant: &tenant, agent: &agent, session: &session, cohort: &cohort, region: &region, tool: &tool,
            resource_type: &resource_type, resource_id: &resource_id, ..base
        };
        let result = bundle.evaluate(&input);
        prop_assert!(result.rules.is_sorted() && !result.rules.is_empty());
    }

    #[test]
    fn no_text_panics_as_a_bundle(text in "\\PC{0,80}|(permit|forbid|@id|\\(|\\)|principal|action|resource|,|;|when|\\{|\\}| |\"){0,30}") {
        if let Err(error) = Bundle::parse(&text) {
            prop_assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
        }
    }
}

fn bundle_of_defaults() -> &'static Bundle {
    static BUNDLE: std::sync::OnceLock<Bundle> = std::sync::OnceLock::new();
    let more = "@id(\"x\") forbid(principal in Tenant::\"q\", action, resource in Resource::\"a/b\") when { context.session like \"*\\**\" };";
    BUNDLE.get_or_init(|| bundle(&format!("{}{more}", default_bundle_text())))
}
