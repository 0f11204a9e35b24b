//! First pages over all logs at once, as a node asks its groups, and point reads. An agent acts in every log here, in a cluster
//! in one. Nothing of the logs is in this process's memory at first; the system's page cache has what was not moved.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use nethical_audit::filter::Filter;
use nethical_cluster::store::scrub::Pace;
use nethical_cluster::store::search::{Order, Search};
use nethical_cluster::store::warm::TierSums;
use nethical_cluster::store::{AuditStore, IndexCache};
use nethical_cluster::tier::Rule;
use nethical_cluster::world::real::{RealClock, RealDisk};
use nethical_protocol::ids::LogId;
use nethical_protocol::limits::{INDEX_CACHE_BYTES_MAX, SEARCH_BYTES_MAX};
use rand::RngExt;

use crate::CLUSTER;
use crate::traffic::{AGENTS, RULES, START_NS, TENANTS, Traffic};

/// Times that each question is asked, about another agent each time.
const ASKED: usize = 100;

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn tell(what: &str, mut times: Vec<Duration>, found: usize) {
    times.sort_unstable();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{what:<52} median {:>8.3} ms, worst {:>8.3} ms, {found} found", milliseconds(median), milliseconds(most));
}

async fn ask(stores: &[Arc<AuditStore>], what: &str, cold: bool, filters: &[Filter], limit: usize) {
    let mut cache = IndexCache::new(INDEX_CACHE_BYTES_MAX);
    let (mut times, mut found) = (Vec::new(), 0);
    for filter in filters {
        if cold {
            cache = IndexCache::new(INDEX_CACHE_BYTES_MAX);
        }
        let search =
            Search { filter: *filter, order: Order::Descending, from: None, limit, bytes_max: SEARCH_BYTES_MAX };
        let started = Instant::now();
        let pages = join_all(stores.iter().map(|store| store.search(&cache, &search))).await;
        times.push(started.elapsed());
        for page in pages.into_iter().map(|page| page.expect("it searches")) {
            assert!(page.hits.len() == limit || page.is_end, "a first page is whole");
            found += page.hits.len();
        }
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
async fn make_warm(stores: &[Arc<AuditStore>]) {
    let clock = RealClock::new();
    let pace = Pace { clock: &clock, bytes_per_s: u64::MAX };
    let (mut hot, mut warm, started) = (TierSums::default(), TierSums::default(), Instant::now());
    for store in stores {
        hot.add(&store.tiers().hot);
        // What is written is durable; no sealer runs here to say so.
        store.trail.release(store.stored().0);
        for first in store.closed_segments() {
            store.tend(first, &Rule::default(), &pace).await.expect("it moves");
        }
        warm.add(&store.tiers().warm);
    }
    let per_leaf = |bytes: u64| bytes as f64 / warm.leaves.max(1) as f64;
    let ratio = |of: u64, to: u64| of as f64 / to.max(1) as f64;
    println!(
        "warm: {} segments in {:.1} s; hot {:.0} B a record, warm {:.0} B; leaves {:.0} B, packed {:.0} B ({:.2}:1)",
        warm.segments,
        started.elapsed().as_secs_f64(),
        per_leaf(hot.file_bytes),
        per_leaf(warm.file_bytes),
        per_leaf(warm.leaf_bytes),
        per_leaf(warm.packed_bytes),
        ratio(warm.leaf_bytes, warm.packed_bytes),
    );
}

async fn open(folder: &Path, logs: &[LogId], what: &str) -> Vec<Arc<AuditStore>> {
    let disk = Arc::new(RealDisk::new(folder).expect("a folder"));
    let started = Instant::now();
    let mut stores = Vec::new();
    for log in logs {
        stores.push(AuditStore::open(disk.clone(), CLUSTER, *log).await.expect("it opens"));
    }
    println!("{what}: {:.0} ms for all logs", milliseconds(started.elapsed()));
    stores
}

pub async fn measure(folder: &Path, logs: &[LogId], mut traffic: Traffic, records: u64) {
    // The first one finds no manifest, reads every body for its seal, and writes one.
    drop(open(folder, logs, "start without manifests").await);
    let stores = open(folder, logs, "start").await;
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
        ask(&stores, "agent and half the time, 50 newest", cold, &often, 50).await;
        ask(&stores, "a rare agent and half the time, 50 newest", cold, &seldom, 50).await;
        ask(&stores, "an agent that there is not, all time", cold, &never, 50).await;
        ask(&stores, "a session, all time", cold, &session, 50).await;
        ask(&stores, "blocked, risk from 800, a rule, 50 newest", cold, &risky, 50).await;
    }
    read_some(&stores[0], &mut traffic, records, "one record by its decision id").await;
    make_warm(&stores).await;
    read_some(&stores[0], &mut traffic, records, "one record by its decision id, warm").await;
    // What was moved was written past the page cache: the first time, the disk is read.
    for cold in [true, false] {
        ask(&stores, "agent and half the time, 50 newest, warm", cold, &often, 50).await;
    }
}
