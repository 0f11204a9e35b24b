//! The cluster's own QUIC wire in the fake world: production code on simulated datagrams, with seeded handshakes.
//!
//! Nothing of the wire is replaced: quinn, rustls and ring run as they do in production, both sides show certificates, and
//! certificates lapse by the machines' simulated walls. Only the socket and the source of randomness are others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ED25519,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use nethical_cluster::world::quic::{Ground, QueueBounds, QuicError, QuicOptions, QuicWire};
use nethical_cluster::world::{Clock, Scope};
use nethical_protocol::ids::NodeId;

use crate::clock::EPOCH_NS;
use crate::dice;
use crate::udp::{UdpNetwork, address_of};

mod provider;

/// Certificates are good from this long before the run begins, and as long after.
const VALID: Duration = Duration::from_secs(365 * 86_400);
/// What stands before the 32 bytes of an Ed25519 seed in PKCS #8.
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A node's certificate and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

/// QUIC wires for the nodes of a run.
pub struct QuicNetwork {
    udp: UdpNetwork,
    ca: CertificateDer<'static>,
    nodes: BTreeMap<NodeId, Identity>,
}

impl QuicNetwork {
    /// An authority and a certificate for each node, made from the seed.
    pub fn new(seed: u64, nodes: impl IntoIterator<Item = NodeId>, udp: UdpNetwork) -> Result<Self, rcgen::Error> {
        let (key, _) = key_pair(seed, "certificate authority")?;
        let params = authority();
        let ca = params.self_signed(&key)?.der().clone();
        let issuer = Issuer::new(params, key);
        let issue = |node: NodeId| {
            let (pair, key) = key_pair(seed, &format!("certificate of node {node}"))?;
            Ok((node, Identity { certificate: leaf(node)?.signed_by(&pair, &issuer)?.der().clone(), key }))
        };
        let nodes = nodes.into_iter().map(issue).collect::<Result<_, rcgen::Error>>()?;
        Ok(Self { udp, ca, nodes })
    }

    /// A wire for a node that starts. Earlier wires of the node are dead.
    pub fn attach(&self, node: NodeId, scope: Scope, clock: Arc<dyn Clock>) -> Result<Arc<QuicWire>, QuicError> {
        let Some(own) = self.nodes.get(&node) else {
            return Err(QuicError::Certificates(format!("there is none for node {node}")));
        };
        let options = QuicOptions {
            node,
            ground: Ground { socket: self.udp.attach(node, scope.clone()), provider: provider::seeded() },
            peers: self.nodes.keys().map(|node| (*node, address_of(*node))).collect(),
            certificate_chain: vec![own.certificate.clone()],
            key: PrivateKeyDer::Pkcs8(own.key.clone_key()),
            ca: vec![self.ca.clone()],
            queue: QueueBounds::default(),
        };
        QuicWire::bind(scope, clock, options)
    }

    /// The node is gone: nobody listens there, and its wire is dead.
    pub fn detach(&self, node: NodeId) {
        self.udp.detach(node);
    }

    /// Ends everything that is under way.
    pub fn end(&self) {
        self.udp.end();
    }
}

/// The key pair of a purpose, for rcgen and for rustls.
fn key_pair(seed: u64, purpose: &str) -> Result<(KeyPair, PrivatePkcs8KeyDer<'static>), rcgen::Error> {
    let key = PrivatePkcs8KeyDer::from([&PKCS8_ED25519[..], &dice::seed_of(seed, purpose)].concat());
    Ok((KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519)?, key))
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "simulated authority");
    date(&mut params);
    params
}

/// What the wire asks of a node's certificate: its name, and both usages.
fn leaf(node: NodeId) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![format!("node-{node}.nethical")])?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    date(&mut params);
    Ok(params)
}

fn date(params: &mut CertificateParams) {
    let begin = UNIX_EPOCH + Duration::from_nanos(EPOCH_NS);
    params.not_before = (begin - VALID).into();
    params.not_after = (begin + VALID).into();
}

#[cfg(test)]
mod tests;
