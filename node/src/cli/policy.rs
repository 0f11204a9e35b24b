//! `nethical policy`: the life of a Cedar bundle, from its first check to the cluster that enforces it.
//!
//! Nothing here judges a policy: that is governance's code, the same that runs in the cluster.
#![allow(clippy::disallowed_methods, reason = "the command line reads the policy file that its user names")]

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;

use nethical_cluster::api::PolicyView;
use nethical_protocol::control::ControlAck;
use nethical_protocol::limits::POLICY_BYTES_MAX;

use super::EndpointArgs;
use super::tenant::report;
use crate::output::{self, Exit, Format, stop};

pub mod diff;
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
    /// Validate a bundle on the cluster and put it in force.
    #[command(after_help = "Example:\n  nethical policy put airline.cedar")]
    Put(PutArgs),
    /// Show the bundle in force.
    #[command(after_help = "Examples:\n  nethical policy show > current.cedar\n  nethical policy show -o json")]
    Show(EndpointArgs),
}

#[derive(Debug, Args)]
pub struct PutArgs {
    /// Cedar policies.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// The text of a bundle's file, within the bound.
pub fn read(path: &Path) -> anyhow::Result<String> {
    let usage = |what: String| stop(Exit::Usage, format!("{}: {what}", path.display()));
    let bytes = std::fs::metadata(path).map_err(|error| usage(error.to_string()))?.len();
    if bytes > POLICY_BYTES_MAX as u64 {
        return Err(usage(format!("has {bytes} bytes; at most {POLICY_BYTES_MAX} are accepted")));
    }
    std::fs::read_to_string(path).map_err(|error| usage(error.to_string()))
}

/// Carries out a command.
pub async fn run(command: PolicyCommand, format: Format) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Validate(args) => validate::run(&args, format),
        PolicyCommand::Diff(args) => diff::run(args, format).await,
        PolicyCommand::Put(args) => put(args, format).await,
        PolicyCommand::Show(endpoint) => show(endpoint, format).await,
    }
}

async fn put(args: PutArgs, format: Format) -> anyhow::Result<()> {
    let request = args.endpoint.connect()?.request(Method::PUT, &["v1", "policy"], &[]);
    let ack: ControlAck = request.text_body(read(&args.file)?).json().await?;
    report(&ack, "policy", format)
}

async fn show(endpoint: EndpointArgs, format: Format) -> anyhow::Result<()> {
    let view: PolicyView = endpoint.connect()?.get(&["v1", "policy"], &[]).await?;
    if format == Format::Json {
        return output::print_json(&view);
    }
    output::remark(&format!("revision {}, {} policies, SHA-256 {}", view.revision, view.policies, view.digest));
    output::print_line(view.text.trim_end())
}
