//! `nethical detect explain`: what is found in one text, where, how bad it is, and which disguises were taken off first.

use std::io::Read;

use anyhow::Context;
use serde::Serialize;

use nethical_governance::detect::score::byte_offsets;
use nethical_governance::detect::{DETECTORS_VERSION, Detectors, Span, label, name};
use nethical_governance::normalise::{Form, Normalised};
use nethical_protocol::limits::BODY_BYTES_MAX;

use super::ExplainArgs;
use crate::output::{self, Exit, Format, stop};

/// Characters of a cut that a table shows.
const CUT_CHARACTERS_MAX: usize = 60;

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Report {
    detectors_version: u16,
    /// False where the text was too dense with decoys to be looked at whole.
    complete: bool,
    spans: Vec<Found>,
    normalised: Taken,
}

#[derive(Debug, Serialize)]
struct Found {
    #[serde(rename = "type")]
    kind: &'static str,
    detector: &'static str,
    /// 1 to 1000.
    severity: u16,
    /// First character.
    start: usize,
    /// Past the last character.
    end: usize,
    text: String,
}

/// What normalisation did.
#[derive(Debug, Serialize)]
struct Taken {
    changed: bool,
    /// Characters that nobody sees: dropped, or revealed where they spell something.
    invisible: usize,
    /// The text that detectors looked at; absent where it is the one given.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Explains a text.
pub fn run(args: &ExplainArgs, format: Format) -> anyhow::Result<()> {
    let text = if args.text == "-" { read_input()? } else { args.text.clone() };
    let report = report_of(&text);
    match format {
        Format::Json => output::print_json(&report),
        Format::Table => print(&report),
    }
}

fn read_input() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .take(BODY_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .context("reading standard input")?;
    if bytes.len() > BODY_BYTES_MAX {
        return Err(stop(Exit::Usage, format!("the text has more than {BODY_BYTES_MAX} bytes")));
    }
    let not_text = |error: std::string::FromUtf8Error| stop(Exit::Usage, format!("standard input: {error}"));
    String::from_utf8(bytes).map_err(not_text)
}

fn report_of(text: &str) -> Report {
    let findings = Detectors::new().scan_whole(text, Form::Plain);
    let offsets = byte_offsets(text);
    // Both ends are boundaries of characters, so the search finds them.
    let character = |byte: usize| offsets.binary_search(&byte).unwrap_or_else(|place| place);
    let found = |span: &Span| Found {
        kind: label(span.detector),
        detector: name(span.detector),
        severity: span.severity,
        start: character(span.start),
        end: character(span.end),
        text: text[span.start..span.end].to_owned(),
    };
    let normalised = Normalised::of(text, Form::Plain);
    let changed = normalised.text() != text;
    Report {
        detectors_version: DETECTORS_VERSION,
        complete: findings.is_complete(),
        spans: findings.spans().iter().map(found).collect(),
        normalised: Taken {
            changed,
            invisible: normalised.invisible_count(),
            text: changed.then(|| normalised.text().to_owned()),
        },
    }
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut table = output::table(&["TYPE", "SEVERITY", "CHARACTERS", "TEXT"]);
    for found in &report.spans {
        let range = format!("{}..{}", found.start, found.end);
        table.add_row([found.kind.to_owned(), found.severity.to_string(), range, cut(&found.text)]);
    }
    output::print_table(&table, "nothing was found")?;
    if let Some(text) = &report.normalised.text {
        let invisible = report.normalised.invisible;
        output::remark(&format!("{invisible} invisible characters; looked at as: {}", cut(text)));
    }
    if !report.complete {
        output::remark("the text is too dense with decoys to be looked at whole");
    }
    Ok(())
}

/// One line of at most so many characters, without anything that a terminal would obey.
fn cut(text: &str) -> String {
    let shown: String = text.chars().take(CUT_CHARACTERS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().count() > CUT_CHARACTERS_MAX { format!("{shown}…") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_count_characters_of_the_text_as_given() {
        let report = report_of("é: call 041\u{200b} 123 45 67 now");
        let found: Vec<(&str, usize, usize)> =
            report.spans.iter().map(|span| (span.kind, span.start, span.end)).collect();
        assert_eq!(found, [("PHONE_NUMBER", 8, 22)]);
        assert_eq!(report.spans[0].text, "041\u{200b} 123 45 67");
        assert_eq!((report.normalised.changed, report.normalised.invisible), (true, 1));
        assert!(report_of("nothing").normalised.text.is_none());
        assert_eq!(cut("a\u{1b}[31m\u{200b}"), "a\\u{1b}[31m\\u{200b}");
    }
}
