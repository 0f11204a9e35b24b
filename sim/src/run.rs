//! One run: a seed becomes a world, a plan, a workload, a trace and a verdict.
//!
//! Everything happens on one thread in one runtime with paused time. Nothing in here may depend on the process.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use serde::Serialize;

use nethical_audit::leaf::LeafV1;
use nethical_audit::tree::{Frontier, leaf_hash};
use nethical_cluster::api::{EntryQuery, EntryView, Governor};
use nethical_cluster::world::{Clock, Scope};
use nethical_protocol::ids::{DecisionId, GroupId, NodeId};

use crate::clock::SimClock;
use crate::dice;
use crate::history::{History, Told};
use crate::monitor::{Monitor, leaderships};
use crate::oracle::{Entry, Findings, Log, before_all};
use crate::plan::{Fault, NODES, Plan};
use crate::trace::Trace;
use crate::workload::{AGENTS, CLIENTS, Stage};
use crate::world::{Fleet, PARTITIONS};

/// Work ends this long before the run does.
const WORK_ENDS_BEFORE: Duration = Duration::from_secs(3);
/// All groups lead again, and all replicas are equal, this long after the run at the latest.
const CONVERGENCE_MAX: Duration = Duration::from_secs(20);
/// Between two looks at a condition that is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Entries read at once.
const PAGE: usize = 1_000;

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Its length in simulated seconds.
    pub seconds: u64,
    /// SHA-256 over the trace.
    pub digest: String,
    /// Lines of the trace.
    pub events: u64,
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
    /// Times that some node began to lead some group.
    pub leader_changes: u64,
    /// Leaves in all logs together.
    pub leaves: u64,
    /// From the last fault's end until every group had a leader that decides, milliseconds.
    pub healed_after_ms: Option<u64>,
    /// What the run should have shown and did not; the checks of those things mean little.
    pub unseen: Vec<String>,
    /// What must not happen and did. Empty for a good run.
    pub violations: Vec<String>,
}

/// Runs a plan with a seed's workload. Must be called inside a runtime of one thread whose clock is paused and has not moved.
pub async fn run(seed: u64, plan: Plan, trace: Trace) -> Report {
    let clock = SimClock::begin();
    let run = Run {
        stage: Stage { fleet: Fleet::new(seed, clock, trace.clone()), history: History::default() },
        monitor: Monitor::default(),
        outside: Scope::new(dice::seed_of(seed, "outside")),
        dice: dice::fork(seed, "run"),
        seed,
    };
    let report = run.through(&plan).await;
    Report { digest: trace.digest(), events: trace.events(), ..report }
}

struct Run {
    stage: Stage,
    monitor: Monitor,
    /// Clients and the monitor: what lives outside of the nodes.
    outside: Scope,
    dice: ChaCha12Rng,
    seed: u64,
}

impl Run {
    async fn through(mut self, plan: &Plan) -> Report {
        let mut violations = Vec::new();
        for (node, _) in NODES {
            self.stage.fleet.start(node).await;
        }
        self.outside.spawn(self.monitor.clone().watch(self.stage.fleet.clone()));
        if let Err(problem) = self.stage.furnish(&mut self.dice).await {
            violations.push(format!("tenants and limits were not made: {problem}"));
        }
        self.stage.fleet.event(None, "furnished", "");
        let healed_after = self.work(plan).await;
        if healed_after.is_none() {
            violations.push(format!(
                "not every group has a leader that decides {} s after the last fault",
                CONVERGENCE_MAX.as_secs()
            ));
        }
        violations.extend(self.check_new_decisions().await);
        violations.extend(self.check_convergence().await);
        let findings = self.findings().await;
        violations.extend(self.stage.fleet.complaints());
        violations.extend(self.monitor.violations());
        violations.extend(findings.check());
        let report = self.report(plan, healed_after, &findings, violations);
        self.outside.kill();
        self.stage.fleet.end();
        report
    }

    /// Clients work while faults come and go. Gives how long the groups took to lead again after the last fault.
    async fn work(&mut self, plan: &Plan) -> Option<Duration> {
        let until = plan.length - WORK_ENDS_BEFORE;
        let clients =
            (0..CLIENTS).map(|number| self.outside.spawn(self.stage.clone().client(number, self.seed, until)));
        let mut tasks: Vec<_> = clients.collect();
        tasks.push(self.outside.spawn(self.stage.clone().quarantine(self.seed, plan.quarantine)));
        for (at, fault) in &plan.faults {
            self.stage.fleet.clock().reach(*at).await;
            self.carry_out(*fault).await;
        }
        let healed_at = self.now();
        let led = self.until(|run| run.all_lead()).await;
        let healed_after = led.then(|| self.now() - healed_at);
        for task in tasks {
            let _ = task.await;
        }
        self.stage.fleet.clock().reach(plan.length).await;
        healed_after
    }

    async fn carry_out(&self, fault: Fault) {
        let (fleet, network) = (&self.stage.fleet, self.stage.fleet.network());
        fleet.event(None, "fault", &format!("{fault:?}"));
        match fault {
            Fault::PowerLoss => NODES.iter().for_each(|(node, _)| fleet.crash(*node)),
            Fault::Crash(node) => fleet.crash(node),
            Fault::Restart(node) => fleet.start(node).await,
            Fault::Cut(from, to) => network.cut(from, to),
            Fault::Mend(from, to) => network.mend(from, to),
            Fault::LyingDisks(lying) => fleet.lie_about_syncs(lying),
        }
    }

    fn now(&self) -> Duration {
        self.stage.fleet.clock().now()
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

    /// True where all nodes run and are ready, and each partition has one that may decide.
    fn all_lead(&self) -> bool {
        let living = self.stage.fleet.living();
        let decides = |group: GroupId| {
            let lead = |node: &NodeId| self.stage.fleet.node(*node)?.governor.core().partition(group)?.lead();
            living.iter().any(|(node, _)| lead(node).is_some_and(|lead| lead.check_may_decide().is_ok()))
        };
        living.len() == NODES.len()
            && living.iter().all(|(_, living)| living.governor.core().is_ready())
            && living
                .iter()
                .all(|(_, living)| leaderships(living).iter().all(|(_, leadership)| leadership.leader.is_some()))
            && partitions().all(decides)
    }

    /// After healing, new decisions succeed through every node.
    async fn check_new_decisions(&mut self) -> Vec<String> {
        let mut violations = Vec::new();
        for (node, _) in NODES {
            for (tenant, agents) in AGENTS {
                let actions: Vec<_> = (0..agents)
                    .map(|agent| self.stage.action(tenant, &format!("agent-{agent}"), &mut self.dice))
                    .collect();
                let answers = self.stage.decide(node, actions).await.unwrap_or_default();
                let decided = answers.iter().filter(|answer| answer.result.is_ok()).count();
                if decided < agents as usize {
                    let problem = answers.iter().find_map(|answer| answer.result.as_ref().err());
                    violations.push(format!(
                        "after healing, node {node} decided {decided} of {agents} new requests: {problem:?}"
                    ));
                }
            }
        }
        violations
    }

    /// After healing, all replicas come to the same size; what that means for their content is for the oracle.
    async fn check_convergence(&self) -> Vec<String> {
        let is_equal =
            |run: &Self| partitions().all(|group| run.sizes(group).windows(2).all(|pair| pair[0] == pair[1]));
        if self.until(is_equal).await {
            return Vec::new();
        }
        let unequal = partitions().filter(|group| self.sizes(*group).windows(2).any(|pair| pair[0] != pair[1]));
        unequal.map(|group| format!("replicas of group {group} stay at {:?} leaves", self.sizes(group))).collect()
    }

    fn sizes(&self, group: GroupId) -> Vec<Option<u64>> {
        let size =
            |node: NodeId| Some(self.stage.fleet.node(node)?.governor.core().partition(group)?.machine.lock().tree().0);
        NODES.iter().map(|(node, _)| size(*node)).collect()
    }

    /// Reads all logs from all nodes.
    async fn findings(&self) -> Findings {
        let (mut logs, mut entries) = (std::collections::BTreeMap::new(), Vec::new());
        for (node, living) in self.stage.fleet.living() {
            for group in partitions() {
                if let Some(log) = read_log(living.governor.core(), group).await {
                    let words = format!("group {group} {} leaves, root {}", log.hashes.len(), hex::encode(log.root));
                    self.stage.fleet.event(Some(node), "log", &words);
                    logs.insert((group, node), log);
                }
            }
        }
        let reader = self.stage.fleet.living().into_iter().next();
        if let Some((_, living)) = reader {
            entries = read_entries(&living.governor).await;
        }
        for entry in &entries {
            let words = entry
                .decision
                .as_ref()
                .map_or_else(String::new, |(request, told)| format!("{request} {}", told.leaf_hash));
            self.stage.fleet.event(None, "entry", &format!("{} {} {words}", entry.id, entry.kind));
        }
        Findings { history: self.stage.history.clone(), entries, logs }
    }

    fn report(
        &self,
        plan: &Plan,
        healed_after: Option<Duration>,
        findings: &Findings,
        violations: Vec<String>,
    ) -> Report {
        let operations = self.stage.history.operations();
        let decided: Vec<&Told> = operations.values().filter_map(|operation| operation.told.as_ref()).collect();
        Report {
            seed: self.seed,
            seconds: plan.length.as_secs(),
            digest: String::new(),
            events: 0,
            requests: operations.len() as u64,
            decided: decided.len() as u64,
            allowed: decided.iter().filter(|told| told.verdict.is_allowed()).count() as u64,
            unanswered: operations
                .values()
                .filter(|operation| operation.told.is_none() && operation.refused.is_none())
                .count() as u64,
            replays: self.stage.history.replays(),
            leader_changes: self.monitor.leader_changes(),
            leaves: findings.entries.len() as u64 + 1,
            healed_after_ms: healed_after.map(|wait| wait.as_millis() as u64),
            unseen: findings.unseen(),
            violations,
        }
    }
}

fn partitions() -> impl Iterator<Item = GroupId> {
    (GroupId::FIRST_PARTITION..GroupId::FIRST_PARTITION + PARTITIONS).map(GroupId)
}

/// One node's replica of a log; `None` where it is not there or does not read.
async fn read_log(core: &nethical_cluster::node::Core, group: GroupId) -> Option<Log> {
    let (size, root) = core.partition(group)?.machine.lock().tree();
    let (mut hashes, mut frontier) = (Vec::new(), Frontier::default());
    while (hashes.len() as u64) < size {
        let at = hashes.len() as u64;
        let found = core.leaves(group, at, size - at).await.ok()?;
        if found.records.is_empty() {
            return None;
        }
        for (leaf, _) in found.records {
            LeafV1::decode(&leaf).ok()?;
            hashes.push(leaf_hash(&leaf));
        }
    }
    hashes.truncate(size as usize);
    hashes.iter().for_each(|hash| frontier.append(*hash));
    Some(Log { hashes, root, recomputed: frontier.root() })
}

/// All entries as a reader of one node's API sees them.
async fn read_entries(governor: &dyn Governor) -> Vec<Entry> {
    let (mut entries, mut after) = (Vec::new(), before_all());
    loop {
        let query = EntryQuery { cursor: Some(after.to_string()), limit: Some(PAGE), ..EntryQuery::default() };
        let Ok(page) = governor.entries(query).await else { return entries };
        let next: Option<DecisionId> = page.cursor.and_then(|cursor| cursor.parse().ok());
        entries.extend(page.entries.into_iter().map(entry_of));
        match next {
            Some(next) if next > after => after = next,
            _ => return entries,
        }
    }
}

fn entry_of(view: EntryView) -> Entry {
    let decision = view.decision.as_ref().map(|decision| (decision.request_id.clone(), Told::of(decision)));
    Entry { id: view.decision_id, kind: view.kind, at_ns: view.at_ns, decision }
}
