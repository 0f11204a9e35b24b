//! `nethical audit legal-hold` and `nethical audit retention`: what is kept, for how long, and what may not be erased meanwhile.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use nethical_cluster::api::{LegalHoldView, RetentionView};
use nethical_protocol::retention::RetentionClass;

use super::{EndpointArgs, time};
use crate::output::{self, Exit, Format, stop};

/// Order that records are kept, whatever their age, and lift such orders.
#[derive(Debug, Subcommand)]
pub enum LegalHoldCommand {
    /// Keep what was said and done: it neither expires nor is erased while the hold stands.
    #[command(
        after_help = "Without an agent or a person the hold is on the whole tenant. What has expired for more than an hour is gone, \
        and\nwhat was erased stays erased. Exits 10 where some group has not heard of it yet.\n\n\
        Examples:\n  nethical audit legal-hold set --tenant bank --reason 'file 12-345' --by counsel\n  \
        nethical audit legal-hold set --tenant bank --agent assistant-7 --from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z"
    )]
    Set(SetArgs),
    /// Lift a hold: what is past its age expires at once.
    #[command(after_help = "Example:\n  nethical audit legal-hold lift 17 --by counsel")]
    Lift(LiftArgs),
    /// List holds, newest first, or one.
    #[command(after_help = "Examples:\n  nethical audit legal-hold list\n  nethical audit legal-hold list 17 -o json")]
    List(ListArgs),
}

#[derive(Debug, Args)]
pub struct SetArgs {
    /// The tenant.
    #[arg(long)]
    pub tenant: String,
    /// Only what this agent did.
    #[arg(long, conflicts_with = "person")]
    pub agent: Option<String>,
    /// Only what is about this person, as actions named it in `context.data_subject`.
    #[arg(long)]
    pub person: Option<String>,
    /// Only records from this log time on: RFC 3339, or nanoseconds since 1970.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// And before this one.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Why, for the record; kept in the clear, so name no person in it.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Who sets it, for the record; kept in the clear.
    #[arg(long, default_value = "", value_name = "NAME")]
    pub by: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct LiftArgs {
    /// Which.
    #[arg(value_name = "ID")]
    pub id: u64,
    /// Who lifts it, for the record; kept in the clear.
    #[arg(long, default_value = "", value_name = "NAME")]
    pub by: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this one.
    #[arg(value_name = "ID")]
    pub id: Option<u64>,
    /// Only those of one tenant.
    #[arg(long, conflicts_with = "id")]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct RetentionArgs {
    /// The tenant.
    #[arg(long)]
    pub tenant: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries `audit legal-hold` out.
pub async fn run(command: LegalHoldCommand, format: Format) -> anyhow::Result<()> {
    match command {
        LegalHoldCommand::Set(args) => set(args, format).await,
        LegalHoldCommand::Lift(args) => {
            let path = ["v1", "audit", "legal-holds", &args.id.to_string()];
            let view = args.endpoint.connect()?.send(Method::DELETE, &path, &json!({ "by": args.by })).await?;
            report(&view, format)
        }
        LegalHoldCommand::List(args) => list(args, format).await,
    }
}

async fn set(args: SetArgs, format: Format) -> anyhow::Result<()> {
    let SetArgs { tenant, agent, person, from, to, reason, by, endpoint } = args;
    let body = json!({
        "tenant": tenant, "agent": agent, "person": person, "from": from, "to": to, "reason": reason, "by": by,
    });
    let view = endpoint.connect()?.send(Method::POST, &["v1", "audit", "legal-holds"], &body).await?;
    report(&view, format)
}

async fn list(args: ListArgs, format: Format) -> anyhow::Result<()> {
    let client = args.endpoint.connect()?;
    let query: Vec<(&str, String)> = args.tenant.into_iter().map(|tenant| ("tenant", tenant)).collect();
    let found: Vec<LegalHoldView> = match args.id {
        Some(id) => vec![client.get(&["v1", "audit", "legal-holds", &id.to_string()], &[]).await?],
        None => client.get(&["v1", "audit", "legal-holds"], &query).await?,
    };
    match format {
        Format::Json => output::print_json(&found),
        Format::Table => print(&found),
    }
}

/// Carries `audit retention` out.
pub async fn retention(args: RetentionArgs, format: Format) -> anyhow::Result<()> {
    let query = [("tenant", args.tenant)];
    let view: RetentionView = args.endpoint.connect()?.get(&["v1", "audit", "retention"], &query).await?;
    if format == Format::Json {
        return output::print_json(&view);
    }
    let mut table = output::table(&["CLASS", "KEPT", "OF"]);
    for (class, of) in RetentionClass::ALL.into_iter().zip(["allowed actions", "all other actions", "what people did"])
    {
        table.add_row([class.as_str().to_owned(), view.ages.of(class).to_string(), of.to_owned()]);
    }
    output::print_table(&table, "")?;
    match view.legal_holds.as_slice() {
        [] => output::print_line("no legal hold stands"),
        holds => print(holds),
    }
}

fn report(view: &LegalHoldView, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::print_json(view)?,
        Format::Table => print(std::slice::from_ref(view))?,
    }
    if view.awaiting.is_empty() {
        return Ok(());
    }
    let look = format!("nethical audit legal-hold list {}", view.id);
    let detail =
        format!("groups {:?} have not heard of it yet, and will by themselves; look again: {look}", view.awaiting);
    Err(stop(Exit::Unhealthy, detail))
}

fn print(found: &[LegalHoldView]) -> anyhow::Result<()> {
    let mut table = output::table(&["ID", "TENANT", "SCOPE", "RECORDS", "SET", "STATE", "REASON"]);
    for view in found {
        let subject = view.subject.iter().map(|subject| subject.chars().take(16).collect::<String>());
        let scope = [view.scope.clone()].into_iter().chain(subject).collect::<Vec<_>>().join(" ");
        let set = said(view.set_at_ns, &view.set_by);
        let row = [view.id.to_string(), view.tenant.clone(), scope, range(view), set, state(view), view.reason.clone()];
        table.add_row(row);
    }
    output::print_table(&table, "no legal hold was ever set")
}

fn state(view: &LegalHoldView) -> String {
    let lifted = view.lifted_at_ns.map(|at_ns| said(at_ns, view.lifted_by.as_deref().unwrap_or_default()));
    let state = lifted.map_or_else(|| "stands".to_owned(), |lifted| format!("lifted {lifted}"));
    match view.awaiting.as_slice() {
        [] => state,
        groups => format!("{state}; groups {groups:?} have not heard of it"),
    }
}

fn said(at_ns: u64, by: &str) -> String {
    let by = if by.is_empty() { String::new() } else { format!(" by {by}") };
    format!("{}{by}", time(at_ns))
}

fn range(view: &LegalHoldView) -> String {
    match (view.from_ns.map(time), view.to_ns.map(time)) {
        (None, None) => "all".to_owned(),
        (Some(from), None) => format!("from {from}"),
        (None, Some(to)) => format!("before {to}"),
        (Some(from), Some(to)) => format!("{from} to {to}"),
    }
}
