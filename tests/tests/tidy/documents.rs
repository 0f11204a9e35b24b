//! Documents against the code that they describe: error pages, routes, commands, the code map, metric names.

use std::collections::BTreeSet;

use nethical_client::Code;

/// The one test command of people and of CI.
const TEST_COMMAND: &str = "cargo test --workspace --locked";

/// Codes without a true page, and pages without a code.
pub fn missing_codes(book: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for code in Code::ALL {
        let Some(page) = page_of(book, code.as_str()) else {
            complaints.push(format!("docs/errors.md: no section `## {code}`"));
            continue;
        };
        let class = format!("{:?}", code.class()).to_lowercase();
        for line in [format!("Class: {class}. HTTP status: {}.", code.status()), code.advice().to_owned()] {
            if !page.contains(&line) {
                complaints.push(format!("docs/errors.md: `## {code}` does not say {line:?}"));
            }
        }
    }
    let titles: Vec<&str> = book.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let order: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    if complaints.is_empty() && titles != order {
        complaints.push(
            "docs/errors.md: sections beyond the codes, or in another order than protocol/src/error.rs".to_owned(),
        );
    }
    complaints
}

fn page_of<'a>(book: &'a str, code: &str) -> Option<&'a str> {
    let rest = book.split(&format!("\n## {code}\n")).nth(1)?;
    rest.split("\n## ").next()
}

/// Routes of the table that the README does not list, and the other way round.
pub fn route_differences(table: &str, readme: &str) -> Vec<String> {
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH"];
    let pair = |method: &str, path: &str| {
        (methods.contains(&method) && path.starts_with('/')).then(|| format!("{method} {path}"))
    };
    let real: BTreeSet<String> =
        table.lines().filter_map(|line| pair(line.split_whitespace().next()?, line.split('"').nth(1)?)).collect();
    let written: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`')?.0.split_once(' '))
        .filter_map(|(method, path)| pair(method, path))
        .collect();
    let missing = real.difference(&written).map(|route| format!("README.md: does not list {route}"));
    let invented = written.difference(&real).map(|route| format!("README.md: lists {route}, which does not exist"));
    let empty = real.is_empty().then(|| "no routes were found: the table is written differently now".to_owned());
    missing.chain(invented).chain(empty).collect()
}

/// The README's test command is CI's last step and `just verify`'s.
pub fn test_command_differences(readme: &str, ci: &str, justfile: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, text) in [("README.md", readme), (".ci/run", ci), ("justfile", justfile)] {
        if !text.lines().any(|line| line.trim_start_matches("step ").trim() == TEST_COMMAND) {
            complaints.push(format!("{name}: has no line `{TEST_COMMAND}`"));
        }
    }
    let last = ci.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    if !last.contains(TEST_COMMAND) {
        complaints.push(
            ".ci/run: the test command is not its last step, so cargo's summary is not its last output".to_owned(),
        );
    }
    complaints
}

/// Crates that the code map leaves out, and paths that it names and that do not exist.
pub fn code_map_differences(book: &str, manifests: &[(String, String)], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let map = book.split("## Code map").nth(1).unwrap_or_default().split("\n## ").next().unwrap_or_default();
    let unnamed = manifests.iter().filter(|(folder, _)| !map.contains(&format!("`{folder}/`")));
    let unnamed = unnamed.map(|(folder, _)| format!("ARCHITECTURE.md: the code map leaves out `{folder}/`"));
    let words = map.split('`').skip(1).step_by(2);
    let gone = words.filter(|word| word.contains('/') && !word.contains([' ', '*', '{']) && !exists(word));
    unnamed
        .chain(gone.map(|path| format!("ARCHITECTURE.md: the code map names `{path}`, which does not exist")))
        .collect()
}

/// References such as `ARCHITECTURE 5` or `SPEC G1` in code that lead to nothing in the book.
pub fn dangling_references(book: &str, path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(index, line)| {
            let decisions =
                line.split("ARCHITECTURE ").skip(1).flat_map(numbers).map(|number| format!("\n{number}. **"));
            let promises = line.split("SPEC G").skip(1).flat_map(numbers).map(|number| format!("\n- **G{number}** "));
            decisions.chain(promises).map(move |what| (index + 1, what)).collect::<Vec<_>>()
        })
        .filter(|(_, what)| !book.contains(what))
        .map(|(line, what)| format!("{path}:{line}: ARCHITECTURE.md has no {:?}", what.trim()))
        .collect()
}

/// The numbers at the beginning of a text: `3, 4)` gives 3 and 4.
fn numbers(text: &str) -> impl Iterator<Item = u32> {
    let list = text.split(|c: char| !(c.is_ascii_digit() || c == ',' || c == ' ')).next().unwrap_or_default();
    list.split(',').map_while(|number| number.trim().parse().ok())
}

/// Metric names in a dashboard or an alert that no code knows.
pub fn unknown_metrics(path: &str, text: &str, code: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names: BTreeSet<&str> = words.filter(|word| word.starts_with("nethical_")).collect();
    let base = |name: &str| {
        let suffix = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| name.strip_suffix(suffix));
        suffix.unwrap_or(name).to_owned()
    };
    let unknown = names.into_iter().filter(|name| !code.contains(&format!("\"{}\"", base(name))));
    unknown.map(|name| format!("{path}: {name} is a metric of nobody")).collect()
}

#[test]
fn a_missing_a_wrong_and_an_invented_page_are_told() {
    let page = |code: &Code| {
        let class = format!("{:?}", code.class()).to_lowercase();
        format!("\n## {code}\n\nClass: {class}. HTTP status: {}.\n\n{}\n", code.status(), code.advice())
    };
    let pages: Vec<String> = Code::ALL.iter().map(page).collect();
    let good = format!("# Errors\n{}", pages.concat());
    assert_eq!(missing_codes(&good), Vec::<String>::new());
    assert_eq!(missing_codes(&format!("# Errors\n{}", pages[1..].concat())).len(), 1);
    assert_eq!(missing_codes(&good.replacen("status: 400", "status: 200", 1)).len(), 1);
    assert_eq!(missing_codes(&good.replacen("Correct the field", "Mend the field", 1)).len(), 1);
    assert_eq!(missing_codes(&format!("{good}\n## on-fire\n")).len(), 1);
}

#[test]
fn a_missing_and_an_invented_route_are_told() {
    let table = "    GET    \"/livez\"   Open  Takes::Nothing => health::live;\n    PUT \"/v1/limits\" Admin Takes::Json => x;\n";
    let readme = "| `GET /livez` | alive |\n| `PUT /v1/limits` | set |\n| `nethical dev` | no route |\n";
    assert!(route_differences(table, readme).is_empty());
    assert_eq!(route_differences(table, "| `GET /livez` | alive |\n").len(), 1);
    assert_eq!(route_differences(table, &format!("{readme}| `GET /moon` | no |\n")).len(), 1);
    assert!(!route_differences("", "").is_empty());
}

#[test]
fn another_test_command_is_told() {
    let good = format!("x\n{TEST_COMMAND}\n");
    let step = format!("#!/bin/bash\nstep {TEST_COMMAND}\n");
    assert!(test_command_differences(&good, &step, &good).is_empty());
    assert_eq!(test_command_differences("cargo test\n", &step, &good).len(), 1);
    assert_eq!(test_command_differences(&good, &format!("{step}rm -r target\n"), &good).len(), 1);
}

#[test]
fn a_map_of_another_country_is_told() {
    let crates = [("door".to_owned(), String::new())];
    let exists = |path: &str| path == "door/" || path == "door/src/key.rs";
    assert!(
        code_map_differences("## Code map\n`door/` and `door/src/key.rs`, `key`\n## Next\n`a/b`", &crates, exists)
            .is_empty()
    );
    assert_eq!(code_map_differences("## Code map\n`door/src/key.rs`\n", &crates, exists).len(), 1);
    assert_eq!(code_map_differences("## Code map\n`door/`, `door/src/lock.rs`\n", &crates, exists).len(), 1);
}

#[test]
fn a_reference_to_nothing_is_told() {
    let book = "## Promises\n- **G1** x\n## Decisions\n3. **Entry** x\n4. **Body** x\n";
    assert!(dangling_references(book, "a.rs", "//! see (ARCHITECTURE 3, 4) and SPEC G1, ARCHITECTURE.md").is_empty());
    assert_eq!(dangling_references(book, "a.rs", "//! (ARCHITECTURE 3, 5)\n//! SPEC G2").len(), 2);
}

#[test]
fn an_unknown_metric_is_told() {
    let code = "pub const A: &str = \"nethical_latency_seconds\";";
    assert!(unknown_metrics("a.yml", "rate(nethical_latency_seconds_bucket[5m])", code).is_empty());
    assert_eq!(unknown_metrics("a.yml", "nethical_moonlight_total", code).len(), 1);
}
