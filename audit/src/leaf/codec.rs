//! The leaf's bytes: version 1, kind, then the fields in the order in which `leaf.rs` declares them (FORMATS.md).
//!
//! One value has one encoding and one encoding has one value: `encode(decode(b)) == b` for every `b` that decodes.
//! Apply calls `encode` on every replica, so it must give equal bytes everywhere and must not fail on anything that
//! apply can compose; see [`QUOTA_MAX`] for the one list that is cut instead.

use nethical_protocol::ids::KeyedId;
use nethical_protocol::limits::{COSTS_PER_ACTION_MAX, LEAF_BYTES_MAX, LIMITS_MATCHING_MAX, REASONS_MAX};

use super::{ApprovalLeaf, DecisionLeaf, HoldLeaf, LeafEvent, LeafV1, QuotaLeaf, RepeatsLeaf, ReservationLeaf};
use crate::reader::Reader;
use crate::tree;

mod checks;
pub mod erased;

use checks::{check_approval, check_decision, check_ended, check_hold};

/// First byte of every leaf of this layout.
pub const VERSION: u8 = 1;
/// The words for kinds of leaves, in the order of their kind bytes, from 1.
pub const KINDS: [&str; 9] = [
    "decision",
    "control",
    "hold-placed",
    "hold-lifted",
    "era-opened",
    "reservation-ended",
    "approval-decided",
    "denials-repeated",
    "subjects-erased",
];
/// Rules in a leaf.
pub const RULES_MAX: usize = REASONS_MAX;
/// Detections in a leaf.
pub const DETECTIONS_MAX: usize = 16;
/// Costs in a leaf: those that the action names and the implicit `requests`.
pub const COSTS_MAX: usize = COSTS_PER_ACTION_MAX + 1;
/// Limits in a leaf. All fit unless every other list is nearly full; the last ones are left out then (never fewer than
/// [`QUOTA_FIT_MIN`] stay) and [`FLAG_QUOTA_CUT`] says so. Violated limits are named in the reasons as well.
pub const QUOTA_MAX: usize = LIMITS_MATCHING_MAX;
/// Limits for which there is room in any leaf.
pub const QUOTA_FIT_MIN: usize = 12;
/// Bit of [`DecisionLeaf::flags`] that `encode` sets: more limits matched than the leaf lists.
pub const FLAG_QUOTA_CUT: u8 = 0b100;

/// Bit of [`DecisionLeaf::flags`]: policy's verdict is the canary's, not that of the bundle in force.
pub const FLAG_CANARY: u8 = 0b1000;
/// Bit of [`DecisionLeaf::flags`]: the action was critical and might take what limits keep back.
pub const FLAG_CRITICAL: u8 = 0b1_0000;

/// Bit of the flags in the bytes alone: one byte of entropy follows the lists. Values have [`DecisionLeaf::entropy`] instead.
pub const FLAG_ENTROPY: u8 = 0b10_0000;

/// Bytes before the event.
const HEAD_BYTES: usize = 66;
/// A decision's fields of fixed size.
const DECISION_BYTES: usize = 203;
/// One byte of count for each of the five lists.
const COUNTS_BYTES: usize = 5;
const RULE_BYTES: usize = 8;
const DETECTION_BYTES: usize = 3;
const REASON_BYTES: usize = 9;
const COST_BYTES: usize = 24;
const QUOTA_BYTES: usize = 29;
const ENTROPY_BYTES: usize = 1;
/// A reservation's end: fields of fixed size, a cost, a limit.
const END_BYTES: usize = 51;
const END_COST_BYTES: usize = 32;
const END_QUOTA_BYTES: usize = QUOTA_BYTES + 8;
const FLAGS_KNOWN: u8 = 0b1_1111;

const _: () = {
    let fullest = HEAD_BYTES
        + DECISION_BYTES
        + COUNTS_BYTES
        + RULES_MAX * RULE_BYTES
        + DETECTIONS_MAX * DETECTION_BYTES
        + REASONS_MAX * REASON_BYTES
        + COSTS_MAX * COST_BYTES
        + ENTROPY_BYTES;
    assert!(fullest + QUOTA_FIT_MIN * QUOTA_BYTES <= LEAF_BYTES_MAX);
    assert!(fullest + (QUOTA_FIT_MIN + 1) * QUOTA_BYTES > LEAF_BYTES_MAX);
    assert!(QUOTA_FIT_MIN <= QUOTA_MAX && QUOTA_MAX <= u8::MAX as usize);
    let fullest_end = HEAD_BYTES + END_BYTES + 2 + COSTS_MAX * END_COST_BYTES + QUOTA_MAX * END_QUOTA_BYTES;
    assert!(fullest_end <= LEAF_BYTES_MAX);
};

/// Why bytes are not a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Another layout.
    #[error("leaf version {0} is not known here; this release reads {VERSION}")]
    Version(u8),
    /// No such kind.
    #[error("leaf kind {0} is not known")]
    Kind(u8),
    /// Fewer bytes than the fields need.
    #[error("the leaf is cut short")]
    Truncated,
    /// Bytes after the last field.
    #[error("the leaf has bytes after its last field")]
    Trailing,
    /// Longer than the bound.
    #[error("the leaf has more than {LEAF_BYTES_MAX} bytes")]
    TooLong,
    /// A list is longer than its bound.
    #[error("the leaf's list of {0} is longer than its bound")]
    List(&'static str),
    /// A number outside its range, so that two encodings could mean one thing.
    #[error("the leaf's field {0} has a value that no leaf of ours has")]
    Range(&'static str),
}

impl LeafV1 {
    /// The canonical bytes, at most [`LEAF_BYTES_MAX`]. Lists over their bounds and numbers outside their ranges are
    /// mistakes of the programmer; apply bounds them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(&[VERSION, self.event.kind_byte()]);
        out.extend_from_slice(&self.group.to_le_bytes());
        out.extend_from_slice(&self.era.to_le_bytes());
        out.extend_from_slice(&self.leaf_index.to_le_bytes());
        out.extend_from_slice(&self.now_ns.to_le_bytes());
        out.extend_from_slice(&self.term.to_le_bytes());
        out.extend_from_slice(&self.body_commitment);
        debug_assert_eq!(out.len(), HEAD_BYTES);
        match &self.event {
            LeafEvent::Decision(decision) => put_decision(&mut out, decision),
            LeafEvent::Control { from_rev, to_rev } => {
                out.extend_from_slice(&from_rev.to_le_bytes());
                out.extend_from_slice(&to_rev.to_le_bytes());
            }
            LeafEvent::HoldPlaced(hold) | LeafEvent::HoldLifted(hold) => put_hold(&mut out, hold),
            LeafEvent::EraOpened { old_size, old_root } => {
                out.extend_from_slice(&old_size.to_le_bytes());
                out.extend_from_slice(old_root);
            }
            LeafEvent::ReservationEnded(ended) => put_ended(&mut out, ended),
            LeafEvent::ApprovalDecided(decided) => put_approval(&mut out, decided),
            LeafEvent::DenialsRepeated(repeats) => put_repeats(&mut out, repeats),
            LeafEvent::SubjectsErased(subjects) => erased::put(&mut out, subjects),
        }
        assert!(out.len() <= LEAF_BYTES_MAX, "the const assertion above bounds every leaf");
        out
    }

    /// Reads a leaf back. Refuses whatever [`LeafV1::encode`] would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, LeafError> {
        if bytes.len() > LEAF_BYTES_MAX {
            return Err(LeafError::TooLong);
        }
        let mut reader = Reader::new(bytes);
        let version = reader.u8().ok_or(LeafError::Truncated)?;
        if version != VERSION {
            return Err(LeafError::Version(version));
        }
        let kind = reader.u8().ok_or(LeafError::Truncated)?;
        if !(1..=9).contains(&kind) {
            return Err(LeafError::Kind(kind));
        }
        let leaf = read_fields(&mut reader, kind).ok_or(LeafError::Truncated)??;
        if !reader.is_empty() {
            return Err(LeafError::Trailing);
        }
        leaf.check(bytes.len())?;
        Ok(leaf)
    }

    /// The RFC 6962 leaf hash: SHA-256(0x00 ‖ encoding). Whoever has the encoding already calls [`tree::leaf_hash`].
    pub fn hash(&self) -> [u8; 32] {
        tree::leaf_hash(&self.encode())
    }

    fn check(&self, length: usize) -> Result<(), LeafError> {
        match &self.event {
            LeafEvent::Decision(decision) => {
                check_decision(decision)?;
                let cut = decision.flags & FLAG_QUOTA_CUT != 0;
                let one_more_fits = length + QUOTA_BYTES <= LEAF_BYTES_MAX && decision.quota.len() < QUOTA_MAX;
                if cut && one_more_fits { Err(LeafError::Range("flags")) } else { Ok(()) }
            }
            LeafEvent::HoldPlaced(hold) | LeafEvent::HoldLifted(hold) => check_hold(hold),
            LeafEvent::ReservationEnded(ended) => check_ended(ended),
            LeafEvent::ApprovalDecided(decided) => check_approval(decided),
            LeafEvent::SubjectsErased(subjects) => erased::check(subjects),
            LeafEvent::Control { .. } | LeafEvent::EraOpened { .. } | LeafEvent::DenialsRepeated(_) => Ok(()),
        }
    }
}

impl LeafEvent {
    /// The second byte of the encoding.
    pub fn kind_byte(&self) -> u8 {
        match self {
            Self::Decision(_) => 1,
            Self::Control { .. } => 2,
            Self::HoldPlaced(_) => 3,
            Self::HoldLifted(_) => 4,
            Self::EraOpened { .. } => 5,
            Self::ReservationEnded(_) => 6,
            Self::ApprovalDecided(_) => 7,
            Self::DenialsRepeated(_) => 8,
            Self::SubjectsErased(_) => 9,
        }
    }

    /// The kind's word in answers and exports.
    pub fn as_str(&self) -> &'static str {
        KINDS[usize::from(self.kind_byte() - 1)]
    }
}

/// How many limits there is room for, given the bytes of everything else.
fn quota_fitting(decision: &DecisionLeaf) -> usize {
    let other = HEAD_BYTES
        + DECISION_BYTES
        + COUNTS_BYTES
        + decision.rules.len() * RULE_BYTES
        + decision.detections.len() * DETECTION_BYTES
        + decision.reasons.len() * REASON_BYTES
        + decision.costs.len() * COST_BYTES
        + decision.entropy.map_or(0, |_| ENTROPY_BYTES);
    decision.quota.len().min((LEAF_BYTES_MAX - other) / QUOTA_BYTES)
}

fn put_decision(out: &mut Vec<u8>, leaf: &DecisionLeaf) {
    check_decision(leaf).expect("apply bounds every list and takes numbers from enums");
    let fitting = quota_fitting(leaf);
    let flags = if fitting < leaf.quota.len() { leaf.flags | FLAG_QUOTA_CUT } else { leaf.flags };
    let flags = if leaf.entropy.is_some() { flags | FLAG_ENTROPY } else { flags };
    out.extend_from_slice(&leaf.request.0);
    out.extend_from_slice(&leaf.request_content);
    out.extend_from_slice(&leaf.issued_at_ms.to_le_bytes());
    out.push(u8::from(leaf.client_chosen));
    out.extend_from_slice(&leaf.slot.to_le_bytes());
    for id in [leaf.tenant, leaf.agent, leaf.session, leaf.cohort, leaf.tool, leaf.region, leaf.resource] {
        out.extend_from_slice(&id.0);
    }
    out.push(leaf.action_kind);
    out.extend_from_slice(&leaf.policy_rev.to_le_bytes());
    out.extend_from_slice(&leaf.control_rev.to_le_bytes());
    out.extend_from_slice(&[leaf.policy_verdict, leaf.verdict, leaf.status]);
    out.extend_from_slice(&leaf.epoch.to_le_bytes());
    out.push(flags);
    out.extend_from_slice(&leaf.risk.to_le_bytes());
    out.push(leaf.tier);
    leaf.risk_terms.iter().for_each(|term| out.extend_from_slice(&term.to_le_bytes()));
    out.extend_from_slice(&leaf.retry_after_ns.to_le_bytes());
    out.extend_from_slice(&leaf.reserve_ttl_s.to_le_bytes());
    out.extend_from_slice(&leaf.reserved.to_le_bytes());
    debug_assert_eq!(out.len(), HEAD_BYTES + DECISION_BYTES);
    put_lists(out, leaf, fitting);
}

fn put_lists(out: &mut Vec<u8>, leaf: &DecisionLeaf, quota_fitting: usize) {
    out.push(leaf.rules.len() as u8);
    leaf.rules.iter().for_each(|rule| out.extend_from_slice(rule));
    out.push(leaf.detections.len() as u8);
    for (detector, severity) in &leaf.detections {
        out.push(*detector);
        out.extend_from_slice(&severity.to_le_bytes());
    }
    out.push(leaf.reasons.len() as u8);
    for (kind, number) in &leaf.reasons {
        out.push(*kind);
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.push(leaf.costs.len() as u8);
    for (unit, amount) in &leaf.costs {
        out.extend_from_slice(&unit.0);
        out.extend_from_slice(&amount.to_le_bytes());
    }
    out.push(quota_fitting as u8);
    leaf.quota[..quota_fitting].iter().for_each(|quota| put_quota(out, quota));
    out.extend(leaf.entropy);
}

fn put_quota(out: &mut Vec<u8>, quota: &QuotaLeaf) {
    out.extend_from_slice(&quota.limit.to_le_bytes());
    out.extend_from_slice(&quota.cap.to_le_bytes());
    out.extend_from_slice(&quota.remaining.to_le_bytes());
    out.extend_from_slice(&quota.reset_ns.to_le_bytes());
    out.push(quota.flags);
}

fn put_ended(out: &mut Vec<u8>, ended: &ReservationLeaf) {
    check_ended(ended).expect("apply bounds what a reservation holds");
    out.extend_from_slice(&ended.slot.to_le_bytes());
    out.extend_from_slice(&ended.tenant.0);
    out.extend_from_slice(&ended.agent.0);
    out.extend_from_slice(&ended.decision.to_le_bytes());
    out.push(ended.end);
    out.extend_from_slice(&ended.content);
    debug_assert_eq!(out.len(), HEAD_BYTES + END_BYTES);
    out.push(ended.costs.len() as u8);
    for (unit, reserved, used) in &ended.costs {
        out.extend_from_slice(&unit.0);
        out.extend_from_slice(&reserved.to_le_bytes());
        out.extend_from_slice(&used.to_le_bytes());
    }
    out.push(ended.quota.len() as u8);
    for (quota, uncharged) in &ended.quota {
        put_quota(out, quota);
        out.extend_from_slice(&uncharged.to_le_bytes());
    }
}

fn put_repeats(out: &mut Vec<u8>, repeats: &RepeatsLeaf) {
    out.extend_from_slice(&repeats.slot.to_le_bytes());
    out.extend_from_slice(&repeats.tenant.0);
    out.extend_from_slice(&repeats.agent.0);
    out.extend_from_slice(&repeats.decision.to_le_bytes());
    out.extend_from_slice(&repeats.count.to_le_bytes());
}

fn put_approval(out: &mut Vec<u8>, decided: &ApprovalLeaf) {
    check_approval(decided).expect("apply makes leaves of these three states only");
    out.extend_from_slice(&decided.slot.to_le_bytes());
    out.extend_from_slice(&decided.tenant.0);
    out.extend_from_slice(&decided.agent.0);
    out.extend_from_slice(&decided.decision.to_le_bytes());
    out.push(decided.state);
    out.extend_from_slice(&decided.digest.0);
    out.extend_from_slice(&decided.approver.0);
}

fn put_hold(out: &mut Vec<u8>, hold: &HoldLeaf) {
    check_hold(hold).expect("apply takes effect and status from enums");
    out.extend_from_slice(&hold.request.0);
    out.extend_from_slice(&hold.slot.to_le_bytes());
    out.extend_from_slice(&hold.tenant.0);
    out.extend_from_slice(&hold.agent.0);
    out.push(hold.effect);
    out.extend_from_slice(&hold.ttl_ns.to_le_bytes());
    out.push(hold.status);
    out.extend_from_slice(&hold.epoch.to_le_bytes());
    out.push(hold.missing);
    out.extend_from_slice(&hold.approver.0);
}

/// `None` where the bytes end too early; the inner error where they say something impossible.
fn read_fields(reader: &mut Reader<'_>, kind: u8) -> Option<Result<LeafV1, LeafError>> {
    let (group, era) = (reader.u32()?, reader.u32()?);
    let (leaf_index, now_ns, term) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let body_commitment = reader.array()?;
    let event = match kind {
        1 => match read_decision(reader)? {
            Ok(decision) => LeafEvent::Decision(Box::new(decision)),
            Err(error) => return Some(Err(error)),
        },
        2 => LeafEvent::Control { from_rev: reader.u64()?, to_rev: reader.u64()? },
        3 => LeafEvent::HoldPlaced(read_hold(reader)?),
        4 => LeafEvent::HoldLifted(read_hold(reader)?),
        6 => LeafEvent::ReservationEnded(Box::new(read_ended(reader)?)),
        7 => LeafEvent::ApprovalDecided(read_approval(reader)?),
        8 => LeafEvent::DenialsRepeated(read_repeats(reader)?),
        9 => LeafEvent::SubjectsErased(erased::read(reader)?),
        _ => LeafEvent::EraOpened { old_size: reader.u64()?, old_root: reader.array()? },
    };
    Some(Ok(LeafV1 { group, era, leaf_index, now_ns, term, body_commitment, event }))
}

fn read_id(reader: &mut Reader<'_>) -> Option<KeyedId> {
    reader.array().map(KeyedId)
}

fn read_approval(reader: &mut Reader<'_>) -> Option<ApprovalLeaf> {
    Some(ApprovalLeaf {
        slot: reader.u16()?,
        tenant: read_id(reader)?,
        agent: read_id(reader)?,
        decision: reader.u64()?,
        state: reader.u8()?,
        digest: read_id(reader)?,
        approver: read_id(reader)?,
    })
}

fn read_decision(reader: &mut Reader<'_>) -> Option<Result<DecisionLeaf, LeafError>> {
    let (request, request_content, issued_at_ms) = (read_id(reader)?, reader.array()?, reader.u64()?);
    let client_chosen = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Some(Err(LeafError::Range("client_chosen"))),
    };
    // Struct fields are evaluated in the order written here, which is the order of the bytes.
    let mut leaf = DecisionLeaf {
        request,
        request_content,
        issued_at_ms,
        client_chosen,
        slot: reader.u16()?,
        tenant: read_id(reader)?,
        agent: read_id(reader)?,
        session: read_id(reader)?,
        cohort: read_id(reader)?,
        tool: read_id(reader)?,
        region: read_id(reader)?,
        resource: read_id(reader)?,
        action_kind: reader.u8()?,
        policy_rev: reader.u64()?,
        control_rev: reader.u64()?,
        policy_verdict: reader.u8()?,
        verdict: reader.u8()?,
        status: reader.u8()?,
        epoch: reader.u64()?,
        flags: reader.u8()?,
        risk: reader.u16()?,
        tier: reader.u8()?,
        risk_terms: [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?],
        retry_after_ns: reader.u64()?,
        reserve_ttl_s: reader.u32()?,
        reserved: reader.u16()?,
        rules: read_list(reader, |reader| reader.array())?,
        detections: read_list(reader, |reader| Some((reader.u8()?, reader.u16()?)))?,
        reasons: read_list(reader, |reader| Some((reader.u8()?, reader.u64()?)))?,
        costs: read_list(reader, |reader| Some((read_id(reader)?, reader.u64()?)))?,
        quota: read_list(reader, read_quota)?,
        entropy: None,
    };
    if leaf.flags & FLAG_ENTROPY != 0 {
        leaf.flags &= !FLAG_ENTROPY;
        leaf.entropy = Some(reader.u8()?);
    }
    Some(Ok(leaf))
}

fn read_list<'a, T>(reader: &mut Reader<'a>, item: impl Fn(&mut Reader<'a>) -> Option<T>) -> Option<Vec<T>> {
    let count = usize::from(reader.u8()?);
    (0..count).map(|_| item(reader)).collect()
}

fn read_quota(reader: &mut Reader<'_>) -> Option<QuotaLeaf> {
    let limit = reader.u32()?;
    let (cap, remaining, reset_ns) = (reader.u64()?, reader.u64()?, reader.u64()?);
    Some(QuotaLeaf { limit, cap, remaining, reset_ns, flags: reader.u8()? })
}

fn read_ended(reader: &mut Reader<'_>) -> Option<ReservationLeaf> {
    Some(ReservationLeaf {
        slot: reader.u16()?,
        tenant: read_id(reader)?,
        agent: read_id(reader)?,
        decision: reader.u64()?,
        end: reader.u8()?,
        content: reader.array()?,
        costs: read_list(reader, |reader| Some((read_id(reader)?, reader.u64()?, reader.u64()?)))?,
        quota: read_list(reader, |reader| Some((read_quota(reader)?, reader.u64()?)))?,
    })
}

fn read_repeats(reader: &mut Reader<'_>) -> Option<RepeatsLeaf> {
    let (slot, tenant, agent) = (reader.u16()?, read_id(reader)?, read_id(reader)?);
    Some(RepeatsLeaf { slot, tenant, agent, decision: reader.u64()?, count: reader.u64()? })
}

fn read_hold(reader: &mut Reader<'_>) -> Option<HoldLeaf> {
    Some(HoldLeaf {
        request: read_id(reader)?,
        slot: reader.u16()?,
        tenant: read_id(reader)?,
        agent: read_id(reader)?,
        effect: reader.u8()?,
        ttl_ns: reader.u64()?,
        status: reader.u8()?,
        epoch: reader.u64()?,
        missing: reader.u8()?,
        approver: read_id(reader)?,
    })
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
