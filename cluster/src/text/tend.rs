//! Keeps the text indexes of a node's replicas: makes those of closed segments for tenants that asked for it, and takes out what
//! nobody may read any more.
//!
//! An erasure is complete on a node once no file here has a word of whom it was about: ring keys are destroyed only then
//! ([`is_clean`]). What has expired goes in its own time, like bodies do. Nothing waits for an index: where there is none, bodies are
//! opened one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roaring::RoaringBitmap;

use nethical_audit::body::{self, SealedFor, away_of, sealed_for};
use nethical_audit::leaf::LeafV1;
use nethical_audit::reader::Reader;
use nethical_governance::subject::SubjectId;
use nethical_protocol::ids::{ControlRevision, KeyedId, Slot};
use nethical_protocol::{probe, sometimes};

use super::file::{Covers, FileKey};
use super::index::{Builder, Doc, IndexError, TextIndex};
use super::words::words_in;
use crate::body::BodyV1;
use crate::cold::Body;
use crate::node::Core;
use crate::opening::keys_for;
use crate::replica::PartitionReplica;
use crate::store::scrub::Pace;
use crate::tier::{Rule, cold};
use crate::world::heavy;

/// Bodies indexed since the node started.
pub const INDEXED_TOTAL: &str = "nethical_audit_text_indexed_total";
/// Tries to index a segment that failed since the node started.
pub const FAILED_TOTAL: &str = "nethical_audit_text_failed_total";
/// Bytes of the text indexes on this node.
pub const BYTES: &str = "nethical_audit_text_bytes";

/// Between two looks for what is due.
const EVERY_MS: u64 = 30 * 1_000;
/// Looks that a replica is left alone for after an index of it could not be made.
const REST_LOOKS: u32 = 10;
/// How fast segments are read.
const BYTES_PER_S: u64 = 8 * 1024 * 1024;
/// Between two looks for erased words.
const CLEAN_EVERY: Duration = Duration::from_millis(500);
/// Records read at a time.
const READ_LEAVES: u64 = 256;

/// What a node remembers of a log's text indexes, whichever replica of it is in force. A node that starts has forgotten it all.
#[derive(Default)]
pub struct TextState {
    /// Held while an index is made or something is taken out of one.
    alone: tokio::sync::Mutex<()>,
    /// No file has a word of whoever was erased up to here; none where nobody has looked.
    clean: Mutex<Option<ControlRevision>>,
    /// The state of the rule by which an index was last held against what may still be read.
    swept: Mutex<BTreeMap<u64, u64>>,
}

/// A body that may be indexed: its place, whose keys it needs, what it says.
type Opened = (u32, LeafV1, SealedFor, Vec<u8>);

struct Tend<'a> {
    core: &'a Core,
    replica: &'a PartitionReplica,
    state: Arc<TextState>,
}

/// Runs until the node stops.
pub async fn pump(core: Arc<Core>) {
    let clock = core.shared.world.clock.clone();
    let every = Duration::from_millis(probe::knob("text.every-ms", EVERY_MS));
    let mut resting = BTreeMap::new();
    loop {
        clock.sleep(every).await;
        for replica in core.partitions() {
            let left: &mut u32 = resting.entry(replica.store.log()).or_default();
            if *left > 0 {
                *left -= 1;
                continue;
            }
            if let Err(why) = Tend::of(&core, &replica).look().await {
                metrics::counter!(FAILED_TOTAL).increment(1);
                tracing::warn!(group = %replica.group.id(), why, "a text index could not be made; it is tried again");
                *left = REST_LOOKS;
            }
        }
        let texts = &core.shared.texts;
        let here: BTreeSet<_> = core.partitions().iter().map(|replica| replica.store.log()).collect();
        for log in texts.logs().into_iter().filter(|log| !here.contains(log) && core.starting.lock().is_empty()) {
            for first in texts.of_log(log) {
                let _ = texts.remove((log, first)).await;
            }
        }
        metrics::gauge!(BYTES).set(texts.sums().1 as f64);
    }
}

/// Keeps the files of a replica free of erased words, beside everything, until it retires.
pub async fn keep_clean(core: Arc<Core>, replica: Arc<PartitionReplica>) {
    while !replica.has_retired() {
        if let Err(why) = purge(&core, &replica).await {
            tracing::warn!(group = %replica.group.id(), why, "erased words are still in text indexes; it is tried again");
        }
        core.shared.world.clock.sleep(CLEAN_EVERY).await;
    }
}

/// Takes whoever is erased out of all indexes of a replica. Where it returns, no file here opens to a word of them.
///
/// # Errors
/// Where the disk fails; then some may still.
async fn purge(core: &Core, replica: &PartitionReplica) -> Result<(), String> {
    if is_clean(core, replica) {
        return Ok(());
    }
    let tend = Tend::of(core, replica);
    let _alone = tend.state.alone.lock().await;
    let erased = replica.machine.lock().ledger.erasure_state().erased_rev;
    let log = replica.store.log();
    core.shared.texts.discard_unknown(log).await.map_err(|error| error.to_string())?;
    for first in core.shared.texts.of_log(log) {
        tend.take_out_erased(first).await?;
    }
    let mut clean = tend.state.clean.lock();
    *clean = (*clean).max(Some(erased));
    Ok(())
}

/// True where no file here has a word of whom a replica's state says is erased.
pub fn is_clean(core: &Core, replica: &PartitionReplica) -> bool {
    let erased = replica.machine.lock().ledger.erasure_state().erased_rev;
    *core.shared.texts.state(replica.store.log()).clean.lock() >= Some(erased)
}

impl<'a> Tend<'a> {
    fn of(core: &'a Core, replica: &'a PartitionReplica) -> Self {
        Self { core, replica, state: core.shared.texts.state(replica.store.log()) }
    }

    fn key(&self, first: u64) -> FileKey {
        (self.replica.store.log(), first)
    }

    fn pace(&self) -> Pace<'_> {
        Pace { clock: &*self.core.shared.world.clock, bytes_per_s: BYTES_PER_S }
    }

    /// Does what is due for a replica's segments: first what is to go, then what is to come. A segment with which something fails
    /// holds up no other one.
    async fn look(&self) -> Result<(), String> {
        let (log, mut came) = (self.replica.store.log(), Ok(()));
        let segments = self.replica.store.whole_segments();
        for first in self.core.shared.texts.of_log(log) {
            let next = segments.iter().find(|(known, _)| *known == first).map(|(_, next)| *next);
            came = came.and(self.tidy(first, next).await);
        }
        for (first, next) in segments {
            came = came.and(self.make_where_wanted(first, next).await);
        }
        came
    }

    /// The tenants who want their words indexed, while this replica may judge what there is: one that has retired, or has not
    /// applied yet what its segments were written by, does not know who is erased.
    fn wanted(&self) -> Option<BTreeSet<KeyedId>> {
        let view = self.core.shared.view();
        let is_current = self.replica.machine.lock().tree().0 >= self.replica.store.stored().0;
        (view.revision().0 > 0 && is_current && !self.replica.has_retired()).then(|| view.text_tenants())
    }

    /// Removes an index that nobody wants or that is about something else, and takes out of another one what is to go.
    async fn tidy(&self, first: u64, next: Option<u64>) -> Result<(), String> {
        let _alone = self.state.alone.lock().await;
        let (Some(wanted), texts) = (self.wanted(), &self.core.shared.texts) else { return Ok(()) };
        match texts.covers(self.key(first)) {
            None => Ok(()),
            Some(covers) if Some(covers.next) == next && !wanted.is_empty() => self.sweep(first, covers, &wanted).await,
            Some(_) => texts.remove(self.key(first)).await.map_err(|error| error.to_string()),
        }
    }

    async fn make_where_wanted(&self, first: u64, next: u64) -> Result<(), String> {
        let _alone = self.state.alone.lock().await;
        let Some(wanted) = self.wanted().filter(|wanted| !wanted.is_empty()) else { return Ok(()) };
        let covers = self.core.shared.texts.covers(self.key(first));
        match covers.is_some_and(|covers| covers.next == next && wanted.is_subset(&covers.tenants)) {
            true => Ok(()),
            false => self.make(first, next, wanted).await,
        }
    }

    /// Makes a segment's index from its bodies.
    async fn make(&self, first: u64, next: u64, tenants: BTreeSet<KeyedId>) -> Result<(), String> {
        let rule = Rule::of(self.core, &self.replica.store);
        let cold = match self.replica.store.cold_segments().contains(&first) {
            true => self.cold_bodies(first).await?,
            false => BTreeMap::new(),
        };
        let told = |error: IndexError| error.to_string();
        let (pace, mut at, mut builder) = (self.pace(), first, Builder::new().map_err(told)?);
        while at < next {
            let found = self.replica.store.read(at, READ_LEAVES.min(next - at)).await;
            let found = found.map_err(|error| error.to_string())?;
            if found.is_empty() {
                return Err(format!("leaf {at} is not here"));
            }
            let mut opened = Vec::new();
            for (number, (leaf, stored)) in found.iter().enumerate() {
                let place = (at - first) as u32 + number as u32;
                let in_cold = cold.get(&place);
                opened.extend(
                    self.open(&rule, &tenants, leaf, stored, in_cold)?.map(|(leaf, of, said)| (place, leaf, of, said)),
                );
            }
            let added = heavy(&*self.core.shared.world.heavy, move || {
                builder.add(docs_of(opened)?).map_err(told)?;
                Ok::<_, String>(builder)
            });
            builder = added.await.ok_or("reading bodies did not end")??;
            at += found.len() as u64;
            pace.spend(found.iter().map(|(leaf, stored)| leaf.len() + stored.len()).sum()).await;
        }
        let made = heavy(&*self.core.shared.world.heavy, move || builder.finish()).await;
        let index = made.ok_or("indexing it did not end")?.map_err(told)?;
        let indexed = index.len() as u64;
        self.put(first, Covers { next, tenants }, index).await?;
        self.state.swept.lock().insert(first, rule.stamp());
        // Somebody may have been erased while it was made.
        self.take_out_erased(first).await?;
        metrics::counter!(INDEXED_TOTAL).increment(indexed);
        sometimes!(indexed > 0, "bodies of a segment were indexed");
        Ok(())
    }

    /// What a body says, where it may be indexed.
    fn open(
        &self,
        rule: &Rule,
        tenants: &BTreeSet<KeyedId>,
        leaf: &[u8],
        stored: &[u8],
        in_cold: Option<&Vec<u8>>,
    ) -> Result<Option<(LeafV1, SealedFor, Vec<u8>)>, String> {
        let Some(of) = sealed_for(stored).or_else(|| away_of(stored)?.sealed_for()) else { return Ok(None) };
        let leaf = LeafV1::decode(leaf).map_err(|error| error.to_string())?;
        let is_wanted = leaf.event.agent().is_some_and(|(_, tenant, _)| tenants.contains(&tenant));
        if !is_wanted || rule.may_drop(&leaf, Some(of)).is_some() {
            return Ok(None);
        }
        let keys = keys_for(self.core, self.replica, &leaf, of).map_err(|problem| problem.detail)?;
        let Some(keys) = keys else {
            let unknown = || format!("the keys of leaf {} are not known here yet", leaf.leaf_index);
            return if self.is_erased(&leaf, of) { Ok(None) } else { Err(unknown()) };
        };
        if away_of(stored).is_some() {
            let said = in_cold.ok_or_else(|| format!("the cold file lacks the body of leaf {}", leaf.leaf_index))?;
            return Ok(Some((leaf, of, said.clone())));
        }
        let opened = body::open(&keys, stored, self.core.shared.view().dictionaries().known());
        let (said, _) = opened.map_err(|error| format!("leaf {}: {error}", leaf.leaf_index))?;
        Ok(Some((leaf, of, said)))
    }

    async fn cold_bodies(&self, first: u64) -> Result<BTreeMap<u32, Vec<u8>>, String> {
        let records = cold::whole(self.core, self.replica, first).await?;
        sometimes!(true, "bodies were indexed from the cold tier");
        let clear = |(place, record): (usize, crate::cold::Record)| match record.body {
            Body::Clear { plaintext, .. } => Some((place as u32, plaintext)),
            Body::Stored(_) => None,
        };
        Ok(records.into_iter().enumerate().filter_map(clear).collect())
    }

    /// Takes out tenants who do not want it any more, and bodies that have expired since the last look.
    async fn sweep(&self, first: u64, covers: Covers, wanted: &BTreeSet<KeyedId>) -> Result<(), String> {
        let rule = Rule::of(self.core, &self.replica.store);
        let is_swept = self.state.swept.lock().get(&first) == Some(&rule.stamp());
        if is_swept && covers.tenants.is_subset(wanted) {
            return Ok(());
        }
        let Some(index) = self.load(first).await? else { return Ok(()) };
        let told = |error: IndexError| error.to_string();
        let mut dead = RoaringBitmap::new();
        let kept: BTreeSet<KeyedId> = covers.tenants.intersection(wanted).copied().collect();
        for tenant in covers.tenants.difference(wanted) {
            dead |= index.docs_of_tenant(*tenant).map_err(told)?;
        }
        if !is_swept {
            dead |= self.expired(first, covers.next, &rule, &index).await?;
        }
        if !dead.is_empty() || covers.tenants != kept {
            self.put_without(first, Covers { tenants: kept, ..covers }, index, dead).await?;
            sometimes!(true, "expired or unwanted words left a text index");
        }
        self.state.swept.lock().insert(first, rule.stamp());
        Ok(())
    }

    /// Documents whose bodies may go, by their leaves.
    async fn expired(&self, first: u64, next: u64, rule: &Rule, index: &TextIndex) -> Result<RoaringBitmap, String> {
        let (pace, mut dead, mut at) = (self.pace(), RoaringBitmap::new(), first);
        let mut docs = index.places().iter().zip(0u32..).peekable();
        while at < next && docs.peek().is_some() {
            let found = self.replica.store.read(at, READ_LEAVES.min(next - at)).await;
            let found = found.map_err(|error| error.to_string())?;
            if found.is_empty() {
                return Err(format!("leaf {at} is not here"));
            }
            for (index, (leaf, stored)) in (at..).zip(&found) {
                let Some((_, doc)) = docs.next_if(|(place, _)| first + u64::from(**place) == index) else { continue };
                if !self.may_stay(rule, leaf, stored)? {
                    dead.insert(doc);
                }
            }
            at += found.len() as u64;
            pace.spend((READ_LEAVES * 128) as usize).await;
        }
        Ok(dead)
    }

    fn may_stay(&self, rule: &Rule, leaf: &[u8], stored: &[u8]) -> Result<bool, String> {
        let Some(of) = sealed_for(stored).or_else(|| away_of(stored)?.sealed_for()) else { return Ok(false) };
        let leaf = LeafV1::decode(leaf).map_err(|error| error.to_string())?;
        let is_kept = probe::planted("erased-words-kept");
        Ok(is_kept || (rule.may_drop(&leaf, Some(of)).is_none() && !self.is_erased(&leaf, of)))
    }

    /// True where a key that a body needs is gone for good. One that the state does not have is not: it may come.
    fn is_erased(&self, leaf: &LeafV1, of: SealedFor) -> bool {
        let machine = self.replica.machine.lock();
        let is_gone = |(id, generation): (SubjectId, u32)| generation < machine.ledger.subjects().key(&id).0;
        subjects_of(leaf, of).into_iter().any(is_gone)
    }

    /// Takes out whose keys are gone for good. An index with which that cannot be done goes whole: it can be made again.
    async fn take_out_erased(&self, first: u64) -> Result<(), String> {
        let Err(why) = self.try_take_out_erased(first).await else { return Ok(()) };
        tracing::warn!(group = %self.replica.group.id(), first, why, "a text index is removed: erased words could not be taken out");
        self.core.shared.texts.remove(self.key(first)).await.map_err(|error| error.to_string())
    }

    async fn try_take_out_erased(&self, first: u64) -> Result<(), String> {
        let Some(covers) = self.core.shared.texts.covers(self.key(first)) else { return Ok(()) };
        let Some(index) = self.load(first).await? else { return Ok(()) };
        let told = |error: IndexError| error.to_string();
        let subjects = index.subjects().map_err(told)?;
        let gone: Vec<Vec<u8>> = {
            let machine = self.replica.machine.lock();
            let is_gone = |subject: &Vec<u8>| {
                read_subject(subject).is_none_or(|(id, generation)| generation < machine.ledger.subjects().key(&id).0)
            };
            subjects.into_iter().filter(is_gone).collect()
        };
        if gone.is_empty() || probe::planted("erased-words-kept") {
            return Ok(());
        }
        let dead = index.docs_with(&gone).map_err(told)?;
        self.put_without(first, covers, index, dead).await?;
        sometimes!(true, "erased words left a text index");
        Ok(())
    }

    async fn put_without(
        &self,
        first: u64,
        covers: Covers,
        index: Arc<TextIndex>,
        dead: RoaringBitmap,
    ) -> Result<(), String> {
        let left = heavy(&*self.core.shared.world.heavy, move || index.without(&dead)).await;
        let left = left.ok_or("making it anew did not end")?.map_err(|error| error.to_string())?;
        self.put(first, covers, left).await
    }

    async fn load(&self, first: u64) -> Result<Option<Arc<TextIndex>>, String> {
        self.core.shared.texts.load(self.key(first)).await.map_err(|error| error.to_string())
    }

    async fn put(&self, first: u64, covers: Covers, index: TextIndex) -> Result<(), String> {
        let (texts, clock) = (&self.core.shared.texts, &*self.core.shared.world.clock);
        texts.put(clock, self.key(first), covers, Arc::new(index)).await.map_err(|error| error.to_string())
    }
}

fn docs_of(opened: Vec<Opened>) -> Result<Vec<Doc>, String> {
    let doc = |(place, leaf, of, said): Opened| {
        let body = BodyV1::from_bytes(&said).map_err(|error| format!("leaf {}: {error}", leaf.leaf_index))?;
        let Some((_, tenant, _)) = leaf.event.agent() else { return Ok(None) };
        let subjects = subjects_of(&leaf, of).iter().map(|(id, generation)| subject_bytes(id, *generation)).collect();
        Ok(Some(Doc { place, tenant, subjects, words: words_in(&body) }))
    };
    opened.into_iter().filter_map(|opened| doc(opened).transpose()).collect()
}

/// A subject's key as an index has it: tenant 16, slot 2, subject 16, generation 4.
fn subject_bytes(id: &SubjectId, generation: u32) -> Vec<u8> {
    [&id.tenant.0[..], &id.slot.0.to_le_bytes(), &id.subject.0, &generation.to_le_bytes()].concat()
}

/// Whose keys a body needs: its agent's, and that of the person whom it is about.
fn subjects_of(leaf: &LeafV1, of: SealedFor) -> Vec<(SubjectId, u32)> {
    let Some((slot, tenant, agent)) = leaf.event.agent() else { return Vec::new() };
    let id = |subject: KeyedId| SubjectId { slot: Slot(slot), tenant, subject };
    let person = of.person.map(|(person, generation)| (id(person), generation));
    [(id(agent), of.generation)].into_iter().chain(person).collect()
}

/// The other way round; `None` for other bytes.
pub fn read_subject(bytes: &[u8]) -> Option<(SubjectId, u32)> {
    let mut reader = Reader::new(bytes);
    let (tenant, slot, subject) = (KeyedId(reader.array()?), Slot(reader.u16()?), KeyedId(reader.array()?));
    let generation = reader.u32()?;
    reader.is_empty().then_some((SubjectId { slot, tenant, subject }, generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_reads_back() {
        let (tenant, agent) = (KeyedId([1; 16]), KeyedId([2; 16]));
        let id = SubjectId { slot: Slot(513), tenant, subject: agent };
        let bytes = subject_bytes(&id, 70_000);
        assert_eq!(read_subject(&bytes), Some((id, 70_000)));
        assert_eq!(read_subject(&bytes[1..]), None);
    }
}
