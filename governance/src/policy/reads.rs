//! Which facts a bundle can read, so that evaluation builds nothing else and remembers results by nothing else.
//!
//! Found by walking the policies' JSON form. Where the walk meets something that it does not know, everything counts as
//! read: it may be too careful, never too narrow. That cannot give a wrong answer even if it were, because a fact that
//! counts as unread is blanked before policies see it (see [`super::request`]).

use std::collections::BTreeSet;

use cedar_policy::{Policy, PrincipalConstraint, ResourceConstraint};
use serde_json::Value;

use crate::detect;

/// A set of facts, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reads(u128);

macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $paths:expr;)*) => {
        impl Reads {
            $($(#[$doc])* pub(super) const $name: Reads = Reads(1 << $bit);)*
            const PATHS: &[(Reads, &[&str])] = &[$((Reads::$name, $paths),)*];
        }
    };
}

facts! {
    /// Who acts, and the tenant and cohort above it.
    PRINCIPAL = 0, &[];
    /// The resource above the tool.
    RESOURCE_ABOVE = 1, &[];
    STATUS = 2, &["agent.status"];
    TIER = 3, &["agent.tier", "agent.tier_level"];
    EPOCH = 4, &["agent.epoch"];
    /// The resource as text.
    RESOURCE_TEXT = 5, &["resource.type", "resource.id"];
    AMOUNT = 6, &["action.amount"];
    BYTES = 7, &["action.bytes"];
    USD = 8, &["cost.usd_micros"];
    TENANT = 9, &["tenant"];
    COHORT = 10, &["cohort"];
    REGION = 11, &["region"];
    SESSION = 12, &["session"];
    FLAGS = 13, &["automated", "privileged"];
    /// Always known, since slices are chosen by them.
    NAME = 14, &["action.name", "action.kind"];
    TOKENS = 15, &["cost.tokens"];
    /// The room under the limits that the bundle names.
    QUOTA = 16, &["quota"];
    /// Any personal data was found.
    PII = 17, &["detect.pii"];
    /// The highest severity.
    MAX = 18, &["detect.max"];
}

/// First bits of what each detector found: whether, and how severe.
const FOUND_AT: usize = 20;
const SEVERITY_AT: usize = FOUND_AT + detect::NAMES.len();
const _: () = assert!(SEVERITY_AT + detect::NAMES.len() <= 128);

impl Reads {
    const NOTHING: Reads = Reads(0);
    pub(super) const EVERYTHING: Reads = Reads(u128::MAX);
    /// Anything that detectors give.
    pub(super) const DETECTIONS: Reads = Reads(u128::MAX << FOUND_AT).or(Self::PII).or(Self::MAX);
    /// The resource, in either way.
    pub(super) const RESOURCE: Reads = Self::RESOURCE_ABOVE.or(Self::RESOURCE_TEXT);

    /// Whether the detector at a place of `detect::NAMES` found something.
    pub(super) const fn found(place: usize) -> Reads {
        Reads(1 << (FOUND_AT + place))
    }

    /// How severe that was.
    pub(super) const fn severity(place: usize) -> Reads {
        Reads(1 << (SEVERITY_AT + place))
    }

    /// True where any of `facts` is read.
    pub(super) fn any(self, facts: Reads) -> bool {
        self.0 & facts.0 != 0
    }

    /// Either of two sets.
    pub(super) const fn or(self, other: Reads) -> Reads {
        Reads(self.0 | other.0)
    }

    /// What the policies read together.
    pub(super) fn of<'a>(policies: impl Iterator<Item = &'a Policy>) -> Reads {
        policies.fold(Self::NOTHING, |reads, policy| reads.or(Self::of_one(policy)))
    }

    fn of_one(policy: &Policy) -> Reads {
        let mut reads = Self::NOTHING;
        if policy.principal_constraint() != PrincipalConstraint::Any {
            reads = reads.or(Self::PRINCIPAL);
        }
        if !matches!(policy.resource_constraint(), ResourceConstraint::Any | ResourceConstraint::Eq(_)) {
            reads = reads.or(Self::RESOURCE_ABOVE);
        }
        match policy.to_json() {
            Ok(json) => reads.or(json.get("conditions").map_or(Self::NOTHING, Self::of_expression)),
            Err(_) => Self::EVERYTHING,
        }
    }

    fn of_expression(expression: &Value) -> Reads {
        if let Some(path) = context_path(expression) {
            return Self::of_path(&path);
        }
        match expression {
            Value::Object(fields) => match fields.get("Var").filter(|_| fields.len() == 1) {
                Some(Value::String(name)) if name == "principal" => Self::PRINCIPAL,
                Some(Value::String(name)) if name == "resource" => Self::RESOURCE_ABOVE,
                Some(Value::String(name)) if name == "action" => Self::NOTHING,
                Some(_) => Self::EVERYTHING,
                None => fields.values().fold(Self::NOTHING, |reads, field| reads.or(Self::of_expression(field))),
            },
            Value::Array(items) => items.iter().fold(Self::NOTHING, |reads, item| reads.or(Self::of_expression(item))),
            _ => Self::NOTHING,
        }
    }

    /// Facts at, above or below a path.
    fn of_path(path: &str) -> Reads {
        let below = |longer: &str, shorter: &str| {
            longer.strip_prefix(shorter).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let touches = |known: &str| below(known, path) || below(path, known);
        let mut touched = Self::PATHS
            .iter()
            .filter(|(_, paths)| paths.iter().any(|known| touches(known)))
            .fold(Self::NOTHING, |reads, (fact, _)| reads.or(*fact));
        for (place, name) in detect::NAMES.into_iter().enumerate() {
            let each =
                [(format!("detect.{name}"), Self::found(place)), (format!("severity.{name}"), Self::severity(place))];
            touched =
                each.into_iter().filter(|(known, _)| touches(known)).fold(touched, |reads, (_, fact)| reads.or(fact));
        }
        if touched == Self::NOTHING { Self::EVERYTHING } else { touched }
    }
}

/// The limits whose room an expression reads: `x` for `context.quota.x` and `context.quota has x`, each once.
pub(super) fn limits_in(expression: &Value, found: &mut BTreeSet<String>) {
    match expression {
        Value::Object(fields) => {
            let access = fields.get(".").or_else(|| fields.get("has")).filter(|_| fields.len() == 1);
            let left = access.and_then(|access| access.get("left")).and_then(context_path);
            let attribute = access.and_then(|access| access.get("attr")).and_then(Value::as_str);
            if let (Some("quota"), Some(limit)) = (left.as_deref(), attribute) {
                found.insert(limit.to_owned());
            }
            fields.values().for_each(|field| limits_in(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| limits_in(item, found)),
        _ => {}
    }
}

/// `agent.tier` for `context.agent.tier`; none for an expression that is not an attribute of the context.
fn context_path(expression: &Value) -> Option<String> {
    let fields = expression.as_object().filter(|fields| fields.len() == 1)?;
    let access = fields.get(".").or_else(|| fields.get("has"))?.as_object()?;
    let (left, attribute) = (access.get("left")?, access.get("attr")?.as_str()?);
    let is_context = left.get("Var").and_then(Value::as_str) == Some("context");
    if is_context { Some(attribute.to_owned()) } else { Some(format!("{}.{attribute}", context_path(left)?)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(text: &str) -> Reads {
        Reads::of_one(&Policy::parse(None, text).expect("a policy"))
    }

    #[test]
    fn facts_are_found_where_policies_read_them() {
        let when = |condition: &str| reads(&format!("forbid(principal, action, resource) when {{ {condition} }};"));
        assert_eq!(when("true"), Reads::NOTHING);
        assert_eq!(when("context.agent.tier == \"high\""), Reads::TIER);
        assert_eq!(when("context.detect.pii && context.action.amount > 3"), Reads::PII.or(Reads::AMOUNT));
        assert_eq!(when("context.severity.email > 3 || context.detect.phone"), Reads::severity(0).or(Reads::found(1)));
        let all = (0..detect::NAMES.len()).map(Reads::found).fold(Reads::PII.or(Reads::MAX), Reads::or);
        assert_eq!(when("context.detect == {pii: true}"), all);
        assert_eq!(when("context.resource.id like \"a*\""), Reads::RESOURCE_TEXT);
        assert_eq!(when("context has region"), Reads::REGION);
        assert_eq!(when("context.agent == {status: \"a\"}"), Reads::STATUS.or(Reads::TIER).or(Reads::EPOCH));
        assert_eq!(when("context.quota.daily == \"out\""), Reads::QUOTA);
        assert_eq!(when("context.quota[\"a.b\"] == \"out\""), Reads::QUOTA);
        assert_eq!(when("[context] == []"), Reads::EVERYTHING);
        assert_eq!(when("context.unknown"), Reads::EVERYTHING);
        assert_eq!(when("{Var: context.session}.Var == \"s\""), Reads::EVERYTHING);
        assert_eq!(when("principal in Tenant::\"t\""), Reads::PRINCIPAL);
        assert_eq!(reads("permit(principal, action, resource == Tool::\"x\");"), Reads::NOTHING);
        assert_eq!(reads("permit(principal, action, resource in Resource::\"a/b\");"), Reads::RESOURCE_ABOVE);
        assert_eq!(reads("permit(principal in Tenant::\"t\", action, resource);"), Reads::PRINCIPAL);
    }

    #[test]
    fn limits_are_found_where_policies_name_them() {
        let named = |condition: &str| {
            let text = format!("forbid(principal, action, resource) when {{ {condition} }};");
            let json = Policy::parse(None, text).expect("a policy").to_json().expect("it has a JSON form");
            let mut found = BTreeSet::new();
            limits_in(&json, &mut found);
            found.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(
            named("context.quota.daily == \"out\" || [context.quota[\"a \\\"b\\\"\"]] == [\"low\"]"),
            ["a \"b\"", "daily"]
        );
        assert_eq!(named("context.quota has weekly && context.agent.tier == \"quota.x\""), ["weekly"]);
        assert!(named("context.tenant == \"quota\" && {quota: {x: 1}}.quota.x == 1").is_empty());
    }
}
