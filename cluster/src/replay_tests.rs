//! What a replay says of one recorded decision: the same, a flip, or what its body lacks.

use nethical_governance::command::{DetectionV1, EvaluationV1, VerdictWord};
use nethical_governance::quota::band::Band;
use nethical_protocol::action::{Action, ActionKind};

use super::*;
use nethical_protocol::control::Redaction;

use crate::body::{RedactedV1, SeenV1};

const CANDIDATE: &str = r#"
    @id("p") permit(principal, action, resource);
    @id("tier") @verdict("escalate") forbid(principal, action, resource) when { context.agent.tier_level >= 2 };
    @id("found") forbid(principal, action, resource) when { context.detect.secrets };
"#;

fn page() -> Page {
    let bundle = Arc::new(Bundle::parse(CANDIDATE).expect("the candidate parses"));
    Page { bundle, out: ReplayPage::default(), is_broken: false }
}

fn action() -> Action {
    let empty = String::new;
    Action {
        request_id: "r".into(),
        client_chosen: true,
        issued_at_ms: 1,
        tenant: "t".into(),
        agent: "a".into(),
        session: empty(),
        cohort: empty(),
        region: empty(),
        kind: ActionKind::ToolCall,
        name: "find".into(),
        resource_type: empty(),
        resource_id: empty(),
        args_json: "{}".into(),
        context_json: "{}".into(),
        cost: Vec::new(),
        explain: false,
        approval: String::new(),
        is_critical: false,
        wants_receipt: false,
    }
}

/// A recorded decision: its leaf's bytes and its opened body.
fn recorded(evaluation: EvaluationV1, seen: SeenV1, now_ns: u64) -> (Vec<u8>, Opened) {
    recorded_as(action(), evaluation, seen, None, now_ns)
}

fn recorded_as(
    action: Action,
    evaluation: EvaluationV1,
    seen: SeenV1,
    redacted: Option<RedactedV1>,
    now_ns: u64,
) -> (Vec<u8>, Opened) {
    let verdict = evaluation.verdict.0 as u8;
    let body = BodyV1::Decision { action, evaluation, seen, shadow: None, detectors: 2, redacted };
    let body_commitment = [0; 32];
    let found = DecisionLeaf { policy_verdict: verdict, verdict, ..DecisionLeaf::default() };
    let event = LeafEvent::Decision(Box::new(found));
    let leaf = LeafV1 { group: 2, era: 1, leaf_index: now_ns, now_ns, term: 1, body_commitment, event };
    (leaf.encode(), Opened::Body(body))
}

fn evaluation(verdict: Verdict, detections: Vec<DetectionV1>) -> EvaluationV1 {
    EvaluationV1 { verdict: VerdictWord(verdict), detections, ..EvaluationV1::default() }
}

#[test]
fn recorded_inputs_decide_and_nothing_else_does() {
    let mut page = page();
    let risky = SeenV1 { tier: nethical_governance::outcome::RiskTier::High, ..SeenV1::default() };
    let secrets = nethical_governance::detect::SECRETS;
    let found = vec![DetectionV1 { detector: secrets, severity: 900 }];
    let cases = [
        recorded(evaluation(Verdict::Allow, vec![]), SeenV1::default(), 1),
        recorded(evaluation(Verdict::Allow, vec![]), risky, 2),
        // The text holds no secret: what was found then counts, not what would be found now.
        recorded(evaluation(Verdict::Allow, found), SeenV1::default(), 3),
        recorded(evaluation(Verdict::Block, vec![]), SeenV1::default(), 4),
    ];
    assert!(cases.iter().all(|(leaf, opened)| page.see(leaf, opened, 10)));
    assert_eq!((page.out.decisions, page.out.same, page.out.lacking.len()), (4, 1, 0));
    let flips: Vec<_> = page.out.flips.iter().map(|flip| (flip.at_ns, flip.recorded, flip.candidate)).collect();
    let (allow, block) = (Verdict::Allow, Verdict::Block);
    assert_eq!(flips, [(2, allow, Verdict::Escalate), (3, allow, block), (4, block, allow)]);
    assert_eq!(page.out.flips[0].rules, ["tier"]);
    assert!(!page.see(&cases[3].0, &cases[3].1, 3), "past the end");
}

#[test]
fn the_room_under_limits_is_what_was_seen_then_and_what_nobody_looked_at_is_said() {
    let mut page = page();
    let text = r#"@id("p") permit(principal, action, resource);
        @id("low") forbid(principal, action, resource) when { context.quota.daily == "low" };"#;
    page.bundle = Arc::new(Bundle::parse(text).expect("it parses"));
    let seen = |band| SeenV1 { bands: vec![("daily".into(), band), ("hourly".into(), Band::Low)], ..SeenV1::default() };
    for (at_ns, seen) in [(1, seen(Band::Ok)), (2, seen(Band::Low)), (3, SeenV1::default())] {
        let (leaf, opened) = recorded(evaluation(Verdict::Allow, vec![]), seen, at_ns);
        assert!(page.see(&leaf, &opened, 10));
    }
    let flips: Vec<_> = page.out.flips.iter().map(|flip| (flip.at_ns, flip.candidate)).collect();
    assert_eq!((page.out.same, flips), (1, vec![(2, Verdict::Block)]));
    assert!(page.out.lacking[0].why.contains("limit daily"), "{:?}", page.out.lacking);
}

#[test]
fn a_body_that_cannot_be_used_is_said_for_each_decision() {
    let mut page = page();
    let (leaf, opened) = recorded(evaluation(Verdict::Block, vec![]), SeenV1::default(), 1);
    let hold = BodyV1::Hold(nethical_protocol::control::HoldSpec::new(nethical_protocol::control::HoldScope::All));
    let late = Opened::Unavailable("late".to_owned());
    for opened in [Opened::None, Opened::Erased, Opened::Expired, late, Opened::Body(hold)] {
        assert!(page.see(&leaf, &opened, 10));
    }
    assert_eq!((page.out.decisions, page.out.flips.len(), page.out.same), (5, 0, 0));
    let why: Vec<&str> = page.out.lacking.iter().map(|lacking| lacking.why.as_str()).collect();
    let told =
        ["there is no body", "its subject was erased", "its body has expired", "late", "the body holds no action"];
    assert_eq!(why, told);
    assert!(!page.see(b"rubbish", &opened, 10) && page.is_broken, "a leaf that does not read is no end of the log");
}

#[test]
fn a_cursor_is_a_place_and_rubbish_is_refused() {
    let groups = [GroupId(2), GroupId(3)];
    assert_eq!(place_of(None, &groups).expect("a start"), (GroupId(2), None));
    assert_eq!(place_of(Some("3.17"), &groups).expect("a place"), (GroupId(3), Some(17)));
    for odd in ["", "3", "3.", "x.1", "3.-1", "3.1.2"] {
        assert!(place_of(Some(odd), &groups).is_err(), "{odd}");
    }
}

#[test]
fn a_redacted_action_is_judged_by_the_sizes_that_it_had_and_is_lacking_where_its_resource_is_gone() {
    let mut page = page();
    let candidate = r#"@id("p") permit(principal, action, resource);
        @id("sum") forbid(principal, action, resource) when { context.action.amount >= 100 };"#;
    page.bundle = Arc::new(Bundle::parse(candidate).expect("the candidate parses"));
    let cut = Action { args_json: r#"{"amount":"[NUMBER]"}"#.into(), ..action() };
    let mut see = |redacted: Option<RedactedV1>, now_ns| {
        let allowed = evaluation(Verdict::Allow, vec![]);
        let (leaf, opened) = recorded_as(cut.clone(), allowed, SeenV1::default(), redacted, now_ns);
        assert!(page.see(&leaf, &opened, u64::MAX));
        (page.out.flips.len(), page.out.lacking.len())
    };
    let of = |amount, resource_cut| Some(RedactedV1 { policy: Redaction::Aggressive, amount, bytes: 9, resource_cut });
    assert_eq!(see(of(99, false), 1), (0, 0));
    assert_eq!(see(of(100_000, false), 2), (1, 0));
    assert_eq!(see(of(99, true), 3), (1, 1));
}
