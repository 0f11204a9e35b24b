//! Somebody asks for an erasure, and holds the nodes to what they say of it: what was told before is read by nobody any more,
//! and once it is complete no disk remembers a key that could open it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha12Rng;

use nethical_cluster::api::{EntryQuery, EntryView, ErasureView, Governor};
use nethical_cluster::ringkeys::RingKeys;
use nethical_cluster::text::file::Texts;
use nethical_cluster::text::tend::read_subject;
use nethical_cluster::world::Clock;
use nethical_governance::subject::SubjectId;
use nethical_protocol::control::EraseSpec;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, GroupId, KeyedId, LogId, NodeId};
use nethical_protocol::sometimes;

use super::{SPREAD, Stage};
use crate::trace::Field;
use crate::world::Living;

/// Between two looks at an erasure.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Decisions looked at again on every node, once their agent is erased.
const LOOKED_AT: usize = 100;

impl Stage {
    /// Erases an agent, and follows the erasure until it is complete or the run ends.
    pub async fn erase(self, agent: String, dice: &mut ChaCha12Rng) {
        let (told, before, begun) = (self.told_of(&agent), self.ring_keys(), self.now());
        let spec = EraseSpec { tenant: SPREAD.to_owned(), agent: agent.clone(), ..EraseSpec::default() };
        let asked = self.administer(dice, move |governor| {
            let spec = spec.clone();
            async move { governor.erase(spec).await.and_then(is_heard) }
        });
        let asked = asked.await;
        self.history.ordered(asked.is_ok());
        let words = asked.as_ref().map_or_else(ToString::to_string, |view| format!("{agent} as {}", view.id));
        self.fleet.event(None, "erase", &[("what", Field::Text(&words))]);
        self.look_at_holds(&agent, begun, asked.as_ref());
        let Ok(view) = asked else { return };
        let fresh = self.history.erased(&told);
        self.look_at(&agent, &told).await;
        while !self.is_erased(view.id, dice).await {
            self.fleet.clock().sleep(LOOK_EVERY).await;
        }
        // Where nothing was said since the erasure before, there was no key to take away.
        let groups: BTreeSet<GroupId> = fresh.iter().map(|id| id.log.group).collect();
        self.look_at_disks(&groups, &before).await;
        self.look_at_words(&agent).await;
    }

    /// An erasure is refused for a legal hold where one may stand, and never taken where one does.
    fn look_at_holds(&self, agent: &str, begun: Duration, asked: Result<&ErasureView, &Problem>) {
        let what = match asked {
            Ok(view) if self.history.is_legally_held(agent, begun) => {
                format!("{agent} was erased as {} under a legal hold", view.id)
            }
            Err(problem) if problem.code == Code::LegalHold && !self.history.may_be_legally_held(agent, begun) => {
                format!("{agent} was not erased for a legal hold that nobody set: {problem}")
            }
            Err(problem) if problem.code == Code::LegalHold => {
                return sometimes!(true, "a legal hold forbade an erasure");
            }
            _ => return,
        };
        self.fleet.watch().violated("retention", what);
    }

    /// The decisions of an agent that a client was told so far.
    fn told_of(&self, agent: &str) -> Vec<DecisionId> {
        let operations = self.history.operations();
        let own = operations.values().filter(|operation| operation.tenant == SPREAD && operation.agent == agent);
        own.filter_map(|operation| Some(operation.told.as_ref()?.id)).collect()
    }

    /// The ring key of each group, as any of its replicas has it.
    fn ring_keys(&self) -> BTreeMap<GroupId, BTreeSet<u64>> {
        let mut found: BTreeMap<GroupId, BTreeSet<u64>> = BTreeMap::new();
        for (_, living) in self.fleet.living() {
            for replica in living.governor.core().partitions() {
                let machine = replica.machine.lock();
                found.entry(replica.group.id()).or_default().extend(machine.ledger.subjects().ring());
            }
        }
        found
    }

    /// Every node is asked for the agent's decisions. None may show what those were about that were told before.
    async fn look_at(&self, agent: &str, told: &[DecisionId]) {
        for (node, living) in self.fleet.living() {
            let (tenant, agent) = (Some(SPREAD.to_owned()), Some(agent.to_owned()));
            let query = EntryQuery { tenant, agent, limit: Some(LOOKED_AT), ..EntryQuery::default() };
            let governor = living.governor.clone();
            let asked = living.scope.spawn(async move { governor.entries(query).await });
            let Ok(Ok(page)) = asked.await else { continue };
            let is_shown = |entry: &&EntryView| entry.body.is_some() && told.contains(&entry.decision_id);
            if let Some(shown) = page.entries.iter().find(is_shown) {
                let what = format!("node {node} shows {}, whose agent was erased", shown.decision_id);
                self.fleet.watch().violated("erasure", what);
            }
        }
    }

    /// Asks any node whether an erasure is complete.
    async fn is_erased(&self, id: u64, dice: &mut ChaCha12Rng) -> bool {
        let node = self.any_node(dice);
        let Some(living) = self.fleet.node(node) else { return false };
        let governor = living.governor.clone();
        let asked = living.scope.spawn(async move { governor.erasures(Some(id)).await });
        matches!(asked.await, Ok(Ok(views)) if views.first().is_some_and(|view| view.state == "erased"))
    }

    /// No machine's disk, running or not, may have words that the agent said under a key that is erased. Another erasure of the
    /// same agent may be under way: then it is that one's to look.
    async fn look_at_words(&self, agent: &str) {
        let Some((_, living)) = self.fleet.living().into_iter().next() else { return };
        let view = living.governor.core().shared.view();
        let Some(id) = view.tenant(SPREAD).map(|tenant| tenant.keys.keyed_id("agent", agent)) else { return };
        let before = self.words_kept(id).await;
        let views = living.governor.erasures(None).await.unwrap_or_default();
        if before.is_empty() || views.iter().any(|view| view.subject == id.to_string() && view.state != "erased") {
            return;
        }
        for (node, log, generation) in self.words_kept(id).await.intersection(&before) {
            let what = format!("node {node} has words of {agent} in {log:?} under key {generation}, which is erased");
            self.fleet.watch().violated("erasure", what);
        }
    }

    /// Where words of an agent are that were said under an erased key.
    async fn words_kept(&self, agent: KeyedId) -> BTreeSet<(NodeId, LogId, u32)> {
        let mut kept = BTreeSet::new();
        for node in self.fleet.nodes() {
            let disk = self.fleet.disk(node);
            let remembered = Texts::remembered(&disk, &self.fleet.keyring(node), node).await.unwrap_or_default();
            for (log, subject) in remembered {
                let Some((id, generation)) = read_subject(&subject).filter(|(id, _)| id.subject == agent) else {
                    continue;
                };
                if generation < self.generation_of(log.group, &id) {
                    kept.insert((node, log, generation));
                }
            }
        }
        kept
    }

    /// How often a subject was erased, as far as any replica of its group has heard.
    fn generation_of(&self, group: GroupId, id: &SubjectId) -> u32 {
        let of = |living: &Living| {
            let replica = living.governor.core().partition(group)?;
            let machine = replica.machine.lock();
            Some(machine.ledger.subjects().key(id).0)
        };
        self.fleet.living().iter().filter_map(|(_, living)| of(living)).max().unwrap_or(0)
    }

    /// No machine's disk, running or not, may remember a ring key that its group used before and has turned away from.
    async fn look_at_disks(&self, groups: &BTreeSet<GroupId>, before: &BTreeMap<GroupId, BTreeSet<u64>>) {
        let now = self.ring_keys();
        let is_in = |of: &BTreeMap<GroupId, BTreeSet<u64>>, group: &GroupId, ring: &u64| {
            of.get(group).is_some_and(|rings| rings.contains(ring))
        };
        for node in self.fleet.nodes() {
            let disk = self.fleet.disk(node);
            let Ok(remembered) = RingKeys::remembered(&disk, &self.fleet.keyring(node), node).await else { continue };
            for (group, ring) in remembered {
                if groups.contains(&group) && is_in(before, &group, &ring) && !is_in(&now, &group, &ring) {
                    let what = format!("node {node} remembers ring key {ring:016x} of group {group} after the erasure");
                    self.fleet.watch().violated("erasure", what);
                }
            }
        }
    }
}

/// An erasure that some group may not have heard of yet is not acknowledged.
fn is_heard(view: ErasureView) -> Result<ErasureView, Problem> {
    match view.state.as_str() {
        "pending" => Err(Problem::new(Code::NoQuorum, "some group has not heard of the erasure")),
        _ => Ok(view),
    }
}
