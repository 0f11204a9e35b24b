//! The index that evaluation starts from: policies by the action and the tool (or tenant, or agent) that their heads name.
//!
//! A policy stands in one place for each action kind that it applies to: under the tool that its head names, else under
//! the agent, else under the tenant, else among those for all. An action looks into at most four places of one kind.
//! Permits and forbids stand apart, because Cedar names only determining policies: of a mixed set it would report either.

use std::collections::BTreeMap;

use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy, PolicySet, PrincipalConstraint, ResourceConstraint};
use nethical_protocol::action::ActionKind;

use super::PolicyInput;

/// Policies that are always asked together.
#[derive(Debug, Default)]
pub(super) struct Slice {
    pub permits: PolicySet,
    pub forbids: PolicySet,
}

impl Slice {
    pub(super) fn add(&mut self, policy: Policy) {
        let set = if policy.effect() == Effect::Permit { &mut self.permits } else { &mut self.forbids };
        set.add(policy).expect("ids within a bundle are unique, and a policy is added to a slice once");
    }
}

#[derive(Debug, Default)]
struct KindSlices {
    all: Slice,
    tools: BTreeMap<String, Slice>,
    agents: BTreeMap<String, Slice>,
    tenants: BTreeMap<String, Slice>,
}

/// All slices of a bundle, by kind.
#[derive(Debug)]
pub(super) struct Slices {
    kinds: Vec<KindSlices>,
}

impl Slices {
    pub(super) fn new<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut slices = Self { kinds: ActionKind::ALL.iter().map(|_| KindSlices::default()).collect() };
        for policy in policies {
            for (kind, place) in ActionKind::ALL.iter().zip(&mut slices.kinds) {
                if applies(&policy.action_constraint(), *kind) {
                    place.at(policy).add(policy.clone());
                }
            }
        }
        slices
    }

    /// The slices that may hold policies for an action.
    pub(super) fn of<'a>(&'a self, input: &PolicyInput<'_>) -> impl Iterator<Item = &'a Slice> + use<'a> {
        let kind = &self.kinds[input.kind as usize];
        let named = [kind.tools.get(input.tool), kind.agents.get(input.agent), kind.tenants.get(input.tenant)];
        std::iter::once(&kind.all).chain(named.into_iter().flatten())
    }
}

impl KindSlices {
    fn at(&mut self, policy: &Policy) -> &mut Slice {
        if let ResourceConstraint::Eq(tool) = policy.resource_constraint() {
            return self.tools.entry(name_of(&tool)).or_default();
        }
        match policy.principal_constraint() {
            PrincipalConstraint::Eq(agent) => self.agents.entry(name_of(&agent)).or_default(),
            PrincipalConstraint::In(above) | PrincipalConstraint::IsIn(_, above) if is_type(&above, "Tenant") => {
                self.tenants.entry(name_of(&above)).or_default()
            }
            _ => &mut self.all,
        }
    }
}

fn applies(constraint: &ActionConstraint, kind: ActionKind) -> bool {
    let is_kind = |action: &EntityUid| action.id().unescaped() == kind.as_str();
    match constraint {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(action) => is_kind(action),
        ActionConstraint::In(actions) => actions.iter().any(is_kind),
    }
}

fn name_of(entity: &EntityUid) -> String {
    entity.id().unescaped().to_owned()
}

fn is_type(entity: &EntityUid, name: &str) -> bool {
    entity.type_name().basename() == name
}
