//! A model's score beside the same history: what `off` and `shadow` carry is the same, and what `enforce` carries changes
//! an action's risk and may restrict it, and changes no state.

use nethical_governance::command::HeaderV1;
use nethical_governance::outcome::{DecidedV1, OutcomeV1, ReasonV1};
use nethical_governance::risk::score_of;
use nethical_governance::scores::{Class, blend};
use nethical_protocol::decision::Verdict;
use nethical_protocol::model::ModelBlending;
use proptest::prelude::*;

use crate::bench::Bench;
use crate::survival::{any_dice, header_of};

/// What a tenant's command is under a setting, where the caller's model gives this score.
fn under(setting: ModelBlending, header: &HeaderV1, score: Option<u16>) -> HeaderV1 {
    let mut header = header.clone();
    if let HeaderV1::Decide(decide) = &mut header {
        decide.model_score = setting.carried(score);
    }
    header
}

/// What blending may make of a decision, and nothing else.
fn check_blended(plain: &DecidedV1, mixed: &DecidedV1, model: u16) -> Result<(), TestCaseError> {
    let rule = score_of(plain.risk_terms);
    prop_assert_eq!((plain.risk, mixed.risk), (rule, blend(rule, model).unwrap_or(rule)));
    let reason = ReasonV1::Blended { rule, model };
    prop_assert_eq!(mixed.reasons.contains(&reason), blend(rule, model).is_some());
    let restricts = blend(rule, model).is_some_and(|risk| Class::of(risk) == Class::Deny);
    let least = if restricts { Verdict::Restrict } else { Verdict::Allow };
    prop_assert_eq!(mixed.verdict, plain.verdict.max(least));
    let first = plain.reasons.iter().take(mixed.reasons.len() - usize::from(mixed.reasons.contains(&reason)));
    prop_assert!(first.eq(mixed.reasons.iter().filter(|said| **said != reason)), "{:?} {:?}", plain, mixed);
    let (verdict, risk, reasons) = (plain.verdict, plain.risk, plain.reasons.clone());
    prop_assert_eq!(plain, &DecidedV1 { verdict, risk, reasons, ..mixed.clone() });
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn off_and_shadow_are_the_same_and_enforce_changes_no_state(
        dice in prop::collection::vec((any_dice(), prop::option::of(0..=1_000u16), any::<bool>()), 3..300),
    ) {
        let mut benches = [Bench::ready(), Bench::ready(), Bench::ready()];
        let mut blended = 0;
        for (one, score, is_bad) in dice {
            benches.iter_mut().for_each(|bench| bench.now_ns += u64::from(one.3) * 200_000);
            let mut header = header_of(&benches[0], one);
            if let (HeaderV1::Decide(decide), true) = (&mut header, is_bad) {
                decide.evaluation.detections = vec![nethical_governance::command::DetectionV1 { detector: 2, severity: 900 }];
            }
            let applied: Vec<_> = benches.iter_mut().zip(ModelBlending::ALL).map(|(bench, setting)| {
                bench.apply(under(setting, &header, score))
            }).collect();
            prop_assert_eq!(&applied[0], &applied[1]);
            match (&applied[0].outcome, &applied[2].outcome, score) {
                (OutcomeV1::Decided(plain), OutcomeV1::Decided(mixed), Some(model)) => {
                    check_blended(plain, mixed, model)?;
                    blended += usize::from(plain.risk != mixed.risk);
                }
                (plain, mixed, _) => prop_assert_eq!(plain, mixed),
            }
            let digests = benches.each_ref().map(|bench| bench.ledger.digest());
            prop_assert_eq!((digests[0], digests[0]), (digests[1], digests[2]));
        }
        BLENDED.fetch_add(blended, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Decisions that blending changed, in all cases together: a property of nothing would hold as well.
static BLENDED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

#[test]
fn many_decisions_were_blended() {
    off_and_shadow_are_the_same_and_enforce_changes_no_state();
    let blended = BLENDED.load(std::sync::atomic::Ordering::Relaxed);
    println!("{blended} decisions were blended");
    assert!(blended >= 100, "{blended}");
}
