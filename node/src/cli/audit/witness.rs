//! `nethical audit witness`: an independent witness of transparency logs (c2sp.org/tlog-witness), a process of its own.
//!
//! It shares the formats of `nethical_audit` with nodes and nothing else: no keyring, no configuration, no cluster. It
//! signs a checkpoint only once it has kept it durably, so that not even a crash makes it sign two histories.
#![allow(clippy::disallowed_methods, reason = "a process of its own, with its own clock, sockets and tasks")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use nethical_audit::note::{KeyKind, VerifierKey};
use nethical_audit::witness::{ADD_CHECKPOINT, SUBMISSION_BYTES_MAX};

use crate::output::{self, Exit, stop};

pub mod desk;
pub mod folder;

use desk::{Desk, DeskError};
use folder::Folder;

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take for its headers, and for its body.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// See `nethical audit witness --help`.
#[derive(Debug, Args)]
pub struct WitnessArgs {
    /// Where it listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8700")]
    pub listen: SocketAddr,
    /// Its own folder: its key, and what it signed last. One that is lost is a witness that is lost.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The verifier key of a log that it watches (`nethical audit key vkey --cluster`); may be given several times.
    #[arg(long, value_name = "VKEY", required_unless_present = "print_key")]
    pub log: Vec<String>,
    /// Its name in signature lines, given at the first start.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Print its verifier key and do nothing else.
    #[arg(long)]
    pub print_key: bool,
}

/// Carries the command out: serves until it is ended, or its disk fails.
pub async fn run(args: WitnessArgs) -> anyhow::Result<()> {
    let folder = Folder::open(&args.data)?;
    let cosigner = folder.cosigner(args.name.as_deref())?;
    output::print_line(&cosigner.verifier_key().to_string())?;
    if args.print_key {
        return Ok(());
    }
    let keys = args.log.iter().map(|vkey| log_key(vkey)).collect::<anyhow::Result<Vec<_>>>()?;
    let desk = Desk::open(folder, cosigner, keys)?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    output::remark(&format!("witness on http://{}", listener.local_addr()?));
    serve(listener, desk).await
}

fn log_key(vkey: &str) -> anyhow::Result<VerifierKey> {
    let key = VerifierKey::parse(vkey).map_err(|error| stop(Exit::Usage, format!("--log {vkey}: {error}")))?;
    match key.kind() {
        KeyKind::Log => Ok(key),
        KeyKind::Cosigner => Err(stop(Exit::Usage, format!("--log {vkey}: the key of a cosigner, not of a log"))),
    }
}

async fn serve(listener: TcpListener, desk: Desk) -> anyhow::Result<()> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (failed, mut failure) = mpsc::channel::<String>(1);
    loop {
        let permit = permits.clone().acquire_owned().await.context("the semaphore is never closed")?;
        let stream = tokio::select! {
            biased;
            Some(why) = failure.recv() => return Err(stop(Exit::Failed, why)),
            accepted = listener.accept() => accepted.context("accepting a connection")?.0,
        };
        tokio::spawn(connection(stream, desk.clone(), failed.clone(), permit));
    }
}

async fn connection(stream: TcpStream, desk: Desk, failed: mpsc::Sender<String>, permit: OwnedSemaphorePermit) {
    let _permit = permit;
    let service = service_fn(move |request| {
        let (desk, failed) = (desk.clone(), failed.clone());
        async move { Ok::<_, Infallible>(answer(request, desk, failed).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(READ_PATIENCE);
    // A client that breaks off has its answer already or does not want it.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, desk: Desk, failed: mpsc::Sender<String>) -> Response<Full<Bytes>> {
    if request.uri().path().strip_prefix('/') != Some(ADD_CHECKPOINT) {
        return reply(StatusCode::NOT_FOUND, "text/plain", "there is nothing at this path\n".to_owned());
    }
    if request.method() != Method::POST {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "checkpoints are posted\n".to_owned());
    }
    let body = Limited::new(request.into_body(), SUBMISSION_BYTES_MAX).collect();
    let Ok(Ok(body)) = tokio::time::timeout(READ_PATIENCE, body).await else {
        return reply(StatusCode::BAD_REQUEST, "text/plain", "the body is too long, or too slow\n".to_owned());
    };
    let (body, at_s) = (body.to_bytes(), now_s());
    let judged = tokio::task::spawn_blocking(move || desk.add_checkpoint(&body, at_s)).await;
    match judged {
        Ok(Ok(line)) => reply(StatusCode::OK, "text/plain; charset=utf-8", line),
        Ok(Err(DeskError::Refused(refusal))) => {
            output::remark(&format!("refused: {refusal}"));
            let (kind, text) = refusal.answer();
            reply(StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST), kind, text)
        }
        // What may not be durable must never be signed, now or later: the process ends.
        Ok(Err(DeskError::Disk(error))) => broken(&failed, error.to_string()),
        Err(error) => broken(&failed, error.to_string()),
    }
}

fn broken(failed: &mpsc::Sender<String>, why: String) -> Response<Full<Bytes>> {
    let _ = failed.try_send(why.clone());
    reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{why}\n"))
}

fn reply(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
