//! How good the detectors are on labelled sentences: hits, misses and false alarms by type, by overlap of spans.
//!
//! Counts only; ratios are made by whoever prints them. A label is hit where a span of its type overlaps it; a span that
//! overlaps no label of its type is a false alarm. Offsets of labels are in characters, as annotators count.

use std::collections::BTreeMap;

use super::{Detectors, LABELS, label};

/// What an annotator marked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Labelled {
    /// The sentence.
    pub text: String,
    /// What is in it.
    #[serde(default)]
    pub spans: Vec<LabelSpan>,
}

/// One mark.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct LabelSpan {
    /// `EMAIL_ADDRESS` …; types that no detector has are not scored.
    #[serde(rename = "type")]
    pub kind: String,
    /// First character.
    pub start: usize,
    /// Past the last character.
    pub end: usize,
}

/// Counts for one type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Labels that a span overlaps.
    pub hits: u64,
    /// Spans that overlap no label.
    pub false_alarms: u64,
    /// Labels that no span overlaps.
    pub misses: u64,
}

/// Counts over all sentences so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Score {
    /// By type. The types of personal data are always there, others where they were labelled or found.
    pub types: BTreeMap<&'static str, Tally>,
    /// Labels of types that no detector has, by type.
    pub not_looked_for: BTreeMap<String, u64>,
}

impl Score {
    /// Nothing scored yet.
    pub fn new() -> Self {
        let types = LABELS[..6].iter().map(|label| (*label, Tally::default())).collect();
        Self { types, not_looked_for: BTreeMap::new() }
    }

    /// Scores one sentence.
    ///
    /// # Errors
    /// A label that is empty or reaches beyond the text; nothing is counted then.
    pub fn add(&mut self, detectors: &Detectors, sentence: &Labelled) -> Result<(), String> {
        let offsets: Vec<usize> = byte_offsets(&sentence.text);
        for span in &sentence.spans {
            if span.start >= span.end || span.end >= offsets.len() {
                let (kind, start, end, characters) = (&span.kind, span.start, span.end, offsets.len() - 1);
                return Err(format!("span {kind} is {start}..{end}, and the text has {characters} characters"));
            }
        }
        let spans = detectors.all_spans(&sentence.text);
        let found: Vec<Mark> = spans.iter().map(|span| (label(span.detector), span.start, span.end)).collect();
        let mut labelled: Vec<Mark> = Vec::with_capacity(sentence.spans.len());
        for span in &sentence.spans {
            match LABELS.iter().find(|label| **label == span.kind) {
                Some(label) => labelled.push((label, offsets[span.start], offsets[span.end])),
                None => *self.not_looked_for.entry(span.kind.clone()).or_default() += 1,
            }
        }
        for mark in &labelled {
            let tally = self.types.entry(mark.0).or_default();
            *if overlaps(mark, &found) { &mut tally.hits } else { &mut tally.misses } += 1;
        }
        for mark in found.iter().filter(|mark| !overlaps(mark, &labelled)) {
            self.types.entry(mark.0).or_default().false_alarms += 1;
        }
        Ok(())
    }
}

/// Type and byte range.
type Mark = (&'static str, usize, usize);

fn overlaps(mark: &Mark, others: &[Mark]) -> bool {
    others.iter().any(|other| other.0 == mark.0 && other.1 < mark.2 && mark.1 < other.2)
}

/// Where each character begins, and where the text ends.
pub fn byte_offsets(text: &str) -> Vec<usize> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(json: &str) -> Labelled {
        serde_json::from_str(json).expect("a labelled sentence")
    }

    #[test]
    fn hits_misses_and_false_alarms_are_told_apart() {
        let (detectors, mut score) = (Detectors::new(), Score::new());
        let text = r#"{"text": "é a@b.example c@d.example", "spans": [{"type": "EMAIL_ADDRESS", "start": 4, "end": 6},
            {"type": "PHONE_NUMBER", "start": 0, "end": 1}, {"type": "PERSON", "start": 0, "end": 1}]}"#;
        assert_eq!(score.add(&detectors, &sentence(text)), Ok(()));
        assert_eq!(score.types["EMAIL_ADDRESS"], Tally { hits: 1, false_alarms: 1, misses: 0 });
        assert_eq!(score.types["PHONE_NUMBER"], Tally { hits: 0, false_alarms: 0, misses: 1 });
        assert_eq!(score.types["US_SSN"], Tally::default());
        assert_eq!(score.not_looked_for["PERSON"], 1);
    }

    #[test]
    fn a_label_outside_its_text_is_refused_and_counts_nothing() {
        let (detectors, mut score) = (Detectors::new(), Score::new());
        for (start, end) in [(0, 3), (1, 1), (2, 1)] {
            let spans = vec![LabelSpan { kind: "US_SSN".into(), start, end }];
            assert!(score.add(&detectors, &Labelled { text: "é!".into(), spans }).is_err());
        }
        assert_eq!(score, Score::new());
    }
}
