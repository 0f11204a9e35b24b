//! The sealer: a background task per group that writes applied records into segments, once and in leaf order.
//!
//! It never delays an acknowledgement. After a snapshot from a leader it first fetches the leaves that this replica
//! never applied, and checks them against the snapshot's root. What it has written and synced is where a restart
//! snapshot may go.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::segment::SegmentWriter;
use nethical_audit::tree::Hash;
use nethical_protocol::{always, buggify, probe, sometimes};

use super::open::MANIFEST;
use super::search::Searchable;
use super::{AuditStore, Closed, Places, create, dir_of};
use crate::message::{AskLeavesV1, KIND_LEAVES, LeavesV1};
use crate::node::Core;
use crate::overshoot::OVERSHOOT_TOTAL;
use crate::signing::{self, Signers};
use crate::trail::Record;
use crate::world::{self, Clock, Lane, timeout};

/// Bytes taken from the tail in one go.
const TAKE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// A pause after each round, so that one write carries many records.
const LINGER: Duration = Duration::from_millis(40);
/// What is written is also synced, and a checkpoint signed over it, at least this often while there is anything new.
const SYNC_EVERY_MS: u64 = 5_000;
/// Leaves asked of a peer at once.
const FETCH_LEAVES: u64 = 1_024;
/// How long one such question may take.
const FETCH_PATIENCE: Duration = Duration::from_secs(5);

/// What a file gets next: records, where they go, and, where they are a segment's last, the writer that can close it.
struct Chunk {
    at: u64,
    records: Vec<u8>,
    full: Option<SegmentWriter>,
    next: u64,
}

impl AuditStore {
    /// Writes applied records to segments. Runs until the node stops; an error of the disk ends the
    /// node: its log must not grow without its audit trail.
    pub async fn seal(self: Arc<Self>, core: Arc<Core>) {
        let clock = core.shared.world.clock.clone();
        let mut synced_at = clock.now();
        while !self.retired.load(Ordering::SeqCst) {
            if let Err(error) = self.seal_round(&core, &*clock, &mut synced_at).await {
                tracing::error!(group = %self.log.group, %error, "audit segments cannot be written");
                (core.shared.on_fatal)(&error);
                return;
            }
            let due = sync_every().saturating_sub(clock.now().saturating_sub(synced_at));
            let wait = if self.is_dirty() { due.max(LINGER) } else { sync_every() };
            let news = async {
                tokio::select! { biased; () = self.demand.notified() => (), () = self.trail.grown.notified() => () }
            };
            if timeout(&*clock, wait, news).await.is_some() && !self.is_wanted() {
                clock.sleep(LINGER).await;
            }
        }
    }

    async fn seal_round(&self, core: &Arc<Core>, clock: &dyn Clock, synced_at: &mut Duration) -> io::Result<()> {
        self.fill_gap(core).await?;
        loop {
            let next = self.next_index();
            let records = self.trail.from(next, if buggify!("seal.one-record") { 1 } else { TAKE_BYTES_MAX });
            if records.is_empty() || records[0].index != next {
                break;
            }
            self.write(&records, clock).await?;
            self.add_up(core, &records);
            core.shared
                .correlation
                .lock()
                .note(self.log.group, records.iter().filter_map(|record| record.leaf.as_deref()));
        }
        if self.is_wanted() || (self.is_dirty() && clock.now().saturating_sub(*synced_at) >= sync_every()) {
            self.sync(core).await?;
            *synced_at = clock.now();
        }
        Ok(())
    }

    /// Has the auditor of limits add up what was let through.
    fn add_up(&self, core: &Core, records: &[Arc<Record>]) {
        let group = self.log.group;
        let Some(replica) = core.partition(group) else { return };
        let mut overshoot = core.shared.overshoot.lock();
        let limit_of = |number| replica.machine.lock().ledger.limit(number).cloned();
        let beyond: u64 =
            records.iter().filter_map(|record| Some(overshoot.note(group, record.leaf.as_ref()?, limit_of))).sum();
        always!(beyond == 0, "no-overshoot", "group {group} let through {beyond} units more than its limits allow");
        if beyond > 0 {
            metrics::counter!(OVERSHOOT_TOTAL).increment(beyond);
            tracing::error!(%group, beyond, "more was let through than limits allow: a defect, please report it");
        }
    }

    fn next_index(&self) -> u64 {
        let inner = self.inner.lock();
        inner.open.as_ref().map_or(0, |open| open.writer.next_index())
    }

    fn is_dirty(&self) -> bool {
        let sealed = *self.sealed.borrow();
        sealed.durable < sealed.written
    }

    fn is_wanted(&self) -> bool {
        *self.wanted.lock() > self.sealed.borrow().durable
    }

    async fn write(&self, records: &[Arc<Record>], clock: &dyn Clock) -> io::Result<()> {
        let pairs: Vec<(&[u8], &[u8])> = records.iter().map(|record| (&record.bytes[..], &record.body[..])).collect();
        self.write_pairs(&pairs, clock).await
    }

    /// Appends records to the open segment, closing it and starting the next one where the rules say so.
    pub(super) async fn write_pairs(&self, mut records: &[(&[u8], &[u8])], clock: &dyn Clock) -> io::Result<()> {
        while !records.is_empty() {
            let (chunk, taken) = self.take(records);
            records = &records[taken..];
            let file = self.inner.lock().open.as_ref().expect("there is always an open segment").file.clone();
            let ending_at = chunk.at + chunk.records.len() as u64;
            file.write_at(chunk.at, Bytes::from(chunk.records)).await?;
            if let Some(writer) = chunk.full {
                // Takes a while for a full segment: nobody waits for it behind a lock.
                let (closed, ending) = close(writer);
                world::pass(clock, "seal.ending").await;
                file.write_at(ending_at, Bytes::from(ending)).await?;
                world::pass(clock, "seal.before").await;
                file.sync().await?;
                world::pass(clock, "seal.after").await;
                sometimes!(true, "an audit segment was closed");
                self.write_seal(&closed).await?;
                let open = create(&*self.disk, &self.cluster, self.log, chunk.next).await?;
                {
                    let mut inner = self.inner.lock();
                    inner.closed.push(Arc::new(closed));
                    inner.open = Some(open);
                }
                self.sealed.send_modify(|sealed| sealed.durable = chunk.next);
            }
            self.sealed.send_modify(|sealed| sealed.written = chunk.next);
            self.trail.release(chunk.next);
        }
        Ok(())
    }

    /// Adds the seal of a segment that is full to the manifest, now that its file is durable.
    async fn write_seal(&self, closed: &Closed) -> io::Result<()> {
        let seal = self.inner.lock().seal_of(closed).encode();
        self.append_to_manifest(seal).await
    }

    /// Adds to the manifest, durably. What a failed write has left there is written over by the next one.
    pub(super) async fn append_to_manifest(&self, bytes: Vec<u8>) -> io::Result<()> {
        let _held = self.manifest.lock().await;
        let at = self.inner.lock().manifest_bytes;
        let end = at + bytes.len() as u64;
        let file = self.disk.open(&format!("{}/{MANIFEST}", dir_of(self.log)), false).await?;
        file.write_and_sync(at, Bytes::from(bytes)).await?;
        self.inner.lock().manifest_bytes = end;
        Ok(())
    }

    /// Pushes as many records as one segment takes; gives the bytes to append. A segment that was full when the power went,
    /// and had no footer yet, takes none and is closed.
    fn take(&self, records: &[(&[u8], &[u8])]) -> (Chunk, usize) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let writer = &mut inner.open.as_mut().expect("there is always an open segment").writer;
        let (at, before) = (writer.bytes_given(), writer.leaf_hashes().len());
        let mut bytes = writer.flush_frame().unwrap_or_default();
        let mut taken = 0;
        for (leaf, body) in records {
            if writer.is_full() {
                break;
            }
            bytes.extend(writer.push(leaf, body).unwrap_or_default());
            taken += 1;
        }
        sometimes!(taken == 0, "a full segment got its footer after a crash");
        bytes.extend(writer.flush_frame().unwrap_or_default());
        writer.leaf_hashes()[before..].iter().for_each(|hash| inner.tree.append(*hash));
        let next = writer.next_index();
        let full = writer.is_full().then(|| writer.clone());
        (Chunk { at, records: bytes, full, next }, taken)
    }

    /// Makes what is written durable and signs a checkpoint over it.
    async fn sync(&self, core: &Core) -> io::Result<()> {
        let (file, size, root) = {
            let inner = self.inner.lock();
            let file = inner.open.as_ref().expect("there is always an open segment").file.clone();
            (file, inner.tree.size(), inner.tree.root())
        };
        let clock = &*core.shared.world.clock;
        world::pass(clock, "seal.before").await;
        file.sync().await?;
        world::pass(clock, "seal.after").await;
        self.sealed.send_modify(|sealed| sealed.durable = sealed.durable.max(size));
        let sealed = *self.sealed.borrow();
        always!(sealed.durable <= sealed.written, "sealed-durable-is-written", "{sealed:?}");
        let Some(note) = sign(core, self, size, root) else { return Ok(()) };
        world::replace(&*self.disk, &dir_of(self.log), "checkpoint", Bytes::from(note)).await
    }

    /// Writes and syncs everything that is applied now; for an orderly stop.
    pub async fn finish(&self) -> io::Result<()> {
        self.barrier(self.trail.end()).await
    }

    /// Fetches the leaves between what is stored here and where the tail begins, from any other replica.
    async fn fill_gap(&self, core: &Arc<Core>) -> io::Result<()> {
        while self.next_index() < self.trail.first() && !self.retired.load(Ordering::SeqCst) {
            let (from, until) = (self.next_index(), self.trail.first());
            let count = (until - from).min(if buggify!("seal.fetch-one") { 1 } else { FETCH_LEAVES });
            let Some(found) = self.ask_peers(core, from, count).await else {
                core.shared.world.clock.sleep(Duration::from_millis(500)).await;
                continue;
            };
            let pairs: Vec<(&[u8], &[u8])> = found.records.iter().map(|(leaf, body)| (&leaf[..], &body[..])).collect();
            sometimes!(true, "the sealer fetched leaves that were never applied here");
            self.write_pairs(&pairs, &*core.shared.world.clock).await?;
        }
        self.check_expected()
    }

    async fn ask_peers(&self, core: &Core, from: u64, count: u64) -> Option<LeavesV1> {
        let ask = AskLeavesV1 { group: self.log.group.0, from, count };
        for peer in core.placed(self.log.group) {
            if peer == core.shared.options.node {
                continue;
            }
            let call = core.shared.world.wire.call(peer, Lane::Bulk, KIND_LEAVES, ask.to_bytes(), FETCH_PATIENCE);
            let found = call.await.ok().and_then(|bytes| LeavesV1::from_bytes(&bytes).ok());
            if let Some(mut found) = found.filter(|found| !found.records.is_empty()) {
                found.records.truncate(count as usize);
                return Some(found);
            }
        }
        None
    }

    fn check_expected(&self) -> io::Result<()> {
        let mut expected = self.expected.lock();
        let (size, root) = self.stored();
        match *expected {
            Some((wanted, wanted_root)) if wanted == size => {
                *expected = None;
                match root == wanted_root {
                    true => Ok(()),
                    false => Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "fetched leaves do not have the snapshot's root",
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

fn sync_every() -> Duration {
    Duration::from_millis(probe::knob("seal.sync-ms", SYNC_EVERY_MS))
}

/// What comes behind the records of a full segment, all of which were given out.
fn close(writer: SegmentWriter) -> (Closed, Vec<u8>) {
    let (meta, next, at) = (*writer.meta(), writer.next_index(), writer.bytes_given());
    let bodies: Arc<[Hash]> = writer.body_roots().into();
    let (ending, footer) = writer.close();
    let places = Places::hot(&footer, meta.first_index, Searchable::of(footer.index, &ending));
    let file_bytes = at + ending.len() as u64;
    let places = Some(Arc::new(Places { file_bytes, ..places }));
    (Closed { meta, next, digest: footer.content_digest, bodies, warm: None, turn: 0, places }, ending)
}

/// A checkpoint over stored leaves, signed with the zone's keys in force under the log's origin.
pub fn sign(core: &Core, store: &AuditStore, size: u64, root: Hash) -> Option<String> {
    let signers = signing::signers(core, store).ok()?;
    sign_with(core, store, &signers, size, root)
}

/// The same, by keys that are known to be in force.
pub fn sign_with(core: &Core, store: &AuditStore, signers: &Signers, size: u64, root: Hash) -> Option<String> {
    let origin = store.log().origin(&core.shared.options.cluster);
    Checkpoint { origin, size, root }.sign_by(&signers.signers)
}
