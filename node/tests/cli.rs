//! The command line as a stranger meets it: help, mistakes and exit codes. No node runs here; that is for `tests/`.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use std::process::{Command, Output};

fn nethical(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nethical")).args(arguments).output().expect("it runs")
}

/// What `--help` prints for a command, and the commands below it.
fn help(path: &[&str]) -> (String, Vec<String>) {
    let output = nethical(&[path, &["--help"]].concat());
    assert_eq!(output.status.code(), Some(0), "{path:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let below = text.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let lines = below.lines().take_while(|line| !line.is_empty());
    // A command stands two blanks in; what goes on in the next line stands deeper.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let names = names.map(str::to_owned).collect();
    (text, names)
}

fn leaves(path: &[&str], found: &mut Vec<(String, String)>) {
    let (text, below) = help(path);
    if below.is_empty() {
        found.push((path.join(" "), text));
    }
    for name in &below {
        leaves(&[path, &[name.as_str()]].concat(), found);
    }
}

#[test]
fn every_command_has_help_with_an_example_of_itself() {
    let mut found = Vec::new();
    leaves(&[], &mut found);
    assert!(found.len() > 40, "{} commands", found.len());
    for (command, text) in found {
        assert!(
            text.contains(&format!("\n  nethical {command}")),
            "no example in `nethical {command} --help`:\n{text}"
        );
    }
}

#[test]
fn mistakes_end_with_their_code_and_say_what_is_wrong() {
    let cases: [(&[&str], i32, &str); 4] = [
        (&["bogus"], 2, "bogus"),
        (&["audit", "query", "--endpoint", "127.0.0.1:1"], 1, "nethical dev"),
        (&["audit", "verify", "--data", "/nonexistent"], 1, "/nonexistent"),
        (&["limit", "set", "tenant"], 2, "--help"),
    ];
    for (arguments, code, said) in cases {
        let output = nethical(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(said) && output.stdout.is_empty(), "{arguments:?}: {error}");
    }
}
