//! One term of leadership of a partition group: its actors, its proposer, and the conditions under which it may decide.
//!
//! A lead begins only after the term's blank entry is applied, its clock is confirmed by a quorum, and the control
//! group has been reached. It ends with the term; its actors are killed in order of key, its handles go dead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{ActorRef, ActorRuntime};
use tokio::sync::oneshot;

use nethical_protocol::action::Action;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::GroupId;
use nethical_protocol::limits::{ACTOR_IDLE_MS, ACTORS_PER_GROUP_MAX, AGENT_PENDING_MAX};
use nethical_protocol::{buggify, probe, sometimes};

use crate::actor::{AgentActor, Ask, Settled};
use crate::apply::PartitionMachine;
use crate::control::view::Tenant;
use crate::lease::Fetches;
use crate::propose::Proposer;
use crate::repeats::Repeats;
use crate::replicate::group::Group;
use crate::shared::Shared;
use crate::timekeeper::Stamp;

/// One term of leadership.
pub struct Lead {
    /// The term.
    pub term: u64,
    group: Group<PartitionMachine>,
    machine: Arc<Mutex<PartitionMachine>>,
    proposer: Proposer,
    shared: Arc<Shared>,
    actors: Mutex<BTreeMap<(String, String), Active>>,
    /// The leases that it is asking for.
    pub fetches: Fetches,
    /// Denials that were repeated from memory and are to be written down.
    pub repeats: Repeats,
    ended: AtomicBool,
}

/// An agent's actor.
struct Active {
    actor: ActorRef<Ask>,
    pending: Arc<AtomicUsize>,
    used: Duration,
}

impl Lead {
    /// Begins a term. The caller has confirmed leadership; this confirms the clock.
    pub fn begin(
        shared: Arc<Shared>,
        group: Group<PartitionMachine>,
        machine: Arc<Mutex<PartitionMachine>>,
        term: u64,
    ) -> Result<Arc<Self>, Problem> {
        let clock = shared.world.clock.clone();
        let base = shared.timekeeper.base_ns(&*clock, shared.options.nodes.len())?;
        let last_ns = machine.lock().ledger.now_ns();
        let stamp = Stamp::begin(last_ns, base, &*clock)?;
        let proposer = Proposer::start(&shared.world.scope, group.clone(), term, stamp, clock);
        let (actors, fetches, ended) = (Mutex::new(BTreeMap::new()), Fetches::default(), AtomicBool::new(false));
        let repeats = Repeats::default();
        Ok(Arc::new(Self { term, group, machine, proposer, shared, actors, fetches, repeats, ended }))
    }

    /// Ends the term: nothing is accepted any more and every actor is killed.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        let actors = std::mem::take(&mut *self.actors.lock());
        actors.into_values().for_each(|active| active.actor.kill());
    }

    /// True after [`Lead::end`].
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst) || self.shared.world.scope.is_dead()
    }

    /// Monotonic time.
    pub fn now(&self) -> Duration {
        self.shared.world.clock.now()
    }

    /// The way into the log.
    pub fn proposer(&self) -> &Proposer {
        &self.proposer
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.group.id()
    }

    /// The replicated state, to be locked for moments only.
    pub fn machine(&self) -> &Mutex<PartitionMachine> {
        &self.machine
    }

    /// What the node shares.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Actors alive.
    pub fn actor_count(&self) -> usize {
        self.actors.lock().len()
    }

    /// Whether decisions may be taken now; the problem says what stands in the way.
    pub fn check_may_decide(&self) -> Result<(), Problem> {
        if self.has_ended() {
            return Err(Problem::new(Code::NotLeader, "leadership moved"));
        }
        self.check_contact()?;
        match self.machine.lock().trail().is_lagging() {
            true => Err(Problem::new(Code::Overloaded, "the audit sealer is behind").retry_after_ms(500)),
            false => Ok(()),
        }
    }

    /// Whether the control group was reached lately in behalf of this group, which has applied what it was told then.
    pub fn check_contact(&self) -> Result<(), Problem> {
        let applied = self.machine.lock().ledger.control_revision();
        self.shared.contact.check_group(self.group(), applied, self.now())
    }

    /// Hands an action to its agent's actor. The order of calls is the order of the agent's decisions.
    /// `has_asked`: it came back, and the shares that it was short of were asked for.
    pub fn submit(
        self: &Arc<Self>,
        tenant: Arc<Tenant>,
        action: Action,
        deadline: Duration,
        has_asked: bool,
    ) -> Result<oneshot::Receiver<Settled>, Problem> {
        let now = self.now();
        let mut actors = self.actors.lock();
        // Looked at under the lock: whoever ends the term kills what is in the table afterwards.
        if self.has_ended() {
            return Err(Problem::new(Code::NotLeader, "leadership moved"));
        }
        let key = (action.tenant.clone(), action.agent.clone());
        if actors.get(&key).is_none_or(|active| !is_alive(&active.actor)) {
            let active = self.activate(&mut actors, now)?;
            actors.insert(key.clone(), active);
        }
        let active = actors.get_mut(&key).expect("inserted just now");
        active.used = now;
        if active.pending.fetch_add(1, Ordering::AcqRel) >= AGENT_PENDING_MAX {
            active.pending.fetch_sub(1, Ordering::AcqRel);
            let detail = format!("{AGENT_PENDING_MAX} actions of this agent are waiting");
            return Err(Problem::new(Code::Overloaded, detail).retry_after_ms(100));
        }
        let (reply, answer) = oneshot::channel();
        let ask = Ask { action, tenant, deadline, has_asked, stale: 0, reply, pending: active.pending.clone() };
        if let Err(ractor::MessagingErr::SendErr(ask)) = active.actor.send_message(ask) {
            ask.settle(Settled::Problem(
                Problem::new(Code::Overloaded, "the agent's actor is starting over").retry_after_ms(50),
            ));
        }
        Ok(answer)
    }

    fn activate(
        self: &Arc<Self>,
        actors: &mut BTreeMap<(String, String), Active>,
        now: Duration,
    ) -> Result<Active, Problem> {
        if actors.len() >= ACTORS_PER_GROUP_MAX {
            self.make_room(actors)?;
        }
        let (actor, _starting) = ActorRuntime::spawn_instant(None, AgentActor, self.clone())
            .map_err(|error| Problem::new(Code::Internal, format!("an agent's actor does not start: {error}")))?;
        Ok(Active { actor, pending: Arc::new(AtomicUsize::new(0)), used: now })
    }

    /// Passivates the least recently used idle actor.
    fn make_room(&self, actors: &mut BTreeMap<(String, String), Active>) -> Result<(), Problem> {
        let idle = |(_, active): &(&(String, String), &Active)| active.pending.load(Ordering::Acquire) == 0;
        let oldest = actors.iter().filter(idle).min_by_key(|(_, active)| active.used).map(|(key, _)| key.clone());
        match oldest.and_then(|key| actors.remove(&key)) {
            Some(active) => {
                active.actor.stop(None);
                Ok(())
            }
            None => Err(Problem::new(Code::Overloaded, "too many agents are active at once").retry_after_ms(200)),
        }
    }

    /// Passivates actors that have had nothing to do for a while, and says how many. Their ledger entries stay.
    pub fn passivate_idle(&self) -> usize {
        let now = self.now();
        let idle_ms = probe::knob("actor.idle-ms", ACTOR_IDLE_MS);
        let idle_for = Duration::from_millis(if buggify!("actor.passivate-at-once") { 0 } else { idle_ms });
        let mut actors = self.actors.lock();
        let before = actors.len();
        actors.retain(|_, active| {
            let keep = active.pending.load(Ordering::Acquire) > 0 || now.saturating_sub(active.used) < idle_for;
            if !keep {
                active.actor.stop(None);
            }
            keep
        });
        let passivated = before - actors.len();
        sometimes!(passivated > 0, "an idle actor was passivated");
        passivated
    }
}

fn is_alive(actor: &ActorRef<Ask>) -> bool {
    !matches!(actor.get_status(), ractor::ActorStatus::Stopped | ractor::ActorStatus::Stopping)
}
