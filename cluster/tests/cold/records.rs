//! Records of all kinds, drawn by chance: leaves, bodies in every form, and bytes that are neither.

use nethical_audit::body::{self, Reason, SealedFor, command_id};
use nethical_audit::keys::BodyKeys;
use nethical_audit::leaf::{
    ApprovalLeaf, DecisionLeaf, ErasedLeaf, HoldLeaf, LeafEvent, LeafV1, QuotaLeaf, RepeatsLeaf, ReservationLeaf,
};
use nethical_cluster::body::{BodyV1, RedactedV1, SeenV1, ShadowV1, WordsV1};
use nethical_cluster::cold::{Body, Record};
use nethical_governance::command::{DetectionV1, EvaluationV1};
use nethical_governance::quota::band::Band;
use nethical_protocol::action::{Action, ActionKind, Cost};
use nethical_protocol::control::Redaction;
use nethical_protocol::decision::Verdict;
use nethical_protocol::ids::KeyedId;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn any_id() -> impl Strategy<Value = KeyedId> {
    prop_oneof![Just(KeyedId::NONE), any::<[u8; 16]>().prop_map(KeyedId)]
}

fn any_quota() -> impl Strategy<Value = QuotaLeaf> {
    (any::<u32>(), any::<[u64; 3]>(), 0u8..6).prop_map(|(limit, [cap, remaining, reset_ns], flags)| QuotaLeaf {
        limit,
        cap,
        remaining,
        reset_ns,
        flags,
    })
}

fn any_decision() -> impl Strategy<Value = DecisionLeaf> {
    let small = (0u8..5, 0u8..5, 0u8..4, 0u8..4, 0u8..7, 0u16..=1_000, 0u8..4, any::<bool>(), option::of(any::<u8>()));
    let wide = any::<([u64; 5], [u16; 5], [u8; 8], u16, u32)>();
    let lists = (
        vec(any::<[u8; 8]>(), 0..=8),
        vec(any::<(u8, u16)>(), 0..=16),
        vec(any::<(u8, u64)>(), 0..=8),
        vec((any_id(), any::<u64>()), 0..=9),
        vec(any_quota(), 0..=16),
    );
    let ids = vec(any_id(), 8);
    (ids, small, wide, lists).prop_map(|(ids, small, wide, lists)| DecisionLeaf {
        request: ids[0],
        request_content: wide.2,
        issued_at_ms: wide.0[0],
        client_chosen: small.7,
        slot: wide.3,
        tenant: ids[1],
        agent: ids[2],
        session: ids[3],
        cohort: ids[4],
        tool: ids[5],
        region: ids[6],
        resource: ids[7],
        action_kind: small.4,
        policy_rev: wide.0[1],
        control_rev: wide.0[2],
        policy_verdict: small.0,
        verdict: small.1,
        status: small.2,
        epoch: wide.0[3],
        flags: small.3,
        risk: small.5,
        tier: small.6,
        risk_terms: wide.1,
        retry_after_ns: wide.0[4],
        reserve_ttl_s: wide.4,
        reserved: 0,
        rules: lists.0,
        detections: lists.1,
        reasons: lists.2,
        costs: lists.3,
        quota: lists.4,
        entropy: small.8,
    })
}

fn any_hold() -> impl Strategy<Value = HoldLeaf> {
    let small = (any::<u16>(), 0u8..2, 0u8..4, any::<u8>());
    (vec(any_id(), 4), small, any::<[u64; 2]>()).prop_map(|(ids, (slot, effect, status, missing), numbers)| HoldLeaf {
        request: ids[0],
        slot,
        tenant: ids[1],
        agent: ids[2],
        effect,
        ttl_ns: numbers[0],
        status,
        epoch: numbers[1],
        missing,
        approver: ids[3],
    })
}

fn any_ended() -> impl Strategy<Value = ReservationLeaf> {
    let costs = vec((any_id(), any::<u64>(), any::<u64>()), 0..=9);
    let quota = vec((any_quota(), any::<u64>()), 0..=5);
    (any::<(u16, u64, [u8; 8])>(), any_id(), any_id(), 0u8..3, costs, quota).prop_map(
        |((slot, decision, content), tenant, agent, end, costs, quota)| ReservationLeaf {
            slot,
            tenant,
            agent,
            decision,
            end,
            content,
            costs,
            quota,
        },
    )
}

fn any_event() -> impl Strategy<Value = LeafEvent> {
    let approval = (any::<(u16, u64)>(), vec(any_id(), 4), 1u8..4).prop_map(|((slot, decision), ids, state)| {
        let [tenant, agent, digest, approver] = [ids[0], ids[1], ids[2], ids[3]];
        LeafEvent::ApprovalDecided(ApprovalLeaf { slot, tenant, agent, decision, state, digest, approver })
    });
    let repeats =
        (any::<(u16, u64, u64)>(), any_id(), any_id()).prop_map(|((slot, decision, count), tenant, agent)| {
            LeafEvent::DenialsRepeated(RepeatsLeaf { slot, tenant, agent, decision, count })
        });
    let erased = (any::<u16>(), any_id(), any_id(), 1u32..).prop_map(|(slot, tenant, subject, below)| ErasedLeaf {
        slot,
        tenant,
        subject,
        below,
    });
    prop_oneof![
        8 => any_decision().prop_map(|decision| LeafEvent::Decision(Box::new(decision))),
        1 => any::<(u64, u64)>().prop_map(|(from_rev, to_rev)| LeafEvent::Control { from_rev, to_rev }),
        1 => any_hold().prop_map(LeafEvent::HoldPlaced),
        1 => any_hold().prop_map(LeafEvent::HoldLifted),
        1 => any::<(u64, [u8; 32])>().prop_map(|(old_size, old_root)| LeafEvent::EraOpened { old_size, old_root }),
        1 => any_ended().prop_map(|ended| LeafEvent::ReservationEnded(Box::new(ended))),
        1 => approval,
        1 => repeats,
        1 => vec(erased, 1..=16).prop_map(LeafEvent::SubjectsErased),
    ]
}

fn any_action() -> impl Strategy<Value = Action> {
    let texts = vec("[a-z\u{e4}\u{1f600}\"\\\\,-]{0,12}", 12);
    let costs = vec(("[a-z._]{0,8}", any::<u64>(), 0u64..3), 0..4);
    let flags = (0usize..ActionKind::ALL.len(), any::<[bool; 4]>(), any::<u64>());
    (texts, costs, flags).prop_map(|(texts, costs, (kind, flags, issued_at_ms))| {
        let text = |number: usize| texts[number].clone();
        Action {
            request_id: text(0),
            client_chosen: flags[0],
            issued_at_ms,
            tenant: text(1),
            agent: text(2),
            session: text(3),
            cohort: text(4),
            region: text(5),
            kind: ActionKind::ALL[kind],
            name: text(6),
            resource_type: text(7),
            resource_id: text(8),
            args_json: serde_json::json!({ text(9): text(10) }).to_string(),
            context_json: "{}".to_owned(),
            cost: costs.into_iter().map(|(unit, amount, ttl_s)| Cost { unit, amount, ttl_s }).collect(),
            explain: flags[1],
            approval: text(11),
            is_critical: flags[2],
            wants_receipt: flags[3],
        }
    })
}

/// The body of a decision; in half of the cases it says what its leaf says, as those of a cluster do.
fn body_of(leaf: Option<&DecisionLeaf>, mut action: Action, seed: &[u8; 8], is_alike: bool) -> BodyV1 {
    let mut evaluation = EvaluationV1 { rules: vec![*seed], ..EvaluationV1::default() };
    evaluation.facts.bytes = u32::from(seed[0]);
    evaluation.facts.entropy = Some(seed[1]).filter(|found| found % 2 == 0);
    evaluation.detections = vec![DetectionV1 { detector: seed[2], severity: 1 }];
    let mut seen = SeenV1 { bands: vec![("daily".to_owned(), Band::Low)], ..SeenV1::default() };
    seen.epoch = u64::from(seed[3]);
    if let Some(leaf) = leaf.filter(|_| is_alike) {
        evaluation.rules.clone_from(&leaf.rules);
        evaluation.facts.bytes = (action.args_json.len() + action.context_json.len()) as u32;
        evaluation.facts.entropy = leaf.entropy;
        (seen.epoch, action.issued_at_ms) = (leaf.epoch, leaf.issued_at_ms);
    }
    let redacted =
        (seed[4] < 64).then_some(RedactedV1 { policy: Redaction::Minimal, amount: 5, bytes: 6, resource_cut: true });
    let shadow = (seed[5] < 64).then(|| ShadowV1 { digest: [1; 32], verdict: Verdict::Escalate, rules: vec![*seed] });
    BodyV1::Decision { action, evaluation, seen, shadow, detectors: 2, redacted }
}

fn any_head() -> impl Strategy<Value = Vec<u8>> {
    let (agent, person) = (any::<[u8; 28]>(), any::<[u8; 20]>());
    (agent, option::of(person)).prop_map(|(agent, person)| match person {
        Some(person) => [&[2], &agent[..], &person].concat(),
        None => [&[1], &agent[..]].concat(),
    })
}

/// Plaintexts that are not bodies of decisions.
fn other_plaintext() -> impl Strategy<Value = Vec<u8>> {
    let words = any::<(bool, String, String)>()
        .prop_map(|(approves, approver, reason)| BodyV1::Word(WordsV1 { approves, approver, reason }).to_bytes());
    let cut =
        any::<bool>().prop_map(|_| BodyV1::Word(WordsV1 { approves: true, approver: "a".into(), reason: "b".into() }));
    prop_oneof![
        words,
        vec(any::<u8>(), 0..60),
        cut.prop_map(|body| {
            let mut bytes = body.to_bytes();
            bytes.pop();
            bytes
        })
    ]
}

fn any_stored() -> impl Strategy<Value = Vec<u8>> {
    let keys = BodyKeys::new(&[1; 32], None);
    let sealed = any::<(u64, String)>().prop_map(move |(counter, text)| {
        let sealed_for = SealedFor { generation: 1, person: None };
        body::seal(&keys, sealed_for, &command_id(1, 2, counter), text.as_bytes(), None).0
    });
    let dropped = any::<String>()
        .prop_map(|text| body::drop_body(&body::plain(text.as_bytes()).0, Reason::Expired).expect("there is one"));
    prop_oneof![
        Just(Vec::new()),
        sealed,
        dropped,
        any::<String>().prop_map(|text| body::plain(text.as_bytes()).0),
        vec(any::<u8>(), 1..40),
    ]
}

/// A record whose leaf has index 0, until [`renumbered`].
pub fn any_record() -> impl Strategy<Value = Record> {
    let head = any::<(u32, u32, u64, u64, [u8; 32])>();
    let body = (any_action(), any::<[u8; 8]>(), any::<bool>(), any_head());
    let mutation = option::weighted(0.1, (any::<prop::sample::Index>(), 1u8..));
    let which = (0u8..6, other_plaintext(), any_stored());
    (head, any_event(), body, mutation, which).prop_map(
        |(head, event, (action, seed, is_alike, body_head), mutation, which)| {
            let decision = match &event {
                LeafEvent::Decision(decision) => Some((**decision).clone()),
                _ => None,
            };
            let (group, era, now_ns, term, body_commitment) = head;
            let mut leaf = LeafV1 { group, era, leaf_index: 0, now_ns, term, body_commitment, event }.encode();
            if let Some((at, mask)) = mutation {
                let at = at.index(leaf.len());
                leaf[at] ^= mask;
            }
            let body = match which {
                (0, _, stored) => Body::Stored(stored),
                (1, plaintext, _) => Body::Clear { head: body_head, plaintext },
                _ => {
                    let plaintext = body_of(decision.as_ref(), action, &seed, is_alike).to_bytes();
                    Body::Clear { head: body_head, plaintext }
                }
            };
            Record { leaf, body }
        },
    )
}

/// Records with the numbers that consecutive leaves have.
pub fn renumbered(first_index: u64, mut records: Vec<Record>) -> Vec<Record> {
    for (index, record) in (first_index..).zip(&mut records) {
        if let Some(bytes) = record.leaf.get_mut(10..18).filter(|bytes| bytes.iter().all(|byte| *byte == 0)) {
            bytes.copy_from_slice(&index.to_le_bytes());
        }
    }
    records
}
