//! Bodies that are in files of the cold tier, for the one who may open bodies: the group's leader ([`crate::opening`]).
//!
//! A part of a file is read at a time and kept for a moment, since whoever reads one body mostly reads its neighbours; one that is
//! fetched again is kept on the disk ([`super::promoted`]). Whether what is found is what was said, the caller holds against the leaf.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use nethical_governance::subject::ColdFile;
use nethical_protocol::{probe, sometimes};

use super::cold::{file_with, object_name};
use super::promoted::{Fetched, HITS_TOTAL, PartKey};
use crate::cold::{self, Body, Footer, Tail};
use crate::replica::PartitionReplica;
use crate::sealing;
use crate::shared::Shared;
use crate::world::{Objects, heavy};

/// Parts of files that a node keeps in memory, of some ten megabytes each.
const PARTS_MAX: u64 = 3;

/// The bodies of one part of a file, by place in it.
type Part = Arc<Vec<Option<Vec<u8>>>>;

/// The parts that were read last. Keyed by object, so that what was made anew is never answered from here.
#[derive(Default)]
pub struct ColdParts {
    held: Mutex<VecDeque<(PartKey, Part)>>,
}

impl ColdParts {
    fn get(&self, key: PartKey) -> Option<Part> {
        let mut held = self.held.lock();
        let at = held.iter().position(|(known, _)| *known == key)?;
        let found = held.remove(at)?;
        let part = found.1.clone();
        held.push_front(found);
        Some(part)
    }

    fn put(&self, key: PartKey, part: Part) {
        let mut held = self.held.lock();
        held.push_front((key, part));
        held.truncate(probe::knob("cold.parts", PARTS_MAX) as usize);
    }
}

/// The body of a leaf whose record says that it is away.
///
/// # Errors
/// In words: the store does not answer, or has lost or changed the file.
pub async fn body(shared: &Shared, replica: &PartitionReplica, leaf_index: u64) -> Result<Vec<u8>, String> {
    let nowhere = || "the body is in the cold tier, and the log names no file of it".to_owned();
    let (file, wrapped) = file_with(replica, leaf_index).ok_or_else(nowhere)?;
    let (group, place) = part_of(leaf_index - file.first);
    let part = match shared.cold_parts.get((file.object, group)) {
        Some(part) => part,
        None => {
            let opens = sealing::open(shared, replica.group.id(), &wrapped).map_err(|problem| problem.detail)?;
            let wanted = Wanted { file, group, opens };
            let part =
                wanted.read(shared, replica).await.map_err(|why| format!("the body is in the cold tier: {why}"))?;
            shared.cold_parts.put((file.object, group), part.clone());
            part
        }
    };
    let body = part.get(place).cloned().flatten();
    body.ok_or_else(|| "the body is in the cold tier, and its file does not have it".to_owned())
}

fn part_of(place: u64) -> (usize, usize) {
    let leaves = cold::GROUP_LEAVES as u64;
    ((place / leaves) as usize, (place % leaves) as usize)
}

/// A part of a file, and the key that opens it.
struct Wanted {
    file: ColdFile,
    group: usize,
    opens: [u8; 32],
}

impl Wanted {
    /// From the disk where it is kept there and opens, from the store otherwise.
    async fn read(&self, shared: &Shared, replica: &PartitionReplica) -> Result<Part, String> {
        let key = (self.file.object, self.group);
        if let Some(kept) = shared.promoted.get(key).await {
            if let Ok(part) = self.open(shared, kept).await {
                metrics::counter!(HITS_TOTAL).increment(1);
                sometimes!(true, "a body was read from a promoted part");
                return Ok(part);
            }
            sometimes!(true, "a promoted part did not open and was fetched again");
            shared.promoted.forget(key).await;
        }
        let objects = shared.world.objects.as_ref().ok_or("this node has no object store (audit.cold_url)")?;
        let name = object_name(&shared.options.cluster, replica.store.log(), self.file.first, &self.file.object);
        let told = |why: String| format!("{why} ({name})");
        let fetched = self.fetch(&**objects, &name).await.map_err(told)?;
        let part = self.open(shared, fetched.clone()).await.map_err(told)?;
        shared.promoted.offer(key, &fetched).await;
        Ok(part)
    }

    async fn fetch(&self, objects: &dyn Objects, name: &str) -> Result<Fetched, String> {
        let (tail, footer) = footer(objects, name, self.file.bytes, &self.opens).await?;
        if self.group >= footer.groups() {
            return Err("the file is shorter than the log says".to_owned());
        }
        let part = objects.get(name, footer.whole_range(self.group)).await.map_err(|error| error.to_string())?;
        let tail = tail.slice(tail.len() - cold::footer_bytes(&tail)..);
        Ok(Fetched { tail, part })
    }

    async fn open(&self, shared: &Shared, Fetched { tail, part }: Fetched) -> Result<Part, String> {
        let (bytes, group, opens) = (self.file.bytes, self.group, self.opens);
        let read = move || match cold::footer(&tail, bytes, &opens)? {
            Tail::Read(footer) if group < footer.groups() => footer.read_whole(group, &part).map(Some),
            _ => Ok(None),
        };
        let records = heavy(&*shared.world.heavy, read).await.ok_or("reading it did not end")?;
        let records = records.map_err(|error: cold::ColdError| error.to_string())?.ok_or("its end does not read")?;
        let clear = |body: Body| if let Body::Clear { plaintext, .. } = body { Some(plaintext) } else { None };
        Ok(Arc::new(records.into_iter().map(|record| clear(record.body)).collect()))
    }
}

async fn footer(objects: &dyn Objects, name: &str, bytes: u64, key: &[u8; 32]) -> Result<(Bytes, Footer), String> {
    let mut wanted = cold::TAIL_BYTES.min(bytes);
    // It says itself how long it is, so once more is enough.
    for _ in 0..2 {
        let tail: Bytes = objects.get(name, bytes - wanted..bytes).await.map_err(|error| error.to_string())?;
        match cold::footer(&tail, bytes, key).map_err(|error| error.to_string())? {
            Tail::Read(footer) => return Ok((tail, footer)),
            Tail::More(more) => wanted = more.min(bytes),
        }
    }
    Err("the file's end does not read".to_owned())
}
