//! `nethical policy`: the life of a Cedar bundle, from its first check to the cluster that enforces it.
//!
//! Nothing here judges a policy: that is governance's code, the same that runs in the cluster.
#![allow(clippy::disallowed_methods, reason = "the command line reads the policy file that its user names")]

use std::path::Path;

use clap::Subcommand;

use nethical_protocol::limits::POLICY_BYTES_MAX;

use super::EndpointArgs;
use crate::output::{Exit, Format, stop};

pub mod bundles;
pub mod cases;
pub mod diff;
pub mod replay;
pub mod validate;

/// Validate, compare, try out and put policy in force.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Validate a bundle here, without a cluster: every problem at once.
    #[command(
        alias = "check",
        after_help = "Exits 1 where the bundle has problems.\n\n\
            Examples:\n  nethical policy validate airline.cedar\n  nethical policy validate airline.cedar -o json"
    )]
    Validate(validate::ValidateArgs),
    /// Show which rules two bundles add, remove and change.
    #[command(after_help = "Rules are compared by @id and by meaning: spaces and comments are no change.\n\n\
        Examples:\n  nethical policy diff active airline.cedar\n  nethical policy diff old.cedar new.cedar -o json")]
    Diff(diff::DiffArgs),
    /// Try a bundle out on actions with known answers, without a cluster.
    #[command(after_help = cases::HELP)]
    Test(cases::TestArgs),
    /// Validate a bundle on the cluster and keep it there, without putting it in force.
    #[command(after_help = "A zone keeps up to 32 bundles of 4 MiB in all, under the SHA-256 of their text.\n\n\
        Examples:\n  nethical policy put airline.cedar\n  nethical policy put airline.cedar --activate")]
    Put(bundles::PutArgs),
    /// Put a kept bundle in force, for all agents or for a share of them.
    #[command(
        after_help = "Under --canary the bundle decides for so many agents of a hundred, always the same ones; a higher share \
        only adds agents. `nethical policy show` tells what the two decide. Activating it without --canary promotes it, \
        `nethical policy rollback` ends it.\n\n\
        Examples:\n  nethical policy activate 3fa9c1d2 --canary 10\n  nethical policy activate 3fa9c1d2"
    )]
    Activate(bundles::ActivateArgs),
    /// End the canary; where there is none, put the bundle in force that was in force before (twice in a row leads back).
    #[command(after_help = "Example:\n  nethical policy rollback")]
    Rollback(EndpointArgs),
    /// List the bundles that the cluster keeps.
    #[command(after_help = "Examples:\n  nethical policy list\n  nethical policy list -o json")]
    List(EndpointArgs),
    /// Evaluate a kept bundle beside the one in force, without changing an answer; `off` ends it.
    #[command(
        after_help = "How the two agree: `nethical policy list`, and nethical_shadow_verdicts_total in the metrics.\n\n\
        Examples:\n  nethical policy shadow 3fa9c1d2\n  nethical policy shadow off"
    )]
    Shadow(bundles::ShadowArgs),
    /// List the recorded verdicts that a candidate would change.
    #[command(after_help = replay::HELP)]
    Replay(replay::ReplayArgs),
    /// Let a bundle go that is neither in force nor the one before nor the canary nor the shadow.
    #[command(after_help = "Example:\n  nethical policy remove 3fa9c1d2")]
    Remove(bundles::DigestArgs),
    /// Show the bundle in force and the canary beside it, or a kept bundle.
    #[command(
        after_help = "Examples:\n  nethical policy show > current.cedar\n  nethical policy show 3fa9c1d2 -o json"
    )]
    Show(bundles::ShowArgs),
}

/// The text of a bundle's file, within the bound.
pub fn read(path: &Path) -> anyhow::Result<String> {
    read_within(path, POLICY_BYTES_MAX)
}

/// The text of a file of at most so many bytes.
pub fn read_within(path: &Path, bytes_max: usize) -> anyhow::Result<String> {
    let usage = |what: String| stop(Exit::Usage, format!("{}: {what}", path.display()));
    let bytes = std::fs::metadata(path).map_err(|error| usage(error.to_string()))?.len();
    if bytes > bytes_max as u64 {
        return Err(usage(format!("has {bytes} bytes; at most {bytes_max} are accepted")));
    }
    std::fs::read_to_string(path).map_err(|error| usage(error.to_string()))
}

/// Carries out a command.
pub async fn run(command: PolicyCommand, format: Format) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Validate(args) => validate::run(&args, format),
        PolicyCommand::Diff(args) => diff::run(args, format).await,
        PolicyCommand::Test(args) => cases::run(&args, format),
        PolicyCommand::Put(args) => bundles::put(args, format).await,
        PolicyCommand::Activate(args) => bundles::activate(args, format).await,
        PolicyCommand::Rollback(endpoint) => bundles::rollback(endpoint, format).await,
        PolicyCommand::List(endpoint) => bundles::list(endpoint, format).await,
        PolicyCommand::Shadow(args) => bundles::shadow(args, format).await,
        PolicyCommand::Replay(args) => replay::run(args, format).await,
        PolicyCommand::Remove(args) => bundles::remove(args, format).await,
        PolicyCommand::Show(args) => bundles::show(args, format).await,
    }
}
