//! A canary: which of two bundles decides for an agent, while a candidate is tried on a share of them.
//!
//! A function of the agent's keyed id and of what the control revision said, and of nothing else: every replica, every
//! leader and every replay come to the same, and an agent sees one bundle as long as the revision stands. Frozen.

use nethical_protocol::ids::KeyedId;
use sha2::{Digest, Sha256};

/// A candidate that decides for some agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Canary {
    /// SHA-256 of its text.
    pub digest: [u8; 32],
    /// Agents of a hundred, 1 to 100.
    pub percent: u8,
}

impl Canary {
    /// True where the candidate decides for the agent. Raising the percentage only adds agents; another candidate begins
    /// with others.
    pub fn takes(&self, agent: KeyedId) -> bool {
        let percent = u128::from(self.percent);
        percent >= 100 || u128::from(point(&self.digest, agent)) * 100 < percent << 64
    }
}

/// Where an agent stands on the candidate's scale of 2^64.
fn point(digest: &[u8; 32], agent: KeyedId) -> u64 {
    let mut hash = Sha256::new_with_prefix(b"nethical canary 1");
    hash.update(digest);
    hash.update(agent.0);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(number: u32) -> KeyedId {
        let mut id = KeyedId([7; 16]);
        id.0[..4].copy_from_slice(&number.to_le_bytes());
        id
    }

    fn taken(digest: u8, percent: u8) -> Vec<u32> {
        let canary = Canary { digest: [digest; 32], percent };
        (0..10_000).filter(|number| canary.takes(agent(*number))).collect()
    }

    #[test]
    fn a_wider_canary_keeps_its_agents_and_its_share_is_what_was_asked() {
        let mut before: Vec<u32> = Vec::new();
        for percent in 0..=100 {
            let now = taken(1, percent);
            assert!(before.iter().all(|number| now.binary_search(number).is_ok()), "{percent} % lost an agent");
            let asked = usize::from(percent) * 100;
            assert!(now.len().abs_diff(asked) <= 150, "{percent} % took {} of 10,000", now.len());
            before = now;
        }
        assert_eq!((taken(1, 0).len(), before.len()), (0, 10_000));
    }

    #[test]
    fn another_candidate_begins_with_other_agents() {
        let (one, other) = (taken(1, 10), taken(2, 10));
        let both = one.iter().filter(|number| other.contains(number)).count();
        assert!(both < 200, "{both} of about 1,000 are the same");
    }

    #[test]
    fn the_scale_never_moves() {
        assert_eq!(point(&[1; 32], KeyedId([2; 16])), 6_490_383_360_505_575_415);
    }
}
