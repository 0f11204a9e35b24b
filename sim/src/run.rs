//! One run: a plan becomes a world, work, a trace and a verdict.
//!
//! First safety: faults come and go while clients work. Then liveness: everything has healed, so every group must lead,
//! every node decide, every replica be equal, and a restart must come to the same state. Everything happens on one
//! thread in one runtime with paused time. Nothing in here may depend on the process.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use serde::Serialize;

use nethical_cluster::fsck;
use nethical_cluster::message::{AskFsckV1, FsckV1};
use nethical_cluster::world::{Clock, Scope};
use nethical_protocol::decision::ItemAnswer;
use nethical_protocol::error::Code;
use nethical_protocol::ids::{GroupId, NodeId};

use crate::check::{Findings, sometimes};
use crate::clock::SimClock;
use crate::dice;
use crate::findings::{gather, lacking, replicas_of};
use crate::history::{History, Told};
use crate::monitor::{Monitor, leaderships};
use crate::nemesis::Nemesis;
use crate::plan::Plan;
use crate::probes::Meddler;
use crate::runtimes::Lives;
use crate::trace::{Field, Trace};
use crate::watch::{Violation, Watch};
use crate::workload::Stage;
use crate::world::{Death, Fleet};

/// Work ends this long before the run does.
const WORK_ENDS_BEFORE: Duration = Duration::from_secs(2);
/// All groups lead again, and all replicas are equal, this long after the run at the latest.
const CONVERGENCE_MAX: Duration = Duration::from_secs(30);
/// Between two looks at a condition that is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A run with fewer decisions a second than this shows too little: it is void.
const DECIDED_PER_S_MIN: u64 = 3;
/// The number by which the restart of the whole fleet darkens machines.
const RESTART: u32 = u32::MAX;

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Its length in simulated seconds, convergence included.
    pub seconds: f64,
    /// SHA-256 over the trace.
    pub digest: String,
    /// Events of the trace.
    pub events: u64,
    /// Nodes and partition groups.
    pub fleet: (usize, u32),
    /// Faults that the plan had.
    pub faults: usize,
    /// Requests made.
    pub requests: u64,
    /// Of those, decided and told so.
    pub decided: u64,
    /// Of those, allowed.
    pub allowed: u64,
    /// Requests without an answer when the client's patience ended.
    pub unanswered: u64,
    /// Recorded outcomes that were answered again.
    pub replays: u64,
    /// Orders of administrators that were carried out, and those that were not.
    pub orders: (u64, u64),
    /// Times that some node began to lead some group.
    pub leader_changes: u64,
    /// Leaves in all logs together.
    pub leaves: u64,
    /// From the last fault's end until every group had a leader that decides, milliseconds.
    pub healed_after_ms: Option<u64>,
    /// True where too little was decided for the checks to mean much.
    pub is_void: bool,
    /// What has been seen of what must be seen sometimes, and how often; places where a machine lost its power and unusual
    /// ways that were taken are there by their names.
    pub seen: BTreeMap<String, u64>,
    /// What must not happen and did. Empty for a good run.
    pub violations: Vec<Violation>,
}

/// Runs a plan. Must be called inside a runtime of one thread whose clock is paused and has not moved. With `lives`, nodes
/// run in runtimes of their own, and the caller runs those beside this.
pub async fn run(plan: &Plan, trace: Trace, lives: Option<Lives>) -> Report {
    let tasks_before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let clock = SimClock::begin();
    let watch = Watch::new(clock.clone());
    let meddler = Meddler::new(plan, clock.clone(), trace.clone(), watch.clone());
    meddler.install();
    let fleet = Fleet::new(plan, clock, trace.clone(), watch, lives);
    let stage = Stage { fleet, work: plan.work.clone(), history: History::default(), seed: plan.seed };
    let run = Run {
        nemesis: Nemesis::new(plan, stage.fleet.clone(), meddler.clone()),
        meddler: meddler.clone(),
        stage,
        monitor: Monitor::default(),
        outside: Scope::new(dice::seed_of(plan.seed, "outside")),
        dice: dice::fork(plan.seed, "run"),
    };
    let mut report = run.through(plan).await;
    meddler.remove();
    report.violations.extend(leaked(tasks_before).await);
    for violation in &report.violations {
        let what = [("check", Field::Text(violation.check)), ("what", Field::Text(&violation.what))];
        trace.event(Duration::from_millis(violation.at_ms), None, "violation", &what);
    }
    Report { digest: trace.digest(), events: trace.events(), ..report }
}

/// Nothing of the world is left in the runtime after its end.
async fn leaked(before: usize) -> Option<Violation> {
    const YIELDS_MAX: usize = 2_000;
    let metrics = tokio::runtime::Handle::current().metrics();
    for _ in 0..YIELDS_MAX {
        if metrics.num_alive_tasks() <= before {
            return None;
        }
        tokio::task::yield_now().await;
    }
    let what = format!("{} tasks are alive after the end of the world", metrics.num_alive_tasks() - before);
    Some(Violation { check: "no-leak", at_ms: 0, what })
}

struct Run {
    stage: Stage,
    nemesis: Nemesis,
    meddler: Meddler,
    monitor: Monitor,
    /// Clients and the monitor: what lives outside of the nodes.
    outside: Scope,
    dice: ChaCha12Rng,
}

impl Run {
    async fn through(mut self, plan: &Plan) -> Report {
        let fleet = self.stage.fleet.clone();
        self.introduce(plan);
        fleet.nodes().into_iter().for_each(|node| fleet.start(node));
        let monitor = self.outside.spawn(self.monitor.clone().watch(fleet.clone()));
        if let Err(problem) = self.stage.furnish(&mut self.dice).await {
            self.violated("furnish", format!("tenants and limits were not made: {problem}"));
        }
        fleet.event(None, "furnished", &[]);
        let healed_after = self.work(plan).await;
        if healed_after.is_none() {
            let why = self.not_leading().join("; ");
            self.violated("liveness", format!("{} s after the last fault: {why}", CONVERGENCE_MAX.as_secs()));
        }
        self.check_new_decisions().await;
        self.check_convergence().await;
        self.check_segments_mend().await;
        let findings = gather(plan, &self.stage, &mut self.dice).await;
        let at_ms = self.now().as_millis() as u64;
        let found = findings.check(at_ms);
        self.check_restart(&findings).await;
        let mut report = self.report(plan, healed_after, &findings);
        report.violations.extend(found);
        monitor.abort();
        self.outside.kill();
        fleet.end();
        report
    }

    /// The first event: who is where.
    fn introduce(&self, plan: &Plan) {
        let regions = plan.fleet.regions.join(",");
        let fields = [("regions", Field::Text(&regions)), ("length_ms", Field::Number(plan.length_ms))];
        self.stage.fleet.event(None, "fleet", &fields);
    }

    fn violated(&self, check: &'static str, what: String) {
        self.stage.fleet.watch().violated(check, what);
    }

    /// Clients work while faults come and go. Gives how long the groups took to lead again after the last fault.
    async fn work(&mut self, plan: &Plan) -> Option<Duration> {
        let until = plan.length() - WORK_ENDS_BEFORE;
        let clients = (0..plan.work.clients).map(|number| self.outside.spawn(self.stage.clone().client(number, until)));
        let mut tasks: Vec<_> = clients.collect();
        for number in 0..plan.work.approvals {
            tasks.push(self.outside.spawn(self.stage.clone().asker(number, until)));
        }
        for number in 0..plan.work.approvals.min(2) {
            tasks.push(self.outside.spawn(self.stage.clone().approver(number, until)));
        }
        for (number, order) in plan.work.orders.iter().enumerate() {
            tasks.push(self.outside.spawn(self.stage.clone().order(number, order.clone())));
        }
        self.nemesis.clone().run(&plan.faults).await;
        self.stage.fleet.clock().reach(plan.healed_at()).await;
        let healed_at = self.now();
        let led = self.until(|run| run.not_leading().is_empty()).await;
        let healed_after = led.then(|| self.now() - healed_at);
        for task in tasks {
            let _ = task.await;
        }
        self.stage.fleet.clock().reach(plan.length()).await;
        healed_after
    }

    fn now(&self) -> Duration {
        self.stage.fleet.clock().real()
    }

    /// Waits until a condition holds; false where it does not in time.
    async fn until(&self, condition: impl Fn(&Self) -> bool) -> bool {
        let begun = self.now();
        while !condition(self) {
            if self.now() - begun > CONVERGENCE_MAX {
                return false;
            }
            self.stage.fleet.clock().sleep(LOOK_EVERY).await;
        }
        true
    }

    /// What stands in the way of every node being ready and every partition having one that may decide.
    fn not_leading(&self) -> Vec<String> {
        let fleet = &self.stage.fleet;
        let living = fleet.living();
        let mut why = fleet.troubles();
        let down = fleet.nodes().len() - living.len();
        if down > 0 {
            why.push(format!("{down} nodes are down"));
        }
        for (node, living) in &living {
            let unready = living.governor.core().ready().into_iter().filter(|check| !check.ok);
            why.extend(unready.map(|check| format!("node {node}: {}: {}", check.name, check.detail)));
            let leaderless = leaderships(living).into_iter().filter(|(_, leadership)| leadership.leader.is_none());
            why.extend(leaderless.map(|(group, _)| format!("node {node} knows no leader of group {group}")));
        }
        for group in fleet.partitions() {
            let decides = living.iter().any(|(_, living)| {
                let lead = living.governor.core().partition(group).and_then(|replica| replica.lead());
                lead.is_some_and(|lead| lead.check_may_decide().is_ok())
            });
            if !decides {
                why.push(format!("nobody decides for group {group}"));
            }
        }
        why
    }

    /// After healing, new decisions succeed through every node, in one call.
    async fn check_new_decisions(&mut self) {
        for node in self.stage.fleet.nodes() {
            for (tenant, agents) in self.stage.agents() {
                let actions: Vec<_> = (0..agents.min(6))
                    .map(|agent| self.stage.action(tenant, &crate::workload::agent_name(agent), &mut self.dice))
                    .collect();
                let asked = actions.len();
                let answers = self.stage.decide(u32::MAX, node, actions).await.unwrap_or_default();
                let decided = answers.iter().filter(|answer| is_alive(answer)).count();
                if decided < asked {
                    let why = answers.iter().find(|answer| !is_alive(answer)).map(|answer| &answer.result);
                    let what = format!("after healing, node {node} decided {decided} of {asked} requests: {why:?}");
                    self.violated("liveness", what);
                }
            }
        }
    }

    /// After healing, all replicas come to the same position, and have the leaves that they never applied themselves; what
    /// that means for their content is for the checks.
    async fn check_convergence(&self) {
        let fleet = self.stage.fleet.clone();
        let is_equal = |_: &Self| {
            fleet.partitions().all(|group| {
                let positions = replicas_of(&fleet, group);
                let here = positions.len() == fleet.spec().replicas;
                here && positions.windows(2).all(|pair| pair[0].1 == pair[1].1) && lacking(&fleet, group).is_empty()
            })
        };
        if !self.until(is_equal).await {
            for group in fleet.partitions() {
                let positions = replicas_of(&fleet, group);
                if positions.windows(2).any(|pair| pair[0].1 != pair[1].1) || positions.len() != fleet.spec().replicas {
                    self.violated("convergence", format!("replicas of group {group} stay at {positions:?}"));
                }
                for node in lacking(&fleet, group) {
                    self.violated("convergence", format!("node {node} never got all leaves of group {group}"));
                }
            }
        }
    }

    /// After healing, a look at all closed audit segments finds nothing that is not mended soon.
    async fn check_segments_mend(&self) {
        let reports = |run: &Self| -> Vec<(NodeId, FsckV1)> {
            let living = run.stage.fleet.living().into_iter();
            living.map(|(node, living)| (node, fsck::report(living.governor.core()))).collect()
        };
        for (_, living) in self.stage.fleet.living() {
            fsck::on_ask(living.governor.core().clone(), AskFsckV1 { begin: true }).await;
        }
        let is_whole = |said: &FsckV1| said.done >= said.wanted && said.damage.is_empty() && said.gaps.is_empty();
        if !self.until(|run| reports(run).iter().all(|(_, said)| is_whole(said))).await {
            for (node, said) in reports(self).into_iter().filter(|(_, said)| !is_whole(said)) {
                self.violated("convergence", format!("node {node} does not mend its audit segments: {said:?}"));
            }
        }
    }

    /// All power fails at once, and what was durable comes to the same state again.
    async fn check_restart(&mut self, findings: &Findings<'_>) {
        let fleet = self.stage.fleet.clone();
        fleet.nodes().into_iter().for_each(|node| fleet.darken(node, RESTART, Death::Clean));
        fleet.nodes().into_iter().for_each(|node| fleet.lighten(node, RESTART));
        if !self.until(|run| run.not_leading().is_empty()).await {
            self.violated("restart", format!("after a restart of all: {}", self.not_leading().join("; ")));
            return;
        }
        for ((group, node), log) in &findings.logs {
            let replica = fleet.node(*node).and_then(|living| living.governor.core().partition(*group));
            let Some(replica) = replica else {
                self.violated("restart", format!("group {group} is gone from node {node} after a restart"));
                continue;
            };
            let size = log.hashes.len() as u64;
            let root = match replica.machine.lock().tree() {
                (now, root) if now == size => Some(root),
                _ => None,
            };
            if root.is_some_and(|root| root != log.root) {
                self.violated("restart", format!("group {group} on node {node} has another root after a restart"));
            }
            let found = replica.store.read(0, size).await.map(|records| records.len() as u64);
            if !matches!(found, Ok(count) if count > 0 || size == 0) {
                self.violated("restart", format!("group {group} on node {node}: leaves do not read: {found:?}"));
            }
        }
    }

    fn report(&self, plan: &Plan, healed_after: Option<Duration>, findings: &Findings<'_>) -> Report {
        let operations = &findings.operations;
        let decided: Vec<&Told> = operations.values().filter_map(|operation| operation.told.as_ref()).collect();
        let open = operations.values().filter(|one| one.told.is_none() && one.refused.is_none());
        let mut seen: BTreeMap<String, u64> =
            sometimes::seen(findings).into_iter().map(|(goal, count)| (goal.to_owned(), count)).collect();
        seen.extend(self.meddler.seen().into_iter().map(|(goal, count)| (goal.to_owned(), count)));
        let leaves = |group: GroupId| findings.longest().get(&group).map_or(0, |log| log.leaves.len() as u64);
        Report {
            seed: plan.seed,
            seconds: self.now().as_secs_f64(),
            digest: String::new(),
            events: 0,
            fleet: (plan.fleet.regions.len(), plan.fleet.partitions),
            faults: plan.faults.len(),
            requests: operations.len() as u64,
            decided: decided.len() as u64,
            allowed: decided.iter().filter(|told| told.verdict.is_allowed()).count() as u64,
            unanswered: open.count() as u64,
            replays: self.stage.history.replays(),
            orders: self.stage.history.orders(),
            leader_changes: self.monitor.leader_changes(),
            leaves: self.stage.fleet.partitions().map(leaves).sum(),
            healed_after_ms: healed_after.map(|wait| wait.as_millis() as u64),
            is_void: (decided.len() as u64) < DECIDED_PER_S_MIN * plan.length_ms / 1_000,
            seen,
            violations: self.stage.fleet.watch().violations(),
        }
    }
}

/// A decision, or what is refused from memory, since that was decided a moment ago.
fn is_alive(answer: &ItemAnswer) -> bool {
    match &answer.result {
        Ok(_) => true,
        Err(problem) => problem.code == Code::DenialRepeated,
    }
}
