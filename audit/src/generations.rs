//! Generations of the zone's signing key: one Ed25519 key each, under the name of every log, and which leaves of the cluster
//! log each may have signed.
//!
//! A checkpoint names no time. The cluster log has an order, and the control group turns and retires keys between two of its
//! leaves: that says when a generation was in force, to the leaf. Public halves only.

use crate::note::{KeyKind, NoteError, VerifierKey};

/// Generations that a zone may have.
pub const GENERATIONS_MAX: usize = 256;

/// One generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// From 1.
    pub number: u32,
    /// The public key of all logs.
    pub public: [u8; 32],
    /// Leaves that the cluster log had when it came into force.
    pub since_leaf: u64,
    /// Leaves that it had when it was retired; none while it is in force.
    pub until_leaf: Option<u64>,
}

impl Generation {
    /// The verifier key under a log's name.
    ///
    /// # Errors
    /// Where the origin cannot be a key's name.
    pub fn key(&self, origin: &str) -> Result<VerifierKey, NoteError> {
        VerifierKey::new(origin, KeyKind::Log, self.public)
    }

    /// True while checkpoints are signed by it.
    pub fn is_in_force(&self) -> bool {
        self.until_leaf.is_none()
    }

    /// True where it was in force when the cluster log got this leaf.
    pub fn covers(&self, leaf: u64) -> bool {
        self.since_leaf <= leaf && self.until_leaf.is_none_or(|until| leaf < until)
    }
}

/// All generations that there were, oldest first. None where nothing is known of them: then nothing is held against them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Generations(pub Vec<Generation>);

impl Generations {
    /// The verifier keys of a log, of all generations, newest first.
    pub fn keys(&self, origin: &str) -> Vec<VerifierKey> {
        self.0.iter().rev().filter_map(|generation| generation.key(origin).ok()).collect()
    }

    /// Those by which the log's checkpoints are signed now, newest first.
    pub fn keys_in_force(&self, origin: &str) -> Vec<VerifierKey> {
        let in_force = self.0.iter().rev().filter(|generation| generation.is_in_force());
        in_force.filter_map(|generation| generation.key(origin).ok()).collect()
    }

    /// The generation whose key of that log has this id.
    pub fn of_key(&self, origin: &str, key_id: u32) -> Option<&Generation> {
        self.0.iter().find(|generation| generation.key(origin).is_ok_and(|key| key.id() == key_id))
    }

    /// Whether the key with this id could sign a leaf of the cluster log at that place. Where no generation is known, any could.
    ///
    /// # Errors
    /// Why not, for a person.
    pub fn may_have_signed(&self, origin: &str, key_id: u32, leaf: u64) -> Result<(), String> {
        if self.0.is_empty() {
            return Ok(());
        }
        match self.of_key(origin, key_id) {
            Some(generation) if generation.covers(leaf) => Ok(()),
            Some(Generation { number, .. }) => {
                Err(format!("it is signed by generation {number} of the zone's key, which was not in force then"))
            }
            None => Err(format!("the zone never had the key {key_id:08x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Signer;

    const ORIGIN: &str = "demo/p/3/1";

    fn generation(number: u32, since_leaf: u64, until_leaf: Option<u64>) -> (Generation, u32) {
        let key = Signer::from_seed(ORIGIN, &[number as u8; 32]).expect("a good name").verifier_key();
        (Generation { number, public: *key.public(), since_leaf, until_leaf }, key.id())
    }

    #[test]
    fn a_generation_signs_between_its_turn_and_its_end_and_two_do_while_they_overlap() {
        let ((one, old), (two, new)) = (generation(1, 0, Some(9)), generation(2, 5, None));
        let known = Generations(vec![one, two]);
        for (key, leaf, may) in [(old, 4, true), (old, 8, true), (old, 9, false), (new, 4, false), (new, 900, true)] {
            assert_eq!(known.may_have_signed(ORIGIN, key, leaf).is_ok(), may, "{key:08x} at {leaf}");
        }
        assert!(known.may_have_signed(ORIGIN, 7, 6).is_err(), "a stranger");
        assert!(known.may_have_signed("demo/p/4/1", old, 4).is_err(), "an id is of one name");
        assert!(Generations::default().may_have_signed(ORIGIN, 7, 6).is_ok());
        let ids = |keys: Vec<VerifierKey>| keys.iter().map(VerifierKey::id).collect::<Vec<_>>();
        assert_eq!((ids(known.keys(ORIGIN)), ids(known.keys_in_force(ORIGIN))), (vec![new, old], vec![new]));
    }
}
