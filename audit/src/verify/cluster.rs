//! What the cluster log says of partitions' logs, to be held against them: at that many leaves, this root.
//!
//! Believes nothing of a leaf before its log's key signed it, where keys are given.

use std::collections::BTreeMap;

use nethical_protocol::ids::LogId;

use crate::cluster::ClusterLeaf;
use crate::generations::Generations;
use crate::note::VerifierKey;
use crate::tree::{Frontier, Hash};

/// What one leaf of the cluster log claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The leaf.
    pub index: u64,
    /// Leaves of the partition's log.
    pub size: u64,
    /// Their root.
    pub root: Hash,
}

/// The claims of a cluster log, by the log that they speak of, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    by_log: BTreeMap<LogId, Vec<Claim>>,
    leaves: u64,
}

/// A claim does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheld {
    /// The claim.
    pub claim: Claim,
    /// What is wrong, for a person.
    pub reason: String,
}

impl Claims {
    /// Takes the cluster log's next leaf in. Signatures are checked where `keys` are given, and that the key was in force when
    /// the leaf was added where `generations` are.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn add(
        &mut self,
        cluster: &str,
        leaf: &[u8],
        keys: &[VerifierKey],
        generations: &Generations,
    ) -> Result<(), String> {
        let opened = match keys.is_empty() {
            true => ClusterLeaf::decode(cluster, leaf),
            false => ClusterLeaf::open(cluster, leaf, keys),
        };
        let ClusterLeaf { log, checkpoint, key_id } = opened.map_err(|error| error.to_string())?;
        generations.may_have_signed(&checkpoint.origin, key_id, self.leaves)?;
        let claims = self.by_log.entry(log).or_default();
        if let Some(last) = claims.last().filter(|last| last.size >= checkpoint.size) {
            let origin = checkpoint.origin;
            return Err(format!("leaf {} has a checkpoint of {origin} that covers as much already", last.index));
        }
        claims.push(Claim { index: self.leaves, size: checkpoint.size, root: checkpoint.root });
        self.leaves += 1;
        Ok(())
    }

    /// Leaves taken in.
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// The logs spoken of.
    pub fn logs(&self) -> impl Iterator<Item = LogId> + '_ {
        self.by_log.keys().copied()
    }

    /// The claims about one log, in order.
    pub fn of(&self, log: LogId) -> &[Claim] {
        self.by_log.get(&log).map_or(&[], Vec::as_slice)
    }

    /// Holds the claims about a log against its leaves' hashes. Gives those that cover more leaves than there are.
    ///
    /// # Errors
    /// The first claim with another root than these leaves have.
    pub fn hold(&self, log: LogId, hashes: &[Hash]) -> Result<&[Claim], Unheld> {
        let (mut tree, claims) = (Frontier::default(), self.of(log));
        for (at, claim) in claims.iter().enumerate() {
            let Some(next) = usize::try_from(claim.size).ok().and_then(|size| hashes.get(tree.size() as usize..size))
            else {
                return Ok(&claims[at..]);
            };
            next.iter().for_each(|hash| tree.append(*hash));
            claim.check(&tree)?;
        }
        Ok(&[])
    }
}

impl Claim {
    /// Holds the claim against a tree of as many leaves.
    ///
    /// # Errors
    /// Where the tree has another root.
    pub fn check(&self, tree: &Frontier) -> Result<(), Unheld> {
        match tree.size() == self.size && tree.root() == self.root {
            true => Ok(()),
            false => Err(Unheld {
                claim: *self,
                reason: format!(
                    "leaf {} of the cluster log has another root of these {} leaves",
                    self.index, self.size
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::note::Signer;
    use crate::tree::{leaf_hash, root_of};
    use nethical_protocol::ids::GroupId;

    const LOG: LogId = LogId { group: GroupId(3), era: 1 };

    fn signer() -> Signer {
        Signer::from_seed("demo/p/3/1", &[7; 32]).expect("a good name")
    }

    fn leaf(hashes: &[Hash]) -> String {
        Checkpoint { origin: "demo/p/3/1".into(), size: hashes.len() as u64, root: root_of(hashes) }.sign(&signer())
    }

    fn hashes(count: u8) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&[n])).collect()
    }

    fn claims(keys: &[VerifierKey]) -> Claims {
        let mut claims = Claims::default();
        for count in [2, 5, 9] {
            claims.add("demo", leaf(&hashes(count)).as_bytes(), keys, &Generations::default()).expect("a checkpoint");
        }
        claims
    }

    #[test]
    fn a_log_that_grew_as_the_cluster_log_says_holds() {
        let claims = claims(&[signer().verifier_key()]);
        assert_eq!((claims.leaves(), claims.hold(LOG, &hashes(12)).expect("it holds")), (3, &[] as &[Claim]));
        let beyond = claims.hold(LOG, &hashes(8)).expect("what is there holds");
        assert_eq!(beyond.iter().map(|claim| (claim.index, claim.size)).collect::<Vec<_>>(), [(2, 9)]);
    }

    #[test]
    fn the_first_claim_that_another_history_breaks_is_named() {
        let mut other = hashes(12);
        other[3] = leaf_hash(b"changed");
        assert_eq!(claims(&[]).hold(LOG, &other).expect_err("changed").claim.index, 1);
    }

    #[test]
    fn strangers_and_checkpoints_that_say_no_more_are_refused() {
        let mut claims = claims(&[]);
        assert!(
            claims.add("demo", leaf(&hashes(9)).as_bytes(), &[], &Generations::default()).is_err(),
            "the same again"
        );
        assert!(
            claims.add("other", leaf(&hashes(10)).as_bytes(), &[], &Generations::default()).is_err(),
            "another cluster"
        );
        let stranger = Signer::from_seed("demo/p/3/1", &[8; 32]).expect("a good name").verifier_key();
        assert!(
            claims.add("demo", leaf(&hashes(10)).as_bytes(), &[stranger], &Generations::default()).is_err(),
            "not signed by the log"
        );
        assert_eq!(claims.leaves(), 3);
    }

    #[test]
    fn a_leaf_that_a_retired_key_signed_is_refused_behind_its_end() {
        use crate::generations::Generation;
        let public = *signer().verifier_key().public();
        let until = |until_leaf| Generations(vec![Generation { number: 1, public, since_leaf: 0, until_leaf }]);
        let mut claims = Claims::default();
        claims.add("demo", leaf(&hashes(2)).as_bytes(), &[], &until(Some(1))).expect("before its end");
        let refused = claims.add("demo", leaf(&hashes(5)).as_bytes(), &[], &until(Some(1))).expect_err("retired");
        assert!(refused.contains("generation 1"), "{refused}");
        claims.add("demo", leaf(&hashes(5)).as_bytes(), &[], &until(None)).expect("still in force");
    }
}
