//! From a bundle's text to its policies, or to everything that is wrong with it.
//!
//! Cedar judges syntax and, in strict mode against our schema, meaning; annotations are judged here. A text that does not
//! parse as a whole is read statement by statement, so that one missing bracket does not hide what else is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use nethical_protocol::limits::{POLICY_BANDS_MAX, POLICY_BYTES_MAX};

use super::error::PolicyError;
use super::rule::RuleText;
use super::{POLICIES_MAX, SCHEMA, number_of, reads, text};

/// Problems that are told of one bundle; the rest is cut.
pub(super) const PROBLEMS_MAX: usize = 256;

/// One policy where it stands.
pub(super) struct Statement {
    pub policy: Policy,
    pub rule: RuleText,
    /// Its bytes in the text, annotations included.
    pub range: Range<usize>,
}

/// A policy before its annotations are read. Cedar's places in it count from `base`.
struct Parsed {
    policy: Policy,
    range: Range<usize>,
    base: usize,
}

/// The policies of a bundle in order and the limits that they name, sorted; or its problems in order of their places: at
/// least one, at most [`PROBLEMS_MAX`].
pub(super) fn read(text: &str) -> Result<(Vec<Statement>, Vec<String>), Vec<PolicyError>> {
    if text.len() > POLICY_BYTES_MAX {
        let message = format!("the bundle has {} bytes; at most {POLICY_BYTES_MAX} are accepted", text.len());
        return Err(vec![PolicyError::at(text, 0, message)]);
    }
    let ranges = text::statements(text);
    if ranges.is_empty() || ranges.len() > POLICIES_MAX {
        let message = format!("a bundle holds 1 to {POLICIES_MAX} policies, this one {}", ranges.len());
        return Err(vec![PolicyError::at(text, 0, message)]);
    }
    let (parsed, mut problems) = parse(text, ranges);
    let rules = rules_of(text, &parsed, &mut problems);
    let limits = limits_named(text, &parsed, &mut problems);
    problems.extend(validate(text, &parsed, &limits));
    if !problems.is_empty() {
        sort(&mut problems);
        problems.truncate(PROBLEMS_MAX);
        return Err(problems);
    }
    let statement = |(parsed, rule): (Parsed, RuleText)| Statement { policy: parsed.policy, rule, range: parsed.range };
    Ok((parsed.into_iter().zip(rules).map(statement).collect(), limits.into_iter().collect()))
}

/// By place; at one place, what gives advice comes first.
fn sort(problems: &mut [PolicyError]) {
    problems.sort_by_key(|problem| {
        (problem.line, problem.column, problem.help.is_empty(), problem.message.clone(), problem.rule.clone())
    });
}

fn parse(text: &str, ranges: Vec<Range<usize>>) -> (Vec<Parsed>, Vec<PolicyError>) {
    let whole = match text.parse::<PolicySet>() {
        Ok(set) => return of_set(text, &set, &ranges),
        Err(errors) => errors,
    };
    let (mut parsed, mut problems) = (Vec::new(), Vec::new());
    for (number, range) in ranges.into_iter().enumerate() {
        let source = &text[range.clone()];
        match Policy::parse(Some(PolicyId::new(format!("policy{number}"))), source) {
            Ok(policy) => parsed.push(Parsed { policy, base: range.start, range }),
            Err(errors) => problems.extend(errors.iter().map(|error| {
                let error = PolicyError::from_cedar(text, &DetailedError::from(error), range.start, range.start);
                error.of_rule(text::id(source))
            })),
        }
    }
    if problems.is_empty() {
        problems.extend(whole.iter().map(|error| PolicyError::from_cedar(text, &DetailedError::from(error), 0, 0)));
    }
    (parsed, problems)
}

/// The policies of a text that parses. Cedar numbers them in order of the text, templates among them.
fn of_set(text: &str, set: &PolicySet, ranges: &[Range<usize>]) -> (Vec<Parsed>, Vec<PolicyError>) {
    let range_of = |id: &PolicyId| number_of(id).and_then(|number| ranges.get(number)).cloned();
    let template = |range: Range<usize>| {
        let source = &text[range.clone()];
        let at = range.start + text::slot(source).unwrap_or(0);
        let error = PolicyError::at(text, at, "templates (?principal, ?resource) are not supported");
        error.with_help("write the tenant, agent or tool in its place").of_rule(text::id(source))
    };
    let templates = set.templates().filter_map(|found| range_of(found.id())).map(template).collect();
    let numbered: BTreeMap<usize, &Policy> =
        set.policies().filter_map(|policy| number_of(policy.id()).map(|number| (number, policy))).collect();
    let parsed = numbered.into_values().map(|policy| Parsed {
        policy: policy.clone(),
        range: range_of(policy.id()).unwrap_or(0..text.len()),
        base: 0,
    });
    (parsed.collect(), templates)
}

/// Each policy's annotations. What is wrong with them, and every id that comes again, goes to `problems`.
fn rules_of(text: &str, parsed: &[Parsed], problems: &mut Vec<PolicyError>) -> Vec<RuleText> {
    let (mut rules, mut seen) = (Vec::new(), BTreeMap::new());
    for parsed in parsed {
        let source = &text[parsed.range.clone()];
        let place = |key: &str| parsed.range.start + text::annotation(source, key).unwrap_or(0);
        let (rule, wrong) = RuleText::read(&parsed.policy);
        problems.extend(wrong.into_iter().map(|fault| {
            PolicyError::at(text, place(&fault.key), fault.message).with_help(fault.help).of_rule(&rule.id)
        }));
        let first = *seen.entry(rule.hash()).or_insert(parsed.range.start);
        if first != parsed.range.start && !rule.id.is_empty() {
            let error = PolicyError::at(text, place("id"), format!("another policy has the id {:?}", rule.id));
            let line = PolicyError::at(text, first, "").line;
            problems.push(error.with_help(format!("the first one is at line {line}")).of_rule(&rule.id));
        }
        rules.push(rule);
    }
    rules
}

/// The limits whose room policies read. More than there may be are a problem of the first policy that names one more, and
/// left out of what is given.
fn limits_named(text: &str, parsed: &[Parsed], problems: &mut Vec<PolicyError>) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for parsed in parsed {
        let mut more = named.clone();
        if let Ok(json) = parsed.policy.to_json() {
            reads::limits_in(&json, &mut more);
        }
        if more.len() > POLICY_BANDS_MAX {
            let message =
                format!("a bundle names at most {POLICY_BANDS_MAX} limits in context.quota; this is one more");
            let rule = parsed.policy.annotation("id").unwrap_or_default();
            problems.push(PolicyError::at(text, parsed.range.start, message).of_rule(rule));
            break;
        }
        named = more;
    }
    named
}

/// The schema for a bundle that names these limits: each is a text of `context.quota`.
pub(super) fn schema_with(limits: &BTreeSet<String>) -> String {
    let quoted = |limit: &String| format!("\"{}\": String", limit.escape_debug());
    let attributes: Vec<String> = limits.iter().map(quoted).collect();
    SCHEMA.replace("quota: {}", &format!("quota: {{ {} }}", attributes.join(", ")))
}

/// What Cedar's validator says in strict mode. Warnings count as errors: a policy that can never match is a hole, not a
/// detail. A warning about a policy that has errors follows from them and is left out.
fn validate(text: &str, parsed: &[Parsed], limits: &BTreeSet<String>) -> Vec<PolicyError> {
    let (schema, _) = Schema::from_cedarschema_str(&schema_with(limits))
        .expect("the schema is part of this program and tested, and names in it are quoted");
    let mut set = PolicySet::new();
    for parsed in parsed {
        set.add(parsed.policy.clone()).expect("policies are numbered, so their ids differ");
    }
    let result = Validator::new(schema).validate(&set, ValidationMode::Strict);
    let by_id: BTreeMap<&PolicyId, &Parsed> = parsed.iter().map(|parsed| (parsed.policy.id(), parsed)).collect();
    let problem = |detail: DetailedError, id: &PolicyId| {
        let (start, base) = by_id.get(id).map_or((0, 0), |parsed| (parsed.range.start, parsed.base));
        let rule = by_id.get(id).map_or("", |parsed| parsed.policy.annotation("id").unwrap_or_default());
        PolicyError::from_cedar(text, &detail, base, start).of_rule(rule)
    };
    let faulty: BTreeSet<&PolicyId> = result.validation_errors().map(|error| error.policy_id()).collect();
    let errors = result.validation_errors().map(|error| problem(DetailedError::from(error), error.policy_id()));
    let warnings = result.validation_warnings().filter(|warning| !faulty.contains(warning.policy_id()));
    let warnings = warnings.map(|warning| problem(DetailedError::from(warning), warning.policy_id()));
    // Cedar says some things in several ways, and in no fixed order: of each place, the one that gives advice is kept.
    let mut problems: Vec<PolicyError> = errors.chain(warnings).collect();
    sort(&mut problems);
    problems.dedup_by_key(|problem| (problem.line, problem.column));
    problems
}
