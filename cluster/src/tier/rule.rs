//! Which bodies may go from a log's segments: the one place that says so, by what this replica has applied.
//!
//! A body may go as *erased* once the log says that a key that it needs is gone for good: its bytes open for nobody. It may go as
//! *expired* some time after nobody may read it any more, unless a legal hold keeps it. [`Rule::stamp`] moves when the answers
//! change: segments are looked through again then, for what time alone has ended once a day. Pure but for how it is made; what
//! it says holds for the state that it was made of.

use std::collections::BTreeMap;

use nethical_audit::body::{Reason, SealedFor};
use nethical_audit::leaf::LeafV1;
use nethical_governance::retention::Retention;
use nethical_governance::subject::SubjectId;
use nethical_protocol::ids::{KeyedId, Slot};
use nethical_protocol::probe;

use crate::node::Core;
use crate::retention::facts_of;
use crate::store::AuditStore;

/// Log time after which segments are looked through for what has expired since, seconds.
const LOOK_S: u64 = 24 * 3_600;

/// What may go, as one replica knew it at one moment.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// Subjects whose keys below a generation are gone for good.
    gone: BTreeMap<SubjectId, u32>,
    /// How long bodies are kept, and at which log time that is asked.
    retention: Retention,
    now_ns: u64,
    is_current: bool,
    /// Leaves whose bodies are in cold files: the first one of each file, and the one behind it.
    cold: BTreeMap<u64, u64>,
}

impl Rule {
    /// By what is applied of a log's group here. A log that is of no partition has no bodies.
    pub fn of(core: &Core, store: &AuditStore) -> Self {
        let stored = store.stored().0;
        let Some(replica) = core.partition(store.log().group) else { return Self::default() };
        let machine = replica.machine.lock();
        // After a start, what is applied may be behind what this node has dropped bodies by.
        let (gone, is_current) = (machine.ledger.subjects().gone(), machine.tree().0 >= stored);
        let cold = machine.ledger.subjects().cold_files().map(|file| (file.first, file.next())).collect();
        let (retention, now_ns) = (machine.ledger.retention().clone(), machine.ledger.now_ns());
        Self { gone, retention, now_ns, is_current, cold }
    }

    /// True where all is applied that this node's segments were written by: only then a dropped body can be judged.
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    /// A number that changes with the answers.
    pub fn stamp(&self) -> u64 {
        let look_ns = probe::knob("retention.look-s", LOOK_S).saturating_mul(1_000_000_000).max(1);
        let gone: u64 = self.gone.values().map(|below| u64::from(*below)).sum();
        gone.wrapping_add(self.retention.stamp()).wrapping_add(self.now_ns / look_ns)
    }

    /// Why the body of a leaf may go, by whose keys it is sealed under; none where it is to stay.
    pub fn may_drop(&self, leaf: &LeafV1, sealed_for: Option<SealedFor>) -> Option<Reason> {
        if self.is_gone(leaf, sealed_for?) {
            return Some(Reason::Erased);
        }
        self.has_expired(leaf, sealed_for).then_some(Reason::Expired)
    }

    /// True where a body that was dropped for a reason may be gone for it, also where it would not be dropped now.
    pub fn permits(&self, leaf: &LeafV1, sealed_for: Option<SealedFor>, reason: Reason) -> bool {
        match reason {
            Reason::Erased => sealed_for.is_some_and(|sealed_for| self.is_gone(leaf, sealed_for)),
            Reason::Expired => self.has_expired(leaf, sealed_for),
            Reason::Away => self.is_cold(leaf.leaf_index),
        }
    }

    /// True where a cold file has, or may have, a leaf's body.
    pub fn is_cold(&self, leaf_index: u64) -> bool {
        self.cold.range(..=leaf_index).next_back().is_some_and(|(_, next)| leaf_index < *next)
    }

    /// That the keys of one subject in slot 0 are gone.
    #[cfg(test)]
    pub fn for_tests(tenant: KeyedId, subject: KeyedId, below: u32) -> Self {
        let gone = BTreeMap::from([(SubjectId { slot: Slot(0), tenant, subject }, below)]);
        Self { gone, is_current: true, ..Self::default() }
    }

    fn has_expired(&self, leaf: &LeafV1, sealed_for: Option<SealedFor>) -> bool {
        facts_of(leaf, sealed_for).is_some_and(|body| self.retention.may_drop(&body, self.now_ns))
    }

    fn is_gone(&self, leaf: &LeafV1, sealed_for: SealedFor) -> bool {
        let Some((slot, tenant, agent)) = leaf.event.agent() else { return false };
        let is_below = |subject: KeyedId, generation: u32| {
            let id = SubjectId { slot: Slot(slot), tenant, subject };
            self.gone.get(&id).is_some_and(|below| generation < *below)
        };
        is_below(agent, sealed_for.generation) || sealed_for.person.is_some_and(|(person, of)| is_below(person, of))
    }
}

#[cfg(test)]
mod tests {
    use nethical_audit::leaf::{DecisionLeaf, LeafEvent};

    use super::*;

    const fn id(number: u8) -> KeyedId {
        KeyedId([number; 16])
    }

    fn leaf(slot: u16, agent: u8) -> LeafV1 {
        let decision = DecisionLeaf { slot, tenant: id(1), agent: id(agent), ..DecisionLeaf::default() };
        let event = LeafEvent::Decision(Box::new(decision));
        LeafV1 { group: 2, era: 1, leaf_index: 0, now_ns: 0, term: 1, body_commitment: [0; 32], event }
    }

    #[test]
    fn a_body_goes_once_one_of_its_keys_is_gone_and_no_other_body_does() {
        let subject = |slot, subject| SubjectId { slot: Slot(slot), tenant: id(1), subject: id(subject) };
        let gone = BTreeMap::from([(subject(3, 7), 2), (subject(3, 50), 1)]);
        let rule = Rule { gone, is_current: true, ..Rule::default() };
        let of = |generation, person| Some(SealedFor { generation, person });
        let erased = Some(Reason::Erased);
        assert_eq!(rule.may_drop(&leaf(3, 7), of(1, None)), erased);
        assert_eq!(rule.may_drop(&leaf(3, 7), of(2, None)), None, "a key that came after");
        assert_eq!(rule.may_drop(&leaf(4, 7), of(1, None)), None, "another slot");
        assert_eq!(rule.may_drop(&leaf(3, 8), of(0, Some((id(50), 0)))), erased, "about a person who is gone");
        assert_eq!(rule.may_drop(&leaf(3, 8), of(0, Some((id(50), 1)))), None);
        assert_eq!(rule.may_drop(&leaf(3, 7), None), None, "a plain body has no key");
        assert!(rule.permits(&leaf(3, 7), of(1, None), Reason::Erased));
        assert!(!rule.permits(&leaf(3, 7), of(1, None), Reason::Expired), "it is not that old");
    }
}
