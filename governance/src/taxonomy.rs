//! The ethical taxonomy: what a decision's violations mean for privacy, manipulation, fairness and safety, for people who
//! read its explanation. Decides nothing: no verdict, no risk and no leaf depends on it.
//!
//! For each dimension the worst of `mapping × severity` over what was found, plus what the context adds, times weight and
//! the dimension's severity multiplier, at most 1000. The primary dimension is the highest that reaches its
//! threshold. The overall score is the highest one times the adjustment for several high ones. All in thousandths; the
//! file's decimals are turned into them when it is read.

use crate::behaviour;
use crate::detect;

mod file;
#[cfg(test)]
mod tests;

/// Dimensions of a taxonomy; the position is the dimension's place everywhere.
pub const DIMENSIONS: [&str; 4] = ["privacy", "manipulation", "fairness", "safety"];
const PRIVACY: usize = 0;
const SAFETY: usize = 3;

/// The violation type of what policy blocks.
pub const POLICY: &str = "policy";
/// The largest file that is read.
pub const TAXONOMY_BYTES_MAX: usize = 256 * 1024;

/// Thousandths by dimension.
pub type Scores = [u16; DIMENSIONS.len()];

/// The built-in taxonomy, as text; the file that the project ships.
pub fn default_text() -> &'static str {
    include_str!("../../config/taxonomy.json")
}

/// Every violation type that there is: all detectors of text and behaviour, and what policy blocks.
pub fn violation_types() -> impl Iterator<Item = &'static str> {
    detect::NAMES.into_iter().chain(behaviour::NAMES).chain([POLICY])
}

/// A taxonomy that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taxonomy {
    /// Its version, as the file says.
    pub version: String,
    /// By violation type, in order of name.
    mapping: Vec<(String, Scores)>,
    weights: Scores,
    multipliers: Scores,
    automated: Scores,
    privileged: Scores,
    involved_from: u16,
    primary_from: u16,
    /// For privacy and safety together, for several, for one.
    adjustments: [u16; 3],
    /// The share of violation types that ought to be mapped, and below which a report alarms.
    pub coverage_target: u16,
    /// See [`Taxonomy::coverage_target`].
    pub coverage_alert: u16,
}

/// What a decision means for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// By dimension.
    pub scores: Scores,
    /// The place of the primary dimension, where one reaches its threshold.
    pub primary: Option<usize>,
    /// All together, 0..1000.
    pub overall: u16,
}

/// How much of what can be found a taxonomy knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Each violation type with what it means at full severity; none where it is not mapped.
    pub types: Vec<(&'static str, Option<Meaning>)>,
    /// Thousandths of the types that are mapped.
    pub covered: u16,
}

impl Default for Taxonomy {
    fn default() -> Self {
        Self::parse(default_text()).expect("a test reads the built-in taxonomy")
    }
}

impl Taxonomy {
    /// Reads and checks a taxonomy.
    ///
    /// # Errors
    /// Everything that is wrong with it, in sentences.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        file::read(text)
    }

    /// What a decision means: violation types with their severities (1..1000), and the marks of its context.
    pub fn meaning<'a>(
        &self,
        found: impl Iterator<Item = (&'a str, u16)>,
        automated: bool,
        privileged: bool,
    ) -> Option<Meaning> {
        let mut worst: Option<[u64; DIMENSIONS.len()]> = None;
        for (name, severity) in found {
            let Some(mapped) = self.mapped(name) else { continue };
            let worst = worst.get_or_insert_default();
            for (worst, mapped) in worst.iter_mut().zip(mapped) {
                *worst = (u64::from(mapped) * u64::from(severity.min(1_000)) / 1_000).max(*worst);
            }
        }
        let mut scores = worst?;
        for (_, added) in [(automated, self.automated), (privileged, self.privileged)].iter().filter(|(is, _)| *is) {
            scores.iter_mut().zip(added).for_each(|(score, added)| *score += u64::from(*added));
        }
        let mut weighed = [0; DIMENSIONS.len()];
        for (place, score) in scores.into_iter().enumerate() {
            let factor = u64::from(self.weights[place]) * u64::from(self.multipliers[place]);
            weighed[place] = (score.min(1_000) * factor / 1_000_000).min(1_000) as u16;
        }
        Some(self.judge(weighed))
    }

    fn judge(&self, scores: Scores) -> Meaning {
        let top = scores.into_iter().max().unwrap_or(0);
        let high = |place: usize| scores[place] >= self.primary_from;
        let several = (0..DIMENSIONS.len()).filter(|place| high(*place)).count() > 1;
        let [both, many, one] = self.adjustments;
        let adjustment = match (high(PRIVACY) && high(SAFETY), several) {
            (true, _) => both,
            (false, true) => many,
            (false, false) => one,
        };
        let overall = (u64::from(top) * u64::from(adjustment) / 1_000).min(1_000) as u16;
        let primary = scores.iter().position(|score| *score == top).filter(|_| top >= self.primary_from);
        Meaning { scores, primary, overall }
    }

    /// The dimensions that a score says something about, with their scores, highest first.
    pub fn involved(&self, meaning: &Meaning) -> Vec<(&'static str, u16)> {
        let mut involved: Vec<(&'static str, u16)> = DIMENSIONS.into_iter().zip(meaning.scores).collect();
        involved.retain(|(_, score)| *score >= self.involved_from);
        involved.sort_by_key(|(_, score)| std::cmp::Reverse(*score));
        involved
    }

    /// How much of what can be found is mapped.
    pub fn coverage(&self) -> Coverage {
        let meaning = |name: &'static str| (name, self.meaning([(name, 1_000)].into_iter(), false, false));
        let types: Vec<_> = violation_types().map(meaning).collect();
        let mapped = types.iter().filter(|(_, meaning)| meaning.is_some()).count();
        Coverage { covered: (mapped * 1_000 / types.len()) as u16, types }
    }

    fn mapped(&self, name: &str) -> Option<Scores> {
        let place = self.mapping.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        Some(self.mapping[place].1)
    }
}
