//! How commands speak: data to standard output as a table or JSON, progress and remarks to standard error.
//!
//! Bars and spinners appear only where standard error is a terminal, so that logs and pipes stay clean. Nothing here
//! decides anything about the cluster.

use std::io::Write;
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

/// What a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Tables that fit the terminal.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Exit codes of every command. Scripts may rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command failed; nothing is unclear about it.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A safety check refused.
    Refused = 3,
    /// It may or may not have happened: ask again with the same id.
    Unknown = 4,
    /// The cluster answered and is not healthy.
    Unhealthy = 10,
}

/// An error that names its exit code. Other errors exit with 1.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Stop {
    /// The exit code.
    pub exit: Exit,
    /// What happened and what to do next.
    pub message: String,
    /// The code of the problem that a node answered with ([`nethical_protocol::error::Code`]).
    pub code: Option<String>,
    /// When to try again, where the node said so.
    pub retry_after_ms: Option<u64>,
}

/// A failure as `-o json` tells it on standard error.
#[derive(Debug, serde::Serialize)]
struct Failure<'a> {
    error: String,
    exit: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// An error that ends the command with a given exit code.
pub fn stop(exit: Exit, message: impl Into<String>) -> anyhow::Error {
    Stop { exit, message: message.into(), code: None, retry_after_ms: None }.into()
}

/// What a command that fails says on standard error: a sentence, or one JSON document.
pub fn failure(error: &anyhow::Error, format: Format) -> String {
    let told = format!("{error:#}");
    let stop = error.chain().find_map(|cause| cause.downcast_ref::<Stop>());
    let (code, retry_after_ms) =
        (stop.and_then(|stop| stop.code.as_deref()), stop.and_then(|stop| stop.retry_after_ms));
    let json = || serde_json::to_string(&Failure { error: told.clone(), exit: exit_code(error), code, retry_after_ms });
    match format {
        Format::Table => format!("error: {told}"),
        Format::Json => json().unwrap_or_else(|_| format!("error: {told}")),
    }
}

/// The exit code of an error, wherever in its chain the code is named.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|cause| cause.downcast_ref::<Stop>()).map_or(Exit::Failed, |stop| stop.exit) as u8
}

/// Prints one JSON document. A closed pipe is no error: the reader has seen enough.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    print_line(&text)
}

/// Prints text and a line end to standard output.
pub fn print_line(text: &str) -> anyhow::Result<()> {
    tell_line(text).map(drop)
}

/// As [`print_line`]; false where nobody reads any more.
pub fn tell_line(text: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        told => Ok(told.map(|()| true)?),
    }
}

/// Columns of the terminal that standard output is, where it is one.
pub fn width() -> Option<usize> {
    Table::new().width().map(usize::from)
}

/// A remark to standard error.
pub fn remark(text: &str) {
    // Standard error may be closed; there is nobody left to tell then.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// An empty table with a header, which fits the terminal's width.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    table
}

/// Prints a table, or the words for an empty one.
pub fn print_table(table: &Table, when_empty: &str) -> anyhow::Result<()> {
    if table.is_empty() { print_line(when_empty) } else { print_line(&table.trim_fmt()) }
}

/// A spinner on standard error, invisible where that is no terminal. Clear it when done.
pub fn spinner(text: impl Into<std::borrow::Cow<'static, str>>) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(text);
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// A bar over `length` items on standard error, invisible where that is no terminal.
pub fn bar(length: u64, text: impl Into<std::borrow::Cow<'static, str>>) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len} {elapsed} (left {eta})")
        .expect("the template is constant and well formed")
        .progress_chars("=> ");
    ProgressBar::new(length).with_style(style).with_message(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_exit_code_survives_added_context() {
        let error = Err::<(), _>(stop(Exit::Refused, "no")).context("while starting").expect_err("an error");
        assert_eq!(exit_code(&error), 3);
        assert_eq!(exit_code(&anyhow::anyhow!("plain")), 1);
    }

    #[test]
    fn a_failure_is_a_sentence_or_a_document() {
        let error =
            crate::cli::http::refusal(503, r#"{"code":"no-quorum","detail":"no leader","retry_after_ms":1000}"#);
        let error = Err::<(), _>(error).context("asking").expect_err("an error");
        assert!(failure(&error, Format::Table).starts_with("error: asking: no-quorum: no leader."));
        let told: serde_json::Value = serde_json::from_str(&failure(&error, Format::Json)).expect("JSON");
        assert_eq!((&told["exit"], &told["code"]), (&10.into(), &"no-quorum".into()));
        assert_eq!(told["retry_after_ms"], 1_000);
        let plain = anyhow::anyhow!("a \"quoted\"\nline");
        assert_eq!(failure(&plain, Format::Json), r#"{"error":"a \"quoted\"\nline","exit":1}"#);
    }
}
