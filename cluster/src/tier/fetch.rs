//! Bodies that are in files of the cold tier, for the one who may open bodies: the group's leader ([`crate::opening`]).
//!
//! A part of a file is read at a time and kept for a moment, since whoever reads one body mostly reads its neighbours. Whether
//! what is found is what was said, the caller holds against the leaf.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::cold::{file_with, object_name};
use crate::cold::{self, Body, Footer, Tail};
use crate::replica::PartitionReplica;
use crate::sealing;
use crate::shared::Shared;
use crate::world::{Objects, heavy};

/// Parts of files that a node keeps in memory, of some ten megabytes each.
const PARTS_MAX: usize = 3;

/// The bodies of one part of a file, by place in it.
type Part = Arc<Vec<Option<Vec<u8>>>>;
/// An object, and a part of it.
type PartKey = ([u8; 32], usize);

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
        held.truncate(PARTS_MAX);
    }
}

/// The body of a leaf whose record says that it is away.
///
/// # Errors
/// In words: the store does not answer, or has lost or changed the file.
pub async fn body(shared: &Shared, replica: &PartitionReplica, leaf_index: u64) -> Result<Vec<u8>, String> {
    let nowhere = || "the body is in the cold tier, and the log names no file of it".to_owned();
    let (file, wrapped) = file_with(replica, leaf_index).ok_or_else(nowhere)?;
    let objects = shared.world.objects.as_ref();
    let objects = objects.ok_or("the body is in the cold tier, and this node has no object store (audit.cold_url)")?;
    let (group, place) = part_of(leaf_index - file.first);
    let key = (file.object, group);
    let part = match shared.cold_parts.get(key) {
        Some(part) => part,
        None => {
            let opens = sealing::open(shared, replica.group.id(), &wrapped).map_err(|problem| problem.detail)?;
            let name = object_name(&shared.options.cluster, replica.store.log(), file.first, &file.object);
            let part = read(shared, &**objects, &name, file.bytes, opens, group).await;
            let part = Arc::new(part.map_err(|why| format!("the body is in the cold tier: {why} ({name})"))?);
            shared.cold_parts.put(key, part.clone());
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

async fn read(
    shared: &Shared,
    objects: &dyn Objects,
    name: &str,
    bytes: u64,
    key: [u8; 32],
    group: usize,
) -> Result<Vec<Option<Vec<u8>>>, String> {
    let footer = Arc::new(footer(objects, name, bytes, &key).await?);
    if group >= footer.groups() {
        return Err("the file is shorter than the log says".to_owned());
    }
    let part = objects.get(name, footer.whole_range(group)).await.map_err(|error| error.to_string())?;
    let records = heavy(&*shared.world.heavy, move || footer.read_whole(group, &part)).await;
    let records = records.ok_or("reading it did not end")?.map_err(|error| error.to_string())?;
    let clear = |body: Body| if let Body::Clear { plaintext, .. } = body { Some(plaintext) } else { None };
    Ok(records.into_iter().map(|record| clear(record.body)).collect())
}

async fn footer(objects: &dyn Objects, name: &str, bytes: u64, key: &[u8; 32]) -> Result<Footer, String> {
    let mut wanted = cold::TAIL_BYTES.min(bytes);
    // It says itself how long it is, so once more is enough.
    for _ in 0..2 {
        let tail: Bytes = objects.get(name, bytes - wanted..bytes).await.map_err(|error| error.to_string())?;
        match cold::footer(&tail, bytes, key).map_err(|error| error.to_string())? {
            Tail::Read(footer) => return Ok(footer),
            Tail::More(more) => wanted = more.min(bytes),
        }
    }
    Err("the file's end does not read".to_owned())
}
