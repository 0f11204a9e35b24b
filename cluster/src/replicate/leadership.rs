//! Who leads a group, as one replica of it knows: kept up to date from the core's metrics, told to whoever watches.
//!
//! It decides nothing about leadership.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::async_runtime::WatchReceiver;
use openraft::{Raft, ServerState};
use tokio::sync::watch;

use nethical_protocol::ids::{GroupId, NodeId};
use nethical_protocol::probe;

use super::machine::{Adapter, Machine};
use super::types::Types;
use crate::world::Scope;

/// Who leads a group, as this replica knows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// The leader's node, where one is known.
    pub leader: Option<NodeId>,
    /// True where this replica leads.
    pub here: bool,
}

/// Keeps [`Leadership`] up to date from the core's metrics.
pub(super) fn follow_leadership<M: Machine>(
    scope: &Scope,
    raft: &Raft<Types, Adapter<M>>,
    id: GroupId,
    ended: Arc<AtomicBool>,
) -> watch::Receiver<Leadership> {
    let mut metrics = raft.server_metrics();
    let (tx, rx) = watch::channel(Leadership::default());
    scope.spawn(async move {
        loop {
            let now = {
                let seen = metrics.borrow_and_update();
                let site = |id: &u64| seen.membership_config.membership().get_node(id).map(|site| NodeId(site.node));
                Leadership {
                    term: seen.vote.leader_id.term,
                    leader: seen.current_leader.as_ref().and_then(site),
                    here: seen.state == ServerState::Leader,
                }
            };
            let has_changed = tx.send_if_modified(|old| std::mem::replace(old, now) != now);
            if has_changed && now.here {
                // Facts: group, term.
                probe::observe("leader.begun", &[u64::from(id.0), now.term]);
            }
            if metrics.changed().await.is_err() {
                ended.store(true, Ordering::SeqCst);
                tx.send_replace(Leadership::default());
                return;
            }
        }
    });
    rx
}
