//! Legal holds in the control group: what was ordered, and what an order forbids. Pure.
//!
//! Which of an erasure and a hold came first is decided here, by the order of the control group's log: what was erased before a
//! hold stays erased, and while a hold stands nothing is erased that it may cover.

use std::collections::BTreeMap;

use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::ControlRevision;
use nethical_protocol::limits::{LEGAL_HOLDS_MAX, LEGAL_HOLDS_STANDING_MAX, NAME_BYTES_MAX};
use nethical_protocol::retention::LegalScope;

use super::{ControlState, ErasureV1, EventV1, invalid};

/// A legal hold, as the zone remembers it. No name of an agent or a person is in here.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LegalHoldV1 {
    /// The tenant.
    pub tenant: String,
    /// What of it, under the tenant's key.
    pub scope: LegalScope,
    /// Records from this log time on …
    pub from_ns: u64,
    /// … and before this one; 0 for no end.
    pub to_ns: u64,
    /// Why.
    pub reason: String,
    /// Who asked for it, as given.
    pub by: String,
    /// When, by the control leader's wall clock, nanoseconds since 1970.
    pub at_ns: u64,
}

impl LegalHoldV1 {
    /// True where both order the same.
    pub fn is_same(&self, other: &Self) -> bool {
        *self == Self { at_ns: self.at_ns, ..other.clone() }
    }

    /// True where an erasure could take away what this keeps. An agent may have spoken of any person, and the control group
    /// does not know of whom.
    fn is_touched_by(&self, erasure: &ErasureV1) -> bool {
        let is_in_scope = match self.scope {
            LegalScope::Tenant => true,
            LegalScope::Agent(agent) => erasure.is_person || erasure.subject == agent,
            LegalScope::Person(person) => !erasure.is_person || erasure.subject == person,
        };
        self.tenant == erasure.tenant && is_in_scope
    }
}

/// The end of a legal hold.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LegalHoldLiftedV1 {
    /// The revision that set it.
    pub id: ControlRevision,
    /// Who asked for it, as given.
    pub by: String,
    /// When, by the control leader's wall clock, nanoseconds since 1970.
    pub at_ns: u64,
}

/// All legal holds by their ids, with their ends.
type Holds<'a> = BTreeMap<ControlRevision, (&'a LegalHoldV1, Option<&'a LegalHoldLiftedV1>)>;

fn all(state: &ControlState) -> Holds<'_> {
    let mut found = Holds::new();
    for event in state.events() {
        match &event.event {
            EventV1::LegalHold(hold) => {
                found.insert(event.revision, (hold, None));
            }
            EventV1::LegalHoldLifted(lifted) => {
                if let Some((_, end)) = found.get_mut(&lifted.id) {
                    *end = Some(lifted);
                }
            }
            _ => {}
        }
    }
    found
}

pub(super) fn set(state: &ControlState, asked: &LegalHoldV1) -> Result<Option<EventV1>, Problem> {
    let held = all(state);
    let mut standing = held.values().filter(|(_, end)| end.is_none());
    if standing.clone().any(|(hold, _)| hold.is_same(asked)) {
        return Ok(None);
    }
    if held.len() >= LEGAL_HOLDS_MAX {
        return Err(invalid(format!(
            "the zone remembers {LEGAL_HOLDS_MAX} legal holds, and has no room for another one"
        )));
    }
    if standing.by_ref().count() >= LEGAL_HOLDS_STANDING_MAX {
        return Err(invalid(format!("{LEGAL_HOLDS_STANDING_MAX} legal holds stand; lift one that nobody needs first")));
    }
    match super::check::tenants(state).contains_key(asked.tenant.as_str()) {
        true => Ok(Some(EventV1::LegalHold(LegalHoldV1 { at_ns: state.now_ns(), ..asked.clone() }))),
        false => Err(Problem::new(Code::UnknownTenant, format!("there is no tenant {:?}", asked.tenant))),
    }
}

pub(super) fn lift(state: &ControlState, id: ControlRevision, by: &str) -> Result<Option<EventV1>, Problem> {
    if by.len() > NAME_BYTES_MAX {
        return Err(invalid(format!("by has more than {NAME_BYTES_MAX} bytes")));
    }
    match all(state).get(&id) {
        None => Err(Problem::new(Code::NotFound, format!("there is no legal hold {id}"))),
        Some((_, Some(_))) => Ok(None),
        Some((_, None)) => {
            let lifted = LegalHoldLiftedV1 { id, by: by.to_owned(), at_ns: state.now_ns() };
            Ok(Some(EventV1::LegalHoldLifted(lifted)))
        }
    }
}

/// Refuses an erasure that a standing hold forbids, naming the oldest such hold.
pub(super) fn check_erasure(state: &ControlState, erasure: &ErasureV1) -> Result<(), Problem> {
    let held = all(state);
    let standing = held.iter().filter(|(_, (_, end))| end.is_none());
    let Some((id, (hold, _))) = standing.into_iter().find(|(_, (hold, _))| hold.is_touched_by(erasure)) else {
        return Ok(());
    };
    let why = match hold.reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    let what = format!("legal hold {id} on {} of tenant {} stands{why}", words(hold.scope), hold.tenant);
    let next = format!("nothing that it may cover is erased before `nethical audit legal-hold lift {id}`");
    Err(Problem::new(Code::LegalHold, format!("{what}; {next}")))
}

fn words(scope: LegalScope) -> String {
    match scope {
        LegalScope::Tenant => "everything".to_owned(),
        LegalScope::Agent(id) => format!("agent {id}"),
        LegalScope::Person(id) => format!("person {id}"),
    }
}

#[cfg(test)]
#[path = "legal_tests.rs"]
mod tests;
