//! Rules for automatic quarantine: whether a set fits the zone, which sets are in force, and what partitions hear of one.

use std::collections::BTreeMap;

use nethical_governance::detect;
use nethical_governance::risk::VIOLATION_SEVERITY_MIN;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::KeyedId;
use nethical_protocol::quarantine::{
    QUARANTINE_RULES_MAX, QUARANTINE_RUN_MAX, QUARANTINE_SECONDS_MAX, QUARANTINE_VIOLATIONS_MAX, QuarantineFact,
    QuarantineRule, QuarantineRuleFact, QuarantineSpec, QuarantineWhen, QuarantineWhenFact,
};

use super::{ControlState, EventV1, invalid};

const SECOND_NS: u64 = 1_000_000_000;

/// The event that a set amounts to; `None` where it is in force already.
///
/// # Errors
/// Everything that is wrong with it, rule by rule; nothing is set then.
pub(super) fn event_of(state: &ControlState, spec: &QuarantineSpec) -> Result<Option<EventV1>, Problem> {
    let known = |event: &EventV1| matches!(event, EventV1::Tenant { spec: tenant, .. } if tenant.tenant == spec.tenant);
    if !spec.tenant.is_empty() && !state.events().iter().any(|event| known(&event.event)) {
        return Err(Problem::new(Code::UnknownTenant, format!("there is no tenant {:?}", spec.tenant)));
    }
    let wrong = problems(spec);
    if !wrong.is_empty() {
        return Err(invalid(wrong.join("; ")));
    }
    let mut in_force = Sets::default();
    state.events().iter().for_each(|event| in_force.fold(&event.event));
    let old = in_force.0.get(&spec.tenant).map_or(&[][..], |old| &old.rules);
    Ok((old != spec.rules).then(|| EventV1::Quarantine(spec.clone())))
}

fn problems(spec: &QuarantineSpec) -> Vec<String> {
    let mut wrong = Vec::new();
    if spec.rules.len() > QUARANTINE_RULES_MAX {
        wrong.push(format!("a set has at most {QUARANTINE_RULES_MAX} rules; this one has {}", spec.rules.len()));
    }
    for (place, rule) in (1..).zip(&spec.rules) {
        wrong.extend(problems_of(rule).into_iter().map(|what| format!("rule {place}: {what}")));
    }
    wrong
}

fn problems_of(rule: &QuarantineRule) -> Vec<String> {
    let within = |what: &str, value: u64, least: u64, most: u64| {
        let fits = (least..=most).contains(&value);
        (!fits).then(|| format!("{what} must be {least} to {most}; it is {value}"))
    };
    let ttl = within("ttl_s", rule.ttl_s, 0, QUARANTINE_SECONDS_MAX);
    let when = match &rule.when {
        QuarantineWhen::Elevated { actions } => {
            vec![within("actions", u64::from(*actions), 1, u64::from(QUARANTINE_RUN_MAX))]
        }
        QuarantineWhen::Violations { count, severity, within_s } => vec![
            within("count", u64::from(*count), 1, u64::from(QUARANTINE_VIOLATIONS_MAX)),
            within("severity", u64::from(*severity), u64::from(VIOLATION_SEVERITY_MIN), 1_000),
            within("within_s", *within_s, 1, QUARANTINE_SECONDS_MAX),
        ],
        QuarantineWhen::Finding { finding, severity } => {
            let unknown = detect::number(finding).is_none();
            let shown: String = finding.chars().take(40).collect();
            let named = unknown.then(|| format!("no detector is called {shown:?}"));
            vec![named, within("severity", u64::from(*severity), 1, 1_000)]
        }
    };
    when.into_iter().flatten().chain(ttl).collect()
}

/// The sets in force by tenant; "" for the zone's.
#[derive(Debug, Clone, Default)]
pub struct Sets(BTreeMap<String, QuarantineSpec>);

impl Sets {
    /// The sets after one more event.
    pub fn fold(&mut self, event: &EventV1) {
        let EventV1::Quarantine(spec) = event else { return };
        match spec.rules.is_empty() {
            true => drop(self.0.remove(&spec.tenant)),
            false => drop(self.0.insert(spec.tenant.clone(), spec.clone())),
        }
    }

    /// All sets, the zone's first.
    pub fn iter(&self) -> impl Iterator<Item = &QuarantineSpec> {
        self.0.values()
    }
}

/// What partitions hear of a set. A detector that this release does not know finds nothing.
pub(super) fn fact_of(tenant: KeyedId, spec: &QuarantineSpec) -> QuarantineFact {
    let when = |when: &QuarantineWhen| match when {
        QuarantineWhen::Elevated { actions } => QuarantineWhenFact::Elevated { actions: *actions },
        QuarantineWhen::Violations { count, severity, within_s } => QuarantineWhenFact::Violations {
            count: *count,
            severity: *severity,
            within_ns: within_s.saturating_mul(SECOND_NS),
        },
        QuarantineWhen::Finding { finding, severity } => {
            QuarantineWhenFact::Finding { detector: detect::number(finding).unwrap_or(0), severity: *severity }
        }
    };
    let rule = |rule: &QuarantineRule| QuarantineRuleFact {
        when: when(&rule.when),
        effect: rule.effect,
        ttl_ns: rule.ttl_s.saturating_mul(SECOND_NS),
    };
    QuarantineFact { tenant, rules: spec.rules.iter().map(rule).collect() }
}

#[cfg(test)]
mod tests {
    use nethical_protocol::control::{HoldEffect, TenantSpec};
    use nethical_protocol::ids::ControlRevision;

    use super::super::signing::Place;
    use super::super::{AskV1, ChangeV1, Changed};
    use super::*;

    fn put(state: &mut ControlState, tenant: &str, rules: &str) -> Changed {
        let rules = serde_json::from_str(rules).expect("rules");
        let change = AskV1::PutQuarantine(QuarantineSpec { tenant: tenant.into(), rules });
        state.apply(&ChangeV1 { now_ns: 1, change }, Place::default())
    }

    #[test]
    fn a_set_is_put_replaced_and_ended_by_an_empty_one() {
        let mut state = ControlState::default();
        let spec = TenantSpec::named("t");
        state.apply(&ChangeV1 { now_ns: 1, change: AskV1::PutTenant { spec, wrapped_key: vec![] } }, Place::default());
        let one = r#"[{"when": "elevated", "actions": 3, "effect": "restrict", "ttl_s": 60}]"#;
        assert_eq!(put(&mut state, "t", one), Changed::Revision(ControlRevision(2)));
        assert_eq!(put(&mut state, "t", one), Changed::Unchanged(ControlRevision(2)));
        let two = r#"[{"when": "violations", "count": 5, "severity": 500, "within_s": 60},
            {"when": "finding", "finding": "exfiltration", "severity": 500}]"#;
        assert_eq!(put(&mut state, "", two), Changed::Revision(ControlRevision(3)));
        let mut sets = Sets::default();
        state.events().iter().for_each(|event| sets.fold(&event.event));
        assert_eq!(
            sets.iter().map(|set| (set.tenant.as_str(), set.rules.len())).collect::<Vec<_>>(),
            [("", 2), ("t", 1)]
        );
        let fact = fact_of(KeyedId::NONE, sets.iter().next().expect("the zone's"));
        let exfiltration = QuarantineWhenFact::Finding { detector: 134, severity: 500 };
        assert_eq!((fact.rules[1].when, fact.rules[1].effect), (exfiltration, HoldEffect::Block));
        assert_eq!(put(&mut state, "t", "[]"), Changed::Revision(ControlRevision(4)));
        assert_eq!(put(&mut state, "t", "[]"), Changed::Unchanged(ControlRevision(4)));
    }

    #[test]
    fn all_that_is_wrong_with_a_set_is_told_at_once_and_nothing_is_set() {
        let mut state = ControlState::default();
        let Changed::Refused(problem) = put(&mut state, "nobody", "[]") else { panic!("accepted") };
        assert_eq!(problem.code, Code::UnknownTenant);
        let bad = r#"[{"when": "elevated", "actions": 0}, {"when": "violations", "count": 11, "severity": 100, "within_s": 0},
            {"when": "finding", "finding": "vibes", "severity": 0, "ttl_s": 999999999999}]"#;
        let Changed::Refused(problem) = put(&mut state, "", bad) else { panic!("accepted") };
        assert_eq!(problem.code, Code::InvalidControl);
        for part in
            ["rule 1: actions", "rule 2: count", "rule 2: severity", "rule 2: within_s", "\"vibes\"", "rule 3: ttl_s"]
        {
            assert!(problem.detail.contains(part), "{part} in {}", problem.detail);
        }
        let nine = format!("[{}]", [r#"{"when": "elevated", "actions": 1}"#; 9].join(","));
        assert!(matches!(put(&mut state, "", &nine), Changed::Refused(_)));
        assert_eq!(state.revision(), ControlRevision(0));
    }
}
