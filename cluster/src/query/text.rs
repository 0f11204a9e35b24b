//! A page of entries whose bodies have some words: candidates are looked for as always, opened by their groups' leaders, and kept
//! where [`TextQuery::matches`] says so.
//!
//! What indexes name is a candidate like any other, so a missing, stale or damaged index costs time and finds the same. What is
//! erased or has expired is not opened and so not found; what cannot be opened now is given as such, and never passed over. A page is bounded in bodies and says how far it came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nethical_protocol::error::Problem;
use nethical_protocol::limits::{SEARCH_PAGE_MAX, TEXT_BODIES_MAX};
use nethical_protocol::sometimes;

use super::cursor::Cursor;
use super::{Page, all, found_of, malformed, merge};
use crate::api::{EntryPage, EntryQuery};
use crate::control::view::ControlView;
use crate::inspect::{self, Found};
use crate::message::SearchAskV1;
use crate::node::Core;
use crate::opening::Opened;
use crate::text::words::TextQuery;

/// Bodies opened at a time.
const OPENED_AT_ONCE: usize = 256;
/// How long a page may take before it says how far it came.
const PATIENCE: Duration = Duration::from_secs(3);
/// Times that replicas are asked for one page.
const ROUNDS_MAX: usize = 16;

/// What is looked for, once its tenant is known to want that.
pub(super) fn query_of(view: &ControlView, query: &EntryQuery) -> Result<Option<TextQuery>, Problem> {
    let Some(text) = &query.text else { return Ok(None) };
    let Some(name) = &query.tenant else { return Err(malformed("text is searched within a tenant: give both")) };
    if view.tenant(name).is_some_and(|tenant| !tenant.text_search()) {
        let hint = format!("`nethical tenant put {name} --text-search on` turns it on");
        return Err(malformed(format!("tenant {name:?} has no text search; {hint}")));
    }
    TextQuery::parse(text).map(Some).map_err(malformed)
}

/// How one round ended.
struct Round {
    /// Candidates that were judged.
    judged: usize,
    /// Of those, places of the ones that match.
    matching: Vec<usize>,
    /// Records that match or of which nobody can tell, with their opened bodies.
    found: Vec<(Found, Opened)>,
}

/// The page.
pub(super) async fn page(
    core: &Arc<Core>,
    view: &ControlView,
    page: Page,
    text: &TextQuery,
) -> Result<EntryPage, Problem> {
    let Page { groups, ask, mut cursor, limit, bytes_max, with_cursors } = page;
    let (mut found, mut cursors, mut whole, mut opened) = (Vec::new(), Vec::new(), EntryPage::default(), 0);
    let clock = core.shared.world.clock.clone();
    let until = clock.now() + PATIENCE;
    for _ in 0..ROUNDS_MAX {
        let wanted = (TEXT_BODIES_MAX - opened).min(SEARCH_PAGE_MAX);
        let asks = groups.iter().map(|group| SearchAskV1 {
            group: group.0,
            from: cursor.positions.get(&group.0).copied(),
            bytes_max,
            limit: wanted as u32,
            ..ask.clone()
        });
        let answers = all(core, asks.collect()).await;
        whole.incomplete = answers.iter().filter(|(_, found)| found.is_none()).map(|(group, _)| *group).collect();
        let told: BTreeMap<u32, _> = answers.into_iter().filter_map(|(group, found)| Some((group, found?))).collect();
        let candidates = merge::merge(cursor.ascending, wanted, told.clone());
        let round = judge(core, &candidates.hits, text, limit - found.len()).await?;
        // Where the page is full before all were judged, groups go on behind the last one that was.
        let merged = match round.judged < candidates.hits.len() {
            true => merge::merge(cursor.ascending, round.judged, told),
            false => candidates,
        };
        opened += round.judged;
        if with_cursors {
            cursors.extend(cursors_of(&cursor, &merged.hits, &round.matching));
        }
        found.extend(round.found);
        cursor.positions.extend(merged.positions);
        whole.more = merged.more;
        let is_spent = opened >= TEXT_BODIES_MAX || clock.now() >= until;
        if found.len() >= limit || is_spent || !merged.more || !whole.incomplete.is_empty() {
            break;
        }
    }
    sometimes!(!found.is_empty(), "entries were found by their words");
    whole.cursor = cursor.to_text();
    if let Some(last) = cursors.last_mut() {
        last.clone_from(&whole.cursor);
    }
    whole.cursors = cursors;
    whole.entries =
        found.into_iter().map(|(record, opened)| inspect::entry_view(core, view, &record, opened)).collect();
    Ok(whole)
}

/// Opens candidates in their order until so many match.
async fn judge(
    core: &Arc<Core>,
    hits: &[(u32, crate::store::search::Hit)],
    text: &TextQuery,
    limit: usize,
) -> Result<Round, Problem> {
    let mut round = Round { judged: 0, matching: Vec::new(), found: Vec::new() };
    for some in hits.chunks(OPENED_AT_ONCE.min(limit.saturating_mul(2)).max(1)) {
        let records = some.iter().map(|(group, hit)| found_of(*group, hit.clone())).collect::<Result<Vec<_>, _>>()?;
        let opened = inspect::open_all(core, &records).await;
        for (record, opened) in records.into_iter().zip(opened) {
            if round.found.len() >= limit {
                return Ok(round);
            }
            let is_found = match &opened {
                Opened::Body(body) => text.matches(body),
                Opened::Unavailable(_) => true,
                Opened::None | Opened::Erased | Opened::Expired => false,
            };
            if is_found {
                round.matching.push(round.judged);
                round.found.push((record, opened));
            }
            round.judged += 1;
        }
    }
    Ok(round)
}

fn cursors_of(cursor: &Cursor, hits: &[(u32, crate::store::search::Hit)], matching: &[usize]) -> Vec<String> {
    let all = cursor.behind_each(hits.iter().map(|(group, hit)| (*group, hit.leaf_index)));
    matching.iter().filter_map(|at| all.get(*at).cloned()).collect()
}
