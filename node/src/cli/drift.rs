//! `nethical drift`: whether the decisions of each cohort are scored as before.

use clap::Args;

use nethical_cluster::api::{DriftList, DriftView};

use super::EndpointArgs;
use super::alarm::time;
use crate::output::{self, Exit, Format, stop};

/// See `nethical drift --help`.
#[derive(Debug, Args)]
#[command(
    after_help = "Asks every node and changes nothing. A cohort's baseline sets itself, in its first hour or so, and rolls over \
    slowly; nodes begin anew when they restart. Levels: learning, steady, notice, warning, critical; from notice on there is an \
    alarm as well (`nethical alarm list`).\n\
    Exits 10 where a node did not answer: what only it has seen is missing.\n\n\
    Examples:\n  nethical drift\n  nethical drift airline\n  nethical drift airline --cohort beta -o json"
)]
pub struct DriftArgs {
    /// Only this tenant's cohorts.
    pub tenant: Option<String>,
    /// Only the tenant's cohort of this name.
    #[arg(long, requires = "tenant")]
    pub cohort: Option<String>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries the command out.
pub async fn run(args: DriftArgs, format: Format) -> anyhow::Result<()> {
    let asked = [("tenant", args.tenant), ("cohort", args.cohort)];
    let query: Vec<_> = asked.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let found: DriftList = args.endpoint.connect()?.get(&["v1", "drift"], &query).await?;
    if format == Format::Json {
        output::print_json(&found)?;
    } else {
        let mut table =
            output::table(&["TENANT", "COHORT", "LEVEL", "SAMPLES", "BASELINE", "PSI", "KL", "JS", "SINCE"]);
        table.add_rows(found.cohorts.iter().map(row));
        output::print_table(&table, "no decisions seen")?;
    }
    match found.awaiting.as_slice() {
        [] => Ok(()),
        nodes => Err(stop(Exit::Unhealthy, format!("nodes {nodes:?} did not answer: what they have seen is missing"))),
    }
}

fn row(view: &DriftView) -> [String; 9] {
    let DriftView { tenant, drift, .. } = view;
    let thousandths = |of: u32| format!("{}.{:03}", of / 1_000, of % 1_000);
    [
        tenant.clone(),
        if drift.cohort.is_empty() { "(none)".to_owned() } else { drift.cohort.clone() },
        drift.level.clone(),
        drift.samples.to_string(),
        drift.baseline.to_string(),
        thousandths(drift.psi),
        thousandths(drift.kl),
        thousandths(drift.js),
        time(drift.since_ns),
    ]
}
