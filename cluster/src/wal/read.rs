//! Reading entries back: what is still queued from memory, the rest from the segments, neighbours in one go.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use nethical_protocol::ids::GroupId;

use super::WalEntry;
use super::index::{Found, Location, Place};
use super::queue::{SegmentFile, Shared};
use super::record::{self, Kind};

/// Entries closer than this are read together with what lies between them.
const GAP_BYTES_MAX: u32 = 4096;
/// One read of the disk.
const RUN_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// A stretch of one segment.
struct Run {
    segment: SegmentFile,
    epoch: u64,
    start: u32,
    end: u32,
    /// Where the entries are that it holds, and where they go in the answer.
    wanted: Vec<(usize, Location)>,
}

impl Run {
    fn takes(&self, location: Location) -> bool {
        self.epoch == location.epoch
            && location.offset >= self.end
            && location.offset - self.end <= GAP_BYTES_MAX
            && location.offset + location.bytes - self.start <= RUN_BYTES_MAX
    }
}

pub(super) fn read(
    shared: Arc<Shared>,
    group: GroupId,
    range: Range<u64>,
) -> BoxFuture<'static, io::Result<Vec<WalEntry>>> {
    let planned = plan(&shared, group, range);
    Box::pin(async move {
        let (mut entries, runs) = planned?;
        for run in runs {
            let bytes = run.segment.file.read_at(u64::from(run.start), (run.end - run.start) as usize).await?;
            for (position, location) in run.wanted {
                let entry = &mut entries[position];
                let at = (location.offset - run.start) as usize;
                let found = bytes.get(at..).and_then(|_| record::decode_in_batch(&bytes.slice(at..), run.segment.seed));
                let found = found.filter(|record| {
                    let header = record.header;
                    (header.kind, header.group, header.term, header.index)
                        == (Kind::Entry, group.0, entry.term, entry.index)
                });
                entry.payload =
                    found.map(|record| record.payload).ok_or_else(|| missing(&shared, group, entry.index))?;
            }
        }
        Ok(entries)
    })
}

/// Decides under the lock what is to be read from where. Payloads on disk are empty until then.
fn plan(shared: &Shared, group: GroupId, range: Range<u64>) -> io::Result<(Vec<WalEntry>, Vec<Run>)> {
    let state = shared.state.lock();
    let mut entries = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    for Found { index, term, place } in state.index.find(group, range) {
        let payload = match place {
            Place::Queued { payload, .. } => payload,
            Place::Written(location) => {
                let position = entries.len();
                match runs.last_mut() {
                    Some(run) if run.takes(location) => {
                        run.end = location.offset + location.bytes;
                        run.wanted.push((position, location));
                    }
                    _ => {
                        let segment = state.files.get(&location.epoch).cloned();
                        let segment = segment.ok_or_else(|| {
                            io::Error::other(format!("group {group}: entry {index} is in a segment that is not open"))
                        })?;
                        runs.push(Run {
                            segment,
                            epoch: location.epoch,
                            start: location.offset,
                            end: location.offset + location.bytes,
                            wanted: vec![(position, location)],
                        });
                    }
                }
                Bytes::new()
            }
        };
        entries.push(WalEntry { term, index, payload });
    }
    Ok((entries, runs))
}

/// Bytes that do not validate are damaged, unless the segment was used again while they were read.
fn missing(shared: &Shared, group: GroupId, index: u64) -> io::Error {
    if shared.state.lock().index.contains(group, index) {
        let message = format!("group {group}: entry {index} is damaged on disk");
        io::Error::new(io::ErrorKind::InvalidData, message)
    } else {
        io::Error::new(io::ErrorKind::NotFound, format!("group {group}: entry {index} was purged"))
    }
}
