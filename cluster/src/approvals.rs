//! Approvals as people read them: asks every partition's leader, and puts words to what they say.
//!
//! Reads only. A partition that does not answer is named, and the others are shown; nobody may take a short list for a
//! whole one.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;

use nethical_governance::approval::ApprovalState;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, GroupId, KeyedId, LogId};
use nethical_protocol::limits::APPROVALS_PAGE_MAX;

use crate::api::{ApprovalList, ApprovalQuery, ApprovalView, ApprovalWord};
use crate::ask::{self, Question};
use crate::body::BodyV1;
use crate::inspect::recorded;
use crate::message::*;
use crate::node::Core;
use crate::review;

/// How long a partition's leader may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Approvals in a page where the caller does not say.
const PAGE_DEFAULT: usize = 50;

/// What one partition said.
struct Said {
    log: LogId,
    policy: u64,
    approvals: Vec<ApprovalV1>,
}

/// A page of approvals, in order of their ids.
pub async fn list(core: Arc<Core>, query: ApprovalQuery) -> Result<ApprovalList, Problem> {
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, APPROVALS_PAGE_MAX);
    let (tenant, state) = (tenant_of(&core, &query)?, state_of(&query)?);
    let after: Option<DecisionId> = match &query.cursor {
        None => None,
        Some(cursor) => {
            Some(cursor.parse().map_err(|error| Problem::new(Code::MalformedRequest, format!("cursor: {error}")))?)
        }
    };
    let groups = core.groups().filter(|group| group.is_partition());
    let groups: Vec<GroupId> = groups.filter(|group| after.is_none_or(|id| *group >= id.log.group)).collect();
    let asked = groups.iter().map(|group| {
        let after = after.filter(|id| id.log.group == *group).map_or(0, |id| id.leaf_index);
        let count = limit as u64 + 1;
        ask(&core, ApprovalsAskV1 { group: group.0, after, only: None, tenant, state, count })
    });
    let (mut awaiting, mut found) = (Vec::new(), Vec::new());
    for (group, answer) in groups.iter().zip(join_all(asked).await) {
        match answer {
            Ok(said) => found.extend(said.approvals.into_iter().map(|approval| (said.log, said.policy, approval))),
            Err(_) => awaiting.push(group.0),
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let mut approvals = Vec::with_capacity(found.len());
    for (log, policy, approval) in &found {
        approvals.push(shown(&core, *log, *policy, approval).await);
    }
    let cursor = approvals.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(ApprovalList { approvals, awaiting, cursor })
}

/// One approval.
pub async fn one(core: Arc<Core>, id: DecisionId) -> Result<ApprovalView, Problem> {
    check_group(&core, id)?;
    let (group, only, after) = (id.log.group.0, Some(id.leaf_index), 0);
    let said = ask(&core, ApprovalsAskV1 { group, after, only, tenant: None, state: None, count: 1 }).await?;
    let approval = said.approvals.first().filter(|_| said.log == id.log).ok_or_else(|| review::no_approval(id))?;
    Ok(shown(&core, said.log, said.policy, approval).await)
}

/// A person's word on an approval; the same again is answered with the first one's record.
pub async fn decide(core: Arc<Core>, word: ApprovalWord) -> Result<ApprovalView, Problem> {
    let ApprovalWord { id, approves, approver, reason } = word;
    check_group(&core, id)?;
    let ask = WordAskV1 { approval: id, approves, approver, reason };
    let (here_core, local) = (core.clone(), ask.clone());
    let here = move |_| review::on_word(here_core.clone(), local.clone()).boxed();
    let read = |bytes: &[u8]| match WordAnswerV1::from_bytes(bytes).ok()? {
        WordAnswerV1::Done { approval, replayed } => Some(Ok(Ok((approval, replayed)))),
        WordAnswerV1::Problem(problem) => Some(Ok(Err(problem))),
        WordAnswerV1::NotLeader(hint) => Some(Err(hint)),
    };
    let until = core.shared.world.clock.now() + PATIENCE;
    let question = Question { kind: KIND_WORD, body: ask.to_bytes(), until };
    let (approval, replayed) = ask::ask_leader(&core, id.log.group, question, here, read).await??;
    let policy = approval.policy_rev;
    Ok(ApprovalView { replayed, ..shown(&core, id.log, policy, &approval).await })
}

fn check_group(core: &Core, id: DecisionId) -> Result<(), Problem> {
    match id.log.group.is_partition() && core.groups().any(|known| known == id.log.group) {
        true => Ok(()),
        false => Err(review::no_approval(id)),
    }
}

fn tenant_of(core: &Core, query: &ApprovalQuery) -> Result<Option<KeyedId>, Problem> {
    let view = core.shared.view();
    let Some(name) = &query.tenant else { return Ok(None) };
    view.tenant(name).map(|tenant| Some(tenant.id)).ok_or_else(|| core.shared.no_tenant(name))
}

fn state_of(query: &ApprovalQuery) -> Result<Option<ApprovalState>, Problem> {
    let Some(word) = &query.state else { return Ok(None) };
    let known = ApprovalState::ALL.into_iter().find(|state| state.as_str() == word);
    let refuse = || Problem::new(Code::MalformedRequest, "state must be pending, approved, denied, expired or used");
    known.map(Some).ok_or_else(refuse)
}

async fn ask(core: &Arc<Core>, ask: ApprovalsAskV1) -> Result<Said, Problem> {
    let group = GroupId(ask.group);
    let (here_core, local) = (core.clone(), ask.clone());
    let here = move |_| review::on_approvals(here_core.clone(), local.clone()).boxed();
    let read = |bytes: &[u8]| match ApprovalsV1::from_bytes(bytes).ok()? {
        ApprovalsV1::Found { era, policy, approvals } => {
            Some(Ok(Said { log: LogId { group, era }, policy, approvals }))
        }
        ApprovalsV1::NotLeader(hint) => Some(Err(hint)),
    };
    let until = core.shared.world.clock.now() + PATIENCE;
    ask::ask_leader(core, group, Question { kind: KIND_APPROVALS, body: ask.to_bytes(), until }, here, read).await
}

/// Puts the words of the sealed bodies to an approval, as far as this node can open them.
async fn shown(core: &Arc<Core>, log: LogId, policy: u64, approval: &ApprovalV1) -> ApprovalView {
    let id = DecisionId { log, leaf_index: approval.leaf_index };
    let at = |leaf_index: u64| (leaf_index > 0).then_some(DecisionId { log, leaf_index });
    let mut view = ApprovalView {
        id,
        state: approval.state.as_str().to_owned(),
        void: approval.state.is_open() && approval.policy_rev != policy,
        tenant: None,
        agent: None,
        action: None,
        reasons: Vec::new(),
        opened_at_ns: approval.at_ns,
        expires_at_ns: approval.until_ns,
        decided_in: at(approval.word_leaf),
        ended_in: at(approval.end_leaf),
        approver: None,
        reason: None,
        replayed: false,
    };
    if let Ok((decision, body)) = recorded(core, id).await {
        view.reasons = decision.map(|decision| decision.reasons).unwrap_or_default();
        if let Some(body @ BodyV1::Decision { action, .. }) = &body {
            (view.tenant, view.agent) = (Some(action.tenant.clone()), Some(action.agent.clone()));
            view.action = Some(body.to_json());
        }
    }
    if let Some(word) = view.decided_in
        && let Ok((_, Some(BodyV1::Word(words)))) = recorded(core, word).await
    {
        (view.approver, view.reason) = (Some(words.approver), Some(words.reason));
    }
    view
}
