//! What apply does with the keys that bodies are sealed under. It never opens one.

use nethical_protocol::ids::{ControlRevision, KeyedId};
use nethical_protocol::sometimes;

use super::Ledger;
use crate::command::{ActorKeys, DecideV1};
use crate::outcome::{OutcomeV1, Stale};
use crate::subject::{ColdPutV1, ErasureState, KeyUseV1, RewrapV1, SubjectId, Subjects};

impl Ledger {
    /// The keys of subjects, wrapped.
    pub fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// How far erasures have come here.
    pub fn erasure_state(&self) -> ErasureState {
        self.subjects.state(self.control_rev)
    }

    /// Stale where the body could not be opened by what the state holds: another one must be sealed.
    pub(super) fn check_keys(&self, decide: &DecideV1) -> Result<(), Stale> {
        let Some(sealing) = &decide.sealing else { return Ok(()) };
        self.check_key(&subject_id(&decide.actor), Some(&sealing.agent))?;
        match sealing.person.as_deref() {
            Some((person, used)) => {
                let id = person_id(&decide.actor, *person);
                if self.subjects.admits_person(&id) { self.check_key(&id, Some(used)) } else { Err(Stale::Keys) }
            }
            None => Ok(()),
        }
    }

    /// As [`Ledger::check_keys`], for a body that is sealed under the agent's key alone.
    pub(super) fn check_key(&self, id: &SubjectId, used: Option<&KeyUseV1>) -> Result<(), Stale> {
        match used.is_none_or(|used| self.subjects.fits(id, used)) {
            true => Ok(()),
            false => {
                sometimes!(true, "a subject's key changed while a body was sealed");
                Err(Stale::Keys)
            }
        }
    }

    pub(super) fn take_keys(&mut self, decide: &DecideV1) {
        let Some(sealing) = &decide.sealing else { return };
        self.take_key(subject_id(&decide.actor), Some(&sealing.agent));
        if let Some((person, used)) = sealing.person.as_deref() {
            self.take_key(person_id(&decide.actor, *person), Some(used));
        }
    }

    pub(super) fn take_key(&mut self, id: SubjectId, used: Option<&KeyUseV1>) {
        if let Some(used) = used {
            self.subjects.take(id, used);
        }
    }

    pub(super) fn erase_subject(&mut self, tenant: KeyedId, subject: KeyedId, at: ControlRevision) {
        let erased = self.subjects.erase(tenant, subject, at);
        sometimes!(erased > 0, "a subject's key was erased");
    }

    pub(super) fn turn_ring(&mut self, ring: u64) -> OutcomeV1 {
        match self.subjects.turn(ring, self.control_rev) {
            true => OutcomeV1::KeysChanged,
            false => OutcomeV1::NoEffect,
        }
    }

    pub(super) fn rewrap(&mut self, rewrap: &RewrapV1) -> OutcomeV1 {
        match self.subjects.rewrap(rewrap) {
            true => OutcomeV1::KeysChanged,
            false => OutcomeV1::NoEffect,
        }
    }

    pub(super) fn put_cold(&mut self, put: &ColdPutV1) -> OutcomeV1 {
        match self.subjects.put_cold(put, self.next_leaf) {
            true => OutcomeV1::KeysChanged,
            false => OutcomeV1::NoEffect,
        }
    }

    /// An erasure under which nothing was sealed makes no leaf: there is nothing to tell.
    pub(super) fn settle_erasures(&mut self, past: &[u64]) -> OutcomeV1 {
        match self.subjects.settle(past) {
            None => OutcomeV1::NoEffect,
            Some(told) if told.is_empty() => OutcomeV1::KeysChanged,
            Some(told) => {
                sometimes!(true, "an erasure was complete");
                OutcomeV1::Erased(told)
            }
        }
    }
}

/// Under which a person's key is kept of whom an agent speaks.
pub fn person_id(actor: &ActorKeys, person: KeyedId) -> SubjectId {
    SubjectId { slot: actor.slot, tenant: actor.tenant, subject: person }
}

/// Under which an agent's key is kept.
pub fn subject_id(actor: &ActorKeys) -> SubjectId {
    SubjectId { slot: actor.slot, tenant: actor.tenant, subject: actor.agent }
}
