//! Reply: from a leaf to the decision that a client reads.
//!
//! First executions and replays of recorded outcomes are answered from the same leaf, so both say the same. Numbers
//! become words here, with the names that this node knows; what it does not know is shown as a number.

use std::sync::Arc;

use nethical_audit::leaf::codec::FLAG_CANARY;
use nethical_audit::leaf::{DecisionLeaf, LeafV1, ReservationLeaf, reason};
use nethical_governance::detect;
use nethical_governance::outcome::{EndV1, RiskTier, Unapproved};
use nethical_governance::policy::Bundle;
use nethical_governance::risk::{BLOCKED_SEVERITY, TERMINATED_SEVERITY};
use nethical_governance::scores::Class;
use nethical_governance::taxonomy::{self, Taxonomy};
use nethical_protocol::control::LimitMode;
use nethical_protocol::decision::{
    AgentStatus, AgentSummary, ApprovalRef, AuditPosition, Decision, Ethics, EthicsScore, Obligation, QuotaState,
    Reason, Reservation, Revision, Risk, RiskFactor, SettledQuota, Settlement, Verdict, legacy_word,
};
use nethical_protocol::ids::{ControlRevision, DecisionId, GroupId, LimitNumber, LogId};

use crate::control::view::ControlView;

/// What the caller asked for beside the decision.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// Risk factors and detections.
    pub explain: bool,
    /// It is the recorded outcome of an earlier execution.
    pub replayed: bool,
}

/// Where a node takes words for numbers from.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    /// The cluster's name.
    pub cluster: &'a str,
    /// The names of rules, limits and hold-orders.
    pub view: &'a ControlView,
    /// By which decisions are explained.
    pub taxonomy: &'a Taxonomy,
}

/// The decision that a leaf records.
pub fn decision_of(
    Words { cluster, view, taxonomy }: Words<'_>,
    request_id: &str,
    leaf: &LeafV1,
    hash: &[u8; 32],
    recorded: &DecisionLeaf,
    wish: Wish,
) -> Decision {
    let verdict = Verdict::ALL[usize::from(recorded.verdict).min(4)];
    let status = AgentStatus::ALL[usize::from(recorded.status).min(3)];
    let log = LogId { group: GroupId(leaf.group), era: leaf.era };
    // 0 where no enforced limit refused, or where waiting would not help: then no time is named.
    let wait_ns = Some(recorded.retry_after_ns).filter(|wait_ns| *wait_ns > 0);
    Decision {
        request_id: request_id.to_owned(),
        decision_id: DecisionId { log, leaf_index: leaf.leaf_index },
        verdict,
        allowed: verdict.is_allowed(),
        decision: legacy_word(verdict, status).to_owned(),
        reasons: recorded.reasons.iter().filter_map(|found| reason_words(view, recorded, *found)).collect(),
        obligations: obligations(view, recorded),
        transform: None,
        risk: risk(recorded, wish.explain),
        agent: AgentSummary { state: status, epoch: recorded.epoch },
        quota: recorded.quota.iter().map(|quota| quota_words(view, quota)).collect(),
        retry_after_ms: wait_ns.map(|wait_ns| wait_ns.div_ceil(1_000_000)),
        reservation: (recorded.reserve_ttl_s > 0 && verdict.is_allowed()).then(|| Reservation {
            expires_at_ns: leaf.now_ns.saturating_add(u64::from(recorded.reserve_ttl_s).saturating_mul(1_000_000_000)),
        }),
        approval: approval(log, leaf.leaf_index, recorded),
        revision: revision(view, recorded),
        decided_at_ns: leaf.now_ns,
        degraded: false,
        replayed: wish.replayed,
        audit: AuditPosition {
            log: log.origin(cluster),
            leaf_index: leaf.leaf_index,
            leaf_hash: hex::encode(hash),
            receipt: None,
        },
        ethics: wish.explain.then(|| ethics(taxonomy, recorded)).flatten(),
    }
}

/// The settlement that a leaf records.
pub fn settlement_of(
    cluster: &str,
    view: &ControlView,
    leaf: &LeafV1,
    hash: &[u8; 32],
    ended: &ReservationLeaf,
    replayed: bool,
) -> Settlement {
    let log = LogId { group: GroupId(leaf.group), era: leaf.era };
    let quota = ended.quota.iter();
    Settlement {
        decision_id: DecisionId { log, leaf_index: ended.decision },
        state: EndV1::ALL[usize::from(ended.end).min(2)].as_str().to_owned(),
        quota: quota
            .map(|(of, uncharged)| SettledQuota { quota: quota_words(view, of), uncharged: *uncharged })
            .collect(),
        settled_at_ns: leaf.now_ns,
        replayed,
        audit: AuditPosition {
            log: log.origin(cluster),
            leaf_index: leaf.leaf_index,
            leaf_hash: hex::encode(hash),
            receipt: None,
        },
    }
}

/// The bundle that decided, where this node still knows it.
fn bundle_of(view: &ControlView, recorded: &DecisionLeaf) -> Option<Arc<Bundle>> {
    view.bundle_at(ControlRevision(recorded.policy_rev), is_canary(recorded))
}

fn is_canary(recorded: &DecisionLeaf) -> bool {
    recorded.flags & FLAG_CANARY != 0
}

fn revision(view: &ControlView, recorded: &DecisionLeaf) -> Revision {
    let bundle = bundle_of(view, recorded).map(|bundle| hex::encode(bundle.digest())).unwrap_or_default();
    let (policy, state) = (ControlRevision(recorded.policy_rev), ControlRevision(recorded.control_rev));
    Revision { policy, state, bundle, canary: is_canary(recorded) }
}

fn obligations(view: &ControlView, recorded: &DecisionLeaf) -> Vec<Obligation> {
    let Some(bundle) = bundle_of(view, recorded) else { return Vec::new() };
    let mut ids: Vec<Arc<str>> =
        recorded.rules.iter().filter_map(|rule| bundle.describe(*rule)).flat_map(|rule| rule.obligations).collect();
    ids.sort();
    ids.dedup();
    ids.into_iter().map(|id| Obligation { id: id.to_string() }).collect()
}

fn risk(recorded: &DecisionLeaf, explain: bool) -> Risk {
    let tier = RiskTier::ALL[usize::from(recorded.tier).min(3)].as_str().to_owned();
    let mut factors = Vec::new();
    if explain {
        let terms = ["behaviour", "severity", "frequency", "recency", "history"];
        let named = terms.iter().zip(recorded.risk_terms).filter(|(_, points)| *points > 0);
        factors.extend(named.map(|(name, points)| RiskFactor { name: (*name).to_owned(), points }));
        if let Some((_, number)) = recorded.reasons.iter().find(|(kind, _)| *kind == reason::BLENDED) {
            let (rule, model) = blended(*number);
            let factor = |name: &str, points| RiskFactor { name: name.to_owned(), points };
            factors.extend([factor("rules before blending", rule), factor("model score", model)]);
        }
        let found = recorded.detections.iter();
        factors.extend(
            found.map(|(id, points)| RiskFactor { name: format!("detected {}", detect::name(*id)), points: *points }),
        );
    }
    Risk { score: recorded.risk, tier, factors }
}

/// The scores that were blended: by the rules, by the model.
fn blended(number: u64) -> (u16, u16) {
    ((number >> 16) as u16, number as u16)
}

/// What was found, and what policy blocked, as the taxonomy sees it.
fn ethics(taxonomy: &Taxonomy, recorded: &DecisionLeaf) -> Option<Ethics> {
    let found = recorded.detections.iter().map(|(detector, severity)| (detect::name(*detector), *severity));
    let by_policy = match Verdict::ALL[usize::from(recorded.policy_verdict).min(4)] {
        Verdict::Block => Some((taxonomy::POLICY, BLOCKED_SEVERITY)),
        Verdict::Terminate => Some((taxonomy::POLICY, TERMINATED_SEVERITY)),
        Verdict::Allow | Verdict::Restrict | Verdict::Escalate => None,
    };
    let (privileged, automated) = (recorded.flags & 1 != 0, recorded.flags & 2 != 0);
    let meaning = taxonomy.meaning(found.chain(by_policy), automated, privileged)?;
    let score = |(name, score): (&str, u16)| EthicsScore { name: name.to_owned(), score };
    Some(Ethics {
        primary: meaning.primary.map(|place| taxonomy::DIMENSIONS[place].to_owned()),
        overall: meaning.overall,
        dimensions: taxonomy.involved(&meaning).into_iter().map(score).collect(),
    })
}

/// A reason in words; none for what an answer says elsewhere.
fn reason_words(view: &ControlView, recorded: &DecisionLeaf, (kind, number): (u8, u64)) -> Option<Reason> {
    let limit = || view.limit_name(LimitNumber(number as u32));
    let (code, detail) = match kind {
        reason::POLICY => ("policy", policy_words(view, recorded)),
        reason::AGENT_STATE => {
            ("agent-state", format!("the agent is {}", AgentStatus::ALL[(number as usize).min(3)].as_str()))
        }
        reason::AGENT_HOLD => ("hold-order", "a hold-order on this agent is in force".to_owned()),
        reason::HOLD => ("hold-order", format!("hold-order {number} is in force")),
        reason::QUOTA_EXCEEDED => ("quota-exceeded", format!("limit {} is exhausted", limit())),
        reason::COST_ABOVE_CAP => {
            ("cost-above-cap", format!("the cost is above the cap of limit {}; waiting will not help", limit()))
        }
        reason::RISK_TIER => {
            ("risk", format!("the agent's risk tier is {}", RiskTier::ALL[(number as usize).min(3)].as_str()))
        }
        reason::RESERVATIONS_FULL => {
            let detail = "the agent or its group has as many live reservations as it may; settle or release some";
            ("reservations-full", detail.to_owned())
        }
        reason::AUTOMATIC_HOLD => {
            let (place, revision) = (number & 0xff, number >> 8);
            let detail = format!("automatic quarantine: rule {place} of control revision {revision} holds the agent");
            ("automatic-hold", detail)
        }
        reason::BLENDED => {
            let (rule, model) = blended(number);
            if Class::of(recorded.risk) < Class::Deny {
                return None;
            }
            (
                "risk",
                format!("the action's risk is {}: {rule} by the rules, blended with {model} by a model", recorded.risk),
            )
        }
        reason::APPROVAL_OPENED => return None,
        reason::APPROVALS_FULL => {
            let detail = "the agent or its group has asked for as many approvals as it may; have some decided first";
            ("approvals-full", detail.to_owned())
        }
        reason::APPROVED => ("approved", format!("the approval of leaf {number} lifted policy's escalation")),
        kind if (reason::UNAPPROVED..).contains(&kind) => unapproved_words(kind - reason::UNAPPROVED, number),
        other => ("other", format!("reason {other}, number {number}")),
    };
    Some(Reason { code: code.to_owned(), detail })
}

/// Why the approval that the action named does not count.
fn unapproved_words(why: u8, named: u64) -> (&'static str, String) {
    let (code, words) = match Unapproved::ALL[usize::from(why).min(6)] {
        Unapproved::Unknown => ("approval-unknown", "is none of this agent's, or is forgotten"),
        Unapproved::Pending => ("approval-pending", "waits for a person"),
        Unapproved::Denied => ("approval-denied", "was denied"),
        Unapproved::Expired => ("approval-expired", "has expired"),
        Unapproved::Used => ("approval-used", "was used before"),
        Unapproved::Mismatch => ("approval-mismatch", "is for another action"),
        Unapproved::Void => ("approval-void", "was opened under another policy than the one in force"),
    };
    (code, format!("the approval of leaf {named} {words}"))
}

/// The approval that a decision, which stands at this leaf index, opened or used.
fn approval(log: LogId, leaf_index: u64, recorded: &DecisionLeaf) -> Option<ApprovalRef> {
    let found = |(kind, number): &(u8, u64)| match *kind {
        reason::APPROVAL_OPENED => Some((leaf_index, "pending", Some(*number))),
        reason::APPROVED => Some((*number, "used", None)),
        _ => None,
    };
    let (leaf_index, state, expires_at_ns) = recorded.reasons.iter().find_map(found)?;
    Some(ApprovalRef { id: DecisionId { log, leaf_index }, state: state.to_owned(), expires_at_ns })
}

fn policy_words(view: &ControlView, recorded: &DecisionLeaf) -> String {
    let bundle = bundle_of(view, recorded);
    let words = recorded.rules.iter().map(|rule| match bundle.as_ref().and_then(|bundle| bundle.describe(*rule)) {
        Some(text) => text.sentence(),
        None => format!("rule {}", hex::encode(rule)),
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "no policy permits it".to_owned() } else { words.join("; ") }
}

fn quota_words(view: &ControlView, quota: &nethical_audit::leaf::QuotaLeaf) -> QuotaState {
    let spec = view.limit(LimitNumber(quota.limit));
    QuotaState {
        limit: view.limit_name(LimitNumber(quota.limit)),
        unit: spec.map_or_else(|| "units".to_owned(), |spec| spec.unit.clone()),
        cap: quota.cap,
        remaining: quota.remaining,
        reset_s: quota.reset_ns.div_ceil(1_000_000_000),
        violated: quota.flags & 1 == 1,
        mode: LimitMode::ALL[usize::from(quota.flags >> 1).min(2)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blend_is_a_factor_with_both_scores_and_a_reason_where_it_restricts() {
        let view = ControlView::default();
        for (risk_now, is_told) in [(699, false), (700, true)] {
            let number = 592 << 16 | 1_000;
            let recorded =
                DecisionLeaf { risk: risk_now, reasons: vec![(reason::BLENDED, number)], ..DecisionLeaf::default() };
            let told = risk(&recorded, true);
            let factors: Vec<(&str, u16)> =
                told.factors.iter().map(|factor| (factor.name.as_str(), factor.points)).collect();
            assert_eq!((told.score, factors), (risk_now, vec![("rules before blending", 592), ("model score", 1_000)]));
            assert!(risk(&recorded, false).factors.is_empty());
            let words = reason_words(&view, &recorded, (reason::BLENDED, number));
            assert_eq!(words.as_ref().map(|reason| reason.code.as_str()), is_told.then_some("risk"));
            let detail = "the action's risk is 700: 592 by the rules, blended with 1000 by a model";
            assert!(words.is_none_or(|reason| reason.detail == detail));
        }
    }
}
