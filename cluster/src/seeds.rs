//! The seeds that this node signs and vouches by: durable before they are used, gone from the disk before that is said.
//!
//! The first ones come from the keyring, whose file is written anew without them once they are retired; later ones are in
//! two slots ([`crate::slots`]). Which of them sign is what the control group says ([`crate::control::signing`]); nothing in
//! here decides it.

use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use nethical_audit::generations::Generations;
use nethical_audit::keys::seeds::{DIR, KIND, OwnSeed, SEEDS_MAX, SLOTS, Seeds, ZoneSeed, at_rest};
use nethical_audit::keys::{KEY_BYTES, Keyring};
use nethical_audit::note::Signer;

use crate::slots::Slots;
use crate::world::{Disk, KeyringFile, KeyringSeed, Scope};

/// The generation of what is in the keyring.
const FIRST: u32 = 1;

/// A public key.
pub type Public = [u8; KEY_BYTES];

/// All seeds of this node.
pub struct SigningSeeds {
    slots: Slots,
    file: Arc<dyn KeyringFile>,
    held: RwLock<Held>,
    /// The sequence of the last writing; one writes at a time.
    writing: tokio::sync::Mutex<u64>,
}

#[derive(Clone, Default)]
struct Held {
    /// Those of the keyring, with their public keys.
    first: Option<(Public, ZoneSeed)>,
    first_own: Option<(Public, OwnSeed)>,
    zone: Vec<(Public, ZoneSeed)>,
    own: Vec<(Public, OwnSeed)>,
    published: Generations,
}

impl Held {
    fn contents(&self) -> Vec<u8> {
        let (zone, own) = (self.zone.iter().map(|(_, seed)| *seed), self.own.iter().map(|(_, seed)| *seed));
        Seeds { zone: zone.collect(), own: own.collect(), published: self.published.clone() }.encode()
    }

    fn take(&mut self, seeds: Seeds) {
        self.zone = seeds.zone.into_iter().map(|held| (public_of(&held.seed), held)).collect();
        self.own = seeds.own.into_iter().map(|held| (public_of(&held.seed), held)).collect();
        self.published = seeds.published;
    }

    fn zone(&self) -> impl Iterator<Item = &(Public, ZoneSeed)> {
        self.first.iter().chain(&self.zone)
    }

    fn own(&self) -> impl Iterator<Item = &(Public, OwnSeed)> {
        self.first_own.iter().chain(&self.own)
    }
}

/// The public key of a seed.
pub fn public_of(seed: &[u8; KEY_BYTES]) -> Public {
    let signer = Signer::from_seed("any", seed).expect("a name without spaces is good, and every seed is");
    *signer.verifier_key().public()
}

impl SigningSeeds {
    /// Reads the newest whole slot, where there is one, and takes the first seeds out of the keyring.
    ///
    /// # Errors
    /// Where the disk fails, or the keyring has no key to seal the file under.
    pub async fn open(
        disk: Arc<dyn Disk>,
        scope: Scope,
        keyring: &mut Keyring,
        file: Arc<dyn KeyringFile>,
    ) -> io::Result<Self> {
        let at_rest = at_rest(keyring).ok_or_else(|| io::Error::other("the keyring has no ring key"))?;
        disk.create_dir(DIR).await?;
        let slots = Slots { disk, scope, kind: KIND, at_rest, dir: DIR, names: SLOTS };
        let whole = slots.whole().await?;
        let sequences: Vec<u64> = whole.iter().map(|(_, sequence)| *sequence).collect();
        let newest = whole.into_iter().max_by_key(|(_, sequence)| *sequence);
        let (contents, sequence) = newest.map_or((None, 0), |(contents, sequence)| (Some(contents), sequence));
        let mut held = Held::default();
        contents.and_then(|contents| Seeds::decode(&contents)).into_iter().for_each(|seeds| held.take(seeds));
        held.first =
            keyring.signing_seed.take().map(|seed| (public_of(&seed), ZoneSeed { generation: FIRST, term: 0, seed }));
        held.first_own =
            keyring.cosigning_seed.take().map(|seed| (public_of(&seed), OwnSeed { generation: FIRST, seed }));
        let seeds = Self { slots, file, held: RwLock::new(held), writing: tokio::sync::Mutex::new(sequence) };
        // A crash between the two slots left one that remembers more than it should.
        if sequences.len() == 1 || sequences.first() != sequences.last() {
            seeds.change(|_| Ok(true)).await?;
        }
        Ok(seeds)
    }

    /// The public key of the zone's first seed, where it is here.
    pub fn first(&self) -> Option<Public> {
        self.held.read().first.map(|(public, _)| public)
    }

    /// The public key of this node's own first seed, where it is here.
    pub fn first_own(&self) -> Option<Public> {
        self.held.read().first_own.map(|(public, _)| public)
    }

    /// The zone's seed with this public key.
    pub fn zone(&self, public: &Public) -> Option<ZoneSeed> {
        self.held.read().zone().find(|(known, _)| known == public).map(|(_, held)| *held)
    }

    /// This node's own seed with this public key.
    pub fn own(&self, public: &Public) -> Option<OwnSeed> {
        self.held.read().own().find(|(known, _)| known == public).map(|(_, held)| *held)
    }

    /// A seed for a generation that was made in a term, which a leader had made and not yet turned to.
    pub fn made_in(&self, generation: u32, term: u64) -> Option<ZoneSeed> {
        let held = self.held.read();
        held.zone().map(|(_, held)| *held).find(|held| (held.generation, held.term) == (generation, term))
    }

    /// This node's own seed for a generation.
    pub fn own_made(&self, generation: u32) -> Option<(Public, OwnSeed)> {
        self.held.read().own().find(|(_, held)| held.generation == generation).copied()
    }

    /// Keeps a seed of the zone, in place of one of the same generation that an earlier leader made: once a later one makes
    /// its own, that one never comes into force. Durable when it returns.
    ///
    /// # Errors
    /// Where the disk fails, there are too many, or one of a later leader is here; then it is not kept.
    pub async fn put(&self, seed: ZoneSeed) -> io::Result<()> {
        let public = public_of(&seed.seed);
        self.change(|held| {
            if held.zone().any(|(known, _)| *known == public) {
                return Ok(false);
            }
            if held.zone.iter().any(|(_, other)| other.generation == seed.generation && other.term > seed.term) {
                return Err(io::Error::other("a later leader has made this generation's seed"));
            }
            held.zone.retain(|(_, other)| other.generation != seed.generation);
            if held.zone.len() >= SEEDS_MAX {
                return Err(io::Error::other("this node holds too many signing seeds"));
            }
            held.zone.push((public, seed));
            Ok(true)
        })
        .await
    }

    /// Keeps a seed of this node's own. Durable when it returns.
    ///
    /// # Errors
    /// Where the disk fails, or there are too many.
    pub async fn put_own(&self, seed: OwnSeed) -> io::Result<()> {
        let public = public_of(&seed.seed);
        self.change(|held| {
            held.own.retain(|(_, other)| other.generation != seed.generation);
            if held.own.len() >= SEEDS_MAX {
                return Err(io::Error::other("this node holds too many seeds of its own"));
            }
            held.own.push((public, seed));
            Ok(true)
        })
        .await
    }

    /// Notes the zone's generations for whoever verifies this node's files.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn publish(&self, published: &Generations) -> io::Result<()> {
        if self.held.read().published == *published {
            return Ok(());
        }
        self.change(|held| {
            held.published = published.clone();
            Ok(true)
        })
        .await
    }

    /// Destroys seeds of the zone and of this node for which it is said, by generation and public key. Says whether there
    /// were any.
    ///
    /// # Errors
    /// Where the disk fails, or the keyring's file cannot be written; then they may still be there, and are held on to.
    pub async fn destroy(
        &self,
        zone_goes: impl Fn(u32, &Public) -> bool,
        own_goes: impl Fn(u32, &Public) -> bool,
    ) -> io::Result<bool> {
        let zone_goes = |(public, held): &(Public, ZoneSeed)| zone_goes(held.generation, public);
        let own_goes = |(public, held): &(Public, OwnSeed)| own_goes(held.generation, public);
        let (first, first_own, others) = {
            let held = self.held.read();
            let others = held.zone.iter().any(zone_goes) || held.own.iter().any(own_goes);
            (held.first.as_ref().is_some_and(zone_goes), held.first_own.as_ref().is_some_and(own_goes), others)
        };
        if others {
            self.change(|held| {
                held.zone.retain(|held| !zone_goes(held));
                held.own.retain(|held| !own_goes(held));
                Ok(true)
            })
            .await?;
        }
        if first {
            self.file.drop_seed(KeyringSeed::Zone).await?;
            self.held.write().first = None;
        }
        if first_own {
            self.file.drop_seed(KeyringSeed::Own).await?;
            self.held.write().first_own = None;
        }
        Ok(first || first_own || others)
    }

    /// Public keys of the zone's seeds that any slot on a disk remembers. For whoever checks that what is destroyed is gone.
    ///
    /// # Errors
    /// Where the disk fails, or the keyring has no key that the file is sealed under.
    pub async fn remembered(disk: &dyn Disk, keyring: &Keyring) -> io::Result<Vec<Public>> {
        let at_rest = at_rest(keyring).ok_or_else(|| io::Error::other("the keyring has no ring key"))?;
        let whole = Slots::read(disk, KIND, &at_rest, DIR, SLOTS).await?;
        let seeds = whole.into_iter().filter_map(|(contents, _)| Seeds::decode(&contents));
        let in_slots = seeds.flat_map(|seeds| seeds.zone).map(|held| public_of(&held.seed));
        Ok(in_slots.chain(keyring.signing_seed.as_ref().map(public_of)).collect())
    }

    /// Changes what is held, once both slots say so.
    async fn change(&self, change: impl FnOnce(&mut Held) -> io::Result<bool>) -> io::Result<()> {
        let mut sequence = self.writing.lock().await;
        let mut next = self.held.read().clone();
        if !change(&mut next)? {
            return Ok(());
        }
        *sequence += 1;
        self.slots.write(*sequence, &next.contents()).await?;
        let mut held = self.held.write();
        // The keyring's own are changed beside this.
        (next.first, next.first_own) = (held.first, held.first_own);
        *held = next;
        Ok(())
    }
}

#[cfg(test)]
#[path = "seeds_tests.rs"]
mod tests;
