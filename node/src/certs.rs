//! Certificates for development: an authority, certificates for nodes and clients, and reading PEM for rustls.
//!
//! Every key is made when it is asked for; none is part of the program or of the repository. Production brings its own
//! authority: all that the cluster asks of a node's certificate is the name `node-<id>.nethical` (exactly one), both
//! extended key usages, and a signature by the authority that all nodes are given. It stands beside the sentence:
//! doors and wire take what this loads.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How long a development authority is good.
const CA_VALID: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long a development certificate is good.
const LEAF_VALID: Duration = Duration::from_secs(365 * 86_400);
/// Certificates are good from this long ago, so that a node whose clock is behind accepts a fresh one.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// An authority as it is kept in files.
#[derive(Clone)]
pub struct CaFiles {
    /// The certificate, for everybody.
    pub cert_pem: String,
    /// The private key: whoever holds it can make nodes.
    pub key_pem: String,
}

/// Makes an authority.
pub fn make_ca() -> anyhow::Result<CaFiles> {
    let key = KeyPair::generate().context("making the authority's key")?;
    let mut params = CertificateParams::new(Vec::new()).context("describing the authority")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = common_name("nethical development authority");
    set_validity(&mut params, CA_VALID);
    let certificate = params.self_signed(&key).context("signing the authority's certificate")?;
    Ok(CaFiles { cert_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

/// A certificate for a node, and its key, both PEM. It names the node, `localhost` and 127.0.0.1, and `extra_names`
/// (DNS names or addresses under which clients reach the node).
pub fn issue_node(ca: &CaFiles, node_id: u64, extra_names: &[String]) -> anyhow::Result<(String, String)> {
    let own = format!("node-{node_id}.nethical");
    let taken = |name: &&String| name.starts_with("node-") && name.ends_with(".nethical");
    let clash = extra_names.iter().find(taken).filter(|name| **name != own);
    ensure!(clash.is_none(), "{clash:?} would make the certificate one of two nodes");
    let mut names = vec![own.clone(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    for name in extra_names {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    issue(ca, names, &own, usages)
}

/// A certificate for a client, and its key, both PEM: what a test presents that names no node.
#[cfg(test)]
fn issue_client(ca: &CaFiles, name: &str) -> anyhow::Result<(String, String)> {
    ensure!(!name.is_empty(), "a client's certificate needs a name");
    issue(ca, Vec::new(), &format!("client {name}"), vec![ExtendedKeyUsagePurpose::ClientAuth])
}

fn issue(
    ca: &CaFiles,
    names: Vec<String>,
    common: &str,
    usages: Vec<ExtendedKeyUsagePurpose>,
) -> anyhow::Result<(String, String)> {
    let ca_key = KeyPair::from_pem(&ca.key_pem).context("reading the authority's key")?;
    let issuer = Issuer::from_ca_cert_pem(&ca.cert_pem, ca_key).context("reading the authority's certificate")?;
    let key = KeyPair::generate().with_context(|| format!("making a key for {common}"))?;
    let mut params = CertificateParams::new(names).with_context(|| format!("names of {common}"))?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    params.distinguished_name = common_name(common);
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, LEAF_VALID);
    let certificate = params.signed_by(&key, &issuer).with_context(|| format!("signing for {common}"))?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

#[allow(clippy::disallowed_methods, reason = "the node's outermost layer: certificates are dated by the wall clock")]
fn set_validity(params: &mut CertificateParams, valid: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + valid).into();
}

/// The certificates in a PEM text, in order; an error where there are none.
pub fn load_certificates(pem: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| anyhow!("reading certificates: {error}"))?;
    ensure!(!certificates.is_empty(), "there is no certificate in the PEM text");
    Ok(certificates)
}

/// The first private key in a PEM text.
pub fn load_key(pem: &str) -> anyhow::Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| anyhow!("reading a private key: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nethical_cluster::world::quic::node_of_certificate;
    use nethical_protocol::ids::NodeId;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::server::WebPkiClientVerifier;
    use rustls::{Error, RootCertStore};
    use rustls_pki_types::{ServerName, UnixTime};

    use super::*;

    fn roots(ca: &CaFiles) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(load_certificates(&ca.cert_pem).expect("own PEM").remove(0)).expect("own authority");
        Arc::new(roots)
    }

    fn verify_server(ca: &CaFiles, cert_pem: &str, name: &'static str) -> Result<(), Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots(ca), provider).build().expect("a verifier");
        let leaf = load_certificates(cert_pem).expect("own PEM").remove(0);
        let name = ServerName::try_from(name).expect("a name");
        verifier.verify_server_cert(&leaf, &[], &name, &[], UnixTime::now()).map(drop)
    }

    fn verify_client(ca: &CaFiles, cert_pem: &str) -> Result<(), Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(ca), provider).build().expect("a verifier");
        let leaf = load_certificates(cert_pem).expect("own PEM").remove(0);
        verifier.verify_client_cert(&leaf, &[], UnixTime::now()).map(drop)
    }

    #[test]
    fn a_nodes_certificate_is_good_on_both_sides_and_under_all_its_names() {
        let ca = make_ca().expect("an authority");
        let (cert, key) = issue_node(&ca, 3, &["edge.example".to_owned(), "10.0.0.3".to_owned()]).expect("issued");
        for name in ["node-3.nethical", "localhost", "127.0.0.1", "edge.example", "10.0.0.3"] {
            assert_eq!(verify_server(&ca, &cert, name), Ok(()), "{name}");
        }
        assert!(verify_server(&ca, &cert, "node-4.nethical").is_err());
        assert_eq!(verify_client(&ca, &cert), Ok(()));
        assert!(load_key(&key).is_ok());
        let leaf = load_certificates(&cert).expect("own PEM").remove(0);
        assert_eq!(node_of_certificate(&leaf), Some(NodeId(3)));
        assert!(issue_node(&ca, 3, &["node-4.nethical".to_owned()]).is_err(), "one certificate, one node");
    }

    #[test]
    fn a_clients_certificate_is_no_nodes_and_no_servers() {
        let ca = make_ca().expect("an authority");
        let (cert, _key) = issue_client(&ca, "billing").expect("issued");
        assert_eq!(verify_client(&ca, &cert), Ok(()));
        assert!(verify_server(&ca, &cert, "localhost").is_err());
        assert_eq!(node_of_certificate(&load_certificates(&cert).expect("own PEM").remove(0)), None);
    }

    #[test]
    fn another_authority_is_not_trusted_and_no_key_is_made_twice() {
        let (ca, other) = (make_ca().expect("an authority"), make_ca().expect("an authority"));
        let (cert, key) = issue_node(&ca, 1, &[]).expect("issued");
        assert!(verify_server(&other, &cert, "node-1.nethical").is_err());
        assert!(verify_client(&other, &cert).is_err());
        assert_ne!(issue_node(&ca, 1, &[]).expect("issued").1, key);
        assert!(load_certificates("").is_err() && load_key(&cert).is_err());
    }
}
