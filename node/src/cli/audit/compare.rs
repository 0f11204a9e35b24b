//! `nethical audit compare`: what a client was told against what the audit trail holds.

use std::collections::BTreeSet;

use serde::Serialize;

use nethical_cluster::api::EntryPage;

use super::CompareArgs;
use super::query::complete;
use crate::cli::http::Admin;
use crate::cli::journal::{self, Record};
use crate::demo::check::{self, Recorded, Told};
use crate::output::{self, Exit, Format, stop};

/// Pages of 1,000 entries that are read at most: ten million decisions, about 2 GB of memory.
const PAGES_MAX: usize = 10_000;

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    sent: usize,
    told: usize,
    recorded: usize,
    /// Of those sent, decided without the client having been told.
    untold: usize,
    broken: Vec<String>,
}

/// Carries the command out.
pub async fn run(args: CompareArgs, format: Format) -> anyhow::Result<()> {
    let records = journal::read(&args.journal)?;
    let (sent, told) = split(&records);
    let recorded = recorded(&args.endpoint.connect()?).await?;
    let known: BTreeSet<&str> = told.iter().map(|told| told.request_id.as_str()).collect();
    let own = recorded.iter().filter(|record| sent.contains(record.request_id.as_str()));
    let own: Vec<Recorded> = own.cloned().collect();
    let untold = own.iter().filter(|record| !known.contains(record.request_id.as_str())).count();
    let broken = check::told_decisions_are_recorded_once(&told, &own);
    let report =
        Report { ok: broken.is_empty(), sent: sent.len(), told: told.len(), recorded: own.len(), untold, broken };
    match format {
        Format::Json => output::print_json(&report)?,
        Format::Table => output::print_line(&format!(
            "{} sent, {} acknowledged, {} recorded ({untold} of them without an acknowledgement)",
            report.sent, report.told, report.recorded
        ))?,
    }
    if report.ok { Ok(()) } else { Err(stop(Exit::Failed, report.broken.join("; "))) }
}

/// The ids sent, and the decisions told.
fn split(records: &[Record]) -> (BTreeSet<&str>, Vec<Told>) {
    let mut sent = BTreeSet::new();
    let mut told = Vec::new();
    for record in records {
        match record {
            Record::Sent { request_id, .. } => drop(sent.insert(request_id.as_str())),
            Record::Answered { request_id, decision_id, verdict, leaf_hash, .. } => told.push(Told {
                request_id: request_id.clone(),
                decision_id: decision_id.clone(),
                verdict: *verdict,
                leaf_hash: leaf_hash.clone(),
            }),
            Record::Failed { .. } => {}
        }
    }
    (sent, told)
}

/// All decisions that the audit trail holds, read page by page through one node.
pub async fn recorded(admin: &Admin) -> anyhow::Result<Vec<Recorded>> {
    let (mut records, mut cursor) = (Vec::new(), None);
    for _ in 0..PAGES_MAX {
        let mut query = vec![("limit", "1000".to_owned()), ("order", "asc".to_owned())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: EntryPage = admin.get(&["v1", "audit", "entries"], &query).await?;
        complete(&page)?;
        records.extend(page.entries.into_iter().filter_map(|entry| {
            let decision = entry.decision?;
            Some(Recorded {
                request_id: decision.request_id,
                decision_id: entry.decision_id.to_string(),
                verdict: decision.verdict,
                leaf_hash: entry.leaf_hash,
            })
        }));
        if !page.more {
            return Ok(records);
        }
        cursor = Some(page.cursor);
    }
    anyhow::bail!("the audit trail has more than {PAGES_MAX} pages of 1,000 entries; compare a shorter run")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nethical_protocol::decision::Verdict;
    use nethical_protocol::error::{Class, Code};

    #[test]
    fn a_journal_splits_into_what_was_sent_and_what_was_told() {
        let sent = |id: &str| Record::Sent { request_id: id.into(), tenant: "t".into(), agent: "a".into() };
        let answered = Record::Answered {
            request_id: "r1".into(),
            decision_id: "2.1.0".into(),
            verdict: Verdict::Allow,
            leaf_hash: "h".into(),
            decided_at_ns: 1,
        };
        let failed = Record::Failed { request_id: "r2".into(), code: Code::OutcomeUnknown, class: Class::Unknown };
        let records = [sent("r1"), sent("r2"), answered, failed];
        let (sent, told) = split(&records);
        assert_eq!((sent.len(), told.len()), (2, 1));
        assert_eq!(told[0].decision_id, "2.1.0");
    }
}
