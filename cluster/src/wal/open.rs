//! From what was found on the disk to a running log.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

use nethical_protocol::ids::GroupId;
use nethical_protocol::sometimes;

use super::index::Index;
use super::mark::{Mark, Marker, Wanted};
use super::queue::{Closed, SegmentFile, Shared};
use super::recover::{self, End, Found, Heads};
use super::segment::{FOLDER, FreeFile, Pool};
use super::writer::{Current, Writer};
use super::{Recovered, RecoveredGroup, Wal, WalError, WalOptions};
use crate::world::{Disk, Scope};

pub(super) async fn open(disk: Arc<dyn Disk>, scope: Scope, options: WalOptions) -> Result<(Wal, Recovered), WalError> {
    disk.create_dir(FOLDER).await?;
    let mut found = recover::recover(&*disk, options.segment_bytes).await?;
    if options.start_over {
        drop_everything(&mut found, options.segment_bytes);
    }
    let recovered = describe(&found);
    let files = readable(&found);
    let index = std::mem::take(&mut found.index);
    let shared = Arc::new(Shared::new(index, files, options.queue_bytes_max));
    let (batch_bytes_max, clock) = (options.batch_bytes_max, options.clock.clone());
    let on_fatal = options.on_fatal.clone();
    let wal = Wal { shared: shared.clone(), batch_bytes_max, clock, on_fatal };
    sometimes!(recovered.torn_bytes > 0, "a start cut the log's torn tail");
    sometimes!(recovered.rot.is_some(), "a start found rot in the log");
    sometimes!(recovered.lost_tail, "a start missed the log's end");
    if recovered.has_lost() {
        tracing::error!(?recovered.rot, recovered.lost_tail, "the log has lost acknowledged changes; it takes no more");
        let message = "the log has lost acknowledged changes; it has to be started over";
        shared.state.lock().closed = Some(Closed::Failed(io::ErrorKind::InvalidData, message.to_owned()));
        shared.room.close();
        return Ok((wal, recovered));
    }
    start(disk, scope, options, found, shared, &wal).await?;
    Ok((wal, recovered))
}

/// Starts the writer and the marker.
async fn start(
    disk: Arc<dyn Disk>,
    scope: Scope,
    options: WalOptions,
    found: Found,
    shared: Arc<Shared>,
    wal: &Wal,
) -> Result<(), WalError> {
    let (on_fatal, start_over) = (options.on_fatal.clone(), options.start_over);
    let (mark, end) = (found.mark, found.end);
    // After a loss the marks may be unreadable. They are made anew only when the new beginning is durable, or a crash
    // between the two would make the old log look whole.
    let wanted: Arc<Wanted> = Arc::default();
    let early = if start_over { None } else { Some(Marker::open(&*disk, mark, 0, wanted.clone()).await?) };
    let writer = build(disk.clone(), scope.clone(), options, found, shared.clone(), wanted.clone());
    let hook: Weak<Shared> = Arc::downgrade(&shared);
    scope.on_kill(move || {
        if let Some(shared) = hook.upgrade() {
            shared.kill();
        }
    });
    scope.spawn(writer.run());
    let marker = match early {
        Some(marker) => marker,
        None => {
            wal.flush().await?;
            Marker::open(&*disk, mark, end.map_or(0, |end| end.sequence), wanted).await?
        }
    };
    scope.spawn(async move {
        let error = marker.run().await;
        on_fatal(&error);
        shared.fail(&error, Vec::new());
    });
    Ok(())
}

fn build(
    disk: Arc<dyn Disk>,
    scope: Scope,
    options: WalOptions,
    mut found: Found,
    shared: Arc<Shared>,
    mark: Arc<Wanted>,
) -> Writer {
    let nothing = End { sequence: 0, epoch: 0, position: 0, oldest_epoch: 0 };
    let end = found.end.unwrap_or(nothing);
    let mut pool = Pool::new(disk, scope.clone(), options.segment_bytes, found.next_number);
    found.free.into_iter().for_each(|file| pool.add_free(file));
    let mut current = None;
    for segment in found.chain {
        let (epoch, seed) = (segment.head.epoch, segment.head.seed());
        if epoch == end.epoch {
            current = Some(Current { epoch, seed, file: segment.file.clone(), end: end.position });
        }
        let is_whole = segment.bytes >= options.segment_bytes;
        pool.add_live(epoch, FreeFile { number: segment.number, file: segment.file, is_whole });
    }
    Writer {
        shared,
        pool,
        current,
        heads: std::mem::take(&mut found.heads),
        end,
        highest_epoch: found.highest_epoch,
        floor: end.oldest_epoch,
        marked: end,
        mark,
        dice: scope.fork_dice(),
        scope,
        options,
    }
}

/// Forgets what was found but for the numbers that must not come again.
fn drop_everything(found: &mut Found, segment_bytes: u64) {
    let marked = if let Mark::At { sequence, .. } = found.mark { sequence } else { 0 };
    let sequence = found.end.map_or(0, |end| end.sequence).max(marked);
    found.end = Some(End { sequence, epoch: 0, position: 0, oldest_epoch: 0 });
    found.index = Index::default();
    found.heads.clear();
    for segment in found.chain.drain(..) {
        let is_whole = segment.bytes >= segment_bytes;
        found.free.push(FreeFile { number: segment.number, file: segment.file, is_whole });
    }
    (found.lost_tail, found.rot, found.torn_bytes) = (false, None, 0);
}

fn readable(found: &Found) -> BTreeMap<u64, SegmentFile> {
    let file = |segment: &recover::Segment| SegmentFile { file: segment.file.clone(), seed: segment.head.seed() };
    found.chain.iter().map(|segment| (segment.head.epoch, file(segment))).collect()
}

fn describe(found: &Found) -> Recovered {
    let mut groups: BTreeMap<GroupId, RecoveredGroup> = BTreeMap::new();
    for (group, Heads { vote, committed, membership, purged }) in &found.heads {
        let entry = groups.entry(*group).or_default();
        (entry.vote, entry.committed) = (vote.clone(), committed.clone());
        (entry.membership, entry.purged) = (membership.clone(), purged.clone());
    }
    for group in found.index.groups() {
        let Some(bounds) = found.index.bounds(group) else { continue };
        let entry = groups.entry(group).or_default();
        (entry.first_index, entry.last_index) = (Some(bounds.first), Some(bounds.last));
        entry.last_term = Some(bounds.last_term);
    }
    Recovered { groups, lost_tail: found.lost_tail, torn_bytes: found.torn_bytes, rot: found.rot.clone() }
}
