//! *apply*: the state of one partition group, and the only way to change it. A pure function of (state, entry).
//!
//! An entry brings its log time and its commands; each command gets one outcome, equal on every replica, and a leaf
//! index where it was executed for the first time. A refusal is an outcome. The one error is an entry whose rules this
//! release does not know: then the replica must stop, because guessing would make it differ from the others.
//!
//! In here: no clock, no dice, no floats, no hash maps, nothing performed. The order of checks of a decision is in
//! [`decide`]; what is due runs before the commands, in [`expire`].

use std::collections::{BTreeMap, BTreeSet};

use nethical_protocol::control::Placement;
use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber};
use nethical_protocol::{probe, sometimes};

use crate::agent::{AgentEntry, AgentFacts, AgentKey};
use crate::approval::Approvals;
use crate::canary::Canary;
use crate::command::{APPLY_VERSION, ActorKeys, CommandV1, CostV1, EntryV1, HeaderV1, RequestKey};
use crate::dedup::{Dedup, DedupBounds};
use crate::hold::ZoneHolds;
use crate::outcome::{OutcomeV1, QuotaV1, ReviewedV1, SettledV1, Stale};
use crate::quarantine::QuarantineRules;
use crate::quota::band::Band;
use crate::quota::lease::{LeaseKey, Share};
use crate::quota::table::Limit;
use crate::quota::{Quota, Subject};
use crate::release::Release;
use crate::reservation::Reservations;
use crate::retention::Retention;
use crate::risk::Past;
use crate::subject::Subjects;

mod alone;
mod automatic;
mod control;
mod decide;
mod expire;
mod lease;
#[cfg(test)]
mod measured;
mod orders;
mod reserve;
mod review;
mod sealing;

pub use alone::decide_alone;
use expire::Timer;
pub use sealing::{person_id, subject_id};

/// Leaf 0 of a fresh log says that its era was opened; whoever opens the log makes it.
const FIRST_LEAF: u64 = 1;

/// The policy bundle in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyInForce {
    /// The control revision that put it in force, or changed its canary.
    pub revision: ControlRevision,
    /// SHA-256 of its text.
    pub digest: [u8; 32],
    /// The candidate that decides for some agents in its place.
    pub canary: Option<Canary>,
}

impl PolicyInForce {
    /// True where the canary decides for an agent.
    pub fn is_canary_for(&self, agent: KeyedId) -> bool {
        self.canary.is_some_and(|canary| canary.takes(agent))
    }

    /// SHA-256 of the bundle that decides for an agent.
    pub fn bundle_for(&self, agent: KeyedId) -> [u8; 32] {
        self.canary.filter(|canary| canary.takes(agent)).map_or(self.digest, |canary| canary.digest)
    }
}

/// What became of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The outcome.
    pub outcome: OutcomeV1,
    /// The leaf that must record it; `None` for outcomes that make none.
    pub leaf_index: Option<u64>,
}

/// What expired: it makes a leaf that no command asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapsed {
    /// The leaf that must record it.
    pub leaf_index: u64,
    /// What it was, and how it ended.
    pub what: LapsedV1,
}

/// Sorts of things whose expiry makes a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LapsedV1 {
    /// A reservation.
    Reservation(SettledV1),
    /// An approval.
    Approval(ReviewedV1),
}

/// An entry follows rules that this release does not have. The replica must stop: the others know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the entry needs apply version {0}; this release has version {APPLY_VERSION}")]
pub struct UnknownApplyVersion(pub u16);

/// The state of one partition group.
///
/// About 750 B an agent, 80 B a counter (up to 600 B of a rolling window), 100 B a remembered request. Cloning copies all of it.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub(crate) group: u32,
    pub(crate) now_ns: u64,
    pub(crate) next_leaf: u64,
    pub(crate) control_rev: ControlRevision,
    pub(crate) policy: Option<PolicyInForce>,
    pub(crate) tenants: BTreeMap<KeyedId, Placement>,
    pub(crate) holds: ZoneHolds,
    pub(crate) quarantine: QuarantineRules,
    pub(crate) quota: Quota,
    pub(crate) agents: BTreeMap<AgentKey, AgentEntry>,
    /// Where the last sweep over agents stopped.
    pub(crate) swept_to: Option<AgentKey>,
    pub(crate) dedup: Dedup,
    pub(crate) reservations: Reservations,
    pub(crate) approvals: Approvals,
    /// What the release of held agents needs, where one word does not do.
    pub(crate) releases: BTreeMap<AgentKey, Release>,
    pub(crate) subjects: Subjects,
    pub(crate) retention: Retention,
    /// What expired since somebody asked; not part of the state.
    lapsed: Vec<Lapsed>,
    /// What is due when. Follows from the hold-orders in `agents` and `holds`, from `reservations` and from `approvals`, so it is as
    /// bounded as they are.
    timers: BTreeSet<(u64, Timer)>,
    /// Nothing was applied since a snapshot was restored. Read by the planted bug `double-apply` alone.
    pub is_behind_snapshot: bool,
}

impl Ledger {
    /// The empty ledger of a fresh log.
    pub fn new(group: u32) -> Self {
        Self::with_bounds(group, DedupBounds::default())
    }

    /// As [`Ledger::new`], with other bounds for remembered requests. They must be equal on all replicas.
    pub fn with_bounds(group: u32, bounds: DedupBounds) -> Self {
        Self {
            group,
            now_ns: 0,
            next_leaf: FIRST_LEAF,
            control_rev: ControlRevision(0),
            policy: None,
            tenants: BTreeMap::new(),
            holds: ZoneHolds::default(),
            quarantine: QuarantineRules::default(),
            quota: Quota::default(),
            agents: BTreeMap::new(),
            swept_to: None,
            dedup: Dedup::new(bounds),
            reservations: Reservations::default(),
            approvals: Approvals::default(),
            releases: BTreeMap::new(),
            subjects: Subjects::default(),
            retention: Retention::default(),
            lapsed: Vec::new(),
            timers: BTreeSet::new(),
            is_behind_snapshot: false,
        }
    }

    /// Applies one entry that the log holds under `log_term`. One answer a command, in order.
    ///
    /// An entry that was proposed in another term changes nothing, time included: its proposer's actors are dead.
    pub fn apply_entry(&mut self, log_term: u64, entry: &EntryV1) -> Result<Vec<Applied>, UnknownApplyVersion> {
        if entry.apply_version != APPLY_VERSION {
            return Err(UnknownApplyVersion(entry.apply_version));
        }
        if entry.term != log_term && !probe::planted("older-term-accepted") {
            sometimes!(true, "an entry of another term was refused");
            let stale = Applied { outcome: OutcomeV1::Stale(Stale::Term), leaf_index: None };
            return Ok(vec![stale; entry.commands.len()]);
        }
        self.advance(entry.now_ns);
        if std::mem::take(&mut self.is_behind_snapshot) && probe::planted("double-apply") {
            let (dedup, next_leaf) = (self.dedup.clone(), self.next_leaf);
            entry.commands.iter().for_each(|command| drop(self.apply(entry.now_ns, command)));
            (self.dedup, self.next_leaf) = (dedup, next_leaf);
        }
        Ok(entry.commands.iter().map(|command| self.apply(entry.now_ns, command)).collect())
    }

    /// What expired since the last call, in order. Whoever keeps leaves asks after every entry: those of expiries stand
    /// before those of the entry's commands.
    pub fn take_lapsed(&mut self) -> Vec<Lapsed> {
        std::mem::take(&mut self.lapsed)
    }

    /// Applies one command of an entry whose version and term have been checked. Time that lies back counts as now.
    pub fn apply(&mut self, now_ns: u64, command: &CommandV1) -> Applied {
        self.advance(now_ns);
        let outcome = match &command.header {
            HeaderV1::Decide(decide) => self.decide(decide),
            HeaderV1::ApplyControl(control) => self.apply_control(control),
            HeaderV1::PlaceHoldOrder(order) => self.place_hold_order(order),
            HeaderV1::LiftHoldOrder(order) => self.lift_hold_order(order),
            HeaderV1::Tick => self.tick(),
            HeaderV1::LeaseGrant(ask) => self.grant_lease(ask),
            HeaderV1::LeaseTake(take) => self.take_lease(take),
            HeaderV1::LeaseReturn(lease) => self.return_lease(lease),
            HeaderV1::SettleReservation(settle) => self.settle_reservation(settle),
            HeaderV1::NoteRepeats(repeats) => self.note_repeats(repeats),
            HeaderV1::DecideApproval(word) => self.decide_approval(word),
            HeaderV1::TurnRing(ring) => self.turn_ring(*ring),
            HeaderV1::Rewrap(rewrap) => self.rewrap(rewrap),
            HeaderV1::SettleErasures(past) => self.settle_erasures(past),
            HeaderV1::PutCold(put) => self.put_cold(put),
        };
        let leaf_index = outcome.makes_leaf().then(|| {
            let leaf_index = self.next_leaf;
            self.next_leaf += u64::from(!command.is_skipped());
            if let Some((request, actor)) = request_of(&command.header) {
                self.dedup.remember(request, actor.slot, leaf_index);
            }
            leaf_index
        });
        Applied { outcome, leaf_index }
    }

    /// The group.
    pub fn group(&self) -> u32 {
        self.group
    }

    /// Log time: that of the last entry applied, never less than an earlier one's.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Leaves of this log so far, that of the era's opening included; the index of the next one.
    pub fn leaf_count(&self) -> u64 {
        self.next_leaf
    }

    /// The control revision that has taken effect here.
    pub fn control_revision(&self) -> ControlRevision {
        self.control_rev
    }

    /// The policy in force here; without one nothing is decided.
    pub fn policy(&self) -> Option<PolicyInForce> {
        self.policy
    }

    /// How long bodies are kept, and what legal holds keep.
    pub fn retention(&self) -> &Retention {
        &self.retention
    }

    /// Where a tenant's agents live; `None` where the tenant is not known here yet.
    pub fn tenant(&self, tenant: KeyedId) -> Option<Placement> {
        self.tenants.get(&tenant).copied()
    }

    /// What a command about this agent must carry as `agent_version`.
    pub fn agent_version(&self, actor: &ActorKeys) -> [u8; 8] {
        self.agents.get(&AgentKey::from(*actor)).copied().unwrap_or_default().version()
    }

    /// What an agent's release needs, where one word does not do.
    pub fn release_of(&self, actor: &ActorKeys) -> Option<&Release> {
        self.releases.get(&AgentKey::from(*actor))
    }

    /// What may be read of an agent; a new agent's facts where nothing is known.
    pub fn agent_view(&self, actor: &ActorKeys) -> AgentFacts {
        AgentFacts::of(self.agents.get(&AgentKey::from(*actor)), self.now_ns)
    }

    /// What an agent's history says by itself, at `now_ns` or the log's time if later; none where it has none.
    pub fn past(&self, actor: &ActorKeys, now_ns: u64) -> Option<Past> {
        self.agents.get(&AgentKey::from(*actor))?.risk.past(now_ns.max(self.now_ns))
    }

    /// What the tenant's limits have left for a subject, by limit number, at `now_ns` or the log's time if later. Key
    /// parts that the subject leaves out exclude no limit and count as "none given".
    pub fn usage(&self, subject: &Subject, now_ns: u64) -> Vec<QuotaV1> {
        self.quota.usage(subject, now_ns.max(self.now_ns))
    }

    /// True where a request was executed, or may have been: it must not be answered from memory.
    pub fn is_decided(&self, request: &RequestKey) -> bool {
        self.dedup.answer(request, self.now_ms()).is_some()
    }

    /// A limit in force.
    pub fn limit(&self, number: LimitNumber) -> Option<&Limit> {
        self.quota.limits.get(number)
    }

    /// The room under a limit for an action, at `now_ns` or the log's time if later: what policy may see of quota.
    pub fn band(&self, number: LimitNumber, subject: &Subject, costs: &[CostV1], now_ns: u64) -> Band {
        self.quota.band(number, subject, costs, now_ns.max(self.now_ns))
    }

    /// This group's share of a leased limit.
    pub fn share(&self, lease: &LeaseKey) -> Share {
        self.quota.leases.share(lease)
    }

    /// Agents that the ledger has entries of.
    pub fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// Counters stored.
    pub fn bucket_count(&self) -> usize {
        self.quota.buckets.len()
    }

    /// Requests remembered, for the metric.
    pub fn remembered_count(&self) -> usize {
        self.dedup.len()
    }

    /// Seconds of request ids that are still recognised; below the SDK's retry time the door must shed.
    pub fn seconds_covered(&self) -> u64 {
        self.dedup.covered_ms(self.now_ms()) / 1_000
    }

    fn now_ms(&self) -> u64 {
        self.now_ns / 1_000_000
    }
}

/// The idempotency part of commands that have one, and whose agent they are about.
fn request_of(header: &HeaderV1) -> Option<(&RequestKey, &ActorKeys)> {
    match header {
        HeaderV1::Decide(decide) => Some((&decide.request, &decide.actor)),
        HeaderV1::PlaceHoldOrder(order) | HeaderV1::LiftHoldOrder(order) => Some((&order.request, &order.actor)),
        HeaderV1::ApplyControl(_)
        | HeaderV1::Tick
        | HeaderV1::LeaseGrant(_)
        | HeaderV1::LeaseTake(_)
        | HeaderV1::LeaseReturn(_)
        | HeaderV1::SettleReservation(_)
        | HeaderV1::NoteRepeats(_)
        | HeaderV1::DecideApproval(_)
        | HeaderV1::TurnRing(_)
        | HeaderV1::Rewrap(_)
        | HeaderV1::SettleErasures(_)
        | HeaderV1::PutCold(_) => None,
    }
}
