//! openraft's network over the wire seam: appends pipelined on the log lane, votes and heartbeats on the pulse lane.
//!
//! One instance talks to one replica. A call that the wire refuses or loses is *unreachable*, and openraft backs off;
//! an append may be sent again at any time, because followers answer by position.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use sha2::{Digest, Sha256};

use nethical_protocol::buggify;
use nethical_protocol::ids::{GroupId, NodeId};
use nethical_protocol::limits::SNAPSHOT_CHUNK_BYTES;

use super::codec::{self, AppendAnswerV1, ChunkAnswerV1, ChunkV1, SnapshotMetaV1, VoteAnswerV1};
use super::types::{Site, Snapshot, SnapshotData, Types, Vote};
use crate::world::{Lane, Wire};

/// Appends of one group to one follower that may be on their way at once.
const APPENDS_IN_FLIGHT_MAX: usize = 8;
/// How long one append may stay unanswered before the stream is given up.
const APPEND_PATIENCE: Duration = Duration::from_secs(2);

/// Makes a [`Peer`] for each replica of a group.
pub struct Network {
    /// The other nodes.
    pub wire: Arc<dyn Wire>,
    /// The group.
    pub group: GroupId,
}

/// The way to one replica.
pub struct Peer {
    wire: Arc<dyn Wire>,
    group: u32,
    target: u64,
    node: NodeId,
    lane: Lane,
}

impl Network {
    fn peer(&self, target: u64, site: &Site, lane: Lane) -> Peer {
        Peer { wire: self.wire.clone(), group: self.group.0, target, node: NodeId(site.node), lane }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, site: &Site) -> Peer {
        self.peer(target, site, Lane::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, site: &Site) -> Peer {
        self.peer(target, site, Lane::Pulse)
    }

    async fn new_snapshot_client(&mut self, target: u64, site: &Site) -> Peer {
        self.peer(target, site, Lane::Bulk)
    }
}

fn unreachable(why: impl std::error::Error + 'static) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&why))
}

fn absent() -> RPCError<Types> {
    unreachable(std::io::Error::other("the replica is not there"))
}

impl Peer {
    async fn ask(&self, lane: Lane, kind: u16, body: Bytes, patience: Duration) -> Result<Bytes, RPCError<Types>> {
        self.wire.call(self.node, lane, kind, body, patience).await.map_err(unreachable)
    }

    async fn ask_vote(
        &self,
        kind: u16,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let body = codec::encode_vote(self.group, self.target, &rpc);
        let answer = self.ask(Lane::Pulse, kind, body, option.soft_ttl()).await?;
        let answer = VoteAnswerV1::from_bytes(&answer).map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        codec::vote_of_answer(answer).ok_or_else(absent)
    }

    async fn send_chunks(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        patience: Duration,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let body = snapshot.snapshot;
        let meta = SnapshotMetaV1::from(&snapshot.meta);
        let digest: [u8; 32] = Sha256::digest(body.as_slice()).into();
        let mut offset = 0u64;
        loop {
            let chunk_bytes = if buggify!("snapshot.small-chunk") { 1_000 } else { SNAPSHOT_CHUNK_BYTES };
            let end = (offset as usize + chunk_bytes).min(body.len());
            let chunk = ChunkV1 {
                group: self.group,
                target: self.target,
                vote: vote.into(),
                meta: meta.clone(),
                digest,
                total: body.len() as u64,
                offset,
                data: body[offset as usize..end].to_vec(),
            };
            let answer = self.ask(Lane::Bulk, codec::KIND_SNAPSHOT, chunk.to_bytes(), patience).await?;
            let answer = ChunkAnswerV1::from_bytes(&answer).map_err(|error| NetworkError::new(&error))?;
            match answer {
                ChunkAnswerV1::Continue(next) if next <= body.len() as u64 => offset = next,
                ChunkAnswerV1::Continue(_) | ChunkAnswerV1::Absent => return Err(absent().into()),
                ChunkAnswerV1::Done(vote) => return Ok(codec::snapshot_response(vote)),
            }
        }
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let last = rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
        let body = codec::encode_append(self.group, self.target, &rpc);
        let answer = self.ask(self.lane, codec::KIND_APPEND, body, option.soft_ttl()).await?;
        let answer =
            AppendAnswerV1::from_bytes(&answer).map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        codec::append_of_answer(answer, last).ok_or_else(absent)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let (wire, group, target, node, lane) = (self.wire.clone(), self.group, self.target, self.node, self.lane);
        let answers = input
            .map(move |request| {
                let body = codec::encode_append(group, target, &request);
                wire.call(node, lane, codec::KIND_APPEND, body, APPEND_PATIENCE)
            })
            .buffered(APPENDS_IN_FLIGHT_MAX)
            .map(|answer| {
                let answer = answer.map_err(unreachable)?;
                let answer = AppendAnswerV1::from_bytes(&answer)
                    .map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
                codec::stream_of_answer(answer).ok_or_else(absent)
            });
        Box::pin(async move { Ok(answers.boxed()) })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(codec::KIND_VOTE, rpc, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.ask_vote(codec::KIND_PRE_VOTE, rpc, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let send = self.send_chunks(vote, snapshot, option.soft_ttl());
        tokio::pin!(send, cancel);
        tokio::select! {
            biased;
            closed = &mut cancel => Err(StreamingError::Closed(closed)),
            done = &mut send => done,
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let body = codec::encode_transfer(self.group, &req);
        self.ask(Lane::Pulse, codec::KIND_TRANSFER, body, option.soft_ttl()).await?;
        Ok(Ok(()))
    }
}
