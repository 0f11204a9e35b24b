//! The leaf's bytes are pinned, read back, and nothing else is accepted.

use proptest::prelude::*;

use super::*;
use crate::leaf::ErasedLeaf;

fn id(byte: u8) -> KeyedId {
    KeyedId([byte; 16])
}

fn sample() -> LeafV1 {
    let decision = DecisionLeaf {
        request: id(1),
        request_content: [2; 8],
        issued_at_ms: 3,
        client_chosen: true,
        slot: 0x0405,
        tenant: id(6),
        agent: id(7),
        session: id(8),
        cohort: id(9),
        tool: id(10),
        region: id(11),
        resource: id(12),
        action_kind: 5,
        policy_rev: 13,
        control_rev: 14,
        policy_verdict: 1,
        verdict: 3,
        status: 2,
        epoch: 15,
        flags: 3,
        risk: 1_000,
        tier: 3,
        risk_terms: [16, 17, 18, 19, 20],
        retry_after_ns: 21,
        reserve_ttl_s: 33,
        reserved: 1,
        rules: vec![[22; 8]],
        detections: vec![(23, 24)],
        reasons: vec![(25, 26)],
        costs: vec![(id(27), 28)],
        quota: vec![QuotaLeaf { limit: 29, cap: 30, remaining: 31, reset_ns: 32, flags: 1 }],
        entropy: None,
    };
    let event = LeafEvent::Decision(Box::new(decision));
    LeafV1 { group: 2, era: 1, leaf_index: 77, now_ns: 88, term: 99, body_commitment: [0xab; 32], event }
}

/// The same bytes, written by hand from FORMATS.md.
fn sample_hex() -> String {
    let ids: String = (6..=12).map(|n| format!("{n:02x}").repeat(16)).collect();
    [
        "01",
        "01",
        "02000000",
        "01000000",
        "4d00000000000000",
        "5800000000000000",
        "6300000000000000",
        &"ab".repeat(32),
        &"01".repeat(16),
        &"02".repeat(8),
        "0300000000000000",
        "01",
        "0504",
        &ids,
        "05",
        "0d00000000000000",
        "0e00000000000000",
        "01",
        "03",
        "02",
        "0f00000000000000",
        "03",
        "e803",
        "03",
        "1000",
        "1100",
        "1200",
        "1300",
        "1400",
        "1500000000000000",
        "21000000",
        "0100",
        "01",
        &"16".repeat(8),
        "01",
        "17",
        "1800",
        "01",
        "19",
        "1a00000000000000",
        "01",
        &"1b".repeat(16),
        "1c00000000000000",
        "01",
        "1d000000",
        "1e00000000000000",
        "1f00000000000000",
        "2000000000000000",
        "01",
    ]
    .concat()
}

fn ended() -> ReservationLeaf {
    let quota = QuotaLeaf { limit: 9, cap: 10, remaining: 11, reset_ns: 12, flags: 4 };
    ReservationLeaf {
        slot: 0x0102,
        tenant: id(3),
        agent: id(4),
        decision: 5,
        end: 1,
        content: [6; 8],
        costs: vec![(id(7), 8, 0)],
        quota: vec![(quota, 13)],
    }
}

/// The same bytes, written by hand from FORMATS.md.
fn ended_hex() -> String {
    [
        "0201".to_owned(),
        "03".repeat(16),
        "04".repeat(16),
        "0500000000000000".to_owned(),
        "01".to_owned(),
        "06".repeat(8),
        "01".to_owned(),
        "07".repeat(16),
        "08000000000000000000000000000000".to_owned(),
        "01".to_owned(),
        "090000000a000000000000000b000000000000000c0000000000000004".to_owned(),
        "0d00000000000000".to_owned(),
    ]
    .concat()
}

fn approval() -> ApprovalLeaf {
    ApprovalLeaf { slot: 0x0102, tenant: id(3), agent: id(4), decision: 5, state: 2, digest: id(6), approver: id(7) }
}

/// The same bytes, written by hand from FORMATS.md.
fn approval_hex() -> String {
    let ids = |byte: &str| byte.repeat(16);
    ["0201", &ids("03"), &ids("04"), "0500000000000000", "02", &ids("06"), &ids("07")].concat()
}

#[test]
fn an_approval_that_is_still_pending_or_was_used_has_no_leaf_of_its_own() {
    let leaf = LeafV1 { event: LeafEvent::ApprovalDecided(approval()), ..sample() };
    for (state, fits) in [(0, false), (1, true), (3, true), (4, false)] {
        let mut bytes = leaf.encode();
        bytes[HEAD_BYTES + 42] = state;
        assert_eq!(LeafV1::decode(&bytes).is_ok(), fits, "state {state}");
    }
}

#[test]
fn the_fullest_end_of_a_reservation_fits_and_ends_that_do_not_exist_are_refused() {
    let mut fullest = ended();
    fullest.costs = vec![fullest.costs[0]; COSTS_MAX];
    fullest.quota = vec![fullest.quota[0]; QUOTA_MAX];
    let LeafV1 { group, era, leaf_index, now_ns, term, body_commitment, .. } = sample();
    let event = LeafEvent::ReservationEnded(Box::new(fullest));
    let leaf = LeafV1 { group, era, leaf_index, now_ns, term, body_commitment, event };
    let mut bytes = leaf.encode();
    assert_eq!(LeafV1::decode(&bytes), Ok(leaf));
    bytes[HEAD_BYTES + 42] = 3;
    assert_eq!(LeafV1::decode(&bytes), Err(LeafError::Range("end")));
}

#[test]
fn a_reserved_cost_that_is_not_there_is_refused() {
    let mut bytes = sample().encode();
    bytes[HEAD_BYTES + DECISION_BYTES - 2] = 2;
    assert_eq!(LeafV1::decode(&bytes), Err(LeafError::Range("reserved")));
}

/// Every list as full as apply can make it.
fn fullest() -> LeafV1 {
    let mut leaf = sample();
    let LeafEvent::Decision(decision) = &mut leaf.event else { unreachable!("sample is a decision") };
    decision.rules = vec![[1; 8]; RULES_MAX];
    decision.detections = vec![(1, 1); DETECTIONS_MAX];
    decision.reasons = vec![(1, 1); REASONS_MAX];
    decision.costs = vec![(id(1), 1); COSTS_MAX];
    let quota = QuotaLeaf { limit: 1, cap: 2, remaining: 3, reset_ns: 4, flags: 0 };
    decision.quota = vec![quota; QUOTA_MAX];
    decision.entropy = Some(200);
    leaf
}

#[test]
fn entropy_is_a_byte_behind_the_lists_and_a_flag() {
    let mut leaf = sample();
    let LeafEvent::Decision(decision) = &mut leaf.event else { unreachable!("sample is a decision") };
    decision.entropy = Some(139);
    let bytes = leaf.encode();
    // Byte 241 is that of the flags, and the last one new.
    let mut old = hex::decode(sample_hex()).expect("hex");
    assert_eq!(old[241], 3);
    old[241] |= FLAG_ENTROPY;
    assert_eq!(bytes, [old.as_slice(), &[139]].concat());
    assert_eq!(LeafV1::decode(&bytes), Ok(leaf));
    assert_eq!(LeafV1::decode(&bytes[..bytes.len() - 1]), Err(LeafError::Truncated), "the byte is missing");
    let mut unsaid = bytes.clone();
    unsaid[241] = 3;
    assert_eq!(LeafV1::decode(&unsaid), Err(LeafError::Trailing), "the flag is missing");
    let mut unknown = bytes;
    unknown[241] |= 0b100_0000;
    assert_eq!(LeafV1::decode(&unknown), Err(LeafError::Range("flags")));
}

#[test]
fn the_bytes_of_a_decision_are_pinned() {
    assert_eq!(hex::encode(sample().encode()), sample_hex());
    assert_eq!(hex::encode(sample().hash()), "aa859700579e391882fd3cb397edd587b413f8f2329f8b9922fde92f2feb99e7");
}

#[test]
fn the_bytes_of_the_other_kinds_are_pinned() {
    let head = |kind: &str| format!("01{kind}0200000001000000{}{}", "00".repeat(24), "00".repeat(32));
    let leaf = |event| LeafV1 { group: 2, era: 1, leaf_index: 0, now_ns: 0, term: 0, body_commitment: [0; 32], event };
    let hold = || HoldLeaf {
        request: id(1),
        slot: 2,
        tenant: id(3),
        agent: id(4),
        effect: 1,
        ttl_ns: 5,
        status: 2,
        epoch: 6,
        missing: 7,
        approver: id(8),
    };
    let hold_hex = [
        "01".repeat(16),
        "0200".into(),
        "03".repeat(16),
        "04".repeat(16),
        "010500000000000000020600000000000000".into(),
        "07".into(),
        "08".repeat(16),
    ]
    .concat();
    let cases = [
        (LeafEvent::Control { from_rev: 7, to_rev: 8 }, "02", "07000000000000000800000000000000".to_owned()),
        (LeafEvent::HoldPlaced(hold()), "03", hold_hex.clone()),
        (LeafEvent::HoldLifted(hold()), "04", hold_hex),
        (
            LeafEvent::EraOpened { old_size: 9, old_root: [5; 32] },
            "05",
            "0900000000000000".to_owned() + &"05".repeat(32),
        ),
        (LeafEvent::ReservationEnded(Box::new(ended())), "06", ended_hex()),
        (LeafEvent::ApprovalDecided(approval()), "07", approval_hex()),
        (
            LeafEvent::DenialsRepeated(RepeatsLeaf { slot: 2, tenant: id(3), agent: id(4), decision: 5, count: 6 }),
            "08",
            format!("0200{}{}05000000000000000600000000000000", "03".repeat(16), "04".repeat(16)),
        ),
        (
            LeafEvent::SubjectsErased(vec![ErasedLeaf { slot: 2, tenant: id(3), subject: id(4), below: 5 }]),
            "09",
            format!("010200{}{}05000000", "03".repeat(16), "04".repeat(16)),
        ),
    ];
    for (event, kind, tail) in cases {
        let leaf = leaf(event);
        assert_eq!(hex::encode(leaf.encode()), head(kind) + &tail);
        assert_eq!(LeafV1::decode(&leaf.encode()), Ok(leaf));
    }
}

#[test]
fn the_fullest_leaf_fits_and_says_that_limits_were_left_out() {
    let bytes = fullest().encode();
    assert!(bytes.len() <= LEAF_BYTES_MAX);
    let back = LeafV1::decode(&bytes).expect("own bytes");
    let LeafEvent::Decision(decision) = &back.event else { panic!("a decision") };
    assert_eq!((decision.quota.len(), decision.flags & FLAG_QUOTA_CUT), (QUOTA_FIT_MIN, FLAG_QUOTA_CUT));
    assert_eq!(back.encode(), bytes);
}

#[test]
fn sixteen_limits_fit_an_ordinary_leaf() {
    let mut leaf = fullest();
    let LeafEvent::Decision(decision) = &mut leaf.event else { unreachable!("a decision") };
    decision.costs.truncate(3);
    assert_eq!(LeafV1::decode(&leaf.encode()), Ok(leaf));
}

#[test]
fn a_claim_that_limits_were_left_out_is_refused_where_there_was_room() {
    let mut leaf = sample();
    let LeafEvent::Decision(decision) = &mut leaf.event else { unreachable!("a decision") };
    decision.flags |= FLAG_QUOTA_CUT;
    assert_eq!(LeafV1::decode(&leaf.encode()), Err(LeafError::Range("flags")));
}

#[test]
fn versions_kinds_cuts_and_trailing_bytes_are_refused() {
    let bytes = sample().encode();
    for cut in 0..bytes.len() {
        assert_eq!(LeafV1::decode(&bytes[..cut]), Err(LeafError::Truncated), "cut at {cut}");
    }
    let changed = |at: usize, to: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = to;
        LeafV1::decode(&bytes)
    };
    assert_eq!(LeafV1::decode(&[bytes.as_slice(), &[0]].concat()), Err(LeafError::Trailing));
    assert_eq!(LeafV1::decode(&[0; LEAF_BYTES_MAX + 1]), Err(LeafError::TooLong));
    assert_eq!(changed(0, 2), Err(LeafError::Version(2)));
    assert_eq!(changed(1, 0), Err(LeafError::Kind(0)));
    assert_eq!(changed(1, 10), Err(LeafError::Kind(10)));
    assert_eq!(changed(HEAD_BYTES + 32, 2), Err(LeafError::Range("client_chosen")));
}

fn any_id() -> impl Strategy<Value = KeyedId> {
    any::<[u8; 16]>().prop_map(KeyedId)
}

fn any_decision() -> impl Strategy<Value = DecisionLeaf> {
    let ids = proptest::collection::vec(any_id(), 8);
    let small = (0u8..5, 0u8..5, 0u8..4, 0u8..4, 0u8..4, 0u16..=1_000, any::<u8>(), any::<bool>());
    let wide = any::<([u64; 5], [u16; 5], [u8; 8], u16)>();
    let quota = (any::<u32>(), any::<[u64; 3]>(), 0u8..6)
        .prop_map(|(limit, [cap, remaining, reset_ns], flags)| QuotaLeaf { limit, cap, remaining, reset_ns, flags });
    let lists = (
        proptest::collection::vec(any::<[u8; 8]>(), 0..=RULES_MAX),
        proptest::collection::vec(any::<(u8, u16)>(), 0..=DETECTIONS_MAX),
        proptest::collection::vec(any::<(u8, u64)>(), 0..=REASONS_MAX),
        proptest::collection::vec((any_id(), any::<u64>()), 0..=COSTS_MAX),
        proptest::collection::vec(quota, 0..=QUOTA_FIT_MIN),
    );
    (ids, small, wide, lists).prop_map(|(ids, small, (longs, risk_terms, request_content, slot), lists)| DecisionLeaf {
        request: ids[0],
        request_content,
        issued_at_ms: longs[0],
        client_chosen: small.7,
        slot,
        tenant: ids[1],
        agent: ids[2],
        session: ids[3],
        cohort: ids[4],
        tool: ids[5],
        region: ids[6],
        resource: ids[7],
        action_kind: small.6,
        policy_rev: longs[1],
        control_rev: longs[2],
        policy_verdict: small.0,
        verdict: small.1,
        status: small.2,
        epoch: longs[3],
        flags: small.3 | if longs[4] % 2 == 1 { FLAG_CANARY } else { 0 },
        risk: small.5,
        tier: small.4,
        risk_terms,
        retry_after_ns: longs[4],
        reserve_ttl_s: lists.3.len() as u32,
        reserved: slot & ((1 << lists.3.len()) - 1),
        rules: lists.0,
        detections: lists.1,
        reasons: lists.2,
        costs: lists.3,
        quota: lists.4,
        entropy: (longs[2] % 3 > 0).then_some(longs[3] as u8),
    })
}

proptest! {
    #[test]
    fn a_leaf_reads_back_as_written(decision in any_decision(), numbers in any::<(u32, u32, u64, u64, u64)>()) {
        let (group, era, leaf_index, now_ns, term) = numbers;
        let event = LeafEvent::Decision(Box::new(decision));
        let leaf = LeafV1 { group, era, leaf_index, now_ns, term, body_commitment: [7; 32], event };
        prop_assert_eq!(LeafV1::decode(&leaf.encode()), Ok(leaf));
    }

    #[test]
    fn changed_bytes_are_refused_or_mean_something_else(
        decision in any_decision(), at in any::<prop::sample::Index>(), mask in 1u8..,
    ) {
        let event = LeafEvent::Decision(Box::new(decision));
        let leaf = LeafV1 { group: 2, era: 1, leaf_index: 3, now_ns: 4, term: 5, body_commitment: [7; 32], event };
        let mut bytes = leaf.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= mask;
        if let Ok(other) = LeafV1::decode(&bytes) {
            prop_assert_ne!(&other, &leaf);
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1100), kind in 1u8..8) {
        let mut bytes = bytes;
        if bytes.len() > 2 {
            bytes[0] = VERSION;
            bytes[1] = kind;
        }
        if let Ok(leaf) = LeafV1::decode(&bytes) {
            prop_assert_eq!(leaf.encode(), bytes);
        }
    }
}
