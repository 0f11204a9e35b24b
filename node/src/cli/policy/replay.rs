//! `nethical policy replay`: which recorded verdicts a candidate would change. Streams page by page; keeps no list.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use indicatif::ProgressBar;
use jiff::{SpanRelativeTo, Timestamp};
use reqwest::Method;
use serde::Serialize;

use nethical_cluster::api::{Flip, Lacking, ReplayPage};
use nethical_governance::policy::Bundle;
use nethical_protocol::status::ClusterStatus;

use super::validate;
use crate::cli::EndpointArgs;
use crate::cli::http::Admin;
use crate::output::{self, Exit, Format, stop};

/// The end of `--help`.
pub const HELP: &str = "Compares verdicts by policy; holds, limits and risk are not replayed. Times are RFC 3339, or a span \
    back from now. -o json prints one object a line: flip, lacking, and at the end summary.\n\n\
    Examples:\n  nethical policy replay --bundle airline.cedar --from 24h\n  \
    nethical policy replay --bundle airline.cedar --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z -o json";

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The candidate: Cedar policies.
    #[arg(long, value_name = "FILE")]
    pub bundle: PathBuf,
    /// Decisions from this time on; all where left out.
    #[arg(long, value_name = "TIME", value_parser = time_ns)]
    pub from: Option<u64>,
    /// Decisions up to this time; up to now where left out.
    #[arg(long, value_name = "TIME", value_parser = time_ns)]
    pub to: Option<u64>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Summary {
    decisions: u64,
    same: u64,
    flips: u64,
    lacking: u64,
}

/// One line of `-o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Flip(&'a Flip),
    Lacking(&'a Lacking),
    Summary(&'a Summary),
}

/// Replays the time span, one page after the other.
pub async fn run(args: ReplayArgs, format: Format) -> anyhow::Result<()> {
    let text = super::read(&args.bundle)?;
    Bundle::check(&text).map_err(|problems| validate::refusal(&args.bundle.display().to_string(), &problems))?;
    let (from, to) = (args.from.unwrap_or(0), args.to.unwrap_or_else(now_ns));
    if from > to {
        return Err(stop(Exit::Usage, "--from is later than --to"));
    }
    let admin = args.endpoint.connect()?;
    let leaves = leaves_by_group(&admin).await?;
    let bar = output::bar(leaves.values().sum(), "replaying");
    let (mut summary, mut cursor) = (Summary::default(), None::<String>);
    loop {
        let mut query = vec![("from_ns", from.to_string()), ("to_ns", to.to_string())];
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let request = admin.request(Method::POST, &["v1", "policy", "replay"], &query).text_body(text.clone());
        let page: ReplayPage = request.json().await?;
        take(&page, &mut summary, &bar, format)?;
        match page.cursor {
            Some(next) => {
                bar.set_position(position(&leaves, &next));
                cursor = Some(next);
            }
            None => break,
        }
    }
    bar.finish_and_clear();
    finish(&summary, format)
}

async fn leaves_by_group(admin: &Admin) -> anyhow::Result<BTreeMap<u32, u64>> {
    let status: ClusterStatus = admin.get(&["v1", "status"], &[]).await?;
    Ok(status.groups.iter().map(|group| (group.id, group.leaves)).collect())
}

/// Leaves before a cursor, which names a group and a leaf.
fn position(leaves: &BTreeMap<u32, u64>, cursor: &str) -> u64 {
    let place = cursor.split_once('.').and_then(|(group, at)| Some((group.parse().ok()?, at.parse().ok()?)));
    let (group, at): (u32, u64) = place.unwrap_or_default();
    leaves.range(..group).map(|(_, leaves)| leaves).sum::<u64>() + at
}

fn take(page: &ReplayPage, summary: &mut Summary, bar: &ProgressBar, format: Format) -> anyhow::Result<()> {
    summary.decisions += page.decisions;
    summary.same += page.same;
    summary.flips += page.flips.len() as u64;
    summary.lacking += page.lacking.len() as u64;
    bar.suspend(|| {
        page.flips.iter().try_for_each(|flip| print_flip(flip, format))?;
        page.lacking.iter().try_for_each(|lacking| print_lacking(lacking, format))
    })
}

fn print_flip(flip: &Flip, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return print_object(&Line::Flip(flip));
    }
    let Flip { decision_id, tenant, agent, action, recorded, candidate, rules, decided, .. } = flip;
    let (recorded, candidate, decided) = (recorded.as_str(), candidate.as_str(), decided.as_str());
    output::print_line(&format!(
        "{decision_id}  {recorded} -> {candidate}  {tenant}/{agent} {action}  (was decided {decided}; now {})",
        rules.join(", ")
    ))
}

fn print_lacking(lacking: &Lacking, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => print_object(&Line::Lacking(lacking)),
        Format::Table => output::print_line(&format!("{}  cannot be replayed: {}", lacking.decision_id, lacking.why)),
    }
}

fn finish(summary: &Summary, format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        return print_object(&Line::Summary(summary));
    }
    let Summary { decisions, same, flips, lacking } = summary;
    let text = format!("{decisions} decisions: {flips} would flip, {same} stay, {lacking} cannot be replayed");
    output::print_line(&text)
}

fn print_object(line: &Line<'_>) -> anyhow::Result<()> {
    output::print_line(&serde_json::to_string(line)?)
}

#[allow(clippy::disallowed_methods, reason = "the command line reads the clock for `now`")]
pub fn now_ns() -> u64 {
    u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(u64::MAX)
}

/// RFC 3339, or a span back from now such as `90m` or `7d`.
pub fn time_ns(text: &str) -> Result<u64, String> {
    let hint = || "write a time such as 2026-11-01T00:00:00Z, or a span back from now such as 24h".to_owned();
    if let Ok(time) = text.parse::<Timestamp>() {
        return u64::try_from(time.as_nanosecond()).map_err(|_| "times begin with 1970".to_owned());
    }
    let span: jiff::Span = text.parse().map_err(|_| hint())?;
    let back = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| hint())?;
    let back_ns = u64::try_from(back.as_nanos()).map_err(|_| hint())?;
    Ok(now_ns().saturating_sub(back_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_spans_back_from_now() {
        assert_eq!(time_ns("1970-01-01T00:00:01Z"), Ok(1_000_000_000));
        let hour_ago = now_ns() - 3_600_000_000_000;
        let read = time_ns("1h").expect("a span");
        assert!(read >= hour_ago && read < hour_ago + 60_000_000_000);
        assert!(time_ns("7d").expect("a span") < read);
        for odd in ["", "yesterday", "-5m", "1960-01-01T00:00:00Z"] {
            assert!(time_ns(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn progress_follows_the_cursor() {
        let leaves = BTreeMap::from([(2, 100), (3, 50)]);
        assert_eq!([position(&leaves, "2.7"), position(&leaves, "3.7"), position(&leaves, "rubbish")], [7, 107, 0]);
    }
}
