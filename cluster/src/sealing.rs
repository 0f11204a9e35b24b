//! Under whose keys a body is sealed: the agent's, and that of the person whom the action is about.
//!
//! A key is made here for a subject that has none yet, and travels wrapped in the very command whose body it seals; apply
//! takes it into the state, or calls the command stale where another one was faster. Only a group's leader seals, and only
//! what it finds in the group's own state and its own ring keys. Nothing is opened for readers here (see `opening`).

use std::collections::BTreeMap;

use nethical_audit::body::{self, SealedFor};
use nethical_audit::keys::BodyKeys;
use nethical_audit::keys::subject::{unwrap_subject, wrap_subject};
use nethical_governance::command::ActorKeys;
use nethical_governance::ledger::{person_id, subject_id};
use nethical_governance::subject::{KeyUseV1, SealingV1, SubjectId, Subjects, WrappedV1};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{GroupId, KeyedId};
use nethical_protocol::sometimes;

use crate::lead::Lead;
use crate::shared::Shared;

/// Keys that one actor remembers.
const REMEMBERED_MAX: usize = 32;

/// The subjects' keys that were used last, opened. What the state says of a subject goes before what is remembered.
#[derive(Default)]
pub struct Sealer {
    known: BTreeMap<SubjectId, Known>,
}

struct Known {
    generation: u32,
    wrapped: WrappedV1,
    key: [u8; 32],
}

/// A body, sealed: what the command and the header carry.
pub struct Sealed {
    /// The stored bytes.
    pub bytes: Vec<u8>,
    /// Their commitment.
    pub commitment: [u8; 32],
    /// For the header.
    pub sealing: SealingV1,
}

impl Sealer {
    /// Seals a body of an agent, about a person where it names one.
    ///
    /// # Errors
    /// `not-ready` where the group's ring key is not here (yet), `overloaded` where the group has no room for another subject.
    pub fn seal(
        &mut self,
        lead: &Lead,
        actor: &ActorKeys,
        person: Option<KeyedId>,
        plaintext: &[u8],
    ) -> Result<Sealed, Problem> {
        let (agent_key, agent) = self.key_of(lead, subject_id(actor), Subjects::has_room)?;
        let of_person = |person| self.key_of(lead, person_id(actor, person), Subjects::has_room_for_person);
        let person = person.map(of_person).transpose()?.zip(person).map(|(key, person)| (person, key));
        let keys = BodyKeys::new(&agent_key, person.as_ref().map(|(_, (key, _))| key));
        let about = person.as_ref().map(|(person, (_, used))| (*person, used.generation));
        let sealed_for = SealedFor { generation: agent.generation, person: about };
        let dictionary = lead.shared().view().dictionaries().of(&actor.tenant);
        sometimes!(dictionary.is_some(), "a body was packed with its tenant's own dictionary");
        let id = lead.shared().command_id();
        let (bytes, commitment) = body::seal(&keys, sealed_for, &id, plaintext, dictionary.as_deref());
        let sealing = SealingV1 { agent, person: person.map(|(person, (_, used))| Box::new((person, used))) };
        Ok(Sealed { bytes, commitment, sealing })
    }

    /// A subject's key, and how the command is to speak of it.
    fn key_of(
        &mut self,
        lead: &Lead,
        id: SubjectId,
        has_room: fn(&Subjects) -> bool,
    ) -> Result<([u8; 32], KeyUseV1), Problem> {
        let (generation, held, ring, has_room) = {
            let machine = lead.machine().lock();
            let subjects = machine.ledger.subjects();
            let (generation, held) = subjects.key(&id);
            (generation, held, subjects.ring(), has_room(subjects))
        };
        if self.known.get(&id).is_some_and(|known| known.generation != generation) {
            // Its subject was erased since.
            self.known.remove(&id);
        }
        let known = self.known.get(&id);
        if let Some(held) = held {
            let key = known.filter(|known| known.wrapped == held).map(|known| known.key);
            let key = key.map_or_else(|| open(lead.shared(), lead.group(), &held), Ok)?;
            self.remember(id, Known { generation, wrapped: held, key });
            return Ok((key, KeyUseV1 { generation, fresh: None }));
        }
        let ring =
            ring.ok_or_else(|| Problem::new(Code::NotReady, "the group has no ring key yet").retry_after_ms(200))?;
        // One that is on its way in an earlier command is used again, so that both fit.
        if let Some(known) = known.filter(|known| known.wrapped.ring == ring) {
            return Ok((known.key, KeyUseV1 { generation, fresh: Some(Box::new(known.wrapped)) }));
        }
        if !has_room && generation == 0 {
            return Err(Problem::new(Code::Overloaded, "the group has no room for the keys of more subjects"));
        }
        let known = fresh(lead.shared(), lead.group(), ring, generation)?;
        let told = (known.key, KeyUseV1 { generation, fresh: Some(Box::new(known.wrapped)) });
        self.remember(id, known);
        Ok(told)
    }

    fn remember(&mut self, id: SubjectId, known: Known) {
        if self.known.len() >= REMEMBERED_MAX && !self.known.contains_key(&id) {
            self.known.clear();
        }
        self.known.insert(id, known);
    }
}

/// A new key under a ring key that this node holds.
fn fresh(shared: &Shared, group: GroupId, ring: u64, generation: u32) -> Result<Known, Problem> {
    let ring_key = shared.ring_keys.get(group, ring).ok_or_else(lacking)?;
    let (mut key, mut nonce) = ([0; 32], [0; 12]);
    shared.world.scope.fill(&mut key);
    shared.world.scope.fill(&mut nonce);
    let wrapped = WrappedV1 { ring, bytes: wrap_subject(&ring_key, nonce, &key) };
    Ok(Known { generation, wrapped, key })
}

/// A wrapped key, opened by a ring key that this node holds.
///
/// # Errors
/// `not-ready` where it does not hold it.
pub fn open(shared: &Shared, group: GroupId, wrapped: &WrappedV1) -> Result<[u8; 32], Problem> {
    let ring_key = shared.ring_keys.get(group, wrapped.ring).ok_or_else(lacking)?;
    let broken = || Problem::new(Code::Internal, "a subject's key does not open under its ring key");
    unwrap_subject(&ring_key, &wrapped.bytes).ok_or_else(broken)
}

fn lacking() -> Problem {
    Problem::new(Code::NotReady, "the group's ring key is on its way to this node").retry_after_ms(200)
}
