//! `nethical detect score`: precision and recall by type, by overlap of spans, on the labelled sentences of a file.

use std::collections::BTreeMap;

use serde::Serialize;

use nethical_governance::detect::score::{Labelled, Score, Tally};
use nethical_governance::detect::{DETECTORS_VERSION, Detectors};

use super::ScoreArgs;
use crate::cli::policy::read_within;
use crate::output::{self, Exit, Format, stop};

/// The largest file; a million sentences are read in one piece.
const FILE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Wrong lines that are told at once.
const PROBLEMS_SHOWN_MAX: usize = 10;

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Report {
    detectors_version: u16,
    sentences: usize,
    types: BTreeMap<&'static str, Ratios>,
    /// Labels of types that no detector has.
    not_looked_for: BTreeMap<String, u64>,
}

/// One type. A ratio over nothing is 1: there was nothing to miss, and nothing was found wrongly.
#[derive(Debug, Serialize)]
struct Ratios {
    precision: f64,
    recall: f64,
    tp: u64,
    fp: u64,
    #[serde(rename = "fn")]
    misses: u64,
}

impl Ratios {
    fn of(tally: &Tally) -> Self {
        let Tally { hits, false_alarms, misses } = *tally;
        let ratio = |of: u64| if of == 0 { 1.0 } else { hits as f64 / of as f64 };
        Self { precision: ratio(hits + false_alarms), recall: ratio(hits + misses), tp: hits, fp: false_alarms, misses }
    }
}

/// Scores a file.
pub fn run(args: &ScoreArgs, format: Format) -> anyhow::Result<()> {
    let text = read_within(&args.file, FILE_BYTES_MAX)?;
    let file = args.file.display().to_string();
    let report = report_of(&text).map_err(|problems| refusal(&file, &problems))?;
    match format {
        Format::Json => output::print_json(&report),
        Format::Table => print(&report),
    }
}

/// The report, or every wrong line with its number and what is wrong about it.
fn report_of(text: &str) -> Result<Report, Vec<(usize, String)>> {
    let (detectors, mut score) = (Detectors::new(), Score::new());
    let (mut sentences, mut problems) = (0, Vec::new());
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let labelled = serde_json::from_str::<Labelled>(line).map_err(|error| error.to_string());
        match labelled.and_then(|labelled| score.add(&detectors, &labelled)) {
            Ok(()) => sentences += 1,
            Err(why) => problems.push((number, why)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let types = score.types.iter().map(|(kind, tally)| (*kind, Ratios::of(tally))).collect();
    Ok(Report { detectors_version: DETECTORS_VERSION, sentences, types, not_looked_for: score.not_looked_for })
}

fn refusal(file: &str, problems: &[(usize, String)]) -> anyhow::Error {
    let shown = problems.iter().take(PROBLEMS_SHOWN_MAX).map(|(line, why)| format!("{file}:{line}: {why}"));
    let mut lines: Vec<String> = shown.collect();
    if problems.len() > PROBLEMS_SHOWN_MAX {
        lines.push(format!("{} more lines are wrong", problems.len() - PROBLEMS_SHOWN_MAX));
    }
    lines.push(
        "a line is {\"text\": \"…\", \"spans\": [{\"type\": \"…\", \"start\": 0, \"end\": 1}]}; nothing was scored"
            .into(),
    );
    stop(Exit::Usage, lines.join("\n"))
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut table = output::table(&["TYPE", "PRECISION", "RECALL", "HITS", "FALSE ALARMS", "MISSES"]);
    for (kind, ratios) in &report.types {
        let count = |number: u64| number.to_string();
        let ratio = |ratio: f64| format!("{ratio:.3}");
        table.add_row([
            (*kind).to_owned(),
            ratio(ratios.precision),
            ratio(ratios.recall),
            count(ratios.tp),
            count(ratios.fp),
            count(ratios.misses),
        ]);
    }
    output::print_table(&table, "nothing was scored")?;
    output::remark(&format!("{} sentences, detectors version {}", report.sentences, report.detectors_version));
    if !report.not_looked_for.is_empty() {
        let labels = report.not_looked_for.iter().map(|(kind, count)| format!("{kind} {count}"));
        output::remark(&format!("no detector looks for: {}", labels.collect::<Vec<_>>().join(", ")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_documented_members() {
        let text =
            "{\"text\": \"ssn 531-21-7351\", \"spans\": [{\"type\": \"US_SSN\", \"start\": 4, \"end\": 15}]}\n\n";
        let report = serde_json::to_value(report_of(text).expect("the line is right")).expect("it is plain data");
        let ssn = &report["types"]["US_SSN"];
        assert_eq!((ssn["precision"].as_f64(), ssn["recall"].as_f64()), (Some(1.0), Some(1.0)));
        assert_eq!((ssn["tp"].as_u64(), ssn["fp"].as_u64(), ssn["fn"].as_u64()), (Some(1), Some(0), Some(0)));
        assert_eq!(report["types"].as_object().map(serde_json::Map::len), Some(6));
    }

    #[test]
    fn every_wrong_line_is_named() {
        let text = "{\"text\": \"a\"}\nnot json\n{\"text\": \"a\", \"spans\": [{\"type\": \"X\", \"start\": 0, \"end\": 2}]}\n";
        let problems = report_of(text).expect_err("two lines are wrong");
        assert_eq!(problems.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
        let error = refusal("f", &problems);
        assert_eq!(output::exit_code(&error), 2);
        assert!(error.to_string().starts_with("f:2: expected") && error.to_string().contains("f:3: span X is 0..2"));
    }
}
