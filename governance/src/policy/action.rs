//! The one call of the agent's actor: facts of an action, from its text to the evaluation that travels in the command.

use std::borrow::Cow;
use std::sync::Arc;

use nethical_protocol::action::{Action, ActionKind};
use nethical_protocol::decision::{AgentStatus, Verdict};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Bundle, PolicyInput, PolicyResult};
use crate::command::{EvaluationV1, VerdictWord};
use crate::detect::{Detectors, Findings};
use crate::flow::facts_of;
use crate::outcome::RiskTier;
use crate::quota::band::Band;

/// What policy may see of the agent. The command names it by its digest, so that apply can tell whether it still holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AgentFacts {
    /// Where it stands.
    pub status: AgentStatus,
    /// Its risk tier.
    pub tier: RiskTier,
    /// Raised by every change of state.
    pub epoch: u64,
}

/// An action with everything that was found about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated {
    /// What goes into the command.
    pub evaluation: EvaluationV1,
    /// What the caller must do; `Bundle::describe` gives them again for the rules in the evaluation.
    pub obligations: Vec<Arc<str>>,
    /// The rules in words.
    pub reasons: Vec<Arc<str>>,
    /// Policy's result was remembered from an action with the same facts.
    pub remembered: bool,
    /// What an escalation comes to once a person has approved it.
    pub lifted: Verdict,
    /// Seconds that an approval of it lives.
    pub approval_ttl_s: u32,
    /// Where detectors found something, for redaction before the body is sealed.
    pub findings: Findings,
}

/// Runs detectors and policy over an action. A function of its arguments alone; `bands` are those of
/// [`Bundle::limits_named`].
pub fn evaluate_action(
    detectors: &Detectors,
    bundle: &Bundle,
    action: &Action,
    agent: AgentFacts,
    bands: &[Band],
) -> Evaluated {
    let findings = detectors.scan_action(action);
    let Flags { automated, privileged } = Flags::of(action);
    let (detections, facts) = (findings.detections(), facts_of(action));
    let found = EvaluationV1 { detections, privileged, automated, facts, ..EvaluationV1::default() };
    let (result, remembered) = bundle.recall(&input(action, &found, agent, bands, bundle.sizes(action)));
    Evaluated {
        evaluation: EvaluationV1 { verdict: VerdictWord(result.verdict), rules: result.rules, ..found },
        obligations: result.obligations,
        reasons: result.reasons,
        remembered,
        lifted: result.lifted,
        approval_ttl_s: result.approval_ttl_s,
        findings,
    }
}

/// What policy reads of an action's texts beside what detectors found. Redaction takes the texts and leaves these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The largest number under a key such as `amount` in the arguments.
    pub amount: u64,
    /// Bytes of arguments and context.
    pub bytes: u64,
}

impl Sizes {
    /// Of an action that is whole.
    pub fn of(action: &Action) -> Self {
        Self { amount: amount_in(&action.args_json), bytes: bytes_of(action) }
    }
}

fn bytes_of(action: &Action) -> u64 {
    (action.args_json.len() + action.context_json.len()) as u64
}

impl Bundle {
    /// What this bundle says about an action in which detectors have found what `found` names. Its verdict and rules are
    /// another bundle's and are not read, so a recorded evaluation does as well as a fresh one.
    pub fn judge(&self, action: &Action, found: &EvaluationV1, agent: AgentFacts, bands: &[Band]) -> PolicyResult {
        self.judge_sized(action, found, agent, bands, self.sizes(action))
    }

    /// As [`Bundle::judge`], of an action whose texts may have been redacted since their sizes were taken.
    pub fn judge_sized(
        &self,
        action: &Action,
        found: &EvaluationV1,
        agent: AgentFacts,
        bands: &[Band],
        sizes: Sizes,
    ) -> PolicyResult {
        self.evaluate(&input(action, found, agent, bands, sizes))
    }

    /// The sizes of a whole action, as far as the bundle reads them.
    fn sizes(&self, action: &Action) -> Sizes {
        let amount = if self.reads_amount() { amount_in(&action.args_json) } else { 0 };
        Sizes { amount, bytes: bytes_of(action) }
    }
}

fn input<'a>(
    action: &'a Action,
    found: &'a EvaluationV1,
    agent: AgentFacts,
    bands: &'a [Band],
    sizes: Sizes,
) -> PolicyInput<'a> {
    PolicyInput {
        tenant: &action.tenant,
        agent: &action.agent,
        session: &action.session,
        cohort: &action.cohort,
        region: &action.region,
        kind: action.kind,
        tool: &action.name,
        resource_type: &action.resource_type,
        resource_id: &action.resource_id,
        status: agent.status,
        tier: agent.tier,
        epoch: agent.epoch,
        detections: &found.detections,
        amount: sizes.amount,
        bytes: sizes.bytes,
        usd_micros: cost_of(action, |unit| unit == "usd_micros"),
        tokens: cost_of(action, |unit| unit.starts_with("tokens")),
        privileged: found.privileged,
        automated: found.automated,
        bands,
    }
}

fn cost_of(action: &Action, counts: impl Fn(&str) -> bool) -> u64 {
    let amounts = action.cost.iter().filter(|cost| counts(&cost.unit)).map(|cost| cost.amount);
    amounts.fold(0, u64::saturating_add)
}

/// Marks that the context may carry at its top level.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Flags {
    #[serde(default)]
    automated: bool,
    #[serde(default)]
    privileged: bool,
}

impl Flags {
    /// Code and lifecycle are privileged ground whatever the context says. A context that speaks of a mark and cannot be
    /// read counts as carrying both.
    fn of(action: &Action) -> Self {
        let context = &action.context_json;
        // An escape may spell a mark too, so a backslash is reason enough to read the context.
        let marked = ["automated", "privileged", "\\"].iter().any(|mark| context.contains(mark));
        let said = if marked {
            serde_json::from_str(context).unwrap_or(Self { automated: true, privileged: true })
        } else {
            Self::default()
        };
        let ground = matches!(action.kind, ActionKind::CodeExecution | ActionKind::Lifecycle);
        Self { privileged: said.privileged || ground, ..said }
    }
}

/// Keys whose numbers are amounts, in lower case.
const AMOUNT_KEYS: [&str; 8] =
    ["amount", "amounts", "total", "total_amount", "price", "sum", "value", "payment_amount"];

/// The largest amount in a JSON object, at any depth, rounded up. Text that is not JSON has the largest amount there is:
/// what cannot be read cannot be small.
fn amount_in(args_json: &str) -> u64 {
    if args_json.is_empty() {
        return 0;
    }
    serde_json::from_str::<Largest>(args_json).map_or(u64::MAX, |largest| largest.0)
}

/// Walks a JSON value and keeps the largest number under an amount key.
struct Largest(u64);

impl<'de> Deserialize<'de> for Largest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk { is_amount: false }).map(Largest)
    }
}

#[derive(Clone, Copy)]
struct Walk {
    is_amount: bool,
}

impl<'de> serde::de::DeserializeSeed<'de> for Walk {
    type Value = u64;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_u64<E>(self, number: u64) -> Result<u64, E> {
        Ok(if self.is_amount { number } else { 0 })
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<u64, E> {
        self.visit_u64(number.unsigned_abs())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<u64, E> {
        // `as` saturates; JSON has no NaN.
        self.visit_u64(number.abs().ceil() as u64)
    }

    fn visit_str<E>(self, text: &str) -> Result<u64, E> {
        Ok(if self.is_amount { amount_in_text(text) } else { 0 })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut largest = 0;
        while let Some(amount) = items.next_element_seed(self)? {
            largest = amount.max(largest);
        }
        Ok(largest)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<u64, A::Error> {
        let mut largest = 0;
        while let Some(key) = fields.next_key::<Cow<'de, str>>()? {
            let is_amount = AMOUNT_KEYS.iter().any(|known| known.eq_ignore_ascii_case(&key));
            largest = fields.next_value_seed(Walk { is_amount })?.max(largest);
        }
        Ok(largest)
    }
}

/// The whole part of an amount written as text, plus one where a fraction follows: `$1,250.50` is 1251.
fn amount_in_text(text: &str) -> u64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits =
        |part: &str| part.bytes().filter(u8::is_ascii_digit).map(|digit| u64::from(digit - b'0')).collect::<Vec<_>>();
    let value = digits(whole).into_iter().fold(0u64, |value, digit| value.saturating_mul(10).saturating_add(digit));
    value.saturating_add(u64::from(digits(fraction).into_iter().any(|digit| digit > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_amount_is_found_at_any_depth() {
        for (args, amount) in [
            ("", 0),
            ("{}", 0),
            (r#"{"amount": 250}"#, 250),
            (r#"{"Amount": -12.01, "count": 9999}"#, 13),
            (r#"{"payment_methods": [{"id": 77, "amount": 5}, {"amount": 450}]}"#, 450),
            (r#"{"\u0061mount": "$1,250.50"}"#, 1_251),
            (r#"{"total": 1e30}"#, u64::MAX),
            (r#"{"amounts": [1, 2, 3], "note": "amount: 900"}"#, 3),
            ("not json", u64::MAX),
        ] {
            assert_eq!(amount_in(args), amount, "{args}");
        }
    }
}
