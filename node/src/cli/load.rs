//! `nethical load`: open-loop load, with latency counted from the moment at which each action *should* have been sent,
//! so that a stalled cluster cannot hide its stall by slowing the generator (coordinated omission).
//!
//! The target's thresholds and the CSV columns are those of the older load generator, so that results compare.
#![allow(clippy::disallowed_methods, reason = "a load generator measures time and writes files")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::generator::{Generator, stamp};
use super::journal::Journal;
use super::measure::{self, Latency, Summary, Tally};
use super::sender::{Decider, TargetArgs};
use crate::output::{self, Exit, Format, stop};
use rows::Rows;

mod rows;

/// See `nethical load --help`.
#[derive(Debug, Args)]
#[command(
    after_help = "Passes (exit 0) where p95 < 200 ms, p99 < 500 ms, the rate is within 10 % of the target and fewer than 1 % fail.\n\
    --rps 0 sends as fast as --in-flight requests allow (closed loop); the rate is then no criterion.\n\n\
    Examples:\n  nethical load --agents 1000 --rps 500 --duration 60 --output perf_results.csv\n  \
    nethical load --rps 20000 --batch 100 --protocol quic --endpoint http://127.0.0.1:8001 --endpoint http://127.0.0.1:8002\n  \
    nethical load --rps 0 --in-flight 32 --batch 256 --duration 30 -o json"
)]
pub struct LoadArgs {
    /// How many agents act.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub agents: u64,
    /// Actions a second over all agents; 0 for as fast as possible.
    #[arg(long, default_value_t = 50.0, value_name = "R", value_parser = rate)]
    pub rps: f64,
    /// Seconds of measurement.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub duration: u64,
    /// Seconds of load before it, not counted.
    #[arg(long, default_value_t = 0, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub warmup: u64,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Requests in flight at most; beyond it the schedule waits and the wait counts as latency.
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub in_flight: u64,
    /// The tenant that the actions are of; created where it is missing.
    #[arg(long, default_value = "load-test")]
    pub tenant: String,
    /// The same seed gives the same actions.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// One CSV row for each action.
    #[arg(long, value_name = "FILE.csv")]
    pub output: Option<PathBuf>,
    /// The client's own ledger, to compare with the audit trail.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "write a number of actions a second".to_owned())?;
    if (0.0..=10_000_000.0).contains(&rate) { Ok(rate) } else { Err("must be from 0 to 10,000,000".to_owned()) }
}

/// What to send, apart from where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Makes the actions.
    pub generator: Generator,
    /// Their tenant.
    pub tenant: String,
    /// Actions a second; 0 for as fast as possible.
    pub rps: f64,
    /// Actions in one request.
    pub batch: u64,
    /// Requests in flight at most.
    pub in_flight: usize,
    /// Not counted.
    pub warmup: Duration,
    /// Counted.
    pub duration: Duration,
    /// The sequence number of the first action, so that a second run makes others.
    pub first: u64,
}

/// Where every action is noted, beside the tally.
#[derive(Debug, Default)]
pub struct Notes {
    /// The client's own ledger.
    pub journal: Option<Journal>,
    /// CSV rows.
    pub rows: Option<Rows>,
}

/// What `load -o json` prints.
#[derive(Debug, Serialize)]
pub struct LoadReport {
    #[serde(flatten)]
    summary: Summary,
    target_rps: f64,
    achieved_rps: f64,
    elapsed_s: f64,
    errors: u64,
    error_rate: f64,
    pass: bool,
    missed: Vec<String>,
}

/// Sends the plan and counts. Ends after warm-up and duration, plus what is still in flight then.
pub async fn drive(decider: Arc<dyn Decider>, plan: Plan, notes: Arc<Notes>) -> anyhow::Result<(Summary, Duration)> {
    let bar = output::bar((plan.warmup + plan.duration).as_secs(), "load (seconds)");
    let permits = Arc::new(Semaphore::new(plan.in_flight));
    let started = Instant::now();
    let counted_from = started + plan.warmup;
    let end = counted_from + plan.duration;
    let (mut tasks, mut tally, mut sequence) = (JoinSet::new(), Tally::new(), plan.first);
    loop {
        let sent = sequence - plan.first;
        let due =
            if plan.rps > 0.0 { started + Duration::from_secs_f64(sent as f64 / plan.rps) } else { Instant::now() };
        if due >= end {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let permit = permits.clone().acquire_owned().await.context("the semaphore is never closed")?;
        // A closed loop measures from sending; an open loop from when it should have been sent.
        let intended = if plan.rps > 0.0 { due } else { Instant::now() };
        if intended >= end || Instant::now() >= end + plan.duration {
            break;
        }
        let request = Request { first: sequence, intended, counted: intended >= counted_from };
        sequence += plan.batch;
        let (decider, plan, notes) = (decider.clone(), plan.clone(), notes.clone());
        tasks.spawn(async move {
            let done = request.send(decider, &plan, &notes).await;
            drop(permit);
            done
        });
        while let Some(done) = tasks.try_join_next() {
            tally.merge(done.context("a request of the load ended early")??);
        }
        bar.set_position(started.elapsed().as_secs());
    }
    while let Some(done) = tasks.join_next().await {
        tally.merge(done.context("a request of the load ended early")??);
    }
    bar.finish_and_clear();
    Ok((tally.finish(), counted_from.elapsed().max(plan.duration)))
}

/// One request of the schedule.
struct Request {
    first: u64,
    intended: Instant,
    counted: bool,
}

impl Request {
    async fn send(self, decider: Arc<dyn Decider>, plan: &Plan, notes: &Notes) -> anyhow::Result<Tally> {
        let range = self.first..self.first + plan.batch;
        let mut actions: Vec<_> = range.map(|sequence| plan.generator.action(&plan.tenant, sequence)).collect();
        actions.iter_mut().for_each(stamp);
        if let Some(journal) = &notes.journal {
            journal.sending(&actions)?;
        }
        let agents: Vec<String> = actions.iter().map(|action| action.agent.clone()).collect();
        let answers = decider.decide(actions).await;
        let latency = self.intended.elapsed();
        if let Some(journal) = &notes.journal {
            journal.came_back(&answers)?;
        }
        let mut tally = Tally::new();
        if self.counted {
            answers.iter().for_each(|answer| tally.answer(answer, latency));
            if let Some(rows) = &notes.rows {
                rows.write(&agents, &answers, latency)?;
            }
        }
        Ok(tally)
    }
}

/// What the run missed, by the older generator's rule; empty where it passes.
fn missed(latency: &Latency, target_rps: f64, achieved_rps: f64, error_rate: f64) -> Vec<String> {
    let mut missed = Vec::new();
    if latency.p95 >= 200.0 {
        missed.push(format!("p95 is {:.1} ms, to be below 200", latency.p95));
    }
    if latency.p99 >= 500.0 {
        missed.push(format!("p99 is {:.1} ms, to be below 500", latency.p99));
    }
    if target_rps > 0.0 && (achieved_rps - target_rps).abs() > target_rps / 10.0 {
        missed.push(format!("{achieved_rps:.1} actions/s, to be within 10 % of {target_rps:.1}"));
    }
    if error_rate >= 0.01 {
        missed.push(format!("{:.2} % failed, to be below 1", error_rate * 100.0));
    }
    missed
}

fn report(summary: Summary, target_rps: f64, elapsed: Duration) -> LoadReport {
    let achieved_rps = summary.submitted as f64 / elapsed.as_secs_f64();
    let error_rate = summary.failed as f64 / (summary.submitted.max(1)) as f64;
    let mut missed = missed(&summary.latency_ms, target_rps, achieved_rps, error_rate);
    if summary.decided == 0 {
        missed.push("nothing was decided".to_owned());
    }
    LoadReport {
        target_rps,
        achieved_rps,
        elapsed_s: elapsed.as_secs_f64(),
        errors: summary.failed,
        error_rate,
        pass: missed.is_empty(),
        missed,
        summary,
    }
}

/// Carries the command out.
pub async fn run(args: LoadArgs, format: Format) -> anyhow::Result<()> {
    let notes = Notes {
        journal: args.journal.as_deref().map(Journal::create).transpose()?,
        rows: args.output.as_deref().map(Rows::create).transpose()?,
    };
    args.target.create_tenants(std::iter::once(args.tenant.as_str())).await?;
    let decider = args.target.connect().await?;
    let plan = Plan {
        generator: Generator::new(args.seed, args.agents),
        tenant: args.tenant.clone(),
        rps: args.rps,
        batch: args.target.batch,
        in_flight: args.in_flight as usize,
        warmup: Duration::from_secs(args.warmup),
        duration: Duration::from_secs(args.duration),
        first: 0,
    };
    let notes = Arc::new(notes);
    let (summary, elapsed) = drive(decider, plan, notes.clone()).await?;
    if let Some(rows) = &notes.rows {
        rows.finish()?;
    }
    let report = report(summary, args.rps, elapsed);
    match format {
        Format::Json => output::print_json(&report)?,
        Format::Table => print(&report)?,
    }
    if report.pass { Ok(()) } else { Err(stop(Exit::Failed, format!("FAIL: {}", report.missed.join("; ")))) }
}

fn print(report: &LoadReport) -> anyhow::Result<()> {
    let mut table = output::table(&["", ""]);
    table.add_rows(measure::rows(&report.summary).into_iter().map(|(name, value)| [name, value]));
    table.add_row(["elapsed s".to_owned(), format!("{:.1}", report.elapsed_s)]);
    table.add_row([
        "actions/s target/achieved".to_owned(),
        format!("{:.1} / {:.1}", report.target_rps, report.achieved_rps),
    ]);
    table.add_row(["error rate %".to_owned(), format!("{:.3}", report.error_rate * 100.0)]);
    table.add_row(["result".to_owned(), if report.pass { "PASS" } else { "FAIL" }.to_owned()]);
    output::print_table(&table, "")
}

#[cfg(test)]
mod tests;
