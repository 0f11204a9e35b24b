//! What the release of a held agent needs where one word does not do: M different approvers, of certain names or any.
//!
//! Kept beside agents and only while such an order is in force. It must not end a hold; `ledger::orders` does.

use nethical_protocol::ids::KeyedId;
use nethical_protocol::limits::{HOLD_APPROVER_NAMES_MAX, HOLD_APPROVERS_MAX};

/// The words that a release needs, and those that were said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// Different approvers.
    pub needed: u8,
    /// The only ones whose words count, sorted; empty for anybody.
    pub names: Vec<KeyedId>,
    /// Who has asked, sorted.
    pub voices: Vec<KeyedId>,
}

impl Release {
    /// For an order that needs so many, cut to what may be kept. `None` where one word does.
    pub fn new(needed: u8, names: &[KeyedId]) -> Option<Self> {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.dedup();
        names.truncate(HOLD_APPROVER_NAMES_MAX);
        let needed = needed.min(HOLD_APPROVERS_MAX as u8);
        (needed > 1).then_some(Self { needed, names, voices: Vec::new() })
    }

    /// True where this approver's word counts.
    pub fn counts(&self, approver: KeyedId) -> bool {
        !approver.is_none() && (self.names.is_empty() || self.names.contains(&approver))
    }

    /// Notes a word; gives how many are missing. Somebody's second word changes nothing.
    pub fn say(&mut self, approver: KeyedId) -> u8 {
        if self.counts(approver)
            && let Err(at) = self.voices.binary_search(&approver)
        {
            self.voices.insert(at, approver);
        }
        self.missing()
    }

    /// How many are missing.
    pub fn missing(&self) -> u8 {
        self.needed.saturating_sub(u8::try_from(self.voices.len()).unwrap_or(u8::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> KeyedId {
        KeyedId([byte; 16])
    }

    #[test]
    fn different_words_count_and_only_of_those_who_are_named() {
        let mut any = Release::new(2, &[]).expect("two are needed");
        assert_eq!([id(1), id(1), KeyedId::NONE, id(9)].map(|who| any.say(who)), [1, 1, 1, 0]);
        let mut named = Release::new(2, &[id(2), id(1), id(2)]).expect("two are needed");
        assert_eq!([id(9), id(2), id(2), id(1)].map(|who| named.say(who)), [2, 1, 1, 0]);
        assert_eq!((Release::new(0, &[]), Release::new(1, &[id(1)])), (None, None));
    }
}
