//! `nethical policy`: put a Cedar bundle in force, show the one in force, check one without a cluster.
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

/// Put policy in force, show it, check it.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Validate a bundle on the cluster and put it in force.
    #[command(after_help = "Example:\n  nethical policy put airline.cedar")]
    Put(PutArgs),
    /// Show the bundle in force.
    #[command(after_help = "Examples:\n  nethical policy show > current.cedar\n  nethical policy show -o json")]
    Show(EndpointArgs),
    /// Validate a bundle here, without a cluster.
    #[command(after_help = "Example:\n  nethical policy check airline.cedar")]
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub struct PutArgs {
    /// Cedar policies.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Cedar policies.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

fn read(path: &Path) -> anyhow::Result<String> {
    let usage = |what: String| stop(Exit::Usage, format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| usage(error.to_string()))?;
    if text.len() > POLICY_BYTES_MAX {
        return Err(usage(format!("has {} bytes; at most {POLICY_BYTES_MAX} are accepted", text.len())));
    }
    Ok(text)
}

/// Carries out the commands that talk to a cluster.
pub async fn run(command: PolicyCommand, format: Format) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Put(args) => {
            let request = args.endpoint.connect()?.request(Method::PUT, &["v1", "policy"], &[]);
            let ack: ControlAck = request.text_body(read(&args.file)?).json().await?;
            report(&ack, "policy", format)
        }
        PolicyCommand::Show(endpoint) => {
            let view: PolicyView = endpoint.connect()?.get(&["v1", "policy"], &[]).await?;
            if format == Format::Json {
                return output::print_json(&view);
            }
            output::remark(&format!("revision {}, {} policies, SHA-256 {}", view.revision, view.policies, view.digest));
            output::print_line(view.text.trim_end())
        }
        PolicyCommand::Check(args) => check(args, format),
    }
}

/// Validates a bundle with the same code that the cluster uses.
pub fn check(args: CheckArgs, format: Format) -> anyhow::Result<()> {
    let text = read(&args.file)?;
    let checked = nethical_governance::policy::Bundle::parse(&text);
    let (ok, detail) = match &checked {
        Ok(_) => (true, String::new()),
        Err(error) => (false, error.to_string()),
    };
    if format == Format::Json {
        output::print_json(&serde_json::json!({ "ok": ok, "detail": detail }))?;
    } else if ok {
        output::print_line(&format!("{}: valid", args.file.display()))?;
    }
    if ok { Ok(()) } else { Err(stop(Exit::Failed, format!("{}: {detail}", args.file.display()))) }
}
