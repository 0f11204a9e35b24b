//! One evaluated action before a ledger that holds nothing but its agent: what apply makes of policy's verdict where no
//! limit and no hold-order speaks. For trying a bundle out; the cluster never calls it.

use nethical_protocol::action::ActionKind;
use nethical_protocol::control::{ControlFact, Placement, RevisedFact, TenantFact};
use nethical_protocol::decision::AgentStatus;
use nethical_protocol::ids::{ControlRevision, KeyedId, Slot};

use super::Ledger;
use crate::agent::{AgentEntry, AgentKey};
use crate::command::{ActorKeys, ApplyControlV1, CommandV1, DecideV1, EvaluationV1, HeaderV1, RequestKey, ReviewV1};
use crate::outcome::{DecidedV1, OutcomeV1};
use crate::risk::RiskProfile;

/// Log time of the one action: any time at which nothing has lapsed.
const NOW_NS: u64 = 1_000_000_000_000;
const SOMEBODY: KeyedId = KeyedId([1; 16]);
const POLICY_REV: ControlRevision = ControlRevision(2);

/// The decision on an action of an agent with this status and risk score (0..1000), by the same apply that replicas run.
pub fn decide_alone(evaluation: EvaluationV1, kind: ActionKind, status: AgentStatus, score: u16) -> Option<DecidedV1> {
    let actor = ActorKeys { slot: Slot(0), tenant: SOMEBODY, agent: SOMEBODY };
    let mut ledger = Ledger::new(0);
    apply(&mut ledger, HeaderV1::ApplyControl(rules()));
    let risk = RiskProfile { score: score.min(1_000), at_ns: NOW_NS, ..RiskProfile::default() };
    ledger.agents.insert(AgentKey::from(actor), AgentEntry { status, risk, ..AgentEntry::default() });
    let agent_version = ledger.agent_version(&actor);
    match apply(&mut ledger, HeaderV1::Decide(command(evaluation, kind, actor, agent_version))) {
        OutcomeV1::Decided(decided) => Some(decided),
        _ => None,
    }
}

fn apply(ledger: &mut Ledger, header: HeaderV1) -> OutcomeV1 {
    ledger.apply(NOW_NS, &CommandV1 { header, body: Vec::new() }).outcome
}

fn rules() -> ApplyControlV1 {
    let tenant = ControlFact::Tenant(TenantFact { tenant: SOMEBODY, placement: Placement::Single });
    let policy = ControlFact::Policy { digest: [0; 32] };
    let fact = |(number, fact)| RevisedFact { revision: ControlRevision(number), fact };
    let facts = [(1, tenant), (2, policy)].into_iter().map(fact).collect();
    ApplyControlV1 { from_rev: ControlRevision(0), to_rev: POLICY_REV, facts }
}

fn command(evaluation: EvaluationV1, kind: ActionKind, actor: ActorKeys, agent_version: [u8; 8]) -> DecideV1 {
    let issued_at_ms = NOW_NS / 1_000_000;
    DecideV1 {
        request: RequestKey { id: SOMEBODY, content: [0; 8], issued_at_ms, client_chosen: false },
        actor,
        session: KeyedId::NONE,
        cohort: KeyedId::NONE,
        tool: KeyedId::NONE,
        region: KeyedId::NONE,
        resource: KeyedId::NONE,
        kind,
        reserve_ttl_s: 0,
        costs: Vec::new(),
        policy_rev: POLICY_REV,
        by_canary: false,
        agent_version,
        evaluation,
        body_commitment: [0; 32],
        region_in_zone: KeyedId::NONE,
        model_score: None,
        review: ReviewV1 { digest: SOMEBODY, ..ReviewV1::default() },
        is_critical: false,
        has_asked: false,
        sealing: None,
    }
}

#[cfg(test)]
mod tests {
    use nethical_protocol::decision::Verdict;

    use super::*;
    use crate::command::VerdictWord;

    #[test]
    fn status_and_risk_speak_beside_policy_as_they_do_in_a_cluster() {
        let verdict = |policy: Verdict, status: AgentStatus, score: u16| {
            let evaluation = EvaluationV1 { verdict: VerdictWord(policy), ..EvaluationV1::default() };
            decide_alone(evaluation, ActionKind::ToolCall, status, score).map(|decided| decided.verdict)
        };
        for (policy, status, score, is) in [
            (Verdict::Allow, AgentStatus::Active, 0, Verdict::Allow),
            (Verdict::Escalate, AgentStatus::Active, 0, Verdict::Escalate),
            (Verdict::Allow, AgentStatus::Restricted, 0, Verdict::Restrict),
            (Verdict::Allow, AgentStatus::Quarantined, 0, Verdict::Block),
            (Verdict::Terminate, AgentStatus::Quarantined, 0, Verdict::Terminate),
            (Verdict::Terminate, AgentStatus::Active, 9_999, Verdict::Terminate),
        ] {
            assert_eq!(verdict(policy, status, score), Some(is), "{policy:?} {status:?} {score}");
        }
    }
}
