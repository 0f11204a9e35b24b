//! Raft messages as frames: rkyv types frozen per version, with entry payloads read without a copy.
//!
//! Bytes come from other machines, so every decoder checks and none panics. Nothing here interprets an entry.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use rkyv::rancor::Error;

use super::types::{
    Entry, EntryPayload, LogId, Membership, Payload, Site, SnapshotMeta, StoredMembership, Types, Vote, log_id,
    term_of, vote,
};

/// Leader → follower: append; answer [`AppendAnswerV1`].
pub const KIND_APPEND: u16 = 16;
/// Candidate → all: vote; answer [`VoteAnswerV1`].
pub const KIND_VOTE: u16 = 17;
/// Candidate → all: would you vote?
pub const KIND_PRE_VOTE: u16 = 18;
/// Leader → successor: campaign now.
pub const KIND_TRANSFER: u16 = 19;
/// Leader → follower: one chunk of a snapshot.
pub const KIND_SNAPSHOT: u16 = 20;

/// Bytes that are not what their kind promises.
#[derive(Debug, Clone, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct CodecError(pub String);

impl From<Error> for CodecError {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

/// A position in a group's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LogIdV1 {
    /// Term of the leader that made the entry.
    pub term: u64,
    /// Position.
    pub index: u64,
}

/// A vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct VoteV1 {
    /// Term.
    pub term: u64,
    /// Replica voted for.
    pub voted_for: u64,
    /// True where that replica is the term's leader.
    pub committed: bool,
}

/// An entry: kind 0 blank, 1 data, 2 membership.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct EntryV1 {
    /// Position.
    pub id: LogIdV1,
    /// What `data` is.
    pub kind: u8,
    /// The payload.
    pub data: Vec<u8>,
}

/// A membership: joint configurations and the sites of all replicas.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct MembershipV1 {
    /// Voters, one list for each configuration of a joint one.
    pub voters: Vec<Vec<u64>>,
    /// (replica, node) of every replica, learners included.
    pub sites: Vec<(u64, u64)>,
}

/// Body of [`KIND_APPEND`].
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AppendV1 {
    /// The group.
    pub group: u32,
    /// The replica meant: another life of it must not answer.
    pub target: u64,
    /// The leader's vote.
    pub vote: VoteV1,
    /// The entry before.
    pub prev: Option<LogIdV1>,
    /// In order.
    pub entries: Vec<EntryV1>,
    /// What the leader knows to be committed.
    pub commit: Option<LogIdV1>,
}

/// The answer to an append.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum AppendAnswerV1 {
    /// Everything up to here is durable.
    Matched(Option<LogIdV1>),
    /// The entry at this position differs or is missing.
    Conflict(LogIdV1),
    /// Somebody else leads.
    HigherVote(VoteV1),
    /// No such replica here, or it has stopped.
    Absent,
}

/// Body of [`KIND_VOTE`] and [`KIND_PRE_VOTE`].
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AskVoteV1 {
    /// The group.
    pub group: u32,
    /// The replica meant.
    pub target: u64,
    /// The candidate's vote.
    pub vote: VoteV1,
    /// The candidate's last entry.
    pub last: Option<LogIdV1>,
    /// Asked because the leader handed over.
    pub transfer: bool,
}

/// The answer to a vote request.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum VoteAnswerV1 {
    /// The voter's own vote afterwards.
    Vote {
        /// Its vote.
        vote: VoteV1,
        /// Its last entry.
        last: Option<LogIdV1>,
        /// Whether it was granted.
        granted: bool,
    },
    /// No such replica here.
    Absent,
}

/// Body of [`KIND_TRANSFER`]. Answered by [`VoteAnswerV1::Absent`] or by nothing in particular.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TransferV1 {
    /// The group.
    pub group: u32,
    /// The replica that should lead.
    pub target: u64,
    /// The leader's vote.
    pub from: VoteV1,
    /// What the successor must have.
    pub last: Option<LogIdV1>,
}

/// One chunk of a snapshot; the last one installs it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ChunkV1 {
    /// The group.
    pub group: u32,
    /// The replica meant.
    pub target: u64,
    /// The leader's vote.
    pub vote: VoteV1,
    /// What the snapshot covers.
    pub meta: SnapshotMetaV1,
    /// SHA-256 of the whole body.
    pub digest: [u8; 32],
    /// Bytes of the whole body.
    pub total: u64,
    /// Where this chunk starts.
    pub offset: u64,
    /// The chunk.
    pub data: Vec<u8>,
}

/// The answer to a chunk.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ChunkAnswerV1 {
    /// Go on from this offset (the receiver may have kept chunks of an earlier try).
    Continue(u64),
    /// Installed, or refused for the vote given.
    Done(VoteV1),
    /// No such replica here.
    Absent,
}

/// Snapshot meta data.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SnapshotMetaV1 {
    /// Last entry covered.
    pub last: Option<LogIdV1>,
    /// Where the membership was set.
    pub membership_at: Option<LogIdV1>,
    /// The membership.
    pub membership: MembershipV1,
}

/// Encodes any of the types above.
macro_rules! codec {
    ($($name:ident),*) => {$(
        impl $name {
            /// The rkyv bytes.
            pub fn to_bytes(&self) -> Bytes {
                let bytes = rkyv::api::high::to_bytes_in::<_, Error>(self, Vec::with_capacity(256));
                Bytes::from(bytes.expect("encoding into memory cannot fail"))
            }

            /// Reads and checks.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
                Ok(rkyv::from_bytes::<Self, Error>(bytes)?)
            }
        }
    )*};
}

codec!(
    AppendV1,
    AppendAnswerV1,
    AskVoteV1,
    VoteAnswerV1,
    TransferV1,
    ChunkV1,
    ChunkAnswerV1,
    SnapshotMetaV1,
    MembershipV1,
    VoteV1,
    LogIdV1
);

impl From<LogId> for LogIdV1 {
    fn from(id: LogId) -> Self {
        Self { term: term_of(&id), index: id.index }
    }
}

impl From<LogIdV1> for LogId {
    fn from(id: LogIdV1) -> Self {
        log_id(id.term, id.index)
    }
}

impl From<Vote> for VoteV1 {
    fn from(from: Vote) -> Self {
        Self { term: from.leader_id.term, voted_for: from.leader_id.voted_for, committed: from.committed }
    }
}

impl From<VoteV1> for Vote {
    fn from(from: VoteV1) -> Self {
        vote(from.term, from.voted_for, from.committed)
    }
}

impl From<&Membership> for MembershipV1 {
    fn from(from: &Membership) -> Self {
        Self {
            voters: from.get_joint_config().iter().map(|set| set.iter().copied().collect()).collect(),
            sites: from.nodes().map(|(replica, site)| (*replica, site.node)).collect(),
        }
    }
}

impl TryFrom<&MembershipV1> for Membership {
    type Error = CodecError;

    fn try_from(from: &MembershipV1) -> Result<Self, CodecError> {
        let voters: Vec<BTreeSet<u64>> = from.voters.iter().map(|set| set.iter().copied().collect()).collect();
        let sites: BTreeMap<u64, Site> =
            from.sites.iter().map(|(replica, node)| (*replica, Site { node: *node })).collect();
        if voters.is_empty() && sites.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(voters, sites).map_err(|error| CodecError(error.to_string()))
    }
}

impl From<&SnapshotMeta> for SnapshotMetaV1 {
    fn from(from: &SnapshotMeta) -> Self {
        Self {
            last: from.last_log_id.map(Into::into),
            membership_at: from.last_membership.log_id().as_ref().map(|id| (*id).into()),
            membership: from.last_membership.membership().into(),
        }
    }
}

impl TryFrom<&SnapshotMetaV1> for SnapshotMeta {
    type Error = CodecError;

    fn try_from(from: &SnapshotMetaV1) -> Result<Self, CodecError> {
        let membership = Membership::try_from(&from.membership)?;
        Ok(SnapshotMeta {
            last_log_id: from.last.map(Into::into),
            last_membership: StoredMembership::new(from.membership_at.map(Into::into), membership),
        })
    }
}

/// What an entry's payload is on the wire and in the log: its kind and bytes.
pub fn encode_payload(payload: &EntryPayload) -> (u8, Bytes) {
    match payload {
        EntryPayload::Blank => (0, Bytes::new()),
        EntryPayload::Normal(payload) => (1, payload.0.clone()),
        EntryPayload::Membership(membership) => (2, MembershipV1::from(membership).to_bytes()),
    }
}

/// The reverse of [`encode_payload`].
pub fn decode_payload(kind: u8, data: Bytes) -> Result<EntryPayload, CodecError> {
    match kind {
        0 => Ok(EntryPayload::Blank),
        1 => Ok(EntryPayload::Normal(Payload(data))),
        2 => Ok(EntryPayload::Membership(Membership::try_from(&MembershipV1::from_bytes(&data)?)?)),
        other => Err(CodecError(format!("entry kind {other}"))),
    }
}

/// An append request for one group and replica.
pub fn encode_append(group: u32, target: u64, request: &AppendEntriesRequest<Types>) -> Bytes {
    let entries: Vec<EntryV1> = request
        .entries
        .iter()
        .map(|entry| {
            let (kind, data) = encode_payload(&entry.payload);
            EntryV1 { id: entry.log_id.into(), kind, data: data.to_vec() }
        })
        .collect();
    let (prev, commit) = (request.prev_log_id.map(Into::into), request.leader_commit.map(Into::into));
    let bytes: usize = entries.iter().map(|entry: &EntryV1| entry.data.len() + 64).sum();
    let message = AppendV1 { group, target, vote: request.vote.into(), prev, entries, commit };
    let room = Vec::with_capacity(bytes + 256);
    Bytes::from(rkyv::api::high::to_bytes_in::<_, Error>(&message, room).expect("encoding into memory cannot fail"))
}

/// Reads an append request; payloads are slices of `bytes`.
pub fn decode_append(bytes: &Bytes) -> Result<(u32, u64, AppendEntriesRequest<Types>), CodecError> {
    let read = rkyv::access::<ArchivedAppendV1, Error>(bytes)?;
    let id = |id: &ArchivedLogIdV1| log_id(id.term.to_native(), id.index.to_native());
    let mut entries = Vec::with_capacity(read.entries.len());
    for entry in read.entries.iter() {
        let payload = decode_payload(entry.kind, bytes.slice_ref(entry.data.as_slice()))?;
        entries.push(Entry { log_id: id(&entry.id), payload });
    }
    let voted = vote(read.vote.term.to_native(), read.vote.voted_for.to_native(), read.vote.committed);
    let request = AppendEntriesRequest {
        vote: voted,
        prev_log_id: read.prev.as_ref().map(id),
        entries,
        leader_commit: read.commit.as_ref().map(id),
    };
    Ok((read.group.to_native(), read.target.to_native(), request))
}

/// The group that a message names, whatever its kind; `None` for bytes that do not read.
pub fn group_of(kind: u16, bytes: &[u8]) -> Option<u32> {
    let group = match kind {
        KIND_APPEND => rkyv::access::<ArchivedAppendV1, Error>(bytes).ok()?.group,
        KIND_VOTE | KIND_PRE_VOTE => rkyv::access::<ArchivedAskVoteV1, Error>(bytes).ok()?.group,
        KIND_TRANSFER => rkyv::access::<ArchivedTransferV1, Error>(bytes).ok()?.group,
        KIND_SNAPSHOT => rkyv::access::<ArchivedChunkV1, Error>(bytes).ok()?.group,
        _ => return None,
    };
    Some(group.to_native())
}

/// The answer to a message for a replica that is not here.
pub fn absent(kind: u16) -> Bytes {
    match kind {
        KIND_APPEND => AppendAnswerV1::Absent.to_bytes(),
        KIND_SNAPSHOT => ChunkAnswerV1::Absent.to_bytes(),
        _ => VoteAnswerV1::Absent.to_bytes(),
    }
}

/// What openraft's append pipeline answers, for the wire.
pub fn answer_of_stream(result: StreamAppendResult<Types>) -> AppendAnswerV1 {
    match result {
        Ok(matched) => AppendAnswerV1::Matched(matched.map(Into::into)),
        Err(StreamAppendError::Conflict(at)) => AppendAnswerV1::Conflict(at.into()),
        Err(StreamAppendError::HigherVote(vote)) => AppendAnswerV1::HigherVote(vote.into()),
    }
}

/// The reverse of [`answer_of_stream`]; `None` where the replica is absent.
pub fn stream_of_answer(answer: AppendAnswerV1) -> Option<StreamAppendResult<Types>> {
    match answer {
        AppendAnswerV1::Matched(matched) => Some(Ok(matched.map(Into::into))),
        AppendAnswerV1::Conflict(at) => Some(Err(StreamAppendError::Conflict(at.into()))),
        AppendAnswerV1::HigherVote(vote) => Some(Err(StreamAppendError::HigherVote(vote.into()))),
        AppendAnswerV1::Absent => None,
    }
}

/// A unary append's answer, for heartbeats.
pub fn answer_of_append(
    response: AppendEntriesResponse<Types>,
    request_last: Option<LogId>,
    prev: Option<LogId>,
) -> AppendAnswerV1 {
    match response {
        AppendEntriesResponse::Success => AppendAnswerV1::Matched(request_last.map(Into::into)),
        AppendEntriesResponse::PartialSuccess(matched) => AppendAnswerV1::Matched(matched.map(Into::into)),
        AppendEntriesResponse::Conflict => match prev {
            Some(prev) => AppendAnswerV1::Conflict(prev.into()),
            None => AppendAnswerV1::Absent,
        },
        AppendEntriesResponse::HigherVote(vote) => AppendAnswerV1::HigherVote(vote.into()),
    }
}

/// The reverse of [`answer_of_append`].
pub fn append_of_answer(answer: AppendAnswerV1, request_last: Option<LogId>) -> Option<AppendEntriesResponse<Types>> {
    match answer {
        AppendAnswerV1::Matched(matched) if matched.map(LogId::from) == request_last => {
            Some(AppendEntriesResponse::Success)
        }
        AppendAnswerV1::Matched(matched) => Some(AppendEntriesResponse::PartialSuccess(matched.map(Into::into))),
        AppendAnswerV1::Conflict(_) => Some(AppendEntriesResponse::Conflict),
        AppendAnswerV1::HigherVote(vote) => Some(AppendEntriesResponse::HigherVote(vote.into())),
        AppendAnswerV1::Absent => None,
    }
}

/// A vote request for one group and replica.
pub fn encode_vote(group: u32, target: u64, request: &VoteRequest<Types>) -> Bytes {
    let (vote, last) = (request.vote.into(), request.last_log_id.map(Into::into));
    AskVoteV1 { group, target, vote, last, transfer: request.leadership_transfer }.to_bytes()
}

/// A vote request as openraft takes it.
pub fn vote_request(ask: &AskVoteV1) -> VoteRequest<Types> {
    VoteRequest { vote: ask.vote.into(), last_log_id: ask.last.map(Into::into), leadership_transfer: ask.transfer }
}

/// A vote answer.
pub fn answer_of_vote(response: VoteResponse<Types>) -> VoteAnswerV1 {
    let (vote, last) = (response.vote.into(), response.last_log_id.map(Into::into));
    VoteAnswerV1::Vote { vote, last, granted: response.vote_granted }
}

/// The reverse of [`answer_of_vote`]; `None` where the replica is absent.
pub fn vote_of_answer(answer: VoteAnswerV1) -> Option<VoteResponse<Types>> {
    match answer {
        VoteAnswerV1::Vote { vote, last, granted } => {
            Some(VoteResponse { vote: vote.into(), last_log_id: last.map(Into::into), vote_granted: granted })
        }
        VoteAnswerV1::Absent => None,
    }
}

/// A transfer request for one group.
pub fn encode_transfer(group: u32, request: &TransferLeaderRequest<Types>) -> Bytes {
    let (from, last) = ((*request.from_leader()).into(), request.last_log_id().map(|id| (*id).into()));
    TransferV1 { group, target: *request.to_node_id(), from, last }.to_bytes()
}

/// A transfer request as openraft takes it.
pub fn transfer_request(from: &TransferV1) -> TransferLeaderRequest<Types> {
    TransferLeaderRequest::new(from.from.into(), from.target, from.last.map(Into::into))
}

/// A snapshot's answer as openraft takes it.
pub fn snapshot_response(vote: VoteV1) -> SnapshotResponse<Types> {
    SnapshotResponse { vote: vote.into() }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
