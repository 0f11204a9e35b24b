//! The seams: the only way from the cluster to time, dice, network, disk, and tasks.
//!
//! Production implements them in `world/real.rs`, `world/quic.rs` and `world/sled.rs`; the simulator implements the
//! same traits in a fake world. Cluster code that reaches around them is a defect: clippy's disallowed methods refuse
//! `Instant::now`, `SystemTime::now`, `tokio::spawn`, `std::fs` and their kin everywhere else.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use nethical_protocol::ids::NodeId;
use nethical_protocol::probe::{self, Point};

pub mod ahead;
pub mod http;
pub mod memory;
pub mod objects;
pub mod presence;
pub mod quic;
pub mod real;
pub mod scope;
pub mod sled;

pub use scope::Scope;

use crate::prepared::Prepared;

/// Everything that a node may touch. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Tasks and dice of this node; dies with it.
    pub scope: Scope,
    /// The other nodes.
    pub wire: Arc<dyn Wire>,
    /// Services that are not of the cluster.
    pub outside: Arc<dyn Outside>,
    /// This node's data folder.
    pub disk: Arc<dyn Disk>,
    /// The sealed file that its first keys came from, which rests apart from the data.
    pub keyring: Arc<dyn KeyringFile>,
    /// What can be rebuilt.
    pub kv: Arc<dyn Kv>,
    /// Who is there.
    pub directory: Arc<dyn Directory>,
    /// What takes long to make and no node changes.
    pub prepared: Arc<Prepared>,
    /// Where work is done that takes long.
    pub heavy: Arc<dyn Heavy>,
    /// The zone's object store, where it has one: without it nothing becomes cold.
    pub objects: Option<Arc<dyn Objects>>,
}

/// Time. `now` never goes back; `wall` may jump either way.
pub trait Clock: Send + Sync {
    /// Monotonic time since an arbitrary start.
    fn now(&self) -> Duration;
    /// Nanoseconds since 1970 by this node's wall clock.
    fn wall_ns(&self) -> u64;
    /// Completes after `wait` of monotonic time.
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()>;
}

/// Waits for `work` at most `wait`; `None` where the time ran out first.
pub async fn timeout<T>(clock: &dyn Clock, wait: Duration, work: impl Future<Output = T>) -> Option<T> {
    let sleep = clock.sleep(wait);
    tokio::pin!(work);
    tokio::select! {
        biased;
        value = &mut work => Some(value),
        () = sleep => None,
    }
}

/// Passes a named place of the code, where a simulator may hold this node up or take its power; nothing in production.
pub async fn pass(clock: &dyn Clock, place: &'static str) {
    match probe::point(place) {
        Point::Go => {}
        Point::Wait(wait_ms) => clock.sleep(Duration::from_millis(wait_ms)).await,
        Point::Stop => std::future::pending().await,
    }
}

/// Classes of traffic between two nodes. Each has a stream of its own, so that a snapshot never starves a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, clock probes.
    Pulse,
    /// Log replication.
    Log,
    /// Control facts, holds, administration.
    Control,
    /// Forwarded decisions.
    Decide,
    /// Snapshots and segment copies.
    Bulk,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Lane; 5] = [Lane::Pulse, Lane::Log, Lane::Control, Lane::Decide, Lane::Bulk];
}

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It was never sent: it did not happen over there.
    #[error("not sent to node {to}: {why}")]
    NotSent {
        /// The node called.
        to: NodeId,
        /// What stood in the way.
        why: String,
    },
    /// It was sent and no answer came: it may have happened.
    #[error("no answer from node {to}: {why}")]
    Lost {
        /// The node called.
        to: NodeId,
        /// What ended the wait.
        why: String,
    },
}

/// Calls to other nodes.
pub trait Wire: Send + Sync {
    /// Sends `body` and gives the answer. The call is queued before this returns (bounded; a full queue answers
    /// [`WireError::NotSent`]), and calls of one lane to one node arrive in the order in which they were made.
    fn call(
        &self,
        to: NodeId,
        lane: Lane,
        kind: u16,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, WireError>>;

    /// Hands incoming calls to `service` from now on. Called once, before the node starts its groups.
    fn serve(&self, service: Arc<dyn Service>);
}

/// What answers calls from other nodes.
pub trait Service: Send + Sync {
    /// Takes one call. Invoked in order of arrival within one lane of one peer; what must stay ordered happens before
    /// this returns, the rest inside the future. Never panics on any bytes.
    fn handle(&self, from: NodeId, lane: Lane, kind: u16, body: Bytes) -> BoxFuture<'static, Bytes>;
}

/// What a service outside of the cluster answered. Never believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// HTTP's status.
    pub status: u16,
    /// The body, bounded by [`POSTED_BYTES_MAX`].
    pub body: Bytes,
}

/// The longest answer that is read from outside.
pub const POSTED_BYTES_MAX: usize = 64 * 1024;

/// Services outside of the cluster, such as witnesses.
pub trait Outside: Send + Sync {
    /// Posts a text and gives the answer, or why there is none within `deadline`. Whether it arrived is then not known.
    fn post(&self, url: &str, body: Bytes, deadline: Duration) -> BoxFuture<'static, Result<Posted, String>>;
}

/// A node's data folder. Paths are relative to it and use `/`.
pub trait Disk: Send + Sync {
    /// Opens a file for reading and writing, creating it where `create` is set. A created file's name is durable only
    /// after [`Disk::sync_dir`].
    fn open(&self, path: &str, create: bool) -> BoxFuture<'static, io::Result<Arc<dyn File>>>;
    /// Names of the files (not folders) in a folder, sorted; empty where the folder does not exist.
    fn list(&self, dir: &str) -> BoxFuture<'static, io::Result<Vec<String>>>;
    /// Makes a folder and its parents, durably.
    fn create_dir(&self, dir: &str) -> BoxFuture<'static, io::Result<()>>;
    /// Renames over whatever is at `to`. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> BoxFuture<'static, io::Result<()>>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &str) -> BoxFuture<'static, io::Result<()>>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_dir(&self, dir: &str) -> BoxFuture<'static, io::Result<()>>;
}

/// An open file. Positions are absolute; there is no cursor.
#[allow(clippy::len_without_is_empty, reason = "a length in bytes that is asked of the disk, not a collection")]
pub trait File: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> BoxFuture<'static, io::Result<u64>>;
    /// Reads up to `length` bytes at `at`; shorter only at the end of the file.
    fn read_at(&self, at: u64, length: usize) -> BoxFuture<'static, io::Result<Bytes>>;
    /// Writes all of `data` at `at`, extending the file where needed. Not durable yet.
    fn write_at(&self, at: u64, data: Bytes) -> BoxFuture<'static, io::Result<()>>;
    /// Makes all earlier writes durable (data and length).
    fn sync(&self) -> BoxFuture<'static, io::Result<()>>;
    /// Makes sure that what is read next is what a power loss would leave: syncs, and forgets what is only cached. After
    /// a failed sync a page cache goes on showing what never reached the disk, and calls it clean.
    fn settle(&self) -> BoxFuture<'static, io::Result<()>> {
        self.sync()
    }
    /// [`File::write_at`], then [`File::sync`], in one hop.
    fn write_and_sync(&self, at: u64, data: Bytes) -> BoxFuture<'static, io::Result<()>>;
    /// Cuts or extends (with zeros) to `length`.
    fn set_len(&self, length: u64) -> BoxFuture<'static, io::Result<()>>;
}

/// A seed that the keyring's file may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyringSeed {
    /// Of the zone's first signing key.
    Zone,
    /// Of this node's first key of its own.
    Own,
}

/// The keyring's file.
pub trait KeyringFile: Send + Sync {
    /// Writes the file anew without a seed. When it returns the new file is durable and the old one is overwritten; whatever
    /// a crash leaves, one of the two is whole.
    fn drop_seed(&self, seed: KeyringSeed) -> BoxFuture<'static, io::Result<()>>;
}

/// Does work that takes a core for longer than others can wait, such as packing tens of megabytes.
pub trait Heavy: Send + Sync {
    /// Does it, beside what this node runs.
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// Does it at once, where it was asked for: for a world in which no time passes while something is computed.
pub struct AtOnce;

impl Heavy for AtOnce {
    fn run(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        work();
        Box::pin(std::future::ready(()))
    }
}

/// Does what takes long and gives what came of it; none where it ended without.
pub async fn heavy<T: Send + 'static>(heavy: &dyn Heavy, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, came) = tokio::sync::oneshot::channel();
    heavy.run(Box::new(move || drop(done.send(work())))).await;
    came.await.ok()
}

/// Why an object could not be stored, read or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The store answers, and has no object of that name.
    #[error("the object store has no such object")]
    Missing,
    /// The store does not answer, or refuses. Whether a change came about is not known.
    #[error("the object store: {0}")]
    Unavailable(String),
}

/// An object of a store, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name, with all folders.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// An object store that all nodes of a zone share. Objects are named by their content and never change. What it gives back is
/// never believed. Every call has an end: an implementation bounds how long it waits, and how much it takes.
pub trait Objects: Send + Sync {
    /// Stores an object. Durable when it returns; one of that name is replaced in one step.
    fn put(&self, name: &str, bytes: Bytes) -> BoxFuture<'static, Result<(), ObjectError>>;
    /// Bytes of an object; fewer only where it ends.
    fn get(&self, name: &str, range: Range<u64>) -> BoxFuture<'static, Result<Bytes, ObjectError>>;
    /// All objects in a folder and below it, in order of their names.
    fn list(&self, folder: &str) -> BoxFuture<'static, Result<Vec<ObjectInfo>, ObjectError>>;
    /// Removes an object. One that is not there is no error.
    fn remove(&self, name: &str) -> BoxFuture<'static, Result<(), ObjectError>>;
}

/// A local map that can be deleted at any time and is rebuilt at start. Nothing durable may depend on it.
pub trait Kv: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Option<Vec<u8>>;
    /// Sets a key.
    fn put(&self, key: &[u8], value: &[u8]);
    /// Removes a key.
    fn remove(&self, key: &[u8]);
    /// Up to `limit` pairs whose key starts with `prefix` and is greater than `after`, in order.
    fn scan(&self, prefix: &[u8], after: &[u8], limit: usize) -> Vec<(Vec<u8>, Vec<u8>)>;
}

/// Presence of other nodes, for status and administration. Advice only: nothing safe depends on it.
pub trait Directory: Send + Sync {
    /// Nodes heard from lately, sorted, this one included.
    fn present(&self) -> Vec<NodeId>;
    /// Notes that a node was heard from.
    fn heard(&self, node: NodeId, now: Duration);
}

/// Reads a whole file.
pub async fn read_all(disk: &dyn Disk, path: &str) -> io::Result<Bytes> {
    let file = disk.open(path, false).await?;
    let length = file.len().await?;
    file.read_at(0, length as usize).await
}

/// Replaces a file so that after a crash either the old or the new bytes are there, whole: write aside, sync, rename,
/// sync the folder.
pub async fn replace(disk: &dyn Disk, dir: &str, name: &str, data: Bytes) -> io::Result<()> {
    write_aside(disk, dir, name, data).await?;
    put_in_place(disk, dir, name).await
}

/// The first half of [`replace`]: the new bytes are durable beside the old ones.
pub async fn write_aside(disk: &dyn Disk, dir: &str, name: &str, data: Bytes) -> io::Result<()> {
    let file = disk.open(&format!("{dir}/{name}.tmp"), true).await?;
    file.set_len(0).await?;
    file.write_and_sync(0, data).await
}

/// The second half of [`replace`]: the new bytes take the old ones' place.
pub async fn put_in_place(disk: &dyn Disk, dir: &str, name: &str) -> io::Result<()> {
    disk.rename(&format!("{dir}/{name}.tmp"), &format!("{dir}/{name}")).await?;
    disk.sync_dir(dir).await
}
