//! `nethical alarm`: what many agents of a tenant do together and is not usual.

use clap::{Args, Subcommand};

use nethical_cluster::api::{AlarmList, AlarmView};

use super::EndpointArgs;
use crate::output::{self, Exit, Format, stop};

/// Show what many agents of a tenant do together.
#[derive(Debug, Subcommand)]
pub enum AlarmCommand {
    /// List alarms, oldest first.
    #[command(
        after_help = "Asks every node. Alarms advise and change no verdict; nodes remember them until they restart.\n\
        Exits 10 where a node did not answer: what only it noticed is missing.\n\n\
        Examples:\n  nethical alarm list\n  nethical alarm list --tenant airline -o json"
    )]
    List(ListArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this tenant's.
    #[arg(long)]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries the command out.
pub async fn run(command: AlarmCommand, format: Format) -> anyhow::Result<()> {
    let AlarmCommand::List(args) = command;
    let query: Vec<_> = args.tenant.map(|tenant| ("tenant", tenant)).into_iter().collect();
    let found: AlarmList = args.endpoint.connect()?.get(&["v1", "alarms"], &query).await?;
    if format == Format::Json {
        output::print_json(&found)?;
    } else {
        let mut table = output::table(&[
            "TENANT",
            "PATTERN",
            "SEVERITY",
            "AGENTS",
            "USUAL",
            "FIRST",
            "LAST",
            "SOME OF THEM",
            "WHY",
        ]);
        table.add_rows(found.alarms.iter().map(row));
        output::print_table(&table, "no alarms")?;
    }
    match found.awaiting.as_slice() {
        [] => Ok(()),
        nodes => Err(stop(Exit::Unhealthy, format!("nodes {nodes:?} did not answer: what they noticed is missing"))),
    }
}

fn row(view: &AlarmView) -> [String; 9] {
    [
        view.tenant.clone(),
        view.pattern.clone(),
        view.severity.to_string(),
        view.agents.to_string(),
        view.usual.to_string(),
        time(view.first_ns),
        time(view.last_ns),
        view.sample.join("\n"),
        view.explanation.clone(),
    ]
}

/// Log time for people.
pub fn time(at_ns: u64) -> String {
    let at = jiff::Timestamp::from_nanosecond(i128::from(at_ns)).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
