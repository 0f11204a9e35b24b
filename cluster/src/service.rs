//! What a node answers to other nodes: Raft messages to their group, everything else to the part that owns it.
//!
//! Bytes come from other machines: what does not read is answered with nothing, and counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{GroupId, NodeId};
use nethical_protocol::{buggify, probe, sometimes};

use crate::administer;
use crate::aggregate::count;
use crate::alarms;
use crate::cluster_log;
use crate::decide::{Attempt, Decider, observe_forwarded};
use crate::drift;
use crate::erase;
use crate::fsck;
use crate::lease;
use crate::local::{all, decide_here};
use crate::message::*;
use crate::node::Core;
use crate::opening;
use crate::publish;
use crate::query;
use crate::replicate::codec;
use crate::review;
use crate::rules;
use crate::scores;
use crate::settle;
use crate::signing;
use crate::sla;
use crate::tier;
use crate::world::{Lane, Service};

/// Leaves in one answer.
const LEAVES_MAX: u64 = 2_048;

/// The node's service.
pub struct NodeService {
    /// The node.
    pub core: Arc<Core>,
}

impl Service for NodeService {
    fn handle(&self, from: NodeId, lane: Lane, kind: u16, body: Bytes) -> BoxFuture<'static, Bytes> {
        let core = self.core.clone();
        core.shared.world.directory.heard(from, core.shared.world.clock.now());
        let answer = match kind {
            codec::KIND_APPEND..=codec::KIND_SNAPSHOT => self.raft(from, lane, kind, body),
            KIND_FORWARD => self.forward(from, &body),
            KIND_PROBE => {
                let wall = core.shared.world.clock.wall_ns().to_le_bytes();
                Some(async move { Bytes::copy_from_slice(&wall) }.boxed())
            }
            KIND_NUDGE => {
                core.nudged.notify_one();
                None
            }
            KIND_FETCH => FetchV1::from_bytes(&body).ok().map(|ask| rules::on_fetch(core, ask).boxed()),
            KIND_RULES => ChangeRulesV1::from_bytes(&body).ok().map(|ask| rules::on_change(core, ask).boxed()),
            KIND_HELLO => HelloV1::from_bytes(&body).ok().map(|ask| administer::on_hello(core, ask).boxed()),
            KIND_JOIN => JoinV1::from_bytes(&body).ok().map(|ask| administer::on_join(core, ask).boxed()),
            KIND_HOLD => HoldV1::from_bytes(&body).ok().map(|ask| administer::on_hold(core, ask).boxed()),
            KIND_SETTLE => SettleAskV1::from_bytes(&body).ok().map(|ask| settle::on_settle(core, ask).boxed()),
            KIND_WORD => WordAskV1::from_bytes(&body).ok().map(|ask| review::on_word(core, ask).boxed()),
            KIND_APPROVALS => ApprovalsAskV1::from_bytes(&body).ok().map(|ask| review::on_approvals(core, ask).boxed()),
            KIND_AGENT => AskAgentV1::from_bytes(&body).ok().map(|ask| administer::on_agent(core, ask).boxed()),
            KIND_LEASE => LeaseQuestionV1::from_bytes(&body).ok().map(|ask| lease::on_lease(core, ask).boxed()),
            KIND_RECALL => RecallV1::from_bytes(&body).ok().map(|ask| lease::on_recall(core, ask).boxed()),
            KIND_COUNT => CountAskV1::from_bytes(&body).ok().map(|ask| count::on_count(core, ask).boxed()),
            KIND_REPORT => Some(async move { administer::report(&core).to_bytes() }.boxed()),
            KIND_ALARMS => Some(async move { alarms::report(&core).to_bytes() }.boxed()),
            KIND_DRIFT => Some(async move { drift::report(&core).to_bytes() }.boxed()),
            KIND_SLA => sla::on_sla(&core, &body).map(|found| async move { found }.boxed()),
            KIND_SCORES => scores::on_scores(&core, &body).map(|found| async move { found }.boxed()),
            KIND_LEAVES => AskLeavesV1::from_bytes(&body).ok().map(|ask| leaves(core, ask).boxed()),
            KIND_SEARCH => SearchAskV1::from_bytes(&body).ok().map(|ask| query::on_search(core, ask).boxed()),
            KIND_PUBLISHED => AskPublishedV1::from_bytes(&body).ok().map(|ask| publish::on_ask(core, ask).boxed()),
            KIND_COVER => AskCoverV1::from_bytes(&body).ok().map(|ask| cluster_log::on_cover(core, ask).boxed()),
            KIND_VOUCH => AskVouchV1::from_bytes(&body).ok().map(|ask| publish::on_vouch(core, ask).boxed()),
            KIND_RING => RingAskV1::from_bytes(&body).ok().map(|ask| erase::on_ring(core, from, ask).boxed()),
            KIND_OPEN => AskOpenV1::from_bytes(&body).ok().map(|ask| opening::on_open(core, ask).boxed()),
            KIND_ERASURES => Some(async move { erase::report(&core).to_bytes() }.boxed()),
            KIND_FSCK => AskFsckV1::from_bytes(&body).ok().map(|ask| fsck::on_ask(core, ask).boxed()),
            KIND_RECORDS => AskRecordsV1::from_bytes(&body).ok().map(|ask| fsck::on_records(core, ask).boxed()),
            KIND_SEEDS => SeedsAskV1::from_bytes(&body).ok().map(|ask| signing::on_seeds(core, ask).boxed()),
            KIND_COLD => AskColdV1::from_bytes(&body).ok().map(|ask| tier::files::on_ask(core, ask).boxed()),
            KIND_TIERS => Some(async move { tier::report(&core).to_bytes() }.boxed()),
            KIND_FOUNDING => {
                let record = core.founding().map(|record| record.to_bytes()).unwrap_or_default();
                Some(async move { record }.boxed())
            }
            _ => None,
        };
        answer.unwrap_or_else(|| {
            metrics::counter!("nethical_peer_messages_ignored_total").increment(u64::from(kind != KIND_NUDGE));
            async { Bytes::new() }.boxed()
        })
    }
}

impl NodeService {
    fn raft(&self, from: NodeId, lane: Lane, kind: u16, body: Bytes) -> Option<BoxFuture<'static, Bytes>> {
        let group = codec::group_of(kind, &body)?;
        match self.core.replica(GroupId(group)) {
            Some(replica) => Some(replica.handle(from, lane, kind, body)),
            None => Some(async move { codec::absent(kind) }.boxed()),
        }
    }

    /// Forwarded decisions: begun here, in order, or refused; never forwarded again.
    fn forward(&self, from: NodeId, body: &Bytes) -> Option<BoxFuture<'static, Bytes>> {
        let ask = ForwardV1::from_bytes(body).ok()?;
        let (core, group) = (self.core.clone(), GroupId(ask.group));
        let until = core.shared.world.clock.now() + Duration::from_millis(ask.deadline_ms);
        let replica = core.partition(group);
        observe_forwarded("forward.taken", group, from, &ask.actions);
        let attempt = match replica.as_ref().and_then(|replica| replica.lead()) {
            Some(lead) => decide_here(core, lead, ask.actions, until),
            None if probe::planted("forward-loop") => Decider::new(core).attempt(group, ask.actions, until),
            None => {
                let leader = replica.and_then(|replica| replica.group.leadership().borrow().leader);
                let leader = leader.filter(|_| !buggify!("forward.no-hint"));
                sometimes!(true, "a forwarded decision came to a node that does not lead");
                let problem =
                    Problem::new(Code::NotLeader, format!("this node does not lead group {group}")).retry_after_ms(100);
                let answers = all(&ask.actions, problem);
                async move { Attempt { answers, leader } }.boxed()
            }
        };
        let answer = attempt
            .map(|done| ForwardedV1 { leader: done.leader.map(|node| node.0), answers: done.answers }.to_bytes());
        Some(answer.boxed())
    }
}

async fn leaves(core: Arc<Core>, ask: AskLeavesV1) -> Bytes {
    let group = GroupId(ask.group);
    // Only from here: two nodes that both lack a leaf must not ask each other in turn.
    match core.leaves_here(group, ask.from, ask.count.min(LEAVES_MAX)).await {
        Some(Ok(found)) => found.to_bytes(),
        Some(Err(_)) | None => Bytes::new(),
    }
}
