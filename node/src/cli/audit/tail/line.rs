//! One entry as one line: columns of fixed width that fit the terminal, or the JSON as it came.
//!
//! Names are what agents' builders chose: no control character of theirs reaches the terminal.

use anyhow::Context;

use nethical_cluster::api::EntryView;

use crate::cli::audit::query::word;
use crate::cli::audit::time;
use crate::output::{self, Format};

/// Columns of a line beside the two of names.
const OTHERS: usize = 59;
/// Columns of a name where standard output is no terminal.
const NAME_DEFAULT: usize = 24;

/// Prints entries.
pub struct Printer {
    format: Format,
    /// Columns of a name.
    name: usize,
    has_header: bool,
}

impl Printer {
    /// For a terminal so many columns wide, or for a file.
    pub fn new(format: Format, width: Option<usize>) -> Self {
        let name = width.map_or(NAME_DEFAULT, |width| (width.saturating_sub(OTHERS) / 2).clamp(8, 40));
        Self { format, name, has_header: false }
    }

    /// Prints an entry, given as JSON. False where nobody reads any more.
    pub fn print(&mut self, data: &str) -> anyhow::Result<bool> {
        if self.format == Format::Json {
            return output::tell_line(data);
        }
        let entry: EntryView = serde_json::from_str(data).context("the node sent an entry of another shape")?;
        if !std::mem::replace(&mut self.has_header, true) {
            let header = self.line(["TIME", "VERDICT", "RISK", "AGENT", "ACTION", "DECISION"].map(str::to_owned));
            output::tell_line(&header)?;
        }
        output::tell_line(&self.line(cells(&entry)))
    }

    fn line(&self, [time, verdict, risk, agent, action, decision]: [String; 6]) -> String {
        let name = self.name;
        let (agent, action) = (fit(&agent, name), fit(&action, name));
        format!("{time:<24}  {verdict:<9}  {risk:>4}  {agent:<name$}  {action:<name$}  {decision}")
    }
}

fn cells(entry: &EntryView) -> [String; 6] {
    let decision = entry.decision.as_ref();
    let dash = || "-".to_owned();
    [
        time(entry.at_ns),
        decision.map_or_else(dash, |decision| decision.verdict.as_str().to_owned()),
        decision.map_or_else(dash, |decision| decision.risk.score.to_string()),
        word(entry, "agent"),
        if entry.kind == "decision" { word(entry, "name") } else { format!("({})", entry.kind) },
        entry.decision_id.to_string(),
    ]
}

/// At most so many characters, an ellipsis included; control characters are shown as such.
fn fit(text: &str, columns: usize) -> String {
    let letters = || text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter });
    match text.chars().count() > columns {
        true => letters().take(columns.saturating_sub(1)).chain(['…']).collect(),
        false => letters().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::scripted::{decision, entry};

    #[test]
    fn a_line_fits_the_terminal_and_carries_nothing_that_steers_it() {
        let mut decided = entry(42);
        decided.decision = Some(decision("r"));
        decided.body = Some(serde_json::json!({ "agent": "an-agent-with-a-long-name", "name": "a\u{1b}[2J\n" }));
        for width in [80, 100, 200] {
            let line = Printer::new(Format::Table, Some(width)).line(cells(&decided));
            assert!(line.chars().count() <= width, "{width}: {line}");
            assert!(!line.chars().any(char::is_control), "{line}");
        }
        let line = Printer::new(Format::Table, Some(80)).line(cells(&decided));
        assert!(
            line.starts_with("2023-11-14T22:13:20.000Z  allow       120  an-agent-…  a\u{fffd}[2J\u{fffd} "),
            "{line}"
        );
        assert!(line.ends_with("  2.1.42"), "{line}");
    }

    #[test]
    fn other_kinds_are_named_where_actions_stand_and_what_is_erased_says_so() {
        let mut held = entry(7);
        (held.kind, held.body, held.body_state) = ("hold-placed".into(), None, Some("erased".into()));
        let line = Printer::new(Format::Table, None).line(cells(&held));
        assert!(line.contains("  (erased)  ") && line.contains("  (hold-placed)  "), "{line}");
    }
}
