//! `GET /v1/audit/tail`: entries as they come, as server-sent events or over a WebSocket.
//!
//! Who asks is given a place, of which a node has few, and a [`Follow`], which asks the governor for page after page; how its
//! events are written is all that differs between the two. A tail asks no faster than its reader reads: nothing is queued but
//! one page. It holds up no stop of the node. It never decides what an entry is: pages say so.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use futures::stream;

use nethical_cluster::api::EntryQuery;
use nethical_protocol::error::{Code, Problem};

use super::call::{Call, Handled, Reply};
use super::{Running, audit};

mod event;
mod follow;
mod socket;

use follow::{Follow, Pace};

/// Entries of the pages that are asked for. One page is what a tail holds in memory.
const PAGE: usize = 100;

/// `GET /v1/audit/tail`
pub async fn tail(mut call: Call) -> Handled {
    let query = question(&call)?;
    let running = call.running.clone().ok_or_else(|| Problem::new(Code::Internal, "nothing listens here"))?;
    let place = call.door.tails.clone().try_acquire_owned().map_err(|_| full(call.door.options.tails_max))?;
    let socket = call.socket.take();
    if socket.is_some() {
        check_origin(&call.headers)?;
    }
    let (governor, stop) = (call.door.governor.clone(), running.stop.clone());
    let follow = Follow::begin(governor, query, call.correlation, Pace::default(), stop, place).await?;
    Ok(Reply::live(match socket {
        Some(upgrade) => over_socket(upgrade, follow, running),
        None => events(follow),
    }))
}

/// The question of `GET /v1/audit/entries`, oldest first, from where the caller wants to go on: the last event's id wins over
/// the address, in which browsers repeat what they were first given.
fn question(call: &Call) -> Result<EntryQuery, Problem> {
    let asked = audit::question(call)?;
    if asked.order.is_some() || asked.limit.is_some() {
        return Err(Problem::new(Code::MalformedRequest, "a tail is oldest first and has no end: no order, no limit"));
    }
    let last = call.headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?").trim().to_owned());
    let cursor = last.or(asked.cursor.clone()).filter(|cursor| !cursor.is_empty());
    let from_end = cursor.is_none() && asked.from_ns.is_none();
    Ok(EntryQuery { order: Some("asc".to_owned()), limit: Some(PAGE), cursor, from_end, cursors: true, ..asked })
}

fn full(tails_max: usize) -> Problem {
    let detail = format!("{tails_max} live tails are open on this node; close one, or ask another node");
    Problem::new(Code::Overloaded, detail)
}

/// Browsers let any page open a WebSocket to anywhere, and tell only here which page it is.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match authority.zip(host) {
        Some((authority, host)) if authority.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(Problem::new(Code::Unauthenticated, "pages of another origin may not read the audit trail")),
    }
}

/// The body is made as it is read: who does not read is not asked for.
fn events(follow: Follow) -> Response {
    let chunks = stream::unfold(follow, |mut follow| async {
        let event = follow.next().await?;
        Some((Ok::<_, Infallible>(event.to_sse()), follow))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather bytes before they pass them on would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// axum waits for the upgrade in a task of its own, which ends there: the tail lives in the node's scope.
fn over_socket(upgrade: WebSocketUpgrade, follow: Follow, running: Running) -> Response {
    let (hand, taken) = tokio::sync::oneshot::channel();
    running.scope.spawn(async move {
        if let Ok(open) = taken.await {
            socket::serve(open, follow, running.stop).await;
        }
    });
    socket::bounded(upgrade).on_upgrade(|open| async move {
        let _ = hand.send(open);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_doors_own_origin_may_open_a_socket() {
        let headers = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("node:8001"));
            origin.map(|origin| headers.insert(ORIGIN, HeaderValue::from_static(origin)));
            headers
        };
        for good in [None, Some("http://node:8001"), Some("https://NODE:8001")] {
            assert_eq!(check_origin(&headers(good)), Ok(()), "{good:?}");
        }
        for bad in ["http://node", "http://node:8001.evil.example", "https://evil.example", "null", ""] {
            let refused = check_origin(&headers(Some(bad))).map_err(|problem| problem.code);
            assert_eq!(refused, Err(Code::Unauthenticated), "{bad}");
        }
    }
}
