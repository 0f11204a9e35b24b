//! The shape of files: how long, how they begin, what they are called.

use crate::source::{Source, end_of_item};

/// Lines of one file.
const FILE_LINES_MAX: usize = 500;
/// Lines of one function, from `fn` to its last brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer, each with its reason: (path, name, why). Empty is the aim.
const LONG_FUNCTIONS: [(&str, &str, &str); 0] = [];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["mod", "util", "utils", "common", "helpers", "misc"];

/// A file that is too long.
pub fn long_file(file: &Source) -> Vec<String> {
    let lines = file.text.lines().count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines; at most {FILE_LINES_MAX}. Which second idea is in it?", file.path)]
}

/// Functions that are too long.
pub fn long_functions(file: &Source) -> Vec<String> {
    let long = functions(&file.code).into_iter().filter(|(_, _, lines)| *lines > FUNCTION_LINES_MAX);
    let excused = |name: &str| LONG_FUNCTIONS.iter().any(|(path, known, _)| *path == file.path && *known == name);
    let complaint = |(name, line, lines): (String, usize, usize)| {
        format!("{}:{line}: fn {name} has {lines} lines; at most {FUNCTION_LINES_MAX}", file.path)
    };
    long.filter(|(name, ..)| !excused(name)).map(complaint).collect()
}

/// Every function with a body: name, first line, number of lines.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let chars: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let mut line = 1;
    for at in 0..chars.len() {
        line += usize::from(chars[at] == '\n');
        let starts_word = at == 0 || !(chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        if !starts_word || !chars[at..].starts_with(&['f', 'n', ' ']) {
            continue;
        }
        let name: String = chars[at + 3..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
        let end = end_of_item(&chars, at);
        let lines = chars[at..end].iter().filter(|c| **c == '\n').count() + 1;
        if !name.is_empty() && chars[end - 1] == '}' {
            found.push((name, line, lines));
        }
    }
    found
}

/// A file that does not open with `//!`.
pub fn silent_file(file: &Source) -> Vec<String> {
    let opening = file.text.lines().next().unwrap_or_default();
    match opening.strip_prefix("//! ") {
        Some(words) if words.split_whitespace().count() >= 3 => Vec::new(),
        _ => vec![format!("{}:1: does not open with `//!` and what it is for", file.path)],
    }
}

/// A file or folder named after nothing.
pub fn empty_name(file: &Source) -> Vec<String> {
    let stem = file.path.trim_end_matches(".rs");
    let bad = stem.split('/').find(|part| EMPTY_NAMES.contains(part));
    bad.map(|part| format!("{}: `{part}` says nothing about what is inside", file.path)).into_iter().collect()
}

#[test]
fn a_long_file_is_told() {
    assert!(long_file(&Source::new("a.rs", "x\n".repeat(500))).is_empty());
    assert_eq!(long_file(&Source::new("a.rs", "x\n".repeat(501))).len(), 1);
}

#[test]
fn a_long_function_is_told_and_braces_in_text_do_not_confuse() {
    let body = "    let a = \"}\"; // }\n".repeat(68);
    let fits = format!(
        "//! x\ntrait T {{ fn declared(&self); }}\nimpl X {{\n  pub async fn f(a: [u8; 2]) -> Vec<u8> {{\n{body}  }}\n}}\n"
    );
    assert!(long_functions(&Source::new("a.rs", fits.clone())).is_empty());
    let long = fits.replace("-> Vec<u8> {\n", "-> Vec<u8> {\n\n");
    let told = long_functions(&Source::new("a.rs", long));
    assert_eq!(told, ["a.rs:4: fn f has 71 lines; at most 70"]);
}

#[test]
fn a_silent_file_is_told() {
    assert!(silent_file(&Source::new("a.rs", "//! Opens the door.\n")).is_empty());
    for bad in ["", "use a;\n", "// Opens the door.\n", "//! placeholder\n", "\n//! Opens the door.\n"] {
        assert_eq!(silent_file(&Source::new("a.rs", bad)).len(), 1, "{bad:?}");
    }
}

#[test]
fn an_empty_name_is_told() {
    assert!(empty_name(&Source::new("cluster/src/model.rs", "")).is_empty());
    for bad in ["a/src/mod.rs", "a/src/util.rs", "a/tests/common/x.rs", "a/src/helpers.rs"] {
        assert_eq!(empty_name(&Source::new(bad, "")).len(), 1, "{bad}");
    }
}
