//! Asks replicas for entries by filters drawn from what is in their logs, page by page, as one that looks for them would.

use std::collections::BTreeMap;

use nethical_audit::filter::{Filter, owner_of};
use nethical_audit::leaf::{LeafEvent, LeafV1};
use nethical_cluster::node::Core;
use nethical_cluster::store::search::{Order, Search};
use nethical_protocol::ids::{GroupId, NodeId};

use crate::check::Log;
use crate::check::search::Searched;
use crate::world::Fleet;

/// Leaves of each log by which filters are drawn.
const SAMPLES: usize = 4;
/// Bytes of a page; small, so that pages end early.
const BYTES_MAX: usize = 16 * 1024;

/// What every replica finds in its own log.
pub async fn gather(fleet: &Fleet, logs: &BTreeMap<(GroupId, NodeId), Log>) -> Vec<Searched> {
    let mut searches = Vec::new();
    for (node, living) in fleet.living() {
        for ((group, _), log) in logs.iter().filter(|((_, of), _)| *of == node) {
            for (number, filter) in filters(log).into_iter().enumerate() {
                let ascending = number % 2 == 0;
                let size = log.leaves.len() as u64;
                let found = pages(living.governor.core(), *group, size, filter, ascending, number).await;
                searches.push(Searched { group: *group, node, filter, ascending, found });
            }
        }
    }
    searches
}

/// Filters that find something, some of them little.
fn filters(log: &Log) -> Vec<Filter> {
    let step = (log.leaves.len() / SAMPLES).max(1);
    let mut all = vec![Filter::default()];
    for (number, leaf) in log.leaves.iter().step_by(step).enumerate() {
        all.push(filter_like(leaf, number));
        let from_ns = Some(leaf.now_ns);
        all.push(Filter { to_ns: leaf.now_ns.checked_add(3_000_000_000), from_ns, ..filter_like(leaf, number + 1) });
    }
    all
}

/// What the leaf matches, by some of what it has.
fn filter_like(leaf: &LeafV1, number: usize) -> Filter {
    let (tenant, agent) = owner_of(&leaf.event);
    let named = |id: nethical_protocol::ids::KeyedId| (!id.is_none()).then_some(id);
    let owner = Filter { tenant: named(tenant), agent: named(agent), ..Filter::default() };
    let LeafEvent::Decision(decision) = &leaf.event else {
        return Filter { kind: Some(leaf.event.kind_byte()), ..owner };
    };
    match number % 5 {
        0 => owner,
        1 => Filter { verdict: Some(decision.verdict), kind: Some(1), ..Filter::default() },
        2 => Filter {
            tool: named(decision.tool),
            session: named(decision.session),
            tenant: named(tenant),
            ..Filter::default()
        },
        3 => Filter { rule: decision.rules.first().copied(), risk_min: Some(decision.risk), ..Filter::default() },
        _ => Filter { risk_max: Some(decision.risk), verdict: Some(decision.verdict), ..owner },
    }
}

async fn pages(
    core: &Core,
    group: GroupId,
    size: u64,
    filter: Filter,
    ascending: bool,
    number: usize,
) -> Result<Vec<u64>, String> {
    let replica = core.partition(group).ok_or("the replica is gone")?;
    let order = if ascending { Order::Ascending } else { Order::Descending };
    let limit = [1_000, 7, 50][number % 3];
    let mut from = if ascending { 0 } else { size };
    let mut found = Vec::new();
    loop {
        let search = Search { filter, order, from: Some(from), limit, bytes_max: BYTES_MAX };
        let page = replica.store.search(&core.shared.index_cache, &search).await.map_err(|error| error.to_string())?;
        found.extend(page.hits.iter().map(|hit| hit.leaf_index).filter(|index| *index < size));
        if page.is_end || (ascending && page.reached >= size) {
            return Ok(found);
        }
        if page.reached == from {
            return Err(format!("a page from {from} came no further"));
        }
        from = page.reached;
    }
}
