//! `nethical policy validate`: every problem of a bundle at once, with the code that the cluster uses. Needs no cluster.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use nethical_governance::policy::{Bundle, PolicyError};

use crate::output::{self, Exit, Format, stop};

#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Cedar policies.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    valid: bool,
    /// SHA-256 of the text, under which a cluster knows the bundle; absent where it is not valid.
    digest: Option<String>,
    /// Rules in the bundle; absent where it is not valid.
    rules: Option<usize>,
    problems: Vec<PolicyError>,
}

/// Validates a bundle. An error names how many problems there are; they are printed before.
pub fn run(args: &ValidateArgs, format: Format) -> anyhow::Result<()> {
    let report = report_of(&args.file, &super::read(&args.file)?);
    match format {
        Format::Json => output::print_json(&report)?,
        Format::Table => print(&report)?,
    }
    match report.problems.len() {
        0 => Ok(()),
        count => Err(stop(Exit::Failed, format!("{}: {count} problems; nothing was sent to a cluster", report.file))),
    }
}

fn report_of(path: &Path, text: &str) -> Report {
    let file = path.display().to_string();
    match Bundle::check(text) {
        Ok(bundle) => {
            let (digest, rules) = (Some(hex::encode(bundle.digest())), Some(bundle.policy_count()));
            Report { file, valid: true, digest, rules, problems: Vec::new() }
        }
        Err(problems) => Report { file, valid: false, digest: None, rules: None, problems },
    }
}

fn print(report: &Report) -> anyhow::Result<()> {
    for problem in &report.problems {
        output::print_line(&line(&report.file, problem))?;
    }
    let (Some(rules), Some(digest)) = (report.rules, &report.digest) else { return Ok(()) };
    output::print_line(&format!("{}: valid, {rules} rules, SHA-256 {digest}", report.file))
}

/// `file:line:column: [rule] message`, as editors read it, and the hint on a line of its own.
pub fn line(file: &str, problem: &PolicyError) -> String {
    let rule = if problem.rule.is_empty() { String::new() } else { format!("[{}] ", problem.rule) };
    let help = if problem.help.is_empty() { String::new() } else { format!("\n    help: {}", problem.help) };
    format!("{file}:{}:{}: {rule}{}{help}", problem.line, problem.column, problem.message)
}

/// The error of a command that needs a valid bundle and has none: the first problem, and how many there are.
pub fn refusal(file: &str, problems: &[PolicyError]) -> anyhow::Error {
    let first = problems.first().map_or_else(String::new, |problem| line(file, problem));
    let rest = problems.len().saturating_sub(1);
    let more = if rest == 0 { String::new() } else { format!("\n{rest} more: `nethical policy validate {file}`") };
    stop(Exit::Failed, format!("{first}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_a_line_that_editors_read() {
        let text = "@id(\"a\") @verdict(\"stop\")\nforbid(principal, action == Action::\"fly\", resource);\n";
        let report = report_of(Path::new("x.cedar"), text);
        assert!(!report.valid && report.digest.is_none());
        let lines: Vec<String> = report.problems.iter().map(|problem| line(&report.file, problem)).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("x.cedar:1:10: [a] @verdict(\"stop\")"), "{lines:?}");
        assert!(lines[1].starts_with("x.cedar:2:29: [a] ") && lines[1].contains("\n    help: "), "{lines:?}");
    }

    #[test]
    fn json_has_the_documented_members() {
        let good = report_of(Path::new("x"), nethical_governance::policy::default_bundle_text());
        let value = serde_json::to_value(&good).expect("it is plain data");
        assert_eq!(value["valid"], true);
        assert_eq!(value["digest"].as_str().map(str::len), Some(64));
        let bad = serde_json::to_value(report_of(Path::new("x"), "permit(")).expect("it is plain data");
        let mut members: Vec<&String> = bad["problems"][0].as_object().expect("an object").keys().collect();
        members.sort();
        assert_eq!(members, ["column", "help", "line", "message", "rule"]);
    }
}
