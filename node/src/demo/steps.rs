//! The steps of the demo, in the order in which they are told.
#![allow(clippy::disallowed_methods, reason = "the demo is a client and a parent of processes: it measures time")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use nethical_protocol::action::Action;
use nethical_protocol::decision::{ItemAnswer, Verdict};

use super::{CROWD_AGENTS, Demo, NODES, SPENDER, SPENDER_CAP, SUSPECT, Step, TENANT, check};
use crate::cli::audit::{compare, offline};
use crate::cli::generator::{Generator, stamp};
use crate::cli::load::{Notes, Plan, drive};
use crate::cli::measure::Summary;
use crate::cli::sender::Decider;
use crate::output::Format;

/// Requests of the crowd in flight at once.
const CROWD_IN_FLIGHT: usize = 8;
/// Actions of the suspect before, and after, its quarantine; through both doors.
const SUSPECT_ACTIONS: u64 = 20;
/// Load while the leader is killed.
const KILL_RPS: f64 = 150.0;
const KILL_LOAD: Duration = Duration::from_secs(14);
/// The load runs this long before the kill, and the node stays away this long after it.
const BEFORE_KILL: Duration = Duration::from_secs(2);
const AWAY: Duration = Duration::from_secs(4);
/// First sequence numbers of the generator, so that no two steps send the same actions.
const CROWD_FIRST: u64 = 0;
const SUSPECT_FIRST: u64 = 10_000_000;
const SPENDER_FIRST: u64 = 20_000_000;
const KILL_FIRST: u64 = 30_000_000;

/// Sends actions of one agent one after the other, alternating between the deciders.
async fn one_by_one(deciders: [&Arc<dyn Decider>; 2], agent: &str, first: u64, count: u64) -> Vec<ItemAnswer> {
    let generator = Generator::new(1, 1);
    let mut answers = Vec::new();
    for sequence in first..first + count {
        let mut action = Action { agent: agent.to_owned(), ..generator.action(TENANT, sequence) };
        stamp(&mut action);
        answers.extend(deciders[(sequence % 2) as usize].decide(vec![action]).await);
    }
    answers
}

fn allowed(answers: &[ItemAnswer]) -> u64 {
    answers.iter().filter(|answer| answer.result.as_ref().is_ok_and(|decision| decision.allowed)).count() as u64
}

fn undecided(answers: &[ItemAnswer]) -> Vec<String> {
    let failed = answers.iter().filter_map(|answer| answer.result.as_ref().err());
    failed.take(3).map(|problem| format!("an action was not decided: {problem}")).collect()
}

fn words(summary: &Summary) -> String {
    let verdicts: Vec<String> = summary.verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    verdicts.join(", ")
}

impl Demo {
    /// Ordinary actions, half over each door.
    pub(super) async fn crowd(&mut self) -> anyhow::Result<()> {
        for (name, decider, half) in
            [("http door", &self.http, 0), ("quic door", &self.quic, 1)].map(|(n, d, h)| (n, d.clone(), h))
        {
            let generator = Generator::new(7, CROWD_AGENTS);
            let (first, count) = (CROWD_FIRST + half * self.actions, self.actions / 2);
            let actions =
                (first..first + count).map(|sequence| (sequence, generator.action(TENANT, sequence))).collect();
            let started = Instant::now();
            let summary = crate::cli::submit::send_all(decider, actions, 16, CROWD_IN_FLIGHT).await?;
            let rate = summary.submitted as f64 / started.elapsed().as_secs_f64();
            let mut broken = Vec::new();
            if summary.failed > 0 {
                broken.push(format!(
                    "{} actions were not decided on a healthy cluster: {:?}",
                    summary.failed, summary.failures
                ));
            }
            let detail = format!(
                "{} actions: {}; p50 {:.1} ms, p99 {:.1} ms, {rate:.0}/s",
                summary.submitted,
                words(&summary),
                summary.latency_ms.p50,
                summary.latency_ms.p99
            );
            self.tell(name, detail, broken)?;
        }
        Ok(())
    }

    /// An agent acts, is quarantined through another node, and goes on trying. Gives the time of the acknowledgement.
    pub(super) async fn quarantine(&mut self) -> anyhow::Result<u64> {
        let (http, quic) = (self.http.clone(), self.quic.clone());
        let before = one_by_one([&http, &quic], SUSPECT, SUSPECT_FIRST, SUSPECT_ACTIONS).await;
        let started = Instant::now();
        let acknowledged_ns = self.place_quarantine().await.context("placing the quarantine")?;
        let took_ms = started.elapsed().as_millis();
        let after = one_by_one([&http, &quic], SUSPECT, SUSPECT_FIRST + SUSPECT_ACTIONS, SUSPECT_ACTIONS).await;
        let detail = format!(
            "{} of {} actions allowed before, acknowledged in {took_ms} ms, {} of {} allowed after",
            allowed(&before),
            before.len(),
            allowed(&after),
            after.len()
        );
        let mut broken = undecided(&after);
        if allowed(&before) == 0 {
            broken.push("the agent was not allowed anything before its quarantine: nothing is shown".to_owned());
        }
        self.tell("quarantine", detail, broken)?;
        Ok(acknowledged_ns)
    }

    /// An agent spends its quota to the end, from many places at once.
    pub(super) async fn quota(&mut self) -> anyhow::Result<()> {
        let tries = SPENDER_CAP + 15;
        let (http, quic) = (self.http.clone(), self.quic.clone());
        let half = tries / 2;
        let (left, right) = tokio::join!(
            one_by_one([&http, &quic], SPENDER, SPENDER_FIRST, half),
            one_by_one([&quic, &http], SPENDER, SPENDER_FIRST + half, tries - half),
        );
        let answers: Vec<ItemAnswer> = left.into_iter().chain(right).collect();
        let admitted = allowed(&answers);
        let mut broken = undecided(&answers);
        if admitted != SPENDER_CAP && broken.is_empty() {
            broken.push(format!("{admitted} actions were admitted; the limit gives exactly {SPENDER_CAP}"));
        }
        let retry = answers.iter().filter_map(|answer| answer.result.as_ref().ok()?.retry_after_ms).next();
        let retry = if retry.is_some() { ", the refusals say when to come back" } else { "" };
        self.tell("quota", format!("{tries} tries, {admitted} admitted under a limit of {SPENDER_CAP}{retry}"), broken)
    }

    /// `kill -9` of the node that leads most groups while actions come in, and its return.
    pub(super) async fn kill_under_load(&mut self) -> anyhow::Result<()> {
        let plan = Plan {
            generator: Generator::new(11, CROWD_AGENTS),
            tenant: TENANT.to_owned(),
            rps: KILL_RPS,
            batch: 1,
            in_flight: 512,
            warmup: Duration::ZERO,
            duration: KILL_LOAD,
            first: KILL_FIRST,
        };
        // The load ends by itself with the last request; it is awaited below on every path that goes on.
        let mut load = tokio::task::JoinSet::new();
        load.spawn(drive(self.quic.clone(), plan, Arc::new(Notes::default())));
        tokio::time::sleep(BEFORE_KILL).await;
        let (victim, led) = self.busiest_leader().await?;
        self.cluster.kill_node(victim).await?;
        let killed = Instant::now();
        let suspect_while_down = {
            let (http, quic) = (self.http.clone(), self.quic.clone());
            one_by_one([&http, &quic], SUSPECT, SUSPECT_FIRST + 2 * SUSPECT_ACTIONS, 4).await
        };
        tokio::time::sleep(AWAY.saturating_sub(killed.elapsed())).await;
        self.cluster.start_node(victim)?;
        self.cluster.wait_ready(&[victim], |_| {}).await.context("the killed node's return")?;
        let back_ms = killed.elapsed().as_millis() - AWAY.as_millis().min(killed.elapsed().as_millis());
        let (summary, _) =
            load.join_next().await.context("the load was started above")?.context("the load ended early")??;
        let mut broken = Vec::new();
        if allowed(&suspect_while_down) > 0 {
            broken.push("the quarantined agent was allowed while a node was down".to_owned());
        }
        if summary.decided == 0 {
            broken.push("nothing was decided while the load ran".to_owned());
        }
        let detail = format!(
            "kill -9 of node {victim}, leader of {led} groups, under load: {} decided, {} refused, {} unknown; slowest answer {:.0} ms; \
             back and ready {back_ms} ms after its restart",
            summary.decided,
            summary.failed - summary.unknown,
            summary.unknown,
            summary.latency_ms.max
        );
        self.tell("leader killed", detail, broken)
    }

    /// The node that leads most groups, and how many.
    async fn busiest_leader(&self) -> anyhow::Result<(u64, usize)> {
        let status = self.status(1).await?;
        let mut led: BTreeMap<u64, usize> = (1..=NODES).map(|id| (id, 0)).collect();
        for leader in status.groups.iter().filter_map(|group| group.leader) {
            *led.entry(leader).or_default() += 1;
        }
        led.into_iter().max_by_key(|(_, groups)| *groups).context("three nodes were counted")
    }

    /// The client's ledger against the audit trail, read through a node.
    pub(super) async fn compare_with_audit(&mut self, quarantined_ns: u64) -> anyhow::Result<()> {
        let recorded = compare::recorded(&self.admin(3)?).await.context("reading the audit trail")?;
        let told = self.ledger.told();
        let detail = format!("{} acknowledged decisions among {} recorded ones", told.len(), recorded.len());
        self.tell("exactly once", detail, check::told_decisions_are_recorded_once(&told, &recorded))?;

        let attempts = self.ledger.attempts_of(SUSPECT, &recorded);
        let after = attempts.iter().filter(|attempt| attempt.submitted_ns > quarantined_ns).count();
        let detail = format!("{after} actions of {SUSPECT} after the acknowledgement, across the crash: none allowed");
        self.tell("revocation", detail, check::none_is_allowed_after(quarantined_ns, &attempts))?;

        let spent = self.ledger.requests_of(SPENDER);
        let own = recorded.iter().filter(|record| spent.contains(&record.request_id));
        let admitted = own.filter(|record| record.verdict <= Verdict::Restrict).count();
        let detail = format!("{admitted} admitted by the record, {SPENDER_CAP} allowed by the limit");
        self.tell("admission", detail, check::admissions_stay_within(SPENDER_CAP, &spent, &recorded))
    }
}

/// The files of the stopped nodes, verified without any of them.
pub(super) fn verify_files(dir: &Path, format: Format) -> anyhow::Result<Step> {
    let report = offline::verify(dir)?;
    let broken: Vec<String> = match &report.first_bad {
        Some(bad) => vec![format!("group {}, leaf {}: {} ({})", bad.group, bad.leaf_index, bad.reason, bad.segment)],
        None if report.ok => Vec::new(),
        None => vec!["the audit trail does not verify".to_owned()],
    };
    let detail = format!(
        "{} entries in {} logs, {} copies compared, from files alone",
        report.entries, report.groups, report.copies
    );
    let step = Step { name: "audit files", detail, broken };
    if format == Format::Table {
        super::print(&step)?;
    }
    Ok(step)
}
