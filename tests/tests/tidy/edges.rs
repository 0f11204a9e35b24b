//! Which crate uses which: what the manifests say against what ARCHITECTURE.md says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::tree::ROOT;

/// The heading under which ARCHITECTURE.md lists the edges.
const HEADING: &str = "## Who may use whom";
/// What stands right of the arrow of a crate that uses none of ours.
const NOBODY: &str = "nobody";

/// Each crate's folder with the folders of the crates that it uses.
pub type Edges = BTreeMap<String, BTreeSet<String>>;

/// Every manifest of the workspace: folder and text.
pub fn manifests() -> Vec<(String, String)> {
    let read = |path: &str| std::fs::read_to_string(Path::new(ROOT).join(path)).expect("a manifest");
    let root: toml::Table = read("Cargo.toml").parse().expect("the workspace's manifest");
    let members = root["workspace"]["members"].as_array().expect("a list").iter().filter_map(|member| member.as_str());
    members.map(|member| (member.to_owned(), read(&format!("{member}/Cargo.toml")))).collect()
}

/// Edges that only one of the two knows.
pub fn differences(architecture: &str, manifests: &[(String, String)]) -> Vec<String> {
    let (written, real) = (written_edges(architecture), real_edges(manifests));
    let crates: BTreeSet<&String> = written.keys().chain(real.keys()).collect();
    let none = BTreeSet::new();
    let mut complaints = Vec::new();
    for name in crates {
        let (Some(written), Some(real)) = (written.get(name), real.get(name)) else {
            complaints.push(format!("{name}: is in the workspace or under `{HEADING}`, but not in both"));
            continue;
        };
        let unwritten = real
            .difference(written)
            .map(|used| format!("{name}/Cargo.toml: uses {used}; ARCHITECTURE.md does not allow it"));
        let unused = written.difference(real).map(|used| format!("ARCHITECTURE.md: {name} → {used} is in no manifest"));
        complaints.extend(unwritten.chain(unused));
    }
    if written == Edges::new() || real.values().all(|used| *used == none) {
        complaints.push("no edges were found at all".to_owned());
    }
    complaints
}

/// Lines such as `cluster, sim → governance, audit` under the heading.
fn written_edges(architecture: &str) -> Edges {
    let section = architecture.split(HEADING).nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let names = |list: &str| list.split(',').map(|name| name.trim().to_owned()).collect::<BTreeSet<_>>();
    let mut edges = Edges::new();
    for (users, used) in section.lines().filter_map(|line| line.split_once('→')) {
        let used = names(used).into_iter().filter(|name| name != NOBODY);
        let used: BTreeSet<String> = used.collect();
        names(users).into_iter().for_each(|user| edges.entry(user).or_default().extend(used.clone()));
    }
    edges
}

fn real_edges(manifests: &[(String, String)]) -> Edges {
    let of = |text: &str| {
        let manifest: toml::Table = text.parse().expect("a manifest");
        let tables = ["dependencies", "dev-dependencies", "build-dependencies"].map(|table| manifest.get(table));
        let names = tables.into_iter().flatten().filter_map(|table| table.as_table()).flat_map(|table| table.keys());
        names.filter_map(|name| name.strip_prefix("nethical-")).map(str::to_owned).collect()
    };
    manifests.iter().map(|(folder, text)| (folder.clone(), of(text))).collect()
}

/// Workspace dependencies without a comment above them or above the block that they end.
pub fn unexplained(manifest: &str) -> Vec<String> {
    let section = manifest.split("[workspace.dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let mut is_explained = false;
    let mut complaints = Vec::new();
    for line in section.lines() {
        match line.chars().next() {
            Some('#') => is_explained = true,
            Some(_) if !is_explained && !WELL_KNOWN.iter().any(|name| line.starts_with(&format!("{name} ="))) => {
                complaints.push(format!("Cargo.toml: no reason beside `{line}`"));
            }
            Some(_) => {}
            None => is_explained = false,
        }
    }
    complaints
}

/// Names that are their own reason.
const WELL_KNOWN: [&str; 5] = ["serde", "serde_json", "toml", "thiserror", "anyhow"];

#[test]
fn an_edge_that_only_one_side_knows_is_told() {
    let manifest = |uses: &[&str]| {
        let lines: String = uses.iter().map(|name| format!("{name}.workspace = true\n")).collect();
        format!("[package]\nname = \"x\"\n[dependencies]\n{lines}")
    };
    let book = "# A\n\n## Who may use whom\n```\nprotocol → nobody\naudit, node → protocol\nnode → audit\n```\n## Next\nx → y\n";
    let good = [
        ("protocol".to_owned(), manifest(&["serde"])),
        ("audit".to_owned(), manifest(&["nethical-protocol"])),
        ("node".to_owned(), manifest(&["nethical-protocol", "nethical-audit"])),
    ];
    assert_eq!(differences(book, &good), Vec::<String>::new());
    let mut upward = good.clone();
    upward[1].1 = manifest(&["nethical-protocol", "nethical-node"]);
    assert_eq!(differences(book, &upward).len(), 1);
    let mut hidden = good.clone();
    hidden[0].1.push_str("[dev-dependencies]\nnethical-audit.workspace = true\n");
    assert_eq!(differences(book, &hidden).len(), 1, "tests reach no further than the code");
    let mut unused = good.clone();
    unused[2].1 = manifest(&["nethical-protocol"]);
    assert_eq!(differences(book, &unused).len(), 1);
    assert_eq!(differences(book, &good[..2]).len(), 1, "a crate that is gone");
    assert!(!differences("", &good).is_empty());
}

#[test]
fn a_dependency_without_a_reason_is_told() {
    let manifest = |body: &str| format!("[workspace.dependencies]\n{body}\n[profile.dev]\nx = 1\n");
    assert!(unexplained(&manifest("# Why.\na = \"1\"\nb = \"1\"\nserde = \"1\"\n")).is_empty());
    assert_eq!(unexplained(&manifest("a = \"1\"\n")).len(), 1);
    assert_eq!(unexplained(&manifest("# Why.\na = \"1\"\n\nb = \"1\"\n")).len(), 1);
}
