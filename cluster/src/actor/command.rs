//! From an action to a command: keyed ids, facts about the action, the sealed body and its commitment.
//!
//! Reads the group's applied state for moments; what it read is named in the command (`policy_rev`, `agent_version`),
//! and apply refuses the command as stale where that has changed. The room under limits is a hint and is not named: apply
//! judges limits itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nethical_governance::command::{
    ActorKeys, CommandV1, CostV1, DecideV1, EvaluationV1, HeaderV1, RequestKey, ReviewV1, VerdictWord,
};
use nethical_governance::detect::DETECTORS_VERSION;
use nethical_governance::hold::region_id;
use nethical_governance::ledger::PolicyInForce;
use nethical_governance::policy::{AgentFacts, Bundle, evaluate_action};
use nethical_governance::quota::Subject;
use nethical_governance::quota::band::Band;
use nethical_protocol::action::Action;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, KeyedId, LogId};
use nethical_protocol::limits::APPROVAL_TTL_S_MAX;
use nethical_protocol::model::score_in;
use nethical_protocol::person::person_in;
use nethical_protocol::slot::slot_of;
use nethical_protocol::{buggify, probe};

use super::Ask;
use crate::body::{BodyV1, RedactedV1, SeenV1, ShadowV1};
use crate::canary::Judged;
use crate::control::view::{ControlView, Tenant};
use crate::lead::Lead;
use crate::redact;
use crate::scores::Foreseen;
use crate::sealing::{Sealed, Sealer};
use crate::shadow::{self, Pair};

/// Names whose keyed ids an actor remembers.
const IDS_REMEMBERED_MAX: usize = 32;

/// Builds commands for one agent; remembers the keyed ids of names that come again and again.
#[derive(Default)]
pub struct Builder {
    agent: Option<ActorKeys>,
    ids: BTreeMap<(&'static str, String), KeyedId>,
    sealer: Sealer,
}

impl Builder {
    /// The command for an ask, evaluated against the state as applied now; and what is to be counted once it is applied.
    pub fn build(&mut self, lead: &Lead, ask: &Ask) -> Result<(CommandV1, Counted), Problem> {
        let (action, tenant) = (&ask.action, &*ask.tenant);
        let model = score_in(&action.context_json)?;
        let person = person_in(&action.context_json)?;
        let actor = *self.agent.get_or_insert_with(|| actor_keys(tenant, &action.agent));
        let (policy, bundle) = policy_in_force(lead, &actor)?;
        let by_canary = policy.is_canary_for(actor.agent);
        let subject = self.subject(lead, tenant, action, actor);
        let costs = self.costs(tenant, action);
        let view = lead.shared().view();
        // A canary that stands in the shadow as well has nothing to be compared with where it decides itself.
        let candidate = view.shadow().filter(|candidate| candidate.digest() != bundle.digest());
        let room = Room { lead, view: &view, tenant: &tenant.spec.tenant, subject: &subject, costs: &costs };
        // The other bundle of the revision too, so that either can be held against what the other one decided.
        let other = view.bundle_at(policy.revision, !by_canary);
        let bands = room.under([Some(&bundle), other.as_ref(), candidate].into_iter().flatten());
        let (agent_version, facts) = {
            let machine = lead.machine().lock();
            (machine.ledger.agent_version(&actor), machine.ledger.agent_view(&actor))
        };
        let agent_version = if buggify!("actor.stale-version") { [0; 8] } else { agent_version };
        let seen = SeenV1 { status: facts.status, tier: facts.tier, epoch: facts.epoch, bands };
        let facts = AgentFacts::from(&seen);
        let detectors = &lead.shared().world.prepared.detectors;
        let evaluated = evaluate_action(
            &detectors.without(tenant.detectors_off()),
            &bundle,
            action,
            facts,
            &seen.bands_for(&bundle),
        );
        count_memo(evaluated.remembered);
        let (lifted, ttl_s) = (VerdictWord(evaluated.lifted), evaluated.approval_ttl_s);
        let evaluation = evaluated.evaluation;
        let foreseen = Some(foreseen(lead, tenant, &actor, model, &evaluation));
        let cast = |named: &Arc<Bundle>| shadow::cast(named, action, &evaluation, facts, &seen.bands_for(named));
        let shadow = candidate.map(cast);
        let counted = Counted { foreseen, ..Counted::of(&policy, by_canary, &evaluation, shadow.as_ref()) };
        let plaintext = sealed_words(redact::stored(detectors, tenant, action), &evaluation, seen, shadow);
        let person = person.map(|name| self.id(tenant, "person", &name));
        let Sealed { bytes, commitment, sealing } = self.sealer.seal(lead, &actor, person, &plaintext)?;
        let (request, digest) = request_key(tenant, action);
        let region = if action.region.is_empty() { lead.shared().region() } else { &action.region };
        let log = lead.machine().lock().log();
        let decide = DecideV1 {
            request,
            actor,
            session: subject.session,
            cohort: subject.cohort,
            tool: subject.tool,
            region: subject.region,
            resource: resource_id(tenant, action),
            kind: action.kind,
            costs,
            reserve_ttl_s: action.cost.iter().map(|cost| cost.ttl_s).max().map_or(0, |ttl_s| ttl_s as u32),
            policy_rev: policy.revision,
            by_canary,
            agent_version,
            evaluation,
            body_commitment: commitment,
            sealing: Some(sealing),
            region_in_zone: region_id(region),
            model_score: tenant.model_blending().carried(model),
            is_critical: action.is_critical,
            has_asked: ask.has_asked,
            review: ReviewV1 { digest, named: named_in(log, action), lifted, ttl_s: ttl(ttl_s) },
        };
        Ok((CommandV1 { header: HeaderV1::Decide(decide), body: bytes }, counted))
    }

    /// What limits match on and count by.
    fn subject(&mut self, lead: &Lead, tenant: &Tenant, action: &Action, actor: ActorKeys) -> Subject {
        let region = if action.region.is_empty() { lead.shared().region() } else { &action.region };
        Subject {
            actor,
            session: self.id(tenant, "session", &action.session),
            cohort: self.id(tenant, "cohort", &action.cohort),
            tool: self.id(tenant, "tool", &action.name),
            region: self.id(tenant, "region", region),
            is_critical: action.is_critical,
            has_asked: false,
        }
    }

    fn id(&mut self, tenant: &Tenant, purpose: &'static str, name: &str) -> KeyedId {
        if name.is_empty() {
            return KeyedId::NONE;
        }
        if let Some(id) = self.ids.get(&(purpose, name.to_owned())) {
            return *id;
        }
        if self.ids.len() >= IDS_REMEMBERED_MAX {
            self.ids.clear();
        }
        let id = tenant.keys.keyed_id(purpose, name);
        self.ids.insert((purpose, name.to_owned()), id);
        id
    }

    /// Amounts by unit, one request included, each unit once, sorted.
    fn costs(&mut self, tenant: &Tenant, action: &Action) -> Vec<CostV1> {
        let mut by_unit = BTreeMap::from([(self.id(tenant, "unit", "requests"), (1u64, false))]);
        for cost in &action.cost {
            let unit = self.id(tenant, "unit", &cost.unit);
            let (before, was_reserved) = match cost.unit.as_str() {
                "requests" => (0, false),
                _ => by_unit.get(&unit).copied().unwrap_or_default(),
            };
            by_unit.insert(unit, (before.saturating_add(cost.amount), was_reserved || cost.ttl_s > 0));
        }
        let costs = by_unit.into_iter();
        costs.map(|(unit, (amount, is_reserved))| CostV1 { unit, amount, is_reserved }).collect()
    }
}

/// What a node counts of a decision once it is applied. The command does not name it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counted {
    /// The candidate in the shadow beside the bundle that decided.
    pub shadow: Option<Pair>,
    /// The bundle that decided, while there is a canary.
    pub canary: Option<Judged>,
    /// What scorers go by.
    pub foreseen: Option<Foreseen>,
}

impl Counted {
    fn of(policy: &PolicyInForce, by_canary: bool, found: &EvaluationV1, shadow: Option<&ShadowV1>) -> Self {
        let (active, verdict) = (policy.digest, found.verdict.0);
        let canary = policy.canary.map(|canary| Judged { active, canary: canary.digest, by_canary, verdict });
        let pair = |cast: &ShadowV1| Pair { digest: cast.digest, enforced: verdict, shadow: cast.verdict };
        Self { shadow: shadow.map(pair), canary, foreseen: None }
    }
}

/// What scorers go by, once the action is decided.
fn foreseen(
    lead: &Lead,
    tenant: &Tenant,
    actor: &ActorKeys,
    model: Option<u16>,
    evaluation: &EvaluationV1,
) -> Foreseen {
    let now_ns = lead.shared().world.clock.wall_ns();
    let past = lead.machine().lock().ledger.past(actor, now_ns);
    Foreseen::of((tenant.id, tenant.model_blending()), model, past, evaluation)
}

/// Where an action's room is looked up: the counters of the group's state as applied, by the names of the tenant's limits.
struct Room<'a> {
    lead: &'a Lead,
    view: &'a ControlView,
    tenant: &'a str,
    subject: &'a Subject,
    costs: &'a [CostV1],
}

impl Room<'_> {
    /// The room under each limit that any of the bundles names, by id. Most name none, and cost nothing.
    fn under<'b>(&self, bundles: impl Iterator<Item = &'b Arc<Bundle>>) -> Vec<(String, Band)> {
        let named: BTreeSet<&String> = bundles.flat_map(|bundle| bundle.limits_named()).collect();
        if named.is_empty() {
            return Vec::new();
        }
        let now_ns = self.lead.shared().world.clock.wall_ns();
        let machine = self.lead.machine().lock();
        let look = |number| machine.ledger.band(number, self.subject, self.costs, now_ns);
        let band = |limit: &str| self.view.limit_number(self.tenant, limit).map_or(Band::None, look);
        named.into_iter().map(|limit| (limit.clone(), band(limit))).collect()
    }
}

fn count_memo(remembered: bool) {
    let result = if remembered { "hit" } else { "miss" };
    metrics::counter!("nethical_policy_memo_total", "result" => result).increment(1);
}

/// The plaintext of a decision's body: everything that it takes to evaluate the action again.
fn sealed_words(
    (action, redacted): (Action, Option<RedactedV1>),
    evaluation: &EvaluationV1,
    seen: SeenV1,
    shadow: Option<ShadowV1>,
) -> Vec<u8> {
    let (evaluation, detectors) = (evaluation.clone(), DETECTORS_VERSION);
    BodyV1::Decision { action, evaluation, seen, shadow, detectors, redacted }.to_bytes()
}

/// Who acts, as replicas know it.
pub fn actor_keys(tenant: &Tenant, agent: &str) -> ActorKeys {
    let slot = slot_of(&tenant.spec.tenant, agent, tenant.spec.placement);
    ActorKeys { slot, tenant: tenant.id, agent: tenant.keys.keyed_id("agent", agent) }
}

/// The policy that the group has in force, and that of its bundles which decides for the actor; it must be here.
fn policy_in_force(lead: &Lead, actor: &ActorKeys) -> Result<(PolicyInForce, Arc<Bundle>), Problem> {
    let in_force = lead.machine().lock().ledger.policy();
    let missing = |detail: &str| Problem::new(Code::NotReady, detail).retry_after_ms(200);
    let in_force = in_force.ok_or_else(|| missing("no policy is in force in this group yet"))?;
    let bundle = lead.shared().view().bundle_at(in_force.revision, in_force.is_canary_for(actor.agent));
    Ok((in_force, bundle.ok_or_else(|| missing("the bundle in force is not on this node yet"))?))
}

/// The leaf index of the approval that an action claims; 0, which never is one, where it names one of another log.
fn named_in(log: LogId, action: &Action) -> Option<u64> {
    let named: DecisionId = action.approval.parse().ok()?;
    Some(if named.log == log { named.leaf_index } else { 0 })
}

/// How long an approval lives, which a simulator may shorten.
fn ttl(seconds: u32) -> u32 {
    let longest = probe::knob("approval.ttl-s", APPROVAL_TTL_S_MAX);
    seconds.min(u32::try_from(longest).unwrap_or(u32::MAX))
}

/// The idempotency key: the id under the tenant key, and a MAC over everything whose change makes another request. And
/// the digest of the same without the approval that it names, which is what a person approves.
pub fn request_key(tenant: &Tenant, action: &Action) -> (RequestKey, KeyedId) {
    // What is not critical has the digest that it had before there was such a thing.
    let marks = [action.kind as u8, u8::from(action.is_critical)];
    let kind = if action.is_critical { &marks[..] } else { &marks[..1] };
    let costs: Vec<u8> = action
        .cost
        .iter()
        .flat_map(|cost| {
            [
                &(cost.unit.len() as u32).to_le_bytes()[..],
                cost.unit.as_bytes(),
                &cost.amount.to_le_bytes(),
                &cost.ttl_s.to_le_bytes(),
            ]
            .concat()
        })
        .collect();
    let parts: [&[u8]; 11] = [
        action.agent.as_bytes(),
        action.session.as_bytes(),
        action.cohort.as_bytes(),
        action.region.as_bytes(),
        kind,
        action.name.as_bytes(),
        action.resource_type.as_bytes(),
        action.resource_id.as_bytes(),
        action.args_json.as_bytes(),
        action.context_json.as_bytes(),
        &costs,
    ];
    let digest = tenant.keys.content_digest(&parts);
    let content = match action.approval.is_empty() {
        true => *digest.0.first_chunk().expect("a digest has 16 bytes"),
        false => tenant.keys.content_mac(&[&digest.0, action.approval.as_bytes()]),
    };
    let request = RequestKey {
        id: tenant.keys.keyed_id("request", &action.request_id),
        content,
        issued_at_ms: action.issued_at_ms,
        client_chosen: action.client_chosen,
    };
    (request, digest)
}

fn resource_id(tenant: &Tenant, action: &Action) -> KeyedId {
    match action.resource_type.is_empty() && action.resource_id.is_empty() {
        true => KeyedId::NONE,
        false => tenant.keys.keyed_id("resource", format!("{}/{}", action.resource_type, action.resource_id)),
    }
}
