//! Gathers what the checks look at: every replica of every log, the entries as a reader of the interface sees them, and
//! proofs for some of what clients were told.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::seq::IteratorRandom;
use rand_chacha::ChaCha12Rng;

use nethical_audit::leaf::LeafV1;
use nethical_audit::tree::{Frontier, leaf_hash};
use nethical_cluster::api::{EntryQuery, EntryView, Governor};
use nethical_cluster::node::Core;
use nethical_cluster::world::Clock;
use nethical_protocol::control::RevisedFact;
use nethical_protocol::ids::{ControlRevision, DecisionId, GroupId, NodeId};

use crate::check::proofs::Given;
use crate::check::retention::Kept;
use crate::check::{Entry, Findings, Log};
use crate::history::{Operation, Told};
use crate::plan::Plan;
use crate::trace::Field;
use crate::workload::Stage;
use crate::world::{Fleet, Living};

mod keys;
mod searches;
mod segments;
pub mod texts;

/// Entries read at once.
const PAGE: usize = 1_000;
/// How long an erasure may take once everything has healed, seconds.
const ERASURE_PATIENCE_S: usize = 60;
/// Decisions for which a proof is asked.
const PROOFS: usize = 6;

/// Reads everything from the nodes that run.
pub async fn gather<'a>(plan: &'a Plan, stage: &Stage, dice: &mut ChaCha12Rng) -> Findings<'a> {
    let fleet = &stage.fleet;
    // Before anything is read: what is awaited here adds leaves, and all copies are to be of one moment.
    let (unfinished, signing) = (unfinished(fleet).await, keys::gather(fleet).await);
    // What speaks of others is read before them: logs go on growing by what is due.
    let witnessed = fleet.witness().signed();
    let cluster = read_cluster_logs(fleet).await;
    let (mut logs, mut entries, mut log_keys) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    let mut kept = Kept::default();
    for group in fleet.partitions() {
        let mut reader = None;
        for (node, living) in fleet.living() {
            let log = match read_log(living.governor.core(), group).await {
                Ok(Some(log)) => log,
                Ok(None) => continue,
                Err(why) => {
                    fleet.watch().violated("audit-reads", format!("group {group} on node {node}: {why}"));
                    continue;
                }
            };
            let root = hex::encode(log.root);
            let fields = [
                ("group", Field::Number(u64::from(group.0))),
                ("leaves", Field::Number(log.hashes.len() as u64)),
                ("root", Field::Text(&root)),
            ];
            fleet.event(Some(node), "log", &fields);
            logs.insert((group, node), log);
            reader = Some(living.governor);
        }
        if let Some(governor) = reader {
            let before_ns = log_time(fleet, group);
            entries.extend(read_entries(&governor, group).await);
            kept.read_at.insert(group, (before_ns, log_time(fleet, group)));
            log_keys.insert(group, keys::of_log(&governor, group).await);
        }
    }
    kept.facts = facts(fleet);
    let operations = stage.history.operations();
    let told: Vec<Told> = operations.values().filter_map(|operation| operation.told.clone()).sample(dice, PROOFS);
    let mut proofs = Vec::new();
    for told in told {
        proofs.extend(ask_proof(fleet, told).await);
    }
    let cosigners = keys::cosigners(fleet);
    let searches = searches::gather(fleet, &logs).await;
    let texts = texts::gather(fleet).await;
    name_erased(&mut entries, &operations);
    let misplaced = segments::misplaced(fleet).await;
    let (segments, history) = (segments::read(fleet).await, stage.history.clone());
    Findings {
        plan,
        history,
        operations,
        entries,
        logs,
        segments,
        misplaced,
        searches,
        texts,
        proofs,
        keys: log_keys,
        cosigners,
        signing,
        unfinished,
        kept,
        cluster,
        witnessed,
    }
}

/// The latest log time that a replica of a group has.
fn log_time(fleet: &Fleet, group: GroupId) -> u64 {
    let of = |living: &Living| Some(living.governor.core().partition(group)?.machine.lock().ledger.now_ns());
    fleet.living().iter().filter_map(|(_, living)| of(living)).max().unwrap_or(0)
}

/// All facts that partitions were told, from the node that has heard most.
fn facts(fleet: &Fleet) -> Vec<RevisedFact> {
    let views = fleet.living().into_iter().map(|(_, living)| living.governor.core().shared.view());
    let newest = views.max_by_key(|view| view.revision());
    newest.map_or_else(Vec::new, |view| view.facts_after(ControlRevision(0), usize::MAX))
}

/// Nodes whose audit log of a group has a gap: a snapshot took them past leaves that they have still to fetch.
pub fn lacking(fleet: &Fleet, group: GroupId) -> Vec<NodeId> {
    let mut found = Vec::new();
    for (node, living) in fleet.living() {
        let replica = living.governor.core().partition(group);
        if replica.is_some_and(|replica| replica.store.stored().0 < replica.store.trail.first()) {
            found.push(node);
        }
    }
    found
}

/// Where each replica of a group stands: (term, index) of the last entry applied.
pub fn replicas_of(fleet: &Fleet, group: GroupId) -> Vec<(NodeId, (u64, u64))> {
    let position = |core: &Core| Some(*core.partition(group)?.machine.lock().position().borrow());
    let living = fleet.living();
    living.iter().filter_map(|(node, living)| Some((*node, position(living.governor.core())?))).collect()
}

async fn ask_proof(fleet: &Fleet, told: Told) -> Option<Given> {
    let (group, id) = (told.id.log.group, told.id);
    let holds = |living: &Living| living.governor.core().partition(group).is_some();
    let (node, living) = fleet.living().into_iter().find(|(_, living)| holds(living))?;
    let answer = living.governor.receipt(id).await;
    let answer = answer.map(|view| (view.leaf, view.receipt)).map_err(|error| error.to_string());
    Some(Given { id, told: told.leaf_hash, node, answer })
}

/// One node's replica of a log; `None` where the node has none, an error where it does not read.
async fn read_log(core: &Core, group: GroupId) -> Result<Option<Log>, String> {
    let Some(replica) = core.partition(group) else { return Ok(None) };
    let (size, root, ledger) = {
        let machine = replica.machine.lock();
        let (size, root) = machine.tree();
        (size, root, (*machine.position().borrow(), machine.ledger.digest()))
    };
    let (mut leaves, mut hashes, frontier) = (Vec::new(), Vec::new(), &mut Frontier::default());
    while (leaves.len() as u64) < size {
        let at = leaves.len() as u64;
        let found = replica.store.read(at, size - at).await.map_err(|error| format!("leaf {at} of {size}: {error}"))?;
        if found.is_empty() {
            return Err(format!("leaf {at} of {size} is not there"));
        }
        for (bytes, _) in &found {
            leaves.push(LeafV1::decode(bytes).map_err(|error| format!("leaf {} of {size}: {error}", leaves.len()))?);
            let hash = leaf_hash(bytes);
            frontier.append(hash);
            hashes.push(hash);
        }
    }
    Ok(Some(Log { leaves, hashes, root, recomputed: frontier.root(), ledger }))
}

/// The cluster log as each node that keeps it has stored it.
async fn read_cluster_logs(fleet: &Fleet) -> BTreeMap<NodeId, Vec<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for (node, living) in fleet.living() {
        let Some(store) = living.governor.core().audit(GroupId::CONTROL) else { continue };
        match store.read(0, store.trail.end()).await {
            Ok(records) => drop(found.insert(node, records.into_iter().map(|(leaf, _)| leaf).collect())),
            Err(why) => fleet.watch().violated("audit-reads", format!("the cluster log on node {node}: {why}")),
        }
    }
    found
}

/// All entries of a group as a reader of one node's interface sees them.
async fn read_entries(governor: &dyn Governor, group: GroupId) -> Vec<Entry> {
    let (mut entries, mut cursor) = (Vec::new(), None);
    loop {
        let query = EntryQuery {
            group: Some(group.0),
            order: Some("asc".to_owned()),
            limit: Some(PAGE),
            cursor,
            ..EntryQuery::default()
        };
        let Ok(page) = governor.entries(query).await else { return entries };
        entries.extend(page.entries.into_iter().map(entry_of));
        if !page.more || !page.incomplete.is_empty() {
            return entries;
        }
        cursor = Some(page.cursor);
    }
}

fn entry_of(view: EntryView) -> Entry {
    let decision = view.decision.as_ref().map(|decision| (decision.request_id.clone(), Told::of(decision)));
    Entry { id: view.decision_id, decision, body_state: view.body_state }
}

/// The request of a decision is in its body alone. Of what is erased its client knows which it was.
fn name_erased(entries: &mut [Entry], operations: &BTreeMap<String, Operation>) {
    let told = operations.iter().filter_map(|(request, operation)| Some((operation.told.as_ref()?.id, request)));
    let requests: BTreeMap<DecisionId, &String> = told.collect();
    for entry in entries.iter_mut().filter(|entry| entry.body_state.is_some()) {
        let request = requests.get(&entry.id);
        entry.decision = entry.decision.take().zip(request).map(|((_, told), request)| ((*request).clone(), told));
    }
}

/// Erasures that are not complete, though every node runs and they had time.
async fn unfinished(fleet: &Fleet) -> Vec<String> {
    let living = fleet.living();
    let Some((_, reader)) = living.first().filter(|_| living.len() == fleet.nodes().len()) else { return Vec::new() };
    let mut left = Vec::new();
    for _ in 0..ERASURE_PATIENCE_S {
        let views = reader.governor.erasures(None).await.unwrap_or_default();
        left = views.into_iter().filter(|view| view.state != "erased").collect();
        if left.is_empty() {
            break;
        }
        fleet.clock().sleep(Duration::from_secs(1)).await;
    }
    left.iter().map(|view| format!("erasure {} is {} and awaits {:?}", view.id, view.state, view.awaiting)).collect()
}
