//! ring's cryptography with randomness from the dice of the node whose task runs, so that handshakes follow the seed.
//!
//! It replaces two sources and no check: what rustls draws itself, and the private keys of key exchanges, which ring
//! otherwise draws from the operating system past every seam. Only a simulator may use it.

use std::sync::Arc;

use ring::agreement::{EphemeralPrivateKey, PublicKey, UnparsedPublicKey, X25519, agree_ephemeral};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};

use nethical_cluster::world::Scope;

/// ring, except for where its randomness comes from.
pub(super) fn seeded() -> Arc<CryptoProvider> {
    let ring = rustls::crypto::ring::default_provider();
    Arc::new(CryptoProvider { kx_groups: vec![&ScopedX25519], secure_random: &ScopedDice, ..ring })
}

/// Bytes from the dice of the running task's scope; none outside of any scope, where nothing may shake hands.
fn drawn<const LENGTH: usize>() -> Result<[u8; LENGTH], GetRandomFailed> {
    let mut bytes = [0; LENGTH];
    ScopedDice.fill(&mut bytes)?;
    Ok(bytes)
}

#[derive(Debug)]
struct ScopedDice;

impl SecureRandom for ScopedDice {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        Scope::current().ok_or(GetRandomFailed)?.fill(bytes);
        Ok(())
    }
}

#[derive(Debug)]
struct ScopedX25519;

impl SupportedKxGroup for ScopedX25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let private = private_key(&drawn()?)?;
        let public = private.compute_public_key().map_err(|_| GetRandomFailed)?;
        Ok(Box::new(Exchange { private, public }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[allow(deprecated, reason = "ring takes given bytes for a private key through this type of its own tests alone")]
fn private_key(bytes: &[u8; 32]) -> Result<EphemeralPrivateKey, GetRandomFailed> {
    let fixed = ring::test::rand::FixedSliceRandom { bytes };
    EphemeralPrivateKey::generate(&X25519, &fixed).map_err(|_| GetRandomFailed)
}

struct Exchange {
    private: EphemeralPrivateKey,
    public: PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = UnparsedPublicKey::new(&X25519, peer);
        let secret = agree_ephemeral(self.private, &peer, |secret| SharedSecret::from(secret));
        secret.map_err(|_| PeerMisbehaved::InvalidKeyShare.into())
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_ref()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}
