//! What changes between two bundles, rule by rule: by `@id`, and by meaning, so that spaces and comments are no change.

use std::collections::BTreeMap;

use nethical_protocol::decision::Verdict;
use serde::Serialize;
use serde_json::Value;

use super::error::PolicyError;
use super::read::{self, Statement};

/// A rule of one bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleView {
    /// Its `@id`.
    pub rule: String,
    /// What it gives.
    pub verdict: Verdict,
    /// Its `@reason`, or empty.
    pub reason: String,
    /// Its text, annotations included.
    pub text: String,
}

/// A rule that both bundles have and that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleChange {
    /// Its `@id`.
    pub rule: String,
    /// What differs, of: effect, verdict, scope, conditions, obligations, reason.
    pub what: Vec<&'static str>,
    /// In the old bundle.
    pub before: RuleView,
    /// In the new one.
    pub after: RuleView,
}

/// All differences, each list sorted by rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BundleDiff {
    /// Only in the new bundle.
    pub added: Vec<RuleView>,
    /// Only in the old one.
    pub removed: Vec<RuleView>,
    /// In both, and different.
    pub changed: Vec<RuleChange>,
    /// Rules that are the same in both.
    pub unchanged: usize,
}

/// One of the two texts is no bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffError {
    /// The old one, with its problems.
    Old(Vec<PolicyError>),
    /// The new one, with its problems.
    New(Vec<PolicyError>),
}

/// Compares two bundles.
pub fn diff(old: &str, new: &str) -> Result<BundleDiff, DiffError> {
    let before = by_id(old).map_err(DiffError::Old)?;
    let mut after = by_id(new).map_err(DiffError::New)?;
    let mut found = BundleDiff::default();
    for (id, was) in before {
        let Some(is) = after.remove(&id) else {
            found.removed.push(view(&was, old));
            continue;
        };
        let what = differences(&was, &is);
        if what.is_empty() {
            found.unchanged += 1;
        } else {
            found.changed.push(RuleChange { rule: id, what, before: view(&was, old), after: view(&is, new) });
        }
    }
    found.added = after.values().map(|rule| view(rule, new)).collect();
    Ok(found)
}

fn by_id(text: &str) -> Result<BTreeMap<String, Statement>, Vec<PolicyError>> {
    let (statements, _) = read::read(text)?;
    Ok(statements.into_iter().map(|statement| (statement.rule.id.to_string(), statement)).collect())
}

fn view(statement: &Statement, text: &str) -> RuleView {
    RuleView {
        rule: statement.rule.id.to_string(),
        verdict: statement.rule.verdict,
        reason: statement.rule.reason.to_string(),
        text: text[statement.range.clone()].to_owned(),
    }
}

fn differences(was: &Statement, is: &Statement) -> Vec<&'static str> {
    let (before, after) = (meaning(was), meaning(is));
    let differs = |members: &[&str]| members.iter().any(|member| before.get(member) != after.get(member));
    let found = [
        ("effect", differs(&["effect"])),
        ("verdict", was.rule.verdict != is.rule.verdict),
        ("scope", differs(&["principal", "action", "resource"])),
        ("conditions", differs(&["conditions"])),
        ("obligations", was.rule.obligations != is.rule.obligations),
        ("reason", was.rule.reason != is.rule.reason),
    ];
    found.into_iter().filter_map(|(what, differs)| differs.then_some(what)).collect()
}

/// Cedar's JSON form. A policy that has none (there is no such policy) has its text there, so that it still compares.
fn meaning(statement: &Statement) -> Value {
    statement.policy.to_json().unwrap_or_else(|_| serde_json::json!({ "conditions": statement.policy.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"
        @id("p") permit(principal, action, resource);
        @id("pii") @verdict("restrict") @obligation("redact") forbid(principal, action, resource) when { context.detect.pii };
        @id("gone") forbid(principal == Agent::"rogue", action, resource);
        @id("amount") forbid(principal, action, resource) when { context.action.amount > 100 };
    "#;

    #[test]
    fn rules_are_compared_by_id_and_by_meaning() {
        let new = r#"
            @id("amount") @reason("too much") forbid(principal, action == Action::"tool_call", resource)
            when { context.action.amount > 200 };
            // moved, and spaced differently
            @id("p")
            permit (principal, action, resource);
            @id("pii") @verdict("escalate") forbid(principal, action, resource) when { context.detect.pii };
            @id("new") @reason("why") forbid(principal, action, resource) when { context.detect.secrets };
        "#;
        let found = diff(OLD, new).expect("both parse");
        let named = |views: &[RuleView]| views.iter().map(|view| view.rule.clone()).collect::<Vec<_>>();
        assert_eq!(
            (named(&found.added), named(&found.removed), found.unchanged),
            (vec!["new".into()], vec!["gone".into()], 1)
        );
        let changed: Vec<_> = found.changed.iter().map(|change| (change.rule.as_str(), change.what.clone())).collect();
        assert_eq!(
            changed,
            [("amount", vec!["scope", "conditions", "reason"]), ("pii", vec!["verdict", "obligations"])]
        );
        let pii = &found.changed[1];
        assert_eq!((pii.before.verdict, pii.after.verdict), (Verdict::Restrict, Verdict::Escalate));
        assert!(found.removed[0].text.starts_with("@id(\"gone\")") && found.removed[0].text.ends_with(';'));
    }

    #[test]
    fn a_bundle_equals_itself_and_a_bad_one_is_named() {
        let same = diff(OLD, OLD).expect("it parses");
        assert_eq!(same, BundleDiff { unchanged: 4, ..BundleDiff::default() });
        assert!(matches!(diff("permit", OLD), Err(DiffError::Old(problems)) if problems.len() == 1));
        assert!(matches!(diff(OLD, "permit"), Err(DiffError::New(_))));
    }
}
