//! Words that must not be in the repository: unfinished work, places that only one machine has, registry hosts.
//!
//! The words are put together from halves, so that this file does not find itself.

use crate::source::Source;

/// In code, comments and text alike.
const UNFINISHED: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
    concat!("#[ig", "nore"),
];

/// Folders of the machines on which this was written, and the hosts of package registries.
const PLACES: [&str; 8] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/.cargo"),
    concat!("crates", ".io"),
    concat!("docs", ".rs/"),
    concat!("registry.np", "mjs.org"),
    concat!("py", "pi.org"),
    concat!("pythonho", "sted.org"),
    concat!("proxy.go", "lang.org"),
];

/// Unfinished work.
pub fn unfinished(file: &Source) -> Vec<String> {
    found(&file.path, &file.text, &UNFINISHED, "is left unfinished or switched off")
}

/// Places. A lock file names its registry by nature.
pub fn places(path: &str, text: &str) -> Vec<String> {
    if path == "Cargo.lock" || path.ends_with("/Cargo.lock") {
        return Vec::new();
    }
    found(path, text, &PLACES, "names a place that only one machine or one registry has")
}

fn found(path: &str, text: &str, words: &[&str], why: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            let word = words.iter().find(|word| line.contains(**word))?;
            Some(format!("{path}:{}: `{word}` {why}", index + 1))
        })
        .collect()
}

#[test]
fn unfinished_work_is_told() {
    for word in UNFINISHED {
        let text = format!("fn f() {{}}\n// {word} later\n");
        let told = unfinished(&Source::new("a.rs", text));
        assert_eq!(told.len(), 1, "{word}");
        assert!(told[0].starts_with("a.rs:2:"), "{}", told[0]);
    }
    assert!(unfinished(&Source::new("a.rs", "// what there is to do; ignored; a methodology\n")).is_empty());
}

#[test]
fn places_are_told_and_the_lock_file_is_not() {
    for place in PLACES {
        assert_eq!(places("a.md", &format!("see\n{place}x\n")).len(), 1, "{place}");
        assert!(places("Cargo.lock", place).is_empty() && places("a/Cargo.lock", place).is_empty());
        assert_eq!(places("aCargo.lock", place).len(), 1, "{place}");
    }
    assert!(places("a.md", "/etc/nethical/node.toml, /var/lib/nethical, a framework/, 127.0.0.1\n").is_empty());
}
