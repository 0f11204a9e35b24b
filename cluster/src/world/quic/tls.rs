//! Who is on the other side: TLS 1.3 with certificates of both, and the node id that a certificate names.
//!
//! The provider is always named: another crate in the process may bring a second one along, and rustls then refuses to
//! choose. Sessions are never resumed, so every connection shows a certificate that is valid now.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, ServerConfig, TimeSource};
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use nethical_protocol::ids::NodeId;
use nethical_protocol::message::ALPN_PEER;

use super::QuicError;
use crate::world::Clock;

/// The name in a node's certificate, and the server name under which it is dialled.
pub(super) fn name_of_node(node: NodeId) -> String {
    format!("node-{node}.nethical")
}

/// The node that a certificate names, where it names exactly one.
///
/// This reads; it does not verify. Certificates that come out of a handshake have been verified.
pub fn node_of_certificate(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut nodes = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => node_of_name(name),
        _ => None,
    });
    let first = nodes.next()?;
    nodes.all(|other| other == first).then_some(first)
}

fn node_of_name(name: &str) -> Option<NodeId> {
    let digits = name.strip_prefix("node-")?.strip_suffix(".nethical")?;
    let node = NodeId(digits.parse().ok()?);
    (name_of_node(node) == name).then_some(node)
}

/// The node at the other end of a connection whose handshake is done.
pub(super) fn node_of_connection(connection: &Connection) -> Option<NodeId> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    node_of_certificate(chain.first()?)
}

/// Both sides' configuration.
pub(super) fn configs(
    clock: &Arc<dyn Clock>,
    provider: Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ca: Vec<CertificateDer<'static>>,
) -> Result<(ServerConfig, ClientConfig), QuicError> {
    let time = Arc::new(WallTime(clock.clone()));
    let roots = Arc::new(roots(ca)?);
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build().map_err(refuse)?;
    let mut server = rustls::ServerConfig::builder_with_details(provider.clone(), time.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refuse)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(refuse)?;
    server.alpn_protocols = vec![ALPN_PEER.to_vec()];
    server.send_tls13_tickets = 0;
    let mut client = rustls::ClientConfig::builder_with_details(provider, time.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(refuse)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(refuse)?;
    client.alpn_protocols = vec![ALPN_PEER.to_vec()];
    client.resumption = Resumption::disabled();
    let server = QuicServerConfig::try_from(server).map_err(refuse)?;
    let client = QuicClientConfig::try_from(client).map_err(refuse)?;
    let mut server = ServerConfig::with_crypto(Arc::new(server));
    server.time_source(time);
    Ok((server, ClientConfig::new(Arc::new(client))))
}

fn roots(ca: Vec<CertificateDer<'static>>) -> Result<RootCertStore, QuicError> {
    let mut roots = RootCertStore::empty();
    for certificate in ca {
        roots.add(certificate).map_err(refuse)?;
    }
    Ok(roots)
}

fn refuse(error: impl fmt::Display) -> QuicError {
    QuicError::Certificates(error.to_string())
}

/// Certificates, and proofs of addresses, lapse by the node's wall clock.
struct WallTime(Arc<dyn Clock>);

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallTime")
    }
}

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_nanos(self.0.wall_ns())))
    }
}

impl TimeSource for WallTime {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.0.wall_ns())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_name_is_a_node() {
        assert_eq!(node_of_name("node-7.nethical"), Some(NodeId(7)));
        for name in
            ["node-07.nethical", "node-+7.nethical", "node-.nethical", "node-7.nethical.org", "xnode-7.nethical"]
        {
            assert_eq!(node_of_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_certificate_that_names_two_nodes_names_none() {
        let one = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            node_of_certificate(rcgen::generate_simple_self_signed(names).expect("a certificate").cert.der())
        };
        assert_eq!(one(&["localhost", "node-3.nethical"]), Some(NodeId(3)));
        assert_eq!(one(&["node-3.nethical", "node-4.nethical"]), None);
        assert_eq!(one(&["localhost"]), None);
        assert_eq!(node_of_certificate(&CertificateDer::from(&b"not a certificate"[..])), None);
    }
}
