//! Approvals, as the group's leader keeps them: a person's word becomes a command, and what waits can be read.
//!
//! The decision's own leaf says who asked for what, and its sealed body holds the action in words; only nodes that have
//! the tenant's key can show it. Nothing is decided here: whether a word counts is judged in apply.

use std::sync::Arc;

use bytes::Bytes;

use nethical_audit::leaf::{ApprovalLeaf, DecisionLeaf, LeafEvent, LeafV1};
use nethical_governance::approval::{Approval, ApprovalKey, ApprovalState};
use nethical_governance::command::{ActorKeys, HeaderV1, WordV1};
use nethical_governance::outcome::OutcomeV1;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, GroupId, LogId, Slot};
use nethical_protocol::limits::APPROVALS_PAGE_MAX;

use crate::administer::{PATIENCE, confirmed_lead, lead_of};
use crate::body::{BodyV1, WordsV1};
use crate::control::view::Tenant;
use crate::lead::Lead;
use crate::message::{ApprovalV1, ApprovalsAskV1, ApprovalsV1, WordAnswerV1, WordAskV1};
use crate::node::Core;
use crate::replica::PartitionReplica;
use crate::sealing::Sealer;

/// Takes a person's word, where this node leads the approval's group.
pub async fn on_word(core: Arc<Core>, ask: WordAskV1) -> Bytes {
    let (replica, lead) = match lead_of(&core, ask.approval.log.group) {
        Ok(found) => found,
        Err(hint) => return WordAnswerV1::NotLeader(hint).to_bytes(),
    };
    let answer = match word_here(&core, &replica, &lead, &ask).await {
        Ok((approval, replayed)) => WordAnswerV1::Done { approval, replayed },
        Err(problem) if problem.code == Code::NotLeader => WordAnswerV1::NotLeader(None),
        Err(problem) => WordAnswerV1::Problem(problem),
    };
    answer.to_bytes()
}

async fn word_here(
    core: &Core,
    replica: &PartitionReplica,
    lead: &Lead,
    ask: &WordAskV1,
) -> Result<(ApprovalV1, bool), Problem> {
    let escalated = escalated_leaf(core, replica, ask.approval).await?;
    let view = core.shared.view();
    let missing = || Problem::new(Code::NotReady, "the tenant has not reached this node yet").retry_after_ms(200);
    let tenant = view.tenants().find(|tenant| tenant.id == escalated.tenant).cloned().ok_or_else(missing)?;
    let (word, sealed) = word_of(lead, &tenant, &escalated, ask)?;
    let (entry, at) = replica.propose(lead, HeaderV1::DecideApproval(word), sealed, PATIENCE).await?;
    let replayed = match &entry.results[at].outcome {
        OutcomeV1::Reviewed(_) => false,
        OutcomeV1::Duplicate { .. } => true,
        OutcomeV1::Conflict { leaf_index } => {
            let (leaf, _) = core.leaf(ask.approval.log.group, *leaf_index).await?;
            return Err(decided_otherwise(&leaf));
        }
        OutcomeV1::Stale(_) => return Err(Problem::new(Code::NotLeader, "leadership moved")),
        _ => return Err(no_approval(ask.approval)),
    };
    let key = ApprovalKey { slot: Slot(escalated.slot), leaf_index: ask.approval.leaf_index };
    let known = replica.machine.lock().ledger.approval(&key).ok_or_else(|| no_approval(ask.approval))?;
    Ok((record(&key, &known), replayed))
}

/// The command, and who and why in its sealed body.
fn word_of(
    lead: &Lead,
    tenant: &Tenant,
    escalated: &DecisionLeaf,
    ask: &WordAskV1,
) -> Result<(WordV1, Vec<u8>), Problem> {
    let words = WordsV1 { approves: ask.approves, approver: ask.approver.clone(), reason: ask.reason.clone() };
    let plaintext = BodyV1::Word(words).to_bytes();
    let actor = ActorKeys { slot: Slot(escalated.slot), tenant: escalated.tenant, agent: escalated.agent };
    let sealed = Sealer::default().seal(lead, &actor, None, &plaintext)?;
    let word = WordV1 {
        slot: Slot(escalated.slot),
        decision: ask.approval.leaf_index,
        approves: ask.approves,
        approver: tenant.keys.keyed_id("approver", &ask.approver),
        body_commitment: sealed.commitment,
        sealing: Some(sealed.sealing.agent),
    };
    Ok((word, sealed.bytes))
}

/// The decision that escalated, from the audit trail.
async fn escalated_leaf(core: &Core, replica: &PartitionReplica, id: DecisionId) -> Result<DecisionLeaf, Problem> {
    let (size, log) = {
        let machine = replica.machine.lock();
        (machine.tree().0, machine.log())
    };
    if log != id.log || id.leaf_index >= size {
        return Err(no_approval(id));
    }
    match core.leaf(id.log.group, id.leaf_index).await?.0.event {
        LeafEvent::Decision(escalated) => Ok(*escalated),
        _ => Err(no_approval(id)),
    }
}

fn decided_otherwise(leaf: &LeafV1) -> Problem {
    let at = leaf.leaf_index;
    let expired = ApprovalState::Expired as u8;
    match &leaf.event {
        LeafEvent::ApprovalDecided(ApprovalLeaf { state, .. }) if *state == expired => {
            Problem::new(Code::ApprovalExpired, format!("the approval expired at leaf {at}"))
        }
        LeafEvent::ApprovalDecided(ApprovalLeaf { state, .. }) => {
            let word = ApprovalState::ALL[usize::from(*state).min(4)].as_str();
            Problem::new(Code::ApprovalConflict, format!("it was {word} before; leaf {at} says by whom"))
        }
        _ => Problem::new(Code::Internal, format!("leaf {at} is no word on an approval")),
    }
}

/// The problem of an approval that is not there.
pub fn no_approval(id: DecisionId) -> Problem {
    Problem::new(Code::NotFound, format!("there is no approval {id}, or it ended so long ago that it is forgotten"))
}

/// Reads approvals, where this node leads their group and a quorum has confirmed that.
pub async fn on_approvals(core: Arc<Core>, ask: ApprovalsAskV1) -> Bytes {
    approvals_here(&core, ask).await.to_bytes()
}

async fn approvals_here(core: &Core, ask: ApprovalsAskV1) -> ApprovalsV1 {
    let replica = match confirmed_lead(core, GroupId(ask.group), PATIENCE).await {
        Ok((replica, _)) => replica,
        Err(hint) => return ApprovalsV1::NotLeader(hint),
    };
    let machine = replica.machine.lock();
    let LogId { era, .. } = machine.log();
    let fits = |key: &ApprovalKey, known: &Approval| {
        key.leaf_index > ask.after
            && ask.only.is_none_or(|only| key.leaf_index == only)
            && ask.tenant.is_none_or(|tenant| known.agent.tenant == tenant)
            && ask.state.is_none_or(|state| known.state == state)
    };
    let found = machine.ledger.approvals().filter(|(key, known)| fits(key, known));
    let mut found: Vec<ApprovalV1> = found.map(|(key, known)| record(&key, &known)).collect();
    let policy = machine.ledger.policy().map_or(0, |policy| policy.revision.0);
    found.sort_unstable_by_key(|approval| approval.leaf_index);
    found.truncate((ask.count as usize).min(APPROVALS_PAGE_MAX + 1));
    ApprovalsV1::Found { era, policy, approvals: found }
}

fn record(key: &ApprovalKey, known: &Approval) -> ApprovalV1 {
    ApprovalV1 {
        leaf_index: key.leaf_index,
        state: known.state,
        policy_rev: known.policy_rev.0,
        at_ns: known.at_ns,
        until_ns: known.until_ns,
        word_leaf: known.word_leaf,
        end_leaf: known.end_leaf,
    }
}

#[cfg(test)]
mod tests {
    use nethical_audit::keys::TenantKeys;
    use nethical_protocol::action::{Action, ActionKind};
    use nethical_protocol::control::TenantSpec;
    use nethical_protocol::ids::KeyedId;

    use super::*;
    use crate::actor::command::request_key;

    fn action() -> Action {
        Action {
            request_id: "r".into(),
            client_chosen: true,
            issued_at_ms: 1,
            tenant: "t".into(),
            agent: "a".into(),
            session: "s".into(),
            cohort: String::new(),
            region: String::new(),
            kind: ActionKind::ToolCall,
            name: "wire".into(),
            resource_type: "account".into(),
            resource_id: "7".into(),
            args_json: r#"{"amount":5}"#.into(),
            context_json: "{}".into(),
            cost: Vec::new(),
            explain: false,
            approval: String::new(),
            is_critical: false,
            wants_receipt: false,
        }
    }

    #[test]
    fn naming_an_approval_makes_another_request_of_the_same_action() {
        let spec = TenantSpec::named("t");
        let tenant = Tenant { spec, keys: TenantKeys::new(&[7; 32]), id: KeyedId([1; 16]) };
        let (asked, digest) = request_key(&tenant, &action());
        let claim = |approval: &str| Action { approval: approval.into(), request_id: "r2".into(), ..action() };
        let (claimed, same) = request_key(&tenant, &claim("2.1.5"));
        assert_eq!(digest, same, "the approval is no part of what is approved");
        assert_ne!(asked.content, claimed.content);
        assert_ne!(claimed.content, request_key(&tenant, &claim("2.1.6")).0.content);
        let others = [
            Action { args_json: r#"{"amount":6}"#.into(), ..action() },
            Action { name: "wires".into(), ..action() },
            Action { resource_id: "8".into(), ..action() },
            Action { session: String::new(), ..action() },
            Action { context_json: r#"{"a":1}"#.into(), ..action() },
            Action { kind: ActionKind::Message, ..action() },
        ];
        for other in others {
            assert_ne!(request_key(&tenant, &other).1, digest, "{other:?}");
        }
    }

    #[test]
    fn a_word_that_comes_too_late_is_told_from_one_that_contradicts() {
        let log = LogId { group: GroupId(2), era: 1 };
        let leaf = |state: ApprovalState| {
            let (tenant, agent, digest, approver) = Default::default();
            let decided = ApprovalLeaf { slot: 0, tenant, agent, decision: 3, state: state as u8, digest, approver };
            LeafV1 { event: LeafEvent::ApprovalDecided(decided), ..crate::apply::leaf::era_opened(log) }
        };
        assert_eq!(decided_otherwise(&leaf(ApprovalState::Expired)).code, Code::ApprovalExpired);
        for state in [ApprovalState::Approved, ApprovalState::Denied] {
            assert_eq!(decided_otherwise(&leaf(state)).code, Code::ApprovalConflict);
        }
    }
}
