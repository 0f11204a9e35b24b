//! Where a page of entries ended, in each group: opaque to clients, checked when it comes back.
//!
//! Bytes: version 1 or 2; 0 newest first, 1 oldest first; u32 checksum of the question; in version 2 the log time before which
//! nothing is wanted, not 0; a count; for each group, ascending, its number and its position; CRC-32C of all before. Numbers are
//! LEB128 except the two checksums. As text base64url.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const VERSION: u8 = 1;
const VERSION_SINCE: u8 = 2;
/// Groups that a cursor may name; with the largest numbers it takes 20 KB then.
const GROUPS_MAX: u64 = 1_024;
/// Characters that are looked at.
const TEXT_MAX: usize = 32 * 1024;

/// Positions by group, each as `Search::from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Oldest first.
    pub(super) ascending: bool,
    /// CRC-32C of the question it belongs to.
    pub(super) question: u32,
    /// Log time before which nothing is wanted, beside what the question says; 0 for none.
    pub(super) since_ns: u64,
    /// Groups that have a position.
    pub(super) positions: BTreeMap<u32, u64>,
}

impl Cursor {
    /// As clients get it.
    pub(super) fn to_text(&self) -> String {
        let version = if self.since_ns == 0 { VERSION } else { VERSION_SINCE };
        let mut bytes = vec![version, u8::from(self.ascending)];
        bytes.extend_from_slice(&self.question.to_le_bytes());
        if version == VERSION_SINCE {
            put(&mut bytes, self.since_ns);
        }
        put(&mut bytes, self.positions.len() as u64);
        for (group, position) in &self.positions {
            put(&mut bytes, u64::from(*group));
            put(&mut bytes, *position);
        }
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// As clients give it back. `None` where it is not one of ours.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (covered, checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if crc32c::crc32c(covered).to_le_bytes() != checksum {
            return None;
        }
        let ([version, ascending, question @ ..], mut rest) = covered.split_first_chunk::<6>()?;
        let since_ns = match *version {
            VERSION => 0,
            VERSION_SINCE => take(&mut rest).filter(|since_ns| *since_ns > 0)?,
            _ => return None,
        };
        let count = take(&mut rest)?;
        if *ascending > 1 || count > GROUPS_MAX {
            return None;
        }
        let mut positions = BTreeMap::new();
        for _ in 0..count {
            let group = u32::try_from(take(&mut rest)?).ok()?;
            let is_next = positions.last_key_value().is_none_or(|(last, _)| *last < group);
            positions.insert(group, take(&mut rest).filter(|_| is_next)?);
        }
        let question = u32::from_le_bytes(*question);
        rest.is_empty().then_some(Self { ascending: *ascending == 1, question, since_ns, positions })
    }

    /// Cursors behind each of some entries, (group, leaf index) in the order in which they are given, oldest first, to one who
    /// was here before. A group of which nothing was given yet stays where it was, so that nothing of it is skipped.
    pub(super) fn behind_each(&self, entries: impl Iterator<Item = (u32, u64)>) -> Vec<String> {
        let mut at = self.clone();
        let mut step = |(group, leaf_index): (u32, u64)| {
            at.positions.insert(group, leaf_index.saturating_add(1));
            at.to_text()
        };
        entries.map(&mut step).collect()
    }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        let part = u64::from(byte & 0x7f);
        if (part << shift) >> shift != part {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back_as_given_and_a_changed_one_is_refused(
            ascending: bool, question: u32, since_ns: u64, positions in prop::collection::btree_map(any::<u32>(), any::<u64>(), 0..40),
            at in any::<prop::sample::Index>(),
        ) {
            let cursor = Cursor { ascending, question, since_ns, positions };
            let text = cursor.to_text();
            prop_assert_eq!(Cursor::parse(&text), Some(cursor));
            let mut changed = text.into_bytes();
            let at = at.index(changed.len());
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            prop_assert_eq!(Cursor::parse(&String::from_utf8(changed).expect("ASCII")), None);
        }

        #[test]
        fn the_cursor_behind_an_entry_is_where_it_was_asked_from_but_for_what_was_given(
            given in prop::collection::vec((2u32..6, 0u64..9), 1..20), before in prop::collection::btree_map(2u32..8, 0u64..9, 0..5),
        ) {
            let begun = Cursor { ascending: true, question: 7, since_ns: 5, positions: before.clone() };
            let cursors = begun.behind_each(given.iter().copied());
            let mut expected = before;
            for ((group, leaf_index), cursor) in given.iter().zip(&cursors) {
                expected.insert(*group, leaf_index + 1);
                let positions = expected.clone();
                prop_assert_eq!(Cursor::parse(cursor), Some(Cursor { positions, ..begun.clone() }));
            }
            prop_assert_eq!(cursors.len(), given.len());
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = Cursor::parse(&text);
        }
    }
}
