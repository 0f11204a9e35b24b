//! The one table of routes: the router, the access rule and the test of `openapi.json` all read it.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use futures::FutureExt;
use futures::future::BoxFuture;

use nethical_protocol::error::{Code, Problem};
use nethical_protocol::limits::{DICTIONARY_BYTES_MAX, POLICY_BYTES_MAX};

use super::call::{Call, Handled, Reply, Takes, correlation_of};
use super::{Door, admin, aggregates, approvals, audit, authzen, decide, health, legacy, policy, problem, tail};
use crate::telemetry::metrics;

/// A dictionary in base64, with a line's end behind it.
const DICTIONARY_TEXT_BYTES_MAX: usize = DICTIONARY_BYTES_MAX.div_ceil(3) * 4 + 2;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody who reaches the door.
    Open,
    /// Holders of the admin token, where one is set.
    Admin,
}

type Handler = fn(Call) -> BoxFuture<'static, Handled>;

/// One route.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, parameters in braces.
    pub path: &'static str,
    access: Access,
    takes: Takes,
    handler: Handler,
}

macro_rules! table {
    ($($method:ident $path:literal $access:ident $takes:expr => $handler:path;)*) => {
        /// All routes.
        pub const TABLE: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            access: Access::$access,
            takes: $takes,
            handler: |call| $handler(call).boxed(),
        }),*];
    };
}

table! {
    POST   "/v1/decisions"                             Open  Takes::Json    => decide::one;
    POST   "/v1/decisions:batch"                       Open  Takes::Json    => decide::batch;
    POST   "/v1/decisions/{decision_id}/outcome"       Open  Takes::Json    => decide::outcome;
    POST   "/access/v1/evaluation"                     Open  Takes::Json    => authzen::evaluation;
    POST   "/process_action"                           Open  Takes::Json    => legacy::process_action;
    POST   "/evaluate"                                 Open  Takes::Json    => legacy::process_action;
    GET    "/v1/tenants"                               Admin Takes::Nothing => admin::tenants;
    PUT    "/v1/tenants/{tenant}"                      Admin Takes::Json    => admin::put_tenant;
    GET    "/v1/limits"                                Admin Takes::Nothing => admin::limits;
    PUT    "/v1/limits"                                Admin Takes::Json    => admin::put_limit;
    DELETE "/v1/limits/{tenant}/{id}"                  Admin Takes::Nothing => admin::remove_limit;
    GET    "/v1/limits/usage"                          Admin Takes::Nothing => admin::limit_usage;
    GET    "/v1/policy"                                Admin Takes::Nothing => policy::active;
    PUT    "/v1/policy"                                Admin Takes::Text(POLICY_BYTES_MAX) => policy::put;
    POST   "/v1/policy/rollback"                       Admin Takes::Nothing => policy::rollback;
    PUT    "/v1/policy/shadow"                         Admin Takes::Json    => policy::shadow;
    POST   "/v1/policy/replay"                         Admin Takes::Text(POLICY_BYTES_MAX) => policy::replay;
    GET    "/v1/policies"                              Admin Takes::Nothing => policy::list;
    POST   "/v1/policies"                              Admin Takes::Text(POLICY_BYTES_MAX) => policy::store;
    GET    "/v1/policies/{digest}"                     Admin Takes::Nothing => policy::kept;
    DELETE "/v1/policies/{digest}"                     Admin Takes::Nothing => policy::remove;
    POST   "/v1/policies/{digest}/activate"            Admin Takes::Nothing => policy::activate;
    GET    "/v1/approvals"                             Admin Takes::Nothing => approvals::list;
    GET    "/v1/approvals/{decision_id}"               Admin Takes::Nothing => approvals::one;
    POST   "/v1/approvals/{decision_id}/approve"       Admin Takes::Json    => approvals::approve;
    POST   "/v1/approvals/{decision_id}/deny"          Admin Takes::Json    => approvals::deny;
    POST   "/v1/holds"                                 Admin Takes::Json    => admin::place_hold;
    DELETE "/v1/holds"                                 Admin Takes::Json    => admin::lift_hold;
    GET    "/v1/quarantine-rules"                      Admin Takes::Nothing => admin::quarantine_rules;
    PUT    "/v1/quarantine-rules"                      Admin Takes::Json    => admin::put_quarantine_rules;
    GET    "/v1/alarms"                                Admin Takes::Nothing => admin::alarms;
    GET    "/v1/risk/shadow"                           Admin Takes::Nothing => admin::scores;
    GET    "/v1/drift"                                 Admin Takes::Nothing => admin::drift;
    GET    "/v1/agents/{tenant}/{agent}"               Admin Takes::Nothing => admin::agent;
    POST   "/v1/agents/{tenant}/{agent}/quarantine"    Admin Takes::Json    => admin::quarantine;
    POST   "/v1/agents/{tenant}/{agent}/release"       Admin Takes::Json    => admin::release;
    POST   "/v1/aggregates"                            Admin Takes::Json    => aggregates::export;
    GET    "/v1/audit/entries"                         Admin Takes::Nothing => audit::entries;
    GET    "/v1/audit/tail"                            Admin Takes::Socket  => tail::tail;
    GET    "/v1/audit/receipts/{decision_id}"          Admin Takes::Nothing => audit::receipt;
    POST   "/v1/audit/erasures"                        Admin Takes::Json    => audit::erase;
    GET    "/v1/audit/erasures"                        Admin Takes::Nothing => audit::erasures;
    GET    "/v1/audit/erasures/{id}"                   Admin Takes::Nothing => audit::erasure;
    POST   "/v1/audit/legal-holds"                     Admin Takes::Json    => audit::set_legal_hold;
    GET    "/v1/audit/legal-holds"                     Admin Takes::Nothing => audit::legal_holds;
    GET    "/v1/audit/legal-holds/{id}"                Admin Takes::Nothing => audit::legal_hold;
    DELETE "/v1/audit/legal-holds/{id}"                Admin Takes::Json    => audit::lift_legal_hold;
    GET    "/v1/audit/retention"                       Admin Takes::Nothing => audit::retention;
    GET    "/v1/audit/dictionaries"                    Admin Takes::Nothing => audit::dictionaries;
    PUT    "/v1/audit/dictionaries/{tenant}"           Admin Takes::Text(DICTIONARY_TEXT_BYTES_MAX) => audit::give_dictionary;
    DELETE "/v1/audit/dictionaries/{tenant}"           Admin Takes::Nothing => audit::leave_dictionary;
    GET    "/v1/audit/checkpoint/{group}"              Admin Takes::Nothing => audit::checkpoint;
    GET    "/v1/audit/raw/{group}"                     Admin Takes::Nothing => audit::raw_leaves;
    GET    "/v1/audit/keys"                            Admin Takes::Nothing => audit::verifier_keys;
    POST   "/v1/audit/keys/rotate"                     Admin Takes::Json    => audit::rotate_keys;
    GET    "/v1/audit/fsck"                            Admin Takes::Nothing => audit::fsck;
    POST   "/v1/audit/fsck"                            Admin Takes::Nothing => audit::begin_fsck;
    GET    "/v1/audit/tiers"                           Admin Takes::Nothing => audit::tiers;
    GET    "/v1/audit/cold"                            Admin Takes::Nothing => audit::cold_files;
    POST   "/v1/audit/cold/{group}/{first}/key"        Admin Takes::Nothing => audit::cold_key;
    GET    "/log/{group}/checkpoint"                   Open  Takes::Nothing => audit::log_checkpoint;
    GET    "/log/{group}/tile/{*path}"                 Open  Takes::Nothing => audit::log_tile;
    GET    "/v1/status"                                Admin Takes::Nothing => health::status;
    GET    "/v1/sla"                                   Admin Takes::Nothing => health::sla;
    GET    "/livez"                                    Open  Takes::Nothing => health::live;
    GET    "/readyz"                                   Open  Takes::Nothing => health::ready;
    GET    "/health"                                   Open  Takes::Nothing => health::health;
    GET    "/health/live"                              Open  Takes::Nothing => health::live;
    GET    "/health/ready"                             Open  Takes::Nothing => health::ready;
    GET    "/health/startup"                           Open  Takes::Nothing => health::ready;
    GET    "/metrics"                                  Open  Takes::Nothing => health::metrics;
    GET    "/openapi.json"                             Open  Takes::Nothing => health::openapi;
}

/// A router of the whole table. Unknown paths and methods answer with problems too.
pub fn router(door: Door) -> Router {
    let mut router = Router::new();
    for route in TABLE {
        router = router.route(route.path, method_router(route, door.clone()));
    }
    router
        .method_not_allowed_fallback(|request: Request| {
            refuse(request, Code::MethodNotAllowed, "this path takes other methods")
        })
        .fallback(|request: Request| refuse(request, Code::NotFound, "there is nothing at this path"))
}

fn method_router(route: &'static Route, door: Door) -> MethodRouter {
    let filter = MethodFilter::try_from(route.method.clone()).expect("the table has ordinary methods");
    let door = Arc::new(door);
    on(filter, move |request: Request| run(route, Door::clone(&door), request))
}

async fn refuse(request: Request, code: Code, detail: &'static str) -> Response {
    finish(correlation_of(request.headers()), Err(Problem::new(code, detail)))
}

async fn run(route: &'static Route, door: Door, request: Request) -> Response {
    let correlation = correlation_of(request.headers());
    let outcome = handle(route, door, correlation.clone(), request).await;
    finish(correlation, outcome)
}

async fn handle(route: &'static Route, door: Door, correlation: String, request: Request) -> Handled {
    if route.access == Access::Admin {
        check_token(door.options.admin_token.as_deref(), request.headers())?;
    }
    let call = Call::read(door, correlation, route.takes, request).await?;
    (route.handler)(call).await
}

/// Every response carries X-Request-ID; a handler's own wins.
fn finish(correlation: String, outcome: Handled) -> Response {
    let mut response = outcome
        .unwrap_or_else(|refusal| {
            metrics::count_problem(refusal.code);
            problem::reply(&refusal, &correlation)
        })
        .into_response();
    let headers = response.headers_mut();
    if let (false, Ok(value)) = (headers.contains_key("x-request-id"), correlation.parse()) {
        headers.insert("x-request-id", value);
    }
    response
}

fn check_token(expected: Option<&str>, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(expected) = expected else { return Ok(()) };
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    match token {
        Some(token) if equal_in_constant_time(token.as_bytes(), expected.as_bytes()) => Ok(()),
        _ => Err(Problem::new(Code::Unauthenticated, "this route needs the cluster's admin token as bearer token")),
    }
}

/// Compares without telling by its time where the first difference is; the length is no secret.
fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// A reply for handlers that answer in JSON only.
pub fn ok<T: serde::Serialize>(value: Result<T, Problem>) -> Handled {
    Reply::json(&value?)
}
