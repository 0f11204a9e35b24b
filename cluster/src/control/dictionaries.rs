//! Dictionaries that tenants gave for their own bodies: which are kept, and which each tenant's bodies are packed with. Pure.
//!
//! One that was kept once is kept for ever, because bodies may name it. It is in clear in the control group's log and on every
//! node, so it is taken only where somebody expressly gives it; nothing here makes one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nethical_audit::body::dictionary::name_of;
use nethical_audit::body::{Dictionaries, Dictionary};
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{ControlRevision, KeyedId};
use nethical_protocol::limits::{DICTIONARIES_MAX, DICTIONARY_BYTES_MAX};
use nethical_protocol::probe;

use super::{ControlState, EventV1, RevisedEventV1, invalid};

/// SHA-256 of a dictionary's bytes.
pub type DictionaryDigest = [u8; 32];

/// Something about dictionaries happened.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum DictionaryEventV1 {
    /// One is kept from now on, and a tenant's bodies are packed with it.
    Given {
        /// The tenant.
        tenant: String,
        /// SHA-256 of the bytes.
        digest: DictionaryDigest,
        /// As it was trained.
        bytes: Vec<u8>,
    },
    /// A tenant's bodies are packed with one that is kept, or with the built-in one.
    Chosen {
        /// The tenant.
        tenant: String,
        /// Which; `None` for the built-in one.
        digest: Option<DictionaryDigest>,
    },
}

impl DictionaryEventV1 {
    /// The tenant whose bodies it is about.
    pub fn tenant(&self) -> &str {
        let (Self::Given { tenant, .. } | Self::Chosen { tenant, .. }) = self;
        tenant
    }
}

/// What can be asked of the control group about dictionaries.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum DictionaryAskV1 {
    /// Keep it, and pack the tenant's bodies with it.
    Give {
        /// The tenant.
        tenant: String,
        /// SHA-256 of the bytes.
        digest: DictionaryDigest,
        /// The bytes, which the proposer has read as a dictionary.
        bytes: Vec<u8>,
    },
    /// Pack the tenant's bodies with the built-in one again.
    Leave {
        /// The tenant.
        tenant: String,
    },
}

/// The event that a question amounts to; `None` where everything is so already.
pub(super) fn event_of(state: &ControlState, ask: &DictionaryAskV1) -> Result<Option<EventV1>, Problem> {
    let (DictionaryAskV1::Give { tenant, .. } | DictionaryAskV1::Leave { tenant }) = ask;
    if !super::check::tenants(state).contains_key(tenant.as_str()) {
        return Err(Problem::new(Code::UnknownTenant, format!("there is no tenant {tenant:?}")));
    }
    let (kept, chosen) = history(state, tenant);
    let event = match ask {
        DictionaryAskV1::Leave { .. } => {
            chosen.map(|_| DictionaryEventV1::Chosen { tenant: tenant.clone(), digest: None })
        }
        DictionaryAskV1::Give { digest, .. } if chosen == Some(*digest) => None,
        DictionaryAskV1::Give { digest, .. } if kept.contains(digest) => {
            Some(DictionaryEventV1::Chosen { tenant: tenant.clone(), digest: Some(*digest) })
        }
        DictionaryAskV1::Give { digest, bytes, .. } => Some(given(&kept, tenant, *digest, bytes)?),
    };
    Ok(event.map(EventV1::Dictionary))
}

fn given(
    kept: &BTreeSet<DictionaryDigest>,
    tenant: &str,
    digest: DictionaryDigest,
    bytes: &[u8],
) -> Result<DictionaryEventV1, Problem> {
    if bytes.len() > DICTIONARY_BYTES_MAX {
        let detail = format!("the dictionary has {} bytes; at most {DICTIONARY_BYTES_MAX} are accepted", bytes.len());
        return Err(Problem::new(Code::TooLarge, detail));
    }
    if kept.len() >= DICTIONARIES_MAX {
        let detail = "dictionaries, and none ever goes because bodies may need it";
        return Err(invalid(format!("the zone keeps {DICTIONARIES_MAX} {detail}")));
    }
    if kept.iter().any(|other| name_of(other) == name_of(&digest)) {
        let name = hex::encode(name_of(&digest));
        return Err(invalid(format!("another dictionary is named {name}; train this one again with one sample more")));
    }
    Ok(DictionaryEventV1::Given { tenant: tenant.to_owned(), digest, bytes: bytes.to_vec() })
}

/// What the zone keeps, and what a tenant has chosen.
fn history(state: &ControlState, of: &str) -> (BTreeSet<DictionaryDigest>, Option<DictionaryDigest>) {
    let (mut kept, mut chosen) = (BTreeSet::new(), None);
    for event in state.events() {
        let EventV1::Dictionary(event) = &event.event else { continue };
        let (tenant, digest) = match event {
            DictionaryEventV1::Given { tenant, digest, .. } => {
                kept.insert(*digest);
                (tenant, Some(*digest))
            }
            DictionaryEventV1::Chosen { tenant, digest } => (tenant, *digest),
        };
        if tenant == of {
            chosen = digest;
        }
    }
    (kept, chosen)
}

/// One that is kept, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDictionary {
    /// Who gave it first.
    pub tenant: String,
    /// Its bytes.
    pub bytes: usize,
    /// The revision that keeps it.
    pub since: ControlRevision,
}

/// The zone's dictionaries as a node has them: ready to pack and to unpack with.
#[derive(Debug, Clone, Default)]
pub struct Shelf {
    known: Dictionaries,
    kept: BTreeMap<DictionaryDigest, KeptDictionary>,
    chosen: BTreeMap<KeyedId, (String, DictionaryDigest)>,
}

impl Shelf {
    /// Takes an event in. `tenant` is the id of the tenant that it names; without one nothing is packed with it.
    pub fn fold(&mut self, event: &RevisedEventV1, tenant: Option<KeyedId>) {
        let EventV1::Dictionary(change) = &event.event else { return };
        let (name, digest) = match change {
            DictionaryEventV1::Given { tenant, digest, bytes } => {
                let kept = KeptDictionary { tenant: tenant.clone(), bytes: bytes.len(), since: event.revision };
                self.kept.insert(*digest, kept);
                match Dictionary::read(bytes) {
                    Ok(dictionary) => self.known.add(Arc::new(dictionary)),
                    // Its leader could read it. Bodies stay as they are, and are packed with the built-in one here.
                    Err(error) => {
                        tracing::error!(digest = %hex::encode(digest), %error, "a dictionary is not read here")
                    }
                }
                (tenant, Some(*digest))
            }
            DictionaryEventV1::Chosen { tenant, digest } => (tenant, *digest),
        };
        match (tenant, digest) {
            (Some(tenant), Some(digest)) => drop(self.chosen.insert(tenant, (name.clone(), digest))),
            (Some(tenant), None) => {
                self.chosen.remove(&tenant);
                if probe::planted("left-dictionary-is-forgotten") {
                    self.known = Dictionaries::default();
                }
            }
            (None, _) => {}
        }
    }

    /// What a tenant's bodies are packed with; `None` for the built-in one.
    pub fn of(&self, tenant: &KeyedId) -> Option<Arc<Dictionary>> {
        self.chosen.get(tenant).and_then(|(_, digest)| self.known.get(&name_of(digest))).cloned()
    }

    /// All that bodies may name.
    pub fn known(&self) -> &Dictionaries {
        &self.known
    }

    /// All that are kept, by digest, each with the tenants whose bodies are packed with it.
    pub fn kept(&self) -> impl Iterator<Item = (&DictionaryDigest, &KeptDictionary, Vec<String>)> {
        self.kept.iter().map(|(digest, kept)| {
            let mut tenants: Vec<String> =
                self.chosen.values().filter(|(_, chosen)| chosen == digest).map(|(tenant, _)| tenant.clone()).collect();
            tenants.sort();
            (digest, kept, tenants)
        })
    }
}

#[cfg(test)]
#[path = "dictionaries_tests.rs"]
mod tests;
