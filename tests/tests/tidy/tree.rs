//! The repository's files, in order of path. Build output, version control and local clusters are left out.

use std::path::{Path, PathBuf};

use crate::source::Source;

/// The repository.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Folders at the root that hold no source: build output and what `nethical dev` leaves behind.
const SKIPPED: [&str; 5] = [".git", "target", "target-sim", "dev-data", "nethical-data"];
/// Folders below folders that are looked into; a bound against loops of links.
const DEPTH_MAX: usize = 12;

/// Every Rust file, read.
pub fn rust_files() -> Vec<Source> {
    let rust = text_files().into_iter().filter(|(path, _)| path.ends_with(".rs"));
    rust.map(|(path, text)| Source::new(path, text)).collect()
}

/// Every file that is UTF-8, with its path from the root.
pub fn text_files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(Path::new(ROOT), DEPTH_MAX, &mut found);
    let relative = |path: &Path| path.strip_prefix(ROOT).expect("found below the root").to_string_lossy().into_owned();
    let mut files: Vec<(String, String)> = found
        .iter()
        .filter_map(|path| Some((relative(path), String::from_utf8(std::fs::read(path).ok()?).ok()?)))
        .collect();
    files.sort();
    files
}

fn walk(folder: &Path, depth_left: usize, found: &mut Vec<PathBuf>) {
    let is_root = folder == Path::new(ROOT);
    for entry in std::fs::read_dir(folder).expect("a folder of the repository").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let kind = entry.file_type().expect("a kind");
        if kind.is_file() && !name.ends_with(".swp") {
            found.push(path);
        } else if kind.is_dir() && depth_left > 0 && !(is_root && SKIPPED.contains(&name.as_str())) {
            walk(&path, depth_left - 1, found);
        }
    }
}
