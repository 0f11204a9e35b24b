//! `nethical audit export`: every entry that matches, to a file, a folder or standard output, in the form that others read.
//!
//! Beside what is written stands its place: what was asked, and where the cluster's cursor is. It is kept after each page is in
//! the file, or each part in the folder, so an export that was interrupted, or that is run again later, goes on behind that:
//! nothing is missing and nothing comes twice.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use nethical_cluster::api::{EntryPage, VerifierKeys};

use super::EndpointArgs;
use super::query::{FilterArgs, Pages, complete};
use crate::output::{self, Format};

pub mod columns;
#[cfg(test)]
mod entries;
pub mod lines;
pub mod ocsf;
pub mod parts;
pub mod place;

use lines::Lines;
use parts::Parts;
use place::{Place, Question};

/// Entries of one page.
const PAGE: u64 = 500;

/// Shown under `nethical audit export --help`.
pub const EXAMPLES: &str = "Oldest first. Run again with the same --out it goes on where it ended: FILE.place keeps the place,\n\
    or DIR/export.place. Parquet is a folder of parts of 50,000 entries or so, each there once it is whole.\n\n\
    Examples:\n  nethical audit export --out trail.ndjson\n  \
    nethical audit export --tenant airline --lines cloudevents | jq .type\n  \
    nethical audit export --lines ocsf --out trail.ocsf\n  \
    nethical audit export --lines parquet --out trail && duckdb -c \"FROM 'trail/*.parquet'\"";

/// What an entry becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// An entry as `audit query -o json` has it, a line each.
    Ndjson,
    /// A CloudEvents 1.0 event in its JSON form, with the entry as its data, a line each.
    Cloudevents,
    /// An event of OCSF 1.9.0, class API Activity, a line each.
    Ocsf,
    /// A row of a Parquet file; needs --out, which is a folder then.
    Parquet,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Where to write; standard output where left out. What is there is gone on with where an earlier export ended.
    #[arg(long, value_name = "FILE|DIR", required_if_eq("lines", "parquet"))]
    pub out: Option<PathBuf>,
    /// What an entry becomes.
    #[arg(long, value_enum, default_value_t = Form::Ndjson)]
    pub lines: Form,
    /// Go on behind a cursor (standard output only; a file knows its own).
    #[arg(long, conflicts_with = "out")]
    pub cursor: Option<String>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// What `audit export` prints at its end, to standard error.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    entries: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<u32>,
    cursor: &'a str,
}

/// Where entries go, and how far they have come.
enum Sink {
    Lines { lines: Lines, place: Place, form: Form, cluster: String },
    Parts(Parts),
}

/// Carries the command out. Oldest first, so that what comes later is appended.
pub async fn run(args: ExportArgs, format: Format) -> anyhow::Result<()> {
    let admin = args.endpoint.connect()?;
    let cluster = admin.get::<VerifierKeys>(&["v1", "audit", "keys"], &[]).await?.cluster;
    let mut sink = Sink::open(&args, cluster)?;
    let (before, cursor) = (sink.entries(), sink.place().cursor.clone());
    let mut pages = Pages::new(admin, &args.filter, "asc", PAGE, cursor);
    let spinner = output::spinner("exporting");
    let all =
        write_all(&mut pages, &mut sink, |entries| spinner.set_message(format!("exporting: {entries} entries"))).await;
    // Pages that came before a node or a group went away are kept.
    let kept = sink.finish();
    spinner.finish_and_clear();
    let is_read = all?;
    kept?;
    if is_read { tell(sink.place(), before, format) } else { Ok(()) }
}

/// Writes page after page; false where nobody reads any more.
async fn write_all(pages: &mut Pages, sink: &mut Sink, progress: impl Fn(u64)) -> anyhow::Result<bool> {
    loop {
        let page = pages.next().await?;
        if !sink.take(&page)? {
            return Ok(false);
        }
        progress(sink.entries());
        // Nothing is skipped by going on later; but a file that lacks a group must not look whole.
        complete(&page)?;
        if !page.more {
            return Ok(true);
        }
    }
}

fn tell(place: &Place, before: u64, format: Format) -> anyhow::Result<()> {
    let cursor = place.cursor.as_deref().unwrap_or_default();
    let Place { entries, bytes, parts, .. } = *place;
    match format {
        Format::Json => output::remark(&serde_json::to_string(&Summary { entries, bytes, parts, cursor })?),
        Format::Table => {
            let parts = parts.map(|parts| format!(" in {parts} parts")).unwrap_or_default();
            output::remark(&format!("{} entries, {entries} in all{parts}; cursor {cursor}", entries - before));
        }
    }
    Ok(())
}

fn question_of(args: &ExportArgs) -> Question {
    let form = args.lines.to_possible_value().expect("no form is hidden").get_name().to_owned();
    let asked = args.filter.query().into_iter().chain([("lines", form)]);
    asked.map(|(name, value)| (name.to_owned(), value)).collect()
}

impl Sink {
    fn open(args: &ExportArgs, cluster: String) -> anyhow::Result<Self> {
        let (question, form) = (question_of(args), args.lines);
        if form == Form::Parquet {
            let dir = args.out.as_deref().unwrap_or(Path::new("."));
            return Parts::open(dir, question).map(Self::Parts);
        }
        let (lines, place) = match &args.out {
            Some(path) => Lines::open(path, question)?,
            None => (Lines::Standard, Place { question, cursor: args.cursor.clone(), ..Place::default() }),
        };
        Ok(Self::Lines { lines, place, form, cluster })
    }

    /// Takes a page. False where nobody reads any more.
    fn take(&mut self, page: &EntryPage) -> anyhow::Result<bool> {
        match self {
            Self::Parts(parts) => parts.take(&page.entries, &page.cursor).map(|()| true),
            Self::Lines { lines, place, form, cluster } => {
                let mut text = String::new();
                for entry in &page.entries {
                    text.push_str(&lines::line(entry, *form, cluster)?);
                    text.push('\n');
                }
                let (bytes, entries) = (place.bytes + text.len() as u64, place.entries + page.entries.len() as u64);
                let next = Place { cursor: Some(page.cursor.clone()), bytes, entries, ..place.clone() };
                let is_read = lines.take(&text, &next)?;
                *place = next;
                Ok(is_read)
            }
        }
    }

    /// Writes what waits.
    fn finish(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Parts(parts) => parts.write(),
            Self::Lines { .. } => Ok(()),
        }
    }

    fn entries(&self) -> u64 {
        match self {
            Self::Parts(parts) => parts.entries(),
            Self::Lines { place, .. } => place.entries,
        }
    }

    fn place(&self) -> &Place {
        match self {
            Self::Parts(parts) => &parts.kept,
            Self::Lines { place, .. } => place,
        }
    }
}
