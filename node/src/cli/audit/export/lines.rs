//! Entries as lines of text, each one JSON object: plain, within CloudEvents, or as OCSF events; to a file or standard output.
//!
//! A file grows a page at a time. What stands in it behind its place, half a page at most, is cut when it is gone on with.
#![allow(clippy::disallowed_methods, reason = "the command line writes the file that its user named")]

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nethical_cluster::api::EntryView;
use serde_json::json;

use super::place::{Place, Question, unwritten, with_suffix};
use super::{Form, ocsf};
use crate::output::{Exit, stop};

/// Where lines go.
pub enum Lines {
    /// To the end of a file.
    File {
        /// Open, at its end.
        file: File,
        /// Its name.
        path: PathBuf,
    },
    /// To standard output.
    Standard,
}

impl Lines {
    /// Opens a file to go on with, cut behind its last whole page; or a new one.
    ///
    /// # Errors
    /// Where the file is a folder, belongs to somebody else or to another question, or lacks what its place says.
    pub fn open(path: &Path, question: Question) -> anyhow::Result<(Self, Place)> {
        let refuse = |why: &str| Err(stop(Exit::Refused, format!("{} {why}", path.display())));
        if path.is_dir() {
            return refuse("is a folder, and lines go to a file; name a file, or ask for --lines parquet");
        }
        let place = match Place::read(&place_file(path), path, &question)? {
            None if path.exists() => {
                return refuse("is no export that can be gone on with; name another file, or remove it");
            }
            Some(found) => found,
            None => {
                // First of all, so that a file whose first page does not get through is known as ours.
                let place = Place { question, ..Place::default() };
                place.keep(&place_file(path))?;
                place
            }
        };
        let open = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(path);
        let mut file = open.with_context(|| format!("opening {}; can this folder be written?", path.display()))?;
        if file.metadata()?.len() < place.bytes {
            return refuse("is shorter than its place file says; bring it back, or name another file");
        }
        file.set_len(place.bytes)?;
        file.seek(SeekFrom::End(0))?;
        Ok((Self::File { file, path: path.to_owned() }, place))
    }

    /// Writes a page of lines and notes it. False where nobody reads any more.
    pub fn take(&mut self, lines: &str, place: &Place) -> anyhow::Result<bool> {
        match self {
            Self::Standard => {
                let mut out = std::io::stdout().lock();
                match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
                    done => done.map(|()| true).context("writing to standard output"),
                }
            }
            Self::File { file, path } => {
                let written = file.write_all(lines.as_bytes()).and_then(|()| file.sync_data());
                written.with_context(|| unwritten(path))?;
                place.keep(&place_file(path))?;
                Ok(true)
            }
        }
    }
}

fn place_file(path: &Path) -> PathBuf {
    with_suffix(path, ".place")
}

/// One entry as a line, without its end.
pub fn line(entry: &EntryView, form: Form, cluster: &str) -> anyhow::Result<String> {
    let text = match form {
        Form::Ndjson | Form::Parquet => serde_json::to_string(entry)?,
        Form::Ocsf => serde_json::to_string(&ocsf::event(entry, cluster))?,
        // An id is unique within its source: the leaf's place within its log.
        Form::Cloudevents => serde_json::to_string(&json!({
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::entries::control;
    use super::*;

    #[test]
    fn a_line_is_an_entry_or_a_cloud_event_around_it() {
        let entry = control();
        let plain: EntryView =
            serde_json::from_str(&line(&entry, Form::Ndjson, "demo").expect("a line")).expect("an entry");
        assert_eq!(plain, entry);
        let event: serde_json::Value =
            serde_json::from_str(&line(&entry, Form::Cloudevents, "demo").expect("a line")).expect("an event");
        let wanted = json!({
            "specversion": "1.0", "id": "3.1.42", "source": "demo/p/3/1", "type": "nethical.audit.control",
            "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json", "data": entry,
        });
        assert_eq!(event, wanted);
    }

    #[test]
    fn an_export_goes_on_behind_its_last_whole_page_and_never_under_another_question() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("trail.ndjson");
        let question = vec![("lines".to_owned(), "ndjson".to_owned())];
        let (mut sink, place) = Lines::open(&path, question.clone()).expect("a new file");
        let page = Place { cursor: Some("c1".into()), bytes: 6, entries: 1, ..place };
        assert!(sink.take("first\n", &page).expect("written"));
        let Lines::File { file, .. } = &mut sink else { panic!("a file") };
        file.write_all(b"half a pa").expect("then the power went");
        let (mut sink, again) = Lines::open(&path, question.clone()).expect("the same file");
        assert_eq!(again, page);
        assert!(sink.take("second\n", &Place { bytes: 13, entries: 2, ..again }).expect("written"));
        assert_eq!(fs::read_to_string(&path).expect("it reads"), "first\nsecond\n");
        assert!(Lines::open(&path, Vec::new()).is_err(), "another question");
        fs::write(&path, "short").expect("written");
        assert!(Lines::open(&path, question.clone()).is_err(), "something is missing");
        fs::remove_file(place_file(&path)).expect("removed");
        assert!(Lines::open(&path, question.clone()).is_err(), "nobody's file is written over");
        assert!(Lines::open(dir.path(), question).is_err(), "a folder is no file");
    }

    #[test]
    fn a_file_whose_first_page_did_not_get_through_is_gone_on_with() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("trail.ndjson");
        let (sink, place) = Lines::open(&path, Question::new()).expect("a new file");
        let Lines::File { mut file, .. } = sink else { panic!("a file") };
        file.write_all(b"half a pa").expect("then the disk was full");
        let (mut sink, again) = Lines::open(&path, Question::new()).expect("the same file");
        assert_eq!(again, place);
        assert!(sink.take("first\n", &Place { bytes: 6, entries: 1, ..again }).expect("written"));
        assert_eq!(fs::read_to_string(&path).expect("it reads"), "first\n");
    }
}
