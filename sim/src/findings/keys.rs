//! Signing keys as all machines have them once everything has healed.

use std::time::Duration;

use nethical_audit::note::{KeyKind, VerifierKey};
use nethical_cluster::api::{Governor, VerifierKeys};
use nethical_cluster::seeds::SigningSeeds;
use nethical_cluster::signing;
use nethical_cluster::world::Clock;
use nethical_protocol::ids::{GroupId, LogId, NodeId};

use crate::check::signing::Keys;
use crate::world::{CLUSTER, Fleet};

/// How long a turn may take once everything has healed, seconds.
const PATIENCE_S: usize = 60;

/// Waits for turns that are under way, where all nodes run, and looks at all disks.
pub async fn gather(fleet: &Fleet) -> Keys {
    let living = fleet.living();
    let Some((_, reader)) = living.first().filter(|_| living.len() == fleet.nodes().len()) else {
        return Keys::default();
    };
    let mut unfinished = Vec::new();
    for _ in 0..PATIENCE_S {
        let keys = reader.governor.verifier_keys().await.unwrap_or_default();
        unfinished = left(&keys);
        if unfinished.is_empty() {
            break;
        }
        fleet.clock().sleep(Duration::from_secs(1)).await;
    }
    let generations = reader.governor.core().shared.view().signing().generations();
    let mut remembered = Vec::new();
    for node in fleet.nodes() {
        let seeds = SigningSeeds::remembered(&fleet.disk(node), &fleet.keyring(node)).await.unwrap_or_default();
        remembered.extend(seeds.into_iter().map(|public| (node, public)));
    }
    Keys { unfinished, generations, remembered }
}

fn left(keys: &VerifierKeys) -> Vec<String> {
    let is_open = |state: &str| ["turning", "overlapping", "retiring"].contains(&state);
    let open = keys.signing.iter().filter(|view| is_open(&view.state));
    open.map(|view| format!("generation {} is {} and awaits {:?}", view.generation, view.state, view.awaits)).collect()
}

/// The verifier keys of a log, of all generations, as a node tells them.
pub async fn of_log(governor: &dyn Governor, group: GroupId) -> Vec<String> {
    let origin = LogId { group, era: 1 }.origin(CLUSTER);
    let keys = governor.verifier_keys().await.unwrap_or_default();
    keys.generations().keys(&origin).iter().map(ToString::to_string).collect()
}

/// The verifier keys by which nodes vouch and vouched.
pub fn cosigners(fleet: &Fleet) -> Vec<String> {
    let mut found = Vec::new();
    for (_, living) in fleet.living() {
        let core = living.governor.core();
        found.extend(nethical_cluster::publish::vkey(core));
        for (node, keys) in core.shared.view().signing().cosigners() {
            let name = signing::own_name(core, NodeId(*node));
            let vkeys = keys.iter().filter_map(|key| VerifierKey::new(&name, KeyKind::Cosigner, key.public).ok());
            found.extend(vkeys.map(|key| key.to_string()));
        }
    }
    found.sort();
    found.dedup();
    found
}
