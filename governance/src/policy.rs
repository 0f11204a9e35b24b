//! Policy: a bundle of Cedar policies, and what it says about one action.
//!
//! Cedar knows permit and forbid; Nethical has five verdicts. A bundle says which with annotations:
//! - A `permit` gives `allow`, or `restrict` under `@verdict("restrict")`. Without a permit the action is blocked.
//! - A `forbid` gives `block`, or what its `@verdict` says: `restrict`, `escalate`, `block` or `terminate`.
//! - Of all rules that match, the most severe verdict wins: a forbid that only restricts does not take away a permit.
//! - `@id` names the rule (leaves carry its hash), `@reason` says why, `@obligation("a, b")` what the caller must do,
//!   `@approval_ttl("900")` how many seconds a person has to approve what the rule escalates.
//! - A forbid that cannot be evaluated (a number overflows) counts as matching; such a permit does not.
//!
//! Cedar reports only the policies that determine its own answer, so permits and forbids are kept in separate sets and
//! asked separately: of a set of forbids it names all that match, of a set of permits too. The verdict is composed here.
//!
//! The request: principal `Agent::"<agent>"`, in `Tenant::"<tenant>"` and `Cohort::"<cohort>"`; action
//! `Action::"tool_call"` and so on, the kind; resource `Tool::"<action name>"`, in `Resource::"<type>/<id>"` and
//! `ResourceType::"<type>"` where the action touches a resource (write `resource in`, not `==`). The context is
//! `policy/schema.cedarschema`: typed facts, never raw text, which is why results can be remembered by them.
//! `context.quota` has one attribute for each limit that the bundle names, so its type is the bundle's own.
//!
//! Called by the agent's actor, before a command exists. Pure but for the memo, which shows only in speed.

mod action;
mod compose;
mod diff;
mod error;
mod memo;
mod read;
mod reads;
mod request;
mod rule;
mod slice;
mod text;

#[cfg(test)]
pub(crate) mod measured;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::{AuthorizationError, Authorizer, Effect, Entities, PolicyId, PolicySet, Request};
use nethical_protocol::action::ActionKind;
use nethical_protocol::decision::{AgentStatus, Verdict};
use sha2::{Digest, Sha256};

pub use action::{AgentFacts, Evaluated, Sizes, evaluate_action};
pub use diff::{BundleDiff, DiffError, RuleChange, RuleView, diff};
pub use error::PolicyError;
pub use rule::{DEFAULT_DENY, RuleText, rule_hash};

use crate::command::DetectionV1;
use crate::outcome::RiskTier;
use crate::quota::band::Band;
use compose::compose;
use memo::Memo;
use reads::Reads;
use request::Vocabulary;
use slice::{Slice, Slices};

/// Policies in one bundle.
pub const POLICIES_MAX: usize = 4_096;

const SCHEMA: &str = include_str!("policy/schema.cedarschema");

/// SHA-256 of a bundle's text, by which it is known everywhere.
pub fn digest_of(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Statements in a bundle's text: its rules, where it is a valid one.
pub fn rule_count(text: &str) -> usize {
    text::statements(text).len()
}

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
    /// The room under each limit that the bundle names, in the order of [`Bundle::limits_named`]; what is left out counts as
    /// [`Band::None`].
    pub bands: &'a [Band],
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
    /// What an escalation comes to once a person has approved it: allow, or restrict where a rule that matched restricts
    /// or obliges.
    pub lifted: Verdict,
    /// Seconds that an approval of it lives: the least that a rule that matched says.
    pub approval_ttl_s: u32,
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
    /// Parses a bundle, checks it against the schema and reads its annotations.
    ///
    /// # Errors
    /// The first of what [`Bundle::check`] tells.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Self::check(text).map_err(|problems| problems.into_iter().next().expect("a bundle is refused for a reason"))
    }

    /// As [`Bundle::parse`], and tells everything that is wrong, in order of line and column; at most 256 problems.
    pub fn check(text: &str) -> Result<Self, Vec<PolicyError>> {
        let (statements, limits) = read::read(text)?;
        let each = || statements.iter().map(|statement| &statement.policy);
        let rules: Vec<RuleText> = statements.iter().map(|statement| statement.rule.clone()).collect();
        Ok(Self {
            digest: digest_of(text),
            by_hash: rules.iter().enumerate().map(|(number, rule)| (rule.hash(), number)).collect(),
            rules,
            forbids: each().map(|policy| policy.effect() == Effect::Forbid).collect(),
            default_deny: RuleText::default_deny(),
            slices: Slices::new(each()),
            reads: Reads::of(each()),
            vocabulary: Vocabulary::new(limits),
            memo: Memo::new(),
        })
    }

    /// What the bundle says about an action.
    pub fn evaluate(&self, input: &PolicyInput<'_>) -> PolicyResult {
        self.recall(input).0
    }

    /// As [`Bundle::evaluate`], and whether the result was remembered from the same facts.
    fn recall(&self, input: &PolicyInput<'_>) -> (PolicyResult, bool) {
        let input = request::blanked(input, self.reads);
        self.memo.get_or(&request::key(&input), || self.compute(&input, self.reads, &mut self.slices.of(&input)))
    }

    /// True where a policy reads `context.action.amount`, so that the caller need not look for amounts otherwise.
    pub fn reads_amount(&self) -> bool {
        self.reads.any(Reads::AMOUNT)
    }

    /// The limits whose room policies read in `context.quota`, by id, sorted; at most `POLICY_BANDS_MAX`.
    pub fn limits_named(&self) -> &[String] {
        self.vocabulary.limits()
    }

    /// A rule of this bundle in words, [`DEFAULT_DENY`] included.
    pub fn describe(&self, rule: [u8; 8]) -> Option<RuleText> {
        if rule == self.default_deny.hash() {
            return Some(self.default_deny.clone());
        }
        self.by_hash.get(&rule).map(|number| self.rules[*number].clone())
    }

    /// The ids of its rules in the order of the text, [`DEFAULT_DENY`] last: what leaves may name under it.
    pub fn rule_ids(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().chain([&self.default_deny]).map(|rule| &*rule.id)
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
