//! The taxonomy's file: JSON with the keys of the older system, its decimals turned into thousandths, all problems at once.
//!
//! Floats live only in here, between the text and the integers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{DIMENSIONS, Scores, TAXONOMY_BYTES_MAX, Taxonomy, violation_types};

/// The largest factor: a weight or multiplier.
const FACTOR_MAX: f64 = 10.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    #[serde(rename = "description")]
    _description: Option<String>,
    dimensions: BTreeMap<String, Dimension>,
    coverage_target: f64,
    mapping: BTreeMap<String, BTreeMap<String, Value>>,
    #[serde(default)]
    context: Context,
    aggregation_rules: Rules,
    reporting: Reporting,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dimension {
    #[serde(rename = "description")]
    _description: String,
    weight: f64,
    severity_multiplier: f64,
    #[serde(default, rename = "indicators")]
    _indicators: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    #[serde(default)]
    automated: BTreeMap<String, Value>,
    #[serde(default)]
    privileged: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    multiple_dimensions_threshold: f64,
    primary_dimension_threshold: f64,
    severity_adjustment: Adjustment,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Adjustment {
    high_privacy_and_safety: f64,
    multiple_high_scores: f64,
    single_dimension: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reporting {
    coverage_alert_threshold: f64,
}

pub(super) fn read(text: &str) -> Result<Taxonomy, Vec<String>> {
    if text.len() > TAXONOMY_BYTES_MAX {
        return Err(vec![format!("the file has {} bytes; at most {TAXONOMY_BYTES_MAX} are read", text.len())]);
    }
    // Serde's message names line and column.
    let file: File = serde_json::from_str(text).map_err(|error| vec![error.to_string()])?;
    let mut check = Check { problems: Vec::new() };
    let taxonomy = check.taxonomy(file);
    if check.problems.is_empty() { Ok(taxonomy) } else { Err(check.problems) }
}

struct Check {
    problems: Vec<String>,
}

impl Check {
    fn taxonomy(&mut self, file: File) -> Taxonomy {
        for name in file.dimensions.keys().filter(|name| !DIMENSIONS.contains(&name.as_str())) {
            self.problems.push(format!("dimensions: {name} is none of {}", DIMENSIONS.join(", ")));
        }
        let mut of = |pick: fn(&Dimension) -> f64, what: &str| {
            DIMENSIONS.map(|name| match file.dimensions.get(name) {
                Some(dimension) => self.thousandths(&format!("dimensions.{name}.{what}"), pick(dimension), FACTOR_MAX),
                None => {
                    self.problems.push(format!("dimensions.{name} is missing"));
                    0
                }
            })
        };
        let weights = of(|dimension| dimension.weight, "weight");
        let multipliers = of(|dimension| dimension.severity_multiplier, "severity_multiplier");
        self.problems.dedup();
        let mapping = file.mapping.iter().map(|(name, scores)| self.mapped(name, scores)).collect();
        let Rules { multiple_dimensions_threshold, primary_dimension_threshold, severity_adjustment } =
            file.aggregation_rules;
        let Adjustment { high_privacy_and_safety, multiple_high_scores, single_dimension } = severity_adjustment;
        let within = "aggregation_rules.severity_adjustment";
        Taxonomy {
            version: file.version,
            mapping,
            weights,
            multipliers,
            automated: self.scores("context.automated", &file.context.automated),
            privileged: self.scores("context.privileged", &file.context.privileged),
            involved_from: self.share("aggregation_rules.multiple_dimensions_threshold", multiple_dimensions_threshold),
            primary_from: self.share("aggregation_rules.primary_dimension_threshold", primary_dimension_threshold),
            adjustments: [
                self.thousandths(&format!("{within}.high_privacy_and_safety"), high_privacy_and_safety, FACTOR_MAX),
                self.thousandths(&format!("{within}.multiple_high_scores"), multiple_high_scores, FACTOR_MAX),
                self.thousandths(&format!("{within}.single_dimension"), single_dimension, FACTOR_MAX),
            ],
            coverage_target: self.share("coverage_target", file.coverage_target),
            coverage_alert: self.share("reporting.coverage_alert_threshold", file.reporting.coverage_alert_threshold),
        }
    }

    fn mapped(&mut self, name: &str, scores: &BTreeMap<String, Value>) -> (String, Scores) {
        if !violation_types().any(|known| known == name) {
            self.problems.push(format!("mapping: there is no violation type {name:?}"));
        }
        let scores = self.scores(&format!("mapping.{name}"), scores);
        if scores == [0; DIMENSIONS.len()] {
            self.problems.push(format!("mapping.{name} means nothing for any dimension"));
        }
        (name.to_owned(), scores)
    }

    fn scores(&mut self, what: &str, given: &BTreeMap<String, Value>) -> Scores {
        let mut scores = [0; DIMENSIONS.len()];
        for (key, value) in given.iter().filter(|(key, _)| *key != "description") {
            match (DIMENSIONS.iter().position(|name| name == key), value.as_f64()) {
                (None, _) => self.problems.push(format!("{what}: {key} is none of {}", DIMENSIONS.join(", "))),
                (_, None) => self.problems.push(format!("{what}.{key} is no number")),
                (Some(place), Some(score)) => scores[place] = self.share(&format!("{what}.{key}"), score),
            }
        }
        scores
    }

    fn share(&mut self, what: &str, value: f64) -> u16 {
        self.thousandths(what, value, 1.0)
    }

    fn thousandths(&mut self, what: &str, value: f64, most: f64) -> u16 {
        let thousandths = (value * 1_000.0).round();
        if !(0.0..=most).contains(&value) {
            self.problems.push(format!("{what} must be 0 to {most}; it is {value}"));
        } else if (value * 1_000.0 - thousandths).abs() > 1e-6 {
            self.problems.push(format!("{what} has more than three decimal places: {value}"));
        }
        // `as` saturates, and what is out of range is a problem already.
        thousandths as u16
    }
}
