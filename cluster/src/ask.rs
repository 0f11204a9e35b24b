//! Asks the leader of a group for something that only it may answer, wherever it is.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{GroupId, NodeId};

use crate::node::Core;
use crate::world::Lane;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// What is asked.
pub struct Question {
    /// The message's kind.
    pub kind: u16,
    /// Its bytes.
    pub body: Bytes,
    /// Monotonic time after which nobody waits.
    pub until: Duration,
}

/// Asks the leader of a group, following its hints, until it answers or the time is up. `here` answers where this node may
/// lead; `read` gives a value, or a hint, or nothing where the bytes do not read.
///
/// # Errors
/// `no-quorum` where nobody answered in time. The question may have been taken all the same.
pub async fn ask_leader<T>(
    core: &Core,
    group: GroupId,
    question: Question,
    here: impl Fn(Bytes) -> BoxFuture<'static, Bytes>,
    read: impl Fn(&[u8]) -> Option<Result<T, Option<u64>>>,
) -> Result<T, Problem> {
    let Question { kind, body, until } = question;
    let (clock, own) = (&core.shared.world.clock, core.shared.options.node);
    let mut hint: Option<NodeId> = None;
    while clock.now() < until {
        let followed = core.partition(group).and_then(|replica| replica.group.leadership().borrow().leader);
        let to = hint.take().or(followed).or_else(|| core.placed(group).first().copied()).unwrap_or(own);
        let left = until.saturating_sub(clock.now());
        let bytes = match to == own {
            true => here(body.clone()).await,
            false => core.shared.world.wire.call(to, Lane::Control, kind, body.clone(), left).await.unwrap_or_default(),
        };
        match read(&bytes) {
            Some(Ok(value)) => return Ok(value),
            Some(Err(leader)) => hint = leader.map(NodeId),
            None => {}
        }
        clock.sleep(PAUSE).await;
    }
    Err(Problem::new(Code::NoQuorum, format!("group {group} has no leader that answers")).retry_after_ms(1_000))
}
