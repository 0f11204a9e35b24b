//! Liveness, readiness, health, status, promises, metrics and the description of the interface.
//!
//! Health means progress, not role (ARCHITECTURE 19): the governor's checks say what would be decided now.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use nethical_protocol::sla::SlaQuery;
use nethical_protocol::status::ReadyCheck;

use super::admin::check_name;
use super::call::{Call, Handled, Reply};
use super::routes::ok;
use crate::{openapi, telemetry};

#[derive(Deserialize)]
struct ReadyQuery {
    verbose: Option<String>,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<ReadyCheck>,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    ready: bool,
    version: &'static str,
    failing: Vec<ReadyCheck>,
}

#[derive(Serialize)]
struct Live {
    status: &'static str,
}

/// `GET /livez`: the process answers.
pub async fn live(_call: Call) -> Handled {
    Reply::json(&Live { status: "alive" })
}

/// `GET /readyz`: 200 where a decision would be taken now, else 503 with the failing checks; all with `?verbose`.
pub async fn ready(call: Call) -> Handled {
    let query: ReadyQuery = call.query()?;
    let checks = call.door.governor.ready();
    let ready = checks.iter().all(|check| check.ok);
    let verbose = query.verbose.is_some_and(|value| value != "false" && value != "0");
    let checks = checks.into_iter().filter(|check| verbose || !check.ok).collect();
    let status = if ready { "ready" } else { "not-ready" };
    Ok(Reply::json(&Readiness { status, ready, checks })?.status(status_code(ready)))
}

/// `GET /health`: for load balancers and people.
pub async fn health(call: Call) -> Handled {
    let failing: Vec<ReadyCheck> = call.door.governor.ready().into_iter().filter(|check| !check.ok).collect();
    let ready = failing.is_empty();
    let status = if ready { "healthy" } else { "unhealthy" };
    let body = Health { status, ready, version: env!("CARGO_PKG_VERSION"), failing };
    Ok(Reply::json(&body)?.status(status_code(ready)))
}

/// `GET /v1/status`
pub async fn status(call: Call) -> Handled {
    ok(call.door.governor.status().await)
}

/// `GET /v1/sla?tenant=&scope=&cursor=`
pub async fn sla(call: Call) -> Handled {
    let query: SlaQuery = call.query()?;
    for (what, name) in [("tenant", &query.tenant), ("cursor", &query.cursor)] {
        name.as_ref().map_or(Ok(()), |name| check_name(what, name))?;
    }
    ok(call.door.governor.sla(query).await)
}

/// `GET /metrics`
pub async fn metrics(_call: Call) -> Handled {
    Ok(Reply::text("text/plain; version=0.0.4; charset=utf-8", telemetry::render()))
}

/// `GET /openapi.json`
pub async fn openapi(_call: Call) -> Handled {
    Ok(Reply::text("application/json", openapi::DOCUMENT))
}

fn status_code(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
