//! `nethical taxonomy`: what the ethical taxonomy makes of every violation type, and whether it knows them all.
#![allow(clippy::disallowed_methods, reason = "the command line reads the file that its user names")]

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;

use nethical_governance::taxonomy::{DIMENSIONS, Taxonomy};

use crate::output::{self, Exit, Format, stop};

/// Look at the ethical taxonomy by which decisions are explained.
#[derive(Debug, Subcommand)]
pub enum TaxonomyCommand {
    /// Show the dimensions of every violation type, and how many types are covered. Needs no cluster.
    #[command(
        after_help = "Scores are thousandths at full severity, weighed. Exits 1 where the file is wrong, or covers less than its \
        alert threshold.\n\n\
        Examples:\n  nethical taxonomy report\n  nethical taxonomy report --file taxonomy.json -o json"
    )]
    Report(ReportArgs),
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A taxonomy; the built-in one where left out.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// What `-o json` prints. All numbers but `types_mapped` and `types_known` are thousandths.
#[derive(Debug, Serialize)]
struct Report {
    version: String,
    coverage: u16,
    coverage_target: u16,
    coverage_alert: u16,
    types_known: usize,
    types_mapped: usize,
    types: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    violation: &'static str,
    mapped: bool,
    primary: Option<&'static str>,
    overall: u16,
    privacy: u16,
    manipulation: u16,
    fairness: u16,
    safety: u16,
}

/// Carries the command out.
pub fn run(command: TaxonomyCommand, format: Format) -> anyhow::Result<()> {
    let TaxonomyCommand::Report(args) = command;
    let taxonomy = args.file.as_deref().map_or_else(|| Ok(Taxonomy::default()), read)?;
    let report = report_of(&taxonomy);
    match format {
        Format::Json => output::print_json(&report)?,
        Format::Table => print(&report)?,
    }
    if report.coverage < report.coverage_alert {
        let message = format!("{} of {} violation types are mapped", report.types_mapped, report.types_known);
        return Err(stop(Exit::Failed, message));
    }
    Ok(())
}

/// A taxonomy's file, checked.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(path: &Path) -> anyhow::Result<Taxonomy> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Taxonomy::parse(&text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|what| format!("{}: {what}", path.display())).collect();
        stop(Exit::Failed, lines.join("\n"))
    })
}

fn report_of(taxonomy: &Taxonomy) -> Report {
    let coverage = taxonomy.coverage();
    let row = |(violation, meaning): &(&'static str, Option<nethical_governance::taxonomy::Meaning>)| {
        let [privacy, manipulation, fairness, safety] = meaning.map_or([0; 4], |meaning| meaning.scores);
        let primary = meaning.and_then(|meaning| meaning.primary).map(|place| DIMENSIONS[place]);
        let overall = meaning.map_or(0, |meaning| meaning.overall);
        Row { violation, mapped: meaning.is_some(), primary, overall, privacy, manipulation, fairness, safety }
    };
    let types: Vec<Row> = coverage.types.iter().map(row).collect();
    Report {
        version: taxonomy.version.clone(),
        coverage: coverage.covered,
        coverage_target: taxonomy.coverage_target,
        coverage_alert: taxonomy.coverage_alert,
        types_known: types.len(),
        types_mapped: types.iter().filter(|row| row.mapped).count(),
        types,
    }
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut table =
        output::table(&["VIOLATION", "PRIMARY", "PRIVACY", "MANIPULATION", "FAIRNESS", "SAFETY", "OVERALL"]);
    for row in &report.types {
        let primary = if row.mapped { row.primary.unwrap_or("-") } else { "(not mapped)" };
        let scores =
            [row.privacy, row.manipulation, row.fairness, row.safety, row.overall].map(|score| score.to_string());
        table.add_row([row.violation.to_owned(), primary.to_owned()].into_iter().chain(scores));
    }
    output::print_table(&table, "")?;
    let Report { types_mapped, types_known, coverage, coverage_target, .. } = report;
    let percent = |thousandths: u16| format!("{}.{} %", thousandths / 10, thousandths % 10);
    let (covered, target) = (percent(*coverage), percent(*coverage_target));
    output::print_line(&format!(
        "{types_mapped} of {types_known} violation types mapped: {covered}; the target is {target}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_names_every_type_once_with_its_primary_dimension() {
        let report = report_of(&Taxonomy::default());
        assert!(report.coverage >= report.coverage_target && report.types_known == report.types.len());
        let find = |name: &str| report.types.iter().find(|row| row.violation == name).expect("a type");
        assert_eq!((find("ssn").primary, find("dangerous").primary), (Some("privacy"), Some("safety")));
        assert_eq!(find("jailbreak").primary, Some("manipulation"));
    }

    #[test]
    fn a_file_that_is_missing_or_wrong_is_refused_with_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("taxonomy.json");
        assert!(format!("{:#}", read(&path).expect_err("there is none")).contains("taxonomy.json"));
        std::fs::write(&path, nethical_governance::taxonomy::default_text().replace("1.2", "12")).expect("written");
        let error = format!("{:#}", read(&path).expect_err("12 is too much"));
        assert!(error.contains("dimensions.privacy.severity_multiplier must be 0 to 10"), "{error}");
    }
}
