//! What this node's doors answered each tenant, in windows that slide, and what all nodes counted together.
//!
//! Counters begin anew with the process and are no record: the leaves are. Bounded in tenants, slots and bins; no wall clock
//! is read, so a clock that is set moves no window. Names of tenants leave the node towards its peers and administrators only.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use rkyv::rancor::Error;

use nethical_protocol::error::Problem;
use nethical_protocol::limits::{SLA_PAGE_MAX, SLA_TENANTS_MAX};
use nethical_protocol::sla::{SlaList, SlaQuery, SlaScope, SlaStatus, SlaTargets, SlaView};

use crate::message::KIND_SLA;
use crate::node::Core;
use crate::world::Lane;

mod histogram;
mod judge;
mod ring;
#[cfg(test)]
mod tests;

pub use judge::Counted;
use ring::{Counts, Ring};

/// Windows of each tenant.
pub const WINDOWS: usize = 3;
/// Slots and seconds a slot: 5 minutes, 1 hour, 30 days.
const SLOTS: [(usize, u64); WINDOWS] = [(10, 30), (12, 300), (30, 86_400)];
/// Their lengths in seconds.
pub const WINDOWS_S: [u64; WINDOWS] = [300, 3_600, 2_592_000];
/// A tenant that was answered this lately keeps its place.
const IDLE: Duration = Duration::from_secs(300);
/// How long a peer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a door answered a tenant in one request. Refusals and redirects are the caller's and are not in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The tenant that the actions named.
    pub tenant: String,
    /// Decisions.
    pub decided: u64,
    /// Answers of class retry, unknown or broken.
    pub failed: u64,
    /// From the request's decoding to its answer.
    pub took: Duration,
}

#[derive(Debug)]
struct Tenant {
    since: Duration,
    last: Duration,
    rings: [Ring; WINDOWS],
}

impl Tenant {
    fn new(now: Duration) -> Self {
        Self { since: now, last: now, rings: SLOTS.map(|(slots, width_s)| Ring::new(slots, width_s)) }
    }

    fn counted(&self, now: Duration) -> Counted {
        let windows = self.rings.each_ref().map(|ring| ring.counts(now));
        Counted { windows, since_s: now.saturating_sub(self.since).as_secs() }
    }
}

/// What was counted on this node.
#[derive(Debug, Default)]
pub struct Monitor(Mutex<BTreeMap<String, Tenant>>);

impl Monitor {
    /// Counts answers at a monotonic time. A tenant that the zone does not know takes free places only; one that it does takes
    /// the place of the longest idle one. False where there was no place.
    pub fn note(&self, now: Duration, answered: &Answered, known: bool) -> bool {
        let Answered { tenant, decided, failed, took } = answered;
        let mut tenants = self.0.lock();
        if !tenants.contains_key(tenant) && !make_room(&mut tenants, now, known) {
            return false;
        }
        // Looked up by reference first: the name is copied once in a tenant's life.
        if !tenants.contains_key(tenant) {
            tenants.insert(tenant.clone(), Tenant::new(now));
        }
        if let Some(held) = tenants.get_mut(tenant) {
            held.last = held.last.max(now);
            let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            held.rings.iter_mut().for_each(|ring| ring.note(now, *decided, *failed, us));
        }
        true
    }

    /// A page of tenants behind a name, or the one of a name.
    fn page(&self, now: Duration, ask: &SlaAskV1) -> Vec<SlaCountsV1> {
        if let Some(name) = &ask.tenant {
            let counted = self.0.lock().get(name).map(|tenant| tenant.counted(now));
            return counted.map(|counted| SlaCountsV1::new(name.clone(), &counted)).into_iter().collect();
        }
        let mut page: Vec<SlaCountsV1> = Vec::new();
        while page.len() < SLA_PAGE_MAX {
            let after = page.last().map_or(ask.after.as_str(), |counts| counts.tenant.as_str());
            let Some((name, counted)) = self.next(now, after) else { break };
            page.push(SlaCountsV1::new(name, &counted));
        }
        page
    }

    /// The tenant behind a name and its counts: one at a time, so that no door waits for the sum of all.
    fn next(&self, now: Duration, after: &str) -> Option<(String, Counted)> {
        let tenants = self.0.lock();
        let mut behind = tenants.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        behind.next().map(|(name, tenant)| (name.clone(), tenant.counted(now)))
    }
}

fn make_room(tenants: &mut BTreeMap<String, Tenant>, now: Duration, known: bool) -> bool {
    if tenants.len() < SLA_TENANTS_MAX || !known {
        return tenants.len() < SLA_TENANTS_MAX;
    }
    let longest = tenants.iter().min_by_key(|(_, tenant)| tenant.last);
    let idle = longest.filter(|(_, tenant)| now.saturating_sub(tenant.last) >= IDLE).map(|(name, _)| name.clone());
    idle.is_some_and(|name| tenants.remove(&name).is_some())
}

/// What have you counted?
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SlaAskV1 {
    /// Of this tenant; of all where absent.
    pub tenant: Option<String>,
    /// Names behind this one.
    pub after: String,
}

/// What a node has counted of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SlaCountsV1 {
    /// The tenant.
    pub tenant: String,
    /// Seconds since it is counted.
    pub since_s: u64,
    /// 5 minutes, 1 hour, 30 days.
    pub windows: Vec<SlaWindowV1>,
}

/// What a node has counted in one window.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SlaWindowV1 {
    /// Decisions and failures.
    pub answered: u64,
    /// Of those, failures.
    pub failed: u64,
    /// The bins that hold anything, with their counts.
    pub bins: Vec<(u8, u64)>,
}

impl SlaCountsV1 {
    fn new(tenant: String, counted: &Counted) -> Self {
        let wire = |counts: &Counts| SlaWindowV1 {
            answered: counts.answered,
            failed: counts.failed,
            bins: counts.filled().collect(),
        };
        Self { tenant, since_s: counted.since_s, windows: counted.windows.iter().map(wire).collect() }
    }

    fn add_to(&self, sum: &mut Counted) {
        sum.since_s = sum.since_s.max(self.since_s);
        for (held, window) in sum.windows.iter_mut().zip(&self.windows) {
            held.add(window.answered, window.failed, window.bins.iter().copied());
        }
    }
}

/// Answers a peer; with nothing where the question does not read.
pub fn on_sla(core: &Core, body: &[u8]) -> Option<Bytes> {
    let ask = rkyv::from_bytes::<SlaAskV1, Error>(body).ok()?;
    let found = core.shared.sla.page(core.shared.world.clock.now(), &ask);
    Some(encode(&found))
}

fn encode<T>(value: &T) -> Bytes
where
    T: for<'a> rkyv::Serialize<rkyv::api::high::HighSerializer<Vec<u8>, rkyv::ser::allocator::ArenaHandle<'a>, Error>>,
{
    let bytes = rkyv::api::high::to_bytes_in::<_, Error>(value, Vec::with_capacity(1_024));
    Bytes::from(bytes.expect("encoding into memory cannot fail"))
}

/// A page of promises, from this node's counts or those of all nodes that answer.
///
/// # Errors
/// `unknown-tenant` where one is named that nobody has counted and the zone does not know.
pub async fn list(core: Arc<Core>, query: SlaQuery) -> Result<SlaList, Problem> {
    let ask = SlaAskV1 { tenant: query.tenant.clone(), after: query.cursor.unwrap_or_default() };
    let own = core.shared.options.node.0;
    let mut pages = vec![core.shared.sla.page(core.shared.world.clock.now(), &ask)];
    let (mut nodes, mut awaiting) = (vec![own], Vec::new());
    let peers = if query.scope == SlaScope::All { core.peers() } else { Vec::new() };
    let wire = &core.shared.world.wire;
    let asked = peers.iter().map(|peer| wire.call(*peer, Lane::Control, KIND_SLA, encode(&ask), PATIENCE));
    for (peer, answer) in peers.iter().zip(join_all(asked).await) {
        match answer.ok().and_then(|bytes| rkyv::from_bytes::<Vec<SlaCountsV1>, Error>(&bytes).ok()) {
            Some(page) => (pages.push(page), nodes.push(peer.0)).1,
            None => awaiting.push(peer.0),
        }
    }
    nodes.sort_unstable();
    let (mut sums, more) = merge(&pages);
    if let Some(name) = query.tenant.filter(|name| !sums.contains_key(name)) {
        if core.shared.view().tenant(&name).is_none() {
            return Err(core.shared.no_tenant(&name));
        }
        sums.insert(name, Counted::default());
    }
    let cursor = sums.keys().next_back().filter(|_| more).cloned();
    let tenants = sums.into_iter().map(|(name, counted)| view(&core, name, &counted)).collect();
    Ok(SlaList { tenants, nodes, awaiting, cursor })
}

/// Adds up what nodes have counted: the first names of all, and whether there are more. Each page has the first names of its
/// node, so the first ones of all are on every page that could have them.
fn merge(pages: &[Vec<SlaCountsV1>]) -> (BTreeMap<String, Counted>, bool) {
    let mut sums: BTreeMap<String, Counted> = BTreeMap::new();
    for counts in pages.iter().flatten() {
        counts.add_to(sums.entry(counts.tenant.clone()).or_default());
    }
    let more = sums.len() > SLA_PAGE_MAX || pages.iter().any(|page| page.len() >= SLA_PAGE_MAX);
    while sums.len() > SLA_PAGE_MAX {
        sums.pop_last();
    }
    (sums, more)
}

fn view(core: &Core, name: String, counted: &Counted) -> SlaView {
    let targets = core.shared.view().tenant(&name).map_or_else(SlaTargets::default, |tenant| tenant.sla());
    judge::judge(name, counted, targets)
}

/// Sets the gauges: the greatest used budget, and tenants by status, as far as this node's doors know.
pub fn publish(core: &Core) {
    let (mut used, mut by_status, mut after) = (0, [0u32; SlaStatus::ALL.len()], String::new());
    let now = core.shared.world.clock.now();
    while let Some((name, counted)) = core.shared.sla.next(now, &after) {
        let view = view(core, name.clone(), &counted);
        used = used.max(view.budget.used_permille);
        by_status[view.status as usize] += 1;
        after = name;
    }
    metrics::gauge!("nethical_sla_budget_used_permille").set(used as f64);
    for (status, count) in SlaStatus::ALL.into_iter().zip(by_status) {
        metrics::gauge!("nethical_sla_status", "status" => status.as_str()).set(f64::from(count));
    }
}
