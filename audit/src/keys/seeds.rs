//! The file of signing seeds: what a node signs and vouches by, once these keys are turned, and what is public of all before.
//!
//! A file is one of two slots ([`super::slot`]), so that no slot remembers what is destroyed. The first generation of each
//! rests in the keyring until it is retired.
//!
//! ```text
//! u8   seeds of the zone     {generation u32, term u64, seed 32} each
//! u8   seeds of this node    {generation u32, seed 32} each
//! u16  generations published {number u32, public 32, since leaf u64, until leaf u64 (all ones while it is in force)} each
//! ```

use super::slot::Kind;
use super::{KEY_BYTES, Keyring, TenantKeys};
use crate::generations::{GENERATIONS_MAX, Generation, Generations};
use crate::reader::Reader;

/// The file's slots.
pub const KIND: Kind = Kind { magic: *b"NTHLSEED", version: 1 };
/// The folder below a node's data, and the slots in it.
pub const DIR: &str = "keys";
/// Their names.
pub const SLOTS: [&str; 2] = ["seeds-0", "seeds-1"];
/// Seeds of either kind in one file: two in force, one on its way, and what is being destroyed.
pub const SEEDS_MAX: usize = 8;
/// Purpose of the key that the file is sealed under.
const AT_REST: &[u8] = b"nethical seeds at rest 1";
const IN_FORCE: u64 = u64::MAX;

/// A seed of the zone's signing key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ZoneSeed {
    /// Which generation it is, or is to be.
    pub generation: u32,
    /// The term of the control group in which it was made.
    pub term: u64,
    /// The seed.
    pub seed: [u8; KEY_BYTES],
}

/// A seed of a node's own, by which it vouches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OwnSeed {
    /// Which generation it is, or is to be.
    pub generation: u32,
    /// The seed.
    pub seed: [u8; KEY_BYTES],
}

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seeds {
    /// Of the zone.
    pub zone: Vec<ZoneSeed>,
    /// Of this node.
    pub own: Vec<OwnSeed>,
    /// The zone's generations as this node knew them last; none before the first turn.
    pub published: Generations,
}

impl std::fmt::Debug for ZoneSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZoneSeed(generation {}, term {})", self.generation, self.term)
    }
}

impl std::fmt::Debug for OwnSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnSeed(generation {})", self.generation)
    }
}

impl Seeds {
    /// What is sealed.
    pub fn encode(&self) -> Vec<u8> {
        let Self { zone, own, published: Generations(published) } = self;
        assert!(zone.len() <= SEEDS_MAX && own.len() <= SEEDS_MAX, "the caller bounds the seeds that it takes");
        assert!(published.len() <= GENERATIONS_MAX, "the control group bounds generations");
        let mut out = vec![zone.len() as u8];
        for ZoneSeed { generation, term, seed } in zone {
            out.extend_from_slice(&generation.to_le_bytes());
            out.extend_from_slice(&term.to_le_bytes());
            out.extend_from_slice(seed);
        }
        out.push(own.len() as u8);
        for OwnSeed { generation, seed } in own {
            out.extend_from_slice(&generation.to_le_bytes());
            out.extend_from_slice(seed);
        }
        out.extend_from_slice(&(published.len() as u16).to_le_bytes());
        for Generation { number, public, since_leaf, until_leaf } in published {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(public);
            out.extend_from_slice(&since_leaf.to_le_bytes());
            out.extend_from_slice(&until_leaf.unwrap_or(IN_FORCE).to_le_bytes());
        }
        out
    }

    /// Reads it back; `None` where the contents do not read.
    pub fn decode(contents: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(contents);
        let counted = |count: usize, most: usize| (count <= most).then_some(count);
        let zone = (0..counted(usize::from(reader.u8()?), SEEDS_MAX)?)
            .map(|_| Some(ZoneSeed { generation: reader.u32()?, term: reader.u64()?, seed: reader.array()? }));
        let zone = zone.collect::<Option<Vec<_>>>()?;
        let own = (0..counted(usize::from(reader.u8()?), SEEDS_MAX)?)
            .map(|_| Some(OwnSeed { generation: reader.u32()?, seed: reader.array()? }));
        let own = own.collect::<Option<Vec<_>>>()?;
        let published = (0..counted(usize::from(reader.u16()?), GENERATIONS_MAX)?).map(|_| {
            let (number, public, since_leaf) = (reader.u32()?, reader.array()?, reader.u64()?);
            let until_leaf = Some(reader.u64()?).filter(|until| *until != IN_FORCE);
            Some(Generation { number, public, since_leaf, until_leaf })
        });
        let published = Generations(published.collect::<Option<Vec<_>>>()?);
        reader.is_empty().then_some(Self { zone, own, published })
    }
}

/// The key that the file is sealed under; none where the keyring has no key for it.
pub fn at_rest(keyring: &Keyring) -> Option<[u8; KEY_BYTES]> {
    let (_, zone) = keyring.ring_keys.last_key_value()?;
    Some(TenantKeys::new(zone).derive(AT_REST, b""))
}

/// The contents of the newer of a node's slots, whatever state they are in; none where neither is whole.
pub fn newest(slots: &[Vec<u8>], keyring: &Keyring) -> Option<Seeds> {
    let at_rest = at_rest(keyring)?;
    let whole = slots.iter().filter_map(|bytes| super::slot::open(KIND, bytes, &at_rest));
    let newest = whole.max_by_key(|(_, sequence)| *sequence);
    newest.and_then(|(contents, _)| Seeds::decode(&contents))
}

#[cfg(test)]
mod tests {
    use super::super::slot;
    use super::*;

    fn seeds() -> Seeds {
        let generation = |number: u32, until_leaf| Generation { number, public: [9; 32], since_leaf: 4, until_leaf };
        Seeds {
            zone: vec![ZoneSeed { generation: 2, term: 7, seed: [3; 32] }],
            own: vec![OwnSeed { generation: 2, seed: [4; 32] }, OwnSeed { generation: 3, seed: [5; 32] }],
            published: Generations(vec![generation(1, Some(12)), generation(2, None)]),
        }
    }

    #[test]
    fn contents_read_back_and_no_cut_does() {
        for seeds in [seeds(), Seeds::default()] {
            assert_eq!(Seeds::decode(&seeds.encode()), Some(seeds));
        }
        let bytes = seeds().encode();
        (0..bytes.len()).for_each(|at| assert_eq!(Seeds::decode(&bytes[..at]), None, "cut at {at}"));
        assert_eq!(Seeds::decode(&[bytes, vec![0]].concat()), None, "bytes behind the end");
        assert_eq!(format!("{:?}", seeds().zone[0]), "ZoneSeed(generation 2, term 7)");
    }

    #[test]
    fn the_newer_whole_slot_counts_and_a_torn_one_does_not() {
        let keyring = Keyring { ring_keys: [(1, [8; 32])].into(), ..Keyring::default() };
        let at_rest = at_rest(&keyring).expect("a ring key");
        let (old, new) = (Seeds::default(), seeds());
        let slots = [
            slot::seal(KIND, 6, &at_rest, [1; 12], &new.encode()),
            slot::seal(KIND, 5, &at_rest, [2; 12], &old.encode()),
        ];
        assert_eq!(newest(&slots, &keyring), Some(new));
        let torn = [slots[0][..50].to_vec(), slots[1].clone()];
        assert_eq!(newest(&torn, &keyring), Some(old));
        assert_eq!(newest(&[], &keyring), None);
    }
}
