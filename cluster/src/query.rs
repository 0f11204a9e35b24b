//! Questions to the audit trail over all groups: who is asked, how answers become a page, what a cursor holds.
//!
//! Each group is answered by one of its replicas, which searches its own segments ([`crate::store::search`]); pages travel
//! between nodes, never logs. A group no replica of which answers is named in the page. Names become keyed ids here, on
//! the node that was asked; replicas search by those alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use nethical_audit::filter::{Filter, RISK_MAX};
use nethical_audit::leaf::LeafV1;
use nethical_governance::policy::rule_hash;
use nethical_protocol::decision::Verdict;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{GroupId, NodeId};
use nethical_protocol::limits::{NAME_BYTES_MAX, SEARCH_BYTES_MAX, SEARCH_PAGE_MAX};

use crate::api::{EntryPage, EntryQuery};
use crate::control::view::ControlView;
use crate::inspect;
use crate::message::{HitV1, KIND_SEARCH, SearchAskV1, SearchedV1};
use crate::node::Core;
use crate::store::search::{Found, Hit, Look, Order, Search};
use crate::text::words::TextQuery;
use crate::world::{Lane, timeout};

mod cursor;
mod merge;
mod text;

use cursor::Cursor;

/// Entries of a page where nobody says.
const LIMIT_DEFAULT: usize = 50;
/// Bytes of leaves and bodies that all groups together may send for one page, about.
const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Groups that are asked at the same time.
const GROUPS_AT_ONCE: usize = 64;
/// How long a replica may take for its part of a page.
const SEARCH_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may ask text indexes before it says how far it came.
const LOOK_PATIENCE: Duration = Duration::from_millis(1_500);
/// Who asks from now on gets this much of what came before from groups that did not answer then: nodes' clocks are closer
/// together than this, so that nothing that comes after is left out.
const NOW_SLACK: Duration = Duration::from_secs(60);

/// A page of entries.
///
/// # Errors
/// `malformed-request` for words and numbers that mean nothing, `unknown-tenant` for a tenant that there is not.
pub async fn entries(core: Arc<Core>, query: EntryQuery) -> Result<EntryPage, Problem> {
    let view = core.shared.view();
    let mut filter = filter_of(&core, &view, &query)?;
    let text = text::query_of(&view, &query)?;
    let ascending = match query.order.as_deref() {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err(malformed("order must be asc or desc")),
    };
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=SEARCH_PAGE_MAX).contains(&limit) {
        return Err(malformed(format!("limit must be 1 to {SEARCH_PAGE_MAX}")));
    }
    let groups = groups_of(&core, query.group)?;
    let words = query.text.clone();
    let ask = SearchAskV1 {
        group: 0,
        filter: filter.into(),
        ascending,
        from: None,
        limit: limit as u32,
        bytes_max: 0,
        words,
    };
    let question = question_of(&ask, query.group);
    let mut cursor = match &query.cursor {
        None if query.from_end => end(&core, &groups, ascending, question).await?,
        None => Cursor { ascending, question, since_ns: 0, positions: BTreeMap::new() },
        Some(text) => Cursor::parse(text).ok_or_else(|| malformed("the cursor is none of ours"))?,
    };
    if (cursor.ascending, cursor.question) != (ascending, question) {
        return Err(malformed(
            "the cursor belongs to another question: filters, group and order must stay as they were",
        ));
    }
    if cursor.since_ns > 0 {
        filter.from_ns = Some(filter.from_ns.map_or(cursor.since_ns, |from_ns| from_ns.max(cursor.since_ns)));
        filter.times().ok_or_else(|| malformed("what is asked for was over when it was first asked"))?;
    }
    let ask = SearchAskV1 { filter: filter.into(), ..ask };
    let bytes_max = (PAGE_BYTES_MAX / groups.len().max(1)).min(SEARCH_BYTES_MAX) as u32;
    if let Some(text) = text {
        let with_cursors = query.cursors && ascending;
        let page = Page { groups, ask, cursor, limit, bytes_max, with_cursors };
        return text::page(&core, &view, page, &text).await;
    }
    let ask_of = |group: GroupId| {
        let from = cursor.positions.get(&group.0).copied();
        SearchAskV1 { group: group.0, from, bytes_max, ..ask.clone() }
    };
    let asks = groups.into_iter().map(ask_of).collect();
    let answers = all(&core, asks).await;
    let incomplete = answers.iter().filter(|(_, found)| found.is_none()).map(|(group, _)| *group).collect();
    let told = answers.into_iter().filter_map(|(group, found)| Some((group, found?))).collect();
    let merged = merge::merge(ascending, limit, told);
    let mut cursors = match query.cursors && ascending {
        true => cursor.behind_each(merged.hits.iter().map(|(group, hit)| (*group, hit.leaf_index))),
        false => Vec::new(),
    };
    cursor.positions.extend(merged.positions);
    let cursor = cursor.to_text();
    // Behind the last one is behind the page, which knows what was passed over too.
    if let Some(last) = cursors.last_mut() {
        last.clone_from(&cursor);
    }
    let found = merged.hits.into_iter().map(|(group, hit)| found_of(group, hit)).collect::<Result<_, _>>()?;
    let entries = inspect::entry_views(&core, &view, found).await;
    Ok(EntryPage { entries, cursor, more: merged.more, incomplete, cursors })
}

/// What a page is made of.
struct Page {
    groups: Vec<GroupId>,
    ask: SearchAskV1,
    cursor: Cursor,
    limit: usize,
    bytes_max: u32,
    with_cursors: bool,
}

fn found_of(group: u32, hit: Hit) -> Result<inspect::Found, Problem> {
    let broken = |error| Problem::new(Code::Internal, format!("leaf {} of group {group}: {error}", hit.leaf_index));
    let leaf = LeafV1::decode(&hit.leaf).map_err(broken)?;
    Ok(inspect::Found { leaf, bytes: hit.leaf, stored: hit.body })
}

/// Behind what every group has now. One that does not answer has no position: what it wrote since comes once it does.
async fn end(core: &Arc<Core>, groups: &[GroupId], ascending: bool, question: u32) -> Result<Cursor, Problem> {
    if !ascending {
        return Err(malformed("only oldest first can one ask from the end on"));
    }
    let since_ns = core.shared.world.clock.wall_ns().saturating_sub(NOW_SLACK.as_nanos() as u64).max(1);
    let newest = |group: &GroupId| SearchAskV1 {
        group: group.0,
        filter: Filter::default().into(),
        ascending: false,
        from: None,
        limit: 1,
        bytes_max: 1,
        words: None,
    };
    let answers = all(core, groups.iter().map(newest).collect()).await;
    // Where nothing was found at all, nothing is from where the search has come down to.
    let behind = |found: Found| found.hits.first().map_or(found.reached, |hit| hit.leaf_index.saturating_add(1));
    let positions = answers.into_iter().filter_map(|(group, found)| Some((group, behind(found?)))).collect();
    Ok(Cursor { ascending, question, since_ns, positions })
}

/// Asks every group, so many at once.
async fn all(core: &Arc<Core>, asks: Vec<SearchAskV1>) -> Vec<(u32, Option<Found>)> {
    let mut answers = Vec::with_capacity(asks.len());
    for some in asks.chunks(GROUPS_AT_ONCE) {
        let found = join_all(some.iter().map(|ask| anywhere(core, ask.clone()))).await;
        answers.extend(some.iter().map(|ask| ask.group).zip(found));
    }
    answers
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Code::MalformedRequest, detail)
}

/// What a cursor must have been made for.
fn question_of(ask: &SearchAskV1, group: Option<u32>) -> u32 {
    let asked = SearchAskV1 { group: group.unwrap_or(0), limit: 0, ..ask.clone() };
    crc32c::crc32c(&asked.to_bytes())
}

fn groups_of(core: &Core, group: Option<u32>) -> Result<Vec<GroupId>, Problem> {
    let mut all = core.groups().filter(|group| group.is_partition());
    match group.map(GroupId) {
        None => Ok(all.collect()),
        Some(group) if all.any(|known| known == group) => Ok(vec![group]),
        Some(group) => Err(malformed(format!("there is no partition group {group}"))),
    }
}

fn filter_of(core: &Core, view: &ControlView, query: &EntryQuery) -> Result<Filter, Problem> {
    let tenant = match &query.tenant {
        None => None,
        Some(name) => Some(view.tenant(name).ok_or_else(|| core.shared.no_tenant(name))?),
    };
    let keyed = |purpose: &str, name: &Option<String>| match (name, tenant) {
        (None, _) => Ok(None),
        (Some(_), None) => Err(malformed(format!("{purpose} is a name within a tenant: give both"))),
        (Some(name), Some(_)) if name.is_empty() || name.len() > NAME_BYTES_MAX => {
            Err(malformed(format!("{purpose} must have 1 to {NAME_BYTES_MAX} bytes")))
        }
        (Some(name), Some(tenant)) => Ok(Some(tenant.keys.keyed_id(purpose, name))),
    };
    let risk = |risk: Option<u16>| match risk {
        Some(risk) if risk > RISK_MAX => Err(malformed(format!("a risk is 0 to {RISK_MAX}"))),
        risk => Ok(risk),
    };
    let filter = Filter {
        agent: keyed("agent", &query.agent)?,
        session: keyed("session", &query.session)?,
        tool: keyed("tool", &query.tool)?,
        tenant: tenant.map(|tenant| tenant.id),
        from_ns: query.from_ns,
        to_ns: query.to_ns,
        verdict: query.verdict.as_deref().map(verdict_of).transpose()?,
        risk_min: risk(query.risk_min)?,
        risk_max: risk(query.risk_max)?,
        rule: query.rule.as_deref().map(rule_hash),
        kind: query.kind.as_deref().map(kind_of).transpose()?,
    };
    if filter.risks().0 > filter.risks().1 {
        return Err(malformed("risk_min is above risk_max"));
    }
    if filter.times().is_none() {
        return Err(malformed("from must be before to"));
    }
    Ok(filter)
}

fn verdict_of(word: &str) -> Result<u8, Problem> {
    let verdict = Verdict::from_word(word).map(|verdict| verdict as u8);
    verdict.ok_or_else(|| malformed("verdict must be allow, restrict, escalate, block or terminate"))
}

fn kind_of(word: &str) -> Result<u8, Problem> {
    let place = inspect::KINDS.iter().position(|kind| *kind == word);
    let unknown = || malformed(format!("kind must be one of {}", inspect::KINDS.join(", ")));
    place.map(|place| place as u8 + 1).ok_or_else(unknown)
}

/// Asks here, then the other replicas, until one has all of it. Only what they hold themselves, so that no two ask each
/// other in turn. `None` where nobody answered.
async fn anywhere(core: &Arc<Core>, ask: SearchAskV1) -> Option<Found> {
    if let Some(found) = here(core, &ask).await {
        return Some(found);
    }
    let (own, bytes) = (core.shared.options.node, ask.to_bytes());
    for node in core.placed(GroupId(ask.group)).into_iter().filter(|node| *node != own) {
        if let Some(found) = there(core, node, bytes.clone(), &ask).await {
            return Some(found);
        }
    }
    None
}

async fn there(core: &Core, node: NodeId, ask: Bytes, asked: &SearchAskV1) -> Option<Found> {
    let answer = core.shared.world.wire.call(node, Lane::Bulk, KIND_SEARCH, ask, SEARCH_PATIENCE).await.ok()?;
    let SearchedV1::Found { hits, reached, reached_ns, is_end } = SearchedV1::from_bytes(&answer).ok()? else {
        return None;
    };
    let hit = |HitV1 { leaf_index, at_ns, leaf, body }| Hit { leaf_index, at_ns, leaf, body };
    let found = Found { hits: hits.into_iter().map(hit).collect(), reached, reached_ns, is_end };
    (found.hits.len() <= asked.limit as usize).then_some(found)
}

/// This node's replica's part; `None` where it has none or does not have all of it.
async fn here(core: &Core, ask: &SearchAskV1) -> Option<Found> {
    let replica = core.partition(GroupId(ask.group))?;
    let order = if ask.ascending { Order::Ascending } else { Order::Descending };
    let limit = (ask.limit as usize).clamp(1, SEARCH_PAGE_MAX);
    let bytes_max = ask.bytes_max as usize;
    let search = Search { filter: ask.filter.clone().into(), order, from: ask.from, limit, bytes_max };
    let text = ask.words.as_deref().and_then(|words| TextQuery::parse(words).ok());
    let look = text.as_ref().zip(search.filter.tenant);
    let clock = &*core.shared.world.clock;
    let until = (clock, clock.now() + LOOK_PATIENCE);
    let look = look.map(|(query, tenant)| Look { texts: &core.shared.texts, tenant, query, until });
    let found = replica.store.search_with(&core.shared.index_cache, &search, look);
    match timeout(&*core.shared.world.clock, SEARCH_PATIENCE, found).await? {
        Ok(found) => Some(found),
        Err(error) => {
            tracing::warn!(group = ask.group, %error, "this replica cannot answer a question about its log");
            None
        }
    }
}

/// Another node's question.
pub async fn on_search(core: Arc<Core>, ask: SearchAskV1) -> Bytes {
    let answer = match here(&core, &ask).await {
        Some(Found { hits, reached, reached_ns, is_end }) => {
            let hit = |Hit { leaf_index, at_ns, leaf, body }| HitV1 { leaf_index, at_ns, leaf, body };
            SearchedV1::Found { hits: hits.into_iter().map(hit).collect(), reached, reached_ns, is_end }
        }
        None => SearchedV1::Absent,
    };
    answer.to_bytes()
}
