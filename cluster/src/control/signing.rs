//! Signing keys as the control group knows them: which generations of the zone's key there are, from which leaf of the cluster
//! log to which each was in force, and by which keys each node vouches. Public halves only.
//!
//! Pure: folded from events, the same on every node. A turn is asked for, made by the leader, and committed; an overlap ends
//! and a seed is gone by events of their own. Nothing here sees a seed ([`crate::seeds`]).

use std::collections::BTreeMap;

use nethical_audit::generations::{GENERATIONS_MAX, Generation, Generations};
use nethical_protocol::error::Problem;
use nethical_protocol::limits::{NAME_BYTES_MAX, OVERLAP_S_MAX};

use super::{ControlState, EventV1, RevisedEventV1, invalid};

const NANOS: u64 = 1_000_000_000;

/// What happened to signing keys. Frozen per version.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum SigningEventV1 {
    /// The zone's logs are to have a new key.
    Asked {
        /// Why.
        reason: String,
        /// How long the old one signs beside it, nanoseconds.
        overlap_ns: u64,
        /// Log time.
        at_ns: u64,
    },
    /// They have it: both sign from now on.
    Turned {
        /// The new one.
        generation: u32,
        /// Its public key.
        public: [u8; 32],
        /// The public key of the one before.
        before: [u8; 32],
        /// Leaves of the cluster log.
        leaf: u64,
        /// Log time.
        at_ns: u64,
    },
    /// The old one signs nothing any more.
    Retired {
        /// Which.
        generation: u32,
        /// Leaves of the cluster log.
        leaf: u64,
        /// Log time.
        at_ns: u64,
    },
    /// No node has its seed any more.
    Destroyed {
        /// Which.
        generation: u32,
        /// Log time.
        at_ns: u64,
    },
    /// A node vouches by a new key of its own.
    Cosigner {
        /// The node.
        node: u64,
        /// The public key by which it vouched before.
        before: [u8; 32],
        /// The one by which it does from now on.
        public: [u8; 32],
        /// Why.
        reason: String,
        /// Log time.
        at_ns: u64,
    },
}

/// What can be asked of the control group about signing keys. Frozen per version.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum SigningAskV1 {
    /// Turn the zone's key; where an overlap is under way, `overlap_s` 0 ends it.
    Rotate {
        /// Why.
        reason: String,
        /// How long the old key signs beside the new one, seconds.
        overlap_s: u64,
    },
    /// A new key is held where it has to be: it comes into force.
    Turn {
        /// Which generation.
        generation: u32,
        /// Its public key.
        public: [u8; 32],
        /// The public key of the one before.
        before: [u8; 32],
        /// The term in which it was made. In any other one another leader may have made another.
        term: u64,
    },
    /// The overlap is over, where it is by the group's own time.
    Retire {
        /// Which generation.
        generation: u32,
    },
    /// No node has its seed any more.
    Destroyed {
        /// Which generation.
        generation: u32,
    },
    /// A node vouches by a new key.
    Cosigner {
        /// The node.
        node: u64,
        /// The public key by which it vouched before.
        before: [u8; 32],
        /// The new one.
        public: [u8; 32],
        /// Why.
        reason: String,
    },
}

/// Where in the control group's log a change stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The entry's term.
    pub term: u64,
    /// Leaves of the cluster log.
    pub leaves: u64,
}

/// One generation of the zone's key with its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneKey {
    /// Number, public key, and when it was in force by the cluster log.
    pub generation: Generation,
    /// Why it was made; empty for the first one.
    pub reason: String,
    /// When it came into force; 0 for the first one.
    pub since_ns: u64,
    /// When it is to be retired, while another one signs beside it.
    pub retires_ns: Option<u64>,
    /// When it was retired.
    pub retired_ns: Option<u64>,
    /// True once no node has its seed.
    pub is_destroyed: bool,
}

/// A turn that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Why.
    pub reason: String,
    /// How long the old key signs on.
    pub overlap_ns: u64,
    /// When.
    pub at_ns: u64,
}

/// A key by which a node vouches or vouched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignerKey {
    /// The public key.
    pub public: [u8; 32],
    /// Why it was made; empty for the first one.
    pub reason: String,
    /// Since when; 0 for the first one.
    pub since_ns: u64,
    /// Until when, once there is a newer one.
    pub until_ns: Option<u64>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signing {
    keys: Vec<ZoneKey>,
    asked: Option<Asked>,
    cosigners: BTreeMap<u64, Vec<CosignerKey>>,
}

impl Signing {
    /// As a history of events has it.
    pub fn of(events: &[RevisedEventV1]) -> Self {
        let mut signing = Self::default();
        events.iter().for_each(|event| signing.fold(&event.event));
        signing
    }

    /// After one more event.
    pub fn fold(&mut self, event: &EventV1) {
        let EventV1::Signing(event) = event else { return };
        match event {
            SigningEventV1::Asked { reason, overlap_ns, at_ns } => {
                self.asked = Some(Asked { reason: reason.clone(), overlap_ns: *overlap_ns, at_ns: *at_ns });
            }
            SigningEventV1::Turned { generation, public, before, leaf, at_ns } => {
                self.turn(*generation, *public, *before, *leaf, *at_ns);
            }
            SigningEventV1::Retired { generation, leaf, at_ns } => {
                if let Some(key) = self.key_mut(*generation) {
                    (key.generation.until_leaf, key.retired_ns) = (Some(*leaf), Some(*at_ns));
                }
            }
            SigningEventV1::Destroyed { generation, .. } => {
                self.key_mut(*generation).into_iter().for_each(|key| key.is_destroyed = true);
            }
            SigningEventV1::Cosigner { node, before, public, reason, at_ns } => {
                let first = CosignerKey { public: *before, reason: String::new(), since_ns: 0, until_ns: None };
                let keys = self.cosigners.entry(*node).or_insert_with(|| vec![first]);
                keys.last_mut().into_iter().for_each(|key| key.until_ns = Some(*at_ns));
                keys.push(CosignerKey { public: *public, reason: reason.clone(), since_ns: *at_ns, until_ns: None });
            }
        }
    }

    fn turn(&mut self, number: u32, public: [u8; 32], before: [u8; 32], leaf: u64, at_ns: u64) {
        let key = |number, public, since_leaf, since_ns, reason| ZoneKey {
            generation: Generation { number, public, since_leaf, until_leaf: None },
            reason,
            since_ns,
            retires_ns: None,
            retired_ns: None,
            is_destroyed: false,
        };
        let asked = self.asked.take();
        if self.keys.is_empty() {
            self.keys.push(key(1, before, 0, 0, String::new()));
        }
        let retires_ns = at_ns.saturating_add(asked.as_ref().map_or(0, |asked| asked.overlap_ns));
        self.keys.last_mut().into_iter().for_each(|old| old.retires_ns = Some(retires_ns));
        self.keys.push(key(number, public, leaf, at_ns, asked.map(|asked| asked.reason).unwrap_or_default()));
    }

    fn key_mut(&mut self, generation: u32) -> Option<&mut ZoneKey> {
        self.keys.iter_mut().find(|key| key.generation.number == generation)
    }

    /// All generations of the zone's key, oldest first; none before the first turn: then there is the keyring's alone.
    pub fn keys(&self) -> &[ZoneKey] {
        &self.keys
    }

    /// The same, for whoever verifies.
    pub fn generations(&self) -> Generations {
        Generations(self.keys.iter().map(|key| key.generation).collect())
    }

    /// The turn that is under way.
    pub fn asked(&self) -> Option<&Asked> {
        self.asked.as_ref()
    }

    /// The number of the newest generation.
    pub fn newest(&self) -> u32 {
        self.keys.last().map_or(1, |key| key.generation.number)
    }

    /// The generation that signs beside the newest one.
    pub fn overlapping(&self) -> Option<&ZoneKey> {
        let (_, older) = self.keys.split_last()?;
        older.iter().find(|key| key.generation.is_in_force())
    }

    /// Generations that are retired and whose seeds may still be somewhere.
    pub fn retiring(&self) -> impl Iterator<Item = &ZoneKey> {
        self.keys.iter().filter(|key| !key.generation.is_in_force() && !key.is_destroyed)
    }

    /// The keys by which each node that ever turned its own vouches and vouched, oldest first.
    pub fn cosigners(&self) -> &BTreeMap<u64, Vec<CosignerKey>> {
        &self.cosigners
    }

    /// The key by which a node vouches now, where it ever turned its own.
    pub fn cosigner(&self, node: u64) -> Option<&CosignerKey> {
        self.cosigners.get(&node)?.last()
    }
}

/// The event that a change amounts to; `None` where everything is so already.
pub(super) fn event_of(state: &ControlState, ask: &SigningAskV1, place: Place) -> Result<Option<EventV1>, Problem> {
    let (signing, at_ns) = (Signing::of(state.events()), state.now_ns());
    let event = match ask {
        SigningAskV1::Rotate { reason, overlap_s } => rotate(&signing, reason, *overlap_s, place, at_ns)?,
        SigningAskV1::Turn { generation, public, before, term } => {
            let is_next = signing.asked.is_some() && *generation == signing.newest() + 1;
            if !is_next || *term != place.term {
                return Ok(None);
            }
            let (generation, public, before, leaf) = (*generation, *public, *before, place.leaves);
            Some(SigningEventV1::Turned { generation, public, before, leaf, at_ns })
        }
        SigningAskV1::Retire { generation } => {
            let is_over = |key: &&ZoneKey| {
                key.generation.number == *generation && key.retires_ns.is_some_and(|until_ns| until_ns <= at_ns)
            };
            signing.overlapping().filter(is_over).map(|_| retired(*generation, place, at_ns))
        }
        SigningAskV1::Destroyed { generation } => {
            let is_it = |key: &ZoneKey| key.generation.number == *generation;
            let generation = *generation;
            signing.retiring().any(is_it).then_some(SigningEventV1::Destroyed { generation, at_ns })
        }
        SigningAskV1::Cosigner { node, before, public, reason } => {
            cosigner(&signing, *node, *before, *public, reason, at_ns)?
        }
    };
    Ok(event.map(EventV1::Signing))
}

fn retired(generation: u32, place: Place, at_ns: u64) -> SigningEventV1 {
    SigningEventV1::Retired { generation, leaf: place.leaves, at_ns }
}

fn rotate(
    signing: &Signing,
    reason: &str,
    overlap_s: u64,
    place: Place,
    at_ns: u64,
) -> Result<Option<SigningEventV1>, Problem> {
    check_reason(reason)?;
    if overlap_s > OVERLAP_S_MAX {
        return Err(invalid(format!("the overlap is {overlap_s} s; {OVERLAP_S_MAX} are possible")));
    }
    if signing.asked.is_some() {
        return Ok(None);
    }
    if let Some(key) = signing.overlapping() {
        let generation = key.generation.number;
        return match overlap_s {
            0 => Ok(Some(retired(generation, place, at_ns))),
            _ => Err(invalid(format!(
                "generation {generation} of the zone's key still signs beside generation {}; an overlap of 0 (--now) ends that",
                signing.newest()
            ))),
        };
    }
    if signing.keys.len().max(1) >= GENERATIONS_MAX {
        return Err(invalid(format!(
            "the zone has had {GENERATIONS_MAX} signing keys, and has no room for another one"
        )));
    }
    let overlap_ns = overlap_s.saturating_mul(NANOS);
    Ok(Some(SigningEventV1::Asked { reason: reason.to_owned(), overlap_ns, at_ns }))
}

fn cosigner(
    signing: &Signing,
    node: u64,
    before: [u8; 32],
    public: [u8; 32],
    reason: &str,
    at_ns: u64,
) -> Result<Option<SigningEventV1>, Problem> {
    check_reason(reason)?;
    let keys = signing.cosigners.get(&node).map_or(&[][..], Vec::as_slice);
    if keys.last().is_some_and(|key| key.public == public) {
        return Ok(None);
    }
    if keys.iter().any(|key| key.public == public) || keys.last().is_some_and(|key| key.public != before) {
        return Err(invalid(format!("node {node} vouches by another key than it says; ask it again")));
    }
    if keys.len().max(1) >= GENERATIONS_MAX {
        return Err(invalid(format!(
            "node {node} has had {GENERATIONS_MAX} keys, and there is no room for another one"
        )));
    }
    Ok(Some(SigningEventV1::Cosigner { node, before, public, reason: reason.to_owned(), at_ns }))
}

fn check_reason(reason: &str) -> Result<(), Problem> {
    match reason.len() > NAME_BYTES_MAX {
        true => Err(invalid(format!("the reason has more than {NAME_BYTES_MAX} bytes"))),
        false => Ok(()),
    }
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;
