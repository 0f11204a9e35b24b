//! Replay and snapshots: whichever way a replica comes to a position, it has the same ledger there; and no bytes, good
//! or bad, bring it down.

use nethical_governance::behaviour::ActionFactsV1;
use nethical_governance::command::{CostV1, DetectionV1, EntryV1, HeaderV1, HoldOrderV1, SettleV1};
use nethical_governance::ledger::{Applied, Ledger, UnknownApplyVersion};
use nethical_governance::outcome::OutcomeV1;
use nethical_governance::snapshot::SnapshotError;
use nethical_protocol::control::{
    ControlFact, HoldEffect, HoldFact, KeyPart, LimitKind, LimitMode, Overrun, Placement, TenantFact,
};
use nethical_protocol::decision::Verdict;
use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber};
use nethical_protocol::quarantine::{QuarantineFact, QuarantineRuleFact, QuarantineWhenFact};
use nethical_protocol::retention::{Age, LegalHoldFact, LegalScope, RetentionAges};
use proptest::prelude::*;

use crate::bench::{Bench, SECOND_NS, actor, command, control, entry, id, limit, request};

/// A command by dice; what it means is looked up in the ledger as it stands, as a proposer would.
pub type Dice = (u8, u8, u8, u16);

pub fn any_dice() -> impl Strategy<Value = Dice> {
    (any::<u8>(), any::<u8>(), any::<u8>(), any::<u16>())
}

pub fn header_of(bench: &Bench, (what, who, how, much): Dice) -> HeaderV1 {
    let agent = ["a", "b", "c", "d"][usize::from(who % 4)];
    let from = bench.ledger.control_revision().0;
    let effect = if how % 2 == 0 { HoldEffect::Block } else { HoldEffect::Restrict };
    match what {
        0..=199 => {
            let mut decide = bench.decision(agent);
            decide.costs = vec![CostV1 { unit: id("requests"), amount: u64::from(much % 4), is_reserved: false }];
            decide.session = id(["", "s1", "s2"][usize::from(how % 3)]);
            decide.evaluation.privileged = how % 5 == 0;
            decide.evaluation.facts = ActionFactsV1 {
                bytes: u32::from(much) * u32::from(how),
                labels: 1 << (how % 16),
                outside: who % 3 == 0,
                entropy: (who % 2 == 0).then_some(how),
            };
            decide.resource = id(&how.to_string());
            if how % 4 == 0 {
                decide.evaluation.detections.push(DetectionV1 { detector: 2, severity: much % 1_001 });
            }
            if how % 3 == 0 {
                let issued_at_ms = bench.now_ns / 1_000_000 - u64::from(much);
                decide.request = request(&(much % 50).to_string(), &(how % 2).to_string(), issued_at_ms);
            }
            if how % 7 < 3 {
                decide.costs.push(CostV1 { unit: id("tokens"), amount: u64::from(much % 9), is_reserved: true });
                decide.reserve_ttl_s = u32::from(how % 5) + 1;
            }
            decide.evaluation.verdict.0 = Verdict::ALL[if how == 7 { 4 } else { usize::from(how / 64) }];
            decide.review.ttl_s = u32::from(much % 5);
            decide.review.named =
                (what % 2 == 0).then(|| bench.ledger.leaf_count().saturating_sub(u64::from(what % 8)));
            HeaderV1::Decide(decide)
        }
        200..=214 => {
            let order = bench.order(agent, effect, u64::from(much % 8) * SECOND_NS);
            HeaderV1::PlaceHoldOrder(HoldOrderV1 { approvers: how % 3, ..order })
        }
        215..=219 => {
            // Some decision of the last few leaves, which mostly reserved something.
            let decision = bench.ledger.leaf_count().saturating_sub(1 + u64::from(much % 12));
            let (slot, content, used) =
                (actor("t", agent).slot, [how % 4; 8], vec![(id("tokens"), u64::from(how % 12))]);
            HeaderV1::SettleReservation(SettleV1 { slot, decision, content, is_release: how % 4 == 0, used })
        }
        220 | 221 => {
            let decision = bench.ledger.leaf_count().saturating_sub(1 + u64::from(much % 8));
            HeaderV1::DecideApproval(bench.word(decision, how % 4 > 0, agent))
        }
        222..=224 => {
            let approver = id(["ann", "ben"][usize::from(how % 2)]);
            HeaderV1::LiftHoldOrder(HoldOrderV1 { approver, ..bench.order(agent, effect, 0) })
        }
        225..=249 => control(from, from + 1, vec![any_change(bench.now_ns, from, effect, (who, how, much))]),
        _ => HeaderV1::Tick,
    }
}

fn any_change(now_ns: u64, from: u64, effect: HoldEffect, (who, how, much): (u8, u8, u16)) -> ControlFact {
    let number = LimitNumber(u32::from(who % 6));
    match how % 7 {
        0 => match who % 3 {
            0 => ControlFact::Policy { digest: [how; 32] },
            1 => ControlFact::PolicyCanary { digest: [how; 32], percent: (much % 100) as u8 + 1 },
            _ => ControlFact::PolicyCanaryEnded,
        },
        1 if much.is_multiple_of(3) => any_retention(from, who, much),
        1 => ControlFact::LimitRemoved(number),
        2 => ControlFact::Hold(HoldFact {
            id: ControlRevision(from + 1),
            tenant: id("t"),
            cohort: KeyedId::NONE,
            tool: id(["", "search", "mail"][usize::from(who % 3)]),
            effect,
            session: id(["", "s1", "s2"][usize::from(who / 3 % 3)]),
            region: KeyedId::NONE,
            until_ns: now_ns + u64::from(much) * 1_000_000,
        }),
        6 => ControlFact::Quarantine(any_rules(how, much, effect)),
        3 => ControlFact::HoldLifted(ControlRevision(from.saturating_sub(u64::from(who)))),
        _ => ControlFact::Limit(any_fact(number, how, much)),
    }
}

fn any_retention(from: u64, who: u8, much: u16) -> ControlFact {
    let (tenant, before) = (id("t"), ControlRevision(from.saturating_sub(u64::from(who % 4))));
    let scope = [LegalScope::Tenant, LegalScope::Agent(id("a")), LegalScope::Person(id("p"))][usize::from(who % 3)];
    match who / 3 % 3 {
        0 => {
            let ages = RetentionAges { routine: Age::seconds(u64::from(much)), ..RetentionAges::default() };
            ControlFact::TenantRetention { tenant: TenantFact { tenant, placement: Placement::Single }, ages }
        }
        1 => ControlFact::LegalHold(LegalHoldFact { tenant, scope, from_ns: u64::from(much), to_ns: 0 }),
        _ => ControlFact::LegalHoldLifted(before),
    }
}

fn any_rules(how: u8, much: u16, effect: HoldEffect) -> QuarantineFact {
    let when = [
        QuarantineWhenFact::Elevated { actions: much % 5 },
        QuarantineWhenFact::Violations { count: how % 11, severity: much, within_ns: u64::from(much) * 9_000_000 },
        QuarantineWhenFact::Finding { detector: 2, severity: much % 1_001 },
    ];
    let rule = |when| QuarantineRuleFact { when, effect, ttl_ns: u64::from(much % 3) * SECOND_NS };
    let tenant = if how.is_multiple_of(2) { id("t") } else { KeyedId::NONE };
    QuarantineFact { tenant, rules: when.into_iter().take(usize::from(much % 4)).map(rule).collect() }
}

fn any_fact(number: LimitNumber, how: u8, much: u16) -> nethical_protocol::control::LimitFact {
    let (amount, period_s) = (u64::from(much % 7) + 1, u64::from(how % 4) + 1);
    let kind = match much % 7 {
        6 => LimitKind::Concurrency { cap: amount },
        0 => LimitKind::Budget { cap: amount * 5, window_s: period_s },
        1 => LimitKind::Lifetime { cap: amount * 5 },
        2 => LimitKind::Rolling { cap: amount * 5, window_s: period_s },
        _ => LimitKind::Rate { amount, period_s, burst: amount * 2 },
    };
    let mut fact = limit(number.0, if how.is_multiple_of(2) { "requests" } else { "tokens" }, kind);
    fact.overrun = if much % 11 < 5 { Overrun::Debt } else { Overrun::Cap };
    fact.mode = LimitMode::ALL[usize::from(much / 7 % 4).min(2)];
    fact.key = [vec![KeyPart::Agent], vec![], vec![KeyPart::Agent, KeyPart::Session]][usize::from(how / 8 % 3)].clone();
    fact
}

/// Runs dice as entries of one to four commands, some of another term, and gives the log that came of it.
fn history(dice: &[Dice]) -> (Vec<(u64, EntryV1)>, Vec<Vec<Applied>>, Bench) {
    let (mut bench, mut log, mut answers) = (Bench::ready(), Vec::new(), Vec::new());
    for batch in dice.chunks(3) {
        bench.now_ns += u64::from(batch[0].3) * 200_000;
        let commands = batch.iter().map(|one| command(header_of(&bench, *one))).collect();
        let term = if batch[0].1 == 0 { 8 } else { 9 };
        let entry = entry(term, bench.now_ns, commands);
        answers.push(bench.ledger.apply_entry(9, &entry).expect("our own apply version"));
        log.push((9, entry));
    }
    (log, answers, bench)
}

fn replay(ledger: &mut Ledger, log: &[(u64, EntryV1)]) -> Vec<Vec<Applied>> {
    log.iter().map(|(term, entry)| ledger.apply_entry(*term, entry).expect("our own apply version")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn replay_and_snapshots_come_to_the_same_digest_and_answers(
        dice in prop::collection::vec(any_dice(), 3..400),
        cut in 0..1_000usize,
    ) {
        let (log, answers, bench) = history(&dice);
        let mut again = Bench::ready().ledger;
        prop_assert_eq!(&replay(&mut again, &log), &answers);
        prop_assert_eq!(again.digest(), bench.ledger.digest());

        let cut = cut % (log.len() + 1);
        let mut early = Bench::ready().ledger;
        replay(&mut early, &log[..cut]);
        let bytes = early.to_bytes().expect("a small ledger");
        let mut restored = Ledger::from_bytes(&bytes).expect("our own snapshot");
        prop_assert_eq!(restored.digest(), early.digest());
        prop_assert_eq!(&restored.to_bytes().expect("a small ledger"), &bytes);
        prop_assert_eq!(&replay(&mut restored, &log[cut..]), &answers[cut..]);
        prop_assert_eq!(restored.digest(), bench.ledger.digest());
        prop_assert_eq!(restored.next_due_ns(), bench.ledger.next_due_ns());
    }

    #[test]
    fn leaves_are_numbered_without_gaps(dice in prop::collection::vec(any_dice(), 3..200)) {
        let (_, answers, mut bench) = history(&dice);
        // The era's opening, the tenant and the policy came first; expiries stand where the commands leave a place.
        let mut expected = 3;
        let mut lapsed = bench.ledger.take_lapsed().into_iter().map(|lapsed| lapsed.leaf_index).peekable();
        for applied in answers.iter().flatten() {
            while applied.leaf_index.is_some() && lapsed.next_if_eq(&expected).is_some() {
                expected += 1;
            }
            prop_assert_eq!(applied.leaf_index.is_some(), applied.outcome.makes_leaf());
            if let Some(leaf_index) = applied.leaf_index {
                prop_assert_eq!(leaf_index, expected);
                expected += 1;
            }
        }
        let rest = lapsed.count() as u64;
        prop_assert_eq!(bench.ledger.leaf_count(), expected + rest);
    }

    /// The checksum is made right again after each blow, so that the contents themselves are put to the test.
    #[test]
    fn battered_snapshots_are_refused_or_usable_never_fatal(
        dice in prop::collection::vec(any_dice(), 30..60),
        blows in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (_, _, bench) = history(&dice);
        let mut bytes = bench.ledger.to_bytes().expect("a small ledger");
        for (at, value) in blows {
            let at = 24 + at.index(bytes.len() - 24);
            bytes[at] ^= value;
        }
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[24..]);
        bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(ledger) = Ledger::from_bytes(&bytes) {
            let mut battered = Bench { ledger, now_ns: bench.now_ns };
            for one in dice {
                let header = header_of(&battered, one);
                battered.apply(header);
            }
            battered.ledger.digest();
            battered.ledger.to_bytes().expect("a small ledger");
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_snapshot_is_refused() {
    let mut bench = Bench::ready();
    let decide = bench.decision("a");
    bench.decide(decide);
    let bytes = bench.ledger.to_bytes().expect("a small ledger");
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // Two reserved bytes are covered by the checksum, four by being zero.
        assert!(Ledger::from_bytes(&bad).is_err(), "bit {bit} flipped and accepted");
    }
    for cut in 0..bytes.len() {
        assert!(Ledger::from_bytes(&bytes[..cut]).is_err(), "cut at {cut} and accepted");
    }
    for version in [1, 3] {
        let mut other = bytes.clone();
        other[4] = version;
        assert_eq!(Ledger::from_bytes(&other).err(), Some(SnapshotError::Version(u16::from(version))));
    }
}

#[test]
fn an_entry_of_unknown_rules_stops_the_replica_and_changes_nothing() {
    let mut bench = Bench::ready();
    let before = bench.ledger.digest();
    let mut newer = entry(1, bench.now_ns + 1, vec![command(HeaderV1::Tick)]);
    newer.apply_version = 2;
    assert_eq!(bench.ledger.apply_entry(1, &newer), Err(UnknownApplyVersion(2)));
    assert_eq!(bench.ledger.digest(), before);
}

#[test]
fn the_digest_sees_every_kind_of_state() {
    let mut bench = Bench::ready();
    let mut digests = vec![bench.ledger.digest()];
    let mut fact = limit(1, "requests", LimitKind::Budget { cap: 5, window_s: 60 });
    fact.key = vec![KeyPart::Agent];
    let decide = bench.decision("a");
    let mut remembered = decide.clone();
    remembered.request = request("r1", "x", bench.now_ns / 1_000_000);
    let order = bench.order("b", HoldEffect::Block, SECOND_NS);
    let mut reserving = bench.decision("c");
    (reserving.costs[0].is_reserved, reserving.reserve_ttl_s) = (true, 9);
    let mut escalated = bench.decision("d");
    escalated.evaluation.verdict.0 = Verdict::Escalate;
    let mut approved = escalated.clone();
    approved.review.named = Some(13);
    let (approve, deny) = (bench.word(13, true, "ann"), bench.word(13, false, "ann"));
    let headers = [
        HeaderV1::Decide(decide),
        HeaderV1::Decide(remembered),
        control(2, 3, vec![ControlFact::Limit(fact)]),
        control(3, 4, vec![any_retention(3, 0, 7)]),
        control(4, 5, vec![any_retention(4, 3, 7)]),
        control(5, 6, vec![any_retention(5, 8, 0)]),
        HeaderV1::PlaceHoldOrder(order.clone()),
        HeaderV1::LiftHoldOrder(order),
        HeaderV1::Decide(reserving),
        HeaderV1::SettleReservation(SettleV1::release(actor("t", "c").slot, 11, [0; 8])),
        HeaderV1::Decide(escalated),
        HeaderV1::DecideApproval(approve),
        HeaderV1::Decide(approved),
    ];
    for header in headers {
        let applied = bench.apply(header);
        assert!(applied.leaf_index.is_some() && applied.outcome != OutcomeV1::NoEffect);
        let digest = bench.ledger.digest();
        assert!(!digests.contains(&digest));
        digests.push(digest);
    }
    assert_eq!(bench.apply(HeaderV1::DecideApproval(deny)).outcome, OutcomeV1::Conflict { leaf_index: 14 });
    bench.now_ns += 1;
    bench.apply(HeaderV1::Tick);
    assert!(!digests.contains(&bench.ledger.digest()), "time is state");
}

#[test]
fn the_digest_of_a_known_history_is_pinned() {
    let mut bench = Bench::ready();
    for agent in ["a", "b", "a"] {
        let decide = bench.decision(agent);
        bench.decide(decide);
        bench.now_ns += SECOND_NS;
    }
    // A change here means that replicas of two releases disagree: it needs a new apply version.
    assert_eq!(hex::encode(bench.ledger.digest()), PINNED_DIGEST);
}

const PINNED_DIGEST: &str = "32fbbc2b45fd8624daad27439cb1a72bcdd91e0594f6e98742741ea5d589a3d1";
