//! Where a run's chance comes from: one seed, forked by purpose.
//!
//! Forks are named, not counted, so that a new purpose never moves the others.

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use sha2::{Digest, Sha256};

/// Dice for one purpose of one run.
pub fn fork(seed: u64, purpose: &str) -> ChaCha12Rng {
    ChaCha12Rng::from_seed(seed_of(seed, purpose))
}

/// The bytes from which [`fork`] starts.
pub fn seed_of(seed: u64, purpose: &str) -> [u8; 32] {
    Sha256::new_with_prefix(seed.to_le_bytes()).chain_update(purpose).finalize().into()
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn forks_depend_on_seed_and_purpose_alone() {
        assert_eq!(fork(1, "wire").next_u64(), fork(1, "wire").next_u64());
        assert_ne!(fork(1, "wire").next_u64(), fork(1, "disk").next_u64());
        assert_ne!(fork(1, "wire").next_u64(), fork(2, "wire").next_u64());
    }
}
