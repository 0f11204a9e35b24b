//! A partition replica of this node: its Raft group, its state, its audit store, and the term it leads, if it leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::{Mutex, RwLock};

use nethical_governance::command::{CommandV1, HeaderV1};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{NodeId, ReplicaId};
use nethical_protocol::sometimes;

use crate::apply::PartitionMachine;
use crate::lead::Lead;
use crate::propose::Proposal;
use crate::replicate::group::{Group, Leadership};
use crate::shared::Shared;
use crate::store::AuditStore;
use crate::tier::cold::ColdState;
use crate::world::{self, timeout};

/// Between two tries to begin a term.
const BEGIN_RETRY: Duration = Duration::from_millis(50);
/// How long a quorum may take to confirm a new leader before it is asked again.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(2);
/// Between two rounds of housekeeping of a lead.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// A partition replica. Shared by the service, the governor and its own tasks.
pub struct PartitionReplica {
    /// Its Raft group.
    pub group: Group<PartitionMachine>,
    /// Its state.
    pub machine: Arc<Mutex<PartitionMachine>>,
    /// Its audit log.
    pub store: Arc<AuditStore>,
    shared: Arc<Shared>,
    lead: RwLock<Option<Arc<Lead>>>,
    retired: AtomicBool,
    /// What is known of its cold tier.
    pub cold: ColdState,
    /// Nodes that may still hold ring keys which are to be destroyed, as its leader last heard.
    pub ring_awaiting: Mutex<Vec<NodeId>>,
}

impl PartitionReplica {
    /// A replica; its tasks are started by [`PartitionReplica::run`].
    pub fn new(
        shared: Arc<Shared>,
        group: Group<PartitionMachine>,
        machine: Arc<Mutex<PartitionMachine>>,
        store: Arc<AuditStore>,
    ) -> Arc<Self> {
        let (lead, retired, ring_awaiting) = (RwLock::default(), AtomicBool::new(false), Mutex::default());
        let cold = ColdState::default();
        Arc::new(Self { group, machine, store, shared, lead, retired, cold, ring_awaiting })
    }

    /// The term that this replica leads now.
    pub fn lead(&self) -> Option<Arc<Lead>> {
        self.lead.read().clone().filter(|lead| !lead.has_ended())
    }

    /// Ends what this replica runs, before another takes its place.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.end_unless(Leadership::default());
        self.store.retire();
    }

    /// True after [`PartitionReplica::retire`].
    pub fn has_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// Follows leadership: begins and ends terms, and gives a term up whose leader cannot trust its clock. Runs until the
    /// group stops.
    pub async fn follow(self: Arc<Self>) {
        let mut leadership = self.group.leadership();
        loop {
            let now = *leadership.borrow_and_update();
            self.end_unless(now);
            if now.here && self.lead().is_none() && self.begin(now.term).await.is_err() {
                let wait = if self.give_up_if_off().await { HOUSEKEEPING } else { BEGIN_RETRY };
                self.shared.world.clock.sleep(wait).await;
                continue;
            }
            if now.here {
                self.give_up_if_off().await;
            }
            if let Some(Err(_)) = timeout(&*self.shared.world.clock, HOUSEKEEPING, leadership.changed()).await {
                self.end_unless(Leadership::default());
                return;
            }
        }
    }

    /// A leader whose clock is off the majority's hands the group to the voter with the longest log whose clock is not
    /// (ARCHITECTURE 9). While it leads and must not stamp, nobody decides; the others have no reason to elect one.
    async fn give_up_if_off(&self) -> bool {
        let (clock, nodes) = (&*self.shared.world.clock, self.shared.options.nodes.len());
        if !self.shared.timekeeper.is_off(clock, nodes) {
            return false;
        }
        let progress = self.group.progress();
        let present = self.shared.world.directory.present();
        let may_lead = |node: &NodeId| present.contains(node) && self.shared.timekeeper.trusts(*node, clock, nodes);
        let fit = progress.voting.iter().filter(|(_, node)| **node != self.shared.options.node && may_lead(node));
        let Some((successor, node)) = fit.max_by_key(|(replica, _)| progress.matched.get(replica)) else {
            tracing::error!(group = %self.group.id(), "this node's clock is off, and there is nobody to lead in its place");
            return false;
        };
        sometimes!(true, "a leader whose clock was off gave its group up");
        tracing::error!(group = %self.group.id(), %node, "this node's clock is off: it gives its group up");
        self.end_unless(Leadership::default());
        self.group.transfer(ReplicaId(*successor)).await;
        true
    }

    fn end_unless(&self, now: Leadership) {
        let mut lead = self.lead.write();
        if let Some(held) = lead.as_ref().filter(|held| !now.here || held.term != now.term) {
            held.end();
            *lead = None;
        }
    }

    async fn begin(&self, term: u64) -> Result<(), ()> {
        // A confirmed read means that the term's blank entry is applied here: no actor starts before that.
        let confirmed = timeout(&*self.shared.world.clock, CONFIRM_PATIENCE, self.group.confirm()).await;
        confirmed.ok_or(())?.map_err(|_| ())?;
        world::pass(&*self.shared.world.clock, "lead.begin").await;
        let lead = Lead::begin(self.shared.clone(), self.group.clone(), self.machine.clone(), term);
        let lead = lead.map_err(|problem| tracing::warn!(group = %self.group.id(), %problem, "cannot lead yet"))?;
        *self.lead.write() = Some(lead);
        self.shared.contact.wanted.notify_one();
        Ok(())
    }

    /// Passivates idle actors and lets time pass where something is due. Runs until the node stops.
    pub async fn keep_house(self: Arc<Self>) {
        loop {
            self.shared.world.clock.sleep(HOUSEKEEPING).await;
            if self.retired.load(Ordering::SeqCst) {
                return;
            }
            let Some(lead) = self.lead() else { continue };
            if lead.passivate_idle() > 0 {
                world::pass(&*self.shared.world.clock, "actor.passivate").await;
            }
            // All at once: one after the other, many runaway agents would keep time from passing for the rest.
            let repeats = lead.repeats.take().into_iter();
            join_all(repeats.map(|repeats| self.propose(&lead, repeats, Vec::new(), HOUSEKEEPING))).await;
            let due = self.machine.lock().ledger.next_due_ns();
            if due.is_some_and(|due| due <= self.shared.world.clock.wall_ns()) {
                let _ = self.propose(&lead, HeaderV1::Tick, Vec::new(), HOUSEKEEPING).await;
            }
        }
    }

    /// Proposes one command and waits for its outcome.
    pub async fn propose(
        &self,
        lead: &Lead,
        header: HeaderV1,
        body: Vec<u8>,
        wait: Duration,
    ) -> Result<(Arc<crate::apply::AppliedEntry>, usize), Problem> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let proposal = Proposal {
            command: CommandV1 { header, body },
            done: Box::new(move |fate| {
                let _ = tx.send(fate);
            }),
        };
        let full = |_| Problem::new(Code::Overloaded, "the group's queue is full").retry_after_ms(200);
        lead.proposer().propose(proposal).map_err(full)?;
        let unknown = || Problem::new(Code::OutcomeUnknown, "the group did not answer in time");
        match timeout(&*self.shared.world.clock, wait, rx).await {
            Some(Ok(Ok(applied))) => Ok(applied),
            Some(Ok(Err(crate::replicate::group::ProposeError::NotLeader))) => {
                Err(Problem::new(Code::NotLeader, "leadership moved"))
            }
            Some(Ok(Err(crate::replicate::group::ProposeError::Refused(problem)))) => Err(problem),
            _ => Err(unknown()),
        }
    }
}
