//! From command and outcome to leaf: the one place where the ledger's words become the audit trail's.

use nethical_audit::leaf::codec::{DETECTIONS_MAX, FLAG_CANARY, FLAG_CRITICAL};
use nethical_audit::leaf::{
    ApprovalLeaf, DecisionLeaf, ErasedLeaf, HoldLeaf, LeafEvent, LeafV1, QuotaLeaf, RepeatsLeaf, ReservationLeaf,
    reason,
};
use nethical_governance::command::{ActorKeys, CommandV1, DecideV1, HeaderV1, HoldOrderV1, RepeatsV1};
use nethical_governance::ledger::LapsedV1;
use nethical_governance::outcome::{DecidedV1, OutcomeV1, QuotaV1, ReasonV1, ReviewedV1, SettledV1};
use nethical_governance::subject::{ErasedV1, SubjectId};
use nethical_protocol::control::HoldEffect;
use nethical_protocol::ids::{ControlRevision, KeyedId, LogId};
use sha2::{Digest, Sha256};

/// Where and when a leaf stands.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The log.
    pub log: LogId,
    /// Position.
    pub leaf_index: u64,
    /// Log time, nanoseconds since 1970.
    pub now_ns: u64,
    /// Term of the entry.
    pub term: u64,
    /// Control revision that the group had applied before the entry.
    pub control_before: ControlRevision,
}

/// The leaf of a first execution; `None` for outcomes that make none.
pub fn leaf_of(place: Place, command: &CommandV1, outcome: &OutcomeV1) -> Option<LeafV1> {
    let (event, body_commitment) = match (&command.header, outcome) {
        (HeaderV1::Decide(asked), OutcomeV1::Decided(decided)) => {
            (LeafEvent::Decision(Box::new(decision(asked, decided))), asked.body_commitment)
        }
        (HeaderV1::ApplyControl(_), OutcomeV1::ControlApplied { revision }) => {
            let event = LeafEvent::Control { from_rev: place.control_before.0, to_rev: revision.0 };
            (event, plain_commitment(&command.body))
        }
        (HeaderV1::PlaceHoldOrder(order), OutcomeV1::HoldChanged { status, epoch, missing }) => {
            let placed = HoldLeaf { approver: KeyedId::NONE, ..hold(order, *status as u8, *epoch, *missing) };
            (LeafEvent::HoldPlaced(placed), order.body_commitment)
        }
        (HeaderV1::LiftHoldOrder(order), OutcomeV1::HoldChanged { status, epoch, missing }) => {
            (LeafEvent::HoldLifted(hold(order, *status as u8, *epoch, *missing)), order.body_commitment)
        }
        (HeaderV1::SettleReservation(_), OutcomeV1::Settled(settled)) => (ended(settled), plain_commitment(&[])),
        (HeaderV1::NoteRepeats(repeats), OutcomeV1::RepeatsNoted) => (repeated(repeats), plain_commitment(&[])),
        (HeaderV1::SettleErasures(_), OutcomeV1::Erased(keys)) => (erased(keys), plain_commitment(&[])),
        (HeaderV1::DecideApproval(word), OutcomeV1::Reviewed(now)) => (reviewed(now), word.body_commitment),
        _ => return None,
    };
    let Place { log, leaf_index, now_ns, term, .. } = place;
    Some(LeafV1 { group: log.group.0, era: log.era, leaf_index, now_ns, term, body_commitment, event })
}

/// The leaf of what expired.
pub fn lapsed(place: Place, what: &LapsedV1) -> LeafV1 {
    let Place { log, leaf_index, now_ns, term, .. } = place;
    let event = match what {
        LapsedV1::Reservation(settled) => ended(settled),
        LapsedV1::Approval(now) => reviewed(now),
    };
    let body_commitment = plain_commitment(&[]);
    LeafV1 { group: log.group.0, era: log.era, leaf_index, now_ns, term, body_commitment, event }
}

/// The first leaf of a log's first era.
pub fn era_opened(log: LogId) -> LeafV1 {
    let event = LeafEvent::EraOpened { old_size: 0, old_root: [0; 32] };
    let body_commitment = Sha256::digest([]).into();
    LeafV1 { group: log.group.0, era: log.era, leaf_index: 0, now_ns: 0, term: 0, body_commitment, event }
}

/// The commitment of a body without personal bytes; of no body, that of the empty one.
fn plain_commitment(body: &[u8]) -> [u8; 32] {
    match nethical_audit::body::open_plain(body) {
        Ok((_, commitment)) => commitment,
        Err(_) => Sha256::digest([]).into(),
    }
}

fn decision(asked: &DecideV1, decided: &DecidedV1) -> DecisionLeaf {
    let evaluation = &asked.evaluation;
    DecisionLeaf {
        request: asked.request.id,
        request_content: asked.request.content,
        issued_at_ms: asked.request.issued_at_ms,
        client_chosen: asked.request.client_chosen,
        slot: asked.actor.slot.0,
        tenant: asked.actor.tenant,
        agent: asked.actor.agent,
        session: asked.session,
        cohort: asked.cohort,
        tool: asked.tool,
        region: asked.region,
        resource: asked.resource,
        action_kind: asked.kind as u8,
        policy_rev: asked.policy_rev.0,
        control_rev: decided.control_rev.0,
        policy_verdict: evaluation.verdict.0 as u8,
        verdict: decided.verdict as u8,
        status: decided.status as u8,
        epoch: decided.epoch,
        flags: u8::from(evaluation.privileged) | u8::from(evaluation.automated) << 1 | marks(asked),
        risk: decided.risk,
        tier: decided.tier as u8,
        risk_terms: decided.risk_terms,
        retry_after_ns: decided.retry_after_ns,
        reserve_ttl_s: asked.reserve_ttl_s,
        reserved: asked.costs.iter().zip(0..16).fold(0, |bits, (cost, at)| bits | u16::from(cost.is_reserved) << at),
        rules: evaluation.rules.clone(),
        detections: detections(asked, decided),
        reasons: decided.reasons.iter().map(reason_number).collect(),
        costs: asked.costs.iter().map(|cost| (cost.unit, cost.amount)).collect(),
        quota: decided.quota.iter().map(quota).collect(),
        entropy: evaluation.facts.entropy,
    }
}

fn marks(asked: &DecideV1) -> u8 {
    let canary = if asked.by_canary { FLAG_CANARY } else { 0 };
    canary | if asked.is_critical { FLAG_CRITICAL } else { 0 }
}

/// What detectors found in the text and what is odd about the behaviour, by number. Where a leaf has no room for all, the
/// weakest are left out.
fn detections(asked: &DecideV1, decided: &DecidedV1) -> Vec<(u8, u16)> {
    let found = asked.evaluation.detections.iter().chain(&decided.findings);
    let mut found: Vec<(u8, u16)> = found.map(|found| (found.detector, found.severity)).collect();
    while found.len() > DETECTIONS_MAX {
        let weakest = found.iter().enumerate().min_by_key(|(_, (_, severity))| *severity).map_or(0, |(place, _)| place);
        found.remove(weakest);
    }
    found
}

fn reason_number(from: &ReasonV1) -> (u8, u64) {
    match from {
        ReasonV1::Policy(verdict) => (reason::POLICY, *verdict as u64),
        ReasonV1::AgentState(status) => (reason::AGENT_STATE, *status as u64),
        ReasonV1::AgentHold => (reason::AGENT_HOLD, 0),
        ReasonV1::Hold(id) => (reason::HOLD, id.0),
        ReasonV1::QuotaExceeded(limit) => (reason::QUOTA_EXCEEDED, u64::from(limit.0)),
        ReasonV1::CostAboveCap(limit) => (reason::COST_ABOVE_CAP, u64::from(limit.0)),
        ReasonV1::RiskTier(tier) => (reason::RISK_TIER, *tier as u64),
        ReasonV1::ReservationsFull => (reason::RESERVATIONS_FULL, 0),
        ReasonV1::ApprovalOpened(until_ns) => (reason::APPROVAL_OPENED, *until_ns),
        ReasonV1::ApprovalsFull => (reason::APPROVALS_FULL, 0),
        ReasonV1::Approved(leaf_index) => (reason::APPROVED, *leaf_index),
        ReasonV1::Unapproved(why, named) => (reason::UNAPPROVED + *why as u8, *named),
        ReasonV1::AutomaticHold(rule) => (reason::AUTOMATIC_HOLD, rule.0),
        ReasonV1::Blended { rule, model } => (reason::BLENDED, u64::from(*rule) << 16 | u64::from(*model)),
    }
}

fn quota(from: &QuotaV1) -> QuotaLeaf {
    let flags = u8::from(from.violated) | (from.mode as u8) << 1;
    QuotaLeaf { limit: from.limit.0, cap: from.cap, remaining: from.remaining, reset_ns: from.reset_ns, flags }
}

fn ended(from: &SettledV1) -> LeafEvent {
    LeafEvent::ReservationEnded(Box::new(ReservationLeaf {
        slot: from.slot.0,
        tenant: from.tenant,
        agent: from.agent,
        decision: from.decision,
        end: from.end as u8,
        content: from.content,
        costs: from.costs.clone(),
        quota: from.quota.iter().map(|of_limit| (quota(&of_limit.quota), of_limit.uncharged)).collect(),
    }))
}

fn repeated(repeats: &RepeatsV1) -> LeafEvent {
    let RepeatsV1 { actor: ActorKeys { slot, tenant, agent }, decision, count } = *repeats;
    LeafEvent::DenialsRepeated(RepeatsLeaf { slot: slot.0, tenant, agent, decision, count })
}

fn erased(keys: &[ErasedV1]) -> LeafEvent {
    let of = |key: &ErasedV1| {
        let SubjectId { slot, tenant, subject } = key.subject;
        ErasedLeaf { slot: slot.0, tenant, subject, below: key.below }
    };
    LeafEvent::SubjectsErased(keys.iter().map(of).collect())
}

fn reviewed(from: &ReviewedV1) -> LeafEvent {
    LeafEvent::ApprovalDecided(ApprovalLeaf {
        slot: from.slot.0,
        tenant: from.tenant,
        agent: from.agent,
        decision: from.decision,
        state: from.state as u8,
        digest: from.digest,
        approver: from.approver,
    })
}

fn hold(order: &HoldOrderV1, status: u8, epoch: u64, missing: u8) -> HoldLeaf {
    HoldLeaf {
        request: order.request.id,
        slot: order.actor.slot.0,
        tenant: order.actor.tenant,
        agent: order.actor.agent,
        effect: u8::from(order.effect == HoldEffect::Restrict),
        ttl_ns: order.ttl_ns,
        status,
        epoch,
        missing,
        approver: order.approver,
    }
}
