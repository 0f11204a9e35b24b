//! `nethical agent`: what is known of an agent, its quarantine and its release.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::json;

use nethical_cluster::api::{AgentView, HoldView};
use nethical_protocol::control::AckState;

use super::EndpointArgs;
use crate::output::{self, Exit, Format, stop};

/// Look at agents, quarantine and release them.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Show where an agent stands.
    #[command(after_help = "Example:\n  nethical agent show airline gpt-4o-airline-00")]
    Show(AgentArgs),
    /// Block (or restrict) everything that an agent does, until release.
    #[command(
        after_help = "When it is acknowledged, no action submitted afterwards is allowed. Exits 4 while it is pending.\n\n\
        Examples:\n  nethical agent quarantine airline bot-7 --reason 'sends cards abroad'\n  \
        nethical agent quarantine airline bot-7 --effect restrict --ttl-s 3600\n  \
        nethical agent quarantine airline bot-7 --approvers 2 --approver-names ann,ben,cy"
    )]
    Quarantine(QuarantineArgs),
    /// Lift an agent's quarantine.
    #[command(
        after_help = "Where the order needs several approvers, each of them asks once; the answer says how many are missing,\n\
        and the command exits 3 until none is.\n\n\
        Examples:\n  nethical agent release airline bot-7\n  nethical agent release airline bot-7 --approver ann"
    )]
    Release(ReleaseArgs),
}

#[derive(Debug, Args)]
pub struct AgentArgs {
    /// The tenant.
    pub tenant: String,
    /// The agent.
    pub agent: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct QuarantineArgs {
    #[command(flatten)]
    pub agent: AgentArgs,
    #[command(flatten)]
    pub order: OrderArgs,
}

/// What a hold-order says, whatever its scope is.
#[derive(Debug, Args)]
pub struct OrderArgs {
    /// Why; kept sealed in the audit trail.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Seconds until it lapses by itself; 0 for never.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub ttl_s: u64,
    /// What happens to actions in its scope.
    #[arg(long, value_enum, default_value_t = Effect::Block)]
    pub effect: Effect,
    /// Different approvers that must ask for the release.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub approvers: u8,
    /// The only ones whose words count; anybody's where left out.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub approver_names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ReleaseArgs {
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Who asks.
    #[arg(long, env = "NETHICAL_APPROVER", default_value = "", value_name = "NAME")]
    pub approver: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Effect {
    Block,
    Restrict,
}

/// Carries the command out.
pub async fn run(command: AgentCommand, format: Format) -> anyhow::Result<()> {
    match command {
        AgentCommand::Show(args) => show(args, format).await,
        AgentCommand::Quarantine(args) => {
            let effect = if args.order.effect == Effect::Restrict { "restrict" } else { "block" };
            let body = json!({
                "reason": args.order.reason,
                "ttl_s": args.order.ttl_s,
                "effect": effect,
                "approvers": args.order.approvers,
                "approver_names": args.order.approver_names,
            });
            hold(&args.agent, "quarantine", body, format).await
        }
        AgentCommand::Release(args) => hold(&args.agent, "release", json!({ "approver": args.approver }), format).await,
    }
}

async fn show(args: AgentArgs, format: Format) -> anyhow::Result<()> {
    let path = ["v1", "agents", &args.tenant, &args.agent];
    let view: AgentView = args.endpoint.connect()?.get(&path, &[]).await?;
    if format == Format::Json {
        return output::print_json(&view);
    }
    let mut table =
        output::table(&["TENANT", "AGENT", "STATE", "EPOCH", "RISK", "ACTIONS", "DENIED", "VIOLATIONS", "GROUP"]);
    table.add_row([
        view.tenant,
        view.agent,
        view.state.as_str().to_owned(),
        view.epoch.to_string(),
        format!("{} {}", view.risk, view.tier),
        view.actions.to_string(),
        view.denied.to_string(),
        view.violations.to_string(),
        view.group.to_string(),
    ]);
    output::print_table(&table, "")?;
    if !view.known {
        output::remark("nothing is known of this agent yet: it has not acted and no order names it");
    }
    Ok(())
}

async fn hold(args: &AgentArgs, verb: &str, body: serde_json::Value, format: Format) -> anyhow::Result<()> {
    let path = ["v1", "agents", &args.tenant, &args.agent, verb];
    let view: HoldView = args.endpoint.connect()?.send(Method::POST, &path, &body).await?;
    match format {
        Format::Json => output::print_json(&view)?,
        Format::Table => {
            let record = view.decision_id.map_or(String::new(), |id| format!(", recorded as {id}"));
            output::print_line(&format!("{verb} of {}/{}: {}{record}", args.tenant, args.agent, state_of(&view.ack)))?;
        }
    }
    require_acknowledged(&view.ack)?;
    if verb == "release" { require_lifted(&view) } else { Ok(()) }
}

/// In force everywhere, or not yet.
pub fn state_of(ack: &nethical_protocol::control::ControlAck) -> &'static str {
    if ack.state == AckState::Acknowledged { "acknowledged" } else { "PENDING" }
}

/// A release that needs more words has lifted nothing.
pub fn require_lifted(view: &HoldView) -> anyhow::Result<()> {
    match view.missing {
        0 => Ok(()),
        missing => Err(stop(Exit::Refused, format!("nothing is released yet: {missing} more approvers must ask"))),
    }
}

/// A pending change may not be in force yet: the caller must not build on it.
pub fn require_acknowledged(ack: &nethical_protocol::control::ControlAck) -> anyhow::Result<()> {
    if ack.state == AckState::Acknowledged {
        return Ok(());
    }
    let message = format!(
        "accepted but not yet in force everywhere: groups {:?} have not confirmed. Send the same again to wait further",
        ack.awaiting
    );
    Err(stop(Exit::Unknown, message))
}
