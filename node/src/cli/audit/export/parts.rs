//! Entries as Parquet: a folder of numbered parts, because a Parquet file cannot be appended to.
//!
//! A part is written aside, made durable and renamed; then the place says so. A part that the place does not know, because the power
//! went between the two, is written again under the same number: every entry stands in one part. `DIR/*.parquet` is the export.
#![allow(clippy::disallowed_methods, reason = "the command line writes the folder that its user named")]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nethical_cluster::api::EntryView;

use super::columns::Columns;
use super::place::{Place, Question, put, unwritten};
use crate::output::{Exit, stop};

/// Rows of a part.
const PART_ROWS: u64 = 50_000;
/// Bytes of a part's values before they are packed: memory that an export takes, twice while a part is packed.
const PART_RAW_BYTES: usize = 64 * 1024 * 1024;
/// The place file's name in the folder.
const PLACE: &str = "export.place";

/// A folder that is written to.
pub struct Parts {
    dir: PathBuf,
    waiting: Columns,
    /// Behind the last page that was taken.
    cursor: Option<String>,
    /// As far as parts are written.
    pub kept: Place,
}

impl Parts {
    /// Opens a folder to go on with, behind its last whole part; or makes it.
    ///
    /// # Errors
    /// Where there is a file of that name, somebody else's files, another question's export, or not all parts that were written.
    pub fn open(dir: &Path, question: Question) -> anyhow::Result<Self> {
        let refuse = |why: String| Err(stop(Exit::Refused, format!("{} {why}", dir.display())));
        if dir.exists() && !dir.is_dir() {
            return refuse("is no folder, and Parquet is written as a folder of parts; name another place".into());
        }
        fs::create_dir_all(dir).with_context(|| unwritten(dir))?;
        let kept = match Place::read(&dir.join(PLACE), dir, &question)? {
            Some(kept) => kept,
            None if is_foreign(dir)? => {
                return refuse(
                    "is not empty and no export that can be gone on with; name another folder, or empty it".into(),
                );
            }
            None => {
                let place = Place { question, parts: Some(0), ..Place::default() };
                place.keep(&dir.join(PLACE))?;
                place
            }
        };
        let sizes = (0..kept.parts.unwrap_or(0)).map(|number| fs::metadata(part(dir, number)).map(|meta| meta.len()));
        match sizes.sum::<std::io::Result<u64>>() {
            Ok(bytes) if bytes == kept.bytes => {
                Ok(Self { dir: dir.to_owned(), waiting: Columns::default(), cursor: kept.cursor.clone(), kept })
            }
            found => {
                let found = found.map_or_else(|error| error.to_string(), |bytes| format!("{bytes} bytes"));
                let (parts, bytes) = (kept.parts.unwrap_or(0), kept.bytes);
                let hint = "bring them back, or name another folder for a new export";
                refuse(format!("does not have the {parts} parts of {bytes} bytes that were written ({found}); {hint}"))
            }
        }
    }

    /// Takes a page, behind which `cursor` leads on. A part is written once it is full.
    ///
    /// # Errors
    /// As [`Parts::write`]; and where an entry does not become a row, which lets go of all that is not written.
    pub fn take(&mut self, entries: &[EntryView], cursor: &str) -> anyhow::Result<()> {
        if let Err(error) = entries.iter().try_for_each(|entry| self.waiting.push(entry)) {
            // Half a page must not be written under a cursor that leads behind it or before it.
            (self.waiting, self.cursor) = (Columns::default(), self.kept.cursor.clone());
            return Err(error);
        }
        self.cursor = Some(cursor.to_owned());
        let is_full = self.waiting.rows >= PART_ROWS || self.waiting.raw_bytes >= PART_RAW_BYTES;
        if is_full { self.write() } else { Ok(()) }
    }

    /// Entries so far, those that wait for their part among them.
    pub fn entries(&self) -> u64 {
        self.kept.entries + self.waiting.rows
    }

    /// Writes what waits as a part, and notes it.
    ///
    /// # Errors
    /// Where the folder cannot be written. What waits goes on waiting then.
    pub fn write(&mut self) -> anyhow::Result<()> {
        let mut next = Place { cursor: self.cursor.clone(), ..self.kept.clone() };
        if self.waiting.rows > 0 {
            let (number, bytes) = (next.parts.unwrap_or(0), self.waiting.encode()?);
            put(&part(&self.dir, number), &bytes)?;
            next.parts = Some(number + 1);
            next.bytes += bytes.len() as u64;
            next.entries += self.waiting.rows;
        }
        next.keep(&self.dir.join(PLACE))?;
        (self.kept, self.waiting) = (next, Columns::default());
        Ok(())
    }
}

fn part(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("part-{number:05}.parquet"))
}

/// True where a folder has anything in it; a place that was not renamed yet is ours.
fn is_foreign(dir: &Path) -> anyhow::Result<bool> {
    let mut names = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    Ok(names.any(|name| name.is_ok_and(|name| name.file_name() != "export.place.tmp")))
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::super::entries;
    use super::*;

    fn question() -> Question {
        vec![("lines".to_owned(), "parquet".to_owned())]
    }

    fn rows(dir: &Path) -> Vec<i64> {
        let mut names: Vec<_> = fs::read_dir(dir).expect("a folder").map(|name| name.expect("a name").path()).collect();
        names.retain(|name| name.extension().is_some_and(|end| end == "parquet"));
        names.sort();
        let read = |name: &PathBuf| SerializedFileReader::new(fs::File::open(name).expect("a part")).expect("it reads");
        names.iter().map(|name| read(name).metadata().file_metadata().num_rows()).collect()
    }

    #[test]
    fn a_folder_goes_on_behind_its_last_noted_part_and_nothing_comes_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("trail");
        let mut parts = Parts::open(&dir, question()).expect("a new folder");
        parts.take(&entries::all(), "c1").expect("taken");
        assert_eq!((rows(&dir), parts.kept.entries, parts.entries()), (vec![], 0, entries::all().len() as u64));
        parts.write().expect("a part");
        parts.take(&[entries::control()], "c2").expect("taken");
        let before = fs::read(dir.join(PLACE)).expect("a place");
        parts.write().expect("a part");
        fs::write(dir.join(PLACE), before).expect("the power went before the place was kept");
        let mut parts = Parts::open(&dir, question()).expect("the same folder");
        assert_eq!((parts.kept.cursor.as_deref(), parts.kept.parts), (Some("c1"), Some(1)));
        parts.take(&[entries::control(), entries::control()], "c3").expect("taken");
        parts.write().expect("a part");
        assert_eq!(rows(&dir), [entries::all().len() as i64, 2]);
        parts.take(&[], "c4").expect("an empty page");
        parts.write().expect("nothing waits");
        assert_eq!((rows(&dir).len(), parts.kept.cursor.as_deref()), (2, Some("c4")));
    }

    #[test]
    fn what_is_somebody_elses_or_has_lost_a_part_is_refused_with_a_way_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let (dir, file) = (folder.path().join("trail"), folder.path().join("file"));
        let refused = |dir: &Path| Parts::open(dir, question()).map(|_| ()).expect_err("refused").to_string();
        fs::write(&file, "x").expect("written");
        assert!(refused(&file).contains("name another place"));
        assert!(refused(folder.path()).contains("name another folder"));
        let mut parts = Parts::open(&dir, question()).expect("a new folder");
        parts.take(&entries::all(), "c1").expect("taken");
        parts.write().expect("a part");
        assert!(Parts::open(&dir, Vec::new()).is_err(), "another question");
        fs::remove_file(part(&dir, 0)).expect("removed");
        assert!(refused(&dir).contains("bring them back"));
    }
}
