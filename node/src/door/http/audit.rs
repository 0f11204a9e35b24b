//! Reading the audit trail: entries, receipts, checkpoints, and what logs publish for other people's verifiers.

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use nethical_audit::publish::Resource;
use nethical_cluster::api::{EntryQuery, LegalHoldView, RotateSpec};
use nethical_protocol::control::EraseSpec;
use nethical_protocol::error::{Code, Problem};
use nethical_protocol::ids::{DecisionId, GroupId};
use nethical_protocol::limits::{DATA_SUBJECT_BYTES_MAX, NAME_BYTES_MAX};
use nethical_protocol::retention::LegalHoldSpec;

use super::admin::{acknowledged, check_bytes, check_name, with_ack_status};
use super::call::{Call, Handled, Reply};
use super::routes::ok;

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

/// [`EntryQuery`] as it is written in a query: times are for people.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EntriesQuery {
    group: Option<u32>,
    tenant: Option<String>,
    agent: Option<String>,
    session: Option<String>,
    tool: Option<String>,
    from: Option<String>,
    to: Option<String>,
    verdict: Option<String>,
    risk_min: Option<u16>,
    risk_max: Option<u16>,
    rule: Option<String>,
    kind: Option<String>,
    text: Option<String>,
    order: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LegalHoldBody {
    tenant: String,
    agent: Option<String>,
    person: Option<String>,
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    by: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LiftBody {
    #[serde(default)]
    by: String,
}

#[derive(Deserialize)]
struct LegalHoldsQuery {
    tenant: Option<String>,
}

#[derive(Deserialize)]
struct RetentionQuery {
    tenant: String,
}

/// `GET /v1/audit/entries`
pub async fn entries(call: Call) -> Handled {
    let query = question(&call)?;
    ok(call.door.governor.entries(query).await)
}

/// What is asked of entries, as it stands in the address.
pub fn question(call: &Call) -> Result<EntryQuery, Problem> {
    let asked: EntriesQuery = call.query()?;
    let (from_ns, to_ns) = (time_of("from", asked.from)?, time_of("to", asked.to)?);
    let EntriesQuery { group, tenant, agent, session, tool, verdict, risk_min, risk_max, rule, kind, .. } = asked;
    if tenant.is_none() && (agent.is_some() || session.is_some() || tool.is_some() || asked.text.is_some()) {
        let what = "agent, session, tool and text need their tenant beside them";
        return Err(Problem::new(Code::MalformedRequest, what));
    }
    let EntriesQuery { text, order, cursor, limit, .. } = asked;
    Ok(EntryQuery {
        group,
        tenant,
        agent,
        session,
        tool,
        from_ns,
        to_ns,
        verdict,
        risk_min,
        risk_max,
        rule,
        kind,
        text,
        order,
        cursor,
        limit,
        from_end: false,
        cursors: false,
    })
}

/// RFC 3339, or nanoseconds since 1970.
fn time_of(name: &str, text: Option<String>) -> Result<Option<u64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let refuse = || {
        let hint = "RFC 3339, such as 2026-01-31T09:00:00Z, or nanoseconds since 1970";
        Problem::new(Code::MalformedRequest, format!("{name} must be {hint}"))
    };
    if let Ok(at_ns) = text.parse() {
        return Ok(Some(at_ns));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| refuse())?;
    u64::try_from(time.as_nanosecond()).map(Some).map_err(|_| refuse())
}

/// `POST /v1/audit/erasures`
pub async fn erase(call: Call) -> Handled {
    let spec: EraseSpec = call.json()?;
    ok(call.door.governor.erase(spec).await)
}

/// `GET /v1/audit/erasures`
pub async fn erasures(call: Call) -> Handled {
    ok(call.door.governor.erasures(None).await)
}

/// `GET /v1/audit/erasures/{id}`
pub async fn erasure(call: Call) -> Handled {
    let id: u64 = call.parsed("id")?;
    let none = || Problem::new(Code::NotFound, format!("there is no erasure {id}"));
    ok(call.door.governor.erasures(Some(id)).await.and_then(|mut found| found.pop().ok_or_else(none)))
}

/// `POST /v1/audit/legal-holds`
pub async fn set_legal_hold(call: Call) -> Handled {
    let LegalHoldBody { tenant, agent, person, from, to, reason, by } = call.json()?;
    let (from_ns, to_ns) = (time_of("from", from)?.unwrap_or(0), time_of("to", to)?.unwrap_or(0));
    let (agent, person) = (agent.unwrap_or_default(), person.unwrap_or_default());
    check_name("tenant", &tenant)?;
    check_bytes("agent", &agent, NAME_BYTES_MAX)?;
    check_bytes("person", &person, DATA_SUBJECT_BYTES_MAX)?;
    let spec = LegalHoldSpec { tenant, agent, person, from_ns, to_ns, reason, by };
    spec.check()?;
    held(call.door.governor.set_legal_hold(spec).await)
}

/// `GET /v1/audit/legal-holds?tenant=`
pub async fn legal_holds(call: Call) -> Handled {
    let LegalHoldsQuery { tenant } = call.query()?;
    ok(call.door.governor.legal_holds(None, tenant).await)
}

/// `GET /v1/audit/legal-holds/{id}`
pub async fn legal_hold(call: Call) -> Handled {
    let id: u64 = call.parsed("id")?;
    let none = || Problem::new(Code::NotFound, format!("there is no legal hold {id}"));
    ok(call.door.governor.legal_holds(Some(id), None).await.and_then(|mut found| found.pop().ok_or_else(none)))
}

/// `DELETE /v1/audit/legal-holds/{id}`
pub async fn lift_legal_hold(call: Call) -> Handled {
    let LiftBody { by } = call.json_or_default()?;
    let id = call.parsed("id")?;
    held(call.door.governor.lift_legal_hold(id, by).await)
}

/// `GET /v1/audit/retention?tenant=`
pub async fn retention(call: Call) -> Handled {
    let RetentionQuery { tenant } = call.query()?;
    check_name("tenant", &tenant)?;
    ok(call.door.governor.retention(tenant).await)
}

/// `GET /v1/audit/dictionaries`
pub async fn dictionaries(call: Call) -> Handled {
    ok(call.door.governor.dictionaries().await)
}

/// `PUT /v1/audit/dictionaries/{tenant}`, a trained zstd dictionary in base64
pub async fn give_dictionary(call: Call) -> Handled {
    check_name("tenant", call.param("tenant"))?;
    let refuse = |error| Problem::new(Code::MalformedRequest, format!("the body is not base64: {error}"));
    let bytes = STANDARD.decode(call.body.trim()).map_err(refuse)?;
    let given = call.door.governor.give_dictionary(call.param("tenant").to_owned(), bytes).await?;
    with_ack_status(&given, &given.ack)
}

/// `DELETE /v1/audit/dictionaries/{tenant}`
pub async fn leave_dictionary(call: Call) -> Handled {
    check_name("tenant", call.param("tenant"))?;
    acknowledged(call.door.governor.leave_dictionary(call.param("tenant").to_owned()).await)
}

/// What some group has not heard of yet is not in force: 202.
fn held(view: Result<LegalHoldView, Problem>) -> Handled {
    let view = view?;
    let status = if view.awaiting.is_empty() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(Reply::json(&view)?.status(status))
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

/// `POST /v1/audit/keys/rotate`
pub async fn rotate_keys(call: Call) -> Handled {
    let spec: RotateSpec = call.json()?;
    ok(call.door.governor.rotate_keys(spec).await)
}

/// `GET /v1/audit/fsck`
pub async fn fsck(call: Call) -> Handled {
    ok(call.door.governor.fsck(false).await)
}

/// `GET /v1/audit/tiers`
pub async fn tiers(call: Call) -> Handled {
    ok(call.door.governor.tiers().await)
}

/// `GET /v1/audit/cold`
pub async fn cold_files(call: Call) -> Handled {
    ok(call.door.governor.cold_files(call.query()?).await)
}

/// `POST /v1/audit/cold/{group}/{first}/key`
pub async fn cold_key(call: Call) -> Handled {
    let (group, first) = (call.parsed("group")?, call.parsed("first")?);
    let key = call.door.governor.cold_key(group, first).await?;
    Ok(Reply::json(&key)?.header("cache-control", "no-store"))
}

/// `POST /v1/audit/fsck`
pub async fn begin_fsck(call: Call) -> Handled {
    ok(call.door.governor.fsck(true).await)
}
