//! Propose: the per-group batcher. Many commands become one Raft entry; entries are pipelined.
//!
//! Adaptive, without a timer: an idle batcher sends at once; a busy one fills the next entry while the one before is
//! in flight (ARCHITECTURE 13). It lives in one term and dies with it. It stamps log time; it decides nothing.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use rkyv::rancor::Error;
use tokio::sync::mpsc;

use nethical_governance::command::{APPLY_VERSION, CommandV1, EntryV1};
use nethical_protocol::limits::{BATCHER_QUEUE_MAX, ENTRIES_IN_FLIGHT_MAX, ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use nethical_protocol::{buggify, probe, sometimes};

use crate::apply::{AppliedEntry, PartitionMachine};
use crate::replicate::group::{Group, ProposeError};
use crate::replicate::machine::Reply;
use crate::timekeeper::Stamp;
use crate::world::{self, Clock, Scope};

/// With an entry in flight, the next one waits until it has this many commands or the flight has landed.
const FILL_COMMANDS: u64 = 64;
/// What a command takes in an entry beside its body.
const HEADER_BYTES: usize = 640;

/// What became of a command.
pub type Fate = Result<(Arc<AppliedEntry>, usize), ProposeError>;
/// Told once.
pub type Done = Box<dyn FnOnce(Fate) + Send>;

/// A command on its way, and whom to tell.
pub struct Proposal {
    /// The command.
    pub command: CommandV1,
    /// Told once the command is applied here, or is known not to be, or its fate is lost.
    pub done: Done,
}

/// The way into a group's log, for one term. Cheap to clone.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Proposal>,
}

impl Proposer {
    /// Starts the batcher of a term.
    pub fn start(
        scope: &Scope,
        group: Group<PartitionMachine>,
        term: u64,
        stamp: Stamp,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (tx, rx) = mpsc::channel(BATCHER_QUEUE_MAX);
        let batcher = Batcher { queue: rx, group, term, stamp, clock, carried: None };
        scope.spawn(batcher.run());
        Self { queue: tx }
    }

    /// Queues a command. A full queue gives it back: the caller sheds.
    pub fn propose(&self, proposal: Proposal) -> Result<(), Box<Proposal>> {
        self.queue.try_send(proposal).map_err(|error| Box::new(error.into_inner()))
    }
}

struct Batcher {
    queue: mpsc::Receiver<Proposal>,
    group: Group<PartitionMachine>,
    term: u64,
    stamp: Stamp,
    clock: Arc<dyn Clock>,
    /// A command that did not fit the entry before.
    carried: Option<Proposal>,
}

type Flight = BoxFuture<'static, (Result<Reply, ProposeError>, Vec<Done>)>;

impl Batcher {
    async fn run(mut self) {
        let mut flights: FuturesOrdered<Flight> = FuturesOrdered::new();
        let mut batch = Batch::default();
        let mut closed = false;
        loop {
            self.fill(&mut batch);
            let may_send = flights.is_empty() || (batch.is_worth_it() && flights.len() < ENTRIES_IN_FLIGHT_MAX);
            if !batch.commands.is_empty() && may_send {
                let flight = self.send(std::mem::take(&mut batch)).await;
                flights.push_back(flight);
                continue;
            }
            if closed && flights.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                Some((result, dones)) = flights.next() => land(result, dones),
                more = self.queue.recv(), if !closed && !batch.is_full() && self.carried.is_none() => match more {
                    Some(proposal) => self.carried = batch.push(proposal),
                    None => closed = true,
                },
            }
        }
    }

    /// Takes what is waiting, as far as it fits.
    fn fill(&mut self, batch: &mut Batch) {
        if let Some(carried) = self.carried.take() {
            self.carried = batch.push(carried);
        }
        while self.carried.is_none() && !batch.is_full() {
            match self.queue.try_recv() {
                Ok(proposal) => self.carried = batch.push(proposal),
                Err(_) => return,
            }
        }
    }

    async fn send(&mut self, batch: Batch) -> Flight {
        let now_ns = self.stamp.next(&*self.clock);
        let entry = EntryV1 { apply_version: APPLY_VERSION, term: self.term, now_ns, commands: batch.commands };
        let room = Vec::with_capacity(batch.bytes + 1_024);
        let bytes = rkyv::api::high::to_bytes_in::<_, Error>(&entry, room).expect("encoding into memory cannot fail");
        metrics::histogram!("nethical_entry_commands").record(entry.commands.len() as f64);
        sometimes!(entry.commands.len() > 1, "an entry held several commands");
        world::pass(&*self.clock, "propose.before").await;
        let dones = batch.dones;
        match self.group.propose(Bytes::from(bytes)).await {
            Ok(reply) => Box::pin(async move { (reply.await, dones) }),
            Err(error) => Box::pin(async move { (Err(error), dones) }),
        }
    }
}

fn land(result: Result<Reply, ProposeError>, dones: Vec<Done>) {
    let applied = result.and_then(|reply| reply.get::<AppliedEntry>().ok_or(ProposeError::Unknown));
    for (at, done) in dones.into_iter().enumerate() {
        done(applied.clone().map(|entry| (entry, at)));
    }
}

fn entry_bytes_max() -> usize {
    probe::knob("propose.entry-bytes", ENTRY_BYTES_MAX as u64) as usize
}

/// The entry that is being filled.
#[derive(Default)]
struct Batch {
    commands: Vec<CommandV1>,
    dones: Vec<Done>,
    bytes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        let is_alone = !self.commands.is_empty() && buggify!("propose.one-command");
        is_alone || self.commands.len() >= ENTRY_COMMANDS_MAX || self.bytes >= entry_bytes_max() / 2
    }

    fn is_worth_it(&self) -> bool {
        let fill = probe::knob("propose.fill-commands", FILL_COMMANDS) as usize;
        self.commands.len() >= fill || self.bytes >= entry_bytes_max() / 4
    }

    /// Adds a command; gives it back where the entry would grow over its bound.
    fn push(&mut self, proposal: Proposal) -> Option<Proposal> {
        let bytes = HEADER_BYTES + proposal.command.body.len();
        if !self.commands.is_empty() && self.bytes + bytes > entry_bytes_max() {
            return Some(proposal);
        }
        self.bytes += bytes;
        self.commands.push(proposal.command);
        self.dones.push(proposal.done);
        None
    }
}
