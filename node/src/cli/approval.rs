//! `nethical approval`: what waits for a person, and the person's word on it.

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::json;

use nethical_cluster::api::{ApprovalList, ApprovalView};

use super::EndpointArgs;
use crate::output::{self, Exit, Format, stop};

/// List, approve and deny what policy escalates.
#[derive(Debug, Subcommand)]
pub enum ApprovalCommand {
    /// List approvals; those that wait, where nothing else is said.
    #[command(after_help = "Asks every partition. Exits 10 where one did not answer: what waits there is missing.\n\n\
        Examples:\n  nethical approval list\n  nethical approval list --tenant bank --state approved\n  \
        nethical approval list --state any --limit 200 -o json")]
    List(ListArgs),
    /// Show one approval with its exact action.
    #[command(after_help = "Example:\n  nethical approval show 3.1.42")]
    Show(ShowArgs),
    /// Approve: the agent may do exactly this action once, before it expires.
    #[command(
        after_help = "The agent submits the same action again and names the approval. The first word counts; the same word\n\
        again is answered with its record.\n\n\
        Example:\n  nethical approval approve 3.1.42 --approver ann --reason 'agreed with the customer'"
    )]
    Approve(WordArgs),
    /// Deny.
    #[command(after_help = "Example:\n  nethical approval deny 3.1.42 --approver ann --reason 'unknown payee'")]
    Deny(WordArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this tenant's.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only those in this state.
    #[arg(long, value_enum, default_value_t = StateArg::Pending)]
    pub state: StateArg,
    /// Go on behind this one.
    #[arg(long, value_name = "ID")]
    pub cursor: Option<String>,
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=200))]
    pub limit: u64,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    Pending,
    Approved,
    Denied,
    Expired,
    Used,
    Any,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The approval: the id of the decision that escalated.
    pub id: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct WordArgs {
    /// The approval: the id of the decision that escalated.
    pub id: String,
    /// Who decides; kept sealed in the audit trail.
    #[arg(long, env = "NETHICAL_APPROVER", value_name = "NAME")]
    pub approver: String,
    /// Why; kept sealed in the audit trail.
    #[arg(long, default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries the command out.
pub async fn run(command: ApprovalCommand, format: Format) -> anyhow::Result<()> {
    match command {
        ApprovalCommand::List(args) => list(args, format).await,
        ApprovalCommand::Show(args) => {
            let path = ["v1", "approvals", &args.id];
            let view: ApprovalView = args.endpoint.connect()?.get(&path, &[]).await?;
            show(&view, format)
        }
        ApprovalCommand::Approve(args) => word(args, "approve", format).await,
        ApprovalCommand::Deny(args) => word(args, "deny", format).await,
    }
}

async fn list(args: ListArgs, format: Format) -> anyhow::Result<()> {
    let state = match args.state {
        StateArg::Pending => Some("pending"),
        StateArg::Approved => Some("approved"),
        StateArg::Denied => Some("denied"),
        StateArg::Expired => Some("expired"),
        StateArg::Used => Some("used"),
        StateArg::Any => None,
    };
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(state.map(|state| ("state", state.to_owned())));
    query.extend(args.tenant.map(|tenant| ("tenant", tenant)));
    query.extend(args.cursor.map(|cursor| ("cursor", cursor)));
    let found: ApprovalList = args.endpoint.connect()?.get(&["v1", "approvals"], &query).await?;
    if format == Format::Json {
        output::print_json(&found)?;
    } else {
        let mut table = output::table(&["ID", "STATE", "TENANT", "AGENT", "ACTION", "EXPIRES", "WHY"]);
        table.add_rows(found.approvals.iter().map(row));
        output::print_table(&table, "nothing waits")?;
        if let Some(cursor) = &found.cursor {
            output::remark(&format!("there are more: --cursor {cursor}"));
        }
    }
    match found.awaiting.as_slice() {
        [] => Ok(()),
        groups => Err(stop(Exit::Unhealthy, format!("groups {groups:?} did not answer: what waits there is missing"))),
    }
}

fn row(view: &ApprovalView) -> [String; 7] {
    let sealed = || "(sealed)".to_owned();
    let named = |part: &str| view.action.as_ref().and_then(|action| action[part].as_str()).map(str::to_owned);
    let why: Vec<&str> = view.reasons.iter().map(|reason| reason.detail.as_str()).collect();
    [
        view.id.to_string(),
        if view.void { format!("{} (void)", view.state) } else { view.state.clone() },
        view.tenant.clone().unwrap_or_else(sealed),
        view.agent.clone().unwrap_or_else(sealed),
        named("name").unwrap_or_else(sealed),
        time(view.expires_at_ns),
        why.join("; "),
    ]
}

fn time(at_ns: u64) -> String {
    let at = jiff::Timestamp::from_nanosecond(i128::from(at_ns)).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn show(view: &ApprovalView, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return output::print_json(view);
    }
    let [id, state, tenant, agent, _, expires, why] = row(view);
    let mut table = output::table(&["", ""]);
    for (name, value) in [("id", id), ("state", state), ("tenant", tenant), ("agent", agent), ("why", why)] {
        table.add_row([name.to_owned(), value]);
    }
    table.add_row(["opened".to_owned(), time(view.opened_at_ns)]);
    table.add_row(["expires".to_owned(), expires]);
    for (name, value) in [("approver", &view.approver), ("reason", &view.reason)] {
        if let Some(value) = value {
            table.add_row([name.to_owned(), value.clone()]);
        }
    }
    for (name, id) in [("decided in", view.decided_in), ("ended in", view.ended_in)] {
        if let Some(id) = id {
            table.add_row([name.to_owned(), id.to_string()]);
        }
    }
    if let Some(action) = &view.action {
        for part in ["kind", "name", "args", "resource", "session", "cohort", "region", "context", "cost"] {
            let value = &action[part];
            table.add_row([part.to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)]);
        }
    }
    output::print_table(&table, "")
}

async fn word(args: WordArgs, verb: &str, format: Format) -> anyhow::Result<()> {
    let body = json!({ "approver": args.approver, "reason": args.reason });
    let path = ["v1", "approvals", &args.id, verb];
    let view: ApprovalView = args.endpoint.connect()?.send(Method::POST, &path, &body).await?;
    if format == Format::Json {
        return output::print_json(&view);
    }
    let record = view.decided_in.map_or(String::new(), |id| format!(", recorded as {id}"));
    let before = if view.replayed { " before" } else { "" };
    let by = view.approver.as_deref().map_or(String::new(), |name| format!(" by {name}"));
    let past = if verb == "approve" { "approved" } else { "denied" };
    output::print_line(&format!("{}: {past}{before}{by}{record}", view.id))?;
    if view.void {
        output::remark("the policy has changed since it was opened: the action will not be let through");
    }
    Ok(())
}
