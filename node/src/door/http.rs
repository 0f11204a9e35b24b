//! The HTTP door: HTTP/1.1 and cleartext HTTP/2 on one port, every route of [`routes::TABLE`], problems by RFC 9457.
//!
//! Everything is bounded: connections, headers, bodies, nesting, time. Turns requests into calls of the governor and
//! answers into responses; it decides nothing and keeps nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use nethical_cluster::api::Governor;
use nethical_cluster::world::Scope;
use nethical_protocol::limits::{BODY_BYTES_DEFAULT, BODY_BYTES_MAX};

use super::{Stop, stopped};

mod admin;
mod aggregates;
mod answer;
mod approvals;
mod audit;
mod authzen;
mod call;
mod decide;
pub mod decode;
mod health;
mod legacy;
mod policy;
mod problem;
pub mod routes;
mod tail;

#[cfg(test)]
mod tests;

/// Streams of one HTTP/2 connection; each may hold one body.
const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// Header bytes of one request; each connection may buffer this much.
const HEADER_BYTES_MAX: usize = 32 * 1024;

/// The most connections that an operator may allow.
const CONNECTIONS_MAX: usize = 65_536;
/// Live tails of a node. Each holds a page of entries and asks every group four times a second.
const TAILS_MAX: usize = 64;
/// First bytes of HTTP/2 with prior knowledge (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bounds of the door, with what they cost.
#[derive(Debug, Clone)]
pub struct Options {
    /// The largest body, up to [`BODY_BYTES_MAX`]. Policies have their own bound.
    pub body_bytes_max: usize,
    /// Open connections (about 40 KB each); more wait in the listener's backlog.
    pub connections_max: usize,
    /// Live tails of the audit trail; more are refused.
    pub tails_max: usize,
    /// From the first to the last byte of a request's header.
    pub header_wait: Duration,
    /// From the header to the last byte of the body.
    pub body_wait: Duration,
    /// How long a stop waits for requests under way.
    pub drain_wait: Duration,
    /// Token that administration and audit routes require; nothing in a development cluster.
    pub admin_token: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_bytes_max: BODY_BYTES_DEFAULT,
            connections_max: 4_096,
            tails_max: TAILS_MAX,
            header_wait: Duration::from_secs(10),
            body_wait: Duration::from_secs(15),
            drain_wait: Duration::from_secs(10),
            admin_token: None,
        }
    }
}

/// What only the listener knows: where tasks of the node live, and when it stops.
#[derive(Clone)]
pub struct Running {
    /// The node's tasks.
    pub scope: Scope,
    /// Turns true when the node stops.
    pub stop: Stop,
}

/// What every handler sees.
#[derive(Clone)]
pub struct Door {
    pub(crate) governor: Arc<dyn Governor>,
    pub(crate) options: Arc<Options>,
    /// Places of live tails.
    pub(crate) tails: Arc<Semaphore>,
}

impl Door {
    /// A door in front of a governor. Bounds beyond the protocol's are cut down to them.
    pub fn new(governor: Arc<dyn Governor>, mut options: Options) -> Self {
        options.body_bytes_max = options.body_bytes_max.clamp(1, BODY_BYTES_MAX);
        let tails = Arc::new(Semaphore::new(options.tails_max.min(TAILS_MAX)));
        Self { governor, options: Arc::new(options), tails }
    }

    /// All routes of the table; further ones may be merged in (the console).
    pub fn router(&self) -> Router {
        routes::router(self.clone())
    }
}

/// Serves until `stop` turns true, then finishes what is under way. Connections live in `scope`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: Arc<Options>,
    scope: Scope,
    mut stop: Stop,
) -> std::io::Result<()> {
    let connections_max = options.connections_max.clamp(1, CONNECTIONS_MAX);
    let permits = Arc::new(Semaphore::new(connections_max));
    let router = router.layer(Extension(Running { scope: scope.clone(), stop: stop.clone() }));
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let work = connection(stream, router.clone(), options.clone(), scope.clone(), stop.clone(), permit);
                scope.spawn(work);
            }
            Err(error) => pause_after(error).await,
        }
    }
    drop(listener);
    let all = permits.acquire_many(connections_max as u32);
    let drained = tokio::time::timeout(options.drain_wait, all).await.is_ok();
    tracing::info!(drained, "http door closed");
    Ok(())
}

/// Out of file descriptors or the like: accepting again at once would spin.
#[allow(clippy::disallowed_methods, reason = "the node's outermost layer waits for the operating system")]
async fn pause_after(error: std::io::Error) {
    tracing::warn!(%error, "http accept failed");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Waits until the first bytes tell the protocol, so that a client that sends none, or part of HTTP/2's preface, does
/// not hold a connection for ever: hyper's own detection has no time limit.
#[allow(clippy::disallowed_methods, reason = "the node's outermost layer waits for a client's next bytes")]
async fn speaks(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; HTTP2_PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        match &first[..count] {
            [] => return Ok(false),
            bytes if bytes.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(bytes) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            _ => return Ok(true),
        }
    }
}

/// HTTP/2 streams run in the node's scope too.
#[derive(Clone)]
struct InScope(Scope);

impl<F> Executor<F> for InScope
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, work: F) {
        self.0.spawn(work);
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    options: Arc<Options>,
    scope: Scope,
    mut stop: Stop,
    permit: OwnedSemaphorePermit,
) {
    let _permit = permit;
    let _ = stream.set_nodelay(true);
    let speaks = tokio::select! {
        speaks = tokio::time::timeout(options.header_wait, speaks(&stream)) => speaks,
        () = stopped(&mut stop) => return,
    };
    if !matches!(speaks, Ok(Ok(true))) {
        return;
    }
    let mut builder = auto::Builder::new(InScope(scope));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_wait)
        .max_buf_size(HEADER_BYTES_MAX)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error, "http connection ended early");
    }
}
