//! The zone's control group: tenants, limits, policy bundles and tenant-wide hold-orders, as numbered revisions.
//!
//! A revision is one event. Partitions never read this state: a pump carries the *facts* of events into their own logs
//! (ARCHITECTURE 2). Nodes fold the same events into a [`view::ControlView`], which knows the names. Nothing here
//! decides an action.

use bytes::Bytes;
use rkyv::rancor::Error;

use nethical_protocol::control::{HoldSpec, LimitSpec, TenantSpec};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber};
use nethical_protocol::quarantine::QuarantineSpec;

use self::dictionaries::{DictionaryAskV1, DictionaryEventV1};
use self::log::{ClusterLog, ClusterLogV1};
use self::signing::{Place, Signing, SigningAskV1, SigningEventV1};
use crate::replicate::machine::{Fault, Machine, Reply};

pub mod bundles;
pub mod check;
pub mod dictionaries;
pub mod legal;
pub mod log;
pub mod quarantine;
pub mod signing;
pub mod view;

/// One change of the zone's rules. Frozen per version.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum EventV1 {
    /// A tenant exists; its key is wrapped under a ring key.
    Tenant {
        /// What was asked.
        spec: TenantSpec,
        /// The tenant key, wrapped.
        wrapped_key: Vec<u8>,
    },
    /// A limit is set.
    Limit {
        /// Its number, kept when it is replaced.
        number: LimitNumber,
        /// What was asked.
        spec: LimitSpec,
    },
    /// A limit is gone.
    LimitRemoved {
        /// Its number.
        number: LimitNumber,
        /// Its tenant.
        tenant: String,
        /// Its id.
        id: String,
    },
    /// A bundle is kept and in force.
    Policy {
        /// SHA-256 of the text.
        digest: [u8; 32],
        /// The bundle; emptied once it is let go.
        text: String,
    },
    /// A tenant-wide or zone-wide hold-order.
    Hold {
        /// What was asked.
        spec: HoldSpec,
        /// Log time after which it lapses; 0 for never.
        until_ns: u64,
    },
    /// That hold-order is lifted.
    HoldLifted {
        /// The revision that placed it.
        id: ControlRevision,
        /// Who asked last; empty for nobody in particular.
        approver: String,
    },
    /// A bundle is kept, and not in force.
    BundleStored {
        /// SHA-256 of the text.
        digest: [u8; 32],
        /// The bundle; emptied once it is let go.
        text: String,
    },
    /// A kept bundle is in force.
    PolicyActivated {
        /// Which.
        digest: [u8; 32],
    },
    /// A bundle is let go, and its text with it.
    BundleRemoved {
        /// Which.
        digest: [u8; 32],
    },
    /// A kept bundle is evaluated beside the one in force, or none is any more.
    PolicyShadowed {
        /// Which.
        digest: Option<[u8; 32]>,
    },
    /// A kept bundle decides for a share of agents, beside the one in force.
    CanarySet {
        /// Which.
        digest: [u8; 32],
        /// Agents of a hundred, 1 to 100.
        percent: u8,
    },
    /// The bundle in force decides for all agents again.
    CanaryEnded,
    /// Somebody asked for the release of a hold-order that needs more words.
    HoldVoiced {
        /// The revision that placed it.
        id: ControlRevision,
        /// Who.
        approver: String,
    },
    /// A set of rules for automatic quarantine is in force; an empty one ends it.
    Quarantine(QuarantineSpec),
    /// What was said of a subject is erased. No name is in here.
    SubjectErased(ErasureV1),
    /// Records are kept whatever their age, and not erased. No name of an agent or a person is in here.
    LegalHold(legal::LegalHoldV1),
    /// That legal hold stands no longer.
    LegalHoldLifted(legal::LegalHoldLiftedV1),
    /// Something happened to signing keys. No secret is in here.
    Signing(SigningEventV1),
    /// Something happened to the dictionaries of bodies.
    Dictionary(DictionaryEventV1),
}

impl EventV1 {
    /// The text of a bundle that the event carries; empty for others and for bundles that were let go.
    pub fn text(&self) -> &str {
        match self {
            Self::Policy { text, .. } | Self::BundleStored { text, .. } => text,
            _ => "",
        }
    }

    /// Bytes that the event carries beside a few names and numbers.
    fn bulk(&self) -> usize {
        match self {
            Self::Dictionary(DictionaryEventV1::Given { bytes, .. }) => bytes.len(),
            _ => self.text().len(),
        }
    }
}

/// An erasure, as the zone remembers it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ErasureV1 {
    /// The tenant.
    pub tenant: String,
    /// The agent or the person, under the tenant's key.
    pub subject: KeyedId,
    /// Which of both.
    pub is_person: bool,
    /// Why.
    pub reason: String,
    /// When it was asked for, by the control leader's wall clock, nanoseconds since 1970.
    pub at_ns: u64,
}

/// An event with its revision.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RevisedEventV1 {
    /// Consecutive from 1.
    pub revision: ControlRevision,
    /// What changed.
    pub event: EventV1,
}

/// One entry of the control group's log. Frozen per version.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ControlEntryV1 {
    /// A change of the rules.
    Change(ChangeV1),
    /// Checkpoints of partitions' logs, for the cluster log: notes with their log's own signature alone.
    Checkpoints(Vec<String>),
}

impl ControlEntryV1 {
    /// The entry's bytes.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(rkyv::to_bytes::<Error>(self).expect("encoding into memory cannot fail").into_vec())
    }
}

/// A change of the rules: what an administrator asked, completed by the leader's dice and clock.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ChangeV1 {
    /// Leader's wall time, nanoseconds since 1970.
    pub now_ns: u64,
    /// What to do.
    pub change: AskV1,
}

/// What can be asked of the control group.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum AskV1 {
    /// Create a tenant.
    PutTenant {
        /// The tenant.
        spec: TenantSpec,
        /// Its key, wrapped; unused where the tenant exists.
        wrapped_key: Vec<u8>,
    },
    /// Set a limit.
    PutLimit(LimitSpec),
    /// Remove a limit.
    RemoveLimit {
        /// Its tenant.
        tenant: String,
        /// Its id.
        id: String,
    },
    /// Put a bundle in force.
    PutPolicy {
        /// SHA-256 of the text.
        digest: [u8; 32],
        /// The bundle, validated by the proposer.
        text: String,
    },
    /// Place a hold-order.
    PlaceHold(HoldSpec),
    /// Lift the hold-orders of this scope.
    LiftHold(HoldSpec),
    /// Put a bundle in force where none ever was.
    FirstPolicy {
        /// SHA-256 of the text.
        digest: [u8; 32],
        /// The bundle, validated by the proposer.
        text: String,
    },
    /// Keep a bundle.
    StoreBundle {
        /// SHA-256 of the text.
        digest: [u8; 32],
        /// The bundle, validated by the proposer.
        text: String,
    },
    /// Put a kept bundle in force.
    ActivateBundle {
        /// Which.
        digest: [u8; 32],
    },
    /// End the canary; where there is none, put the bundle in force that was in force before.
    RollbackPolicy,
    /// Let a bundle go.
    RemoveBundle {
        /// Which.
        digest: [u8; 32],
    },
    /// Evaluate a kept bundle beside the one in force, or none.
    ShadowPolicy {
        /// Which.
        digest: Option<[u8; 32]>,
    },
    /// Let a kept bundle decide for a share of agents.
    CanaryBundle {
        /// Which.
        digest: [u8; 32],
        /// Agents of a hundred, 1 to 100.
        percent: u8,
    },
    /// Set the rules for automatic quarantine of a tenant or the zone.
    PutQuarantine(QuarantineSpec),
    /// Erase what was said of a subject.
    Erase(ErasureV1),
    /// Set a legal hold.
    SetLegalHold(legal::LegalHoldV1),
    /// Lift one.
    LiftLegalHold {
        /// The revision that set it.
        id: ControlRevision,
        /// Who asks, as given.
        by: String,
    },
    /// Turn or retire signing keys.
    Signing(SigningAskV1),
    /// Keep a dictionary of bodies, or leave it.
    Dictionary(DictionaryAskV1),
}

/// What became of a change. Equal on every replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It is this revision.
    Revision(ControlRevision),
    /// Everything was so already; this revision is current.
    Unchanged(ControlRevision),
    /// It does not fit.
    Refused(Problem),
}

/// The control group's state: its history, from which everything else is folded.
#[derive(Debug, Clone, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ControlState {
    events: Vec<RevisedEventV1>,
    limits_numbered: u32,
    now_ns: u64,
}

impl ControlState {
    /// The newest revision.
    pub fn revision(&self) -> ControlRevision {
        self.events.last().map_or(ControlRevision(0), |event| event.revision)
    }

    /// Events after a revision, as many as fit `bytes_max` (at least one where there is any).
    pub fn events_after(&self, after: ControlRevision, bytes_max: usize) -> Vec<RevisedEventV1> {
        let start = (after.0 as usize).min(self.events.len());
        let mut bytes = 0;
        let fits = |event: &&RevisedEventV1| {
            bytes += 512 + event.event.bulk();
            bytes <= bytes_max
        };
        let taken: Vec<_> = self.events[start..].iter().take_while(fits).cloned().collect();
        match taken.is_empty() {
            true => self.events[start..].iter().take(1).cloned().collect(),
            false => taken,
        }
    }

    /// Applies a change at a place of the group's log. Pure: the same on every replica.
    pub fn apply(&mut self, entry: &ChangeV1, place: Place) -> Changed {
        self.now_ns = self.now_ns.max(entry.now_ns);
        let event = match check::event_of(self, &entry.change, place) {
            Ok(Some(event)) => event,
            Ok(None) => return Changed::Unchanged(self.revision()),
            Err(problem) => return Changed::Refused(problem),
        };
        if let EventV1::Limit { number, .. } = &event {
            self.limits_numbered = self.limits_numbered.max(number.0);
        }
        self.make_room(event.text().len());
        self.push(event);
        Changed::Revision(self.revision())
    }

    /// Lets go of bundles that give way to a new one, each by an event of its own.
    fn make_room(&mut self, bytes: usize) {
        if bytes > 0 {
            let leaving = bundles::Bundles::of(&self.events).room_for(bytes).unwrap_or_default();
            leaving.into_iter().for_each(|digest| self.push(EventV1::BundleRemoved { digest }));
        }
    }

    /// Appends an event. What is let go leaves the history too, or that would grow by every bundle there ever was.
    fn push(&mut self, event: EventV1) {
        if let EventV1::BundleRemoved { digest: leaving } = &event {
            self.events.iter_mut().for_each(|held| match &mut held.event {
                EventV1::Policy { digest, text } | EventV1::BundleStored { digest, text } if digest == leaving => {
                    *text = String::new();
                }
                _ => {}
            });
        }
        let revision = ControlRevision(self.revision().0 + 1);
        self.events.push(RevisedEventV1 { revision, event });
    }

    /// True once any bundle has been put in force.
    pub fn has_had_policy(&self) -> bool {
        self.events.iter().any(|event| matches!(event.event, EventV1::Policy { .. } | EventV1::PolicyActivated { .. }))
    }

    /// All events in order.
    pub fn events(&self) -> &[RevisedEventV1] {
        &self.events
    }

    pub(crate) fn next_limit(&self) -> LimitNumber {
        LimitNumber(self.limits_numbered + 1)
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

/// A snapshot's bytes. Frozen per version.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct ControlSnapshotV1 {
    state: ControlState,
    log: ClusterLogV1,
}

/// The control group's machine.
pub struct ControlMachine {
    /// The state; its readers lock the machine for moments only.
    pub state: ControlState,
    /// The cluster log.
    pub log: ClusterLog,
}

impl ControlMachine {
    /// A zone without rules, and a cluster log without leaves.
    pub fn new(log: ClusterLog) -> Self {
        Self { state: ControlState::default(), log }
    }
}

impl Machine for ControlMachine {
    fn apply(&mut self, term: u64, _index: u64, payload: &Bytes, wanted: bool) -> Result<Reply, Fault> {
        let entry = rkyv::from_bytes::<ControlEntryV1, Error>(payload)
            .map_err(|error| Fault(format!("a committed control entry does not read: {error}")))?;
        match entry {
            ControlEntryV1::Change(change) => {
                let changed = self.state.apply(&change, Place { term, leaves: self.log.tree().0 });
                Ok(if wanted { Reply::of(changed) } else { Reply::default() })
            }
            ControlEntryV1::Checkpoints(notes) => {
                let generations = Signing::of(self.state.events()).generations();
                self.log.apply(&notes, &generations).map(Reply::of)
            }
        }
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, Fault> {
        let snapshot = ControlSnapshotV1 { state: self.state.clone(), log: self.log.to_snapshot() };
        Ok(rkyv::to_bytes::<Error>(&snapshot).expect("encoding into memory cannot fail").into_vec())
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let snapshot = rkyv::from_bytes::<ControlSnapshotV1, Error>(bytes)
            .map_err(|error| Fault(format!("a control snapshot does not read: {error}")))?;
        self.state = snapshot.state;
        self.log.restore(snapshot.log)
    }

    fn leaves(&self) -> u64 {
        self.log.tree().0
    }

    fn passed(&mut self, _term: u64, _index: u64) {}
}

/// The problem of a control change that does not fit.
pub(crate) fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidControl, detail)
}
