//! Patterns behind one prefilter: a single Aho-Corasick pass finds anchors, a small regex judges around each hit.
//!
//! The pass is linear. Checks are bounded by the text's length; a text that has more hits than that is decoy-stuffed and
//! is reported as such by the caller, so that nothing is hidden by exhausting the bound.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::bytes::{Regex, RegexBuilder};

use super::Report;

/// Rules that the tables may hold together; sets the size of a scan's scratch space (4 B each, on the stack).
const RULES_MAX: usize = 128;
/// Checks that any text may cost, before those that its length adds.
const CHECKS_MIN: usize = 64;
/// Bytes of text for each further check.
const BYTES_PER_CHECK: usize = 64;

/// One pattern of a detector.
pub(super) struct Rule {
    /// The detector that it speaks for.
    pub detector: u8,
    /// 1..1000.
    pub severity: u16,
    /// Lower-case ASCII texts of which one must occur. The pattern begins at the anchor unless `back` is set.
    pub anchors: &'static [&'static str],
    /// A regular expression over bytes, without regard to ASCII case.
    pub pattern: &'static str,
    /// Bytes before the anchor in which the pattern may begin; 0 pins it to the anchor.
    pub back: usize,
    /// Bytes after the anchor that the pattern may see.
    pub ahead: usize,
    /// True where the anchor must not continue a word.
    pub word: bool,
}

#[derive(Clone)]
struct Compiled {
    rule: &'static Rule,
    regex: Regex,
}

/// All rules of all tables, ready to run.
#[derive(Clone)]
pub(super) struct Anchors {
    automaton: AhoCorasick,
    rules: Vec<Compiled>,
    rules_of_anchor: Vec<Vec<u16>>,
}

impl Anchors {
    /// Compiles tables that are part of this program: it cannot fail for a reason outside of it.
    pub(super) fn new(tables: &[&'static [Rule]]) -> Self {
        let rules: Vec<Compiled> = tables.iter().flat_map(|table| table.iter()).map(Compiled::new).collect();
        assert!(rules.len() <= RULES_MAX, "{} rules; raise RULES_MAX", rules.len());
        let mut by_anchor: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
        for (number, compiled) in rules.iter().enumerate() {
            compiled.rule.anchors.iter().for_each(|anchor| by_anchor.entry(anchor).or_default().push(number as u16));
        }
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(by_anchor.keys())
            .expect("a few hundred short anchors fit an automaton");
        Self { automaton, rules, rules_of_anchor: by_anchor.into_values().collect() }
    }

    /// Reports every rule that matches. False where the text has more hits than checks were granted.
    pub(super) fn scan(&self, text: &[u8], report: &mut dyn Report) -> bool {
        let mut checks_left = CHECKS_MIN + text.len() / BYTES_PER_CHECK;
        let mut matched_until = [0u32; RULES_MAX];
        for hit in self.automaton.find_overlapping_iter(text) {
            let inside_word = hit.start() > 0 && is_word(text[hit.start() - 1]);
            for number in &self.rules_of_anchor[hit.pattern().as_usize()] {
                let (compiled, until) = (&self.rules[*number as usize], &mut matched_until[*number as usize]);
                if (compiled.rule.word && inside_word) || (hit.start() as u32) < *until {
                    continue;
                }
                if checks_left == 0 {
                    return false;
                }
                checks_left -= 1;
                report.looked(compiled.rule.back + compiled.rule.ahead);
                if let Some((start, end)) = compiled.check(text, hit.start(), hit.end()) {
                    *until = end as u32;
                    report.found(compiled.rule.detector, compiled.rule.severity, start, end);
                }
            }
        }
        true
    }
}

impl Compiled {
    fn new(rule: &'static Rule) -> Self {
        assert!((1..=1000).contains(&rule.severity) && !rule.anchors.is_empty(), "rule {:?}", rule.pattern);
        let pinned = if rule.back == 0 { format!("^(?:{})", rule.pattern) } else { rule.pattern.to_owned() };
        let regex = RegexBuilder::new(&pinned).case_insensitive(true).unicode(false).build();
        Self { rule, regex: regex.unwrap_or_else(|error| panic!("rule {:?}: {error}", rule.pattern)) }
    }

    fn check(&self, text: &[u8], hit_start: usize, hit_end: usize) -> Option<(usize, usize)> {
        let from = hit_start.saturating_sub(self.rule.back);
        let to = (hit_end + self.rule.ahead).min(text.len());
        let found = self.regex.find(&text[from..to])?;
        Some((from + found.start(), from + found.end()))
    }
}

/// True for bytes that continue a word, those of other scripts included.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}
