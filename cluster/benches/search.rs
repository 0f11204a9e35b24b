//! What a search index costs and what it gives: bytes a record, build rate, first pages and point reads over a log on disk.
//!
//! `cargo bench -p nethical-cluster --bench search -- RECORDS [BODY BYTES]`. Writes a log of made-up traffic of that many records
//! to a temporary folder, and measures with nothing of it in this process's memory; the system's page cache is warm.
#![allow(clippy::disallowed_methods, reason = "a bench is the outermost layer: it measures time and writes files")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nethical_audit::filter::Filter;
use nethical_audit::keys::TenantKeys;
use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1};
use nethical_audit::segment::search::{Dimension, Part, SearchHead};
use nethical_audit::segment::{SegmentFooter, SegmentMeta, SegmentWriter};
use nethical_cluster::store::scrub::Pace;
use nethical_cluster::store::search::{Order, Search};
use nethical_cluster::store::{AuditStore, IndexCache, dir_of};
use nethical_cluster::tier::Rule;
use nethical_cluster::world::real::{RealClock, RealDisk};
use nethical_protocol::ids::{GroupId, KeyedId, LogId};
use nethical_protocol::limits::{INDEX_CACHE_BYTES_MAX, SEARCH_BYTES_MAX};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

const LOG: LogId = LogId { group: GroupId(3), era: 1 };
const TENANTS: usize = 12;
const AGENTS: usize = 4_000;
const TOOLS: usize = 80;
const RULES: usize = 60;
const START_NS: u64 = 1_767_225_600_000_000_000;
/// Times that each question is asked, about another agent each time.
const ASKED: usize = 100;

/// Made-up traffic: few agents act often and most seldom, sessions end, risks are mostly low.
struct Traffic {
    dice: ChaCha12Rng,
    tenants: Vec<TenantKeys>,
    sessions: Vec<u64>,
    agents: Vec<(KeyedId, KeyedId)>,
    now_ns: u64,
}

impl Traffic {
    fn new() -> Self {
        let tenants: Vec<TenantKeys> = (0..TENANTS).map(|number| TenantKeys::new(&[number as u8 + 1; 32])).collect();
        let agent = |number: usize| {
            let keys = &tenants[number % TENANTS];
            (
                keys.keyed_id("tenant", format!("tenant {}", number % TENANTS)),
                keys.keyed_id("agent", format!("agent {number}")),
            )
        };
        let agents = (0..AGENTS).map(agent).collect();
        Self { dice: ChaCha12Rng::seed_from_u64(7), tenants, sessions: vec![0; AGENTS], agents, now_ns: START_NS }
    }

    /// A number below `count`, the small ones far more often (the square of a uniform one, twice).
    fn skewed(&mut self, count: usize) -> usize {
        let mut number = self.dice.random_range(0..1_000_000u64);
        for _ in 0..2 {
            number = number * number / 1_000_000;
        }
        (number as usize * count) / 1_000_000
    }

    fn leaf(&mut self, index: u64) -> LeafV1 {
        let agent = self.skewed(AGENTS);
        let ends = self.dice.random_range(0..12) == 0;
        self.sessions[agent] += u64::from(ends);
        let (session, tool) = (self.sessions[agent], self.skewed(TOOLS));
        let keys = &self.tenants[agent % TENANTS];
        let session = keys.keyed_id("session", format!("session {session} of {agent}"));
        let tool = keys.keyed_id("tool", format!("tool {tool}"));
        let risk = self.skewed(1_001) as u16;
        let verdict = match self.dice.random_range(0..100) {
            0..88 => 0,
            88..94 => 1,
            94..96 => 2,
            96..99 => 3,
            _ => 4,
        };
        let rules = 0..self.dice.random_range(1..3);
        let rules = rules.map(|_| (self.skewed(RULES) as u64 + 1).to_le_bytes()).collect();
        let mut request = [0; 16];
        self.dice.fill_bytes(&mut request);
        self.now_ns += self.dice.random_range(1_000_000..5_000_000);
        let mut body_commitment = [0; 32];
        self.dice.fill_bytes(&mut body_commitment);
        let (tenant, agent) = self.agents[agent];
        let decision = DecisionLeaf {
            request: KeyedId(request),
            client_chosen: true,
            tenant,
            agent,
            session,
            tool,
            risk,
            verdict,
            rules,
            costs: vec![(KeyedId([1; 16]), 1)],
            ..DecisionLeaf::default()
        };
        let event = LeafEvent::Decision(Box::new(decision));
        LeafV1 { group: 3, era: 1, leaf_index: index, now_ns: self.now_ns, term: 1, body_commitment, event }
    }
}

/// What writing took.
#[derive(Default)]
struct Written {
    index_bytes: u64,
    file_bytes: u64,
    parts: [u64; 9],
    closing: Duration,
    closed: u64,
}

fn write(folder: &Path, records: u64, body_bytes: usize) -> (Traffic, Written) {
    let (mut traffic, mut written) = (Traffic::new(), Written::default());
    let (mut writer, header) = SegmentWriter::create(SegmentMeta::new("bench", LOG, 0));
    let mut bytes = header.to_vec();
    let mut body = vec![0; body_bytes];
    for index in 0..records {
        traffic.dice.fill_bytes(&mut body);
        bytes.extend(writer.push(&traffic.leaf(index).encode(), &body).unwrap_or_default());
        if !writer.is_full() {
            continue;
        }
        let (next, name) = (writer.next_index(), writer.meta().file_name());
        let started = Instant::now();
        let (ending, footer) = writer.close();
        written.closing += started.elapsed();
        written.closed = next;
        note(&mut written, &ending, &footer);
        bytes.extend(ending);
        written.file_bytes += bytes.len() as u64;
        std::fs::write(folder.join(name), &bytes).expect("the disk has room");
        let (fresh, header) = SegmentWriter::create(SegmentMeta::new("bench", LOG, next));
        (writer, bytes) = (fresh, header.to_vec());
    }
    bytes.extend(writer.flush_frame().unwrap_or_default());
    written.file_bytes += bytes.len() as u64;
    std::fs::write(folder.join(writer.meta().file_name()), &bytes).expect("the disk has room");
    (traffic, written)
}

fn note(written: &mut Written, ending: &[u8], footer: &SegmentFooter) {
    let before = ending.len() - footer.encode().len() - footer.index.length as usize;
    let head = SearchHead::decode(&ending[before..]).expect("own index");
    written.index_bytes += u64::from(footer.index.length);
    let parts = [Part::Zones].into_iter().chain(Dimension::ALL.map(Part::Postings));
    written.parts.iter_mut().zip(parts).for_each(|(sum, part)| *sum += u64::from(head.span(part).length));
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn tell(what: &str, mut times: Vec<Duration>, found: usize) {
    times.sort_unstable();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what:<52} median {:>8.3} ms, worst {:>8.3} ms, {found} found", milliseconds(median), milliseconds(most));
}

async fn ask(store: &AuditStore, what: &str, cold: bool, filters: &[Filter], limit: usize) {
    let mut cache = IndexCache::new(INDEX_CACHE_BYTES_MAX);
    let (mut times, mut found) = (Vec::new(), 0);
    for filter in filters {
        if cold {
            cache = IndexCache::new(INDEX_CACHE_BYTES_MAX);
        }
        let search =
            Search { filter: *filter, order: Order::Descending, from: None, limit, bytes_max: SEARCH_BYTES_MAX };
        let started = Instant::now();
        let page = store.search(&cache, &search).await.expect("it searches");
        times.push(started.elapsed());
        assert!(page.hits.len() == limit || page.is_end, "a first page is whole");
        found += page.hits.len();
    }
    tell(&format!("{what}, {}", if cold { "no index in memory" } else { "indexes in memory" }), times, found);
}

async fn read_some(store: &AuditStore, traffic: &mut Traffic, records: u64, what: &str) {
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let index = traffic.dice.random_range(0..records);
        let started = Instant::now();
        let found = store.read(index, 1).await.expect("it reads");
        times.push(started.elapsed());
        assert_eq!(found.len(), 1);
    }
    tell(what, times, 1_000);
}

/// Moves all closed segments to the warm tier, and says what they take there.
async fn make_warm(store: &AuditStore) {
    let clock = RealClock::new();
    let pace = Pace { clock: &clock, bytes_per_s: u64::MAX };
    let (hot, started) = (store.tiers().hot, Instant::now());
    // What is written is durable; no sealer runs here to say so.
    store.trail.release(store.stored().0);
    for first in store.closed_segments() {
        store.tend(first, &Rule::default(), &pace).await.expect("it moves");
    }
    let warm = store.tiers().warm;
    let per_leaf = |bytes: u64| bytes as f64 / warm.leaves.max(1) as f64;
    let ratio = |of: u64, to: u64| of as f64 / to.max(1) as f64;
    println!(
        "warm: {} segments in {:.1} s; hot {:.0} B a record, warm {:.0} B; raw {:.0} B ({:.2}:1); leaves {:.0} B, packed {:.0} B ({:.2}:1)",
        warm.segments,
        started.elapsed().as_secs_f64(),
        per_leaf(hot.file_bytes),
        per_leaf(warm.file_bytes),
        per_leaf(warm.raw_bytes),
        ratio(warm.raw_bytes, warm.file_bytes),
        per_leaf(warm.leaf_bytes),
        per_leaf(warm.packed_bytes),
        ratio(warm.leaf_bytes, warm.packed_bytes),
    );
}

async fn measure(folder: &Path, mut traffic: Traffic, records: u64) {
    let disk = Arc::new(RealDisk::new(folder).expect("a folder"));
    let started = Instant::now();
    let store = AuditStore::open(disk, "bench", LOG).await.expect("it opens");
    println!("start: {:.0} ms", milliseconds(started.elapsed()));
    let span = traffic.now_ns - START_NS;
    let often: Vec<Filter> = (0..ASKED)
        .map(|_| {
            let number = traffic.skewed(AGENTS);
            let (tenant, agent) = traffic.agents[number];
            let from_ns = START_NS + traffic.dice.random_range(0..span / 2);
            let (from_ns, to_ns) = (Some(from_ns), Some(from_ns + span / 2));
            Filter { tenant: Some(tenant), agent: Some(agent), from_ns, to_ns, ..Filter::default() }
        })
        .collect();
    let seldom: Vec<Filter> = often
        .iter()
        .map(|filter| {
            let number = AGENTS - 1 - traffic.dice.random_range(0..200);
            let (tenant, agent) = traffic.agents[number];
            Filter { tenant: Some(tenant), agent: Some(agent), ..*filter }
        })
        .collect();
    let never: Vec<Filter> = (0..ASKED)
        .map(|number| Filter {
            agent: Some(traffic.tenants[0].keyed_id("agent", format!("nobody {number}"))),
            ..Filter::default()
        })
        .collect();
    let session: Vec<Filter> = (0..ASKED)
        .map(|number| {
            let text = format!("session {} of {}", number % 3, number * 7 % AGENTS);
            Filter {
                session: Some(traffic.tenants[number * 7 % AGENTS % TENANTS].keyed_id("session", text)),
                ..Filter::default()
            }
        })
        .collect();
    let rule = |number: usize| Some((number as u64 % RULES as u64 + 1).to_le_bytes());
    let risky: Vec<Filter> = (0..ASKED)
        .map(|number| Filter { verdict: Some(3), risk_min: Some(800), rule: rule(number), ..Filter::default() })
        .collect();
    for cold in [true, false] {
        ask(&store, "agent and half the time, 50 newest", cold, &often, 50).await;
        ask(&store, "a rare agent and half the time, 50 newest", cold, &seldom, 50).await;
        ask(&store, "an agent that there is not, all time", cold, &never, 50).await;
        ask(&store, "a session, all time", cold, &session, 50).await;
        ask(&store, "blocked, risk from 800, a rule, 50 newest", cold, &risky, 50).await;
    }
    read_some(&store, &mut traffic, records, "one record by its decision id").await;
    make_warm(&store).await;
    read_some(&store, &mut traffic, records, "one record by its decision id, warm").await;
    ask(&store, "agent and half the time, 50 newest, warm", true, &often, 50).await;
}

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (records, body_bytes) = (numbers.first().copied().unwrap_or(200_000), numbers.get(1).copied().unwrap_or(300));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let segments = folder.path().join(dir_of(LOG));
    std::fs::create_dir_all(&segments).expect("a folder");
    let started = Instant::now();
    let (traffic, written) = write(&segments, records, body_bytes as usize);
    let closed = written.closed.max(1) as f64;
    println!(
        "{records} records of {:.0} B in {:.1} s",
        written.file_bytes as f64 / records as f64,
        started.elapsed().as_secs_f64()
    );
    println!("index: {:.2} B a record of closed segments", written.index_bytes as f64 / closed);
    let names = ["zones", "tenant", "agent", "session", "tool", "verdict", "risk", "rule", "kind"];
    let parts = names.iter().zip(written.parts).map(|(name, bytes)| format!("{name} {:.2}", bytes as f64 / closed));
    println!("       of it: {}", parts.collect::<Vec<_>>().join(", "));
    println!(
        "closing (index, tiles' roots, footer): {:.0} records/s",
        closed / written.closing.as_secs_f64().max(1e-9)
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(measure(folder.path(), traffic, records));
}
