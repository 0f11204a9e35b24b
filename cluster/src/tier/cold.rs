//! The cold tier of a node's groups: bodies of old segments go to the zone's object store, in the clear under a key of each
//! file's own, and from the nodes' disks. Leaves stay, so everything is proved, searched and counted without the store.
//!
//! One file a segment, for all replicas. The group's leader makes it from its own records, stores it, reads it back, and says so
//! in the group's log; from then on the log is what is believed. Each replica that hears of it reads the file itself, holds every
//! body against its leaf, and only then drops its own. A file is made anew, under another key, when bodies in it may go; the old
//! one's key goes with the next ring key, so that a store that forgets nothing cannot give it back. Decisions never wait for any
//! of this; erasures wait for files to be made anew ([`clear`]). Who may read a body is not decided here ([`crate::opening`] does).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use roaring::RoaringBitmap;
use sha2::{Digest, Sha256};

use nethical_audit::body::dropped::split;
use nethical_audit::body::{away_of, commitment_to, sealed_for};
use nethical_audit::keys::subject::wrap_subject;
use nethical_audit::leaf::LeafV1;
use nethical_governance::command::HeaderV1;
use nethical_governance::outcome::OutcomeV1;
use nethical_governance::subject::{ColdFile, ColdPutV1, WrappedV1};
use nethical_protocol::ids::{ControlRevision, LogId};
use nethical_protocol::{probe, sometimes};

use super::{Ages, Rule};
use crate::cold::{self, Body, Record};
use crate::lead::Lead;
use crate::node::Core;
use crate::opening::keys_for;
use crate::replica::PartitionReplica;
use crate::sealing;
use crate::store::Aged;
use crate::store::scrub::Pace;
use crate::world::{self, Clock, Objects, heavy};

mod mend;
mod records;
mod state;
mod sweep;

pub use mend::{Flaw, flaws, inspect};
pub use state::ColdState;
use state::Try;
pub use sweep::examine;

/// Files stored since the node started.
pub const PUTS_TOTAL: &str = "nethical_audit_cold_puts_total";
/// Moves to or from the object store that failed since the node started.
pub const FAILED_TOTAL: &str = "nethical_audit_cold_failed_total";

/// Between two looks for what is due.
const EVERY_MS: u64 = 60 * 1_000;
/// Looks between two searches for objects that the log does not name.
const SWEEP_LOOKS: u32 = 6 * 60;
/// How fast segments are read.
const BYTES_PER_S: u64 = 8 * 1024 * 1024;
/// How long the group may take to note a file.
const PATIENCE: Duration = Duration::from_secs(10);
/// Records read at a time.
const READ_LEAVES: u64 = 256;

/// One replica with what it works with here.
#[derive(Clone, Copy)]
pub(super) struct Tier<'a> {
    core: &'a Core,
    replica: &'a PartitionReplica,
    objects: &'a dyn Objects,
}

/// Keeps the cold tier of this node's replicas. Runs until the node stops.
pub async fn pump(core: Arc<Core>) {
    let clock = core.shared.world.clock.clone();
    let every = every();
    let Some(objects) = core.shared.world.objects.clone() else { return };
    let mut looks = 0u32;
    loop {
        clock.sleep(every).await;
        for replica in core.partitions() {
            let _alone = replica.cold.alone.lock().await;
            let tier = Tier { core: &core, replica: &replica, objects: &*objects };
            tier.drop_stored().await;
            let Some(lead) = replica.lead() else {
                replica.cold.forget_led();
                continue;
            };
            tier.store_due(&lead).await;
            tier.renew_due(&lead).await;
            if looks.is_multiple_of(SWEEP_LOOKS) {
                tier.collect_garbage(&lead).await;
            }
        }
        tend_promoted(&core).await;
        looks = looks.wrapping_add(1);
    }
}

/// Lets kept parts go of files that no log here names any more.
async fn tend_promoted(core: &Core) {
    // None of a replica that has not applied all that its segments were written by.
    let objects_of = |replica: &Arc<PartitionReplica>| -> Option<Vec<[u8; 32]>> {
        let (machine, stored) = (replica.machine.lock(), replica.store.stored().0);
        let files = machine.ledger.subjects().cold_files().map(|file| file.object);
        (machine.tree().0 >= stored).then(|| files.collect())
    };
    let named: Option<Vec<_>> = core.partitions().iter().map(objects_of).collect();
    if let Some(named) = named.filter(|_| core.starting.lock().is_empty()) {
        core.shared.promoted.tend(&named.into_iter().flatten().collect()).await;
    }
}

fn every() -> Duration {
    Duration::from_millis(probe::knob("cold.every-ms", EVERY_MS))
}

/// Makes files anew that hold bodies of subjects who are being erased. True once there is none: only then the group may turn to
/// another ring key, since the files' keys are wrapped anew with those of everybody else.
pub async fn clear(core: &Core, replica: &PartitionReplica, lead: &Lead) -> bool {
    let erased_in = |file: &ColdFile| replica.machine.lock().ledger.subjects().erased_since(file).next().is_some();
    let files: Vec<ColdFile> = replica.machine.lock().ledger.subjects().cold_files().copied().collect();
    let due: Vec<ColdFile> = files.into_iter().filter(erased_in).collect();
    if due.is_empty() || probe::planted("cold-file-kept") {
        return true;
    }
    let Some(objects) = core.shared.world.objects.clone() else { return false };
    let _alone = replica.cold.alone.lock().await;
    let tier = Tier { core, replica, objects: &*objects };
    let (rule, mut is_clear) = (Rule::of(core, &replica.store), true);
    for file in due {
        let came = tier.renew_where_due(lead, &rule, &file).await;
        is_clear &= came.is_ok();
        if !tier.note_led(lead, file.first, &came) {
            return false;
        }
    }
    is_clear
}

/// True while files hold, or may hold, bodies of subjects who are being erased.
pub fn holds_erased(replica: &PartitionReplica) -> bool {
    let machine = replica.machine.lock();
    let subjects = machine.ledger.subjects();
    subjects.needs_turn() && subjects.cold_files().any(|file| subjects.erased_since(file).next().is_some())
}

/// The name of a file: nobody learns more from it than from the log.
pub fn object_name(cluster: &str, log: LogId, first: u64, object: &[u8; 32]) -> String {
    format!("{}/{first:020}-{}.parquet", folder(cluster, log), hex::encode(object))
}

fn folder(cluster: &str, log: LogId) -> String {
    format!("{cluster}/{:05}-{}", log.group.0, log.era)
}

/// A file and the key that it opens with, as this replica has applied it.
pub(super) fn file_with(replica: &PartitionReplica, leaf_index: u64) -> Option<(ColdFile, WrappedV1)> {
    let machine = replica.machine.lock();
    let subjects = machine.ledger.subjects();
    subjects.cold_at(subjects.cold_with(leaf_index)?.first)
}

/// All records of a file, for who may read them.
///
/// # Errors
/// In words: the store does not answer, or has lost or changed the file.
pub async fn whole(core: &Core, replica: &PartitionReplica, first: u64) -> Result<Vec<Record>, String> {
    let objects = core.shared.world.objects.clone().ok_or("this node has no object store (audit.cold_url)")?;
    Tier { core, replica, objects: &*objects }.fetch(first).await.map(|(_, records)| records)
}

impl Tier<'_> {
    fn clock(&self) -> &dyn Clock {
        &*self.core.shared.world.clock
    }

    fn pace(&self) -> Pace<'_> {
        Pace { clock: self.clock(), bytes_per_s: probe::knob("cold.bytes-per-s", BYTES_PER_S) }
    }

    fn name(&self, first: u64, object: &[u8; 32]) -> String {
        object_name(&self.core.shared.options.cluster, self.replica.store.log(), first, object)
    }

    fn note(&self, tried: Try, came: &Result<(), String>) {
        self.replica.cold.note(self.replica.store.log(), tried, came, self.clock().now(), every());
    }

    /// How something ended that only the leader does. False where it does not lead any more: then that is why it failed.
    fn note_led(&self, lead: &Lead, first: u64, came: &Result<(), String>) -> bool {
        if lead.has_ended() {
            self.replica.cold.forget_led();
            return false;
        }
        self.note(Try { first, is_led: true }, came);
        true
    }

    /// True while a segment is left alone because a try with it failed.
    fn rests(&self, first: u64) -> bool {
        self.replica.cold.rests(first, self.clock().now())
    }

    /// Segments that are old and in no file.
    async fn store_due(&self, lead: &Lead) {
        for Aged { first, next, .. } in self.old().await {
            if file_with(self.replica, first).is_some() || self.is_idle(first) || self.rests(first) {
                continue;
            }
            let came = self.store(lead, first, next).await;
            if !self.note_led(lead, first, &came) || (came.is_err() && self.reach().await.is_err()) {
                return;
            }
        }
    }

    /// Warm segments that are old enough to leave: none before this node knows what tenants want as well as the group does.
    async fn old(&self) -> Vec<Aged> {
        let (core, store) = (self.core, &self.replica.store);
        let after_ms = probe::knob("cold.after-ms", core.shared.options.cold_after_s.saturating_mul(1_000));
        let (now_ns, heard) = {
            let machine = self.replica.machine.lock();
            (machine.ledger.now_ns(), machine.ledger.control_revision())
        };
        let view = core.shared.view();
        if after_ms == 0 || view.revision() < heard {
            return Vec::new();
        }
        let ages = Ages::warm(&view, after_ms.saturating_mul(1_000_000));
        let Some(before_ns) = now_ns.checked_sub(ages.least_ns()) else { return Vec::new() };
        ages.due(&core.shared, store, now_ns, store.warm_before(before_ns)).await
    }

    async fn store(&self, lead: &Lead, first: u64, next: u64) -> Result<(), String> {
        let control_rev = self.replica.machine.lock().ledger.control_revision();
        self.reach().await?;
        let records = self.own_records(first, next).await?;
        // With nothing in it a file would save nothing.
        if records.iter().all(|record| matches!(record.body, Body::Stored(_))) {
            self.note_idle(first);
            return Ok(());
        }
        self.put(lead, first, records, control_rev, None).await
    }

    /// Fails where the store does not answer, before a file is packed that could not be stored.
    async fn reach(&self) -> Result<(), String> {
        match self.objects.get(&self.name(u64::MAX, &[0; 32]), 0..1).await {
            Ok(_) | Err(world::ObjectError::Missing) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// True where nothing of a segment could be moved when it was looked at last, and that has not changed.
    fn is_idle(&self, first: u64) -> bool {
        self.replica.cold.is_idle(first, Rule::of(self.core, &self.replica.store).stamp())
    }

    fn note_idle(&self, first: u64) {
        self.replica.cold.note_idle(first, Rule::of(self.core, &self.replica.store).stamp());
    }

    /// Stores a file, reads it back, and has the group note it.
    async fn put(
        &self,
        lead: &Lead,
        first: u64,
        records: Vec<Record>,
        control_rev: ControlRevision,
        replaces: Option<[u8; 32]>,
    ) -> Result<(), String> {
        let shared = &self.core.shared;
        let (leaves, mut key) = (records.len() as u32, [0; 32]);
        shared.world.scope.fill(&mut key);
        let bodies = records.iter().filter(|record| matches!(record.body, Body::Clear { .. })).count() as u32;
        let encoded = heavy(&*shared.world.heavy, move || cold::encode(first, &records, &key)).await;
        let bytes = Bytes::from(encoded.ok_or("packing it did not end")?.map_err(|error| error.to_string())?);
        let object: [u8; 32] = Sha256::digest(&bytes).into();
        let name = self.name(first, &object);
        world::pass(self.clock(), "cold.encoded").await;
        let told = |error: world::ObjectError| error.to_string();
        self.objects.put(&name, bytes.clone()).await.map_err(told)?;
        world::pass(self.clock(), "cold.put").await;
        let length = bytes.len() as u64;
        let read = self.objects.get(&name, 0..length + 1).await.map_err(told)?;
        if read != bytes {
            return Err("the object store gave back other bytes than it was given".to_owned());
        }
        // Who has said since that its bodies are to stay, is told that this holds once the group has heard of it, which is behind
        // whatever this leader proposed before.
        if replaces.is_none() && !self.old().await.iter().any(|segment| segment.first == first) {
            let _ = self.objects.remove(&name).await;
            return Err("a tenant wants its bodies to stay now".to_owned());
        }
        let key = self.wrap(&key)?;
        let put = ColdPutV1 { first, leaves, object, bytes: length, bodies, key, control_rev, replaces };
        let noted = self.replica.propose(lead, HeaderV1::PutCold(Box::new(put)), Vec::new(), PATIENCE).await;
        let (applied, at) = noted.map_err(|problem| problem.detail)?;
        if !matches!(applied.results.get(at).map(|result| &result.outcome), Some(OutcomeV1::KeysChanged)) {
            // Nobody will ever ask for it. Where this fails, garbage is collected later.
            let _ = self.objects.remove(&name).await;
            return Err("what is erased, or the ring key, changed meanwhile".to_owned());
        }
        world::pass(self.clock(), "cold.noted").await;
        self.replica.cold.note_flaw(first, Ok(()));
        metrics::counter!(PUTS_TOTAL).increment(1);
        sometimes!(true, "a segment's bodies went to the object store");
        sometimes!(replaces.is_some(), "a cold file was made anew");
        tracing::info!(group = %self.replica.store.log().group, first, bodies, "bodies of a segment are in the object store");
        if let Some(old) = replaces {
            let _ = self.objects.remove(&self.name(first, &old)).await;
        }
        Ok(())
    }

    fn wrap(&self, key: &[u8; 32]) -> Result<WrappedV1, String> {
        let shared = &self.core.shared;
        let ring = self.replica.machine.lock().ledger.subjects().ring().ok_or("the group has no ring key")?;
        let ring_key = shared.ring_keys.get(self.replica.group.id(), ring);
        let ring_key = ring_key.ok_or("the group's ring key is on its way to this node")?;
        let mut nonce = [0; 12];
        shared.world.scope.fill(&mut nonce);
        Ok(WrappedV1 { ring, bytes: wrap_subject(&ring_key, nonce, key) })
    }

    /// Files that hold bodies which nobody may read any more.
    async fn renew_due(&self, lead: &Lead) {
        let rule = Rule::of(self.core, &self.replica.store);
        let files: Vec<ColdFile> = self.replica.machine.lock().ledger.subjects().cold_files().copied().collect();
        for file in files {
            if self.replica.cold.is_swept(file.first, rule.stamp()) || self.rests(file.first) {
                continue;
            }
            let came = self.renew_where_due(lead, &rule, &file).await;
            if !self.note_led(lead, file.first, &came) || (came.is_err() && self.reach().await.is_err()) {
                return;
            }
            if came.is_ok() {
                self.replica.cold.note_swept(file.first, rule.stamp());
            }
        }
    }

    /// Makes a file anew where it holds more bodies than may be read: it was made with all that might be read then.
    async fn renew_where_due(&self, lead: &Lead, rule: &Rule, file: &ColdFile) -> Result<(), String> {
        match self.readable(rule, file).await? < file.bodies && !probe::planted("cold-file-kept") {
            true => self.renew(lead, file).await,
            false => Ok(()),
        }
    }

    /// True where a file holds bodies that nobody may read any more.
    pub(super) async fn has_to_go(core: &Core, replica: &PartitionReplica, file: &ColdFile) -> Result<bool, String> {
        let objects = core.shared.world.objects.clone().ok_or("this node has no object store (audit.cold_url)")?;
        let tier = Tier { core, replica, objects: &*objects };
        Ok(tier.readable(&Rule::of(core, &replica.store), file).await? < file.bodies)
    }

    /// How many bodies of a file's leaves may be read now.
    async fn readable(&self, rule: &Rule, file: &ColdFile) -> Result<u32, String> {
        let (pace, mut at, mut readable) = (self.pace(), file.first, 0);
        while at < file.next() {
            let found = self.replica.store.read(at, READ_LEAVES.min(file.next() - at)).await;
            let found = found.map_err(|error| error.to_string())?;
            if found.is_empty() {
                return Err(format!("leaf {at} is not here"));
            }
            for (leaf, stored) in &found {
                let of = sealed_for(stored).or_else(|| away_of(stored)?.sealed_for());
                let Some(of) = of else { continue };
                let leaf = LeafV1::decode(leaf).map_err(|error| error.to_string())?;
                readable += u32::from(self.may_read(rule, &leaf, of));
            }
            at += found.len() as u64;
            pace.spend((READ_LEAVES * 128) as usize).await;
        }
        Ok(readable)
    }

    /// Makes a file anew without what nobody may read any more.
    async fn renew(&self, lead: &Lead, file: &ColdFile) -> Result<(), String> {
        let control_rev = self.replica.machine.lock().ledger.control_revision();
        let (held, mut records) = self.fetch(file.first).await?;
        if held.object != file.object {
            return Err("the file was made anew meanwhile".to_owned());
        }
        let rule = Rule::of(self.core, &self.replica.store);
        for record in &mut records {
            let Body::Clear { head, .. } = &record.body else { continue };
            let leaf = LeafV1::decode(&record.leaf).map_err(|error| error.to_string())?;
            let of = sealed_for(head).ok_or("a body in the file names no keys")?;
            if !self.may_read(&rule, &leaf, of) {
                record.body = Body::Stored(Vec::new());
            }
        }
        self.put(lead, file.first, records, control_rev, Some(file.object)).await
    }

    /// A whole file, as the log names it.
    async fn fetch(&self, first: u64) -> Result<(ColdFile, Vec<Record>), String> {
        let (file, wrapped) = file_with(self.replica, first).ok_or("the log names no such file")?;
        let shared = &self.core.shared;
        let key = sealing::open(shared, self.replica.group.id(), &wrapped).map_err(|problem| problem.detail)?;
        let name = self.name(file.first, &file.object);
        let bytes = self.objects.get(&name, 0..file.bytes + 1).await.map_err(|error| format!("{name}: {error}"))?;
        let work = move || -> Result<Vec<Record>, String> {
            if <[u8; 32]>::from(Sha256::digest(&bytes)) != file.object {
                return Err("the object is not what was stored".to_owned());
            }
            let mut records = Vec::with_capacity(file.leaves as usize);
            cold::decode(&bytes, &key, |_, record| records.push(record)).map_err(|error| error.to_string())?;
            let is_whole = records.len() == file.leaves as usize;
            is_whole.then_some(records).ok_or_else(|| "the object has other leaves than the log says".to_owned())
        };
        let records = heavy(&*shared.world.heavy, work).await.ok_or("reading it did not end")?;
        records.map(|records| (file, records)).map_err(|why| format!("{name}: {why}"))
    }

    /// Drops bodies from segments here that files have, once each was held against its leaf.
    async fn drop_stored(&self) {
        let files: BTreeMap<u64, u64> = {
            let machine = self.replica.machine.lock();
            machine.ledger.subjects().cold_files().map(|file| (file.first, file.next())).collect()
        };
        if files.is_empty() {
            return;
        }
        for (first, next) in self.replica.store.warm_among(|first, next| files.get(&first) == Some(&next)) {
            if self.is_idle(first) || self.rests(first) {
                continue;
            }
            let mut came = self.drop_own(first, next).await;
            if let (Err(why), Some(lead), Some((file, _))) =
                (&came, self.replica.lead(), file_with(self.replica, first))
            {
                tracing::warn!(group = %self.replica.store.log().group, first, why, "a cold file is not what it has to be");
                if self.mend(&lead, &file).await == Ok(true) {
                    came = Ok(());
                }
            }
            self.note(Try { first, is_led: false }, &came);
            if came.is_err() && self.reach().await.is_err() {
                return;
            }
        }
    }

    async fn drop_own(&self, first: u64, next: u64) -> Result<(), String> {
        let (_, records) = self.fetch(first).await?;
        let (pace, mut places, mut at) = (self.pace(), RoaringBitmap::new(), first);
        let rule = Rule::of(self.core, &self.replica.store);
        while at < next {
            let own =
                self.replica.store.read(at, READ_LEAVES.min(next - at)).await.map_err(|error| error.to_string())?;
            if own.is_empty() {
                return Err(format!("leaf {at} is not here"));
            }
            for (leaf, stored) in &own {
                let place = (at - first) as u32;
                let record = records.get(place as usize).filter(|record| record.leaf == *leaf);
                let record = record.ok_or_else(|| format!("the file has another leaf {at}"))?;
                if self.is_there(&rule, record, stored)? {
                    places.insert(place);
                }
                at += 1;
            }
            pace.spend((READ_LEAVES * 1_024) as usize).await;
        }
        if places.is_empty() {
            self.note_idle(first);
            return Ok(());
        }
        world::pass(self.clock(), "cold.checked").await;
        self.replica.store.send_away(first, &places, &rule, &pace).await?;
        world::pass(self.clock(), "cold.dropped").await;
        sometimes!(true, "a replica dropped bodies that a cold file has");
        Ok(())
    }

    /// True where a file has the body that is stored here; an error where it should have it and has not.
    fn is_there(&self, rule: &Rule, record: &Record, stored: &[u8]) -> Result<bool, String> {
        let Some(of) = sealed_for(stored) else { return Ok(false) };
        let leaf = LeafV1::decode(&record.leaf).map_err(|error| error.to_string())?;
        let index = leaf.leaf_index;
        let keys = keys_for(self.core, self.replica, &leaf, of).map_err(|problem| problem.detail)?;
        let Some(keys) = keys.filter(|_| rule.may_drop(&leaf, Some(of)).is_none()) else {
            // It goes from here for good in its own time.
            return Ok(false);
        };
        let Body::Clear { head, plaintext } = &record.body else {
            return Err(format!("the file lacks the body of leaf {index}"));
        };
        let commitment = commitment_to(&keys, head, plaintext).map_err(|error| format!("leaf {index}: {error}"))?;
        if head != split(stored).0 || commitment != leaf.body_commitment {
            return Err(format!("the file has another body of leaf {index}"));
        }
        Ok(true)
    }
}
