//! `nethical audit erase`: make what was said of an agent or a person unreadable, and watch until every key of it is gone.
#![allow(clippy::disallowed_methods, reason = "a command at a person's terminal: no simulator runs it")]

use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;

use nethical_cluster::api::ErasureView;
use nethical_protocol::control::EraseSpec;

use super::{EndpointArgs, time};
use crate::output::{self, Exit, Format, stop};

/// Between two looks at an erasure.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("subject").args(["agent", "person"]).required(true)))]
pub struct EraseArgs {
    /// The tenant.
    #[arg(long)]
    pub tenant: String,
    /// The agent whose actions are to become unreadable.
    #[arg(long)]
    pub agent: Option<String>,
    /// The person, as actions named them in `context.data_subject`.
    #[arg(long)]
    pub person: Option<String>,
    /// Why, for the record; kept in the clear, so name no person in it.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Seconds to wait until every key is destroyed; 0 returns once nobody can read it.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

#[derive(Debug, Args)]
pub struct ErasuresArgs {
    /// Only this one.
    #[arg(value_name = "ID")]
    pub id: Option<u64>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries `audit erase` out.
pub async fn run(args: EraseArgs, format: Format) -> anyhow::Result<()> {
    let (agent, person) = (args.agent.unwrap_or_default(), args.person.unwrap_or_default());
    let spec = EraseSpec { tenant: args.tenant, agent, person, reason: args.reason };
    let client = args.endpoint.connect()?;
    let mut view: ErasureView = client.send(Method::POST, &["v1", "audit", "erasures"], &spec).await?;
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}")?);
    let until = Instant::now() + Duration::from_secs(args.wait);
    while view.state != "erased" && Instant::now() < until {
        bar.set_message(progress(&view));
        bar.tick();
        tokio::time::sleep(LOOK_EVERY).await;
        view = client.get(&["v1", "audit", "erasures", &view.id.to_string()], &[]).await?;
    }
    bar.finish_and_clear();
    match format {
        Format::Json => output::print_json(&view)?,
        Format::Table => print(std::slice::from_ref(&view))?,
    }
    match view.state.as_str() {
        "pending" => {
            let detail = format!("{}; look again: nethical audit erasures {}", progress(&view), view.id);
            Err(stop(Exit::Unhealthy, detail))
        }
        "erasing" if args.wait > 0 => {
            let detail = format!("nobody can read it; {}: nethical audit erasures {}", progress(&view), view.id);
            Err(stop(Exit::Unhealthy, detail))
        }
        _ => Ok(()),
    }
}

/// Carries `audit erasures` out.
pub async fn list(args: ErasuresArgs, format: Format) -> anyhow::Result<()> {
    let client = args.endpoint.connect()?;
    let found: Vec<ErasureView> = match args.id {
        Some(id) => vec![client.get(&["v1", "audit", "erasures", &id.to_string()], &[]).await?],
        None => client.get(&["v1", "audit", "erasures"], &[]).await?,
    };
    match format {
        Format::Json => output::print_json(&found),
        Format::Table => print(&found),
    }
}

fn print(found: &[ErasureView]) -> anyhow::Result<()> {
    let mut table = output::table(&["ID", "TENANT", "KIND", "SUBJECT", "ASKED", "STATE", "AWAITS"]);
    for view in found {
        let subject: String = view.subject.chars().take(16).collect();
        let row = [view.id.to_string(), view.tenant.clone(), view.kind.clone(), subject, time(view.at_ns)];
        table.add_row(row.into_iter().chain([view.state.clone(), awaited(view)]));
    }
    output::print_table(&table, "nothing was erased")
}

fn awaited(view: &ErasureView) -> String {
    let of_group = |awaits: &nethical_cluster::api::ErasureAwaits| match awaits.nodes.as_slice() {
        [] => format!("group {}: {}", awaits.group, awaits.what),
        nodes => format!("group {}: {} on nodes {nodes:?}", awaits.group, awaits.what),
    };
    view.awaiting.iter().map(of_group).collect::<Vec<_>>().join("; ")
}

fn progress(view: &ErasureView) -> String {
    match view.awaiting.len() {
        0 => "every key of it is destroyed".to_owned(),
        groups => format!("{groups} groups are not done ({})", awaited(view)),
    }
}
