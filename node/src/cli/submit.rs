//! `nethical submit`: sends the actions of a JSON Lines file, each agent's in file order, and reports what was decided.
#![allow(clippy::disallowed_methods, reason = "the command line reads files and measures time")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use serde::Deserialize;
use tokio::task::JoinSet;

use nethical_protocol::action::{Action, ActionKind, Cost};
use nethical_protocol::error::Problem;

use super::generator::stamp;
use super::measure::{self, Summary, Tally};
use super::sender::{Decider, TargetArgs};
use crate::output::{self, Exit, Format, stop};

/// A file may have this many lines; about 1 KiB of memory each.
const LINES_MAX: usize = 2_000_000;

/// See `nethical submit --help`.
#[derive(Debug, Args)]
#[command(
    after_help = "A line: {\"tenant\": \"airline\", \"agent_id\": \"a-1\", \"session\": \"s\", \"kind\": \"tool_call\", \
    \"name\": \"find_order\", \"args\": {}}; context, cost, cohort, region, resource_type, resource_id, approval, critical, receipt may be added.\n\
    Exits 1 where lines failed, 4 where the outcome of some is unknown. A denial is no failure.\n\n\
    Examples:\n  nethical submit actions.jsonl\n  \
    nethical submit actions.jsonl --endpoint http://127.0.0.1:8001 --endpoint http://127.0.0.1:8002 --batch 50\n  \
    nethical submit actions.jsonl --protocol quic --ca nethical-data/ca/ca.pem -o json\n  \
    nethical submit wire.jsonl --approval 3.1.42"
)]
pub struct SubmitArgs {
    /// JSON Lines, one action each.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Requests in flight at once; one agent's are never in flight together.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub concurrency: u64,
    /// Claim this approval; the file then holds one action, the one that was approved.
    #[arg(long, value_name = "ID")]
    pub approval: Option<String>,
    /// Do not create the file's tenants where they are missing.
    #[arg(long)]
    pub no_create_tenants: bool,
}

/// One line of the file. Fields that are not listed are ignored.
#[derive(Debug, Deserialize)]
struct Line {
    tenant: String,
    #[serde(alias = "agent")]
    agent_id: String,
    #[serde(default)]
    session: String,
    #[serde(default)]
    cohort: String,
    #[serde(default)]
    region: String,
    kind: ActionKind,
    name: String,
    #[serde(default)]
    resource_type: String,
    #[serde(default)]
    resource_id: String,
    #[serde(default)]
    args: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    context: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    cost: BTreeMap<String, u64>,
    #[serde(default)]
    explain: bool,
    #[serde(default)]
    approval: String,
    #[serde(default)]
    critical: bool,
    #[serde(default)]
    receipt: bool,
}

impl Line {
    fn into_action(self) -> Result<Action, Problem> {
        let mut action = Action {
            request_id: String::new(),
            client_chosen: true,
            issued_at_ms: 0,
            tenant: self.tenant,
            agent: self.agent_id,
            session: self.session,
            cohort: self.cohort,
            region: self.region,
            kind: self.kind,
            name: self.name,
            resource_type: self.resource_type,
            resource_id: self.resource_id,
            args_json: serde_json::Value::Object(self.args).to_string(),
            context_json: serde_json::Value::Object(self.context).to_string(),
            cost: self.cost.into_iter().map(|(unit, amount)| Cost::charged(unit, amount)).collect(),
            explain: self.explain,
            approval: self.approval,
            is_critical: self.critical,
            wants_receipt: self.receipt,
        };
        stamp(&mut action);
        action.check_bounds().map(|()| action)
    }
}

/// An action and its line, from 1.
type Numbered = (u64, Action);

/// Reads the file; a bad line stops everything before anything is sent.
fn read(path: &Path) -> anyhow::Result<Vec<Numbered>> {
    let usage = |what: String| stop(Exit::Usage, what);
    let file = std::fs::File::open(path).map_err(|error| usage(format!("{}: {error}", path.display())))?;
    let mut actions = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("reading {}", path.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let place = || format!("{}:{}", path.display(), index + 1);
        let parsed: Line =
            serde_json::from_str(&line).map_err(|error| usage(format!("{}: no action: {error}", place())))?;
        let action = parsed.into_action().map_err(|problem| usage(format!("{}: {problem}", place())))?;
        actions.push((index as u64 + 1, action));
        if actions.len() > LINES_MAX {
            return Err(usage(format!("{} has more than {LINES_MAX} actions; split it", path.display())));
        }
    }
    Ok(actions)
}

/// Has the one action name an approval.
fn claim(actions: &mut [Numbered], approval: &str) -> anyhow::Result<()> {
    let [(_, action)] = actions else {
        let detail = format!("an approval is for one action; the file has {}", actions.len());
        return Err(stop(Exit::Usage, detail));
    };
    action.approval = approval.to_owned();
    action.check_bounds().map_err(|problem| stop(Exit::Usage, problem.to_string()))
}

/// Deals the actions to lanes so that one agent's stay in one lane and in order.
fn deal(actions: Vec<Numbered>, lanes: usize) -> Vec<Vec<Numbered>> {
    let mut lane_of: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut dealt = vec![Vec::new(); lanes];
    for (line, action) in actions {
        let next = lane_of.len() % lanes;
        let lane = *lane_of.entry((action.tenant.clone(), action.agent.clone())).or_insert(next);
        dealt[lane].push((line, action));
    }
    dealt
}

/// Sends one lane, batch after batch.
async fn send_lane(decider: Arc<dyn Decider>, lane: Vec<Numbered>, batch: usize, bar: indicatif::ProgressBar) -> Tally {
    let mut tally = Tally::new();
    let mut rest = lane.into_iter();
    loop {
        let (lines, mut actions): (Vec<u64>, Vec<Action>) = rest.by_ref().take(batch).unzip();
        if actions.is_empty() {
            return tally;
        }
        // The id's time is that of sending: a long file would otherwise run out of the cluster's memory of ids.
        actions.iter_mut().for_each(stamp);
        let started = Instant::now();
        let answers = decider.decide(actions).await;
        let latency = started.elapsed();
        for (line, answer) in lines.iter().zip(&answers) {
            tally.answer(answer, latency);
            tally.receipt(*line, answer);
        }
        bar.inc(lines.len() as u64);
    }
}

/// Sends everything; at most `lanes` requests are in flight.
pub async fn send_all(
    decider: Arc<dyn Decider>,
    actions: Vec<Numbered>,
    batch: usize,
    lanes: usize,
) -> anyhow::Result<Summary> {
    let bar = output::bar(actions.len() as u64, "submitting");
    let mut tasks = JoinSet::new();
    for lane in deal(actions, lanes) {
        tasks.spawn(send_lane(decider.clone(), lane, batch, bar.clone()));
    }
    let mut tally = Tally::new();
    while let Some(done) = tasks.join_next().await {
        tally.merge(done.context("a lane of the submission ended early")?);
    }
    bar.finish_and_clear();
    Ok(tally.finish())
}

/// Carries the command out.
pub async fn run(args: SubmitArgs, format: Format) -> anyhow::Result<()> {
    let mut actions = read(&args.file)?;
    if let Some(approval) = &args.approval {
        claim(&mut actions, approval)?;
    }
    if !args.no_create_tenants {
        let tenants: BTreeSet<&str> = actions.iter().map(|(_, action)| action.tenant.as_str()).collect();
        args.target.create_tenants(tenants.into_iter()).await?;
    }
    let decider = args.target.connect().await?;
    let summary = send_all(decider, actions, args.target.batch as usize, args.concurrency as usize).await?;
    match format {
        Format::Json => output::print_json(&summary)?,
        Format::Table => {
            let mut table = output::table(&["", ""]);
            table.add_rows(measure::rows(&summary).into_iter().map(|(name, value)| [name, value]));
            output::print_table(&table, "")?;
        }
    }
    verdict_of(&summary)
}

/// Success where every action was decided.
pub fn verdict_of(summary: &Summary) -> anyhow::Result<()> {
    let hint = "the codes above say what to do next";
    match (summary.unknown, summary.failed) {
        (0, 0) => Ok(()),
        (0, failed) => Err(stop(Exit::Failed, format!("{failed} actions were not decided; {hint}"))),
        (unknown, _) => Err(stop(Exit::Unknown, format!("the outcome of {unknown} actions is unknown; {hint}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::measure::tests::decided;
    use futures::future::BoxFuture;
    use nethical_protocol::decision::{ItemAnswer, Verdict};
    use parking_lot::Mutex;

    /// Answers everything and remembers the order in which it was asked.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<(String, String)>>);

    impl Decider for Recorder {
        fn decide(&self, actions: Vec<Action>) -> BoxFuture<'_, Vec<ItemAnswer>> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                self.0.lock().extend(actions.iter().map(|action| (action.agent.clone(), action.name.clone())));
                actions.iter().map(|action| decided(&action.request_id, 1, Verdict::Allow)).collect()
            })
        }
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, text).expect("written");
        (dir, path)
    }

    #[tokio::test]
    async fn each_agents_actions_are_sent_in_file_order_and_each_line_gets_its_receipt() {
        let text: String = (0..200)
            .map(|n| {
                format!(
                    "{{\"tenant\":\"t\",\"agent_id\":\"a{}\",\"kind\":\"message\",\"name\":\"n{n:03}\",\"step\":3}}\n",
                    n % 7
                )
            })
            .collect();
        let (_dir, path) = file(&text);
        let recorder = Arc::new(Recorder::default());
        let summary = send_all(recorder.clone(), read(&path).expect("good lines"), 3, 4).await.expect("sent");
        assert_eq!((summary.submitted, summary.decided, summary.receipts.len()), (200, 200, 200));
        assert_eq!(
            summary.receipts.iter().map(|receipt| receipt.line).collect::<Vec<_>>(),
            (1..=200).collect::<Vec<_>>()
        );
        let asked = recorder.0.lock().clone();
        for agent in 0..7 {
            let names: Vec<&String> =
                asked.iter().filter(|(who, _)| *who == format!("a{agent}")).map(|(_, name)| name).collect();
            assert!(names.is_sorted(), "agent {agent}: {names:?}");
        }
    }

    #[test]
    fn a_bad_line_is_named_before_anything_is_sent() {
        let (_dir, path) =
            file("{\"tenant\":\"t\",\"agent_id\":\"a\",\"kind\":\"message\",\"name\":\"n\"}\n{\"tenant\":\"t\"}\n");
        let error = read(&path).expect_err("line 2 is no action").to_string();
        assert!(error.contains("a.jsonl:2"), "{error}");
        let (_dir, path) = file("{\"tenant\":\"\",\"agent_id\":\"a\",\"kind\":\"message\",\"name\":\"n\"}\n");
        assert!(read(&path).expect_err("no tenant").to_string().contains("tenant is empty"));
    }
}
