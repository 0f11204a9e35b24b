//! What has been seen before, in two generations of a Bloom filter: forgets what did not come again for long.
//!
//! Bloom, "Space/time trade-offs in hash coding with allowable errors", CACM 1970. It may take something new for known
//! (about one in a hundred), which can only hide an alarm; what is kept in use is never forgotten.

/// Places that one thing marks.
const PLACES: u32 = 4;
/// Bits for one thing, so that about one in a hundred is mistaken.
const BITS_EACH: u32 = 10;

/// A set of hashes in a fixed number of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    young: Vec<u64>,
    old: Vec<u64>,
    /// Things in the young generation.
    count: u32,
}

impl Filter {
    /// Of two generations of `words` × 8 bytes; a power of two.
    pub fn new(words: usize) -> Self {
        Self { young: vec![0; words], old: vec![0; words], count: 0 }
    }

    pub fn knows(&self, hash: u64) -> bool {
        has(&self.young, hash) || has(&self.old, hash)
    }

    /// Takes a hash in, also to keep it. A full young generation becomes the old one.
    pub fn insert(&mut self, hash: u64) {
        if has(&self.young, hash) {
            return;
        }
        if self.count.saturating_mul(BITS_EACH) >= self.young.len() as u32 * 64 {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.fill(0);
            self.count = 0;
        }
        places(self.young.len(), hash).for_each(|(word, bit)| self.young[word] |= bit);
        self.count += 1;
    }
}

fn has(words: &[u64], hash: u64) -> bool {
    places(words.len(), hash).all(|(word, bit)| words[word] & bit != 0)
}

/// Double hashing (Kirsch and Mitzenmacher, 2006).
fn places(words: usize, hash: u64) -> impl Iterator<Item = (usize, u64)> {
    let (first, step) = (hash as u32, (hash >> 32) as u32 | 1);
    (0..PLACES).map(move |place| {
        let at = first.wrapping_add(step.wrapping_mul(place)) as usize;
        (at >> 6 & (words - 1), 1 << (at & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::super::mix;
    use super::*;

    #[test]
    fn what_went_in_lately_is_known_and_little_else_is() {
        let mut filter = Filter::new(1_024);
        (0..6_000).for_each(|thing| filter.insert(mix(thing)));
        assert!((0..6_000).all(|thing| filter.knows(mix(thing))));
        let mistaken = (10_000..20_000).filter(|thing| filter.knows(mix(*thing))).count();
        assert!(mistaken < 200, "{mistaken} of 10,000");
    }

    #[test]
    fn what_comes_again_stays_and_what_does_not_is_forgotten() {
        let mut filter = Filter::new(1_024);
        filter.insert(mix(1));
        for thing in 10..60_000 {
            filter.insert(mix(thing));
            filter.insert(mix(2));
        }
        assert!(filter.knows(mix(2)) && !filter.knows(mix(1)) && !filter.knows(mix(11)));
    }
}
