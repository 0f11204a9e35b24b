//! Automatic quarantine: whether an action sets off a rule, judged in apply at the action's own position.
//!
//! A rule holds an agent as an operator would, by a hold-order on it, and is released as one. What was counted towards a
//! rule is forgotten when a hold begins and when it ends, so that one cause holds an agent once. Integers only; no clock.

use std::collections::BTreeMap;

use nethical_protocol::control::HoldEffect;
use nethical_protocol::ids::{ControlRevision, KeyedId};
use nethical_protocol::quarantine::{QuarantineFact, QuarantineRuleFact, QuarantineWhenFact};

use crate::command::DetectionV1;
use crate::outcome::RiskTier;
use crate::risk::{Assessment, RECENT_MAX, RiskProfile};

/// A rule's number for ever: the control revision that set it, and its place in the set, from 1, in the lowest byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RuleNumber(pub u64);

impl RuleNumber {
    fn of(revision: ControlRevision, place: usize) -> Self {
        Self(revision.0 << 8 | (place as u64 + 1) & 0xff)
    }

    /// The control revision that set the rule.
    pub fn revision(self) -> u64 {
        self.0 >> 8
    }

    /// The rule's place in its set, from 1.
    pub fn place(self) -> u64 {
        self.0 & 0xff
    }
}

/// The rules in force, by tenant; [`KeyedId::NONE`] for the zone's.
#[derive(Debug, Clone, Default)]
pub struct QuarantineRules {
    sets: BTreeMap<KeyedId, (ControlRevision, Vec<QuarantineRuleFact>)>,
}

impl QuarantineRules {
    /// Puts a set in force, in place of the one before; an empty one ends it.
    pub(crate) fn set(&mut self, revision: ControlRevision, fact: QuarantineFact) {
        match fact.rules.is_empty() {
            true => drop(self.sets.remove(&fact.tenant)),
            false => drop(self.sets.insert(fact.tenant, (revision, fact.rules))),
        }
    }

    /// All sets by tenant.
    pub fn iter(&self) -> impl Iterator<Item = (ControlRevision, QuarantineFact)> {
        self.sets
            .iter()
            .map(|(tenant, (revision, rules))| (*revision, QuarantineFact { tenant: *tenant, rules: rules.clone() }))
    }

    /// Sets in force.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// True where no rule is in force.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// The rule that an action sets off: the first that blocks, else the first; the tenant's before the zone's.
    pub(crate) fn tripped(&self, tenant: KeyedId, deed: &Deed<'_>) -> Option<(RuleNumber, QuarantineRuleFact)> {
        if self.sets.is_empty() {
            return None;
        }
        let mut chosen: Option<(RuleNumber, QuarantineRuleFact)> = None;
        for (revision, rules) in [tenant, KeyedId::NONE].iter().filter_map(|scope| self.sets.get(scope)) {
            for (place, rule) in rules.iter().enumerate().filter(|(_, rule)| deed.sets_off(&rule.when)) {
                let stronger = rule.effect == HoldEffect::Block
                    && chosen.is_none_or(|(_, chosen)| chosen.effect == HoldEffect::Restrict);
                if chosen.is_none() || stronger {
                    chosen = Some((RuleNumber::of(*revision, place), *rule));
                }
            }
        }
        chosen
    }
}

/// What is counted of an agent towards rules, beside its risk profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Watch {
    /// Judged actions in a row that left the tier at elevated.
    pub(crate) elevated: u16,
    /// Severities of the violations in [`RiskProfile::recent_ns`]; 0 for what counts no more.
    pub(crate) severities: [u16; RECENT_MAX],
}

impl Watch {
    /// Counts an action that was judged. Those that were refused and did no wrong are not.
    pub(crate) fn count(&mut self, assessment: &Assessment) {
        self.elevated = self.elevated_after(assessment);
        if assessment.violates {
            self.severities.copy_within(..RECENT_MAX - 1, 1);
            self.severities[0] = assessment.severity;
        }
    }

    fn elevated_after(&self, assessment: &Assessment) -> u16 {
        match RiskTier::of(assessment.score) {
            RiskTier::Elevated => self.elevated.saturating_add(1),
            RiskTier::Low | RiskTier::Normal | RiskTier::High => 0,
        }
    }
}

/// An action on its way, as rules see it.
pub(crate) struct Deed<'a> {
    pub now_ns: u64,
    pub watch: &'a Watch,
    /// Before this action.
    pub risk: &'a RiskProfile,
    pub assessment: &'a Assessment,
    /// It would go ahead, or violates.
    pub is_judged: bool,
    pub of_text: &'a [DetectionV1],
    pub of_behaviour: &'a [DetectionV1],
}

impl Deed<'_> {
    fn sets_off(&self, when: &QuarantineWhenFact) -> bool {
        match *when {
            QuarantineWhenFact::Elevated { actions } => {
                self.is_judged && self.watch.elevated_after(self.assessment) >= actions.max(1)
            }
            QuarantineWhenFact::Violations { count, severity, within_ns } => {
                self.violates(severity) && self.violations(severity, within_ns) >= usize::from(count)
            }
            QuarantineWhenFact::Finding { detector, severity } => {
                let mut found = self.of_text.iter().chain(self.of_behaviour);
                found.any(|found| found.detector == detector && found.severity >= severity)
            }
        }
    }

    fn violates(&self, severity: u16) -> bool {
        self.assessment.violates && self.assessment.severity >= severity
    }

    /// Violations of such a severity that are younger than `within_ns`, this action's included.
    fn violations(&self, severity: u16, within_ns: u64) -> usize {
        let before = self.risk.recent_ns.iter().zip(&self.watch.severities);
        let counts = |(at_ns, of): &(&u64, &u16)| {
            **of > 0 && **of >= severity && self.now_ns.saturating_sub(**at_ns) < within_ns
        };
        1 + before.filter(counts).count()
    }
}
