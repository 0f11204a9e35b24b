//! Looks for words in what was said and done, on every node, as somebody would who does not know where they are.
//!
//! What has which word is found out here in another way than the nodes do, from bodies as readers see them.

use std::collections::BTreeSet;

use serde_json::Value;

use nethical_cluster::api::{EntryQuery, EntryView, Governor};
use nethical_protocol::ids::{DecisionId, NodeId};
use nethical_protocol::probe;

use crate::check::text::{Sought, Told};
use crate::workload::SPREAD;
use crate::world::Fleet;

/// Words that are looked for on each node.
const WORDS: usize = 3;
/// Entries of a page; few, so that answers come in several.
const PAGE: usize = 40;
/// Pages of one answer before it is given up.
const PAGES_MAX: usize = 2_000;

/// True where this run's tenant wants its words indexed.
pub fn is_wanted() -> bool {
    probe::knob("text.every-ms", 0) > 0
}

/// What every node finds.
pub async fn gather(fleet: &Fleet) -> Vec<Sought> {
    let mut all = Vec::new();
    if !is_wanted() {
        return all;
    }
    for (node, living) in fleet.living() {
        let Ok(before) = pages(&living.governor, None, true).await else { continue };
        let mut answers = Vec::new();
        for (number, text) in sought(&before).into_iter().enumerate() {
            let found = pages(&living.governor, Some(text.clone()), number % 2 == 0).await.map(told_of);
            answers.push((text, found));
        }
        // What expires meanwhile, or could not be opened at one of the moments, may be found or not.
        let Ok(after) = pages(&living.governor, None, true).await else { continue };
        for (text, found) in answers {
            let there = matching(&before, &text).intersection(&matching(&after, &text)).copied().collect();
            let mut may_be = matching(&before, &text);
            may_be.extend(matching(&after, &text));
            all.push(Sought { node, text, there, may_be, found });
        }
    }
    all
}

/// Words and beginnings of words, common ones and rare ones, and one that nobody said.
fn sought(entries: &[EntryView]) -> Vec<String> {
    let step = (entries.len() / WORDS).max(1);
    let said: Vec<String> =
        entries.iter().step_by(step).filter_map(|entry| words_of(entry).into_iter().next()).collect();
    let mut texts: Vec<String> = said.iter().take(WORDS).cloned().collect();
    texts.extend(said.first().and_then(|word| word.get(..2)).map(|start| format!("{start}*")));
    texts.extend(["python".to_owned(), "xylophone".to_owned()]);
    texts
}

fn matching(entries: &[EntryView], text: &str) -> BTreeSet<DecisionId> {
    let has = |entry: &&EntryView| match text.strip_suffix('*') {
        Some(start) => words_of(entry).iter().any(|word| word.starts_with(start)),
        None => words_of(entry).contains(text),
    };
    entries.iter().filter(has).map(|entry| entry.decision_id).collect()
}

/// What was found, and what could not be opened when it was looked for.
fn told_of(entries: Vec<EntryView>) -> Vec<Told> {
    entries.into_iter().map(|entry| Told { id: entry.decision_id, is_read: entry.body.is_some() }).collect()
}

fn words_of(entry: &EntryView) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let Some(body) = &entry.body else { return words };
    for field in ["name", "resource", "args", "context", "reason", "approver"] {
        collect(&body[field], &mut words);
    }
    words
}

fn collect(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.values().for_each(|field| collect(field, words)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, words)),
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => split(&number.to_string(), words),
        Value::String(text) => split(text, words),
    }
}

fn split(text: &str, words: &mut BTreeSet<String>) {
    let text = text.to_lowercase();
    let parts = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.extend(parts.filter(|word| !word.is_empty()).map(str::to_owned));
}

async fn pages(governor: &dyn Governor, text: Option<String>, ascending: bool) -> Result<Vec<EntryView>, String> {
    let (mut entries, mut cursor) = (Vec::new(), None);
    for _ in 0..PAGES_MAX {
        let query = EntryQuery {
            tenant: Some(SPREAD.to_owned()),
            order: Some(if ascending { "asc" } else { "desc" }.to_owned()),
            limit: Some(PAGE),
            text: text.clone(),
            cursor,
            ..EntryQuery::default()
        };
        let page = governor.entries(query).await.map_err(|problem| problem.to_string())?;
        if !page.incomplete.is_empty() {
            return Err(format!("groups {:?} did not answer", page.incomplete));
        }
        entries.extend(page.entries);
        if !page.more {
            return Ok(entries);
        }
        cursor = Some(page.cursor);
    }
    Err("there was no end of pages".to_owned())
}

/// Named for the reports.
impl std::fmt::Display for Sought {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let NodeId(node) = self.node;
        write!(f, "{:?} on node {node}", self.text)
    }
}
