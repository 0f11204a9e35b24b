//! The command line: nouns and verbs, shared flags, and who carries out what.
//!
//! Exit codes: 0 ok, 1 failed, 2 usage, 3 refused by a safety check, 4 outcome unknown, 10 unhealthy.

use clap::{Args, Parser, Subcommand};

use crate::output::Format;

pub mod agent;
pub mod aggregate;
pub mod alarm;
pub mod approval;
pub mod audit;
pub mod config;
pub mod demo;
pub mod detect;
pub mod dev;
pub mod drift;
pub mod generator;
pub mod hold;
pub mod http;
pub mod journal;
pub mod limit;
pub mod load;
pub mod measure;
pub mod node;
pub mod policy;
pub mod risk;
pub mod rules;
pub mod sender;
pub mod settle;
pub mod sla;
pub mod status;
pub mod submit;
pub mod taxonomy;
pub mod tenant;

/// Governs what AI agents do: every action gets a verdict, is charged to its limits and is recorded.
#[derive(Debug, Parser)]
#[command(
    name = "nethical",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 refused by a safety check, 4 outcome unknown, 10 unhealthy.\n\n\
                  Start here:\n  nethical demo            see it work, and survive a killed node, in under a minute\n  \
                  nethical dev             a three-region cluster on this machine\n  \
                  nethical status          what that cluster is doing"
)]
pub struct Cli {
    /// Print tables for people or JSON for programs.
    #[arg(short = 'o', long = "format", global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node.
    Node(node::NodeArgs),
    /// Run a cluster of several nodes on this machine.
    Dev(dev::DevArgs),
    /// Show the system at work: quarantine, quotas, a killed leader, and the audit trail that survives it.
    Demo(demo::DemoArgs),
    /// Submit the actions of a file.
    Submit(submit::SubmitArgs),
    /// Say what an action with reserved costs used.
    Settle(settle::SettleArgs),
    /// Put load on a cluster and measure it.
    Load(load::LoadArgs),
    /// Show nodes and groups.
    Status(status::StatusArgs),
    /// Show how the promises to tenants stand.
    Sla(sla::SlaArgs),
    /// Count decisions, exactly or with noise that is charged to a privacy budget.
    Aggregate(aggregate::AggregateArgs),
    /// Look at agents, quarantine and release them.
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Stop tenants, sessions, regions or everything, and let them go on.
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// Show what many agents of a tenant do together.
    #[command(subcommand)]
    Alarm(alarm::AlarmCommand),
    /// See how well other scores do beside the rules'.
    #[command(subcommand)]
    Risk(risk::RiskCommand),
    /// Show whether the decisions of each cohort are scored as before.
    Drift(drift::DriftArgs),
    /// List, approve and deny what policy escalates.
    #[command(subcommand)]
    Approval(approval::ApprovalCommand),
    /// Create and list tenants, and set rules for automatic quarantine.
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Set, list and remove limits, and see what they have left.
    #[command(subcommand)]
    Limit(limit::LimitCommand),
    /// Validate, compare, try out and put policy in force.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Look at the ethical taxonomy by which decisions are explained.
    #[command(subcommand)]
    Taxonomy(taxonomy::TaxonomyCommand),
    /// Read, prove and verify the audit trail.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Measure the detectors and see them at work.
    #[command(subcommand)]
    Detect(detect::DetectCommand),
    /// Check and print configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

impl Cli {
    /// Carries the command out. Commands that talk to a cluster get a runtime; a node makes its own.
    pub fn run(self) -> anyhow::Result<()> {
        let format = self.format;
        match self.command {
            Command::Node(args) => node::run(args),
            Command::Config(command) => config::run(command, format),
            Command::Detect(command) => detect::run(command, format),
            Command::Taxonomy(command) => taxonomy::run(command, format),
            Command::Dev(args) => block_on(dev::run(args, format)),
            Command::Demo(args) => block_on(demo::run(args, format)),
            Command::Submit(args) => block_on(submit::run(args, format)),
            Command::Settle(args) => block_on(settle::run(args, format)),
            Command::Load(args) => block_on(load::run(args, format)),
            Command::Status(args) => block_on(status::run(args, format)),
            Command::Sla(args) => block_on(sla::run(args, format)),
            Command::Aggregate(args) => block_on(aggregate::run(args, format)),
            Command::Agent(command) => block_on(agent::run(command, format)),
            Command::Hold(command) => block_on(hold::run(command, format)),
            Command::Alarm(command) => block_on(alarm::run(command, format)),
            Command::Risk(command) => block_on(risk::run(command, format)),
            Command::Drift(args) => block_on(drift::run(args, format)),
            Command::Approval(command) => block_on(approval::run(command, format)),
            Command::Tenant(command) => block_on(tenant::run(command, format)),
            Command::Limit(command) => block_on(limit::run(command, format)),
            Command::Policy(command) => block_on(policy::run(command, format)),
            Command::Audit(command) => block_on(audit::run(command, format)),
        }
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(work)
}

/// Where the cluster is, for administrative commands.
#[derive(Debug, Clone, Args)]
pub struct EndpointArgs {
    /// HTTP door of any node.
    #[arg(long, env = "NETHICAL_ENDPOINT", default_value = "http://127.0.0.1:8001", value_name = "URL")]
    pub endpoint: String,
    /// Administrator's bearer token.
    #[arg(long, env = "NETHICAL_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
}

impl EndpointArgs {
    /// A connection to that door.
    pub fn connect(&self) -> anyhow::Result<http::Admin> {
        http::Admin::new(&self.endpoint, self.token.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn walk(command: &clap::Command) {
            let leaf = command.get_subcommands().next().is_none();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(!leaf || help.contains("nethical "), "{} has no example", command.get_name());
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
