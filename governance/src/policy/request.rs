//! From facts to what Cedar is asked: principal, action, resource, context, and the entities above them.
//!
//! Facts that the bundle does not read are blanked first. What is left makes both the request and the memo's key, so a
//! remembered result cannot depend on anything that is not in its key.

use std::collections::{BTreeMap, HashSet};

use cedar_policy::{Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression};
use nethical_protocol::action::ActionKind;
use nethical_protocol::decision::AgentStatus;

use super::PolicyInput;
use super::reads::Reads;
use crate::detect;
use crate::outcome::RiskTier;
use crate::quota::band::Band;

/// Names of entity types and actions, parsed once per bundle.
#[derive(Debug)]
pub(super) struct Vocabulary {
    agent: EntityTypeName,
    tenant: EntityTypeName,
    cohort: EntityTypeName,
    tool: EntityTypeName,
    resource: EntityTypeName,
    resource_type: EntityTypeName,
    actions: Vec<EntityUid>,
    /// The limits that policies name, sorted.
    limits: Vec<String>,
}

impl Vocabulary {
    pub(super) fn new(limits: Vec<String>) -> Self {
        let entity_type = |name: &str| name.parse::<EntityTypeName>().expect("an identifier is an entity type name");
        let action = entity_type("Action");
        let actions = ActionKind::ALL.iter().map(|kind| uid(&action, kind.as_str())).collect();
        Self {
            limits,
            agent: entity_type("Agent"),
            tenant: entity_type("Tenant"),
            cohort: entity_type("Cohort"),
            tool: entity_type("Tool"),
            resource: entity_type("Resource"),
            resource_type: entity_type("ResourceType"),
            actions,
        }
    }

    pub(super) fn limits(&self) -> &[String] {
        &self.limits
    }

    /// The request and its entities. Reads only facts in `reads`; give it a blanked input all the same.
    pub(super) fn request(&self, input: &PolicyInput<'_>, reads: Reads) -> (Request, Entities) {
        let principal = uid(&self.agent, input.agent);
        let tool = uid(&self.tool, input.tool);
        let mut entities = Vec::new();
        if reads.any(Reads::PRINCIPAL) {
            let mut above = HashSet::from([uid(&self.tenant, input.tenant)]);
            if !input.cohort.is_empty() {
                above.insert(uid(&self.cohort, input.cohort));
            }
            entities.push(Entity::new_no_attrs(principal.clone(), above));
        }
        if reads.any(Reads::RESOURCE_ABOVE) && !input.resource_type.is_empty() {
            let name = format!("{}/{}", input.resource_type, input.resource_id);
            let above = HashSet::from([uid(&self.resource, &name), uid(&self.resource_type, input.resource_type)]);
            entities.push(Entity::new_no_attrs(tool.clone(), above));
        }
        let entities = match entities.is_empty() {
            true => Entities::empty(),
            false => Entities::from_entities(entities, None).expect("two entities of two types do not repeat or cycle"),
        };
        let action = self.actions[input.kind as usize].clone();
        let context = Context::from_pairs(self.facts(input, reads)).expect("the names of a context are distinct");
        let request =
            Request::new(principal, action, tool, context, None).expect("without a schema nothing is checked");
        (request, entities)
    }

    fn facts(&self, input: &PolicyInput<'_>, reads: Reads) -> Pairs {
        let mut pairs = facts(input, reads);
        if reads.any(Reads::DETECTIONS) {
            pairs.extend(findings(severities(input), reads));
        }
        if reads.any(Reads::QUOTA) {
            let bands = input.bands.iter().copied().chain(std::iter::repeat(Band::None));
            let named = self.limits.iter().zip(bands);
            pairs.insert("quota".to_owned(), record(named.map(|(limit, band)| (&**limit, text(band.as_str())))));
        }
        pairs
    }
}

fn uid(entity_type: &EntityTypeName, name: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(entity_type.clone(), EntityId::new(name))
}

/// The input with everything blanked that is not in `reads`.
pub(super) fn blanked<'a>(input: &PolicyInput<'a>, reads: Reads) -> PolicyInput<'a> {
    let text = |facts: Reads, text: &'a str| if reads.any(facts) { text } else { "" };
    let number = |facts: Reads, number: u64| if reads.any(facts) { number } else { 0 };
    PolicyInput {
        tenant: text(Reads::PRINCIPAL.or(Reads::TENANT), input.tenant),
        agent: text(Reads::PRINCIPAL, input.agent),
        session: text(Reads::SESSION, input.session),
        cohort: text(Reads::PRINCIPAL.or(Reads::COHORT), input.cohort),
        region: text(Reads::REGION, input.region),
        kind: input.kind,
        tool: input.tool,
        resource_type: text(Reads::RESOURCE, input.resource_type),
        resource_id: text(Reads::RESOURCE, input.resource_id),
        status: if reads.any(Reads::STATUS) { input.status } else { AgentStatus::default() },
        tier: if reads.any(Reads::TIER) { input.tier } else { RiskTier::default() },
        epoch: number(Reads::EPOCH, input.epoch),
        detections: if reads.any(Reads::DETECTIONS) { input.detections } else { &[] },
        amount: number(Reads::AMOUNT, input.amount),
        bytes: number(Reads::BYTES, input.bytes),
        usd_micros: number(Reads::USD, input.usd_micros),
        tokens: number(Reads::TOKENS, input.tokens),
        privileged: reads.any(Reads::FLAGS) && input.privileged,
        automated: reads.any(Reads::FLAGS) && input.automated,
        bands: if reads.any(Reads::QUOTA) { input.bands } else { &[] },
    }
}

/// All facts of a blanked input in a fixed order; texts with their lengths in front, so that no two inputs share a key.
pub(super) fn key(input: &PolicyInput<'_>) -> Vec<u8> {
    let mut key = Vec::with_capacity(160);
    let texts = [
        input.tenant,
        input.agent,
        input.session,
        input.cohort,
        input.region,
        input.tool,
        input.resource_type,
        input.resource_id,
    ];
    for text in texts {
        key.extend_from_slice(&(text.len() as u32).to_le_bytes());
        key.extend_from_slice(text.as_bytes());
    }
    for number in [input.epoch, input.amount, input.bytes, input.usd_micros, input.tokens] {
        key.extend_from_slice(&number.to_le_bytes());
    }
    let (status, tier) = (input.status as u8, input.tier as u8);
    key.extend_from_slice(&[input.kind as u8, status, tier, input.privileged.into(), input.automated.into()]);
    severities(input).iter().for_each(|severity| key.extend_from_slice(&severity.to_le_bytes()));
    // Last, and of no fixed number: nothing follows that they could be taken for.
    key.extend(input.bands.iter().map(|band| *band as u8));
    key
}

/// Severity by detector; detectors of a later release are left out, since no policy of this schema can name them.
fn severities(input: &PolicyInput<'_>) -> [u16; detect::NAMES.len()] {
    let mut severities = [0; detect::NAMES.len()];
    for detection in input.detections {
        if let Some(place) = usize::from(detection.detector).checked_sub(1).and_then(|place| severities.get_mut(place))
        {
            *place = detection.severity.max(*place);
        }
    }
    severities
}

type Pairs = BTreeMap<String, RestrictedExpression>;

/// The context but for what detectors and limits give.
fn facts(input: &PolicyInput<'_>, reads: Reads) -> Pairs {
    let mut pairs = Pairs::new();
    let mut put = |facts: Reads, name: &str, value: &dyn Fn() -> RestrictedExpression| {
        if reads.any(facts) {
            pairs.insert(name.to_owned(), value());
        }
    };
    put(Reads::STATUS.or(Reads::TIER).or(Reads::EPOCH), "agent", &|| agent(input, reads));
    put(Reads::NAME.or(Reads::AMOUNT).or(Reads::BYTES), "action", &|| action(input, reads));
    put(Reads::USD.or(Reads::TOKENS), "cost", &|| {
        record([("usd_micros", long(input.usd_micros)), ("tokens", long(input.tokens))])
    });
    put(Reads::RESOURCE_TEXT, "resource", &|| {
        record([("type", text(input.resource_type)), ("id", text(input.resource_id))])
    });
    put(Reads::TENANT, "tenant", &|| text(input.tenant));
    put(Reads::COHORT, "cohort", &|| text(input.cohort));
    put(Reads::REGION, "region", &|| text(input.region));
    put(Reads::SESSION, "session", &|| text(input.session));
    put(Reads::FLAGS, "automated", &|| RestrictedExpression::new_bool(input.automated));
    put(Reads::FLAGS, "privileged", &|| RestrictedExpression::new_bool(input.privileged));
    pairs
}

fn agent(input: &PolicyInput<'_>, reads: Reads) -> RestrictedExpression {
    read_of(
        reads,
        [
            (Reads::STATUS, "status", &|| text(input.status.as_str())),
            (Reads::TIER, "tier", &|| text(input.tier.as_str())),
            (Reads::TIER, "tier_level", &|| long(input.tier as u64)),
            (Reads::EPOCH, "epoch", &|| long(input.epoch)),
        ],
    )
}

fn action(input: &PolicyInput<'_>, reads: Reads) -> RestrictedExpression {
    read_of(
        reads,
        [
            (Reads::NAME, "name", &|| text(input.tool)),
            (Reads::NAME, "kind", &|| text(input.kind.as_str())),
            (Reads::AMOUNT, "amount", &|| long(input.amount)),
            (Reads::BYTES, "bytes", &|| long(input.bytes)),
        ],
    )
}

/// A fact of a record: what reads it, its name, its value.
type Fact<'a> = (Reads, &'static str, &'a dyn Fn() -> RestrictedExpression);

/// The record of those facts that are read: no policy can tell that the others are missing.
fn read_of<const N: usize>(reads: Reads, facts: [Fact<'_>; N]) -> RestrictedExpression {
    let read = facts.into_iter().filter(|(fact, ..)| reads.any(*fact));
    record(read.map(|(_, name, value)| (name, value())))
}

/// What detectors give, as far as it is read.
fn findings(severities: [u16; detect::NAMES.len()], reads: Reads) -> Pairs {
    let personal = [detect::EMAIL, detect::PHONE, detect::CARD, detect::IBAN, detect::SSN, detect::IP];
    let pii = personal.iter().any(|detector| severities[usize::from(*detector) - 1] > 0);
    let max = severities.iter().copied().max().unwrap_or(0);
    let each = || detect::NAMES.into_iter().zip(severities).enumerate();
    let found = each().filter(|(place, _)| reads.any(Reads::found(*place)));
    let found = found.map(|(_, (name, severity))| (name, RestrictedExpression::new_bool(severity > 0)));
    let severe = each().filter(|(place, _)| reads.any(Reads::severity(*place)));
    let severe = severe.map(|(_, (name, severity))| (name, long(severity.into())));
    let pii = reads.any(Reads::PII).then(|| ("pii", RestrictedExpression::new_bool(pii)));
    let max = reads.any(Reads::MAX).then(|| ("max", long(max.into())));
    let detect = record(found.chain(pii).chain(max));
    Pairs::from([("detect".to_owned(), detect), ("severity".to_owned(), record(severe))])
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

/// Cedar's numbers are signed; what is larger counts as the largest.
fn long(number: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(number).unwrap_or(i64::MAX))
}

fn record<'a>(fields: impl IntoIterator<Item = (&'a str, RestrictedExpression)>) -> RestrictedExpression {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
    RestrictedExpression::new_record(fields).expect("the names of a record are distinct")
}
