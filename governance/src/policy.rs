//! Policy: a bundle of Cedar policies, and what it says about one action.
//!
//! Cedar knows permit and forbid; Nethical has five verdicts. A bundle says which with annotations:
//! - A `permit` gives `allow`, or `restrict` under `@verdict("restrict")`. Without a permit the action is blocked.
//! - A `forbid` gives `block`, or what its `@verdict` says: `restrict`, `escalate`, `block` or `terminate`.
//! - Of all rules that match, the most severe verdict wins: a forbid that only restricts does not take away a permit.
//! - `@id` names the rule (leaves carry its hash), `@reason` says why, `@obligation("a, b")` what the caller must do.
//! - A forbid that cannot be evaluated (a number overflows) counts as matching; such a permit does not.
//!
//! Cedar reports only the policies that determine its own answer, so permits and forbids are kept in separate sets and
//! asked separately: of a set of forbids it names all that match, of a set of permits too. The verdict is composed here.
//!
//! The request: principal `Agent::"<agent>"`, in `Tenant::"<tenant>"` and `Cohort::"<cohort>"`; action
//! `Action::"tool_call"` and so on, the kind; resource `Tool::"<action name>"`, in `Resource::"<type>/<id>"` and
//! `ResourceType::"<type>"` where the action touches a resource (write `resource in`, not `==`). The context is
//! `policy/schema.cedarschema`: typed facts, never raw text, which is why results can be remembered by them.
//!
//! Called by the agent's actor, before a command exists. Pure but for the memo, which shows only in speed.

mod action;
mod compose;
mod error;
mod memo;
mod reads;
mod request;
mod rule;
mod slice;

#[cfg(test)]
mod measured;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    AuthorizationError, Authorizer, Effect, Entities, Policy, PolicyId, PolicySet, Request, Schema, ValidationMode,
    Validator,
};
use nethical_protocol::action::ActionKind;
use nethical_protocol::decision::{AgentStatus, Verdict};
use nethical_protocol::limits::POLICY_BYTES_MAX;
use sha2::{Digest, Sha256};

pub use action::{AgentFacts, Evaluated, evaluate_action};
pub use error::PolicyError;
pub use rule::{DEFAULT_DENY, RuleText, rule_hash};

use crate::command::DetectionV1;
use crate::normalise::boundary_before;
use crate::outcome::RiskTier;
use compose::compose;
use memo::Memo;
use reads::Reads;
use request::Vocabulary;
use slice::{Slice, Slices};

/// Policies in one bundle.
pub const POLICIES_MAX: usize = 4_096;

const SCHEMA: &str = include_str!("policy/schema.cedarschema");

/// The bundle that a new zone starts with.
pub fn default_bundle_text() -> &'static str {
    include_str!("../../config/policies/default.cedar")
}

/// Everything that policy may know about an action and its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyInput<'a> {
    /// The tenant's name.
    pub tenant: &'a str,
    /// The agent's name.
    pub agent: &'a str,
    /// The session, or empty.
    pub session: &'a str,
    /// The cohort, or empty.
    pub cohort: &'a str,
    /// The region that the client named, or empty.
    pub region: &'a str,
    /// What sort of action.
    pub kind: ActionKind,
    /// The action's name.
    pub tool: &'a str,
    /// The resource's type, or empty.
    pub resource_type: &'a str,
    /// The resource's id, or empty.
    pub resource_id: &'a str,
    /// Where the agent stands.
    pub status: AgentStatus,
    /// The agent's risk tier.
    pub tier: RiskTier,
    /// The agent's epoch.
    pub epoch: u64,
    /// What detectors found.
    pub detections: &'a [DetectionV1],
    /// The largest number under a key such as `amount` in the arguments, rounded up, in whatever unit the tool takes.
    pub amount: u64,
    /// Bytes of arguments and context.
    pub bytes: u64,
    /// The action's cost in `usd_micros`.
    pub usd_micros: u64,
    /// The action's cost in all units that begin with `tokens`.
    pub tokens: u64,
    /// The action touches privileged ground.
    pub privileged: bool,
    /// Nobody watches the agent.
    pub automated: bool,
}

/// What a bundle says about an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyResult {
    /// The most severe verdict of all rules that matched.
    pub verdict: Verdict,
    /// The rules that determined it, by hash, sorted; at most `REASONS_MAX`.
    pub rules: Vec<[u8; 8]>,
    /// What those rules oblige to, sorted, each once.
    pub obligations: Vec<Arc<str>>,
    /// Those rules in words, most severe first.
    pub reasons: Vec<Arc<str>>,
}

/// A bundle that was checked and is ready to evaluate. Made once per revision, shared by all actors.
#[derive(Debug)]
pub struct Bundle {
    digest: [u8; 32],
    /// By position in the text; Cedar names them `policy0`, `policy1` …
    rules: Vec<RuleText>,
    forbids: Vec<bool>,
    default_deny: RuleText,
    by_hash: BTreeMap<[u8; 8], usize>,
    slices: Slices,
    reads: Reads,
    vocabulary: Vocabulary,
    memo: Memo,
}

impl Bundle {
    /// Parses a bundle, checks it against the schema and reads its annotations. Warnings are errors: a policy that can
    /// never match is a hole, not a detail.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            let message = format!("the bundle has {} bytes; at most {POLICY_BYTES_MAX} are accepted", text.len());
            return Err(PolicyError::at(text, 0, message));
        }
        let set: PolicySet =
            text.parse().map_err(|error| PolicyError::from_cedar(text, &DetailedError::from(&error), 0))?;
        let policies = in_text_order(text, &set)?;
        let mut rules = Vec::with_capacity(policies.len());
        let mut by_hash = BTreeMap::new();
        for (number, (offset, policy)) in policies.iter().enumerate() {
            let rule = RuleText::read(policy).map_err(|message| PolicyError::at(text, *offset, message))?;
            if by_hash.insert(rule.hash(), number).is_some() {
                return Err(PolicyError::at(text, *offset, format!("another policy has the id {:?}", rule.id)));
            }
            rules.push(rule);
        }
        validate(text, &set, &policies)?;
        let each = || policies.iter().map(|(_, policy)| policy);
        Ok(Self {
            digest: Sha256::digest(text.as_bytes()).into(),
            rules,
            forbids: each().map(|policy| policy.effect() == Effect::Forbid).collect(),
            default_deny: RuleText::default_deny(),
            by_hash,
            slices: Slices::new(each()),
            reads: Reads::of(each()),
            vocabulary: Vocabulary::new(),
            memo: Memo::new(),
        })
    }

    /// What the bundle says about an action.
    pub fn evaluate(&self, input: &PolicyInput<'_>) -> PolicyResult {
        let input = request::blanked(input, self.reads);
        self.memo.get_or(&request::key(&input), || self.compute(&input, self.reads, &mut self.slices.of(&input)))
    }

    /// True where a policy reads `context.action.amount`, so that the caller need not look for amounts otherwise.
    pub fn reads_amount(&self) -> bool {
        self.reads.any(Reads::AMOUNT)
    }

    /// A rule of this bundle in words, [`DEFAULT_DENY`] included.
    pub fn describe(&self, rule: [u8; 8]) -> Option<RuleText> {
        if rule == self.default_deny.hash() {
            return Some(self.default_deny.clone());
        }
        self.by_hash.get(&rule).map(|number| self.rules[*number].clone())
    }

    /// SHA-256 of the bundle's text.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Policies in the bundle.
    pub fn policy_count(&self) -> usize {
        self.rules.len()
    }

    fn compute(&self, input: &PolicyInput<'_>, reads: Reads, slices: &mut dyn Iterator<Item = &Slice>) -> PolicyResult {
        let (request, entities) = self.vocabulary.request(input, reads);
        let (mut matched, mut permitted) = (Vec::new(), false);
        for slice in slices {
            for set in [&slice.permits, &slice.forbids] {
                for number in self.matching(&request, set, &entities) {
                    permitted |= !self.forbids[number];
                    matched.push(&self.rules[number]);
                }
            }
        }
        compose(matched, permitted, &self.default_deny)
    }

    /// The policies of a set, all permits or all forbids, that match; forbids that cannot be evaluated among them.
    fn matching(&self, request: &Request, set: &PolicySet, entities: &Entities) -> Vec<usize> {
        if set.is_empty() {
            return Vec::new();
        }
        let response = Authorizer::new().is_authorized(request, set, entities);
        let broken = response.diagnostics().errors().map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
        });
        let broken = broken.filter_map(number_of).filter(|number| self.forbids[*number]);
        response.diagnostics().reason().filter_map(number_of).chain(broken).collect()
    }
}

/// The position in the text of the policy that Cedar calls `policy<n>`.
fn number_of(id: &PolicyId) -> Option<usize> {
    let name: &str = id.as_ref();
    name.strip_prefix("policy")?.parse().ok()
}

/// The policies in the order of the text, each with its offset there.
fn in_text_order(text: &str, set: &PolicySet) -> Result<Vec<(usize, Policy)>, PolicyError> {
    if set.num_of_templates() > 0 {
        return Err(PolicyError::at(
            text,
            text.find('?').unwrap_or(0),
            "templates (?principal, ?resource) are not supported",
        ));
    }
    let numbered: BTreeMap<usize, &Policy> =
        set.policies().filter_map(|policy| number_of(policy.id()).map(|number| (number, policy))).collect();
    if numbered.is_empty() || numbered.len() > POLICIES_MAX {
        return Err(PolicyError::at(
            text,
            0,
            format!("a bundle holds 1 to {POLICIES_MAX} policies, this one {}", numbered.len()),
        ));
    }
    let mut from = 0;
    let placed = numbered.into_values().map(|policy| {
        let source = policy.to_cedar().unwrap_or_default();
        let offset = text[from..].find(&source).map_or(from, |found| from + found);
        from = (offset + source.len()).min(text.len());
        (boundary_before(text, offset), policy.clone())
    });
    Ok(placed.collect())
}

fn validate(text: &str, set: &PolicySet, policies: &[(usize, Policy)]) -> Result<(), PolicyError> {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("the schema is part of this program and tested");
    let result = Validator::new(schema).validate(set, ValidationMode::Strict);
    let place = |id: &PolicyId| number_of(id).and_then(|number| policies.get(number)).map_or(0, |(offset, _)| *offset);
    let refusal =
        |(detail, at): (DetailedError, usize)| (PolicyError::from_cedar(text, &detail, at), detail.help.is_none());
    let errors = result.validation_errors().map(|error| (DetailedError::from(error), place(error.policy_id())));
    let warnings =
        result.validation_warnings().map(|warning| (DetailedError::from(warning), place(warning.policy_id())));
    // Cedar names them in no fixed order: the first place counts, there what gives advice, then the message, so that
    // every node says the same. An error tells more than the warning that follows from it, so warnings come second.
    let order = |(error, bare): &(PolicyError, bool)| (error.line, error.column, *bare, error.message.clone());
    let first = errors.map(refusal).min_by_key(order).or_else(|| warnings.map(refusal).min_by_key(order));
    first.map_or(Ok(()), |(error, _)| Err(error))
}
