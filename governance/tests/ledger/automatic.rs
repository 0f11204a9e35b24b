//! Automatic quarantine against a model that remembers every action: held exactly where the rules say, once.

use nethical_governance::command::{DetectionV1, HeaderV1};
use nethical_governance::outcome::{ReasonV1, RiskTier};
use nethical_protocol::control::{ControlFact, HoldEffect};
use nethical_protocol::decision::{AgentStatus, Verdict};
use nethical_protocol::ids::KeyedId;
use nethical_protocol::quarantine::{QuarantineFact, QuarantineRuleFact, QuarantineWhenFact};
use proptest::prelude::*;

use crate::bench::{Bench, SECOND_NS, id};

/// All that happened since the last hold began or ended.
#[derive(Default)]
struct Model {
    /// (time, severity) of every violation.
    violations: Vec<(u64, u16)>,
    /// The tier after every judged action.
    tiers: Vec<RiskTier>,
    held: Option<HoldEffect>,
}

impl Model {
    fn fits(&self, when: QuarantineWhenFact, now_ns: u64, found: u16) -> bool {
        match when {
            QuarantineWhenFact::Elevated { actions } => {
                let run = self.tiers.iter().rev().take_while(|tier| **tier == RiskTier::Elevated).count();
                run >= usize::from(actions)
            }
            QuarantineWhenFact::Violations { count, severity, within_ns } => {
                let young = |(at_ns, of): &&(u64, u16)| *of >= severity && now_ns - at_ns < within_ns;
                found >= severity.max(250) && self.violations.iter().filter(young).count() >= usize::from(count)
            }
            QuarantineWhenFact::Finding { severity, .. } => found >= severity,
        }
    }
}

fn any_rule() -> impl Strategy<Value = QuarantineRuleFact> {
    let when = prop_oneof![
        (1..6u16).prop_map(|actions| QuarantineWhenFact::Elevated { actions }),
        (1..=10u8, 250..1_000u16, 1..40u64).prop_map(|(count, severity, seconds)| {
            QuarantineWhenFact::Violations { count, severity, within_ns: seconds * SECOND_NS }
        }),
        (600..1_000u16).prop_map(|severity| QuarantineWhenFact::Finding { detector: 1, severity }),
    ];
    (when, any::<bool>()).prop_map(|(when, blocks)| {
        let effect = if blocks { HoldEffect::Block } else { HoldEffect::Restrict };
        QuarantineRuleFact { when, effect, ttl_ns: 0 }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn agents_are_held_where_the_rules_say_and_once(
        rules in prop::collection::vec(any_rule(), 1..5),
        zone in 0..5usize,
        // Severity (0 for nothing found), seconds since the one before, released before it.
        steps in prop::collection::vec((prop_oneof![Just(0u16), 1..1_001u16], 0..15u64, any::<bool>()), 1..80),
    ) {
        let (mut bench, mut model, mut epoch) = (Bench::ready(), Model::default(), 0);
        let zone = zone.min(rules.len());
        for (tenant, rules) in [(id("t"), &rules[zone..]), (KeyedId::NONE, &rules[..zone])] {
            bench.fact(ControlFact::Quarantine(QuarantineFact { tenant, rules: rules.to_vec() }));
        }
        // The tenant's rules speak first.
        let in_order: Vec<QuarantineRuleFact> = rules[zone..].iter().chain(&rules[..zone]).copied().collect();
        for (severity, wait_s, is_released) in steps {
            bench.now_ns += wait_s * SECOND_NS;
            if is_released && model.held.is_some() {
                bench.apply(HeaderV1::LiftHoldOrder(bench.order("a", HoldEffect::Block, 0)));
                (model, epoch) = (Model::default(), epoch + 1);
            }
            let mut decide = bench.decision("a");
            if severity > 0 {
                decide.evaluation.detections.push(DetectionV1 { detector: 1, severity });
            }
            let decided = bench.decide(decide);

            let blocked_before = model.held == Some(HoldEffect::Block);
            if severity >= 250 {
                model.violations.push((bench.now_ns, severity));
            }
            if severity >= 250 || !blocked_before {
                model.tiers.push(RiskTier::of(decided.risk));
            }
            let is_judged = severity >= 250 || !blocked_before;
            let fit = |rule: &&QuarantineRuleFact| {
                let needs_judging = matches!(rule.when, QuarantineWhenFact::Elevated { .. });
                (is_judged || !needs_judging) && model.fits(rule.when, bench.now_ns, severity)
            };
            let fitting: Vec<HoldEffect> = in_order.iter().filter(fit).map(|rule| rule.effect).collect();
            let wanted = fitting.iter().find(|effect| **effect == HoldEffect::Block).or(fitting.first()).copied();
            let begins = match (model.held, wanted) {
                (None, Some(effect)) => Some(effect),
                (Some(HoldEffect::Restrict), Some(HoldEffect::Block)) => Some(HoldEffect::Block),
                _ => None,
            };
            if let Some(effect) = begins {
                model = Model { held: Some(effect), ..Model::default() };
                epoch += 1;
            }
            let automatic = decided.reasons.iter().any(|reason| matches!(reason, ReasonV1::AutomaticHold(_)));
            prop_assert_eq!(automatic, model.held.is_some());
            prop_assert_eq!(decided.epoch, epoch);
            let (status, verdict) = match model.held {
                None => (AgentStatus::Active, Verdict::Allow),
                Some(HoldEffect::Restrict) => (AgentStatus::Restricted, Verdict::Restrict),
                Some(HoldEffect::Block) => (AgentStatus::Quarantined, Verdict::Block),
            };
            prop_assert_eq!(decided.status, status);
            prop_assert!(decided.verdict >= verdict && (decided.verdict == Verdict::Block) == (verdict == Verdict::Block));
        }
    }
}
