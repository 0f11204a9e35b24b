//! The ring keys that this node holds: durable before they are used, gone from the disk before that is said (ARCHITECTURE 4).
//!
//! The file is two slots ([`crate::slots`]), so that no erasure is a lie. Nothing in here decides which keys are to go.

use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use nethical_audit::keys::rings::{self, RING_KEYS_MAX, RingKey};
use nethical_audit::keys::subject::ring_number;
use nethical_audit::keys::{Keyring, TenantKeys};
use nethical_protocol::ids::{GroupId, NodeId};

use crate::slots::Slots;
use crate::world::{Disk, Scope};

/// The folder, and the slots in it.
const DIR: &str = "keys";
const SLOTS: [&str; 2] = ["rings-0", "rings-1"];
/// Purpose of the key that the file is sealed under.
const AT_REST: &[u8] = b"nethical rings at rest 1";

/// The ring keys of all groups of this node.
pub struct RingKeys {
    slots: Slots,
    /// With the number of each.
    held: RwLock<Vec<(u64, RingKey)>>,
    /// The sequence of the last writing; one writes at a time.
    writing: tokio::sync::Mutex<u64>,
}

impl RingKeys {
    /// Reads the newest whole slot; none where there is none yet, or both are lost: peers have the keys.
    ///
    /// # Errors
    /// Where the disk fails, or the keyring has no key to seal the file under.
    pub async fn open(disk: Arc<dyn Disk>, scope: Scope, keyring: &Keyring, node: NodeId) -> io::Result<Self> {
        let at_rest = at_rest(keyring, node)?;
        disk.create_dir(DIR).await?;
        let slots = Slots { disk, scope, kind: rings::KIND, at_rest, dir: DIR, names: SLOTS };
        let whole = read(slots.whole().await?);
        let (held, sequence) = whole.into_iter().max_by_key(|(_, sequence)| *sequence).unwrap_or_default();
        let held = held.into_iter().map(|held| (ring_number(&held.key), held)).collect();
        let keys = Self { slots, held: RwLock::new(held), writing: tokio::sync::Mutex::new(sequence) };
        // A crash between the two slots left one that remembers more than it should.
        keys.change(|_| true).await?;
        Ok(keys)
    }

    /// A ring key by its number.
    pub fn get(&self, group: GroupId, ring: u64) -> Option<[u8; 32]> {
        self.find(group, ring).map(|held| held.key)
    }

    /// A ring key with the term that it was made in.
    pub fn find(&self, group: GroupId, ring: u64) -> Option<RingKey> {
        let held = self.held.read();
        held.iter().find(|(number, held)| held.group == group.0 && *number == ring).map(|(_, held)| *held)
    }

    /// A group's key that was made in a term and is none of these; one that a leader had made and not yet turned to.
    pub fn made_in(&self, group: GroupId, term: u64, none_of: &[u64]) -> Option<RingKey> {
        let held = self.held.read();
        let fits =
            |(number, held): &&(u64, RingKey)| (held.group, held.term) == (group.0, term) && !none_of.contains(number);
        held.iter().find(fits).map(|(_, held)| *held)
    }

    /// Keeps a key. Durable when it returns.
    ///
    /// # Errors
    /// Where the disk fails or there are too many; then the key is not held.
    pub async fn put(&self, key: RingKey) -> io::Result<()> {
        let number = ring_number(&key.key);
        let is_new = |held: &[(u64, RingKey)]| !held.contains(&(number, key));
        self.change(|held| {
            let adds = is_new(held) && held.len() < RING_KEYS_MAX;
            held.extend(adds.then_some((number, key)));
            adds
        })
        .await?;
        match is_new(&self.held.read()) {
            true => Err(io::Error::other("this node holds too many ring keys")),
            false => Ok(()),
        }
    }

    /// Destroys the keys of a group for which `goes` says so, by number and term. Says whether there were any.
    ///
    /// # Errors
    /// Where the disk fails; then they may still be on it, and are held on to.
    pub async fn destroy(&self, group: GroupId, goes: impl Fn(u64, u64) -> bool) -> io::Result<bool> {
        let goes = |(number, held): &(u64, RingKey)| held.group == group.0 && goes(*number, held.term);
        if !self.held.read().iter().any(goes) {
            return Ok(false);
        }
        self.change(|held| {
            held.retain(|held| !goes(held));
            true
        })
        .await?;
        Ok(true)
    }

    /// What any slot on a disk remembers: group and number of each key. For whoever checks that what is destroyed is gone.
    ///
    /// # Errors
    /// Where the disk fails, or the keyring has no key that the file is sealed under.
    pub async fn remembered(disk: &dyn Disk, keyring: &Keyring, node: NodeId) -> io::Result<Vec<(GroupId, u64)>> {
        let whole = Slots::read(disk, rings::KIND, &at_rest(keyring, node)?, DIR, SLOTS).await?;
        let keys = read(whole).into_iter().flat_map(|(keys, _)| keys);
        Ok(keys.map(|held| (GroupId(held.group), ring_number(&held.key))).collect())
    }

    /// Changes what is held, once both slots say so.
    async fn change(&self, change: impl FnOnce(&mut Vec<(u64, RingKey)>) -> bool) -> io::Result<()> {
        let mut sequence = self.writing.lock().await;
        let mut next = self.held.read().clone();
        if !change(&mut next) {
            return Ok(());
        }
        *sequence += 1;
        let keys: Vec<RingKey> = next.iter().map(|(_, held)| *held).collect();
        self.slots.write(*sequence, &rings::encode(&keys)).await?;
        *self.held.write() = next;
        Ok(())
    }
}

/// The key that a node's file is sealed under.
fn at_rest(keyring: &Keyring, node: NodeId) -> io::Result<[u8; 32]> {
    let zone = keyring.ring_keys.last_key_value().map(|(_, key)| key);
    let zone = zone.ok_or_else(|| io::Error::other("the keyring has no ring key"))?;
    Ok(TenantKeys::new(zone).derive(AT_REST, &node.0.to_le_bytes()))
}

/// The keys of whole slots, with their sequences.
fn read(slots: Vec<(Vec<u8>, u64)>) -> Vec<(Vec<RingKey>, u64)> {
    slots.into_iter().filter_map(|(contents, sequence)| Some((rings::decode(&contents)?, sequence))).collect()
}
