//! The dictionary that bodies are packed with: how it was trained, and what it saves on actions that it was not trained on.
//!
//! Everything in here is made up: prose is drawn word by word from this project's own documents, so that no text repeats.
//! Training and measuring draw from different documents. With `NETHICAL_DICTIONARY` set to a path, a dictionary for a coming
//! release is trained and written there; a release never changes the one that its bodies are packed with.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::sync::Arc;

use nethical_audit::body::pack::DICTIONARY_1;
use nethical_audit::body::{self, Dictionaries, Dictionary, OVERHEAD_BYTES, SealedFor, dictionary};
use nethical_audit::keys::BodyKeys;
use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1, QuotaLeaf};
use nethical_audit::segment::{SegmentMeta, SegmentSeal, WarmWriter};
use nethical_protocol::ids::{GroupId, KeyedId, LogId};
use nethical_protocol::limits::DICTIONARY_BYTES_MAX;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

#[path = "made_up/prose.rs"]
mod made_up;

use made_up::Prose;

/// Bytes of a dictionary: zstd's own default.
const DICTIONARY_BYTES: usize = 112 * 1024;
/// Bytes of a dictionary for leaves: little of a frame of 64 KiB is told by it.
const LEAF_DICTIONARY_BYTES: usize = 16 * 1024;

fn bodies(prose: &Prose, seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut dice = StdRng::seed_from_u64(seed);
    (0..count).map(|_| prose.body(&mut dice)).collect()
}

#[test]
fn a_dictionary_is_trained_where_one_is_asked_for() {
    let Some(path) = std::env::var_os("NETHICAL_DICTIONARY") else {
        return eprintln!("skipped: NETHICAL_DICTIONARY names no file for a new dictionary");
    };
    let prose = Prose::of(&["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/errors.md", "docs/policy.md"]);
    let dictionary = dictionary::train(&bodies(&prose, 1, 8_000), DICTIONARY_BYTES).expect("it trains");
    assert_eq!(dictionary.len(), DICTIONARY_BYTES);
    std::fs::write(path, &dictionary).expect("written");
}

#[test]
fn bodies_of_actions_that_it_was_not_trained_on_take_less_than_half() {
    assert_eq!(DICTIONARY_1.len(), DICTIONARY_BYTES);
    let prose = Prose::of(&["docs/behaviour.md", "docs/detect.md", "docs/correlation.md", "sim/README.md"]);
    let (keys, bodies) = (BodyKeys::new(&[7; 32], None), bodies(&prose, 2, 2_000));
    let (mut raw, mut stored) = (0, 0);
    for (number, body) in bodies.iter().enumerate() {
        let (sealed, _) = body::seal(
            &keys,
            SealedFor { generation: 0, person: None },
            &body::command_id(1, 2, number as u64),
            body,
            None,
        );
        assert!(sealed.len() <= body.len() + OVERHEAD_BYTES);
        assert_eq!(body::open(&keys, &sealed, &Dictionaries::default()).map(|(opened, _)| opened).as_ref(), Ok(body));
        (raw, stored) = (raw + body.len(), stored + sealed.len());
    }
    let mean = raw / bodies.len();
    println!("{} bodies of {mean} B: {:.2}:1 with keys and tags", bodies.len(), raw as f64 / stored as f64);
    assert!((1_000..2_000).contains(&mean), "{mean}");
    assert!(raw * 10 > stored * 20, "{raw} of {stored}");
}

/// What `nethical audit dictionary train` does with a tenant's own actions.
#[test]
fn a_tenants_own_dictionary_packs_its_bodies_to_less_than_their_2_8th_part() {
    let prose = Prose::of(&["docs/behaviour.md", "docs/detect.md", "docs/correlation.md", "sim/README.md"]);
    let (keys, bodies) = (BodyKeys::new(&[7; 32], None), bodies(&prose, 3, 7_000));
    let (seen, unseen) = bodies.split_at(5_000);
    let trained = dictionary::train(seen, DICTIONARY_BYTES_MAX).expect("it trains");
    let (own, mut known) = (Arc::new(Dictionary::read(&trained).expect("it was trained")), Dictionaries::default());
    known.add(own.clone());
    let (mut raw, mut stored) = (0, 0);
    for (number, body) in unseen.iter().enumerate() {
        let (sealed_for, id) = (SealedFor { generation: 0, person: None }, body::command_id(1, 2, number as u64));
        let (sealed, _) = body::seal(&keys, sealed_for, &id, body, Some(&own));
        assert_eq!(body::open(&keys, &sealed, &known).map(|(opened, _)| opened).as_ref(), Ok(body));
        (raw, stored) = (raw + body.len(), stored + sealed.len());
    }
    println!("{} bodies: {:.2}:1 with keys and tags", unseen.len(), raw as f64 / stored as f64);
    assert!(raw * 10 > stored * 28, "{raw} of {stored}");
}

/// Leaves of made-up decisions, as a warm segment packs them: many tenants, few of whose agents act often.
fn leaves(seed: u64, count: u64) -> Vec<Vec<u8>> {
    let mut dice = StdRng::seed_from_u64(seed);
    let id = |dice: &mut StdRng| KeyedId(std::array::from_fn(|_| dice.random()));
    let names: Vec<KeyedId> = (0..400).map(|_| id(&mut dice)).collect();
    let mut now_ns = 1_767_225_600_000_000_000;
    let leaf = |index: u64| {
        now_ns += dice.random_range(1_000_000..90_000_000u64);
        let mut name = |count: usize| names[dice.random_range(0..count)];
        let (tenant, agent, session, tool, resource) = (name(12), name(200), name(400), name(40), name(400));
        let mut request = [0; 16];
        dice.fill_bytes(&mut request);
        let (mut mac, mut body_commitment) = ([0; 8], [0; 32]);
        dice.fill_bytes(&mut mac);
        dice.fill_bytes(&mut body_commitment);
        let limit = |dice: &mut StdRng, limit: u32| QuotaLeaf {
            limit,
            cap: 1_000_000 * u64::from(limit),
            remaining: dice.random_range(0..1_000_000),
            reset_ns: dice.random_range(0..60_000_000_000),
            flags: 0,
        };
        let decision = DecisionLeaf {
            request: KeyedId(request),
            request_content: mac,
            issued_at_ms: now_ns / 1_000_000 - dice.random_range(0..200),
            client_chosen: dice.random_ratio(9, 10),
            slot: dice.random_range(0..4_096),
            tenant,
            agent,
            session,
            tool,
            resource,
            policy_rev: 7,
            control_rev: 40 + index / 500,
            epoch: dice.random_range(0..3),
            risk: dice.random_range(0..400),
            verdict: u8::from(dice.random_ratio(1, 10)),
            rules: vec![dice.random_range(1..40u64).to_le_bytes()],
            costs: vec![(names[1], dice.random_range(0..5_000))],
            quota: vec![limit(&mut dice, 1), limit(&mut dice, 2)],
            ..DecisionLeaf::default()
        };
        let event = LeafEvent::Decision(Box::new(decision));
        LeafV1 { group: 3, era: 1, leaf_index: index, now_ns, term: 4, body_commitment, event }.encode()
    };
    (0..count).map(leaf).collect()
}

#[test]
fn a_dictionary_for_leaves_is_trained_where_one_is_asked_for() {
    let Some(path) = std::env::var_os("NETHICAL_LEAF_DICTIONARY") else {
        return eprintln!("skipped: NETHICAL_LEAF_DICTIONARY names no file for a new dictionary");
    };
    let dictionary = dictionary::train(&leaves(1, 20_000), LEAF_DICTIONARY_BYTES).expect("it trains");
    assert!(dictionary.len() <= LEAF_DICTIONARY_BYTES);
    std::fs::write(path, &dictionary).expect("written");
}

#[test]
fn leaves_that_it_was_not_trained_on_take_less_than_half_in_a_warm_segment() {
    let log = LogId { group: GroupId(3), era: 1 };
    let meta = SegmentMeta::new("made up", log, 0);
    let seal =
        SegmentSeal { meta, content_digest: [0; 32], tile_hashes: Vec::new(), body_hashes: Vec::new(), warm: None };
    let (mut writer, _) = WarmWriter::create(&seal);
    let keys = BodyKeys::new(&[7; 32], None);
    for (number, leaf) in leaves(2, 8_192).iter().enumerate() {
        let sealed_for = SealedFor { generation: 0, person: None };
        let (stored, _) = body::seal(&keys, sealed_for, &body::command_id(1, 2, number as u64), &[1; 300], None);
        writer.push(leaf, &stored);
    }
    let sums = writer.close().1.sums;
    println!("{:.2}:1 with the heads of bodies in the packed part", sums.leaf_bytes as f64 / sums.packed_bytes as f64);
    assert!(sums.leaf_bytes > 2 * sums.packed_bytes, "{sums:?}");
}
