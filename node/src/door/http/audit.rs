//! Reading the audit trail: entries, receipts, checkpoints, and what logs publish for other people's verifiers.

use serde::Deserialize;

use nethical_audit::publish::Resource;
use nethical_cluster::api::EntryQuery;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, GroupId};

use super::call::{Call, Handled, Reply};
use super::routes::ok;

/// Entries of one page.
const ENTRIES_MAX: usize = 1_000;
/// What stands in paths for the log of the logs' checkpoints.
const CLUSTER_LOG: &str = "cluster";
/// A note is renewed every second at most.
const CHECKPOINT_CACHE: &str = "public, max-age=1";
/// What has a width in its name never changes.
const TILE_CACHE: &str = "public, max-age=31536000, immutable";
/// Leaves of one raw read; with the largest bodies it is still a few dozen megabytes.
const RAW_LEAVES_MAX: u64 = 1_024;
const RAW_LEAVES_DEFAULT: u64 = 256;

#[derive(Deserialize)]
struct RawQuery {
    #[serde(default)]
    from: u64,
    count: Option<u64>,
}

/// `GET /v1/audit/entries`
pub async fn entries(call: Call) -> Handled {
    let query: EntryQuery = call.query()?;
    if query.agent.is_some() && query.tenant.is_none() {
        return Err(Problem::new(Code::MalformedRequest, "agent needs its tenant beside it"));
    }
    let limit = query.limit.map(|limit| limit.clamp(1, ENTRIES_MAX));
    ok(call.door.governor.entries(EntryQuery { limit, ..query }).await)
}

/// `GET /v1/audit/checkpoint/{group}`, a C2SP signed note
pub async fn checkpoint(call: Call) -> Handled {
    let group = call.parsed("group")?;
    Ok(Reply::text("text/plain; charset=utf-8", call.door.governor.checkpoint(group).await?))
}

/// `GET /v1/audit/receipts/{decision_id}`
pub async fn receipt(call: Call) -> Handled {
    let id: DecisionId = call.parsed("decision_id")?;
    ok(call.door.governor.receipt(id).await)
}

/// The log named in a path: a partition's by its number, or the cluster log.
fn log_of(call: &Call) -> Result<GroupId, Problem> {
    if call.param("group") == CLUSTER_LOG {
        return Ok(GroupId::CONTROL);
    }
    let none = || Problem::new(Code::NotFound, "logs are named by a partition's number, or `cluster`");
    call.parsed("group").ok().filter(|group: &GroupId| group.is_partition()).ok_or_else(none)
}

/// `GET /log/{group}/checkpoint` (c2sp.org/tlog-tiles)
pub async fn log_checkpoint(call: Call) -> Handled {
    let note = call.door.governor.published(log_of(&call)?, Resource::Checkpoint).await?;
    Ok(Reply::text("text/plain; charset=utf-8", note).header("cache-control", CHECKPOINT_CACHE))
}

/// `GET /log/{group}/tile/{*path}` (c2sp.org/tlog-tiles)
pub async fn log_tile(call: Call) -> Handled {
    let path = format!("tile/{}", call.param("path"));
    let none = || Problem::new(Code::NotFound, "tiles are <level>/<index>[.p/<width>] or entries/<index>[.p/<width>]");
    let resource = Resource::parse(&path).ok_or_else(none)?;
    let bytes = call.door.governor.published(log_of(&call)?, resource).await?;
    Ok(Reply::text("application/octet-stream", bytes).header("cache-control", TILE_CACHE))
}

/// `GET /v1/audit/raw/{group}?from=&count=`
pub async fn raw_leaves(call: Call) -> Handled {
    let group = call.parsed("group")?;
    let RawQuery { from, count } = call.query()?;
    let count = count.unwrap_or(RAW_LEAVES_DEFAULT).clamp(1, RAW_LEAVES_MAX);
    ok(call.door.governor.raw_leaves(group, from, count).await)
}

/// `GET /v1/audit/keys`
pub async fn verifier_keys(call: Call) -> Handled {
    ok(call.door.governor.verifier_keys().await)
}
