//! Tidy checks: what this repository promises about its own files, as tests that name file and line.
//!
//! Each check is a function over text in `tidy/`, with a twin beside it that hands it something bad and expects to be
//! told. This file runs them over the whole tree. They read; they change nothing and start nothing.
#![allow(clippy::disallowed_methods, reason = "reads the repository's own files")]

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/edges.rs"]
mod edges;
#[path = "tidy/purity.rs"]
mod purity;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;
#[path = "tidy/words.rs"]
mod words;

use std::path::Path;

use source::Source;
use tree::{ROOT, rust_files, text_files};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails with every complaint at once.
fn expect_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

fn over_rust(check: impl Fn(&Source) -> Vec<String>) {
    let files = rust_files();
    assert!(files.len() > 100, "only {} files were found: the walk is broken", files.len());
    expect_none(files.iter().flat_map(check).collect());
}

fn over_text(check: impl Fn(&str, &str) -> Vec<String>) {
    expect_none(text_files().iter().flat_map(|(path, text)| check(path, text)).collect());
}

#[test]
fn files_stay_under_five_hundred_lines() {
    over_rust(shape::long_file);
}

#[test]
fn functions_stay_under_seventy_lines() {
    over_rust(shape::long_functions);
}

#[test]
fn every_file_says_what_it_is_for() {
    over_rust(shape::silent_file);
}

#[test]
fn no_file_is_named_after_nothing() {
    over_rust(shape::empty_name);
}

#[test]
fn nothing_is_left_unfinished() {
    over_rust(words::unfinished);
}

#[test]
fn pure_crates_know_no_clock_no_dice_and_no_disk() {
    let files = rust_files();
    let tests = purity::test_files(&files);
    expect_none(files.iter().filter(|file| !tests.contains(&file.path)).flat_map(purity::impure).collect());
}

#[test]
fn libraries_stay_behind_their_one_door() {
    over_rust(purity::escaped);
}

#[test]
fn crates_use_each_other_as_the_architecture_says() {
    let manifests = edges::manifests();
    assert!(manifests.len() >= 9, "only {} crates were found: the walk is broken", manifests.len());
    expect_none(edges::differences(&read("ARCHITECTURE.md"), &manifests));
}

#[test]
fn every_dependency_has_its_reason_beside_it() {
    expect_none(edges::unexplained(&read("Cargo.toml")));
}

#[test]
fn no_file_names_a_workplace_or_a_registry() {
    over_text(words::places);
}

#[test]
fn every_error_code_has_its_page() {
    expect_none(documents::missing_codes(&read("docs/errors.md")));
}

#[test]
fn the_readme_lists_exactly_the_routes_that_exist() {
    expect_none(documents::route_differences(&read("node/src/door/http/routes.rs"), &read("README.md")));
}

#[test]
fn the_readme_and_ci_test_alike() {
    expect_none(documents::test_command_differences(&read("README.md"), &read(".ci/run"), &read("justfile")));
}

#[test]
fn the_code_map_names_every_crate_and_only_files_that_exist() {
    let exists = |path: &str| Path::new(ROOT).join(path).exists();
    expect_none(documents::code_map_differences(&read("ARCHITECTURE.md"), &edges::manifests(), exists));
}

#[test]
fn references_to_the_architecture_lead_somewhere() {
    let book = read("ARCHITECTURE.md");
    over_rust(|file| documents::dangling_references(&book, &file.path, &file.text));
}

#[test]
fn dashboards_and_alerts_use_metrics_that_exist() {
    let code: String = rust_files().into_iter().map(|file| file.text).collect();
    let deploy = text_files().into_iter().filter(|(path, _)| path.starts_with("deploy/"));
    expect_none(deploy.flat_map(|(path, text)| documents::unknown_metrics(&path, &text, &code)).collect());
}
