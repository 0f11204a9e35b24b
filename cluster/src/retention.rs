//! From a record to what the rule of retention looks at: who it is about, of which class, and when.
//!
//! The rule itself is the ledger's, over what its group has applied: whoever drops bytes asks [`may_drop`] with a copy of that.
//! Nothing here drops anything.

use nethical_audit::leaf::LeafV1;
use nethical_audit::{body, retention};
use nethical_governance::ledger::Ledger;
use nethical_governance::outcome::RiskTier;
use nethical_governance::retention::{BodyFacts, Retention};
use sha2::{Digest, Sha256};

/// What is looked at of a body; none for a record without a sealed one, which never expires.
pub fn facts_of(leaf: &LeafV1, stored: &[u8]) -> Option<BodyFacts> {
    let class = retention::class_of(&leaf.event)?;
    let (_, tenant, agent) = leaf.event.agent()?;
    let person = body::sealed_for(stored).and_then(|sealed_for| sealed_for.person).map(|(person, _)| person);
    Some(BodyFacts { tenant, agent, person, class, at_ns: leaf.now_ns })
}

/// True where nobody may read a record's body any more, by what a group has applied.
pub fn is_expired(ledger: &Ledger, leaf: &LeafV1, stored: &[u8]) -> bool {
    facts_of(leaf, stored).is_some_and(|body| ledger.retention().is_expired(&body, ledger.now_ns()))
}

/// True where the bytes of a record's body may go for good at a log time, by what its group had applied then. What one replica
/// may drop has expired on all of them, and stays so.
pub fn may_drop(retention: &Retention, now_ns: u64, leaf: &LeafV1, stored: &[u8]) -> bool {
    !stored.is_empty() && facts_of(leaf, stored).is_some_and(|body| retention.may_drop(&body, now_ns))
}

/// True where there was a body behind a leaf that is not there any more.
pub fn is_dropped(leaf: &LeafV1, stored: &[u8]) -> bool {
    let none: [u8; 32] = Sha256::digest([]).into();
    stored.is_empty() && leaf.body_commitment != none
}

const _: () = assert!(RiskTier::High as u8 == retention::TIER_HIGH);
