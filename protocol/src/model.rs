//! The score that a caller's own model gives an action: where a context carries it, and what a tenant wants done with it.
//!
//! Reads and checks only. What a score makes of a decision is the ledger's (`governance/src/scores.rs`).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Code, Problem};

/// The top of a score.
pub const MODEL_SCORE_MAX: u16 = 1_000;

/// What a tenant wants done with scores of its callers' models.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ModelBlending {
    /// They are measured beside the rules, and blended nowhere.
    #[default]
    Off,
    /// What blending would give is measured as well; no decision, leaf or state differs from `off`.
    Shadow,
    /// In the gray zone the blended score is the action's risk.
    Enforce,
}

impl ModelBlending {
    /// All settings.
    pub const ALL: [ModelBlending; 3] = [ModelBlending::Off, ModelBlending::Shadow, ModelBlending::Enforce];

    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        ["off", "shadow", "enforce"][self as usize]
    }

    /// The score that a command may carry: none unless decisions are to go by it.
    pub fn carried(self, score: Option<u16>) -> Option<u16> {
        score.filter(|_| self == Self::Enforce)
    }
}

#[derive(Deserialize)]
struct Context<'a> {
    #[serde(borrow)]
    model_score: Option<&'a RawValue>,
    #[serde(borrow)]
    features: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Features<'a> {
    #[serde(borrow)]
    ml_score: Option<&'a RawValue>,
}

/// The model's score in a context, 0..1000: `model_score`, a whole number of 0 to 1000, or else `features.ml_score`, a number
/// of 0 to 1. Both are checked where both are there. None where neither is, or is null: there is no default.
///
/// # Errors
/// `malformed-request`, with the field, for anything else under these names.
pub fn score_in(context_json: &str) -> Result<Option<u16>, Problem> {
    // An escape may spell a name too, so a backslash is reason enough to read the context.
    if !["_score", "\\"].iter().any(|mark| context_json.contains(mark)) {
        return Ok(None);
    }
    let context: Context<'_> = serde_json::from_str(context_json).map_err(|error| refusal("context", &error))?;
    let own = context.model_score.map(whole).transpose()?;
    // Whatever else callers keep under this name is theirs.
    let features = context.features.filter(|raw| raw.get().starts_with('{'));
    let features = features.map(|raw| serde_json::from_str::<Features<'_>>(raw.get()));
    let features = features.transpose().map_err(|error| refusal("context.features", &error))?;
    let share = features.and_then(|features| features.ml_score).map(share).transpose()?;
    Ok(own.or(share))
}

fn whole(raw: &RawValue) -> Result<u16, Problem> {
    let score = serde_json::from_str::<u16>(raw.get()).ok().filter(|score| *score <= MODEL_SCORE_MAX);
    score.ok_or_else(|| refusal("context.model_score", &"a whole number from 0 to 1000"))
}

/// In thousandths, rounded to nearest.
fn share(raw: &RawValue) -> Result<u16, Problem> {
    let share = serde_json::from_str::<f64>(raw.get()).ok().filter(|share| (0.0..=1.0).contains(share));
    let share = share.ok_or_else(|| refusal("context.features.ml_score", &"a number from 0 to 1"))?;
    Ok((share * f64::from(MODEL_SCORE_MAX)).round() as u16)
}

fn refusal(field: &str, why: &dyn std::fmt::Display) -> Problem {
    Problem::new(Code::MalformedRequest, format!("{field}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_read_from_either_place_and_never_made_up() {
        for (context, score) in [
            ("{}", None),
            (r#"{"note":"model score"}"#, None),
            (r#"{"model_score":0}"#, Some(0)),
            (r#"{"model_score":1000}"#, Some(1_000)),
            (r#"{"model_score":null}"#, None),
            (r#"{"m\u006fdel_score":7}"#, Some(7)),
            (r#"{"features":{"ml_score":0.7315,"other":[1]}}"#, Some(732)),
            (r#"{"features":{"ml_score":1}}"#, Some(1_000)),
            (r#"{"features": {"ml_score":5e-1}}"#, Some(500)),
            (r#"{"features":{"ml_score":null}}"#, None),
            (r#"{"features":["ml_score"]}"#, None),
            (r#"{"inner":{"model_score":"x"}}"#, None),
            (r#"{"model_score":10,"features":{"ml_score":0.9}}"#, Some(10)),
        ] {
            assert_eq!(score_in(context), Ok(score), "{context}");
        }
    }

    #[test]
    fn what_is_no_score_is_refused_by_its_name() {
        for (context, field) in [
            (r#"{"model_score":1001}"#, "context.model_score:"),
            (r#"{"model_score":-1}"#, "context.model_score:"),
            (r#"{"model_score":0.7}"#, "context.model_score:"),
            (r#"{"model_score":"700"}"#, "context.model_score:"),
            (r#"{"model_score":true}"#, "context.model_score:"),
            (r#"{"features":{"ml_score":1.01}}"#, "context.features.ml_score:"),
            (r#"{"features":{"ml_score":-0.01}}"#, "context.features.ml_score:"),
            (r#"{"features":{"ml_score":"0.5"}}"#, "context.features.ml_score:"),
            (r#"{"features":{"ml_score":1e999}}"#, "context.features.ml_score:"),
            (r#"{"model_score":10,"features":{"ml_score":9}}"#, "context.features.ml_score:"),
            (r#"{"model_score":10,"model_score":11}"#, "context:"),
            (r#"{"features":{"ml_score":0.1,"ml_score":0.2}}"#, "context.features:"),
        ] {
            let problem = score_in(context).expect_err(context);
            assert_eq!(problem.code, Code::MalformedRequest);
            assert!(problem.detail.starts_with(field), "{context}: {}", problem.detail);
        }
    }

    #[test]
    fn words_and_what_is_carried() {
        for setting in ModelBlending::ALL {
            assert_eq!(serde_json::to_value(setting).expect("a word"), setting.as_str());
            let carried = if setting == ModelBlending::Enforce { Some(5) } else { None };
            assert_eq!((setting.carried(Some(5)), setting.carried(None)), (carried, None));
        }
    }
}
