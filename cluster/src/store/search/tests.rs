//! What a search finds is what a reader of every leaf would find, whichever way, page by page, from a damaged index as well.

use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1};
use nethical_audit::segment::{SegmentFooter, SegmentMeta, SegmentRules, SegmentWriter};
use nethical_protocol::ids::{GroupId, KeyedId, LogId};
use proptest::prelude::*;

use super::*;
use crate::trail::Record;
use crate::world::memory::MemoryDisk;

const LOG: LogId = LogId { group: GroupId(7), era: 1 };
const SECONDS: u64 = 1_000_000_000;

fn id(kind: u8, number: u64) -> KeyedId {
    let mut bytes = [kind; 16];
    // Spread over the first bytes, as keyed ids are.
    bytes[..8].copy_from_slice(&(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    KeyedId(bytes)
}

fn leaf(index: u64) -> LeafV1 {
    let decision = DecisionLeaf {
        tenant: id(1, index % 2),
        agent: id(2, index % 23),
        session: id(3, index / 3),
        tool: id(4, index % 5),
        risk: (index * 37 % 1_001) as u16,
        verdict: (index % 5) as u8,
        rules: vec![(index % 4).to_le_bytes()],
        ..DecisionLeaf::default()
    };
    let event = match index % 50 {
        49 => LeafEvent::Control { from_rev: index, to_rev: index + 1 },
        _ => LeafEvent::Decision(Box::new(decision)),
    };
    let now_ns = (1 + index / 4) * SECONDS;
    LeafV1 { group: 7, era: 1, leaf_index: index, now_ns, term: 1, body_commitment: [0; 32], event }
}

/// A log of so many leaves in closed segments, in the open one and in the tail.
struct Rig {
    disk: Arc<MemoryDisk>,
    store: Arc<AuditStore>,
    cache: IndexCache,
    leaves: Vec<LeafV1>,
}

const CLOSED: u64 = 3 * 256;
const OPEN: u64 = 100;
const TAIL: u64 = 30;

async fn rig() -> Rig {
    let disk = Arc::new(MemoryDisk::new());
    disk.create_dir(&dir_of(LOG)).await.expect("a folder");
    for first in (0..CLOSED).step_by(256) {
        let rules = SegmentRules { frame_raw_bytes: 4_000, segment_leaves: 256, ..SegmentRules::RELEASED };
        let meta = SegmentMeta { rules, ..SegmentMeta::new("test", LOG, first) };
        let (mut writer, header) = SegmentWriter::create(meta);
        let mut bytes = header.to_vec();
        while !writer.is_full() {
            let index = writer.next_index();
            bytes.extend(writer.push(&leaf(index).encode(), &[index as u8; 20]).unwrap_or_default());
        }
        bytes.extend(writer.close().0);
        let file = disk.open(&format!("{}/{}", dir_of(LOG), meta.file_name()), true).await.expect("a file");
        file.write_and_sync(0, Bytes::from(bytes)).await.expect("written");
    }
    let store = AuditStore::open(disk.clone(), "test", LOG).await.expect("it opens");
    let clock = crate::world::real::RealClock::new();
    let open: Vec<(Vec<u8>, Vec<u8>)> =
        (CLOSED..CLOSED + OPEN).map(|index| (leaf(index).encode(), vec![index as u8; 20])).collect();
    let pairs: Vec<(&[u8], &[u8])> = open.iter().map(|(leaf, body)| (&leaf[..], &body[..])).collect();
    store.write_pairs(&pairs, &clock).await.expect("it is written");
    for index in CLOSED + OPEN..CLOSED + OPEN + TAIL {
        let (leaf, body) = (leaf(index), Bytes::from(vec![index as u8; 20]));
        let bytes = Bytes::from(leaf.encode());
        store.trail.push(Arc::new(Record::new(index, bytes, body, Some(Arc::new(leaf)))));
    }
    let leaves = (0..CLOSED + OPEN + TAIL).map(leaf).collect();
    Rig { disk, store, cache: IndexCache::new(1 << 20), leaves }
}

impl Rig {
    /// All that a search gives, page by page.
    async fn pages(&self, filter: Filter, order: Order, limit: usize) -> Vec<u64> {
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let search = Search { filter, order, from, limit, bytes_max: 1 << 20 };
            let found = self.store.search(&self.cache, &search).await.expect("it searches");
            assert!(found.hits.len() <= limit);
            for hit in &found.hits {
                assert_eq!(hit.leaf, self.leaves[hit.leaf_index as usize].encode());
                assert_eq!(hit.body, vec![hit.leaf_index as u8; 20]);
            }
            all.extend(found.hits.iter().map(|hit| hit.leaf_index));
            if found.is_end {
                return all;
            }
            assert_ne!(from, Some(found.reached), "every page comes further");
            from = Some(found.reached);
        }
    }

    fn naive(&self, filter: &Filter, order: Order) -> Vec<u64> {
        let matching = self.leaves.iter().filter(|leaf| filter.matches(leaf)).map(|leaf| leaf.leaf_index);
        match order {
            Order::Ascending => matching.collect(),
            Order::Descending => matching.rev().collect(),
        }
    }
}

fn filters() -> impl Strategy<Value = Filter> {
    let ids =
        (prop::option::of(0u64..3), prop::option::of(0u64..25), prop::option::of(0u64..320), prop::option::of(0u64..6));
    let numbers = (
        prop::option::weighted(0.3, 0u64..250),
        prop::option::weighted(0.3, 0u64..250),
        prop::option::weighted(0.3, 0u8..6),
        prop::option::weighted(0.3, 0u16..=1_000),
        prop::option::weighted(0.3, 0u16..=1_000),
        prop::option::weighted(0.3, 0u64..5),
        prop::option::weighted(0.3, 0u8..4),
    );
    (ids, numbers).prop_map(|((tenant, agent, session, tool), (from, to, verdict, risk_min, risk_max, rule, kind))| {
        Filter {
            tenant: tenant.map(|number| id(1, number)),
            agent: agent.map(|number| id(2, number)),
            session: session.map(|number| id(3, number)),
            tool: tool.map(|number| id(4, number)),
            from_ns: from.map(|seconds| seconds * SECONDS),
            to_ns: to.map(|seconds| seconds * SECONDS),
            verdict,
            risk_min,
            risk_max,
            rule: rule.map(u64::to_le_bytes),
            kind,
        }
    })
}

fn one_of(strategy: impl Strategy<Value = Filter>, count: usize) -> Vec<Filter> {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("a filter").current()).collect()
}

#[tokio::test]
async fn a_search_finds_what_a_reader_of_every_leaf_finds() {
    let rig = rig().await;
    for (number, filter) in one_of(filters(), 300).into_iter().chain([Filter::default()]).enumerate() {
        for order in [Order::Ascending, Order::Descending] {
            let limit = [1, 7, 1_000][number % 3];
            assert_eq!(rig.pages(filter, order, limit).await, rig.naive(&filter, order), "{filter:?} {order:?}");
        }
    }
    assert!(rig.cache.bytes() > 0, "indexes were read");
}

#[tokio::test]
async fn a_damaged_index_is_made_again_and_finds_the_same() {
    let name = format!("{}/{:020}.seg", dir_of(LOG), 256);
    let whole = crate::world::read_all(&*rig().await.disk, &name).await.expect("it is there");
    let place = SegmentFooter::decode_end(&whole).expect("closed").index;
    for inside in [0, 40, u64::from(place.length) / 2, u64::from(place.length) - 1] {
        let rig = rig().await;
        let at = place.offset + inside;
        let file = rig.disk.open(&name, false).await.expect("it opens");
        let byte = file.read_at(at, 1).await.expect("it reads")[0];
        file.write_and_sync(at, Bytes::from(vec![byte ^ 0x40])).await.expect("it is damaged");
        let store = AuditStore::open(rig.disk.clone(), "test", LOG).await.expect("records are whole");
        let rig = Rig { store, leaves: rig.leaves[..(CLOSED + OPEN) as usize].to_vec(), ..rig };
        for filter in one_of(filters(), 40) {
            let found = rig.pages(filter, Order::Descending, 50).await;
            assert_eq!(found, rig.naive(&filter, Order::Descending), "byte {inside}: {filter:?}");
        }
    }
}

#[tokio::test]
async fn a_log_that_grows_between_pages_neither_repeats_nor_skips() {
    let rig = rig().await;
    let filter = Filter { tenant: Some(id(1, 1)), ..Filter::default() };
    let wanted = rig.naive(&filter, Order::Descending);
    let (mut all, mut from, mut next) = (Vec::new(), None, CLOSED + OPEN + TAIL);
    loop {
        let search = Search { filter, order: Order::Descending, from, limit: 9, bytes_max: 1 << 20 };
        let found = rig.store.search(&rig.cache, &search).await.expect("it searches");
        all.extend(found.hits.iter().map(|hit| hit.leaf_index));
        if found.is_end {
            break;
        }
        from = Some(found.reached);
        for _ in 0..5 {
            let leaf = leaf(next);
            let bytes = Bytes::from(leaf.encode());
            rig.store.trail.push(Arc::new(Record::new(next, bytes, Bytes::new(), Some(Arc::new(leaf)))));
            next += 1;
        }
    }
    assert_eq!(all, wanted);
}

#[tokio::test]
async fn a_rotten_record_is_an_error_and_not_an_absence() {
    let rig = rig().await;
    let name = format!("{}/{:020}.seg", dir_of(LOG), 0);
    let file = rig.disk.open(&name, false).await.expect("it opens");
    file.write_and_sync(5_000, Bytes::from(vec![0xaa; 9_000])).await.expect("it is damaged");
    let search =
        Search { filter: Filter::default(), order: Order::Ascending, from: None, limit: 300, bytes_max: 1 << 20 };
    assert!(rig.store.search(&rig.cache, &search).await.is_err());
}

#[tokio::test]
async fn an_index_says_whose_leaves_its_segment_has() {
    let rig = rig().await;
    let mut both = [search::tenant_key(id(1, 0)), search::tenant_key(id(1, 1))];
    both.sort_unstable();
    for _ in 0..2 {
        let found = rig.store.tenants_in(&rig.cache, 256).await.expect("it reads");
        assert_eq!(found.as_deref(), Some(&both[..]), "leaves of no tenant do not count");
    }
    assert_eq!(rig.store.tenants_in(&rig.cache, CLOSED).await.expect("it reads"), None, "it is not closed yet");
}
