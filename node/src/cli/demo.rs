//! `nethical demo`: what a newcomer runs first. The steps are in [`crate::demo`].

use clap::Args;

use crate::output::Format;

/// See `nethical demo --help`.
#[derive(Debug, Args)]
#[command(
    after_help = "Starts three nodes in a temporary folder, shows verdicts, a quarantine and an exhausted quota, kills the node that\n\
    leads most groups while actions are coming in, restarts it, and verifies the audit trail from the files. Exits 1\n\
    where any promise was broken.\n\nExamples:\n  nethical demo\n  nethical demo --keep --actions 5000 -o json"
)]
pub struct DemoArgs {
    /// Actions sent over the two doors.
    #[arg(long, default_value_t = 3_000, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=100_000))]
    pub actions: u64,
    /// Keep the folder afterwards.
    #[arg(long)]
    pub keep: bool,
    /// HTTP doors are at this port plus 1, 2 and 3.
    #[arg(long, default_value_t = 18_000, value_name = "PORT")]
    pub http_base: u16,
    /// QUIC doors are at this port plus 1, 2 and 3.
    #[arg(long, default_value_t = 19_000, value_name = "PORT")]
    pub quic_base: u16,
}

/// Carries the command out.
pub async fn run(args: DemoArgs, format: Format) -> anyhow::Result<()> {
    crate::demo::run(args, format).await
}
