//! `nethical detect`: what the detectors see in a text, and how good they are on labelled ones. Needs no cluster.
//!
//! Nothing here detects: that is governance's code, the same that runs in the cluster. Texts are read where the command
//! runs and go nowhere.
#![allow(clippy::disallowed_methods, reason = "the command line reads the file that its user names")]

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::output::Format;

mod explain;
mod score;

/// Look at the detectors at work, here, without a cluster.
#[derive(Debug, Subcommand)]
pub enum DetectCommand {
    /// Measure precision and recall on labelled sentences.
    #[command(
        after_help = "A line is {\"text\": \"...\", \"spans\": [{\"type\": \"US_SSN\", \"start\": 10, \"end\": 21}]}; \
        offsets count characters.\nA label is hit where a span of its type overlaps it. Types that no detector has are \
        named and not scored.\nExits 2 where a line is wrong; nothing is scored then.\n\n\
        Examples:\n  nethical detect score labelled.jsonl\n  nethical detect score labelled.jsonl -o json"
    )]
    Score(ScoreArgs),
    /// Show what is found in a text, and what was taken off before looking.
    #[command(
        after_help = "Offsets count characters of the text as given. The text itself is printed: mind who looks.\n\n\
        Examples:\n  nethical detect explain 'call me at 041 123 45 67'\n  nethical detect explain - -o json < letter.txt"
    )]
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// Labelled sentences, one JSON object a line.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The text; `-` reads standard input.
    #[arg(value_name = "TEXT")]
    pub text: String,
}

/// Carries the command out.
pub fn run(command: DetectCommand, format: Format) -> anyhow::Result<()> {
    match command {
        DetectCommand::Score(args) => score::run(&args, format),
        DetectCommand::Explain(args) => explain::run(&args, format),
    }
}
