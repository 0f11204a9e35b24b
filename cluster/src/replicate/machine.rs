//! What committed entries are handed to, and the adapter that makes it openraft's state machine.
//!
//! A [`Machine`] is pure in the sense of the sentence: it gets bytes in log order and answers; it never fails for a
//! local reason. A [`Fault`] (bad checksum, impossible state) stops the group: it never guesses.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;

use nethical_protocol::{always, sometimes};

use super::snapshot::{self, SnapshotKeeper};
use super::types::{EntryPayload, LogId, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, Types, term_of};
use crate::world;

/// What apply gives back to the proposer. In memory only.
#[derive(Clone, Default)]
pub struct Reply(pub Option<Arc<dyn std::any::Any + Send + Sync>>);

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({})", if self.0.is_some() { "some" } else { "none" })
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Reply {
    /// A reply that the proposer downcasts.
    pub fn of<T: Send + Sync + 'static>(value: T) -> Self {
        Self(Some(Arc::new(value)))
    }

    /// The value where it has this type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.clone().and_then(|any| any.downcast::<T>().ok())
    }
}

/// The group found itself broken; it stops and a person must look.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// What committed entries are handed to, in log order, each once per life of the process.
pub trait Machine: Send + 'static {
    /// Applies one entry. `wanted` says whether somebody here waits for the reply.
    fn apply(&mut self, term: u64, index: u64, payload: &Bytes, wanted: bool) -> Result<Reply, Fault>;
    /// The whole state as checked bytes; equal on every replica at equal position.
    fn snapshot(&mut self) -> Result<Vec<u8>, Fault>;
    /// Replaces the state. Bad bytes are a fault.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), Fault>;
    /// Leaves that audit segments must hold before a snapshot taken now may become the restart point.
    fn leaves(&self) -> u64 {
        0
    }
    /// A membership or blank entry was applied at this position: apply order goes on.
    fn passed(&mut self, term: u64, index: u64);
}

/// openraft's view of a machine: position, membership and snapshots around it.
pub struct Adapter<M> {
    /// The group's state; its readers lock it for moments only.
    machine: Arc<Mutex<M>>,
    keeper: SnapshotKeeper,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl<M: Machine> Adapter<M> {
    /// Restores the newest local snapshot, where there is one, into `machine`.
    pub async fn open(machine: Arc<Mutex<M>>, keeper: SnapshotKeeper) -> Result<Self, Fault> {
        let mut adapter = Self { machine, keeper, applied: None, membership: StoredMembership::default() };
        if let Some(found) = adapter.keeper.load().await.map_err(|error| Fault(error.to_string()))? {
            restore(&mut *adapter.machine.lock(), &found.meta, &found.body)?;
            adapter.applied = found.meta.last_log_id;
            adapter.membership = found.meta.last_membership.clone();
        }
        Ok(adapter)
    }

    fn apply_one(&mut self, id: LogId, payload: &EntryPayload, wanted: bool) -> Result<Reply, Fault> {
        let (term, index) = (term_of(&id), id.index);
        let follows = self.applied.is_none_or(|applied| applied.index + 1 == index && term_of(&applied) <= term);
        always!(follows, "entries-apply-in-order", "{id} after {:?}", self.applied);
        let mut machine = self.machine.lock();
        let reply = match payload {
            EntryPayload::Normal(payload) => machine.apply(term, index, &payload.0, wanted)?,
            EntryPayload::Blank => {
                machine.passed(term, index);
                Reply::default()
            }
            EntryPayload::Membership(membership) => {
                machine.passed(term, index);
                self.membership = StoredMembership::new(Some(id), membership.clone());
                Reply::default()
            }
        };
        self.applied = Some(id);
        Ok(reply)
    }
}

/// Replaces a machine's state and says where it now stands: nothing may follow for long.
fn restore<M: Machine>(machine: &mut M, meta: &SnapshotMeta, body: &[u8]) -> Result<(), Fault> {
    machine.restore(body)?;
    if let Some(last) = &meta.last_log_id {
        machine.passed(term_of(last), last.index);
    }
    Ok(())
}

fn stop(fault: Fault) -> io::Error {
    tracing::error!(%fault, "the group stops: apply found itself broken");
    io::Error::other(fault)
}

impl<M: Machine> openraft::storage::RaftStateMachine<Types> for Adapter<M> {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder<M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<openraft::storage::EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let reply = self.apply_one(entry.log_id, &entry.payload, responder.is_some()).map_err(stop)?;
            if let Some(responder) = responder {
                world::pass(self.keeper.clock(), "apply.reply").await;
                responder.send(reply);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        let mut machine = self.machine.lock();
        Builder {
            leaves: machine.leaves(),
            body: machine.snapshot().map(Arc::new),
            keeper: self.keeper.clone(),
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() },
            _machine: std::marker::PhantomData,
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> Result<(), io::Error> {
        restore(&mut *self.machine.lock(), meta, &data).map_err(stop)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        sometimes!(true, "a leader's snapshot was installed");
        self.keeper.installed(meta, data).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.keeper.load().await?.map(|found| Snapshot { meta: found.meta, snapshot: found.body }))
    }
}

/// Writes one captured state as the group's snapshot.
pub struct Builder<M> {
    leaves: u64,
    body: Result<SnapshotData, Fault>,
    keeper: SnapshotKeeper,
    meta: SnapshotMeta,
    _machine: std::marker::PhantomData<fn() -> M>,
}

impl<M: Machine> openraft::storage::RaftSnapshotBuilder<Types> for Builder<M> {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let body = self.body.clone().map_err(stop)?;
        let found = snapshot::Found { meta: self.meta.clone(), body };
        self.keeper.save(&found, self.leaves).await?;
        Ok(Snapshot { meta: found.meta, snapshot: found.body })
    }
}
