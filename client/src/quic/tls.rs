//! How a client trusts a node: TLS 1.3, the node's certificate under the given authority. The provider is always ring.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, IdleTimeout, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use nethical_protocol::message::ALPN_CLIENT;

use super::ClientIdentity;

/// A connection that hears nothing for this long is dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection with nothing to say says so this often.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Unread answers that one stream may have here.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Unread answers in all; with the send window, what a connection costs at most.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Bytes of calls that wait for acknowledgement or for the network.
const SEND_WINDOW_BYTES: u64 = 8 * 1024 * 1024;

/// The configuration of one door.
pub(super) fn client_config(
    ca: Vec<CertificateDer<'static>>,
    identity: Option<ClientIdentity>,
) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in ca {
        roots.add(certificate).map_err(text)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(text)?
        .with_root_certificates(roots);
    let mut tls = match identity {
        Some(own) => builder.with_client_auth_cert(own.certificate_chain, own.key).map_err(text)?,
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(text)?));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("three seconds fit a QUIC timeout");
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(Duration::from_millis(100))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    transport
}

fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
