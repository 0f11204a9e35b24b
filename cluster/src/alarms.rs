//! What many agents do together, as this node and the others have noticed it. Fed by the sealers, off every request's path.
//!
//! Each node correlates the leaves of all groups that it hosts, once each, and remembers a bounded number of alarms. A
//! question is asked of every node, and what several of them noticed is told once. Alarms advise: nothing here changes a
//! verdict, and what a node missed (before its start, while it caught up from a snapshot) only makes it quieter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use rkyv::rancor::Error;
use serde::{Deserialize, Serialize};

use nethical_audit::leaf::{DecisionLeaf, LeafEvent, LeafV1};
use nethical_governance::correlate::{Alarm, Drift, Pattern, Seen, Sketch};
use nethical_governance::risk::VIOLATION_SEVERITY_MIN;
use nethical_protocol::error::Problem;
use nethical_protocol::ids::{GroupId, KeyedId};
use nethical_protocol::limits::{ALARM_AGENTS_MAX, ALARMS_MAX};

use crate::drift::{self, CohortView, DriftV1};
use crate::message::KIND_ALARMS;
use crate::node::Core;
use crate::world::Lane;

/// Alarms raised, by pattern.
pub const ALARMS_TOTAL: &str = "nethical_correlation_alarms_total";
/// How long a node may take to tell its alarms.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// The term of the risk sum that is the severity of the action.
const SEVERITY_TERM: usize = 1;

/// What a node correlates.
#[derive(Debug, Default)]
pub struct Correlation {
    sketch: Sketch,
    /// The next leaf of each group.
    next: BTreeMap<GroupId, u64>,
}

impl Correlation {
    /// Takes leaves of a group in, in order; those that it has seen are passed over.
    pub fn note<'a>(&mut self, group: GroupId, leaves: impl Iterator<Item = &'a LeafV1>) {
        for leaf in leaves {
            let next = self.next.entry(group).or_default();
            if leaf.leaf_index < *next {
                continue;
            }
            *next = leaf.leaf_index + 1;
            if let LeafEvent::Decision(decision) = &leaf.event {
                count(&self.sketch.note(&seen(leaf.now_ns, decision)));
            }
        }
    }

    /// All alarms that this node remembers, oldest first.
    pub fn alarms(&mut self) -> Vec<Alarm> {
        count(&self.sketch.catch_up());
        self.sketch.alarms(None).cloned().collect()
    }

    /// Where the risk scores of all cohorts stand, with their tenants.
    pub fn drifts(&mut self) -> Vec<(KeyedId, Drift)> {
        count(&self.sketch.catch_up());
        self.sketch.drifts(None).collect()
    }
}

fn count(patterns: &[Pattern]) {
    for pattern in patterns {
        metrics::counter!(ALARMS_TOTAL, "pattern" => pattern.as_str()).increment(1);
    }
}

fn seen(now_ns: u64, decision: &DecisionLeaf) -> Seen {
    let DecisionLeaf { tenant, agent, tool, resource, cohort, risk, entropy, action_kind: kind, .. } = *decision;
    let violates = decision.risk_terms[SEVERITY_TERM] >= VIOLATION_SEVERITY_MIN;
    Seen { now_ns, tenant, agent, tool, kind, resource, violates, cohort, risk, entropy }
}

/// One alarm on the wire.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AlarmV1 {
    /// Position in [`Pattern::ALL`].
    pub pattern: u8,
    /// The tenant's keyed id.
    pub tenant: [u8; 16],
    /// Agents concerned.
    pub agents: u64,
    /// Keyed ids of some.
    pub sample: Vec<[u8; 16]>,
    /// 0..1000.
    pub severity: u16,
    /// Log time at which it was noticed, nanoseconds since 1970.
    pub first_ns: u64,
    /// Log time of its latest action, nanoseconds since 1970.
    pub last_ns: u64,
    /// Agents usually so concerned.
    pub usual: u64,
    /// Agents from which on it was an alarm.
    pub needed: u64,
    /// Of a drift.
    pub drift: Option<DriftV1>,
}

/// All alarms of a node.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AlarmsV1 {
    /// Oldest first.
    pub alarms: Vec<AlarmV1>,
}

impl AlarmsV1 {
    /// The rkyv bytes.
    pub fn to_bytes(&self) -> Bytes {
        let bytes = rkyv::api::high::to_bytes_in::<_, Error>(self, Vec::with_capacity(1_024));
        Bytes::from(bytes.expect("encoding into memory cannot fail"))
    }

    /// Reads and checks.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        rkyv::from_bytes::<Self, Error>(bytes)
    }
}

/// Which alarms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlarmQuery {
    /// One tenant.
    pub tenant: Option<String>,
}

/// Alarms of all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmList {
    /// Oldest first.
    pub alarms: Vec<AlarmView>,
    /// Nodes that did not answer: what only they noticed is missing here.
    pub awaiting: Vec<u64>,
}

/// One alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmView {
    /// The tenant's name; its keyed id where this node does not know it.
    pub tenant: String,
    /// What it is.
    pub pattern: String,
    /// The same in a sentence, with its numbers.
    pub explanation: String,
    /// Seconds that are looked at together.
    pub window_s: u32,
    /// 0..1000, by how far it is beyond the usual.
    pub severity: u16,
    /// Agents concerned, as far as they were counted.
    pub agents: u64,
    /// Keyed ids of some of them, as leaves have them.
    pub sample: Vec<String>,
    /// Agents usually so concerned in a window.
    pub usual: u64,
    /// Agents from which on it was an alarm.
    pub needed: u64,
    /// Log time at which it was noticed, nanoseconds since 1970.
    pub first_ns: u64,
    /// Log time of the latest action that belongs to it, nanoseconds since 1970.
    pub last_ns: u64,
    /// Nodes that noticed it.
    pub nodes: Vec<u64>,
    /// Of a drift: the cohort and how far its scores were off at the highest level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<CohortView>,
}

/// What this node tells others.
pub fn report(core: &Core) -> AlarmsV1 {
    let alarms = core.shared.correlation.lock().alarms();
    AlarmsV1 { alarms: alarms.into_iter().map(sent).collect() }
}

fn sent(alarm: Alarm) -> AlarmV1 {
    let Alarm { pattern, tenant, agents, sample, severity, first_ns, last_ns, usual, needed, drift, .. } = alarm;
    let (pattern, tenant) = (pattern as u8, tenant.0);
    let sample = sample.into_iter().map(|agent| agent.0).collect();
    let drift = drift.map(DriftV1::from);
    AlarmV1 { pattern, tenant, agents, sample, severity, first_ns, last_ns, usual, needed, drift }
}

/// The alarms of all nodes, of one tenant or of all.
pub async fn list(core: Arc<Core>, query: AlarmQuery) -> Result<AlarmList, Problem> {
    let view = core.shared.view();
    let only = match &query.tenant {
        None => None,
        Some(name) => Some(view.tenant(name).ok_or_else(|| core.shared.no_tenant(name))?.id),
    };
    let wire = &core.shared.world.wire;
    let asked = core.peers().into_iter().map(|peer| async move {
        let answer = wire.call(peer, Lane::Control, KIND_ALARMS, Bytes::new(), PATIENCE).await;
        (peer.0, answer.ok().and_then(|bytes| AlarmsV1::from_bytes(&bytes).ok()))
    });
    let mut said = vec![(core.shared.options.node.0, Some(report(&core)))];
    said.extend(join_all(asked).await);
    let names: BTreeMap<KeyedId, &str> =
        view.tenants().map(|tenant| (tenant.id, tenant.spec.tenant.as_str())).collect();
    let awaiting = said.iter().filter(|(_, alarms)| alarms.is_none()).map(|(node, _)| *node).collect();
    let told = said
        .into_iter()
        .flat_map(|(node, alarms)| alarms.into_iter().flat_map(|alarms| alarms.alarms).map(move |alarm| (node, alarm)));
    let told = told.filter(|(_, alarm)| only.is_none_or(|tenant| tenant.0 == alarm.tenant));
    let told = told.filter_map(|(node, alarm)| shown(&names, node, alarm)).collect();
    Ok(AlarmList { alarms: merged(told), awaiting })
}

fn shown(names: &BTreeMap<KeyedId, &str>, node: u64, alarm: AlarmV1) -> Option<AlarmView> {
    let pattern = Pattern::ALL.get(usize::from(alarm.pattern))?;
    let tenant = KeyedId(alarm.tenant);
    let drift = alarm.drift.as_ref().and_then(drift::shown);
    Some(AlarmView {
        tenant: names.get(&tenant).map_or_else(|| tenant.to_string(), |name| (*name).to_owned()),
        pattern: pattern.as_str().to_owned(),
        explanation: explain(*pattern, &alarm, drift.as_ref()),
        window_s: pattern.window_s(),
        severity: alarm.severity,
        agents: alarm.agents,
        sample: alarm.sample.iter().take(ALARM_AGENTS_MAX).map(|agent| KeyedId(*agent).to_string()).collect(),
        usual: alarm.usual,
        needed: alarm.needed,
        first_ns: alarm.first_ns,
        last_ns: alarm.last_ns,
        nodes: vec![node],
        drift,
    })
}

fn explain(pattern: Pattern, alarm: &AlarmV1, drift: Option<&CohortView>) -> String {
    let AlarmV1 { agents, usual, needed, .. } = alarm;
    let what = match pattern {
        Pattern::MultiIdProbes => "agents that are new tried the same deed",
        Pattern::CoordinatedAttack => "agents violated at once",
        Pattern::DistributedReconnaissance => "agents were each refused at several resources that are new to them",
        Pattern::AnomalousCluster => "agents did exactly the same, again and again",
        Pattern::PayloadEntropyShift => {
            "agents sent payloads of another entropy than each of them usually does with the same tool"
        }
        Pattern::RiskDrift => return drift.map_or_else(String::new, explain_drift),
    };
    format!("{agents} {what}; {usual} are usual, {needed} were needed")
}

fn explain_drift(drift: &CohortView) -> String {
    let cohort = if drift.cohort.is_empty() { "no cohort".to_owned() } else { format!("cohort {}", drift.cohort) };
    let thousandths = |of: u32| format!("{}.{:03}", of / 1_000, of % 1_000);
    let [psi, kl, js] = [drift.psi, drift.kl, drift.js].map(thousandths);
    let (samples, baseline) = (drift.samples, drift.baseline);
    format!(
        "{samples} decisions of {cohort} are scored otherwise than its {baseline} before: PSI {psi}, KL {kl}, JS {js}"
    )
}

/// What several nodes noticed within a window of each other is one alarm. The newest are kept, oldest first.
fn merged(mut told: Vec<AlarmView>) -> Vec<AlarmView> {
    told.sort_by(|left, right| (left.first_ns, &left.nodes).cmp(&(right.first_ns, &right.nodes)));
    let mut alarms: Vec<AlarmView> = Vec::new();
    let mut open: BTreeMap<(String, String, Option<String>), usize> = BTreeMap::new();
    for alarm in told {
        let cohort = alarm.drift.as_ref().map(|drift| drift.cohort.clone());
        let key = (alarm.tenant.clone(), alarm.pattern.clone(), cohort);
        let before = open.get(&key).and_then(|at| alarms.get_mut(*at));
        match before.filter(|before| is_same(before, &alarm)) {
            Some(before) => join(before, alarm),
            None => {
                open.insert(key, alarms.len());
                alarms.push(alarm);
            }
        }
    }
    alarms.split_off(alarms.len().saturating_sub(ALARMS_MAX))
}

/// One node's own alarms are already apart.
fn is_same(before: &AlarmView, alarm: &AlarmView) -> bool {
    let until = before.last_ns.saturating_add(u64::from(before.window_s) * 1_000_000_000);
    alarm.first_ns <= until && alarm.nodes.iter().all(|node| !before.nodes.contains(node))
}

fn join(before: &mut AlarmView, alarm: AlarmView) {
    before.last_ns = before.last_ns.max(alarm.last_ns);
    before.agents = before.agents.max(alarm.agents);
    before.severity = before.severity.max(alarm.severity);
    before.nodes.extend(alarm.nodes);
    for agent in alarm.sample {
        if before.sample.len() < ALARM_AGENTS_MAX && !before.sample.contains(&agent) {
            before.sample.push(agent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(node: u64, first_s: u64, agents: u64) -> AlarmView {
        let sent = AlarmV1 {
            pattern: 1,
            tenant: [1; 16],
            agents,
            sample: vec![[node as u8; 16]],
            severity: 500,
            first_ns: first_s * 1_000_000_000,
            last_ns: (first_s + 10) * 1_000_000_000,
            usual: 1,
            needed: 6,
            drift: None,
        };
        let read = AlarmsV1::from_bytes(&AlarmsV1 { alarms: vec![sent.clone()] }.to_bytes()).expect("reads");
        assert_eq!(read.alarms, std::slice::from_ref(&sent));
        shown(&BTreeMap::from([(KeyedId([1; 16]), "airline")]), node, sent).expect("a known pattern")
    }

    #[test]
    fn what_several_nodes_noticed_is_told_once() {
        let told = vec![alarm(2, 1_000, 9), alarm(1, 1_003, 12), alarm(3, 999, 7), alarm(1, 5_000, 6)];
        let alarms = merged(told);
        let short: Vec<_> =
            alarms.iter().map(|alarm| (alarm.agents, alarm.nodes.clone(), alarm.sample.len())).collect();
        assert_eq!(short, [(12, vec![3, 2, 1], 3), (6, vec![1], 1)]);
        assert_eq!((alarms[0].tenant.as_str(), alarms[0].pattern.as_str()), ("airline", "coordinated-attack"));
        assert_eq!(alarms[1].explanation, "6 agents violated at once; 1 are usual, 6 were needed");
    }

    #[test]
    fn drifts_of_two_cohorts_are_two_alarms_that_say_which() {
        let of_cohort = |node: u64, cohort: u8| {
            let (psi, kl, js, level) = (1_312, 90, 120, 4);
            let drift = DriftV1 { cohort: [cohort; 16], since_ns: 1, samples: 40, baseline: 900, psi, kl, js, level };
            let (pattern, sample) = (Pattern::RiskDrift as u8, vec![[3; 16]]);
            let (severity, first_ns, last_ns, usual, needed) = (500, 9, 9, 0, 0);
            let (tenant, agents, drift) = ([1; 16], 2, Some(drift));
            let sent = AlarmV1 { pattern, tenant, agents, sample, severity, first_ns, last_ns, usual, needed, drift };
            let read = AlarmsV1::from_bytes(&AlarmsV1 { alarms: vec![sent] }.to_bytes()).expect("reads");
            shown(&BTreeMap::new(), node, read.alarms[0].clone()).expect("a known pattern")
        };
        let alarms = merged(vec![of_cohort(1, 5), of_cohort(2, 5), of_cohort(2, 6), of_cohort(1, 0)]);
        assert_eq!(alarms.len(), 3, "{alarms:?}");
        let cohort = "05".repeat(16);
        let words = format!(
            "40 decisions of cohort {cohort} are scored otherwise than its 900 before: PSI 1.312, KL 0.090, JS 0.120"
        );
        let drift = alarms.iter().find(|alarm| alarm.explanation == words).expect("told").drift.as_ref();
        assert_eq!(
            drift.map(|drift| (drift.level.as_str(), drift.cohort.as_str())),
            Some(("critical", cohort.as_str()))
        );
        assert!(alarms.iter().any(|alarm| alarm.explanation.starts_with("40 decisions of no cohort ")));
    }

    #[test]
    fn a_leaf_counts_once_and_violates_by_its_severity() {
        let mut correlation = Correlation::default();
        let minute = 60_000_000_000;
        let mut index = 0;
        let mut note = |correlation: &mut Correlation, now_ns: u64, agent: u8, severity: u16| {
            let (agent, tenant) = (KeyedId([agent; 16]), KeyedId([9; 16]));
            let decision =
                DecisionLeaf { agent, tenant, risk_terms: [0, severity, 0, 0, 0], ..DecisionLeaf::default() };
            let event = LeafEvent::Decision(Box::new(decision));
            let (group, era, term, body_commitment) = (2, 1, 1, [0; 32]);
            let leaf = LeafV1 { group, era, leaf_index: index, now_ns, term, body_commitment, event };
            index += 1;
            correlation.note(GroupId(2), [&leaf, &leaf].into_iter());
        };
        for at in 0..40 {
            (0..10).for_each(|agent| note(&mut correlation, at * minute, agent, 0));
        }
        (0..10).for_each(|agent| note(&mut correlation, 40 * minute, agent, VIOLATION_SEVERITY_MIN - 1));
        assert_eq!(correlation.alarms(), []);
        (0..10).for_each(|agent| note(&mut correlation, 40 * minute, agent, VIOLATION_SEVERITY_MIN));
        let alarms = correlation.alarms();
        assert_eq!((alarms.len(), alarms[0].pattern, alarms[0].agents), (1, Pattern::CoordinatedAttack, 10));
    }
}
