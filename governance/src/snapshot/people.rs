//! Records of what people are asked and have said: approvals, and releases that need several words. Frozen like the rest.

use nethical_protocol::ids::{ControlRevision, KeyedId};
use nethical_protocol::limits::{HOLD_APPROVER_NAMES_MAX, HOLD_APPROVERS_MAX};

use super::{AgentKeyV1, SnapshotError, agent_key_of, agent_key_record, contents};
use crate::agent::AgentKey;
use crate::approval::{Approval, ApprovalKey, ApprovalState};
use crate::release::Release;

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct ApprovalV1 {
    leaf_index: u64,
    agent: AgentKeyV1,
    digest: KeyedId,
    policy_rev: ControlRevision,
    at_ns: u64,
    until_ns: u64,
    state: ApprovalState,
    word_leaf: u64,
    end_leaf: u64,
}

/// (agent, needed, names, voices).
pub(super) type ReleaseV1 = (AgentKeyV1, u8, Vec<KeyedId>, Vec<KeyedId>);

pub(super) fn approval_record((key, known): (&ApprovalKey, &Approval)) -> ApprovalV1 {
    let Approval { agent, digest, policy_rev, at_ns, until_ns, state, word_leaf, end_leaf } = *known;
    let (leaf_index, agent) = (key.leaf_index, agent_key_record(agent));
    ApprovalV1 { leaf_index, agent, digest, policy_rev, at_ns, until_ns, state, word_leaf, end_leaf }
}

pub(super) fn approval_of(record: ApprovalV1) -> Result<(ApprovalKey, Approval), SnapshotError> {
    let ApprovalV1 { leaf_index, agent, digest, policy_rev, at_ns, until_ns, state, word_leaf, end_leaf } = record;
    if until_ns <= at_ns {
        return Err(contents("an approval ends before it begins"));
    }
    let agent = agent_key_of(agent);
    let known = Approval { agent, digest, policy_rev, at_ns, until_ns, state, word_leaf, end_leaf };
    Ok((ApprovalKey { slot: agent.slot, leaf_index }, known))
}

pub(super) fn release_record((key, release): (&AgentKey, &Release)) -> ReleaseV1 {
    (agent_key_record(*key), release.needed, release.names.clone(), release.voices.clone())
}

pub(super) fn release_of((key, needed, names, voices): ReleaseV1) -> Result<(AgentKey, Release), SnapshotError> {
    let most = usize::from(needed).min(HOLD_APPROVERS_MAX);
    let rises = |ids: &[KeyedId]| ids.windows(2).all(|pair| pair[0] < pair[1]);
    if usize::from(needed) > most || voices.len() > most || names.len() > HOLD_APPROVER_NAMES_MAX {
        return Err(contents("a release is out of its bounds"));
    }
    if !rises(&names) || !rises(&voices) {
        return Err(contents("the approvers of a release are out of order"));
    }
    Ok((agent_key_of(key), Release { needed, names, voices }))
}
