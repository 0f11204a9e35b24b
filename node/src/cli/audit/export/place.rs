//! How far an export has come, in a small file that is whole or absent: what was asked, and behind which page to go on.
//!
//! It says only what is durable already: whoever writes entries makes them durable first and keeps the place then.
#![allow(clippy::disallowed_methods, reason = "the command line writes the file that its user named")]

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::output::{Exit, stop};

/// What was asked, and in which form.
pub type Question = Vec<(String, String)>;

/// How far an export has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// What was asked, and the form of the entries.
    pub question: Question,
    /// Behind the last page that is written.
    pub cursor: Option<String>,
    /// Bytes that are written up to there, of all parts where there are parts.
    pub bytes: u64,
    /// Entries up to there.
    pub entries: u64,
    /// Files up to there, where a folder of them is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<u32>,
}

impl Place {
    /// The place that `file` keeps; none where there is no such file.
    ///
    /// # Errors
    /// Where it does not read, or is that of another question than was asked. `of` is what was exported, for words.
    pub fn read(file: &Path, of: &Path, question: &Question) -> anyhow::Result<Option<Self>> {
        let bytes = match fs::read(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("reading {}", file.display()))?,
        };
        let (file, of) = (file.display(), of.display());
        let Ok(place) = serde_json::from_slice::<Self>(&bytes) else {
            let hint = "name another place for a new export, or remove both and run it again from the start";
            return Err(stop(Exit::Refused, format!("{file} does not say how far {of} has come; {hint}")));
        };
        if place.question != *question {
            let asked: Vec<_> = place.question.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let hint = format!("ask the same ({}), or name another place", asked.join(" "));
            return Err(stop(Exit::Refused, format!("{of} is the export of another question; {hint}")));
        }
        Ok(Some(place))
    }

    /// Puts the place into `file` as a whole, durably.
    pub fn keep(&self, file: &Path) -> anyhow::Result<()> {
        put(file, &serde_json::to_vec(self)?)
    }
}

/// Writes a file aside, makes it durable and gives it its name: whoever looks sees all of it or what was there before.
pub fn put(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let aside = with_suffix(path, ".tmp");
    let written = || {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    written().with_context(|| unwritten(path))
}

/// What to say where writing fails: nothing that was noted is lost, and nothing has to be done again by hand.
pub fn unwritten(path: &Path) -> String {
    let hint = "once it can be written (is there room?), run the same command again: it goes on where it ended";
    format!("writing {}; {hint}", path.display())
}

/// A name with more behind it.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_for_the_same_question_and_refused_for_any_other() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, of) = (dir.path().join("trail.place"), dir.path().join("trail"));
        let question = vec![("lines".to_owned(), "ndjson".to_owned())];
        assert_eq!(Place::read(&file, &of, &question).expect("no file"), None);
        let place = Place { question: question.clone(), cursor: Some("c".into()), bytes: 7, entries: 1, parts: None };
        place.keep(&file).expect("kept");
        assert_eq!(Place::read(&file, &of, &question).expect("it reads"), Some(place));
        let error = Place::read(&file, &of, &Vec::new()).expect_err("another question").to_string();
        assert!(error.contains("ask the same (lines=ndjson)"), "{error}");
        fs::write(&file, "not a place").expect("written");
        let error = Place::read(&file, &of, &question).expect_err("it does not read").to_string();
        assert!(error.contains("name another place"), "{error}");
    }
}
