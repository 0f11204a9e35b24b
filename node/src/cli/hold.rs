//! `nethical hold`: hold-orders on more than one agent, and their release.

use clap::{Args, Subcommand};
use reqwest::Method;

use nethical_cluster::api::HoldView;
use nethical_protocol::control::{HoldEffect, HoldScope, HoldSpec};

use super::EndpointArgs;
use super::agent::{Effect, OrderArgs, require_acknowledged, require_lifted, state_of};
use crate::output::{self, Exit, Format, stop};

/// Stop tenants, cohorts, tools, sessions, regions or everything, and let them go on.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Place a hold-order.
    #[command(
        after_help = "When it is acknowledged, no action in its scope that is submitted afterwards is allowed. Exits 4 while\n\
        it is pending. A region holds what names it, and what names none where its agent's leader is in it.\n\n\
        Examples:\n  nethical hold place --tenant bank --session task-17 --reason 'runs wild'\n  \
        nethical hold place --region eu-west-1 --ttl-s 600\n  nethical hold place --tenant bank --tool transfer --effect restrict\n  \
        nethical hold place --all --approvers 2 --approver-names ann,ben,cy --reason 'kill switch'"
    )]
    Place(PlaceArgs),
    /// Lift the hold-orders of a scope.
    #[command(
        after_help = "Where an order needs several approvers, each of them asks once; exits 3 until none is missing.\n\n\
        Examples:\n  nethical hold lift --tenant bank --session task-17\n  nethical hold lift --all --approver ann"
    )]
    Lift(LiftArgs),
}

/// What it stops.
#[derive(Debug, Args)]
pub struct ScopeArgs {
    /// Everything in the zone.
    #[arg(long, conflicts_with_all = ["tenant", "region"])]
    pub all: bool,
    /// One tenant, or what else is named of it.
    #[arg(long)]
    pub tenant: Option<String>,
    /// One cohort of the tenant.
    #[arg(long, requires = "tenant", group = "part")]
    pub cohort: Option<String>,
    /// One action name of the tenant.
    #[arg(long, requires = "tenant", group = "part")]
    pub tool: Option<String>,
    /// One session of the tenant.
    #[arg(long, requires = "tenant", group = "part")]
    pub session: Option<String>,
    /// One region, of the tenant or of all.
    #[arg(long, group = "part")]
    pub region: Option<String>,
}

#[derive(Debug, Args)]
pub struct PlaceArgs {
    #[command(flatten)]
    pub scope: ScopeArgs,
    #[command(flatten)]
    pub order: OrderArgs,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct LiftArgs {
    #[command(flatten)]
    pub scope: ScopeArgs,
    /// Who asks.
    #[arg(long, env = "NETHICAL_APPROVER", default_value = "", value_name = "NAME")]
    pub approver: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries the command out.
pub async fn run(command: HoldCommand, format: Format) -> anyhow::Result<()> {
    match command {
        HoldCommand::Place(args) => {
            let spec = HoldSpec {
                effect: if args.order.effect == Effect::Restrict { HoldEffect::Restrict } else { HoldEffect::Block },
                reason: args.order.reason,
                ttl_s: args.order.ttl_s,
                approvers: args.order.approvers,
                approver_names: args.order.approver_names,
                ..HoldSpec::new(scope_of(args.scope)?)
            };
            let view = send(&args.endpoint, Method::POST, &spec, "placed", format).await?;
            require_acknowledged(&view.ack)
        }
        HoldCommand::Lift(args) => {
            let spec = HoldSpec { approver: args.approver, ..HoldSpec::new(scope_of(args.scope)?) };
            let view = send(&args.endpoint, Method::DELETE, &spec, "release", format).await?;
            require_acknowledged(&view.ack)?;
            require_lifted(&view)
        }
    }
}

fn scope_of(args: ScopeArgs) -> anyhow::Result<HoldScope> {
    let ScopeArgs { all, tenant, cohort, tool, session, region } = args;
    let none = || stop(Exit::Usage, "say what to hold: --all, --tenant, --region …");
    if all {
        return Ok(HoldScope::All);
    }
    if let Some(region) = region {
        return Ok(HoldScope::Region { tenant: tenant.unwrap_or_default(), region });
    }
    let tenant = tenant.ok_or_else(none)?;
    Ok(match (cohort, tool, session) {
        (Some(cohort), _, _) => HoldScope::Cohort { tenant, cohort },
        (_, Some(tool), _) => HoldScope::Tool { tenant, tool },
        (_, _, Some(session)) => HoldScope::Session { tenant, session },
        _ => HoldScope::Tenant { tenant },
    })
}

async fn send(
    endpoint: &EndpointArgs,
    method: Method,
    spec: &HoldSpec,
    what: &str,
    format: Format,
) -> anyhow::Result<HoldView> {
    let view: HoldView = endpoint.connect()?.send(method, &["v1", "holds"], spec).await?;
    match format {
        Format::Json => output::print_json(&view)?,
        Format::Table => {
            let state = state_of(&view.ack);
            output::print_line(&format!("{what}: {state} (control revision {})", view.ack.revision))?;
        }
    }
    Ok(view)
}
