//! Closed audit segments as nodes have them: what they hold, whatever tier they are in, and their files where those are to be equal.

use std::time::Duration;

use sha2::{Digest, Sha256};

use nethical_audit::body::{dropped, sealed_for, stored_hash};
use nethical_audit::leaf::LeafV1;
use nethical_audit::tree::leaf_hash;
use nethical_cluster::node::Core;
use nethical_cluster::store::AuditStore;
use nethical_cluster::tier::{Rule, cold};
use nethical_cluster::world::{Clock, read_all};
use nethical_protocol::retention::Age;

use crate::check::{Copy, Segments};
use crate::world::Fleet;

/// How long the mover may take to drop what is erased, once everything has healed, seconds.
const MOVER_PATIENCE_S: usize = 30;

/// Every closed segment on every node.
pub async fn read(fleet: &Fleet) -> Segments {
    let mut found = Segments::new();
    for (node, living) in fleet.living() {
        for replica in living.governor.core().partitions() {
            let (store, log) = (&replica.store, replica.store.log());
            for first in store.closed_segments() {
                let rule = Rule::of(living.governor.core(), store);
                let copy = copy_of(fleet, node, (store, &rule), first).await.map_err(|error| error.to_string());
                found.entry((log.group, first)).or_default().insert(node, copy);
            }
        }
    }
    found
}

async fn copy_of(
    fleet: &Fleet,
    node: nethical_protocol::ids::NodeId,
    (store, rule): (&AuditStore, &Rule),
    first: u64,
) -> std::io::Result<Copy> {
    let (name, next) = store.closed_segment(first).ok_or_else(|| std::io::Error::other("it is gone"))?;
    let mut records = Sha256::new();
    let (mut at, mut is_as_written) = (first, name.ends_with(".seg"));
    while at < next {
        let read = store.read(at, next - at).await?;
        if read.is_empty() {
            return Err(std::io::Error::other(format!("leaf {at} is not there")));
        }
        for (index, (leaf, stored)) in (at..).zip(&read) {
            records.update(leaf_hash(leaf));
            // Of a body that is in a cold file one replica may have dropped its own, and another one not yet.
            if !rule.is_cold(index) {
                records.update(stored_hash(stored));
            }
            is_as_written &= dropped(stored).is_none();
        }
        at += read.len() as u64;
    }
    let file = match is_as_written {
        true => {
            let bytes = read_all(&fleet.disk(node), &name).await;
            // One that was moved meanwhile has no file to compare any more.
            bytes.ok().map(|bytes| Sha256::digest(&bytes).into())
        }
        false => None,
    };
    Ok(Copy { records: records.finalize().into(), file })
}

/// Bodies that are dropped and should not be, and, once the mover had time, bodies in warm segments and in cold files that should
/// be.
pub async fn misplaced(fleet: &Fleet) -> Vec<String> {
    let mut found = Vec::new();
    for _ in 0..MOVER_PATIENCE_S {
        found.clear();
        let mut is_late = false;
        for (node, living) in fleet.living() {
            let core = living.governor.core();
            for replica in core.partitions() {
                let (wrong, mut late) = look(core, &replica.store).await;
                if replica.lead().is_some() {
                    late.extend(cold::examine(core, &replica).await);
                }
                is_late |= !late.is_empty();
                found.extend(wrong.into_iter().chain(late).map(|what| format!("node {node}: {what}")));
            }
        }
        if !is_late {
            break;
        }
        fleet.clock().sleep(Duration::from_secs(1)).await;
    }
    found
}

async fn look(core: &Core, store: &AuditStore) -> (Vec<String>, Vec<String>) {
    let (rule, group) = (Rule::of(core, store), store.log().group);
    let (mut wrong, mut late) = (Vec::new(), Vec::new());
    let view = core.shared.view();
    let stays = |tenant| view.tenants().any(|known| known.id == tenant && known.tier_ages().warm == Some(Age::FOREVER));
    if !rule.is_current() {
        return (wrong, vec![format!("group {group} has not caught up")]);
    }
    for first in store.closed_segments() {
        let Some((name, next)) = store.closed_segment(first).filter(|(name, _)| name.ends_with(".warm")) else {
            continue;
        };
        let mut at = first;
        while at < next {
            let Ok(read) = store.read(at, next - at).await else { break };
            for (index, (leaf, stored)) in (at..).zip(&read) {
                let Ok(leaf) = LeafV1::decode(leaf) else { continue };
                let gone = dropped(stored);
                if gone.is_some_and(|gone| !rule.permits(&leaf, gone.sealed_for(), gone.reason)) {
                    wrong
                        .push(format!("the body of leaf {index} in {name} of group {group} is gone and should not be"));
                }
                if rule.is_cold(index) && leaf.event.agent().is_some_and(|(_, tenant, _)| stays(tenant)) {
                    wrong.push(format!(
                        "leaf {index} of group {group} is in a cold file, and its tenant does not want it to"
                    ));
                }
                if gone.is_none() && rule.may_drop(&leaf, sealed_for(stored)).is_some() {
                    late.push(format!(
                        "the body of leaf {index} in {name} of group {group} is there and should be gone"
                    ));
                }
            }
            if read.is_empty() {
                break;
            }
            at += read.len() as u64;
        }
    }
    (wrong, late)
}
