//! What code may name where: pure crates have no way to the outside, and some libraries have one door each.

use std::collections::BTreeSet;

use crate::source::Source;

/// Crates whose code is a function of its arguments.
const PURE: [&str; 3] = ["protocol/src/", "governance/src/", "audit/src/"];

/// Names that reach a clock, dice, a disk, the environment, a thread or a runtime.
const OUTSIDE: [&str; 11] = [
    "tokio",
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant",
    "SystemTime",
    "rand",
    "thread",
    "env",
    "stdin",
];

/// Libraries that only one part of the system may name: (crate, where it may).
const DOORS: [(&str, &str); 4] = [
    ("openraft", "cluster/src/replicate"),
    ("cedar_policy", "governance/src/policy"),
    ("axum", "node/src/door/http"),
    ("object_store", "cluster/src/world/objects"),
];

/// Files that are compiled for tests only, because the file that declares them says so.
pub fn test_files(files: &[Source]) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for file in files {
        let folder = match file.path.rsplit_once('/') {
            Some((folder, "lib.rs" | "main.rs")) => folder.to_owned(),
            _ => file.path.trim_end_matches(".rs").to_owned(),
        };
        let declared = file.code.split("#[cfg(test)]").skip(1).filter_map(|rest| {
            let mut rest = rest.trim_start();
            while let Some((_, behind)) = rest.strip_prefix("#[").and_then(|attribute| attribute.split_once("]\n")) {
                rest = behind.trim_start();
            }
            let (item, _) = rest.split_once(';')?;
            let name = item.trim_start_matches("pub ").trim_start_matches("pub(crate) ").strip_prefix("mod ")?;
            (!name.contains('{')).then(|| format!("{folder}/{name}.rs"))
        });
        tests.extend(declared);
    }
    tests
}

/// Names of the outside in a pure crate, tests excepted.
pub fn impure(file: &Source) -> Vec<String> {
    if !PURE.iter().any(|pure| file.path.starts_with(pure)) {
        return Vec::new();
    }
    let code = file.code_outside_tests();
    let lines = code.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            let name = OUTSIDE.iter().find(|name| names(line, name))?;
            Some(format!("{}:{}: a pure crate names `{name}`", file.path, index + 1))
        })
        .collect()
}

/// A library named outside its door.
pub fn escaped(file: &Source) -> Vec<String> {
    let strangers = DOORS.iter().filter(|(_, door)| !file.path.starts_with(door));
    strangers
        .filter(|(library, _)| file.code.lines().any(|line| names(line, &format!("{library}::"))))
        .map(|(library, door)| format!("{}: names {library}, which stays behind {door}", file.path))
        .collect()
}

/// True where the line names it as a path of its own: `tokio::…`, `Instant`, `env!`, but not `command` or `my_env`.
fn names(line: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_none_or(|c| !is_word(c) && c != '.');
        let after = line[at + name.len()..].chars().next().is_none_or(|c| name.ends_with(':') || !is_word(c));
        before && after
    })
}

#[test]
fn an_impure_line_is_told_and_tests_are_not() {
    let pure = |text: &str| impure(&Source::new("audit/src/a.rs", text));
    assert!(pure("//! tokio\nlet brand = operand(command, \"std::fs\"); // Instant\nself.env = 1;").is_empty());
    assert!(pure("fn f() {}\n#[cfg(test)]\nmod tests {\n use std::time::Instant;\n}\n").is_empty());
    for bad in [
        "use tokio::sync;",
        "std::fs::read(p)",
        "Instant::now()",
        "time::SystemTime",
        "use rand::Rng;",
        "env!(\"A\")",
        "std::thread::spawn(f)",
    ] {
        assert_eq!(pure(bad).len(), 1, "{bad}");
    }
    assert!(impure(&Source::new("cluster/src/a.rs", "use tokio::sync;")).is_empty());
}

#[test]
fn test_files_are_those_declared_for_tests() {
    let files = [
        Source::new("audit/src/lib.rs", "#[cfg(test)]\n#[allow(x, reason = \"y\")]\nmod vectors;\npub mod tree;"),
        Source::new(
            "audit/src/tree.rs",
            "mod tiles;\n#[cfg(test)]\nmod tree_tests;\n#[cfg(test)]\nmod tests {\n mod inner;\n}\n#[cfg(test)]\npub(crate) mod measured;",
        ),
    ];
    let expected = ["audit/src/tree/measured.rs", "audit/src/tree/tree_tests.rs", "audit/src/vectors.rs"];
    assert_eq!(test_files(&files), expected.map(str::to_owned).into_iter().collect());
}

#[test]
fn a_library_outside_its_door_is_told() {
    let text = "use openraft::Raft;";
    assert!(escaped(&Source::new("cluster/src/replicate/group.rs", text)).is_empty());
    assert_eq!(escaped(&Source::new("cluster/src/lead.rs", text)).len(), 1);
    assert!(escaped(&Source::new("cluster/src/lead.rs", "// openraft::Raft\nlet myopenraft::x;")).is_empty());
}
