//! The QUIC door: its own endpoint with ALPN `nethical/1`, long-lived streams of frames (protocol::frame, ::message).
//!
//! Everything is bounded: connections, streams, frames and bytes in flight. A client that breaks the framing gets one
//! problem frame and is closed; a client whose frame is whole but makes no sense gets a problem and goes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, Incoming, VarInt};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use nethical_cluster::api::Governor;
use nethical_cluster::world::Scope;
use nethical_protocol::message::ALPN_CLIENT;

use super::{Stop, stopped};

mod frames;
mod stream;

#[cfg(test)]
mod tests;

/// Streams that one client may have open; the SDK uses one.
const STREAMS_PER_CONNECTION_MAX: u32 = 8;
/// From a client's first packet to the end of its handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// A connection without a packet for this long is gone.
const IDLE_WAIT: Duration = Duration::from_secs(60);
/// Of the door's socket, each way; the kernel takes it only as far as it is filled.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// The connection's end was orderly.
const CLOSED_ORDERLY: VarInt = VarInt::from_u32(0);

/// Bounds of the door, with what they cost.
#[derive(Debug, Clone)]
pub struct Options {
    /// Open connections (about 20 KB each when idle); more are refused.
    pub connections_max: usize,
    /// Bytes of frames that are read and not yet answered, over all clients; past it streams are not read.
    pub bytes_in_flight_max: usize,
    /// How long a stop waits for frames under way.
    pub drain_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { connections_max: 1_024, bytes_in_flight_max: 256 * 1024 * 1024, drain_wait: Duration::from_secs(10) }
    }
}

/// What every stream sees.
#[derive(Clone)]
struct Door {
    governor: Arc<dyn Governor>,
    bytes: Arc<Semaphore>,
    scope: Scope,
    stop: Stop,
}

/// Opens the endpoint with the node's server certificate. Port 0 takes a free one; the endpoint tells which.
pub fn bind(
    listen: SocketAddr,
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> anyhow::Result<Endpoint> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("TLS 1.3")?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .context("the node's server certificate and key")?;
    tls.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).context("QUIC's cipher suite")?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()?));
    let socket = socket(listen).with_context(|| format!("QUIC door on {listen}"))?;
    let runtime = Arc::new(quinn::TokioRuntime);
    Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime)
        .with_context(|| format!("QUIC door on {listen}"))
}

/// The system's default buffers drop bursts of a busy client; a refusal to enlarge them is no reason not to serve.
fn socket(listen: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(listen)?;
    let handle = socket2::SockRef::from(&socket);
    let larger = handle.set_recv_buffer_size(SOCKET_BUFFER_BYTES).and(handle.set_send_buffer_size(SOCKET_BUFFER_BYTES));
    if let Err(error) = larger {
        tracing::warn!(%error, "the QUIC door keeps its small buffers");
    }
    Ok(socket)
}

fn transport() -> anyhow::Result<quinn::TransportConfig> {
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS_PER_CONNECTION_MAX.into())
        .max_concurrent_uni_streams(0u32.into())
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IDLE_WAIT.try_into().context("idle time")?));
    Ok(transport)
}

/// Serves until `stop` turns true, then finishes what is under way and closes the endpoint.
pub async fn serve(
    endpoint: Endpoint,
    options: Options,
    governor: Arc<dyn Governor>,
    scope: Scope,
    mut stop: Stop,
) -> anyhow::Result<()> {
    let connections_max = options.connections_max.clamp(1, u32::MAX as usize);
    let permits = Arc::new(Semaphore::new(connections_max));
    let bytes =
        Arc::new(Semaphore::new(options.bytes_in_flight_max.clamp(frames::BYTES_IN_FLIGHT_MIN, u32::MAX as usize)));
    let door = Door { governor, bytes, scope: scope.clone(), stop: stop.clone() };
    loop {
        let incoming = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        match permits.clone().try_acquire_owned() {
            Ok(permit) => drop(scope.spawn(handshake(door.clone(), incoming, permit))),
            Err(_) => incoming.refuse(),
        }
    }
    endpoint.set_server_config(None);
    let drained = tokio::time::timeout(options.drain_wait, permits.acquire_many(connections_max as u32)).await.is_ok();
    endpoint.close(CLOSED_ORDERLY, b"stopping");
    tracing::info!(drained, "quic door closed");
    Ok(())
}

async fn handshake(door: Door, incoming: Incoming, permit: OwnedSemaphorePermit) {
    let _permit = permit;
    let connected = async { incoming.accept()?.await };
    match tokio::time::timeout(HANDSHAKE_WAIT, connected).await {
        Ok(Ok(connection)) => run(door, connection).await,
        Ok(Err(error)) => tracing::debug!(%error, "quic handshake failed"),
        Err(_) => tracing::debug!("quic handshake took too long"),
    }
}

/// Serves one client until it leaves, breaks the framing, or the process stops.
async fn run(door: Door, connection: Connection) {
    let mut stop = door.stop.clone();
    let mut streams = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            accepted = connection.accept_bi() => match accepted {
                Ok((send, receive)) => {
                    let work = stream::run(door.clone(), connection.clone(), send, receive);
                    streams.push(door.scope.spawn(work));
                }
                Err(_) => return,
            },
            Some(_) = streams.next() => {}
        }
    }
    while streams.next().await.is_some() {}
    connection.close(CLOSED_ORDERLY, b"stopping");
}
