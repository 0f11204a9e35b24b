//! Makes a damaged segment's file again: from what of it still reads, and from other replicas' records for the rest.
//!
//! Nobody is believed. The leaves of each tile must have the root that this replica's own tree has, and the whole file the
//! digest that the segment was sealed with, which pins the bodies too; both were in the manifest or in memory before
//! anybody was asked. Since a file follows from its records, the new one is the old one to the byte. It takes the old
//! one's place in one step, so a crash leaves either. A warm file is made again as a warm one ([`super::warm`]).

use std::collections::BTreeMap;
use std::time::Duration;

use nethical_audit::segment::{SegmentScan, may_be_bodies};
use nethical_audit::tree::{leaf_hash, root_of};
use nethical_protocol::ids::NodeId;
use nethical_protocol::{always, probe, sometimes};

use super::scrub::{Pace, Target, may_be_stored};
use super::warm::Rewrite;
use super::*;
use crate::message::{AskRecordsV1, KIND_RECORDS, LeavesV1};
use crate::node::Core;
use crate::tier::Rule;
use crate::world::{Lane, read_all};

/// How long another replica may take for some records.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// Leaf and body by index.
pub(super) type Records = BTreeMap<u64, (Vec<u8>, Vec<u8>)>;

/// Replicas that may be asked for records.
pub(super) struct Others<'a> {
    core: &'a Core,
    nodes: Vec<NodeId>,
}

/// A new file on its way.
struct Rebuilt {
    places: Places,
    digest: Hash,
    /// Records that came from others.
    fetched: u64,
}

impl AuditStore {
    /// Mends one damaged segment; gives how many of its records came from other replicas. Nothing happens to one that is
    /// whole, or still open.
    ///
    /// # Errors
    /// Why it stays damaged, in words; the note on it says so too.
    pub async fn mend(&self, core: &Core, first: u64, rule: &Rule, pace: &Pace<'_>) -> Result<u64, String> {
        let is_forged = self.inner.lock().damages.get(&first).map(|damage| damage.is_forged);
        let (Some(is_forged), Some(target)) = (is_forged, self.target(first)) else { return Ok(0) };
        let mended = match target.seal.warm {
            Some(_) => self.mend_warm(core, &target, rule, pace).await,
            None => {
                let own = if is_forged { None } else { self.salvage(&target).await };
                match self.try_peers(core, &target, own.as_ref(), pace).await {
                    Ok(fetched) => Ok(fetched),
                    // Where others have dropped bodies, the file that was sealed cannot be had any more.
                    Err(why) => self.mend_warm(core, &target, rule, pace).await.map_err(|_| why),
                }
            }
        };
        match &mended {
            Ok(fetched) => {
                sometimes!(true, "a damaged audit segment was repaired");
                metrics::counter!(damage::REPAIRED_LEAVES_TOTAL).increment(*fetched);
                let (group, segment) = (self.log.group, &target.path);
                tracing::warn!(%group, segment, fetched, "a damaged audit segment is whole again");
                self.forget_damage(first);
            }
            Err(why) => self.note_tried(first, why),
        }
        mended
    }

    /// Each replica gets its turn to be asked first: a body that another one has changed shows only in the whole file.
    async fn try_peers(
        &self,
        core: &Core,
        target: &Target,
        own: Option<&SegmentIndex>,
        pace: &Pace<'_>,
    ) -> Result<u64, String> {
        let here = core.shared.options.node;
        let peers: Vec<NodeId> = core.placed(self.log.group).into_iter().filter(|node| *node != here).collect();
        let mut last = String::new();
        // What is here first; then, where that does not make the file that was sealed, others' records alone.
        for kept in [own, None] {
            for turn in 0..peers.len().max(1) {
                let turned: Vec<NodeId> = peers.iter().cycle().skip(turn).take(peers.len()).copied().collect();
                let rebuilt = self.rebuild(core, target, kept, &turned, pace).await?;
                let fits = rebuilt.digest == target.seal.content_digest;
                if fits || probe::planted("repair-believes-peers") {
                    always!(fits, "repaired-is-what-was-sealed", "{} of group {}", target.path, self.log.group);
                    return self.put_in_place(target, rebuilt).await.map_err(|error| error.to_string());
                }
                sometimes!(true, "a repair found that other bodies were sealed");
                last = "no replica's bodies are those that were sealed".to_owned();
            }
            if peers.is_empty() {
                break;
            }
        }
        Err(last)
    }

    /// Makes the file anew as a warm one, from whatever reads here and there.
    async fn mend_warm(&self, core: &Core, target: &Target, rule: &Rule, pace: &Pace<'_>) -> Result<u64, String> {
        let here = core.shared.options.node;
        let nodes = core.placed(self.log.group).into_iter().filter(|node| *node != here).collect();
        let others = Others { core, nodes };
        let how = Rewrite { rule, away: None, pace, others: Some(&others) };
        let moved = self.rewrite(target, how).await;
        moved.map(|moved| moved.fetched)
    }

    /// Where the records stand that the damaged file still has.
    async fn salvage(&self, target: &Target) -> Option<SegmentIndex> {
        if let Some(places) = &target.places {
            return Some(places.index.clone());
        }
        // A warm file says in its footer alone where things stand.
        if target.seal.warm.is_some() {
            return None;
        }
        let mut bytes = read_all(&*self.disk, &target.path).await.ok()?.to_vec();
        let header = target.seal.meta.encode();
        bytes.get_mut(..header.len())?.copy_from_slice(&header);
        let scan = SegmentScan::new(&bytes).ok()?;
        // A writer that would go on behind the last good record knows where they all are.
        scan.into_writer().map(|writer| writer.index())
    }

    /// Writes the file anew beside the old one.
    async fn rebuild(
        &self,
        core: &Core,
        target: &Target,
        own: Option<&SegmentIndex>,
        peers: &[NodeId],
        pace: &Pace<'_>,
    ) -> Result<Rebuilt, String> {
        let told = |error: io::Error| error.to_string();
        let seal = &target.seal;
        let (mut writer, header) = SegmentWriter::create(seal.meta);
        let file = self.disk.open(&format!("{}.tmp", target.path), true).await.map_err(told)?;
        file.set_len(0).await.map_err(told)?;
        file.write_at(0, Bytes::copy_from_slice(&header)).await.map_err(told)?;
        let mut fetched = 0;
        for (tile, root) in seal.tile_hashes.iter().enumerate() {
            let from = seal.meta.first_index + tile as u64 * TILE_LEAVES;
            let (records, foreign) = self.tile_of(core, target, own, peers, (from, root)).await?;
            fetched += foreign;
            let (at, mut bytes) = (writer.bytes_given(), Vec::new());
            for (leaf, body) in records.values() {
                if writer.is_full() {
                    return Err("the records do not fill the segment that was sealed".to_owned());
                }
                bytes.extend(writer.push(leaf, body).unwrap_or_default());
            }
            bytes.extend(writer.flush_frame().unwrap_or_default());
            pace.spend(bytes.len()).await;
            file.write_at(at, Bytes::from(bytes)).await.map_err(told)?;
        }
        if !writer.is_full() {
            return Err("the records do not fill the segment that was sealed".to_owned());
        }
        let at = writer.bytes_given();
        let (ending, footer) = writer.close();
        let search = Searchable::of(footer.index, &ending);
        let file_bytes = at + ending.len() as u64;
        file.write_and_sync(at, Bytes::from(ending)).await.map_err(told)?;
        let places = Places { file_bytes, ..Places::hot(&footer, seal.meta.first_index, search) };
        Ok(Rebuilt { places, digest: footer.content_digest, fetched })
    }

    async fn put_in_place(&self, target: &Target, rebuilt: Rebuilt) -> io::Result<u64> {
        {
            let _alone = self.files.write().await;
            if !self.is_current(target) {
                return Err(io::Error::other("the segment was moved meanwhile"));
            }
            self.disk.rename(&format!("{}.tmp", target.path), &target.path).await?;
        }
        self.disk.sync_dir(&dir_of(self.log)).await?;
        let mut inner = self.inner.lock();
        let first = target.seal.meta.first_index;
        if let Some(segment) = inner.closed.iter_mut().find(|segment| segment.first() == first) {
            let Closed { meta, next, digest, warm, turn, .. } = **segment;
            let (bodies, places) = (segment.bodies.clone(), Some(Arc::new(rebuilt.places)));
            *segment = Arc::new(Closed { meta, next, digest, bodies, warm, turn: turn + 1, places });
        }
        Ok(rebuilt.fetched)
    }

    /// The records of one tile for a warm file, and how many of them are others': leaves and bodies must have the tile's
    /// roots, and what others have dropped must be what may go by this replica's own state.
    pub(super) async fn tile_to_move(
        &self,
        target: &Target,
        rule: &Rule,
        others: Option<&Others<'_>>,
        tile: usize,
    ) -> Result<(Records, u64), String> {
        let seal = &target.seal;
        let from = seal.meta.first_index + tile as u64 * TILE_LEAVES;
        let (Some(root), Some(bodies)) = (seal.tile_hashes.get(tile), seal.body_hashes.get(tile)) else {
            return Err("the segment has no such tile".to_owned());
        };
        let here = match &target.places {
            Some(places) => self.own_records(target, places, from).await,
            None => Records::new(),
        };
        if is_to_move(&here, (root, bodies), rule) {
            return Ok((here, 0));
        }
        let Some(others) = others.filter(|_| rule.is_current()) else { return Err(nowhere(from)) };
        for peer in &others.nodes {
            for kept in [here.clone(), Records::new()] {
                let before = kept.len() as u64;
                let records = self.filled(others.core, *peer, kept, from).await;
                if is_to_move(&records, (root, bodies), rule) {
                    return Ok((records, TILE_LEAVES - before));
                }
                sometimes!(records.len() as u64 == TILE_LEAVES, "a repair refused another replica's leaves");
            }
        }
        Err(nowhere(from))
    }

    /// The records of one tile, and how many of them are others'. From here where they have the tile's root; else what is
    /// missing from one replica after the other; else all of it.
    async fn tile_of(
        &self,
        core: &Core,
        target: &Target,
        own: Option<&SegmentIndex>,
        peers: &[NodeId],
        (from, root): (u64, &Hash),
    ) -> Result<(Records, u64), String> {
        let mut here = Records::new();
        if let Some(index) = own {
            here = self.salvaged_records(target, index, from).await;
            if is_tile(&here, root) {
                return Ok((here, 0));
            }
        }
        for peer in peers {
            for kept in [here.clone(), Records::new()] {
                let before = kept.len() as u64;
                let records = self.filled(core, *peer, kept, from).await;
                let is_believed = probe::planted("repair-believes-peers") && records.len() as u64 == TILE_LEAVES;
                if is_believed || is_tile(&records, root) {
                    return Ok((records, TILE_LEAVES - before));
                }
                sometimes!(records.len() as u64 == TILE_LEAVES, "a repair refused another replica's leaves");
            }
        }
        Err(format!("no replica has leaves {from} to {} whole", from + TILE_LEAVES - 1))
    }

    /// What the file still has of a tile.
    async fn own_records(&self, target: &Target, places: &Places, from: u64) -> Records {
        let (mut found, end) = (Records::new(), from + TILE_LEAVES);
        let Ok(Some(file)) = self.open_closed(&target.segment).await else { return found };
        for place in places.frames_over(from..end) {
            let Ok(frame) = place.read(&*file, from..end).await else { continue };
            let records = frame.records(place.first_index().max(from)).take_while(|(index, ..)| *index < end);
            found.extend(records.map(|(index, leaf, body)| (index, (leaf.to_vec(), body.into_owned()))));
        }
        found
    }

    /// As [`AuditStore::own_records`], of a hot file whose footer may be lost.
    async fn salvaged_records(&self, target: &Target, index: &SegmentIndex, from: u64) -> Records {
        let (mut found, end) = (Records::new(), from + TILE_LEAVES);
        let Ok(file) = self.disk.open(&target.path, false).await else { return found };
        for (span, _) in index.spans().filter(|(span, next)| span.first_index < end && *next > from) {
            let frame = file.read_at(span.offset, span.length as usize).await.unwrap_or_default();
            let records = span.records(&frame, span.first_index.max(from)).take_while(|record| record.leaf_index < end);
            found.extend(records.map(|record| (record.leaf_index, (record.leaf.to_vec(), record.body.to_vec()))));
        }
        found
    }

    /// Asks one replica for what is missing of a tile, as far as it has it.
    async fn filled(&self, core: &Core, peer: NodeId, mut records: Records, from: u64) -> Records {
        let end = from + TILE_LEAVES;
        while let Some(next) = (from..end).find(|index| !records.contains_key(index)) {
            let until = (next..end).find(|index| records.contains_key(index)).unwrap_or(end);
            let (group, era, count) = (self.log.group.0, self.log.era, until - next);
            let ask = AskRecordsV1 { group, era, from: next, count }.to_bytes();
            let call = core.shared.world.wire.call(peer, Lane::Bulk, KIND_RECORDS, ask, ASK_PATIENCE);
            let answer = call.await.ok().and_then(|bytes| LeavesV1::from_bytes(&bytes).ok());
            let Some(found) = answer.filter(|found| !found.records.is_empty()) else { return records };
            records.extend((next..until).zip(found.records).filter(|(_, (leaf, body))| fits(leaf, body)));
            if !records.contains_key(&next) {
                return records;
            }
        }
        records
    }
}

/// What a record of a segment may hold; a writer takes nothing else.
fn fits(leaf: &[u8], body: &[u8]) -> bool {
    use nethical_audit::segment::BODY_BYTES_MAX;
    use nethical_protocol::limits::LEAF_BYTES_MAX;
    (1..=LEAF_BYTES_MAX).contains(&leaf.len()) && body.len() <= BODY_BYTES_MAX
}

fn nowhere(from: u64) -> String {
    format!("leaves {from} to {} with their bodies are whole nowhere", from + TILE_LEAVES - 1)
}

/// True where records have the roots of a tile's leaves and bodies, and what was dropped of them may be gone.
fn is_to_move(records: &Records, (root, bodies): (&Hash, &Hash), rule: &Rule) -> bool {
    is_tile(records, root)
        && may_be_bodies(records.values().map(|(_, stored)| stored.as_slice()), bodies)
        && (!rule.is_current() || records.values().all(|(leaf, stored)| may_be_stored(rule, leaf, stored)))
}

fn is_tile(records: &Records, root: &Hash) -> bool {
    let hashes: Vec<Hash> = records.values().map(|(leaf, _)| leaf_hash(leaf)).collect();
    hashes.len() as u64 == TILE_LEAVES && root_of(&hashes) == *root
}
