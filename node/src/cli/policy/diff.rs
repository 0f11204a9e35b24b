//! `nethical policy diff`: what changes between two bundles, rule by rule. Reads files or asks a cluster; changes nothing.

use clap::Args;
use serde::Serialize;

use nethical_cluster::api::PolicyView;
use nethical_governance::policy::{BundleDiff, DiffError, RuleView, diff, digest_of};

use super::{bundles, validate};
use crate::cli::EndpointArgs;
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// The bundle to start from: a file, `active` for the one in force on the cluster, or the digest of a kept one.
    #[arg(value_name = "OLD")]
    pub old: String,
    /// The bundle to arrive at, likewise.
    #[arg(value_name = "NEW")]
    pub new: String,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// What `-o json` prints.
#[derive(Debug, Serialize)]
struct Report {
    old: Side,
    new: Side,
    #[serde(flatten)]
    diff: BundleDiff,
}

#[derive(Debug, Serialize)]
struct Side {
    source: String,
    digest: String,
}

/// Compares two bundles.
pub async fn run(args: DiffArgs, format: Format) -> anyhow::Result<()> {
    let old = text_of(&args.old, &args.endpoint).await?;
    let new = text_of(&args.new, &args.endpoint).await?;
    let found = diff(&old, &new).map_err(|error| match error {
        DiffError::Old(problems) => validate::refusal(&args.old, &problems),
        DiffError::New(problems) => validate::refusal(&args.new, &problems),
    })?;
    if format == Format::Json {
        let side = |source: String, text: &str| Side { source, digest: hex::encode(digest_of(text)) };
        return output::print_json(&Report { old: side(args.old, &old), new: side(args.new, &new), diff: found });
    }
    print(&found)
}

/// The text of a bundle that is named on the command line: a file, or one that the cluster has.
pub async fn text_of(named: &str, endpoint: &EndpointArgs) -> anyhow::Result<String> {
    let path = std::path::Path::new(named);
    match named {
        "active" if !path.exists() => {
            let view: PolicyView = endpoint.connect()?.get(&["v1", "policy"], &[]).await?;
            Ok(view.text)
        }
        _ if !path.exists() && bundles::is_digest(named) => Ok(bundles::kept(&endpoint.connect()?, named).await?.text),
        _ => super::read(path),
    }
}

fn print(found: &BundleDiff) -> anyhow::Result<()> {
    let mut table = output::table(&["CHANGE", "RULE", "VERDICT", "WHAT"]);
    let row = |change: &str, view: &RuleView| {
        [change.to_owned(), view.rule.clone(), view.verdict.as_str().to_owned(), view.reason.clone()]
    };
    for view in &found.added {
        table.add_row(row("added", view));
    }
    for view in &found.removed {
        table.add_row(row("removed", view));
    }
    for change in &found.changed {
        let (before, after) = (change.before.verdict.as_str(), change.after.verdict.as_str());
        let verdict = if before == after { after.to_owned() } else { format!("{before} -> {after}") };
        table.add_row(["changed".to_owned(), change.rule.clone(), verdict, change.what.join(", ")]);
    }
    output::print_table(&table, "no rule differs")?;
    let (added, removed, changed) = (found.added.len(), found.removed.len(), found.changed.len());
    output::remark(&format!("{added} added, {removed} removed, {changed} changed, {} the same", found.unchanged));
    Ok(())
}
