//! The zone's policy bundles under their digests: which are kept, which is in force, and which gives way to a new one.
//!
//! Folded from control events, by the control group's state and by every node's view alike. A bundle that is let go is an
//! event of its own, so that folding never depends on texts that are no longer there.

use std::collections::BTreeMap;
use std::sync::Arc;

use nethical_governance::canary::Canary;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::ControlRevision;
use nethical_protocol::limits::{POLICY_BUNDLES_MAX, POLICY_STORE_BYTES_MAX};

use super::{EventV1, RevisedEventV1};

/// SHA-256 of a bundle's text.
pub type BundleDigest = [u8; 32];

/// A bundle that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its text; empty where it was let go later in the history that is being folded.
    pub text: Arc<str>,
    /// The revision that stored it.
    pub stored: ControlRevision,
    /// True once it has been in force: it then gives way to newer ones.
    pub was_active: bool,
}

/// All bundles of the zone at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bundles {
    kept: BTreeMap<BundleDigest, Kept>,
    active: Option<(BundleDigest, ControlRevision)>,
    previous: Option<BundleDigest>,
    shadow: Option<(BundleDigest, ControlRevision)>,
    canary: Option<(Canary, ControlRevision)>,
}

impl Bundles {
    /// After a history of events.
    pub fn of(events: &[RevisedEventV1]) -> Self {
        let mut bundles = Self::default();
        events.iter().for_each(|event| bundles.fold(event));
        bundles
    }

    /// After one event more.
    pub fn fold(&mut self, event: &RevisedEventV1) {
        match &event.event {
            EventV1::Policy { digest, text } => {
                self.keep(*digest, text, event.revision);
                self.activate(*digest, event.revision);
            }
            EventV1::BundleStored { digest, text } => self.keep(*digest, text, event.revision),
            EventV1::PolicyActivated { digest } => self.activate(*digest, event.revision),
            EventV1::BundleRemoved { digest } => {
                self.kept.remove(digest);
            }
            EventV1::PolicyShadowed { digest } => self.shadow = digest.map(|digest| (digest, event.revision)),
            EventV1::CanarySet { digest, percent } => {
                self.canary = Some((Canary { digest: *digest, percent: *percent }, event.revision));
            }
            EventV1::CanaryEnded => self.canary = None,
            _ => {}
        }
    }

    fn keep(&mut self, digest: BundleDigest, text: &str, stored: ControlRevision) {
        self.kept.insert(digest, Kept { text: text.into(), stored, was_active: false });
    }

    /// A candidate that is put in force has nothing left to be compared with: its shadow ends. What is put in force is in
    /// force for all: a canary ends, whichever it was.
    fn activate(&mut self, digest: BundleDigest, revision: ControlRevision) {
        self.previous = self.active().filter(|active| *active != digest).or(self.previous);
        self.active = Some((digest, revision));
        self.canary = None;
        self.shadow = self.shadow.filter(|(shadow, _)| *shadow != digest);
        if let Some(kept) = self.kept.get_mut(&digest) {
            kept.was_active = true;
        }
    }

    /// The bundle in force.
    pub fn active(&self) -> Option<BundleDigest> {
        self.active.map(|(digest, _)| digest)
    }

    /// The bundle that was in force before it.
    pub fn previous(&self) -> Option<BundleDigest> {
        self.previous
    }

    /// The candidate that is evaluated beside it.
    pub fn shadow(&self) -> Option<BundleDigest> {
        self.shadow.map(|(digest, _)| digest)
    }

    /// The candidate that decides for a share of agents, and the revision that gave it that share.
    pub fn canary(&self) -> Option<(Canary, ControlRevision)> {
        self.canary
    }

    /// A kept bundle.
    pub fn get(&self, digest: &BundleDigest) -> Option<&Kept> {
        self.kept.get(digest)
    }

    /// All kept bundles, in order of digest.
    pub fn all(&self) -> impl Iterator<Item = (&BundleDigest, &Kept)> {
        self.kept.iter()
    }

    /// `active`, `canary`, `shadow`, `previous` or `stored`, and the revision since which it is that (for `previous`, since which
    /// it is stored).
    pub fn standing(&self, digest: &BundleDigest) -> (&'static str, ControlRevision) {
        let stored = self.kept.get(digest).map_or(ControlRevision(0), |kept| kept.stored);
        match (self.active, self.canary, self.shadow) {
            (Some((active, since)), ..) if active == *digest => ("active", since),
            (_, Some((canary, since)), _) if canary.digest == *digest => ("canary", since),
            (.., Some((shadow, since))) if shadow == *digest => ("shadow", since),
            _ if self.previous == Some(*digest) => ("previous", stored),
            _ => ("stored", stored),
        }
    }

    fn is_needed(&self, digest: &BundleDigest) -> bool {
        let canary = self.canary.map(|(canary, _)| canary.digest);
        [self.active(), self.previous, self.shadow(), canary].contains(&Some(*digest))
    }

    /// The bundles that give way to a new one of `bytes`, oldest first: such as were in force and are not needed.
    ///
    /// # Errors
    /// `policy-store-full` where that is not enough: candidates never give way by themselves.
    pub fn room_for(&self, bytes: usize) -> Result<Vec<BundleDigest>, Problem> {
        let superseded = |(digest, kept): &(&BundleDigest, &Kept)| kept.was_active && !self.is_needed(digest);
        let mut superseded: Vec<_> = self.kept.iter().filter(superseded).collect();
        superseded.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.stored));
        let (mut count, mut held) = (self.kept.len() + 1, self.bytes() + bytes);
        let mut leaving = Vec::new();
        while count > POLICY_BUNDLES_MAX || held > POLICY_STORE_BYTES_MAX {
            let Some((digest, kept)) = superseded.pop() else { return Err(self.full()) };
            leaving.push(*digest);
            count -= 1;
            held -= kept.text.len();
        }
        Ok(leaving)
    }

    fn bytes(&self) -> usize {
        self.kept.values().map(|kept| kept.text.len()).sum()
    }

    fn full(&self) -> Problem {
        let (count, bytes) = (self.kept.len(), self.bytes());
        let detail = format!(
            "{count} bundles of {bytes} bytes are kept; at most {POLICY_BUNDLES_MAX} of {POLICY_STORE_BYTES_MAX} bytes are"
        );
        Problem::new(Code::PolicyStoreFull, detail)
    }

    /// Why a bundle may not be removed, where it may not.
    pub fn check_removal(&self, digest: &BundleDigest) -> Result<(), Problem> {
        self.check_kept(digest)?;
        match self.is_needed(digest) {
            true => Err(super::invalid(format!(
                "the bundle is needed ({}); only others are removed",
                self.standing(digest).0
            ))),
            false => Ok(()),
        }
    }

    /// `not-found` where the bundle is not kept.
    pub fn check_kept(&self, digest: &BundleDigest) -> Result<(), Problem> {
        let missing = || Problem::new(Code::NotFound, format!("no bundle {} is kept", hex::encode(digest)));
        self.kept.get(digest).map(|_| ()).ok_or_else(missing)
    }
}

/// The event of each question about bundles; `None` where everything is so already.
pub(super) mod ask {
    use super::*;
    use nethical_protocol::limits::POLICY_BYTES_MAX;

    /// Stores a bundle and puts it in force.
    pub fn put(bundles: &Bundles, digest: &BundleDigest, text: &str) -> Result<Option<EventV1>, Problem> {
        if bundles.active() == Some(*digest) && bundles.canary().is_none() {
            return Ok(None);
        }
        Ok(match store(bundles, digest, text)? {
            Some(_) => Some(EventV1::Policy { digest: *digest, text: text.into() }),
            None => Some(EventV1::PolicyActivated { digest: *digest }),
        })
    }

    /// Stores a bundle.
    pub fn store(bundles: &Bundles, digest: &BundleDigest, text: &str) -> Result<Option<EventV1>, Problem> {
        if text.len() > POLICY_BYTES_MAX {
            let detail = format!("the bundle has {} bytes; at most {POLICY_BYTES_MAX} are accepted", text.len());
            return Err(Problem::new(Code::TooLarge, detail));
        }
        if bundles.get(digest).is_some() {
            return Ok(None);
        }
        bundles.room_for(text.len())?;
        Ok(Some(EventV1::BundleStored { digest: *digest, text: text.into() }))
    }

    /// Puts a kept bundle in force, for all agents.
    pub fn activate(bundles: &Bundles, digest: &BundleDigest) -> Result<Option<EventV1>, Problem> {
        bundles.check_kept(digest)?;
        let is_so = bundles.active() == Some(*digest) && bundles.canary().is_none();
        Ok((!is_so).then_some(EventV1::PolicyActivated { digest: *digest }))
    }

    /// Lets a kept bundle decide for so many agents of a hundred, beside the one in force.
    pub fn canary(bundles: &Bundles, digest: &BundleDigest, percent: u8) -> Result<Option<EventV1>, Problem> {
        bundles.check_kept(digest)?;
        if !(1..=100).contains(&percent) {
            return Err(super::super::invalid(format!("a canary takes 1 to 100 percent of agents, not {percent}")));
        }
        match bundles.active() {
            None => return Err(super::super::invalid("no bundle is in force that a canary could stand beside")),
            Some(active) if active == *digest => {
                return Err(super::super::invalid("the bundle is in force; a canary is another one"));
            }
            Some(_) => {}
        }
        let is_so = bundles.canary().map(|(canary, _)| canary) == Some(Canary { digest: *digest, percent });
        Ok((!is_so).then_some(EventV1::CanarySet { digest: *digest, percent }))
    }

    /// Ends the canary where there is one; else puts the bundle in force that was in force before.
    pub fn rollback(bundles: &Bundles) -> Result<Option<EventV1>, Problem> {
        if bundles.canary().is_some() {
            return Ok(Some(EventV1::CanaryEnded));
        }
        let missing = || super::super::invalid("no other bundle was in force before this one");
        activate(bundles, &bundles.previous().ok_or_else(missing)?)
    }

    /// Lets a bundle go.
    pub fn remove(bundles: &Bundles, digest: &BundleDigest) -> Result<Option<EventV1>, Problem> {
        bundles.check_removal(digest).map(|()| Some(EventV1::BundleRemoved { digest: *digest }))
    }

    /// Evaluates a kept bundle beside the one in force, or none.
    pub fn shadow(bundles: &Bundles, digest: &Option<BundleDigest>) -> Result<Option<EventV1>, Problem> {
        if let Some(digest) = digest {
            bundles.check_kept(digest)?;
            if bundles.active() == Some(*digest) {
                return Err(super::super::invalid("the bundle is in force; a shadow is another one"));
            }
        }
        Ok((bundles.shadow() != *digest).then_some(EventV1::PolicyShadowed { digest: *digest }))
    }
}

#[cfg(test)]
#[path = "bundles_tests.rs"]
mod tests;
