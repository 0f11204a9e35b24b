//! From a record to what the rule of retention looks at: who it is about, of which class, and when.
//!
//! The rule itself is the ledger's, over what its group has applied. Nothing here drops anything ([`crate::tier`] does).

use nethical_audit::body::SealedFor;
use nethical_audit::leaf::LeafV1;
use nethical_audit::{body, retention};
use nethical_governance::ledger::Ledger;
use nethical_governance::outcome::RiskTier;
use nethical_governance::retention::BodyFacts;

/// What is looked at of a body that is or was sealed; none where its leaf is of no class, and for a record that never had one.
pub fn facts_of(leaf: &LeafV1, sealed_for: Option<SealedFor>) -> Option<BodyFacts> {
    let person = sealed_for?.person.map(|(person, _)| person);
    let class = retention::class_of(&leaf.event)?;
    let (_, tenant, agent) = leaf.event.agent()?;
    Some(BodyFacts { tenant, agent, person, class, at_ns: leaf.now_ns })
}

/// True where nobody may read a record's body any more, by what a group has applied.
pub fn is_expired(ledger: &Ledger, leaf: &LeafV1, stored: &[u8]) -> bool {
    let of = body::sealed_for(stored).or_else(|| body::away_of(stored)?.sealed_for());
    facts_of(leaf, of).is_some_and(|body| ledger.retention().is_expired(&body, ledger.now_ns()))
}

const _: () = assert!(RiskTier::High as u8 == retention::TIER_HIGH);
