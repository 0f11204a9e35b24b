//! A ledger on the bench: builds commands from plain names and applies them, one entry each.

use nethical_governance::command::{
    APPLY_VERSION, ActorKeys, ApplyControlV1, CommandV1, CostV1, DecideV1, EntryV1, EvaluationV1, HeaderV1,
    HoldOrderV1, RequestKey, ReviewV1, WordV1,
};
use nethical_governance::ledger::{Applied, Ledger};
use nethical_governance::outcome::{DecidedV1, OutcomeV1};
use nethical_governance::quota::Subject;
use nethical_protocol::action::ActionKind;
use nethical_protocol::control::{
    ControlFact, HoldEffect, LimitFact, LimitKind, LimitMode, Overrun, Placement, RevisedFact, TenantFact,
};
use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber};
use nethical_protocol::slot::slot_of;
use sha2::{Digest, Sha256};

/// 2026-01-01T00:00:00Z: a calendar day and hour begin here.
pub const START_NS: u64 = 1_767_225_600 * SECOND_NS;
pub const SECOND_NS: u64 = 1_000_000_000;

/// The keyed id of a name; an empty name is none.
pub fn id(name: &str) -> KeyedId {
    let mut id = KeyedId::NONE;
    if !name.is_empty() {
        id.0.copy_from_slice(&Sha256::digest(name)[..16]);
    }
    id
}

/// All agents of a tenant share a slot, as those of a tenant placed `single` do.
pub fn actor(tenant: &str, agent: &str) -> ActorKeys {
    ActorKeys { slot: slot_of(tenant, agent, Placement::Single), tenant: id(tenant), agent: id(agent) }
}

pub fn request(name: &str, body: &str, issued_at_ms: u64) -> RequestKey {
    let mut content = [0; 8];
    content.copy_from_slice(&Sha256::digest(body)[..8]);
    RequestKey { id: id(name), content, issued_at_ms, client_chosen: !name.is_empty() }
}

pub fn limit(number: u32, unit: &str, kind: LimitKind) -> LimitFact {
    LimitFact {
        number: LimitNumber(number),
        tenant: id("t"),
        unit: id(unit),
        kind,
        key: vec![],
        mode: LimitMode::Enforce,
        overrun: Overrun::Debt,
        reserve: 0,
        agent: KeyedId::NONE,
        tool: KeyedId::NONE,
        cohort: KeyedId::NONE,
    }
}

pub fn command(header: HeaderV1) -> CommandV1 {
    CommandV1 { header, body: vec![] }
}

pub fn entry(term: u64, now_ns: u64, commands: Vec<CommandV1>) -> EntryV1 {
    EntryV1 { apply_version: APPLY_VERSION, term, now_ns, commands }
}

#[derive(Debug)]
pub struct Bench {
    pub ledger: Ledger,
    pub now_ns: u64,
}

impl Bench {
    /// An empty ledger.
    pub fn empty(ledger: Ledger) -> Self {
        Self { ledger, now_ns: START_NS }
    }

    /// A ledger with tenant `t` and a policy.
    pub fn ready() -> Self {
        let mut bench = Self::empty(Ledger::new(2));
        bench.fact(ControlFact::Tenant(TenantFact { tenant: id("t"), placement: Placement::Single }));
        bench.fact(ControlFact::Policy { digest: [1; 32] });
        bench
    }

    pub fn apply(&mut self, header: HeaderV1) -> Applied {
        let entry = entry(1, self.now_ns, vec![command(header)]);
        self.ledger.apply_entry(1, &entry).expect("our own apply version").remove(0)
    }

    /// Applies the next control revision.
    pub fn fact(&mut self, fact: ControlFact) -> Applied {
        let from = self.ledger.control_revision().0;
        self.apply(control(from, from + 1, vec![fact]))
    }

    /// A decision as a fresh evaluation would propose it: `requests: 1`, nothing found.
    pub fn decision(&self, agent: &str) -> DecideV1 {
        let actor = actor("t", agent);
        DecideV1 {
            request: request("", "", self.now_ns / 1_000_000),
            actor,
            session: KeyedId::NONE,
            cohort: KeyedId::NONE,
            tool: id("search"),
            region: KeyedId::NONE,
            resource: KeyedId::NONE,
            kind: ActionKind::ToolCall,
            costs: vec![CostV1 { unit: id("requests"), amount: 1, is_reserved: false }],
            policy_rev: self.ledger.policy().map_or(ControlRevision(0), |policy| policy.revision),
            by_canary: self.ledger.policy().is_some_and(|policy| policy.is_canary_for(actor.agent)),
            agent_version: self.ledger.agent_version(&actor),
            reserve_ttl_s: 0,
            evaluation: EvaluationV1::default(),
            body_commitment: [0; 32],
            region_in_zone: KeyedId::NONE,
            model_score: None,
            review: ReviewV1 { digest: id("the action"), ttl_s: 3_600, ..ReviewV1::default() },
            is_critical: false,
            has_asked: false,
            sealing: None,
        }
    }

    pub fn decide(&mut self, decide: DecideV1) -> DecidedV1 {
        match self.apply(HeaderV1::Decide(decide)).outcome {
            OutcomeV1::Decided(decided) => decided,
            other => panic!("not decided: {other:?}"),
        }
    }

    /// A person's word on an approval of tenant `t`.
    pub fn word(&self, decision: u64, approves: bool, approver: &str) -> WordV1 {
        let slot = actor("t", "a").slot;
        WordV1 { slot, decision, approves, approver: id(approver), body_commitment: [0; 32], sealing: None }
    }

    pub fn order(&self, agent: &str, effect: HoldEffect, ttl_ns: u64) -> HoldOrderV1 {
        let request = request("", "", self.now_ns / 1_000_000);
        HoldOrderV1 {
            request,
            actor: actor("t", agent),
            effect,
            ttl_ns,
            body_commitment: [0; 32],
            approvers: 0,
            names: vec![],
            approver: KeyedId::NONE,
            sealing: None,
        }
    }
}

pub fn control(from: u64, to: u64, facts: Vec<ControlFact>) -> HeaderV1 {
    let facts = (from + 1..).zip(facts).map(|(at, fact)| RevisedFact { revision: ControlRevision(at), fact });
    HeaderV1::ApplyControl(ApplyControlV1 {
        from_rev: ControlRevision(from),
        to_rev: ControlRevision(to),
        facts: facts.collect(),
    })
}

pub fn subject(agent: &str) -> Subject {
    Subject {
        actor: actor("t", agent),
        session: KeyedId::NONE,
        cohort: KeyedId::NONE,
        tool: KeyedId::NONE,
        region: KeyedId::NONE,
        is_critical: false,
        has_asked: false,
    }
}

/// Nanoseconds from `5s`, `250ms` and the like.
pub fn nanoseconds(text: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or("a time needs a unit")?;
    let unit_ns = match &text[digits..] {
        "ns" => 1,
        "ms" => 1_000_000,
        "s" => SECOND_NS,
        "m" => 60 * SECOND_NS,
        "h" => 3_600 * SECOND_NS,
        "d" => 86_400 * SECOND_NS,
        unit => return Err(format!("no such unit of time: {unit}").into()),
    };
    Ok(text[..digits].parse::<u64>()? * unit_ns)
}

/// The same the other way.
pub fn duration(ns: u64) -> String {
    match ns {
        _ if ns.is_multiple_of(SECOND_NS) => format!("{}s", ns / SECOND_NS),
        _ if ns.is_multiple_of(1_000_000) => format!("{}ms", ns / 1_000_000),
        _ => format!("{ns}ns"),
    }
}
