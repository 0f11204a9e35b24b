//! Gathers what the checks look at: every replica of every log, the entries as a reader of the interface sees them, and
//! proofs for some of what clients were told.

use std::collections::BTreeMap;

use rand::seq::IteratorRandom;
use rand_chacha::ChaCha12Rng;

use nethical_audit::leaf::LeafV1;
use nethical_audit::tree::{Frontier, leaf_hash};
use nethical_cluster::api::{EntryQuery, EntryView, Governor};
use nethical_cluster::node::Core;
use nethical_cluster::publish;
use nethical_protocol::ids::{DecisionId, GroupId, LogId, NodeId};

use crate::check::proofs::Given;
use crate::check::{Entry, Findings, Log};
use crate::history::Told;
use crate::plan::Plan;
use crate::trace::Field;
use crate::workload::Stage;
use crate::world::Fleet;

/// Entries read at once.
const PAGE: usize = 1_000;
/// Decisions for which a proof is asked.
const PROOFS: usize = 6;

/// Reads everything from the nodes that run.
pub async fn gather<'a>(plan: &'a Plan, stage: &Stage, dice: &mut ChaCha12Rng) -> Findings<'a> {
    let fleet = &stage.fleet;
    let (mut logs, mut entries, mut keys) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    for group in fleet.partitions() {
        let mut reader = None;
        for (node, living) in fleet.living() {
            let log = match read_log(living.governor.core(), group).await {
                Ok(Some(log)) => log,
                Ok(None) => continue,
                Err(why) => {
                    if !plan.mangles(node, "audit") {
                        fleet.watch().violated("audit-reads", format!("group {group} on node {node}: {why}"));
                    }
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
            entries.extend(read_entries(&governor, group).await);
            let vkeys = governor.verifier_keys().await.map(|keys| keys.vkeys).unwrap_or_default();
            let origin = LogId { group, era: 1 }.origin(crate::world::CLUSTER);
            let own = vkeys.into_iter().find(|vkey| vkey.starts_with(&format!("{origin}+")));
            keys.extend(own.map(|vkey| (group, vkey)));
        }
    }
    let operations = stage.history.operations();
    let told: Vec<Told> = operations.values().filter_map(|operation| operation.told.clone()).sample(dice, PROOFS);
    let mut proofs = Vec::new();
    for told in told {
        proofs.extend(ask_proof(plan, fleet, told).await);
    }
    let cosigners = fleet.living().iter().filter_map(|(_, living)| publish::vkey(living.governor.core())).collect();
    let cluster = read_cluster_logs(plan, fleet).await;
    let (history, witnessed) = (stage.history.clone(), fleet.witness().signed());
    Findings { plan, history, operations, entries, logs, proofs, keys, cosigners, cluster, witnessed }
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

async fn ask_proof(plan: &Plan, fleet: &Fleet, told: Told) -> Option<Given> {
    let (group, id) = (told.id.log.group, told.id);
    let mut last = None;
    for (node, living) in fleet.living() {
        if living.governor.core().partition(group).is_none() {
            continue;
        }
        let answer = living.governor.receipt(id).await;
        let answer = answer.map(|view| (view.leaf, view.receipt)).map_err(|error| error.to_string());
        // A node whose copy has rotted says so; another one has the proof.
        let is_last = answer.is_ok() || !plan.mangles(node, "audit");
        last = Some(Given { id, told: told.leaf_hash.clone(), node, answer });
        if is_last {
            break;
        }
    }
    last
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
async fn read_cluster_logs(plan: &Plan, fleet: &Fleet) -> BTreeMap<NodeId, Vec<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for (node, living) in fleet.living() {
        let Some(store) = living.governor.core().audit(GroupId::CONTROL) else { continue };
        match store.read(0, store.trail.end()).await {
            Ok(records) => drop(found.insert(node, records.into_iter().map(|(leaf, _)| leaf).collect())),
            Err(why) if !plan.mangles(node, "audit") => {
                fleet.watch().violated("audit-reads", format!("the cluster log on node {node}: {why}"));
            }
            Err(_) => {}
        }
    }
    found
}

/// All entries of a group as a reader of one node's interface sees them.
async fn read_entries(governor: &dyn Governor, group: GroupId) -> Vec<Entry> {
    let before_all = DecisionId { log: LogId { group, era: 1 }, leaf_index: 0 };
    let (mut entries, mut after) = (Vec::new(), before_all);
    loop {
        let query = EntryQuery {
            group: Some(group.0),
            cursor: Some(after.to_string()),
            limit: Some(PAGE),
            ..EntryQuery::default()
        };
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
    Entry { id: view.decision_id, decision }
}
