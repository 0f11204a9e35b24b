//! Whatever a filter asks, an index names every leaf that matches; its bytes are pinned; damage is found part by part.

use proptest::prelude::*;

use super::*;
use crate::leaf::{DecisionLeaf, HoldLeaf, LeafEvent, LeafV1};
use nethical_protocol::ids::KeyedId;

const FRAME: usize = 7;

fn id(kind: u8, number: u16) -> KeyedId {
    if number == 0 { KeyedId::NONE } else { KeyedId(sha2_of(&[kind, number as u8, (number >> 8) as u8])) }
}

fn sha2_of(bytes: &[u8]) -> [u8; 16] {
    use sha2::{Digest, Sha256};
    *Sha256::digest(bytes).first_chunk().expect("32 bytes begin with 16")
}

fn rule(number: u16) -> [u8; 8] {
    *id(9, number + 1).0.first_chunk().expect("16 bytes begin with 8")
}

/// Numbers from which a leaf is made.
type Draw = (u8, u16, u16, u16, u16, u8, Vec<u16>);

fn leaf((kind, agent, session, tool, risk, verdict, rules): &Draw, index: u64) -> LeafV1 {
    let (tenant, agent) = (id(1, agent % 3 + 1), id(2, *agent));
    let event = match kind {
        0..7 => LeafEvent::Decision(Box::new(DecisionLeaf {
            tenant,
            agent,
            session: id(3, *session),
            tool: id(4, *tool),
            risk: *risk,
            verdict: *verdict,
            rules: rules.iter().map(|number| rule(*number)).collect(),
            ..DecisionLeaf::default()
        })),
        7 => LeafEvent::Control { from_rev: 1, to_rev: 2 },
        _ => LeafEvent::HoldPlaced(HoldLeaf {
            request: id(5, 1),
            slot: 1,
            tenant,
            agent,
            effect: 0,
            ttl_ns: 0,
            status: 0,
            epoch: 0,
            missing: 0,
            approver: KeyedId::NONE,
        }),
    };
    LeafV1 { group: 2, era: 1, leaf_index: index, now_ns: 1_000 + index * 10, term: 1, body_commitment: [0; 32], event }
}

fn rows_of(leaves: &[LeafV1]) -> Rows {
    let mut rows = Rows::default();
    leaves.iter().for_each(|leaf| rows.push(&leaf.encode()));
    rows
}

fn frames_of(leaves: &[LeafV1]) -> Vec<FrameStart> {
    let starts = (0..leaves.len()).step_by(FRAME);
    starts.map(|at| FrameStart { offset: at as u64 * 100, first_index: 512 + at as u64 }).collect()
}

/// What an index says: places in frames that the zone maps admit and in all bitmaps asked for.
fn candidates(index: &[u8], filter: &Filter) -> Vec<u32> {
    let head = SearchHead::decode(index).expect("own head");
    assert_eq!(head.index_bytes(), index.len() as u64);
    if !head.admits(filter) {
        return Vec::new();
    }
    let bytes = |part| {
        let span = head.span(part);
        (span, index[span.offset as usize..][..span.length as usize].to_vec())
    };
    let (span, zones) = bytes(Part::Zones);
    let zones = span.zones(&zones).expect("own zones");
    assert_eq!(zones.len(), head.frames as usize);
    let mut places = RoaringBitmap::new();
    places.insert_range(0..head.leaves);
    for (dimension, keys) in wanted(filter) {
        let (span, postings) = bytes(Part::Postings(dimension));
        places &= places_of(&span.postings(postings).expect("own postings"), &keys).expect("they read");
    }
    places.iter().filter(|place| zones[*place as usize / FRAME].admits(filter)).collect()
}

fn draws(count: std::ops::Range<usize>, sessions: u16) -> impl Strategy<Value = Vec<Draw>> {
    let one = (0u8..9, 1u16..6, 0..sessions, 1u16..4, 0u16..=1_000, 0u8..5, prop::collection::vec(0u16..4, 0..3));
    prop::collection::vec(one, count)
}

fn filters() -> impl Strategy<Value = Filter> {
    let ids = (
        prop::option::of(0u16..4),
        prop::option::of(0u16..7),
        prop::option::of(0u16..50),
        prop::option::of(0u16..5),
        prop::option::of(0u16..5),
    );
    let numbers = (
        prop::option::of(0u64..9_000),
        prop::option::of(0u64..9_000),
        prop::option::of(0u8..6),
        prop::option::of(0u16..=1_000),
        prop::option::of(0u16..=1_000),
        prop::option::of(0u8..10),
    );
    (ids, numbers).prop_map(
        |((tenant, agent, session, tool, named), (from_ns, to_ns, verdict, risk_min, risk_max, kind))| {
            Filter {
                tenant: tenant.map(|number| id(1, number)),
                agent: agent.map(|number| id(2, number)),
                session: session.map(|number| id(3, number)).filter(|id| !id.is_none()),
                tool: tool.map(|number| id(4, number)).filter(|id| !id.is_none()),
                rule: named.map(rule),
                from_ns,
                to_ns,
                verdict,
                risk_min,
                risk_max,
                kind,
            }
            .named()
        },
    )
}

impl Filter {
    /// Nobody asks for "no tenant" or "no agent": doors refuse empty names.
    fn named(self) -> Self {
        Self { tenant: self.tenant.filter(|id| !id.is_none()), agent: self.agent.filter(|id| !id.is_none()), ..self }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn an_index_and_its_rows_name_every_leaf_that_matches(draws in draws(1..600, 200), filter in filters()) {
        let leaves: Vec<LeafV1> = (512..).zip(&draws).map(|(index, draw)| leaf(draw, index)).collect();
        // An agent is one of its tenant's alone; what asks for another's finds nothing in either way.
        let naive = |leaf: &&(u32, &LeafV1)| filter.matches(leaf.1);
        let numbered: Vec<(u32, &LeafV1)> = (0..).zip(&leaves).collect();
        let matching: Vec<u32> = numbered.iter().filter(naive).map(|(place, _)| *place).collect();
        let rows = rows_of(&leaves);
        prop_assert_eq!(&rows.find(&filter, 0..leaves.len()), &matching);
        let index = encode(&rows, 512, &frames_of(&leaves));
        let named = candidates(&index, &filter);
        let judged: Vec<u32> = named.into_iter().filter(|place| filter.matches(&leaves[*place as usize])).collect();
        prop_assert_eq!(judged, matching);
    }

    #[test]
    fn bytes_that_nobody_wrote_are_refused_or_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000), key: u64) {
        let _ = SearchHead::decode(&bytes);
        for form in [1u32, 2] {
            let mut bytes = bytes.clone();
            if bytes.len() >= 8 {
                bytes[..4].copy_from_slice(&form.to_le_bytes());
                let count = u32::from(bytes[4]) % 100;
                bytes[4..8].copy_from_slice(&count.to_le_bytes());
            }
            if let Some(postings) = Postings::decode(bytes) {
                let _ = postings.find(key);
            }
        }
    }
}

#[test]
fn a_dimension_with_a_key_for_every_leaf_takes_four_bytes_a_leaf_and_finds_them_all() {
    let draws: Vec<Draw> = (0..20_000u16).map(|number| (0, 1, number + 1, 1, 500, 0, vec![])).collect();
    let leaves: Vec<LeafV1> = (512..).zip(&draws).map(|(index, draw)| leaf(draw, index)).collect();
    let index = encode(&rows_of(&leaves), 512, &frames_of(&leaves));
    let head = SearchHead::decode(&index).expect("own head");
    let span = head.span(Part::Postings(Dimension::Session));
    assert!(span.length as usize <= 4 * leaves.len() + 1_100, "{} bytes", span.length);
    let bytes = index[span.offset as usize..][..span.length as usize].to_vec();
    let postings = span.postings(bytes).expect("own postings");
    for (place, draw) in (0u32..).zip(&draws) {
        let found = places_of(&postings, &[key_of(id(3, draw.2))]).expect("it reads");
        assert!(found.contains(place) && found.len() < 4, "{found:?}");
    }
    let absent = (30_000..31_000u16).filter(|number| !postings.find(key_of(id(3, *number))).expect("reads").is_empty());
    assert!(absent.count() <= 5, "about one in eight hundred keys that are not there seems to be");
}

#[test]
fn few_places_are_plain_runs_are_short_and_the_bytes_are_pinned() {
    let pairs = [(5, 9), (7, 1), (7, 2)];
    let plain = posting::encode(&pairs);
    assert_eq!(hex::encode(&plain), "0100000002000000050000000000000000000000070000000000000002000000090001000200");
    let run: Vec<(u64, u16)> = (100..60_000).map(|place| (3, place)).collect();
    let roaring = posting::encode(&run);
    // RoaringFormatSpec: cookie 12347 with one container, run flag, key 0 with 59,900 values, one run from 100 on.
    let wanted =
        "010000000100000003000000000000000000008".to_owned() + "0" + "3b30000001" + "0000fbe9" + "0100" + "6400fbe9";
    assert_eq!(hex::encode(&roaring), wanted);
}

#[test]
fn every_changed_byte_of_an_index_is_found_in_its_own_part() {
    let draws: Vec<Draw> =
        (0..300u16).map(|n| (0, n % 5 + 1, n % 40, n % 3 + 1, n * 3, (n % 5) as u8, vec![n % 4])).collect();
    let leaves: Vec<LeafV1> = (512..).zip(&draws).map(|(index, draw)| leaf(draw, index)).collect();
    let index = encode(&rows_of(&leaves), 512, &frames_of(&leaves));
    let good = SearchHead::decode(&index).expect("own head");
    let parts: Vec<Part> = [Part::Zones].into_iter().chain(Dimension::ALL.map(Part::Postings)).collect();
    for at in 0..index.len() {
        let mut bad = index.clone();
        bad[at] ^= 0x10;
        let Ok(head) = SearchHead::decode(&bad) else {
            assert!((at as u64) < good.span(Part::Zones).offset, "byte {at} is not of the head");
            continue;
        };
        let reads = |part: &Part| {
            let span = head.span(*part);
            let bytes = bad[span.offset as usize..][..span.length as usize].to_vec();
            match part {
                Part::Zones => span.zones(&bytes).is_ok(),
                Part::Postings(_) => span.postings(bytes).is_ok(),
            }
        };
        let damaged: Vec<&Part> = parts.iter().filter(|part| !reads(part)).collect();
        assert_eq!(damaged.len(), 1, "byte {at}: {damaged:?}");
        let span = head.span(*damaged[0]);
        assert!((span.offset..span.offset + u64::from(span.length)).contains(&(at as u64)), "byte {at}");
    }
}

#[test]
fn risks_fall_into_thirty_two_buckets_in_order() {
    let buckets: Vec<u16> = (0..=1_000).map(bucket_of).collect();
    assert!(buckets.is_sorted());
    assert_eq!((buckets[0], buckets[1_000], bucket_of(u16::MAX)), (0, 31, 31));
}
