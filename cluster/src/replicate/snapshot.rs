//! A group's snapshots on disk: one checksummed file, replaced whole, the one before kept until then.
//!
//! A restart snapshot never passes what the sealer has made durable (ARCHITECTURE 5): `save` waits for that first.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use sha2::{Digest, Sha256};

use nethical_protocol::frame;
use nethical_protocol::ids::GroupId;
use nethical_protocol::limits::SNAPSHOT_BYTES_MAX;
use nethical_protocol::{probe, sometimes};

use super::codec::SnapshotMetaV1;
use super::types::{LogId, SnapshotData, SnapshotMeta};
use crate::world::{self, Clock, Disk};

const KIND_META: u16 = 40;

/// Waits until the group's audit segments durably hold this many leaves.
pub type SealBarrier = Arc<dyn Fn(u64) -> BoxFuture<'static, io::Result<()>> + Send + Sync>;

/// A snapshot in memory.
#[derive(Clone)]
pub struct Found {
    /// What it covers.
    pub meta: SnapshotMeta,
    /// The machine's bytes.
    pub body: SnapshotData,
}

/// Reads and writes one group's snapshot file. Cheap to clone; clones share the file.
#[derive(Clone)]
pub struct SnapshotKeeper {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    group: GroupId,
    barrier: SealBarrier,
    /// Held while the file is written: what the newest one written here covers.
    newest: Arc<tokio::sync::Mutex<Option<LogId>>>,
}

impl SnapshotKeeper {
    /// For a group, with the barrier to wait for before a local snapshot becomes the restart point.
    pub fn new(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, group: GroupId, barrier: SealBarrier) -> Self {
        Self { disk, clock, group, barrier, newest: Arc::default() }
    }

    /// The node's clock.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn name(&self) -> String {
        format!("{}.snap", self.group)
    }

    /// Makes a snapshot the restart point, once audit segments cover its `leaves`.
    pub async fn save(&self, found: &Found, leaves: u64) -> io::Result<()> {
        (self.barrier)(leaves).await?;
        self.write(found).await?;
        sometimes!(true, "a snapshot was written");
        Ok(())
    }

    /// Keeps a snapshot that a leader sent. Its leaves are copied apart; until then the replica is audit-incomplete.
    pub async fn installed(&self, meta: &SnapshotMeta, body: SnapshotData) -> io::Result<()> {
        world::pass(&*self.clock, "snapshot.install").await;
        self.write(&Found { meta: meta.clone(), body }).await
    }

    /// Writes a snapshot, unless a newer one is there: one that waited for the sealer may be overtaken by a leader's, and
    /// the log behind that one is gone.
    async fn write(&self, found: &Found) -> io::Result<()> {
        let mut newest = self.newest.lock().await;
        if *newest > found.meta.last_log_id {
            sometimes!(true, "a snapshot came too late to be the newest");
            return Ok(());
        }
        world::pass(&*self.clock, "snapshot.write").await;
        let meta = SnapshotMetaV1::from(&found.meta).to_bytes();
        let mut bytes = Vec::with_capacity(meta.len() + found.body.len() + 128);
        frame::encode_into(&mut bytes, KIND_META, 0, &meta);
        bytes.extend_from_slice(&(found.body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&Sha256::digest(found.body.as_slice()));
        bytes.extend_from_slice(&found.body);
        self.disk.create_dir("snap").await?;
        world::write_aside(&*self.disk, "snap", &self.name(), Bytes::from(bytes)).await?;
        world::pass(&*self.clock, "snapshot.rename").await;
        world::put_in_place(&*self.disk, "snap", &self.name()).await?;
        *newest = found.meta.last_log_id;
        world::pass(&*self.clock, "snapshot.written").await;
        Ok(())
    }

    /// The newest snapshot, where there is one. A damaged file is an error: the replica is lost, not empty.
    pub async fn load(&self) -> io::Result<Option<Found>> {
        if !self.disk.list("snap").await?.contains(&self.name()) {
            return Ok(None);
        }
        let bytes = world::read_all(&*self.disk, &format!("snap/{}", self.name())).await?;
        decode(&bytes).map(Some).map_err(|why| {
            io::Error::new(io::ErrorKind::InvalidData, format!("snapshot of group {} is damaged: {why}", self.group))
        })
    }

    /// Drops the group's snapshot: its replica was lost and starts a new life.
    pub async fn forget(&self) -> io::Result<()> {
        if self.disk.list("snap").await?.contains(&self.name()) {
            self.disk.remove(&format!("snap/{}", self.name())).await?;
            self.disk.sync_dir("snap").await?;
        }
        Ok(())
    }
}

fn decode(bytes: &[u8]) -> Result<Found, String> {
    let (header, meta, end) = frame::decode(bytes).map_err(|error| error.to_string())?;
    if header.kind != KIND_META {
        return Err(format!("frame kind {}", header.kind));
    }
    let meta = SnapshotMetaV1::from_bytes(meta).map_err(|error| error.to_string())?;
    let rest = &bytes[end..];
    let (length, rest) = rest.split_first_chunk::<8>().ok_or("cut short")?;
    let (digest, body) = rest.split_first_chunk::<32>().ok_or("cut short")?;
    if u64::from_le_bytes(*length) != body.len() as u64 || body.len() > SNAPSHOT_BYTES_MAX {
        return Err("its length is wrong".to_owned());
    }
    if Sha256::digest(body).as_slice() != digest && !probe::planted("snapshot-without-checksum") {
        return Err("its digest does not match".to_owned());
    }
    let meta = SnapshotMeta::try_from(&meta).map_err(|error| error.to_string())?;
    Ok(Found { meta, body: Arc::new(body.to_vec()) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::replicate::types::{StoredMembership, log_id};
    use crate::world::memory::MemoryDisk;

    struct NoClock;

    impl Clock for NoClock {
        fn now(&self) -> Duration {
            Duration::ZERO
        }

        fn wall_ns(&self) -> u64 {
            0
        }

        fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    fn of(index: u64) -> Found {
        let meta = SnapshotMeta { last_log_id: Some(log_id(1, index)), last_membership: StoredMembership::default() };
        Found { meta, body: Arc::new(index.to_le_bytes().to_vec()) }
    }

    #[tokio::test]
    async fn a_snapshot_that_waited_for_the_sealer_never_replaces_a_newer_one() {
        let sealed = Arc::new(tokio::sync::Notify::new());
        let told = sealed.clone();
        let barrier: SealBarrier = Arc::new(move |_| {
            let told = told.clone();
            Box::pin(async move {
                told.notified().await;
                Ok(())
            })
        });
        let keeper = SnapshotKeeper::new(Arc::new(MemoryDisk::new()), Arc::new(NoClock), GroupId(3), barrier);
        let late = keeper.clone();
        let saving = crate::world::Scope::new([1; 32]).spawn(async move { late.save(&of(86), 80).await });
        let installed = of(89);
        keeper.installed(&installed.meta, installed.body).await.expect("it is written");
        sealed.notify_one();
        saving.await.expect("no panic").expect("coming late is no fault of the disk");
        let found = keeper.load().await.expect("it reads").expect("it is there");
        assert_eq!(found.meta.last_log_id, of(89).meta.last_log_id);
    }
}
