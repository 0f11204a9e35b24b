//! `nethical audit export`: every entry that matches, a line each, to a file or standard output.
//!
//! Beside a file stands its place file, `FILE.place`: what was asked, where the cluster's cursor is, and how many bytes of
//! the file belong to it. It is renamed into place after each page is in the file, so an export that was interrupted, or that
//! is run again later, goes on behind the last whole page: nothing is missing and nothing comes twice.
#![allow(clippy::disallowed_methods, reason = "the command line writes the file that its user named")]

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::json;

use nethical_cluster::api::{EntryView, VerifierKeys};

use super::EndpointArgs;
use super::query::{FilterArgs, Pages, complete};
use crate::output::{self, Exit, Format, stop};

/// Entries of one page.
const PAGE: u64 = 500;

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lines {
    /// An entry as `audit query -o json` has it.
    Ndjson,
    /// A CloudEvents 1.0 event in its JSON form, with the entry as its data.
    Cloudevents,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Where to write; standard output where left out. A file is gone on with where an earlier export ended.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// What a line is.
    #[arg(long, value_enum, default_value_t = Lines::Ndjson)]
    pub lines: Lines,
    /// Go on behind a cursor (standard output only; a file knows its own).
    #[arg(long, conflicts_with = "out")]
    pub cursor: Option<String>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// How far a file has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// What was asked, and the form of the lines.
    question: Vec<(String, String)>,
    /// Behind the last page in the file.
    cursor: Option<String>,
    /// Bytes of the file up to there.
    bytes: u64,
    /// Entries up to there.
    entries: u64,
}

/// What `audit export` prints at its end, to standard error.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    entries: u64,
    bytes: u64,
    cursor: &'a str,
}

/// Where lines go.
enum Sink {
    File { file: File, path: PathBuf },
    Standard,
}

/// Carries the command out. Oldest first, so that what comes later is appended.
pub async fn run(args: ExportArgs, format: Format) -> anyhow::Result<()> {
    let admin = args.endpoint.connect()?;
    let cluster = admin.get::<VerifierKeys>(&["v1", "audit", "keys"], &[]).await?.cluster;
    let question = question_of(&args);
    let (mut sink, mut place) = match &args.out {
        Some(path) => open(path, question)?,
        None => (Sink::Standard, Place { question, cursor: args.cursor.clone(), ..Place::default() }),
    };
    let before = place.entries;
    let mut pages = Pages::new(admin, &args.filter, "asc", PAGE, place.cursor.clone());
    let spinner = output::spinner("exporting");
    loop {
        let page = pages.next().await?;
        let mut lines = String::new();
        for entry in &page.entries {
            lines.push_str(&line(entry, args.lines, &cluster)?);
            lines.push('\n');
        }
        let cursor = Some(page.cursor.clone());
        let (bytes, entries) = (place.bytes + lines.len() as u64, place.entries + page.entries.len() as u64);
        let next = Place { question: place.question.clone(), cursor, bytes, entries };
        if !sink.take(&lines, &next)? {
            return Ok(());
        }
        place = next;
        spinner.set_message(format!("exporting: {} entries, {} bytes", place.entries, place.bytes));
        // Nothing is skipped by going on later; but a file that lacks a group must not look whole.
        complete(&page)?;
        if !page.more {
            break;
        }
    }
    spinner.finish_and_clear();
    let cursor = place.cursor.as_deref().unwrap_or_default();
    let Place { entries, bytes, .. } = place;
    match format {
        Format::Json => output::remark(&serde_json::to_string(&Summary { entries, bytes, cursor })?),
        Format::Table => output::remark(&format!("{} entries, {entries} in all; cursor {cursor}", entries - before)),
    }
    Ok(())
}

fn question_of(args: &ExportArgs) -> Vec<(String, String)> {
    let lines = match args.lines {
        Lines::Ndjson => "ndjson",
        Lines::Cloudevents => "cloudevents",
    };
    let asked = args.filter.query().into_iter().chain([("lines", lines.to_owned())]);
    asked.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// One entry as a line.
fn line(entry: &EntryView, lines: Lines, cluster: &str) -> anyhow::Result<String> {
    let text = match lines {
        Lines::Ndjson => serde_json::to_string(entry)?,
        // An id is unique within its source: the leaf's place within its log.
        Lines::Cloudevents => serde_json::to_string(&json!({
            "specversion": "1.0",
            "id": entry.decision_id.to_string(),
            "source": entry.decision_id.log.origin(cluster),
            "type": format!("nethical.audit.{}", entry.kind),
            "time": jiff::Timestamp::from_nanosecond(i128::from(entry.at_ns))?.to_string(),
            "datacontenttype": "application/json",
            "data": entry,
        }))?,
    };
    Ok(text)
}

fn place_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".place");
    PathBuf::from(name)
}

/// Opens a file to go on with, cut behind its last whole page; or a new one.
fn open(path: &Path, question: Vec<(String, String)>) -> anyhow::Result<(Sink, Place)> {
    let place = match fs::read(place_file(path)) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).with_context(|| format!("{} does not read", place_file(path).display()))?
        }
        Err(_) if path.exists() => {
            let hint = "name another file, or remove it";
            return Err(stop(
                Exit::Refused,
                format!("{} is no export that can be gone on with; {hint}", path.display()),
            ));
        }
        Err(_) => Place { question: question.clone(), ..Place::default() },
    };
    if place.question != question {
        let hint = "ask the same, or name another file";
        return Err(stop(Exit::Refused, format!("{} is the export of another question; {hint}", path.display())));
    }
    let open = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(path);
    let mut file = open.with_context(|| format!("opening {}", path.display()))?;
    if file.metadata()?.len() < place.bytes {
        return Err(stop(Exit::Refused, format!("{} is shorter than its place file says", path.display())));
    }
    file.set_len(place.bytes)?;
    file.seek(SeekFrom::End(0))?;
    Ok((Sink::File { file, path: path.to_owned() }, place))
}

impl Sink {
    /// Writes a page and notes it. False where nobody reads any more.
    fn take(&mut self, lines: &str, place: &Place) -> anyhow::Result<bool> {
        match self {
            Self::Standard => {
                let mut out = std::io::stdout().lock();
                match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
                    done => done.map(|()| true).context("writing to standard output"),
                }
            }
            Self::File { file, path } => {
                let failed = || format!("writing {}", path.display());
                file.write_all(lines.as_bytes()).and_then(|()| file.sync_data()).with_context(failed)?;
                let (kept, aside) = (place_file(path), place_file(&path.with_extension("tmp")));
                fs::write(&aside, serde_json::to_vec(place)?).with_context(failed)?;
                fs::rename(&aside, &kept).with_context(failed)?;
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nethical_protocol::ids::{DecisionId, GroupId, LogId};

    use super::*;

    fn entry() -> EntryView {
        EntryView {
            decision_id: DecisionId { log: LogId { group: GroupId(3), era: 1 }, leaf_index: 42 },
            kind: "control".into(),
            at_ns: 1_767_225_600_000_000_000,
            leaf_hash: "00".into(),
            decision: None,
            body: None,
            body_state: None,
        }
    }

    #[test]
    fn a_line_is_an_entry_or_a_cloud_event_around_it() {
        let plain: EntryView =
            serde_json::from_str(&line(&entry(), Lines::Ndjson, "demo").expect("a line")).expect("an entry");
        assert_eq!(plain, entry());
        let event: serde_json::Value =
            serde_json::from_str(&line(&entry(), Lines::Cloudevents, "demo").expect("a line")).expect("an event");
        let wanted = json!({
            "specversion": "1.0", "id": "3.1.42", "source": "demo/p/3/1", "type": "nethical.audit.control",
            "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json", "data": entry(),
        });
        assert_eq!(event, wanted);
    }

    #[test]
    fn an_export_goes_on_behind_its_last_whole_page_and_never_under_another_question() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("trail.ndjson");
        let question = vec![("lines".to_owned(), "ndjson".to_owned())];
        let (mut sink, place) = open(&path, question.clone()).expect("a new file");
        let page = Place { cursor: Some("c1".into()), bytes: 6, entries: 1, ..place };
        assert!(sink.take("first\n", &page).expect("written"));
        let Sink::File { file, .. } = &mut sink else { panic!("a file") };
        file.write_all(b"half a pa").expect("then the power went");
        let (mut sink, again) = open(&path, question.clone()).expect("the same file");
        assert_eq!(again, page);
        assert!(sink.take("second\n", &Place { bytes: 13, entries: 2, ..again }).expect("written"));
        assert_eq!(fs::read_to_string(&path).expect("it reads"), "first\nsecond\n");
        assert!(open(&path, Vec::new()).is_err(), "another question");
        fs::remove_file(place_file(&path)).expect("removed");
        assert!(open(&path, question).is_err(), "nobody's file is written over");
    }
}
